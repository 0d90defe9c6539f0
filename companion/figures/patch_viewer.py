"""The interactive patch viewer: pick a patch of an image, see where it looks."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
import traitlets
from numpy.typing import ArrayLike

from companion.figures.widget import Figure, figure_module

_HERE = Path(__file__).parent
_MAX_WEIGHTS = 800_000


class PatchViewer(Figure):
    """Images beside the attention of one of their tokens, for each layer and head of a model.

    Images, layers, heads and tokens count from 1, as people say it. The traits ``image``,
    ``layer``, ``head`` and ``token`` can be set and observed from Python.

    Args:
        images: grey or in color, ``(images, channels, height, width)``, from 0 to 1.
        maps: their attention, ``(layers, images, heads, tokens, tokens)`` as
            ``record_attention``'s ``stack()`` gives it, on any device.
        grid: how many patches there are from top to bottom and from left to right.
        prefix: names of the tokens before the patches.
        captions: of the images; their numbers by default.
        layers: names of the layers; "layer 1" and so on by default.
        image: shown first.
        layer: shown first.
        head: shown first; 0 is the mean of all heads.
        token: looked at first; by default the patch in the middle.

    Raises:
        ValueError: shapes and names don't fit, a number is out of range, a pixel or a
            weight is not between 0 and 1, or there are too many weights for a page.
    """

    _esm = figure_module(_HERE / "patch_viewer.js")
    _css = _HERE / "patch_viewer.css"

    image = traitlets.Int(1).tag(sync=True)
    layer = traitlets.Int(1).tag(sync=True)
    head = traitlets.Int(0).tag(sync=True)
    token = traitlets.Int(1).tag(sync=True)
    captions = traitlets.List(traitlets.Unicode(), read_only=True).tag(sync=True)
    layers = traitlets.List(traitlets.Unicode(), read_only=True).tag(sync=True)
    prefix = traitlets.List(traitlets.Unicode(), read_only=True).tag(sync=True)
    grid = traitlets.List(traitlets.Int(), read_only=True).tag(sync=True)
    heads = traitlets.Int(read_only=True).tag(sync=True)
    # images, channels, height, width
    shape = traitlets.List(traitlets.Int(), read_only=True).tag(sync=True)
    # Bytes in base64, the pixels of an image side by side with their channels.
    pixels = traitlets.Unicode(read_only=True).tag(sync=True)
    # (images, layers, heads, queries, keys): bytes in base64, 255 for the row's largest
    # weight; and these largest weights times 65535, little-endian, of 16 bits.
    weights = traitlets.Unicode(read_only=True).tag(sync=True)
    largest = traitlets.Unicode(read_only=True).tag(sync=True)

    def __init__(
        self,
        images: ArrayLike,
        maps: ArrayLike,
        grid: tuple[int, int],
        *,
        prefix: Sequence[str] = ("[CLS]",),
        captions: Sequence[str] | None = None,
        layers: Sequence[str] | None = None,
        image: int = 1,
        layer: int = 1,
        head: int = 0,
        token: int | None = None,
    ) -> None:
        images, maps = _as_array("images", images, 4), _as_array("maps", maps, 5)
        rows, columns = grid
        tokens = len(prefix) + rows * columns
        if images.shape[1] not in (1, 3):
            raise ValueError(
                f"images must have 1 or 3 channels, but they have {images.shape[1]}"
            )
        if maps.shape[1] != len(images) or maps.shape[3:] != (tokens, tokens):
            raise ValueError(
                f"maps must have shape (layers, {len(images)}, heads, {tokens}, {tokens}) "
                f"for {len(images)} images, {len(prefix)} prefix tokens and {rows} by "
                f"{columns} patches, but they have shape {maps.shape}"
            )
        if maps.size > _MAX_WEIGHTS:
            raise ValueError(
                f"maps hold {maps.size:,} weights, more than the {_MAX_WEIGHTS:,} that fit "
                "a page; show fewer images or layers"
            )
        captions = captions or [f"image {i + 1}" for i in range(len(images))]
        layers = layers or [f"layer {i + 1}" for i in range(len(maps))]
        for name, given, count in (
            ("captions", captions, len(images)),
            ("layers", layers, len(maps)),
        ):
            if len(given) != count:
                raise ValueError(
                    f"{name} must be {count} names, but there are {len(given)}"
                )

        super().__init__()
        maps = maps.transpose(1, 0, 2, 3, 4)  # (images, layers, H, Q, K)
        top = maps.max(axis=-1, keepdims=True)
        levels = np.rint(255 * maps / np.maximum(top, 1e-12)).astype(np.uint8)
        largest = np.rint(65535 * top).astype("<u2")
        # As the page reads them, so that both round alike.
        self._maps = levels * (largest / 65535 / 255)
        pixels = np.rint(255 * images.transpose(0, 2, 3, 1)).astype(np.uint8)
        self.set_trait("captions", list(captions))
        self.set_trait("layers", list(layers))
        self.set_trait("prefix", list(prefix))
        self.set_trait("grid", [rows, columns])
        self.set_trait("heads", maps.shape[2])
        self.set_trait("shape", list(images.shape))
        self.set_trait("pixels", _base64(pixels))
        self.set_trait("weights", _base64(levels))
        self.set_trait("largest", _base64(largest))
        self.image, self.layer, self.head = image, layer, head
        middle = len(prefix) + (rows // 2) * columns + columns // 2 + 1
        self.token = middle if token is None else token

    @traitlets.validate("image", "layer", "head", "token")
    def _stay_in_range(self, proposal: Any) -> int:
        name, value = proposal.trait.name, proposal.value
        if self.grid:
            rows, columns = self.grid
            highest = {
                "image": len(self.captions),
                "layer": len(self.layers),
                "head": self.heads,
                "token": len(self.prefix) + rows * columns,
            }[name]
            lowest = int(name != "head")
            if not lowest <= value <= highest:
                raise ValueError(
                    f"{name} must be from {lowest} to {highest}, but it is {value}"
                )
        return value

    def row(self) -> np.ndarray:
        """The weights that the chosen token gives in the chosen layer and head."""
        maps = self._maps[self.image - 1, self.layer - 1, :, self.token - 1]
        return maps.mean(axis=0) if self.head == 0 else maps[self.head - 1]

    def name_of(self, token: int) -> str:
        """What a token is called, such as "[CLS]" or "patch 2, 3" (row, column)."""
        if token <= len(self.prefix):
            return self.prefix[token - 1]
        row, column = divmod(token - len(self.prefix) - 1, self.grid[1])
        return f"patch {row + 1}, {column + 1}"

    def describe(self) -> str:
        rows, columns = self.grid
        return (
            f"attention of {rows} by {columns} patches in {len(self.captions)} images, "
            f"{len(self.layers)} layers, heads: {self.heads}"
        )

    def fallback(self) -> str:
        """The first state in a sentence."""
        row = self.row()
        most = int(row.argmax())
        head = f"head {self.head}" if self.head else "the mean of all heads"
        return (
            f"<p>{escape(self.captions[self.image - 1])}, "
            f"{escape(self.layers[self.layer - 1])}, {head}: "
            f"{escape(self.name_of(self.token))} looks most at "
            f"{escape(self.name_of(most + 1))}, with a weight of {row[most]:.0%}. With "
            "JavaScript, a patch, a layer and a head can be chosen here.</p>"
        )


def _as_array(name: str, values: ArrayLike, axes: int) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != axes or array.size == 0:
        raise ValueError(
            f"{name} must have {axes} axes, but it has shape {array.shape}"
        )
    if not (array.min() >= 0 and array.max() <= 1 + 1e-6):  # NaN is refused as well
        raise ValueError(
            f"{name} must be from 0 to 1, but they are from {array.min():.3g} to "
            f"{array.max():.3g}"
        )
    return array.clip(max=1.0)


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")
