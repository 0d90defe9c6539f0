"""Attention, masks, feed-forward: the parts that every model here is made of."""

from companion.layers.attention import (
    CausalSelfAttention,
    CrossAttention,
    QKVProjection,
    SelfAttention,
    fused_attention,
    scaled_dot_product_attention,
)
from companion.layers.cache import KeyValueCache
from companion.layers.decoder import DecoderLayer
from companion.layers.encoder import EncoderLayer
from companion.layers.feed_forward import PositionwiseFeedForward
from companion.layers.masks import as_attention_mask, causal_mask, padding_mask
from companion.layers.multi_head import MultiHeadAttention
from companion.layers.positions import (
    LearnedPositionalEmbedding,
    SinusoidalPositionalEncoding,
)
from companion.layers.record import AttentionMaps, RecordsAttention, record_attention

__all__ = [
    "AttentionMaps",
    "CausalSelfAttention",
    "CrossAttention",
    "DecoderLayer",
    "EncoderLayer",
    "KeyValueCache",
    "LearnedPositionalEmbedding",
    "MultiHeadAttention",
    "PositionwiseFeedForward",
    "QKVProjection",
    "RecordsAttention",
    "SelfAttention",
    "SinusoidalPositionalEncoding",
    "as_attention_mask",
    "causal_mask",
    "fused_attention",
    "padding_mask",
    "record_attention",
    "scaled_dot_product_attention",
]
