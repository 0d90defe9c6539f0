"""One set of inputs, and what the reference and the learner's answer do with it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from companion.exercises.compare import (
    Mismatch,
    Verdict,
    agree,
    compare,
    differs,
    gradient_faults,
    kind,
)
from companion.exercises.exercise import Answer, Exercise, Inputs
from companion.exercises.outcome import Outcome, observe, tensors
from companion.exercises.report import Grid, describe, show, worst

# How many numbers still read well on a page.
_SMALL_ANSWER = 12
_SMALL_INPUTS = 30


@dataclass(frozen=True, eq=False)
class Trial:
    """The answer beside the reference on one set of inputs."""

    exercise: Exercise
    answer: Answer
    inputs: Inputs
    expected: Outcome
    found: Outcome

    @classmethod
    def of(
        cls, exercise: Exercise, answer: Answer, inputs: Inputs, *, quiet: bool
    ) -> Trial:
        """Try ``answer`` and the reference."""
        expected = observe(exercise, exercise.reference, inputs)
        found = observe(exercise, answer, inputs, quiet=quiet)
        return cls(exercise, answer, inputs, expected, found)

    @property
    def names(self) -> tuple[str, ...]:
        """What the exercise or its reference calls the inputs."""
        names = self.exercise.input_names
        if not names and self.exercise.run is None:
            names = tuple(inspect.signature(self.exercise.reference).parameters)
        unnamed = range(len(names) + 1, len(self.inputs) + 1)
        return (*names, *(f"input {k}" for k in unnamed))[: len(self.inputs)]

    @property
    def size(self) -> int:
        """How many numbers go in: the fewer, the easier to follow."""
        return sum(t.numel() for _, t in tensors(self.inputs))

    def passes(self) -> bool:
        """Whether the answer does what the reference does."""
        return (
            agree(self.found, self.expected, self.exercise.tolerance)
            and not self.changed(self.found)
            and not gradient_faults(self.found, self.expected)
        )

    def mismatch(self) -> Mismatch | None:
        """The first difference between the values."""
        return compare(self.found.value, self.expected.value, self.exercise.tolerance)

    def changed(self, outcome: Outcome) -> set[int]:
        """Inputs that are changed in place though the reference leaves them alone."""
        return set(outcome.changed) - set(self.expected.changed)

    def looks_like(self, wrong: Answer) -> bool | None:
        """Whether the answer does what ``wrong`` does here.

        None where both raise an error of one type with another text: that fits, but
        they need have nothing else in common.
        """
        theirs = observe(self.exercise, wrong, self.inputs)
        same = (
            agree(self.found, theirs, self.exercise.tolerance)
            and self.changed(self.found) == self.changed(theirs)
            and gradient_faults(self.found, self.expected)
            == gradient_faults(theirs, self.expected)
        )
        if same and self.found.error is not None:
            text = str(theirs.error)
            return True if text and text == str(self.found.error) else None
        return same

    def repeats(self) -> bool:
        """Whether the answer's value is the same when other random numbers are drawn."""
        again = observe(self.exercise, self.answer, self.inputs, seed=1)
        if agree(self.found, again, self.exercise.tolerance):
            return True
        reference = observe(self.exercise, self.exercise.reference, self.inputs, seed=1)
        return not agree(self.expected, reference, self.exercise.tolerance)

    def ignored_input(self) -> str | None:
        """An input on which the right answer depends and this one does not."""
        for i, thing in enumerate(self.inputs):
            if not isinstance(thing, Tensor) or thing.ndim == 0 or not thing.numel():
                continue
            others = [
                (*self.inputs[:i], other, *self.inputs[i + 1 :])
                for other in _others_like(thing)
            ]
            if self._depends(self.exercise.reference, self.expected, others) and (
                not self._depends(self.answer, self.found, others)
            ):
                return self.names[i]
        return None

    def _depends(self, answer: Answer, before: Outcome, others: list[Inputs]) -> bool:
        after = (observe(self.exercise, answer, inputs) for inputs in others)
        return not all(agree(a, before, self.exercise.tolerance) for a in after)

    def where(self) -> tuple[str, str]:
        """The line that names the inputs and their shapes."""
        pairs = zip(self.names, self.inputs, strict=True)
        return ("Where", "on " + ", ".join(describe(*pair) for pair in pairs))

    def evidence(self) -> list[tuple[str, str]]:
        """Inputs, expected and found values, as far as they are short enough to read."""
        lines = [self.where()]
        found, expected = self.found, self.expected
        if found.error or expected.error:
            return [
                *lines,
                ("Expected", _in_short(expected)),
                ("Found", _in_short(found)),
            ]
        mismatch = self.mismatch()
        if mismatch is None:
            return lines
        if mismatch.verdict is not Verdict.WRONG_VALUES:
            return [*lines, ("Found", mismatch.says)]
        found, expected = mismatch.found, mismatch.expected
        if isinstance(found, Tensor) and found.numel() > _SMALL_ANSWER:
            at = worst(found, expected, self.exercise.tolerance)
            wrong = int(differs(found, expected, self.exercise.tolerance).sum())
            says = (
                f"{wrong} of {found.numel()} numbers are wrong; at {list(at)} "
                f"{show(expected[at])} is expected and {show(found[at])} found."
            )
            return [*lines, ("Worst", says)]
        return [
            *lines,
            *self._inputs(),
            ("Expected", show(expected)),
            ("Found", show(found)),
        ]

    def _inputs(self) -> list[tuple[str, str]]:
        if self.size > _SMALL_INPUTS:
            return []
        pairs = zip(self.names, self.inputs, strict=True)
        shown = [f"{n} = {show(t)}" for n, t in pairs if isinstance(t, Tensor)]
        return [("Inputs", "\n".join(shown))] if shown else []

    def grids(self) -> tuple[Grid, ...]:
        """Inputs, expected and found values as tables, where they are small enough."""
        mismatch = None if self.found.error or self.expected.error else self.mismatch()
        if mismatch is None or mismatch.verdict is not Verdict.WRONG_VALUES:
            return ()
        found, expected = mismatch.found, mismatch.expected
        if not isinstance(found, Tensor) or found.numel() > _SMALL_ANSWER:
            return ()
        wrong = differs(found, expected, self.exercise.tolerance)
        inputs = (
            ()
            if self.size > _SMALL_INPUTS
            else zip(self.names, self.inputs, strict=True)
        )
        given = [
            Grid(name, thing) for name, thing in inputs if isinstance(thing, Tensor)
        ]
        grids = (*given, Grid("expected", expected), Grid("found", found, wrong))
        return grids if all(grid.values.ndim in (1, 2) for grid in grids) else ()


