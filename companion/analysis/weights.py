"""Numbers that describe an attention map, so that maps need not be judged by eye."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def attention_entropy(
    weights: Float[Tensor, "*batch queries keys"],
) -> Float[Tensor, "*batch queries"]:
    """Entropy of each query's weights in nats: 0 on one key, log(keys) when uniform."""
    return torch.special.entr(weights).sum(dim=-1)


def effective_keys(
    weights: Float[Tensor, "*batch queries keys"],
) -> Float[Tensor, "*batch queries"]:
    """How many keys each query attends to, as if it attended to them equally.

    This is e to the entropy (the perplexity): 1 on one key, ``keys`` when uniform.
    """
    return attention_entropy(weights).exp()


def attention_distance(
    weights: Float[Tensor, "*batch queries keys"],
) -> Float[Tensor, "*batch queries"]:
    """The mean distance |query - key| in positions, weighted by attention.

    Raises:
        ValueError: queries and keys differ in number, so that they don't share
            positions.
    """
    queries, keys = weights.shape[-2:]
    if queries != keys:
        raise ValueError(
            "weights must be a map of a sequence onto itself, (..., length, length), "
            f"but it has {queries} queries and {keys} keys"
        )
    position = torch.arange(keys, device=weights.device, dtype=weights.dtype)
    return (weights * (position[:, None] - position).abs()).sum(dim=-1)
