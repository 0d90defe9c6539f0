"""Softmax in one pass over blocks of keys: the algorithm of FlashAttention, written out.

Sources: Milakov & Gimelshein (2018), "Online normalizer calculation for softmax"; Dao et
al. (2022), "FlashAttention: Fast and Memory-Efficient Exact Attention with
IO-Awareness", section 3.1 and appendix B; Dao (2023), "FlashAttention-2", section 3.1,
for the order of the loops.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from companion.layers.attention import _check_shapes
from companion.layers.efficient.common import (
    EfficientAttention,
    check_at_least,
    fit_mask,
)


def online_softmax_attention(
    query: Float[Tensor, "batch heads queries d_k"],
    key: Float[Tensor, "batch heads keys d_k"],
    value: Float[Tensor, "batch heads keys d_v"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    block_size: int = 128,
    is_causal: bool = False,
    scale: float | None = None,
) -> Float[Tensor, "batch heads queries d_v"]:
    """Exact softmax attention that holds one tile of scores at a time.

    Same output and gradients as ``scaled_dot_product_attention``, in memory that grows
    as the length. The time still grows as its square. On a GPU a tile stays in the fast
    on-chip memory, which is what makes the kernel quick; here it shows the arithmetic.

    Args:
        query, key, value: ``(batch, heads, length, d)``.
        mask: boolean, True = may attend, broadcasts to ``(batch, heads, queries,
            keys)``.
        block_size: a tile has so many queries and so many keys.
        is_causal: hide what comes later, as ``causal_mask(queries, keys)`` does.
        scale: what the scores are multiplied by; ``1 / sqrt(d_k)`` by default.

    Raises:
        TypeError, ValueError: shapes that don't fit, or a mask that breaks the mask
            rule.
    """
    _check_shapes(query, key, value)
    if query.ndim != 4:
        raise ValueError(
            "query, key and value must be (batch, heads, length, d), but query is "
            f"{tuple(query.shape)}"
        )
    check_at_least("block_size", block_size, 1)
    queries, keys = query.shape[2], key.shape[2]
    if is_causal and keys < queries:
        raise ValueError(
            f"with is_causal there must be a key for each query, but there are {queries} "
            f"queries and {keys} keys"
        )
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    mask = fit_mask(mask, query, key)
    return _OnlineSoftmax.apply(query, key, value, mask, block_size, is_causal, scale)


class OnlineSoftmaxAttention(EfficientAttention):
    """Multi-head `online_softmax_attention`; takes any mask.

    Args:
        d_model, num_heads, d_k, bias: as for `MultiHeadAttention`. Dropout would need
            each tile's random numbers a second time, and is left out.
        block_size: a tile has so many queries and so many keys.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        block_size: int = 128,
        *,
        d_k: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__(d_model, num_heads, d_k=d_k, bias=bias)
        check_at_least("block_size", block_size, 1)
        self.block_size = block_size

    def attend(self, query, key, value, mask=None, *, is_causal=False) -> Tensor:
        return online_softmax_attention(
            query, key, value, mask, block_size=self.block_size, is_causal=is_causal
        )


class _OnlineSoftmax(torch.autograd.Function):
    """Tile by tile, forward and backward."""

    @staticmethod
    def forward(ctx, Q, K, V, mask, block_size, is_causal, scale):
        tiles = _Tiles(mask, Q.shape[2], K.shape[2], block_size, is_causal)
        output = Q.new_empty(*Q.shape[:3], V.shape[-1])
        log_sum = Q.new_empty(*Q.shape[:3], 1)  # all that backward needs of the softmax
        for rows in tiles.rows:
            q = Q[:, :, rows]
            largest = q.new_full((*q.shape[:3], 1), torch.finfo(q.dtype).min)
            total = torch.zeros_like(largest)  # sum of exp(score - largest) so far
            mixed = q.new_zeros(*q.shape[:3], V.shape[-1])  # ... and of that times v
            for columns in tiles.columns(rows):
                scores = q @ K[:, :, columns].transpose(-2, -1) * scale  # one tile
                scores = tiles.hide(scores, rows, columns)
                new = torch.maximum(largest, scores.amax(dim=-1, keepdim=True))
                weights = (scores - new).exp()
                # What was summed relative to the old maximum is rescaled to the new.
                shrink = (largest - new).exp()
                total = total * shrink + weights.sum(dim=-1, keepdim=True)
                mixed = mixed * shrink + weights @ V[:, :, columns]
                largest = new
            some = total > 0  # False for a query that may attend nowhere
            total = torch.where(some, total, 1.0)
            output[:, :, rows] = mixed / total
            log_sum[:, :, rows] = torch.where(some, largest + total.log(), 0.0)
        ctx.save_for_backward(Q, K, V, mask, output, log_sum)
        ctx.tiles, ctx.scale = tiles, scale
        return output

    @staticmethod
    def backward(ctx, grad):
        Q, K, V, _, output, log_sum = ctx.saved_tensors
        dQ, dK, dV = torch.zeros_like(Q), torch.zeros_like(K), torch.zeros_like(V)
        # Through the softmax, dS = P * (dP - sum(P * dP)), and the sum is dO . O.
        inner = (grad * output).sum(dim=-1, keepdim=True)
        for rows in ctx.tiles.rows:
            q, g = Q[:, :, rows], grad[:, :, rows]
            for columns in ctx.tiles.columns(rows):
                k, v = K[:, :, columns], V[:, :, columns]
                scores = q @ k.transpose(-2, -1) * ctx.scale
                scores = ctx.tiles.hide(scores, rows, columns)
                weights = (scores - log_sum[:, :, rows]).exp()  # the tile, once more
                dV[:, :, columns] += weights.transpose(-2, -1) @ g
                d = weights * (g @ v.transpose(-2, -1) - inner[:, :, rows]) * ctx.scale
                dQ[:, :, rows] += d @ k
                dK[:, :, columns] += d.transpose(-2, -1) @ q
        return dQ, dK, dV, None, None, None, None


class _Tiles:
    """How queries and keys are cut, and what is hidden in a tile."""

    def __init__(
        self,
        mask: Tensor | None,
        queries: int,
        keys: int,
        block_size: int,
        is_causal: bool,
    ) -> None:
        self.mask = mask
        self.keys = keys
        self.block_size = block_size
        self.is_causal = is_causal
        self.past = keys - queries  # query i stands at position past + i
        self.rows = self._cut(queries)

    def columns(self, rows: slice) -> list[slice]:
        """The tiles of a row that have anything to see."""
        return self._cut(self.past + rows.stop if self.is_causal else self.keys)

    def hide(self, scores: Tensor, rows: slice, columns: slice) -> Tensor:
        if self.mask is not None:
            by_query, by_key = self.mask.shape[2] > 1, self.mask.shape[3] > 1
            tile = self.mask[:, :, rows] if by_query else self.mask
            tile = tile[..., columns] if by_key else tile
            scores = scores.masked_fill(~tile, -math.inf)
        if self.is_causal:
            device = scores.device
            query = torch.arange(rows.start, rows.stop, device=device) + self.past
            key = torch.arange(columns.start, columns.stop, device=device)
            scores = scores.masked_fill(key > query[:, None], -math.inf)
        return scores

    def _cut(self, length: int) -> list[slice]:
        size = self.block_size
        return [slice(i, min(i + size, length)) for i in range(0, length, size)]
