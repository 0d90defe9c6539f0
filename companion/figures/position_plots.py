"""The plots of the chapter on positional encoding."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch
from numpy.typing import ArrayLike
from torch import Tensor

from companion.figures.style import (
    CARD,
    COLORS,
    WIDTH,
    head_color,
    headline,
    label_lines,
    spread,
)

# Each encoding has one color; those that are added to the embeddings share dashes.
_ENCODINGS = {
    "none": (COLORS["theory"], "-"),
    "sinusoidal": ("#b87c00", "--"),
    "learned": ("#d55e00", "--"),
    "T5": ("#b0568a", "-"),
    "ALiBi": ("#009e73", "-"),
    "rotary": ("#0072b2", "-"),
}
_SCALINGS = {
    "rotary": ("#0072b2", "-"),
    "rotary, linear": ("#d55e00", "--"),
    "rotary, NTK": ("#b87c00", "-."),
    "rotary, YaRN": ("#009e73", "-"),
    "linear": ("#d55e00", "--"),
    "NTK": ("#b87c00", "-."),
    "YaRN": ("#009e73", "-"),
    "LLaMA 3": ("#b0568a", ":"),
}


def plot_order_losses(losses: Mapping[str, Sequence[float]]) -> None:
    """Training loss of classifiers that have to tell two orders of three words apart."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.3))
    for color, (name, values) in zip(
        [COLORS["highlight"], COLORS["attention"]], losses.items(), strict=True
    ):
        ax.plot(values, color=color, label=name)
    steps = max(len(values) for values in losses.values())
    ax.plot([0, steps - 1], [math.log(2)] * 2, ":", color=COLORS["theory"], lw=1.5)
    ax.text(steps / 2, math.log(2) - 0.07, "ln 2: a coin", color=COLORS["theory"])
    ax.set(
        title="Without positions, who bit whom stays a coin toss",
        xlabel="training step",
        ylabel="loss (nats a sentence)",
        ylim=(-0.03, 0.95),
    )
    label_lines(ax)
    plt.show()


def plot_bits_and_sines(
    bits: Int[Tensor, "positions digits"], table: Float[Tensor, "positions d_model"]
) -> None:
    """Binary digits of each position beside its sines and cosines."""
    figure, axes = plt.subplots(
        1, 2, figsize=(WIDTH, 4.8), width_ratios=[1, 2.2], sharey=True
    )
    axes[0].imshow(bits.cpu(), cmap="Blues", aspect="auto", vmin=0, vmax=1.4)
    axes[1].imshow(table.cpu(), cmap="RdBu_r", aspect="auto", vmin=-1, vmax=1)
    axes[0].set(
        title="binary digits",
        ylabel="position",
        xlabel="digit, fastest first",
        xticks=range(bits.shape[1]),
    )
    axes[1].set(
        title="sines and cosines",
        xlabel="column, fastest pair first",
        xticks=range(0, table.shape[1], 2),
    )
    for ax in axes:
        ax.grid(False)
        ax.title.set(fontsize=11, fontweight="normal")
    headline(figure, "Both have slow and fast columns, one of them glides")
    plt.show()


def plot_clock(angles: Float[Tensor, "positions hands"]) -> None:
    """One dial a pair: where its hand stands at each of a few positions."""
    figure, axes = plt.subplots(1, angles.shape[1], figsize=(WIDTH, 2.6))
    for pair, ax in enumerate(axes):
        ax.add_patch(plt.Circle((0, 0), 1, fill=False, color=COLORS["mask"]))
        last = len(angles) - 1
        together = (angles[last, pair] - angles[0, pair]).item() < 0.3
        for position, angle in enumerate(angles[:, pair].tolist()):
            end = math.sin(angle), math.cos(angle)  # clockwise from the top
            age = (position + 1) / len(angles)
            ax.plot([0, end[0]], [0, end[1]], color=COLORS["query"], alpha=age)
            if pair == 0 or position == 0 or (position == last and not together):
                ax.text(
                    1.25 * end[0],
                    1.25 * end[1],
                    f"0–{last}" if together else position,
                    ha="center",
                    va="center",
                )
        turn = 2 * math.pi / (angles[1, pair] - angles[0, pair]).item()
        ax.set_title(f"pair {pair}: one turn in\n{turn:,.0f} positions", fontsize=9.5)
        ax.title.set_fontweight("normal")
        ax.set(xlim=(-1.45, 1.45), ylim=(-1.45, 1.45), aspect="equal")
        ax.axis("off")
    headline(figure, "Each step turns every hand, each hand by its own angle")
    plt.show()


