"""A layer of the decoder: causal self-attention, cross-attention, feed-forward network.

Source: Vaswani et al. (2017), section 3.1.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn

from companion.layers.cache import KeyValueCache
from companion.layers.feed_forward import PositionwiseFeedForward
from companion.layers.multi_head import MultiHeadAttention


class DecoderLayer(nn.Module):
    """Look back at what is written, look across at the source, then think: three sub-layers.

    Each has a residual around it, a norm and dropout, as in the encoder's layer.

    Args:
        d_model: width of the residual stream.
        num_heads: number of attention heads, in both attentions.
        d_ff: inner width of the feed-forward network.
        dropout: for each sub-layer's output.
        activation: of the feed-forward network, ``"relu"`` or ``"gelu"``.
        norm_first: False norms after the residual sum (post-norm, the paper); True norms
            the input of each sub-layer instead (pre-norm).
        layer_norm_eps: what layer norm adds to the variance.
        attention_dropout: for the weights of both attentions; ``dropout`` by default.
        hidden_dropout: for the hidden units of the feed-forward network; ``dropout`` by
            default.
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
        attention_dropout: float | None = None,
        hidden_dropout: float | None = None,
    ) -> None:
        super().__init__()
        of_weights = dropout if attention_dropout is None else attention_dropout
        of_hidden = dropout if hidden_dropout is None else hidden_dropout
        self.self_attention = MultiHeadAttention(d_model, num_heads, dropout=of_weights)
        self.cross_attention = MultiHeadAttention(
            d_model, num_heads, dropout=of_weights
        )
        self.feed_forward = PositionwiseFeedForward(
            d_model, d_ff, of_hidden, activation
        )
        self.norm1 = nn.LayerNorm(d_model, eps=layer_norm_eps)
        self.norm2 = nn.LayerNorm(d_model, eps=layer_norm_eps)
        self.norm3 = nn.LayerNorm(d_model, eps=layer_norm_eps)
        self.dropout = nn.Dropout(dropout)
        self.norm_first = norm_first

    def forward(
        self,
        x: Float[Tensor, "batch target d_model"],
        memory: Float[Tensor, "batch source d_model"],
        source_mask: Bool[Tensor, "..."] | None = None,
        target_mask: Bool[Tensor, "..."] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "batch target d_model"]:
        """Decode ``x``, in which no position sees a later one.

        Args:
            x: the target so far; with a cache, only its new positions.
            memory: what the encoder made of the source.
            source_mask: hides keys of the source, such as padding.
            target_mask: hides further keys of the target; the future is always hidden.
            cache: keys and values of the positions before ``x``.
        """
        if self.norm_first:
            x = x + self._look_back(self.norm1(x), target_mask, cache)
            x = x + self._look_across(self.norm2(x), memory, source_mask, cache)
            return x + self.dropout(self.feed_forward(self.norm3(x)))
        x = self.norm1(x + self._look_back(x, target_mask, cache))
        x = self.norm2(x + self._look_across(x, memory, source_mask, cache))
        return self.norm3(x + self.dropout(self.feed_forward(x)))

    def _look_back(
        self, x: Tensor, mask: Tensor | None, cache: KeyValueCache | None
    ) -> Tensor:
        output, _ = self.self_attention(
            x, mask=mask, is_causal=True, need_weights=False, cache=cache
        )
        return self.dropout(output)

    def _look_across(
        self,
        x: Tensor,
        memory: Tensor,
        mask: Tensor | None,
        cache: KeyValueCache | None,
    ) -> Tensor:
        output, _ = self.cross_attention(
            x, memory, mask=mask, need_weights=False, cache=cache
        )
        return self.dropout(output)
