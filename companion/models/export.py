"""Our models as checkpoint folders that ``transformers`` loads: the way back from `from_hf`.

`save_hf` reads the options off the model's own modules and renames its weights by the
same rules by which `from_hf` took them in, backward. The folder holds ``config.json``
and ``model.safetensors``; a tokenizer's files may be put beside them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from companion.models import bert, gpt
from companion.models.bert import BERT
from companion.models.bert_tasks import (
    BERTForSequenceClassification,
    BERTForTokenClassification,
)
from companion.models.gpt import GPT
from companion.models.hf import CONFIG, WEIGHTS, translate_name
from companion.models.llama import LLaMA

Weights = dict[str, Tensor]


def save_hf(
    model: nn.Module, folder: str | Path, labels: Sequence[str] | None = None
) -> Path:
    """Write ``model`` as a folder that ``transformers`` and our ``from_hf`` read.

    Args:
        model: a `BERT`, `BERTForSequenceClassification` with the pooler,
            `BERTForTokenClassification`, `GPT` (pre-norm) or `LLaMA` (rotary positions
            without scaling).
        folder: made if it isn't there; files of these names are written over.
        labels: the names of a classifier's classes, for ``pipeline``.

    Returns:
        The folder.

    Raises:
        TypeError: a model of another class.
        ValueError: an option that Hugging Face's model has no word for, or labels that
            don't fit the model.
    """
    write = _WRITERS.get(type(model))
    if write is None:
        names = ", ".join(kind.__name__ for kind in _WRITERS)
        raise TypeError(f"model may be {names}, but it is a {type(model).__name__}")
    config, weights = write(model)
    config |= {"dtype": "float32"} | _label_options(model, labels)
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    # Two names for one tensor would be an error; the tied name has been left out.
    weights = {
        name: weight.detach().to("cpu", torch.float32).contiguous()
        for name, weight in weights.items()
    }
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return folder


def _label_options(model: nn.Module, labels: Sequence[str] | None) -> dict[str, Any]:
    classes = model.output.out_features if hasattr(model, "output") else None
    if labels is None:
        if classes is None:
            return {}
        labels = [f"LABEL_{i}" for i in range(classes)]  # as transformers names them
    if classes is None:
        raise ValueError(
            f"labels must be None for a {type(model).__name__}, which has no classes"
        )
    if len(labels) != classes:
        raise ValueError(
            f"labels must have {classes} names, one for each class, but it has "
            f"{len(labels)}"
        )
    return {
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
    }


def _renamed(model: nn.Module, rules: Mapping[str, str], prefix: str = "") -> Weights:
    """The weights of ``model`` under the names that ``rules`` translate to ours."""
    backward = {ours: theirs for theirs, ours in rules.items()}
    found: Weights = {}
    for name, weight in model.state_dict().items():
        theirs = translate_name(name, backward)
        if theirs is None:
            raise ValueError(f"no rule gives {name} a name in Hugging Face's model")
        found[prefix + theirs] = weight
    return found


# BERT


def _bert_config(model: BERT) -> dict[str, Any]:
    embedding, attention = model.embedding, model.layers[0].self_attention
    return {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "vocab_size": embedding.token.num_embeddings,
        "hidden_size": model.d_model,
        "num_hidden_layers": len(model.layers),
        "num_attention_heads": attention.num_heads,
        "intermediate_size": model.layers[0].feed_forward.W_1.out_features,
        "hidden_act": model.activation,
        "max_position_embeddings": model.max_seq_len,
        "type_vocab_size": embedding.token_type.num_embeddings,
        "layer_norm_eps": model.layer_norm_eps,
        "hidden_dropout_prob": embedding.dropout.p,
        "attention_probs_dropout_prob": attention.dropout,
        "pad_token_id": 0,
    }


def _write_bert(model: BERT) -> tuple[dict[str, Any], Weights]:
    return _bert_config(model), _renamed(model, bert.ENCODER_RULES)


def _write_bert_task(
    model: BERTForSequenceClassification | BERTForTokenClassification,
) -> tuple[dict[str, Any], Weights]:
    if getattr(model, "pooling", "pooler") != "pooler":
        raise ValueError(
            "Hugging Face's BertForSequenceClassification reads the pooler, but this "
            f"model has pooling={model.pooling!r}"
        )
    architecture = type(model).__name__.replace("BERT", "Bert")
    config = _bert_config(model.encoder) | {
        "architectures": [architecture],
        "classifier_dropout": model.dropout.p,
    }
    weights = _renamed(model.encoder, bert.ENCODER_RULES, prefix="bert.")
    if isinstance(model, BERTForTokenClassification):  # theirs has no pooler
        weights = {n: w for n, w in weights.items() if ".pooler." not in n}
    weights |= {
        f"classifier.{name}": w for name, w in model.output.state_dict().items()
    }
    return config, weights


# GPT


def _write_gpt(model: GPT) -> tuple[dict[str, Any], Weights]:
    first = model.layers[0]
    if not first.norm_first:
        raise ValueError("model must be a GPT with norm_first=True, which is GPT-2")
    rules = {
        theirs: ours
        for theirs, ours in gpt._RULES.items()
        if not theirs.startswith(("tokens_embed", "positions_embed"))  # those of GPT
    }
    tied = model.output_projection.weight is model.token_embedding.weight
    config = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": model.token_embedding.num_embeddings,
        "n_embd": model.token_embedding.embedding_dim,
        "n_head": first.self_attention.num_heads,
        "n_inner": first.feed_forward.W_1.out_features,
        "n_layer": len(model.layers),
        "n_positions": model.max_seq_len,
        "activation_function": first.feed_forward.activation,
        "layer_norm_epsilon": first.norm1.eps,
        "resid_pdrop": first.dropout.p,
        "embd_pdrop": model.positions.dropout.p,
        "attn_pdrop": first.self_attention.dropout,
        "tie_word_embeddings": tied,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    weights = _as_conv1d(_renamed(model, rules))
    if tied:
        del weights["lm_head.weight"]
    return config, weights


def _as_conv1d(weights: Weights) -> Weights:
    """Queries, keys and values in one matrix, and matrices as (in, out): GPT-2's way."""
    found: Weights = {}
    for name, tensor in weights.items():
        if name.startswith("lm_head"):
            found[name] = tensor
        elif ".attn.W_q." in name:
            parts = [weights[name.replace("W_q", f"W_{part}")] for part in "qkv"]
            joined = torch.cat(parts)  # (3 * d_model, d_model) or (3 * d_model,)
            name = name.replace("W_q", "c_attn")
            found[f"transformer.{name}"] = joined.T if joined.ndim == 2 else joined
        elif ".attn.W_" not in name:
            is_map = ".c_" in name and tensor.ndim == 2
            found[f"transformer.{name}"] = tensor.T if is_map else tensor
    return found


