"""EncoderOnlyTransformer and its heads."""

from __future__ import annotations

import pytest
import torch

from companion import EncoderOnlyTransformer, padding_mask
from companion.models.encoder_only import ClassificationHead


def tiny(num_classes: int | None = 3, **options) -> EncoderOnlyTransformer:
    torch.manual_seed(0)
    model = EncoderOnlyTransformer(20, 16, 4, 32, 2, num_classes, 12, **options)
    with torch.no_grad():  # as if trained: fresh weights are so small that little moves
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.2)
    return model.eval()


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (2, 3)),
        ({"pooling": "mean"}, (2, 3)),
        ({"pooling": None}, (2, 5, 3)),
        ({"num_classes": None}, (2, 5, 16)),
    ],
    ids=["first", "mean", "tokens", "no head"],
)
@pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
def test_shapes(options, shape, norm_first):
    model = tiny(**options, norm_first=norm_first)
    token_ids = torch.randint(1, 20, (2, 5))
    assert model(token_ids).shape == shape
    assert len(model.hidden_states(token_ids)) == 3


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_padding_does_not_change_a_class(pooling):
    model = tiny(pooling=pooling)
    alone = torch.tensor([[5, 6, 7, 8]])
    padded = torch.tensor([[5, 6, 7, 8, 0, 0, 0], [5, 6, 7, 8, 9, 10, 11]])
    expected = model(alone)[0]
    masked = model(padded, padding_mask(padded))[0]
    torch.testing.assert_close(masked, expected, atol=1e-6, rtol=0)
    assert (model(padded)[0] - expected).abs().max() > 1e-4


@torch.no_grad()
def test_the_first_token_reads_the_last():
    """Unlike a causal model's: so [CLS] can stand for the whole text."""
    model = tiny()
    token_ids = torch.tensor([[5, 6, 7, 8]])
    changed = torch.tensor([[5, 6, 7, 9]])
    assert (model(token_ids) - model(changed)).abs().max() > 1e-4


@torch.no_grad()
def test_token_types():
    model = tiny(num_token_types=2)
    token_ids = torch.tensor([[5, 6, 7, 8]])
    second = torch.tensor([[0, 0, 1, 1]])
    zeros = torch.zeros_like(second)
    different = model(token_ids, token_types=zeros) - model(
        token_ids, token_types=second
    )
    assert different.abs().max() > 1e-4
    with pytest.raises(ValueError, match="num_token_types=0"):
        tiny()(token_ids, token_types=second)


@pytest.mark.parametrize("pooling", ["first", None])
def test_a_loss_that_skips_what_has_no_label(pooling):
    model = tiny(pooling=pooling)
    token_ids = torch.randint(1, 20, (2, 5))
    logits = model(token_ids)
    labels = torch.tensor([2, -100])
    if pooling is None:
        labels = torch.full((2, 5), -100)
        labels[0, 3] = 1
        expected = -logits.log_softmax(-1)[0, 3, 1]
    else:
        expected = -logits.log_softmax(-1)[0, 2]
    torch.testing.assert_close(model.loss(token_ids, labels), expected)


def test_it_learns():
    torch.manual_seed(0)
    model = EncoderOnlyTransformer(20, 16, 4, 32, 2, 2, 12, dropout=0.0, pooling="mean")
    token_ids = torch.randint(5, 20, (16, 6))
    token_ids[:8, 3] = 4  # one token tells the classes apart
    labels = (torch.arange(16) >= 8).long()
    mask = padding_mask(token_ids)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    first = model.loss(token_ids, labels, mask).item()
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(token_ids, labels, mask).backward()
        optimizer.step()
    model.eval()
    assert model.loss(token_ids, labels, mask) < 0.2 * first
    assert (model(token_ids, mask).argmax(-1) == labels).all()


def test_bad_options():
    with pytest.raises(ValueError, match="pooling must be 'first', 'mean' or None"):
        ClassificationHead(8, 2, "last")
    with pytest.raises(ValueError, match="no head"):
        tiny(None).loss(torch.ones(1, 2, dtype=torch.long), torch.tensor([0]))
    causal = torch.ones(5, 5, dtype=torch.bool).tril()
    with pytest.raises(ValueError, match=r"\(2, 1, 1, 5\), as padding_mask"):
        tiny(pooling="mean")(torch.ones(2, 5, dtype=torch.long), causal)
    with pytest.raises(ValueError, match="max_seq_len"):
        tiny()(torch.ones(1, 13, dtype=torch.long))
