"""GGUF files, in which a whole model lies quantized: read, unpacked, put into a `LLaMA`.

GGUF is the format of llama.cpp: named numbers and texts (the metadata), then tensors in
blocks of 32 weights of 4 to 8 bits with a scale each. The ``gguf`` package reads both.

Source: the specification at github.com/ggml-org/ggml, docs/gguf.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from companion.layers import to_half_split
from companion.models.hf import HFConfig, check_options, load_hf
from companion.models.llama import LLaMA


class GGUF(NamedTuple):
    """What a file holds.

    Attributes:
        metadata: options, vocabulary, chat template, by names such as
            ``"llama.block_count"``. Asking for one that is missing is a ValueError.
        weights: float32, by the names of llama.cpp, as they lie in the file.
        kinds: how each was stored, such as ``"Q4_1"``.
    """

    metadata: HFConfig
    weights: dict[str, Tensor]
    kinds: dict[str, str]


def read_gguf(path: str | Path) -> GGUF:
    """Read a GGUF file and unpack its weights to float32.

    Raises:
        ValueError: there is no such file, or it is not GGUF.
    """
    from gguf import GGUFReader
    from gguf.quants import dequantize

    path = Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"path must be a GGUF file, but {str(path)!r} is not a file")
    try:
        reader = GGUFReader(path)
    except ValueError as error:
        raise ValueError(f"{path} is not a readable GGUF file: {error}") from error
    metadata = {name: field.contents() for name, field in reader.fields.items()}
    weights, kinds = {}, {}
    for tensor in reader.tensors:
        unpacked = dequantize(tensor.data, tensor.tensor_type)
        # What is float32 already comes as a view of the file, which is read-only.
        weights[tensor.name] = torch.tensor(unpacked)
        kinds[tensor.name] = tensor.tensor_type.name
    return GGUF(HFConfig(metadata), weights, kinds)


def llama_from_gguf(file: GGUF | str | Path) -> LLaMA:
    """A `LLaMA` with the weights of a GGUF file, in evaluation mode.

    The converter to GGUF reorders the rows of W_q and W_k, head by head, so that the
    numbers which turn together are neighbors. `to_half_split` puts them back, and the
    model has the layout ``"halves"``, as one from Hugging Face.

    Args:
        file: the file, or what `read_gguf` has read of it.

    Raises:
        ValueError: not a GGUF file, not a LLaMA, an option that is not implemented, or
            weights that don't fit.
    """
    metadata, weights, _ = file if isinstance(file, GGUF) else read_gguf(file)
    check_options(metadata, _SUPPORTED, "LLaMA")
    d_model = metadata["llama.embedding_length"]
    num_heads = metadata["llama.attention.head_count"]
    d_k = metadata.get("llama.attention.key_length", d_model // num_heads)
    turning = metadata.get("llama.rope.dimension_count", d_k)
    if turning != d_k:
        raise ValueError(
            f"llama.rope.dimension_count must be {d_k}, the width of a head, but it is "
            f"{turning}"
        )
    tied = "output.weight" not in weights
    model = LLaMA(
        vocab_size=len(weights["token_embd.weight"]),
        d_model=d_model,
        num_heads=num_heads,
        d_ff=metadata["llama.feed_forward_length"],
        num_layers=metadata["llama.block_count"],
        max_seq_len=metadata["llama.context_length"],
        num_kv_heads=metadata.get("llama.attention.head_count_kv"),
        d_k=d_k,
        rope_base=metadata.get("llama.rope.freq_base", 10000.0),
        norm_eps=metadata["llama.attention.layer_norm_rms_epsilon"],
        attention_bias="blk.0.attn_q.bias" in weights,
        tied_output=tied,
    )
    weights = {
        name: to_half_split(weight, d_k) if _is_turned(name) else weight
        for name, weight in weights.items()
    }
    if tied:
        weights["output.weight"] = weights["token_embd.weight"]
    load_hf(model, weights, _RULES)
    return model.eval()


def _is_turned(name: str) -> bool:
    return ".attn_q." in name or ".attn_k." in name


# The names of llama.cpp and ours.
_RULES = {
    "token_embd.weight": "token_embedding.weight",
    "blk.*.attn_norm.weight": "layers.*.norm1.weight",
    "blk.*.attn_q.*": "layers.*.self_attention.W_q.*",
    "blk.*.attn_k.*": "layers.*.self_attention.W_k.*",
    "blk.*.attn_v.*": "layers.*.self_attention.W_v.*",
    "blk.*.attn_output.*": "layers.*.self_attention.W_o.*",
    "blk.*.ffn_norm.weight": "layers.*.norm2.weight",
    "blk.*.ffn_gate.*": "layers.*.feed_forward.W_1.*",
    "blk.*.ffn_up.*": "layers.*.feed_forward.V.*",
    "blk.*.ffn_down.*": "layers.*.feed_forward.W_2.*",
    "output_norm.weight": "norm.weight",
    "output.weight": "output_projection.weight",
}

_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "general.architecture": ("llama",),
    "llama.rope.scaling.type": ("none",),
    "llama.expert_count": (0,),
}
