"""companion: the implementations behind The Executable Transformer.

Everything below imports straight from here, ``from companion import
MultiHeadAttention``, and is loaded
when it is first asked for: ``import companion`` itself loads nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import Any

# Public name -> the module that holds it.
_EXPORTS = {
    "device": "companion.runtime",
    "seed_everything": "companion.runtime",
    # layers
    "AttentionMaps": "companion.layers",
    "CausalSelfAttention": "companion.layers",
    "CrossAttention": "companion.layers",
    "DecoderLayer": "companion.layers",
    "EncoderLayer": "companion.layers",
    "KeyValueCache": "companion.layers",
    "LearnedPositionalEmbedding": "companion.layers",
    "MultiHeadAttention": "companion.layers",
    "PositionwiseFeedForward": "companion.layers",
    "QKVProjection": "companion.layers",
    "SelfAttention": "companion.layers",
    "SinusoidalPositionalEncoding": "companion.layers",
    "causal_mask": "companion.layers",
    "fused_attention": "companion.layers",
    "padding_mask": "companion.layers",
    "record_attention": "companion.layers",
    "scaled_dot_product_attention": "companion.layers",
    # models
    "BERT": "companion.models.bert",
    "RecurrentTranslator": "companion.models.recurrent",
    "Transformer": "companion.models.transformer",
    "TransformerDecoder": "companion.models.transformer",
    "TransformerEncoder": "companion.models.transformer",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'companion' has no attribute {name!r}")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
