"""GPT: one stack of causal blocks that is asked, at each token, for the next one.

Sources: Radford et al. (2018), "Improving Language Understanding by Generative
Pre-Training", section 4.1 (GPT); Radford et al. (2019), "Language Models are Unsupervised
Multitask Learners", section 2.3 and table 2 (GPT-2); Brown et al. (2020), "Language Models
are Few-Shot Learners", section 2.1 and table 2.1 (GPT-3).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from companion.layers.feed_forward import ACTIVATIONS
from companion.models.decoder_only import DecoderOnlyTransformer
from companion.models.hf import HFConfig, check_options, load_hf, read_hf

# GPT: section 4.1. GPT-2: table 2; the numbers of heads are those of its released code.
PRESETS: dict[str, dict[str, Any]] = {
    "gpt1": {
        "vocab_size": 40478,
        "d_model": 768,
        "num_heads": 12,
        "num_layers": 12,
        "max_seq_len": 512,
        "norm_first": False,
    },
    "gpt2": {"d_model": 768, "num_heads": 12, "num_layers": 12},
    "gpt2-medium": {"d_model": 1024, "num_heads": 16, "num_layers": 24},
    "gpt2-large": {"d_model": 1280, "num_heads": 20, "num_layers": 36},
    "gpt2-xl": {"d_model": 1600, "num_heads": 25, "num_layers": 48},
}


class GPT3Size(NamedTuple):
    """A row of Brown et al. (2020), table 2.1, as printed; ``parameters`` in words."""

    name: str
    parameters: str
    num_layers: int
    d_model: int
    num_heads: int
    d_head: int


GPT3_SIZES = (
    GPT3Size("Small", "125M", 12, 768, 12, 64),
    GPT3Size("Medium", "350M", 24, 1024, 16, 64),
    GPT3Size("Large", "760M", 24, 1536, 16, 96),
    GPT3Size("XL", "1.3B", 24, 2048, 24, 128),
    GPT3Size("2.7B", "2.7B", 32, 2560, 32, 80),
    GPT3Size("6.7B", "6.7B", 32, 4096, 32, 128),
    GPT3Size("13B", "13.0B", 40, 5140, 40, 128),
    GPT3Size("175B", "175.0B", 96, 12288, 96, 128),
)


class GPT(DecoderOnlyTransformer):
    """A `DecoderOnlyTransformer` with the choices of GPT-2; ``norm_first=False`` is GPT.

    Learned positions, a norm before each sub-layer and one at the end, the output
    projection tied to the token embedding, the tanh form of GELU, and dropout at three
    places: the embeddings, the attention weights and what each sub-layer adds. The
    feed-forward network's hidden units are never dropped.

    Args:
        vocab_size: number of distinct tokens.
        d_model: width of the residual stream.
        num_heads: attention heads in a block; they divide ``d_model``.
        d_ff: inner width of the feed-forward networks, ``4 * d_model`` by default.
        num_layers: number of blocks.
        max_seq_len: the longest sequence, for which there are position embeddings.
        dropout: of what each sub-layer adds.
        embedding_dropout, attention_dropout: ``dropout`` by default.
        activation: of the feed-forward networks.
        norm_first: pre-norm blocks and a last norm (GPT-2), or post-norm ones (GPT).
        layer_norm_eps: what layer norm adds to the variance.
        tied_output: whether the output projection is the token embedding once more.

    Raises:
        ValueError: the heads don't divide ``d_model``, a dropout is not a probability,
            or the activation is not known.
    """

    def __init__(
        self,
        vocab_size: int = 50257,
        d_model: int = 768,
        num_heads: int = 12,
        d_ff: int | None = None,
        num_layers: int = 12,
        max_seq_len: int = 1024,
        dropout: float = 0.1,
        *,
        embedding_dropout: float | None = None,
        attention_dropout: float | None = None,
        activation: str = "gelu_new",
        norm_first: bool = True,
        layer_norm_eps: float = 1e-5,
        tied_output: bool = True,
    ) -> None:
        super().__init__(
            vocab_size,
            d_model,
            num_heads,
            4 * d_model if d_ff is None else d_ff,
            num_layers,
            max_seq_len,
            dropout,
            embedding_dropout=embedding_dropout,
            attention_dropout=attention_dropout,
            hidden_dropout=0.0,
            activation=activation,
            norm_first=norm_first,
            layer_norm_eps=layer_norm_eps,
            tied_output=tied_output,
        )
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        if norm_first:
            self._shrink_what_is_added()

    def _shrink_what_is_added(self) -> None:
        """The residual stream is a sum of 2 * num_layers outputs: 1 / sqrt(that) of each.

        Radford et al. (2019), section 2.3.
        """
        with torch.no_grad():
            for layer in self.layers:
                for last in (layer.self_attention.W_o, layer.feed_forward.W_2):
                    last.weight.mul_((2 * len(self.layers)) ** -0.5)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> GPT:
        """A model of the papers' sizes, with fresh weights.

        ``"gpt1"`` (117 M parameters), ``"gpt2"`` (124 M), ``"gpt2-medium"`` (355 M),
        ``"gpt2-large"`` (774 M) or ``"gpt2-xl"`` (1558 M).

        Raises:
            ValueError: the preset is not known.
        """
        if name not in PRESETS:
            raise ValueError(
                f"name must be one of {', '.join(PRESETS)}, but it is {name!r}"
            )
        return cls(**(PRESETS[name] | changes))

    @classmethod
    def from_hf(cls, path_or_model: str | Path | nn.Module) -> GPT:
        """A GPT with the weights of Hugging Face's, in evaluation mode.

        Args:
            path_or_model: a ``transformers`` ``GPT2LMHeadModel``, ``GPT2Model``,
                ``OpenAIGPTLMHeadModel`` or ``OpenAIGPTModel``, or a local folder with
                ``config.json`` and ``model.safetensors``.

        Raises:
            TypeError, ValueError: not such a model or folder, an option that is not
                implemented, or weights that don't fit.
        """
        config, weights = read_hf(path_or_model)
        check_options(config, _SUPPORTED, "GPT")
        is_first = config["model_type"] == "openai-gpt"
        tied = config.get("tie_word_embeddings", True)
        model = cls(
            vocab_size=config["vocab_size"],
            d_model=config["n_embd"],
            num_heads=config["n_head"],
            d_ff=config.get("n_inner"),
            num_layers=config["n_layer"],
            max_seq_len=config["n_positions"],
            dropout=config["resid_pdrop"],
            embedding_dropout=config["embd_pdrop"],
            attention_dropout=config["attn_pdrop"],
            activation=_activation(config, is_first),
            norm_first=not is_first,
            layer_norm_eps=config["layer_norm_epsilon"],
            tied_output=tied,
        )
        load_hf(model, _as_linear(weights, tied), _RULES, _IGNORED)
        return model.eval()


def _activation(config: HFConfig, is_first: bool) -> str:
    if not is_first:
        return config["activation_function"]
    # What Hugging Face's GPT calls gelu is the tanh form, as in the authors' code.
    return "gelu_new" if config["afn"] == "gelu" else config["afn"]


def _as_linear(weights: dict[str, Tensor], tied: bool) -> dict[str, Tensor]:
    """GPT-2's weights as `torch.nn.Linear` wants them, with a weight for the output.

    The authors' code multiplies x W with W stored as (in, out), which Hugging Face keeps
    ("Conv1D"); a Linear stores (out, in). Most of these matrices would not fit unturned.
    The attention's output projection is square: it would fit, and be wrong.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        name = name.removeprefix("transformer.")
        if name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight")):
            tensor = tensor.T
        if ".c_attn." in name:  # queries, keys and values, one under the other
            for part, rows in zip("qkv", tensor.chunk(3), strict=True):
                found[name.replace("c_attn", f"W_{part}")] = rows
        else:
            found[name] = tensor
    if tied:
        embedding = "tokens_embed" if "tokens_embed.weight" in found else "wte"
        if f"{embedding}.weight" in found:
            head = found.setdefault("lm_head.weight", found[f"{embedding}.weight"])
            if not torch.equal(head, found[f"{embedding}.weight"]):
                raise ValueError(
                    "tie_word_embeddings is True, but lm_head.weight is not the token "
                    "embedding: set it to False in the config"
                )
    return found


