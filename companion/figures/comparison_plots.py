"""The plots of the chapter that compares the families, and both with an LSTM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from companion.figures.style import COLORS, WIDTH, headline, label_lines, spread

FAMILY_COLORS = {
    "encoder-only": COLORS["query"],
    "decoder-only": COLORS["key"],
    "encoder-decoder": COLORS["value"],
}
_MODEL_COLORS = {"LSTM": COLORS["recurrent"], "Transformer": COLORS["attention"]}

Curves = Mapping[str, Sequence[Sequence[tuple[float, float]]]]


def plot_families(
    exact: Mapping[str, Mapping[str, Sequence[float]]],
    bits: Mapping[str, Mapping[str, Sequence[float]]],
    title: str,
) -> None:
    """Tasks by families, a dot a seed: exact targets on the left, bits a token on the right."""
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.9), sharey=True)
    for ax, table, label in zip(
        axes,
        (exact, bits),
        ("targets that are right as a whole", "bits a target token"),
        strict=True,
    ):
        _dots(ax, table)
        ax.set_xlabel(label)
    axes[0].xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes[0].set(xlim=(-0.03, 1.03), ylim=(len(exact) - 0.5, -0.5))
    axes[1].set_xlim(left=0)
    handles = [
        plt.Line2D([], [], marker="o", ls="", color=color, label=name)
        for name, color in FAMILY_COLORS.items()
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    headline(fig, title)
    plt.show()


def _dots(ax: Axes, table: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    for row, families in enumerate(table.values()):
        for place, (family, values) in zip(
            (-0.22, 0, 0.22), families.items(), strict=True
        ):
            color = FAMILY_COLORS[family]
            ax.plot(values, [row + place] * len(values), "o", color=color, alpha=0.55)
            ax.plot(np.mean(values), row + place, "|", color=color, ms=15, mew=2.5)
    ax.set_yticks(range(len(table)), table)
    ax.grid(axis="y", visible=False)


def plot_learning(
    curves: Curves, seconds_an_update: Mapping[str, float], title: str
) -> None:
    """Held-out bits a letter while training, by updates and by seconds of computing."""
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.6), sharey=True)
    for model, runs in curves.items():
        updates = np.array([x for x, _ in runs[0]])
        values = [[value for _, value in run] for run in runs]
        for ax, x in zip(
            axes, (updates, updates * seconds_an_update[model]), strict=True
        ):
            spread(ax, x, values, model, _MODEL_COLORS[model])
    axes[0].set(xlabel="update", ylabel="bits a letter, held out")
    axes[1].set_xlabel("seconds of computing")
    axes[0].legend()
    headline(fig, title)
    plt.show()


def plot_curves(
    curves: Curves,
    title: str,
    xlabel: str,
    ylabel: str,
    *,
    logarithmic: bool = False,
    percent: bool = False,
) -> None:
    """One line a model, mean and range over the seeds."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.6))
    if logarithmic:
        ax.set_xscale("log")
    for model, runs in curves.items():
        x = [x for x, _ in runs[0]]
        values = [[value for _, value in run] for run in runs]
        spread(ax, x, values, model, _MODEL_COLORS[model], marker="o")
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    if percent:
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        ax.set(ylim=(0, 1.05), xticks=x)
    label_lines(ax)
    plt.show()


def plot_speed(
    lengths: Sequence[int], tokens_a_second: Mapping[str, Sequence[float]], title: str
) -> None:
    """Training speed on equally many tokens, cut into sequences of one length."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.6))
    ax.set_xscale("log", base=2)
    for model, values in tokens_a_second.items():
        ax.plot(lengths, values, marker="o", color=_MODEL_COLORS[model], label=model)
    ax.set(title=title, xlabel="length of a sequence", ylabel="tokens a second")
    ax.set_ylim(bottom=0)
    ax.set_xticks(lengths, [str(n) for n in lengths])
    ax.minorticks_off()
    ax.yaxis.set_major_formatter(lambda y, _: f"{y:,.0f}")
    label_lines(ax)
    plt.show()
