"""Text to token ids and back, with the tokenizer that a checkpoint brings.

A thin cover over the ``tokenizers`` library, which reads a checkpoint's
``tokenizer.json``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from companion.layers import padding_mask


class Batch(NamedTuple):
    """Texts as a model takes them: ``model(batch.token_ids, batch.mask)``.

    ``tokens`` are those of each text without padding; ``token_types`` are 1 where a
    pair's second text stands.
    """

    token_ids: Int[Tensor, "batch length"]
    mask: Bool[Tensor, "batch 1 1 length"]
    tokens: list[list[str]]
    token_types: Int[Tensor, "batch length"]

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on ``device``."""
        return self._replace(
            token_ids=self.token_ids.to(device),
            mask=self.mask.to(device),
            token_types=self.token_types.to(device),
        )


class TextTokenizer:
    """Encodes a text, or a pair of texts, with the special tokens of its model.

    Args:
        tokenizer: of the ``tokenizers`` library. Padding and truncation that are stored
            in it are turned off.
        pad_token: what fills up shorter texts of a batch.
    """

    def __init__(self, tokenizer: Tokenizer, pad_token: str = "[PAD]") -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self.pad_id = tokenizer.token_to_id(pad_token)
        self.vocab_size = tokenizer.get_vocab_size()

    def encode(self, text: str, pair: str | None = None) -> list[int]:
        """The token ids of ``text``, or of ``text`` and ``pair`` joined as the model wants it."""
        return self._encode(text, pair).ids

    def tokens(self, text: str, pair: str | None = None) -> list[str]:
        """The same tokens as strings."""
        return self._encode(text, pair).tokens

    def offsets(self, text: str, pair: str | None = None) -> list[tuple[int, int]]:
        """For each token, where it starts and ends in its text; (0, 0) for special ones."""
        return self._encode(text, pair).offsets

    def decode(self, token_ids: Sequence[int] | Tensor) -> str:
        """The text of token ids, without special tokens."""
        return self._tokenizer.decode([int(token) for token in token_ids])

    def batch(self, texts: Sequence[str | tuple[str, str]]) -> Batch:
        """Encode several texts or pairs, padded at the end to the longest of them.

        Raises:
            TypeError: one bare string, or an item that is neither a text nor a pair.
            ValueError: no texts, or a tokenizer without a padding token.
        """
        if isinstance(texts, str):
            raise TypeError(
                "texts must be a sequence of texts, but it is one string; put it in a list"
            )
        encoded = [self._encode(*_as_pair(item)) for item in texts]
        if not encoded:
            raise ValueError("texts must hold at least one text, but it is empty")
        if self.pad_id is None:
            raise ValueError(
                "this tokenizer has no padding token: name it as pad_token"
            )
        token_ids = _pad([e.ids for e in encoded], self.pad_id)
        return Batch(
            token_ids=token_ids,
            mask=padding_mask(token_ids, self.pad_id),
            tokens=[e.tokens for e in encoded],
            token_types=_pad([e.type_ids for e in encoded], 0),
        )

    def _encode(self, text: str, pair: str | None = None) -> Encoding:
        if not isinstance(text, str):
            raise TypeError(f"text must be a string, but it is {text!r}")
        if not isinstance(pair, str | None):
            raise TypeError(f"pair must be a string or None, but it is {pair!r}")
        return self._tokenizer.encode(text, pair)


def load_tokenizer(folder: str | Path, pad_token: str = "[PAD]") -> TextTokenizer:
    """The tokenizer of a checkpoint folder, from its ``tokenizer.json``.

    Raises:
        ValueError: the folder holds no readable ``tokenizer.json``.
    """
    path = Path(folder).expanduser() / "tokenizer.json"
    if not path.is_file():
        raise ValueError(
            f"folder must hold tokenizer.json, but {str(folder)!r} does not"
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a bare Exception
        raise ValueError(f"{path} is not a readable tokenizer: {error}") from error
    return TextTokenizer(tokenizer, pad_token)


def _as_pair(item: str | tuple[str, str]) -> tuple[str, str | None]:
    """A text and its pair, or a text and None."""
    if isinstance(item, str):
        return item, None
    if (
        isinstance(item, tuple | list)
        and len(item) == 2
        and all(isinstance(text, str) for text in item)
    ):
        return item[0], item[1]
    raise TypeError(
        f"each of texts must be a string or a pair of strings, but one is {item!r}"
    )


def _pad(rows: list[list[int]], value: int) -> Int[Tensor, "batch length"]:
    length = max(map(len, rows))
    return torch.tensor([row + [value] * (length - len(row)) for row in rows])
