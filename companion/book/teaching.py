"""Computed parts of the page "Teaching with this book": how long chapters and exercises take."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from companion.book.glossary import chapter_title
from companion.book.toc import notebooks

WORDS_A_MINUTE = 180  # of prose with formulas and code in between
_EXERCISE = re.compile(r"\*Difficulty [●○]+, about (\d+) minutes?")
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"^(\d+)_(?:(\d+)_)?")


@dataclass(frozen=True)
class Load:
    """What a chapter asks of a reader: minutes of reading, minutes of each exercise."""

    path: Path
    reading: int
    exercises: tuple[int, ...]

    @property
    def number(self) -> str:
        """``7.1`` of ``07_1_bert.ipynb``."""
        first, second = _NUMBER.match(self.path.name).groups()
        return f"{int(first)}.{second}" if second else str(int(first))

    @property
    def minutes(self) -> int:
        return self.reading + sum(self.exercises)


def loads(root: Path) -> dict[str, Load]:
    """The numbered chapters by their number, in order."""
    found = {}
    for path in notebooks(root):
        if _NUMBER.match(path.name):
            load = _load(path)
            found[load.number] = load
    return found


def teaching(root: Path) -> str:
    """Markdown: a table of minutes, a row a chapter."""
    lines = ["| | Chapter | Reading | Exercises | |", "|---|---|--:|--:|--:|"]
    every = loads(root).values()
    for load in every:
        count, minutes = len(load.exercises), sum(load.exercises)
        title = f"[{chapter_title(load.path)}]({load.path.name})"
        lines.append(
            f"| {load.number} | {title} | {load.reading} min | {count} | {minutes} min |"
        )
    reading = sum(load.reading for load in every)
    minutes = sum(sum(load.exercises) for load in every)
    count = sum(len(load.exercises) for load in every)
    lines.append(
        f"| | together | {reading / 60:.0f} h | {count} | {minutes / 60:.0f} h |"
    )
    return "\n".join(lines)


def hours(root: Path, *numbers: str) -> str:
    """How long some chapters take, as a sentence.

    Raises:
        ValueError: there is no such chapter.
    """
    every = loads(root)
    if missing := [number for number in numbers if number not in every]:
        raise ValueError(
            f"the page on teaching names chapters that are not here: {missing}"
        )
    chosen = [every[number] for number in numbers]
    reading = sum(load.reading for load in chosen) / 60
    exercises = sum(sum(load.exercises) for load in chosen) / 60
    return f"*Together {reading:.1f} hours of reading and {exercises:.1f} hours of exercises.*"


def _load(path: Path) -> Load:
    cells = json.loads(path.read_text(encoding="utf8"))["cells"]
    prose = "\n".join(
        "".join(c["source"]) for c in cells if c["cell_type"] == "markdown"
    )
    words = len(re.findall(r"[A-Za-z]{2,}", _FENCED.sub("", prose)))
    minutes = tuple(int(number) for number in _EXERCISE.findall(prose))
    return Load(path, max(1, round(words / WORDS_A_MINUTE)), minutes)
