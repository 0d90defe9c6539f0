"""EncoderOnlyTransformer against torch.nn.TransformerEncoder, with the same weights, in 64 bits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from companion import EncoderOnlyTransformer, padding_mask
from tests.parity.encoders import compare_states, difference, randomized

REFERENCE = "torch.nn.TransformerEncoder"
NAMES = {
    "self_attention.W_o": "self_attn.out_proj",
    "feed_forward.W_1": "linear1",
    "feed_forward.W_2": "linear2",
    "norm1": "norm1",
    "norm2": "norm2",
}


def reference(ours: EncoderOnlyTransformer, heads: int, **options) -> nn.Module:
    layer = ours.layers[0]
    d_ff, d_model = layer.feed_forward.W_1.weight.shape
    theirs = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(
            d_model, heads, d_ff, dropout=0.0, batch_first=True, **options
        ),
        len(ours.layers),
        norm=nn.LayerNorm(d_model) if options["norm_first"] else None,
        enable_nested_tensor=False,
    )
    with torch.no_grad():
        for mine, its in zip(ours.layers, theirs.layers, strict=True):
            for name, other in NAMES.items():
                weights = mine.get_submodule(name).state_dict()
                its.get_submodule(other).load_state_dict(weights)
            for part in ("weight", "bias"):
                stacked = [
                    getattr(mine.self_attention.get_submodule(f"W_{x}"), part)
                    for x in "qkv"
                ]
                getattr(its.self_attn, f"in_proj_{part}").copy_(torch.cat(stacked))
    if options["norm_first"]:
        theirs.norm.load_state_dict(ours.norm.state_dict())
    return theirs.double().eval()


@torch.no_grad()
@pytest.mark.parametrize("masked", [False, True], ids=["no mask", "padding"])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
def test_every_hidden_state_and_the_logits(
    norm_first, activation, masked, parity_record
):
    torch.manual_seed(0)
    options = {"norm_first": norm_first, "activation": activation}
    ours = randomized(
        EncoderOnlyTransformer(30, 24, 4, 40, 3, 5, 9, pooling=None, **options)
    ).double()
    theirs = reference(ours, 4, **options)
    token_ids = torch.randint(1, 30, (3, 9))
    token_ids[1, 4:] = 0
    mask = padding_mask(token_ids) if masked else None
    states = ours.hidden_states(token_ids, mask)
    hidden = None if mask is None else ~mask[:, 0, 0]
    expected = [states[0]]
    for layer in theirs.layers:
        expected.append(layer(expected[-1], src_key_padding_mask=hidden))
    expected[-1] = theirs(states[0], src_key_padding_mask=hidden)
    worst = compare_states(states, expected, 1e-8)
    case = (
        f"EncoderOnlyTransformer, {'pre' if norm_first else 'post'}-norm, {activation}"
    )
    parity_record(case + ", padding" * masked, REFERENCE, worst, 1e-8)
    logits = ours.head.classifier(expected[-1])
    assert difference(ours(token_ids, mask), logits) < 1e-8
