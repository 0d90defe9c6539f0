"""Time several ways of doing the same work, in turns, so that drift hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

import companion


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        work: what is done, with its shapes.
        ours, reference: the two ways.
        ratio: our median time over the reference's; below 1 we are faster.
        low, high: the middle half of the ratios of neighboring runs.
        milliseconds: our median time.
    """

    work: str
    ours: str
    reference: str
    ratio: float
    low: float
    high: float
    milliseconds: float


def compare(
    work: str,
    ours: tuple[str, Callable[[], object]],
    reference: tuple[str, Callable[[], object]],
    rounds: int = 20,
) -> Row:
    """Run the two in turns, ours first in every other round, and compare medians."""
    times: tuple[list[float], list[float]] = ([], [])
    for round_ in range(-3, rounds):  # the first three warm up
        for which in (0, 1) if round_ % 2 else (1, 0):
            start = time.perf_counter()
            (ours, reference)[which][1]()
            if companion.device().type == "cuda":
                torch.cuda.synchronize()
            if round_ >= 0:
                times[which].append(time.perf_counter() - start)
    ratios = statistics.quantiles(
        (a / b for a, b in zip(*times, strict=True)), n=4, method="inclusive"
    )
    medians = [statistics.median(t) for t in times]
    return Row(
        work,
        ours[0],
        reference[0],
        medians[0] / medians[1],
        ratios[0],
        ratios[2],
        1000 * medians[0],
    )


def show(rows: list[Row]) -> None:
    """Print the table."""
    print(f"{'ratio':>6}  {'middle half':>13}  {'ours':>9}  what")
    for row in rows:
        print(
            f"{row.ratio:6.2f}  {row.low:6.2f}-{row.high:<6.2f}  "
            f"{row.milliseconds:6.2f} ms  {row.work}: {row.ours} / {row.reference}"
        )
