"""A project's rubric: what is measured, and which level that reaches.

The learner hands in work (a model, a function, a table of runs), not numbers: each
criterion measures by itself, on data that it draws.
"""

from __future__ import annotations

import difflib
import functools
import html
import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from companion.exercises.compare import kind
from companion.exercises.report import count, paragraph

LEVELS = ("not yet", "works", "solid", "excellent")
_COLORS = ("#d55e00", "#7a7a7a", "#0072b2", "#009e73")


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """One line of a rubric.

    Attributes:
        name: what it is about, in one to three words; unique in its project.
        asks: what is measured, as a phrase: "bits a character on plays not seen".
        measure: takes parts of the work by the names of its parameters and gives a
            number. It does not change them.
        levels: what "works", "solid" and "excellent" ask for, in this order: numbers
            that rise if more is better, and fall if less is.
        advice: for each of these levels how to get there, as sentences.
        unit: what follows the number, such as " bits" or " %".
        digits: behind the point.
    """

    name: str
    asks: str
    measure: Callable[..., float]
    levels: tuple[float, float, float]
    advice: tuple[str, str, str]
    unit: str = ""
    digits: int = 2

    def __post_init__(self) -> None:
        rising = list(self.levels) == sorted(self.levels)
        falling = list(self.levels) == sorted(self.levels, reverse=True)
        if len(set(self.levels)) != 3 or not (rising or falling):
            raise ValueError(
                "levels must be three numbers that rise or fall, but they are "
                f"{self.levels}"
            )

    @property
    def more(self) -> bool:
        """Whether more is better."""
        return self.levels[0] < self.levels[-1]

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of the parts of the work that it looks at."""
        return tuple(inspect.signature(self.measure).parameters)

    def level(self, value: float) -> int:
        """The level that a measured value reaches, from 0; of NaN 0."""
        reached = [value >= x if self.more else value <= x for x in self.levels]
        return sum(reached)

    def show(self, value: float) -> str:
        """A value with its unit."""
        return f"{value:.{self.digits}f}{self.unit}"


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project of the part "Practice".

    Attributes:
        name: unique over the book.
        title: what is built or found out, in a few words.
        stages: names of the exercises that are its stages, in order.
        criteria: its rubric.
        minutes: how long a reader of the chapters takes.
    """

    name: str
    title: str
    stages: tuple[str, ...]
    criteria: tuple[Criterion, ...]
    minutes: int

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of everything that is handed in."""
        return tuple(dict.fromkeys(n for c in self.criteria for n in c.needs))


@dataclass(frozen=True)
class Line:
    """One criterion's outcome: a measured value, or what went wrong on the way to it."""

    criterion: Criterion
    value: float
    trouble: str = ""

    @property
    def level(self) -> int:
        """From 0, not yet, to 3, excellent."""
        return self.criterion.level(self.value)

    @property
    def found(self) -> str:
        """What was measured."""
        return self.trouble or self.criterion.show(self.value)

    @property
    def next(self) -> str:
        """What the next level asks, and how to get there."""
        if self.level == len(LEVELS) - 1:
            return ""
        wanted = self.criterion.show(self.criterion.levels[self.level])
        bound = "at least" if self.criterion.more else "at most"
        advice = self.criterion.advice[self.level]
        return f"{LEVELS[self.level + 1]} from {bound} {wanted}. {advice}"


@dataclass(frozen=True, repr=False)
class Grade:
    """What `grade` found: a line a criterion. The lowest level is that of the project."""

    project: Project
    lines: tuple[Line, ...]

    @property
    def level(self) -> int:
        """From 0, not yet, to 3, excellent."""
        return min(line.level for line in self.lines)

    def __getitem__(self, name: str) -> Line:
        """The line of a criterion.

        Raises:
            KeyError: the project has no such criterion.
        """
        for line in self.lines:
            if line.criterion.name == name:
                return line
        raise KeyError(f"{name!r} is none of {[x.criterion.name for x in self.lines]}")

    def __str__(self) -> str:
        text = [f"{self.project.title}: {LEVELS[self.level]}"]
        for line in self.lines:
            bar = "■" * line.level + "□" * (len(LEVELS) - 1 - line.level)
            name = line.criterion.name
            text.append(f"{bar}  {name}: {line.found} ({LEVELS[line.level]})")
            text.append(paragraph("", line.criterion.asks))
            if line.next:
                text.append(paragraph("", f"Next: {line.next}"))
        return "\n".join(text)

    __repr__ = __str__

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": _to_html(self)}


