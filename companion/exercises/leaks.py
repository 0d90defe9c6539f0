"""Whether an answer looks where it must not: at what comes later, or at its neighbors.

The reference tells what an answer may look at. If the last entry of an input changes and
the reference's other entries stay, then so must the answer's. Entries that only depend on
earlier ones lie along time, and entries that depend on no other lie along a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from companion.exercises.compare import differs
from companion.exercises.exercise import Answer
from companion.exercises.outcome import observe, tensors
from companion.exercises.trial import Trial


def leak(trial: Trial) -> str:
    """A sentence about what the answer looks at and should not, or an empty string."""
    for i, thing in enumerate(trial.inputs):
        if not isinstance(thing, Tensor) or thing.ndim < 2 or thing.dtype == torch.bool:
            continue
        for axis in range(thing.ndim):
            sentence = _along(trial, i, axis)
            if sentence:
                return sentence
    return ""


def _along(trial: Trial, position: int, axis: int) -> str:
    x, name = trial.inputs[position], trial.names[position]
    length = x.shape[axis]
    if length < 2:
        return ""
    last, first = _changed(x, axis, length - 1), _changed(x, axis, 0)
    for where in _axes_of(trial, length):
        before, after = slice(0, length - 1), slice(1, length)
        if _moved(trial, trial.exercise.reference, position, last, where, before):
            continue
        if not _moved(trial, trial.answer, position, last, where, before):
            continue
        alone = not _moved(
            trial, trial.exercise.reference, position, first, where, after
        )
        if alone:
            in_a_batch = axis == 0 and x.ndim > 2
            what = "depends on the batch" if in_a_batch else "mixes what is independent"
            return (
                f"Your answer {what}: when the last entry of {name} along axis {axis} "
                "changes, so do the results of other entries. Each should be computed "
                "on its own."
            )
        return (
            f"Your answer depends on the future: when the last entry of {name} along "
            f"axis {axis} changes, so do results that come before it. They should "
            "depend on earlier entries alone."
        )
    return ""


def _axes_of(trial: Trial, length: int) -> list[int]:
    """The axes of the answer, counted from the left, that are as long as the input's."""
    value = _first(trial.expected.value)
    if value is None:
        return []
    return [axis for axis, size in enumerate(value.shape) if size == length]


def _moved(
    trial: Trial, answer: Answer, position: int, other: Tensor, axis: int, part: slice
) -> bool:
    """Whether other inputs change a part of what the answer gives along an axis."""
    outcome = trial.found if answer is trial.answer else trial.expected
    before = _first(outcome.value)
    inputs = (*trial.inputs[:position], other, *trial.inputs[position + 1 :])
    after = _first(observe(trial.exercise, answer, inputs).value)
    if before is None or after is None or before.shape != after.shape:
        return True
    index = (slice(None),) * axis + (part,)
    return bool(differs(after[index], before[index], trial.exercise.tolerance).any())


def _first(value: object) -> Tensor | None:
    return next((t for _, t in tensors(value)), None)


def _changed(x: Tensor, axis: int, index: int) -> Tensor:
    """A copy with other numbers at one place, for tokens those of another place."""
    x = x.clone()
    part = x.select(axis, index)
    if x.is_floating_point():
        part.mul_(-1.5).add_(0.25)
    else:
        part.copy_(x.select(axis, 0 if index else 1))
    return x
