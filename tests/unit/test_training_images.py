"""The training of classifiers of images, and its command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.optim.optimizer import register_optimizer_step_pre_hook

from companion import ViT
from companion.data.images import LabelledImages, small_digits
from companion.models.convnet import ConvNet
from companion.training.images import (
    ImageBatches,
    _about_eight_patches,
    accuracy,
    classification_loss,
    main,
    normalize,
    predict,
    random_views,
    train_classifier,
)

QUICK = ["--steps", "6", "--batch-size", "8", "--evaluate-every", "3", "--quiet"]
SMALL = ["--d-model", "8", "--heads", "2", "--layers", "1"]


@pytest.fixture(scope="module")
def digits() -> LabelledImages:
    return small_digits().split(120, seed=0)[0]


def test_batches_hold_each_image_once_and_in_another_order(digits) -> None:
    batches = ImageBatches(digits, 50, seed=3)
    assert len(batches) == len(list(batches)) == 3
    orders = []
    for epoch in (0, 1, 0):
        batches.set_epoch(epoch)
        orders.append(torch.cat([labels for _, labels in batches]))
    assert torch.equal(orders[0], orders[2]) and not torch.equal(orders[0], orders[1])
    images = torch.cat([images for images, _ in ImageBatches(digits, shuffle=False)])
    torch.testing.assert_close(images, digits.images * 2 - 1)
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        ImageBatches(digits, 0)
    with pytest.raises(ValueError, match="at least one image"):
        ImageBatches(digits[:0])


def test_views_change_images_and_stay_in_range(digits) -> None:
    torch.manual_seed(0)
    views = random_views(flip=True)
    seen = views(digits.images)
    assert seen.shape == digits.images.shape
    assert seen.min() >= 0 and seen.max() <= 1 + 1e-5
    assert not torch.equal(seen, digits.images)
    still = random_views(degrees=0.0, shift=0.0, zoom=0.0)(digits.images)
    torch.testing.assert_close(still, digits.images, atol=1e-4, rtol=0)
    mirrored = random_views(degrees=0.0, shift=0.0, zoom=0.0, flip=True)(digits.images)
    turned = (mirrored - digits.images.flip(3)).abs().amax((1, 2, 3)) < 1e-3
    kept = (mirrored - digits.images).abs().amax((1, 2, 3)) < 1e-3
    assert (turned | kept).all() and turned.sum() > 20 and kept.sum() > 20


def test_loss_is_a_sum_over_images(digits) -> None:
    model = ConvNet(1, 10, (4,)).eval()
    images, labels = normalize(digits.images[:6]), digits.labels[:6]
    loss, count = classification_loss(model, (images, labels))
    assert count == 6
    torch.testing.assert_close(loss, 6 * model.loss(images, labels))


def test_accuracy_counts_what_is_right(digits) -> None:
    model = ConvNet(1, 10, (4,)).train()
    said = predict(model, digits, batch_size=32)
    assert model.training
    model.eval()
    expected = model(normalize(digits.images)).argmax(1)
    assert torch.equal(said, expected)
    share = (expected == digits.labels).float().mean().item()
    assert accuracy(model, digits) == pytest.approx(share)


def test_training_fits_and_spares_vectors_from_decay(digits) -> None:
    torch.manual_seed(0)
    model = ViT(8, 2, 1, 10, 16, 2, 32, 1)
    kept = {}

    def keep(optimizer, *_):
        kept["groups"] = optimizer.param_groups

    handle = register_optimizer_step_pre_hook(keep)
    try:
        history = train_classifier(
            model, digits, num_steps=90, batch_size=40, lr=1e-2, progress=False
        )
    finally:
        handle.remove()
    assert history[-1]["loss"] < 0.75 * history[0]["loss"]
    decayed, spared = kept["groups"]
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.05, 0.0)
    ids = {id(p) for p in spared["params"]}
    free = {name for name, p in model.named_parameters() if id(p) in ids}
    assert {"prefix", "positions.table", "norm.weight", "head.bias"} <= free
    assert "head.weight" not in free and "patches.projection.weight" not in free


def test_patch_size_makes_about_eight_a_side() -> None:
    sizes = [(28, 28), (8, 8), (224, 224), (32, 48), (7, 7)]
    assert [_about_eight_patches(*size) for size in sizes] == [4, 1, 28, 4, 1]


@pytest.mark.parametrize("model", ["vit", "cnn"])
def test_command_trains_scores_and_refuses_to_overwrite(
    tmp_path: Path, capsys, model: str
) -> None:
    out = str(tmp_path / "run")
    command = ["--data", "digits", "--model", model, "--out", out, *QUICK, *SMALL]
    command += ["--width", "4"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "1,437 images to train on, 180 to choose by, 180 to score on" in said
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert f"accuracy {scores['accuracy']:.1%}" in said
    assert len(scores["by class"]) == 10
    assert (tmp_path / "run" / "checkpoints" / "best.pt").exists()
    assert main(command) == 2
    assert "holds a run; go on with --resume" in capsys.readouterr().err
    assert main([*command, "--resume", "--lr", "0.5"]) == 2
    assert "lr was 0.002 and is 0.5" in capsys.readouterr().err


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch) -> None:
    command = ["--data", "digits", *QUICK, *SMALL, "--checkpoint-every", "2"]
    command += ["--dropout", "0.2"]
    assert main([*command, "--out", str(tmp_path / "whole")]) == 0

    from companion.training import images
    from companion.training.loop import Trainer

    update = Trainer._update

    def stops(self, group):
        if self.step == 4:
            raise KeyboardInterrupt
        return update(self, group)

    broken = [*command, "--out", str(tmp_path / "broken")]
    with monkeypatch.context() as patch:
        patch.setattr(images.Trainer, "_update", stops)
        assert main(broken) == 130
    assert main([*broken, "--resume"]) == 0
    whole, resumed = (
        torch.load(
            tmp_path / run / "checkpoints" / "step-00000006.pt", weights_only=True
        )["model"]
        for run in ("whole", "broken")
    )
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_command_on_a_folder_of_pictures(tmp_path: Path, capsys) -> None:
    draw = np.random.default_rng(0)
    for name, shade in (("dark", 40), ("light", 200)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(12):
            pixels = np.clip(draw.normal(shade, 20, (10, 14, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(
                tmp_path / "data" / name / f"{i}.jpg"
            )
    command = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run")]
    command += [*QUICK, *SMALL, "--flip", "--pooling", "mean", "--size", "8"]
    command += ["--validation", "0.2", "--test", "0.2"]
    assert main(command) == 0
    assert "8 by 8 pixels, 2 classes" in capsys.readouterr().out
    (tmp_path / "data" / "dark" / "12.jpg").write_bytes(b"broken")
    assert main(command) == 2
    assert "12.jpg" in capsys.readouterr().err


def test_command_names_what_is_wrong(tmp_path: Path, capsys) -> None:
    out = ["--out", str(tmp_path / "run"), *QUICK]
    assert main(["--data", str(tmp_path / "nowhere"), *out]) == 2
    assert "it is not a folder" in capsys.readouterr().err
    assert main(["--data", "digits", "--test", "0.95", *out]) == 2
    assert "a part would be empty" in capsys.readouterr().err
    assert main(["--data", "digits", "--patch-size", "3", *out]) == 2
    assert "patch_size must divide image_size" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
