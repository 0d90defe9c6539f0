"""Linear attention: sum up the keys and values first, and let each query read the sum.

Source: Katharopoulos et al. (2020), "Transformers are RNNs: Fast Autoregressive
Transformers with Linear Attention", sections 3.2 to 3.4.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from companion.layers.attention import _check_shapes
from companion.layers.efficient.common import (
    EfficientAttention,
    check_at_least,
    check_heads,
    fit_key_mask,
    pad_end,
)

FeatureMap = Callable[[Tensor], Tensor]

FEATURE_MAPS: dict[str, FeatureMap] = {
    "elu+1": lambda x: F.elu(x) + 1,  # equation 7
    "relu": F.relu,
    "exp": torch.exp,
}


def linear_attention(
    query: Float[Tensor, "batch heads queries d_k"],
    key: Float[Tensor, "batch heads keys d_k"],
    value: Float[Tensor, "batch heads keys d_v"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    feature_map: str | FeatureMap = "elu+1",
    is_causal: bool = False,
    chunk_size: int = 64,
) -> Float[Tensor, "batch heads queries d_v"]:
    """Attention with weights phi(q) . phi(k) instead of exp(q . k / sqrt(d_k)).

    Such a sum can be reordered: phi(Q) (phi(K)^T V), where the bracket is a d-by-d
    matrix, however many keys there are. Time and memory grow as the length.

    Args:
        query, key, value: ``(batch, heads, length, d)``.
        mask: hides keys from all queries: True = may attend, ``(batch, 1, 1, keys)``.
        feature_map: phi, one of ``FEATURE_MAPS`` or a function that gives no negative
            number.
        is_causal: a position sees only itself and what came before it.
        chunk_size: with ``is_causal``, how many positions are computed side by side.

    Raises:
        TypeError, ValueError: shapes that don't fit, a mask that differs between
            queries, or an unknown feature map.
    """
    phi = _known(feature_map)
    return attend_by_features(
        phi(query), phi(key), value, mask, is_causal=is_causal, chunk_size=chunk_size
    )


def linear_attention_recurrent(
    query: Float[Tensor, "batch heads length d_k"],
    key: Float[Tensor, "batch heads length d_k"],
    value: Float[Tensor, "batch heads length d_v"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    feature_map: str | FeatureMap = "elu+1",
) -> Float[Tensor, "batch heads length d_v"]:
    """Causal `linear_attention`, one position after the other: a recurrent network.

    It keeps one state of a size that does not grow. See `linear_attention_step`.
    """
    check_heads(query, key, value)
    seen = fit_key_mask(mask, query, key, "linear attention")
    state, outputs = None, []
    for t in range(query.shape[2]):
        output, state = linear_attention_step(
            query[:, :, t],
            key[:, :, t],
            value[:, :, t],
            state,
            feature_map=feature_map,
            seen=None if seen is None else seen[:, :, t],
        )
        outputs.append(output)
    return torch.stack(outputs, dim=2)


def linear_attention_step(
    query: Float[Tensor, "batch heads d_k"],
    key: Float[Tensor, "batch heads d_k"],
    value: Float[Tensor, "batch heads d_v"],
    state: Float[Tensor, "batch heads features d_v_plus_1"] | None = None,
    *,
    feature_map: str | FeatureMap = "elu+1",
    seen: Bool[Tensor, "#batch #heads"] | None = None,
) -> tuple[
    Float[Tensor, "batch heads d_v"],
    Float[Tensor, "batch heads features d_v_plus_1"],
]:
    """One position: add its key and value to the state, then read the state.

    Equations 18 to 20. The state holds the sum of phi(k) v^T and, in its last column,
    the sum of phi(k); None stands for zeros.

    Args:
        query, key, value: of this position.
        state: what the last call returned.
        feature_map: phi.
        seen: False where this position's key is hidden, such as padding.

    Returns:
        The output and the new state.
    """
    phi = _known(feature_map)
    features = phi(key)
    if seen is not None:
        features = features.masked_fill(~seen[..., None], 0.0)
    update = features[..., :, None] * _with_ones(value)[..., None, :]
    state = update if state is None else state + update  # (B, H, F, d_v + 1)
    return _divide((phi(query)[..., None, :] @ state).squeeze(-2)), state


class LinearAttention(EfficientAttention):
    """Multi-head `linear_attention`; a mask may hide keys, not differ between queries.

    Args:
        d_model, num_heads, d_k, bias: as for `MultiHeadAttention`. There are no single
            weights that could be dropped.
        feature_map: one of ``FEATURE_MAPS``, or a function.
        chunk_size: how many positions are computed side by side when causal.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        feature_map: str | FeatureMap = "elu+1",
        *,
        chunk_size: int = 64,
        d_k: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__(d_model, num_heads, d_k=d_k, bias=bias)
        _known(feature_map)
        check_at_least("chunk_size", chunk_size, 1)
        self.feature_map = feature_map
        self.chunk_size = chunk_size

    def attend(self, query, key, value, mask=None, *, is_causal=False) -> Tensor:
        return linear_attention(
            query,
            key,
            value,
            mask,
            feature_map=self.feature_map,
            is_causal=is_causal,
            chunk_size=self.chunk_size,
        )


def attend_by_features(
    query: Float[Tensor, "batch heads queries features"],
    key: Float[Tensor, "batch heads keys features"],
    value: Float[Tensor, "batch heads keys d_v"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    is_causal: bool = False,
    chunk_size: int = 64,
) -> Float[Tensor, "batch heads queries d_v"]:
    """Attention whose weights are products of features that are given, normalized.

    With ``is_causal`` the positions are cut into chunks: inside a chunk the weights are
    formed and masked, and what came before the chunk is read from a running sum.
    """
    _check_shapes(query, key, value)
    check_at_least("chunk_size", chunk_size, 1)
    seen = fit_key_mask(mask, query, key, "linear attention")
    if seen is not None:
        key = key.masked_fill(~seen[..., None], 0.0)
    value = _with_ones(value)  # the last column sums the weights
    if not is_causal:
        return _divide(query @ (key.transpose(-2, -1) @ value))

    check_heads(query, key, value)
    length = query.shape[2]
    chunk = min(chunk_size, length)
    Q, K, V = (
        pad_end(x, chunk, 2).unflatten(2, (-1, chunk)) for x in (query, key, value)
    )  # (B, H, N, C, ...)
    sums = K.transpose(-2, -1) @ V  # of each chunk, (B, H, N, F, d_v + 1)
    before = F.pad(sums.cumsum(2)[:, :, :-1], (0, 0, 0, 0, 1, 0))  # zero for the first
    inside = (Q @ K.transpose(-2, -1)).tril() @ V
    return _divide((Q @ before + inside).flatten(2, 3)[:, :, :length])


def _with_ones(value: Tensor) -> Tensor:
    return F.pad(value, (0, 1), value=1.0)


def _divide(sums: Tensor) -> Tensor:
    """Weighted sums by the sum of weights; zero where there is no weight at all."""
    total = sums[..., -1:]
    return sums[..., :-1] / torch.where(total > 0, total, 1.0)


def _known(feature_map: str | FeatureMap) -> FeatureMap:
    if callable(feature_map):
        return feature_map
    if feature_map not in FEATURE_MAPS:
        raise ValueError(
            f"feature_map must be a function or one of {', '.join(FEATURE_MAPS)}, but it "
            f"is {feature_map!r}"
        )
    return FEATURE_MAPS[feature_map]
