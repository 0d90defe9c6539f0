"""The plots of training on several devices: rings, curves, traffic and pipelines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from companion.figures.style import COLORS, GRID, INK, WIDTH, headline, label_lines

_FORWARD, _BACKWARD = COLORS["query"], COLORS["key"]
_WAYS = {
    "data parallel (DDP)": COLORS["query"],
    "fully sharded (FSDP)": COLORS["key"],
    "tensor parallel": COLORS["value"],
    "sequence parallel": COLORS["output"],
    "pipeline parallel": "#8a6d00",
}


def plot_ring(states: Sequence[np.ndarray], size: int) -> None:
    """How many devices' numbers are in each part, before and after each exchange.

    Args:
        states: a matrix ``(devices, parts)`` for each moment, counting what was summed.
        size: bytes of a part, which each device sends in each exchange.
    """
    devices = len(states[0])
    columns = devices
    rows = -(-len(states) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, 1.95 * rows + 0.4))
    for moment, (ax, state) in enumerate(zip(axes.flat, states, strict=False)):
        ax.imshow(state, cmap="Blues", vmin=0, vmax=1.6 * devices)
        for (device, part), count in np.ndenumerate(state):
            ax.text(part, device, count, ha="center", va="center", color=INK)
        title = "at first" if not moment else f"sent {moment * size} bytes"
        ax.set_title(title, fontsize=10, fontweight="normal")
        ax.set(xticks=range(devices), yticks=range(devices))
        ax.tick_params(length=0, labelsize=9)
        ax.grid(False)
    for ax in list(axes.flat)[len(states) :]:
        ax.set_axis_off()
    figure.supxlabel("part of the gradient", fontsize=10)
    figure.supylabel("device", fontsize=10)
    headline(figure, "First each part is summed up, then it is handed around")
    plt.show()


def plot_same_curves(losses: Mapping[str, Sequence[float]], tolerance: float) -> None:
    """The first of some loss curves with the others on it, and how far they are from it."""
    (name, first), *others = losses.items()
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(WIDTH, 5.2), sharex=True, height_ratios=[3, 2]
    )
    steps = np.arange(1, len(first) + 1)
    above.plot(steps, first, color=COLORS["context"], lw=6, label=name)
    below.axhline(tolerance, color=COLORS["theory"], ls="--", lw=1.2)
    below.text(1, 1.3 * tolerance, "tolerance", color=COLORS["theory"], fontsize=9.5)
    for (name, loss), color in zip(others, (_FORWARD, _BACKWARD), strict=True):
        above.plot(steps, loss, color=color, lw=1.4, label=name)
        off = np.abs(np.subtract(loss, first)) / np.asarray(first)
        below.semilogy(steps, np.maximum(off, 1e-9), ".", color=color)
    below.minorticks_off()
    above.legend()
    above.set(ylabel="loss (nats a token)")
    below.set(
        xlabel="update",
        ylabel="relative\ndifference",
        ylim=(5e-10, 6 * tolerance),
    )
    headline(figure, "One run, however it is shared out")
    plt.show()


def plot_traffic(
    batches: Sequence[int], sent: Mapping[str, Sequence[float]], title: str
) -> None:
    """Bytes that a device sends in an update against texts in it, a line a way of sharing."""
    _, ax = plt.subplots(figsize=(WIDTH, 4.2))
    for name, values in sent.items():
        # Two and two lie on each other: one of each is dashed.
        dashed = name in ("fully sharded (FSDP)", "sequence parallel")
        dashes = "--" if dashed else "-"
        ax.loglog(batches, values, dashes, color=_WAYS[name], lw=2, label=name)
    ax.set(title=title, xlabel="texts in an update, all devices together")
    ax.set(ylabel="sent by each device (GB)", xticks=batches, xlim=(batches[0], None))
    ax.xaxis.set_major_formatter(lambda n, _: f"{n:,.0f}")
    ax.yaxis.set_major_formatter(lambda n, _: f"{n:g}")
    ax.minorticks_off()
    label_lines(ax, fontsize=9.5)
    plt.show()


def plot_pipelines(devices: int, micro_batches: Sequence[int], title: str) -> None:
    """Who computes what when, with a batch cut into some numbers of micro-batches.

    The backward pass takes two turns where the forward pass takes one. All panels are drawn
    to one scale of time: a micro-batch takes the less the more of them there are.
    """
    figure, axes = plt.subplots(
        len(micro_batches), 1, figsize=(WIDTH, 1.75 * len(micro_batches)), sharex=True
    )
    for ax, number in zip(np.atleast_1d(axes), micro_batches, strict=True):
        _draw_pipeline(ax, devices, number)
    axes[-1].set_xlabel("time (a forward pass of the whole batch on one device = 1)")
    figure.supylabel("device", fontsize=11)
    axes[-1].legend(
        handles=[
            Patch(color=_FORWARD, label="forward"),
            Patch(color=_BACKWARD, label="backward"),
            Patch(facecolor=GRID, label="waits"),
        ],
        loc="center right",  # where the last panel has long ended
    )
    headline(figure, title)
    plt.show()


def pipeline_turns(
    devices: int, micro_batches: int
) -> list[tuple[int, int, int, float, float]]:
    """GPipe's schedule: (device, micro-batch, direction 1 or -1, start, length).

    A forward pass of a micro-batch takes one unit on each device, a backward pass two.
    """
    filled = micro_batches + devices - 1
    turns: list[tuple[int, int, int, float, float]] = []
    for device in range(devices):
        for number in range(micro_batches):
            turns.append((device, number, 1, device + number, 1))
            start = filled + 2 * (devices - 1 - device + micro_batches - 1 - number)
            turns.append((device, number, -1, start, 2))
    return turns


def _draw_pipeline(ax: Axes, devices: int, micro_batches: int) -> None:
    unit = 1 / devices / micro_batches
    turns = pipeline_turns(devices, micro_batches)
    end = max(start + length for *_, start, length in turns)
    ax.barh(range(devices), end * unit, color=GRID, height=0.86)
    for device, number, direction, start, length in turns:
        color = _FORWARD if direction == 1 else _BACKWARD
        bar = {"left": start * unit, "height": 0.86, "edgecolor": "white", "lw": 0.6}
        ax.barh(device, length * unit, color=color, alpha=0.85, **bar)
        if micro_batches <= 8:
            middle = (start + length / 2) * unit
            ax.text(middle, device, number, ha="center", va="center", color="w", size=8)
    waits = 1 - 3 * micro_batches / end
    noun = "micro-batch" if micro_batches == 1 else "micro-batches"
    ax.set_title(
        f"{micro_batches} {noun}: each device waits {waits:.0%} of the time",
        fontsize=10,
        fontweight="normal",
        pad=4,
    )
    ax.set(yticks=range(devices), ylim=(devices - 0.5, -0.5))
    ax.grid(False)
