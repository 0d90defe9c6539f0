"""ALBERT against transformers: hidden states, pooler, heads, losses, maps, gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from companion import ALBERT, ALBERTForPreTraining, record_attention
from companion.models.albert import _HEAD_RULES
from tests.parity.encoders import (
    difference,
    encoder_differs,
    gradients_differ,
    heads_differ,
    inputs,
    randomized,
)

transformers = pytest.importorskip("transformers")

REFERENCE = "transformers.AlbertModel"
HEADS = {"AlbertForPreTraining": "sentence_order_label", "AlbertForMaskedLM": None}

CONFIGS = {
    "one layer, three times": {
        "vocab_size": 50,
        "embedding_size": 8,
        "hidden_size": 24,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "max_position_embeddings": 16,
    },
    "two groups of five, relu": {
        "vocab_size": 33,
        "embedding_size": 12,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "intermediate_size": 40,
        "num_hidden_layers": 5,
        "num_hidden_groups": 2,
        "max_position_embeddings": 11,
        "hidden_act": "relu",
        "type_vocab_size": 3,
    },
    "groups of two layers": {
        "vocab_size": 20,
        "embedding_size": 10,
        "hidden_size": 10,
        "num_attention_heads": 1,
        "intermediate_size": 7,
        "num_hidden_layers": 4,
        "num_hidden_groups": 2,
        "inner_group_num": 2,
        "max_position_embeddings": 9,
        "layer_norm_eps": 1e-2,
        "hidden_dropout_prob": 0.1,
    },
    "nothing shared, wide embeddings": {
        "vocab_size": 41,
        "embedding_size": 30,
        "hidden_size": 12,
        "num_attention_heads": 12,
        "intermediate_size": 60,
        "num_hidden_layers": 3,
        "num_hidden_groups": 3,
        "max_position_embeddings": 40,
        "attention_probs_dropout_prob": 0.2,
        "hidden_act": "gelu",
        "pad_token_id": 3,
    },
}


def reference(name: str, head: str = "AlbertModel") -> nn.Module:
    torch.manual_seed(len(name))
    config = transformers.AlbertConfig(**CONFIGS[name], attn_implementation="eager")
    return randomized(getattr(transformers, head)(config))


def length_of(model: nn.Module) -> int:
    return model.config.max_position_embeddings


@torch.no_grad()
@pytest.mark.parametrize("masked", [False, True], ids=["no mask", "padding"])
@pytest.mark.parametrize("typed", [False, True], ids=["one segment", "segments"])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_hidden_state(name, typed, masked, parity_record):
    theirs = reference(name)
    worst = encoder_differs(
        ALBERT.from_hf(theirs), theirs, length_of(theirs), typed=typed, masked=masked
    )
    case = f"ALBERT {name}" + ", segments" * typed + ", padding" * masked
    parity_record(case, REFERENCE, worst, 1e-5)


def test_every_option_is_varied():
    full = [transformers.AlbertConfig(**options) for options in CONFIGS.values()]
    for option in (
        "vocab_size embedding_size hidden_size num_attention_heads intermediate_size "
        "num_hidden_layers num_hidden_groups inner_group_num max_position_embeddings "
        "hidden_act type_vocab_size layer_norm_eps hidden_dropout_prob "
        "attention_probs_dropout_prob"
    ).split():
        assert len({getattr(config, option) for config in full}) > 1, option


@torch.no_grad()
def test_every_attention_map(parity_record):
    """One layer that runs three times gives one list of three maps."""
    theirs = reference("one layer, three times")
    ours = ALBERT.from_hf(theirs)
    token_ids, mask, _ = inputs(theirs, length_of(theirs))
    with record_attention(ours) as maps:
        ours(token_ids, mask)
    output = theirs(
        token_ids, attention_mask=mask[:, 0, 0].long(), output_attentions=True
    )
    (found,) = maps.values()
    worst = difference(torch.stack(found), torch.stack(output.attentions))
    parity_record("ALBERT, attention maps", REFERENCE, worst, 1e-5)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", CONFIGS)
def test_every_head(name, head, parity_record):
    theirs = reference(name, head)
    ours = ALBERTForPreTraining.from_hf(theirs)
    worst = heads_differ(ours, theirs, length_of(theirs), HEADS[head])
    parity_record(f"ALBERT {name}: logits, loss", f"transformers.{head}", worst, 1e-4)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", ["one layer, three times", "groups of two layers"])
def test_every_gradient(name, head, parity_record):
    theirs = reference(name, head)
    ours = ALBERTForPreTraining.from_hf(theirs)
    length = length_of(theirs)
    worst = gradients_differ(ours, theirs, length, HEADS[head], _HEAD_RULES)
    parity_record(f"ALBERT {name}: gradients", f"transformers.{head}", worst, 1e-8)


@torch.no_grad()
@pytest.mark.parametrize("head", HEADS)
def test_from_a_folder(head, tmp_path, parity_record):
    theirs = reference("groups of two layers", head)
    theirs.save_pretrained(tmp_path)
    ours = ALBERTForPreTraining.from_hf(tmp_path)
    worst = heads_differ(ours, theirs, length_of(theirs), HEADS[head])
    parity_record("ALBERT, from a folder", f"transformers.{head}", worst, 1e-4)
    encoder = ALBERT.from_hf(tmp_path)  # the heads are left out
    token_ids = torch.randint(1, 20, (2, 7))
    assert torch.equal(encoder(token_ids), ours.encoder(token_ids))
