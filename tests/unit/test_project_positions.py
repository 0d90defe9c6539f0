"""The project on positions: its questions, and its rubric on work that is known."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from companion.exercises.projects import grade
from companion.exercises.projects.positions import (
    ENCODINGS,
    READERS,
    START,
    STEPS,
    TRAINED_LENGTH,
    UNASKED,
    VOCAB_SIZE,
    accuracy,
    draw,
    order_blindness,
    place_in_states,
)


class Knows(nn.Module):
    """Answers both questions and has the place in its states, up to a length."""

    def __init__(self, reach=10_000):
        super().__init__()
        self.reach = reach

    def states(self, ids):
        places = torch.arange(float(ids.shape[1]), device=ids.device)
        return [places.expand(len(ids), -1)[..., None]]

    def forward(self, ids):
        back = F.pad(ids[:, :-STEPS], (STEPS, 0))
        place = ids[:, STEPS : STEPS + 1].expand_as(ids)
        answers = torch.stack([back, place], dim=-1)
        answers[:, self.reach + 1 :] = START
        return 9.0 * F.one_hot(answers, VOCAB_SIZE)


class Blind(nn.Module):
    """The commonest letter of a text, as a model without positions would guess."""

    def states(self, ids):
        return [F.one_hot(ids, VOCAB_SIZE).float()]

    def forward(self, ids):
        counts = F.one_hot(ids, VOCAB_SIZE).sum(dim=1).float()
        return counts[:, None, None].expand(-1, ids.shape[1], 2, -1)


def _work(**changes):
    models = {reader: dict.fromkeys(ENCODINGS, Knows()) for reader in READERS}
    models["encoder"]["none"] = Blind()
    for where, model in changes.items():
        reader, encoding = where.split("_")
        models[reader][encoding] = model
    return models


def test_the_oracle_is_excellent_in_everything():
    found = grade("positions", models=_work())
    assert [line.level for line in found.lines] == [3] * 5, found


def test_models_without_order_get_the_first_line_only():
    models = {reader: dict.fromkeys(ENCODINGS, Blind()) for reader in READERS}
    found = grade("positions", models=models)
    assert [line.level for line in found.lines] == [3, 0, 0, 0, 0], found


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"encoder_none": Knows()}, {"blind"}),
        ({"decoder_none": Blind()}, {"the mask leaks", "by the mask alone"}),
        ({"encoder_rotary": Blind()}, {"told where"}),
    ],
)
def test_a_fault_is_seen_where_it_is(changes, lines):
    found = grade("positions", models=_work(**changes))
    assert {x.criterion.name for x in found.lines if x.level == 0} == lines, found


def test_who_stops_at_the_trained_length_is_not_farther():
    stops = Knows(reach=TRAINED_LENGTH)
    models = {reader: dict.fromkeys(ENCODINGS, stops) for reader in READERS}
    found = grade("positions", models=models)
    assert found["told where"].level == 3
    assert found["farther"].level == 0


def test_accuracy_beyond_counts_only_what_is_beyond():
    stops = Knows(reach=TRAINED_LENGTH)
    assert accuracy(stops) == {"back": 1.0, "place": 1.0}
    assert accuracy(stops, 2 * TRAINED_LENGTH) == {"back": 0.0, "place": 0.0}
    guess = accuracy(Blind())
    assert all(0.125 < share < 0.45 for share in guess.values())


def test_blindness_and_the_probe():
    assert order_blindness(Blind()) == 0
    assert order_blindness(Knows()) > 1
    assert place_in_states(Knows()) > 0.999
    assert abs(place_in_states(Blind())) < 0.1


def test_the_questions_by_hand():
    ids, answers = draw(50, torch.Generator().manual_seed(0), letters=7)
    assert ids.shape == (50, 8) and answers.shape == (50, 8, 2)
    assert (ids[:, 0] == START).all() and (ids[:, 1:] != START).all()
    for row, asked in zip(ids.tolist(), answers.tolist(), strict=True):
        for place, (back, third) in enumerate(asked):
            right = row[place - STEPS] if place > STEPS else UNASKED
            assert back == right
            assert third == (row[STEPS] if place >= STEPS else UNASKED)
    with pytest.raises(ValueError, match="letters must be above 3, but it is 3"):
        draw(1, torch.Generator(), letters=3)
