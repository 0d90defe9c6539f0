"""Fill in the middle: nothing is lost, and the middle comes last."""

from __future__ import annotations

import pytest
import torch

from companion.training.infilling import (
    Sentinels,
    WithInfilling,
    fill_in_the_middle,
    undo_fill_in_the_middle,
)

MARKS = Sentinels(90, 91, 92, 93)


def test_by_hand():
    text = torch.tensor([1, 2, 3, 4, 5])
    moved = fill_in_the_middle(text, 1, 3, MARKS)
    assert moved.tolist() == [90, 1, 91, 4, 5, 92, 2, 3, 93]


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 6), (2, 2), (6, 6), (1, 5)])
def test_it_can_be_undone(start, stop):
    text = torch.arange(6)
    moved = fill_in_the_middle(text, start, stop, MARKS)
    assert len(moved) == 10
    assert torch.equal(undo_fill_in_the_middle(moved, MARKS), text)
    more = torch.cat([moved, torch.tensor([5, 5])])  # written on after the end
    assert torch.equal(undo_fill_in_the_middle(more, MARKS), text)


def test_bad_cuts_and_bad_texts():
    text = torch.arange(6)
    for start, stop in ((-1, 2), (3, 2), (0, 7)):
        with pytest.raises(ValueError, match="start and stop must be in order"):
            fill_in_the_middle(text, start, stop, MARKS)
    with pytest.raises(ValueError, match="must hold <pre>"):
        undo_fill_in_the_middle(text, MARKS)
    wrong = torch.tensor([90, 1, 92, 2, 91, 3, 93])
    with pytest.raises(ValueError, match="must come in the order"):
        undo_fill_in_the_middle(wrong, MARKS)


def test_a_share_of_the_windows_is_rearranged():
    batches = [torch.arange(20).repeat(50, 1) for _ in range(4)]
    mixed = WithInfilling(batches, MARKS, rate=0.5, max_middle=5, seed=1)
    assert len(mixed) == 4
    rows = torch.cat(list(mixed))
    assert rows.shape == (200, 20)
    moved = rows[rows[:, 0] == 90]
    assert 70 < len(moved) < 130
    lengths = set()
    for row in moved:
        assert torch.equal(undo_fill_in_the_middle(row, MARKS), torch.arange(16))
        lengths.add(19 - int((row == 92).nonzero()[0]) - 1)
    assert lengths == {1, 2, 3, 4, 5}
    kept = rows[rows[:, 0] != 90]
    assert torch.equal(kept, torch.arange(20).expand(len(kept), 20))


def test_the_suffix_can_be_kept_short():
    batches = [torch.arange(20).repeat(200, 1)]
    mixed = WithInfilling(batches, MARKS, rate=1.0, max_middle=3, max_suffix=4)
    lengths = set()
    for row in next(iter(mixed)):
        assert torch.equal(undo_fill_in_the_middle(row, MARKS), torch.arange(16))
        suf, mid = ((row == mark).nonzero()[0].item() for mark in (91, 92))
        lengths.add(mid - suf - 1)
    assert lengths == {1, 2, 3, 4}


def test_epochs_differ_and_come_again():
    batches = [torch.arange(20).repeat(8, 1)]
    mixed = WithInfilling(batches, MARKS, rate=1.0)
    first = next(iter(mixed))
    assert torch.equal(first, next(iter(mixed)))
    mixed.set_epoch(1)
    assert not torch.equal(first, next(iter(mixed)))
    with pytest.raises(ValueError, match="rate must be from 0 to 1"):
        WithInfilling(batches, MARKS, rate=1.5)
