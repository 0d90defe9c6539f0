"""How fast the package is, side by side with what others would take.

The table is kept beside this file, in ``bench.csv``. Made anew by

    python -m tests.benchmarks --csv companion/analysis/bench.csv

in a clone of the repository; its first lines say on which machine.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

RESULTS = Path(__file__).with_suffix(".csv")


@dataclass(frozen=True)
class Row:
    """One line of the table: one piece of work, done in two ways in turns.

    Attributes:
        section: the part of the benchmarks that it belongs to.
        work: what is done, with its shapes.
        ours, reference: the two ways.
        ratio: how many times as fast ours is, by the median times; above 1 it is faster.
        low, high: the middle half of the ratios of neighboring runs.
        milliseconds: our median time.
        fraction: of what the machine can do, measured in the same turns; None where
            neither arithmetic nor memory is what the work waits for.
        limit: what it is a fraction of: ``"matrix product"``, its operations a second, or
            ``"plain read"``, the bytes a second that it reads.
    """

    section: str
    work: str
    ours: str
    reference: str
    ratio: float
    low: float
    high: float
    milliseconds: float
    fraction: float | None = None
    limit: str = ""

    @property
    def reference_milliseconds(self) -> float:
        """The median time of the other way."""
        return self.ratio * self.milliseconds

    @property
    def reference_fraction(self) -> float | None:
        """What part of the machine the other way uses, for the same result."""
        return None if self.fraction is None else self.fraction / self.ratio


def save_rows(rows: Iterable[Row], about: Iterable[str], path: Path = RESULTS) -> None:
    """Write the table, with lines about how it was made."""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(f"# {line}\n" for line in about)
        table = csv.DictWriter(file, [field.name for field in fields(Row)])
        table.writeheader()
        for row in rows:
            table.writerow(
                {
                    name: f"{value:.4g}" if isinstance(value, float) else value
                    for name, value in asdict(row).items()
                }
            )


def stored_rows(path: Path = RESULTS) -> list[Row]:
    """The table from ``bench.csv``."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(line for line in file if not line.startswith("#")))
    numbers = ("ratio", "low", "high", "milliseconds")
    return [
        Row(
            **(line | {name: float(line[name]) for name in numbers})
            | {"fraction": float(line["fraction"]) if line["fraction"] else None}
        )
        for line in lines
    ]
