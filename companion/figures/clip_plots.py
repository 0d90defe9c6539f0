"""Figures of the chapter on CLIP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.ticker import NullFormatter, PercentFormatter
from torch import Tensor

from companion.figures.style import COLORS, WIDTH, headline, label_lines

_SEED_DOT = {"marker": "o", "ms": 5, "ls": "", "alpha": 0.8}


def plot_pairs(
    images: Float[Tensor, "pictures 3 side side"],
    names: Sequence[str],
    columns: int = 7,
) -> None:
    """Pictures with their names under them."""
    rows = -(-len(names) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, 1.25 * rows))
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, image, name in zip(axes.flat, images, names, strict=False):
        ax.imshow(image.permute(1, 2, 0).clamp(0, 1).numpy())
        ax.set_title(
            _broken(name, 13), fontsize=7.5, fontweight="normal", loc="center", pad=3
        )
    headline(figure, "A picture and its name: nobody sorted them into classes")
    plt.show()


def plot_similarity(
    scores: Float[Tensor, "pictures names"],
    images: Float[Tensor, "pictures 3 side side"],
    names: Sequence[str],
    title: str,
) -> None:
    """The table of cosines: pictures down the side, names along the top."""
    n = len(names)
    figure, ax = plt.subplots(figsize=(WIDTH, 5.9))
    values = scores.numpy()
    shown = ax.imshow(values, cmap="Blues", vmin=0, vmax=max(0.8, values.max()))
    best = values.argmax(axis=1)
    for row in range(n):
        right = best[row] == row
        color = COLORS["value"] if right else COLORS["highlight"]
        box = plt.Rectangle(
            (best[row] - 0.46, row - 0.46), 0.92, 0.92, fill=False, ec=color, lw=1.8
        )
        ax.add_patch(box)
        for column in range(n):
            ax.text(
                column,
                row,
                f"{values[row, column]:.1f}".replace("0.", ".").replace("-.0", ".0"),
                ha="center",
                va="center",
                fontsize=7.5,
                color="white" if values[row, column] > 0.55 else "#444",
            )
    ax.set_yticks(range(n), [""] * n)
    for row, image in enumerate(images):
        picture = OffsetImage(image.permute(1, 2, 0).clamp(0, 1).numpy(), zoom=0.62)
        ax.add_artist(
            AnnotationBbox(
                picture,
                (-0.95, row),
                frameon=False,
                annotation_clip=False,
                box_alignment=(0.5, 0.5),
            )
        )
    ax.tick_params(axis="y", length=0)
    ax.xaxis.tick_top()
    ax.set_xticks(range(n), list(names), rotation=40, ha="left", fontsize=8.5)
    ax.set_ylabel("picture", labelpad=26)
    ax.set_xlabel("name (read a row: which name does the picture choose?)")
    ax.grid(False)
    figure.colorbar(shown, ax=ax, shrink=0.7, label="cosine")
    headline(figure, title)
    plt.show()


def plot_temperature(
    scales: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    shares: Mapping[str, Sequence[float]],
) -> None:
    """The loss against the scale, and how the softmax shares its weight over negatives."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.7), width_ratios=[1.2, 1])
    colors = (COLORS["value"], COLORS["highlight"])
    for (name, losses), color in zip(curves.items(), colors, strict=True):
        axes[0].loglog(scales, losses, color=color, label=name)
        least = int(np.argmin(losses))
        if 0 < least < len(scales) - 1:
            axes[0].plot(scales[least], losses[least], "o", color=color)
    axes[0].axvline(100, color=COLORS["theory"], ls="--", lw=1.2)
    axes[0].annotate(
        "clamp", (100, 2e-3), xytext=(-4, 0), textcoords="offset points", ha="right"
    )
    axes[0].set(xlabel="scale 1/τ", ylabel="loss", ylim=(1e-3, 60))
    axes[0].legend(fontsize=9, loc="upper left")
    width = 0.8 / len(shares)
    palette = ("#9ecae1", "#4292c6", "#08519c")
    for i, (name, weights) in enumerate(shares.items()):
        axes[1].bar(
            np.arange(len(weights)) + i * width,
            weights,
            width,
            label=name,
            color=palette[i],
        )
    axes[1].set(xlabel="wrong texts, nearest first", ylabel="share of the push away")
    axes[1].set_xticks(
        np.arange(len(weights)) + width, [str(i + 1) for i in range(len(weights))]
    )
    axes[1].yaxis.set_major_formatter(PercentFormatter(1))
    axes[1].legend(fontsize=9)
    headline(
        figure, "One mistake keeps the scale finite; a large one looks at it alone"
    )
    plt.show()


