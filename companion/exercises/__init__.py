"""Exercises that answer back: ``check(your_function)`` says which mistake a wrong answer is."""

from companion.exercises.checker import Report, Verdict, check, hint, solution
from companion.exercises.exercise import Exercise, Misconception, Property

__all__ = [
    "Exercise",
    "Misconception",
    "Property",
    "Report",
    "Verdict",
    "check",
    "hint",
    "solution",
]
