"""The table of the proof: ``python -m tests.mutation [--write] [names or chapters ...]``."""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import fields
from pathlib import Path

from tqdm import tqdm

from companion.exercises import Exercise, limits
from companion.exercises.registry import all_exercises
from tests.mutation.proof import Proof, prove

TABLE = Path(__file__).parents[2] / "companion" / "exercises" / "proof.csv"
_COUNTS = [f.name for f in fields(Proof) if f.name != "faults"]


def main() -> int:
    """Prints a row an exercise and the totals; the number of faults is the status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutation", description=__doc__
    )
    parser.add_argument(
        "names", nargs="*", help="exercises or chapters, all by default"
    )
    parser.add_argument("--mutants", type=int, help="at most so many an exercise")
    parser.add_argument("--write", action="store_true", help="keep these rows")
    options = parser.parse_args()
    limits.SECONDS = 1.0  # an endless mutant need not be waited for
    wanted = [
        task
        for task in all_exercises().values()
        if isinstance(task, Exercise)
        and (not options.names or {task.name, task.chapter} & set(options.names))
    ]
    rows = []
    for exercise in tqdm(wanted, file=sys.stderr):
        rows.append(prove(exercise, options.mutants))
        for fault in rows[-1].faults:
            print(f"{exercise.name}: {fault}", flush=True)
    print(table(rows))
    if options.write:
        write(rows)
    return min(1, sum(len(serious(row)) for row in rows))


def serious(row: Proof) -> list[str]:
    """Faults that break the promise of the table."""
    return [fault for fault in row.faults if not fault.startswith("(")]


def table(rows: list[Proof]) -> str:
    """The rows and the totals as text."""
    head = ["exercise", "right", "named", "pairs", "mutants", "killed", "equal", "ms"]
    lines = [
        [
            row.exercise,
            row.right_accepted,
            row.misconceptions,
            row.pairs,
            row.mutants,
            row.killed,
            row.equivalent,
            row.slowest_ms,
        ]
        for row in rows
    ]
    sums = [sum(column) for column in list(zip(*lines, strict=True))[1:-1]]
    slowest = max(row.slowest_ms for row in rows)
    lines.append([f"{len(rows)} exercises", *sums, slowest])
    return "\n".join(
        "".join(
            f"{cell:<30}" if i == 0 else f"{cell:>9}" for i, cell in enumerate(line)
        )
        for line in [head, *lines]
    )


def write(rows: list[Proof]) -> None:
    """Keep the table beside the exercises, for the book; rows of others stay in it."""
    new = {row.exercise: {name: getattr(row, name) for name in _COUNTS} for row in rows}
    kept = {row["exercise"]: row for row in stored()} | new
    order = [name for name in all_exercises() if name in kept]
    with TABLE.open("w", encoding="utf8", newline="") as file:
        file.write("# python -m tests.mutation --write\n")
        writer = csv.DictWriter(file, _COUNTS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept[name] for name in order)


def stored() -> list[dict[str, str]]:
    """The rows that are kept beside the exercises."""
    with TABLE.open(encoding="utf8") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


if __name__ == "__main__":
    sys.exit(main())
