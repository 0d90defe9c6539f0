"""The interactive mask viewer: hide patches of a picture and see what an MAE paints there."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from companion.figures.widget import Figure, figure_module
from companion.layers.patches import patchify
from companion.models.mae import MAE, Masking

_HERE = Path(__file__).parent


class MaskViewer(Figure):
    """Patches to be hidden by pointer, keys and slider, and the model's answer at once.

    The figure carries the weights, in half precision, and computes the answer itself,
    so that it needs no kernel. The traits can be set and observed from Python.

    Args:
        model: a small `MAE` of grey images that predicts pixels as they are.
        images: a few to choose from, from 0 to 1.
        mean: the average picture, to compare with.
        shift, scale: the model reads and predicts (pixel - shift) / scale.
        mask_ratio: how much is hidden at first; the model's by default.
        num_orders: how many orders in which patches are hidden the button goes through.
        seed: of these orders.

    Raises:
        ValueError: a model or images of more than one channel, a model of normalized
            patches, without a decoder, or of an activation other than GELU.
    """

    _esm = figure_module(_HERE / "mask_viewer.js")
    _css = _HERE / "mask_viewer.css"

    example = traitlets.Int(0).tag(sync=True)
    hidden = traitlets.List().tag(sync=True)  # 1 for each patch that is hidden
    order = traitlets.Int(0).tag(sync=True)
    orders = traitlets.List(read_only=True).tag(sync=True)
    images = traitlets.List(read_only=True).tag(sync=True)  # 0 to 255, row by row
    mean = traitlets.List(read_only=True).tag(sync=True)
    shape = traitlets.Dict(read_only=True).tag(sync=True)
    sizes = traitlets.Dict(read_only=True).tag(sync=True)
    weights = traitlets.Unicode(read_only=True).tag(sync=True)

    def __init__(
        self,
        model: MAE,
        images: Float[Tensor, "images 1 height width"],
        mean: Float[Tensor, "1 height width"],
        *,
        shift: float = 0.0,
        scale: float = 1.0,
        mask_ratio: float | None = None,
        num_orders: int = 8,
        seed: int = 0,
    ) -> None:
        _check(model, images)
        super().__init__()
        rows, columns = model.encoder.positions.grid
        draw = torch.Generator().manual_seed(seed)
        orders = torch.rand(num_orders, rows * columns, generator=draw).argsort(dim=1)
        names = {n: p.detach() for n, p in model.state_dict().items()}
        weights = torch.cat([p.flatten() for p in names.values()]).cpu().half()
        self._model = model
        self.set_trait("orders", orders.tolist())
        self.set_trait("images", [_bytes(image) for image in images])
        self.set_trait("mean", _bytes(mean))
        shape = {"rows": rows, "columns": columns, "patch": model.patch_size}
        self.set_trait("shape", shape)
        self.set_trait(
            "sizes",
            {
                "names": [[name, list(p.shape)] for name, p in names.items()],
                "eps": model.encoder.norm.eps,
                "shift": shift,
                "scale": scale,
                "encoder": _sizes(model.encoder),
                "decoder": _sizes(model.decoder),
            },
        )
        weights = base64.b64encode(weights.numpy().astype("<f2").tobytes()).decode()
        self.set_trait("weights", weights)
        ratio = model.mask_ratio if mask_ratio is None else mask_ratio
        first = Masking.from_noise(orders[:1].argsort(dim=1).neg(), ratio)
        self.hidden = first.hidden[0].int().tolist()

    @traitlets.validate("hidden")
    def _one_for_each_patch(self, proposal: Any) -> list[int]:
        count = self.shape["rows"] * self.shape["columns"]
        if len(proposal.value) != count or set(proposal.value) - {0, 1}:
            raise ValueError(
                f"hidden must hold {count} numbers, 0 or 1, but it is {proposal.value}"
            )
        return proposal.value

    @traitlets.validate("example", "order")
    def _exists(self, proposal: Any) -> int:
        many = {"example": self.images, "order": self.orders}[proposal.trait.name]
        if not 0 <= proposal.value < len(many):
            raise ValueError(
                f"{proposal.trait.name} must be from 0 to {len(many) - 1}, but it is "
                f"{proposal.value}"
            )
        return proposal.value

    def answer(self) -> tuple[Float[Tensor, "height width"], float, float]:
        """By the Python model: the painted picture, its error and the average picture's.

        Errors are mean squared ones over the hidden pixels, NaN where nothing is hidden.
        """
        height, width = (
            side * self.shape["patch"]
            for side in (self.shape["rows"], self.shape["columns"])
        )
        image, mean = (
            torch.tensor(values).reshape(1, 1, height, width) / 255
            for values in (self.images[self.example], self.mean)
        )
        masking = Masking.from_hidden(torch.tensor([self.hidden]).bool())
        here = next(self._model.parameters()).device
        shift, scale = self.sizes["shift"], self.sizes["scale"]
        with torch.no_grad():
            masking_here = Masking.from_hidden(masking.hidden.to(here))
            read = (image.to(here) - shift) / scale
            painted = self._model.reconstruct(read, masking_here).cpu() * scale + shift
        errors = (
            patchify((guess - image).square(), self.shape["patch"])[masking.hidden]
            for guess in (painted, mean)
        )
        return painted[0, 0], *(error.mean().item() for error in errors)

    def describe(self) -> str:
        rows, columns = self.shape["rows"], self.shape["columns"]
        return f"{len(self.images)} pictures of {rows} by {columns} patches to hide"

    def fallback(self) -> str:
        """The first state in a sentence."""
        count = sum(self.hidden)
        _, error, mean = self.answer()
        return (
            f"<p>{count} of {len(self.hidden)} patches of a picture are hidden. Mean "
            f"squared error there: {error:.3f} by the model, {mean:.3f} by the average "
            "picture. With JavaScript this figure lets you hide patches yourself.</p>"
        )


def _bytes(image: Tensor) -> list[int]:
    return (image.flatten() * 255).round().clamp(0, 255).int().tolist()


def _sizes(side: Any) -> dict[str, int]:
    return {
        "width": side.positions.table.shape[-1],
        "layers": len(side.layers),
        "heads": side.layers[0].self_attention.num_heads,
    }


def _check(model: MAE, images: Tensor) -> None:
    if model.decoder is None or model.normalize_target or model.in_channels != 1:
        raise ValueError(
            "model must have a decoder, one channel and normalize_target=False, but it "
            f"has {'no' if model.decoder is None else 'a'} decoder, in_channels = "
            f"{model.in_channels} and normalize_target={model.normalize_target}"
        )
    if model.encoder.layers[0].feed_forward.activation != "gelu":
        raise ValueError(
            "model must have the activation 'gelu', but it has "
            f"{model.encoder.layers[0].feed_forward.activation!r}"
        )
    size = model.encoder.image_size
    if images.shape[1:] != (1, *size):
        raise ValueError(
            f"images must have shape (images, 1, {size[0]}, {size[1]}), but it has "
            f"shape {tuple(images.shape)}"
        )
