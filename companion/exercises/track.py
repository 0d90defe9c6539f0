"""What a reader has solved, kept in a file on their own machine.

`check` and `hint` write it; `progress` shows it. Nothing leaves the machine. The file is
``progress.json`` in the user's data folder, or what the environment variable
COMPANION_PROGRESS names; with ``COMPANION_PROGRESS=off`` nothing is kept, as when the
book builds or tests itself.
"""

from __future__ import annotations

import datetime
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout

from companion.exercises.compare import Verdict
from companion.exercises.exercise import Task
from companion.exercises.registry import all_exercises
from companion.exercises.report import Report

SOLVED, TRIED, OPEN = "solved", "tried", "open"
_FORMAT = 1
_PATIENCE = 2.0  # seconds to wait for another kernel that is writing
_ORDER = (
    *("attention", "multi-head", "positions", "encoder", "decoder", "training"),
    *("bert", "gpt", "llama", "cheaper-models", "t5-bart", "efficient-attention"),
    *("comparison", "hugging-face", "vit", "swin", "dino", "mae", "clip"),
    *("scaling-laws", "practice"),
)

Entries = dict[str, dict[str, Any]]


def progress_file() -> Path | None:
    """Where progress is kept, or None if it is not."""
    chosen = os.environ.get("COMPANION_PROGRESS", "")
    if chosen.lower() in ("off", "0", "no"):
        return None
    if chosen:
        return Path(chosen).expanduser().absolute()
    folder = platformdirs.user_data_dir("executable-transformer", appauthor=False)
    return Path(folder) / "progress.json"


def record(task: Task, report: Report) -> None:
    """Keep what a check found. A stub counts for nothing, nor does the book's solution."""
    if report.verdict is Verdict.NOT_IMPLEMENTED or _in_a_solution_cell():
        return

    def change(entry: dict[str, Any]) -> None:
        if entry.get("state") == SOLVED:
            return
        entry["tries"] = entry.get("tries", 0) + 1
        entry["state"] = SOLVED if report.passed else TRIED
        if report.passed:
            entry["solved"] = datetime.date.today().isoformat()

    _update(task, change)


def record_hint(task: Task, level: int) -> None:
    """Keep how many hints were asked for."""
    _update(task, lambda entry: entry.update(hints=max(level, entry.get("hints", 0))))


def progress() -> Progress:
    """What you have solved and tried. At the end of a cell it shows a picture."""
    path = progress_file()
    entries = _read(path) if path else {}
    chapters: dict[str, list[tuple[Task, str]]] = {}
    for task in all_exercises().values():
        state = entries.get(task.name, {}).get("state", OPEN)
        chapters.setdefault(task.chapter, []).append((task, state))
    places = {chapter: place for place, chapter in enumerate(_ORDER)}
    in_order = sorted(chapters, key=lambda c: (places.get(c, len(places)), c))
    return Progress({chapter: chapters[chapter] for chapter in in_order}, path)


@dataclass(frozen=True, repr=False)
class Progress:
    """Every exercise by chapter, each with ``"solved"``, ``"tried"`` or ``"open"``."""

    chapters: dict[str, list[tuple[Task, str]]]
    path: Path | None = None

    def count(self, state: str) -> int:
        """How many exercises are in a state."""
        return sum(s == state for tasks in self.chapters.values() for _, s in tasks)

    def __str__(self) -> str:
        total = sum(map(len, self.chapters.values()))
        width = max(map(len, self.chapters), default=0)
        symbols = {SOLVED: "■", TRIED: "◧", OPEN: "□"}
        lines = [f"{self.count(SOLVED)} of {total} exercises solved"]
        lines[0] += f", {self.count(TRIED)} tried (■ solved, ◧ tried, □ open)"
        for chapter, tasks in self.chapters.items():
            row = "".join(symbols[state] for _, state in tasks)
            solved = sum(state == SOLVED for _, state in tasks)
            lines.append(f"  {chapter:<{width}}  {row}  {solved} of {len(tasks)}")
        where = self.path or "nowhere: COMPANION_PROGRESS is off"
        return "\n".join([*lines, f"  Kept in {where}"])

    __repr__ = __str__

    def plot(self) -> Any:
        """The picture: a row a chapter, a square an exercise."""
        from companion.exercises.track_plot import plot_progress

        return plot_progress(self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        from companion.exercises.track_plot import as_png

        return {"text/plain": str(self), "image/png": as_png(self.plot())}


def _update(task: Task, change: Callable[[dict[str, Any]], None]) -> None:
    path = progress_file()
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock"), timeout=_PATIENCE):
            entries = _read(path)
            change(entries.setdefault(task.name, {}))
            _write(path, entries)
    except (OSError, Timeout) as error:  # a check must not fail for this
        warnings.warn(
            f"your progress could not be kept in {path}: {error}", stacklevel=4
        )


def _read(path: Path) -> Entries:
    try:
        kept = json.loads(path.read_text(encoding="utf8"))
        entries = kept["exercises"]
        if kept["format"] != _FORMAT or not all(map(_is_entry, entries.values())):
            raise ValueError("it has another form")
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        aside = _free_name(path)
        os.replace(path, aside)
        warnings.warn(
            f"your progress in {path} cannot be read ({error}). The file is now "
            f"{aside.name}, and progress starts anew.",
            stacklevel=5,
        )
        return {}
    return entries


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.get("state", OPEN) in (SOLVED, TRIED, OPEN)


def _free_name(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.stem}.broken-{number}.json")).exists():
        number += 1
    return aside


def _write(path: Path, entries: Entries) -> None:
    """All at once, so that a kernel that dies in the middle leaves the old file."""
    text = json.dumps(
        {"format": _FORMAT, "exercises": entries}, indent=1, sort_keys=True
    )
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf8") as file:
            file.write(text + "\n")
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _in_a_solution_cell() -> bool:
    """Whether the cell that runs is one of the book's solutions, by its id."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    try:
        cell = shell.kernel.get_parent()["metadata"]["cellId"]
    except (AttributeError, KeyError, TypeError):  # no kernel, or an editor without ids
        return False
    return "-solution-" in cell