def plot_table(table: Float[Tensor, "positions d_model"]) -> None:
    """A table of sines and cosines as a heatmap: a row is a position."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.9))
    image = ax.imshow(table.cpu(), cmap="RdBu_r", aspect="auto", vmin=-1, vmax=1)
    ax.set(
        title="The left columns tell neighbors apart, the right ones regions",
        xlabel="column (pairs, fastest first)",
        ylabel="position",
    )
    ax.title.set_fontsize(11)
    ax.grid(False)
    plt.colorbar(image, ax=ax, label="value", shrink=0.9)
    plt.show()


def plot_similarity(
    distances: Int[Tensor, "distances"],
    curves: Mapping[str, Float[Tensor, "distances"]],
) -> None:
    """Dot product of two encodings, over that of equal ones, against their distance."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.8))
    colors = [COLORS["value"], "#b87c00", COLORS["query"]]
    for color, (name, curve) in zip(colors, curves.items(), strict=True):
        ax.plot(distances.cpu(), curve.cpu(), color=color, label=name)
    ax.set(
        title="Similarity depends on distance, and falls in waves",
        xlabel="distance of the two positions",
        ylabel="PE(a) · PE(b), relative to a = b",
    )
    label_lines(ax)
    plt.show()


def plot_biases(
    distances: Int[Tensor, "distances"],
    buckets: Int[Tensor, "distances"],
    bias: Float[Tensor, "heads distances"],
    slopes: Float[Tensor, "heads"],
) -> None:
    """T5's bucket of each distance, and ALiBi's bias of each head."""
    _, (left, right) = plt.subplots(2, 1, figsize=(WIDTH, 5.6), sharex=True)
    distances = distances.cpu()
    left.step(distances, buckets.cpu(), where="post", color=_ENCODINGS["T5"][0])
    left.set(title="T5: one bucket a distance when near, few when far", ylabel="bucket")
    for head, (line, slope) in enumerate(zip(bias.cpu(), slopes.tolist(), strict=True)):
        right.plot(distances, line, color=head_color(head), label=f"1/{1 / slope:.0f}")
    right.set(
        title="ALiBi: each head forgets at its own rate",
        xlabel="distance from the query back to the key",
        ylabel="added to the score",
        ylim=(-12, 0.4),
        xlim=(0, int(distances.max()) * 1.1),
    )
    reach = int(distances.max())
    for head, slope in enumerate(slopes.tolist()):
        at = min(reach, 11.3 / slope)
        right.annotate(
            f"1/{1 / slope:.0f}",
            (at, -slope * at),
            xytext=(4, 4),
            textcoords="offset points",
            color=head_color(head),
            fontweight="bold",
        )
    plt.show()


def plot_rotation(
    q: Float[Tensor, "2"],
    k: Float[Tensor, "2"],
    turned: Sequence[tuple[int, int, Tensor, Tensor]],
) -> None:
    """A query and a key in the plane, before and after they turn by their positions."""
    figure, axes = plt.subplots(1, 1 + len(turned), figsize=(WIDTH, 3.0))
    panels = [("as they are", q, k)] + [
        (f"query at {m}, key at {n}", a, b) for m, n, a, b in turned
    ]
    for ax, (title, a, b) in zip(axes, panels, strict=True):
        ax.add_patch(plt.Circle((0, 0), 1, fill=False, color=COLORS["mask"]))
        for vector, name in ((a, "query"), (b, "key")):
            x, y = vector.tolist()
            ax.add_patch(
                FancyArrowPatch(
                    (0, 0), (x, y), arrowstyle="-|>", mutation_scale=14,
                    shrinkA=0, shrinkB=0, color=COLORS[name], lw=2,
                )
            )  # fmt: skip
            ax.text(1.2 * x, 1.2 * y, name[0], color=COLORS[name], fontweight="bold",
                    ha="center", va="center")  # fmt: skip
        product = (a * b).sum().item()
        ax.set_title(f"{title}\nq · k = {product:.2f}", fontsize=10.5)
        ax.title.set_fontweight("normal")
        ax.set(xlim=(-1.4, 1.4), ylim=(-1.4, 1.4), aspect="equal")
        ax.axis("off")
    headline(figure, "Two apart is two apart: the angle between them stays")
    plt.show()


def plot_layouts(d_k: int) -> None:
    """Which two numbers of a head make a pair, in both layouts."""
    figure, axes = plt.subplots(2, 1, figsize=(WIDTH, 3.5))
    half = d_k // 2
    pairs = {
        "interleaved: neighbors": [(2 * i, 2 * i + 1) for i in range(half)],
        "halves: i with i + d_k/2": [(i, i + half) for i in range(half)],
    }
    for ax, (title, members) in zip(axes, pairs.items(), strict=True):
        for i, (a, b) in enumerate(members):
            color = head_color(i)
            for place in (a, b):
                ax.add_patch(
                    plt.Rectangle((place - 0.45, 0), 0.9, 0.7, color=color, lw=0)
                )
                ax.text(place, 0.35, place, ha="center", va="center", color=CARD,
                        fontweight="bold")  # fmt: skip
            ax.add_patch(
                FancyArrowPatch(
                    (a, 0.74), (b, 0.74), arrowstyle="-", color=color, lw=2,
                    connectionstyle=f"arc3,rad={-0.5 if b - a == 1 else -0.22}",
                )
            )  # fmt: skip
        ax.set(xlim=(-0.6, d_k - 0.4), ylim=(-0.05, 1.75))
        ax.set_title(title, fontsize=11, fontweight="normal")
        ax.axis("off")
    headline(figure, "Same numbers, other partners")
    plt.show()


