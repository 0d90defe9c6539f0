"""Scaling laws: how the loss of a language model falls with parameters, data and compute.

Two published laws with their constants, the fit that made the second, and what each says
about how to spend a given amount of compute.

Sources: Kaplan et al. (2020), "Scaling Laws for Neural Language Models"; Hoffmann et al.
(2022), "Training Compute-Optimal Large Language Models"; Besiroglu et al. (2024),
"Chinchilla Scaling: A replication attempt", for the corrected constants.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

PF_DAY = 1e15 * 24 * 3600  # operations of a petaflop/s for a day


@dataclass(frozen=True)
class PowerLaw:
    """L(x) = (scale / x)^exponent, in nats a token."""

    scale: float
    exponent: float

    def __call__(self, x: float | np.ndarray) -> float | np.ndarray:
        return (self.scale / x) ** self.exponent


# Kaplan et al. (2020), equations 1.1 to 1.3: each with the other two not in the way. N is
# without embeddings, D in tokens, C in PF-days at the best batch size.
KAPLAN_N = PowerLaw(8.8e13, 0.076)
KAPLAN_D = PowerLaw(5.4e13, 0.095)
KAPLAN_C = PowerLaw(3.1e8, 0.050)


@dataclass(frozen=True)
class KaplanLaw:
    """L(N, D) of Kaplan et al. (2020), equation 1.5: no loss that stays."""

    N_c: float
    D_c: float
    alpha_N: float
    alpha_D: float

    def __call__(
        self, parameters: float | np.ndarray, tokens: float | np.ndarray
    ) -> float | np.ndarray:
        model = (self.N_c / parameters) ** (self.alpha_N / self.alpha_D)
        return (model + self.D_c / tokens) ** self.alpha_D


# Kaplan et al. (2020), table 2.
KAPLAN = KaplanLaw(N_c=6.4e13, D_c=1.8e13, alpha_N=0.076, alpha_D=0.103)


@dataclass(frozen=True)
class ParametricLaw:
    """L(N, D) = E + A / N^alpha + B / D^beta, Hoffmann et al. (2022), equation 2.

    E is what no model can foretell, the second term what a model of N parameters misses
    for being small, the third what it misses for having seen D tokens only.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def __call__(
        self, parameters: float | np.ndarray, tokens: float | np.ndarray
    ) -> float | np.ndarray:
        return (
            self.E
            + self.A / np.asarray(parameters, float) ** self.alpha
            + self.B / np.asarray(tokens, float) ** self.beta
        )

    @property
    def a(self) -> float:
        """The exponent with which the best N grows with compute (equation 4)."""
        return self.beta / (self.alpha + self.beta)

    @property
    def b(self) -> float:
        """The same of the best D; a + b = 1."""
        return self.alpha / (self.alpha + self.beta)

    def best(self, flops: float) -> Allocation:
        """The N and D with 6 N D = ``flops`` and the lowest loss (equation 4)."""
        G = (self.alpha * self.A / (self.beta * self.B)) ** (
            1 / (self.alpha + self.beta)
        )
        parameters = G * (flops / 6) ** self.a
        return Allocation(parameters, flops / 6 / parameters)


class Allocation(NamedTuple):
    """How compute is spent."""

    parameters: float
    tokens: float

    @property
    def tokens_a_parameter(self) -> float:
        return self.tokens / self.parameters


# Hoffmann et al. (2022), equation 10, as printed; and as fitted again to points read off
# the paper's figure, Besiroglu et al. (2024), table 1.
HOFFMANN = ParametricLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
BESIROGLU = ParametricLaw(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)

# The exponents of N and D against compute by the three approaches of Hoffmann et al.
# (2022), table 2, and by Kaplan et al. (2020).
ALLOCATIONS = {
    "Kaplan et al.": (0.73, 0.27),
    "Hoffmann et al., 1: least over all runs": (0.50, 0.50),
    "Hoffmann et al., 2: equal compute": (0.49, 0.51),
    "Hoffmann et al., 3: the formula": (0.46, 0.54),
}


def kaplan_best(flops: float) -> Allocation:
    """The allocation of Kaplan et al. (2020), table 6: N = 1.3e9 C^0.73, C in PF-days."""
    parameters = 1.3e9 * (flops / PF_DAY) ** 0.73
    return Allocation(parameters, flops / 6 / parameters)


class Run(NamedTuple):
    """A finished training run.

    Attributes:
        parameters: of the model.
        tokens: that it was trained on.
        loss: on held-out text, in nats a token.
    """

    parameters: float
    tokens: float
    loss: float


# Hoffmann et al. (2022), appendix D.3: where L-BFGS starts, for log A, log B, log E and
# the two exponents.
_STARTS = (
    (0.0, 5.0, 10.0, 15.0, 20.0, 25.0),
    (0.0, 5.0, 10.0, 15.0, 20.0, 25.0),
    (-1.0, -0.5, 0.0, 0.5, 1.0),
    (0.0, 0.5, 1.0, 1.5, 2.0),
    (0.0, 0.5, 1.0, 1.5, 2.0),
)


