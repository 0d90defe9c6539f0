"""A tokenizer that can write any text, since it starts from single bytes.

Source: Radford et al. (2019), "Language Models are Unsupervised Multitask Learners",
section 2.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from companion.data.gpt2_tokenizer import END_OF_TEXT


def byte_level_tokenizer(files: Sequence[Path], vocab_size: int = 257) -> Tokenizer:
    """Byte-pair encoding learned from ``files``, with `END_OF_TEXT` as token 0.

    Args:
        files: UTF-8 text.
        vocab_size: tokens in all. With 257, the smallest number, every byte is a token.

    Raises:
        ValueError: the vocabulary has no room for the bytes and the end.
    """
    tokenizer, trainer = _untrained(vocab_size)
    tokenizer.train([str(file) for file in files], trainer)
    return tokenizer


def byte_tokenizer_of(texts: Iterable[str], vocab_size: int = 257) -> Tokenizer:
    """The same, learned from strings."""
    tokenizer, trainer = _untrained(vocab_size)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _untrained(vocab_size: int) -> tuple[Tokenizer, BpeTrainer]:
    if vocab_size < 257:
        raise ValueError(
            f"vocab_size must be at least 257, the bytes and {END_OF_TEXT}, but it is "
            f"{vocab_size}"
        )
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    return tokenizer, trainer
