"""The interactive window explorer: what a patch can see through windows that shift, block by block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import traitlets

from companion.figures.widget import Figure, figure_module

_HERE = Path(__file__).parent
_LOWEST = {"blocks": 1}
_HIGHEST = {"blocks": 8}


class WindowExplorer(Figure):
    """A grid of patches in windows: pick a patch and see how far it reaches.

    Every second block moves its windows by half a window, as Swin does. Without ``mask``,
    the cyclic shift lets opposite edges of the picture see each other. The traits can be
    set and observed from Python. Rows and columns count from 0.

    Args:
        blocks: how many blocks are stacked, 1 to 8. The second, fourth, ... are shifted.
        shift: whether they are.
        mask: whether what the cyclic shift brought from the other edge is hidden.
        row, column: the patch that is looked at.
        size: patches on a side of the grid, a multiple of ``window``, up to 32.
        window: patches on a side of a window, from 2.

    Raises:
        ValueError: a number is out of range.
    """

    _esm = figure_module(_HERE / "window_explorer.js")
    _css = _HERE / "window_explorer.css"

    blocks = traitlets.Int(1).tag(sync=True)
    shift = traitlets.Bool(True).tag(sync=True)
    mask = traitlets.Bool(True).tag(sync=True)
    row = traitlets.Int(0).tag(sync=True)
    column = traitlets.Int(0).tag(sync=True)
    size = traitlets.Int(16, read_only=True).tag(sync=True)
    window = traitlets.Int(4, read_only=True).tag(sync=True)
    lowest = traitlets.Dict(_LOWEST, read_only=True).tag(sync=True)
    highest = traitlets.Dict(_HIGHEST, read_only=True).tag(sync=True)

    def __init__(
        self,
        blocks: int = 2,
        shift: bool = True,
        mask: bool = True,
        row: int | None = None,
        column: int | None = None,
        *,
        size: int = 16,
        window: int = 4,
    ) -> None:
        if window < 2 or not window <= size <= 32 or size % window:
            raise ValueError(
                "window must be at least 2 and divide size, which is at most 32, but they "
                f"are {window} and {size}"
            )
        super().__init__()
        self.set_trait("size", size)
        self.set_trait("window", window)
        self.blocks, self.shift, self.mask = blocks, shift, mask
        self.row = size // 2 - 1 if row is None else row
        self.column = size // 2 - 1 if column is None else column

    @traitlets.validate("blocks", "row", "column")
    def _stay_in_range(self, proposal: Any) -> int:
        name, value = proposal.trait.name, proposal.value
        low, high = _LOWEST.get(name, 0), _HIGHEST.get(name, self.size - 1)
        if not low <= value <= high:
            raise ValueError(f"{name} must be from {low} to {high}, but it is {value}")
        return value

    def groups(self, block: int) -> np.ndarray:
        """Which group each patch is in, in a block counted from 1: ``(size, size)``.

        Patches of one group see each other.
        """
        by = self.window // 2 if self.shift and block % 2 == 0 else 0
        place = np.arange(self.size)
        # Where the roll by `by` brings a patch from; the first `by` come out at the far end.
        part = (place - by) % self.size // self.window
        if self.mask:
            part = np.where(place < by, self.size // self.window, part)
        return part[:, None] * (self.size + 1) + part

    def reach(self) -> np.ndarray:
        """After which block each patch is first seen; 0 is the patch, -1 never.

        The output after ``blocks`` blocks looks back through them, the last one first, so
        that ``1`` is what the last block sees.
        """
        first = np.full((self.size, self.size), -1)
        first[self.row, self.column] = 0
        for step, block in enumerate(range(self.blocks, 0, -1), start=1):
            groups = self.groups(block)
            seen = np.isin(groups, groups[first >= 0])
            first[seen & (first < 0)] = step
        return first

    def describe(self) -> str:
        return f"windows of {self.window} on a grid of {self.size} by {self.size}"

    def fallback(self) -> str:
        """The first state in a sentence."""
        seen = int((self.reach() >= 0).sum())
        how = "shifted" if self.shift else "not shifted"
        return (
            f"<p>A grid of {self.size} by {self.size} patches in windows of {self.window} by "
            f"{self.window}, {how}. Through blocks: {self.blocks}, the patch in row "
            f"{self.row}, column {self.column} sees {seen} of {self.size**2} patches. With "
            "JavaScript this figure can be asked about every patch.</p>"
        )
