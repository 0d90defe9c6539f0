"""The plots of the chapter on BERT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from companion.figures.style import COLORS, WIDTH, label_lines, spread

# A method has one color in all plots of the chapter.
_METHODS = {
    "pre-trained": COLORS["query"],
    "fine-tuned": COLORS["query"],
    "MiniLM": COLORS["query"],
    "frozen": COLORS["value"],
    "from scratch": COLORS["key"],
    "untrained": COLORS["context"],
    "bag of words": "#b87c00",
    "BM25": "#b87c00",
}


def plot_masking(
    tokens: Sequence[str], inputs: Sequence[Sequence[str]], asked: Sequence[set[int]]
) -> None:
    """A sentence as the model sees it in a few draws of the mask, one row a draw."""
    _, ax = plt.subplots(figsize=(WIDTH, 0.42 * (len(inputs) + 1) + 0.7))
    kinds = {
        "not asked for": ("#eeeeea", "#222222"),
        "hidden (80 %)": (COLORS["query"], "white"),
        "replaced (10 %)": (COLORS["key"], "white"),
        "left as it is (10 %)": (COLORS["value"], "white"),
    }

    def kind_of(row: int, i: int) -> str:
        if i not in asked[row]:
            return "not asked for"
        if inputs[row][i] == "[MASK]":
            return "hidden (80 %)"
        same = inputs[row][i] == tokens[i]
        return "left as it is (10 %)" if same else "replaced (10 %)"

    for row, shown in enumerate([tokens, *inputs]):
        for i, token in enumerate(shown):
            kind = "not asked for" if row == 0 else kind_of(row - 1, i)
            back, ink = kinds[kind]
            ax.add_patch(plt.Rectangle((i - 0.48, row - 0.4), 0.96, 0.8, color=back))
            ax.text(i, row, token, ha="center", va="center", color=ink, fontsize=8)
    for kind, (back, _) in kinds.items():
        ax.plot([], [], "s", color=back, ms=9, label=kind)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=4, fontsize=8.5)
    ax.set(
        title="The same sentence is a new exercise in each epoch",
        xlim=(-0.6, len(tokens) - 0.4),
        ylim=(len(inputs) + 0.5, -0.5),
        xticks=[],
        yticks=range(len(inputs) + 1),
        yticklabels=["text", *(f"epoch {n + 1}" for n in range(len(inputs)))],
    )
    ax.grid(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    plt.show()


def plot_search(ranks: Mapping[str, Sequence[int]], cuts: Sequence[int]) -> None:
    """For each method, the share of queries whose verse is among the first k."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.6))
    for name, places in ranks.items():
        found = [sum(p <= cut for p in places) / len(places) for cut in cuts]
        ax.plot(range(len(cuts)), found, "o-", color=_METHODS[name], label=name)
    ax.set(
        title="Search by meaning finds what shares no word",
        xlabel="verses shown, k",
        ylabel="share of queries answered",
        xticks=range(len(cuts)),
        xticklabels=cuts,
        ylim=(0, 1),
    )
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    label_lines(ax)
    plt.show()


def plot_by_labels(
    curves: Mapping[str, Mapping[int, Sequence[float]]],
    title: str,
    ylabel: str,
    *,
    chance: float,
    reference: tuple[str, float] | None = None,
    points: Mapping[str, tuple[int, float]] | None = None,
) -> None:
    """Accuracy against the number of labels: mean over seeds, and from worst to best.

    Args:
        curves: method -> number of labels -> a value for each seed.
        title, ylabel: what the plot says, and of what.
        chance: accuracy of a guess.
        reference: a name and a level to draw across.
        points: method -> number of labels and accuracy, of a run on the page.
    """
    _, ax = plt.subplots(figsize=(WIDTH, 3.8))
    for name, by_number in curves.items():
        numbers = sorted(by_number)
        seeds = min(len(by_number[n]) for n in numbers)
        means = [sum(by_number[n]) / len(by_number[n]) for n in numbers]
        if seeds > 1:
            runs = [[by_number[n][seed] for n in numbers] for seed in range(seeds)]
            spread(ax, numbers, runs, name, _METHODS[name], marker="o")
        else:
            ax.plot(numbers, means, "o-", color=_METHODS[name], label=name)
    for name, (number, value) in (points or {}).items():
        ax.plot(number, value, "D", color=_METHODS[name], mec="black", ms=7)
    ax.axhline(chance, color=COLORS["theory"], ls=":", lw=1.2)
    ax.annotate("chance", (numbers[0], chance), (0, 3), textcoords="offset points")
    if reference:
        ax.axhline(reference[1], color=COLORS["theory"], ls="--", lw=1.2)
        ax.annotate(
            reference[0],
            (numbers[0], reference[1]),
            (0, 4),
            textcoords="offset points",
        )
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(numbers))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticklabels([f"{n:,}" for n in numbers])
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.set(title=title, xlabel="labels to learn from", ylabel=ylabel)
    label_lines(ax)
    plt.show()


def plot_groups(
    groups: Mapping[str, Mapping[str, float]], title: str, xlabel: str
) -> None:
    """Dots on a line for each group, one a method: group -> method -> share.

    The methods have the colors of the order in which they come: baselines first, the
    fine-tuned model last.
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 0.45 * len(groups) + 1.7))
    methods = list(dict.fromkeys(m for values in groups.values() for m in values))
    baselines = ["#a6a6a0", "#b87c00", COLORS["key"]]
    colors = [*baselines[: len(methods) - 1], COLORS["query"]]
    for method, color in zip(methods, colors, strict=True):
        found = [values[method] for values in groups.values()]
        ax.plot(found, range(len(groups)), "o", color=color, ms=9, label=method)
    for y, values in enumerate(groups.values()):
        low, high = min(values.values()), max(values.values())
        ax.plot([low, high], [y, y], color="#cfcfc8", lw=2, zorder=0)
    ax.set_yticks(range(len(groups)), list(groups))
    ax.set(title=title, xlabel=xlabel, xlim=(-0.03, 1.03))
    ax.set_ylim(len(groups) - 0.5, -0.5)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    figure.legend(loc="outside lower center", ncols=2 if len(methods) > 3 else 3)
    plt.show()
