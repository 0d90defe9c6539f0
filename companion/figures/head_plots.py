"""The plots of the chapter on multi-head attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike
from torch import Tensor

from companion.figures.style import (
    ATTENTION_CMAP,
    COLORS,
    WIDTH,
    head_color,
    headline,
    label_lines,
    spread,
)

Heads = Float[Tensor, "layers heads"]


def plot_two_lookups(
    curves: Mapping[str, ArrayLike], floor: float, every: int, title: str
) -> None:
    """Loss against training steps: the mean of the seeds with their spread, and the floor."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.9))
    colors = (COLORS["key"], "#d39200", COLORS["query"], COLORS["value"])
    for (name, runs), color in zip(curves.items(), colors, strict=False):
        steps = every * np.arange(1, 1 + np.shape(runs)[1])
        spread(ax, steps, runs, name, color)
    ax.axhline(floor, color=COLORS["theory"], linestyle="--", linewidth=1.2)
    ax.text(steps[-1], floor + 0.02, "half", color=COLORS["theory"], ha="right")
    ax.set(
        title=title,
        xlabel="training step (128 sentences each)",
        ylabel="share of the variance that is lost",
        ylim=(-0.03, 1.05),
        xlim=(0, steps[-1]),
    )
    label_lines(ax)
    plt.show()


def plot_head_scores(
    panels: Mapping[str, Heads], title: str, *, columns: int = 2, shared: bool = True
) -> None:
    """Each score as a map of all heads, layers downward; the best head is framed and named.

    Args:
        panels: caption -> ``(layers, heads)`` scores.
        title: of the whole figure.
        columns: maps in a row.
        shared: one scale from 0 to 1 for all, or one for each.
    """
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(WIDTH, 1.75 * rows + 0.75), squeeze=False
    )
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    for i, (ax, (name, scores)) in enumerate(
        zip(axes.flat, panels.items(), strict=False)
    ):
        scores = scores.detach().cpu()
        image = ax.imshow(
            scores, cmap=ATTENTION_CMAP, vmin=0, vmax=1 if shared else None
        )
        layer, head = divmod(int(scores.argmax()), scores.shape[1])
        _frame(ax, layer, head)
        best = f"{layer + 1}-{head + 1}: {scores[layer, head]:.2f}"
        ax.set_title(f"{name}\n{best}", fontsize=10, pad=4)
        _number_heads(ax, scores.shape)
        if i % columns == 0:
            ax.set_ylabel("layer")
        if i + columns >= len(panels):
            ax.set_xlabel("head")
        if not shared:
            figure.colorbar(image, ax=ax, shrink=0.8, pad=0.02)
    if shared:
        figure.colorbar(image, ax=axes, shrink=0.5, aspect=30, label="score")
    headline(figure, title)
    plt.show()


def plot_relations(rows: Sequence[Mapping[str, object]], title: str) -> None:
    """Best head against its two baselines, one line a relation, best on top.

    Args:
        rows: each with ``relation``, ``head``, ``score``, ``offset`` and ``random``.
        title: of the figure.
    """
    rows = sorted(rows, key=lambda row: row["score"])
    figure, ax = plt.subplots(figsize=(WIDTH, 0.33 * len(rows) + 1.5))
    y = np.arange(len(rows))
    offset, random, score = (
        np.array([row[key] for row in rows], dtype=float)
        for key in ("offset", "random", "score")
    )
    ax.hlines(y, offset, score, color=COLORS["context"], linewidth=2.5, zorder=1)
    markers = (
        (random, "x", COLORS["theory"], "best head of an untrained model"),
        (offset, "D", COLORS["key"], "best fixed offset"),
        (score, "o", COLORS["query"], "best head of MiniLM"),
    )
    for values, marker, color, label in markers:
        ax.scatter(values, y, marker=marker, color=color, label=label, s=38, zorder=2)
    for i, row in enumerate(rows):
        ax.text(
            max(score[i], offset[i]) + 0.025, i, row["head"], va="center", fontsize=9
        )
    ax.set_yticks(y, [row["relation"] for row in rows])
    ax.set(xlim=(0, 1.1), xlabel="share of words that attend most to the right word")
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.grid(axis="y", visible=False)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9, handletextpad=0.2)
    headline(figure, title)
    plt.show()


