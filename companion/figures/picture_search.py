"""The picture search: type a text, and see which pictures a small CLIP finds nearest to it."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import traitlets
from jaxtyping import Float
from torch import Tensor

from companion.data.openmoji import NamedPictures
from companion.figures.widget import Figure, figure_module
from companion.models.clip import CLIP, CLIPText
from companion.runtime import device
from companion.training.clip import Captions, normalized

_HERE = Path(__file__).parent
_COLUMNS = 25
_IDEAS = ("cat", "sad face", "blue heart", "arrow", "fruit", "cat + heart")


class PictureSearch(Figure):
    """Pictures ordered by their cosine with a text, or with another picture.

    The page carries the text tower of the model, in half precision, and runs it. So any
    text can be asked without a kernel. Texts with a ``+`` between them are averaged.

    Args:
        model: a CLIP whose text tower is a `CLIPText` with ``quick_gelu`` and an
            ``eos_id``; of a few hundred thousand parameters, since the page carries it.
        captions: what it was trained with.
        pictures: those to search.
        query: the first text.
        marked: whether each picture is marked as new: not seen in training.
        ideas: texts to offer as buttons.

    Raises:
        TypeError: the text tower is another one.
        ValueError: there are no pictures, or ``marked`` has another length.
    """

    _esm = figure_module(_HERE / "picture_search.js")
    _css = _HERE / "picture_search.css"

    query = traitlets.Unicode("cat").tag(sync=True)
    like = traitlets.Int(-1).tag(sync=True)  # the place of a picture, -1 for the query
    ideas = traitlets.List(read_only=True).tag(sync=True)
    names = traitlets.List(read_only=True).tag(sync=True)
    marked = traitlets.List(read_only=True).tag(sync=True)  # of each, whether it is new
    sheet = traitlets.Unicode(read_only=True).tag(sync=True)  # all pictures in one
    columns = traitlets.Int(_COLUMNS, read_only=True).tag(sync=True)
    pictures = traitlets.Unicode(read_only=True).tag(sync=True)  # their vectors
    weights = traitlets.Dict(read_only=True).tag(sync=True)
    sizes = traitlets.Dict(read_only=True).tag(sync=True)
    vocabulary = traitlets.List(read_only=True).tag(sync=True)
    merges = traitlets.List(read_only=True).tag(sync=True)

    def __init__(
        self,
        model: CLIP,
        captions: Captions,
        pictures: NamedPictures,
        query: str = "cat",
        *,
        marked: Sequence[bool] | None = None,
        ideas: Sequence[str] = _IDEAS,
    ) -> None:
        if not isinstance(model.text, CLIPText) or model.text.eos_id is None:
            raise TypeError(
                "model must have a CLIPText with an eos_id as its text tower, but that "
                f"is a {type(model.text).__name__}"
            )
        if not len(pictures):
            raise ValueError("pictures must hold at least one picture, but is empty")
        marked = [False] * len(pictures) if marked is None else [*map(bool, marked)]
        if len(marked) != len(pictures):
            raise ValueError(
                f"marked must say of each of the {len(pictures)} pictures whether it is "
                f"new, but it has length {len(marked)}"
            )
        super().__init__()
        self._model, self._captions = model, captions
        with torch.no_grad():
            vectors = model.encode_image(normalized(pictures.images).to(device())).cpu()
        self._vectors = vectors
        tower = model.text
        stored = dict(tower.state_dict()) | {"W_text.weight": model.W_text.weight}
        written = json.loads(captions.tokenizer.to_json())["model"]
        sizes = {
            "heads": tower.layers[0].self_attention.num_heads,
            "layers": len(tower.layers),
            "epsilon": tower.norm.eps,
            "bos": captions.tokenizer.bos_id,
            "eos": captions.eos_id,
            "unknown": captions.tokenizer.unk_id,
            "longest": captions.max_seq_len,
        }
        for name, value in {
            "ideas": list(ideas),
            "names": list(pictures.names),
            "marked": marked,
            "sheet": _sheet(pictures.images),
            "pictures": _half(vectors),
            "weights": {name: _half(tensor) for name, tensor in stored.items()},
            "sizes": sizes,
            "vocabulary": sorted(written["vocab"], key=written["vocab"].get),
            "merges": written["merges"],
        }.items():
            self.set_trait(name, value)
        self.query = query

    def scores(self) -> Float[Tensor, "pictures"]:
        """The cosine of each picture with what is asked; zeros where nothing is."""
        if self.like >= 0:
            wanted = self._vectors[self.like]
        else:
            parts = [part.strip() for part in self.query.split("+") if part.strip()]
            if not parts:
                return torch.zeros(len(self._vectors))
            with torch.no_grad():
                vectors = self._model.encode_text(self._captions(parts).to(device()))
            wanted = F.normalize(vectors.mean(dim=0), dim=0).cpu()
        return self._vectors @ wanted

    def found(self, count: int = 12) -> list[str]:
        """The names of the pictures with the highest scores, best first."""
        return [self.names[i] for i in self.scores().argsort(descending=True)[:count]]

    def describe(self) -> str:
        return f"search among {len(self.names)} pictures"

    def fallback(self) -> str:
        """The first state in a sentence."""
        found = html.escape(", ".join(self.found(6)))
        return (
            f"<p>The pictures that this model finds nearest to "
            f"“{html.escape(self.query)}” are those named {found}. With JavaScript this "
            "figure searches for any text.</p>"
        )


def _half(tensor: Tensor) -> str:
    """Numbers as little-endian half precision in base64."""
    numbers = tensor.detach().cpu().numpy().astype("<f2")
    return base64.b64encode(numbers.tobytes()).decode("ascii")


def _sheet(images: Float[Tensor, "pictures 3 side side"]) -> str:
    """All pictures side by side, in rows of `_COLUMNS`, as the address of a PNG."""
    from PIL import Image

    count, _, side, _ = images.shape
    rows = -(-count // _COLUMNS)
    sheet = np.full((rows * side, _COLUMNS * side, 3), 255, dtype=np.uint8)
    for i, image in enumerate((images * 255).round().byte().permute(0, 2, 3, 1)):
        y, x = (side * place for place in divmod(i, _COLUMNS))
        sheet[y : y + side, x : x + side] = image.numpy()
    stored = io.BytesIO()
    Image.fromarray(sheet).quantize(128).save(stored, "PNG", optimize=True)
    encoded = base64.b64encode(stored.getvalue()).decode("ascii")
    return f"data:image/png;base64,{encoded}"
