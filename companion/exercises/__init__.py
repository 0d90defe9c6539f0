"""Exercises that answer back: ``check(your_function)`` says which mistake a wrong answer is."""

from companion.exercises.checker import (
    Report,
    Verdict,
    broken_program,
    check,
    hint,
    solution,
)
from companion.exercises.exercise import Exercise, Kind, Misconception, Property
from companion.exercises.questions import Choice, Option, Ordering, Prediction
from companion.exercises.quiz import quiz
from companion.exercises.track import progress

__all__ = [
    "Choice",
    "Exercise",
    "Kind",
    "Misconception",
    "Option",
    "Ordering",
    "Prediction",
    "Property",
    "Report",
    "Verdict",
    "broken_program",
    "check",
    "hint",
    "progress",
    "quiz",
    "solution",
]
