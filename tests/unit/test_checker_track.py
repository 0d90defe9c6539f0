"""A reader's progress: kept in a file, seen in a picture, never the book's own."""

from __future__ import annotations

import json
import sys
import types

import pytest

from companion.exercises import check, hint, progress
from companion.exercises.checker import _hints_given
from companion.exercises.registry import all_exercises
from companion.exercises.track import progress_file
from companion.exercises.track_plot import as_png
from tests.unit.test_checker import stub

RIGHT = all_exercises()["attend"].reference


@pytest.fixture
def path(tmp_path, monkeypatch):
    path = tmp_path / "kept" / "progress.json"
    monkeypatch.setenv("COMPANION_PROGRESS", str(path))
    monkeypatch.setattr("companion.exercises.checker._hints_given", dict(_hints_given))
    return path


def entry(path, name="attend"):
    return json.loads(path.read_text())["exercises"].get(name)


def test_what_is_kept(path):
    check(stub, "attend")
    assert not path.exists(), "a stub is no try"
    check(lambda q, k, v: q, "attend")
    assert (entry(path)["state"], entry(path)["tries"]) == ("tried", 1)
    hint("attend", 2)
    assert "hints" not in entry(path), "only hints that were asked for one by one count"
    check("attend", RIGHT)
    assert (entry(path)["state"], entry(path)["tries"]) == ("solved", 2)
    assert entry(path)["solved"]
    check(lambda q, k, v: q, "attend")
    assert entry(path)["state"] == "solved", "what is solved stays solved"
    check("first_loss", 10.8)
    assert entry(path, "first_loss")["state"] == "solved"
    assert [p.name for p in path.parent.iterdir() if p.suffix != ".lock"] == [path.name]


def test_hints_are_kept(path):
    hint("causal_weights")
    assert entry(path, "causal_weights")["hints"] >= 1


def test_progress_counts_and_shows(path):
    check("attend", RIGHT)
    check("causal_weights", RIGHT)
    found = progress()
    assert (found.count("solved"), found.count("tried")) == (1, 1)
    text = str(found)
    assert f"1 of {len(all_exercises())} exercises solved, 1 tried" in text
    row = next(
        line for line in text.splitlines() if line.strip().startswith("attention")
    )
    assert (row.count("■"), row.count("◧")) == (1, 1)
    assert str(path) in text
    assert list(found.chapters)[:3] == ["attention", "multi-head", "positions"]
    bundle = found._repr_mimebundle_()
    assert bundle["text/plain"] == text
    assert bundle["image/png"].startswith(b"\x89PNG")


def test_the_picture_shows_each_state(path):
    check("attend", RIGHT)
    figure = progress().plot()
    (axes,) = figure.axes
    assert len(axes.lines) == len(all_exercises())
    fills = [line.get_fillstyle() for line in axes.lines]
    assert (fills.count("full"), fills.count("left")) == (1, 0)
    assert figure.get_suptitle().startswith("1 of ")
    assert as_png(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize("broken", ["{", "[]", '{"format": 1}', '{"format": 99}'])
def test_a_broken_file_is_kept_aside(path, broken):
    path.parent.mkdir()
    path.write_text(broken)
    with pytest.warns(UserWarning, match="cannot be read"):
        check("attend", RIGHT)
    assert entry(path)["state"] == "solved"
    assert path.with_name("progress.broken-1.json").read_text() == broken


def test_what_cannot_be_written_only_warns(path, monkeypatch):
    path.parent.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="could not be kept"):
        assert check("attend", RIGHT).passed


def test_nothing_is_kept_when_off(path, monkeypatch):
    monkeypatch.setenv("COMPANION_PROGRESS", "off")
    assert progress_file() is None
    assert check("attend", RIGHT).passed
    assert "nowhere" in str(progress())
    assert not path.exists()


def test_the_default_place_is_the_users(monkeypatch):
    monkeypatch.delenv("COMPANION_PROGRESS")
    assert progress_file().name == "progress.json"
    assert "executable-transformer" in str(progress_file())


@pytest.mark.parametrize(
    ("cell", "kept"),
    [("attention-solution-attend", False), ("attention-stub-attend", True)],
)
def test_the_books_own_solution_does_not_count(path, monkeypatch, cell, kept):
    parent = {"metadata": {"cellId": cell}}
    kernel = types.SimpleNamespace(get_parent=lambda: parent)
    shell = types.SimpleNamespace(kernel=kernel)
    ipython = types.SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    check("attend", RIGHT)
    assert path.exists() is kept
