"""Which named mistakes a wrong answer is: those whose code does what the answer does.

A mistake is named only if its code and the answer do the same on all inputs, on those
that the report shows and on fresh ones that were drawn with another seed. Where several
fit, no input tells them apart, and all are named.
"""

from __future__ import annotations

from dataclasses import dataclass

from companion.exercises.composition import pairs
from companion.exercises.exercise import Answer, Misconception
from companion.exercises.trial import Trial

_MOST = 3  # named at once; more than that is no diagnosis


@dataclass(frozen=True)
class Diagnosis:
    """One way to explain an answer: a misconception, or two at once."""

    mistakes: tuple[Misconception, ...]

    @property
    def name(self) -> str:
        return " and ".join(mistake.name for mistake in self.mistakes)

    @property
    def says(self) -> str:
        if len(self.mistakes) == 1:
            return self.mistakes[0].says
        first, second = (mistake.says for mistake in self.mistakes)
        return f"Two mistakes at once. First: {first}\nSecond: {second}"


def diagnoses(trials: list[Trial]) -> list[Diagnosis]:
    """All that fits an answer: single mistakes, or pairs if no single one does.

    Args:
        trials: of the answer, on shown and on fresh inputs; at least one has failed.
    """
    exercise = trials[0].exercise
    # The failing ones first: they tell a wrong guess apart soonest.
    trials = sorted(trials, key=lambda trial: trial.passes())
    fits = [
        Diagnosis((mistake,))
        for mistake in exercise.misconceptions
        if _does_the_same(trials, mistake.wrong)
    ]
    if not fits:
        names = dict.fromkeys(
            pair.mistakes
            for pair in pairs(exercise)
            if _does_the_same(trials, pair.wrong)
        )
        fits = [Diagnosis(mistakes) for mistakes in names]
    return fits if len(fits) <= _MOST else []


def _does_the_same(trials: list[Trial], wrong: Answer) -> bool:
    evidence = False
    for trial in trials:
        alike = trial.looks_like(wrong)
        if alike is False:
            return False
        # None is the same kind of error with another text, which alone proves nothing.
        evidence = evidence or (alike is True and not trial.passes())
    return evidence
