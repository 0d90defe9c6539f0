"""An exercise, declared as data: a reference, inputs, properties and named wrong answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch

Answer = Callable[..., Any]
Inputs = tuple[Any, ...]


class Kind(StrEnum):
    """What the learner does."""

    IMPLEMENT = "implement"
    FIX = "fix the bug"
    PREDICT = "predict"
    ORDER = "order the steps"
    CHOICE = "choose"


@dataclass(frozen=True, kw_only=True)
class Task:
    """What exercises of all kinds have.

    Attributes:
        name: the name of what the learner writes; unique over the book.
        chapter: the chapter's short name, such as "attention".
        title: what is asked, in a few words.
        difficulty: from 1 (a line) to 5 (an evening).
        minutes: how long a reader of the chapter takes.
        hints: from a nudge to nearly the answer, at least three.
        trains: what one can do afterwards, such as "tells the axis of keys from the
            axis of queries".
        aliases: other names that find it.
    """

    name: str
    chapter: str
    title: str
    difficulty: int
    minutes: int
    hints: tuple[str, ...]
    trains: str = ""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Property:
    """Something that every right answer has, whatever its numbers.

    Attributes:
        says: the property as a sentence, such as "each row of weights sums to 1".
        holds: takes the candidate and one set of inputs; whether the property holds there.
    """

    says: str
    holds: Callable[[Answer, Inputs], bool]


@dataclass(frozen=True)
class Misconception:
    """A mistake that people make, kept as the code that someone who makes it would write.

    Attributes:
        name: a short name, such as "scales by d_k instead of its root".
        wrong: that code. An answer that agrees with it and not with the reference holds this
            misconception.
        says: what to tell the learner: what the answer does, why that is wrong, where to look.
    """

    name: str
    wrong: Answer
    says: str


@dataclass(frozen=True, kw_only=True)
class Exercise(Task):
    """An exercise whose answer is code.

    Attributes:
        reference: a right answer.
        inputs: draws several sets of arguments from a generator, the simplest first.
        properties: what a right answer has.
        misconceptions: mistakes that the checker can tell apart, at least three.
        tolerance: the largest absolute and relative difference from the reference.
        run: how an answer is put to use on one set of inputs; called as ``answer(*inputs)``
            by default. An exercise whose answer is a module says here how to build it,
            give it weights and call it.
        input_names: what reports call the inputs; by default as the reference's
            parameters.
        broken: the program to be mended, for an exercise that asks to fix a bug; the
            `wrong` of its first misconception.
    """

    reference: Answer
    inputs: Callable[[torch.Generator], list[Inputs]]
    properties: tuple[Property, ...]
    misconceptions: tuple[Misconception, ...]
    tolerance: float = 1e-5
    run: Callable[[Answer, Inputs], Any] | None = None
    input_names: tuple[str, ...] = ()
    broken: Answer | None = None

    @property
    def kind(self) -> Kind:
        """Whether to write code or to mend it."""
        return Kind.IMPLEMENT if self.broken is None else Kind.FIX

    def use(self, answer: Answer, inputs: Inputs) -> Any:
        """What ``answer`` gives for ``inputs``."""
        return answer(*inputs) if self.run is None else self.run(answer, inputs)
