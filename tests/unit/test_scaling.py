"""Scaling laws: the published numbers, and the fit against laws that are known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from companion.analysis.scaling import (
    BESIROGLU,
    HOFFMANN,
    KAPLAN,
    KAPLAN_C,
    KAPLAN_N,
    ParametricLaw,
    Run,
    bootstrap,
    fit_kaplan,
    fit_parametric,
    interval,
    kaplan_best,
    resamples,
)

SIZES = 10.0 ** np.arange(5, 9, 0.5)
TOKENS = 10.0 ** np.arange(7, 11, 0.5)
STARTS = list(
    itertools.product((0, 5, 10), (0, 5, 10), (-0.5, 0.5), (0.2, 0.6), (0.2, 0.6))
)


def runs_of(law: ParametricLaw, noise: float = 0.0, seed: int = 0) -> list[Run]:
    draw = np.random.default_rng(seed)
    return [
        Run(n, d, float(law(n, d)) * float(np.exp(noise * draw.standard_normal())))
        for n in SIZES
        for d in TOKENS
    ]


def test_chinchilla_and_gpt3():
    """Table 3 of Hoffmann et al.: 67 B parameters want 1.5 T tokens; GPT-3 had 300 B."""
    budget = 5.76e23  # Gopher's, which Chinchilla was given
    by_formula = HOFFMANN.best(budget)
    assert by_formula.parameters == pytest.approx(32e9, rel=0.3)
    corrected = BESIROGLU.best(budget)
    assert corrected.tokens_a_parameter == pytest.approx(20, rel=0.35)
    assert kaplan_best(budget).parameters > 5 * corrected.parameters
    # Chinchilla, 70 B on 1.4 T tokens, beats Gopher, 280 B on 300 B, at equal compute.
    for law in (HOFFMANN, BESIROGLU):
        assert law(70e9, 1.4e12) < law(280e9, 300e9)
    assert KAPLAN(280e9, 300e9) < KAPLAN(70e9, 1.4e12)


def test_kaplan():
    """Section 1.2: twice the parameters, 2^-0.076 = 0.95 of the loss."""
    assert KAPLAN_N(2e9) / KAPLAN_N(1e9) == pytest.approx(0.949, abs=1e-3)
    assert KAPLAN_C(1.0) == pytest.approx(2.66, abs=0.01)
    # With endless data, L(N, D) is L(N), but for constants that were fitted apart.
    assert KAPLAN(1e9, 1e30) == pytest.approx(KAPLAN_N(1e9), rel=0.03)
    # Equation 4.4: data that keep pace with N^0.74 keep overfitting the same.
    over = [KAPLAN(n, 5e3 * n ** (0.076 / 0.103)) / KAPLAN(n, 1e30) for n in (1e6, 1e9)]
    assert over[0] == pytest.approx(over[1], rel=1e-6)


@pytest.mark.parametrize("law", [HOFFMANN, BESIROGLU])
@pytest.mark.parametrize("flops", [1e18, 1e22])
def test_the_best_allocation_is_the_best(law, flops):
    best = law.best(flops)
    assert 6 * best.parameters * best.tokens == pytest.approx(flops)
    least = law(best.parameters, best.tokens)
    for factor in (0.5, 0.9, 1.1, 2.0):
        assert law(best.parameters * factor, best.tokens / factor) > least
    grown = law.best(100 * flops)
    assert grown.parameters / best.parameters == pytest.approx(100**law.a)
    assert law.a + law.b == pytest.approx(1)


@pytest.mark.parametrize("law", [HOFFMANN, BESIROGLU])
def test_a_known_law_is_found_again(law):
    found = fit_parametric(runs_of(law), starts=STARTS)
    assert found.E == pytest.approx(law.E, rel=1e-3)
    assert found.alpha == pytest.approx(law.alpha, rel=5e-3)
    assert found.beta == pytest.approx(law.beta, rel=5e-3)
    assert found.A == pytest.approx(law.A, rel=0.05)


def test_the_fit_does_not_mind_a_run_that_failed():
    runs = runs_of(BESIROGLU)
    runs[10] = runs[10]._replace(loss=2 * runs[10].loss)
    assert fit_parametric(runs, starts=STARTS).E == pytest.approx(BESIROGLU.E, rel=5e-3)
    # Least squares does: a Huber loss with an endless square is one.
    squares = fit_parametric(runs, delta=1e9, starts=STARTS)
    assert abs(squares.E - BESIROGLU.E) > 0.01


def test_intervals_hold_the_truth_and_shrink():
    wide, narrow = (
        interval([law.alpha for law in bootstrap(runs, 40, starts=STARTS[:8])])
        for runs in (runs_of(BESIROGLU, 0.01), runs_of(BESIROGLU, 0.001))
    )
    for low, high in (wide, narrow):
        assert low - 0.01 < BESIROGLU.alpha < high + 0.01
    assert narrow[1] - narrow[0] < 0.5 * (wide[1] - wide[0])


def test_errors():
    with pytest.raises(ValueError, match="at least 5"):
        fit_parametric(runs_of(HOFFMANN)[:4])
    with pytest.raises(ValueError, match="positive"):
        fit_parametric([*runs_of(HOFFMANN)[:5], Run(1e6, 0, 3)])


def test_the_law_of_kaplan_is_found_again():
    runs = [
        Run(N, D, float(KAPLAN(N, D)))
        for N in np.geomspace(1e6, 1e9, 5)
        for D in np.geomspace(1e8, 1e11, 5)
    ]
    found = fit_kaplan(runs)
    assert found.alpha_N == pytest.approx(KAPLAN.alpha_N, rel=0.01)
    assert found.alpha_D == pytest.approx(KAPLAN.alpha_D, rel=0.01)
    for run in runs:
        assert found(run.parameters, run.tokens) == pytest.approx(run.loss, rel=1e-4)
    with pytest.raises(ValueError, match="at least 4, .* it holds 3"):
        fit_kaplan(runs[:3])


def test_samples_are_drawn_with_replacement():
    runs = [Run(n, n, n) for n in range(1, 21)]
    samples = list(resamples(runs, 50))
    assert [len(sample) for sample in samples] == [20] * 50
    assert all(5 <= len(set(sample)) < 20 for sample in samples)
    assert samples == list(resamples(runs, 50))
    assert samples != list(resamples(runs, 50, seed=1))
