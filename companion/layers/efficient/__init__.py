"""Attention that never forms its n-by-n weights: sparse, low-rank, linear, and exact in tiles."""

from companion.layers.efficient.bigbird import (
    BigBirdAttention,
    bigbird_attention,
    bigbird_mask,
    bigbird_random_blocks,
)
from companion.layers.efficient.chunked import ChunkedAttention, chunked_attention
from companion.layers.efficient.common import EfficientAttention
from companion.layers.efficient.linear import (
    LinearAttention,
    linear_attention,
    linear_attention_recurrent,
    linear_attention_step,
)
from companion.layers.efficient.linformer import (
    LinformerAttention,
    linformer_attention,
)
from companion.layers.efficient.online_softmax import (
    OnlineSoftmaxAttention,
    online_softmax_attention,
)
from companion.layers.efficient.performer import (
    PerformerAttention,
    performer_attention,
    positive_features,
    random_features,
    trigonometric_features,
)
from companion.layers.efficient.window import (
    SlidingWindowAttention,
    longformer_mask,
    sliding_window_attention,
)

__all__ = [
    "BigBirdAttention",
    "ChunkedAttention",
    "EfficientAttention",
    "LinearAttention",
    "LinformerAttention",
    "OnlineSoftmaxAttention",
    "PerformerAttention",
    "SlidingWindowAttention",
    "bigbird_attention",
    "bigbird_mask",
    "bigbird_random_blocks",
    "chunked_attention",
    "linear_attention",
    "linear_attention_recurrent",
    "linear_attention_step",
    "linformer_attention",
    "longformer_mask",
    "online_softmax_attention",
    "performer_attention",
    "positive_features",
    "random_features",
    "sliding_window_attention",
    "trigonometric_features",
]