def fit_parametric(
    runs: Sequence[Run],
    *,
    delta: float = 1e-3,
    starts: Iterable[Sequence[float]] | None = None,
) -> ParametricLaw:
    """The law that fits ``runs`` best, as Hoffmann et al. (2022) fit it (equation 3).

    Least is the sum of a Huber loss of log L(N, D) - log(measured), so that runs that are
    far off don't decide. Of all ``starts`` the best end is taken, since the surface has
    many.

    Args:
        runs: at least five, one for each constant.
        delta: beyond which the Huber loss is linear.
        starts: of log A, log B, log E, alpha and beta; the paper's grid of 4,500 by
            default.

    Raises:
        ValueError: too few runs, or one whose numbers are not positive.
    """
    from scipy.optimize import minimize

    N, D, L = _columns(runs, at_least=5)

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        a, b, e, alpha, beta = x
        terms = np.stack([a - alpha * N, b - beta * D, np.full_like(N, e)])
        top = terms.max(axis=0)
        parts = np.exp(terms - top)
        fitted = top + np.log(parts.sum(axis=0))  # log-sum-exp
        off = fitted - L
        near = np.abs(off) <= delta
        huber = np.where(near, off**2 / 2, delta * (np.abs(off) - delta / 2))
        slope = np.where(near, off, delta * np.sign(off))
        share = slope * parts / parts.sum(axis=0)  # (3, runs)
        gradient = np.array(
            [
                share[0].sum(),
                share[1].sum(),
                share[2].sum(),
                -(share[0] * N).sum(),
                -(share[1] * D).sum(),
            ]
        )
        return huber.sum(), gradient

    # The sum is tiny near its end, so the tolerances of L-BFGS are made tiny as well.
    options = {"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-10}
    best = min(
        (
            minimize(
                objective, np.array(start), jac=True, method="L-BFGS-B", options=options
            )
            for start in (itertools.product(*_STARTS) if starts is None else starts)
        ),
        key=lambda result: result.fun if math.isfinite(result.fun) else math.inf,
    )
    a, b, e, alpha, beta = best.x
    return ParametricLaw(math.exp(e), math.exp(a), math.exp(b), alpha, beta)


def fit_kaplan(runs: Sequence[Run], *, delta: float = 1e-3) -> KaplanLaw:
    """The law of Kaplan et al. (2020) that fits ``runs`` best, in the same sense.

    Args:
        runs: at least four, one for each constant.
        delta: beyond which the Huber loss of the logarithm is linear.

    Raises:
        ValueError: too few runs, or one whose numbers are not positive.
    """
    from scipy.optimize import least_squares

    N, D, L = _columns(runs, at_least=4)

    def off(x: np.ndarray) -> np.ndarray:
        """From alpha_N, alpha_D and what each term is at the middle of the runs."""
        alpha_N, alpha_D, model, text = x
        terms = (
            model - alpha_N / alpha_D * (N - N.mean()),
            text - (D - D.mean()),
        )
        return alpha_D * np.logaddexp(*terms) - L

    start = (0.1, 0.2, L.mean() / 0.2 - 1, L.mean() / 0.2 - 1)
    scale = [0.1, 0.1, 1.0, 1.0]
    best = least_squares(off, start, x_scale=scale, loss="huber", f_scale=delta)
    alpha_N, alpha_D, model, text = best.x
    return KaplanLaw(
        math.exp(N.mean() + model * alpha_D / alpha_N),
        math.exp(D.mean() + text),
        alpha_N,
        alpha_D,
    )


def _columns(runs: Sequence[Run], *, at_least: int) -> tuple[np.ndarray, ...]:
    """The logarithms of parameters, tokens and losses."""
    if len(runs) < at_least:
        raise ValueError(
            f"runs must hold at least {at_least}, one for each constant, but it holds "
            f"{len(runs)}"
        )
    if min(min(run) for run in runs) <= 0:
        raise ValueError("runs must hold positive numbers only")
    return tuple(np.log(np.array(column, float)) for column in zip(*runs, strict=True))


def resamples(
    runs: Sequence[Run], number: int, *, seed: int = 0
) -> Iterator[list[Run]]:
    """``number`` samples of ``runs``, as many each, drawn with replacement.

    What is computed from each of them spreads as it would if other runs had been made.
    """
    draw = np.random.default_rng(seed)
    while number > 0:
        sample = [runs[i] for i in draw.integers(len(runs), size=len(runs))]
        if len(set(sample)) >= 5:
            number -= 1
            yield sample


def bootstrap(
    runs: Sequence[Run],
    number: int = 200,
    *,
    seed: int = 0,
    starts: Iterable[Sequence[float]] | None = None,
) -> list[ParametricLaw]:
    """The laws that fit ``number`` samples of ``runs``, drawn with replacement.

    Each fit starts at the law of all runs, and at ``starts`` where they are given: the
    spread of the results is the uncertainty that comes from which runs there are.
    """
    whole = fit_parametric(runs, starts=starts)
    # Where E has vanished it has no slope to come back by, so it starts at 0.1 at least.
    logs = [math.log(whole.A), math.log(whole.B), math.log(max(whole.E, 0.1))]
    first = [[*logs, whole.alpha, whole.beta]]
    return [
        fit_parametric(sample, starts=first)
        for sample in resamples(runs, number, seed=seed)
    ]


def interval(values: Sequence[float], level: float = 0.9) -> tuple[float, float]:
    """The middle ``level`` of some values."""
    tail = (1 - level) / 2
    low, high = np.quantile(np.asarray(values, float), [tail, 1 - tail])
    return float(low), float(high)
