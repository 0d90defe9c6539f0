"""Reading a batch of texts of unequal lengths without working on their padding.

Norms, projections and feed-forward networks treat each position by itself. So the real
tokens of all texts can stand in one row, and only attention has to know which text each
belongs to. The answer is that of the layers with a padding mask.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from companion.layers.attention import fused_attention
from companion.layers.encoder import EncoderLayer


def encode_without_padding(
    layers: Iterable[EncoderLayer],
    x: Float[Tensor, "batch length d_model"],
    mask: Bool[Tensor, "batch 1 1 length"],
) -> Float[Tensor, "batch length d_model"]:
    """The output of the layers, one after the other, with zeros where there is padding.

    With a quarter of padding it takes about a quarter less time.

    Args:
        layers: in evaluation; what they drop in training is not dropped here.
        x: the embeddings.
        mask: as `padding_mask` makes it.

    Raises:
        ValueError: the mask is not that of a batch of padded texts.
    """
    if mask.shape != (x.shape[0], 1, 1, x.shape[1]):
        raise ValueError(
            f"mask must be a padding mask, of shape (batch, 1, 1, length) = "
            f"{(x.shape[0], 1, 1, x.shape[1])}, but its shape is {tuple(mask.shape)}"
        )
    packing = _Packing(mask, mask.flatten().nonzero()[:, 0])
    tokens = packing.pack(x)  # (N, D)
    for layer in layers:
        if layer.norm_first:
            tokens = tokens + _attend(layer, layer.norm1(tokens), packing)
            tokens = tokens + _feed(layer, layer.norm2(tokens))
        else:
            tokens = layer.norm1(tokens + _attend(layer, tokens, packing))
            tokens = layer.norm2(tokens + _feed(layer, tokens))
    return packing.unpack(tokens)


@dataclass(frozen=True)
class _Packing:
    """Where the N real tokens of a batch stand among all its positions."""

    mask: Bool[Tensor, "batch 1 1 length"]
    places: Int[Tensor, "N"]

    def pack(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (N, D)"""
        return x.flatten(0, 1).index_select(0, self.places)

    def unpack(self, tokens: Tensor) -> Tensor:
        """(N, D) -> (B, L, D), zero at padding"""
        batch, _, _, length = self.mask.shape
        x = tokens.new_zeros(batch * length, tokens.shape[-1])
        return x.index_copy(0, self.places, tokens).view(batch, length, -1)


def _attend(layer: EncoderLayer, tokens: Tensor, packing: _Packing) -> Tensor:
    attention = layer.self_attention
    Q, K, V = (
        packing.unpack(W(tokens)).unflatten(-1, (-1, attention.d_k)).transpose(1, 2)
        for W in (attention.W_q, attention.W_k, attention.W_v)
    )  # (B, H, L, d_k)
    heads = fused_attention(Q, K, V, packing.mask, scale=attention.scale)
    joined = packing.pack(heads.transpose(1, 2).flatten(2))  # (N, H * d_k)
    return layer.scale1(attention.W_o(joined))


def _feed(layer: EncoderLayer, tokens: Tensor) -> Tensor:
    return layer.scale2(layer.feed_forward(tokens))
