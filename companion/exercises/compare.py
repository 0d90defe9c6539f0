"""How an answer differs from the expected one, first in form and then in numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from numbers import Number
from typing import Any

import numpy as np
import torch
from torch import Tensor

from companion.exercises.outcome import Outcome


class Verdict(StrEnum):
    """What `check` concludes."""

    PASSED = "passed"
    NOT_IMPLEMENTED = "not implemented"
    RAISED = "raised"
    WRONG_TYPE = "wrong type"
    WRONG_SHAPE = "wrong shape"
    WRONG_DTYPE = "wrong dtype"
    WRONG_DEVICE = "wrong device"
    NOT_FINITE = "nan"
    CHANGED_INPUTS = "changed its inputs"
    NO_GRADIENT = "no gradient"
    NOT_REPEATABLE = "not repeatable"
    MISCONCEPTION = "misconception"
    PROPERTY_BROKEN = "property broken"
    WRONG_VALUES = "wrong values"
    TOOK_TOO_LONG = "took too long"
    TOO_MUCH_MEMORY = "too much memory"


@dataclass(frozen=True)
class Mismatch:
    """The first difference that was found.

    Attributes:
        verdict: of what kind.
        says: what differs, in sentences.
        part: which part of the answer, as in "your answer" or "part 2 of your answer".
        path: the same as indices into nested tuples.
        found, expected: the parts that differ.
    """

    verdict: Verdict
    says: str
    part: str = "your answer"
    path: tuple = ()
    found: Any = None
    expected: Any = None


def compare(
    found: Any, expected: Any, tolerance: float, path: tuple = ()
) -> Mismatch | None:
    """The first difference between two values, or None if there is none."""
    part = _part(path)

    def mismatch(verdict: Verdict, says: str) -> Mismatch:
        return Mismatch(verdict, says, part, path, found, expected)

    if isinstance(expected, dict):
        if not isinstance(found, dict) or found.keys() != expected.keys():
            keys = f"a dict with the keys {', '.join(map(repr, expected))}"
            return mismatch(Verdict.WRONG_TYPE, _type_text(part, found, keys))
        pairs = [(key, found[key], expected[key]) for key in expected]
    elif isinstance(expected, list | tuple):
        if not isinstance(found, list | tuple) or len(found) != len(expected):
            return mismatch(Verdict.WRONG_TYPE, _type_text(part, found, kind(expected)))
        pairs = list(zip(range(len(expected)), found, expected, strict=True))
    elif isinstance(expected, Tensor):
        if not isinstance(found, Tensor):
            says = _type_text(part, found, kind(expected))
            says += _right_part(found, expected, tolerance)
            return mismatch(Verdict.WRONG_TYPE, says)
        problem = _compare_tensors(found, expected, tolerance, part)
        return mismatch(*problem) if problem else None
    else:
        problem = _compare_plain(found, expected, tolerance, part)
        return mismatch(*problem) if problem else None
    for key, found_part, expected_part in pairs:
        difference = compare(found_part, expected_part, tolerance, (*path, key))
        if difference is not None:
            return difference
    return None


def agree(one: Outcome, other: Outcome, tolerance: float) -> bool:
    """Whether two outcomes have the same value or the same kind of error."""
    if one.error is not None or other.error is not None:
        return type(one.error) is type(other.error)
    return compare(one.value, other.value, tolerance) is None


def gradient_faults(found: Outcome, reference: Outcome) -> dict[tuple, str]:
    """Inputs, by path, to which a gradient should flow back and does not."""
    faults = {}
    for path, state in reference.gradients.items():
        mine = found.gradients.get(path, "blocked")
        if mine == "nan" != state or (state == "flows" and mine == "blocked"):
            faults[path] = mine
    return faults


def kind(thing: Any) -> str:
    """What a value is, in words: ``a tensor``, ``a tuple of 2``, ``a float``."""
    if thing is None:
        return "None"
    if isinstance(thing, Tensor):
        return "a tensor"
    if isinstance(thing, list | tuple):
        return f"a {type(thing).__name__} of {len(thing)}"
    if isinstance(thing, np.ndarray):
        return "a NumPy array"
    name = type(thing).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def differs(found: Tensor, expected: Tensor, tolerance: float) -> Tensor:
    """Where two tensors of one shape differ, as a boolean tensor."""
    if found.dtype.is_floating_point or found.dtype.is_complex:
        return ~torch.isclose(
            found, expected, rtol=tolerance, atol=tolerance, equal_nan=True
        )
    return found != expected


def number(value: Any) -> str:
    """A number with four digits."""
    if isinstance(value, bool | int) or not isinstance(value, float):
        return str(value)
    return f"{value + 0.0:.4g}"


def _compare_tensors(
    found: Tensor, expected: Tensor, tolerance: float, part: str
) -> tuple[Verdict, str] | None:
    if found.device.type != expected.device.type:
        return Verdict.WRONG_DEVICE, (
            f"{_upper(part)} is on the device {found.device.type}, but the inputs and "
            f"the expected answer are on {expected.device.type}. A tensor that is made "
            "inside wants device=... of an input."
        )
    if found.layout != expected.layout:
        return Verdict.WRONG_TYPE, (
            f"{_upper(part)} is a sparse tensor; an ordinary one is expected."
        )
    if found.shape != expected.shape:
        return Verdict.WRONG_SHAPE, _shape_text(found, expected, tolerance, part)
    if found.dtype != expected.dtype:
        return Verdict.WRONG_DTYPE, (
            f"{_upper(part)} has dtype {_dtype(found)}; {_dtype(expected)} is expected."
        )
    broken = ~found.isfinite() & expected.isfinite()
    if broken.any():
        return Verdict.NOT_FINITE, _not_finite_text(found, broken, part)
    if differs(found, expected, tolerance).any():
        return Verdict.WRONG_VALUES, f"{_upper(part)} has wrong numbers."
    return None


def _compare_plain(
    found: Any, expected: Any, tolerance: float, part: str
) -> tuple[Verdict, str] | None:
    if isinstance(found, Tensor | np.ndarray | np.generic) and found.ndim == 0:
        found = found.item()
    if isinstance(expected, np.generic):
        expected = expected.item()
    if isinstance(expected, Number) and not isinstance(expected, bool | complex):
        if not isinstance(found, int | float):
            return Verdict.WRONG_TYPE, _type_text(part, found, kind(expected))
        if not math.isfinite(found) and math.isfinite(expected):
            return Verdict.NOT_FINITE, f"{_upper(part)} is {number(found)}."
        both_nan = math.isnan(found) and math.isnan(expected)
        exact = isinstance(expected, int)
        if both_nan or math.isclose(
            found,
            expected,
            rel_tol=0.0 if exact else tolerance,
            abs_tol=0.0 if exact else tolerance,
        ):
            return None
    else:
        if type(found) is not type(expected):
            return Verdict.WRONG_TYPE, _type_text(part, found, kind(expected))
        if found == expected:
            return None
    return Verdict.WRONG_VALUES, f"{_upper(part)} is not the expected one."


def _part(path: tuple) -> str:
    names = [f"part {p + 1}" if isinstance(p, int) else f"{p!r}" for p in path]
    return " of ".join([*reversed(names), "your answer"])


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _type_text(part: str, found: Any, expected: str) -> str:
    says = f"{_upper(part)} is {kind(found)}; {expected} is expected."
    if found is None:
        says += " Is a return missing?"
    elif isinstance(found, np.ndarray):
        says += " Stay with PyTorch's operations: NumPy's lose the gradient."
    elif isinstance(found, Number) and expected == "a tensor":
        says += " .item() and float() leave the tensor world, and the gradient with it."
    return says


def _right_part(found: Any, expected: Tensor, tolerance: float) -> str:
    if isinstance(found, list | tuple):
        for i, part in enumerate(found):
            if isinstance(part, Tensor) and not compare(part, expected, tolerance):
                return f" Its part {i + 1} is right: return that alone."
    return ""


def _shape_text(found: Tensor, expected: Tensor, tolerance: float, part: str) -> str:
    is_, should = tuple(found.shape), tuple(expected.shape)
    says = f"{_upper(part)} has shape {is_}; {should} is expected."
    if found.ndim == 0:
        return says + " It is a single number: some sum or mean runs over every axis."
    if found.ndim != expected.ndim:
        count = f"{found.ndim} {'axis' if found.ndim == 1 else 'axes'}"
        says += f" It has {count} and should have {expected.ndim}."
        if found.squeeze().shape == expected.squeeze().shape:
            says += " Only axes of size 1 differ (keepdim, squeeze, unsqueeze, None)."
        elif found.numel() == expected.numel():
            says += " The number of entries is right."
        return says
    swaps = [
        (i, j)
        for i in range(found.ndim)
        for j in range(i + 1, found.ndim)
        if is_[i] != is_[j] and found.transpose(i, j).shape == expected.shape
    ]
    if swaps:
        i, j = swaps[0]
        turned = found.transpose(i, j)
        says += f" Axes {i} and {j} are swapped"
        fits = (
            turned.dtype == expected.dtype
            and turned.device == expected.device
            and not differs(turned, expected, tolerance).any()
        )
        return says + (", and all numbers are right once turned." if fits else ".")
    wrong = [i for i in range(found.ndim) if is_[i] != should[i]]
    return (
        says
        + " "
        + "; ".join(
            f"axis {i} is {is_[i]} and should be {should[i]}" for i in wrong
        ).capitalize()
        + "."
    )


def _not_finite_text(found: Tensor, broken: Tensor, part: str) -> str:
    what = "NaN" if found[broken].isnan().any() else "infinite"
    count, total = int(broken.sum()), broken.numel()
    first = broken.nonzero()[0].tolist()
    where = f"in {count} of {total} numbers, the first at {first}"
    if broken.ndim and count < total:
        whole = broken.all(dim=-1)
        if int(whole.sum()) * broken.shape[-1] == count and broken.ndim > 1:
            rows = whole.nonzero().tolist()
            where = "in the whole row " + ", ".join(map(str, rows[:3]))
            where += ", ..." if len(rows) > 3 else ""
            where = where if len(rows) == 1 else where.replace("row", "rows", 1)
    elif count == total:
        where = "everywhere"
    says = f"{_upper(part)} is {what} {where}."
    if what == "NaN":
        says += " NaN comes from 0 / 0, from inf - inf, or from 0 * inf"
        says += "; a softmax over nothing but -inf is such a 0 / 0."
    else:
        says += " Infinity comes from a division by 0, a log of 0, or an overflow."
    return says
