"""A stage's worked solution, which steps back where the learner's own answer is right."""

from __future__ import annotations

import inspect

from companion.exercises.checker import judged
from companion.exercises.exercise import Answer
from companion.exercises.registry import find_exercise


def worked_solution(answer: Answer) -> Answer:
    """Decorates a worked solution: gives the learner's own answer, where that passes.

    A project goes on with what a stage has defined. So in a notebook that is run from
    top to bottom, what the learner wrote under the same name stays in use if it is
    right, and is replaced if it is wrong or still a stub. A line says which.

    Args:
        answer: the worked solution, named like its exercise.

    Returns:
        The object that has this name in the module or notebook that calls, if it passes
        the exercise's check; else ``answer``.

    Raises:
        ValueError: no exercise has this name.
    """
    task = find_exercise(answer)
    frame = inspect.currentframe()
    before = frame.f_back.f_globals.get(answer.__name__)
    if callable(before) and judged(before, task).passed:
        print(f"{task.name}: the project goes on with yours.")
        return before
    print(f"{task.name}: the project goes on with this worked solution.")
    return answer
