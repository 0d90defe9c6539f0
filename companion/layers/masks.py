"""The one mask rule.

A mask is a boolean tensor, True means *this query may attend to this key*, and it
broadcasts to ``(batch, heads, queries, keys)``. Masks combine with ``&``: a key is
visible when every mask says so.

A query that may attend nowhere gets output zero and gradient zero, never NaN.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def causal_mask(
    num_queries: int,
    num_keys: int | None = None,
    *,
    device: torch.device | str | None = None,
) -> Bool[Tensor, "queries keys"]:
    """The mask of a decoder: each position sees itself and what came before it.

    Queries are the *last* ``num_queries`` of the ``num_keys`` positions, so that query
    ``i`` stands at position ``num_keys - num_queries + i``. With a key-value cache
    there are more keys than queries; without one the two are equal and the mask is
    lower triangular:

    >>> causal_mask(3).int()
    tensor([[1, 0, 0],
            [1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)
    >>> causal_mask(1, 3).int()
    tensor([[1, 1, 1]], dtype=torch.int32)

    Args:
        num_queries: how many query positions, at least 1.
        num_keys: how many key positions, at least ``num_queries``; by default the same
            number.
        device: where the mask is made.

    Raises:
        ValueError: a size is out of range.
    """
    num_keys = num_queries if num_keys is None else num_keys
    if num_queries < 1:
        raise ValueError(f"num_queries must be at least 1, but it is {num_queries}")
    if num_keys < num_queries:
        raise ValueError(
            f"num_keys is {num_keys}, fewer than the {num_queries} queries: "
            "each query is one of the keys' positions, so there are at least as many keys"
        )
    everywhere = torch.ones(num_queries, num_keys, dtype=torch.bool, device=device)
    return everywhere.tril(diagonal=num_keys - num_queries)


def sliding_window_mask(
    num_queries: int,
    num_keys: int | None = None,
    *,
    window: int,
    device: torch.device | str | None = None,
) -> Bool[Tensor, "queries keys"]:
    """A causal mask that forgets: each position sees itself and the ``window - 1`` before it.

    Queries are the last of the keys' positions, as in `causal_mask`:

    >>> sliding_window_mask(4, window=2).int()
    tensor([[1, 0, 0, 0],
            [1, 1, 0, 0],
            [0, 1, 1, 0],
            [0, 0, 1, 1]], dtype=torch.int32)

    Args:
        num_queries, num_keys, device: as in `causal_mask`.
        window: how many positions a query sees, its own among them.

    Raises:
        ValueError: a size is out of range.
    """
    if window < 1:
        raise ValueError(f"window must be at least 1, but it is {window}")
    causal = causal_mask(num_queries, num_keys, device=device)
    last_hidden = causal.shape[1] - causal.shape[0] - window
    return causal.triu(diagonal=last_hidden + 1)


def padding_mask(
    token_ids: Int[Tensor, "batch keys"], pad_id: int = 0
) -> Bool[Tensor, "batch 1 1 keys"]:
    """The mask that hides padding: True where ``token_ids`` holds a real token.

    The two axes of size 1 stand for heads and queries. They are what keeps this mask
    from being read as ``(queries, keys)``.

    Raises:
        ValueError: ``token_ids`` is not two-dimensional.
    """
    if token_ids.ndim != 2:
        raise ValueError(
            f"token_ids must have shape (batch, length), but it has shape {tuple(token_ids.shape)}"
        )
    return (token_ids != pad_id)[:, None, None, :]


def as_attention_mask(
    mask: Tensor, batch: int, heads: int, queries: int, keys: int
) -> Bool[Tensor, "#batch #heads #queries #keys"]:
    """Check ``mask`` against the one mask rule and return it with four axes.

    Two forms are accepted: ``(queries, keys)``, the same for each sequence and head,
    and four axes, each of its full size or 1. Everything else is refused, because
    broadcasting would give it a meaning that its writer did not intend: a
    ``(batch, keys)`` padding mask would be read as ``(queries, keys)``.

    Raises:
        TypeError: the mask is not a boolean tensor.
        ValueError: the mask has a shape that cannot mean (batch, heads, queries, keys).
    """
    if not isinstance(mask, Tensor):
        raise TypeError(
            f"mask must be a boolean tensor, but it is a {type(mask).__name__}"
        )
    if mask.dtype != torch.bool:
        raise TypeError(
            f"mask must be boolean (True = may attend), but its dtype is {mask.dtype}; "
            "turn zeros and ones into booleans with mask.bool()"
        )
    full = (batch, heads, queries, keys)
    if mask.ndim == 2 and mask.shape == (queries, keys):
        return mask[None, None]
    if mask.ndim == 4 and all(
        m in (1, n) for m, n in zip(mask.shape, full, strict=True)
    ):
        return mask
    raise ValueError(
        f"mask has shape {tuple(mask.shape)}, which does not broadcast to "
        f"(batch, heads, queries, keys) = {full}; {_what_fits(mask, batch, heads, queries, keys)}"
    )


def _what_fits(mask: Tensor, batch: int, heads: int, queries: int, keys: int) -> str:
    """The most likely repair of a mask of the wrong shape."""
    shape = tuple(mask.shape)
    if shape == (batch, keys):
        return "a padding mask over keys wants mask[:, None, None, :] (padding_mask builds it)"
    if shape == (batch, queries, keys):
        return "one mask a sequence wants mask[:, None]"
    if shape == (heads, queries, keys):
        return "one mask a head wants mask[None]"
    return "it may have shape (queries, keys), or four axes that are each of full size or 1"
