"""Linformer: keys and values are projected along the length, to a fixed number of slots.

Source: Wang et al. (2020), "Linformer: Self-Attention with Linear Complexity", section
4.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from companion.layers.attention import fused_attention
from companion.layers.efficient.common import (
    EfficientAttention,
    check_at_least,
    check_heads,
    fit_key_mask,
)

Share = Literal["none", "heads", "key-value"]


def linformer_attention(
    query: Float[Tensor, "batch heads length d_k"],
    key: Float[Tensor, "batch heads length d_k"],
    value: Float[Tensor, "batch heads length d_v"],
    E: Float[Tensor, "#heads slots max_seq_len"],
    F: Float[Tensor, "#heads slots max_seq_len"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "batch heads length d_v"]:
    """softmax(Q (E K)^T / sqrt(d_k)) (F V): equation 7.

    A slot mixes all positions, those to come among them. So this attention cannot be
    causal, and it does not fit a decoder. ``E`` and ``F`` belong to positions: a
    sequence may be shorter than they are long, not longer.

    Args:
        query, key, value: ``(batch, heads, length, d)``.
        E, F: the projections of keys and values, one a head or one for all.
        mask: hides keys from all queries: True = may attend, ``(batch, 1, 1, keys)``. A
            hidden position adds nothing to any slot.
        scale: what the scores are multiplied by; ``1 / sqrt(d_k)`` by default.
        dropout: the probability with which the weight of a slot is dropped.

    Raises:
        TypeError, ValueError: shapes that don't fit, a mask that differs between
            queries, or a sequence that is longer than the projections.
    """
    check_heads(query, key, value)
    length = key.shape[2]
    if length > E.shape[-1]:
        raise ValueError(
            f"the sequence has {length} positions, but the projections only max_seq_len = "
            f"{E.shape[-1]}"
        )
    seen = fit_key_mask(mask, query, key, "Linformer")
    if seen is not None:
        key = key.masked_fill(~seen[..., None], 0.0)
        value = value.masked_fill(~seen[..., None], 0.0)
    K = E[..., :length] @ key  # (B, H, k, d_k)
    V = F[..., :length] @ value  # (B, H, k, d_v)
    return fused_attention(query, K, V, scale=scale, dropout=dropout)


class LinformerAttention(EfficientAttention):
    """Multi-head `linformer_attention`. Not causal; a mask may hide keys from all queries.

    What it adds to the parameters of `MultiHeadAttention` are ``E`` and ``F``.

    Args:
        d_model, num_heads, d_k, dropout, bias: as for `MultiHeadAttention`.
        max_seq_len: the longest sequence, for which there are projections.
        k: the number of slots.
        share: ``"none"`` gives each head an E and an F of its own, ``"heads"`` one E
            and one F for all heads, ``"key-value"`` one matrix for all. (To share over
            layers, let ``second.E = first.E``.)
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        max_seq_len: int,
        k: int,
        share: Share = "heads",
        *,
        d_k: int | None = None,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__(d_model, num_heads, d_k=d_k, dropout=dropout, bias=bias)
        check_at_least("max_seq_len", max_seq_len, 1)
        check_at_least("k", k, 1)
        if share not in ("none", "heads", "key-value"):
            raise ValueError(
                f"share must be 'none', 'heads' or 'key-value', but it is {share!r}"
            )
        shape = (num_heads if share == "none" else 1, k, max_seq_len)
        # Normal with variance 1/k, as theorem 2 takes them.
        self.E = nn.Parameter(torch.randn(shape) / k**0.5)
        self.F = self.E
        if share != "key-value":
            self.F = nn.Parameter(torch.randn(shape) / k**0.5)

    def attend(self, query, key, value, mask=None, *, is_causal=False) -> Tensor:
        if is_causal:
            raise ValueError(
                "is_causal must be False: each of Linformer's slots mixes all positions, "
                "those to come among them"
            )
        return linformer_attention(
            query, key, value, self.E, self.F, mask, dropout=self.dropout_now
        )
