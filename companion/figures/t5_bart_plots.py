"""The plots of the chapter on T5 and BART."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from companion.figures.heatmaps import attention_heatmap
from companion.figures.style import COLORS, INK, WIDTH, headline, label_lines

_OCHER = "#b87c00"
_LINES = (COLORS["query"], COLORS["key"], COLORS["value"], _OCHER)
_BARS = (
    COLORS["context"],
    COLORS["theory"],
    _OCHER,
    COLORS["query"],
    COLORS["value"],
    COLORS["output"],
)


def plot_lengths(
    mean_spans: Sequence[float],
    written: Mapping[str, Sequence[float]],
    title: str,
) -> None:
    """Tokens to write, as a share of the text, against the mean length of a span."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.5))
    for (name, shares), color in zip(written.items(), _LINES, strict=False):
        ax.plot(mean_spans, shares, "o-", color=color, label=name)
    ax.axhline(1.0, color=COLORS["theory"], ls="--", lw=1.5)
    ax.annotate(
        "BART writes the whole text",
        (mean_spans[-1], 1.0),
        xytext=(0, 5),
        textcoords="offset points",
        ha="right",
        fontsize=10,
    )
    ax.set(
        title=title,
        xlabel="mean length of a span (tokens)",
        ylabel="tokens to write, of the text's",
        ylim=(0, 1.12),
    )
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    label_lines(ax)
    plt.show()


def plot_three_maps(
    maps: Mapping[str, Float[Tensor, "queries keys"]],
    tokens: Mapping[str, tuple[Sequence[str], Sequence[str]]],
    title: str,
) -> None:
    """One attention map of each kind, side by side; weights of zero are drawn gray.

    ``tokens`` holds the queries and the keys of each.
    """
    figure, axes = plt.subplots(1, len(maps), figsize=(WIDTH, 3.1))
    for ax, (name, weights) in zip(axes, maps.items(), strict=True):
        queries, keys = tokens[name]
        attention_heatmap(ax, weights, queries, keys, title=name, mask=weights > 0)
    headline(figure, title)
    plt.show()


def plot_scores(
    stored: Mapping[str, Mapping[str, Sequence[float]]],
    here: Mapping[str, Mapping[str, float]],
    title: str,
) -> None:
    """A panel a task, a row a way of training: each seed a dot, the mean a bar."""
    tasks = list(next(iter(stored.values())))
    figure, axes = plt.subplots(
        1, len(tasks), figsize=(WIDTH, 0.42 * len(stored) + 1.5), sharey=True
    )
    rows = np.arange(len(stored))[::-1]
    for ax, task in zip(axes, tasks, strict=True):
        for row, (kind, scores), color in zip(rows, stored.items(), _BARS, strict=True):
            seeds = scores[task]
            ax.barh(row, np.mean(seeds), height=0.55, color=color, alpha=0.35)
            ax.plot(seeds, [row] * len(seeds), "o", color=color, ms=4)
            if task in here.get(kind, {}):
                ax.plot(here[kind][task], row, "x", color=INK, ms=7)
        ax.set_title(task, fontsize=10.5)
        ax.set(xlim=(0, 1), xlabel="score")
        ax.set_xticks([0, 0.5, 1], ["0", "", "100%"])
        ax.get_xticklabels()[-1].set_horizontalalignment("right")
        ax.grid(axis="y", visible=False)
    axes[0].set_yticks(rows, [kind.replace(", ", ",\n") for kind in stored])
    headline(figure, title)
    plt.show()