@functools.cache
def all_projects() -> dict[str, Project]:
    """Every project by its name: each module of this package may declare ``PROJECT``."""
    import companion.exercises.projects as package

    found: dict[str, Project] = {}
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        project = getattr(importlib.import_module(module.name), "PROJECT", None)
        if project is not None:
            found[project.name] = project
    return found


def grade(project: Project | str, **work: Any) -> Grade:
    """Measure a project's work against its rubric.

    Args:
        project: a project or its name.
        **work: what is handed in, by the names that the rubric's criteria have for it.

    Returns:
        A grade, which shows itself at the end of a cell. Work that cannot be measured
        reaches no level, and its line says why.

    Raises:
        ValueError: no project has that name.
        TypeError: a part of the work is missing, or is none that the rubric asks for.
    """
    project = _find(project)
    missing = [name for name in project.needs if name not in work]
    unknown = [name for name in work if name not in project.needs]
    if missing or unknown:
        faults = [f"lacks {', '.join(missing)}"] if missing else []
        faults += [f"does not know {', '.join(unknown)}"] if unknown else []
        raise TypeError(
            f"grade({project.name!r}, ...) {' and '.join(faults)}; "
            f"it takes {', '.join(project.needs)}"
        )
    return Grade(project, tuple(_measured(c, work) for c in project.criteria))


def _measured(criterion: Criterion, work: dict[str, Any]) -> Line:
    try:
        value = criterion.measure(**{name: work[name] for name in criterion.needs})
        return Line(criterion, float(value))
    except NotImplementedError:
        return Line(criterion, math.nan, "not implemented yet")
    except Exception as error:
        trouble = f"could not be measured: {type(error).__name__}: {error}"
        return Line(criterion, math.nan, trouble)


def _find(project: Project | str) -> Project:
    if isinstance(project, Project):
        return project
    projects = all_projects()
    if not isinstance(project, str):
        raise TypeError(f"project must be a name, but it is {kind(project)}")
    if project in projects:
        return projects[project]
    close = difflib.get_close_matches(project, projects, n=1)
    advice = f"did you mean {close[0]!r}?" if close else f"there are {list(projects)}"
    raise ValueError(f"no project is named {project!r}; {advice}")


def _to_html(found: Grade) -> str:
    rows = "".join(map(_row, found.lines))
    head = (
        f"<div><strong>{html.escape(found.project.title)}: {LEVELS[found.level]}"
        f"</strong> · {count(len(found.lines), 'criterion', 'criteria')}, "
        "and the lowest counts</div>"
    )
    names = "".join(
        f'<th style="text-align:left;padding:.15rem 1rem .15rem 0">{name}</th>'
        for name in ("What is measured", "Found", "Level", "Next")
    )
    return (
        '<div class="check-report" style="border-left:.3rem solid '
        f"{_COLORS[found.level]};padding:.1rem 0 .1rem .9rem;margin:.4rem 0;"
        f'line-height:1.5">{head}<div style="overflow-x:auto" tabindex="0" '
        'role="region" aria-label="The rubric"><table style="width:100%;'
        f'border-collapse:collapse"><thead><tr>{names}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></div>"
    )


def _row(line: Line) -> str:
    dots = "●" * line.level + "○" * (len(LEVELS) - 1 - line.level)
    cells = (
        f"<strong>{html.escape(line.criterion.name)}</strong><br>"
        f"{html.escape(line.criterion.asks)}",
        html.escape(line.found),
        f'<span aria-hidden="true">{dots}</span><br>{LEVELS[line.level]}',
        html.escape(line.next) or "this is the highest",
    )
    style = "text-align:left;vertical-align:top;padding:.3rem 1rem .3rem 0"
    return "<tr>" + "".join(f'<td style="{style}">{x}</td>' for x in cells) + "</tr>"
