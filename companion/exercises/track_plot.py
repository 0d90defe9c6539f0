"""The picture of a reader's progress."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from companion.figures.style import CARD, COLORS, INK, WIDTH

if TYPE_CHECKING:
    from companion.exercises.track import Progress

# Filled, ringed with a dot, empty: readable without the colors.
_LOOKS = {
    "solved": {"marker": "s", "color": COLORS["value"], "fillstyle": "full"},
    "tried": {"marker": "s", "color": COLORS["key"], "fillstyle": "left"},
    "open": {"marker": "s", "color": COLORS["context"], "fillstyle": "none"},
}


def plot_progress(progress: Progress) -> Figure:
    """A row a chapter, a square an exercise; the title says how many are solved."""
    chapters = progress.chapters
    # Not through pyplot: the figure must not show a second time at the end of the cell.
    figure = Figure(figsize=(WIDTH, 0.9 + 0.27 * len(chapters)), facecolor=CARD)
    axes = figure.add_axes((0.25, 0.09, 0.73, 0.79), facecolor=CARD)
    for row, tasks in enumerate(chapters.values()):
        for column, (_, state) in enumerate(tasks):
            axes.plot(
                column, row, linestyle="", markersize=11, markeredgewidth=1.4,
                markerfacecoloralt=CARD, **_LOOKS[state],
            )  # fmt: skip
    longest = max(map(len, chapters.values()), default=1)
    axes.set(xlim=(-0.7, longest - 0.3), ylim=(len(chapters) - 0.4, -0.6))
    axes.set_yticks(range(len(chapters)), list(chapters), color=INK, fontsize=10)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    total = sum(map(len, chapters.values()))
    figure.suptitle(
        f"{progress.count('solved')} of {total} exercises solved",
        color=INK,
        fontsize=12,
    )
    handles = [
        Line2D([], [], linestyle="", markersize=9, markerfacecoloralt=CARD, label=state,
               **look)
        for state, look in _LOOKS.items()
    ]  # fmt: skip
    figure.legend(
        handles=handles, loc="lower right", ncols=3, frameon=False, fontsize=10
    )
    return figure


def as_png(figure: Figure) -> bytes:
    """The picture at twice the screen's resolution."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=144)
    return buffer.getvalue()
