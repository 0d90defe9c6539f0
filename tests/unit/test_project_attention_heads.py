"""The rubric of the project on what heads attend to, on work whose worth is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from companion.exercises.projects import attention_heads as project
from companion.exercises.projects import grade
from companion.layers import MultiHeadAttention

OFFSETS = (-1, 1)


class Neighbors(nn.Module):
    """One layer by hand: a head copies the character before, one that after.

    What it says of a blank is counted from the text: how often a character stands
    between two others.
    """

    def __init__(self) -> None:
        super().__init__()
        n, k = project.LENGTH, project.BLANK + 1
        self.attention = MultiHeadAttention(2 * n, 2, bias=False)
        place = torch.eye(n)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            for head, offset in enumerate(OFFSETS):
                rows = slice(head * n, (head + 1) * n)
                self.attention.W_q.weight[rows, :n] = 300 * place.roll(offset, 0)
                self.attention.W_k.weight[rows, :n] = 300 * place
                self.attention.W_v.weight[rows, n:] = place
                self.attention.W_o.weight[rows, rows] = place
        text, _ = project._text()
        counts = torch.full((k, k, project.BLANK), 0.1)
        seen = torch.stack([text[:-2], text[2:], text[1:-1]])
        counts.index_put_(tuple(seen), torch.tensor(1.0), accumulate=True)
        last = project.BLANK  # nothing to read on that side
        counts[last] += counts[:last].sum(dim=0)
        counts[:, last] += counts[:, :last].sum(dim=1)
        logits = (counts / counts.sum(dim=-1, keepdim=True)).log()
        self.register_buffer("table", logits)

    def forward(self, token_ids: Tensor) -> Tensor:
        n, k = project.LENGTH, project.BLANK + 1
        x = torch.cat([torch.eye(n), torch.zeros(n, n)], dim=1).repeat(
            len(token_ids), 1, 1
        )
        x[..., n : n + k] = nn.functional.one_hot(token_ids, k).float()
        read, _ = self.attention(x, need_weights=False)
        before, after = (part[..., :k] for part in read.split(n, dim=-1))
        return torch.einsum(
            "blx,bly,xyc->blc", _known(before), _known(after), self.table
        )


def _known(read: Tensor) -> Tensor:
    """A head that is off says nothing, which is what a blank says."""
    silent = read.sum(dim=-1, keepdim=True) < 0.5
    blank = torch.zeros_like(read)
    blank[..., project.BLANK] = 1
    return torch.where(silent, blank, read)


@pytest.fixture(scope="module")
def model() -> Neighbors:
    return Neighbors()


def test_right_claims_hold(model):
    roles = {(0, h): project.at_offset(k) for h, k in enumerate(OFFSETS)}
    found = grade("attention_heads", model=model, roles=roles)
    assert found["roles that hold"].value == found["hurts where it should"].value == 2
    assert found["left out"].level == 3, found
    assert found["fills blanks"].level >= 1, found


@pytest.mark.parametrize(
    "role",
    [project.at_offset(2), project.in_own_word, project.at_spaces],
    ids=["another place", "its habit explains it", "nowhere near"],
)
def test_wrong_claims_do_not(model, role):
    found = grade("attention_heads", model=model, roles={(0, 0): role, (0, 1): role})
    assert found["roles that hold"].value == -2
    assert found["roles that hold"].level == 0


def test_one_wrong_claim_costs_what_one_right_one_brings(model):
    roles = {(0, 0): project.at_offset(-1), (0, 1): project.at_offset(-1)}
    found = grade("attention_heads", model=model, roles=roles)
    assert found["roles that hold"].value == 0
    assert found["hurts where it should"].value == 0


def test_what_is_not_claimed_is_left_out(model):
    found = grade("attention_heads", model=model, roles={})
    assert found["left out"].value == pytest.approx(100)
    assert found.level == 0


def test_an_untrained_model_reaches_nothing():
    roles = {(0, h): project.at_offset(k) for h, k in enumerate(OFFSETS)}
    found = grade("attention_heads", model=project.new_model(), roles=roles)
    assert {line.level for line in found.lines} == {0}
    assert "nothing to explain" in found["left out"].found


def test_own_word_looks_good_until_its_baseline_is_asked(model):
    gaps = project._held_out()
    maps, wanted = (
        project.head_maps(model, gaps)[0],
        project.in_own_word(gaps.token_ids),
    )
    assert project.role_score(maps, wanted).min() > 0.6
    assert project.lead(maps, wanted).max() < 0.05


def test_texts_have_blanks_where_they_say():
    gaps = project.texts_with_blanks(
        50, torch.Generator().manual_seed(0), held_out=True
    )
    assert ((gaps.token_ids == project.BLANK) == gaps.blanks).all()
    assert (gaps.token_ids == gaps.truth)[~gaps.blanks].all()
    assert gaps.blanks.float().mean() == pytest.approx(project.SHARE, abs=0.03)
    assert project.spell(torch.tensor([0, 1, 26, 27])) == "·az_"


@pytest.mark.parametrize("name", project.ROLES)
def test_roles_are_tables(name):
    ids = torch.tensor([[1, 0, 5, 1, 27], [2, 3, 2, 0, 4]])
    wanted = project.ROLES[name](ids)
    assert wanted.shape == (2, 5, 5) and wanted.dtype == torch.bool
    by_hand = {
        "-1": lambda t, q, k: k == q - 1,
        "itself": lambda t, q, k: k == q,
        "spaces": lambda t, q, k: ids[t, k] == 0,
        "same letter": lambda t, q, k: k != q and ids[t, k] == ids[t, q],
        "own word": lambda t, q, k: (
            ids[t, k] != 0
            and not (ids[t, min(q, k) + 1 : max(q, k) + 1] == 0).any()
            and not (k < q and ids[t, q] == 0)
        ),
    }.get(name)
    if by_hand is not None:
        for t, q, k in torch.cartesian_prod(*map(torch.arange, wanted.shape)).tolist():
            assert wanted[t, q, k] == bool(by_hand(t, q, k)), (t, q, k)
