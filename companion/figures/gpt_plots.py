"""The plots of the section on GPT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, PercentFormatter
from torch import Tensor

from companion.figures.style import COLORS, WIDTH, head_color, headline, label_lines

Curve = Sequence[tuple[int, float]]  # (characters read, bits per character)


def plot_counting(
    known: Sequence[float], seen: Sequence[float], held_out: Sequence[float]
) -> None:
    """Share of contexts that were seen before, and bits per character, by order."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.5))
    orders = np.arange(len(known))
    left.plot(orders, known, "o-", color=COLORS["theory"])
    left.set(
        xlabel="characters of context",
        ylabel="held-out contexts seen before",
        ylim=(0, 1.05),
    )
    left.yaxis.set_major_formatter(PercentFormatter(1))
    right.plot(orders, held_out, "o-", color=COLORS["query"], label="held out")
    right.plot(orders, seen, "o--", color=COLORS["context"], label="counted")
    right.set(
        xlabel="characters of context",
        ylabel="bits per character",
        ylim=(0, None),
        xlim=(-0.2, len(known) + 0.6),
    )
    for ax in (left, right):
        ax.xaxis.set_major_locator(FixedLocator(orders))
    label_lines(right)
    headline(figure, "Longer counts help until the contexts are new")
    plt.show()


def plot_residual(spread: Mapping[str, Sequence[float]]) -> None:
    """Standard deviation of the residual stream by layer, before training."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.3))
    colors = iter([COLORS["recurrent"], COLORS["query"]])
    for name, values in spread.items():
        ax.plot(values, color=next(colors), label=name)
    ax.set(
        title="Smaller steps keep the stream's size",
        xlabel="after block",
        ylabel="standard deviation",
        ylim=(0, None),
    )
    label_lines(ax)
    plt.show()


def plot_learning(
    curves: Mapping[str, Curve], here: Curve, counted: Mapping[str, float], title: str
) -> None:
    """Bits per character against characters read, beside what counting reaches.

    Args:
        curves: runs that were made before.
        here: the run on the page, drawn as points.
        counted: name of an n-gram model -> bits per character.
        title: of the figure.
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 4.2))
    for name, value in counted.items():
        ax.axhline(value, color=COLORS["context"], linewidth=1.2, linestyle="--")
        ax.annotate(
            name,
            (0.005, value),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2),
            textcoords="offset points",
            fontsize=9,
            color=COLORS["theory"],
        )
    for i, (name, curve) in enumerate(curves.items()):
        x, y = np.array(curve).T
        ax.plot(x / 1e6, y, color=head_color(i), label=name, linewidth=1.8)
    x, y = np.array(here).T
    ax.plot(x / 1e6, y, "o", color=COLORS["key"], markersize=5)
    ax.set(
        xlabel="characters foretold in training (millions)",
        ylabel="bits per character, held-out plays",
        xscale="log",
    )
    ticks = [0.1, 0.2, 0.5, 1, 2, 5]
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    label_lines(ax)
    headline(figure, title)
    plt.show()


def plot_by_position(bits: Tensor, counted: Sequence[float], title: str) -> None:
    """Bits per character by characters of context, with n-gram models beside it."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.7))
    contexts = np.arange(1, len(bits) + 1)
    ax.plot(contexts, bits, color=COLORS["context"], linewidth=0.8)
    edges = np.unique(np.geomspace(1, len(bits) + 1, 13).astype(int))
    bins = list(pairwise(edges))
    centers = [np.sqrt(a * (b - 1)) for a, b in bins]
    means = [bits[a - 1 : b - 1].mean() for a, b in bins]
    ax.plot(centers, means, "o-", color=COLORS["query"], label="GPT")
    orders = np.arange(1, len(counted))
    ax.plot(orders, counted[1:], "s--", color=COLORS["theory"], label="counting")
    ax.set(
        title=title,
        xlabel="characters of context",
        ylabel="bits per character",
        xscale="log",
    )
    ax.xaxis.set_major_locator(FixedLocator([1, 2, 4, 8, 16, 32, 64, 127]))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    label_lines(ax)
    plt.show()


def plot_heads(scores: Mapping[str, Tensor], title: str) -> None:
    """One small heatmap of (layers, heads) for each score."""
    figure, axes = plt.subplots(1, len(scores), figsize=(WIDTH, 2.9))
    for ax, (name, values) in zip(np.atleast_1d(axes), scores.items(), strict=True):
        ax.imshow(values, vmin=0, vmax=1, aspect="auto")
        for (layer, head), value in np.ndenumerate(values.numpy()):
            ax.text(
                head,
                layer,
                f"{value:.2f}",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if value > 0.55 else "#222222",
            )
        ax.set_title(name, fontsize=10.5, fontweight="normal")
        ax.set(
            xlabel="head",
            xticks=range(values.shape[1]),
            yticks=range(values.shape[0]),
            xticklabels=range(1, values.shape[1] + 1),
            yticklabels=range(1, values.shape[0] + 1),
        )
        ax.grid(visible=False)
    np.atleast_1d(axes)[0].set_ylabel("layer")
    headline(figure, title)
    plt.show()


def plot_repetition(lines: Mapping[str, Tensor], length: int, title: str) -> None:
    """Bits per character by position, for windows that hold the same text twice."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.7))
    colors = iter([COLORS["key"], COLORS["query"], COLORS["value"]])
    for name, bits in lines.items():
        position = np.arange(2, len(bits) + 2)
        ax.plot(position, bits, color=next(colors), label=name, linewidth=1.6)
    ax.axvline(length + 0.5, color=COLORS["theory"], linestyle=":", linewidth=1.5)
    ax.annotate(
        "again from here",
        (length + 0.5, 1),
        xycoords=("data", "axes fraction"),
        xytext=(4, -12),
        textcoords="offset points",
        fontsize=9.5,
        color=COLORS["theory"],
    )
    ax.set(
        title=title,
        xlabel="position",
        ylabel="bits per character",
        ylim=(0, None),
    )
    label_lines(ax)
    plt.show()


def plot_recall(
    steps: Sequence[int], stored: Mapping[int, Sequence[Sequence[float]]], chance: float
) -> None:
    """Accuracy against step for models of one and of two layers, a line a seed."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.5))
    for layers, color in ((1, COLORS["recurrent"]), (2, COLORS["query"])):
        for i, run in enumerate(stored[layers]):
            name = f"{layers} layer{'s' * (layers > 1)}" if i == 0 else "_"
            ax.plot(steps[: len(run)], run, color=color, label=name, linewidth=1.5)
    ax.axhline(chance, color=COLORS["theory"], linestyle=":", linewidth=1.5)
    ax.set(
        title="Two layers learn to look up; one does not",
        xlabel="training step",
        ylabel="letters foretold right",
        ylim=(0, 1.03),
    )
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    label_lines(ax)
    plt.show()
