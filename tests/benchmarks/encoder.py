"""Encoder layers that read, against `nn.TransformerEncoder` on its fast path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

import companion
from companion import EncoderLayer, padding_mask
from companion.analysis.flops import forward_flops
from companion.layers.packed import encode_without_padding
from tests.benchmarks.side_by_side import WHOLE, Pair
from tests.parity.test_transformer import copy_layer

# texts, tokens in one, width, heads, layers
SIZES = ((32, 32, 128, 4, 4), (16, 128, 256, 4, 4), (4, 128, 768, 12, 4))


class Stack(nn.Sequential):
    """Our layers, one after the other, with one mask."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for layer in self:
            x = layer(x, mask)
        return x


def pairs(sizes: Sequence[tuple[int, ...]] = SIZES) -> Iterator[Pair]:
    """In evaluation without gradients; without padding, and with a quarter of it.

    PyTorch's fast path leaves padding out of the work, and returns zeros for it, and so
    does `encode_without_padding`. The fraction counts padding as work.
    """
    for batch, length, d_model, heads, layers in sizes:
        ours, theirs = models(d_model, heads, layers)
        x = torch.randn(batch, length, d_model).to(companion.device())
        flops = forward_flops(ours, x).total
        shape = f"{batch} x {length} x {d_model}, {layers} layers"
        yield Pair(
            work=f"{shape}, no padding",
            ours=("EncoderLayer", lambda m=ours, x=x: _read(m, x)),
            reference=("nn.TransformerEncoder", lambda m=theirs, x=x: _read(m, x)),
            flops={WHOLE: flops},
        )
        # From half of the length to all of it.
        lengths = torch.linspace(length / 2, length, batch).long()
        ids = (torch.arange(length) < lengths[:, None]).long().to(companion.device())
        mask = padding_mask(ids)
        yield Pair(
            work=f"{shape}, a quarter is padding",
            ours=(
                "encode_without_padding",
                lambda m=ours, x=x, mask=mask: _without_padding(m, x, mask),
            ),
            reference=(
                "nn.TransformerEncoder",
                lambda m=theirs, x=x, mask=mask: _read(
                    m, x, src_key_padding_mask=~mask[:, 0, 0]
                ),
            ),
            flops={WHOLE: flops},
        )


def models(d_model: int, heads: int, layers: int) -> tuple[Stack, nn.Module]:
    """Both, with the same weights."""
    theirs = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(d_model, heads, 4 * d_model, batch_first=True),
        layers,
    )
    ours = Stack(*(EncoderLayer(d_model, heads, 4 * d_model) for _ in range(layers)))
    for our_layer, their_layer in zip(ours, theirs.layers, strict=True):
        copy_layer(our_layer, their_layer)
    device = companion.device()
    return ours.to(device).eval(), theirs.to(device).eval()


def _without_padding(model: Stack, x: Tensor, mask: Tensor) -> Tensor:
    with torch.no_grad():
        return encode_without_padding(model, x, mask)


def _read(model: nn.Module, *inputs: Tensor, **options: Tensor) -> Tensor:
    with torch.no_grad():
        return model(*inputs, **options)
