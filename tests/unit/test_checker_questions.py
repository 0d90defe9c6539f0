"""Exercises that are no code: predictions, orders and choices, and programs to mend."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
import torch

from companion.exercises import (
    Choice,
    Exercise,
    Kind,
    Ordering,
    Prediction,
    Verdict,
    broken_program,
    check,
    hint,
    quiz,
    solution,
)
from companion.exercises.registry import all_exercises

BOOK = Path(__file__).parents[2] / "book"
TASKS = all_exercises().values()
PREDICTIONS = [task for task in TASKS if isinstance(task, Prediction)]
ORDERINGS = [task for task in TASKS if isinstance(task, Ordering)]
CHOICES = [task for task in TASKS if isinstance(task, Choice)]
REPAIRS = [t for t in TASKS if isinstance(t, Exercise) and t.kind is Kind.FIX]


def of(tasks):
    return pytest.mark.parametrize("task", tasks, ids=lambda task: task.name)


def test_there_are_enough_of_each_kind():
    assert len({task.chapter for task in PREDICTIONS}) >= 8
    assert len({task.chapter for task in REPAIRS}) >= 8
    assert len({task.chapter for task in ORDERINGS}) >= 4
    choices = Counter(task.chapter for task in CHOICES)
    assert len(choices) >= 20 and min(choices.values()) >= 3, choices


@of([*PREDICTIONS, *ORDERINGS, *CHOICES, *REPAIRS])
def test_what_every_task_has(task):
    assert len(task.hints) >= 3 and all(task.hints)
    assert 1 <= task.difficulty <= 5 and task.minutes > 0
    assert task.trains
    assert "Hint 1 of" in hint(task, 1)
    assert solution(task)


@of(PREDICTIONS)
def test_predictions(task):
    assert check(task, task.reference()).passed
    assert task.explanation in " ".join(str(check(task, task.reference())).split())
    assert check(task, ...).verdict is Verdict.NOT_IMPLEMENTED
    assert len(task.wrong_values) >= 3
    for wrong in task.wrong_values:
        report = check(task.name, wrong.value())
        assert report.verdict is Verdict.MISCONCEPTION
        assert report.misconception == wrong.name, "told its own name, and no other"
        assert wrong.says.split()[0] in str(report)
    assert check(task, "a text").verdict is Verdict.WRONG_TYPE
    assert check(task, torch.tensor(task.reference())).passed, "a tensor will do"


def test_a_value_that_no_known_mistake_gives():
    assert "1 of its 3 numbers is right" in str(check("weights_shape", (2, 9, 9)))
    assert "each is in another's place" in str(check("weights_shape", (7, 2, 5)))
    assert "too large" in str(check("first_loss", 12.5))
    assert "too small" in str(check("image_tokens", 3))
    assert "wrong sign" in str(check("first_loss", -3))
    assert "a tuple of 3 is asked" in str(check("weights_shape", 7))
    assert check("first_loss", 10.8).passed, "three digits are enough"
    assert not check("image_tokens", 197.4).passed, "a whole number is exact"


@of(ORDERINGS)
def test_orders(task):
    right = task.right_orders()
    assert right, "the rules can be kept"
    for order in right:
        assert check(task, order).passed
    assert check(task, " ".join(right[0]).lower()).passed, "blanks and case are free"
    assert check(task.name, list(right[0])).passed
    assert check(task, ...).verdict is Verdict.NOT_IMPLEMENTED
    assert {r.first for r in task.rules} | {r.second for r in task.rules} <= task.wanted
    for rule in task.rules:  # each is needed, and is told where it is broken
        order = (
            right[0]
            .replace(rule.first, "")
            .replace(rule.second, rule.second + rule.first)
        )
        report = check(task, order)
        assert report.verdict is Verdict.MISCONCEPTION
        broken = task.broken_rules(order)
        assert rule in broken
        assert broken[0].why.split()[0] in str(report)
    for letter, why in task.strangers:
        assert why.split()[0] in str(check(task, right[0] + letter))
    assert "is missing" in str(check(task, right[0][1:]))
    assert "stands there twice" in str(check(task, right[0] + right[0][0]))
    assert "is not among the steps" in str(check(task, right[0] + "Z"))
    assert check(task, 3).verdict is Verdict.WRONG_TYPE


@of(REPAIRS)
def test_repairs(task):
    assert task.broken is task.misconceptions[0].wrong
    report = check(task, task.broken)
    assert report.verdict is Verdict.MISCONCEPTION
    assert "Found" in str(report) or "Worst" in str(report), "its failure is shown"
    source = broken_program(task)
    assert source == inspect.getsource(task.broken).rstrip()
    assert len(source.splitlines()) <= 8


def test_only_a_repair_has_a_broken_program():
    with pytest.raises(ValueError, match="'attend' has no bug to fix"):
        broken_program("attend")


def flat(text):
    """The text without blanks: a paragraph is broken at blanks and hyphens."""
    return "".join(str(text).split())


@of(CHOICES)
def test_choices(task):
    assert check(task, ...).verdict is Verdict.NOT_IMPLEMENTED
    assert list(task.options) == list("ABCDE"[: len(task.options)])
    assert len(task.options) >= 3
    for letter, option in task.options.items():
        report = check(task.name, letter)
        said = flat(report)
        assert flat(f"{letter}. {option.text}") in said
        assert flat(option.why) in said, "told its own reason"
        if letter == task.right:
            assert report.passed
        else:
            assert report.verdict is Verdict.MISCONCEPTION
            assert report.misconception == f"{letter}. {option.text}"
        others = [o for o in task.options.values() if o is not option]
        assert not any(flat(o.why) in said for o in others), "and no other"
        assert flat(option.why) in flat(solution(task))
    assert sum(check(task, letter).passed for letter in task.options) == 1
    assert check(task, f" {task.right.lower()}. ").passed, "case and a point are free"
    for wrong in (3, "", "Z", task.right * 2):
        assert check(task, wrong).verdict is Verdict.WRONG_TYPE
    texts = [option.text for option in task.options.values()]
    reasons = [option.why for option in task.options.values()]
    assert len({*texts, *reasons}) == 2 * len(texts)
    assert all(text.endswith((".", "?", "!")) for text in [*texts, *reasons])
    assert not re.search(r"[$\\]", task.question + "".join(texts + reasons)), "formulas"


def test_the_right_answer_is_not_given_away_by_its_place_or_length():
    places = Counter(task.right for task in CHOICES)
    assert all(0.15 <= places[x] / len(CHOICES) <= 0.35 for x in "ABCD"), places
    for chapter in {task.chapter for task in CHOICES}:
        assert len({task.right for task in CHOICES if task.chapter == chapter}) >= 2
    ranks = Counter()
    for task in CHOICES:
        by_length = sorted(task.options, key=lambda x: len(task.options[x].text))
        ranks["longest"] += by_length[-1] == task.right
        ranks["shortest"] += by_length[0] == task.right
    assert all(n / len(CHOICES) <= 0.35 for n in ranks.values()), ranks


def test_each_choice_stands_in_one_notebook_of_its_chapter():
    shown = Counter()
    for path in sorted(BOOK.glob("*.ipynb")):
        found = []
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                found += re.findall(r'^quiz\("(\w+)"\)$', cell.source, re.MULTILINE)
        shown.update(found)
        assert len({all_exercises()[name].chapter for name in found}) <= 1, path
    assert shown == Counter(task.name for task in CHOICES)


class _Outline(HTMLParser):
    """Tags that are open, names of details, and the text inside of each."""

    def __init__(self):
        super().__init__()
        self.open, self.options, self.tags = [], [], Counter()

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags[tag] += 1
        if tag == "details":
            self.options.append({"name": dict(attrs).get("name"), "summary": ""})

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "details" in self.open:
            place = "summary" if "summary" in self.open else "body"
            self.options[-1][place] = self.options[-1].get(place, "") + data


@of(CHOICES)
def test_a_page_holds_each_option_with_its_reason(task):
    bundle = quiz(task.name)._repr_mimebundle_()
    page = _Outline()
    page.feed(bundle["text/html"])
    assert page.open == [] and not {"script", "a", "img"} & set(page.tags)
    assert len(page.options) == len(task.options)
    assert {option["name"] for option in page.options} == {f"quiz-{task.name}"}
    for shown, (letter, option) in zip(page.options, task.options.items(), strict=True):
        assert shown["summary"] == f"{letter}. {re.sub('[`*]', '', option.text)}"
        word = "✓ Right." if letter == task.right else "✗ No."
        assert shown["body"] == f"{word} {re.sub('[`*]', '', option.why)}"
    printed = flat(bundle["text/plain"])
    assert flat(task.question) in printed
    assert all(flat(option.text) in printed for option in task.options.values())
    assert not any(flat(option.why) in printed for option in task.options.values())


def test_a_quiz_shows_a_choice_and_nothing_else():
    with pytest.raises(ValueError, match="'attend' is of another kind: implement"):
        quiz("attend")
