"""BART: an encoder-decoder that learns by repairing damaged text.

Source: Lewis et al. (2020), "BART: Denoising Sequence-to-Sequence Pre-training for
Natural Language Generation, Translation, and Comprehension", section 2.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from companion.layers import (
    DecoderLayer,
    EncoderLayer,
    KeyValueCache,
    LearnedPositionalEmbedding,
)
from companion.layers.feed_forward import ACTIVATIONS
from companion.models.hf import check_options, load_hf, read_hf
from companion.models.seq2seq import EncoderDecoder

# Section 2.1 gives the layers; the widths are those of BERT's sizes.
PRESETS = {
    "base": {
        "d_model": 768,
        "num_heads": 12,
        "d_ff": 3072,
        "num_encoder_layers": 6,
        "num_decoder_layers": 6,
    },
    "large": {
        "d_model": 1024,
        "num_heads": 16,
        "d_ff": 4096,
        "num_encoder_layers": 12,
        "num_decoder_layers": 12,
    },
}

# The authors' code counts positions from padding_id + 1 = 2 on; the first two are idle.
_FIRST_POSITION = 2


class BARTStack(nn.Module):
    """Learned positions, a norm, then post-norm layers."""

    def __init__(
        self,
        layers: list[EncoderLayer] | list[DecoderLayer],
        d_model: int,
        max_seq_len: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.positions = LearnedPositionalEmbedding(
            d_model, max_seq_len + _FIRST_POSITION
        )
        self.norm = nn.LayerNorm(d_model)
        self.layers = nn.ModuleList(layers)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch length d_model"],
        *reads: Tensor | None,
        cache: KeyValueCache | None = None,
    ) -> list[Float[Tensor, "batch length d_model"]]:
        """The embeddings, then what each layer makes of them.

        ``reads`` is what the layers take besides: masks, and the decoder's memory.
        """
        past = 0 if cache is None else cache.length
        x = self.positions(x, offset=past + _FIRST_POSITION)
        states = [self.dropout(self.norm(x))]
        for layer in self.layers:
            states.append(layer(states[-1], *reads, cache=cache))
        return states


class BART(EncoderDecoder):
    """The Transformer of 2017 with learned positions, GELU, and a norm on its embeddings.

    Args:
        vocab_size: number of tokens. One embedding serves source, target and output.
        d_model: width of the residual streams.
        num_heads: attention heads in a layer.
        d_ff: inner width of the feed-forward networks.
        num_encoder_layers: layers that read.
        num_decoder_layers: layers that write.
        max_seq_len: the longest source or target.
        dropout: of the embeddings and of each sub-layer's output.
        activation: of the feed-forward networks.
        attention_dropout: for the attention weights.
        hidden_dropout: for the hidden units of the feed-forward networks.
        scaled_embedding: whether token vectors are multiplied by ``sqrt(d_model)``.
        pad_id, start_id, eos_id: padding, what the decoder reads first, and what ends
            a text.

    Raises:
        ValueError: sizes that the layers refuse.
    """

    def __init__(
        self,
        vocab_size: int = 50265,
        d_model: int = 768,
        num_heads: int = 12,
        d_ff: int = 3072,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        max_seq_len: int = 1024,
        dropout: float = 0.1,
        *,
        activation: str = "gelu",
        attention_dropout: float = 0.0,
        hidden_dropout: float = 0.0,
        scaled_embedding: bool = False,
        pad_id: int = 1,
        start_id: int = 2,
        eos_id: int = 2,
    ) -> None:
        super().__init__()
        self.max_seq_len = max_seq_len
        self.pad_id, self.start_id, self.eos_id = pad_id, start_id, eos_id
        self.scale = math.sqrt(d_model) if scaled_embedding else 1.0
        self.embedding = nn.Embedding(vocab_size, d_model, padding_idx=pad_id)
        sizes = (d_model, num_heads, d_ff, dropout)
        options = {
            "activation": activation,
            "attention_dropout": attention_dropout,
            "hidden_dropout": hidden_dropout,
        }
        self.encoder = BARTStack(
            [EncoderLayer(*sizes, **options) for _ in range(num_encoder_layers)],
            d_model,
            max_seq_len,
            dropout,
        )
        self.decoder = BARTStack(
            [DecoderLayer(*sizes, **options) for _ in range(num_decoder_layers)],
            d_model,
            max_seq_len,
            dropout,
        )
        # Not learned: fine-tuned checkpoints use it to forbid tokens.
        self.register_buffer("logits_bias", torch.zeros(1, vocab_size))
        self.apply(_initialize)

    @classmethod
    def preset(cls, name: str, vocab_size: int = 50265, **changes: Any) -> BART:
        """``"base"`` (139 M parameters) or ``"large"`` (406 M).

        Raises:
            ValueError: the preset is not known.
        """
        if name not in PRESETS:
            raise ValueError(
                f"name must be one of {', '.join(PRESETS)}, but it is {name!r}"
            )
        return cls(vocab_size, **(PRESETS[name] | changes))

    def encoder_states(
        self,
        source_ids: Int[Tensor, "batch source"],
        source_mask: Bool[Tensor, "..."] | None = None,
    ) -> list[Float[Tensor, "batch source d_model"]]:
        return self.encoder(self.embedding(source_ids) * self.scale, source_mask)

    def decoder_states(
        self,
        target_ids: Int[Tensor, "batch target"],
        memory: Float[Tensor, "batch source d_model"],
        source_mask: Bool[Tensor, "..."] | None = None,
        target_mask: Bool[Tensor, "..."] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> list[Float[Tensor, "batch target d_model"]]:
        x = self.embedding(target_ids) * self.scale
        return self.decoder(x, memory, source_mask, target_mask, cache=cache)

    def logits(
        self, x: Float[Tensor, "batch target d_model"]
    ) -> Float[Tensor, "batch target vocab"]:
        return F.linear(x, self.embedding.weight) + self.logits_bias

    @classmethod
    def from_hf(cls, path_or_model: str | Path | nn.Module) -> BART:
        """A BART with the weights of Hugging Face's, in evaluation mode.

        Args:
            path_or_model: a ``transformers`` ``BartForConditionalGeneration``, or a
                local folder with ``config.json`` and ``model.safetensors``.

        Raises:
            TypeError, ValueError: not such a model or folder, an option that is not
                implemented, or weights that don't fit.
        """
        config, theirs = read_hf(path_or_model)
        check_options(config, _SUPPORTED, "BART")
        for what in ("attention_heads", "ffn_dim"):
            sizes = config[f"encoder_{what}"], config[f"decoder_{what}"]
            if sizes[0] != sizes[1]:
                raise ValueError(
                    f"BART has the same {what} in both stacks, but encoder_{what} is "
                    f"{sizes[0]} and decoder_{what} is {sizes[1]}"
                )
        shared = theirs.get("model.shared.weight")

        def is_copy(name: str) -> bool:
            return name in _COPIES and shared is not None and theirs[name].equal(shared)

        weights = {name: w for name, w in theirs.items() if not is_copy(name)}
        model = cls(
            vocab_size=config["vocab_size"],
            d_model=config["d_model"],
            num_heads=config["encoder_attention_heads"],
            d_ff=config["encoder_ffn_dim"],
            num_encoder_layers=config["encoder_layers"],
            num_decoder_layers=config["decoder_layers"],
            max_seq_len=config["max_position_embeddings"],
            dropout=config["dropout"],
            activation=config["activation_function"],
            attention_dropout=config["attention_dropout"],
            hidden_dropout=config["activation_dropout"],
            scaled_embedding=config["scale_embedding"],
            pad_id=config["pad_token_id"],
            start_id=config["decoder_start_token_id"],
            eos_id=config["eos_token_id"],
        )
        # A folder leaves the bias out where it is zero.
        weights.setdefault("final_logits_bias", torch.zeros_like(model.logits_bias))
        load_hf(model, weights, _RULES)
        return model.eval()


def _initialize(module: nn.Module) -> None:
    """As BERT: deviation 0.02, no biases, and nothing for padding."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        with torch.no_grad():
            module.weight[module.padding_idx].zero_()


