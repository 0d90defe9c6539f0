"""The plots of the chapter on efficient attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.colors import ListedColormap
from matplotlib.ticker import (
    FixedLocator,
    NullFormatter,
    NullLocator,
    PercentFormatter,
)
from numpy.typing import ArrayLike
from torch import Tensor

from companion.figures.style import CARD, COLORS, WIDTH, headline, label_lines, spread

# An attention has one color all through the chapter.
_COLORS = {
    "formula": COLORS["explicit"],
    "fused": COLORS["fused"],
    "full": COLORS["fused"],
    "online softmax": "#5b5b5b",
    "window": "#0072b2",
    "window + global": "#2f8fc7",
    "window, first token global": "#2f8fc7",
    "window, questions global": "#00568a",
    "BigBird": "#7a5195",
    "chunked": "#8a6d00",
    "Linformer": "#b87c00",
    "Performer": "#d55e00",
    "linear": "#c23b6b",
}
_QUERY = 20  # the row that is framed in the patterns


def plot_patterns(patterns: Mapping[str, Bool[Tensor, "length length"]]) -> None:
    """Which query may see which key, one panel a pattern, with the share of pairs seen."""
    columns = 3
    rows = -(-len(patterns) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, 2.45 * rows))
    for ax, (name, mask) in zip(axes.flat, patterns.items(), strict=False):
        seen = mask.cpu().numpy()
        colors = [COLORS["mask"], COLORS["attention"]]
        ax.imshow(seen, cmap=ListedColormap(colors), vmin=0, vmax=1)
        ax.axhspan(_QUERY - 0.5, _QUERY + 0.5, fill=False, ec=COLORS["key"], lw=1.2)
        ax.set_title(
            f"{name}\n{seen.mean():.0%} of the pairs", fontsize=9.5, fontweight="normal"
        )
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
    for ax in list(axes.flat)[len(patterns) :]:
        ax.set_axis_off()
    figure.supxlabel("key (attended to)", fontsize=10)
    figure.supylabel("query (attends)", fontsize=10)
    headline(figure, "Most pairs are never scored")
    plt.show()


def plot_costs(
    panels: Mapping[str, Mapping[str, Mapping[int, float]]], title: str
) -> None:
    """Cost against length on logarithmic axes: one panel a quantity, a line an attention."""
    figure, axes = plt.subplots(len(panels), 1, figsize=(WIDTH, 3.9 * len(panels)))
    for ax, (unit, series) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        for name, by_length in series.items():
            lengths, values = zip(*sorted(by_length.items()), strict=True)
            dashed = name in ("formula", "fused", "online softmax")
            ax.loglog(
                lengths,
                values,
                "--" if dashed else "-",
                color=_COLORS[name],
                lw=1.8,
                label=name,
            )
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_locator(FixedLocator(lengths))
        ax.xaxis.set_major_formatter(lambda n, _: f"{n:,.0f}")
        ax.set(xlabel="length n (tokens)", ylabel=unit)
        label_lines(ax, fontsize=9)
    headline(figure, title)
    plt.show()


def plot_errors(
    real: Mapping[str, Float[Tensor, "layers heads"]], baseline: str, title: str
) -> None:
    """The error of each attention: a dot a layer and head, and the mean as a bar."""
    _, ax = plt.subplots(figsize=(WIDTH, 0.42 * len(real) + 1.3))
    draw = np.random.default_rng(0)
    for row, errors in enumerate(real.values()):
        dots = errors.flatten().numpy()
        height = row + draw.uniform(-0.22, 0.22, len(dots))
        ax.plot(dots, height, ".", ms=4, alpha=0.5, color=COLORS["context"])
        ax.plot([dots.mean()] * 2, [row - 0.33, row + 0.33], color=COLORS["attention"])
    floor = real[baseline].mean().item()
    ax.axvline(floor, color=COLORS["theory"], ls="--", lw=1.2)
    ax.set(
        title=title,
        xlabel="|output - full| / |full|, logarithmic",
        yticks=range(len(real)),
        yticklabels=list(real),
        xscale="log",
        xlim=(0.08, 14),
    )
    ax.xaxis.set_major_locator(FixedLocator([0.1, 0.3, 1, 3, 10]))
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.invert_yaxis()
    plt.show()


def plot_recall(
    distances: Sequence[int],
    stored: Mapping[str, Sequence[Sequence[float]]],
    measured: Mapping[str, Sequence[float]],
    *,
    window: int,
    layers: int,
    chance: float,
) -> None:
    """Share of questions answered right against distance: bands for seeds, dots for this run."""
    half = -(-len(stored) // 2)
    groups = (list(stored)[:half], list(stored)[half:])
    _, axes = plt.subplots(2, 1, figsize=(WIDTH, 6.6), sharex=True)
    for ax, names in zip(axes, groups, strict=True):
        for edge, label in (
            (window, f"window {window}"),
            (window * layers, f"x {layers} layers"),
        ):
            ax.axvline(edge, color=COLORS["theory"], ls=":", lw=1.2)
            ax.annotate(
                label,
                (edge, 1.03),
                xytext=(3, 0),
                textcoords="offset points",
                fontsize=8.5,
                color=COLORS["theory"],
            )
        ax.axhline(chance, color=COLORS["theory"], ls="--", lw=1)
        for name in names:
            spread(ax, distances, stored[name], name, _COLORS[name])
            if name in measured:
                ax.plot(distances, measured[name], "o", color=_COLORS[name])
        ax.set_xscale("log", base=2)
        ax.set(ylabel="questions answered right", ylim=(-0.02, 1.12))
        ax.set_xticks(distances, [str(d) for d in distances])
        ax.yaxis.set_major_formatter(PercentFormatter(1))
        label_lines(ax, fontsize=9)
    axes[0].set_title("Windows find what is in them, not what layers could reach")
    axes[1].set_xlabel("positions between question and fact, at least")
    plt.show()


def plot_features(
    counts: Sequence[int],
    deviation: Mapping[str, Sequence[float]],
    estimates: Mapping[str, ArrayLike],
    exact: float,
) -> None:
    """How the estimates of one kernel value scatter, and their spread against features."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.6), width_ratios=[1, 1.35])
    colors = {
        "trigonometric": COLORS["context"],
        "positive": "#d55e00",
        "positive, orthogonal": "#0072b2",
    }
    for name, values in estimates.items():
        axes[0].hist(
            np.asarray(values),
            bins=np.linspace(-0.75, 1.25, 61),
            histtype="stepfilled",
            alpha=0.55,
            color=colors[name],
        )
    axes[0].axvline(exact, color=COLORS["theory"], ls="--", lw=1.2)
    axes[0].set(xlabel="estimate of exp(q·k/√d)", ylabel="draws", yticks=[])
    for name, values in deviation.items():
        axes[1].loglog(counts, values, "o-", color=colors[name], label=name, ms=4)
    axes[1].set(xlabel="random features", ylabel="spread / true value")
    axes[1].set_xticks(counts, [str(c) for c in counts])
    axes[1].xaxis.set_minor_formatter(NullFormatter())
    label_lines(axes[1], fontsize=9)
    headline(figure, "Right on average, at a spread that falls as 1/√features")
    plt.show()


