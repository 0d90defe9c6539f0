"""Attention: our two paths against PyTorch's function and module."""

from __future__ import annotations

from collections.abc import Callable

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
from tests.benchmarks.side_by_side import Row, compare


def _training_step(
    attention: nn.Module, x: Tensor, **options: bool
) -> Callable[[], None]:
    def step() -> None:
        output, _ = attention(x, x, x, **options)
        output.square().mean().backward()

    return step


def rows() -> list[Row]:
    """Formula against kernel, ours against PyTorch's; forward and a training step."""
    device = companion.device()
    table = []
    for length in (128, 512):
        q, k, v = (torch.randn(4, 8, length, 64).to(device) for _ in range(3))
        mask = causal_mask(length, device=device)
        for name, kwargs in (
            ("no mask", {}),
            ("is_causal", {"is_causal": True}),
            ("causal mask", {"mask": mask}),
        ):
            theirs = {
                ("attn_mask" if key == "mask" else key): value
                for key, value in kwargs.items()
            }
            kernel = (
                "F.scaled_dot_product_attention",
                lambda a=(q, k, v), kw=theirs: F.scaled_dot_product_attention(*a, **kw),
            )
            work = f"4 x 8 heads x {length} x 64, {name}"
            table.append(
                compare(
                    work,
                    (
                        "fused_attention",
                        lambda a=(q, k, v), kw=kwargs: fused_attention(*a, **kw),
                    ),
                    kernel,
                )
            )
            table.append(
                compare(
                    work,
                    (
                        "the formula",
                        lambda a=(q, k, v), kw=kwargs: scaled_dot_product_attention(
                            *a, **kw
                        ),
                    ),
                    kernel,
                )
            )

        x = torch.randn(4, length, 512).to(device)
        ours = MultiHeadAttention(512, 8).to(device)
        theirs = nn.MultiheadAttention(512, 8, batch_first=True, device=device)
        for name, need_weights in (("fused", False), ("with weights", True)):
            options = {"need_weights": need_weights}
            table.append(
                compare(
                    f"training step, 4 x {length} x 512, 8 heads, {name}",
                    ("MultiHeadAttention", _training_step(ours, x, **options)),
                    (
                        "nn.MultiheadAttention",
                        _training_step(
                            theirs, x, average_attn_weights=False, **options
                        ),
                    ),
                )
            )
    return table
