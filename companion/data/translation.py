"""From pairs of texts to what a translation model takes, for any tokenizer of ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from companion.data.bpe import read_tokenizer
from companion.data.parallel import Pair, normalize
from companion.layers import padding_mask


class TranslationTokenizer(Protocol):
    """What `BPETokenizer` and `MarianTokenizer` have in common.

    Attributes:
        pad_id: fills up shorter sequences.
        bos_id: the first token of a target.
        eos_id: the last token of a source and of a target.
        languages: for which there is a token that asks for them.
    """

    pad_id: int
    bos_id: int
    eos_id: int
    languages: tuple[str, ...]

    def encode_source(self, text: str, language: str | None = None) -> list[int]: ...

    def encode_target(self, text: str) -> list[int]: ...

    def decode(self, token_ids: Sequence[int] | Tensor) -> str: ...

    def tokens(self, token_ids: Sequence[int] | Tensor) -> list[str]: ...


class Sources(NamedTuple):
    """As a model takes them: ``model.encode(sources.token_ids, sources.mask)``."""

    token_ids: Int[Tensor, "batch length"]
    mask: Bool[Tensor, "batch 1 1 length"]


def batch_sources(
    texts: Sequence[str],
    tokenizer: TranslationTokenizer,
    language: str | Sequence[str] | None = None,
) -> Sources:
    """Encode several sources, padded at the end to the longest of them.

    Args:
        texts: to be translated.
        tokenizer: of the sources.
        language: to translate into, one for all or one for each, where the tokenizer
            has language tokens.

    Raises:
        TypeError: ``texts`` is one string.
        ValueError: no texts, not one language a text, or a language that is not known.
    """
    if isinstance(texts, str):
        raise TypeError(
            "texts must be a sequence of texts, but it is one string; put it in a list"
        )
    if not texts:
        raise ValueError("texts must hold at least one text, but it is empty")
    if language is None or isinstance(language, str):
        language = [language] * len(texts)
    if len(language) != len(texts):
        raise ValueError(
            f"language must be one for all or one for each of the {len(texts)} texts, "
            f"but there are {len(language)}"
        )
    rows = [
        torch.tensor(tokenizer.encode_source(text, code))
        for text, code in zip(texts, language, strict=True)
    ]
    token_ids = pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_id)
    return Sources(token_ids, padding_mask(token_ids, tokenizer.pad_id))


def encode_pairs(
    pairs: Sequence[Pair],
    source_tokenizer: TranslationTokenizer,
    target_tokenizer: TranslationTokenizer | None = None,
) -> list[tuple[list[int], list[int]]]:
    """Source and target ids of each pair, as `TokenBatches` takes them.

    Args:
        pairs: to encode. Where the source's tokenizer has language tokens, the source
            begins with that of the pair's ``language``.
        source_tokenizer: of the sources.
        target_tokenizer: of the targets; by default the same.
    """
    target_tokenizer = target_tokenizer or source_tokenizer
    has_languages = bool(source_tokenizer.languages)
    return [
        (
            source_tokenizer.encode_source(
                pair.source, pair.language if has_languages else None
            ),
            target_tokenizer.encode_target(pair.target),
        )
        for pair in pairs
    ]


class MarianTokenizer:
    """The tokenizer of a Marian model, which splits words by a unigram model.

    Sources and targets end with ``</s>``, number 0. The token that a target begins with
    is the zero vector of `companion.models.marian.Marian`, number ``vocab_size``, which
    is the padding as well.

    Args:
        folder: of the model; it holds ``tokenizer.json``.

    Raises:
        FileNotFoundError: the folder holds no ``tokenizer.json``.
        ValueError: that file is not a tokenizer.
    """

    eos_id = 0
    languages: tuple[str, ...] = ()

    def __init__(self, folder: str | Path) -> None:
        self._tokenizer = read_tokenizer(Path(folder) / "tokenizer.json")
        self.vocab_size = self._tokenizer.get_vocab_size()
        self.pad_id = self.bos_id = self.vocab_size

    def encode(self, text: str) -> list[int]:
        """The tokens of ``text`` alone."""
        return self._tokenizer.encode(normalize(text)).ids

    def encode_source(self, text: str, language: str | None = None) -> list[int]:
        """``text </s>``.

        Raises:
            ValueError: a language is asked for, and the model has but one.
        """
        if language is not None:
            raise ValueError(
                f"language must be None, since a Marian model translates into one "
                f"language, but it is {language!r}"
            )
        return [*self.encode(text), self.eos_id]

    def encode_target(self, text: str) -> list[int]:
        """The zero vector's token, ``text </s>``."""
        return [self.bos_id, *self.encode(text), self.eos_id]

    def decode(self, token_ids: Sequence[int] | Tensor) -> str:
        """The text up to the first ``</s>``, without padding."""
        ids = [int(token) for token in token_ids]
        ids = ids[: ids.index(self.eos_id)] if self.eos_id in ids else ids
        return self._tokenizer.decode([i for i in ids if i != self.pad_id])

    def tokens(self, token_ids: Sequence[int] | Tensor) -> list[str]:
        """Each token as a string; padding and the zero vector are ``<pad>``."""
        return [
            self._tokenizer.id_to_token(int(token)) or "<pad>" for token in token_ids
        ]
