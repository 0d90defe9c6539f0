"""Images from folders and idx files, and the errors that name a file."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from companion.data.images import (
    LabelledImages,
    fashion_mnist,
    idx_folder,
    image_folder,
    is_idx_folder,
    mnist_5k,
    small_digits,
)


def picture(path: Path, size: tuple[int, int] = (6, 4), mode: str = "RGB", **options):
    """Writes a random image of ``size`` (width, height); returns its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(len(str(path.name)))
    depth = len(Image.new(mode, (1, 1)).getbands())
    pixels = draw.integers(0, 256, (size[1], size[0], depth), np.uint8)
    image = Image.fromarray(pixels if depth > 1 else pixels[..., 0], mode=None)
    image.save(path, **options)
    return pixels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    picture(tmp_path / "cat" / "b.png")
    picture(tmp_path / "cat" / "a.bmp")
    picture(tmp_path / "dog" / "deeper" / "c.tiff")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "cat" / ".DS_Store").write_text("no image")
    (tmp_path / "labels.txt").write_text("no class")
    return tmp_path


def test_a_folder_is_read_in_order(folder: Path) -> None:
    data = image_folder(folder)
    assert data.classes == ("cat", "dog")
    assert data.labels.tolist() == [0, 0, 1]
    assert data.images.shape == (3, 3, 4, 6) and data.images.dtype == torch.float32
    expected = picture(folder / "cat" / "b.png")
    torch.testing.assert_close(
        data.images[1], torch.from_numpy(expected).permute(2, 0, 1) / 255
    )


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "webp", "bmp", "tiff", "ppm"])
def test_formats_that_pillow_reads(tmp_path: Path, ending: str) -> None:
    picture(tmp_path / "one" / f"x.{ending}", mode="L" if ending == "gif" else "RGB")
    assert image_folder(tmp_path, mode="RGB").images.shape == (1, 3, 4, 6)


def test_truncated_and_foreign_files_are_named(folder: Path) -> None:
    bad = folder / "cat" / "z.png"
    picture(bad, (60, 40))
    whole = bad.read_bytes()
    for cut in (len(whole) // 2, len(whole) - 30, 60):
        bad.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"truncated or damaged.*cat.z\.png"):
            image_folder(folder)
    for content in (b"", b"hello", whole[10:]):
        bad.write_bytes(content)
        with pytest.raises(ValueError, match=r"not an image of a format.*z\.png"):
            image_folder(folder)


def test_other_sizes_are_named_and_can_be_made_equal(folder: Path) -> None:
    picture(folder / "dog" / "big.png", (12, 12))
    with pytest.raises(
        ValueError, match=r"12 by 12 pixels, but a\.bmp has 4 by 6; pass size.*big\.png"
    ):
        image_folder(folder)
    for fit in ("stretch", "crop", "pad"):
        data = image_folder(folder, size=(8, 10), fit=fit)
        assert data.images.shape == (4, 3, 8, 10)
    assert image_folder(folder, size=5).images.shape[2:] == (5, 5)


def test_how_images_are_made_equal(tmp_path: Path) -> None:
    """A white image twice as wide as high, brought to a square."""
    (tmp_path / "one").mkdir()
    half = Image.new("L", (20, 10), 255)
    half.paste(0, (0, 0, 5, 10))  # black at the left
    half.save(tmp_path / "one" / "x.png")
    mean = {
        fit: image_folder(tmp_path, size=10, fit=fit).images.mean().item()
        for fit in ("stretch", "crop", "pad")
    }
    assert mean["stretch"] == pytest.approx(0.75, abs=0.03)  # all of it
    assert mean["crop"] == pytest.approx(1.0, abs=0.03)  # the middle, where it is white
    assert mean["pad"] == pytest.approx(0.375, abs=0.03)  # half of the square


def test_other_modes_are_named_and_can_be_converted(folder: Path) -> None:
    picture(folder / "dog" / "grey.png", mode="L")
    with pytest.raises(ValueError, match=r"1 channels, but a\.bmp has 3.*grey\.png"):
        image_folder(folder)
    assert image_folder(folder, mode="L").images.shape[1] == 1
    grey = image_folder(folder, mode="RGB").images[-1]
    assert torch.equal(grey[0], grey[1])
    (folder / "dog" / "grey.png").unlink()
    Image.new("CMYK", (6, 4)).save(folder / "dog" / "print.tiff")
    with pytest.raises(ValueError, match=r"mode 'CMYK'.*pass mode=.*print\.tiff"):
        image_folder(folder)
    Image.fromarray(np.full((4, 6), 40_000, np.uint16)).save(
        folder / "cat" / "deep.png"
    )
    with pytest.raises(ValueError, match=r"more than the 8 bits.*deep\.png"):
        image_folder(folder, mode="RGB")


