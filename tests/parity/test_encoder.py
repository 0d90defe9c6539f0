"""The encoder's parts and the whole stack against PyTorch's, with its weights in ours."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from companion import TransformerEncoder, padding_mask
from companion.layers.norms import LayerNorm, RMSNorm
from tests.parity.test_transformer import copy_layer

TOKENS = torch.tensor([[3, 4, 5, 6, 7], [8, 9, 3, 0, 0], [5, 0, 0, 0, 0]])


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("padded", [False, True])
def test_stack(parity_record, norm_first, activation, padded):
    """Outputs at real tokens, and gradients in every parameter of every layer."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(
        16,
        4,
        dim_feedforward=32,
        dropout=0.0,
        activation=activation,
        norm_first=norm_first,
        batch_first=True,
        dtype=torch.float64,
    )
    theirs = nn.TransformerEncoder(
        layer,
        num_layers=3,
        norm=nn.LayerNorm(16, dtype=torch.float64) if norm_first else None,
        enable_nested_tensor=False,
    )
    for p in theirs.parameters():  # all layers start as copies of one, norms at 1 and 0
        nn.init.normal_(p, std=0.3)
    ours = TransformerEncoder(
        11,
        16,
        4,
        32,
        3,
        dropout=0.0,
        activation=activation,
        norm_first=norm_first,
    ).double()
    for pair in zip(ours.layers, theirs.layers, strict=True):
        copy_layer(*pair)
    if norm_first:
        ours.norm.load_state_dict(theirs.norm.state_dict())

    real = TOKENS != 0 if padded else torch.ones_like(TOKENS, dtype=torch.bool)
    mask = padding_mask(TOKENS) if padded else None
    output = ours(TOKENS, mask)
    expected = theirs(
        ours.embedding(TOKENS), src_key_padding_mask=~real if padded else None
    )
    differences = [(output - expected)[real].abs().max()]

    output[real].square().mean().backward()
    expected[real].square().mean().backward()
    for mine, other in zip(ours.layers, theirs.layers, strict=True):
        pairs = [
            (mine.feed_forward.W_1, other.linear1),
            (mine.feed_forward.W_2, other.linear2),
            (mine.self_attention.W_o, other.self_attn.out_proj),
            (mine.norm1, other.norm1),
            (mine.norm2, other.norm2),
        ]
        differences += [
            (getattr(a, name).grad - getattr(b, name).grad).abs().max()
            for a, b in pairs
            for name in ("weight", "bias")
        ]
    parity_record(
        f"TransformerEncoder, {'pre' if norm_first else 'post'}-norm, {activation}"
        f"{', padded' if padded else ''}",
        "torch.nn.TransformerEncoder",
        max(differences).item(),
        1e-12,
    )


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (LayerNorm(24), nn.LayerNorm(24)),
        (LayerNorm(24, eps=0.1), nn.LayerNorm(24, eps=0.1)),
        (LayerNorm(24, bias=False), nn.LayerNorm(24, bias=False)),
        (RMSNorm(24), nn.RMSNorm(24, eps=1e-6)),
        (RMSNorm(24, eps=0.1), nn.RMSNorm(24, eps=0.1)),
    ],
    ids=["layer", "layer, eps", "layer, no bias", "rms", "rms, eps"],
)
@pytest.mark.parametrize(
    ("dtype", "bound"),
    [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)],
)
def test_norms(parity_record, ours, theirs, dtype, bound):
    """Outputs and all gradients, from inputs as small as eps and as large as 100."""
    torch.manual_seed(0)
    ours, theirs = ours.to(dtype), theirs.to(dtype)
    for p in theirs.parameters():
        nn.init.normal_(p)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(4, 5, 24) * torch.tensor([1e-3, 1.0, 10.0, 100.0])[:, None, None]
    x = x.to(dtype).requires_grad_()
    upstream = torch.randn(4, 5, 24).to(dtype)

    results = []
    for norm in (ours, theirs):
        output = norm(x)
        inputs = [x, *norm.parameters()]
        gradients = torch.autograd.grad(output, inputs, upstream)
        results.append([output, *gradients])
    # Relative to the size of each result: the gradient is large where x is small.
    differences = [
        (a - b).abs().max() / b.abs().max() for a, b in zip(*results, strict=True)
    ]
    name = f"{type(ours).__name__}, eps {ours.eps}, {dtype}".replace("torch.", "")
    if type(ours) is LayerNorm and ours.bias is None:
        name += ", no bias"
    reference = f"torch.nn.{type(theirs).__name__}"
    parity_record(name, reference, max(differences).item(), bound)
