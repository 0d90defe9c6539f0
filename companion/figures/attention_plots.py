"""The plots of the chapter on attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.ticker import (
    FixedLocator,
    NullFormatter,
    NullLocator,
    PercentFormatter,
)
from numpy.typing import ArrayLike
from torch import Tensor

from companion.figures.heatmaps import attention_heatmap
from companion.figures.style import COLORS, WIDTH, headline, label_lines, spread

_COPIERS = {
    "attention": COLORS["attention"],
    "one vector, twice as wide": "#d39200",
    "one vector": COLORS["recurrent"],
}


def plot_copying(
    lengths: Sequence[int],
    stored: Mapping[str, ArrayLike],
    measured: Mapping[str, Sequence[float]],
    trained_up_to: int,
) -> None:
    """Accuracy against length: bands for the stored seeds, points for this run."""
    _, ax = plt.subplots(figsize=(WIDTH, 4.0))
    ax.axvspan(trained_up_to, max(lengths), color=COLORS["mask"], alpha=0.15, lw=0)
    for name, color in _COPIERS.items():
        spread(ax, lengths, stored[name], name, color)
        if name in measured:
            ax.plot(lengths, measured[name], "o", color=color, label=f"_{name}")
    ax.annotate(
        "longer than any\nseen in training", (trained_up_to + 0.6, 0.03), fontsize=9
    )
    ax.set(
        title="One vector holds a word, attention holds a line",
        xlabel="length of the text (characters)",
        ylabel="characters copied right",
        xticks=lengths,
        ylim=(0, 1.04),
    )
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    for (name, color), place in zip(
        _COPIERS.items(), [(26, 0.93), (15, 0.53), (9, 0.2)], strict=True
    ):
        ax.text(*place, name, color=color, weight="bold")
    plt.show()


def plot_reach(reaches: Mapping[str, Tensor], title: str) -> None:
    """Size of the slope against the distance it spans, on a logarithmic axis."""
    _, ax = plt.subplots()
    colors = iter(["#d39200", COLORS["recurrent"], COLORS["query"], COLORS["value"]])
    for (name, reach), color in zip(reaches.items(), colors, strict=False):
        values = reach.flip(0).cpu().numpy()
        ax.semilogy(np.arange(len(values)), values, color=color, label=name)
    ax.set(
        title=title,
        xlabel="distance back from the last output (tokens)",
        ylabel="size of the slope |∂ output / ∂ input|",
    )
    ax.yaxis.set_minor_locator(NullLocator())
    label_lines(ax)
    plt.show()


def plot_lookup(
    keys: Tensor, values: Tensor, queries: Tensor, answers: Mapping[str, Tensor]
) -> None:
    """Known points, and what look-ups of several kinds answer in between."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.9))
    keys, values, queries = (t.cpu() for t in (keys, values, queries))
    ax.plot(keys, values, "o", color=COLORS["key"], label="known (key, value)", ms=6)
    styles = zip(answers.items(), ["-", "-", "--"], [1.2, 2.6, 2.0], strict=True)
    colors = [COLORS["theory"], COLORS["query"], COLORS["value"]]
    for color, ((name, answer), dash, width) in zip(colors, styles, strict=True):
        ax.plot(queries, answer.cpu(), dash, color=color, lw=width, label=name)
    ax.set(
        title="A soft look-up answers between the keys",
        xlabel="key: hour of the day",
        ylabel="value: temperature (°C)",
        xticks=range(0, 25, 6),
        ylim=(8, 28),
    )
    ax.legend(loc="upper left", ncols=2)
    plt.show()


def plot_saturation(
    d_k: Sequence[int],
    variance: Mapping[str, Sequence[float]],
    largest: Mapping[str, Sequence[float]],
    slope: Mapping[str, Sequence[float]],
) -> None:
    """Variance of scores, largest weight and slope of the softmax against d_k."""
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 3.4))
    panels = (
        (variance, "variance of scores"),
        (largest, "largest weight"),
        (slope, "slope of the softmax"),
    )
    looks = {"unscaled": (COLORS["recurrent"], "o-"), "scaled": (COLORS["query"], "s-")}
    for ax, (series, title) in zip(axes, panels, strict=True):
        for name, values in series.items():
            color, marker = looks[name]
            ax.plot(d_k, values, marker, color=color, label=name)
        ax.set_xscale("log", base=4)
        ax.set_xticks([4, 64, 1024], ["4", "64", "1024"])
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_title(title, fontsize=10.5, fontweight="normal")
        ax.set_xlabel("$d_k$")
    axes[0].set_yscale("log")
    axes[1].set_ylim(0, 1)
    axes[2].set_yscale("log")
    axes[0].legend(loc="upper left")
    headline(figure, "Without the scale, softmax saturates as $d_k$ grows")
    plt.show()


def plot_causality(slopes: Mapping[str, Float[Tensor, "length length"]]) -> None:
    """Which input moves which output, for several layers side by side."""
    figure, axes = plt.subplots(1, len(slopes), figsize=(WIDTH, 3.0))
    for ax, (name, slope) in zip(axes, slopes.items(), strict=True):
        names = [str(i + 1) for i in range(len(slope))]
        share = slope / slope.amax(dim=1, keepdim=True)
        attention_heatmap(ax, share, names, title=name, mask=slope > 0)
        ax.tick_params(axis="x", labelrotation=0)
        ax.set_title(name, fontsize=11, fontweight="normal")
        ax.set(xlabel="input moved", ylabel="")
    axes[0].set_ylabel("output that follows")
    headline(figure, "Causal layers hear nothing of the future")
    plt.show()


def plot_cost(
    lengths: Sequence[int],
    series: Mapping[str, Sequence[float]],
    *,
    title: str,
    unit: str,
    equal_count: float | None = None,
) -> None:
    """Cost against length, both on logarithmic axes.

    Args:
        lengths: the lengths that were measured.
        series: name -> cost at each length.
        title: the answer that the picture gives.
        unit: what is measured, with its unit.
        equal_count: the length at which the counted work is equal, drawn dotted.
    """
    _, ax = plt.subplots(figsize=(WIDTH, 4.0))
    colors = {
        "GRU": COLORS["recurrent"],
        "formula": COLORS["explicit"],
        "fused": COLORS["fused"],
    }
    for name, values in series.items():
        ax.loglog(lengths, values, "o-", color=colors[name], label=name)
    if equal_count is not None:
        ax.axvline(equal_count, color=COLORS["theory"], ls=":", lw=1.5)
        ax.annotate(
            "equal by counting",
            (equal_count, 0.97),
            xycoords=("data", "axes fraction"),
            xytext=(5, 0),
            textcoords="offset points",
            fontsize=10,
            va="top",
        )
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_locator(FixedLocator(lengths))
    ax.xaxis.set_major_formatter(lambda n, _: f"{n:.0f}")
    ax.set(title=title, xlabel="length n (tokens)", ylabel=unit)
    label_lines(ax)
    plt.show()
