"""The interactive pattern explorer: which keys a query may see, and how far layers reach."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import traitlets

from companion.figures.widget import Figure, figure_module

_HERE = Path(__file__).parent
_HIGHEST = {"window": 16, "num_global": 4, "num_random": 4, "layers": 8}
_LOWEST = {"window": 0, "num_global": 0, "num_random": 0, "layers": 1}


class PatternExplorer(Figure):
    """Window, global and random keys to be mixed by sliders, and the reach of a stack.

    The traits can be set and observed from Python. Positions count from 0.

    Args:
        window: positions that a query sees on each side, 0 to 16.
        num_global: how many positions at the start see all and are seen by all, 0 to 4.
        num_random: keys that each query sees by chance, 0 to 4; the same in each layer.
        layers: how many layers are stacked, 1 to 8.
        query: the position that is looked at.
        length: how many positions there are.
        seed: of the random keys.

    Raises:
        ValueError: a number is out of range.
    """

    _esm = figure_module(_HERE / "pattern_explorer.js")
    _css = _HERE / "pattern_explorer.css"

    window = traitlets.Int(2).tag(sync=True)
    num_global = traitlets.Int(0).tag(sync=True)
    num_random = traitlets.Int(0).tag(sync=True)
    layers = traitlets.Int(1).tag(sync=True)
    query = traitlets.Int(0).tag(sync=True)
    length = traitlets.Int(64, read_only=True).tag(sync=True)
    highest = traitlets.Dict(_HIGHEST, read_only=True).tag(sync=True)
    lowest = traitlets.Dict(_LOWEST, read_only=True).tag(sync=True)
    # For each query, the keys that chance gives it; as many of them count as are asked.
    random_keys = traitlets.List(read_only=True).tag(sync=True)

    def __init__(
        self,
        window: int = 2,
        num_global: int = 0,
        num_random: int = 0,
        layers: int = 1,
        query: int | None = None,
        *,
        length: int = 64,
        seed: int = 0,
    ) -> None:
        if not 8 <= length <= 128:
            raise ValueError(f"length must be from 8 to 128, but it is {length}")
        super().__init__()
        draw = random.Random(seed)
        keys = [
            draw.sample(range(length), _HIGHEST["num_random"]) for _ in range(length)
        ]
        self.set_trait("length", length)
        self.set_trait("random_keys", keys)
        self.window, self.num_global = window, num_global
        self.num_random, self.layers = num_random, layers
        self.query = length // 2 if query is None else query

    @traitlets.validate("window", "num_global", "num_random", "layers", "query")
    def _stay_in_range(self, proposal: Any) -> int:
        name, value = proposal.trait.name, proposal.value
        low, high = _LOWEST.get(name, 0), _HIGHEST.get(name, self.length - 1)
        if not low <= value <= high:
            raise ValueError(f"{name} must be from {low} to {high}, but it is {value}")
        return value

    def mask(self) -> np.ndarray:
        """Which key (column) each query (row) may see: boolean, ``(length, length)``."""
        position = np.arange(self.length)
        seen = np.abs(position[:, None] - position) <= self.window
        is_global = position < self.num_global
        seen |= is_global[:, None] | is_global
        for query, keys in enumerate(self.random_keys):
            seen[query, keys[: self.num_random]] = True
        return seen

    def reach(self) -> np.ndarray:
        """Which inputs the query's output depends on after all layers: ``(length,)``."""
        seen, reached = self.mask(), np.arange(self.length) == self.query
        for _ in range(self.layers):
            reached = seen[reached].any(axis=0)
        return reached

    def describe(self) -> str:
        return f"attention pattern over {self.length} positions"

    def fallback(self) -> str:
        """The first state in a sentence."""
        seen = self.mask()
        return (
            f"<p>With a window of {self.window} on each side, {self.num_global} global "
            f"and {self.num_random} random keys, {seen.mean():.0%} of all pairs are "
            f"scored. Query {self.query} sees {seen[self.query].sum()} of {self.length} "
            f"keys, and {self.reach().sum()} inputs through layers: {self.layers}. With "
            "JavaScript this figure has sliders.</p>"
        )
