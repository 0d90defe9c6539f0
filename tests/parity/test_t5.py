"""T5 against transformers' T5 and mT5: states, loss, gradients, maps, generation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from companion import T5
from companion.models.t5 import _RULES
from tests.parity.seq2seq import (
    check_attention_maps,
    check_beam_scores,
    check_generation,
    check_gradients,
    check_states,
    check_target_mask,
    difference,
    inputs,
    shake,
)

transformers = pytest.importorskip("transformers")

# No two agree in more options than they must.
CONFIGS = {
    "T5": {
        "vocab_size": 50,
        "d_model": 24,
        "num_heads": 4,
        "d_kv": 6,
        "d_ff": 48,
        "num_layers": 2,
    },
    "T5, wide heads, deeper decoder": {
        "vocab_size": 33,
        "d_model": 16,
        "num_heads": 3,
        "d_kv": 11,
        "d_ff": 20,
        "num_layers": 1,
        "num_decoder_layers": 3,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 6,
        "dropout_rate": 0.0,
    },
    "T5 v1.1, head of its own": {
        "vocab_size": 41,
        "d_model": 20,
        "num_heads": 2,
        "d_kv": 8,
        "d_ff": 30,
        "num_layers": 2,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
        "layer_norm_epsilon": 1e-3,
    },
    "T5, gated silu": {
        "vocab_size": 29,
        "d_model": 12,
        "num_heads": 6,
        "d_kv": 2,
        "d_ff": 16,
        "num_layers": 3,
        "num_decoder_layers": 1,
        "feed_forward_proj": "gated-silu",
        "relative_attention_num_buckets": 4,
        "relative_attention_max_distance": 20,
    },
    "mT5": {
        "vocab_size": 60,
        "d_model": 18,
        "num_heads": 2,
        "d_kv": 5,
        "d_ff": 25,
        "num_layers": 2,
    },
    "mT5, head of its own": {
        "vocab_size": 37,
        "d_model": 14,
        "num_heads": 1,
        "d_kv": 7,
        "d_ff": 32,
        "num_layers": 1,
        "num_decoder_layers": 2,
        "feed_forward_proj": "gated-relu",
        "layer_norm_epsilon": 1e-5,
    },
}


def reference(name: str) -> nn.Module:
    """A random model of theirs, that attends by its own formula."""
    torch.manual_seed(len(name))
    kind = "MT5" if name.startswith("mT5") else "T5"
    config = getattr(transformers, f"{kind}Config")(
        **CONFIGS[name], attn_implementation="eager", decoder_start_token_id=0
    )
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(config)
    if "of its own" in name:
        # Their class ties the head whatever the config says; the checkpoints of
        # version 1.1 and of mT5 have one of their own.
        weight = torch.randn(config.vocab_size, config.d_model) * 0.5
        model.lm_head.weight = nn.Parameter(weight)
    return shake(model)


def class_name(model: nn.Module) -> str:
    return f"transformers.{type(model).__name__}"


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_states_logits_and_loss(name, parity_record):
    theirs = reference(name)
    ours = T5.from_hf(theirs)
    assert (ours.output_projection is not None) == ("of its own" in name)
    check_states(ours, theirs, name, class_name(theirs), parity_record)


@torch.no_grad()
@pytest.mark.parametrize("name", ["T5", "mT5"])
def test_target_mask(name, parity_record):
    theirs = reference(name)
    check_target_mask(
        T5.from_hf(theirs), theirs, name, class_name(theirs), parity_record
    )


@pytest.mark.parametrize("name", ["T5", "T5 v1.1, head of its own"])
def test_every_gradient(name, parity_record):
    theirs = reference(name)
    ours = T5.from_hf(theirs)
    check_gradients(ours, theirs, _RULES, name, class_name(theirs), parity_record)


@torch.no_grad()
@pytest.mark.parametrize("name", ["T5, wide heads, deeper decoder", "mT5"])
def test_every_attention_map(name, parity_record):
    theirs = reference(name)
    ours = T5.from_hf(theirs)
    check_attention_maps(ours, theirs, name, class_name(theirs), parity_record)


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("name", CONFIGS)
def test_generation(name, num_beams):
    theirs = reference(name)
    check_generation(T5.from_hf(theirs), theirs, num_beams)


@torch.no_grad()
@pytest.mark.parametrize("name", ["T5", "mT5, head of its own"])
def test_beam_scores(name, parity_record):
    theirs = reference(name)
    ours = T5.from_hf(theirs)
    check_beam_scores(ours, theirs, name, class_name(theirs), parity_record)


@torch.no_grad()
@pytest.mark.parametrize("name", ["T5", "T5 v1.1, head of its own", "mT5"])
def test_a_checkpoint_folder(name, tmp_path, parity_record):
    theirs = reference(name)
    theirs.save_pretrained(tmp_path)
    ours = T5.from_hf(tmp_path)
    source, mask, labels = inputs(ours, theirs.config.vocab_size)
    expected = theirs(source, mask[:, 0, 0].long(), labels=labels).loss
    off = difference(ours.loss(source, labels, mask), expected)
    parity_record(f"{name}, from a folder: loss", class_name(theirs), off, 1e-4)


def test_every_option_is_varied():
    full = [reference(name).config for name in CONFIGS]
    for option in (
        "vocab_size d_model num_heads d_kv d_ff num_layers num_decoder_layers "
        "dropout_rate feed_forward_proj layer_norm_epsilon "
        "relative_attention_num_buckets relative_attention_max_distance model_type"
    ).split():
        assert len({getattr(config, option) for config in full}) > 1, option
