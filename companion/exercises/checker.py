"""Checks a learner's answer to an exercise, and says which mistake a wrong one is.

A chapter declares its exercises as data, in a module of this package that defines
``EXERCISES``. Nothing else is registered anywhere::

    def row_softmax(scores: Tensor) -> Tensor:          # the reference
        return scores.softmax(dim=-1)

    def _down_the_columns(scores: Tensor) -> Tensor:    # a mistake, as its code
        return scores.softmax(dim=-2)

    def _draw(generator: torch.Generator) -> list[Inputs]:
        # CPU tensors, the simplest inputs first. The checker moves them to the device.
        # Sizes that differ from each other tell mistakes apart: not (4, 4) alone.
        return [(torch.randn(size, generator=generator),) for size in ((2, 3), (4, 2, 5))]

    EXERCISES: tuple[Exercise, ...] = (
        Exercise(
            name="row_softmax",                         # the function's name, unique
            chapter="attention",
            title="Turn scores into weights",
            difficulty=1,
            minutes=3,
            reference=row_softmax,
            inputs=_draw,
            properties=(
                Property(
                    "each row of weights sums to 1",
                    lambda answer, inputs: bool(
                        ((answer(*inputs).sum(-1) - 1).abs() < 1e-5).all()
                    ),
                ),
            ),
            misconceptions=(
                Misconception(
                    "normalizes columns",
                    _down_the_columns,
                    "The softmax runs over the queries, so that each key hands out a "
                    "total of 1. Each query should: over which axis do keys lie?",
                ),
                ...  # at least three
            ),
            hints=("Which axis of the scores holds the keys?", "..."),
        ),
    )

Mistakes are put together, two by two, where their code allows it (`composition`): write
a mistake as an edit of the reference, or as a function that calls the reference, and an
answer with two of them is told both.

A misconception may return wrong numbers, a wrong shape or NaN, may raise, change its inputs
or cut the gradient: whatever it does that the reference does not, on all inputs, is what
an answer has to do to be told its name. It must do so visibly on at least one set of inputs.
``says`` speaks to the learner: what the answer does, why that is wrong, where to look, and
not the solution. A reference may raise too: then a right answer raises the same.

`companion.exercises.questions` has exercises whose answer is no code.

A property's ``says`` goes on after "this should hold:", so it has no capital and no full
stop. ``holds`` gets copies of the inputs and may change them: it may change the future and
look whether the past moves. Every property must be able to fail.

If the answer is a class, or takes keyword arguments, ``run`` says how it is put to use::

    def _run(answer, inputs):
        x, weight = inputs
        layer = answer(x.shape[-1]).to(x.device)
        with torch.no_grad():
            layer.W_q.weight.copy_(weight)
        return layer(x)

``tests/unit/test_exercises.py`` holds every exercise to all this.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

import companion
from companion.exercises import track
from companion.exercises.compare import Verdict, kind
from companion.exercises.diagnosis import diagnose
from companion.exercises.exercise import Answer, Exercise, Inputs, Kind, Task
from companion.exercises.outcome import mapped
from companion.exercises.questions import judge
from companion.exercises.registry import all_exercises, find_exercise
from companion.exercises.report import Note, Report, paragraph

__all__ = [
    "Note",
    "Report",
    "Verdict",
    "broken_program",
    "check",
    "draw_fresh_inputs",
    "draw_inputs",
    "hint",
    "solution",
]

_MISSING: Any = object()
_FRESH_SEEDS = (1, 2)


def check(answer: Any, exercise: Any = _MISSING) -> Report:
    """Check an answer and say what is wrong with it, one mistake at a time.

    ``check(attend)`` finds the exercise by the function's name. Otherwise name it, in
    either order: ``check("attention.attend", mine)`` or ``check(mine, "attend")``.

    Args:
        answer: the learner's function, class or module; for a question its value. Code
            is called on copies of the inputs, with printing silenced but for the first
            call, and stopped when it takes seconds.
        exercise: which exercise it answers, or its name; by default the one that has
            the answer's name.

    Returns:
        A report. Whatever the answer raises is in it; only a KeyboardInterrupt
        passes through.

    Raises:
        TypeError: the exercise asks for code, and ``answer`` cannot be called.
        ValueError: no exercise has that name.
    """
    answer, task = _sorted_out(answer, exercise)
    report = judged(answer, task)
    if all_exercises().get(task.name) is task:
        track.record(task, report)
    return report


def judged(answer: Any, task: Task) -> Report:
    """What `check` finds, without a trace in the reader's progress."""
    if not isinstance(task, Exercise):
        return judge(task, answer)
    return diagnose(
        task, callable_of(answer, task), draw_inputs(task), draw_fresh_inputs(task)
    )


