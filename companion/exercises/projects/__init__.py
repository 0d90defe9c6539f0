"""Projects: several stages that build on each other, and a rubric that is computed.

A stage is an exercise, checked like any other. What no reference can decide, such as a
trained model, is measured by the rubric: `grade` says which level each measurement
reaches, and what would reach the next.
"""

from companion.exercises.projects.grading import (
    LEVELS,
    Criterion,
    Grade,
    Project,
    grade,
)
from companion.exercises.projects.stages import worked_solution

__all__ = ["LEVELS", "Criterion", "Grade", "Project", "grade", "worked_solution"]
