"""The plots of the chapter on scaling laws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from companion.analysis.allocation import EqualCompute
from companion.analysis.bench import Row
from companion.analysis.scaling import ParametricLaw, PowerLaw, Run
from companion.figures.style import COLORS, INK, WIDTH, headline, label_lines

# Small models are light, large ones dark, all through the chapter.
_SHADES = LinearSegmentedColormap.from_list("sizes", ["#7fb3d9", "#0072b2", "#012a45"])


def short(number: float) -> str:
    """25,472 as 25k and 3,000,000 as 3M."""
    for unit, sign in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.3g}{sign}"
    return f"{number:g}"


def size_colors(sizes: Sequence[float]) -> dict[float, str]:
    """A shade for each size, from light to dark."""
    sizes = sorted(set(sizes))
    last = max(1, len(sizes) - 1)
    return {size: to_hex(_SHADES(i / last)) for i, size in enumerate(sizes)}


def plot_rules(
    counts: Mapping[str, Mapping[float, float]], title: str, marks: Mapping[str, float]
) -> None:
    """How far each rule is from the exact count, against the size of the model.

    Args:
        counts: rule by exact, by number of parameters, for each rule.
        title: what the picture shows.
        marks: names of models and their parameters, written along the axis.
    """
    _, ax = plt.subplots(figsize=(WIDTH, 3.6))
    colors = (COLORS["query"], COLORS["key"], COLORS["value"], COLORS["output"])
    for color, (name, by_size) in zip(colors, counts.items(), strict=False):
        ax.semilogx(
            *zip(*sorted(by_size.items()), strict=True), color=color, label=name
        )
    ax.axhline(1, color=COLORS["theory"], ls="--", lw=1.2)
    for name, size in marks.items():
        ax.annotate(
            name,
            (size, 0.02),
            xycoords=("data", "axes fraction"),
            rotation=90,
            fontsize=8.5,
            color=COLORS["theory"],
            ha="center",
            va="bottom",
        )
    ax.set(title=title, xlabel="parameters of the model", ylabel="rule / exact count")
    _short_ticks(ax)
    label_lines(ax, fontsize=9)
    plt.show()


def plot_laws(laws: Mapping[str, tuple[PowerLaw, tuple[float, float]]]) -> None:
    """One panel a law, over the range that it was measured on: a straight line each."""
    figure, axes = plt.subplots(1, len(laws), figsize=(WIDTH, 2.9), sharey=True)
    for ax, (name, (law, (low, high))) in zip(axes, laws.items(), strict=True):
        x = np.logspace(np.log10(low), np.log10(high), 50)
        ax.loglog(x, law(x), color=COLORS["attention"])
        ax.set(xlabel=name, ylim=(1.8, 8))
        ax.set_title(f"exponent {law.exponent:.3f}", fontsize=10, fontweight="normal")
        ax.yaxis.set_major_locator(FixedLocator([2, 3, 4, 5, 6, 8]))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    axes[0].set_ylabel("loss (nats a token)")
    headline(figure, "Ten times as much of one thing takes off a fixed percentage")
    plt.show()


def plot_rates(
    panels: Mapping[str, Mapping[int, Mapping[float, Sequence[float]]]], title: str
) -> None:
    """Loss against the learning rate, a line a width; the best of each is ringed.

    Args:
        panels: for each rule, for each width, for each rate, the losses of some seeds.
        title: what the picture shows.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.5), sharey=True)
    for ax, (name, widths) in zip(axes, panels.items(), strict=True):
        colors = size_colors(list(widths))
        for width, by_rate in sorted(widths.items()):
            rates = sorted(by_rate)
            means = [float(np.mean(by_rate[rate])) for rate in rates]
            ax.semilogx(rates, means, color=colors[width], label=f"{width}")
            best = int(np.argmin(means))
            ax.plot(
                rates[best], means[best], "o", ms=9, mfc="none", mec=COLORS["highlight"]
            )
        ax.set(xlabel="learning rate")
        ax.set_title(name, fontsize=10, fontweight="normal")
        ax.xaxis.set_major_locator(FixedLocator([1e-3, 4e-3, 16e-3, 64e-3]))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        ax.xaxis.set_minor_locator(NullLocator())
        label_lines(ax, fontsize=9)
    axes[0].set_ylabel("loss on held-out text (nats a token)")
    headline(figure, title)
    plt.show()


