"""The rubric of the project on induction heads, on work whose worth is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from companion.analysis.heads import ablate_heads
from companion.exercises.projects import grade
from companion.exercises.projects import induction_head as project
from companion.layers import MultiHeadAttention


class ByHand(nn.Module):
    """Two layers whose weights are set, not learned: a textbook induction head.

    The stream has room for a token, and for the token before it.
    """

    def __init__(self) -> None:
        super().__init__()
        n = project.TOKENS
        self.layers = nn.ModuleList(
            MultiHeadAttention(2 * n, 2, bias=False) for _ in range(2)
        )
        first, second = self.layers
        one, nothing = torch.eye(n), torch.zeros(n, n)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            # Head 0: position i looks at i - 1, and writes its token in the second half.
            first.W_q.weight[:n, :n] = 300 * one
            first.W_k.weight[:n, :n] = 300 * one.roll(1, 0)
            first.W_v.weight[:n] = torch.cat([one, nothing], dim=1)
            first.W_o.weight[n:, :n] = one
            # Head 0: the token here looks for itself as the token before.
            second.W_q.weight[:n] = torch.cat([300 * one, nothing], dim=1)
            second.W_k.weight[:n] = torch.cat([nothing, 300 * one], dim=1)
            second.W_v.weight[:n] = torch.cat([one, nothing], dim=1)
            second.W_o.weight[:n, :n] = one

    def forward(self, token_ids: Tensor) -> Tensor:
        n = project.TOKENS
        x = nn.functional.one_hot(token_ids, 2 * n).to(torch.float)
        place = torch.eye(n, 2 * n)[: token_ids.shape[1]].expand_as(x)
        found, _ = self.layers[0](place, place, x, is_causal=True, need_weights=False)
        x = x + found
        guessed, _ = self.layers[1](x, is_causal=True, need_weights=False)
        return guessed[..., :n]


def after_the_copies(token_ids: Tensor) -> Tensor:
    """What the model by hand says: of all that came after, the most frequent."""
    ids, says = token_ids.tolist(), []
    for i, token in enumerate(ids):
        found = [ids[k + 1] for k in range(i) if ids[k] == token]
        says.append(min(set(found), key=lambda x: (-found.count(x), x), default=-1))
    return torch.tensor(says)


GOOD = {"induction_head": (1, 0), "previous_head": (0, 0)}


def test_a_textbook_head_reaches_the_top():
    found = grade("induction_head", model=ByHand(), program=after_the_copies, **GOOD)
    for name in ("induction head", "built on", "explained"):
        assert found[name].level == 3, found
    # One token of context cannot do better where a token stands twice in a round.
    assert found["copies"].value > 70 and found["copies longer"].value > 60


def test_the_wrong_heads_and_program_reach_nothing():
    found = grade(
        "induction_head",
        model=ByHand(),
        induction_head=(1, 1),
        previous_head=(0, 1),
        program=lambda ids: ids,
    )
    assert [found[n].level for n in ("induction head", "built on", "explained")] == [
        0,
        0,
        0,
    ]


def test_an_untrained_model_reaches_nothing():
    model = project.new_model(2)
    found = grade("induction_head", model=model, program=after_the_copies, **GOOD)
    assert {line.level for line in found.lines} == {0}


def test_what_cannot_be_is_said():
    heads = {"induction_head": (0, 0), "previous_head": (1, 0)}
    found = grade(
        "induction_head", model=ByHand(), program=lambda ids: ids[:-1], **heads
    )
    assert "layer below" in found["built on"].found
    assert "shape (63,)" in found["explained"].found
    assert found.level == 0


def test_texts_repeat_where_a_label_stands():
    generator = torch.Generator().manual_seed(0)
    for periods in (project.PERIODS, project.LONGER):
        texts, labels = project.repeating_texts(50, generator, periods)
        for text, label in zip(texts, labels, strict=True):
            places = (label != -100).nonzero()[:, 0]
            assert torch.equal(label[places], text[places])
            assert places[-1] == project.LENGTH - 1 and len(places) >= periods[0] - 1
            assert any(
                torch.equal(text[places], text[places - p])
                and torch.equal(text[places - 1], text[places - 1 - p])
                for p in range(periods[0], periods[1] + 1)
            )


def test_paths_add_up():
    """Each input matters, and lacks nothing where the head writes nothing."""
    torch.manual_seed(0)
    model = project.new_model(2).cpu()
    texts, _ = project.repeating_texts(3, torch.Generator().manual_seed(1))
    with torch.no_grad(), ablate_heads(model, {0: []}):
        whole = model(texts)
    for path in ("query", "key", "value"):
        logits, weights = project.run_without(model, texts, 0, path)
        assert weights.shape == (3, 2, project.LENGTH, project.LENGTH)
        assert not torch.allclose(logits, whole, atol=1e-4)
    with torch.no_grad():
        model.layers[0].self_attention.W_o.weight[:, :32] = 0
        whole = model(texts)
    for path in ("query", "key", "value"):
        logits, _ = project.run_without(model, texts, 0, path)
        assert torch.allclose(logits, whole, atol=1e-5)


def test_training_is_logged():
    log = project.train(project.new_model(1), 4, every=2, watch=lambda m: "seen")
    assert [(step, seen) for step, _, seen in log] == [
        (0, "seen"),
        (2, "seen"),
        (4, "seen"),
    ]
    assert log[0][1] == pytest.approx(4.3, abs=0.3)  # ln 64 is 4.16
