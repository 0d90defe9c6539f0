"""Computed parts of the page "All exercises": totals, and a table a chapter with links.

What an exercise asks and trains stands where it is declared, where it stands in the book
is found in the notebooks, and how its check was tested is kept in ``proof.csv``.
"""

import csv
import json
from collections import Counter
from pathlib import Path

from companion.book.anchors import PREFIX
from companion.book.glossary import chapter_title
from companion.book.toc import notebooks
from companion.exercises import Choice, Exercise, Kind, Ordering, Prediction
from companion.exercises import __file__ as package
from companion.exercises.exercise import Task
from companion.exercises.registry import all_exercises

PROOF = Path(package).with_name("proof.csv")
_MARKS = "-stub-", "-quiz-"  # stand before the exercise's name in the id of its cell


def tasks_of(path: Path) -> dict[str, Task]:
    """The exercises that a notebook asks, in order, by the id of the cell that asks.

    Cells with such an id that belong to no exercise are passed over.
    """
    every = {task.name.replace("_", "-"): task for task in all_exercises().values()}
    found = {}
    for cell in json.loads(path.read_text(encoding="utf8"))["cells"]:
        for mark in _MARKS:
            _, _, name = cell["id"].partition(mark)
            if cell["cell_type"] == "code" and name in every:
                found[cell["id"]] = every[name]
    return found


def mistakes(task: Task) -> int:
    """How many mistakes the check of an exercise has a name for.

    Raises:
        TypeError: ``task`` is of no known kind.
    """
    match task:
        case Exercise():
            return len(task.misconceptions)
        case Prediction():
            return len(task.wrong_values)
        case Ordering():
            return len(task.rules) + len(task.strangers)
        case Choice():
            return len(task.options) - 1
    raise TypeError(f"task must be one of the kinds in Kind, but it is {task!r}")


def proof() -> dict[str, Counter[str]]:
    """The counts of ``proof.csv`` by exercise."""
    with PROOF.open(encoding="utf8") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return {
            row["exercise"]: Counter({k: int(v) for k, v in row.items() if v.isdigit()})
            for row in rows
        }


def exercise_totals(root: Path) -> str:
    """Markdown: exercises by kind, and what was done to test the checks."""
    every = [task for path in notebooks(root) for task in tasks_of(path).values()]
    lines = ["| | exercises | hours | mistakes with a name |", "|---|--:|--:|--:|"]
    for label, tasks in [
        *((kind.value, [t for t in every if t.kind is kind]) for kind in Kind),
        ("together", every),
    ]:
        hours = sum(task.minutes for task in tasks) / 60
        named = sum(map(mistakes, tasks))
        lines.append(f"| {label} | {len(tasks)} | {hours:.1f} | {named:,} |")
    rows = [row for task in every if (row := proof().get(task.name))]
    sums = sum(rows, Counter())
    proved = {
        "exercises that ask for code": len(rows),
        "right answers that are written differently, all accepted": sums[
            "right_accepted"
        ],
        "pairs of mistakes with an answer of their own, all rejected": sums["pairs"],
        "mutants made": sums["mutants"],
        "mutants rejected": sums["killed"],
        "mutants shown to be equivalent": sums["equivalent"],
    }
    lines += ["", "| How the checks were tested | |", "|---|--:|"]
    return "\n".join(
        [*lines, *(f"| {name} | {count:,} |" for name, count in proved.items())]
    )


def exercise_tables(root: Path) -> str:
    """Markdown: for each chapter a table of exercises and a line of questions."""
    rows, parts = proof(), []
    for path in notebooks(root):
        here = tasks_of(path)
        work = {x: task for x, task in here.items() if task.kind is not Kind.CHOICE}
        questions = {x: task for x, task in here.items() if x not in work}
        if here:
            parts += [f"## {chapter_title(path)}", ""]
        if work:
            parts += [
                ":::{div} exercise-table",
                "| Exercise | Kind | Effort | Whoever solved it | Names | Mutants |",
                "|---|---|---|---|--:|--:|",
                *(_row(x, task, rows.get(task.name)) for x, task in work.items()),
                ":::",
                "",
            ]
        if questions:
            links = ", ".join(_link(x, task) for x, task in questions.items())
            minutes = sum(task.minutes for task in questions.values())
            parts += [f"*To choose*, about {minutes} minutes: {links}.", ""]
    return "\n".join(parts)


def _row(cell: str, task: Task, counts: Counter[str] | None) -> str:
    dots = "●" * task.difficulty + "○" * (5 - task.difficulty)
    mutants = f"{counts['killed']} of {counts['mutants']}" if counts else ""
    return (
        f"| {_link(cell, task)} | {task.kind} | {dots} {task.minutes} min "
        f"| {task.trains} | {mistakes(task)} | {mutants} |"
    )


def _link(cell: str, task: Task) -> str:
    return f"{{ref}}`{task.title} <{PREFIX}{cell}>`"
