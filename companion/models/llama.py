"""LLaMA: GPT with four parts exchanged, and the frame of most open models since.

RMS norm for layer norm, rotary positions for a learned table, a gated feed-forward
network for a plain one, and from LLaMA 2 on fewer key-value heads than query heads. No
map has a bias.

Sources: Touvron et al. (2023a), "LLaMA: Open and Efficient Foundation Language Models",
section 2.2 and table 2; Touvron et al. (2023b), "Llama 2: Open Foundation and Fine-Tuned
Chat Models", section 2.2; Grattafiori et al. (2024), "The Llama 3 Herd of Models",
section 3.2 and table 3; Allal et al. (2025), "SmolLM2", for the smallest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from companion.layers import (
    GatedFeedForward,
    KeyValueCache,
    Llama3Scaling,
    MultiHeadAttention,
    RotaryEmbedding,
    RotaryScaling,
)
from companion.layers.feed_forward import ACTIVATIONS
from companion.layers.positions import Layout
from companion.models.decoder_only import DecoderOnlyTransformer
from companion.models.hf import (
    HFConfig,
    check_options,
    load_hf,
    read_hf,
    translate_name,
)
from companion.models.hf_rotary import rotary_from_hf


def _sizes(d_model: int, num_heads: int, d_ff: int, num_layers: int) -> dict[str, Any]:
    return {
        "d_model": d_model,
        "num_heads": num_heads,
        "d_ff": d_ff,
        "num_layers": num_layers,
    }


_LLAMA1 = {"vocab_size": 32000, "max_seq_len": 2048}
_LLAMA2 = {"vocab_size": 32000, "max_seq_len": 4096, "norm_eps": 1e-5}
_LLAMA3 = {
    "vocab_size": 128256,
    "max_seq_len": 8192,
    "num_kv_heads": 8,
    "rope_base": 500000.0,
    "norm_eps": 1e-5,
}
_LLAMA31 = _LLAMA3 | {"max_seq_len": 131072, "rope_scaling": Llama3Scaling(8.0, 8192)}

PRESETS: dict[str, dict[str, Any]] = {
    "llama-7b": _LLAMA1 | _sizes(4096, 32, 11008, 32),
    "llama-13b": _LLAMA1 | _sizes(5120, 40, 13824, 40),
    "llama-33b": _LLAMA1 | _sizes(6656, 52, 17920, 60),
    "llama-65b": _LLAMA1 | _sizes(8192, 64, 22016, 80),
    "llama2-7b": _LLAMA2 | _sizes(4096, 32, 11008, 32),
    "llama2-70b": _LLAMA2 | _sizes(8192, 64, 28672, 80) | {"num_kv_heads": 8},
    "llama3-8b": _LLAMA3 | _sizes(4096, 32, 14336, 32),
    "llama3-70b": _LLAMA3 | _sizes(8192, 64, 28672, 80),
    "llama3.1-405b": _LLAMA31 | _sizes(16384, 128, 53248, 126),
    "smollm2-135m": _sizes(576, 9, 1536, 30)
    | {
        "vocab_size": 49152,
        "max_seq_len": 8192,
        "num_kv_heads": 3,
        "rope_base": 100000.0,
        "norm_eps": 1e-5,
        "tied_output": True,
    },
}


class LLaMABlock(nn.Module):
    """x + attention(norm(x)), then x + SwiGLU(norm(x)), with RMS norm and no dropout.

    Args:
        d_model, d_ff: widths of the residual stream and inside the feed-forward network.
        attention: the attention layer.
        activation: of the gate.
        norm_eps: what RMS norm adds to the mean square.
        mlp_bias: whether the feed-forward network's maps have biases.
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        attention: MultiHeadAttention,
        *,
        activation: str = "silu",
        norm_eps: float = 1e-6,
        mlp_bias: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(d_model, eps=norm_eps)
        self.self_attention = attention
        self.norm2 = nn.RMSNorm(d_model, eps=norm_eps)
        self.feed_forward = GatedFeedForward(
            d_model, d_ff, activation=activation, bias=mlp_bias
        )

    def forward(
        self,
        x: Float[Tensor, "batch length d_model"],
        mask: Bool[Tensor, "..."] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        heard, _ = self.self_attention(
            self.norm1(x), mask=mask, is_causal=True, need_weights=False, cache=cache
        )
        x = x + heard
        return x + self.feed_forward(self.norm2(x))


class LLaMA(DecoderOnlyTransformer):
    """A decoder-only language model of `LLaMABlock`, with an RMS norm at the end.

    No position has an embedding: rotary positions turn queries and keys in each layer.
    They end nowhere, so the model reads texts longer than ``max_seq_len`` too, and
    badly; generation refuses to.

    Args:
        vocab_size: number of distinct tokens.
        d_model: width of the residual stream.
        num_heads: query heads in a layer.
        d_ff: inner width of the feed-forward networks; about 8/3 of ``d_model``.
        num_layers: number of blocks.
        max_seq_len: the longest text in training.
        num_kv_heads: key-value heads in a layer, as in `MultiHeadAttention`.
        d_k: width of a head; ``d_model / num_heads`` by default.
        rope_base, rope_layout, rope_scaling: base, layout and scaling of
            `RotaryEmbedding`.
        window: how many positions a position sees, its own among them; by default all.
        activation: of the gate in the feed-forward networks.
        norm_eps: what RMS norm adds to the mean square.
        attention_bias, mlp_bias: whether those maps have biases; LLaMA's have none.
        attention_dropout: of the attention weights, in training.
        tied_output: whether the output projection is the token embedding once more.

    Raises:
        ValueError: sizes that `MultiHeadAttention` refuses, or an unknown activation.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = PRESETS

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        num_heads: int,
        d_ff: int,
        num_layers: int,
        max_seq_len: int = 2048,
        *,
        num_kv_heads: int | None = None,
        d_k: int | None = None,
        rope_base: float = 10000.0,
        rope_layout: Layout = "halves",
        rope_scaling: RotaryScaling | None = None,
        window: int | None = None,
        activation: str = "silu",
        norm_eps: float = 1e-6,
        attention_bias: bool = False,
        mlp_bias: bool = False,
        attention_dropout: float = 0.0,
        tied_output: bool = False,
    ) -> None:
        nn.Module.__init__(self)  # other parts than its parent's, used in the same way
        self.max_seq_len = max_seq_len
        self.token_embedding = nn.Embedding(vocab_size, d_model)
        rotary = RotaryEmbedding(
            d_model // num_heads if d_k is None else d_k,
            rope_base,
            rope_layout,
            scaling=rope_scaling,
        )
        self.layers = nn.ModuleList(
            LLaMABlock(
                d_model,
                d_ff,
                MultiHeadAttention(
                    d_model,
                    num_heads,
                    num_kv_heads,
                    d_k=d_k,
                    dropout=attention_dropout,
                    bias=attention_bias,
                    rotary=rotary,
                    window=window,
                ),
                activation=activation,
                norm_eps=norm_eps,
                mlp_bias=mlp_bias,
            )
            for _ in range(num_layers)
        )
        self.norm = nn.RMSNorm(d_model, eps=norm_eps)
        self.output_projection = nn.Linear(d_model, vocab_size, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        if tied_output:
            self.output_projection.weight = self.token_embedding.weight

    def hidden_states(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> list[Float[Tensor, "batch length d_model"]]:
        """The embeddings, then what each block makes of them: ``num_layers + 1`` tensors.

        The last has gone through the last norm: it is what the output projection reads.
        """
        states = [self.token_embedding(token_ids)]
        for layer in self.layers:
            states.append(layer(states[-1], mask, cache=cache))
        states[-1] = self.norm(states[-1])
        return states

    @classmethod
    def preset(cls, name: str, **changes: Any) -> LLaMA:
        """A model of a published size, with fresh weights; ``cls.presets`` has the names.

        Most fit no laptop. Inside ``with torch.device("meta"):`` a model of any size is
        made without memory, to be counted.

        Raises:
            ValueError: the preset is not known.
        """
        if name not in cls.presets:
            raise ValueError(
                f"name must be one of {', '.join(cls.presets)}, but it is {name!r}"
            )
        return cls(**(cls.presets[name] | changes))

    @classmethod
    def from_hf(cls, path_or_model: str | Path | nn.Module) -> LLaMA:
        """A model with the weights of Hugging Face's, in evaluation mode.

        Args:
            path_or_model: a ``transformers`` model for causal language modeling, or a
                local folder with ``config.json`` and ``model.safetensors``.

        Raises:
            TypeError, ValueError: not such a model or folder, an option that is not
                implemented, or weights that don't fit.
        """
        config, weights = read_hf(path_or_model)
        check_options(config, cls._supported(), cls.__name__)
        model = cls(**cls._options(config))
        if model.output_projection.weight is model.token_embedding.weight:
            weights = _with_tied_head(weights)
        load_hf(model, weights, _RULES, _IGNORED)
        return model.eval()

    def hf_weights(self) -> dict[str, Tensor]:
        """The weights under the names of Hugging Face, not copied: the way back."""
        backwards = {ours: theirs for theirs, ours in _RULES.items()}
        return {
            translate_name(name, backwards): weight
            for name, weight in self.state_dict().items()
        }

    @classmethod
    def _supported(cls) -> dict[str, tuple[Any, ...]]:
        return _SUPPORTED

    @classmethod
    def _options(cls, config: HFConfig) -> dict[str, Any]:
        base, scaling = rotary_from_hf(config, cls.__name__)
        return {
            "vocab_size": config["vocab_size"],
            "d_model": config["hidden_size"],
            "num_heads": config["num_attention_heads"],
            "d_ff": config["intermediate_size"],
            "num_layers": config["num_hidden_layers"],
            "max_seq_len": config["max_position_embeddings"],
            "num_kv_heads": config.get("num_key_value_heads"),
            "d_k": config.get("head_dim"),
            "rope_base": base,
            "rope_scaling": scaling,
            "activation": config["hidden_act"],
            "norm_eps": config["rms_norm_eps"],
            "attention_bias": config.get("attention_bias", False),
            "mlp_bias": config.get("mlp_bias", False),
            "attention_dropout": config.get("attention_dropout") or 0.0,
            "tied_output": config.get("tie_word_embeddings", False),
        }


def _with_tied_head(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights with the head that a tied checkpoint leaves out."""
    embedding = weights.get("model.embed_tokens.weight")
    if embedding is None:
        return weights  # load_hf says so
    head = weights.get("lm_head.weight", embedding)
    if not torch.equal(head, embedding):
        raise ValueError(
            "tie_word_embeddings is True, but lm_head.weight is not the token embedding: "
            "set it to False in the config"
        )
    return weights | {"lm_head.weight": embedding}


# Hugging Face's names and ours.
_RULES = {
    "model.embed_tokens.weight": "token_embedding.weight",
    "model.layers.*.input_layernorm.weight": "layers.*.norm1.weight",
    "model.layers.*.self_attn.q_proj.*": "layers.*.self_attention.W_q.*",
    "model.layers.*.self_attn.k_proj.*": "layers.*.self_attention.W_k.*",
    "model.layers.*.self_attn.v_proj.*": "layers.*.self_attention.W_v.*",
    "model.layers.*.self_attn.o_proj.*": "layers.*.self_attention.W_o.*",
    "model.layers.*.post_attention_layernorm.weight": "layers.*.norm2.weight",
    "model.layers.*.mlp.gate_proj.*": "layers.*.feed_forward.W_1.*",
    "model.layers.*.mlp.up_proj.*": "layers.*.feed_forward.V.*",
    "model.layers.*.mlp.down_proj.*": "layers.*.feed_forward.W_2.*",
    "model.norm.weight": "norm.weight",
    "lm_head.weight": "output_projection.weight",
}

# The angles of old checkpoints, which the config says as well.
_IGNORED = ("model.layers.*.self_attn.rotary_emb.inv_freq",)

_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "model_type": ("llama",),
    "hidden_act": tuple(ACTIVATIONS),
    "pretraining_tp": (1, None),
    "quantization_config": (None,),
}
