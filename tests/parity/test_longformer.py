"""Longformer against transformers: hidden states, pooler, maps, logits, loss, gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from companion import Longformer, LongformerForMaskedLM, padding_mask, record_attention
from companion.models.hf import load_hf
from companion.models.longformer import _HEAD_RULES
from tests.parity.encoders import compare_states, difference, largest, randomized

transformers = pytest.importorskip("transformers")

REFERENCE = "transformers.LongformerModel"
HEAD = "transformers.LongformerForMaskedLM"

CONFIGS = {
    "small": {
        "vocab_size": 50,
        "hidden_size": 24,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "max_position_embeddings": 40,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "attention_window": 4,
    },
    "a window a layer, relu, pad 3": {
        "vocab_size": 33,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "intermediate_size": 40,
        "num_hidden_layers": 3,
        "max_position_embeddings": 52,
        "hidden_act": "relu",
        "pad_token_id": 3,
        "attention_window": [4, 8, 4],
    },
    "one head, a window as wide as the text": {
        "vocab_size": 20,
        "hidden_size": 10,
        "num_attention_heads": 1,
        "intermediate_size": 7,
        "num_hidden_layers": 1,
        "max_position_embeddings": 20,
        "layer_norm_eps": 1e-2,
        "type_vocab_size": 4,
        "pad_token_id": 0,
        "hidden_dropout_prob": 0.0,
        "attention_window": 64,
    },
    "head of width 1, no dropout": {
        "vocab_size": 41,
        "hidden_size": 12,
        "num_attention_heads": 12,
        "intermediate_size": 60,
        "num_hidden_layers": 3,
        "max_position_embeddings": 75,
        "hidden_act": "gelu_new",
        "attention_probs_dropout_prob": 0.0,
        "attention_window": [6, 6, 12],
    },
}


def reference(name: str, head: str = "LongformerModel") -> nn.Module:
    torch.manual_seed(len(name))
    # A list in the config is written to, as a number is spread over the layers.
    options = copy.deepcopy(CONFIGS[name])
    config = transformers.LongformerConfig(**options, attn_implementation="eager")
    return randomized(getattr(transformers, head)(config))


def inputs(model: nn.Module, masked: bool, globals_: str) -> tuple[dict, dict, Tensor]:
    """The arguments for theirs and for ours, and where the tokens are real."""
    config = model.config
    pad = config.pad_token_id
    length = config.max_position_embeddings - pad - 1
    token_ids = torch.randint(pad + 1, config.vocab_size, (3, length))
    if masked:
        token_ids[1, length // 2 :] = pad
        token_ids[2, 3:] = pad
    real = token_ids != pad
    token_types = torch.randint(0, config.type_vocab_size, token_ids.shape)
    theirs = {
        "input_ids": token_ids,
        "attention_mask": real.long(),
        "token_type_ids": token_types,
    }
    ours = {
        "token_ids": token_ids,
        "mask": padding_mask(token_ids, pad) if masked else None,
        "token_types": token_types,
    }
    if globals_ != "none":
        is_global = torch.zeros_like(real)
        is_global[:, 0] = True
        if globals_ == "scattered":  # a different number in each sequence
            is_global |= (torch.rand(token_ids.shape) < 0.2) & real
            is_global[1, 1:] = False
        theirs["global_attention_mask"] = is_global.long()
        ours["global_mask"] = is_global
    return theirs, ours, real


@torch.no_grad()
@pytest.mark.parametrize("globals_", ["none", "first", "scattered"])
@pytest.mark.parametrize("masked", [False, True], ids=["no mask", "padding"])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_hidden_state(name, masked, globals_, parity_record):
    theirs = reference(name)
    ours = Longformer.from_hf(theirs)
    for_theirs, for_ours, real = inputs(theirs, masked, globals_)
    output = theirs(**for_theirs, output_hidden_states=True)
    # At the real tokens: what stands at padding is read by no one.
    states = [state[real] for state in ours.hidden_states(**for_ours)]
    worst = compare_states(states, [s[real] for s in output.hidden_states], 1e-5)
    pooled = difference(ours.pooled(**for_ours), output.pooler_output)
    case = f"Longformer {name}, global: {globals_}" + ", padding" * masked
    parity_record(case, REFERENCE, largest([worst, pooled]), 1e-5)
    assert torch.equal(ours(**for_ours)[real], states[-1])


def test_every_option_is_varied():
    full = [
        transformers.LongformerConfig(**copy.deepcopy(options))
        for options in CONFIGS.values()
    ]
    for option in (
        "vocab_size hidden_size num_attention_heads intermediate_size num_hidden_layers "
        "max_position_embeddings hidden_act type_vocab_size layer_norm_eps pad_token_id "
        "hidden_dropout_prob attention_probs_dropout_prob attention_window"
    ).split():
        assert len({str(getattr(config, option)) for config in full}) > 1, option


@torch.no_grad()
def test_every_attention_map(parity_record):
    """Theirs are bands beside the columns of global tokens; ours are spread out."""
    theirs = reference("small")
    ours = Longformer.from_hf(theirs)
    for_theirs, for_ours, _ = inputs(theirs, False, "first")
    output = theirs(**for_theirs, output_attentions=True)
    with record_attention(ours) as maps:
        ours(**for_ours)
    length = for_ours["token_ids"].shape[1]
    window = theirs.config.attention_window[0]
    worst = []
    pairs = zip(output.attentions, output.global_attentions, strict=True)
    for layer, (band, far) in enumerate(pairs):
        wide = torch.zeros(*band.shape[:3], length)
        for query in range(length):
            for step in range(window + 1):
                at = query + step - window // 2
                if 0 <= at < length:
                    wide[:, :, query, at] = band[:, :, query, 1 + step]
        wide[..., 0] = band[..., 0]  # the one global token, added apart
        wide[:, :, 0] = far[:, :, :length, 0]
        (ours_map,) = maps[f"layers.{layer}.self_attention"]
        worst.append(difference(ours_map, wide))
    case = "Longformer small: attention maps"
    parity_record(case, REFERENCE, largest(worst), 1e-5)


def labels_of(token_ids: Tensor, real: Tensor) -> Tensor:
    asked = (torch.rand(token_ids.shape) < 0.4) & real
    asked[0, 0] = True
    return torch.where(asked, token_ids, -100)


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_the_head(name, parity_record):
    theirs = reference(name, "LongformerForMaskedLM")
    ours = LongformerForMaskedLM.from_hf(theirs)
    for_theirs, for_ours, real = inputs(theirs, True, "scattered")
    labels = labels_of(for_ours["token_ids"], real)
    output = theirs(**for_theirs, labels=labels)
    off = [
        difference(ours(**for_ours)[real], output.logits[real]),
        difference(ours.loss(labels=labels, **for_ours), output.loss),
    ]
    parity_record(f"Longformer {name}: logits, loss", HEAD, largest(off), 1e-4)


@pytest.mark.parametrize("name", ["small", "a window a layer, relu, pad 3"])
def test_every_gradient(name, parity_record):
    theirs = reference(name, "LongformerForMaskedLM")
    ours = LongformerForMaskedLM.from_hf(theirs)
    for_theirs, for_ours, real = inputs(theirs, True, "scattered")
    labels = labels_of(for_ours["token_ids"], real)
    theirs(**for_theirs, labels=labels).loss.backward()
    ours.loss(labels=labels, **for_ours).backward()
    expected = copy.deepcopy(ours)  # their gradients, as if they were its weights
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    load_hf(expected, gradients, _HEAD_RULES)
    assert max(p.grad.abs().max() for p in ours.parameters()) > 1e-3
    worst = largest(
        difference(p.grad, want)
        for p, want in zip(ours.parameters(), expected.parameters(), strict=True)
    )
    parity_record(f"Longformer {name}: gradients", HEAD, worst, 1e-5)


@torch.no_grad()
def test_from_a_folder(tmp_path, parity_record):
    theirs = reference("small", "LongformerForMaskedLM")
    theirs.save_pretrained(tmp_path)
    ours = LongformerForMaskedLM.from_hf(tmp_path)
    for_theirs, for_ours, real = inputs(theirs, True, "first")
    worst = difference(ours(**for_ours)[real], theirs(**for_theirs).logits[real])
    parity_record("Longformer small, from a folder", HEAD, worst, 1e-4)
    encoder = Longformer.from_hf(tmp_path)  # the head is left out
    assert torch.equal(encoder(**for_ours), ours.encoder(**for_ours))
