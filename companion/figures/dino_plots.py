"""The plots of the chapter on DINO."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from companion.figures.style import COLORS, WIDTH, headline, label_lines, spread

_RECIPES = {
    "both": COLORS["attention"],
    "no centering": COLORS["key"],
    "no sharpening": COLORS["value"],
}


def plot_views(
    views: Sequence[Float[Tensor, "images 1 height width"]], title: str
) -> None:
    """One row an image, one column a view; small views are drawn in their proportion."""
    rows, columns = len(views[0]), len(views)
    figure, axes = plt.subplots(
        rows, columns, figsize=(WIDTH, 1.15 * rows + 0.6), squeeze=False
    )
    largest = max(view.shape[-1] for view in views)
    for column, view in enumerate(views):
        side = view.shape[-1]
        rim = (largest - side) / 2
        for row in range(rows):
            ax = axes[row, column]
            ax.imshow(view[row, 0].cpu(), cmap="gray_r", vmin=0, vmax=1)
            ax.set(
                xlim=(-rim - 0.5, side + rim - 0.5), ylim=(side + rim - 0.5, -rim - 0.5)
            )
            ax.set_axis_off()
        who = "teacher and\nstudent" if column < 2 else "student\nonly"
        axes[0, column].set_title(who, fontsize=9.5, fontweight="normal", loc="center")
    headline(figure, title)
    plt.show()


def plot_collapse(
    steps: Sequence[int],
    stored: Mapping[str, tuple[ArrayLike, ArrayLike]],
    here: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    outputs: int,
    title: str,
) -> None:
    """Entropy above, KL divergence below, over the updates.

    Args:
        steps: at which the stored ones were measured.
        stored: recipe -> entropy and KL, each ``(seeds, steps)``.
        here: recipe -> entropy and KL at each update, from 1, of this page's run.
        outputs: of the head, whose logarithm bounds the entropy.
        title: of the figure.
    """
    figure, axes = plt.subplots(2, 1, figsize=(WIDTH, 6.2), sharex=True)
    names = ("entropy of the teacher (nats)", "KL to the student (nats)")
    for ax, name, which in zip(axes, names, (0, 1), strict=True):
        for recipe, runs in stored.items():
            color = _RECIPES[recipe]
            spread(ax, steps, runs[which], recipe, color, lw=1.8)
            if recipe in here:
                values = here[recipe][which]
                at = range(10, len(values) + 1, 10)
                ax.plot(at, [values[i - 1] for i in at], ".", color=color, ms=5)
        ax.set_ylabel(name)
        ax.set_ylim(bottom=-0.03 * ax.get_ylim()[1])
    axes[0].axhline(math.log(outputs), color=COLORS["theory"], ls="--", lw=1.2)
    axes[0].annotate(
        f"log {outputs}: all outputs equal",
        (steps[-1], math.log(outputs)),
        xytext=(0, 4),
        textcoords="offset points",
        ha="right",
        fontsize=9,
        color=COLORS["theory"],
    )
    axes[1].set_xlabel("updates")
    for ax in axes:
        label_lines(ax, fontsize=9)
    headline(figure, title)
    plt.show()


def plot_accuracy(
    steps: Sequence[int],
    runs: ArrayLike,
    levels: Mapping[str, float],
    here: Mapping[int, float],
    title: str,
) -> None:
    """Nearest-neighbor accuracy over the updates, between what it is compared with.

    Args:
        steps: at which it was measured.
        runs: ``(seeds, steps)``.
        levels: name -> accuracy of other features.
        here: step -> accuracy of this page's run.
        title: of the figure.
    """
    _, ax = plt.subplots(figsize=(WIDTH, 3.9))
    spread(ax, steps, runs, "DINO", COLORS["attention"])
    for name, level in levels.items():
        ax.plot(
            [steps[0], steps[-1]],
            [level, level],
            "--",
            color=COLORS["theory"],
            lw=1.2,
            label=name,
        )
    ax.plot(list(here), list(here.values()), "o", color=COLORS["attention"])
    ax.set(title=title, xlabel="updates", ylabel="k-NN accuracy, test digits")
    ax.yaxis.set_major_formatter(lambda y, _: f"{y:.0%}")
    label_lines(ax, fontsize=9)
    plt.show()
