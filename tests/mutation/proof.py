"""What is proved of one exercise, as a row of the table."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from companion.exercises import Exercise, Verdict
from companion.exercises.checker import (
    callable_of,
    draw_fresh_inputs,
    draw_inputs,
)
from companion.exercises.compare import agree, gradient_faults
from companion.exercises.composition import Pair, pairs
from companion.exercises.diagnosis import diagnose
from companion.exercises.exercise import Answer, Inputs
from companion.exercises.limits import TookTooLong
from companion.exercises.outcome import Outcome, observe
from companion.exercises.report import Report
from companion.exercises.trial import Trial
from tests.mutation.book import book_solutions
from tests.mutation.by_hand import BY_HAND
from tests.mutation.mutants import Mutant, mutants
from tests.mutation.rewrite import rewrites

# A mutant that passes is equivalent if it does the same on the inputs of all these.
OTHER_SEEDS = range(100, 120)


@dataclass
class Proof:
    """Counts of one exercise; what should not be is kept in words in `faults`."""

    exercise: str
    chapter: str
    kind: str
    misconceptions: int = 0
    pairs: int = 0
    mutants: int = 0
    killed: int = 0
    equivalent: int = 0
    right_accepted: int = 0
    slowest_ms: int = 0
    faults: list[str] = field(default_factory=list)


class Bench:
    """An exercise with its inputs and the reference's outcomes, computed once."""

    def __init__(self, exercise: Exercise) -> None:
        self.exercise = exercise
        self.cases = draw_inputs(exercise)
        self.fresh = draw_fresh_inputs(exercise)
        self.inputs = [*self.cases, *self.fresh]
        self.expected = [observe(exercise, exercise.reference, i) for i in self.inputs]
        self._others: list[tuple[Inputs, Outcome]] = []

    def report(self, answer: Answer) -> Report:
        """What `check` says."""
        code = callable_of(answer, self.exercise)
        return diagnose(self.exercise, code, self.cases, self.fresh)

    def passes(self, answer: Answer) -> bool:
        """Whether `check` passes an answer, found out sooner where it does not."""
        try:
            for inputs, expected in zip(self.inputs, self.expected, strict=True):
                found = observe(self.exercise, answer, inputs)
                trial = Trial(self.exercise, answer, inputs, expected, found)
                if not trial.passes():
                    return False
        except TookTooLong:
            return False
        return self.report(answer).passed

    def differs_elsewhere(self, answer: Answer) -> bool:
        """Whether an answer differs from the reference on many more inputs."""
        if not self._others:
            self._others = [
                (inputs, observe(self.exercise, self.exercise.reference, inputs))
                for seed in OTHER_SEEDS
                for inputs in draw_inputs(self.exercise, seed)
            ]
        for inputs, expected in self._others:
            found = observe(self.exercise, answer, inputs)
            if (
                not agree(found, expected, self.exercise.tolerance)
                or set(found.changed) - set(expected.changed)
                or gradient_faults(found, expected)
            ):
                return True
        return False

    def proper_pairs(self) -> list[Pair]:
        """Pairs whose code runs, and does what none of the single mistakes does."""
        return [pair for pair in pairs(self.exercise) if self._is_proper(pair)]

    def _is_proper(self, pair: Pair) -> bool:
        singles = [m.wrong for m in self.exercise.misconceptions]
        trials = [
            Trial(
                self.exercise,
                pair.wrong,
                inputs,
                expected,
                observe(self.exercise, pair.wrong, inputs),
            )
            for inputs, expected in zip(self.inputs, self.expected, strict=True)
        ]
        if any(trial.found.error and not trial.expected.error for trial in trials):
            return False
        if all(trial.passes() for trial in trials):
            return False
        return not any(
            all(trial.looks_like(wrong) is not False for trial in trials)
            for wrong in singles
        )


def chosen(found: list[Mutant], name: str, most: int | None) -> list[Mutant]:
    """At most so many of the mutants, the same ones each time."""
    if most is None or len(found) <= most:
        return found
    return random.Random(name).sample(found, most)


def prove(exercise: Exercise, most_mutants: int | None = None) -> Proof:
    """Every part of the proof for one exercise."""
    bench = Bench(exercise)
    row = Proof(exercise.name, exercise.chapter, exercise.kind)
    clock = _Clock()
    for name, answer in right_answers(exercise).items():
        report = clock.time(lambda answer=answer: bench.report(answer))
        row.right_accepted += report.passed
        if not report.passed:
            row.faults.append(f"right answer rejected ({name}): {report}")
    for mistake in exercise.misconceptions:
        report = clock.time(lambda wrong=mistake.wrong: bench.report(wrong))
        named = report.verdict is Verdict.MISCONCEPTION
        row.misconceptions += named and report.misconception == mistake.name
        if not named or report.misconception != mistake.name:
            row.faults.append(f"misconception {mistake.name!r}: {report}")
    proper = bench.proper_pairs()
    for pair in proper:
        report = clock.time(lambda wrong=pair.wrong: bench.report(wrong))
        if report.passed:
            row.faults.append(f"a pair passes: {[m.name for m in pair.mistakes]}")
    row.pairs = len({pair.mistakes for pair in proper})
    for mutant in chosen(mutants(exercise.reference), exercise.name, most_mutants):
        row.mutants += 1
        if not bench.passes(mutant.code):
            row.killed += 1
        elif bench.differs_elsewhere(mutant.code):
            row.faults.append(f"mutant survives: {mutant.says}")
        else:
            row.equivalent += 1
            row.faults.append(f"(equivalent: {mutant.says})")
    row.slowest_ms = clock.slowest_ms
    return row


def right_answers(exercise: Exercise) -> dict[str, Answer]:
    """Right answers that are written differently, by how they are written."""
    answers: dict[str, Answer] = dict(rewrites(exercise.reference))
    if exercise.name in book_solutions():
        answers["the book's"] = book_solutions()[exercise.name]
    return answers | BY_HAND.get(exercise.name, {})


class _Clock:
    """Keeps the longest time of the processor."""

    slowest_ms = 0

    def time(self, call: Callable[[], Any]) -> Any:
        start = time.thread_time()
        result = call()
        spent = round(1000 * (time.thread_time() - start))
        self.slowest_ms = max(self.slowest_ms, spent)
        return result
