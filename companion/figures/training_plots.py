"""The plots of the chapter on training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullLocator, PercentFormatter
from torch import Tensor

from companion.figures.heatmaps import attention_heatmap
from companion.figures.style import COLORS, WIDTH, headline, label_lines

_OCHER = "#b87c00"
_LINES = (COLORS["query"], COLORS["recurrent"], COLORS["value"], _OCHER)


def plot_losses(
    losses: Mapping[str, Sequence[float]], title: str, window: int = 9
) -> None:
    """Training loss against the step, as a running mean over ``window`` steps."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.8))
    for (name, values), color in zip(losses.items(), _LINES, strict=False):
        smooth = np.convolve(values, np.ones(window) / window, mode="valid")
        steps = np.arange(len(smooth)) + (window + 1) / 2
        ax.plot(steps, smooth, color=color, label=name)
    ax.set(title=title, xlabel="update", ylabel="loss (nats per token)")
    ax.set_ylim(bottom=0)
    label_lines(ax)
    plt.show()


def plot_smoothing(
    gaps: Tensor, losses: Mapping[str, Tensor], optima: Mapping[str, float]
) -> None:
    """Loss against how far the right logit stands above all others."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.6))
    for (name, values), color in zip(losses.items(), _LINES, strict=False):
        ax.plot(gaps.cpu(), values.cpu(), color=color, label=name)
        if name in optima:
            lowest = float(values.min())
            ax.plot(optima[name], lowest, "o", color=color)
            ax.annotate(
                f"minimum at {optima[name]:.1f}",
                (optima[name], lowest),
                xytext=(0, 9),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=10,
                color=color,
            )
    ax.set(
        title="With smoothing, being surer stops paying",
        xlabel="logit of the right token above the others (nats)",
        ylabel="loss (nats)",
        ylim=(-0.4, None),
    )
    label_lines(ax)
    plt.show()


def plot_schedules(
    steps: Sequence[int], rates: Mapping[str, Sequence[float]], warmup_steps: int
) -> None:
    """Learning rates against the step."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.7))
    for (name, values), color in zip(rates.items(), _LINES, strict=False):
        ax.plot(steps, [1e4 * v for v in values], color=color, label=name)
    ax.axvline(warmup_steps, color=COLORS["theory"], ls=":", lw=1.5)
    ax.annotate(
        "warm-up ends",
        (warmup_steps, 0.02),
        xycoords=("data", "axes fraction"),
        xytext=(5, 0),
        textcoords="offset points",
        fontsize=10,
    )
    ax.set(
        title="Same warm-up, same peak: the two differ in how they end",
        xlabel="update",
        ylabel="learning rate (1e-4)",
        ylim=(-0.25, None),
        xticks=range(0, max(steps) + 1, 4000),
    )
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    label_lines(ax)
    plt.show()


def plot_adam_steps(
    steps: Sequence[int],
    sizes: Mapping[str, Sequence[float]],
    expected: Mapping[str, float],
) -> None:
    """How long Adam's steps are, in learning rates, by the number of updates."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.7))
    for (name, values), color in zip(sizes.items(), _LINES, strict=False):
        ax.loglog(steps, values, color=color, label=name)
    for value in expected.values():
        ax.axhline(value, color=COLORS["theory"], ls="--", lw=1.2)
    for name, value in expected.items():
        ax.annotate(
            name,
            (0.015, value),
            xycoords=("axes fraction", "data"),
            xytext=(0, -4),
            textcoords="offset points",
            fontsize=9.5,
            va="top",
            color=COLORS["theory"],
        )
    ax.set(
        title="Warm-up undoes Adam's long first steps",
        xlabel="update",
        ylabel="root mean square step (learning rates)",
    )
    ax.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_yticks([0.01, 0.1, 1.0])
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    label_lines(ax)
    plt.show()


def plot_padding(batches: Mapping[str, Tensor], shares: Mapping[str, float]) -> None:
    """One batch by random choice and one of similar lengths: real tokens and padding."""
    figure, axes = plt.subplots(1, len(batches), figsize=(WIDTH, 3.6))
    for ax, (name, real) in zip(axes, batches.items(), strict=True):
        picture = np.where(real.cpu().numpy(), 1.0, 0.25)
        ax.imshow(picture, cmap="Blues", vmin=0, vmax=1.6, aspect="auto")
        ax.set_title(
            f"{name}: {shares[name]:.0%} padding", fontsize=11, fontweight="normal"
        )
        ax.set_xlabel("position (tokens)")
        ax.grid(False)
    axes[0].set_ylabel("sentence of the batch")
    headline(figure, "Sentences of similar length waste little")
    plt.show()


def plot_alignments(
    maps: Sequence[tuple[Tensor, list[str], list[str]]],
    title: str,
    *,
    width: float = WIDTH,
) -> None:
    """Cross-attention by words; a row is a word that is written, a column one that is read."""
    ratios = [len(source) + 1.5 for _, _, source in maps]
    height = max(len(target) for _, target, _ in maps)
    figure, axes = plt.subplots(
        1,
        len(maps),
        figsize=(width, 1.7 + width / (sum(ratios) + 3) * height),
        gridspec_kw={"width_ratios": ratios},
        squeeze=False,
    )
    for ax, (weights, target, source) in zip(axes[0], maps, strict=True):
        attention_heatmap(ax, weights, target, source)
        ax.tick_params(axis="both", labelsize=9)
        ax.set(xlabel="reads", ylabel="")
    axes[0, 0].set_ylabel("writes")
    headline(figure, title)
    plt.show()


def plot_ablations(
    stored: Mapping[str, Mapping[str, Sequence[float]]],
    base: Sequence[float],
    measured: Mapping[tuple[str, str], float] | None = None,
) -> None:
    """Exact match of each variant: a dot a seed, a bar at their mean, one panel a trick.

    Args:
        stored: what is varied -> variant -> one number a seed.
        base: the numbers of the setting that all are compared with.
        measured: (what, variant) -> the number of this page's own run.
    """
    names = [(varied, name) for varied, runs in stored.items() for name in runs]
    _, ax = plt.subplots(figsize=(WIDTH, 0.30 * (len(names) + len(stored)) + 1.0))
    ax.axvspan(min(base), max(base), color=COLORS["query"], alpha=0.12, lw=0)
    places, labels, y = [], [], 0.0
    for varied, runs in stored.items():
        ax.text(
            -0.02,
            y,
            varied,
            transform=ax.get_yaxis_transform(),
            ha="right",
            va="center",
            fontweight="bold",
            fontsize=10,
        )
        for name, values in runs.items():
            y += 1
            color = COLORS["query"] if list(values) == list(base) else _OCHER
            ax.plot(values, [y] * len(values), "o", color=color, ms=5, alpha=0.75)
            ax.plot([np.mean(values)] * 2, [y - 0.32, y + 0.32], color=color, lw=2.5)
            if measured and (varied, name) in measured:
                ax.plot(
                    measured[varied, name],
                    y,
                    "D",
                    mfc="none",
                    mec=COLORS["recurrent"],
                    ms=8,
                )
            places.append(y)
            labels.append(name)
        y += 1.3
    ax.set_yticks(places, labels)
    ax.set_ylim(y - 0.5, -0.8)
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.set(
        title="Warm-up and tying pay here, dropout does harm",
        xlabel="exact match on held-out names",
    )
    ax.set_xlim(-0.02, 1.02)
    plt.show()
