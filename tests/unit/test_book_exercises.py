"""The page "All exercises": every exercise with its cell, and totals that add up."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from companion.book import toc
from companion.book.exercises_page import (
    PROOF,
    exercise_tables,
    exercise_totals,
    mistakes,
    proof,
    tasks_of,
)
from companion.exercises import Kind, Verdict, check
from companion.exercises.registry import all_exercises, find_exercise

ROOT = Path(__file__).parents[2]
CHAPTERS = toc.notebooks(ROOT)
ASKED = {path: tasks_of(path) for path in CHAPTERS}


def test_every_exercise_is_asked_by_one_cell_of_the_book() -> None:
    asked = Counter(task.name for tasks in ASKED.values() for task in tasks.values())
    missing = sorted(set(all_exercises()) - set(asked))
    assert not missing, "no notebook of _toc.yml has a cell <prefix>-stub-<name> for it"
    assert asked.total() == len(asked), "a second cell asks the same"


def test_each_cell_checks_or_shows_the_exercise_that_its_id_names() -> None:
    for path, tasks in ASKED.items():
        cells = json.loads(path.read_text(encoding="utf8"))["cells"]
        source = {cell["id"]: "".join(cell["source"]) for cell in cells}
        for cell, task in tasks.items():
            assert re.search(rf"\b{task.name}\b", source[cell]), cell
            assert re.search(r"\b(check|quiz)\(", source[cell]), cell


def test_a_cell_without_an_exercise_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "01_a.ipynb"
    kinds = {
        "a-stub-attend": "code",
        "a-stub-phlogiston": "code",
        "a-quiz": "code",
        "a-hints-attend": "code",
        "a-stub-soft-lookup": "markdown",
        "a-quiz-room-in-the-state": "code",
    }
    cells = [{"id": name, "cell_type": kind} for name, kind in kinds.items()]
    path.write_text(json.dumps({"cells": cells}))
    assert {cell: task.name for cell, task in tasks_of(path).items()} == {
        "a-stub-attend": "attend",
        "a-quiz-room-in-the-state": "room_in_the_state",
    }


def test_tables_have_a_row_for_what_is_done_and_a_line_for_what_is_chosen() -> None:
    text = exercise_tables(ROOT)
    tasks = {cell: task for here in ASKED.values() for cell, task in here.items()}
    assert re.findall(r"<cell-([\w-]+)>`", text) == [
        cell
        for here in ASKED.values()
        for cell in sorted(here, key=lambda one: here[one].kind is Kind.CHOICE)
    ]
    rows = [line for line in text.splitlines() if line.startswith("| {ref}")]
    choices = [task for task in tasks.values() if task.kind is Kind.CHOICE]
    assert len(rows) == len(tasks) - len(choices)
    assert all(re.search(r" [●○]{5} ", row) for row in rows)
    assert all(row.count("|") == 7 for row in rows), "no title or ability has a bar"
    attend = find_exercise("attend")
    (row,) = (row for row in rows if attend.title in row)
    counts = proof()["attend"]
    assert row.split(">`")[1] == (
        f" | implement | ●●○○○ 10 min | {attend.trains} | 5 "
        f"| {counts['killed']} of {counts['mutants']} |"
    )
    assert text.count("*To choose*") == sum(
        any(task.kind is Kind.CHOICE for task in here.values())
        for here in ASKED.values()
    )


def test_totals_add_up() -> None:
    text = exercise_totals(ROOT)
    rows = {
        name: [float(x.replace(",", "")) for x in numbers.split("|")]
        for name, numbers in re.findall(
            r"^\| ([a-z].+?) \|([\d., |]+)\|$", text, re.MULTILINE
        )
    }
    tasks = [task for here in ASKED.values() for task in here.values()]
    kinds = [rows[kind] for kind in Kind]
    assert rows["together"][0] == sum(n for n, *_ in kinds) == len(tasks)
    assert rows["together"][2] == sum(named for *_, named in kinds)
    assert rows["together"][1] == pytest.approx(sum(h for _, h, _ in kinds), abs=0.3)
    assert rows["mutants made"][0] == (
        rows["mutants rejected"][0] + rows["mutants shown to be equivalent"][0]
    )
    assert rows["mutants made"][0] > 20 * rows["exercises that ask for code"][0]
    have = PROOF.read_text(encoding="utf8").splitlines()
    assert 100 < rows["exercises that ask for code"][0] <= len(have) - 2


@pytest.mark.parametrize("kind", Kind)
def test_mistakes_are_counted_for_each_kind(kind: Kind) -> None:
    for task in all_exercises().values():
        assert task.kind is not kind or mistakes(task) >= 3, task.name


def test_counted_mistakes_are_what_a_check_names() -> None:
    for name in ("room_in_the_state", "weights_shape"):
        task = find_exercise(name)
        if task.kind is Kind.CHOICE:
            answers = list(task.options)
        else:
            answers = [wrong.value() for wrong in task.wrong_values]
        reports = [check(name, answer) for answer in answers]
        named = {r.misconception for r in reports if r.verdict is Verdict.MISCONCEPTION}
        assert len(named) == mistakes(task)
    with pytest.raises(TypeError, match="one of the kinds in Kind, but it is 'attend'"):
        mistakes("attend")
