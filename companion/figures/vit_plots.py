"""The plots of the chapter on the Vision Transformer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch.nn.functional as F
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter
from torch import Tensor

from companion.figures.style import COLORS, WIDTH, headline, label_lines, spread

# A model has one color all through the chapter.
_COLORS = {"ViT": COLORS["attention"], "CNN": COLORS["recurrent"]}


def plot_patches(
    image: Float[Tensor, "channels height width"],
    patches: Float[Tensor, "patches channels side side"],
    columns: int,
) -> None:
    """An image, and its patches pulled apart, with their numbers in reading order."""
    rows = len(patches) // columns
    figure = plt.figure(figsize=(WIDTH, 3.2))
    whole, apart = figure.subfigures(1, 2, width_ratios=(1, 1.15))
    ax = whole.subplots()
    _show(ax, image)
    side = patches.shape[-1]
    for at in range(1, columns):
        ax.axvline(at * side - 0.5, color=COLORS["key"], lw=0.8)
    for at in range(1, rows):
        ax.axhline(at * side - 0.5, color=COLORS["key"], lw=0.8)
    axes = apart.subplots(rows, columns)
    for number, (ax, patch) in enumerate(zip(axes.flat, patches, strict=True), 1):
        _show(ax, patch)
        ax.set_title(
            str(number), fontsize=6.5, fontweight="normal", pad=1.5, loc="center"
        )
    headline(
        figure, f"{len(patches)} tokens of {side} by {side} pixels, in reading order"
    )
    plt.show()


def plot_position_similarity(
    table: Float[Tensor, "patches d_model"], grid: tuple[int, int], title: str
) -> None:
    """A panel for each place of the grid: how like each other place's vector is to its own."""
    unit = F.normalize(table.detach().cpu(), dim=1)
    cosines = (unit @ unit.T).unflatten(1, grid)  # (N, rows, columns)
    others = cosines.flatten(1)[~np.eye(len(unit), dtype=bool)]
    high = float(others.abs().max())
    rows, columns = grid
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, WIDTH * rows / columns))
    for place, ax in enumerate(axes.flat):
        drawn = ax.imshow(cosines[place], cmap="RdBu_r", vmin=-high, vmax=high)
        row, column = divmod(place, columns)
        ax.plot(column, row, "s", ms=4, mfc="none", mec="#222222", mew=1)
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
    figure.colorbar(
        drawn, ax=axes, shrink=0.6, label="cosine (framed place: 1)", extend="max"
    )
    figure.supxlabel("column of the patch", fontsize=10)
    figure.supylabel("row of the patch", fontsize=10)
    headline(figure, title)
    plt.show()


def plot_data(
    stored: Mapping[str, Mapping[int, Sequence[float]]],
    here: Mapping[str, tuple[int, float]],
    title: str,
) -> None:
    """Accuracy against the number of training images: mean and range of the seeds.

    Args:
        stored: model -> images -> the accuracy of each seed.
        here: model -> images and accuracy of the run on this page, drawn as a star.
        title: what the figure says.
    """
    _, ax = plt.subplots(figsize=(WIDTH, 3.9))
    for name, by_size in stored.items():
        sizes = sorted(by_size)
        runs = np.array([by_size[size] for size in sizes]).T  # (seeds, sizes)
        spread(ax, sizes, runs, name, _COLORS[name], marker="o", ms=4)
    for name, (size, share) in here.items():
        ax.plot(size, share, "*", ms=12, mfc="none", mec=_COLORS[name], mew=1.5)
    ax.set(
        xscale="log",
        xlabel="training images (logarithmic)",
        ylabel="accuracy on new digits",
        title=title,
    )
    ax.xaxis.set_major_locator(FixedLocator(sizes))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(lambda n, _: f"{n:,.0f}")
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    label_lines(ax)
    plt.show()


def plot_bias(
    shifted: Mapping[str, Mapping[int, float]],
    shuffled: Mapping[str, Mapping[str, Sequence[float]]],
    title: str,
) -> None:
    """Two tests of the bias: images moved after training, and shuffled before it.

    Args:
        shifted: model -> pixels of the shift -> accuracy.
        shuffled: model -> what was shuffled -> the accuracy of each seed.
        title: what the figure says.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.4))
    for name, by_pixels in shifted.items():
        left.plot(
            list(by_pixels), list(by_pixels.values()), "o-", color=_COLORS[name], ms=4
        )
        left.annotate(
            name,
            list(by_pixels.items())[1],
            xytext=(8, 6),
            textcoords="offset points",
            color=_COLORS[name],
        )
    left.set(xlabel="test images moved by (pixels)", ylabel="accuracy")
    for offset, (name, by_change) in zip((-0.2, 0.2), shuffled.items(), strict=True):
        for place, runs in enumerate(by_change.values()):
            right.bar(
                place + offset,
                np.mean(runs),
                0.36,
                color=_COLORS[name],
            )
            right.text(
                place + offset, 0.05, name, rotation=90, color="white", ha="center"
            )
            right.plot([place + offset] * len(runs), runs, ".", color="#222222", ms=4)
    right.set_xticks(range(len(by_change)), [k.replace(" ", "\n") for k in by_change])
    right.set(xlabel="what is shuffled, before training")
    for ax in (left, right):
        ax.set_ylim(0, 1.02)
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    headline(figure, title)
    plt.show()


def plot_relevance(
    images: Float[Tensor, "images channels height width"],
    scores: Mapping[str, Float[Tensor, "images rows columns"]],
    title: str,
) -> None:
    """Each image in a column, and under it a row of its patches for each score."""
    figure, axes = plt.subplots(
        1 + len(scores),
        len(images),
        figsize=(WIDTH, WIDTH * (1 + len(scores)) / len(images) * 0.93),
    )
    for column, image in enumerate(images):
        _show(axes[0, column], image)
        for row, name in enumerate(scores, 1):
            ax = axes[row, column]
            score = scores[name][column].numpy()
            high = np.abs(score).max() + 1e-12
            low = -high if score.min() < 0 else 0
            ax.imshow(score, cmap="RdBu_r" if low else "Blues", vmin=low, vmax=high)
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
    for row, name in enumerate(["image", *scores]):
        axes[row, 0].set_ylabel(name, fontsize=9)
    headline(figure, title)
    plt.show()


def _show(ax: Axes, image: Tensor) -> None:
    pixels = image.detach().cpu().permute(1, 2, 0).numpy()
    grey = pixels.shape[2] == 1
    ax.imshow(
        pixels[..., 0] if grey else pixels,
        cmap="gray" if grey else None,
        vmin=0,
        vmax=1,
    )
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
