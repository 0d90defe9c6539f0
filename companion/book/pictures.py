"""Makes the pictures of built pages smaller: a plot has few colors, and a palette holds them.

A plot takes 4 bytes a pixel as it comes from the notebook, of which most are the same
few colors over and over. With a palette of 256 it takes a third. A picture that would
look different, such as a photograph, stays as it is.
"""

from pathlib import Path

import numpy as np
from PIL import Image

WORTH_IT = 40_000  # bytes
_COLORS = 256
_MAX_MEAN_ERROR = 0.5  # of 255, per channel


def shrink_pictures(folder: Path) -> int:
    """Rewrite the PNG files of a folder that get smaller without looking different.

    Returns:
        How many bytes that saved.
    """
    saved = 0
    for path in sorted(folder.glob("*.png")):
        before = path.stat().st_size
        if before >= WORTH_IT and (small := _with_palette(path)) is not None:
            part = path.with_suffix(".part")
            small.save(part, "PNG", optimize=True)
            if (after := part.stat().st_size) < before:
                part.replace(path)
                saved += before - after
            else:
                part.unlink()
    return saved


def _with_palette(path: Path) -> Image.Image | None:
    """The picture with a palette, or None where that would change it."""
    with Image.open(path) as picture:
        if picture.mode not in ("RGB", "RGBA") or _shines_through(picture):
            return None
        colors = picture.convert("RGB")
    small = colors.quantize(_COLORS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    difference = np.asarray(colors, np.int16) - np.asarray(small.convert("RGB"))
    return small if np.abs(difference).mean() <= _MAX_MEAN_ERROR else None


def _shines_through(picture: Image.Image) -> bool:
    return picture.mode == "RGBA" and picture.getchannel("A").getextrema()[0] < 255
