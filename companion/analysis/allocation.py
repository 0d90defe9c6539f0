"""How to spend compute: the ways in which the papers read it off their runs.

Sources: Hoffmann et al. (2022), section 3, for three approaches; Pearce and Song (2024),
"Reconciling Kaplan and Chinchilla Scaling Laws", section 3, for what becomes of a law when
embeddings are not counted.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from companion.analysis.scaling import Allocation, ParametricLaw, Run


class Growth(NamedTuple):
    """best N = factor x C^exponent."""

    factor: float
    exponent: float

    def __call__(self, flops: float) -> float:
        return self.factor * flops**self.exponent


def growth(flops: Sequence[float], best: Sequence[float]) -> Growth:
    """The power of compute that fits best to some optima, by least squares of logarithms.

    Raises:
        ValueError: fewer than two different amounts of compute.
    """
    if len(set(flops)) < 2:
        raise ValueError(
            f"flops must hold at least two different amounts, but it holds {flops}"
        )
    exponent, log_factor = np.polyfit(np.log(flops), np.log(best), 1)
    return Growth(math.exp(log_factor), float(exponent))


def frontier(runs: Sequence[Run]) -> list[Run]:
    """The runs that no run with less or equal compute beats: approach 1, with ends only.

    Hoffmann et al. (2022), section 3.1, take the least loss over all points of all
    training curves; a curve's middle is measured before its learning rate has come down.
    """
    best: list[Run] = []
    for run in sorted(runs, key=lambda run: (run.parameters * run.tokens, run.loss)):
        if not best or run.loss < best[-1].loss:
            best.append(run)
    return best


def loss_at(runs: Sequence[Run], tokens: float) -> float:
    """The loss of one size after ``tokens``, between its runs: linear in the logarithms.

    Raises:
        ValueError: ``tokens`` is outside of what the runs span.
    """
    runs = sorted(runs, key=lambda run: run.tokens)
    low, high = runs[0].tokens, runs[-1].tokens
    if not low <= tokens <= high:
        raise ValueError(
            f"tokens must be from {low:,} to {high:,}, but it is {tokens:,}"
        )
    D, L = (np.log([getattr(run, name) for run in runs]) for name in ("tokens", "loss"))
    return math.exp(np.interp(math.log(tokens), D, L))


def tokens_to_reach(runs: Sequence[Run], loss: float) -> float | None:
    """How many tokens one size takes to come down to ``loss``; None if it never does.

    Between its runs the logarithm of the loss is taken as linear in that of the tokens.
    """
    runs = sorted(runs, key=lambda run: run.tokens)
    for before, after in itertools.pairwise(runs):
        if before.loss >= loss > after.loss:
            share = math.log(before.loss / loss) / math.log(before.loss / after.loss)
            return before.tokens * (after.tokens / before.tokens) ** share
    return None


def by_size(runs: Sequence[Run]) -> dict[float, list[Run]]:
    """The runs of each size, from small to large."""
    sizes = sorted({run.parameters for run in runs})
    return {size: [run for run in runs if run.parameters == size] for size in sizes}


class EqualCompute(NamedTuple):
    """Models that cost the same, and the parabola through their losses.

    Attributes:
        flops: what each of them cost.
        runs: a size, the tokens that it gets for that, and its loss.
        best: the size at the parabola's lowest point, or None if it opens downward or
            its lowest point is outside of the sizes.
    """

    flops: float
    runs: list[Run]
    best: float | None


def equal_compute(runs: Sequence[Run], flops: float) -> EqualCompute:
    """All sizes at one amount of compute: approach 2 of Hoffmann et al. (2022), section 3.2.

    They trained for each amount; here the losses are read off between the runs of each
    size, with 6ND as the cost.

    Raises:
        ValueError: fewer than three sizes have runs on both sides of that amount.
    """
    found = []
    for size, own in by_size(runs).items():
        tokens = flops / 6 / size
        if min(r.tokens for r in own) <= tokens <= max(r.tokens for r in own):
            found.append(Run(size, tokens, loss_at(own, tokens)))
    if len(found) < 3:
        raise ValueError(
            f"flops must be an amount that at least 3 sizes have runs around, but at "
            f"{flops:.2e} there are {len(found)}"
        )
    logs = np.log([run.parameters for run in found])
    a, b, _ = np.polyfit(logs, [run.loss for run in found], 2)
    lowest = -b / (2 * a) if a > 0 else math.inf
    inside = logs[0] <= lowest <= logs[-1]
    return EqualCompute(flops, found, math.exp(lowest) if inside else None)


def best_without_embeddings(
    law: ParametricLaw,
    flops: float,
    embeddings: Callable[[np.ndarray], np.ndarray],
) -> Allocation:
    """What ``law`` says is best if embeddings count neither as parameters nor as work.

    The law itself knows N with embeddings. But whoever leaves them out, as Kaplan et al.
    (2020) do, compares models of equal 6 N D *without* them, and is led elsewhere: a
    small model gets its large table for nothing.

    Args:
        law: with all parameters.
        flops: 6 N D, with N without embeddings.
        embeddings: how many a model of N others has.
    """
    N = np.logspace(1, 15, 20_001)
    losses = law(N + embeddings(N), flops / 6 / N)
    best = float(N[np.argmin(losses)])
    return Allocation(best, flops / 6 / best)


def gpt_embeddings(
    parameters: np.ndarray, *, rows: int = 50257 + 1024, aspect: float = 64
) -> np.ndarray:
    """Numbers in the tables of a GPT with ``parameters`` others: rows x d_model.

    N = 12 x layers x d_model^2 with ``aspect`` = d_model / layers, as GPT-2's 64, makes
    d_model the cube root of aspect x N / 12.
    """
    return rows * np.cbrt(aspect * np.asarray(parameters, float) / 12)
