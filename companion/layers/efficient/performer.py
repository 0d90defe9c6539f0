"""FAVOR+: softmax attention estimated from random features, without its weights.

Source: Choromanski et al. (2021), "Rethinking Attention with Performers", sections 2.2
to 2.4.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from companion.layers.efficient.common import (
    EfficientAttention,
    check_at_least,
    check_heads,
    fit_key_mask,
)
from companion.layers.efficient.linear import attend_by_features


def random_features(
    d_k: int,
    num_features: int,
    *,
    orthogonal: bool = True,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "features d_k"]:
    """The random directions w: each row is normally distributed, with covariance 1.

    Args:
        d_k: width of a head.
        num_features: how many directions; the variance of the estimate falls as one
            over their number.
        orthogonal: whether each ``d_k`` of them are at right angles, which lowers the
            variance (section 2.4). Each row by itself is distributed as before.
        seed: of the draw, which is made on the CPU.
        dtype: of the result.
    """
    check_at_least("d_k", d_k, 1)
    check_at_least("num_features", num_features, 1)
    generator = torch.Generator().manual_seed(seed)
    draw = {"generator": generator, "dtype": torch.float64, "device": "cpu"}
    directions = torch.randn(num_features, d_k, **draw)
    if orthogonal:
        blocks = -(-num_features // d_k)
        turned, R = torch.linalg.qr(torch.randn(blocks, d_k, d_k, **draw))
        # QR picks the signs of its columns by a rule of its own. Undone, each column
        # points anywhere with equal chance, without which the estimate is biased.
        turned = turned * R.diagonal(dim1=-2, dim2=-1).sign()[:, None]
        unit = turned.transpose(-2, -1).flatten(0, 1)[:num_features]
        # As long as independent normal vectors.
        directions = unit * directions.norm(dim=-1, keepdim=True)
    return directions.to(dtype=dtype, device=torch.get_default_device())


def positive_features(
    x: Float[Tensor, "*batch d_k"], directions: Float[Tensor, "features d_k"]
) -> Float[Tensor, "*batch features"]:
    """phi(x) with E[phi(q) . phi(k)] = exp(q . k / sqrt(d_k)), and no negative number.

    Lemma 1: phi(x) = exp(w . x' - |x'|^2 / 2) / sqrt(features) for each direction w,
    with x' = x / d_k^(1/4).
    """
    return _log_features(x, directions).exp()


def trigonometric_features(
    x: Float[Tensor, "*batch d_k"], directions: Float[Tensor, "features d_k"]
) -> Float[Tensor, "*batch twice_the_features"]:
    """The same in expectation, from sines and cosines: what the positive ones replace.

    Section 2.3. Where the kernel is near zero these take both signs and vary most, so
    that a sum of weights may come out near zero or below it.
    """
    x = x / x.shape[-1] ** 0.25
    angles = x @ directions.T
    size = (x.square().sum(-1, keepdim=True) / 2).exp() / math.sqrt(len(directions))
    return torch.cat([angles.cos(), angles.sin()], dim=-1) * size


def performer_attention(
    query: Float[Tensor, "batch heads length d_k"],
    key: Float[Tensor, "batch heads length d_k"],
    value: Float[Tensor, "batch heads length d_v"],
    directions: Float[Tensor, "features d_k"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    is_causal: bool = False,
    chunk_size: int = 64,
) -> Float[Tensor, "batch heads length d_v"]:
    """An estimate of softmax attention, in time and memory that grow as the length.

    Args:
        query, key, value: ``(batch, heads, length, d)``.
        directions: from `random_features`.
        mask: hides keys from all queries: True = may attend, ``(batch, 1, 1, keys)``.
        is_causal: a position sees only itself and what came before it.
        chunk_size: with ``is_causal``, how many positions are computed side by side.

    Raises:
        TypeError, ValueError: shapes that don't fit, or a mask that differs between
            queries.
    """
    check_heads(query, key, value)
    if directions.ndim != 2 or directions.shape[1] != query.shape[-1]:
        raise ValueError(
            f"directions must be (features, d_k) with d_k = {query.shape[-1]}, but it has "
            f"shape {tuple(directions.shape)}"
        )
    seen = fit_key_mask(mask, query, key, "the Performer")
    q, k = _log_features(query, directions), _log_features(key, directions)
    if seen is not None:
        k = k.masked_fill(~seen[..., None], -math.inf)
    # A factor of a query, or of all keys, cancels when the weights are normalized. With
    # the largest feature at 1 nothing overflows.
    q = q - q.detach().amax(dim=-1, keepdim=True)
    largest = k.detach().amax(dim=(-2, -1), keepdim=True)
    k = k - largest.clamp_min(torch.finfo(k.dtype).min)  # not -inf, if all are hidden
    return attend_by_features(
        q.exp(), k.exp(), value, is_causal=is_causal, chunk_size=chunk_size
    )


class PerformerAttention(EfficientAttention):
    """Multi-head `performer_attention`; a mask may hide keys, not differ between queries.

    The directions are no parameters: ``seed`` determines them, a checkpoint does not
    carry them, and `redraw` replaces them.

    Args:
        d_model, num_heads, d_k, bias: as for `MultiHeadAttention`. There are no single
            weights that could be dropped.
        num_features: how many random directions; all heads share them.
        orthogonal, seed: see `random_features`.
        chunk_size: how many positions are computed side by side when causal.
    """

    directions: Tensor

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        num_features: int = 128,
        *,
        orthogonal: bool = True,
        seed: int = 0,
        chunk_size: int = 64,
        d_k: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__(d_model, num_heads, d_k=d_k, bias=bias)
        check_at_least("chunk_size", chunk_size, 1)
        self.orthogonal = orthogonal
        self.chunk_size = chunk_size
        directions = random_features(
            self.d_k, num_features, orthogonal=orthogonal, seed=seed
        )
        self.register_buffer("directions", directions, persistent=False)

    def redraw(self, seed: int) -> None:
        """Other directions, as training may want now and then."""
        fresh = random_features(
            self.d_k, len(self.directions), orthogonal=self.orthogonal, seed=seed
        )
        self.directions = fresh.to(self.directions)

    def attend(self, query, key, value, mask=None, *, is_causal=False) -> Tensor:
        return performer_attention(
            query,
            key,
            value,
            self.directions.to(query.dtype),
            mask,
            is_causal=is_causal,
            chunk_size=self.chunk_size,
        )


def _log_features(x: Tensor, directions: Tensor) -> Tensor:
    x = x / x.shape[-1] ** 0.25
    half = x.square().sum(-1, keepdim=True) / 2
    return x @ directions.T - half - math.log(len(directions)) / 2
