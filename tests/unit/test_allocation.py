"""Reading the best use of compute off runs whose law is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from companion.analysis.allocation import (
    best_without_embeddings,
    by_size,
    equal_compute,
    frontier,
    gpt_embeddings,
    growth,
    loss_at,
    tokens_to_reach,
)
from companion.analysis.scaling import BESIROGLU, HOFFMANN, ParametricLaw, Run

LAW = ParametricLaw(E=1.5, A=200, B=300, alpha=0.35, beta=0.3)
RUNS = [
    Run(N, D, float(LAW(N, D)))
    for N in np.logspace(6, 9, 13)
    for D in np.logspace(7, 12, 41)
]


def test_growth_finds_a_power():
    flops = np.logspace(15, 20, 6)
    found = growth(flops, 0.3 * flops**0.47)
    assert found.exponent == pytest.approx(0.47)
    assert found.factor == pytest.approx(0.3)
    assert found(1e18) == pytest.approx(0.3 * 1e18**0.47)
    with pytest.raises(ValueError, match="two different amounts"):
        growth([1e18, 1e18], [1e8, 1e8])


def test_the_frontier_only_falls():
    runs = [
        Run(1, 1, 3.0),
        Run(2, 1, 2.5),
        Run(1, 3, 2.6),
        Run(3, 1, 2.4),
        Run(2, 2, 2),
    ]
    assert frontier(runs) == [runs[0], runs[1], runs[3], runs[4]]


def test_between_runs():
    own = by_size(RUNS)[RUNS[0].parameters]
    middle = math.sqrt(own[0].tokens * own[1].tokens)
    assert loss_at(own, own[3].tokens) == pytest.approx(own[3].loss)
    assert loss_at(own, middle) == pytest.approx(
        LAW(own[0].parameters, middle), rel=1e-3
    )
    for outside in (own[0].tokens / 2, own[-1].tokens * 2):
        with pytest.raises(ValueError, match="tokens must be from"):
            loss_at(own, outside)


def test_tokens_to_reach_undoes_loss_at():
    own = by_size(RUNS)[RUNS[0].parameters]
    loss = loss_at(own, 3e8)
    assert tokens_to_reach(own, loss) == pytest.approx(3e8)
    assert tokens_to_reach(own, 0.1) is None


def test_the_three_approaches_agree_with_the_law():
    """On runs without noise, dense enough, each finds the exponent of the formula."""
    budgets = np.logspace(16.5, 18.5, 9)
    parabolas = [equal_compute(RUNS, C) for C in budgets]
    found = growth(budgets, [p.best for p in parabolas])
    assert found.exponent == pytest.approx(LAW.a, abs=0.03)
    inner = [
        run
        for run in frontier(RUNS)
        if RUNS[0].parameters < run.parameters < RUNS[-1].parameters
    ]
    envelope = growth(
        [6 * run.parameters * run.tokens for run in inner],
        [run.parameters for run in inner],
    )
    assert envelope.exponent == pytest.approx(LAW.a, abs=0.06)


def test_too_few_sizes_make_no_parabola():
    with pytest.raises(ValueError, match="at least 3 sizes"):
        equal_compute(RUNS, 1e22)


def test_a_parabola_that_has_no_lowest_point_inside():
    falling = [Run(N, D, 10 / N) for N in (1, 2, 4, 8) for D in (1, 100)]
    assert equal_compute(falling, 6 * 20).best is None


def test_without_embeddings_the_large_law_looks_like_kaplans():
    """Pearce and Song (2024): 0.51 turns into about 0.78 at Kaplan's sizes."""
    budgets = np.logspace(13, 20, 30)
    seen = [best_without_embeddings(BESIROGLU, C, gpt_embeddings) for C in budgets]
    assert 0.73 < growth(budgets, [s.parameters for s in seen]).exponent < 0.83
    counted = [best_without_embeddings(BESIROGLU, C, np.zeros_like) for C in budgets]
    whole = growth(budgets, [s.parameters for s in counted])
    assert whole.exponent == pytest.approx(BESIROGLU.a, abs=0.005)


@pytest.mark.parametrize("law", [HOFFMANN, BESIROGLU])
def test_with_embeddings_it_is_the_formula(law):
    best = best_without_embeddings(law, 1e20, np.zeros_like)
    assert best.parameters == pytest.approx(law.best(1e20).parameters, rel=0.01)


def test_embeddings_of_gpt2():
    assert gpt_embeddings(12 * 12 * 768**2) == pytest.approx((50257 + 1024) * 768)
