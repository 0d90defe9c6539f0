"""Finds an exercise: every module of this package and of `projects` may declare
``EXERCISES``.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
from typing import Any

from companion.exercises.exercise import Task


@functools.cache
def all_exercises() -> dict[str, Task]:
    """Every exercise of the book by its name.

    Raises:
        ValueError: two exercises have the same name.
    """
    import companion.exercises as package

    found: dict[str, Task] = {}
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        for exercise in getattr(importlib.import_module(module.name), "EXERCISES", ()):
            if exercise.name in found:
                raise ValueError(
                    f"two exercises are named {exercise.name!r}: one of the chapter "
                    f"{found[exercise.name].chapter!r} and one of {exercise.chapter!r}"
                )
            found[exercise.name] = exercise
    return found


def _by_alias() -> dict[str, Task]:
    return {alias: task for task in all_exercises().values() for alias in task.aliases}


def find_exercise(wanted: Any) -> Task:
    """The exercise that ``wanted`` is, names, or answers.

    Args:
        wanted: an exercise, its name (``"softmax_rows"`` or
            ``"attention.softmax_rows"``), or a function or class of that name.

    Raises:
        TypeError: ``wanted`` is none of these.
        ValueError: no exercise has that name.
    """
    if isinstance(wanted, Task):
        return wanted
    name = wanted if isinstance(wanted, str) else getattr(wanted, "__name__", None)
    if not isinstance(name, str):
        raise TypeError(
            "exercise must be the name of an exercise, an Exercise, or the function "
            f"that answers it, but it is a {type(wanted).__name__}"
        )
    exercises = all_exercises()
    chapter, _, short = name.rpartition(".")
    exercise = exercises.get(short) or _by_alias().get(short)
    if exercise is not None and chapter in ("", exercise.chapter):
        return exercise
    close = difflib.get_close_matches(short, exercises, n=3, cutoff=0.5)
    if close:
        advice = "did you mean " + " or ".join(map(repr, close)) + "?"
    else:
        advice = "the exercises are " + ", ".join(map(repr, sorted(exercises)))
    raise ValueError(f"no exercise is named {name!r}; {advice}")