def test_what_is_transparent_becomes_white(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 2, 4))
    image.save(tmp_path / "one" / "x.png")
    found = image_folder(tmp_path, mode="RGB").images[0]
    assert found[:, 0, 0].tolist() == [0.0, 0.0, 1.0]
    assert found[:, 0, 3].tolist() == [1.0, 1.0, 1.0]


def test_a_photo_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    image = Image.new("L", (8, 4), 0)
    image.paste(255, (0, 0, 4, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    image.save(tmp_path / "one" / "x.png", exif=exif)
    found = image_folder(tmp_path).images[0, 0]
    assert found.shape == (8, 4)
    assert found[0].mean() == 1.0 and found[-1].mean() == 0.0


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="it is not a folder"):
        image_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="it holds none"):
        image_folder(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no image: .*empty"):
        image_folder(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fit": "squash"}, "fit must be 'stretch', 'crop' or 'pad'"),
        ({"mode": "HSV"}, "mode must be 'L', 'RGB' or None"),
        ({"size": 0}, "size must be one or two numbers of at least 1"),
        ({"size": (3, 4, 5)}, "size must be one or two numbers"),
    ],
)
def test_options_out_of_range(folder: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        image_folder(folder, **options)


# idx files


def write_idx(path: Path, array: np.ndarray, *, zipped: bool = True) -> None:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if zipped else content)


@pytest.fixture
def idx(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for part, count in (("train", 7), ("t10k", 3)):
        images = draw.integers(0, 256, (count, 5, 4))
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", images)
        labels = np.arange(count) % 10
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", labels, zipped=False)
    return tmp_path


def test_idx_files_are_read(idx: Path) -> None:
    assert is_idx_folder(idx) and not is_idx_folder(idx / "other")
    data = idx_folder(idx)
    assert data.images.shape == (7, 1, 5, 4)
    expected = np.random.default_rng(0).integers(0, 256, (7, 5, 4))
    torch.testing.assert_close(data.images[:, 0] * 255, torch.tensor(expected).float())
    assert data.labels.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert data.classes == tuple("0123456")
    train, test = fashion_mnist(idx)
    assert (len(train), len(test)) == (7, 3)
    assert train.classes[9] == "ankle boot"


def test_damaged_idx_files_are_named(idx: Path) -> None:
    file = idx / "train-images-idx3-ubyte.gz"
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    with pytest.raises(ValueError, match=r"truncated or damaged.*train-images"):
        idx_folder(idx)
    inside = gzip.decompress(whole)
    file.write_bytes(gzip.compress(inside[:-20]))
    with pytest.raises(
        ValueError, match=r"announces 7 x 5 x 4 bytes, but holds 120"
    ) as caught:
        idx_folder(idx)
    assert "train-images" in str(caught.value)
    file.write_bytes(gzip.compress(b"\0\0\x0b\x03" + inside[4:]))
    with pytest.raises(ValueError, match=r"not an idx file.*train-images"):
        idx_folder(idx)
    file.unlink()
    with pytest.raises(ValueError, match="holds neither train-images-idx3-ubyte nor"):
        idx_folder(idx)


def test_idx_files_that_do_not_fit(idx: Path) -> None:
    with pytest.raises(ValueError, match="holds the label 6, but there are 2 classes"):
        idx_folder(idx, classes=("a", "b"))
    write_idx(idx / "t10k-labels-idx1-ubyte", np.arange(4), zipped=False)
    with pytest.raises(ValueError, match="holds 3 images, but .* holds 4 labels"):
        idx_folder(idx, "t10k")


# Those that come with a package


@pytest.mark.parametrize(
    ("load", "count", "side"), [(mnist_5k, 5000, 28), (small_digits, 1797, 8)]
)
def test_digits(load, count: int, side: int) -> None:
    data = load()
    assert data.images.shape == (count, 1, side, side)
    assert data.images.min() == 0 and data.images.max() == 1
    assert data.labels.unique().tolist() == list(range(10))
    assert data.classes == tuple("0123456789")


def test_split_is_disjoint_and_repeatable() -> None:
    data = LabelledImages(
        torch.arange(10.0).reshape(10, 1, 1, 1), torch.arange(10), tuple("abcdefghij")
    )
    first, second = data.split(6, 3, seed=1)
    assert not set(first.labels.tolist()) & set(second.labels.tolist())
    assert torch.equal(first.images.flatten().long(), first.labels)
    assert torch.equal(first.labels, data.split(6, 3, seed=1)[0].labels)
    assert not torch.equal(first.labels, data.split(6, 3, seed=2)[0].labels)
    with pytest.raises(ValueError, match="at least 1 each and 10 in sum"):
        data.split(8, 3)
