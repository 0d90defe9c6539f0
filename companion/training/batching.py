"""Batches of sentence pairs that hold about the same number of tokens.

Source: Vaswani et al. (2017), section 5.1: pairs of similar length share a batch, which
holds about 25,000 source tokens and 25,000 target tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

Pair = tuple[Sequence[int], Sequence[int]]


class PairBatch(NamedTuple):
    """Source and target tokens of some pairs, filled up with padding at the end."""

    source_ids: Int[Tensor, "batch source"]
    target_ids: Int[Tensor, "batch target"]


def collate_pairs(pairs: Sequence[Pair], pad_id: int = 0) -> PairBatch:
    """Make one batch of ``pairs``; each side is as long as its longest sequence."""
    source_ids, target_ids = (
        pad_sequence(
            [torch.as_tensor(ids, dtype=torch.long) for ids in side],
            batch_first=True,
            padding_value=pad_id,
        )
        for side in zip(*pairs, strict=True)
    )
    return PairBatch(source_ids, target_ids)


class TokenBatches:
    """All pairs once an epoch, in batches of similar length and about equal size.

    Iterating gives the batches of the current epoch. Their order and their contents
    are a function of ``(seed, epoch)`` and of nothing else, so that a run can go on in
    the middle of an epoch by passing over the batches it has seen.

    Args:
        pairs: source and target tokens; targets with their start and end tokens.
        max_tokens: the most source tokens that a batch holds, and the most target
            tokens, *padding included*: this is what memory and time depend on.
        max_length: the longest sequence allowed; by default ``max_tokens``.
        too_long: what to do with a pair that is longer on either side: ``"error"``, or
            ``"drop"`` it; ``dropped`` lists the indices of those.
        pad_id: fills up shorter sequences; no sequence may hold it.
        shuffle: False gives the pairs from short to long, the same each epoch.
        seed: of the shuffling.

    Attributes:
        dropped: indices of the pairs that were too long.
        epoch: the current epoch, counted from 0; `set_epoch` changes it.

    Raises:
        ValueError: names the index of the first pair that is too long, empty, has no
            target token to predict, or holds the padding token; or an option is out of
            range; or no pair is left.
    """

    # Lengths are blurred by up to this part of themselves before they are sorted, so
    # that a pair meets other pairs in each epoch.
    _BLUR = 0.1

    def __init__(
        self,
        pairs: Sequence[Pair],
        max_tokens: int = 25_000,
        *,
        max_length: int | None = None,
        too_long: Literal["error", "drop"] = "error",
        pad_id: int = 0,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        max_length = max_tokens if max_length is None else max_length
        if not 1 <= max_length <= max_tokens:
            raise ValueError(
                f"max_length must be between 1 and max_tokens, which is {max_tokens}, "
                f"but it is {max_length}"
            )
        if too_long not in ("error", "drop"):
            raise ValueError(
                f"too_long must be 'error' or 'drop', but it is {too_long!r}"
            )
        self.pairs = pairs
        self.max_tokens = max_tokens
        self.pad_id = pad_id
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0
        self.dropped: list[int] = []
        kept = []
        for index, pair in enumerate(pairs):
            _check_pair(index, pair, pad_id)
            if max(len(ids) for ids in pair) <= max_length:
                kept.append(index)
            elif too_long == "drop":
                self.dropped.append(index)
            else:
                lengths = " source and ".join(str(len(ids)) for ids in pair)
                raise ValueError(
                    f"pair {index} has {lengths} target tokens, more than the "
                    f"{max_length} that are allowed; with too_long='drop' such pairs "
                    "are left out"
                )
        if not kept:
            raise ValueError(
                f"pairs must hold at least one pair of up to {max_length} tokens, but "
                f"of its {len(pairs)} none is left"
            )
        self._kept = np.array(kept)
        self._lengths = np.array([[len(ids) for ids in pairs[i]] for i in kept])
        self._plan: tuple[int, list[list[int]]] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that iterating gives."""
        self.epoch = epoch

    def plan(self) -> list[list[int]]:
        """The current epoch: for each of its batches, the indices of its pairs."""
        if self._plan is None or self._plan[0] != self.epoch:
            self._plan = (self.epoch, self._make_plan())
        return self._plan[1]

    def __len__(self) -> int:
        """Number of batches in the current epoch; it varies a little between epochs."""
        return len(self.plan())

    def __iter__(self) -> Iterator[PairBatch]:
        for indices in self.plan():
            yield collate_pairs([self.pairs[i] for i in indices], self.pad_id)

    def _make_plan(self) -> list[list[int]]:
        lengths = self._lengths.max(axis=1).astype(float)
        rng = np.random.default_rng((self.seed, self.epoch))
        if self.shuffle:
            lengths *= rng.uniform(1, 1 + self._BLUR, len(lengths))
        batches: list[list[int]] = [[]]
        longest = np.zeros(2, dtype=int)  # source, target
        for i in np.argsort(lengths, kind="stable"):
            longest = np.maximum(longest, self._lengths[i])
            if (len(batches[-1]) + 1) * longest.max() > self.max_tokens:
                batches.append([])
                longest = self._lengths[i]
            batches[-1].append(int(self._kept[i]))
        if self.shuffle:
            batches = [batches[i] for i in rng.permutation(len(batches))]
        return batches


def _check_pair(index: int, pair: Pair, pad_id: int) -> None:
    source, target = pair
    if len(source) == 0:
        raise ValueError(f"pair {index} has an empty source")
    if len(target) < 2:
        raise ValueError(
            f"pair {index} has {len(target)} target tokens, but a target needs a start "
            "token and at least one token to predict"
        )
    for name, ids in (("source", source), ("target", target)):
        if pad_id in ids:
            raise ValueError(
                f"the {name} of pair {index} holds the padding token, pad_id={pad_id}; "
                "it would be masked and not be learned"
            )
