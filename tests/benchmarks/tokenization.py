"""Text to tokens: the algorithm as the book writes it out, and the libraries that do it."""

from __future__ import annotations

from collections.abc import Iterator

from companion.data.gpt2_tokenizer import (
    byte_letters,
    gpt2_ranks,
    load_gpt2_tokenizer,
    merge_by_rank,
)
from companion.data.texts import shakespeare
from tests.benchmarks.side_by_side import Pair


def pairs(characters: int = 50_000) -> Iterator[Pair]:
    """GPT-2's encoding of a play.

    The first row is `merge_by_rank`, in Python and word by word, against the
    ``tokenizers`` library, in Rust. For work the package takes that library as well:
    the second row is it alone against `transformers`, which wraps it.
    """
    text = shakespeare("hamlet")[:characters]
    ranks, library = gpt2_ranks(), load_gpt2_tokenizer()
    byte = {letter: number for number, letter in byte_letters().items()}
    words = [
        bytes(byte[letter] for letter in word)
        for word, _ in library.pre_tokenizer.pre_tokenize_str(text)
    ]
    work = f"GPT-2's tokens of {len(text):,} characters"
    yield Pair(
        work=work,
        ours=(
            "merge_by_rank",
            lambda: [
                ranks[part] for word in words for part in merge_by_rank(word, ranks)
            ],
        ),
        reference=("tokenizers", lambda: library.encode(text).ids),
        rounds=10,
    )
    from transformers import PreTrainedTokenizerFast

    wrapped = PreTrainedTokenizerFast(tokenizer_object=load_gpt2_tokenizer())
    yield Pair(
        work=work,
        ours=("load_gpt2_tokenizer", lambda: library.encode(text).ids),
        reference=("transformers", lambda: wrapped.encode(text)),
        rounds=10,
    )
