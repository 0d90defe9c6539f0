"""Attention against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from companion import (
    EncoderLayer,
    MultiHeadAttention,
    causal_mask,
    fused_attention,
    padding_mask,
    scaled_dot_product_attention,
)

BOUNDS = {torch.float64: 1e-12, torch.float32: 1e-5}
IDS = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 0, 0]])
MASKS: dict[str, Tensor | None] = {
    "no mask": None,
    "causal": causal_mask(5),
    "padding": padding_mask(IDS),
    "causal and padding": causal_mask(5) & padding_mask(IDS),
    "per head": torch.tensor([[True, False], [True, True]])[None, :, :1, None]
    | causal_mask(5),
}


def copy_attention(ours: MultiHeadAttention, theirs: nn.MultiheadAttention) -> None:
    """Copy the weights of PyTorch's module into ours."""
    state = theirs.state_dict()
    for i, W in enumerate((ours.W_q, ours.W_k, ours.W_v)):
        rows = slice(i * ours.d_model, (i + 1) * ours.d_model)
        W.weight.data.copy_(state["in_proj_weight"][rows])
        if W.bias is not None:
            W.bias.data.copy_(state["in_proj_bias"][rows])
    ours.W_o.load_state_dict(theirs.out_proj.state_dict())


def their_mask(mask: Tensor | None, batch: int, heads: int) -> Tensor | None:
    """PyTorch's meaning is the opposite: True hides, and heads are folded into batch."""
    if mask is None:
        return None
    return ~torch.broadcast_to(mask, (batch, heads, 5, 5)).flatten(0, 1)


def largest(pairs: list[tuple[Tensor, Tensor]]) -> float:
    """The largest difference, relative where the reference's numbers exceed 1."""
    return max(
        ((a - b).abs().max() / b.abs().max().clamp(min=1)).item() for a, b in pairs
    )


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("mask", MASKS)
def test_self_attention(parity_record, dtype, bias, mask) -> None:
    """Outputs, weights and gradients of both paths, over masks and biases."""
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(16, 2, bias=bias, batch_first=True, dtype=dtype)
    for p in theirs.parameters():  # PyTorch starts biases at 0, which would hide them
        nn.init.normal_(p, std=0.3)
    ours = MultiHeadAttention(16, 2, bias=bias).to(dtype)
    copy_attention(ours, theirs)
    x = torch.randn(2, 5, 16, dtype=dtype, requires_grad=True)
    expected, expected_weights = theirs(
        x, x, x, attn_mask=their_mask(MASKS[mask], 2, 2), average_attn_weights=False
    )
    output, weights = ours(x, mask=MASKS[mask])
    fused, _ = ours(x, mask=MASKS[mask], need_weights=False)
    pairs = [(output, expected), (fused, expected), (weights, expected_weights)]
    (their_gradient,) = torch.autograd.grad(expected.square().sum(), x)
    for answer in (output, fused):
        pairs.append((torch.autograd.grad(answer.square().sum(), x)[0], their_gradient))
    parity_record(
        f"MultiHeadAttention, {mask}, {'' if bias else 'no '}bias, {dtype}",
        "torch.nn.MultiheadAttention",
        largest(pairs),
        BOUNDS[dtype],
    )


@pytest.mark.parametrize("dtype", BOUNDS)
def test_cross_attention(parity_record, dtype) -> None:
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(16, 4, batch_first=True, dtype=dtype)
    ours = MultiHeadAttention(16, 4).to(dtype)
    copy_attention(ours, theirs)
    query = torch.randn(2, 3, 16, dtype=dtype)
    key, value = torch.randn(2, 2, 5, 16, dtype=dtype)
    hidden = IDS == 0
    expected, expected_weights = theirs(
        query, key, value, key_padding_mask=hidden, average_attn_weights=False
    )
    output, weights = ours(query, key, value, padding_mask(IDS))
    fused, _ = ours(query, key, value, padding_mask(IDS), need_weights=False)
    parity_record(
        f"MultiHeadAttention, cross-attention, {dtype}",
        "torch.nn.MultiheadAttention",
        largest([(output, expected), (fused, expected), (weights, expected_weights)]),
        BOUNDS[dtype],
    )


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("scale", [None, 0.5])
def test_the_formula(parity_record, dtype, mask, scale) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 5, 8, dtype=dtype)
    expected = F.scaled_dot_product_attention(q, k, v, MASKS[mask], scale=scale)
    output, _ = scaled_dot_product_attention(q, k, v, MASKS[mask], scale=scale)
    fused = fused_attention(q, k, v, MASKS[mask], scale=scale)
    parity_record(
        f"scaled_dot_product_attention, {mask}, scale {scale}, {dtype}",
        "F.scaled_dot_product_attention",
        largest([(output, expected), (fused, expected)]),
        BOUNDS[dtype],
    )


@pytest.mark.parametrize("dtype", BOUNDS)
def test_grouped_queries(parity_record, dtype) -> None:
    """Consecutive query heads share a key-value head, as in PyTorch's own grouping."""
    torch.manual_seed(0)
    layer = MultiHeadAttention(16, 4, 2, bias=False).to(dtype)
    x = torch.randn(2, 5, 16, dtype=dtype)
    q = layer.W_q(x).view(2, 5, 4, 4).transpose(1, 2)
    k, v = (W(x).view(2, 5, 2, 4).transpose(1, 2) for W in (layer.W_k, layer.W_v))
    heads = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    expected = layer.W_o(heads.transpose(1, 2).reshape(2, 5, 16))
    output, _ = layer(x, is_causal=True)
    fused, _ = layer(x, is_causal=True, need_weights=False)
    parity_record(
        f"MultiHeadAttention, grouped queries, {dtype}",
        "F.scaled_dot_product_attention(enable_gqa=True)",
        largest([(output, expected), (fused, expected)]),
        BOUNDS[dtype],
    )


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_encoder_layer(parity_record, norm_first, activation) -> None:
    torch.manual_seed(0)
    theirs = nn.TransformerEncoderLayer(
        16,
        4,
        32,
        activation=activation,
        norm_first=norm_first,
        batch_first=True,
        dtype=torch.float64,
    )
    for p in theirs.parameters():
        nn.init.normal_(p, std=0.3)
    ours = EncoderLayer(
        16, 4, 32, activation=activation, norm_first=norm_first
    ).double()
    copy_attention(ours.self_attention, theirs.self_attn)
    ours.feed_forward.W_1.load_state_dict(theirs.linear1.state_dict())
    ours.feed_forward.W_2.load_state_dict(theirs.linear2.state_dict())
    ours.norm1.load_state_dict(theirs.norm1.state_dict())
    ours.norm2.load_state_dict(theirs.norm2.state_dict())
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    expected = theirs.eval()(x, src_key_padding_mask=IDS == 0)
    output = ours.eval()(x, padding_mask(IDS))
    real = IDS != 0  # PyTorch's fast path leaves anything at padded positions
    parity_record(
        f"EncoderLayer, {'pre' if norm_first else 'post'}-norm, {activation}",
        "torch.nn.TransformerEncoderLayer",
        largest([(output[real], expected[real])]),
        1e-12,
    )
