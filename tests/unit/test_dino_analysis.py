"""The experiment of the chapter on DINO: its stored table, and a very short run of it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from companion.analysis import dino
from companion.data.images import LabelledImages
from companion.runtime import seed_everything
from companion.training.dino import digit_crops

IMAGE = pytest.importorskip("PIL.Image")


def strokes(count: int = 40, size: int = 14) -> LabelledImages:
    """Upright and level bars at random places."""
    draw = np.random.default_rng(0)
    images = np.zeros((count, 1, size, size), dtype=np.float32)
    for i, at in enumerate(draw.integers(2, size - 2, count)):
        image = images[i, 0]
        (image if i % 2 else image.T)[at] = 1.0
    labels = torch.arange(count) % 2
    return LabelledImages(torch.from_numpy(images), labels, ("|", "-"))


def test_the_stored_table_has_three_seeds_and_both_collapses():
    rows = dino.stored_results()
    assert {row["seed"] for row in rows} == {0, 1, 2}
    entropy = {r: dino.last(rows, r, "entropy") for r in dino.RECIPES}
    kl = {r: dino.last(rows, r, "kl") for r in dino.RECIPES}
    assert (entropy["no centering"] < 0.01).all()
    assert (entropy["no sharpening"] > math.log(dino.OUTPUTS) - 0.01).all()
    assert (kl["no centering"] < 0.01).all() and (kl["no sharpening"] < 0.01).all()
    assert (kl["both"] > 0.05).all()
    knn = {
        name: dino.last(rows, name, "knn")
        for name in ("pixels", "random", "both", "supervised")
    }
    assert all(len(found) == 3 for found in knn.values())
    assert (knn["both"] > knn["random"]).all()
    assert dino.steps_of(rows, "both", "knn")[-1] == dino.STEPS


def test_the_stored_maps_belong_to_the_digits():
    shown, stored = dino.mapped_digits(), dino.stored_snapshots()
    assert stored["labels"] == shown.labels.tolist()
    assert stored["steps"][0] == 0 and stored["steps"][-1] == dino.STEPS
    assert len(stored["places"]) == len(stored["nearest"]) == len(stored["steps"])


def test_a_short_run_gives_all_rows():
    data = strokes(80)
    train, test = data[:64], data[64:]
    crops = digit_crops(14, 7, 1)
    maps = dino.Snapshots(train, neighbors=3)
    found = list(
        dino.compare(
            train,
            test,
            crops,
            seed=0,
            steps=10,
            collapse_steps=5,
            every=5,
            snapshot=maps,
        )
    )
    measured = [(r["features"], r["step"]) for r in found if "knn" in r]
    assert measured == [
        ("pixels", 0),
        ("random", 0),
        ("both", 5),
        ("both", 10),
        ("no centering", 5),
        ("no sharpening", 5),
        ("supervised", 5),
    ]
    followed = [(r["features"], r["step"]) for r in found if "kl" in r]
    assert followed == [(recipe, 5) for recipe in dino.RECIPES]
    content = maps.content()
    assert content["steps"] == [0, 5, 10]
    near = np.asarray(content["nearest"])
    assert near.shape == (3, 64, 3)
    assert not (near == np.arange(64)[:, None]).any()  # nobody is its own neighbor
    places = np.asarray(content["places"])
    assert places.min() == 0 and places.max() == 999


def test_recipes_differ_in_one_thing_each():
    seed_everything(0)
    off = dino.small_dino(dino.small_vit(), "no centering")
    assert off.center_momentum == 1.0
    for weight, copy in zip(
        off.student_head.parameters(), off.teacher_head.parameters(), strict=True
    ):
        assert torch.equal(weight, copy)
    flat = dino.small_trainer(
        dino.small_dino(dino.small_vit(), "no sharpening"),
        torch.rand(64, 1, 28, 28),
        digit_crops(),
        recipe="no sharpening",
    )
    assert flat.teacher_temperature == dino.STUDENT_TEMPERATURE
    with pytest.raises(ValueError, match="recipe must be one of 'both'"):
        dino.small_dino(dino.small_vit(), "neither")


def test_a_folder_takes_the_place_of_the_digits(tmp_path: Path, capsys):
    data = strokes(90)
    for i, (image, label) in enumerate(zip(data.images, data.labels, strict=True)):
        folder = tmp_path / "data" / ("upright", "level")[label]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = (255 * image[0].numpy()).astype(np.uint8)
        IMAGE.fromarray(pixels).save(folder / f"{i}.png")
    out = tmp_path / "table.csv"
    given = ["--data", str(tmp_path / "data"), "--mode", "RGB", "--size", "14"]
    dino.main([*given, "--steps", "2", "--seeds", "5", "--out", str(out)])
    rows = dino.stored_results(out)
    assert {row["seed"] for row in rows} == {5}
    assert "supervised, step     1" in capsys.readouterr().out
    assert out.read_text().startswith("# DINO on 72 images, measured on 18 others")
    with pytest.raises(SystemExit):
        dino.main(given)  # would overwrite the book's table
    assert "--data needs --out" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        dino.main([*given[:-1], "15", "--out", str(out)])
    assert "give a --size that --patch divides" in capsys.readouterr().err


def test_weight_on_ink_of_even_attention_is_the_share_of_ink():
    images = strokes(6, 28).images
    vit = dino.small_vit()
    with torch.no_grad():  # queries of zero attend evenly
        for layer in vit.layers:
            layer.self_attention.W_q.weight.zero_()
            layer.self_attention.W_q.bias.zero_()
    weights, even = dino.weight_on_ink(vit, images, threshold=0.1)
    assert 0 < even < 1
    torch.testing.assert_close(weights, torch.full((4,), even))
