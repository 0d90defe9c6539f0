"""The plots of the chapter on the decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import (
    FixedLocator,
    NullFormatter,
    NullLocator,
    PercentFormatter,
)
from torch import Tensor

from companion.figures.heatmaps import attention_heatmap
from companion.figures.style import COLORS, WIDTH, headline, label_lines

_OCHER = "#b87c00"


def plot_losses(losses: Mapping[str, Sequence[float]], honest: str) -> None:
    """Loss against step for several ways to train; ``honest`` is the one that works."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.9))
    cheats = iter([COLORS["recurrent"], _OCHER])
    for name, values in losses.items():
        color = COLORS["query"] if name == honest else next(cheats)
        smooth = np.convolve(values, np.ones(5) / 5, mode="valid")
        ax.semilogy(np.arange(len(smooth)) + 3, smooth, color=color, label=name)
    ax.set(
        title="The two lowest losses are worth nothing",
        xlabel="training step",
        ylabel="loss (nats per letter)",
    )
    ax.yaxis.set_major_locator(FixedLocator([0.01, 0.1, 1, 3]))
    ax.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
    ax.yaxis.set_minor_locator(NullLocator())
    label_lines(ax)
    plt.show()


def plot_influence(
    by_target: Tensor,
    by_source: Tensor,
    targets: Sequence[str],
    sources: Sequence[str],
) -> None:
    """Which target and which source token moves which output, as shares of a row."""
    figure, axes = plt.subplots(
        1, 2, figsize=(WIDTH, 3.7), width_ratios=[len(targets), len(sources)]
    )
    panels = (
        (axes[0], by_target, targets, "moved: target token"),
        (axes[1], by_source, sources, "moved: source token"),
    )
    for ax, slope, names, label in panels:
        share = slope / slope.amax(dim=1, keepdim=True)
        attention_heatmap(ax, share, targets, names, mask=slope > 0)
        ax.set(xlabel=label, ylabel="")
    axes[0].set_ylabel("output after")
    axes[1].set_yticks([])
    headline(figure, "Outputs hear the whole source and none of the future")
    plt.show()


def plot_reading(
    weights: Tensor, words: Sequence[str], digits: Sequence[str], title: str
) -> None:
    """The cross-attention map: a row for each word about to be written."""
    _, ax = plt.subplots(figsize=(4.6, 5.4))
    attention_heatmap(ax, weights, words, digits, title=title, numbers=True)
    ax.tick_params(axis="x", labelrotation=0)
    ax.set(xlabel="key: source token", ylabel="query: word about to be written")
    plt.show()


def plot_forced_and_free(
    measured: Mapping[str, tuple[Sequence[float], Sequence[float]]],
) -> None:
    """Accuracy by position, fed the truth (dashed) and left alone."""
    figure, axes = plt.subplots(1, len(measured), figsize=(WIDTH, 3.5), sharey=True)
    for ax, (name, (forced, free)) in zip(axes, measured.items(), strict=True):
        place = np.arange(1, len(forced) + 1)
        ax.plot(place, forced, "o--", color=COLORS["theory"], label="fed the truth")
        ax.plot(place, free, "o-", color=COLORS["query"], label="left alone")
        ax.set_title(name, fontsize=11, fontweight="normal")
        ax.set(xlabel="position in the target", ylim=(0, 1.04))
        ax.xaxis.set_major_locator(FixedLocator(range(1, len(forced) + 1, 2)))
        ax.yaxis.set_major_formatter(PercentFormatter(1))
    axes[0].set_ylabel("words right")
    axes[0].legend(loc="lower left")
    headline(figure, "A model that errs pays for it in all that follows")
    plt.show()


