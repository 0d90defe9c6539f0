"""Attention, masks, feed-forward: the parts that every model here is made of."""

from companion.layers.attention import (
    CausalSelfAttention,
    CrossAttention,
    QKVProjection,
    SelfAttention,
    fused_attention,
    scaled_dot_product_attention,
)
from companion.layers.block import TransformerBlock
from companion.layers.cache import KeyValueCache
from companion.layers.decoder import DecoderLayer
from companion.layers.encoder import EncoderLayer
from companion.layers.feed_forward import (
    GatedFeedForward,
    PositionwiseFeedForward,
    gated_width,
)
from companion.layers.masks import as_attention_mask, causal_mask, padding_mask
from companion.layers.multi_head import MultiHeadAttention
from companion.layers.norms import LayerNorm, RMSNorm
from companion.layers.positions import (
    LearnedPositionalEmbedding,
    SinusoidalPositionalEncoding,
    inverse_frequencies,
    shift_matrix,
    sinusoidal_table,
)
from companion.layers.record import AttentionMaps, RecordsAttention, record_attention
from companion.layers.relative import (
    ALiBi,
    T5RelativeBias,
    alibi_slopes,
    relative_positions,
    t5_buckets,
)
from companion.layers.rotary import RotaryEmbedding, to_half_split, to_interleaved
from companion.layers.rotary_scaling import (
    DynamicNTKScaling,
    LinearScaling,
    Llama3Scaling,
    NTKScaling,
    RotaryScaling,
    YaRNScaling,
)
from companion.layers.ssru import SSRU

__all__ = [
    "SSRU",
    "ALiBi",
    "AttentionMaps",
    "CausalSelfAttention",
    "CrossAttention",
    "DecoderLayer",
    "DynamicNTKScaling",
    "EncoderLayer",
    "GatedFeedForward",
    "KeyValueCache",
    "LayerNorm",
    "LearnedPositionalEmbedding",
    "LinearScaling",
    "Llama3Scaling",
    "MultiHeadAttention",
    "NTKScaling",
    "PositionwiseFeedForward",
    "QKVProjection",
    "RMSNorm",
    "RecordsAttention",
    "RotaryEmbedding",
    "RotaryScaling",
    "SelfAttention",
    "SinusoidalPositionalEncoding",
    "T5RelativeBias",
    "TransformerBlock",
    "YaRNScaling",
    "alibi_slopes",
    "as_attention_mask",
    "causal_mask",
    "fused_attention",
    "gated_width",
    "inverse_frequencies",
    "padding_mask",
    "record_attention",
    "relative_positions",
    "scaled_dot_product_attention",
    "shift_matrix",
    "sinusoidal_table",
    "t5_buckets",
    "to_half_split",
    "to_interleaved",
]
