"""Smaller pictures: plots get a palette, photographs and see-through pictures stay."""

import numpy as np
import pytest
from PIL import Image

from companion.book.pictures import WORTH_IT, shrink_pictures


def _plot() -> np.ndarray:
    """Noise in few colors, so that it is large without a palette and has one."""
    colors = np.random.default_rng(0).integers(0, 256, (60, 3))
    return colors[np.random.default_rng(1).integers(0, 60, (300, 400))]


def _save(array, path, mode="RGB"):
    Image.fromarray(array.astype(np.uint8), mode).save(path)
    return path.read_bytes()


def test_a_plot_keeps_its_colors_in_fewer_bytes(tmp_path):
    before = _save(_plot(), tmp_path / "plot.png")
    assert len(before) > WORTH_IT
    saved = shrink_pictures(tmp_path)
    after = (tmp_path / "plot.png").read_bytes()
    assert saved == len(before) - len(after) > 0.4 * len(before)
    with Image.open(tmp_path / "plot.png") as small:
        assert small.mode == "P"
        assert np.array_equal(np.asarray(small.convert("RGB")), _plot())
    assert shrink_pictures(tmp_path) == 0  # nothing is left to do
    assert [p.name for p in tmp_path.iterdir()] == ["plot.png"]


@pytest.mark.parametrize("kind", ["photograph", "see-through", "small"])
def test_other_pictures_stay_as_they_are(kind, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3))
    if kind == "see-through":
        plot = _plot()
        array, mode = np.concatenate([plot, plot[..., :1] // 2], -1), "RGBA"
    else:
        array, mode = (_plot()[:20, :20] if kind == "small" else noise), "RGB"
    before = _save(array, tmp_path / "x.png", mode)
    assert shrink_pictures(tmp_path) == 0
    assert (tmp_path / "x.png").read_bytes() == before
