"""Sliding-window attention with global tokens: what Longformer does.

Source: Beltagy, Peters & Cohan (2020), "Longformer: The Long-Document Transformer",
sections 3.1 and 3.2.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from companion.layers.attention import fused_attention
from companion.layers.efficient.common import (
    EfficientAttention,
    check_at_least,
    check_heads,
    fit_mask,
    fold_heads,
    pad_end,
)

_SMALLEST_CHUNK = 16  # below that, a product of matrices is too small to be quick


def longformer_mask(
    length: int,
    window: int,
    *,
    is_causal: bool = False,
    num_global: int = 0,
    global_mask: Bool[Tensor, "batch length"] | None = None,
    device: torch.device | str | None = None,
) -> Bool[Tensor, "*batch length length"]:
    """The mask under which full attention is `sliding_window_attention`.

    >>> longformer_mask(5, 1, num_global=1).int()
    tensor([[1, 1, 1, 1, 1],
            [1, 1, 1, 0, 0],
            [1, 1, 1, 1, 0],
            [1, 0, 1, 1, 1],
            [1, 0, 0, 1, 1]], dtype=torch.int32)

    Returns:
        ``(length, length)``, or ``(batch, 1, length, length)`` with a ``global_mask``.
    """
    device = global_mask.device if global_mask is not None else device
    position = torch.arange(length, device=device)
    offset = position - position[:, None]  # (Q, K): how far after the query a key is
    seen = offset.abs() <= window
    if num_global or global_mask is not None:
        is_global = _global_tokens(length, num_global, global_mask, position)
        seen = seen | is_global[:, None, :, None] | is_global[:, None, None, :]
        seen = seen[0, 0] if global_mask is None else seen
    return seen & (offset <= 0) if is_causal else seen


def sliding_window_attention(
    query: Float[Tensor, "batch heads length d_k"],
    key: Float[Tensor, "batch heads length d_k"],
    value: Float[Tensor, "batch heads length d_v"],
    window: int,
    mask: Bool[Tensor, "..."] | None = None,
    *,
    is_causal: bool = False,
    num_global: int = 0,
    global_mask: Bool[Tensor, "batch length"] | None = None,
    global_qkv: tuple[Tensor, Tensor, Tensor] | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "batch heads length d_v"]:
    """Each position attends to those at most ``window`` away, and to the global ones.

    The sequence is cut into chunks as long as the window. A chunk of queries needs the
    keys of its own chunk and of the two beside it, so that attention over the whole is
    a small attention for each chunk. Time and memory grow as ``length * window``.

    Args:
        query, key, value: ``(batch, heads, length, d)``.
        window: how far a query sees on each side, at least 0. (Longformer's
            ``attention_window`` is twice that; `MultiHeadAttention`'s ``window`` looks
            back only and counts the query's own position, one more than here.)
        mask: boolean, True = may attend, broadcasts to ``(batch, heads, length,
            length)``.
        is_causal: hide what comes later as well.
        num_global: how many positions at the start are global. A global position
            attends to all and is attended by all.
        global_mask: which positions are global, if not those at the start.
        global_qkv: queries, keys and values by which the global positions attend to
            all, if they have projections of their own as in Longformer; by default the
            same as for the others.
        scale: what the scores are multiplied by; ``1 / sqrt(d_k)`` by default.
        dropout: the probability with which a weight is dropped.

    Raises:
        TypeError, ValueError: shapes or sizes that don't fit, or a mask that breaks the
            mask rule.
    """
    check_heads(query, key, value)
    check_at_least("window", window, 0)
    batch, heads, length, _ = query.shape
    mask = fit_mask(mask, query, key)
    tokens = None
    local_mask = mask
    if num_global or global_mask is not None:
        position = torch.arange(length, device=query.device)
        is_global = _global_tokens(length, num_global, global_mask, position)
        is_global = is_global.expand(batch, length)
        tokens = _GlobalTokens.find(is_global, num_global if global_mask is None else 0)
        not_global = ~is_global[:, None, None, :]  # those are added once, for all
        local_mask = not_global if mask is None else mask & not_global

    chunk = max(min(window, length - 1), _SMALLEST_CHUNK)
    chunks = -(-length // chunk)
    after = 0 if is_causal else chunk  # how many keys after the chunk are needed
    Q = pad_end(query, chunk, 2).unflatten(2, (chunks, chunk))  # (B, H, N, C, d_k)
    K = _neighbors(key, chunk, after, chunks)  # (B, H, N, S, d_k), S = C + C + after
    V = _neighbors(value, chunk, after, chunks)
    seen = _near(length, window, chunk, after, chunks, is_causal, query.device)
    if local_mask is not None:
        seen = seen & _band(local_mask, length, chunk, after, chunks)

    if tokens is not None:
        K = torch.cat([_each_chunk(tokens.of(key), chunks), K], dim=3)
        V = torch.cat([_each_chunk(tokens.of(value), chunks), V], dim=3)
        columns = tokens.columns(mask, length, is_causal)  # (B, h, L, G)
        columns = pad_end(columns, chunk, 2).unflatten(2, (chunks, chunk))
        size = [
            max(a, b) for a, b in zip(columns.shape[:2], seen.shape[:2], strict=True)
        ]
        parts = [p.expand(*size, chunks, chunk, -1) for p in (columns, seen)]
        seen = torch.cat(parts, dim=-1)  # (B, h, N, C, G + S)

    output = fused_attention(
        *(x.flatten(0, 1) for x in (Q, K, V)),  # (B * H, N, C or S, d)
        fold_heads(seen, batch, heads),
        scale=scale,
        dropout=dropout,
    )
    output = output.unflatten(0, (batch, heads)).flatten(2, 3)[:, :, :length]

    if tokens is not None:
        Q, K, V = (query, key, value) if global_qkv is None else global_qkv
        rows = tokens.rows(mask, length, is_causal)  # (B, h, G, L)
        far = fused_attention(tokens.of(Q), K, V, rows, scale=scale, dropout=dropout)
        output = tokens.put(far, output)
    return output


class SlidingWindowAttention(EfficientAttention):
    """Multi-head `sliding_window_attention`; takes any mask.

    Args:
        d_model, num_heads, d_k, dropout, bias: as for `MultiHeadAttention`.
        window: how many positions are seen on each side.
        num_global: how many positions at the start are global. A call may choose
            others with ``global_mask``.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        window: int,
        *,
        num_global: int = 0,
        d_k: int | None = None,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__(d_model, num_heads, d_k=d_k, dropout=dropout, bias=bias)
        check_at_least("window", window, 0)
        check_at_least("num_global", num_global, 0)
        self.window = window
        self.num_global = num_global

    def attend(
        self,
        query,
        key,
        value,
        mask=None,
        *,
        is_causal=False,
        global_mask=None,
        global_qkv=None,
    ) -> Tensor:
        return sliding_window_attention(
            query,
            key,
            value,
            self.window,
            mask,
            is_causal=is_causal,
            num_global=self.num_global if global_mask is None else 0,
            global_mask=global_mask,
            global_qkv=global_qkv,
            dropout=self.dropout_now,
        )


class _GlobalTokens(NamedTuple):
    """The global positions of each sequence, as many slots as the longest list needs."""

    index: Int[Tensor, "batch slots"]
    valid: Bool[Tensor, "batch slots"]  # False where a sequence has fewer

    @classmethod
    def find(cls, is_global: Bool[Tensor, "batch length"], slots: int) -> _GlobalTokens:
        slots = slots or int(is_global.sum(dim=1).max())
        # A stable sort brings the global positions to the front, in order.
        index = (~is_global).byte().argsort(dim=1, stable=True)[:, :slots]
        return cls(index, is_global.gather(1, index))

    def of(self, x: Tensor) -> Float[Tensor, "batch heads slots d"]:
        return x.gather(2, self._along(x))

    def put(self, x: Tensor, into: Tensor) -> Tensor:
        x = torch.where(self.valid[:, None, :, None], x, self.of(into))
        return into.scatter(2, self._along(into), x)

    def columns(self, mask: Tensor | None, length: int, is_causal: bool) -> Tensor:
        """Which query sees which of the global keys: ``(batch, heads or 1, length, slots)``."""
        index = self.index[:, None, None, :]  # (B, 1, 1, G)
        seen = self.valid[:, None, None, :].expand(-1, 1, length, -1)
        if mask is not None:
            _, heads, queries, _ = mask.shape
            wide = mask.expand(len(index), heads, queries, length)
            seen = seen & wide.gather(3, index.expand(-1, heads, queries, -1))
        if is_causal:
            position = torch.arange(length, device=index.device)
            seen = seen & (index <= position[:, None])
        return seen

    def rows(self, mask: Tensor | None, length: int, is_causal: bool) -> Tensor | None:
        """Which key each of the global queries sees: ``(batch, heads or 1, slots, length)``."""
        index = self.index[:, None, :, None]  # (B, 1, G, 1)
        seen = None
        if mask is not None:
            _, heads, _, keys = mask.shape
            wide = mask.expand(len(index), heads, length, keys)
            seen = wide.gather(2, index.expand(-1, heads, -1, keys))
        if is_causal:
            earlier = torch.arange(length, device=index.device) <= index  # (B, 1, G, L)
            seen = earlier if seen is None else seen & earlier
        return seen

    def _along(self, x: Tensor) -> Tensor:
        return self.index[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3])


