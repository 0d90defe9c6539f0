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
    "ALiBi": "companion.layers",
    "AttentionMaps": "companion.layers",
    "CausalSelfAttention": "companion.layers",
    "CrossAttention": "companion.layers",
    "DecoderLayer": "companion.layers",
    "DynamicNTKScaling": "companion.layers",
    "EncoderLayer": "companion.layers",
    "GatedFeedForward": "companion.layers",
    "Int8Linear": "companion.layers",
    "KeyValueCache": "companion.layers",
    "LayerNorm": "companion.layers",
    "LearnedPositionalEmbedding": "companion.layers",
    "LinearScaling": "companion.layers",
    "Llama3Scaling": "companion.layers",
    "LoRALinear": "companion.layers",
    "MixtureOfExperts": "companion.layers",
    "MultiHeadAttention": "companion.layers",
    "NTKScaling": "companion.layers",
    "PositionwiseFeedForward": "companion.layers",
    "QKVProjection": "companion.layers",
    "QuantizedLinear": "companion.layers",
    "RMSNorm": "companion.layers",
    "RotaryEmbedding": "companion.layers",
    "SSRU": "companion.layers",
    "SelfAttention": "companion.layers",
    "SinusoidalPositionalEncoding": "companion.layers",
    "T5RelativeBias": "companion.layers",
    "TransformerBlock": "companion.layers",
    "YaRNScaling": "companion.layers",
    "add_lora": "companion.layers",
    "alibi_slopes": "companion.layers",
    "causal_mask": "companion.layers",
    "fused_attention": "companion.layers",
    "inverse_frequencies": "companion.layers",
    "load_balancing_loss": "companion.layers",
    "load_lora": "companion.layers",
    "merge_lora": "companion.layers",
    "padding_mask": "companion.layers",
    "quantize_": "companion.layers",
    "record_attention": "companion.layers",
    "record_routing": "companion.layers",
    "relative_positions": "companion.layers",
    "save_lora": "companion.layers",
    "scaled_dot_product_attention": "companion.layers",
    "shift_matrix": "companion.layers",
    "sinusoidal_table": "companion.layers",
    "sliding_window_mask": "companion.layers",
    "t5_buckets": "companion.layers",
    "to_half_split": "companion.layers",
    "to_interleaved": "companion.layers",
    "BigBirdAttention": "companion.layers",
    "ChunkedAttention": "companion.layers",
    "LinearAttention": "companion.layers",
    "LinformerAttention": "companion.layers",
    "OnlineSoftmaxAttention": "companion.layers",
    "PerformerAttention": "companion.layers",
    "SlidingWindowAttention": "companion.layers",
    "bigbird_attention": "companion.layers",
    "bigbird_mask": "companion.layers",
    "bigbird_random_blocks": "companion.layers",
    "chunked_attention": "companion.layers",
    "linear_attention": "companion.layers",
    "linear_attention_recurrent": "companion.layers",
    "linear_attention_step": "companion.layers",
    "linformer_attention": "companion.layers",
    "online_softmax_attention": "companion.layers",
    "performer_attention": "companion.layers",
    "positive_features": "companion.layers",
    "random_features": "companion.layers",
    "sliding_window_attention": "companion.layers",
    "longformer_mask": "companion.layers",
    "trigonometric_features": "companion.layers",
    # models
    "BART": "companion.models.bart",
    "ALBERT": "companion.models.albert",
    "ALBERTForPreTraining": "companion.models.albert",
    "BERT": "companion.models.bert",
    "BERTForPreTraining": "companion.models.bert",
    "BERTForQuestionAnswering": "companion.models.bert_tasks",
    "BERTForSequenceClassification": "companion.models.bert_tasks",
    "BERTForTokenClassification": "companion.models.bert_tasks",
    "DecoderOnlyTransformer": "companion.models.decoder_only",
    "EncoderOnlyTransformer": "companion.models.encoder_only",
    "GPT": "companion.models.gpt",
    "LLaMA": "companion.models.llama",
    "Marian": "companion.models.marian",
    "Mistral": "companion.models.mistral",
    "PaLM": "companion.models.palm",
    "RecurrentLanguageModel": "companion.models.recurrent",
    "RecurrentTranslator": "companion.models.recurrent",
    "RoBERTa": "companion.models.roberta",
    "RoBERTaForMaskedLM": "companion.models.roberta",
    "T5": "companion.models.t5",
    "Transformer": "companion.models.transformer",
    "TransformerDecoder": "companion.models.transformer",
    "TransformerEncoder": "companion.models.transformer",
    "BigBird": "companion.models.bigbird",
    "BigBirdForPreTraining": "companion.models.bigbird",
    "Longformer": "companion.models.longformer",
    "LongformerForMaskedLM": "companion.models.longformer",
    # generation
    "Beams": "companion.generation",
    "GivenSource": "companion.generation",
    "Greedy": "companion.generation",
    "Sampling": "companion.generation",
    "Speculation": "companion.generation",
    "beam_search": "companion.generation",
    "generate": "companion.generation",
    "speculative_generate": "companion.generation",
    "stream": "companion.generation",
    "translate": "companion.generation",
    # training
    "CheckpointError": "companion.training",
    "Checkpoints": "companion.training",
    "CosineWithWarmup": "companion.training",
    "PairBatch": "companion.training",
    "TokenBatches": "companion.training",
    "Trainer": "companion.training",
    "TrainingError": "companion.training",
    "TransformerLRScheduler": "companion.training",
    "collate_pairs": "companion.training",
    "cosine_lr": "companion.training",
    "evaluate": "companion.training",
    "label_smoothed_cross_entropy": "companion.training",
    "load_checkpoint": "companion.training",
    "load_weights": "companion.training",
    "mask_tokens": "companion.training",
    "perplexity": "companion.training",
    "save_checkpoint": "companion.training",
    "sentence_pairs": "companion.training",
    "train_transformer": "companion.training",
    "transformer_lr": "companion.training",
    "translation_loss": "companion.training",
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