@dataclass(frozen=True)
class Trials:
    """All trials of one answer, on inputs that a report may show and on fresh ones."""

    shown_in_order: list[Trial]
    fresh: list[Trial]
    exercise: Exercise

    @cached_property
    def shown(self) -> list[Trial]:
        """The trials that a report may show, the smallest first."""
        return sorted(self.shown_in_order, key=lambda trial: trial.size)

    @property
    def all(self) -> list[Trial]:
        """Every trial."""
        return [*self.shown, *self.fresh]

    @cached_property
    def wrong(self) -> list[Trial]:
        """The trials that failed; fresh ones only where no other did."""
        shown = [trial for trial in self.shown if not trial.passes()]
        return shown or [trial for trial in self.fresh if not trial.passes()]


def _others_like(tensor: Tensor) -> list[Tensor]:
    """Tensors with other numbers of the same range, so that tokens stay tokens."""
    turned = tensor.flip(tuple(range(tensor.ndim)))
    if tensor.dtype == torch.bool:
        return [turned, ~tensor]
    if tensor.is_floating_point():
        steps = torch.arange(tensor.numel(), device=tensor.device).view(tensor.shape)
        return [turned, tensor * (1 + 0.5 * steps.cos()).to(tensor.dtype)]
    return [turned, tensor.flatten()[0].expand_as(tensor).clone()]


def _in_short(outcome: Outcome) -> str:
    return type(outcome.error).__name__ if outcome.error else kind(outcome.value)