# Hugging Face's names and ours.
_RULES = {
    "model.shared.weight": "embedding.weight",
    "final_logits_bias": "logits_bias",
    "model.*.embed_positions.weight": "*.positions.position_embeddings.weight",
    "model.*.layernorm_embedding.*": "*.norm.*",
    "model.*.layers.*.fc1.*": "*.layers.*.feed_forward.W_1.*",
    "model.*.layers.*.fc2.*": "*.layers.*.feed_forward.W_2.*",
    "model.*.layers.*.self_attn_layer_norm.*": "*.layers.*.norm1.*",
    "model.decoder.layers.*.encoder_attn_layer_norm.*": "decoder.layers.*.norm2.*",
    "model.encoder.layers.*.final_layer_norm.*": "encoder.layers.*.norm2.*",
    "model.decoder.layers.*.final_layer_norm.*": "decoder.layers.*.norm3.*",
}
_RULES |= {
    f"model.*.layers.*.{theirs}.{x}.*": f"*.layers.*.{ours}.{y}.*"
    for theirs, ours in (
        ("self_attn", "self_attention"),
        ("encoder_attn", "cross_attention"),
    )
    for x, y in (
        ("q_proj", "W_q"),
        ("k_proj", "W_k"),
        ("v_proj", "W_v"),
        ("out_proj", "W_o"),
    )
}

_COPIES = (
    "model.encoder.embed_tokens.weight",
    "model.decoder.embed_tokens.weight",
    "lm_head.weight",
)

_SUPPORTED = {
    "model_type": ("bart",),
    "activation_function": tuple(ACTIVATIONS),
    "encoder_layerdrop": (0.0,),
    "decoder_layerdrop": (0.0,),
    "is_encoder_decoder": (True,),
    "tie_word_embeddings": (True,),
    "normalize_before": (False,),
    "add_final_layer_norm": (False,),
    "normalize_embedding": (True,),
    "static_position_embeddings": (False,),
    "quantization_config": (None,),
}
