"""Exercises whose answer is no code: predict a value, order steps, choose an answer.

A prediction is checked against what the reference *computes*, never against a typed-in
number, and each wrong value that people are known to give has its explanation. An
ordering is checked by rules, each of which says why one step comes before another, so
that every order that works is right. A choice explains every one of its options, and
`companion.exercises.quiz` shows it on a page.

The stub of all is ``...``, in the place of the answer.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from companion.exercises.compare import Verdict, kind
from companion.exercises.exercise import Kind, Task
from companion.exercises.report import Report, count, paragraph, show


@dataclass(frozen=True)
class WrongValue:
    """A wrong prediction that people give.

    Attributes:
        name: the mistake in a few words.
        value: computes the value that someone who makes it predicts.
        says: what to tell the learner.
    """

    name: str
    value: Callable[[], Any]
    says: str


@dataclass(frozen=True, kw_only=True)
class Prediction(Task):
    """Predict a shape, a number or several.

    Attributes:
        reference: computes the true value.
        wrong_values: predictions that people give, at least three.
        explanation: why the true value is what it is.
        tolerance: the largest relative difference of a float.
    """

    reference: Callable[[], Any]
    wrong_values: tuple[WrongValue, ...]
    explanation: str
    tolerance: float = 0.01

    @property
    def kind(self) -> Kind:
        """What the learner does."""
        return Kind.PREDICT

    def solution(self) -> str:
        """The code that computes the value, the value and why."""
        source = inspect.getsource(self.reference).rstrip()
        return f"{source}\n\n# {show(_plain(self.reference()))}: {self.explanation}"


@dataclass(frozen=True)
class Before:
    """A rule: one step has to come before another.

    Attributes:
        first, second: letters of steps.
        why: what goes wrong otherwise, as a sentence.
    """

    first: str
    second: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Ordering(Task):
    """Put steps in order.

    Attributes:
        steps: the steps by their letter, as the reader sees them.
        rules: what comes before what, and why. Every order that keeps them is right.
        strangers: letters of steps that do not belong, each with the reason.
    """

    steps: dict[str, str]
    rules: tuple[Before, ...]
    strangers: tuple[tuple[str, str], ...] = ()

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def kind(self) -> Kind:
        """What the learner does."""
        return Kind.ORDER

    @property
    def wanted(self) -> set[str]:
        """The letters that a right answer has."""
        return set(self.steps) - {letter for letter, _ in self.strangers}

    def broken_rules(self, order: str) -> list[Before]:
        """The rules that an order of letters does not keep."""
        place = {letter: i for i, letter in enumerate(order)}
        return [
            rule
            for rule in self.rules
            if rule.first in place
            and rule.second in place
            and place[rule.first] > place[rule.second]
        ]

    def right_orders(self) -> list[str]:
        """Every order that keeps the rules."""
        orders = map("".join, itertools.permutations(sorted(self.wanted)))
        return [order for order in orders if not self.broken_rules(order)]

    def solution(self) -> str:
        """A right order with its steps."""
        order = self.right_orders()[0]
        return "\n".join([order, *(f"{x}  {self.steps[x]}" for x in order)])


@dataclass(frozen=True)
class Option:
    """One of the answers to choose from.

    Attributes:
        text: what it says, as the reader sees it.
        why: why it is right; or why not, and what would have to be so for it to be.
    """

    text: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Choice(Task):
    """Choose the one right answer.

    Attributes:
        question: what is asked; here and in options backticks mark code, stars stress.
        options: the answers by their letter, as the reader sees them.
        right: the letter of the right one.
    """

    question: str
    options: dict[str, Option]
    right: str

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def kind(self) -> Kind:
        """What the learner does."""
        return Kind.CHOICE

    def mark(self, letter: str) -> str:
        """A tick for the right option, a cross for the others."""
        return "✓" if letter == self.right else "✗"

    def solution(self) -> str:
        """The right letter, and every option with its reason."""
        options = (
            paragraph(f"{letter} {self.mark(letter)}", f"{option.text}\n{option.why}")
            for letter, option in self.options.items()
        )
        return "\n".join([self.right, *options])


def judge(task: Task, answer: Any) -> Report:
    """Check the answer to a question.

    Raises:
        TypeError: ``task`` is no question.
    """
    if answer is Ellipsis or answer is None:
        return _open(task)
    if isinstance(task, Prediction):
        return _judge_prediction(task, answer)
    if isinstance(task, Ordering):
        return _judge_order(task, answer)
    if isinstance(task, Choice):
        return _judge_choice(task, answer)
    raise TypeError(
        f"task must be a Prediction, an Ordering or a Choice, but it is {kind(task)}"
    )


def _open(task: Task) -> Report:
    cost = (
        f"Difficulty {task.difficulty} of 5, about {count(task.minutes, 'minute')}, "
        f"{count(len(task.hints), 'hint')}."
    )
    todo = f'Write your answer in place of the dots. hint("{task.name}") helps.'
    lines = (("", cost), ("", todo))
    return Report(
        task.name, Verdict.NOT_IMPLEMENTED, task.title, "not answered yet", lines
    )


def _judge_prediction(task: Prediction, answer: Any) -> Report:
    answer, truth = _plain(answer), _plain(task.reference())
    if _same(answer, truth, task.tolerance):
        lines = (("", f"It is {show(truth)}. {task.explanation}"),)
        return Report(task.name, Verdict.PASSED, task.title, "right", lines)
    fits = [
        wrong
        for wrong in task.wrong_values
        if _same(answer, _plain(wrong.value()), task.tolerance)
    ]
    if fits:
        headline = " or ".join(wrong.name for wrong in fits)
        says = "\n".join(wrong.says for wrong in fits)
        return _wrong(task, Verdict.MISCONCEPTION, headline, says, headline)
    if kind(answer) != kind(truth) and not _are_numbers(answer, truth):
        says = f"Your answer is {kind(answer)}; {kind(truth)} is asked for."
        return _wrong(task, Verdict.WRONG_TYPE, "not the kind that is asked", says)
    return _wrong(
        task, Verdict.WRONG_VALUES, "not the right value", _near(answer, truth)
    )


def _are_numbers(*things: Any) -> bool:
    return all(isinstance(x, int | float) and not isinstance(x, bool) for x in things)


def _same(answer: Any, value: Any, tolerance: float) -> bool:
    """Whether an answer is a value: whole numbers exactly, others relatively."""
    if isinstance(value, tuple):
        return (
            isinstance(answer, tuple)
            and len(answer) == len(value)
            and all(_same(a, v, tolerance) for a, v in zip(answer, value, strict=True))
        )
    if not _are_numbers(answer, value):
        return type(answer) is type(value) and answer == value
    exact = isinstance(value, int)
    return math.isclose(answer, value, rel_tol=0.0 if exact else tolerance)


def _near(answer: Any, truth: Any) -> str:
    """What is right about a wrong prediction."""
    if isinstance(truth, tuple):
        right = sum(a == b for a, b in zip(answer, truth, strict=True))
        if not right and sorted(answer) == sorted(truth):
            return "The numbers are right, and each is in another's place."
        return f"{right} of its {len(truth)} numbers {'is' if right == 1 else 'are'} right."
    if _are_numbers(answer, truth) and truth and answer:
        ratio = answer / truth
        if ratio < 0:
            return "It has the wrong sign."
        return f"It is too {'large' if ratio > 1 else 'small'}."
    return "No known mistake gives this value."


def _judge_order(task: Ordering, answer: Any) -> Report:
    try:
        order = "".join(answer).replace(" ", "").replace(",", "").upper()
    except TypeError:
        says = f"Your answer is {kind(answer)}; letters are asked for, such as "
        says += f'"{"".join(sorted(task.steps))}".'
        return _wrong(task, Verdict.WRONG_TYPE, "not the kind that is asked", says)
    unknown = sorted(set(order) - set(task.steps))
    double = sorted({x for x in order if order.count(x) > 1})
    missing = sorted(task.wanted - set(order))
    strange = [(x, why) for x, why in task.strangers if x in order]
    if unknown or double or missing:
        says = " ".join(
            f"{', '.join(letters)} {fault}."
            for letters, fault in (
                (unknown, "is not among the steps"),
                (double, "stands there twice"),
                (missing, "is missing"),
            )
            if letters
        )
        return _wrong(task, Verdict.WRONG_TYPE, "not each step once", says)
    if strange:
        letter, why = strange[0]
        headline = f"{letter} does not belong"
        return _wrong(task, Verdict.MISCONCEPTION, headline, why, headline)
    broken = task.broken_rules(order)
    if not broken:
        right = "; ".join(f"{x} {task.steps[x]}" for x in order)
        return Report(task.name, Verdict.PASSED, task.title, "right", (("", right),))
    rule = broken[0]
    headline = f"{rule.first} comes before {rule.second}"
    says = f"{task.steps[rule.second]}: too early. {rule.why}"
    if len(broken) > 1:
        says += f" {count(len(broken) - 1, 'other step')} out of place, too."
    return _wrong(task, Verdict.MISCONCEPTION, headline, says, headline)


def _judge_choice(task: Choice, answer: Any) -> Report:
    letter = answer.strip(" .)").upper() if isinstance(answer, str) else ""
    if letter not in task.options:
        found = repr(answer) if isinstance(answer, str) else kind(answer)
        says = f"Your answer is {found}; one of the letters {', '.join(task.options)} "
        says += "is asked for."
        return _wrong(task, Verdict.WRONG_TYPE, "not one of the letters", says)
    option = task.options[letter]
    if letter != task.right:
        named = f"{letter}. {option.text}"
        says = f"{named}\n{option.why}"
        headline = f"{letter} is not right"
        return _wrong(task, Verdict.MISCONCEPTION, headline, says, named)
    more = f'solution("{task.name}") says what is wrong with the others.'
    lines = (("", f"{letter}. {option.text}"), ("", option.why), ("", more))
    return Report(task.name, Verdict.PASSED, task.title, "right", lines)


def _wrong(
    task: Task, verdict: Verdict, headline: str, says: str, named: str | None = None
) -> Report:
    lines = (
        ("What", says),
        ("Next", f'Change it and check again. hint("{task.name}") helps.'),
    )
    return Report(task.name, verdict, task.title, headline, lines, misconception=named)


def _plain(value: Any) -> Any:
    """Numbers and tuples of numbers in place of tensors and sizes."""
    if isinstance(value, Tensor):
        value = value.item() if value.ndim == 0 else value.tolist()
    if isinstance(value, torch.Size | list | tuple):
        return tuple(_plain(part) for part in value)
    return value
