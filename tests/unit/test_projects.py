"""Projects: the computed rubric, and worked solutions that step back."""

import math

import pytest

from companion.exercises import check
from companion.exercises.projects import (
    LEVELS,
    Criterion,
    Project,
    grade,
    worked_solution,
)
from companion.exercises.projects.grading import all_projects
from companion.exercises.registry import all_exercises


def _criterion(name="speed", **changes):
    return Criterion(
        **{
            "name": name,
            "asks": "steps a second",
            "measure": lambda model: model,
            "levels": (1.0, 2.0, 4.0),
            "advice": ("Begin.", "Go on.", "Think."),
            "unit": " steps",
            "digits": 1,
            **changes,
        }
    )


def _project(*criteria):
    return Project(name="running", title="Run", stages=(), criteria=criteria, minutes=1)


@pytest.mark.parametrize(
    ("value", "level"),
    [(0.5, 0), (1.0, 1), (1.9, 1), (2.0, 2), (9.0, 3), (math.nan, 0)],
)
def test_a_level_is_reached_at_its_threshold(value, level):
    assert _criterion().level(value) == level
    assert _criterion(levels=(-1.0, -2.0, -4.0)).level(-value) == level


@pytest.mark.parametrize("levels", [(1, 3, 2), (1, 1, 2), (2, 2, 2)])
def test_levels_that_go_up_and_down_are_refused(levels):
    with pytest.raises(ValueError, match="levels must be three numbers that rise or"):
        _criterion(levels=levels)


def test_the_lowest_line_counts_and_says_what_is_next():
    project = _project(
        _criterion(),
        _criterion("loss", measure=lambda data: data, levels=(3.0, 2.0, 1.0)),
    )
    found = grade(project, model=2.5, data=3.5)
    assert [line.level for line in found.lines] == [2, 0]
    assert found.level == 0
    assert found["speed"].next == "excellent from at least 4.0 steps. Think."
    assert found["loss"].next == "works from at most 3.0 steps. Begin."
    assert "■■□  speed: 2.5 steps (solid)" in str(found)
    assert "Run: not yet" in str(found)
    html = found._repr_mimebundle_()["text/html"]
    assert "works from at most 3.0 steps" in html and "●●○" in html
    best = grade(project, model=4.0, data=1.0)
    assert LEVELS[best.level] == "excellent"
    assert not best["speed"].next


def test_what_cannot_be_measured_reaches_nothing_and_says_why():
    def fails(model):
        raise RuntimeError("<no> model")

    def stub(model):
        raise NotImplementedError

    found = grade(
        _project(_criterion("a", measure=fails), _criterion("b", measure=stub)), model=0
    )
    assert found.level == 0
    assert found["a"].found == "could not be measured: RuntimeError: <no> model"
    assert found["b"].found == "not implemented yet"
    assert "&lt;no&gt;" in found._repr_mimebundle_()["text/html"]
    with pytest.raises(KeyError, match="is none of"):
        found["c"]


def test_work_is_handed_in_by_name():
    with pytest.raises(TypeError, match="lacks model and does not know modle"):
        grade(_project(_criterion()), modle=1)
    with pytest.raises(ValueError, match="no project is named 'runing'"):
        grade("runing")
    with pytest.raises(TypeError, match="must be a name, but it is an int"):
        grade(3)


def test_a_worked_solution_steps_back_for_a_right_answer(capsys):
    task = all_exercises()["attend"]

    def worked(*inputs):
        return task.reference(*inputs)

    worked.__name__ = "attend"
    before = globals().pop("attend", None)
    try:
        assert worked_solution(worked) is worked
        globals()["attend"] = lambda *_: 0
        assert worked_solution(worked) is worked
        globals()["attend"] = task.reference
        assert worked_solution(worked) is task.reference
    finally:
        globals().pop("attend")
        if before is not None:
            globals()["attend"] = before
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "attend: the project goes on with this worked solution."
    assert lines[2] == "attend: the project goes on with yours."
    assert check(task.reference).passed


@pytest.mark.parametrize("project", all_projects().values(), ids=lambda p: p.name)
def test_a_project_is_whole(project):
    assert project.minutes > 0 and project.stages
    tasks = all_exercises()
    assert {tasks[stage].chapter for stage in project.stages} == {"practice"}
    assert 3 <= len(project.criteria) <= 6
    assert len({c.name for c in project.criteria}) == len(project.criteria)
    assert all(text.endswith((".", "?")) for c in project.criteria for text in c.advice)
    # Work that is no work reaches nothing, and nothing breaks.
    found = grade(project, **dict.fromkeys(project.needs))
    assert found.level == 0
    assert all(line.level == 0 for line in found.lines)
