"""RoBERTa against transformers: hidden states, pooler, logits, loss, gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from companion import RoBERTa, RoBERTaForMaskedLM
from companion.models.roberta import _HEAD_RULES
from tests.parity.encoders import (
    difference,
    encoder_differs,
    gradients_differ,
    heads_differ,
    randomized,
)

transformers = pytest.importorskip("transformers")

REFERENCE = "transformers.RobertaModel"
HEAD = "transformers.RobertaForMaskedLM"

CONFIGS = {
    "small": {
        "vocab_size": 50,
        "hidden_size": 24,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "max_position_embeddings": 16,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
    },
    "deeper, relu, pad 3": {
        "vocab_size": 33,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "intermediate_size": 40,
        "num_hidden_layers": 4,
        "max_position_embeddings": 13,
        "hidden_act": "relu",
        "pad_token_id": 3,
    },
    "one head, pad 0": {
        "vocab_size": 20,
        "hidden_size": 10,
        "num_attention_heads": 1,
        "intermediate_size": 7,
        "num_hidden_layers": 1,
        "max_position_embeddings": 9,
        "layer_norm_eps": 1e-2,
        "type_vocab_size": 4,
        "pad_token_id": 0,
        "hidden_dropout_prob": 0.0,
    },
    "head of width 1, no dropout": {
        "vocab_size": 41,
        "hidden_size": 12,
        "num_attention_heads": 12,
        "intermediate_size": 60,
        "num_hidden_layers": 3,
        "max_position_embeddings": 40,
        "hidden_act": "gelu_new",
        "attention_probs_dropout_prob": 0.0,
    },
}


def reference(name: str, head: str = "RobertaModel") -> nn.Module:
    torch.manual_seed(len(name))
    config = transformers.RobertaConfig(**CONFIGS[name], attn_implementation="eager")
    return randomized(getattr(transformers, head)(config))


def length_of(model: nn.Module) -> int:
    """The longest text: positions up to the padding's are no token's."""
    return model.config.max_position_embeddings - model.config.pad_token_id - 1


@torch.no_grad()
@pytest.mark.parametrize("masked", [False, True], ids=["no mask", "padding"])
@pytest.mark.parametrize("typed", [False, True], ids=["one segment", "segments"])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_hidden_state(name, typed, masked, parity_record):
    theirs = reference(name)
    ours = RoBERTa.from_hf(theirs)
    assert ours.max_seq_len == length_of(theirs)
    worst = encoder_differs(ours, theirs, length_of(theirs), typed=typed, masked=masked)
    case = f"RoBERTa {name}" + ", segments" * typed + ", padding" * masked
    parity_record(case, REFERENCE, worst, 1e-5)


def test_every_option_is_varied():
    full = [transformers.RobertaConfig(**options) for options in CONFIGS.values()]
    for option in (
        "vocab_size hidden_size num_attention_heads intermediate_size num_hidden_layers "
        "max_position_embeddings hidden_act type_vocab_size layer_norm_eps pad_token_id "
        "hidden_dropout_prob attention_probs_dropout_prob"
    ).split():
        assert len({getattr(config, option) for config in full}) > 1, option


@torch.no_grad()
def test_padding_in_front(parity_record):
    """Positions are counted over the tokens, wherever the padding stands."""
    theirs = reference("small")
    ours = RoBERTa.from_hf(theirs)
    token_ids = torch.tensor([[1, 1, 1, 7, 8, 9], [5, 6, 7, 1, 1, 8]])
    real = token_ids != 1
    output = theirs(token_ids, attention_mask=real.long())
    worst = difference(ours(token_ids, real[:, None, None]), output.last_hidden_state)
    parity_record("RoBERTa small, padding in front", REFERENCE, worst, 1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_head(name, parity_record):
    theirs = reference(name, "RobertaForMaskedLM")
    ours = RoBERTaForMaskedLM.from_hf(theirs)
    worst = heads_differ(ours, theirs, length_of(theirs), None)
    parity_record(f"RoBERTa {name}: logits, loss", HEAD, worst, 1e-4)


@pytest.mark.parametrize("name", ["small", "deeper, relu, pad 3"])
def test_every_gradient(name, parity_record):
    theirs = reference(name, "RobertaForMaskedLM")
    ours = RoBERTaForMaskedLM.from_hf(theirs)
    worst = gradients_differ(ours, theirs, length_of(theirs), None, _HEAD_RULES)
    parity_record(f"RoBERTa {name}: gradients", HEAD, worst, 1e-8)


@torch.no_grad()
def test_from_a_folder(tmp_path, parity_record):
    theirs = reference("small", "RobertaForMaskedLM")
    theirs.save_pretrained(tmp_path)
    ours = RoBERTaForMaskedLM.from_hf(tmp_path)
    worst = heads_differ(ours, theirs, length_of(theirs), None)
    parity_record("RoBERTa small, from a folder", HEAD, worst, 1e-4)
    encoder = RoBERTa.from_hf(tmp_path)  # the head is left out
    token_ids = torch.randint(2, 50, (2, 7))
    assert torch.equal(encoder(token_ids), ours.encoder(token_ids))
