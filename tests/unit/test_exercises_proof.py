"""A sample of `python -m tests.mutation`, the same each time, and its kept table."""

from __future__ import annotations

import random

import pytest
import torch

from companion.exercises import Exercise, Verdict, limits
from companion.exercises.registry import all_exercises
from tests.mutation.__main__ import stored
from tests.mutation.mutants import ENOUGH, mutants
from tests.mutation.proof import Bench, chosen, right_answers
from tests.mutation.rewrite import rewrites

CODE = [task for task in all_exercises().values() if isinstance(task, Exercise)]
A_SAMPLE = 4  # mutants, and pairs, of each exercise

every_exercise = pytest.mark.parametrize("exercise", CODE, ids=lambda e: e.name)


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch):
    monkeypatch.setattr(limits, "SECONDS", 1.0)


@every_exercise
def test_right_answers_written_differently_pass(exercise):
    bench, answers = Bench(exercise), right_answers(exercise)
    assert len(answers) >= 3
    for name, answer in answers.items():
        report = bench.report(answer)
        assert report.passed, f"{name}: {report}"


@every_exercise
def test_two_mistakes_at_once_fail_and_are_told(exercise):
    bench = Bench(exercise)
    proper = bench.proper_pairs()
    for pair in random.Random(exercise.name).sample(proper, min(len(proper), A_SAMPLE)):
        report = bench.report(pair.wrong)
        assert not report.passed
        names = [mistake.name for mistake in pair.mistakes]
        # Several pairs may do the same; more than three of them are not listed.
        if report.verdict is Verdict.MISCONCEPTION:
            assert " and ".join(names) in report.misconception


@every_exercise
def test_mutants_die_or_do_the_same_everywhere(exercise):
    bench = Bench(exercise)
    for mutant in chosen(mutants(exercise.reference), exercise.name, A_SAMPLE):
        if bench.passes(mutant.code):
            assert not bench.differs_elsewhere(mutant.code), mutant.says


def test_the_kept_table_is_of_these_exercises_and_keeps_the_promise():
    rows = stored()
    assert {row["exercise"] for row in rows} == {exercise.name for exercise in CODE}
    misconceptions = {e.name: len(e.misconceptions) for e in CODE}
    for row in rows:
        assert int(row["misconceptions"]) == misconceptions[row["exercise"]]
        assert int(row["killed"]) + int(row["equivalent"]) == int(row["mutants"])
        assert int(row["right_accepted"]) >= 3
        assert int(row["slowest_ms"]) < 2000
    assert len(rows) >= 90 and sum(misconceptions.values()) >= 300
    few = {row["exercise"] for row in rows if int(row["mutants"]) < ENOUGH}
    # Of two lines each, in which there is no more to change.
    assert few == {"as_boolean_mask", "split_conv1d"}


def example(x: torch.Tensor, n: int) -> torch.Tensor:
    """The mean of a softmax, n times."""
    total = 0
    for row in x.softmax(dim=-1):
        total = total + row @ row - n
    return total / len(x)


def test_mutants_are_different_programs():
    found = mutants(example)
    says = [mutant.says for mutant in found]
    assert len(found) >= 20
    assert len(set(says)) > 15
    for needle in ("Sub becomes Add", "dim= is dropped", "softmax becomes", "dropped"):
        assert any(needle in text for text in says), needle
    x = torch.randn(3, 4)
    same = 0
    for mutant in found:
        try:
            same += bool(torch.equal(mutant.code(x, 2), example(x, 2)))
        except Exception:  # a corrupted program may fail in any way
            continue
    assert same < len(found) / 3


def test_rewrites_are_different_programs_with_the_same_values():
    x = torch.randn(3, 4)
    found = rewrites(example)
    assert set(found) == {"other operations", "loops", "module in float64"}
    for code in found.values():
        assert torch.allclose(code(x, 2), example(x, 2), atol=1e-5)
    assert isinstance(found["module in float64"], torch.nn.Module)


def nothing_to_rewrite(x):
    return x


def test_what_cannot_be_rewritten_is_not_given():
    assert rewrites(nothing_to_rewrite) == {}