def plot_step_times(lengths: Sequence[int], ms: Mapping[str, Sequence[float]]) -> None:
    """Time for one more token against the length of the text, logarithmic axes."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.9))
    colors = {"without cache": COLORS["recurrent"], "with cache": COLORS["query"]}
    for name, values in ms.items():
        ax.loglog(lengths, values, "o-", color=colors[name], label=name)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_locator(FixedLocator(lengths))
    ax.xaxis.set_major_formatter(lambda n, _: f"{n:.0f}")
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
    ax.set(
        title="The cache takes the length out of a step's cost",
        xlabel="length of the text so far (tokens)",
        ylabel="time for the next token (ms)",
    )
    label_lines(ax)
    plt.show()


def plot_distributions(
    panels: Mapping[str, Tensor], letters: Sequence[str], title: str
) -> None:
    """One distribution after several treatments; what was cut is drawn as a gray dot.

    The first panel gives the order, likeliest first, and is drawn faintly behind all.
    """
    figure, axes = plt.subplots(
        (len(panels) + 1) // 2, 2, figsize=(WIDTH, 6.6), sharex=True, sharey=True
    )
    original = next(iter(panels.values())).cpu()
    order = original.argsort(descending=True)[:10]
    x = np.arange(len(order))
    for ax, (name, p) in zip(axes.flat, panels.items(), strict=False):
        p = p.cpu()[order]
        ax.bar(x, original[order], color=COLORS["context"], alpha=0.35, width=0.85)
        ax.bar(x, p, color=COLORS["query"], width=0.5)
        cut = (p == 0).numpy()
        ax.plot(x[cut], np.zeros(cut.sum()), "x", color=COLORS["highlight"], ms=5)
        ax.set_title(name, fontsize=10.5, fontweight="normal")
        ax.set_xticks(x, [letters[i] for i in order.tolist()])
        ax.grid(axis="x", visible=False)
    for ax in axes[:, 0]:
        ax.set_ylabel("probability")
    for ax in axes[-1]:
        ax.set_xlabel("next letter")
    headline(figure, title)
    plt.show()


def plot_quality(
    points: Mapping[str, tuple[float, float]],
    families: Mapping[str, Sequence[str]],
    real: tuple[float, float],
) -> None:
    """Share of real words against variety, a family of settings as one line.

    Args:
        points: setting -> (variety, share of real words).
        families: family -> its settings, in order; one color each.
        real: the same two numbers for held-out text.
    """
    _, ax = plt.subplots(figsize=(WIDTH, 4.6))
    palette = [COLORS["theory"], COLORS["query"], COLORS["recurrent"], COLORS["value"]]
    # Where the labels of a family's first and last point stand.
    sides = [
        ((7, 0), (7, 0)),
        ((6, 7), (4, 8)),
        ((-8, -16), (-28, -12)),
        ((-36, -4), (7, -11)),
        ((-8, 10), (4, 8)),
    ]
    for color, side, (family, names) in zip(
        [*palette, _OCHER], sides, families.items(), strict=False
    ):
        x, y = zip(*(points[name] for name in names), strict=True)
        ax.plot(x, y, "o-", color=color, lw=1.4, label=family)
        for name, place in dict(zip((names[0], names[-1]), side, strict=True)).items():
            ax.annotate(
                name,
                points[name],
                xytext=place,
                textcoords="offset points",
                fontsize=9.5,
                color=color,
                weight="bold",
            )
    ax.plot(*real, "*", ms=15, color="#222222")
    ax.annotate("Shakespeare", real, (10, -4), textcoords="offset points")
    ax.set(
        title="What gains variety loses words",
        xlabel="variety: different words for each word written",
        ylabel="letters in real words",
        ylim=(0, 1.05),
    )
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="lower left")
    plt.show()


def plot_tree(
    tree: Mapping[str, Mapping[str, float]], greedy: str, best: str, title: str
) -> None:
    """A tree of two steps with the probability of each branch and of each leaf.

    Args:
        tree: first token -> second token -> probability; ``tree[""]`` is the first step.
        greedy: the text that greedy search finds.
        best: the likeliest text.
        title: the answer that the picture gives.
    """
    _, ax = plt.subplots(figsize=(WIDTH, 4.2))
    leaves = [a + b for a in tree[""] for b in tree[a]]
    height = {leaf: -i for i, leaf in enumerate(leaves)}
    for a in tree[""]:
        height[a] = np.mean([height[a + b] for b in tree[a]])
    height[""] = np.mean([height[a] for a in tree[""]])

    def edge(start: str, end: str, p: float) -> None:
        color, width = COLORS["context"], 1.5
        if greedy.startswith(end):
            color, width = COLORS["recurrent"], 3
        if best.startswith(end):
            color, width = COLORS["query"], 3
        x = len(start), len(end)
        ax.plot(x, (height[start], height[end]), color=color, lw=width)
        middle = (height[start] + 2 * height[end]) / 3
        ax.text(
            len(start) + 0.66, middle, f"{p:.2f}", ha="center", va="center",
            fontsize=9.5, bbox={"fc": "#fdfdfb", "ec": "none", "pad": 1.5},
        )  # fmt: skip

    for a, p in tree[""].items():
        edge("", a, p)
        for b, q in tree[a].items():
            edge(a, a + b, q)
            leaf = a + b
            color = {greedy: COLORS["recurrent"], best: COLORS["query"]}.get(leaf)
            ax.text(
                2.06, height[leaf], f"{leaf}: {p:.2f} × {q:.2f} = {p * q:.2f}",
                va="center", fontsize=10.5, color=color or "#222222",
                weight="bold" if color else "normal",
            )  # fmt: skip
    ax.set(title=title, xlim=(-0.05, 3.0))
    for node, place in [
        ("start", (0, height[""])),
        *((a, (1, height[a])) for a in tree[""]),
    ]:
        ax.text(
            *place, node, ha="center", va="center", fontsize=11, weight="bold",
            bbox={"fc": "#fdfdfb", "ec": "#77776f", "boxstyle": "round,pad=0.25"},
        )  # fmt: skip
    ax.axis("off")
    plt.show()


def plot_speculation(
    drafts: Sequence[int],
    measured: Mapping[str, Sequence[float]],
    expected: Mapping[str, Sequence[float]],
) -> None:
    """Tokens per call of the large model against the number of drafts."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.9))
    for color, name in zip([COLORS["query"], COLORS["value"]], measured, strict=False):
        ax.plot(drafts, expected[name], "--", color=color, lw=1.4, label=f"_{name}")
        ax.plot(drafts, measured[name], "o", color=color, ms=7)
        ax.plot(drafts[-1:], expected[name][-1:], color=color, label=name)
    ax.axhline(1, color=COLORS["theory"], lw=1.2, ls=":", label="_one")
    ax.text(
        drafts[-1],
        0.98,
        "no drafts: one token per call",
        ha="right",
        va="top",
        fontsize=9.5,
    )
    ax.set(
        title="More drafts, more tokens per call, up to a limit",
        xlabel="drafts per call",
        ylabel="tokens per call of the target",
        xticks=list(drafts),
    )
    ax.set_ylim(bottom=0)
    label_lines(ax)
    plt.show()
