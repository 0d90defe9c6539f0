"""The plots of two projects: three families of Transformers, and questions about order."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
from matplotlib.ticker import PercentFormatter

from companion.figures.comparison_plots import FAMILY_COLORS
from companion.figures.style import COLORS, WIDTH, headline


def plot_families_on_tasks(
    right: Mapping[str, Mapping[str, float]],
    bits: Mapping[str, float],
    floors: Mapping[str, float],
    title: str,
) -> None:
    """A panel a task: the share of texts that are right, and the bits of the last one.

    Args:
        right: task -> model -> share of held-out texts without a mistake.
        bits: model -> bits that a text of the last panel costs.
        floors: name -> fewest bits that can be, drawn as a dashed line.
        title: what the picture shows.
    """
    models = list(bits)
    panels = [*right, "coin"]
    fig, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.4), sharey=True)
    colors = [FAMILY_COLORS.get(name, COLORS["context"]) for name in models]
    for ax, task in zip(axes, panels, strict=True):
        values = bits if task == "coin" else right[task]
        ax.barh(models, [values[name] for name in models], color=colors, height=0.6)
        unit = "bits a text" if task == "coin" else "texts without a mistake"
        ax.set_title(task, fontsize=11, pad=16)
        ax.set_xlabel(unit, fontsize=9.5)
        ax.grid(axis="y", visible=False)
        if task != "coin":
            ax.set_xlim(0, 1.08)
            ax.set_xticks([0, 0.5, 1])
            ax.tick_params(axis="x", labelsize=8.5)
            ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for name, floor in floors.items():
        axes[-1].axvline(floor, color=COLORS["theory"], ls="--", lw=1.3)
        axes[-1].annotate(
            name,
            (floor, 1),
            (0, 2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
            color=COLORS["theory"],
        )
    axes[0].invert_yaxis()
    headline(fig, title)
    plt.show()


def plot_answers(
    within: Mapping[str, Mapping[str, float]],
    beyond: Mapping[str, Mapping[str, float]],
    guess: float,
    title: str,
) -> None:
    """A panel a question, a row a model: right answers within and beyond training.

    Args:
        within, beyond: model -> question -> share of right answers.
        guess: what guessing gets, drawn as a dashed line.
        title: what the picture shows.
    """
    models = list(within)
    questions = list(within[models[0]])
    fig, axes = plt.subplots(1, len(questions), figsize=(WIDTH, 3.9), sharey=True)
    for ax, question in zip(axes, questions, strict=True):
        for row, model in enumerate(models):
            ends = within[model][question], beyond[model][question]
            ax.plot(ends, [row, row], color=COLORS["context"], lw=1.5, zorder=1)
            ax.plot(ends[0], row, "o", color=COLORS["query"], ms=8)
            ax.plot(ends[1], row, "D", color=COLORS["key"], ms=6, mfc="white", mew=2)
        ax.axvline(guess, color=COLORS["theory"], ls="--", lw=1.3)
        ax.set_title(question, fontsize=11)
        ax.set_xlim(0, 1.08)
        ax.tick_params(axis="x", labelsize=9)
        ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        ax.set_xticks([0, 0.5, 1])
        ax.set_xlabel("right answers")
        ax.axhline((len(models) - 1) / 2, color=COLORS["mask"], lw=0.8)
    axes[0].set_yticks(range(len(models)), models)
    axes[0].set_ylim(len(models) - 0.5, -0.5)
    handles = [
        plt.Line2D(
            [], [], marker="o", ls="", color=COLORS["query"], label="trained length"
        ),
        plt.Line2D(
            [],
            [],
            marker="D",
            ls="",
            color=COLORS["key"],
            mfc="white",
            mew=2,
            label="beyond it",
        ),
        plt.Line2D([], [], ls="--", color=COLORS["theory"], label="guessing"),
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    headline(fig, title)
    plt.show()