def _global_tokens(
    length: int, num_global: int, global_mask: Tensor | None, position: Tensor
) -> Bool[Tensor, "#batch length"]:
    if global_mask is None:
        check_at_least("num_global", num_global, 0)
        if num_global > length:
            raise ValueError(
                f"num_global is {num_global}, more than the {length} positions there are"
            )
        return (position < num_global)[None]
    if num_global:
        raise ValueError("pass num_global or global_mask, not both")
    if global_mask.dtype != torch.bool or global_mask.ndim != 2:
        raise TypeError(
            "global_mask must be a boolean (batch, length), but it is "
            f"{global_mask.dtype} of shape {tuple(global_mask.shape)}"
        )
    if global_mask.shape[1] != length:
        raise ValueError(
            f"global_mask must have the length of the sequence, {length}, but its shape "
            f"is {tuple(global_mask.shape)}"
        )
    return global_mask


def _neighbors(x: Tensor, chunk: int, after: int, chunks: int) -> Tensor:
    """For each chunk, the positions from one chunk before it to ``after`` past its end."""
    missing = chunks * chunk - x.shape[2]
    x = F.pad(x, (0, 0, chunk, missing + after))
    # A view: no key is copied until a kernel wants it so. (B, H, N, d, S)
    return x.unfold(2, 2 * chunk + after, chunk).transpose(-1, -2)


