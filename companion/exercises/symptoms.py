"""What is odd about wrong numbers: signs of a mistake that no exercise has to declare.

Each detector takes all the cases that failed and answers in one sentence, or not at all:
a symptom is named only if every failing case shows it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from companion.exercises.compare import differs, number
from companion.exercises.exercise import Inputs


@dataclass(frozen=True)
class Case:
    """One set of inputs on which a tensor came out wrong, in the right shape."""

    inputs: Inputs
    names: tuple[str, ...]
    found: Tensor
    expected: Tensor
    tolerance: float

    def same(self, found: Tensor, expected: Tensor) -> bool:
        """Whether two tensors are equal up to the exercise's tolerance."""
        return (
            found.shape == expected.shape
            and found.dtype == expected.dtype
            and not differs(found, expected, self.tolerance).any()
        )

    def wrong(self) -> Tensor:
        """Where the answer is wrong."""
        return differs(self.found, self.expected, self.tolerance)


def symptom(cases: list[Case], *, vague: bool = False) -> str:
    """A sentence about what all of ``cases`` have in common, or an empty string.

    Args:
        vague: look for signs that only say where to look.
    """
    for detector in (_VAGUE if vague else _TELLING) if cases else ():
        sentence = detector(cases)
        if sentence:
            return sentence
    return ""


def _constant(cases: list[Case]) -> str:
    if not all(c.found.numel() > 1 for c in cases):
        return ""
    values = {number(c.found.flatten()[0].item()) for c in cases}
    if not all(c.same(c.found, c.found.flatten()[0].expand_as(c.found)) for c in cases):
        return ""
    if len(values) == 1:
        return f"Every number of your answer is {values.pop()}."
    return "Your answer holds the same number everywhere."


def _returns_input(cases: list[Case]) -> str:
    for i, name in enumerate(cases[0].names):
        if all(
            isinstance(c.inputs[i], Tensor) and c.same(c.found, c.inputs[i])
            for c in cases
        ):
            return f"Your answer is the input {name} itself."
    return ""


def _inverted(cases: list[Case]) -> str:
    if all(
        c.expected.dtype == torch.bool and c.same(c.found, ~c.expected) for c in cases
    ):
        return "Your answer has True and False exchanged."
    return ""


def _scaled(cases: list[Case]) -> str:
    factors = []
    for c in cases:
        if not c.expected.is_floating_point() or not c.expected.count_nonzero():
            return ""
        found, expected = c.found.cpu().double(), c.expected.cpu().double()
        factor = (found * expected).sum() / (expected * expected).sum()
        # Relative to the size of the numbers: a tiny factor must not pass by default.
        miss = (found - factor * expected).abs().max()
        if not factor or not miss <= 10 * c.tolerance * found.abs().max():
            return ""
        factors.append(factor.item())
    same = all(math.isclose(f, factors[0], rel_tol=1e-3) for f in factors)
    if not same and any(c.expected.numel() == 1 for c in cases):
        return ""  # any two numbers are multiples of each other
    if len(cases) == 1 and cases[0].expected.numel() == 1:
        return ""
    if all(math.isclose(f, -1, rel_tol=1e-3) for f in factors):
        return "Your answer is the expected one with the opposite sign."
    size = _as_size(cases, factors)
    if size:
        return f"Your answer is the expected one {size}."
    if same:
        return f"Your answer is the expected one times {number(factors[0])}."
    return "Your answer is the expected one times a number that depends on the inputs."


def _as_size(cases: list[Case], factors: list[float]) -> str:
    """``times`` or ``divided by`` a size of an input or its root, if that fits."""
    forms: list[tuple[str, Callable[[int], float]]] = [
        ("times the root of {}", lambda n: math.sqrt(n)),
        ("divided by the root of {}", lambda n: 1 / math.sqrt(n)),
        ("times {}", lambda n: n),
        ("divided by {}", lambda n: 1 / n),
    ]
    for i, name in enumerate(cases[0].names):
        if not all(isinstance(c.inputs[i], Tensor) for c in cases):
            continue
        for axis in range(1, 1 + min(c.inputs[i].ndim for c in cases)):
            sizes = [c.inputs[i].shape[-axis] for c in cases]
            # One size would fit any constant factor by accident.
            if len(set(sizes)) < 2 or 0 in sizes:
                continue
            for text, form in forms:
                if all(
                    math.isclose(f, form(n), rel_tol=1e-3)
                    for f, n in zip(factors, sizes, strict=True)
                ):
                    return text.format(f"{name}.shape[{-axis}]")
    return ""


def _offset(cases: list[Case]) -> str:
    offsets = []
    for c in cases:
        if not c.expected.is_floating_point() or c.expected.numel() < 2:
            return ""
        offset = (c.found - c.expected).mean()
        if not c.same(c.found - offset, c.expected):
            return ""
        offsets.append(offset.item())
    if all(math.isclose(o, offsets[0], rel_tol=1e-3) for o in offsets):
        return f"Your answer is the expected one plus {number(offsets[0])} everywhere."
    return "Your answer is off by the same number everywhere."


