"""A report as text: what is said, in which columns, with how many digits."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from companion.exercises.compare import Verdict, differs, kind, number
from companion.exercises.outcome import tensors

_WIDTH = 80


@dataclass(frozen=True, eq=False)
class Grid:
    """A small matrix or row of numbers, for a page.

    Attributes:
        name: what it is.
        values: one or two axes.
        wrong: where it is wrong, if it is a part of an answer.
    """

    name: str
    values: Tensor
    wrong: Tensor | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """What `check` found: text where it is printed, a page's markup at the end of a cell.

    Attributes:
        exercise: the exercise's name.
        verdict: what was found.
        title: what the exercise asks.
        headline: what was found, in a few words.
        lines: labelled paragraphs; a label may be empty.
        grids: inputs, expected and found values, where they are small enough to read.
        misconception: the name of the misconception, if it is one; of two at once
            joined by "and", of two that nothing tells apart by "or".
        broken: the properties that do not hold, as sentences.
    """

    exercise: str
    verdict: Verdict
    title: str
    headline: str
    lines: tuple[tuple[str, str], ...]
    grids: tuple[Grid, ...] = ()
    misconception: str | None = None
    broken: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the answer is right."""
        return self.verdict is Verdict.PASSED

    @property
    def symbol(self) -> str:
        """A tick, a cross or, for what is still to do, a circle."""
        return {Verdict.PASSED: "✓", Verdict.NOT_IMPLEMENTED: "○"}.get(
            self.verdict, "✗"
        )

    @property
    def text(self) -> str:
        """The whole report."""
        head = f"{self.symbol} {self.exercise} ({self.title}): {self.headline}"
        return "\n".join([head, *(paragraph(*line) for line in self.lines)])

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from companion.exercises.page import to_html

        return {"text/plain": self.text, "text/html": to_html(self)}


class Note(str):
    """Text that shows as it is at the end of a cell, without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def worst(found: Tensor, expected: Tensor, tolerance: float) -> tuple[int, ...]:
    """The index of the largest difference, the first of those that are about as large."""
    if found.dtype == torch.bool:
        gap = (found != expected).float()
    else:
        gap = (found - expected).abs().float().nan_to_num(nan=torch.inf)
    # Equal infinities differ by NaN, but they do not differ.
    gap = gap.where(differs(found, expected, tolerance), 0.0)
    largest = gap >= gap.max() * (1 - 1e-3)
    return tuple(largest.nonzero()[0].tolist())


def describe(name: str, thing: Any) -> str:
    """An input by its name with its shape, or with its value if it is no tensor."""
    if isinstance(thing, Tensor):
        shape = f"{name} {tuple(thing.shape)}"
        if thing.dtype == torch.float32:
            return shape
        return f"{shape} {str(thing.dtype).removeprefix('torch.')}"
    if isinstance(thing, nn.Module | torch.Generator):
        return f"{name} {type(thing).__name__}"
    if isinstance(thing, list | tuple | dict) and list(tensors(thing)):
        return f"{name} {kind(thing)}"
    return f"{name} = {textwrap.shorten(repr(thing), 60)}"


def show(value: Any) -> str:
    """Numbers with few digits, nested as the tensor is."""
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(show, value)) + "]"
    return number(value) if isinstance(value, float) else repr(value)


def count(n: int, one: str, many: str = "") -> str:
    """``1 set``, ``2 sets``."""
    return f"{n} {one if n == 1 else many or one + 's'}"


def paragraph(label: str, body: str) -> str:
    """A labelled paragraph, wrapped, with the label in a column of its own."""
    indent = " " * (12 if label else 2)
    first = f"  {label}".ljust(12) if label else indent
    wrapped = []
    for line in body.split("\n"):
        wrapped += textwrap.wrap(
            line, _WIDTH, initial_indent=first, subsequent_indent=indent
        ) or [first.rstrip()]
        first = indent
    return "\n".join(wrapped)
