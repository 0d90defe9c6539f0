"""The plots of the chapter on Swin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter
from torch import Tensor

from companion.figures.style import (
    CARD,
    COLORS,
    INK,
    WIDTH,
    headline,
    label_lines,
    spread,
)

# A model has one color all through the chapter.
_COLORS = {
    "Swin": "#0072b2",
    "windows only": "#d55e00",
    "no relative bias": "#b87c00",
    "ViT": "#009e73",
}
_REGIONS = ("#9ecae1", "#fdd0a2", "#a1d99b", "#dadaeb")


def plot_shift(size: int, window: int, shift: int) -> None:
    """A grid in windows, the same moved by ``shift``, and rolled so that windows fit again."""
    place = np.arange(size**2).reshape(size, size)
    at = np.arange(size)
    # 0 stays; 1 came around from the left edge, 2 from the top, 3 from the corner.
    region = 2 * (at < shift)[:, None] + (at < shift)
    panels = (
        ("windows", np.zeros_like(region), place, 0),
        (f"moved by {shift}", region, place, shift),
        (
            f"rolled by −{shift}",
            np.roll(region, (-shift, -shift), (0, 1)),
            np.roll(place, (-shift, -shift), (0, 1)),
            0,
        ),
    )
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.7))
    for ax, (title, colors, numbers, start) in zip(axes, panels, strict=True):
        ax.imshow(colors, cmap=ListedColormap(_REGIONS), vmin=0, vmax=3)
        for (row, column), number in np.ndenumerate(numbers):
            ax.text(column, row, number, ha="center", va="center", fontsize=7.5)
        _window_lines(ax, size, window, start)
        ax.set_title(title, fontsize=10, fontweight="normal")
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
    headline(figure, "A roll brings the cut windows together again")
    plt.show()


def plot_masks(
    mask: Bool[Tensor, "windows 1 tokens tokens"], names: Sequence[str]
) -> None:
    """Who may see whom in each window: row = query, column = key."""
    figure, axes = plt.subplots(1, len(mask), figsize=(WIDTH, 2.7))
    for ax, seen, name in zip(axes, mask[:, 0].cpu().numpy(), names, strict=True):
        colors = [COLORS["mask"], COLORS["attention"]]
        ax.imshow(seen, cmap=ListedColormap(colors), vmin=0, vmax=1)
        ax.set_title(
            f"{name}\n{seen.mean():.0%} seen", fontsize=9.5, fontweight="normal"
        )
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
    axes[0].set_ylabel("query")
    figure.supxlabel("key", fontsize=10)
    headline(figure, "The last windows hold strangers, who may not see each other")
    plt.show()


def plot_costs(
    panels: Mapping[str, Mapping[str, Mapping[int, float]]], title: str
) -> None:
    """Cost against pixels on logarithmic axes: one panel a quantity, a line a model."""
    figure, axes = plt.subplots(len(panels), 1, figsize=(WIDTH, 3.3 * len(panels)))
    for ax, (unit, series) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        sides = sorted({side for by_side in series.values() for side in by_side})
        for name, by_side in series.items():
            points = sorted(by_side.items())
            ax.loglog(
                [side**2 for side, _ in points],
                [value for _, value in points],
                "o-",
                color=_COLORS[name],
                label=name,
            )
        ax.xaxis.set_major_locator(FixedLocator([side**2 for side in sides]))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xticklabels([f"{side}²" for side in sides])
        ax.set(xlabel="pixels of the image", ylabel=unit)
        label_lines(ax)
    headline(figure, title)
    plt.show()


def plot_places(
    shares: Mapping[str, Float[Tensor, "rows columns"]], window: int
) -> None:
    """The share of digits that each patch names right, one picture a model."""
    figure, axes = plt.subplots(1, len(shares), figsize=(WIDTH, 2.7))
    for ax, (name, share) in zip(axes, shares.items(), strict=True):
        image = ax.imshow(share, vmin=0, vmax=1, cmap="Blues")
        _window_lines(ax, len(share), window, 0)
        title = f"{name}\n{share.mean():.0%} on average"
        ax.set_title(title, fontsize=10, fontweight="normal")
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.75, label="named right")
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1))
    headline(figure, "A window that never shifts knows its quarter of the digit")
    plt.show()


def plot_moves(
    moves: Sequence[int],
    runs: Mapping[str, Sequence[Sequence[float]]],
    steps: Sequence[int],
) -> None:
    """Accuracy on images that are moved: a line a model, a band over seeds."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.9))
    for step in steps:
        ax.axvline(step, color=COLORS["theory"], ls=":", lw=1.2)
        ax.annotate(
            "one patch",
            (step, 1.0),
            xytext=(4, -2),
            textcoords="offset points",
            fontsize=9,
            color=COLORS["theory"],
            va="top",
        )
    for name, of_seeds in runs.items():
        spread(ax, moves, of_seeds, name, _COLORS[name], marker="o")
    ax.axhline(0.1, color=COLORS["theory"], ls="--", lw=1)
    ax.set(
        title="Moved digits: the ViT only falls, Swin comes some way back",
        xlabel="digit moved to the right (pixels)",
        ylabel="digits named right",
        ylim=(0, 1.02),
    )
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    label_lines(ax)
    plt.show()


def plot_bias(tables: Float[Tensor, "blocks offsets heads"]) -> None:
    """The learned bias of each head (row) in each block (column), by offset."""
    blocks, offsets, heads = tables.shape
    side = round(offsets**0.5)
    reach = side // 2
    figure, axes = plt.subplots(
        heads, blocks, figsize=(WIDTH, 1.6 * heads + 0.9), squeeze=False
    )
    limit = tables.abs().max().item()
    for (head, block), ax in np.ndenumerate(axes):
        # The table counts query minus key; drawn is where the key stands.
        grid = tables[block, :, head].reshape(side, side).flip(0, 1)
        image = ax.imshow(
            grid.cpu(),
            cmap="RdBu",
            vmin=-limit,
            vmax=limit,
            extent=(-reach - 0.5, reach + 0.5, reach + 0.5, -reach - 0.5),
        )
        ax.set(xticks=[-reach, 0, reach], yticks=[-reach, 0, reach])
        ax.grid(False)
        if head == 0:
            ax.set_title(f"block {block + 1}", fontsize=10, fontweight="normal")
        if block == 0:
            ax.set_ylabel(f"head {head}")
    figure.supxlabel("columns from the query to the key", fontsize=10)
    figure.colorbar(image, ax=axes, shrink=0.8, label="added to the score")
    headline(figure, "Heads come to prefer some offsets and to shun others")
    plt.show()


def _window_lines(ax: Axes, size: int, window: int, start: int) -> None:
    for edge in range(start, size + 1, window):
        for draw in (ax.axhline, ax.axvline):
            draw(edge - 0.5, color=INK, lw=1.6, clip_on=False)
    ax.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5))
    ax.set_facecolor(CARD)