def plot_grid(
    runs: Sequence[Run],
    law: ParametricLaw | None = None,
    held_out: Sequence[Run] = (),
    title: str = "",
) -> None:
    """Loss against tokens, a line a size: dots for seeds, dashes for a fitted law."""
    _, ax = plt.subplots(figsize=(WIDTH, 4.2))
    colors = size_colors([run.parameters for run in runs])
    for size, color in colors.items():
        own = [run for run in runs if run.parameters == size]
        tokens = sorted({run.tokens for run in own})
        means = [np.mean([r.loss for r in own if r.tokens == t]) for t in tokens]
        ax.loglog(tokens, means, color=color, lw=1.8, label=short(size))
        ax.plot([r.tokens for r in own], [r.loss for r in own], ".", color=color, ms=5)
        if law is not None:
            fine = np.geomspace(tokens[0], tokens[-1], 40)
            ax.plot(fine, law(size, fine), "--", color=COLORS["key"], lw=1)
    for run in held_out:
        ax.plot(
            run.tokens,
            run.loss,
            "o",
            ms=11,
            mfc="none",
            mec=COLORS["highlight"],
            mew=1.6,
        )
    ax.set(title=title, xlabel="tokens", ylabel="loss on held-out text (nats a token)")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_locator(FixedLocator(sorted({run.tokens for run in runs})))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x)))
    _plain_losses(ax)
    label_lines(ax, fontsize=9)
    plt.show()


def plot_predictions(
    predicted: Mapping[str, tuple[float, float, float]], measured: float, title: str
) -> None:
    """What each way foretells for the held-out run, with its interval, and what it was.

    Args:
        predicted: the middle, lower and upper end for each way.
        measured: the run's own loss.
        title: what the picture shows.
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 0.55 * len(predicted) + 1.3))
    for row, (middle, low, high) in enumerate(predicted.values()):
        ax.plot([low, high], [row, row], color=COLORS["attention"], lw=4, alpha=0.35)
        ax.plot(middle, row, "o", color=COLORS["attention"], ms=7)
    ax.axvline(measured, color=COLORS["highlight"], lw=1.6)
    ax.annotate(
        f"measured {measured:.2f}",
        (measured, len(predicted) - 0.55),
        xytext=(5, 0),
        textcoords="offset points",
        color=COLORS["highlight"],
        fontweight="bold",
        fontsize=9.5,
        va="center",
    )
    headline(figure, title)
    ax.set(
        xlabel="loss of the held-out run (nats a token)",
        yticks=range(len(predicted)),
        yticklabels=list(predicted),
        ylim=(len(predicted) - 0.3, -0.5),
    )
    plt.show()


def plot_tokens_needed(
    needed: Mapping[float, Mapping[float, float]], title: str
) -> None:
    """Tokens to reach a loss against the size of the model, a line a loss."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.8))
    colors = (COLORS["query"], COLORS["value"], COLORS["output"], COLORS["key"])
    for color, (loss, by_size) in zip(colors, needed.items(), strict=False):
        sizes = sorted(by_size)
        ax.loglog(
            sizes,
            [by_size[s] for s in sizes],
            "o-",
            color=color,
            label=f"loss {loss:g}",
        )
    ax.set(title=title, xlabel="parameters", ylabel="tokens to get there")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(FuncFormatter(lambda x, _: short(x)))
    label_lines(ax, fontsize=9)
    plt.show()


def plot_equal_compute(valleys: Sequence[EqualCompute], title: str) -> None:
    """Loss against size for each amount of compute; a ring at each valley's lowest point."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.9))
    colors = size_colors([valley.flops for valley in valleys])
    for valley in valleys:
        sizes = np.array([run.parameters for run in valley.runs])
        losses = np.array([run.loss for run in valley.runs])
        color = colors[valley.flops]
        ax.semilogx(sizes, losses, "o", ms=4.5, color=color)
        parabola = np.poly1d(np.polyfit(np.log(sizes), losses, 2))
        fine = np.geomspace(sizes[0], sizes[-1], 60)
        exponent = int(np.floor(np.log10(valley.flops)))
        label = rf"{valley.flops / 10**exponent:.1f}·10$^{{{exponent}}}$"
        ax.plot(fine, parabola(np.log(fine)), color=color, lw=1.4, label=label)
        if valley.best is not None:
            ax.plot(
                valley.best,
                parabola(np.log(valley.best)),
                "o",
                ms=9,
                mfc="none",
                mec=COLORS["highlight"],
            )
    ax.set(title=title, xlabel="parameters", ylabel="loss (nats a token)")
    _short_ticks(ax)
    label_lines(ax, fontsize=9)
    plt.show()


def plot_tokens_a_parameter(
    laws: Mapping[str, Callable[[float], float]],
    flops: tuple[float, float],
    marks: Mapping[str, tuple[float, float]],
    title: str,
) -> None:
    """What each law says is the best number of tokens a parameter, against compute.

    Args:
        laws: from compute to tokens a parameter.
        flops: the range of compute.
        marks: models that were trained: their compute and their tokens a parameter.
        title: what the picture shows.
    """
    _, ax = plt.subplots(figsize=(WIDTH, 4.2))
    x = np.geomspace(*flops, 60)
    colors = ("key", "query", "value", "output", "theory")
    for color, (name, law) in zip(colors, laws.items(), strict=False):
        ratios = np.array([law(c) for c in x])
        shown = ratios > 0.1
        ax.loglog(x[shown], ratios[shown], color=COLORS[color], label=name)
    for name, (c, ratio) in marks.items():
        ax.plot(c, ratio, "o", color=INK, ms=5)
        ax.annotate(
            name,
            (c, ratio),
            xytext=(-6, 5),
            textcoords="offset points",
            fontsize=9,
            ha="right",
        )
    ax.set(
        title=title,
        xlabel="compute (operations)",
        ylabel="tokens a parameter",
        ylim=(0.08, 6000),
    )
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    label_lines(ax, fontsize=9)
    plt.show()


def plot_shapes(
    by_depth: Mapping[str, Sequence[float]],
    by_heads: Mapping[str, Sequence[float]],
    title: str,
) -> None:
    """Losses of some seeds by shape: from wide to deep, and from few heads to many."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.4), sharey=True)
    for ax, groups, name in (
        (axes[0], by_depth, "width × layers"),
        (axes[1], by_heads, "heads (width 64, 4 layers)"),
    ):
        for place, losses in enumerate(groups.values()):
            ax.plot([place] * len(losses), losses, "o", ms=5, color=COLORS["attention"])
        means = [float(np.mean(losses)) for losses in groups.values()]
        ax.plot(range(len(groups)), means, color=COLORS["attention"], lw=1.2)
        ax.set(xlabel=name, xticks=range(len(groups)), xticklabels=list(groups))
        ax.margins(x=0.12)
    axes[0].set_ylabel("loss (nats a token)")
    headline(figure, title)
    plt.show()