def plot_memory(
    stored_pairs: Sequence[int], found: Mapping[str, Sequence[float]], d_k: int
) -> None:
    """How well a value is read back, against the number of pairs that are stored."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.8))
    colors = {
        "softmax": COLORS["fused"],
        "elu+1": _COLORS["linear"],
        "positive features": _COLORS["Performer"],
    }
    for name, values in found.items():
        ax.semilogx(stored_pairs, values, "o-", color=colors[name], label=name, ms=4)
    ax.axvline(d_k, color=COLORS["theory"], ls=":", lw=1.2)
    ax.annotate(f"$d_k$ = {d_k}", (d_k, 0.9), xytext=(4, 0), textcoords="offset points")
    ax.set_xticks(stored_pairs, [str(n) for n in stored_pairs])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set(
        title="A state of fixed size holds so much and no more",
        xlabel="pairs of key and value that are stored",
        ylabel="values read back right",
        ylim=(-0.03, 1.06),
    )
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    label_lines(ax)
    plt.show()


def plot_reach(reaches: Mapping[str, Sequence[Float[Tensor, "length"]]]) -> None:
    """Which inputs move the middle output after each number of layers, a strip for each."""
    figure, axes = plt.subplots(
        len(reaches), 1, figsize=(WIDTH, 0.95 * len(reaches) + 0.9), sharex=True
    )
    for ax, (name, strips) in zip(axes, reaches.items(), strict=True):
        rows = np.stack([(strip > 0).cpu().numpy() for strip in strips])
        colors = [COLORS["mask"], COLORS["attention"]]
        ax.imshow(
            rows,
            aspect="auto",
            cmap=ListedColormap(colors),
            vmin=0,
            vmax=1,
            interpolation="none",
        )
        ax.set_yticks([0, len(rows) - 1], ["1", str(len(rows))])
        ax.set_ylabel("layers")
        ax.set_title(name, fontsize=10, fontweight="normal")
        ax.grid(False)
        ax.set_yticks(np.arange(len(rows) - 1) + 0.5, minor=True)
        ax.grid(True, which="minor", axis="y", color=CARD, linewidth=1.5)
        ax.tick_params(which="minor", length=0)
    axes[-1].set_xlabel("input position")
    headline(figure, "A window reaches window × layers, a global token everything")
    plt.show()
