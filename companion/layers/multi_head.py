"""Multi-head attention, with as many key-value heads as query heads or fewer.

Sources: Vaswani et al. (2017), section 3.2.2; Shazeer (2019), "Fast Transformer
Decoding: One Write-Head is All You Need" (multi-query); Ainslie et al. (2023), "GQA:
Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints"
(grouped-query); Jiang et al. (2023), "Mistral 7B", section 2 (sliding window).
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn

from companion.layers.attention import fused_attention, scaled_dot_product_attention
from companion.layers.cache import KeyValueCache
from companion.layers.masks import as_attention_mask, sliding_window_mask
from companion.layers.record import RecordsAttention
from companion.layers.rotary import RotaryEmbedding


class MultiHeadAttention(RecordsAttention):
    """Several heads attend in parallel, each in its own slice of width ``d_k``; ``W_o`` mixes them.

    MultiHead(Q, K, V) = Concat(head_1, ..., head_h) W_o, where
    head_i = Attention(Q W_q^i, K W_k^i, V W_v^i).

    The maps of all heads are stacked in one matrix, so that ``W_q`` projects for all
    heads at once. With fewer key-value heads than heads, each serves a group of
    ``num_heads / num_kv_heads`` consecutive query heads.

    Args:
        d_model: width of input and output.
        num_heads: number of query heads.
        num_kv_heads: number of key-value heads, a divisor of ``num_heads``: by default
            the same number (multi-head), 1 for multi-query, in between for
            grouped-query attention.
        d_k: width of a head; ``d_model / num_heads`` by default.
        dropout: the probability with which an attention weight is dropped in training.
        bias: whether the four maps add a bias.
        qkv_bias: the same of all but ``W_o``; ``bias`` by default.
        rotary: turns queries and keys by their positions, in self-attention.
        scale: what the scores are multiplied by; ``1 / sqrt(d_k)`` by default, 1 in T5.
        window: in self-attention, each position sees itself and the ``window - 1``
            before it, and nothing else. A cache then keeps no more than it has to.

    Raises:
        ValueError: the heads don't divide ``d_model``, the key-value heads don't divide
            the heads, or a size or probability is out of range.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        num_kv_heads: int | None = None,
        *,
        d_k: int | None = None,
        dropout: float = 0.0,
        bias: bool = True,
        rotary: RotaryEmbedding | None = None,
        scale: float | None = None,
        window: int | None = None,
        qkv_bias: bool | None = None,
    ) -> None:
        super().__init__()
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if num_heads < 1:
            raise ValueError(f"num_heads must be at least 1, but it is {num_heads}")
        if d_k is None and d_model % num_heads:
            raise ValueError(
                f"num_heads must divide d_model, but d_model is {d_model} and num_heads is "
                f"{num_heads}; to choose the width of a head freely, pass d_k"
            )
        if num_kv_heads < 1 or num_heads % num_kv_heads:
            raise ValueError(
                f"num_kv_heads must divide num_heads, but num_heads is {num_heads} and "
                f"num_kv_heads is {num_kv_heads}"
            )
        if not 0.0 <= dropout < 1.0:
            raise ValueError(
                f"dropout must be at least 0 and below 1, but it is {dropout}"
            )
        if window is not None and window < 1:
            raise ValueError(f"window must be at least 1 or None, but it is {window}")
        self.d_model = d_model
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.d_k = d_model // num_heads if d_k is None else d_k
        self.dropout = dropout
        self.rotary = rotary
        self.scale = scale
        self.window = window
        qkv_bias = bias if qkv_bias is None else qkv_bias
        self.W_q = nn.Linear(d_model, num_heads * self.d_k, bias=qkv_bias)
        self.W_k = nn.Linear(d_model, num_kv_heads * self.d_k, bias=qkv_bias)
        self.W_v = nn.Linear(d_model, num_kv_heads * self.d_k, bias=qkv_bias)
        self.W_o = nn.Linear(num_heads * self.d_k, d_model, bias=bias)

    def forward(
        self,
        query: Float[Tensor, "batch queries d_model"],
        key: Float[Tensor, "batch keys d_model"] | None = None,
        value: Float[Tensor, "batch keys d_model"] | None = None,
        mask: Bool[Tensor, "..."] | None = None,
        *,
        bias: Float[Tensor, "..."] | None = None,
        is_causal: bool = False,
        need_weights: bool = True,
        cache: KeyValueCache | None = None,
    ) -> tuple[
        Float[Tensor, "batch queries d_model"],
        Float[Tensor, "batch heads queries keys"] | None,
    ]:
        """Attend from ``query`` to ``key`` and average ``value``.

        Args:
            query: the sequence that asks.
            key: the sequence that is asked; ``query`` by default (self-attention).
            value: what is averaged; ``key`` by default.
            mask: boolean, True = may attend, broadcasts to ``(batch, heads, queries,
                keys)``.
            bias: added to the scores, broadcasts to ``(batch, heads, queries, keys)``.
            is_causal: hide what comes later as well, as ``causal_mask(queries, keys)``
                does.
            need_weights: True takes the explicit formula and returns the weights before
                dropout; False takes the fused kernel and returns None in their place.
            cache: keys and values of earlier calls, which ``query`` attends to as well.
                In cross-attention they are computed once, from the first ``key``.
        """
        key = query if key is None else key
        Q = self._split(self.W_q(query), self.num_heads)  # (B, H, Q, d_k)
        if cache is not None and key is not query:
            K, V = cache.once(self, lambda: self._keys_and_values(key, value))
        else:
            K, V = self._keys_and_values(key, value)  # (B, H_kv, K, d_k) each
            past = 0 if cache is None else cache.length_of(self)
            if self.rotary is not None and key is query:
                Q, K = self.rotary(Q, K, offset=past)
            if cache is not None:
                K, V = cache.extend(self, K, V, window=self.window)
            if self.window is not None and key is query:
                mask = self._within_window(mask, Q, K, past)
                is_causal = True

        options = {
            "bias": bias,
            "is_causal": is_causal,
            "scale": self.scale,
            "dropout": self.dropout if self.training else 0.0,
        }
        weights = None
        if need_weights or self.is_recorded:
            group = self.num_heads // self.num_kv_heads
            K = K.repeat_interleave(group, dim=1)  # (B, H, K, d_k)
            V = V.repeat_interleave(group, dim=1)  # (B, H, K, d_k)
            heads, weights = scaled_dot_product_attention(Q, K, V, mask, **options)
            self.record(weights)
        else:
            heads = fused_attention(Q, K, V, mask, **options)  # repeats none

        joined = heads.transpose(1, 2).flatten(2)  # (B, H, Q, d_k) -> (B, Q, H * d_k)
        return self.W_o(joined), weights if need_weights else None

    def _keys_and_values(
        self, key: Tensor, value: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        value = key if value is None else value
        K = self._split(self.W_k(key), self.num_kv_heads)  # (B, H_kv, K, d_k)
        V = self._split(self.W_v(value), self.num_kv_heads)  # (B, H_kv, K, d_k)
        return K, V

    def _within_window(
        self, mask: Tensor | None, Q: Tensor, K: Tensor, past: int
    ) -> Tensor | None:
        """``mask``, cut to the keys that are left, and the window."""
        batch, heads, queries, keys = *Q.shape[:3], K.shape[2]
        if mask is not None:
            read = past + queries  # a mask counts the keys that are forgotten as well
            if isinstance(mask, Tensor) and mask.shape[-1:] == (read,):
                mask = mask[..., -keys:]
            mask = as_attention_mask(mask, batch, heads, queries, keys)
        if keys <= self.window:
            return mask
        seen = sliding_window_mask(queries, keys, window=self.window, device=Q.device)
        return seen if mask is None else mask & seen

    def _split(self, x: Tensor, num_heads: int) -> Tensor:
        x = x.unflatten(-1, (num_heads, self.d_k))  # (B, L, H, d_k)
        return x.transpose(1, 2)  # (B, H, L, d_k)

    def extra_repr(self) -> str:
        return (
            f"num_heads={self.num_heads}, num_kv_heads={self.num_kv_heads}, "
            f"d_k={self.d_k}, dropout={self.dropout}"
            + (f", window={self.window}" if self.window is not None else "")
        )
