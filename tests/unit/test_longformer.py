"""Longformer alone: windows, global tokens, sizes, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from companion import (
    Longformer,
    LongformerForMaskedLM,
    RoBERTa,
    padding_mask,
    record_attention,
)
from companion.analysis.cost import peak_memory
from companion.models.longformer import PRESETS


def tiny(**options) -> Longformer:
    torch.manual_seed(0)
    options = {"attention_window": 4, "pad_id": 0} | options
    return Longformer(20, 16, 4, 32, 3, 24, **options).eval()


def tokens(length: int = 20, batch: int = 2) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randint(1, 20, (batch, length))


def test_shapes():
    model = tiny(pooler=True)
    states = model.hidden_states(tokens())
    assert [tuple(state.shape) for state in states] == [(2, 20, 16)] * 4
    assert torch.equal(states[-1], model(tokens()))
    assert model.pooled(tokens()).shape == (2, 16)
    with record_attention(model) as maps:
        model(tokens())
    assert maps.stack().shape == (3, 2, 4, 20, 20)


@pytest.mark.parametrize(("preset", "millions"), [("base", 148.07), ("large", 433.55)])
def test_sizes(preset, millions):
    """RoBERTa's, and the longer positions and the projections of global tokens."""
    sizes = PRESETS[preset]
    with torch.device("meta"):
        model = Longformer(**sizes)
        short = RoBERTa(**{k: v for k, v in sizes.items() if k != "attention_window"})
    count, plain = (sum(p.numel() for p in m.parameters()) for m in (model, short))
    d, layers = sizes["d_model"], sizes["num_layers"]
    assert count - plain == layers * 3 * (d * d + d)
    assert count / 1e6 == pytest.approx(millions, abs=0.005)


def test_a_window_as_wide_as_the_text_is_roberta():
    model = tiny(attention_window=48)
    roberta = RoBERTa(20, 16, 4, 32, 3, 24, pad_id=0).eval()
    roberta.load_state_dict(model.state_dict(), strict=False)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens()), roberta(tokens()))


@torch.no_grad()
def test_how_far_a_token_sees():
    """Two to each side in a layer, so six after three layers; farther by a global token."""
    model = tiny()
    changed = tokens()
    changed[:, 0] = changed[:, 0] % 19 + 1
    off = (model(changed) - model(tokens())).abs().amax(dim=(0, 2))
    assert (off[:7] > 0).all() and not off[7:].any()
    # Token 6 is within reach of token 0, and all others see it.
    is_global = torch.zeros(2, 20, dtype=torch.bool)
    is_global[:, 6] = True
    pair = [model(x, global_mask=is_global) for x in (changed, tokens())]
    assert ((pair[0] - pair[1]).abs().amax(dim=(0, 2)) > 0).all()


def test_global_projections_start_as_the_others():
    attention = tiny().layers[1].self_attention
    for name in ("W_q", "W_k", "W_v"):
        ours, others = getattr(attention, f"{name}_global"), getattr(attention, name)
        assert torch.equal(ours.weight, others.weight)
        assert ours.weight.data_ptr() != others.weight.data_ptr()


@torch.no_grad()
def test_padding_does_not_change_a_text():
    model = tiny()
    alone = tokens(9, 1)
    padded = torch.cat([alone, torch.zeros(1, 8, dtype=torch.long)], dim=1)
    is_global = torch.zeros(1, 17, dtype=torch.bool)
    is_global[0, [0, 4]] = True
    expected = model(alone, global_mask=is_global[:, :9])
    ours = model(padded, padding_mask(padded), global_mask=is_global)[:, :9]
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)
    without = model(padded, global_mask=is_global)[:, :9]
    assert (without - expected).abs().max() > 1e-4


def test_memory_grows_as_the_length():
    model = Longformer(
        20, 16, 2, 32, 1, 4096, attention_window=32, pad_id=0, num_token_types=1
    ).eval()
    is_global = torch.zeros(1, 4096, dtype=torch.bool)
    is_global[0, 0] = True

    @torch.no_grad()
    def run(length: int) -> None:
        model(tokens(length, 1), global_mask=is_global[:, :length])

    run(64)
    short, long = (peak_memory(run, length) for length in (1024, 4096))
    assert long < 4096**2 and long < 1.15 * 4 * short


def test_it_learns_to_fill_in():
    model = LongformerForMaskedLM(tiny(dropout=0.0))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    ids = tokens()
    labels = torch.where(torch.arange(20) % 3 == 0, ids, -100)
    is_global = torch.zeros(2, 20, dtype=torch.bool)
    is_global[:, 1] = True
    losses = []
    for _ in range(40):
        loss = model.loss(ids, labels, global_mask=is_global)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"attention_window": 3}, "attention_window must be even and at least 2"),
        ({"attention_window": 0}, "attention_window must be even and at least 2"),
        ({"attention_window": [4, 4]}, "one number or 3, one for each layer.* has 2"),
    ],
)
def test_bad_windows(options, says):
    with pytest.raises(ValueError, match=says):
        tiny(**options)


def test_bad_inputs():
    model = tiny()
    with pytest.raises(ValueError, match="max_seq_len = 24 tokens"):
        model(torch.ones(1, 25, dtype=torch.long))
    with pytest.raises(TypeError, match="global_mask must be a boolean"):
        model(tokens(), global_mask=torch.ones(2, 20))
    with pytest.raises(ValueError, match="global_mask must have the length"):
        model(tokens(), global_mask=torch.ones(2, 5, dtype=torch.bool))
    head = LongformerForMaskedLM(model)
    with pytest.raises(ValueError, match="no head for sentence pairs"):
        head.loss(tokens(), tokens(), is_next=torch.tensor([True, False]))


def test_what_from_hf_refuses():
    transformers = pytest.importorskip("transformers")
    sizes = {
        "vocab_size": 20,
        "hidden_size": 8,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "num_hidden_layers": 1,
        "max_position_embeddings": 20,
        "attention_window": 4,
    }

    def config(**more):
        return transformers.LongformerConfig(**sizes, **more)

    with pytest.raises(ValueError, match="hidden_act is 'gelu_fast'"):
        Longformer.from_hf(transformers.LongformerModel(config(hidden_act="gelu_fast")))
    with pytest.raises(ValueError, match=r"left over.*\n    classifier\."):
        Longformer.from_hf(transformers.LongformerForSequenceClassification(config()))
    with pytest.raises(ValueError, match="tie_word_embeddings is False"):
        LongformerForMaskedLM.from_hf(
            transformers.LongformerForMaskedLM(config(tie_word_embeddings=False))
        )
    with pytest.raises(ValueError, match="masked_language.bias, from lm_head.bias"):
        LongformerForMaskedLM.from_hf(
            transformers.LongformerModel(config(), add_pooling_layer=False)
        )
    roberta = transformers.RobertaConfig(
        vocab_size=20,
        hidden_size=8,
        num_attention_heads=2,
        intermediate_size=12,
        num_hidden_layers=1,
    )
    with pytest.raises(ValueError, match="model_type is 'roberta'"):
        Longformer.from_hf(transformers.RobertaModel(roberta))
