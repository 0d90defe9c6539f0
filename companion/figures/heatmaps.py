"""Attention maps as heatmaps: a row is a query, a column a key, dark is much weight."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from companion.figures.style import ATTENTION_CMAP, CARD, COLORS, WIDTH


def attention_heatmap(
    ax: Axes,
    weights: ArrayLike,
    query_tokens: Sequence[str],
    key_tokens: Sequence[str] | None = None,
    *,
    title: str | None = None,
    mask: ArrayLike | None = None,
    vmax: float = 1.0,
    numbers: bool = False,
    colorbar: bool = False,
) -> None:
    """Draw one attention map with square cells and its tokens along both axes.

    Args:
        ax: where to draw.
        weights: ``(queries, keys)``, a tensor on any device or an array.
        query_tokens: one for each row.
        key_tokens: one for each column; ``query_tokens`` by default.
        title: above the map.
        mask: ``(queries, keys)``, True = may attend; the other cells are drawn gray.
        vmax: the weight drawn darkest; 1 by default, so that maps can be compared.
        numbers: write the weights into the cells.
        colorbar: draw the scale at the right.

    Raises:
        ValueError: shapes and numbers of tokens don't fit, or ``vmax`` is not positive.
    """
    weights = _as_array(weights)
    key_tokens = query_tokens if key_tokens is None else key_tokens
    if weights.ndim != 2:
        raise ValueError(
            f"weights must have shape (queries, keys), but it is {weights.shape}"
        )
    _check_tokens("query_tokens", query_tokens, weights.shape[0], "rows (queries)")
    _check_tokens("key_tokens", key_tokens, weights.shape[1], "columns (keys)")
    if not vmax > 0:
        raise ValueError(f"vmax must be positive, but it is {vmax}")
    hidden = None
    if mask is not None:
        hidden = ~_as_array(mask).astype(bool)
        if hidden.shape != weights.shape:
            raise ValueError(
                f"mask must have the shape of weights, {weights.shape}, "
                f"but it has shape {hidden.shape}"
            )

    size, step = _label_size(ax, max(weights.shape))
    sns.heatmap(
        weights,
        ax=ax,
        mask=hidden,
        vmin=0.0,
        vmax=vmax,
        cmap=ATTENTION_CMAP,
        square=True,
        linewidths=0.6 if max(weights.shape) <= 16 else 0.0,
        linecolor=CARD,
        annot=numbers,
        fmt=".2f",
        annot_kws={"fontsize": size},
        cbar=colorbar,
        cbar_kws={"label": "attention weight", "shrink": 0.8},
        xticklabels=False,
        yticklabels=False,
    )
    ax.set_facecolor(COLORS["mask"])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set(visible=True, color="#77776f", linewidth=0.6)
    _label_axis(ax.xaxis, key_tokens, size, step, rotation=90)
    _label_axis(ax.yaxis, query_tokens, size, step, rotation=0)
    ax.set_xlabel("key (attended to)")
    ax.set_ylabel("query (attends)")
    if title is not None:
        ax.set_title(title)


def visualize_attention_heads(
    weights: ArrayLike,
    tokens: Sequence[str],
    num_heads_to_show: int = 4,
    titles: Sequence[str] | None = None,
    *,
    key_tokens: Sequence[str] | None = None,
    mask: ArrayLike | None = None,
    vmax: float = 1.0,
    columns: int | None = None,
) -> Figure:
    """The maps of the first heads side by side, on one scale.

    Args:
        weights: ``(heads, queries, keys)`` or ``(1, heads, queries, keys)``, on any
            device.
        tokens: of the queries, and of the keys too unless ``key_tokens`` are given.
        num_heads_to_show: how many, from the first; all where there are fewer.
        titles: one for each map shown; "head 1", "head 2", ... by default.
        key_tokens: of the keys, for cross-attention.
        mask: ``(queries, keys)``, True = may attend.
        vmax: the weight drawn darkest.
        columns: maps in a row.

    Raises:
        ValueError: shapes, numbers of tokens or titles don't fit.
    """
    weights = _as_array(weights)
    if weights.ndim == 4 and weights.shape[0] == 1:
        weights = weights[0]
    if weights.ndim != 3 or 0 in weights.shape:
        raise ValueError(
            "weights must have shape (heads, queries, keys) or (1, heads, queries, "
            f"keys), but it has shape {weights.shape}"
        )
    if num_heads_to_show < 1:
        raise ValueError(
            f"num_heads_to_show must be at least 1, but it is {num_heads_to_show}"
        )
    shown = min(num_heads_to_show, len(weights))
    if titles is None:
        titles = [f"head {i + 1}" for i in range(shown)]
    if len(titles) != shown:
        raise ValueError(
            f"titles must name the {shown} maps shown, but it has {len(titles)} entries"
        )
    if columns is None:
        columns = shown if shown <= 3 else 2 if shown == 4 else 4
    if columns < 1:
        raise ValueError(f"columns must be at least 1, but it is {columns}")

    rows = math.ceil(shown / columns)
    aspect = weights.shape[1] / weights.shape[2]
    width = WIDTH if columns > 1 else 0.7 * WIDTH
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(width, rows * (aspect * (width - 2) / columns + 0.35) + 0.9),
        squeeze=False,
        layout="none",
    )
    # Laid out at the end: seaborn draws the whole figure for each map.
    for i, ax in enumerate(axes.flat):
        if i >= shown:
            ax.set_axis_off()
            continue
        attention_heatmap(
            ax, weights[i], tokens, key_tokens, title=titles[i], mask=mask, vmax=vmax
        )
        ax.set_xlabel("")
        ax.set_ylabel("")
        if i % columns:
            ax.set_yticklabels([])
        if i + columns < shown:
            ax.set_xticklabels([])
    figure.set_layout_engine("compressed")
    drawn = list(axes.flat[:shown])
    figure.supxlabel("key (attended to)", fontsize=11)
    figure.supylabel("query (attends)", fontsize=11)
    figure.colorbar(
        drawn[0].collections[0],
        ax=axes,
        label="attention weight",
        shrink=0.7,
        aspect=25,
    )
    return figure


def _as_array(values: ArrayLike) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return (values.float() if values.is_floating_point() else values).numpy()
    return np.asarray(values)


def _check_tokens(name: str, tokens: Sequence[str], wanted: int, of_what: str) -> None:
    if isinstance(tokens, str):
        raise ValueError(f"{name} must be a list of strings, but it is {tokens!r}")
    if len(tokens) != wanted:
        raise ValueError(
            f"{name} must name the {wanted} {of_what} of weights, but it has "
            f"{len(tokens)} entries"
        )


def _label_size(ax: Axes, cells: int) -> tuple[float, int]:
    """Points of a label, and label every how many cells, so that labels stay apart."""
    box = ax.get_position()
    width, height = ax.figure.get_size_inches()
    cell = 72 * min(box.width * width, box.height * height) / cells
    size = min(10.0, max(6.0, 0.85 * cell))
    return size, max(1, math.ceil(size / cell))


def _label_axis(axis, tokens, size: float, step: int, rotation: int) -> None:
    places = np.arange(0, len(tokens), step)
    axis.set_ticks(places + 0.5, [tokens[i] for i in places])
    axis.set_tick_params(length=0, labelsize=size, labelrotation=rotation, pad=2)
