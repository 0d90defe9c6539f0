"""BigBird against transformers: sparse and full, in evaluation and in training."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from companion import (
    BigBird,
    BigBirdForPreTraining,
    bigbird_mask,
    padding_mask,
    record_attention,
)
from companion.models.bigbird import _HEAD_RULES
from companion.models.hf import load_hf
from tests.parity.encoders import compare_states, difference, largest, randomized

transformers = pytest.importorskip("transformers")

REFERENCE = "transformers.BigBirdModel"
# A model with heads, and what it calls the labels of its sentence pairs.
HEADS = {"BigBirdForPreTraining": "next_sentence_label", "BigBirdForMaskedLM": None}

CONFIGS = {
    "small": {
        "vocab_size": 50,
        "hidden_size": 24,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "max_position_embeddings": 64,
        "block_size": 4,
        "num_random_blocks": 2,
    },
    "no biases, scaled embeddings, relu": {
        "vocab_size": 33,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "intermediate_size": 40,
        "num_hidden_layers": 3,
        "max_position_embeddings": 55,
        "hidden_act": "relu",
        "type_vocab_size": 3,
        "use_bias": False,
        "rescale_embeddings": True,
        "block_size": 3,
        "num_random_blocks": 3,
        "pad_token_id": 4,
    },
    "blocks of one, one random": {
        "vocab_size": 20,
        "hidden_size": 10,
        "num_attention_heads": 1,
        "intermediate_size": 7,
        "num_hidden_layers": 1,
        "max_position_embeddings": 20,
        "layer_norm_eps": 1e-2,
        "type_vocab_size": 4,
        "block_size": 1,
        "num_random_blocks": 1,
        "hidden_act": "gelu",
    },
    "full, no dropout": {
        "vocab_size": 41,
        "hidden_size": 12,
        "num_attention_heads": 12,
        "intermediate_size": 60,
        "num_hidden_layers": 3,
        "max_position_embeddings": 40,
        "attention_type": "original_full",
        "block_size": 8,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
}


def reference(name: str, head: str = "BigBirdModel", **more) -> nn.Module:
    torch.manual_seed(len(name))
    options = CONFIGS[name] | more
    config = transformers.BigBirdConfig(**options, attn_implementation="eager")
    return randomized(getattr(transformers, head)(config))


def inputs(
    model: nn.Module, masked: bool, length: int | None = None
) -> tuple[dict, dict, Tensor]:
    """The arguments for theirs and for ours, and where the tokens are real."""
    config = model.config
    pad = config.pad_token_id
    # Theirs fills up the last block, and needs positions for that.
    full = config.max_position_embeddings
    length = full - full % config.block_size - 1 if length is None else length
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
    return theirs, ours, real


def compare(ours: BigBird, theirs: nn.Module, masked: bool, length=None) -> float:
    """At the real tokens: what stands at padding is read by no one."""
    for_theirs, for_ours, real = inputs(theirs, masked, length)
    output = theirs(**for_theirs, output_hidden_states=True)
    cut = [state[:, : real.shape[1]][real] for state in output.hidden_states]
    states = [state[real] for state in ours.hidden_states(**for_ours)]
    worst = compare_states(states, cut, 1e-4)
    pooled = difference(ours.pooled(**for_ours), output.pooler_output)
    return largest([worst, pooled])


@torch.no_grad()
@pytest.mark.parametrize("masked", [False, True], ids=["no mask", "padding"])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_hidden_state(name, masked, parity_record):
    theirs = reference(name)
    worst = compare(BigBird.from_hf(theirs), theirs, masked)
    kept = CONFIGS[name].get("attention_type", "block_sparse")
    assert theirs.attention_type == kept  # it was not too short for blocks
    case = f"BigBird {name}" + ", padding" * masked
    parity_record(case, REFERENCE, worst, 1e-5)


@torch.no_grad()
@pytest.mark.parametrize("length", [36, 37])  # 5 + 2 * 2 blocks of 4, and one more
def test_short_sequences_attend_fully(length, parity_record):
    theirs = reference("small")
    worst = compare(BigBird.from_hf(theirs), theirs, True, length)
    assert theirs.attention_type == (
        "original_full" if length == 36 else "block_sparse"
    )
    parity_record(f"BigBird small, {length} tokens", REFERENCE, worst, 1e-4)


@torch.no_grad()
def test_the_length_of_the_paper(parity_record):
    """For 1024 and 4096 tokens their code draws blocks in another way."""
    more = {"max_position_embeddings": 1024, "block_size": 64, "num_random_blocks": 3}
    theirs = reference("small", **more)
    worst = compare(BigBird.from_hf(theirs), theirs, True, 1024)
    assert theirs.attention_type == "block_sparse"
    parity_record("BigBird small, 1024 tokens", REFERENCE, worst, 1e-4)


def their_blocks(layer: nn.Module, seed: int, length: int) -> Tensor:
    """The random blocks that a layer of theirs draws in training."""
    attention = layer.attention.self
    size, random = attention.block_size, attention.num_random_blocks
    plan, numbers = attention._get_rand_attn_plan(length, size, random)
    np.random.seed(seed)
    drawn = attention._bigbird_block_rand_mask_with_head(
        length, length, size, size, attention.num_attention_heads, plan, numbers
    )
    drawn = torch.tensor(np.stack(drawn), dtype=torch.long)  # (H, N - 2, R)
    return nn.functional.pad(drawn, (0, 0, 1, 1))


@torch.no_grad()
@pytest.mark.parametrize(
    "name", ["small", "no biases, scaled embeddings, relu", "blocks of one, one random"]
)
def test_random_blocks_in_training(name, parity_record):
    """Given the blocks that theirs draws, ours gives the same."""
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    theirs = reference(name, **dropout)
    ours = BigBird.from_hf(theirs)
    theirs.train()
    ours.train()
    size = theirs.config.block_size
    full = theirs.config.max_position_embeddings
    length = full - full % size
    layers = zip(ours.layers, theirs.encoder.layer, strict=True)
    for seed, (our_layer, their_layer) in enumerate(layers):
        blocks = their_blocks(their_layer, seed, length)
        assert blocks.unique().numel() > 2
        our_layer.self_attention.random_blocks = lambda _, blocks=blocks: blocks
    worst = compare(ours, theirs, True, length if size == 1 else length - 1)
    parity_record(f"BigBird {name}: random blocks", REFERENCE, worst, 1e-4)


@torch.no_grad()
def test_no_block_is_random_in_their_evaluation():
    """Block 0 stands for each of them, and counts once more each time."""
    theirs = reference("small")
    ours = BigBird.from_hf(theirs)
    for_theirs, for_ours, real = inputs(theirs, False)
    expected = theirs(**for_theirs).last_hidden_state
    worst = difference(ours(**for_ours)[real], expected[real])
    assert worst < 1e-4
    without = copy.deepcopy(ours)
    for layer in without.layers:
        layer.self_attention.num_random = 0
    assert difference(without(**for_ours)[real], expected[real]) > 0.01
    with record_attention(ours) as maps:
        ours(**for_ours)
    plan = ours.layers[0].self_attention.random_blocks(16)
    assert not plan.any()
    seen = (maps["layers.0.self_attention"][0] > 0).any(dim=0)
    length = real.shape[1]
    assert torch.equal(seen, bigbird_mask(length, 4, plan[..., :0])[0])


def heads(ours, theirs, pair_labels):
    """Their output, our loss, and by how much logits and loss differ."""
    for_theirs, for_ours, real = inputs(theirs, True)
    asked = (torch.rand(real.shape) < 0.4) & real
    asked[0, 0] = True
    labels = torch.where(asked, for_ours["token_ids"], -100)
    is_next, more = None, {}
    if pair_labels is not None:
        is_next = torch.tensor([True, False, False])
        more = {pair_labels: (~is_next).long()}
    output = theirs(**for_theirs, labels=labels, **more)
    paired = pair_labels is not None
    logits = output.prediction_logits if paired else output.logits
    logits = logits[:, : real.shape[1]]
    loss = ours.loss(labels=labels, is_next=is_next, **for_ours)
    off = [
        difference(ours(**for_ours)[real], logits[real]),
        difference(loss, output.loss),
    ]
    if paired:
        pair = ours.next_sentence_logits(**for_ours)
        off.append(difference(pair, output.seq_relationship_logits))
    return output, loss, largest(off)


@torch.no_grad()
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", CONFIGS)
def test_the_heads(name, head, parity_record):
    theirs = reference(name, head)
    ours = BigBirdForPreTraining.from_hf(theirs)
    _, _, worst = heads(ours, theirs, HEADS[head])
    case = f"BigBird {name}: logits, loss"
    parity_record(case, f"transformers.{head}", worst, 1e-4)


@pytest.mark.parametrize("name", ["small", "no biases, scaled embeddings, relu"])
def test_every_gradient(name, parity_record):
    theirs = reference(name, "BigBirdForPreTraining")
    ours = BigBirdForPreTraining.from_hf(theirs)
    output, loss, _ = heads(ours, theirs, "next_sentence_label")
    output.loss.backward()
    loss.backward()
    expected = copy.deepcopy(ours)  # their gradients, as if they were its weights
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    load_hf(expected, gradients, _HEAD_RULES)
    assert max(p.grad.abs().max() for p in ours.parameters()) > 1e-3
    worst = largest(
        difference(p.grad, want)
        for p, want in zip(ours.parameters(), expected.parameters(), strict=True)
    )
    reference_name = "transformers.BigBirdForPreTraining"
    parity_record(f"BigBird {name}: gradients", reference_name, worst, 1e-5)


def test_every_option_is_varied():
    full = [transformers.BigBirdConfig(**options) for options in CONFIGS.values()]
    for option in (
        "vocab_size hidden_size num_attention_heads intermediate_size num_hidden_layers "
        "max_position_embeddings hidden_act type_vocab_size layer_norm_eps "
        "hidden_dropout_prob attention_probs_dropout_prob attention_type block_size "
        "num_random_blocks use_bias rescale_embeddings pad_token_id"
    ).split():
        assert len({getattr(config, option) for config in full}) > 1, option


@torch.no_grad()
def test_from_a_folder(tmp_path, parity_record):
    theirs = reference("small", "BigBirdForPreTraining")
    theirs.save_pretrained(tmp_path)
    ours = BigBirdForPreTraining.from_hf(tmp_path)
    _, _, worst = heads(ours, theirs, "next_sentence_label")
    reference_name = "transformers.BigBirdForPreTraining"
    parity_record("BigBird small, from a folder", reference_name, worst, 1e-4)
    encoder = BigBird.from_hf(tmp_path)  # the heads are left out
    _, for_ours, _ = inputs(theirs, True)
    assert torch.equal(encoder(**for_ours), ours.encoder(**for_ours))
