"""GPT-2's tokenizer, rebuilt from its ranks."""

from __future__ import annotations

import pytest

from companion.data.gpt2_tokenizer import (
    END_OF_TEXT,
    gpt2_ranks,
    load_gpt2_tokenizer,
    merge_by_rank,
)


@pytest.fixture(scope="module")
def tokenizer():
    return load_gpt2_tokenizer()


def test_known_ids(tokenizer):
    """The ids that GPT-2's own encoder gives."""
    assert tokenizer.get_vocab_size() == 50257
    assert tokenizer.encode("Hello world").ids == [15496, 995]
    assert tokenizer.encode(END_OF_TEXT).ids == [50256]
    text = "The quick brown fox jumps over the lazy dog."
    assert tokenizer.encode(text).ids == [
        464, 2068, 7586, 21831, 18045, 625, 262, 16931, 3290, 13,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "  two  blanks\n\n", "Straße 東京 🙂", "don't!?\t1234"]
)
def test_every_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_the_merges_by_hand_are_those_of_the_library(tokenizer):
    ranks = gpt2_ranks()
    assert sorted(ranks.values()) == list(range(50256))
    for word in (" unbelievable", " antidisestablishmentarianism", " Straße", "xyzzy"):
        ids = [ranks[token] for token in merge_by_rank(word.encode(), ranks)]
        assert ids == tokenizer.encode(word).ids, word
    assert merge_by_rank(b" the", ranks, below=256) == [b" ", b"t", b"h", b"e"]
