"""Time two ways of doing the same work in turns, so that drift hits both alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

import companion
from companion.analysis.bench import Row
from tests.benchmarks import machine

Work = Callable[[], object]


@dataclass(frozen=True)
class Timed:
    """A result of work that looked at the clock itself, for several of its parts."""

    result: object
    seconds: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One piece of work and two ways of doing it.

    Attributes:
        work: what is done, with its shapes.
        ours, reference: name and function of each way. It returns the result, by which
            tests see that both do the same work; or a `Timed` one.
        flops: operations of matrix products in the work, or in a part of it.
        bytes: what has to be read from memory in the work, or in a part of it.
        rounds: how often each way is timed.
    """

    work: str
    ours: tuple[str, Work]
    reference: tuple[str, Work]
    flops: Mapping[str, float] = field(default_factory=dict)
    bytes: Mapping[str, float] = field(default_factory=dict)
    rounds: int = 20


WHOLE = ""  # the only part of work that does not look at the clock


def now() -> float:
    """Seconds, when all work that was asked for is done."""
    if companion.device().type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def compare(section: str, pair: Pair, *, short: bool = False) -> list[Row]:
    """Run the two in turns, ours first in every other round, and compare medians.

    Args:
        section: of the table.
        pair: what is compared.
        short: take a fifth of the rounds, for a first look.
    """
    rounds = max(2, pair.rounds // 5) if short else pair.rounds
    ways = [pair.ours[1], pair.reference[1], *_probes(pair).values()]
    times: list[list[Mapping[str, float]]] = [[] for _ in ways]
    for round_ in range(-1 if rounds < 10 else -3, rounds):  # the first warm up
        in_turn = range(len(ways))
        for which in in_turn if round_ % 2 else reversed(in_turn):
            seconds = _seconds(ways[which])
            if round_ >= 0:
                times[which].append(seconds)
    return [_row(section, pair, part, times) for part in times[0][0]]


def _probes(pair: Pair) -> dict[str, Work]:
    """What measures the machine in the same turns."""
    probes = {}
    if pair.flops:
        probes[machine.PRODUCT] = machine.multiply
    if pair.bytes:
        probes[machine.READING] = machine.read
    return probes


def _seconds(work: Work) -> Mapping[str, float]:
    start = now()
    result = work()
    spent = now() - start
    return result.seconds if isinstance(result, Timed) else {WHOLE: spent}


def _row(
    section: str, pair: Pair, part: str, times: list[list[Mapping[str, float]]]
) -> Row:
    ours, theirs = ([seconds[part] for seconds in of_way] for of_way in times[:2])
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    spent = statistics.median(ours)
    fraction, limit = None, ""
    for (name, _), of_probe in zip(_probes(pair).items(), times[2:], strict=True):
        amounts = pair.flops if name == machine.PRODUCT else pair.bytes
        if part in amounts:
            quickest = min(seconds[WHOLE] for seconds in of_probe)
            rate = machine.AMOUNT[name]() / quickest
            fraction, limit = amounts[part] / spent / rate, name
    return Row(
        section,
        f"{pair.work}, {part}" if part else pair.work,
        pair.ours[0],
        pair.reference[0],
        statistics.median(theirs) / spent,
        low,
        high,
        1000 * spent,
        fraction,
        limit,
    )


def table(rows: Sequence[Row]) -> str:
    """All rows as text, the ratios first."""
    text = [
        f"{'ratio':>6}  {'middle half':>13}  {'ours':>12}  of machine  work: ours / reference"
    ]
    for section in dict.fromkeys(row.section for row in rows):
        text += ["", section, *lines(row for row in rows if row.section == section)]
    return "\n".join(text)


def lines(rows: Iterable[Row]) -> list[str]:
    """One line of the table for each row."""
    return [
        f"{row.ratio:5.2f}x  {row.low:6.2f}-{row.high:<6.2f}  "
        f"{row.milliseconds:9.2f} ms  "
        f"{'' if row.fraction is None else format(row.fraction, '.0%'):>10}  "
        f"{row.work}: {row.ours} / {row.reference}"
        for row in rows
    ]
