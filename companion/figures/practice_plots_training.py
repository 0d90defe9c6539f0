"""The plots of the projects that train models: what a scaling study found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator, NullFormatter

from companion.figures.style import COLORS, WIDTH, head_color


def plot_bet(
    sizes: Sequence[float],
    above: Sequence[float],
    law: Callable[[np.ndarray], np.ndarray],
    bet: tuple[float, float],
    interval: tuple[float, float],
    title: str,
) -> None:
    """Runs above the entropy on logarithmic axes, the law, and a run that it foretold.

    Args:
        sizes, above: of the runs that the law was fitted to, in bits above the entropy.
        law: parameters -> bits above the entropy.
        bet: size and bits of the run that was foretold.
        interval: what was foretold for it, in bits above the entropy.
        title: of the figure.
    """
    _, ax = plt.subplots(figsize=(WIDTH, 3.9))
    line = np.geomspace(0.8 * min(sizes), 1.4 * bet[0], 50)
    ax.plot(line, law(line), "--", color=COLORS["theory"], label="law")
    ax.plot(sizes, above, "o", color=COLORS["query"], label="runs it was fitted to")
    ax.plot([bet[0]] * 2, interval, color=COLORS["theory"], linewidth=7, alpha=0.35)
    ax.plot(*bet, "D", color=COLORS["highlight"], label="run that it foretold")
    ax.set(
        title=title,
        xlabel="parameters without tables",
        ylabel="bits above the entropy",
        xscale="log",
        yscale="log",
    )
    ax.xaxis.set_major_locator(FixedLocator([2e3, 5e3, 1e4, 2e4, 5e4, 1e5]))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    ax.yaxis.set_major_locator(FixedLocator([0.3, 0.5, 0.7, 1.0, 1.5, 2.0]))
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_formatter(NullFormatter())
    ax.legend(loc="lower left")
    plt.show()


def plot_equal(
    losses: Mapping[str, Sequence[float]], entropy: float, title: str
) -> None:
    """The loss of each shape, a dot a seed, with the mean as a bar."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.3))
    for place, values in enumerate(losses.values()):
        ax.plot([place] * len(values), values, "o", color=head_color(place))
        mean = float(np.mean(values))
        ax.plot([place - 0.2, place + 0.2], [mean] * 2, color=head_color(place))
    ax.axhline(entropy, linestyle="--", color=COLORS["theory"])
    ax.annotate(
        "entropy",
        (0.01, entropy),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        color=COLORS["theory"],
    )
    ax.set(title=title, ylabel="bits a symbol", xlim=(-0.6, len(losses) - 0.4))
    ax.set_xticks(range(len(losses)), list(losses))
    plt.show()
