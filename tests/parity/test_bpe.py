"""The byte-pair encoding that is written out, against the ``tokenizers`` library."""

from __future__ import annotations

import json

import pytest

from companion.data.bpe import apply_merges, learn_merges, train_bpe
from companion.data.emoji_names import load_emoji_pairs

tokenizers = pytest.importorskip("tokenizers")


def texts(language: str, number: int) -> list[str]:
    """Names without punctuation, which only the library splits off."""
    names = [pair.target for pair in load_emoji_pairs("tr", language)]
    return [n for n in names if all(c.isalnum() or c == " " for c in n)][:number]


@pytest.mark.parametrize("language", ["en", "de", "ru", "ja"])
def test_same_merges_and_same_tokens(language):
    lines = texts(language, 300)
    characters = len({"▁", *"".join(lines)} - {" "})
    num_merges = 150
    library = train_bpe(lines, 4 + characters + num_merges)
    theirs = json.loads(library._tokenizer.to_str())["model"]["merges"]
    ours = learn_merges(" ".join(lines), num_merges)
    assert [tuple(merge) for merge in theirs] == ours
    for text in texts(language, 600):
        if set(text) <= set("".join(lines)):
            tokens = library.tokens(library.encode(text))
            assert apply_merges(text, ours) == tokens, text
