"""The project on three families: its tasks, and its rubric on work that is known."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from companion.exercises.projects import architectures, grade
from companion.exercises.projects.architectures import (
    AGAIN,
    FAMILIES,
    FIRST_LETTER,
    LAST,
    PAD,
    TASKS,
    VOCAB_SIZE,
    backwards,
    bits_a_target,
    draw,
    leak,
    least_bits,
    share_right,
    written,
)


class Oracle(nn.Module):
    """Knows all that can be known about a task, and reads what is written if it may."""

    def __init__(self, task, *, at_once=False, size=100):
        super().__init__()
        self.task, self.at_once = task, at_once
        self.weight = nn.Parameter(torch.zeros(size))

    def forward(self, source, target):
        if self.task == "tag":
            options = [_tags_by_hand(source)]
        else:
            options = [backwards(source)]
            options += [source] if self.task == "coin" else []
        chances = 0
        for option in options:
            agrees = (option == target) | self.at_once
            so_far = F.pad(agrees[:, :-1], (1, 0), value=True).cumprod(dim=1)
            chances = chances + F.one_hot(option, VOCAB_SIZE) * so_far[..., None]
        source_columns = torch.zeros_like(chances)
        return torch.cat([source_columns, (chances + 1e-9).log()], dim=1)


class Peeks(Oracle):
    """Says what it is to foretell."""

    def forward(self, source, target):
        return 50.0 * F.one_hot(target, VOCAB_SIZE)


def _tags_by_hand(source):
    rows = [
        [
            PAD if i == PAD else AGAIN if i in row[at + 1 :] else LAST
            for at, i in enumerate(row)
        ]
        for row in source.tolist()
    ]
    return torch.tensor(rows, device=source.device)


def _work(**changes):
    models = {task: {name: Oracle(task) for name in FAMILIES} for task in TASKS}
    models["coin"]["encoder-only"] = Oracle("coin", at_once=True)
    for where, model in changes.items():
        task, family = where.split("_", 1)
        models[task][family.replace("_", "-")] = model
    return models


def test_the_oracle_is_excellent_in_everything():
    found = grade("architectures", models=_work())
    assert [line.level for line in found.lines] == [3] * 5, found


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"tag_encoder_only": Oracle("tag", size=112)}, "fairness"),
        ({"tag_decoder_only": Peeks("tag")}, "no leak"),
        ({"tag_encoder_only": Oracle("reverse")}, "right context"),
        ({"reverse_encoder_decoder": Oracle("tag")}, "writing"),
        ({"coin_decoder_only": Oracle("coin", at_once=True)}, "the coin"),
    ],
)
def test_one_fault_is_seen_in_its_line_alone(changes, line):
    found = grade("architectures", models=_work(**changes))
    levels = {x.criterion.name: x.level for x in found.lines}
    assert levels.pop(line) == 0, found
    assert set(levels.values()) == {3}, found


def test_a_family_that_is_missing_is_said():
    models = _work()
    del models["coin"]["decoder-only"]
    found = grade("architectures", models=models)
    assert found["the coin"].level == 0
    assert "decoder-only" in found["the coin"].found


def test_the_floors_are_what_the_best_of_models_pay():
    one_by_one = bits_a_target(Oracle("coin"), "coin")
    assert math.isclose(one_by_one, least_bits("coin", at_once=False), abs_tol=1e-3)
    at_once = bits_a_target(Oracle("coin", at_once=True), "coin")
    assert math.isclose(at_once, least_bits("coin", at_once=True), abs_tol=1e-3)
    assert at_once > 3 * one_by_one
    assert least_bits("reverse", at_once=True) == 0


def test_what_is_drawn_one_by_one_is_an_answer():
    """And what is drawn all at once is one only where the coin does not matter."""
    assert share_right(Oracle("coin"), "coin", sample=True) == 1
    assert share_right(Oracle("coin", at_once=True), "coin", sample=True) < 0.5


def test_a_leak_is_found_wherever_it_is():
    class LooksOneAhead(Oracle):
        def forward(self, source, target):
            ahead = F.pad(target[:, 1:], (0, 1))
            return F.one_hot(ahead, VOCAB_SIZE).float()

    assert leak(Oracle("coin")) == 0
    assert leak(LooksOneAhead("tag")) > 0.1
    assert leak(Peeks("tag")) > 0.9


@pytest.mark.parametrize("task", TASKS)
def test_targets_are_as_long_as_their_sources(task):
    source, target = draw(task, 200, torch.Generator().manual_seed(3))
    assert torch.equal(source == PAD, target == PAD)
    assert source.max() < FIRST_LETTER + architectures.NUM_LETTERS
    again, _ = draw(task, 200, torch.Generator().manual_seed(3))
    assert torch.equal(source, again)
    # The same sources for each task, so that a difference is the task's.
    assert torch.equal(
        source, draw("tag", 200, torch.Generator().manual_seed(3)).source
    )
    assert torch.equal(written(Oracle(task), source) == PAD, source == PAD)


def test_the_targets_by_hand():
    source = torch.tensor([[2, 3, 2, 4, PAD, PAD]])
    assert backwards(source).tolist() == [[4, 2, 3, 2, PAD, PAD]]
    drawn = draw("tag", 100, torch.Generator().manual_seed(0))
    assert torch.equal(drawn.target, _tags_by_hand(drawn.source))
    source, target = draw("coin", 400, torch.Generator().manual_seed(0))
    as_it_is = (target == source).all(dim=1)
    assert 0.4 < as_it_is.float().mean() < 0.7
    assert ((target == backwards(source)).all(dim=1) | as_it_is).all()
    with pytest.raises(ValueError, match="task must be one of tag, reverse, coin"):
        draw("sort", 1, torch.Generator())
