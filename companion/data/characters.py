"""Text as a stream of characters: an alphabet, a split, and windows to train on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from companion.data.texts import plays, shakespeare

# One comedy each, one tragedy each, one late play to watch the training on.
VALIDATION_PLAYS = ("as_you_like_it", "tempest")
TEST_PLAYS = ("macbeth", "twelfth_night")


class Characters:
    """A vocabulary of single characters, and a few tokens that are none.

    Args:
        text: whose characters make the alphabet, in the order of their code points.
        special: names of further tokens, such as ``"<mid>"``; their ids follow.

    Raises:
        ValueError: the text is empty, or a special token is a single character.
    """

    def __init__(self, text: Iterable[str], special: Sequence[str] = ()) -> None:
        alphabet = sorted(set(text))
        if not alphabet:
            raise ValueError("text must hold at least one character, but it is empty")
        if any(len(name) < 2 for name in special):
            raise ValueError(
                f"special tokens must have names of two characters or more, but special "
                f"is {tuple(special)}"
            )
        self.tokens = (*alphabet, *special)
        self.ids = {token: i for i, token in enumerate(self.tokens)}

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> Int[Tensor, " length"]:
        """One id for each character.

        Raises:
            ValueError: a character is not in the alphabet.
        """
        try:
            return torch.tensor([self.ids[c] for c in text], dtype=torch.int64)
        except KeyError as error:
            raise ValueError(
                f"text must be made of the alphabet's {len(self.tokens)} characters, but "
                f"it holds {error.args[0]!r}"
            ) from None

    def decode(self, token_ids: Iterable[int] | Tensor) -> str:
        """The characters of the ids, and the names of special tokens, in one string."""
        ids = token_ids.tolist() if isinstance(token_ids, Tensor) else token_ids
        return "".join([self.tokens[i] for i in ids])


class CharacterSplit(NamedTuple):
    """Three parts of a text as token ids, and the vocabulary of them all."""

    train: Int[Tensor, " characters"]
    validation: Int[Tensor, " characters"]
    test: Int[Tensor, " characters"]
    characters: Characters


def shakespeare_by_play(special: Sequence[str] = ()) -> CharacterSplit:
    """Shakespeare with two plays held out for validation and two for the test.

    What a model learns of the names and the plot of one play is of no use in another,
    so this is the harder split of the two.

    Args:
        special: further tokens of the vocabulary, as in `Characters`.
    """
    kept = [p for p in plays() if p not in (*VALIDATION_PLAYS, *TEST_PLAYS)]
    parts = [
        "\n\n".join(shakespeare(play) for play in names)
        for names in (kept, VALIDATION_PLAYS, TEST_PLAYS)
    ]
    return _split(parts, special)


def split_by_position(
    text: str,
    validation: float = 0.05,
    test: float = 0.05,
    *,
    special: Sequence[str] = (),
) -> CharacterSplit:
    """The beginning of a text to train on, then a part to validate, its end to test.

    Args:
        text: any text.
        validation, test: shares of the characters.
        special: further tokens of the vocabulary, as in `Characters`.

    Raises:
        ValueError: a share is not positive, or nothing is left to train on.
    """
    if min(validation, test) <= 0 or validation + test >= 1:
        raise ValueError(
            "validation and test must be positive shares that leave something to train "
            f"on, but they are {validation} and {test}"
        )
    first = round(len(text) * (1 - validation - test))
    second = round(len(text) * (1 - test))
    return _split([text[:first], text[first:second], text[second:]], special)


def _split(parts: Sequence[str], special: Sequence[str]) -> CharacterSplit:
    characters = Characters("".join(parts), special)
    return CharacterSplit(*(characters.encode(part) for part in parts), characters)


class RandomWindows:
    """Batches of windows cut at random places out of one long text.

    Each epoch is ``num_batches`` batches of shape ``(batch_size, length + 1)``: the
    first ``length`` tokens are read, the last ``length`` are foretold. Epoch and seed
    determine the places, so that a run can be resumed.

    Args:
        token_ids: the text.
        length: tokens that a model reads at once.
        batch_size: windows in a batch.
        num_batches: batches that make an epoch.
        seed: of the places.

    Raises:
        ValueError: the text is shorter than a window.
    """

    def __init__(
        self,
        token_ids: Int[Tensor, " characters"],
        length: int,
        batch_size: int,
        num_batches: int,
        seed: int = 0,
    ) -> None:
        if len(token_ids) <= length:
            raise ValueError(
                f"length must be below the {len(token_ids)} tokens of the text, but it "
                f"is {length}"
            )
        self.token_ids, self.length = token_ids, length
        self.batch_size, self.num_batches = batch_size, num_batches
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose which epoch's batches the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[Int[Tensor, "batch length_and_one"]]:
        draw = torch.Generator().manual_seed(1_000_003 * self.seed + self.epoch)
        within = torch.arange(self.length + 1)
        for _ in range(self.num_batches):
            starts = torch.randint(
                len(self.token_ids) - self.length, (self.batch_size, 1), generator=draw
            )
            yield self.token_ids[starts + within]


def even_windows(
    token_ids: Int[Tensor, " characters"], length: int, number: int
) -> Int[Tensor, "number length_and_one"]:
    """``number`` windows of ``length + 1`` tokens, their starts evenly spread.

    The same windows each time: what a model is measured on. They overlap where the text
    is too short for them.

    Raises:
        ValueError: the text is shorter than a window, or no window is asked for.
    """
    last = len(token_ids) - length - 1
    if last < 0 or number < 1:
        raise ValueError(
            f"number must be at least 1 and length below the {len(token_ids)} tokens of "
            f"the text, but number is {number} and length is {length}"
        )
    starts = torch.linspace(0, last, number).long()
    return token_ids[starts[:, None] + torch.arange(length + 1)]
