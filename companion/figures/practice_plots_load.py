"""The plots of the project that loads SmolLM2."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm

from companion.analysis.module_parity import ParityReport
from companion.figures.style import COLORS, WIDTH

_PARTS = {
    "norm 1": "input_layernorm",
    "W_q": "self_attn.q_proj",
    "W_k": "self_attn.k_proj",
    "W_v": "self_attn.v_proj",
    "W_o": "self_attn.o_proj",
    "attention": "self_attn",
    "norm 2": "post_attention_layernorm",
    "W_gate": "mlp.gate_proj",
    "W_up": "mlp.up_proj",
    "W_down": "mlp.down_proj",
    "feed-forward": "mlp",
    "block": "",
}


def plot_modules(report: ParityReport, depth: int) -> None:
    """How far each module is off, on the reference's input and in the whole network.

    Args:
        report: of a network in which each module is compared.
        depth: the number of its layers.
    """
    found = {line.name: line for line in report.lines}
    own, chain = np.full((2, len(_PARTS), depth), np.nan)
    for row, part in enumerate(_PARTS.values()):
        for layer in range(depth):
            line = found[f"model.layers.{layer}.{part}".removesuffix(".")]
            own[row, layer] = line.off
            chain[row, layer] = np.nan if line.chain is None else line.chain
    _, axes = plt.subplots(2, 1, figsize=(WIDTH, 7), sharex=True, layout="constrained")
    scale = LogNorm(1e-6, 1.0, clip=True)
    titles = (
        "Each on the reference's input: one fault ...",
        "... in the whole network: all that follows",
    )
    for ax, numbers, title in zip(axes, (own, chain), titles, strict=True):
        image = ax.imshow(numbers, norm=scale, cmap="Blues", aspect="auto")
        ax.set_yticks(range(len(_PARTS)), _PARTS)
        ax.set_xticks(range(0, depth, 5))
        ax.set_title(title)
        ax.grid(False)
    axes[1].set_xlabel("layer")
    plt.colorbar(
        image,
        ax=axes,
        location="bottom",
        shrink=0.7,
        label="largest difference, as a share of the row's largest number",
    )
    plt.show()


def plot_perplexities(found: Mapping[str, tuple[float, str]], right: float) -> None:
    """The perplexity of a text under each mistake, and what it writes after a prompt.

    Args:
        found: for each mistake the perplexity, and the first words that are written.
        right: the reference's perplexity.
    """
    _, ax = plt.subplots(figsize=(WIDTH, 0.42 * len(found) + 1.3))
    names = list(found)
    for row, (perplexity, words) in enumerate(found.values()):
        paris = words.strip().startswith("Paris")
        color = COLORS["query"] if paris else COLORS["context"]
        ax.plot([right, perplexity], [row, row], color=color, lw=2, zorder=1)
        ax.scatter(perplexity, row, color=color, s=45, zorder=2)
        ax.annotate(
            f"“{words.strip()}”",
            (max(perplexity, right), row),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
        )
    ax.axvline(right, color=COLORS["theory"], ls="--", lw=1)
    ax.set_xscale("log")
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    largest = max(perplexity for perplexity, _ in found.values())
    ax.set_xlim(right / 4, largest * 3000)  # room for what is said
    ax.set_xlabel("perplexity of lines of Macbeth (dashed: the right network)")
    ax.set_title("Knowing the capital of France proves little", loc="left")
    plt.show()