# Hugging Face's names, after `_as_linear`, and ours.
_RULES = {
    "wte.weight": "token_embedding.weight",
    "tokens_embed.weight": "token_embedding.weight",
    "wpe.weight": "positions.position_embeddings.weight",
    "positions_embed.weight": "positions.position_embeddings.weight",
    "h.*.attn.c_proj.*": "layers.*.self_attention.W_o.*",
    "h.*.attn.*.weight": "layers.*.self_attention.*.weight",
    "h.*.attn.*.bias": "layers.*.self_attention.*.bias",
    "h.*.mlp.c_fc.*": "layers.*.feed_forward.W_1.*",
    "h.*.mlp.c_proj.*": "layers.*.feed_forward.W_2.*",
    "h.*.ln_1.*": "layers.*.norm1.*",
    "h.*.ln_2.*": "layers.*.norm2.*",
    "ln_f.*": "norm.*",
    "lm_head.weight": "output_projection.weight",
}

# Causal masks and what filled them, which old versions stored.
_IGNORED = ("h.*.attn.bias", "h.*.attn.masked_bias")

_SUPPORTED = {
    "model_type": ("gpt2", "openai-gpt"),
    "activation_function": tuple(ACTIVATIONS),
    "afn": ("gelu", "relu", "silu"),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "reorder_and_upcast_attn": (False,),
    "add_cross_attention": (False,),
    "pruned_heads": ({}, None),
    "quantization_config": (None,),
}