# LLaMA


def _write_llama(model: LLaMA) -> tuple[dict[str, Any], Weights]:
    first = model.layers[0]
    attention, rotary = first.self_attention, first.self_attention.rotary
    _refuse(rotary.scaling is not None, "rotary positions with scaling")
    _refuse(rotary.layout != "halves", "the interleaved layout of rotary positions")
    _refuse(attention.window is not None, "a window of attention")
    tied = model.output_projection.weight is model.token_embedding.weight
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": model.token_embedding.num_embeddings,
        "hidden_size": attention.d_model,
        "intermediate_size": first.feed_forward.W_1.out_features,
        "num_hidden_layers": len(model.layers),
        "num_attention_heads": attention.num_heads,
        "num_key_value_heads": attention.num_kv_heads,
        "head_dim": attention.d_k,
        "hidden_act": first.feed_forward.activation,
        "max_position_embeddings": model.max_seq_len,
        "rms_norm_eps": model.norm.eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": rotary.base},
        "attention_bias": attention.W_q.bias is not None,
        "mlp_bias": first.feed_forward.W_1.bias is not None,
        "attention_dropout": attention.dropout,
        "tie_word_embeddings": tied,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    weights = model.hf_weights()
    if tied:
        weights.pop("lm_head.weight")
    return config, weights


def _refuse(found: bool, what: str) -> None:
    if found:
        raise ValueError(f"model must be without {what} to be written as a folder")


_WRITERS: dict[type[nn.Module], Callable[..., tuple[dict[str, Any], Weights]]] = {
    BERT: _write_bert,
    BERTForSequenceClassification: _write_bert_task,
    BERTForTokenClassification: _write_bert_task,
    GPT: _write_gpt,
    LLaMA: _write_llama,
}