def _near(
    length: int,
    window: int,
    chunk: int,
    after: int,
    chunks: int,
    is_causal: bool,
    device: torch.device,
) -> Bool[Tensor, "1 1 chunks chunk span"]:
    """Which neighbor exists and is within the window of which query."""
    at = torch.arange(-chunk, chunk + after, device=device)  # from the chunk's start
    offset = at - torch.arange(chunk, device=device)[:, None]  # (C, S)
    near = offset.abs() <= window
    if is_causal:
        near = near & (offset <= 0)
    position = at + chunk * torch.arange(chunks, device=device)[:, None]  # (N, S)
    exists = (position >= 0) & (position < length)
    return (near & exists[:, None])[None, None]


def _band(mask: Tensor, length: int, chunk: int, after: int, chunks: int) -> Tensor:
    """The part of a mask that `_neighbors` reach: (b, h, N, C or 1, S or 1)."""
    missing = chunks * chunk - length
    by_query, by_key = mask.shape[2] > 1, mask.shape[3] > 1
    if by_key:
        mask = F.pad(mask, (chunk, missing + after))
    if by_query:
        mask = F.pad(mask, (0, 0, 0, missing))
    # Views again, (b, h, N, N, C, S), of which the diagonal of the N is wanted.
    mask = mask.unfold(2, chunk, chunk) if by_query else mask[..., None]
    mask = mask.unfold(3, 2 * chunk + after, chunk) if by_key else mask[..., None]
    if by_query and by_key:
        return mask.diagonal(dim1=2, dim2=3).movedim(-1, 2)
    return mask.squeeze(3) if by_query else mask.squeeze(2)


def _each_chunk(x: Tensor, chunks: int) -> Tensor:
    return x[:, :, None].expand(-1, -1, chunks, -1, -1)  # (B, H, N, G, d)
