"""BERT against transformers: hidden states, pooler, heads, losses, attention maps, gradients."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn

from companion import BERT, BERTForPreTraining, record_attention
from companion.data.assets import fetch
from companion.data.tokenizers import load_tokenizer
from companion.models import bert_tasks
from companion.models.bert import _HEAD_RULES, _RULES
from companion.models.hf import load_hf
from tests.parity.encoders import (
    compare_states,
    difference,
    encoder_differs,
    gradients_differ,
    heads_differ,
    inputs,
    largest,
    randomized,
)

transformers = pytest.importorskip("transformers")

REFERENCE = "transformers.BertModel"
# A model with heads, and what it calls the labels of its sentence pairs.
HEADS = {"BertForPreTraining": "next_sentence_label", "BertForMaskedLM": None}

# No two agree in more options than they must.
CONFIGS = {
    "small": {
        "vocab_size": 50,
        "hidden_size": 24,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "max_position_embeddings": 16,
    },
    "deeper, relu": {
        "vocab_size": 33,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "intermediate_size": 40,
        "num_hidden_layers": 4,
        "max_position_embeddings": 11,
        "hidden_act": "relu",
        "type_vocab_size": 3,
    },
    "one head, large eps": {
        "vocab_size": 20,
        "hidden_size": 10,
        "num_attention_heads": 1,
        "intermediate_size": 7,
        "num_hidden_layers": 1,
        "max_position_embeddings": 9,
        "layer_norm_eps": 1e-2,
        "attention_probs_dropout_prob": 0.3,
        "hidden_act": "gelu_new",
        "type_vocab_size": 4,
    },
    "head of width 1, no dropout": {
        "vocab_size": 41,
        "hidden_size": 12,
        "num_attention_heads": 12,
        "intermediate_size": 60,
        "num_hidden_layers": 3,
        "max_position_embeddings": 40,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "type_vocab_size": 2,
        "pad_token_id": 3,
    },
}


def reference(name: str, head: str = "BertModel") -> nn.Module:
    """A BertModel, or one with a head, of random weights.

    It attends by its own formula, so that both don't run the same kernel.
    """
    torch.manual_seed(len(name))
    config = transformers.BertConfig(**CONFIGS[name], attn_implementation="eager")
    return randomized(getattr(transformers, head)(config))


def length_of(model: nn.Module) -> int:
    return model.config.max_position_embeddings  # the last position is used as well


@torch.no_grad()
@pytest.mark.parametrize("masked", [False, True], ids=["no mask", "padding"])
@pytest.mark.parametrize("typed", [False, True], ids=["one segment", "segments"])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_hidden_state(name, typed, masked, parity_record):
    theirs = reference(name)
    worst = encoder_differs(
        BERT.from_hf(theirs), theirs, length_of(theirs), typed=typed, masked=masked
    )
    case = f"BERT {name}" + ", segments" * typed + ", padding" * masked
    parity_record(case, REFERENCE, worst, 1e-5)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", CONFIGS)
def test_every_head(name, head, parity_record):
    """The logits of both heads, and the loss."""
    theirs = reference(name, head)
    ours = BERTForPreTraining.from_hf(theirs)
    worst = heads_differ(ours, theirs, length_of(theirs), HEADS[head])
    parity_record(f"BERT {name}: logits, loss", f"transformers.{head}", worst, 1e-4)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", ["small", "deeper, relu"])
def test_every_gradient_of_the_heads(name, head, parity_record):
    theirs = reference(name, head)
    ours = BERTForPreTraining.from_hf(theirs)
    length = length_of(theirs)
    worst = gradients_differ(ours, theirs, length, HEADS[head], _HEAD_RULES)
    parity_record(f"BERT {name}: gradients", f"transformers.{head}", worst, 1e-8)


@torch.no_grad()
@pytest.mark.parametrize("head", HEADS)
def test_the_heads_from_a_folder(head, tmp_path, parity_record):
    theirs = reference("small", head)
    theirs.save_pretrained(tmp_path)
    ours = BERTForPreTraining.from_hf(tmp_path)
    worst = heads_differ(ours, theirs, length_of(theirs), HEADS[head])
    parity_record("BERT small, from a folder", f"transformers.{head}", worst, 1e-4)


@torch.no_grad()
@pytest.mark.parametrize("task", ["Sequence", "Token"])
def test_classifiers(task, parity_record):
    head = f"BertFor{task}Classification"
    theirs = reference("small", head)
    ours = getattr(bert_tasks, f"BERTFor{task}Classification").from_hf(theirs)
    token_ids, mask, token_types = inputs(theirs, length_of(theirs))
    labels = torch.randint(0, 2, token_ids.shape)
    labels[1] = -100
    labels = labels[:, 0] if task == "Sequence" else labels
    output = theirs(
        token_ids, mask[:, 0, 0].long(), token_type_ids=token_types, labels=labels
    )
    logits = ours(token_ids, mask, token_types)
    loss = ours.loss(token_ids, labels, mask, token_types)
    pairs = ((logits, output.logits), (loss, output.loss))
    worst = largest(difference(*pair) for pair in pairs)
    parity_record("BERT small: logits, loss", f"transformers.{head}", worst, 1e-5)


@torch.no_grad()
def test_question_answering(parity_record):
    theirs = reference("small", "BertForQuestionAnswering")
    ours = bert_tasks.BERTForQuestionAnswering.from_hf(theirs)
    token_ids, mask, token_types = inputs(theirs, length_of(theirs))
    spans = torch.tensor([[2, 5], [0, 0], [3, 9]])
    output = theirs(
        token_ids,
        mask[:, 0, 0].long(),
        token_type_ids=token_types,
        start_positions=spans[:, 0],
        end_positions=spans[:, 1],
    )
    logits = ours(token_ids, mask, token_types)
    loss = ours.loss(token_ids, spans, mask, token_types)
    expected = torch.stack([output.start_logits, output.end_logits], dim=-1)
    pairs = ((logits, expected), (loss, output.loss))
    worst = largest(difference(*pair) for pair in pairs)
    reference_name = "transformers.BertForQuestionAnswering"
    parity_record("BERT small: logits, loss", reference_name, worst, 1e-5)


def test_every_option_is_varied():
    """The configs above reach each option that from_hf reads, with at least two values."""
    full = [transformers.BertConfig(**options) for options in CONFIGS.values()]
    for option in (
        "vocab_size hidden_size num_attention_heads intermediate_size num_hidden_layers "
        "max_position_embeddings hidden_act type_vocab_size layer_norm_eps "
        "hidden_dropout_prob attention_probs_dropout_prob"
    ).split():
        assert len({getattr(config, option) for config in full}) > 1, option


@torch.no_grad()
def test_every_attention_map(parity_record):
    theirs = reference("deeper, relu")
    ours = BERT.from_hf(theirs)
    token_ids, mask, _ = inputs(theirs, length_of(theirs))
    with record_attention(ours) as maps:
        ours(token_ids, mask)
    output = theirs(
        token_ids, attention_mask=mask[:, 0, 0].long(), output_attentions=True
    )
    worst = difference(maps.stack(), torch.stack(output.attentions))
    parity_record("BERT deeper, relu: attention maps", REFERENCE, worst, 1e-5)


@pytest.mark.parametrize("name", ["small", "deeper, relu"])
def test_every_gradient(name, parity_record):
    theirs = reference(name)
    ours = BERT.from_hf(theirs)
    token_ids, mask, token_types = inputs(theirs, length_of(theirs))
    real = mask[:, 0, 0, :, None]  # the loss looks at real tokens only
    weight = torch.randn(*token_ids.shape, theirs.config.hidden_size) * real
    output = theirs(token_ids, mask[:, 0, 0].long(), token_types)
    loss = (output.last_hidden_state * weight).mean() + output.pooler_output.mean()
    loss.backward()
    our_loss = (ours(token_ids, mask, token_types) * weight).mean()
    our_loss = our_loss + ours.pooled(token_ids, mask, token_types).mean()
    our_loss.backward()

    # Their gradients under our names: as if they were the weights of a BERT.
    expected = copy.deepcopy(ours)
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    load_hf(expected, gradients, _RULES)
    worst = largest(
        difference(p.grad, want)
        for p, want in zip(ours.parameters(), expected.parameters(), strict=True)
    )
    assert max(p.grad.abs().max() for p in ours.parameters()) > 1e-3
    parity_record(f"BERT {name}: gradients", REFERENCE, worst, 1e-5)


@torch.no_grad()
def test_a_checkpoint_folder_with_and_without_shards(tmp_path, parity_record):
    theirs = reference("small")
    token_ids, mask, _ = inputs(theirs, length_of(theirs))
    expected = theirs(token_ids, mask[:, 0, 0].long()).last_hidden_state
    theirs.save_pretrained(tmp_path / "one")
    theirs.save_pretrained(tmp_path / "many", max_shard_size="10KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 1
    for folder, what in (("one", "one file"), ("many", "shards")):
        worst = difference(BERT.from_hf(tmp_path / folder)(token_ids, mask), expected)
        parity_record(f"BERT small, from {what}", REFERENCE, worst, 1e-5)


@torch.no_grad()
@pytest.mark.parametrize("head", ["BertForPreTraining", "BertForMaskedLM"])
def test_the_encoder_of_a_pretraining_model(head, parity_record):
    torch.manual_seed(0)
    config = transformers.BertConfig(**CONFIGS["small"])
    theirs = getattr(transformers, head)(config).eval()
    ours = BERT.from_hf(theirs)
    assert (ours.pooler is not None) == (head == "BertForPreTraining")
    token_ids, mask, _ = inputs(theirs, length_of(theirs))
    expected = theirs.bert(token_ids, mask[:, 0, 0].long()).last_hidden_state
    worst = difference(ours(token_ids, mask), expected)
    parity_record("BERT small", f"transformers.{head}", worst, 1e-5)


@pytest.mark.parametrize("off", [2e-5, 1.0, float("nan")])
def test_what_is_not_below_the_bound_fails(off, parity_record, request):
    with pytest.raises(pytest.fail.Exception, match="is not below 1e-05"):
        parity_record("BERT", REFERENCE, largest([0.0, off, 0.0]), 1e-5)
    request.node.user_properties.clear()  # this is no row of the table


def test_a_mismatch_names_its_layer():
    theirs = reference("deeper, relu")
    ours = BERT.from_hf(theirs)
    with torch.no_grad():
        ours.layers[1].feed_forward.W_1.weight.add_(0.01)  # the second layer
    token_ids, _, _ = inputs(theirs, length_of(theirs))
    states = theirs(token_ids, output_hidden_states=True).hidden_states
    with pytest.raises(pytest.fail.Exception, match=r"^layer 2 is the first to differ"):
        compare_states(ours.hidden_states(token_ids), states, 1e-5)


# Real weights

SENTENCES = [
    "The cat sat on the mat because it was tired",
    "Attention is all you need.",
    "Where?",
    "The trophy did not fit into the brown suitcase, since the suitcase was too small; "
    "nobody had measured it before we bought it.",
]


@pytest.fixture(scope="module")
def minilm() -> tuple[BERT, nn.Module]:
    folder = fetch("minilm")
    theirs = transformers.BertModel.from_pretrained(
        folder, local_files_only=True, attn_implementation="eager"
    )
    return BERT.from_hf(folder), theirs.eval()


@torch.no_grad()
def test_minilm_hidden_states_and_maps(minilm, parity_record):
    ours, theirs = minilm
    batch = load_tokenizer(fetch("minilm")).batch(SENTENCES)
    assert not batch.mask.all()
    output = theirs(
        batch.token_ids,
        attention_mask=batch.mask[:, 0, 0].long(),
        output_hidden_states=True,
        output_attentions=True,
    )
    states = ours.hidden_states(batch.token_ids, batch.mask)
    assert len(states) == 7
    for layer, pair in enumerate(zip(states, output.hidden_states, strict=True)):
        name = f"MiniLM layer {layer}" if layer else "MiniLM embedding"
        parity_record(name, REFERENCE, difference(*pair), 1e-4)
    pooled = difference(ours.pooled(batch.token_ids, batch.mask), output.pooler_output)
    parity_record("MiniLM pooler", REFERENCE, pooled, 1e-4)
    with record_attention(ours) as maps:
        ours(batch.token_ids, batch.mask)
    worst = difference(maps.stack(), torch.stack(output.attentions))
    parity_record("MiniLM attention maps", REFERENCE, worst, 1e-4)


def test_minilm_ids_are_those_of_transformers():
    folder = fetch("minilm")
    ours = load_tokenizer(folder)
    theirs = transformers.BertTokenizer(
        vocab=str(folder / "vocab.txt"), do_lower_case=True
    )
    for text in [*SENTENCES, "Zürich's naïve 東京 café!?", "", "a" * 300]:
        assert ours.encode(text) == theirs(text)["input_ids"], text
    for pair in pairwise(SENTENCES):
        assert ours.encode(*pair) == theirs(*pair)["input_ids"], pair
        assert torch.equal(
            ours.batch([pair]).token_types,
            torch.tensor([theirs(*pair)["token_type_ids"]]),
        )


@torch.no_grad()
def test_minilm_heads_on_the_cat_sentence(minilm):
    """Single heads find the cat and the previous token; the average over heads does not."""
    model, _ = minilm
    tokenizer = load_tokenizer(fetch("minilm"))
    tokens = tokenizer.tokens(SENTENCES[0])
    it, cat, mat = map(tokens.index, ("it", "cat", "mat"))
    with record_attention(model) as maps:
        model(torch.tensor([tokenizer.encode(SENTENCES[0])]))
    maps = maps.stack()[:, 0]  # (layers, heads, queries, keys)
    assert maps.shape == (6, 12, len(tokens), len(tokens))
    torch.testing.assert_close(maps[5, 11, it, cat].item(), 0.6826, atol=5e-4, rtol=0)
    previous = maps[0, 2].diagonal(-1)  # each token to the one before it
    torch.testing.assert_close(previous.mean().item(), 0.9996, atol=1e-4, rtol=0)
    average = maps.mean((0, 1))
    torch.testing.assert_close(average[it, cat].item(), 0.0807, atol=5e-4, rtol=0)
    torch.testing.assert_close(average[it, mat].item(), 0.0610, atol=5e-4, rtol=0)
