"""The quantization explorer: real weights on a grid of few levels, by bits and by scale."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import traitlets
from numpy.typing import ArrayLike

from companion.figures.widget import Figure, figure_module, figure_style

_HERE = Path(__file__).parent
BLOCK = 32
_WAYS = ("matrix", "row", "blocks")
_LOWEST, _HIGHEST = 2, 8  # bits


class QuantizationExplorer(Figure):
    """Rows of a weight matrix, rounded to 2 to 8 bits with a scale for more or fewer weights.

    One scale for the matrix or for the row is that of `quantize_absmax`: levels are
    multiples of it, and 0 is one. Blocks of 32 have a lowest level and a step each, kept
    in 16 bits, as in `quantize_blocks`.

    Args:
        rows: name -> weights, rows of one matrix; as many in each, a multiple of 32.
        peak: the largest absolute weight of the whole matrix.
        num_rows: rows of the whole matrix.
        row: which of the rows is shown first, from 0.
        bits: 2 to 8.
        way: what shares a scale, ``"matrix"``, ``"row"`` or ``"blocks"``.
        place: the weight that is looked at, from 0.
        caption: what stands under the figure.

    Raises:
        ValueError: the rows don't fit together or with the peak, or a number is out of
            range.
    """

    _esm = figure_module(_HERE / "quantization_explorer.js")
    _css = figure_style(_HERE / "quantization_explorer.css")

    row = traitlets.Int(0).tag(sync=True)
    bits = traitlets.Int(8).tag(sync=True)
    way = traitlets.Enum(_WAYS, "matrix").tag(sync=True)
    place = traitlets.Int(0).tag(sync=True)
    names = traitlets.List(read_only=True).tag(sync=True)
    rows = traitlets.List(read_only=True).tag(sync=True)
    peak = traitlets.Float(1.0, read_only=True).tag(sync=True)
    num_rows = traitlets.Int(1, read_only=True).tag(sync=True)
    caption = traitlets.Unicode("", read_only=True).tag(sync=True)

    def __init__(
        self,
        rows: Mapping[str, ArrayLike],
        peak: float,
        num_rows: int,
        *,
        row: int = 0,
        bits: int = 8,
        way: str = "matrix",
        place: int = 0,
        caption: str = "",
    ) -> None:
        table = [np.asarray(weights, dtype=float) for weights in rows.values()]
        lengths = {weights.shape for weights in table}
        if len(lengths) != 1 or table[0].ndim != 1 or len(table[0]) % BLOCK:
            raise ValueError(
                f"rows must be of one length, a multiple of {BLOCK}, but their shapes are "
                f"{sorted(lengths)}"
            )
        largest = max(float(np.abs(weights).max()) for weights in table)
        if not 0 < largest <= peak * (1 + 1e-6):
            raise ValueError(
                f"peak must be at least the largest weight, {largest:g}, and above 0, but "
                f"it is {peak:g}"
            )
        if num_rows < len(table):
            raise ValueError(
                f"num_rows must be at least the {len(table)} that are given, not {num_rows}"
            )
        if way not in _WAYS:
            raise ValueError(
                f"way must be one of {', '.join(_WAYS)}, but it is {way!r}"
            )
        super().__init__()
        digits = [[float(f"{w:.5g}") for w in weights] for weights in table]
        for name, value in {
            "names": list(rows),
            "rows": digits,
            "peak": float(peak),
            "num_rows": num_rows,
            "caption": caption,
        }.items():
            self.set_trait(name, value)
        self.row, self.bits, self.way, self.place = row, bits, way, place

    @traitlets.validate("row", "bits", "place")
    def _stay_in_range(self, proposal: Any) -> int:
        name, value = proposal.trait.name, proposal.value
        low, high = {
            "row": (0, len(self.rows) - 1),
            "bits": (_LOWEST, _HIGHEST),
            "place": (0, len(self.rows[0]) - 1),
        }[name]
        if not low <= value <= high:
            raise ValueError(f"{name} must be from {low} to {high}, but it is {value}")
        return value

    def grids(self) -> tuple[np.ndarray, np.ndarray]:
        """The step and the origin of each weight's grid, ``(length,)`` each."""
        weights = np.array(self.rows[self.row])
        if self.way == "blocks":
            blocks = weights.reshape(-1, BLOCK)
            lowest = blocks.min(axis=1)
            step = (blocks.max(axis=1) - lowest) / (2**self.bits - 1)
            return step.repeat(BLOCK), lowest.repeat(BLOCK)
        largest = self.peak if self.way == "matrix" else np.abs(weights).max()
        step = largest / (2 ** (self.bits - 1) - 1)
        return np.full_like(weights, step), np.zeros_like(weights)

    def levels(self) -> np.ndarray:
        """The integers that are stored, ``(length,)``."""
        step, origin = self.grids()
        weights = np.array(self.rows[self.row])
        units = np.divide(
            weights - origin, step, out=np.zeros_like(step), where=step > 0
        )
        if self.way == "blocks":
            return np.floor(units + 0.5).astype(int)
        return np.rint(units).astype(int)

    def rounded(self) -> np.ndarray:
        """The weights as they come back, ``(length,)``."""
        step, origin = self.grids()
        if self.way == "blocks":
            step, origin = (x.astype(np.float16).astype(float) for x in (step, origin))
        return self.levels() * step + origin

    def error(self) -> float:
        """How far off the row is: the length of the difference over that of the row."""
        weights = np.array(self.rows[self.row])
        return float(np.linalg.norm(self.rounded() - weights) / np.linalg.norm(weights))

    def bits_a_weight(self) -> float:
        """Bits that a weight costs, its part of the scales included."""
        length = len(self.rows[0])
        shared = {"matrix": length * self.num_rows, "row": length, "blocks": BLOCK}
        return self.bits + 32 / shared[self.way]

    def describe(self) -> str:
        return f"{len(self.rows)} rows of {len(self.rows[0])} weights, rounded"

    def fallback(self) -> str:
        """The first state in a sentence."""
        shares = {"matrix": "the matrix", "row": "each row", "blocks": "each block"}
        return (
            f"<p>Row “{escape(self.names[self.row])}”, rounded to {self.bits} bits with a "
            f"scale for {shares[self.way]}, is {100 * self.error():.1f}% off. With "
            "JavaScript this figure has sliders for both.</p>"
        )
