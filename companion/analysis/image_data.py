"""A ViT and a convolutional network of as many parameters, as the training images grow in number.

Besides: both on images whose patches, or whose pixels, are shuffled, the same way in
every image; and a ViT that reads the mean of its patches instead of [CLS]. The results
of three seeds are kept beside this file, in ``image_data.csv``. Made anew by

    python -m companion.analysis.image_data

which takes about eight minutes on one core of a laptop.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from companion.data.images import LabelledImages, mnist_5k
from companion.layers.patches import patchify, unpatchify
from companion.models.convnet import ConvNet
from companion.models.vit import ViT
from companion.runtime import device, seed_everything
from companion.training.images import accuracy, train_classifier

SIZES = (100, 250, 630, 1600, 4000)  # training images, each 2.5 times the one before
TEST = 1000
SEEDS = (0, 1, 2)
PATCH = 7  # pixels
BESIDES_AT = 1600  # training images of all runs but those of the two rivals

BATCH = 32
# More images take longer to fit. The ViT learns more slowly: three to eight times the steps.
STEPS = {
    "ViT": {100: 300, 250: 500, 630: 800, 1600: 1200, 4000: 1600},
    "CNN": {100: 100, 250: 100, 630: 100, 1600: 150, 4000: 200},
}
STEPS["ViT, mean"] = STEPS["ViT"]


def _vit(**options: str) -> ViT:
    return ViT(
        28, PATCH, 1, 10, d_model=64, num_heads=4, d_ff=128, num_layers=4, **options
    )


MODELS: dict[str, Callable[[], nn.Module]] = {
    "ViT": _vit,
    "CNN": lambda: ConvNet(1, 10, widths=(12, 40, 96)),
    "ViT, mean": lambda: _vit(pooling="mean"),
}
RIVALS = ("ViT", "CNN")
CHANGES = ("none", "patches shuffled", "pixels shuffled")

_RESULTS = Path(__file__).with_suffix(".csv")


class Run(NamedTuple):
    """One model, trained once.

    Attributes:
        model: a key of `MODELS`.
        change: one of `CHANGES`: what is done to the images.
        images: how many there are to train on.
        seed: of the choice of images, the weights and the order.
    """

    model: str
    change: str
    images: int
    seed: int


def shuffle_pixels(
    images: Float[Tensor, "batch channels height width"], block: int, seed: int = 0
) -> Float[Tensor, "batch channels height width"]:
    """The images with their blocks of ``block`` by ``block`` pixels shuffled, all the same way.

    With a block of one patch it is the patches that are shuffled, with 1 the pixels.
    """
    blocks = patchify(images, block)
    order = torch.randperm(
        blocks.shape[1], generator=torch.Generator().manual_seed(seed)
    )
    grid = (images.shape[2] // block, images.shape[3] // block)
    return unpatchify(blocks[:, order], grid, images.shape[1])


def data_for(run: Run) -> tuple[LabelledImages, LabelledImages]:
    """What a run is trained on, and what it is tested on; both depend on its seed."""
    train, test = _digits().split(max(SIZES), TEST, seed=run.seed)
    parts = [train[slice(run.images)], test]
    if run.change.endswith("shuffled"):
        block = PATCH if run.change == "patches shuffled" else 1
        parts = [
            replace(part, images=shuffle_pixels(part.images, block)) for part in parts
        ]
    return parts[0], parts[1]


@cache
def _digits() -> LabelledImages:
    return mnist_5k()  # takes a second to read


def train(
    run: Run, num_steps: int | None = None, *, progress: bool = False
) -> nn.Module:
    """The model of a run, trained for as many steps as `STEPS` says, or ``num_steps``."""
    if num_steps is None:
        num_steps = STEPS[run.model][run.images]
    seed_everything(run.seed)
    model = MODELS[run.model]()
    train_classifier(
        model,
        data_for(run)[0],
        num_steps=num_steps,
        batch_size=BATCH,
        seed=run.seed,
        progress=progress,
    )
    return model


def test_accuracy(run: Run, model: nn.Module) -> float:
    """The share of the run's test images that the model gets right."""
    return accuracy(model, data_for(run)[1])


@torch.no_grad()
def accuracy_when_shifted(model: nn.Module, data: LabelledImages, pixels: int) -> float:
    """The mean accuracy on images moved by so many pixels: left, right, up and down.

    What moves out of the image is lost, and what moves in is black.
    """
    found = []
    for rows, columns in ((0, -pixels), (0, pixels), (-pixels, 0), (pixels, 0)):
        found.append(
            accuracy(model, replace(data, images=shift(data.images, rows, columns)))
        )
    return sum(found) / len(found)


def shift(
    images: Float[Tensor, "batch channels height width"], rows: int, columns: int
) -> Float[Tensor, "batch channels height width"]:
    """The images moved down by ``rows`` and right by ``columns`` pixels, black behind them."""
    height, width = images.shape[2:]
    moved = torch.zeros_like(images)
    moved[
        ...,
        max(rows, 0) : height + min(rows, 0),
        max(columns, 0) : width + min(columns, 0),
    ] = images[
        ...,
        max(-rows, 0) : height + min(-rows, 0),
        max(-columns, 0) : width + min(-columns, 0),
    ]
    return moved


def plan() -> Iterator[Run]:
    """All runs of the table."""
    conditions = [("none", images) for images in SIZES]
    conditions += [(change, BESIDES_AT) for change in CHANGES[1:]]
    for change, images in conditions:
        for model in RIVALS:
            for seed in SEEDS:
                yield Run(model, change, images, seed)
    for seed in SEEDS:
        yield Run("ViT, mean", "none", BESIDES_AT, seed)


def stored_results() -> dict[tuple[str, str], dict[int, list[float]]]:
    """(model, change) -> number of training images -> the accuracy of each seed."""
    found: dict[tuple[str, str], dict[int, list[float]]] = {}
    with _RESULTS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            by_size = found.setdefault((row["model"], row["change"]), {})
            by_size.setdefault(int(row["images"]), []).append(float(row["accuracy"]))
    return found


def main() -> None:
    """Train all of the plan on one thread and write ``image_data.csv``."""
    from datetime import date

    torch.set_num_threads(1)
    with _RESULTS.open("w", encoding="utf-8", newline="") as file:
        file.write(
            f"# Accuracy on {TEST} digits of MNIST. Made by\n"
            f"# python -m companion.analysis.image_data: one thread, batches of {BATCH},\n"
            f"# ViT {list(STEPS['ViT'].values())} steps, CNN {list(STEPS['CNN'].values())},\n"
            f"# seeds {SEEDS[0]}-{SEEDS[-1]}, "
            f"{device().type}, torch {torch.__version__}, {date.today()}\n"
        )
        table = csv.writer(file, lineterminator="\n")
        table.writerow([*Run._fields, "accuracy"])
        for run in tqdm(list(plan())):
            table.writerow([*run, f"{test_accuracy(run, train(run)):.4f}"])
            file.flush()


if __name__ == "__main__":
    main()