def plot_history(history: Sequence[Mapping[str, float]], batch_size: int) -> None:
    """Loss and temperature against updates."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.2))
    steps = [row["step"] for row in history]
    axes[0].plot(steps, [row["loss"] for row in history], lw=1, color=COLORS["query"])
    axes[0].axhline(np.log(batch_size), color=COLORS["theory"], ls="--", lw=1.2)
    axes[0].annotate(
        f"log {batch_size}: a blind guess",
        (steps[-1], np.log(batch_size)),
        xytext=(0, -13),
        textcoords="offset points",
        ha="right",
        fontsize=9,
    )
    axes[0].set(xlabel="updates", ylabel="loss of a training batch", ylim=(0, None))
    axes[1].plot(steps, [row["temperature"] for row in history], color=COLORS["key"])
    axes[1].set(xlabel="updates", ylabel="temperature τ")
    headline(figure, "The loss falls, and the temperature finds its own way")
    plt.show()


def plot_retrieval(
    rows: Mapping[str, Mapping[str, Sequence[float]]],
    here: Mapping[str, tuple[float, float, float]],
    chance: float,
    title: str,
) -> None:
    """Recall@10 of each method: a dot a seed, this run with its interval, and chance.

    Args:
        rows: direction -> method -> one number a seed.
        here: direction -> recall and its interval in this run, drawn in the row "CLIP".
        chance: recall of a blind guess.
        title: of the figure.
    """
    figure, axes = plt.subplots(
        1, len(rows), figsize=(WIDTH, 3.6), sharey=True, sharex=True
    )
    for ax, (direction, methods) in zip(axes, rows.items(), strict=True):
        names = list(methods)
        for height, (name, values) in enumerate(methods.items()):
            color = COLORS["query"] if name.startswith("CLIP") else COLORS["context"]
            ax.plot(values, [height] * len(values), color=color, **_SEED_DOT)
            ax.plot([np.mean(values)] * 2, [height - 0.25, height + 0.25], color=color)
        mean, low, high = here[direction]
        ax.plot(
            [low, high], [names.index("CLIP") + 0.34] * 2, color=COLORS["key"], lw=2
        )
        ax.plot(mean, names.index("CLIP") + 0.34, "D", color=COLORS["key"], ms=4)
        ax.axvline(chance, color=COLORS["theory"], ls="--", lw=1.2)
        ax.set(xlabel="recall@10", yticks=range(len(names)), yticklabels=names)
        ax.set_title(direction, fontsize=10, fontweight="normal")
        ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        ax.set_xlim(0, 0.35)
    axes[0].invert_yaxis()
    headline(figure, title)
    plt.show()


def plot_few_labels(
    counts: Sequence[int],
    probes: Mapping[str, Sequence[Sequence[float]]],
    zero_shot: float,
    majority: float,
) -> None:
    """Accuracy against labels a class, with what no label at all gives."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.6))
    colors = {"CLIP's features": COLORS["query"], "pixels": COLORS["key"]}
    for name, runs in probes.items():
        values = np.array(runs)  # (seeds, counts)
        ax.plot(counts, values.mean(0), "o-", color=colors[name], label=name)
        ax.fill_between(
            counts, values.min(0), values.max(0), color=colors[name], alpha=0.18, lw=0
        )
    for height, text in (
        (zero_shot, "zero-shot: the name of the class"),
        (majority, "the largest class"),
    ):
        ax.axhline(height, color=COLORS["theory"], ls="--", lw=1.2)
        ax.annotate(
            text,
            (counts[0], height),
            xytext=(0, 4),
            textcoords="offset points",
            fontsize=9,
        )
    ax.set_xscale("log", base=2)
    ax.set_xticks(counts, [str(c) for c in counts])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set(
        title="No label at all is worth a few labels a class",
        xlabel="labelled pictures a class",
        ylabel="right, of the pictures held out",
        ylim=(0, 0.8),
    )
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    label_lines(ax)
    plt.show()


def plot_ablations(
    groups: Mapping[str, Mapping[str, Sequence[float]]], title: str
) -> None:
    """Recall@10 of runs that differ in one thing: a panel a thing, a dot a seed."""
    figure, axes = plt.subplots(1, len(groups), figsize=(WIDTH, 3.4), sharey=True)
    for ax, (what, runs) in zip(axes, groups.items(), strict=True):
        for x, values in enumerate(runs.values()):
            ax.plot([x] * len(values), values, color=COLORS["query"], **_SEED_DOT)
            ax.plot([x - 0.25, x + 0.25], [np.mean(values)] * 2, color=COLORS["query"])
        ax.set_xticks(range(len(runs)), list(runs))
        ax.set_xlim(-0.6, len(runs) - 0.4)
        ax.set_xlabel(what)
        _chance(ax, 0.04)
    axes[0].set(ylabel="recall@10, both directions", ylim=(0, 0.22))
    axes[0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    headline(figure, title)
    plt.show()


def plot_scenes(
    scenes: Float[Tensor, "scenes 3 side side"], titles: Sequence[str], title: str
) -> None:
    """Scenes made of pictures, each with what was asked of it."""
    figure, axes = plt.subplots(1, len(scenes), figsize=(WIDTH, 1.9))
    for ax, scene, text in zip(axes, scenes, titles, strict=True):
        ax.imshow(scene.permute(1, 2, 0).clamp(0, 1).numpy())
        ax.set_title(text, fontsize=8.5, fontweight="normal", loc="center")
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        for side in ax.spines.values():
            side.set(visible=True, color="#c4c4be")
    headline(figure, title)
    plt.show()


def _chance(ax: Axes, height: float) -> None:
    ax.axhline(height, color=COLORS["theory"], ls="--", lw=1.2)


def _broken(text: str, width: int) -> str:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) + 1 > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
