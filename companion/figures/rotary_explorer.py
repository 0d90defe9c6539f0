"""The interactive rotary explorer: how positions turn a query and a key, and what stays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import traitlets

from companion.figures.widget import Figure, figure_module, figure_style
from companion.layers.positions import sinusoidal_table
from companion.layers.rotary import RotaryEmbedding

_HERE = Path(__file__).parent
_LOWEST = {"place": 32, "distance": -32, "base": 10.0}
_HIGHEST = {"place": 96, "distance": 32, "base": 1e6}


class RotaryExplorer(Figure):
    """One query and one key, at positions that sliders move: their pairs and their score.

    The traits can be set and observed from Python.

    Args:
        query, key: two lists of the same even number of coordinates, at most 8, in the
            interleaved layout.
        place: the key's position, 32 to 96.
        distance: the query's position less the key's, -32 to 32.
        base: of the speeds, 10 to 1,000,000.
        encoding: ``"rotary"`` turns query and key, ``"added"`` adds a sinusoid to both.

    Raises:
        ValueError: a number is out of range, or query and key don't fit together.
    """

    _esm = figure_module(_HERE / "rotary_explorer.js")
    _css = figure_style(_HERE / "rotary_explorer.css")

    place = traitlets.Int(40).tag(sync=True)
    distance = traitlets.Int(0).tag(sync=True)
    base = traitlets.Float(10000.0).tag(sync=True)
    encoding = traitlets.Enum(["rotary", "added"], "rotary").tag(sync=True)
    query = traitlets.List(read_only=True).tag(sync=True)
    key = traitlets.List(read_only=True).tag(sync=True)
    lowest = traitlets.Dict(_LOWEST, read_only=True).tag(sync=True)
    highest = traitlets.Dict(_HIGHEST, read_only=True).tag(sync=True)

    def __init__(
        self,
        query: Sequence[float],
        key: Sequence[float],
        *,
        place: int = 40,
        distance: int = 5,
        base: float = 10000.0,
        encoding: str = "rotary",
    ) -> None:
        if len(query) != len(key) or len(query) not in (2, 4, 6, 8):
            raise ValueError(
                "query and key must both have 2, 4, 6 or 8 coordinates, but they have "
                f"{len(query)} and {len(key)}"
            )
        if encoding not in ("rotary", "added"):
            raise ValueError(
                f"encoding must be 'rotary' or 'added', but it is {encoding!r}"
            )
        super().__init__()
        self.set_trait("query", [float(x) for x in query])
        self.set_trait("key", [float(x) for x in key])
        self.place, self.distance = place, distance
        self.base, self.encoding = base, encoding

    @traitlets.validate("place", "distance", "base")
    def _stay_in_range(self, proposal: Any) -> float:
        name, value = proposal.trait.name, proposal.value
        if not _LOWEST[name] <= value <= _HIGHEST[name]:
            raise ValueError(
                f"{name} must be from {_LOWEST[name]:g} to {_HIGHEST[name]:g}, but it "
                f"is {value:g}"
            )
        return value

    def placed(self) -> tuple[np.ndarray, np.ndarray]:
        """Query and key as they are at each position, ``(positions, d_k)`` each.

        Positions run from 0 to the largest that the sliders reach.
        """
        length = _HIGHEST["place"] + _HIGHEST["distance"] + 1
        both = torch.tensor([self.query, self.key], dtype=torch.float64)
        both = both[:, None].expand(2, length, -1)
        if self.encoding == "rotary":
            rope = RotaryEmbedding(both.shape[-1], base=self.base)
            placed = rope.rotate(both, torch.arange(length))
        else:
            table = sinusoidal_table(
                length, both.shape[-1], base=self.base, dtype=torch.float64
            )
            placed = both + table.cpu()
        return placed[0].numpy(), placed[1].numpy()

    def scores(self) -> np.ndarray:
        """The score of the query at position m (row) and the key at n (column)."""
        query, key = self.placed()
        return query @ key.T

    def score(self) -> float:
        """The score that is looked at."""
        return float(self.scores()[self.place + self.distance, self.place])

    def along(self) -> np.ndarray:
        """The score at this distance, for every place of the key that the slider has."""
        places = np.arange(_LOWEST["place"], _HIGHEST["place"] + 1)
        return self.scores()[places + self.distance, places]

    def describe(self) -> str:
        return f"a query and a key of {len(self.query) // 2} pairs at any two positions"

    def fallback(self) -> str:
        """The first state in a sentence."""
        along = self.along()
        return (
            f"<p>A query at position {self.place + self.distance} and a key at "
            f"{self.place} have the score {self.score():.2f}. As both move along, at the "
            f"same distance, it goes from {along.min():.2f} to {along.max():.2f}. "
            "With JavaScript this figure has sliders.</p>"
        )
