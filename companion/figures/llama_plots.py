"""The plots of the chapter on LLaMA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullLocator

from companion.figures.style import COLORS, WIDTH, label_lines


def plot_ladder(
    stored: Mapping[str, Sequence[float]], measured: Mapping[str, float]
) -> None:
    """Loss of each way to build the block: a dot a seed, a bar at the mean."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.6))
    names = list(stored)
    for row, name in enumerate(names):
        losses = np.asarray(stored[name])
        color = COLORS["query"] if "LLaMA" in name else COLORS["theory"]
        ax.plot(losses, [row] * len(losses), "o", color=color, alpha=0.6, ms=6)
        ax.plot([losses.mean()] * 2, [row - 0.3, row + 0.3], color=color, lw=2.5)
    ax.set(
        title="Rotary positions make the difference",
        xlabel="loss on unseen text (nats a character)",
        yticks=range(len(names)),
    )
    ax.set_yticklabels(names)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    plt.show()


def plot_cache(
    lengths: Sequence[int], gigabytes: Mapping[str, Sequence[float]]
) -> None:
    """Bytes of the key-value cache against the length of the text."""
    _, ax = plt.subplots(figsize=(WIDTH, 4.0))
    colors = [COLORS["recurrent"], "#b87c00", COLORS["value"], COLORS["query"]]
    for (name, sizes), color in zip(gigabytes.items(), colors, strict=False):
        ax.loglog(lengths, sizes, label=name, color=color)
    ax.set(
        title="Fewer key heads shift the line, a window bends it",
        xlabel="text (tokens)",
        ylabel="cache of one text (GB, 16 bits)",
    )
    ax.set_xticks(lengths[::2], [f"{n:,}" for n in lengths[::2]])
    ax.xaxis.set_minor_locator(NullLocator())
    label_lines(ax)
    plt.show()


def plot_token_probabilities(
    tokens: Sequence[str], probabilities: Sequence[float], *, title: str
) -> None:
    """A text in which each token's color says how likely the model found it.

    Args:
        tokens: as text, with their blanks.
        probabilities: of each token given those before it.
        title: the answer that the picture gives.
    """
    width = 62  # characters in a line
    column, row, places = 0, 0, []
    for token in tokens:
        shown = token.replace("\n", "⏎")
        if column and column + len(shown) > width:
            column, row = 0, row + 1
        places.append((column, row, shown))
        column += len(shown)
        if "\n" in token:
            column, row = 0, row + 1
    rows = places[-1][1] + 1
    _, ax = plt.subplots(figsize=(WIDTH, 0.9 + 0.3 * rows))
    colors, norm = mpl.colormaps["cividis"], mpl.colors.LogNorm(1e-3, 1.0)
    for (x, y, shown), p in zip(places, probabilities, strict=True):
        shade = colors(norm(min(max(p, 1e-3), 1.0)))
        ax.add_patch(plt.Rectangle((x, y), len(shown), 0.86, color=shade, lw=0))
        dark = sum(shade[:3]) < 1.5
        for i, letter in enumerate(shown):
            ax.text(
                x + i + 0.5,
                y + 0.45,
                letter,
                ha="center",
                va="center",
                fontsize=9,
                family="DejaVu Sans Mono",
                color="white" if dark else "black",
            )
    ax.set(xlim=(0, width), ylim=(rows, -0.1), title=title)
    ax.axis("off")
    bar = plt.colorbar(
        mpl.cm.ScalarMappable(norm, colors),
        ax=ax,
        orientation="horizontal",
        fraction=0.12,
        pad=0.04,
        aspect=50,
    )
    bar.set_label("probability of the token when it was its turn", fontsize=10)
    bar.ax.set_xticks([0.001, 0.01, 0.1, 1.0], ["0.001 or less", "0.01", "0.1", "1"])
    plt.show()
