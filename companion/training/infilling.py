"""Fill in the middle: texts rearranged so that a left-to-right model learns to insert.

Source: Bavarian et al. (2022), "Efficient Training of Language Models to Fill in the
Middle", section 3: the order prefix, suffix, middle (PSM), applied to a share of the
texts after they have been cut to length (context-level FIM).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor


class Sentinels(NamedTuple):
    """The ids of the four tokens that mark the parts."""

    prefix: int
    suffix: int
    middle: int
    end: int


# Their names in a vocabulary.
SENTINELS = ("<pre>", "<suf>", "<mid>", "<end>")


def fill_in_the_middle(
    token_ids: Int[Tensor, " length"], start: int, stop: int, sentinels: Sentinels
) -> Int[Tensor, " length_plus_4"]:
    """``<pre> prefix <suf> suffix <mid> middle <end>``: the middle, moved to the end.

    After ``<mid>``, a causal model has both sides before it.

    Args:
        token_ids: one text.
        start, stop: the middle is ``token_ids[start:stop]``; it may be empty.
        sentinels: none of which is in the text.

    Raises:
        ValueError: the cuts are not in order or outside of the text.
    """
    if not 0 <= start <= stop <= len(token_ids):
        raise ValueError(
            f"start and stop must be in order and from 0 to {len(token_ids)}, but they "
            f"are {start} and {stop}"
        )

    def mark(token: int) -> Tensor:
        return token_ids.new_tensor([token])

    return torch.cat(
        [
            mark(sentinels.prefix),
            token_ids[:start],
            mark(sentinels.suffix),
            token_ids[stop:],
            mark(sentinels.middle),
            token_ids[start:stop],
            mark(sentinels.end),
        ]
    )


def undo_fill_in_the_middle(
    token_ids: Int[Tensor, " length"], sentinels: Sentinels
) -> Int[Tensor, " length_less_4"]:
    """The text in its own order again; what follows ``<end>`` is left out.

    Raises:
        ValueError: a sentinel is missing, or they are out of order.
    """
    places = []
    for name, token in zip(SENTINELS, sentinels, strict=True):
        at = (token_ids == token).nonzero()
        if not len(at):
            raise ValueError(f"token_ids must hold {name}, the token {token}")
        places.append(int(at[0]))
    pre, suf, mid, end = places
    if not 0 == pre < suf < mid < end:
        raise ValueError(
            f"the sentinels must come in the order {', '.join(SENTINELS)}, the first of "
            f"them at the beginning, but they are at {places}"
        )
    return torch.cat(
        [token_ids[1:suf], token_ids[mid + 1 : end], token_ids[suf + 1 : mid]]
    )


class WithInfilling:
    """Batches of windows of which a share is rearranged by `fill_in_the_middle`.

    A rearranged window has four tokens of its text fewer, since the sentinels take
    their places.

    Args:
        batches: of windows, each ``(batch, length)``; iterated anew each epoch.
        sentinels: their ids.
        rate: share of windows that are rearranged.
        max_middle: the longest middle; its length is drawn evenly up to this.
        max_suffix: the longest suffix, as an editor may cut it; by default all that
            follows the middle. Its length is drawn evenly up to this, and the text
            before the middle takes the room that is left.
        seed: of the cuts.

    Raises:
        ValueError: the rate is not a share, or a length below 1.
    """

    def __init__(
        self,
        batches: Iterable[Int[Tensor, "batch length"]],
        sentinels: Sentinels,
        *,
        rate: float = 0.5,
        max_middle: int = 32,
        max_suffix: int | None = None,
        seed: int = 0,
    ) -> None:
        if not 0 <= rate <= 1 or max_middle < 1 or (max_suffix or 1) < 1:
            raise ValueError(
                "rate must be from 0 to 1, max_middle and max_suffix at least 1, but "
                f"they are {rate}, {max_middle} and {max_suffix}"
            )
        self.batches, self.sentinels = batches, sentinels
        self.rate, self.max_middle, self.max_suffix = rate, max_middle, max_suffix
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose which epoch's batches the next iteration gives."""
        self.epoch = epoch
        if hasattr(self.batches, "set_epoch"):
            self.batches.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Int[Tensor, "batch length"]]:
        draw = torch.Generator().manual_seed(1_000_003 * self.seed + self.epoch)
        for windows in self.batches:
            rows = []
            for row in windows:
                if torch.rand((), generator=draw) < self.rate:
                    row = self._rearranged(row[: len(row) - len(SENTINELS)], draw)
                rows.append(row)
            yield torch.stack(rows)

    def _rearranged(self, row: Tensor, draw: torch.Generator) -> Tensor:
        longest = min(self.max_middle, len(row))
        length = 1 + int(torch.randint(longest, (), generator=draw))
        room = len(row) - length  # for prefix and suffix
        if self.max_suffix is None:
            start = int(torch.randint(room + 1, (), generator=draw))
        else:
            suffix = 1 + int(torch.randint(self.max_suffix, (), generator=draw))
            start = max(0, room - suffix)
        return fill_in_the_middle(row, start, start + length, self.sentinels)