def plot_scalings(
    turns: Float[Tensor, "pairs"], kept: Mapping[str, Float[Tensor, "pairs"]]
) -> None:
    """Each pair's angle over its angle in training, against its turns in training."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.9))
    for name, share in kept.items():
        color, dash = _SCALINGS[name]
        ax.semilogx(turns.cpu(), share.cpu(), dash, color=color)
    factor = 1 / min(share.min().item() for share in kept.values())
    ax.invert_xaxis()
    ax.axvline(1, color=COLORS["theory"], ls=":", lw=1.5)
    ax.text(0.9, 1.0, "never seen\nto turn once", va="top", color=COLORS["theory"])
    ax.set(
        title="Who has to slow down: all, the slow ones, or in between",
        xlabel="turns of the pair within the trained length (fast pairs left)",
        ylabel="angle, relative to training",
        ylim=(0.2, 1.05),
        yticks=[1 / factor, 0.5, 0.75, 1],
    )
    ax.title.set_fontsize(11.5)
    places = {
        "linear": (30, 0.275),
        "NTK": (22, 0.44),
        "YaRN": (14, 0.74),
        "LLaMA 3": (4.3, 0.93),
    }
    for name in kept:
        color = _SCALINGS[name][0]
        ax.text(*places[name], name, color=color, fontweight="bold", ha="right")
    plt.show()


def plot_extrapolation(
    centers: Sequence[float],
    stored: Mapping[tuple[str, str], ArrayLike],
    measured: Mapping[str, Sequence[float]],
    trained_length: int,
) -> None:
    """Loss against position on both tasks: bands for three seeds, points for this run."""
    _, axes = plt.subplots(2, 1, figsize=(WIDTH, 7.2), sharex=True)
    titles = {
        "characters": "Next character: ALiBi goes on, sinusoids stop",
        "5 back": "Exactly five back: no one still finds it at 4x",
    }
    limits = {"characters": (1.75, 3.4), "5 back": (-0.2, 7)}
    for ax, (task, title) in zip(axes, titles.items(), strict=True):
        _shade_unseen(ax, trained_length, max(centers))
        for name, (color, dash) in _ENCODINGS.items():
            runs = np.asarray(stored[task, name])
            if name == "learned":  # a proper table ends here
                seen = sum(center < trained_length for center in centers)
                spread(ax, centers[:seen], runs[:, :seen], "_learned", color, ls=dash)
                end = centers[seen - 1], runs[:, seen - 1].mean()
                ax.plot(*end, "X", color=color, ms=9)
                ax.annotate(
                    "learned: ends",
                    end,
                    xytext=(-60, 28),
                    textcoords="offset points",
                    color=color,
                    fontweight="bold",
                    fontsize=10,
                    arrowprops={"arrowstyle": "-", "color": color},
                )
            else:
                spread(ax, centers, runs, name, color, ls=dash)
            if task == "characters" and name in measured:
                ax.plot(centers, measured[name], "o", color=color, label=f"_{name}")
        if task == "5 back":
            guess = math.log(27)
            ax.plot([0, max(centers)], [guess] * 2, ":", color=COLORS["theory"], lw=1.5)
            ax.text(0, guess + 0.12, "guessing", color=COLORS["theory"], fontsize=9)
        ax.set(title=title, ylabel="loss (nats a character)", ylim=limits[task])
        label_lines(ax)
    axes[1].set_xlabel("position in the text")
    plt.show()


def plot_scaled_rotary(
    centers: Sequence[float],
    stored: Mapping[str, ArrayLike],
    trained_length: int,
) -> None:
    """Loss against position of one rotary model, read with several scalings."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.9))
    _shade_unseen(ax, trained_length, max(centers))
    for name, runs in stored.items():
        color, dash = _SCALINGS[name]
        label = name.removeprefix("rotary, ") if "," in name else "no scaling"
        spread(ax, centers, runs, label, color, ls=dash)
    ax.set(
        title="Four times the length, with no further training",
        xlabel="position in the text",
        ylabel="loss (nats a character)",
    )
    label_lines(ax)
    plt.show()


def _shade_unseen(ax: Axes, trained_length: int, end: float) -> None:
    ax.axvspan(trained_length, end, color=COLORS["mask"], alpha=0.15, lw=0)
    ax.text(
        trained_length + 3,
        0.97,
        "never trained here",
        transform=ax.get_xaxis_transform(),
        fontsize=9,
        va="top",
    )
