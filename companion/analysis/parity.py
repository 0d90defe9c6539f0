"""The record of the parity suite: how far every model is from its independent reference.

`make parity RECORD=1` runs the suite and writes `parity.csv` beside this file.
"""

from __future__ import annotations

import csv
import platform
import re
from collections.abc import Iterable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).with_suffix(".csv")


class Row(NamedTuple):
    """One comparison: what, with what, the largest absolute difference, and its bound."""

    name: str
    reference: str
    difference: float
    bound: float


class Group(NamedTuple):
    """All comparisons of one thing with one reference."""

    name: str
    reference: str
    comparisons: int
    worst: Row

    @property
    def room(self) -> float:
        """How many times smaller than its bound the worst difference is."""
        return self.worst.bound / max(self.worst.difference, 1e-300)


def store(rows: Iterable[tuple[str, str, float, float]]) -> None:
    """Write the table, with the date, the versions and the machine in comment lines."""
    with FILE.open("w", encoding="utf8", newline="") as file:
        file.write("# make parity RECORD=1\n")
        file.write(
            f"# {date.today()}, torch {version('torch')}, transformers "
            f"{version('transformers')}, {platform.machine()}, one thread\n"
        )
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        for name, reference, difference, bound in rows:
            writer.writerow((name, reference, f"{difference:.2e}", f"{bound:.0e}"))


def made() -> str:
    """When, with which versions and on what the table was made."""
    return FILE.read_text(encoding="utf8").splitlines()[1].removeprefix("# ")


def stored_rows() -> list[Row]:
    """The table, a row a comparison."""
    with FILE.open(encoding="utf8") as file:
        lines = csv.DictReader(line for line in file if not line.startswith("#"))
        return [
            Row(r["name"], r["reference"], float(r["difference"]), float(r["bound"]))
            for r in lines
        ]


def groups(rows: Iterable[Row]) -> list[Group]:
    """The rows by what was compared (the first word of their name) and with what.

    The worst row of a group is the one nearest to its bound.
    """
    together: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        key = (re.match(r"[\w.]+", row.name)[0], row.reference)
        together.setdefault(key, []).append(row)
    return [
        Group(*key, len(found), max(found, key=lambda row: row.difference / row.bound))
        for key, found in sorted(together.items())
    ]
