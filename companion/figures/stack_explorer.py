"""The interactive stack explorer: take parts from an encoder layer, and see what depth does."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from companion.analysis.depth import distinctness
from companion.figures.widget import Figure, figure_module, figure_style

_HERE = Path(__file__).parent
_NORMS = ("none", "post", "pre")
_FLOOR = 1e-16  # shares below it are rounding

Parts = tuple[bool, str, bool]  # residual, norm, feed-forward


class StackExplorer(Figure):
    """What tokens become layer by layer, with and without each part of a layer.

    The traits can be set and observed from Python.

    Args:
        streams: for each (residual, norm, feed_forward), as `AblatedLayer` takes them,
            the input and the output of every layer: ``(depths, tokens, d_model)``. All
            twelve, from the same input.
        residual, norm, feed_forward: what is shown first.
        depth: after how many layers.

    Raises:
        ValueError: a stack is missing, shapes differ, or a number is out of range.
    """

    _esm = figure_module(_HERE / "stack_explorer.js")
    _css = figure_style(_HERE / "stack_explorer.css")

    residual = traitlets.Bool(False).tag(sync=True)
    norm = traitlets.Enum(_NORMS, "none").tag(sync=True)
    feed_forward = traitlets.Bool(False).tag(sync=True)
    depth = traitlets.Int(0).tag(sync=True)
    # A dict a stack: its parts; by depth the tokens' places, in thousandths, and the
    # decimal logarithms of what tells them apart and of their size.
    stacks = traitlets.List(read_only=True).tag(sync=True)

    def __init__(
        self,
        streams: Mapping[Parts, Float[Tensor, "depths tokens d_model"]],
        *,
        residual: bool = False,
        norm: str = "none",
        feed_forward: bool = False,
        depth: int = 0,
    ) -> None:
        wanted = set(itertools.product((False, True), _NORMS, (False, True)))
        if set(streams) != wanted:
            raise ValueError(
                "streams must hold all (residual, norm, feed_forward), but these are "
                f"missing or too many: {sorted(wanted ^ set(streams))}"
            )
        shapes = {tuple(stream.shape) for stream in streams.values()}
        if len(shapes) != 1 or len(next(iter(shapes))) != 3:
            raise ValueError(
                "streams must all have one shape (depths, tokens, d_model), but they "
                f"have {sorted(shapes)}"
            )
        if norm not in _NORMS:
            raise ValueError(f"norm must be one of {_NORMS}, but it is {norm!r}")
        super().__init__()
        start = next(iter(streams.values()))[0].double()
        # Two fixed directions in which the input's tokens lie far apart.
        plane = torch.linalg.svd(start - start.mean(dim=0)).Vh[:2].T  # (D, 2)
        self.set_trait(
            "stacks",
            [_summary(parts, streams[parts], plane) for parts in sorted(wanted)],
        )
        self.residual, self.norm, self.feed_forward = residual, norm, feed_forward
        self.depth = depth

    @traitlets.validate("depth")
    def _stay_in_range(self, proposal: Any) -> int:
        high = len(self.stacks[0]["shares"]) - 1 if self.stacks else 0
        if not 0 <= proposal.value <= high:
            raise ValueError(
                f"depth must be from 0 to {high}, but it is {proposal.value}"
            )
        return proposal.value

    def shown(self) -> tuple[float, float]:
        """What tells the tokens apart, and their size, in the stack and at the depth shown."""
        parts = {n: getattr(self, n) for n in ("residual", "norm", "feed_forward")}
        stack = next(s for s in self.stacks if parts.items() <= s.items())
        return 10 ** stack["shares"][self.depth], 10 ** stack["sizes"][self.depth]

    def describe(self) -> str:
        return f"stacks of {len(self.stacks[0]['shares']) - 1} layers, part by part"

    def fallback(self) -> str:
        """The first state in a sentence."""
        share, size = self.shown()
        return (
            f"<p>After {self.depth} layers (residual: {self.residual}, norm: {self.norm}, "
            f"feed-forward network: {self.feed_forward}), the part of the tokens that "
            f"tells them apart is {share:.2g}, and their numbers are of size {size:.2g}. "
            "With JavaScript each part can be put in and taken out.</p>"
        )


def _summary(parts: Parts, stream: Tensor, plane: Tensor) -> dict[str, Any]:
    stream = stream.detach().double()
    size = stream.square().mean(dim=(1, 2)).sqrt()  # (depths,)
    places = (
        stream / size[:, None, None] @ plane.to(stream.device)
    )  # (depths, tokens, 2)
    shares = [max(distinctness(x[None]), _FLOOR) for x in stream]
    return {
        "residual": parts[0],
        "norm": parts[1],
        "feed_forward": parts[2],
        "places": (1000 * places).round().int().flatten(1).tolist(),
        "shares": [round(math.log10(share), 3) for share in shares],
        "sizes": [round(math.log10(s), 3) for s in size.tolist()],
    }