def plot_coreference(
    scores: Mapping[str, Heads],
    marked: Mapping[str, tuple[int, int]],
    chance: float,
    title: str,
) -> None:
    """For each cue all heads as dots, some of them marked, and the level of chance.

    Args:
        scores: cue -> the share of pairs in which a head is right twice.
        marked: name -> ``(layer, head)``, counted from 0.
        chance: what coin tosses get.
        title: of the figure.
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 0.62 * len(scores) + 1.7))
    for row, values in enumerate(scores.values()):
        values = values.detach().cpu()
        level, count = values.flatten().unique(return_counts=True)
        ax.scatter(
            level,
            [row] * len(level),
            s=10 + 14 * count,
            color=COLORS["context"],
            alpha=0.7,
            label="_",
            zorder=1,
        )
        for place, (name, (layer, head)) in enumerate(marked.items()):
            ax.scatter(
                values[layer, head],
                row + 0.24 * (place - (len(marked) - 1) / 2),
                s=52,
                color=head_color(place),
                edgecolor="white",
                linewidth=0.8,
                label=name if row == 0 else "_",
                zorder=2,
            )
    ax.axvline(chance, color=COLORS["theory"], linestyle="--", linewidth=1.2)
    ax.text(chance, -0.72, " coin tosses", color=COLORS["theory"], fontsize=9)
    ax.set_yticks(range(len(scores)), list(scores))
    ax.set(ylim=(len(scores) - 0.4, -0.85), xlim=(-0.04, 1.04))
    ax.set_xlabel("pairs in which the pronoun picks the right noun both times")
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.grid(axis="y", visible=False)
    figure.legend(loc="outside lower center", ncols=4, fontsize=9, handletextpad=0.2)
    headline(figure, title)
    plt.show()


def plot_ablation(panels: Mapping[str, Heads], title: str) -> None:
    """What changes when one head is removed: a map of all heads for each measure.

    Red is a loss, blue a gain, white no change; each map has its own scale.
    """
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(WIDTH, 2.7 * len(panels) + 0.5), squeeze=False
    )
    for ax, (name, change) in zip(axes.flat, panels.items(), strict=True):
        change = change.detach().cpu()
        limit = change.abs().max()
        image = ax.imshow(change, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
        layer, head = divmod(int(change.argmax()), change.shape[1])
        _frame(ax, layer, head)
        ax.set_title(f"{name} (most: {layer + 1}-{head + 1})", fontsize=10.5, pad=5)
        _number_heads(ax, change.shape, every=1)
        ax.set_ylabel("layer")
        figure.colorbar(image, ax=ax, pad=0.015)
    axes.flat[-1].set_xlabel("head")
    headline(figure, title)
    plt.show()


def plot_pruning(
    removed: Sequence[int],
    curves: Mapping[str, ArrayLike],
    title: str,
    ylabel: str,
) -> None:
    """A measure against how many heads are removed; several runs of one name are a band."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.9))
    colors = (COLORS["query"], COLORS["context"], COLORS["key"])
    for (name, runs), color in zip(curves.items(), colors, strict=True):
        spread(ax, removed, np.atleast_2d(runs), name, color, marker="o", markersize=4)
    ax.set(title=title, xlabel=f"heads removed (of {max(removed)})", ylabel=ylabel)
    ax.set_xticks(list(removed))
    ax.set_ylim(bottom=0)
    ax.legend(loc="upper right")
    plt.show()


def _number_heads(ax: Axes, shape: tuple[int, ...], every: int = 2) -> None:
    layers, heads = shape
    ax.set_xticks(range(0, heads, every), range(1, heads + 1, every))
    ax.set_yticks(range(0, layers, every), range(1, layers + 1, every))
    ax.tick_params(length=0, labelsize=9)
    ax.grid(visible=False)


def _frame(ax: Axes, layer: int, head: int) -> None:
    ax.add_patch(
        Rectangle(
            (head - 0.5, layer - 0.5),
            1,
            1,
            fill=False,
            edgecolor=COLORS["highlight"],
            linewidth=1.8,
            clip_on=False,
        )
    )
