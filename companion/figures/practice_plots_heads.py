"""The plots of the projects that find out what heads do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from companion.figures.style import COLORS, WIDTH, head_color, headline


def plot_phase_change(
    steps: Sequence[int],
    accuracy: Mapping[str, Sequence[float]],
    scores: Mapping[str, Sequence[float]],
    title: str,
) -> None:
    """On the left accuracy by update, a line a model; on the right scores of heads."""
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 4.3), sharey=True)
    for ax, lines, label in zip(
        axes, (accuracy, scores), ("tokens foretold right", "score"), strict=True
    ):
        for number, (name, values) in enumerate(lines.items()):
            color = head_color(number if ax is axes[1] else 2 * number + 1)
            ax.plot(steps, values, color=color, label=name)
        ax.set(xlabel="update", ylim=(0, 1.02))
        ax.set_title(label, fontsize=10.5, fontweight="normal")
        ax.legend(loc="upper left", bbox_to_anchor=(0, -0.2))
    headline(fig, title)
    plt.show()


def plot_wanted(
    weights: Float[Tensor, "length length"],
    wanted: Bool[Tensor, "length length"],
    labels: Sequence[str],
    title: str,
) -> None:
    """A map with a square around each place where its role wants the weight to be."""
    _, ax = plt.subplots(figsize=(WIDTH, 5.6))
    image = ax.imshow(weights.cpu(), vmin=0, vmax=1)
    queries, keys = (x.tolist() for x in wanted.cpu().nonzero(as_tuple=True))
    ax.scatter(keys, queries, marker="s", s=62, lw=1, fc="none", ec=COLORS["highlight"])
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(range(len(labels)), labels, fontsize=7.5)
    ax.grid(visible=False)
    ax.set(title=title, xlabel="key, which is looked at", ylabel="query, which looks")
    ax.figure.colorbar(image, ax=ax, shrink=0.7, label="attention")
    plt.show()


def plot_costs(
    values: Mapping[str, Mapping[str, float]],
    title: str,
    xlabel: str,
    *,
    whole: float | None = None,
) -> None:
    """Bars in groups, a row a group; a dashed line for what it is if nothing is cut."""
    _, ax = plt.subplots(figsize=(WIDTH, 1.35 + 0.55 * len(values)))
    names = list(dict.fromkeys(name for group in values.values() for name in group))
    height = 0.8 / len(names)
    for number, name in enumerate(names):
        lengths = [group[name] for group in values.values()]
        places = np.arange(len(values)) + (number - (len(names) - 1) / 2) * height
        ax.barh(places, lengths, 0.9 * height, color=head_color(number), label=name)
    if whole is not None:
        ax.axvline(whole, color=COLORS["theory"], ls="--", label="nothing cut")
    ax.set_yticks(range(len(values)), values)
    ax.set(title=title, xlabel=xlabel, ylim=(len(values) - 0.5, -0.5))
    ax.grid(axis="y", visible=False)
    ax.figure.legend(loc="outside lower center", ncols=len(names) + 1)
    plt.show()


def plot_claims(claims: Mapping[str, tuple[float, float, float]], title: str) -> None:
    """A row a claim: its score, that of the head's habit, and that of even attention."""
    _, ax = plt.subplots(figsize=(WIDTH, 1.3 + 0.34 * len(claims)))
    rows = range(len(claims))
    score, habit, even = zip(*claims.values(), strict=True)
    ax.hlines(rows, even, score, color=COLORS["context"], lw=1.5)
    ax.plot(
        even, rows, "|", color=COLORS["theory"], ms=13, mew=2, label="even attention"
    )
    ax.plot(
        habit, rows, "D", color=COLORS["highlight"], ms=9, mfc="none", label="habit"
    )
    ax.plot(score, rows, "o", color=COLORS["attention"], label="the head")
    ax.set_yticks(rows, claims)
    ax.set(title=title, xlabel="attention where it is wanted", xlim=(-0.03, 1.03))
    ax.set_ylim(len(claims) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.figure.legend(loc="outside lower center", ncols=3)
    plt.show()
