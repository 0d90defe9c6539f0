"""Batches by tokens: each pair once, within the limit, the same for the same epoch."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from companion.training import TokenBatches, collate_pairs
from tests.training_cases import reversals

LENGTHS = st.lists(st.tuples(st.integers(1, 12), st.integers(2, 12)), min_size=1)


def of_lengths(lengths: list[tuple[int, int]]) -> list[tuple[list[int], list[int]]]:
    """Pairs of these lengths, each with its own token."""
    return [([i] * s, [i] * t) for i, (s, t) in enumerate(lengths, start=1)]


@given(LENGTHS, st.integers(12, 60), st.booleans(), st.integers(0, 3))
def test_each_pair_comes_once_and_no_batch_is_too_large(
    lengths: list[tuple[int, int]], max_tokens: int, shuffle: bool, epoch: int
) -> None:
    batches = TokenBatches(of_lengths(lengths), max_tokens, shuffle=shuffle)
    batches.set_epoch(epoch)
    seen = []
    for batch in batches:
        assert batch.source_ids.numel() <= max_tokens
        assert batch.target_ids.numel() <= max_tokens
        for source, target in zip(*batch, strict=True):
            i = int(source[0])
            assert target[0] == i
            assert ((source != 0).sum(), (target != 0).sum()) == lengths[i - 1]
            seen.append(i)
    assert sorted(seen) == list(range(1, len(lengths) + 1))
    assert len(batches) == len(list(batches))


def test_an_epoch_is_a_function_of_the_seed_and_its_number() -> None:
    def plan(seed: int, epoch: int) -> list[list[int]]:
        batches = TokenBatches(reversals(100), 60, seed=seed)
        batches.set_epoch(epoch)
        return batches.plan()

    torch.manual_seed(1)
    first = plan(0, 0)
    torch.manual_seed(2)
    assert plan(0, 0) == first
    others = [plan(0, 1), plan(1, 0), plan(1, 1)]
    assert all(other != first for other in others)
    # Not only the order of the batches changes: their contents do.
    assert {frozenset(b) for b in first} != {frozenset(b) for b in others[0]}


def test_an_epoch_can_be_entered_in_the_middle() -> None:
    batches = TokenBatches(reversals(60), 40)
    batches.set_epoch(2)
    everything = list(batches)
    again = TokenBatches(reversals(60), 40)
    again.set_epoch(2)
    rest = list(islice(again, 3, None))
    assert len(rest) == len(everything) - 3
    for a, b in zip(rest, everything[3:], strict=True):
        assert torch.equal(a.source_ids, b.source_ids)
        assert torch.equal(a.target_ids, b.target_ids)


def test_pairs_of_similar_length_share_a_batch() -> None:
    """Nine tenths of what a batch holds are tokens; without sorting it is about half."""
    g = torch.Generator().manual_seed(0)
    n = torch.randint(2, 60, (3000,), generator=g).tolist()
    batches = TokenBatches(of_lengths([(k, k + 2) for k in n]), 1000)
    real = sum((ids != 0).sum().item() for batch in batches for ids in batch)
    space = sum(ids.numel() for batch in batches for ids in batch)
    assert real / space > 0.9
    fullest = [max(ids.numel() for ids in batch) for batch in batches]
    assert sum(fullest) / len(fullest) > 0.9 * 1000


def test_the_order_without_shuffling_goes_from_short_to_long() -> None:
    batches = TokenBatches(reversals(50), 40, shuffle=False)
    widths = [batch.target_ids.shape[1] for batch in batches]
    assert widths == sorted(widths)
    first = batches.plan()
    batches.set_epoch(1)
    assert batches.plan() == first


def test_padding_fills_up_the_end() -> None:
    batch = collate_pairs([([5], [1, 5, 2]), ([6, 7, 8], [1, 2])], pad_id=9)
    assert batch.source_ids.tolist() == [[5, 9, 9], [6, 7, 8]]
    assert batch.target_ids.tolist() == [[1, 5, 2], [1, 2, 9]]
    source_ids, target_ids = batch
    assert source_ids.dtype == target_ids.dtype == torch.int64


LONG = [([3], [1, 3, 2]), ([3] * 9, [1, 2]), ([4], [1, 4, 2]), ([3], [1] * 8)]


def test_a_pair_that_is_too_long_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match=r"pair 1 has 9 source and 2 target .* the 7 "):
        TokenBatches(LONG, 40, max_length=7)
    with pytest.raises(ValueError, match=r"pair 1 has .* the 8 that are allowed"):
        TokenBatches(LONG, 8)


def test_pairs_that_are_too_long_can_be_dropped_and_are_counted() -> None:
    batches = TokenBatches(LONG, 40, max_length=7, too_long="drop")
    assert batches.dropped == [1, 3]
    assert sorted(i for batch in batches.plan() for i in batch) == [0, 2]
    with pytest.raises(ValueError, match=r"of its 4 none is left"):
        TokenBatches(LONG, 40, max_length=2, too_long="drop")


@pytest.mark.parametrize(
    ("pairs", "options", "message"),
    [
        ([([3], [1, 2]), ([], [1, 2])], {}, "pair 1 has an empty source"),
        ([([3], [1])], {}, "pair 0 has 1 target tokens, but"),
        ([([3, 0], [1, 2])], {}, "source of pair 0 holds the padding .*pad_id=0"),
        ([([3], [1, 9, 2])], {"pad_id": 9}, "target of pair 0 holds"),
        ([], {}, "pairs must hold at least one pair"),
        ([([3], [1, 2])], {"too_long": "cut"}, "too_long must be .* 'cut'"),
        ([([3], [1, 2])], {"max_length": 50}, "between 1 and max_tokens, .* 40"),
    ],
)
def test_bad_pairs_and_options(pairs: list, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenBatches(pairs, 40, **options)
