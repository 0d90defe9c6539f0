"""Attention: the formula, the fused kernel that computes the same, and single-head layers.

Source: Vaswani et al. (2017), "Attention Is All You Need", section 3.2.1, equation 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from companion.layers.masks import as_attention_mask, causal_mask
from companion.layers.record import RecordsAttention


def scaled_dot_product_attention(
    query: Float[Tensor, "*leading queries d_k"],
    key: Float[Tensor, "*leading keys d_k"],
    value: Float[Tensor, "*leading keys d_v"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    bias: Float[Tensor, "..."] | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
) -> tuple[
    Float[Tensor, "*leading queries d_v"], Float[Tensor, "*leading queries keys"]
]:
    """softmax(Q K^T / sqrt(d_k)) V, written out, with the weights that it used.

    Args:
        query, key, value: ``(length, d)``, ``(batch, length, d)`` or ``(batch, heads,
            length, d)``.
        mask: boolean, True = may attend; ``(queries, keys)`` or four axes that
            broadcast to ``(batch, heads, queries, keys)``, where a missing batch or
            head axis counts as 1.
        bias: added to the scaled scores, as relative positions do; broadcasts to the
            scores.
        is_causal: hide what comes later as well, as ``causal_mask(queries, keys)`` does.
        scale: what the scores are multiplied by; ``1 / sqrt(d_k)`` by default.
        dropout: the probability with which a weight is dropped before the values are
            averaged.

    Returns:
        The output, and the weights before dropout. Rows of weights sum to 1, or are all
        zero for a query that may attend nowhere.

    Raises:
        TypeError, ValueError: shapes that don't fit together, or a mask that breaks the
            mask rule.
    """
    _check_shapes(query, key, value)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = query @ key.transpose(-2, -1) * scale  # (..., Q, K)
    if bias is not None:
        scores = scores + _fit_bias(bias, scores.shape).to(scores.dtype)
    mask = _fit_mask(mask, is_causal, query, key)
    if mask is None:
        weights = scores.softmax(dim=-1)
    else:
        # The lowest finite number, not -inf: a row of -inf would turn into NaN in the
        # softmax. Such a row comes out uniform here, and the second fill empties it, in
        # the gradient too.
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-1).masked_fill(~mask, 0.0)
    kept = F.dropout(weights, dropout) if dropout > 0 else weights
    return kept @ value, weights  # (..., Q, d_v), (..., Q, K)


def fused_attention(
    query: Float[Tensor, "*leading queries d_k"],
    key: Float[Tensor, "*leading_of_keys keys d_k"],
    value: Float[Tensor, "*leading_of_keys keys d_v"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    bias: Float[Tensor, "..."] | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "*leading queries d_v"]:
    """The same output from PyTorch's fused kernel, which never stores the weights.

    Takes what `scaled_dot_product_attention` takes, and keys and values of fewer heads,
    of which each then serves a group of consecutive query heads.
    """
    _check_shapes(query, key, value, grouped=True)
    # The kernel knows a causal mask of its own, which needs no memory. It is aligned to
    # the first key and ours to the last: the same only for equal lengths.
    alone = mask is None and bias is None and query.shape[-2] == key.shape[-2]
    kernel_is_causal = is_causal and alone
    may_see_nothing = mask is not None  # a causal mask alone shows each query itself
    mask = _fit_mask(mask, is_causal and not alone, query, key)
    if bias is not None:
        bias = _fit_bias(bias, (*query.shape[:-1], key.shape[-2])).to(query.dtype)

    attends = None
    extra = bias  # what the kernel adds to the scores, or the mask itself
    if mask is not None:
        seen = mask
        if may_see_nothing:
            # What a kernel does with a query that may attend nowhere differs between
            # kernels. So such a query is let see everything, and its output is emptied.
            attends = mask.any(dim=-1, keepdim=True)  # (..., Q, 1)
            if _is_quick_to_look_at(attends) and attends.all():
                attends = None
            else:
                seen = mask | ~attends
        extra = seen if bias is None else bias.masked_fill(~seen, -math.inf)
    is_grouped = query.ndim == 4 and key.shape[1] < query.shape[1]
    if is_grouped and not (extra is None or query.device.type == "cpu"):
        # Given a mask, the quick kernels of a GPU want as many keys as queries.
        key, value = (
            x.repeat_interleave(query.shape[1] // x.shape[1], dim=1)
            for x in (key, value)
        )
        is_grouped = False
    output = F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=extra,
        is_causal=kernel_is_causal,
        scale=scale,
        dropout_p=dropout,
        enable_gqa=is_grouped,
    )
    return output if attends is None else output.masked_fill(~attends, 0.0)


class QKVProjection(nn.Module):
    """Three linear maps: what a position looks for, what it offers to be found by, what it passes on.

    Queries come from one sequence, keys and values from another (cross-attention) or
    from the same (self-attention).

    Args:
        d_model: width of the sequence that asks.
        d_k: width of queries and keys.
        d_v: width of values.
        d_memory: width of the sequence that is asked; ``d_model`` by default.
        bias: whether the maps add a bias.
    """

    def __init__(
        self,
        d_model: int,
        d_k: int,
        d_v: int,
        *,
        d_memory: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        d_memory = d_model if d_memory is None else d_memory
        self.W_q = nn.Linear(d_model, d_k, bias=bias)
        self.W_k = nn.Linear(d_memory, d_k, bias=bias)
        self.W_v = nn.Linear(d_memory, d_v, bias=bias)

    def forward(
        self,
        x_query: Float[Tensor, "batch queries d_model"],
        x_key: Float[Tensor, "batch keys d_memory"] | None = None,
        x_value: Float[Tensor, "batch keys d_memory"] | None = None,
    ) -> tuple[
        Float[Tensor, "batch queries d_k"],
        Float[Tensor, "batch keys d_k"],
        Float[Tensor, "batch keys d_v"],
    ]:
        """Queries, keys and values. Keys default to the queries' sequence, values to the keys'."""
        x_key = x_query if x_key is None else x_key
        x_value = x_key if x_value is None else x_value
        return self.W_q(x_query), self.W_k(x_key), self.W_v(x_value)


class CrossAttention(RecordsAttention):
    """One head of attention from a sequence to another, its memory.

    Args:
        d_model: width of the sequence that asks.
        d_k: width of queries and keys; ``d_model`` by default.
        d_v: width of values and of the output; ``d_model`` by default.
        d_memory: width of the memory; ``d_model`` by default.
        bias: whether the projections add a bias.
    """

    is_causal = False

    def __init__(
        self,
        d_model: int,
        d_k: int | None = None,
        d_v: int | None = None,
        *,
        d_memory: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.qkv = QKVProjection(
            d_model, d_k or d_model, d_v or d_model, d_memory=d_memory, bias=bias
        )

    def forward(
        self,
        x: Float[Tensor, "batch queries d_model"],
        memory: Float[Tensor, "batch keys d_memory"],
        mask: Bool[Tensor, "..."] | None = None,
    ) -> tuple[Float[Tensor, "batch queries d_v"], Float[Tensor, "batch queries keys"]]:
        """Output and weights. ``mask`` broadcasts to ``(batch, 1, queries, keys)``."""
        Q, K, V = self.qkv(x, memory)
        output, weights = scaled_dot_product_attention(
            Q, K, V, mask, is_causal=self.is_causal
        )
        self.record(weights[:, None])  # as one head: (B, 1, Q, K)
        return output, weights


class SelfAttention(CrossAttention):
    """One head of attention of a sequence to itself: its memory is the sequence."""

    def forward(
        self,
        x: Float[Tensor, "batch length d_model"],
        mask: Bool[Tensor, "..."] | None = None,
    ) -> tuple[Float[Tensor, "batch length d_v"], Float[Tensor, "batch length length"]]:
        """Output and weights. ``mask`` broadcasts to ``(batch, 1, length, length)``."""
        return super().forward(x, x, mask)


class CausalSelfAttention(SelfAttention):
    """One head of self-attention in which no position sees a later one.

    A ``mask`` hides further keys, such as padding.
    """

    is_causal = True


def _check_shapes(
    query: Tensor, key: Tensor, value: Tensor, *, grouped: bool = False
) -> None:
    leading, of_keys = query.shape[:-2], key.shape[:-2]
    if grouped and query.ndim == key.ndim == 4 and of_keys[1] and leading[1]:
        # Heads that divide the query's count as many, once each serves its group.
        batch, heads = of_keys
        of_keys = (batch, leading[1] if leading[1] % heads == 0 else heads)
    if not 2 <= query.ndim <= 4 or not query.ndim == key.ndim == value.ndim:
        raise ValueError(
            f"query, key and value must all be (length, d), (batch, length, d) or "
            f"(batch, heads, length, d), but they are {_shapes(query, key, value)}"
        )
    if leading != of_keys or key.shape[:-2] != value.shape[:-2]:
        raise ValueError(
            f"query, key and value must agree in batch and heads, but they are {_shapes(query, key, value)}"
        )
    if query.shape[-1] != key.shape[-1]:
        raise ValueError(
            f"query and key must have the same width d_k, but they are {_shapes(query, key, value)}"
        )
    if key.shape[-2] != value.shape[-2]:
        raise ValueError(
            f"key and value must have the same length, but they are {_shapes(query, key, value)}"
        )


def _shapes(query: Tensor, key: Tensor, value: Tensor) -> str:
    return (
        f"query {tuple(query.shape)}, key {tuple(key.shape)}, "
        f"value {tuple(value.shape)}"
    )


def _is_quick_to_look_at(x: Tensor) -> bool:
    """Whether its numbers are at hand: not on a GPU, which would have to finish, nor when
    a compiler or a fake stands behind it, for which there are none."""
    at_hand = type(x) is Tensor and x.device.type == "cpu"
    return at_hand and not torch.compiler.is_compiling()


def _fit_bias(bias: Tensor, scores: Sequence[int]) -> Tensor:
    """``bias``, checked to broadcast to the scores without widening them."""
    if not bias.is_floating_point():
        raise TypeError(
            f"bias must be floating point, but its dtype is {bias.dtype}; "
            "what hides keys is the mask"
        )
    shape = tuple(bias.shape)
    fits = len(shape) == len(scores) and all(
        b in (1, n) for b, n in zip(shape, scores, strict=True)
    )
    if not fits:
        raise ValueError(
            f"bias has shape {shape}, which does not broadcast to the scores, "
            f"{tuple(scores)}, axis by axis"
        )
    return bias


def _fit_mask(
    mask: Tensor | None, is_causal: bool, query: Tensor, key: Tensor
) -> Tensor | None:
    """All that hides keys, checked and combined, with as many axes as the scores."""
    queries, keys = query.shape[-2], key.shape[-2]
    if mask is not None:
        batch = query.shape[0] if query.ndim > 2 else 1
        heads = query.shape[1] if query.ndim > 3 else 1
        mask = as_attention_mask(mask, batch, heads, queries, keys)
        mask = {2: mask[0, 0], 3: mask[:, 0], 4: mask}[query.ndim]
    if is_causal and queries > 1:  # the last position may see all
        causal = causal_mask(queries, keys, device=query.device)
        mask = causal if mask is None else mask & causal
    return mask
