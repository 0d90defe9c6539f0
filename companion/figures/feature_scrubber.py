"""The interactive feature scrubber: how the features of images move while a model learns."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import traitlets
from numpy.typing import ArrayLike

from companion.figures.widget import Figure, figure_module

_HERE = Path(__file__).parent


class FeatureScrubber(Figure):
    """A map of images at several steps of a training, and each image's nearest neighbors.

    The traits ``moment`` and ``chosen`` can be set and observed from Python.

    Args:
        images: grey, ``(images, 1, height, width)``, from 0 to 1.
        labels: of the images, from 0 on; only for the marks on the map.
        classes: a short name of each label, such as a digit.
        steps: the updates at which there is a map.
        places: for each step, each image's place: two whole numbers from 0 to 999.
        nearest: for each step, the numbers of each image's nearest neighbors.
        moment: which of the steps is shown first, counted from 0.
        chosen: the image that is looked at first.

    Raises:
        ValueError: shapes don't fit, or a number is out of range.
    """

    _esm = figure_module(_HERE / "feature_scrubber.js")
    _css = _HERE / "feature_scrubber.css"

    moment = traitlets.Int(0).tag(sync=True)
    chosen = traitlets.Int(0).tag(sync=True)
    steps = traitlets.List(read_only=True).tag(sync=True)
    places = traitlets.List(read_only=True).tag(sync=True)
    nearest = traitlets.List(read_only=True).tag(sync=True)
    labels = traitlets.List(read_only=True).tag(sync=True)
    classes = traitlets.List(read_only=True).tag(sync=True)
    shape = traitlets.List(read_only=True).tag(sync=True)
    # One byte a pixel, in base64.
    pixels = traitlets.Unicode(read_only=True).tag(sync=True)

    def __init__(
        self,
        images: ArrayLike,
        labels: Sequence[int],
        classes: Sequence[str],
        steps: Sequence[int],
        places: Sequence[Sequence[Sequence[int]]],
        nearest: Sequence[Sequence[Sequence[int]]],
        *,
        moment: int = 0,
        chosen: int = 0,
    ) -> None:
        images = np.asarray(images, dtype=np.float64)
        if images.ndim != 4 or images.shape[1] != 1 or not len(images):
            raise ValueError(
                "images must have shape (images, 1, height, width), but it has shape "
                f"{images.shape}"
            )
        count = len(images)
        labels, places, nearest = (
            np.asarray(x, dtype=int) for x in (labels, places, nearest)
        )
        for name, array, wanted in (
            ("labels", labels, (count,)),
            ("places", places, (len(steps), count, 2)),
            ("nearest", nearest, (len(steps), count, *nearest.shape[2:3])),
        ):
            if array.shape != wanted or not array.size:
                raise ValueError(
                    f"{name} must have shape {wanted}, but it has shape {array.shape}"
                )
        for name, array, high in (
            ("labels", labels, len(classes) - 1),
            ("places", places, 999),
            ("nearest", nearest, count - 1),
        ):
            if array.min() < 0 or array.max() > high:
                raise ValueError(f"{name} must be from 0 to {high}")
        super().__init__()
        levels = np.rint(255 * images.clip(0, 1)).astype(np.uint8)
        self.set_trait("steps", [int(step) for step in steps])
        self.set_trait("places", places.tolist())
        self.set_trait("nearest", nearest.tolist())
        self.set_trait("labels", labels.tolist())
        self.set_trait("classes", list(classes))
        self.set_trait("shape", [count, *images.shape[2:]])
        self.set_trait("pixels", base64.b64encode(levels.tobytes()).decode("ascii"))
        self.moment, self.chosen = moment, chosen

    @traitlets.validate("moment", "chosen")
    def _stay_in_range(self, proposal: Any) -> int:
        name, value = proposal.trait.name, proposal.value
        high = (len(self.steps) if name == "moment" else len(self.labels)) - 1
        if high >= 0 and not 0 <= value <= high:
            raise ValueError(f"{name} must be from 0 to {high}, but it is {value}")
        return value

    def agreement(self) -> float:
        """The share of all nearest neighbors, at this moment, that have the same label."""
        labels = np.asarray(self.labels)
        near = np.asarray(self.nearest[self.moment])
        return float((labels[near] == labels[:, None]).mean())

    def neighbors(self) -> list[str]:
        """The names of the labels of the chosen image's neighbors, the nearest first."""
        near = self.nearest[self.moment][self.chosen]
        return [self.classes[self.labels[i]] for i in near]

    def describe(self) -> str:
        return f"features of {len(self.labels)} images at {len(self.steps)} steps"

    def fallback(self) -> str:
        """The first state in a sentence."""
        mine = self.classes[self.labels[self.chosen]]
        return (
            f"<p>After {self.steps[self.moment]} updates, {self.agreement():.0%} of all "
            f"nearest neighbors have the same label. The neighbors of this "
            f"{escape(mine)} are {escape(', '.join(self.neighbors()))}. With JavaScript "
            "this figure has a slider.</p>"
        )
