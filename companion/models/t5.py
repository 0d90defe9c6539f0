"""T5: every task is text in, text out, for one encoder-decoder.

Sources: Raffel et al. (2020), "Exploring the Limits of Transfer Learning with a Unified
Text-to-Text Transformer", section 2.1 and the sizes of section 3.7; Shazeer (2020), "GLU
Variants Improve Transformer", whose gated units are in the versions 1.1; Xue et al.
(2021), "mT5: A Massively Multilingual Pre-trained Text-to-Text Transformer".
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from companion.layers import (
    GatedFeedForward,
    KeyValueCache,
    MultiHeadAttention,
    PositionwiseFeedForward,
    RMSNorm,
    T5RelativeBias,
)
from companion.layers.feed_forward import ACTIVATIONS
from companion.models.hf import check_options, load_hf, read_hf
from companion.models.seq2seq import EncoderDecoder


def _size(d_model: int, num_heads: int, d_k: int, d_ff: int, layers: int) -> dict:
    return {
        "d_model": d_model,
        "num_heads": num_heads,
        "d_k": d_k,
        "d_ff": d_ff,
        "num_encoder_layers": layers,
        "num_decoder_layers": layers,
    }


_V1_1 = {"activation": "gelu_new", "gated": True, "tied_output": False}
PRESETS = {
    # Raffel et al. (2020), section 3.7.
    "small": _size(512, 8, 64, 2048, 6),
    "base": _size(768, 12, 64, 3072, 12),
    "large": _size(1024, 16, 64, 4096, 24),
    "3B": _size(1024, 32, 128, 16384, 24),
    "11B": _size(1024, 128, 128, 65536, 24),
    # The authors' later versions; mT5 has the same sizes and 250112 tokens.
    "v1.1-small": _size(512, 6, 64, 1024, 8) | _V1_1,
    "v1.1-base": _size(768, 12, 64, 2048, 12) | _V1_1,
    "v1.1-large": _size(1024, 16, 64, 2816, 24) | _V1_1,
    "v1.1-xl": _size(2048, 32, 64, 5120, 24) | _V1_1,
    "v1.1-xxl": _size(4096, 64, 64, 10240, 24) | _V1_1,
}


class T5Layer(nn.Module):
    """Self-attention, attention to a memory where there is one, feed-forward; pre-norm.

    RMS norm before each sub-layer, no bias anywhere, and scores that are not scaled.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_k: int,
        d_ff: int,
        dropout: float,
        *,
        activation: str,
        gated: bool,
        norm_eps: float,
        has_memory: bool,
    ) -> None:
        super().__init__()
        attention = partial(
            MultiHeadAttention,
            d_model,
            num_heads,
            d_k=d_k,
            dropout=dropout,
            bias=False,
            scale=1.0,  # the initial weights are small instead
        )
        self.norm1 = RMSNorm(d_model, norm_eps)
        self.self_attention = attention()
        if has_memory:
            self.norm2 = RMSNorm(d_model, norm_eps)
            self.cross_attention = attention()
        self.norm3 = RMSNorm(d_model, norm_eps)
        network = GatedFeedForward if gated else PositionwiseFeedForward
        self.feed_forward = network(d_model, d_ff, dropout, activation, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch length d_model"],
        mask: Bool[Tensor, "..."] | None,
        bias: Float[Tensor, "1 heads length keys"],
        memory: Float[Tensor, "batch source d_model"] | None = None,
        source_mask: Bool[Tensor, "..."] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        """With a ``memory`` this is a layer of the decoder, and hides the future."""
        options = {"need_weights": False, "cache": cache}
        back, _ = self.self_attention(
            self.norm1(x),
            mask=mask,
            bias=bias,
            is_causal=memory is not None,
            **options,
        )
        x = x + self.dropout(back)
        if memory is not None:
            across, _ = self.cross_attention(
                self.norm2(x), memory, mask=source_mask, **options
            )
            x = x + self.dropout(across)
        return x + self.dropout(self.feed_forward(self.norm3(x)))


class T5Stack(nn.Module):
    """Layers that share one table of relative positions, and a norm after the last."""

    def __init__(
        self, layers: list[T5Layer], relative_bias: T5RelativeBias, norm: RMSNorm
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.relative_bias = relative_bias
        self.norm = norm
        self.dropout = nn.Dropout(layers[0].dropout.p)

    def forward(
        self,
        x: Float[Tensor, "batch length d_model"],
        mask: Bool[Tensor, "..."] | None,
        memory: Float[Tensor, "batch source d_model"] | None = None,
        source_mask: Bool[Tensor, "..."] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> list[Float[Tensor, "batch length d_model"]]:
        """The input, then what each layer makes of it; the last is normed."""
        past = 0 if cache is None else cache.length
        bias = self.relative_bias(x.shape[1], past + x.shape[1])  # (1, H, L, past + L)
        states = [self.dropout(x)]
        for layer in self.layers:
            states.append(
                layer(states[-1], mask, bias, memory, source_mask, cache=cache)
            )
        states[-1] = self.dropout(self.norm(states[-1]))
        return states


class T5(EncoderDecoder):
    """The encoder-decoder of Raffel et al. (2020), of its versions 1.1, and of mT5.

    There are no position embeddings: where a token stands is told by what the distance
    to another adds to their score. So there is no longest sequence.

    Args:
        vocab_size: number of tokens, the sentinels among them. One embedding serves
            source and target.
        d_model: width of the residual streams.
        num_heads: attention heads in a layer.
        d_k: width of a head, whatever ``num_heads * d_k`` may be.
        d_ff: inner width of the feed-forward networks.
        num_encoder_layers: layers that read.
        num_decoder_layers: layers that write.
        dropout: of the embeddings, in the layers and before the output.
        activation: of the feed-forward networks.
        gated: `GatedFeedForward` (version 1.1) instead of the plain network.
        tied_output: whether the output projection is the embedding once more.
        scaled_output: whether the last states are multiplied by ``d_model**-0.5``
            before the output projection; by default where it is tied, since the
            components of an embedding have variance 1.
        num_buckets, max_distance: of the relative positions, see `t5_buckets`.
        norm_eps: what RMS norm adds to the mean square.
        pad_id, start_id, eos_id: padding, what the decoder reads first, and what ends
            a text.

    Raises:
        ValueError: sizes that the layers refuse, or no layers.
    """

    def __init__(
        self,
        vocab_size: int = 32128,
        d_model: int = 512,
        num_heads: int = 8,
        d_k: int = 64,
        d_ff: int = 2048,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dropout: float = 0.1,
        *,
        activation: str = "relu",
        gated: bool = False,
        tied_output: bool = True,
        scaled_output: bool | None = None,
        num_buckets: int = 32,
        max_distance: int = 128,
        norm_eps: float = 1e-6,
        pad_id: int = 0,
        start_id: int = 0,
        eos_id: int = 1,
    ) -> None:
        super().__init__()
        self.d_model = d_model
        self.pad_id, self.start_id, self.eos_id = pad_id, start_id, eos_id
        self.scaled_output = tied_output if scaled_output is None else scaled_output
        self.embedding = nn.Embedding(vocab_size, d_model)

        def stack(num_layers: int, has_memory: bool) -> T5Stack:
            if num_layers < 1:
                raise ValueError(
                    f"num_encoder_layers and num_decoder_layers must be at least 1, "
                    f"but one is {num_layers}"
                )
            layers = [
                T5Layer(
                    d_model,
                    num_heads,
                    d_k,
                    d_ff,
                    dropout,
                    activation=activation,
                    gated=gated,
                    norm_eps=norm_eps,
                    has_memory=has_memory,
                )
                for _ in range(num_layers)
            ]
            bias = T5RelativeBias(num_heads, num_buckets, max_distance, not has_memory)
            return T5Stack(layers, bias, RMSNorm(d_model, norm_eps))

        self.encoder = stack(num_encoder_layers, has_memory=False)
        self.decoder = stack(num_decoder_layers, has_memory=True)
        self.output_projection = (
            None if tied_output else nn.Linear(d_model, vocab_size, bias=False)
        )
        self.apply(_initialize)
        nn.init.normal_(self.embedding.weight)

    @classmethod
    def preset(cls, name: str, vocab_size: int = 32128, **changes: Any) -> T5:
        """One of ``PRESETS``: ``"small"`` (60 M parameters) to ``"11B"``, or a v1.1.

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
        return self.encoder(self.embedding(source_ids), source_mask)

    def decoder_states(
        self,
        target_ids: Int[Tensor, "batch target"],
        memory: Float[Tensor, "batch source d_model"],
        source_mask: Bool[Tensor, "..."] | None = None,
        target_mask: Bool[Tensor, "..."] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> list[Float[Tensor, "batch target d_model"]]:
        x = self.embedding(target_ids)
        return self.decoder(x, target_mask, memory, source_mask, cache=cache)

    def logits(
        self, x: Float[Tensor, "batch target d_model"]
    ) -> Float[Tensor, "batch target vocab"]:
        if self.scaled_output:
            x = x * self.d_model**-0.5
        if self.output_projection is None:
            return F.linear(x, self.embedding.weight)
        return self.output_projection(x)

    @classmethod
    def from_hf(cls, path_or_model: str | Path | nn.Module) -> T5:
        """A T5 with the weights of Hugging Face's, in evaluation mode.

        Args:
            path_or_model: a ``transformers`` ``T5ForConditionalGeneration`` or
                ``MT5ForConditionalGeneration``, or a local folder with ``config.json``
                and ``model.safetensors``.

        Raises:
            TypeError, ValueError: not such a model or folder, an option that is not
                implemented, or weights that don't fit.
        """
        config, theirs = read_hf(path_or_model)
        check_options(config, _SUPPORTED, "T5")
        shared = theirs.get("shared.weight")

        def is_copy(name: str) -> bool:
            return name in _COPIES and shared is not None and theirs[name].equal(shared)

        weights = {name: w for name, w in theirs.items() if not is_copy(name)}
        gate, _, activation = config["feed_forward_proj"].rpartition("-")
        if config["feed_forward_proj"] == "gated-gelu":
            activation = "gelu_new"  # what the name meant when the weights were made
        # Version 1.1 doesn't scale. It is told apart by an option of its own, or in
        # older configs by that its output is not tied.
        unscaled = config.get("tie_word_embeddings", True) is False
        by_default = config["model_type"] == "t5" and not unscaled
        model = cls(
            vocab_size=config["vocab_size"],
            d_model=config["d_model"],
            num_heads=config["num_heads"],
            d_k=config["d_kv"],
            d_ff=config["d_ff"],
            num_encoder_layers=config["num_layers"],
            num_decoder_layers=config.get("num_decoder_layers") or config["num_layers"],
            dropout=config["dropout_rate"],
            activation=activation,
            gated=gate == "gated",
            tied_output="lm_head.weight" not in weights,
            scaled_output=config.get("scale_decoder_outputs", by_default),
            num_buckets=config["relative_attention_num_buckets"],
            max_distance=config.get("relative_attention_max_distance", 128),
            norm_eps=config["layer_norm_epsilon"],
            pad_id=config["pad_token_id"],
            start_id=config.get("decoder_start_token_id") or config["pad_token_id"],
            eos_id=config["eos_token_id"],
        )
        load_hf(model, weights, _RULES, _IGNORED)
        return model.eval()


def _initialize(module: nn.Module) -> None:
    """As the authors' code: deviation 1/sqrt(inputs), and 1/sqrt(d_k) less for queries."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=module.in_features**-0.5)
    elif isinstance(module, MultiHeadAttention):
        # `apply` comes to the parts first. Queries this small stand in for the scale.
        std = (module.d_model * module.d_k) ** -0.5
        nn.init.normal_(module.W_q.weight, std=std)
    elif isinstance(module, T5Stack):
        std = module.norm.weight.shape[0] ** -0.5
        nn.init.normal_(module.relative_bias.bias.weight, std=std)


# Hugging Face's names and ours.
_RULES = {
    "shared.weight": "embedding.weight",
    "lm_head.weight": "output_projection.weight",
    "*.final_layer_norm.weight": "*.norm.weight",
    "*.block.0.layer.0.SelfAttention.relative_attention_bias.weight": (
        "*.relative_bias.bias.weight"
    ),
}
for _stack, _sub_layers in {
    "encoder": (("SelfAttention", 1), ("DenseReluDense", 3)),
    "decoder": (("SelfAttention", 1), ("EncDecAttention", 2), ("DenseReluDense", 3)),
}.items():
    for _i, (_theirs, _norm) in enumerate(_sub_layers):
        _from, _to = f"{_stack}.block.*.layer.{_i}", f"{_stack}.layers.*"
        _RULES[f"{_from}.layer_norm.weight"] = f"{_to}.norm{_norm}.weight"
        _names = (
            {"wi": "W_1", "wi_0": "W_1", "wi_1": "V", "wo": "W_2"}
            if _theirs == "DenseReluDense"
            else {x: f"W_{x}" for x in "qkvo"}
        )
        _ours = {1: "self_attention", 2: "cross_attention", 3: "feed_forward"}[_norm]
        for _x, _y in _names.items():
            _RULES[f"{_from}.{_theirs}.{_x}.weight"] = f"{_to}.{_ours}.{_y}.weight"

_COPIES = (
    "encoder.embed_tokens.weight",
    "decoder.embed_tokens.weight",
    "lm_head.weight",
)
# The first release's files hold this table, which nothing reads.
_IGNORED = ("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",)

_SUPPORTED = {
    "model_type": ("t5", "mt5"),
    "feed_forward_proj": (*ACTIVATIONS, *(f"gated-{name}" for name in ACTIVATIONS)),
    "is_encoder_decoder": (True,),
    "quantization_config": (None,),
}
