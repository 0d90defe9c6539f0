"""Exercises that are no code: predictions and orders, and programs to mend."""

from __future__ import annotations

import inspect

import pytest
import torch

from companion.exercises import (
    Exercise,
    Kind,
    Ordering,
    Prediction,
    Verdict,
    broken_program,
    check,
    hint,
    solution,
)
from companion.exercises.registry import all_exercises

TASKS = all_exercises().values()
PREDICTIONS = [task for task in TASKS if isinstance(task, Prediction)]
ORDERINGS = [task for task in TASKS if isinstance(task, Ordering)]
REPAIRS = [t for t in TASKS if isinstance(t, Exercise) and t.kind is Kind.FIX]


def of(tasks):
    return pytest.mark.parametrize("task", tasks, ids=lambda task: task.name)


def test_there_are_enough_of_each_kind():
    assert len({task.chapter for task in PREDICTIONS}) >= 8
    assert len({task.chapter for task in REPAIRS}) >= 8
    assert len({task.chapter for task in ORDERINGS}) >= 4


@of([*PREDICTIONS, *ORDERINGS, *REPAIRS])
def test_what_every_task_has(task):
    assert len(task.hints) >= 3 and all(task.hints)
    assert 1 <= task.difficulty <= 5 and task.minutes > 0
    assert task.trains
    assert "Hint 1 of" in hint(task, 1)
    assert solution(task)


@of(PREDICTIONS)
def test_predictions(task):
    assert check(task, task.reference()).passed
    assert task.explanation in " ".join(str(check(task, task.reference())).split())
    assert check(task, ...).verdict is Verdict.NOT_IMPLEMENTED
    assert len(task.wrong_values) >= 3
    for wrong in task.wrong_values:
        report = check(task.name, wrong.value())
        assert report.verdict is Verdict.MISCONCEPTION
        assert report.misconception == wrong.name, "told its own name, and no other"
        assert wrong.says.split()[0] in str(report)
    assert check(task, "a text").verdict is Verdict.WRONG_TYPE
    assert check(task, torch.tensor(task.reference())).passed, "a tensor will do"


def test_a_value_that_no_known_mistake_gives():
    assert "1 of its 3 numbers is right" in str(check("weights_shape", (2, 9, 9)))
    assert "each is in another's place" in str(check("weights_shape", (7, 2, 5)))
    assert "too large" in str(check("first_loss", 12.5))
    assert "too small" in str(check("image_tokens", 3))
    assert "wrong sign" in str(check("first_loss", -3))
    assert "a tuple of 3 is asked" in str(check("weights_shape", 7))
    assert check("first_loss", 10.8).passed, "three digits are enough"
    assert not check("image_tokens", 197.4).passed, "a whole number is exact"


@of(ORDERINGS)
def test_orders(task):
    right = task.right_orders()
    assert right, "the rules can be kept"
    for order in right:
        assert check(task, order).passed
    assert check(task, " ".join(right[0]).lower()).passed, "blanks and case are free"
    assert check(task.name, list(right[0])).passed
    assert check(task, ...).verdict is Verdict.NOT_IMPLEMENTED
    assert {r.first for r in task.rules} | {r.second for r in task.rules} <= task.wanted
    for rule in task.rules:  # each is needed, and is told where it is broken
        order = (
            right[0]
            .replace(rule.first, "")
            .replace(rule.second, rule.second + rule.first)
        )
        report = check(task, order)
        assert report.verdict is Verdict.MISCONCEPTION
        broken = task.broken_rules(order)
        assert rule in broken
        assert broken[0].why.split()[0] in str(report)
    for letter, why in task.strangers:
        assert why.split()[0] in str(check(task, right[0] + letter))
    assert "is missing" in str(check(task, right[0][1:]))
    assert "stands there twice" in str(check(task, right[0] + right[0][0]))
    assert "is not among the steps" in str(check(task, right[0] + "Z"))
    assert check(task, 3).verdict is Verdict.WRONG_TYPE


@of(REPAIRS)
def test_repairs(task):
    assert task.broken is task.misconceptions[0].wrong
    report = check(task, task.broken)
    assert report.verdict is Verdict.MISCONCEPTION
    assert "Found" in str(report) or "Worst" in str(report), "its failure is shown"
    source = broken_program(task)
    assert source == inspect.getsource(task.broken).rstrip()
    assert len(source.splitlines()) <= 8


def test_only_a_repair_has_a_broken_program():
    with pytest.raises(ValueError, match="'attend' has no bug to fix"):
        broken_program("attend")
