"""The plots of the chapter on the encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from jaxtyping import Float
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter
from numpy.typing import ArrayLike
from torch import Tensor

from companion.figures.style import (
    COLORS,
    WIDTH,
    head_color,
    headline,
    label_lines,
    spread,
)

# One color for a way to build the layer, in all plots of the chapter.
_KINDS = {
    "attention alone": "#d55e00",
    "attention, FFN": "#b87c00",
    "attention, norm": "#b0568a",
    "no residual": "#d55e00",
    "residual, no norm": "#b87c00",
    "norm, no residual": "#b0568a",
    "post-norm": COLORS["query"],
    "pre-norm": COLORS["value"],
}


def plot_collapse(curves: Mapping[str, Sequence[float]]) -> None:
    """How much of each layer's output tells positions apart, on a logarithmic axis."""
    _, ax = plt.subplots(figsize=(WIDTH, 4.0))
    for name, values in curves.items():
        end = next((i for i, v in enumerate(values) if v < 1e-14), len(values) - 1)
        kept = [max(v, 1e-15) for v in values[: end + 1]]  # below is rounding
        ax.semilogy(range(end + 1), kept, "o-", color=_KINDS[name], label=name, ms=4)
    ax.set(
        title="Attention alone makes all tokens alike",
        xlabel="layers passed",
        ylabel="share that tells tokens apart",
        ylim=(1e-18, 10),
    )
    ax.yaxis.set_minor_locator(NullLocator())
    label_lines(ax)
    plt.show()


def plot_first_layer_gradient(
    depths: Sequence[int], gradients: Mapping[str, ArrayLike]
) -> None:
    """Length of the first layer's gradient against depth: mean and range of the seeds."""
    _, ax = plt.subplots(figsize=(WIDTH, 4.2))
    for name, runs in gradients.items():
        spread(ax, depths, runs, name, _KINDS[name], marker="o", ms=4)
    ax.set_yscale("log")
    ax.set(
        title="Residuals alone explode, norms keep the gradient",
        xlabel="depth (layers)",
        ylabel="gradient in the first layer",
        xticks=depths,
    )
    ax.yaxis.set_minor_locator(NullLocator())
    label_lines(ax)
    plt.show()


def plot_gradients_by_layer(
    post: Mapping[int, Sequence[float]], pre: Mapping[int, Sequence[float]]
) -> None:
    """Length of the gradient of W_2 in each layer, one line a depth, both norm orders."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.6), sharey=True)
    for ax, (name, curves) in zip(
        axes, {"post-norm": post, "pre-norm": pre}.items(), strict=True
    ):
        for i, (depth, values) in enumerate(curves.items()):
            ax.plot(
                range(1, depth + 1),
                values,
                "o-",
                color=_KINDS[name],
                alpha=(i + 1.5) / (len(curves) + 0.5),
                label=str(depth),
                ms=4,
            )
        ax.set_ylim(0, None)
        ax.set_title(name, fontsize=11, fontweight="normal")
        ax.set_xlabel("layer, from the input on")
        label_lines(ax)
    axes[0].set_ylabel("gradient of $W_2$")
    headline(figure, "Pre-norm gives the last layers small gradients")
    plt.show()


def plot_warmup(
    rates: Sequence[float],
    stored: Mapping[str, ArrayLike],
    measured: Mapping[str, Mapping[float, float]],
    chance: float,
) -> None:
    """Final loss against the learning rate; bands for stored seeds, points for this run.

    ``stored`` maps a name, such as "post-norm, no warm-up", to ``(seeds, rates)``.
    """
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.7), sharey=True)
    for ax, norm in zip(axes, ("post-norm", "pre-norm"), strict=True):
        for warmup, dash in (("no warm-up", "--"), ("warm-up", "-")):
            name = f"{norm}, {warmup}"
            spread(ax, rates, stored[name], warmup, _KINDS[norm], ls=dash)
            for rate, loss in measured.get(name, {}).items():
                face = _KINDS[norm] if warmup == "warm-up" else "white"
                ax.plot(rate, loss, "o", color=_KINDS[norm], mfc=face, ms=7)
        ax.axhline(chance, color=COLORS["theory"], ls=":", lw=1.5)
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(FixedLocator(rates))
        ax.xaxis.set_major_formatter(lambda r, _: f"{r:g}")
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_title(norm, fontsize=11, fontweight="normal")
        ax.set_xlabel("highest learning rate")
        ax.legend(loc="lower left")
    axes[0].set_ylim(0.7, 2.2)  # leaves room for the legends
    axes[0].annotate("chance", (rates[0], chance), va="bottom", fontsize=10)
    axes[0].set_ylabel("loss at the end (nats)")
    headline(figure, "Post-norm needs the warm-up, pre-norm does not")
    plt.show()


def plot_accuracies(accuracies: Mapping[str, float], chance: float) -> None:
    """One bar a model, encoders in blue, linear models in vermilion."""
    _, ax = plt.subplots(figsize=(WIDTH, 2.9))
    names = list(accuracies)
    colors = [
        COLORS["attention"] if "encoder" in name else COLORS["recurrent"]
        for name in names
    ]
    bars = ax.barh(names, list(accuracies.values()), color=colors, height=0.6)
    ax.bar_label(bars, [f"{a:.0%}" for a in accuracies.values()], padding=4)
    ax.axvline(chance, color=COLORS["theory"], ls=":", lw=1.5)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set(
        title="Counting runs of letters beats a small encoder",
        xlabel="texts whose language is found (dotted: chance)",
        xlim=(0, 1),
    )
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    plt.show()


def plot_letters(
    shares: Float[Tensor, "heads letters"], letters: Sequence[str], shown: int = 6
) -> None:
    """The letters that each head favors, as multiples of a fair share, a panel a head."""
    figure, axes = plt.subplots(1, len(shares), figsize=(WIDTH, 3.0), sharex=True)
    for head, (ax, values) in enumerate(zip(axes, shares.cpu(), strict=True)):
        best = values.argsort(descending=True)[:shown].tolist()
        names = ["␣" if letters[i] == " " else letters[i] for i in best]
        ax.barh(range(shown), values[best], color=head_color(head), height=0.7)
        ax.set_yticks(range(shown), names, fontsize=12)
        ax.tick_params(axis="y", length=0)
        ax.invert_yaxis()
        ax.axvline(1, color=COLORS["theory"], ls=":", lw=1.5)
        ax.grid(axis="y", visible=False)
        ax.set_title(f"head {head + 1}", fontsize=11, fontweight="normal")
    figure.supxlabel("attention received, in fair shares", fontsize=11)
    headline(figure, "Heads look for the letters that give a language away")
    plt.show()
