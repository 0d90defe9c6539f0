"""The interactive query plane: a query among keys, and the average of values that it gets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from companion.figures.widget import Figure, figure_module, figure_style
from companion.layers.attention import scaled_dot_product_attention

_HERE = Path(__file__).parent
_LIMIT = 3.0  # of each coordinate of a query or key
_LARGEST_SCALE = 4.0


class QueryPlane(Figure):
    """Attention in two dimensions: query and keys to be moved, beside values and output.

    The traits can be set and observed from Python.

    Args:
        query: its two coordinates, each from -3 to 3.
        keys: the two coordinates of each key, each from -3 to 3; 2 to 6 keys.
        values: the two coordinates of each key's value.
        scale: the factor on the scores, 0 to 4; 1 / sqrt(2) by default, as d_k is 2.

    Raises:
        ValueError: a number is out of range, or keys and values don't fit together.
    """

    _esm = figure_module(_HERE / "query_plane.js")
    _css = figure_style(_HERE / "query_plane.css")

    query = traitlets.List().tag(sync=True)
    key_points = traitlets.List().tag(sync=True)  # `keys` is a widget's own
    scale = traitlets.Float(1.0).tag(sync=True)
    values = traitlets.List(read_only=True).tag(sync=True)
    limit = traitlets.Float(_LIMIT, read_only=True).tag(sync=True)
    largest_scale = traitlets.Float(_LARGEST_SCALE, read_only=True).tag(sync=True)

    def __init__(
        self,
        query: Sequence[float],
        keys: Sequence[Sequence[float]],
        values: Sequence[Sequence[float]],
        *,
        scale: float = 1 / math.sqrt(2),
    ) -> None:
        if not 2 <= len(values) <= 6 or any(len(value) != 2 for value in values):
            raise ValueError(
                f"values must be 2 to 6 pairs of coordinates, but they are {values}"
            )
        super().__init__()
        self.set_trait("values", [[float(x) for x in value] for value in values])
        self.key_points = [[float(x) for x in key] for key in keys]
        self.query = [float(x) for x in query]
        self.scale = scale

    @traitlets.validate("query", "key_points")
    def _stay_on_the_plane(self, proposal: Any) -> list:
        points = proposal.value
        name = "query" if proposal.trait.name == "query" else "keys"
        if name == "keys" and len(points) != len(self.values):
            raise ValueError(
                f"keys must be {len(self.values)} points, one a value, but they are "
                f"{len(points)}"
            )
        for point in points if name == "keys" else [points]:
            if len(point) != 2 or not all(-_LIMIT <= x <= _LIMIT for x in point):
                raise ValueError(
                    f"{name} must have two coordinates from {-_LIMIT:g} to {_LIMIT:g}, "
                    f"but one point is {point}"
                )
        return points

    @traitlets.validate("scale")
    def _stay_in_range(self, proposal: Any) -> float:
        if not 0 <= proposal.value <= _LARGEST_SCALE:
            raise ValueError(
                f"scale must be from 0 to {_LARGEST_SCALE:g}, but it is {proposal.value}"
            )
        return proposal.value

    def attend(self) -> tuple[Float[Tensor, "2"], Float[Tensor, "keys"]]:
        """The output and the weights, by the package's own function."""
        query, keys, values = (
            torch.tensor(points, dtype=torch.float64)
            for points in ([self.query], self.key_points, self.values)
        )
        output, weights = scaled_dot_product_attention(
            query, keys, values, scale=self.scale
        )
        return output[0], weights[0]

    def describe(self) -> str:
        return f"a query among {len(self.values)} keys in the plane"

    def fallback(self) -> str:
        """The first state in a sentence."""
        output, weights = self.attend()
        shares = ", ".join(f"{weight:.2f}" for weight in weights.tolist())
        return (
            f"<p>The query ({self.query[0]:.1f}, {self.query[1]:.1f}) gives the keys the "
            f"weights {shares}, and the output is ({output[0]:.2f}, {output[1]:.2f}). "
            "With JavaScript the query and the keys can be moved.</p>"
        )
