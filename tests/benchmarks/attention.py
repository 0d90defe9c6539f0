"""Attention: our two paths against PyTorch's function and module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import companion
from companion import (
    MultiHeadAttention,
    causal_mask,
    fused_attention,
    scaled_dot_product_attention,
)
from tests.benchmarks.side_by_side import Pair, Work
from tests.parity.test_attention import copy_attention


def pairs(lengths: Sequence[int] = (128, 512)) -> Iterator[Pair]:
    """Formula against kernel, ours against PyTorch's; forward and a training step."""
    for length in lengths:
        yield from _functions(length)
        yield from _modules(length)


def _functions(length: int) -> Iterator[Pair]:
    device = companion.device()
    q, k, v = (torch.randn(4, 8, length, 64).to(device) for _ in range(3))
    mask = causal_mask(length, device=device)
    for name, ours, theirs in (
        ("no mask", {}, {}),
        ("is_causal", {"is_causal": True}, {"is_causal": True}),
        ("causal mask", {"mask": mask}, {"attn_mask": mask}),
    ):
        work = f"4 x 8 heads x {length} x 64, {name}"
        kernel = (
            "F.scaled_dot_product_attention",
            lambda kw=theirs: F.scaled_dot_product_attention(q, k, v, **kw),
        )
        fused = lambda kw=ours: fused_attention(q, k, v, **kw)  # noqa: E731
        formula = lambda kw=ours: scaled_dot_product_attention(q, k, v, **kw)[0]  # noqa: E731
        yield Pair(work=work, ours=("fused_attention", fused), reference=kernel)
        yield Pair(work=work, ours=("the formula", formula), reference=kernel)


def _modules(length: int) -> Iterator[Pair]:
    device = companion.device()
    x = torch.randn(4, length, 512).to(device)
    ours = MultiHeadAttention(512, 8).to(device)
    theirs = nn.MultiheadAttention(512, 8, batch_first=True, device=device)
    copy_attention(ours, theirs)
    for name, options in (
        ("fused", {"need_weights": False}),
        ("with weights", {"need_weights": True}),
    ):
        yield Pair(
            work=f"training step, 4 x {length} x 512, 8 heads, {name}",
            ours=("MultiHeadAttention", _step(ours, x, options)),
            reference=(
                "nn.MultiheadAttention",
                _step(theirs, x, options | {"average_attn_weights": False}),
            ),
        )


def _step(attention: nn.Module, x: Tensor, options: dict[str, bool]) -> Work:
    def step() -> Tensor:
        attention.zero_grad()
        output, _ = attention(x, x, x, **options)
        output.square().mean().backward()
        return output.detach()

    return step
