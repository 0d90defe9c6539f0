"""BERT alone: shapes, sizes, masks, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from companion import BERT, padding_mask, record_attention
from companion.models.bert import PRESETS


def tiny(**options) -> BERT:
    torch.manual_seed(0)
    return BERT(20, 16, 4, 32, 3, 12, **options).eval()


def test_shapes():
    model = tiny(pooler=True)
    token_ids = torch.randint(0, 20, (2, 7))
    assert model(token_ids).shape == (2, 7, 16)
    states = model.hidden_states(token_ids)
    assert [tuple(state.shape) for state in states] == [(2, 7, 16)] * 4
    assert torch.equal(states[-1], model(token_ids))
    assert model.pooled(token_ids).shape == (2, 16)
    with record_attention(model) as maps:
        model(token_ids)
    assert maps.stack().shape == (3, 2, 4, 7, 7)


@pytest.mark.parametrize(
    ("preset", "millions"), [("base", 109.48), ("large", 335.14)], ids=["base", "large"]
)
def test_presets_have_the_size_of_the_paper(preset, millions):
    """Section 3: 110 M and 340 M, rounded."""
    with torch.device("meta"):
        model = BERT(**PRESETS[preset], pooler=True)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.005)


def test_initial_weights_are_small():
    model = tiny(pooler=True)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            assert 0.015 < parameter.std() < 0.025, name
        elif name.endswith("bias"):
            assert not parameter.any(), name


def test_padding_does_not_change_a_sentence():
    model = tiny()
    alone = torch.tensor([[5, 6, 7, 8]])
    padded = torch.tensor([[5, 6, 7, 8, 0, 0, 0], [5, 6, 7, 8, 9, 10, 11]])
    with torch.no_grad():
        expected = model(alone)[0]
        with_mask = model(padded, padding_mask(padded))[0, :4]
        without = model(padded)[0, :4]
    torch.testing.assert_close(with_mask, expected, atol=1e-6, rtol=0)
    assert (without - expected).abs().max() > 1e-4


def test_position_and_segment_matter():
    model = tiny()
    token_ids = torch.full((1, 4), 5)
    with torch.no_grad():
        plain = model(token_ids)
        zeros = model(token_ids, token_types=torch.zeros_like(token_ids))
        second = model(token_ids, token_types=torch.ones_like(token_ids))
    assert torch.equal(plain, zeros)
    assert (plain - second).abs().max() > 1e-3
    assert (plain[0, 0] - plain[0, 1]).abs().max() > 1e-3


def test_dropout_is_for_training():
    model = tiny(dropout=0.5)
    token_ids = torch.randint(0, 20, (1, 5))
    assert torch.equal(model(token_ids), model(token_ids))
    model.train()
    assert not torch.equal(model(token_ids), model(token_ids))


def test_longest_sequence_is_accepted_and_a_longer_one_is_not():
    model = tiny()
    assert model(torch.ones(1, 12, dtype=torch.long)).shape == (1, 12, 16)
    with pytest.raises(ValueError, match=r"token_ids .*max_seq_len = 12 .* has 13"):
        model(torch.ones(1, 13, dtype=torch.long))


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ((torch.ones(4, dtype=torch.long),), ValueError, r"\(batch, length\).*\(4,\)"),
        ((torch.ones(1, 4),), TypeError, "token_ids must be integers.*float32"),
        (
            (torch.ones(2, 4, dtype=torch.long), torch.ones(2, 4, dtype=torch.bool)),
            ValueError,
            "padding_mask builds it",
        ),
        (
            (torch.ones(2, 4, dtype=torch.long), torch.ones(2, 1, 1, 4)),
            TypeError,
            "mask must be boolean",
        ),
        (
            (
                torch.ones(2, 4, dtype=torch.long),
                None,
                torch.zeros(1, 4, dtype=torch.long),
            ),
            ValueError,
            r"token_types .*\(2, 4\).*\(1, 4\)",
        ),
    ],
    ids=["one axis", "float ids", "2-D padding mask", "float mask", "token types"],
)
def test_bad_inputs(inputs, error, message):
    with pytest.raises(error, match=message):
        tiny()(*inputs)


def test_no_pooler():
    with pytest.raises(ValueError, match="no pooler"):
        tiny().pooled(torch.ones(1, 4, dtype=torch.long))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 5, "d_model": 16}, "num_heads must divide d_model"),
        ({"activation": "swish"}, "activation must be one of"),
        ({"dropout": 1.5}, "dropout"),
    ],
)
def test_bad_options(options, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        BERT(**options)