def _rearranged(cases: list[Case]) -> str:
    axes = range(1, 1 + min(c.expected.ndim for c in cases))
    moves: list[tuple[str, Callable[[Tensor], Tensor]]] = []
    for a in axes:
        for b in range(a + 1, len(axes) + 1):
            moves.append(
                (
                    f"with its axes {-b} and {-a} swapped",
                    lambda t, a=a, b=b: t.transpose(-a, -b),
                )
            )
    for a in axes:
        moves.append((f"reversed along axis {-a}", lambda t, a=a: t.flip(-a)))
    for a in axes:
        for step in (1, -1):
            moves.append(
                (
                    f"moved by {step:+d} along axis {-a}",
                    lambda t, a=a, step=step: t.roll(step, -a),
                )
            )
    for text, move in moves:
        if all(c.same(c.found, move(c.expected)) for c in cases):
            return f"Your answer is the expected one {text}."
    return ""


def _same_numbers(cases: list[Case]) -> str:
    def ordered(t: Tensor) -> Tensor:
        return t.flatten().sort().values

    if all(
        not c.expected.is_complex()
        and c.expected.unique().numel() > 2
        and c.same(ordered(c.found), ordered(c.expected))
        for c in cases
    ):
        return (
            "Your answer holds the right numbers in the wrong places: look for a "
            "view or reshape where axes have to be transposed, or the reverse."
        )
    return ""


def _sums(cases: list[Case]) -> str:
    def sums_to_one(t: Tensor, axis: int) -> bool:
        # A row of weights may be empty, where everything is hidden.
        full, empty = (t.sum(axis) - 1).abs() < 1e-4, (t == 0).all(axis)
        return bool((full | empty).all() and full.any())

    if not all(c.expected.is_floating_point() for c in cases):
        return ""
    axes = range(1, 1 + min(c.expected.ndim for c in cases))
    for a in axes:
        if not all(sums_to_one(c.expected, -a) for c in cases):
            continue
        if all(sums_to_one(c.found, -a) for c in cases):
            return ""
        for b in axes:
            if b != a and all(sums_to_one(c.found, -b) for c in cases):
                return (
                    f"Your answer sums to 1 along axis {-b}; it should do so along "
                    f"axis {-a}."
                )
        totals = torch.cat([c.found.sum(-a).flatten() for c in cases])
        low, high = number(totals.min().item()), number(totals.max().item())
        span = f"to {low}" if low == high else f"to something from {low} to {high}"
        return f"Along axis {-a} the numbers should sum to 1; yours sum {span}."
    return ""


def _behind_a_mask(cases: list[Case], value: bool = False) -> str:
    """Whether the wrong numbers all lie where a boolean input is ``value``."""
    for i, name in enumerate(cases[0].names):
        masks = [c.inputs[i] for c in cases]
        if all(
            isinstance(m, Tensor)
            and m.dtype == torch.bool
            and _inside(c.wrong(), m == value)
            for c, m in zip(cases, masks, strict=True)
        ):
            return f"Only numbers where {name} is {value} are wrong."
    return ""


def _visible(cases: list[Case]) -> str:
    return _behind_a_mask(cases, value=True)


def _edge(cases: list[Case]) -> str:
    """Whether the wrong numbers all lie first or last along an axis."""
    axes = range(1, 1 + min(c.expected.ndim for c in cases))
    for a in axes:
        at = [_along(c.wrong(), -a) for c in cases]
        if any(len(line) < 2 for line in at):
            continue
        if all(line[-1] and not line[:-1].any() for line in at):
            return f"Only the last entries along axis {-a} are wrong."
        if all(line[0] and not line[1:].any() for line in at):
            return f"Only the first entries along axis {-a} are wrong."
        if all(line[1:].any() and not line[0] for line in at):
            return f"The first entries along axis {-a} are right, later ones are not."
    return ""


def _along(wrong: Tensor, axis: int) -> Tensor:
    """For each entry of ``axis`` whether anything in it is wrong."""
    return wrong.movedim(axis, 0).reshape(wrong.shape[axis], -1).any(dim=1)


def _inside(wrong: Tensor, region: Tensor) -> bool:
    try:
        region = region.expand_as(wrong)
    except RuntimeError:
        return False
    return not region.all() and not (wrong & ~region).any()


def _close(cases: list[Case]) -> str:
    def relative(c: Case) -> float:
        scale = c.expected.abs().max().clamp(min=1e-12)
        return ((c.found - c.expected).abs().max() / scale).item()

    if not all(c.expected.is_floating_point() for c in cases):
        return ""
    if max(relative(c) for c in cases) < 0.01:
        return (
            "All numbers are close: look for an epsilon, a rounded constant, or n "
            "where n - 1 is meant."
        )
    return ""


_TELLING = (
    _returns_input,
    _constant,
    _inverted,
    _scaled,
    _offset,
    _rearranged,
    _behind_a_mask,
    _sums,
    _same_numbers,
)
_VAGUE = (_edge, _close, _visible)