def draw_inputs(exercise: Exercise, seed: int = 0) -> list[Inputs]:
    """The sets of inputs on which an exercise is checked, on `companion.device`."""
    generator = torch.Generator().manual_seed(seed)
    device = companion.device()

    def move(leaf: Any) -> Any:
        return leaf.to(device) if isinstance(leaf, Tensor | nn.Module) else leaf

    return [mapped(move, inputs) for inputs in exercise.inputs(generator)]


def draw_fresh_inputs(exercise: Exercise) -> list[Inputs]:
    """More sets of inputs, on which what was found has to hold as well."""
    return [i for seed in _FRESH_SEEDS for i in draw_inputs(exercise, seed)]


def hint(exercise: Task | Answer | str, level: int | None = None) -> Note:
    """The next hint for an exercise, or the one of a given level.

    Args:
        exercise: the exercise, its name, or the function that answers it.
        level: from 1, the gentlest; by default one more than last time.

    Raises:
        ValueError: there is no such exercise or no such level.
    """
    exercise = find_exercise(exercise)
    total = len(exercise.hints)
    if level is None:
        level = min(_hints_given.get(exercise.name, 0) + 1, total)
        _hints_given[exercise.name] = level
        track.record_hint(exercise, level)
    if not 1 <= level <= total:
        raise ValueError(
            f"level must be from 1 to {total} for {exercise.name!r}, but it is {level}"
        )
    head = f"Hint {level} of {total} for {exercise.name}"
    if level == total:
        more = f'That was the last hint. solution("{exercise.name}") shows an answer.'
    else:
        more = f'hint("{exercise.name}") says more.'
    body = [paragraph("", exercise.hints[level - 1]), paragraph("", more)]
    return Note("\n".join([head, *body]))


_hints_given: dict[str, int] = {}


def solution(exercise: Task | Answer | str) -> Note:
    """The source of the reference, the very code that answers are compared with."""
    task = find_exercise(exercise)
    if isinstance(task, Exercise):
        return Note(inspect.getsource(task.reference).rstrip())
    return Note(task.solution())


def broken_program(exercise: Exercise | str) -> Note:
    """The source of the program that an exercise asks to mend.

    Raises:
        ValueError: the exercise does not ask to mend a program.
    """
    task = find_exercise(exercise)
    if task.kind is not Kind.FIX:
        raise ValueError(f"{task.name!r} has no bug to fix: its kind is {task.kind!r}")
    return Note(inspect.getsource(task.broken).rstrip())


def _sorted_out(answer: Any, exercise: Any) -> tuple[Any, Task]:
    """The answer and its exercise, whichever came first."""
    if isinstance(answer, Task):
        return exercise, answer
    if isinstance(answer, str):
        named = isinstance(exercise, Task) or (
            isinstance(exercise, str) and _names_one(exercise)
        )
        if exercise is _MISSING:
            raise TypeError(
                f"check takes the function itself, check({answer.rpartition('.')[2]}), "
                f"not its name {answer!r}"
            )
        if not named:
            return exercise, find_exercise(answer)
    if exercise is not _MISSING and exercise is not None:
        return answer, find_exercise(exercise)
    callable_of(answer, None)
    name = getattr(answer, "__name__", None)
    if name in (None, "<lambda>"):
        what = "a lambda" if name else kind(answer)
        raise ValueError(
            f"candidate is {what}, which has no name to find its exercise by; "
            'say which one it answers: check(candidate, exercise="...")'
        )
    return answer, find_exercise(answer)


def _names_one(name: str) -> bool:
    try:
        find_exercise(name)
    except ValueError:
        return False
    return True


def callable_of(answer: Any, exercise: Exercise | None) -> Answer:
    """The answer, as something that takes the exercise's inputs."""
    if answer is _MISSING or not callable(answer):
        found = "missing" if answer is _MISSING else kind(answer)
        raise TypeError(
            f"check takes a function or a class, but candidate is {found}; give the "
            "function itself, without calling it"
        )
    # A module's class in place of a function is made first, if that takes no arguments.
    if (
        exercise is not None
        and exercise.run is None
        and inspect.isclass(answer)
        and issubclass(answer, nn.Module)
        and not inspect.isclass(exercise.reference)
        and not inspect.signature(answer.__init__).parameters.keys()
        - {"self", "args", "kwargs"}
    ):
        return answer()
    return answer
