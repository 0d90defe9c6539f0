"""The plots of the section on cheaper models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullLocator, PercentFormatter
from torch import Tensor

from companion.figures.style import COLORS, WIDTH, head_color

Rows = Sequence[Mapping[str, str]]


def plot_adapters(rows: Rows, tested: int) -> None:
    """Test accuracy against the number of trained parameters, a point a run."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.6))
    names = {"frozen": "head only", "full": "everything"}
    for method in dict.fromkeys(row["method"] for row in rows):
        runs = [row for row in rows if row["method"] == method]
        trained = int(runs[0]["trained"])
        accuracy = [float(row["accuracy"]) for row in runs]
        mean = sum(accuracy) / len(accuracy)
        error = (mean * (1 - mean) / tested) ** 0.5
        color = COLORS["context"] if method == "frozen" else COLORS["query"]
        color = COLORS["key"] if method == "full" else color
        ax.errorbar(trained, mean, error, color=color, capsize=4, linewidth=1.2)
        ax.plot([trained] * len(accuracy), accuracy, "o", color=color)
        ax.annotate(
            names.get(method, f"rank {method}"),
            (trained, max(*accuracy, mean + error)),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            color=color,
            fontweight="bold",
            fontsize=10,
        )
    ax.set(
        title="A rank of 4 does what 22 million parameters do",
        xlabel="trained parameters",
        ylabel="test accuracy",
        xscale="log",
        xlim=(300, 8e7),
        ylim=(0.74, 0.86),
    )
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    plt.show()


def plot_errors(errors: Mapping[str, Mapping[str, float]], title: str) -> None:
    """Relative error of each weight matrix, a mark for each way of rounding.

    Args:
        errors: way of rounding -> name of the matrix -> error.
        title: of the figure.
    """
    _, ax = plt.subplots(figsize=(WIDTH, 4.4))
    colors = (COLORS["key"], COLORS["query"], COLORS["value"])
    for (way, found), color in zip(errors.items(), colors, strict=False):
        places = np.arange(len(found))
        ax.plot(places, list(found.values()), "o", color=color, label=way)
    names = list(next(iter(errors.values())))
    ax.set_xticks(np.arange(len(names)), names, rotation=90, fontsize=8)
    ax.set(title=title, ylabel="relative error of the weights", yscale="log")
    ax.set_xlabel("matrix (layer and name)")
    ax.set_ylim(0.004, 0.7)
    ax.legend(loc="upper center", ncols=3, frameon=False, fontsize=9)
    plt.show()


def plot_features(largest: Tensor, layer: str, threshold: float) -> None:
    """The largest size of each feature of a layer's input, sorted."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.2))
    values = largest.sort(descending=True).values.cpu()
    above = int((values >= threshold).sum())
    places = np.arange(1, len(values) + 1)
    ax.plot(places, values, ".", color=COLORS["query"])
    ax.plot(places[:above], values[:above], "o", color=COLORS["highlight"])
    ax.axhline(threshold, color=COLORS["theory"], linestyle="--", linewidth=1.2)
    ax.set(
        title=f"{above} of {len(values)} features are far larger than the rest",
        xlabel=f"feature of the input of {layer}, sorted",
        ylabel="largest absolute value",
        xscale="log",
        yscale="log",
    )
    plt.show()


def plot_usage(usages: Mapping[str, Tensor], titles: Mapping[str, str]) -> None:
    """For each model, the share of choices that went to each expert of each layer."""
    _, axes = plt.subplots(1, len(usages), figsize=(WIDTH, 3.2), sharey=True)
    for ax, (name, usage) in zip(np.atleast_1d(axes), usages.items(), strict=True):
        experts = np.arange(1, usage.shape[1] + 1)
        for layer, row in enumerate(usage.cpu()):
            offset = 0.4 * (layer - (len(usage) - 1) / 2)
            ax.bar(
                experts + offset,
                row.sort(descending=True).values,
                width=0.4,
                color=head_color(layer),
                label=f"layer {layer + 1}",
            )
        ax.axhline(1 / usage.shape[1], color=COLORS["theory"], linestyle="--")
        ax.set(title=titles[name], xlabel="expert, the busiest first")
        ax.set_xticks(experts)
        ax.title.set_fontsize(11)
    first = np.atleast_1d(axes)[0]
    first.set_ylabel("share of the choices")
    first.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    first.legend(loc="upper right")
    plt.show()


def plot_experts(rows: Rows, title: str) -> None:
    """Test loss of each model, a point a seed, against the parameters a token meets."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.4))
    colors = (COLORS["value"], COLORS["output"], COLORS["query"], COLORS["key"])
    names = list(dict.fromkeys(row["model"] for row in rows))
    for place, (name, color) in enumerate(zip(names, colors, strict=False)):
        runs = [row for row in rows if row["model"] == name]
        bits = [float(row["bits"]) for row in runs]
        ax.plot(bits, [place] * len(bits), "o", color=color, markersize=8)
        active, total = (int(runs[0][key]) // 1000 for key in ("active", "total"))
        ax.annotate(
            f"{active}k of {total}k",
            (max(bits), place),
            xytext=(10, 0),
            textcoords="offset points",
            va="center",
            fontsize=10,
            color=color,
        )
    ax.set_yticks(range(len(names)), names)
    ax.set(
        title=title, xlabel="test loss (bits a letter)", ylim=(len(names) - 0.5, -0.5)
    )
    low, high = ax.get_xlim()
    ax.set_xlim(low, high + 0.3 * (high - low))
    ax.yaxis.set_minor_locator(NullLocator())
    plt.show()
