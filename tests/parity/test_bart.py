"""BART against transformers': states, loss, gradients, maps, generation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from companion import BART
from companion.models.bart import _RULES
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

REFERENCE = "transformers.BartForConditionalGeneration"


def options(vocab_size, d_model, heads, d_ff, layers, positions, **more) -> dict:
    return {
        "vocab_size": vocab_size,
        "d_model": d_model,
        "encoder_attention_heads": heads,
        "decoder_attention_heads": heads,
        "encoder_ffn_dim": d_ff,
        "decoder_ffn_dim": d_ff,
        "encoder_layers": layers[0],
        "decoder_layers": layers[1],
        "max_position_embeddings": positions,
    } | more


CONFIGS = {
    "BART": options(50, 24, 4, 48, (2, 2), 16),
    "BART, relu, scaled embedding": options(
        33,
        16,
        2,
        20,
        (1, 3),
        9,
        activation_function="relu",
        scale_embedding=True,
        dropout=0.0,
    ),
    "BART, one head, other special tokens": options(
        29,
        10,
        1,
        16,
        (3, 1),
        12,
        pad_token_id=0,
        bos_token_id=1,
        decoder_start_token_id=1,
        attention_dropout=0.2,
        activation_function="gelu_new",
    ),
    "BART, a bias on the logits": options(
        41, 12, 6, 30, (2, 1), 30, activation_dropout=0.3, dropout=0.2
    ),
}


def reference(name: str) -> nn.Module:
    """A random model of theirs, that attends by its own formula."""
    torch.manual_seed(len(name))
    config = transformers.BartConfig(**CONFIGS[name], attn_implementation="eager")
    model = shake(transformers.BartForConditionalGeneration(config))
    if "bias" in name:
        model.final_logits_bias.normal_()
    return model


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_states_logits_and_loss(name, parity_record):
    theirs = reference(name)
    check_states(BART.from_hf(theirs), theirs, name, REFERENCE, parity_record)


@torch.no_grad()
@pytest.mark.parametrize("name", ["BART", "BART, relu, scaled embedding"])
def test_target_mask(name, parity_record):
    theirs = reference(name)
    check_target_mask(BART.from_hf(theirs), theirs, name, REFERENCE, parity_record)


@pytest.mark.parametrize("name", ["BART", "BART, one head, other special tokens"])
def test_every_gradient(name, parity_record):
    theirs = reference(name)
    ours = BART.from_hf(theirs)
    check_gradients(ours, theirs, _RULES, name, REFERENCE, parity_record)


@torch.no_grad()
@pytest.mark.parametrize("name", ["BART", "BART, relu, scaled embedding"])
def test_every_attention_map(name, parity_record):
    theirs = reference(name)
    check_attention_maps(BART.from_hf(theirs), theirs, name, REFERENCE, parity_record)


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("name", CONFIGS)
def test_generation(name, num_beams):
    theirs = reference(name)
    check_generation(BART.from_hf(theirs), theirs, num_beams)


@torch.no_grad()
@pytest.mark.parametrize("name", ["BART", "BART, one head, other special tokens"])
def test_beam_scores(name, parity_record):
    theirs = reference(name)
    check_beam_scores(BART.from_hf(theirs), theirs, name, REFERENCE, parity_record)


@torch.no_grad()
@pytest.mark.parametrize("name", ["BART", "BART, a bias on the logits"])
def test_a_checkpoint_folder(name, tmp_path, parity_record):
    theirs = reference(name)
    theirs.save_pretrained(tmp_path)
    ours = BART.from_hf(tmp_path)
    source, mask, labels = inputs(ours, theirs.config.vocab_size)
    expected = theirs(source, mask[:, 0, 0].long(), labels=labels).loss
    off = difference(ours.loss(source, labels, mask), expected)
    parity_record(f"{name}, from a folder: loss", REFERENCE, off, 1e-4)


def test_every_option_is_varied():
    full = [reference(name).config for name in CONFIGS]
    for option in (
        "vocab_size d_model encoder_attention_heads encoder_ffn_dim encoder_layers "
        "decoder_layers max_position_embeddings activation_function scale_embedding "
        "dropout attention_dropout activation_dropout pad_token_id "
        "decoder_start_token_id"
    ).split():
        assert len({getattr(config, option) for config in full}) > 1, option