def plot_emergence(
    losses: Sequence[float], right: Mapping[int, Sequence[float]], title: str
) -> None:
    """The share of spans that are right throughout, against the loss, in two scales.

    Args:
        losses: of some models.
        right: for each length of a span, the share of each model.
        title: what the picture shows.
    """
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.6))
    order = np.argsort(losses)[::-1]
    x = np.asarray(losses)[order]
    colors = size_colors(list(right))
    for ax, scale in zip(axes, ("linear", "log"), strict=True):
        for span, shares in right.items():
            y = np.asarray(shares)[order]
            if scale == "linear":
                y = y / y.max()  # every metric by its own best: what a headline shows
            seen = y > 0
            name = "1 token" if span == 1 else f"{span} in a row"
            ax.plot(
                x[seen], y[seen], ".-", lw=1.2, ms=5, color=colors[span], label=name
            )
        ax.set(xlabel="loss (nats a token)", yscale=scale)
        ax.invert_xaxis()
    axes[0].set_ylabel("share right, of the best model's")
    axes[1].set_ylabel("share right")
    axes[0].legend(loc="upper left", fontsize=9)
    headline(figure, title)
    plt.show()


def plot_middle(
    steps: Sequence[int],
    course: Sequence[float],
    finished: Mapping[int, float],
    title: str,
) -> None:
    """The losses of one long run on its way, and of runs that end there."""
    _, ax = plt.subplots(figsize=(WIDTH, 3.3))
    ax.plot(steps, course, "o-", color=COLORS["key"], label="one long run, on its way")
    ax.plot(
        list(finished),
        list(finished.values()),
        "o-",
        color=COLORS["attention"],
        label="runs that end there",
    )
    ax.set(title=title, xlabel="tokens", ylabel="loss (nats a token)", xscale="log")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_locator(FixedLocator(sorted({*finished})))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x)))
    ax.legend()
    plt.show()


def plot_ratios(rows: Sequence[Row], title: str) -> None:
    """A bar for each piece of work: how many times as fast ours is as the reference."""
    figure, ax = plt.subplots(figsize=(WIDTH, 0.3 * len(rows) + 1.2))
    sections = list(dict.fromkeys(row.section for row in rows))
    colors = ("query", "key", "value", "output", "theory")
    for place, row in enumerate(rows):
        color = COLORS[colors[sections.index(row.section) % len(colors)]]
        ax.barh(place, row.ratio, color=color, alpha=0.75)
        ax.plot([row.low, row.high], [place, place], color=INK, lw=1.2)
    ax.axvline(1, color=COLORS["theory"], ls="--", lw=1.2)
    headline(figure, title)
    ax.set(
        xlabel="times as fast as the reference",
        ylim=(-0.8, len(rows) - 0.2),
        yticks=range(len(rows)),
        yticklabels=[
            row.work + ", unrolled" * ("unrolled" in row.ours) for row in rows
        ],
    )
    ax.tick_params(axis="y", labelsize=8.5)
    ax.invert_yaxis()
    plt.show()


def _short_ticks(ax: Axes) -> None:
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x)))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _plain_losses(ax: Axes) -> None:
    low, high = ax.get_ylim()
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_locator(
        FixedLocator(np.arange(np.ceil(low * 4) / 4, high, 0.25))
    )
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
