"""Label smoothing by its definition, and the loss of a translation model."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from companion.models.recurrent import RecurrentTranslator
from companion.models.transformer import Transformer
from companion.training import (
    PairBatch,
    collate_pairs,
    label_smoothed_cross_entropy,
    perplexity,
    translation_loss,
)
from companion.training.evaluation import to_device
from tests.training_cases import VOCAB, SmallTranslator, reversals


def test_the_loss_is_the_cross_entropy_with_the_smoothed_target() -> None:
    """By hand: 4 tokens, smoothing 0.2, so q = 0.85 at the target and 0.05 elsewhere."""
    p = torch.tensor([[0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)
    loss = label_smoothed_cross_entropy(p.log(), torch.tensor([2]), 0.2)
    q = [0.05, 0.05, 0.85, 0.05]
    expected = -sum(
        a * math.log(b) for a, b in zip(q, [0.1, 0.2, 0.3, 0.4], strict=True)
    )
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_the_smoothed_target_is_where_the_loss_is_lowest() -> None:
    q = torch.tensor([[0.05, 0.05, 0.85, 0.05]], dtype=torch.float64)
    logits = q.log().requires_grad_()
    label_smoothed_cross_entropy(logits, torch.tensor([2]), 0.2).backward()
    assert logits.grad.abs().max() < 1e-15


def test_reductions() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 5), torch.tensor([[1, 2, 0], [4, 0, 0]])
    losses = label_smoothed_cross_entropy(logits, target, reduction="none")
    assert losses.shape == (2, 3)
    assert ((losses == 0) == (target == 0)).all()
    total = label_smoothed_cross_entropy(logits, target, reduction="sum")
    torch.testing.assert_close(total, losses.sum())
    mean = label_smoothed_cross_entropy(logits, target)
    torch.testing.assert_close(mean, losses.sum() / 3)


@pytest.mark.parametrize("pad_id", [0, 4, -100, 99])
def test_padding_alone_has_loss_zero_and_gradient_zero(pad_id: int) -> None:
    logits = torch.randn(2, 3, 5, requires_grad=True)
    loss = label_smoothed_cross_entropy(
        logits, torch.full((2, 3), pad_id), pad_id=pad_id
    )
    loss.backward()
    assert loss.item() == 0.0
    assert (logits.grad == 0).all()


def test_half_precision_is_summed_in_full() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(50, 1000).half(), torch.randint(1, 1000, (50,))
    half = label_smoothed_cross_entropy(logits, target)
    assert half.dtype == torch.float32
    assert half == label_smoothed_cross_entropy(logits.float(), target)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"smoothing": 1.0}, r"smoothing must be in \[0, 1\), but it is 1.0"),
        ({"smoothing": -0.1}, "smoothing must be"),
        ({"reduction": "total"}, "reduction must be .* but it is 'total'"),
    ],
)
def test_options_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        label_smoothed_cross_entropy(torch.randn(2, 5), torch.tensor([1, 2]), **options)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\), but it has shape \(6,\)"):
        label_smoothed_cross_entropy(
            torch.randn(2, 3, 5), torch.ones(6, dtype=torch.long)
        )


def test_perplexity() -> None:
    assert perplexity(torch.tensor(math.log(7.0))) == pytest.approx(7.0, rel=1e-6)
    assert perplexity(0.0) == 1.0
    assert perplexity(1e6) == math.inf
    assert math.isnan(perplexity(math.nan))


class Remembers(nn.Module):
    """Logits that are sure of ``answers``; keeps what it is called with."""

    def __init__(self, answers: Tensor) -> None:
        super().__init__()
        self.logits = 50.0 * nn.functional.one_hot(answers, VOCAB)

    def forward(
        self, source_ids: Tensor, target_ids: Tensor, **masks: Tensor
    ) -> Tensor:
        self.call = (source_ids, target_ids, masks)
        return self.logits


def test_teacher_forcing_reads_one_token_and_wants_the_next() -> None:
    source_ids = torch.tensor([[5, 6, 7], [8, 0, 0]])
    target_ids = torch.tensor([[1, 7, 6, 5, 2], [1, 8, 2, 0, 0]])
    right = Remembers(target_ids[:, 1:])
    loss, num_tokens = translation_loss(right, (source_ids, target_ids))
    assert loss < 1e-6
    assert num_tokens == 4 + 2  # without the start tokens and the padding
    read_source, read_target, masks = right.call
    assert read_source is source_ids
    assert read_target.tolist() == [[1, 7, 6, 5], [1, 8, 2, 0]]
    assert masks["source_mask"].tolist() == [[[[True] * 3]], [[[True, False, False]]]]
    assert masks["source_mask"].dtype == torch.bool

    copies = Remembers(target_ids[:, :-1])  # gives back what it reads
    loss, _ = translation_loss(copies, (source_ids, target_ids))
    assert loss.item() == pytest.approx(50.0 * 6, rel=1e-6)


MODELS = {
    "transformer": lambda: Transformer(VOCAB, VOCAB, 8, 2, 16, 1, 1, dropout=0.0),
    "recurrent": lambda: RecurrentTranslator(VOCAB, VOCAB, 8, attention=True),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("pad_id", [0, 11])
def test_padding_changes_neither_loss_nor_gradient(name: str, pad_id: int) -> None:
    """A padded batch is the sum of its pairs, each by itself."""
    torch.manual_seed(0)
    model = MODELS[name]().double()
    pairs = [p for p in reversals(8) if 11 not in p[0]]
    assert len({len(source) for source, _ in pairs}) > 2

    def loss_and_gradients(*batches: list) -> tuple[float, int, list[Tensor]]:
        model.zero_grad()
        total, count = 0.0, 0
        for batch in batches:
            loss, tokens = translation_loss(
                model, collate_pairs(batch, pad_id), smoothing=0.1, pad_id=pad_id
            )
            loss.backward()
            total, count = total + loss.item(), count + int(tokens)
        return total, count, [p.grad.clone() for p in model.parameters()]

    together = loss_and_gradients(pairs)
    apart = loss_and_gradients(*([pair] for pair in pairs))
    assert together[0] == pytest.approx(apart[0], rel=1e-12)
    assert together[1] == apart[1]
    torch.testing.assert_close(together[2], apart[2], rtol=1e-10, atol=1e-12)


def test_the_loss_stays_where_the_model_is() -> None:
    """On the meta device, which takes no tensor of the CPU."""
    model = SmallTranslator().to("meta")
    batch = to_device(collate_pairs(reversals(4)), torch.device("meta"))
    loss, tokens = translation_loss(model, batch, smoothing=0.1)
    (loss / tokens.clamp(min=1)).backward()
    assert loss.device.type == tokens.device.type == "meta"
    assert model.output.weight.grad.device.type == "meta"


def test_batches_of_any_form_are_moved() -> None:
    x = torch.ones(2)
    meta = torch.device("meta")
    moved = to_device({"ids": [x, (x, "name")], "pair": PairBatch(x, x)}, meta)
    assert moved["ids"][0].device == moved["ids"][1][0].device == meta
    assert moved["ids"][1][1] == "name"
    assert isinstance(moved["ids"][1], tuple)
    assert isinstance(moved["pair"], PairBatch)
    assert moved["pair"].target_ids.device == meta
    assert x.device.type == "cpu"
