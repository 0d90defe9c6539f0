"""What all efficient attentions share: checks, and the multi-head layer around each of them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from companion.layers.attention import _check_shapes
from companion.layers.cache import KeyValueCache
from companion.layers.masks import as_attention_mask
from companion.layers.multi_head import MultiHeadAttention


class EfficientAttention(MultiHeadAttention):
    """Multi-head self-attention whose heads attend in another way than all to all.

    It has the parameters of `MultiHeadAttention`, by the same names, and can take its
    place: ``layer.self_attention = SlidingWindowAttention(d_model, num_heads, 64)``. A
    subclass says in ``attend`` how queries meet keys.

    No n-by-n weights exist, so none are returned. While `record_attention` listens, a
    layer works out the weights that its result amounts to, which takes the memory that
    it saves otherwise; look at short sequences.

    Args:
        d_model: width of input and output.
        num_heads: number of heads.
        d_k: width of a head; ``d_model / num_heads`` by default.
        dropout: the probability with which an attention weight is dropped in training.
        bias: whether the four maps add a bias.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        *,
        d_k: int | None = None,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__(d_model, num_heads, d_k=d_k, dropout=dropout, bias=bias)

    def forward(
        self,
        query: Float[Tensor, "batch length d_model"],
        key: Float[Tensor, "batch length d_model"] | None = None,
        value: Float[Tensor, "batch length d_model"] | None = None,
        mask: Bool[Tensor, "..."] | None = None,
        *,
        bias: Float[Tensor, "..."] | None = None,
        is_causal: bool = False,
        need_weights: bool = False,
        cache: KeyValueCache | None = None,
        **options: Any,
    ) -> tuple[Float[Tensor, "batch length d_model"], None]:
        """Attend, and return the output and None in the place of weights.

        ``options`` go to the attention itself, as ``global_mask`` does to
        `sliding_window_attention`.

        Raises:
            ValueError: ``bias``, ``need_weights`` or ``cache`` is given, which
                `MultiHeadAttention` takes and no efficient attention does.
        """
        for name, given in (
            ("bias", bias is not None),
            ("need_weights", need_weights),
            ("cache", cache is not None),
        ):
            if given:
                raise ValueError(
                    f"{type(self).__name__} takes no {name}: it never forms the "
                    "(queries, keys) weights; MultiHeadAttention does"
                )
        key = query if key is None else key
        Q = self._split(self.W_q(query), self.num_heads)  # (B, H, L, d_k)
        K, V = self._keys_and_values(key, value)  # (B, H, L, d_k) each
        if self.is_recorded:
            self.record(self.weights(Q, K, mask, is_causal=is_causal, **options))
        heads = self.attend(Q, K, V, mask, is_causal=is_causal, **options)
        joined = heads.transpose(1, 2).flatten(2)  # (B, H, L, d_k) -> (B, L, H * d_k)
        return self.W_o(joined), None

    def attend(
        self,
        query: Float[Tensor, "batch heads length d_k"],
        key: Float[Tensor, "batch heads length d_k"],
        value: Float[Tensor, "batch heads length d_k"],
        mask: Bool[Tensor, "..."] | None = None,
        *,
        is_causal: bool = False,
        **options: Any,
    ) -> Float[Tensor, "batch heads length d_k"]:
        """What the heads give."""
        raise NotImplementedError(f"{type(self).__name__} defines no attend")

    def weights(
        self,
        query: Float[Tensor, "batch heads length d_k"],
        key: Float[Tensor, "batch heads length d_k"],
        mask: Bool[Tensor, "..."] | None = None,
        *,
        is_causal: bool = False,
        **options: Any,
    ) -> Float[Tensor, "batch heads length keys"]:
        """The weights that `attend` amounts to, written out.

        It attends to the unit vectors instead of values: output i, j is then what query
        i takes from key j.
        """
        training = self.training
        self.train(False)  # the weights before dropout
        try:
            return self.attend(
                query, key, self.units(key), mask, is_causal=is_causal, **options
            )
        finally:
            self.train(training)

    @staticmethod
    def units(
        key: Float[Tensor, "batch heads keys d_k"],
    ) -> Float[Tensor, "batch heads keys keys"]:
        """For each key, the unit vector that points along its own axis."""
        batch, heads, keys, _ = key.shape
        units = torch.eye(keys, dtype=key.dtype, device=key.device)
        return units.expand(batch, heads, keys, keys)

    @property
    def dropout_now(self) -> float:
        """The dropout of this call: none in evaluation."""
        return self.dropout if self.training else 0.0


def check_heads(query: Tensor, key: Tensor, value: Tensor) -> None:
    """Four axes that fit together, and as many keys as queries: self-attention."""
    _check_shapes(query, key, value)
    shapes = f"query {tuple(query.shape)}, key {tuple(key.shape)}"
    if query.ndim != 4:
        raise ValueError(
            "query, key and value must be (batch, heads, length, d), but they are "
            f"{shapes}"
        )
    if query.shape[2] != key.shape[2]:
        raise ValueError(
            "query and key must have the same length, since positions of one sequence "
            f"attend to each other here, but they are {shapes}"
        )


def check_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} must be at least {least}, but it is {value}")


def fit_mask(
    mask: Tensor | None, query: Tensor, key: Tensor
) -> Bool[Tensor, "#batch #heads #queries #keys"] | None:
    """``mask`` by the one mask rule, with four axes that are each 1 or full."""
    if mask is None:
        return None
    return as_attention_mask(mask, *query.shape[:3], key.shape[2])


def fit_key_mask(
    mask: Tensor | None, query: Tensor, key: Tensor, who: str
) -> Bool[Tensor, "#batch #heads keys"] | None:
    """``mask``, which may hide keys but not differ between queries."""
    mask = fit_mask(mask, query, key)
    if mask is None:
        return None
    if mask.shape[2] != 1:
        raise ValueError(
            f"mask has shape {tuple(mask.shape)}, but {who} sums up the keys before any "
            "query sees them: its mask may hide keys from all queries, with shape "
            "(batch, 1, 1, keys) as padding_mask gives it, and cannot differ between "
            "queries"
        )
    return mask[:, :, 0].expand(*mask.shape[:2], key.shape[2])


def pad_end(x: Tensor, multiple: int, dim: int) -> Tensor:
    """Zeros (False) at the end of an axis, up to a multiple of ``multiple``."""
    missing = -x.shape[dim] % multiple
    return F.pad(x, (0, 0) * (x.ndim - 1 - dim % x.ndim) + (0, missing))


def fold_heads(x: Tensor, batch: int, heads: int) -> Tensor:
    """(B or 1, H or 1, ...) -> (B * H, ...), or (1, ...) if it is the same for all."""
    if x.shape[:2] == (1, 1):
        return x[0]
    return x.expand(batch, heads, *x.shape[2:]).flatten(0, 1)
