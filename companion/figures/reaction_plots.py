"""The plot of the section on chemical reactions."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import seaborn as sns
from jaxtyping import Float
from matplotlib.patches import Rectangle
from torch import Tensor

from companion.data.smiles import ARROW, read_graph, smiles_tokens
from companion.figures.style import ATTENTION_CMAP, COLORS, WIDTH


def plot_atom_attention(
    attention: Float[Tensor, "product reactants"],
    smiles: str,
    sources: Sequence[int],
    title: str,
) -> None:
    """One head's attention between the atoms of a reaction; the right pairs are framed."""
    tokens = smiles_tokens(smiles)
    graph = read_graph(tokens)
    arrow = tokens.index(ARROW)
    sides = ([], [])
    for place, atom in zip(graph.places, graph.atoms, strict=True):
        sides[place > arrow].append(atom)
    reactants, product = sides
    _, ax = plt.subplots(figsize=(WIDTH, 0.33 * len(product) + 1.3))
    sns.heatmap(
        attention.numpy(),
        ax=ax,
        vmin=0,
        vmax=2,
        cmap=ATTENTION_CMAP,
        cbar_kws={"label": "attention, both ways"},
        xticklabels=reactants,
        yticklabels=product,
        linewidths=0.5,
    )
    for row, source in enumerate(sources):
        ax.add_patch(
            Rectangle((source, row), 1, 1, fill=False, lw=1.8, ec=COLORS["highlight"])
        )
    ax.grid(False)
    ax.tick_params(length=0, labelsize=11)
    ax.tick_params(axis="y", labelrotation=0)
    ax.set(xlabel="atom of the reactants", ylabel="atom of the product", title=title)
    plt.show()
