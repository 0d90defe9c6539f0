"""Byte-pair encoding: the written-out algorithm, and the tokenizer for translation."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from companion.data.bpe import (
    BPETokenizer,
    apply_merges,
    learn_merges,
    load_bpe,
    merge_pair,
    train_bpe,
)
from companion.data.parallel import Pair, normalize
from companion.data.translation import batch_sources, encode_pairs

# Algorithm 1 of Sennrich et al. (2016), with the marks of words at their beginning.
PAPER = " ".join(["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3)
TEXTS = ["the red house", "the old house, the new house", "red or blue?", "new blue"]


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return train_bpe(TEXTS, 60, languages=("de", "pt"))


def test_merges_of_the_example_in_the_paper():
    """e-s and es-t come 9 times each, then l-o and its neighbors 7 times."""
    merges = learn_merges(PAPER, 5)
    assert merges == [("e", "s"), ("es", "t"), ("l", "o"), ("▁", "lo"), ("▁lo", "w")]
    assert apply_merges("lowest", merges) == ["▁low", "est"]


def test_a_word_of_training_becomes_one_symbol_and_a_new_one_pieces():
    merges = learn_merges(PAPER, 100)
    assert apply_merges("newest low", merges) == ["▁newest", "▁low"]
    assert apply_merges("lowest", merges) == ["▁low", "est"]
    assert len(merges) < 100  # nothing was left to merge
    assert "".join(apply_merges("wide lowest", merges)) == "▁wide▁lowest"


def test_no_merges_are_characters():
    assert learn_merges(PAPER, 0) == []
    assert apply_merges("a bc", []) == ["▁", "a", "▁", "b", "c"]
    with pytest.raises(ValueError, match="must not be negative, but it is -1"):
        learn_merges(PAPER, -1)


def test_merge_goes_from_left_to_right_without_overlap():
    assert merge_pair(("a", "a", "a"), ("a", "a")) == ("aa", "a")
    assert merge_pair(("b", "a"), ("a", "b")) == ("b", "a")


def test_special_tokens(tokenizer):
    assert tokenizer.tokens(range(6)) == [
        "<pad>",
        "<s>",
        "</s>",
        "<unk>",
        "<2de>",
        "<2pt>",
    ]
    assert (tokenizer.pad_id, tokenizer.bos_id) == (0, 1)
    assert (tokenizer.eos_id, tokenizer.unk_id) == (2, 3)
    assert tokenizer.languages == ("de", "pt")
    text = tokenizer.encode("red house")
    assert tokenizer.encode_source("red house") == [*text, 2]
    assert tokenizer.encode_source("red house", "pt") == [5, *text, 2]
    assert tokenizer.encode_target("red house") == [1, *text, 2]


def test_decode_stops_at_the_end_and_leaves_special_tokens_out(tokenizer):
    ids = [1, 5, *tokenizer.encode("the house, red"), 2, *tokenizer.encode("blue"), 0]
    assert tokenizer.decode(ids) == "the house, red"
    assert tokenizer.decode(torch.tensor(ids)) == "the house, red"
    assert tokenizer.decode([2]) == tokenizer.decode([]) == ""


def test_punctuation_is_a_token_of_its_own(tokenizer):
    assert "," in tokenizer.tokens(tokenizer.encode("house, house"))
    assert tokenizer.tokens(tokenizer.encode("house,")) == ["▁house", ","]


def test_unknown_characters_and_special_tokens_in_a_text(tokenizer):
    assert tokenizer.encode("Ω")[-1] == tokenizer.unk_id
    # Whoever writes </s> in a text does not end it.
    assert tokenizer.eos_id not in tokenizer.encode("red </s> house")
    assert not {4, 5} & set(tokenizer.encode("<2de> <2pt>"))


@settings(deadline=None, max_examples=200)
@given(text=st.text(alphabet=sorted(set("".join(TEXTS))), max_size=40))
def test_every_text_of_known_characters_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == normalize(text)


def test_save_and_load(tokenizer, tmp_path):
    path = tmp_path / "bpe.json"
    tokenizer.save(path)
    again = load_bpe(path)
    assert again.languages == tokenizer.languages
    for text in ["the red house, old", "</s> <2de>", "Ω"]:
        assert again.encode_source(text, "de") == tokenizer.encode_source(text, "de")
    path.write_text("{}")
    with pytest.raises(ValueError, match="not a readable tokenizer"):
        load_bpe(path)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("a text", 50), TypeError, "sequence of texts"),
        (([], 50), ValueError, "at least one text"),
        (([" "], 50), ValueError, "at least one text"),
        ((["abc"], 7), ValueError, "vocab_size must be at least 8, .* it is 7"),
    ],
)
def test_bad_training(arguments, error, message):
    with pytest.raises(error, match=message):
        train_bpe(*arguments)


def test_smallest_vocabulary_works():
    tokenizer = train_bpe(["abc"], 8)
    assert tokenizer.vocab_size == 8
    assert tokenizer.tokens(tokenizer.encode("cab")) == ["▁", "c", "a", "b"]


def test_bad_input(tokenizer):
    with pytest.raises(TypeError, match="text must be a string, but it is 3"):
        tokenizer.encode(3)
    with pytest.raises(ValueError, match="language may be de, pt, but it is 'fr'"):
        tokenizer.encode_source("red", "fr")
    with pytest.raises(ValueError, match="trained without languages"):
        train_bpe(TEXTS, 60).encode_source("red", "fr")


# What a model takes


def test_encode_pairs(tokenizer):
    pairs = [Pair("red house", "blue", "de"), Pair("new", "old", "pt")]
    assert encode_pairs(pairs, tokenizer) == [
        (
            tokenizer.encode_source(p.source, p.language),
            tokenizer.encode_target(p.target),
        )
        for p in pairs
    ]
    plain = train_bpe(TEXTS, 60)
    assert encode_pairs(pairs, plain, tokenizer) == [
        (plain.encode_source(p.source), tokenizer.encode_target(p.target))
        for p in pairs
    ]


def test_batch_sources(tokenizer):
    batch = batch_sources(["red", "the red house"], tokenizer, ["de", "pt"])
    rows = [
        tokenizer.encode_source("red", "de"),
        tokenizer.encode_source("the red house", "pt"),
    ]
    assert batch.token_ids.tolist() == [rows[0] + [0] * 2, rows[1]]
    assert batch.mask.shape == (2, 1, 1, len(rows[1]))
    assert torch.equal(batch.mask[:, 0, 0], batch.token_ids != 0)
    same = batch_sources(["red", "blue"], tokenizer, "de")
    assert same.token_ids[:, 0].tolist() == [4, 4]


@pytest.mark.parametrize(
    ("texts", "language", "error", "message"),
    [
        ("red", None, TypeError, "one string"),
        ([], None, ValueError, "at least one"),
        (["red", "new"], ["de"], ValueError, "each of the 2 texts, but there are 1"),
    ],
)
def test_bad_batches(tokenizer, texts, language, error, message):
    with pytest.raises(error, match=message):
        batch_sources(texts, tokenizer, language)
