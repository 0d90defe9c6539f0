"""A layer of the encoder: self-attention, then a feed-forward network, each with a residual and a norm.

Source: Vaswani et al. (2017), section 3.1; Xiong et al. (2020), "On Layer Normalization
in the Transformer Architecture", for the order of norm and sub-layer. Image models add what
`companion.layers.residual` holds.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn

from companion.layers.cache import KeyValueCache
from companion.layers.feed_forward import PositionwiseFeedForward
from companion.layers.multi_head import MultiHeadAttention
from companion.layers.residual import DropPath, LayerScale


class EncoderLayer(nn.Module):
    """x -> LayerNorm(x + SelfAttention(x)) -> LayerNorm(x + FFN(x)), each sub-layer with dropout.

    Args:
        d_model: width of the residual stream.
        num_heads: number of attention heads.
        d_ff: inner width of the feed-forward network.
        dropout: for each sub-layer's output.
        activation: of the feed-forward network, ``"relu"`` or ``"gelu"``.
        norm_first: False norms after the residual sum (post-norm, the paper); True
            norms the input of each sub-layer instead (pre-norm) and leaves the residual
            stream alone.
        layer_norm_eps: what layer norm adds to the variance.
        num_kv_heads: number of key-value heads, as in `MultiHeadAttention`.
        attention_dropout: for the attention weights; ``dropout`` by default.
        hidden_dropout: for the hidden units of the feed-forward network; ``dropout`` by
            default. BERT and GPT-2 have none there.
        qkv_bias: whether the maps to queries, keys and values add a bias.
        drop_path: the probability with which a sub-layer is left out (see `DropPath`).
        layer_scale: the start of the factors of each sub-layer's output (see
            `LayerScale`); None for no factors.
        feed_forward: in place of ``PositionwiseFeedForward(d_model, d_ff, ...)``.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ff: int,
        dropout: float = 0.1,
        *,
        activation: str = "relu",
        norm_first: bool = False,
        layer_norm_eps: float = 1e-5,
        num_kv_heads: int | None = None,
        attention_dropout: float | None = None,
        hidden_dropout: float | None = None,
        qkv_bias: bool = True,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
        feed_forward: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(
            d_model,
            num_heads,
            num_kv_heads,
            dropout=dropout if attention_dropout is None else attention_dropout,
            qkv_bias=qkv_bias,
        )
        self.feed_forward = feed_forward or PositionwiseFeedForward(
            d_model,
            d_ff,
            dropout if hidden_dropout is None else hidden_dropout,
            activation,
        )
        self.norm1 = nn.LayerNorm(d_model, eps=layer_norm_eps)
        self.norm2 = nn.LayerNorm(d_model, eps=layer_norm_eps)
        self.scale1, self.scale2 = (
            nn.Identity() if layer_scale is None else LayerScale(d_model, layer_scale)
            for _ in range(2)
        )
        self.dropout = nn.Dropout(dropout)
        self.drop_path = DropPath(drop_path)
        self.norm_first = norm_first

    def forward(
        self,
        x: Float[Tensor, "batch length d_model"],
        mask: Bool[Tensor, "..."] | None = None,
        *,
        is_causal: bool = False,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        """``mask`` broadcasts to ``(batch, heads, length, length)``; True = may attend.

        With ``is_causal`` no position sees a later one, and ``cache`` may hold the keys
        and values of the positions before ``x``: this is how `TransformerBlock` runs.
        """
        if self.norm_first:
            x = x + self._attend(self.norm1(x), mask, is_causal, cache)
            return x + self._feed(self.norm2(x))
        x = self.norm1(x + self._attend(x, mask, is_causal, cache))
        return self.norm2(x + self._feed(x))

    def _attend(
        self,
        x: Tensor,
        mask: Tensor | None,
        is_causal: bool,
        cache: KeyValueCache | None,
    ) -> Tensor:
        output, _ = self.self_attention(
            x, mask=mask, is_causal=is_causal, need_weights=False, cache=cache
        )
        return self.drop_path(self.scale1(self.dropout(output)))

    def _feed(self, x: Tensor) -> Tensor:
        return self.drop_path(self.scale2(self.dropout(self.feed_forward(x))))
