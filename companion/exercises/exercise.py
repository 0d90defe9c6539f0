"""An exercise, declared as data: a reference, inputs, properties and named wrong answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Answer = Callable[..., Any]
Inputs = tuple[Any, ...]


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


@dataclass(frozen=True)
class Exercise:
    """One exercise of a chapter.

    Attributes:
        name: the name of the function that the learner writes; unique over the book.
        chapter: the chapter's short name, such as "attention".
        title: what is asked, in a few words.
        difficulty: from 1 (a line) to 5 (an evening).
        minutes: how long a reader of the chapter takes.
        reference: a right answer.
        inputs: draws several sets of arguments from a generator, the simplest first.
        properties: what a right answer has.
        misconceptions: mistakes that the checker can tell apart, at least three.
        hints: from a nudge to nearly the answer.
        tolerance: the largest absolute and relative difference from the reference.
        run: how an answer is put to use on one set of inputs; called as ``answer(*inputs)``
            by default. An exercise whose answer is a module says here how to build it,
            give it weights and call it.
        input_names: what reports call the inputs; by default as the reference's
            parameters.
    """

    name: str
    chapter: str
    title: str
    difficulty: int
    minutes: int
    reference: Answer
    inputs: Callable[[torch.Generator], list[Inputs]]
    properties: tuple[Property, ...]
    misconceptions: tuple[Misconception, ...]
    hints: tuple[str, ...]
    tolerance: float = 1e-5
    run: Callable[[Answer, Inputs], Any] | None = None
    input_names: tuple[str, ...] = ()

    def use(self, answer: Answer, inputs: Inputs) -> Any:
        """What ``answer`` gives for ``inputs``."""
        return answer(*inputs) if self.run is None else self.run(answer, inputs)
