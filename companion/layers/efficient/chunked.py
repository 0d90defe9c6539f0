"""Near keys one by one, far keys by the block: a hierarchy of two levels.

Sources: Liu et al. (2018), "Generating Wikipedia by Summarizing Long Sequences",
section 4.2.3 (local blocks, compressed memory); Zhu & Soricut (2021), "H-Transformer-1D:
Fast One-Dimensional Hierarchical Attention for Sequences", section 4 (averages of far
keys, here one level of them).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from companion.layers.attention import fused_attention
from companion.layers.efficient.common import (
    EfficientAttention,
    check_at_least,
    check_heads,
    fit_key_mask,
    fold_heads,
    pad_end,
)


def chunked_attention(
    query: Float[Tensor, "batch heads length d_k"],
    key: Float[Tensor, "batch heads length d_k"],
    value: Float[Tensor, "batch heads length d_v"],
    block_size: int | None = None,
    mask: Bool[Tensor, "..."] | None = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "batch heads length d_v"]:
    """Attend to each key of the own block, and to one summary of each other block.

    The summary of a block is the average of its keys and of its values. It stands for
    as many keys as the block has, so that log(their number) is added to its score.
    Where all keys of a block are equal, and all values too, that is full attention
    exactly.

    A query meets ``block_size + length / block_size`` keys. With blocks of
    sqrt(length), the default, time and memory grow as length^1.5.

    Args:
        query, key, value: ``(batch, heads, length, d)``.
        block_size: positions in a block; the root of the length by default.
        mask: hides keys from all queries: True = may attend, ``(batch, 1, 1, keys)``.
        is_causal: hide what comes later as well: later blocks, and later keys of the
            own block.
        scale: what the scores are multiplied by; ``1 / sqrt(d_k)`` by default.
        dropout: the probability with which a weight is dropped.

    Raises:
        TypeError, ValueError: shapes or sizes that don't fit, or a mask that differs
            between queries.
    """
    check_heads(query, key, value)
    batch, heads, length, _ = query.shape
    block = math.isqrt(length - 1) + 1 if block_size is None else block_size
    check_at_least("block_size", block, 1)
    blocks = -(-length // block)
    device = query.device

    seen = fit_key_mask(mask, query, key, "chunked attention")
    if seen is None:
        seen = torch.ones(1, 1, length, dtype=torch.bool, device=device)
    seen = pad_end(seen, block, 2).unflatten(2, (blocks, block))  # (b, h, N, C)
    Q, K, V = (
        pad_end(x, block, 2).unflatten(2, (blocks, block)) for x in (query, key, value)
    )  # (B, H, N, C, d)
    count = seen.sum(dim=-1)  # (b, h, N)
    share = seen.to(query.dtype) / count.clamp_min(1)[..., None]
    share = share[..., None, :]  # (b, h, N, 1, C)

    def with_summaries(x: Tensor) -> Tensor:
        summaries = (share @ x).squeeze(-2)[:, :, None]  # (B, H, 1, N, d)
        return torch.cat([x, summaries.expand(-1, -1, blocks, -1, -1)], dim=3)

    number = torch.arange(blocks, device=device)
    others = (
        number[:, None] > number if is_causal else number[:, None] != number
    )  # (N, N)
    near = seen[..., None, :]  # (b, h, N, 1, C)
    if is_causal:
        near = near & torch.ones(block, block, dtype=torch.bool, device=device).tril()
    far = (others & (count > 0)[:, :, None, :])[..., None, :]  # (b, h, N, 1, N)
    far = far.expand(*near.shape[:4], blocks)
    weight = count.clamp_min(1).to(query.dtype).log()[:, :, None, None, :]
    nothing = weight.new_zeros(()).expand(*weight.shape[:4], block)

    output = fused_attention(
        *(x.flatten(0, 1) for x in (Q, with_summaries(K), with_summaries(V))),
        fold_heads(torch.cat([near, far], dim=-1), batch, heads),
        bias=fold_heads(torch.cat([nothing, weight], dim=-1), batch, heads),
        scale=scale,
        dropout=dropout,
    )  # (B * H, N, C, d_v)
    return output.unflatten(0, (batch, heads)).flatten(2, 3)[:, :, :length]


class ChunkedAttention(EfficientAttention):
    """Multi-head `chunked_attention`; a mask may hide keys, not differ between queries.

    Args:
        d_model, num_heads, d_k, dropout, bias: as for `MultiHeadAttention`.
        block_size: positions in a block; the root of the length by default.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        block_size: int | None = None,
        *,
        d_k: int | None = None,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__(d_model, num_heads, d_k=d_k, dropout=dropout, bias=bias)
        if block_size is not None:
            check_at_least("block_size", block_size, 1)
        self.block_size = block_size

    def attend(self, query, key, value, mask=None, *, is_causal=False) -> Tensor:
        return chunked_attention(
            query,
            key,
            value,
            self.block_size,
            mask,
            is_causal=is_causal,
            dropout=self.dropout_now,
        )
