"""One look for every picture of the book.

Figures are PNGs at twice the screen's resolution on an opaque near-white card, so they
read the same on a light and on a dark page. They are drawn 6.5 inches wide, for a
column of 700 px; text of 11 points is then as large as the page's own, and still
readable where a phone shows the figure 400 px wide.

The hues are those of Okabe and Ito (2008), "Color Universal Design", which stay apart
for color-blind readers; the ones too pale for a thin line on white are darkened.
"""

from __future__ import annotations

import colorsys

import matplotlib as mpl
import numpy as np
import seaborn as sns
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

CARD = "#fdfdfb"
INK = "#222222"
GRID = "#e3e3de"

# A thing has the same color in every chapter.
COLORS = {
    "query": "#0072b2",  # blue
    "key": "#d55e00",  # vermilion
    "value": "#009e73",  # green
    "output": "#b0568a",  # purple
    "mask": "#c4c4be",  # gray: what may not be seen
    "attention": "#0072b2",
    "recurrent": "#d55e00",
    "explicit": "#b0568a",  # the formula, step by step
    "fused": "#009e73",  # PyTorch's kernel
    "theory": "#5b5b5b",  # what is expected, drawn dashed
    "highlight": "#d55e00",
    "context": "#a6a6a0",  # what a picture shows only for comparison
}

# White is nothing, dark blue is everything; lightness falls evenly in between.
ATTENTION_CMAP = "Blues"

_HEAD_HUES = (
    "#0072b2",
    "#b87c00",
    "#009e73",
    "#d55e00",
    "#b0568a",
    "#2f8fc7",
    "#5b5b5b",
)

WIDTH = 6.5  # inches, the full column


def use() -> None:
    """Switch matplotlib and seaborn to the book's style; call it once, at the top."""
    sns.set_theme(
        style="ticks",
        rc={
            "figure.figsize": (WIDTH, 3.7),
            "figure.dpi": 108,
            "figure.facecolor": CARD,
            "figure.constrained_layout.use": True,
            "savefig.dpi": 216,
            "savefig.facecolor": CARD,
            "savefig.pad_inches": 0.12,
            "axes.facecolor": CARD,
            "axes.edgecolor": "#77776f",
            "axes.labelcolor": INK,
            "axes.titlelocation": "left",
            "axes.titlepad": 10,
            "axes.titlesize": 12.5,
            "axes.titleweight": "bold",
            "axes.labelsize": 11,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": cycler(color=_HEAD_HUES),
            "grid.color": GRID,
            "grid.linewidth": 0.7,
            "lines.linewidth": 2.0,
            "lines.markersize": 5,
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib
            "font.size": 11,
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
            "xtick.major.size": 3.5,
            "ytick.major.size": 3.5,
            "legend.frameon": False,
            "legend.fontsize": 10,
            "image.cmap": ATTENTION_CMAP,
        },
    )
    _draw_inline_at_twice_the_resolution()


def head_color(head: int) -> str:
    """The color of head number ``head``, from 0; from the eighth on, darker shades."""
    if head < 0:
        raise ValueError(f"head must be at least 0, but it is {head}")
    turn, hue = divmod(head, len(_HEAD_HUES))
    h, lightness, s = colorsys.rgb_to_hls(*to_rgb(_HEAD_HUES[hue]))
    return to_hex(colorsys.hls_to_rgb(h, lightness * 0.6**turn, s))


def spread(
    ax: Axes, x: ArrayLike, runs: ArrayLike, label: str, color: str, **line: object
) -> None:
    """Draw the mean over seeds as a line, and from the lowest to the highest as a band.

    Args:
        ax: where to draw.
        x: the ``n`` positions.
        runs: ``(seeds, n)``, one row a seed.
        label: the line's name, for `label_lines` or a legend.
        color: of line and band.
        line: more options of ``ax.plot``.
    """
    x, runs = np.asarray(x), np.asarray(runs, dtype=float)
    if runs.ndim != 2 or runs.shape[1:] != x.shape:
        raise ValueError(
            f"runs must have shape (seeds, {len(x)}), one column for each x, "
            f"but it has shape {runs.shape}"
        )
    ax.plot(x, runs.mean(axis=0), label=label, color=color, **line)
    ax.fill_between(
        x, runs.min(axis=0), runs.max(axis=0), color=color, alpha=0.18, linewidth=0
    )


def headline(figure: Figure, text: str) -> None:
    """Write what the picture shows above all its panels, at the left."""
    figure.suptitle(text, fontweight="bold", fontsize=12.5, x=0.01, ha="left")


def label_lines(ax: Axes, *, fontsize: float = 10) -> None:
    """Write each labelled line's name at its right end, in its color, without overlap.

    Call it when all lines are drawn and the scales and limits are set.
    """
    ends = []
    for line in ax.get_lines():
        xy = line.get_xydata()
        xy = xy[np.isfinite(xy).all(axis=1)]
        if len(xy) and not line.get_label().startswith("_"):
            ends.append((line, xy[np.argmax(xy[:, 0])]))
    ax.figure.draw_without_rendering()  # the layout decides how high a point is
    to_points = 72 / ax.figure.dpi
    heights = [ax.transData.transform(end)[1] * to_points for _, end in ends]
    places = _spaced_out(heights, gap=1.25 * fontsize)
    for (line, end), height, place in zip(ends, heights, places, strict=True):
        ax.annotate(
            line.get_label(),
            end,
            xytext=(6, place - height),
            textcoords="offset points",
            color=line.get_color(),
            fontsize=fontsize,
            fontweight="bold",
            va="center",
            annotation_clip=False,
        )


def _spaced_out(heights: list[float], gap: float) -> list[float]:
    """The nearest heights that are at least ``gap`` apart, in the same order."""
    order = np.argsort(heights, kind="stable")
    steps = gap * np.arange(len(heights))
    # Apart by at least the gap means: less the steps, never falling. The nearest such
    # sequence is the isotonic regression, found by pooling neighbors that fall.
    pools: list[tuple[float, int]] = []
    for value in np.asarray(heights)[order] - steps:
        mean, size = float(value), 1
        while pools and pools[-1][0] > mean:
            before, count = pools.pop()
            mean = (mean * size + before * count) / (size + count)
            size += count
        pools.append((mean, size))
    level = [mean for mean, size in pools for _ in range(size)]
    places = np.empty(len(heights))
    places[order] = level + steps
    return places.tolist()


def _draw_inline_at_twice_the_resolution() -> None:
    if "inline" not in mpl.get_backend().lower():
        return
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("retina")
