"""Positions as numbers that are added to the attention scores: T5's buckets and ALiBi.

Each depends on the distance of query and key only, and is the ``bias`` of the attention
layers.

Sources: Raffel et al. (2020), section 2.1; Press et al. (2022), "Train Short, Test Long",
section 3.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def relative_positions(
    num_queries: int,
    num_keys: int | None = None,
    *,
    device: torch.device | str | None = None,
) -> Int[Tensor, "queries keys"]:
    """How far each key stands after each query: negative before it, 0 at it.

    Queries are the last ``num_queries`` of the ``num_keys`` positions, as in
    `causal_mask`, which is ``relative_positions(...) <= 0``.

    >>> relative_positions(2, 3)
    tensor([[-1,  0,  1],
            [-2, -1,  0]])

    Raises:
        ValueError: there is no query, or there are fewer keys than queries.
    """
    num_keys = num_queries if num_keys is None else num_keys
    if not 1 <= num_queries <= num_keys:
        raise ValueError(
            f"num_queries must be at least 1 and at most num_keys, since each query is "
            f"one of the keys' positions, but they are {num_queries} and {num_keys}"
        )
    key = torch.arange(num_keys, device=device)
    return key - key[num_keys - num_queries :, None]  # (Q, K)


def t5_buckets(
    relative: Int[Tensor, "*shape"],
    num_buckets: int = 32,
    max_distance: int = 128,
    bidirectional: bool = True,
) -> Int[Tensor, "*shape"]:
    """The bucket of a relative position: one a distance when near, wider ones when far.

    Half of the buckets hold one distance each, from 0 on. The others grow like a
    logarithm and reach up to ``max_distance``; all that is farther shares the last one.
    With ``bidirectional`` the buckets are first dealt out by side: the first half to
    keys at or before the query, the second to keys after it. Without it, all keys after
    the query share bucket 0, since a causal mask hides them.

    Args:
        relative: key position minus query position, see `relative_positions`.
        num_buckets: how many buckets in all.
        max_distance: from this distance on, all positions share a bucket.
        bidirectional: True for an encoder, False for a decoder.
    """
    distance = relative.abs() if bidirectional else (-relative).clamp(min=0)
    side = num_buckets // 2 if bidirectional else num_buckets
    exact = side // 2
    steps = (distance.clamp(min=exact).float() / exact).log()
    steps = steps / math.log(max_distance / exact) * (side - exact)
    far = (exact + steps.long()).clamp(max=side - 1)
    buckets = torch.where(distance < exact, distance, far)
    return buckets + side * (relative > 0) if bidirectional else buckets


class T5RelativeBias(nn.Module):
    """A learned number for each head and bucket of distances, added to the scores (T5).

    T5 has one such table for its encoder and one for its decoder, shared by all layers
    of each. It does not scale the scores by 1/sqrt(d_k): pass ``scale=1.0`` to the
    attention for that.

    Args:
        num_heads: number of attention heads.
        num_buckets, max_distance, bidirectional: see `t5_buckets`.

    Raises:
        ValueError: too few buckets, an odd number for two sides, or a ``max_distance``
            that the buckets of single distances cover already.
    """

    def __init__(
        self,
        num_heads: int,
        num_buckets: int = 32,
        max_distance: int = 128,
        bidirectional: bool = True,
    ) -> None:
        super().__init__()
        sides = 2 if bidirectional else 1
        if num_buckets < 2 * sides or num_buckets % sides:
            raise ValueError(
                f"num_buckets must be at least {2 * sides}"
                f"{' and even' if bidirectional else ''}, but it is {num_buckets}"
            )
        exact = num_buckets // sides // 2
        if max_distance <= exact:
            raise ValueError(
                f"max_distance must be above {exact}, the distances that have a bucket "
                f"of their own, but it is {max_distance}"
            )
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.bidirectional = bidirectional
        self.bias = nn.Embedding(num_buckets, num_heads)
        nn.init.normal_(self.bias.weight, std=0.02)

    def forward(
        self, queries: int, keys: int | None = None
    ) -> Float[Tensor, "1 heads queries keys"]:
        """The ``bias`` of the last ``queries`` of ``keys`` positions; by default of all."""
        relative = relative_positions(queries, keys, device=self.bias.weight.device)
        buckets = t5_buckets(
            relative, self.num_buckets, self.max_distance, self.bidirectional
        )
        return self.bias(buckets).permute(2, 0, 1)[None]  # (Q, K, H) -> (1, H, Q, K)


def alibi_slopes(num_heads: int) -> Float[Tensor, "heads"]:
    """How fast each head's scores fall with distance: 2^(-8/n), 2^(-16/n), ... 2^(-8).

    That is for n heads where n is a power of two. Otherwise the largest power of two
    below takes its slopes, and the remaining heads take every other slope of the next
    power of two, from its first on (the authors' code).

    Raises:
        ValueError: there is no head.
    """
    if num_heads < 1:
        raise ValueError(f"num_heads must be at least 1, but it is {num_heads}")
    n = 2 ** (num_heads.bit_length() - 1)
    slopes = [2 ** (-8 * (i + 1) / n) for i in range(n)]
    between = [2 ** (-4 * (i + 1) / n) for i in range(0, 2 * n, 2)]
    return torch.tensor(slopes + between[: num_heads - n])


class ALiBi(nn.Module):
    """Minus the distance of query and key, times a slope of each head, added to the scores.

    Nothing is learned, and nothing ends. The paper has a decoder, where only keys
    before the query remain: use it with a causal mask. Without one, this is its
    symmetric form, for an encoder.

    Args:
        num_heads: number of attention heads, any number; see `alibi_slopes`.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.register_buffer("slopes", alibi_slopes(num_heads), persistent=False)

    def forward(
        self, queries: int, keys: int | None = None
    ) -> Float[Tensor, "1 heads queries keys"]:
        """The ``bias`` of the last ``queries`` of ``keys`` positions; by default of all."""
        distance = relative_positions(queries, keys, device=self.slopes.device).abs()
        # Half precision has no 257: multiply first, round once.
        wide = torch.promote_types(self.slopes.dtype, torch.float32)
        bias = -self.slopes.to(wide)[:, None, None] * distance  # (H, Q, K)
        return bias[None].to(self.slopes.dtype)
