"""The plots of the chapter on masked autoencoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from companion.figures.style import COLORS, WIDTH, headline, spread

_COLORS = {
    "model": COLORS["attention"],
    "MAE": COLORS["attention"],
    "from MAE": COLORS["attention"],
    "frozen MAE": COLORS["value"],
    "from scratch": COLORS["recurrent"],
    "supervised": COLORS["recurrent"],
    "untrained": COLORS["context"],
    "pixels": COLORS["theory"],
    "average": COLORS["context"],
    "similar": COLORS["value"],
    "linear": COLORS["output"],
}


def plot_pictures(
    rows: Mapping[str, Float[Tensor, "images channels height width"]],
    title: str,
    hidden: Bool[Tensor, "images height width"] | None = None,
    masked_row: str = "",
) -> None:
    """A row of pictures for each name; in ``masked_row`` the hidden pixels are blue."""
    count = len(next(iter(rows.values())))
    height = 0.97 * WIDTH / count * len(rows) + 0.5
    figure, axes = plt.subplots(
        len(rows), count, figsize=(WIDTH, height), squeeze=False
    )
    for line, (name, pictures) in zip(axes, rows.items(), strict=True):
        for n, (ax, picture) in enumerate(zip(line, pictures, strict=True)):
            shown = _as_colors(picture)
            if name == masked_row and hidden is not None:
                shown[hidden[n].cpu().numpy()] = (0.62, 0.72, 0.79)
            ax.imshow(shown, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
            for side in ax.spines.values():
                side.set_visible(False)
        line[0].set_ylabel(
            name, rotation=0, ha="right", va="center", fontsize=9.5, labelpad=6
        )
    headline(figure, title)
    figure.get_layout_engine().set(w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)
    plt.show()


def plot_baselines(
    ratios: Sequence[float],
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    title: str,
) -> None:
    """Errors against the share that is hidden, one panel a patch size."""
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.4), sharey=True)
    for ax, (name, lines) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        for method, errors in lines.items():
            dashed = method == "average"
            ax.plot(
                ratios,
                errors,
                "o--" if dashed else "o-",
                color=_COLORS[method],
                label=method,
            )
        ax.set_title(name, fontsize=10.5, fontweight="normal")
        ax.xaxis.set_major_formatter(PercentFormatter(1.0))
        ax.set(xlabel="patches hidden")
    np.atleast_1d(axes)[0].set(ylabel="mean squared error", ylim=(0, None))
    np.atleast_1d(axes)[0].legend()
    headline(figure, title)
    plt.show()


def plot_masking_ratios(
    ratios: Sequence[float],
    accuracies: Mapping[str, Sequence[Sequence[float]]],
    errors: Mapping[str, Sequence[Sequence[float]]],
    title: str,
) -> None:
    """Left, accuracy of frozen features; right, errors: against the share that is hidden."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.5))
    styles = {"linear probe": COLORS["attention"], "20 neighbors": COLORS["key"]}
    for name, runs in accuracies.items():
        spread(left, ratios, runs, name, styles[name], marker="o")
    left.yaxis.set_major_formatter(PercentFormatter(1.0))
    left.set(xlabel="patches hidden in training", ylabel="test accuracy")
    for name, runs in errors.items():
        spread(right, ratios, runs, name, _COLORS[name], marker="o")
    right.set(xlabel="patches hidden", ylabel="mean squared error", ylim=(0, None))
    for ax in (left, right):
        ax.xaxis.set_major_formatter(PercentFormatter(1.0))
        ax.set_xticks(ratios)
        ax.legend(fontsize=9)
    headline(figure, title)
    plt.show()


def plot_few_labels(
    labels: Sequence[int],
    runs: Mapping[str, Sequence[Sequence[float]]],
    measured: Mapping[str, Mapping[int, float]],
    title: str,
) -> None:
    """Accuracy against the number of labels: bands for seeds, crosses for this run."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.6))
    for name, rows in runs.items():
        spread(ax, labels, rows, name, _COLORS[name], marker="o")
        if name in measured:
            here = measured[name]
            ax.plot(
                list(here),
                list(here.values()),
                "x",
                ms=9,
                mew=2,
                color=_COLORS[name],
                label=f"{name}, this run",
            )
    ax.set(xscale="log", title=title, xlabel="labelled images", ylabel="test accuracy")
    ax.set_xticks(labels, [f"{n:,}" for n in labels])
    ax.minorticks_off()
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.legend(fontsize=9, loc="lower right")
    plt.show()


def plot_cost(
    shares: Sequence[float],
    counted: Sequence[float],
    measured: Sequence[float],
    title: str,
) -> None:
    """A training step's cost against the share that is hidden, nothing hidden being 1."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.3))
    ax.plot(shares, counted, "--", color=COLORS["theory"], label="multiply-adds")
    ax.plot(shares, measured, "o-", color=COLORS["attention"], label="time")
    ax.set(
        title=title,
        xlabel="patches hidden",
        ylabel="cost, nothing hidden = 1",
        ylim=(0, None),
    )
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    ax.legend()
    plt.show()


def _as_colors(picture: Tensor) -> np.ndarray:
    """``(channels, height, width)`` from 0 to 1 as ``(height, width, 3)``."""
    shown = picture.detach().cpu().clamp(0, 1).permute(1, 2, 0).numpy()
    return np.repeat(shown, 3, axis=2) if shown.shape[2] == 1 else shown.copy()
