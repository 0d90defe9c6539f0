"""What is seen of a text on each side of a gap, and the table that is kept."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from companion.analysis import both_sides, pretraining


class Witness(nn.Module):
    """Puts all its weight on the sum of the ids that it reads, at every place."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[list[int]] = []

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        self.read.append(token_ids[0].tolist())
        logits = torch.zeros(*token_ids.shape, pretraining.VOCAB_SIZE)
        place = token_ids[0].tolist().index(pretraining.MASK_ID)
        logits[0, place, int(token_ids.sum())] = 50.0  # at the gap, and nowhere else
        return logits


def test_each_side_is_cut_off_and_the_gap_is_asked() -> None:
    witness, gap = Witness(), pretraining.MASK_ID
    tables = both_sides.logits_by_side(witness, [2, 100, 200, 300, 3])
    assert list(tables) == list(both_sides.SIDES)
    assert witness.read == [
        [2, gap, 200, 300, 3], [2, 100, gap, 300, 3], [2, 100, 200, gap, 3],
        [2, gap, 3], [2, 100, gap, 3], [2, 100, 200, gap, 3],
        [2, gap, 200, 300, 3], [2, gap, 300, 3], [2, gap, 3],
    ]  # fmt: skip
    sums = iter(map(sum, witness.read))
    for table in tables.values():
        assert table[[0, -1]].isnan().all()
        assert table[1:-1].argmax(dim=-1).tolist() == [next(sums) for _ in range(3)]


def test_stored_answers_fit_their_verses() -> None:
    bits, verses = both_sides.stored_results()
    assert tuple(verses) == both_sides.SHOWN and set(bits) == set(both_sides.SIDES)
    unseen = {verse.text for verse in pretraining.bible_split().test}
    assert unseen.issuperset(verses)
    for answer in verses.values():
        for side in both_sides.SIDES:
            places = answer["sides"][side]
            assert len(places) == len(answer["tokens"])
            for (p, likeliest), token in zip(places, answer["tokens"], strict=True):
                best = dict(likeliest)
                assert len(best) == both_sides.LIKELIEST
                assert best.get(token, p) == pytest.approx(p, abs=1e-3)
                assert p <= max(best.values()) + 1e-3


def test_first_and_last_token_have_one_side_only() -> None:
    """A token with nothing before it is told the same with and without what is before."""
    for answer in both_sides.stored_results()[1].values():
        sides = answer["sides"]
        assert sides["both sides"][0] == sides["right only"][0]
        assert sides["both sides"][-1] == sides["left only"][-1]
