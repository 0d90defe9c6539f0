"""What a small DINO learns from digits without labels, and how it collapses.

Nearest-neighbor and probe accuracy of its features beside those of raw pixels, of a random
ViT and of one that was trained with labels; the teacher's entropy and the KL divergence
with centering and sharpening, and without one of them. Kept beside this file, in
``dino.csv`` and, for some pictures, ``dino_snapshots.json``. Made anew by

    python -m companion.analysis.dino

which takes about ten minutes on one core. Any folder with a folder of images for each class
(or the files of Fashion-MNIST) takes the place of the digits:

    python -m companion.analysis.dino --data FOLDER --size 28 --mode L --out FOLDER.csv
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import AdamW

from companion.analysis.nearest import knn_accuracy, linear_probe_accuracy
from companion.data.images import (
    LabelledImages,
    idx_folder,
    image_folder,
    is_idx_folder,
    mnist_5k,
)
from companion.layers import record_attention
from companion.models.dino import DINO
from companion.models.vit import ViT
from companion.runtime import device, seed_everything
from companion.training.dino import (
    DINOTrainer,
    MultiCrop,
    digit_crops,
    dino_trainer,
    photo_crops,
)
from companion.training.loop import Trainer
from companion.training.schedules import CosineWithWarmup

STEPS = 1600
COLLAPSE_STEPS = 200
OUTPUTS = 128
BATCH = 64
TEACHER_TEMPERATURE = 0.03
STUDENT_TEMPERATURE = 0.1

# The teacher's temperature, and the momentum of the center: at 1 the center stays zero.
RECIPES: dict[str, tuple[float, float]] = {
    "both": (TEACHER_TEMPERATURE, 0.8),
    "no centering": (TEACHER_TEMPERATURE, 1.0),
    "no sharpening": (STUDENT_TEMPERATURE, 0.8),
}

Row = dict[str, Any]
COLUMNS = ("seed", "features", "step", "knn", "probe", "entropy", "kl")


def small_vit(
    image_size: int | tuple[int, int] = 28,
    patch_size: int = 7,
    in_channels: int = 1,
    num_classes: int | None = None,
) -> ViT:
    """A ViT of 58,000 parameters whose initial weights suit its small width.

    Deviations of 0.02 are made for widths of 768 and more. At a width of 48 they make
    [CLS] nearly blind to where a patch stands, and training crawls. Here weights have
    1 / sqrt(their inputs), and positions are as large as the patches.
    """
    vit = ViT(image_size, patch_size, in_channels, num_classes, 48, 4, 192, 2)
    for layer in vit.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
    nn.init.normal_(vit.positions.table, std=0.3)
    return vit


def small_dino(vit: ViT, recipe: str = "both") -> DINO:
    """DINO with a head of 128 outputs around a small ViT, by one of `RECIPES`."""
    _, center_momentum = RECIPES[_known(recipe)]
    model = DINO(
        vit,
        OUTPUTS,
        d_hidden=256,
        d_bottleneck=64,
        student_temperature=STUDENT_TEMPERATURE,
        center_momentum=center_momentum,
    )
    for layer in model.student_head.mlp:
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=layer.in_features**-0.5)
    model.update_teacher(0.0)
    return model


def small_trainer(
    model: DINO,
    images: Float[Tensor, "images channels height width"],
    crops: MultiCrop,
    steps: int = STEPS,
    recipe: str = "both",
    *,
    progress: bool = False,
) -> DINOTrainer:
    """The trainer of such a model; ``run(num_steps=...)`` trains it."""
    temperature, _ = RECIPES[_known(recipe)]
    return dino_trainer(
        model,
        images,
        crops,
        steps,
        batch_size=BATCH,
        lr=3e-3,
        warmup_steps=min(20, steps // 10),
        momentum=0.97,
        teacher_temperature=temperature,
        progress=progress,
    )


def train_supervised(
    data: LabelledImages,
    augment: Callable[[Tensor], Tensor],
    steps: int = STEPS // 2,
    *,
    patch_size: int = 7,
    lr: float = 2e-3,
) -> ViT:
    """The same ViT, trained with the labels on the same kind of views.

    Its updates see one view each and cost a third of DINO's.
    """
    channels, *size = data.images.shape[1:]
    vit = small_vit(tuple(size), patch_size, channels, len(data.classes)).to(device())
    optimizer = AdamW(vit.parameters(), lr=lr, weight_decay=0.04)

    def loss(model: ViT, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, int]:
        return model.loss(*batch) * len(batch[0]), len(batch[0])

    trainer = Trainer(
        model=vit,
        optimizer=optimizer,
        batches=_Labelled(data, augment),
        loss=loss,
        scheduler=CosineWithWarmup(optimizer, min(20, steps // 10), steps, 0.01),
        progress=False,
    )
    trainer.run(num_steps=steps)
    return vit


class _Labelled:
    """Batches of augmented images with their labels, in a new order each epoch."""

    def __init__(
        self, data: LabelledImages, augment: Callable[[Tensor], Tensor]
    ) -> None:
        self.data, self.augment = data, augment

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.data)).split(BATCH)
        for part in order[: max(1, len(self.data) // BATCH)]:
            yield self.augment(self.data.images[part]), self.data.labels[part]


@torch.no_grad()
def features_of(
    model: DINO | ViT, images: Float[Tensor, "images channels height width"]
) -> Float[Tensor, "images d_model"]:
    """``model.features`` in evaluation mode, on the CPU; of a DINO those of its teacher."""
    was_training = model.training
    model.eval()
    where = next(model.parameters()).device
    found = [model.features(part.to(where)).cpu() for part in images.split(500)]
    model.train(was_training)
    return torch.cat(found)


def accuracies(
    features: Callable[[Tensor], Tensor], train: LabelledImages, test: LabelledImages
) -> dict[str, float]:
    """Nearest-neighbor and linear-probe accuracy, in which only these two use labels."""
    known, asked = features(train.images), features(test.images)
    arguments = (known, train.labels, asked, test.labels)
    return {
        "knn": knn_accuracy(*arguments),
        "probe": linear_probe_accuracy(*arguments, max_iter=200),
    }


@torch.no_grad()
def weight_on_ink(
    vit: ViT,
    images: Float[Tensor, "images 1 height width"],
    threshold: float = 0.15,
) -> tuple[Float[Tensor, "heads"], float]:
    """How much of [CLS]'s attention, in each head of the last layer, is on patches with ink.

    Args:
        vit: the model.
        images: from 0 to 1.
        threshold: a patch has ink if its mean is above this.

    Returns:
        For each head the mean share of the weight that it gives to patches, and the share
        of patches that have ink, which is what even attention would give.
    """
    vit.eval()
    with record_attention(vit) as maps:
        vit(images.to(next(vit.parameters()).device))
    last_map = maps.stack()[-1].cpu()  # (images, heads, queries, keys)
    weights = last_map[:, :, 0, vit.num_prefix :]
    weights = weights / weights.sum(dim=-1, keepdim=True)
    ink = nn.functional.avg_pool2d(images, vit.patch_size).flatten(1) > threshold
    return (weights * ink[:, None]).sum(-1).mean(0), ink.float().mean().item()


def pixels(images: Tensor) -> Tensor:
    """No features at all: the pixels as they are."""
    return images.flatten(1)


def compare(
    train: LabelledImages,
    test: LabelledImages,
    crops: MultiCrop,
    seed: int,
    *,
    steps: int = STEPS,
    collapse_steps: int = COLLAPSE_STEPS,
    patch_size: int = 7,
    every: int = 200,
    snapshot: Callable[[int, DINO], None] | None = None,
) -> Iterator[Row]:
    """All rows of the table for one seed.

    Args:
        train: images to learn from; DINO does not get their labels.
        test: images to measure with.
        crops: makes the views.
        seed: of weights and views.
        steps: updates of DINO; the supervised ViT gets half as many.
        collapse_steps: updates in which entropy and KL are followed.
        patch_size: of the ViTs.
        every: updates between two measurements of DINO.
        snapshot: called with the step and the model at each of these.
    """

    def row(features: str, step: int, **numbers: float) -> Row:
        return {"seed": seed, "features": features, "step": step, **numbers}

    def vit() -> ViT:
        seed_everything(seed)
        channels, *size = train.images.shape[1:]
        return small_vit(tuple(size), patch_size, channels)

    def measured(model: DINO | ViT) -> dict[str, float]:
        return accuracies(lambda x: features_of(model, x), train, test)

    yield row("pixels", 0, **accuracies(pixels, train, test))
    yield row("random", 0, **measured(vit()))
    for recipe in RECIPES:
        model = small_dino(vit(), recipe)
        trainer = small_trainer(model, train.images, crops, steps, recipe)
        if recipe == "both" and snapshot:
            snapshot(0, model)
        last = steps if recipe == "both" else min(steps, collapse_steps)
        stops = {*range(every, last, every), last}
        for stop in sorted(stops):
            done = len(trainer.history)
            trainer.run(num_steps=stop)
            for entry in trainer.history[done:]:
                if entry["step"] <= collapse_steps and entry["step"] % 5 == 0:
                    numbers = {name: entry[name] for name in ("entropy", "kl")}
                    yield row(recipe, entry["step"], **numbers)
            if recipe == "both" or stop == last:
                yield row(recipe, stop, **measured(model))
            if recipe == "both" and snapshot:
                snapshot(stop, model)
    seed_everything(seed)
    half = max(1, steps // 2)
    supervised = train_supervised(train, crops.crops[0], half, patch_size=patch_size)
    yield row("supervised", half, **measured(supervised))


# Pictures of how the features move


class Snapshots:
    """The features of some images at several steps, as maps in two dimensions.

    Each map is a t-SNE that starts from the map before it, so that a point can be
    followed. Beside it are the nearest neighbors in the features themselves.

    Args:
        images: to be mapped, with labels for the colors.
        neighbors: how many are kept for each image.
    """

    def __init__(self, images: LabelledImages, neighbors: int = 5) -> None:
        self.images = images
        self.neighbors = neighbors
        self.steps: list[int] = []
        self.places: list[list[list[int]]] = []
        self.nearest: list[list[list[int]]] = []

    def __call__(self, step: int, model: DINO) -> None:
        """Add a map; places are whole numbers from 0 to 999."""
        x = nn.functional.normalize(features_of(model, self.images.images), dim=-1)
        similarity = (x @ x.T).fill_diagonal_(-math.inf)
        start = (
            "pca"
            if not self.places
            else torch.tensor(self.places[-1]).sub(500).div(5e6).numpy()
        )
        self.steps.append(step)
        self.places.append(_map(x, start))
        self.nearest.append(similarity.topk(self.neighbors).indices.tolist())

    def content(self) -> dict[str, Any]:
        """What ``dino_snapshots.json`` holds."""
        return {
            "steps": self.steps,
            "places": self.places,
            "nearest": self.nearest,
            "labels": self.images.labels.tolist(),
        }


def _map(x: Tensor, start: Any) -> list[list[int]]:
    from sklearn.manifold import TSNE

    found = TSNE(
        perplexity=20, init=start, random_state=0, metric="cosine"
    ).fit_transform(x.numpy())
    place = torch.from_numpy(found)
    place = place - place.amin(dim=0)
    return (place / place.amax(dim=0) * 999).round().long().tolist()


# The table

_RESULTS = Path(__file__).with_suffix(".csv")
_SNAPSHOTS = Path(__file__).with_name("dino_snapshots.json")


def stored_results(path: Path = _RESULTS) -> list[Row]:
    """The rows of ``dino.csv``; numbers that a row lacks are left out."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = [line for line in file if not line.startswith("#")]
    rows = []
    for line in csv.DictReader(lines):
        numbers = {k: float(line[k]) for k in COLUMNS[3:] if line[k]}
        rows.append(
            {
                "seed": int(line["seed"]),
                "features": line["features"],
                "step": int(line["step"]),
                **numbers,
            }
        )
    return rows


def stored_snapshots() -> dict[str, Any]:
    """What `Snapshots` kept of seed 0."""
    return json.loads(_SNAPSHOTS.read_text(encoding="utf-8"))


def mapped_digits(count: int = 200) -> LabelledImages:
    """The test digits whose features are in ``dino_snapshots.json``, as many of each class."""
    _, test = digits()
    each = count // len(test.classes)
    picked = [
        (test.labels == label).nonzero().flatten()[:each]
        for label in range(len(test.classes))
    ]
    return test[torch.cat(picked)]


def digits() -> tuple[LabelledImages, LabelledImages]:
    """4,000 digits to learn from, and 1,000 to measure with."""
    train, test = mnist_5k().split(4000, 1000)
    return train, test


def curve(
    rows: Iterable[Row], features: str, number: str
) -> Float[Tensor, "seeds steps"]:
    """One number of one kind of features over the steps at which it was measured."""
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        if row["features"] == features and number in row:
            by_seed.setdefault(row["seed"], []).append(row[number])
    return torch.tensor(list(by_seed.values()))


def steps_of(rows: Iterable[Row], features: str, number: str) -> list[int]:
    """The steps that belong to `curve`."""
    found = {r["step"] for r in rows if r["features"] == features and number in r}
    return sorted(found)


def last(rows: Iterable[Row], features: str, number: str) -> Float[Tensor, "seeds"]:
    """The last measurement of each seed."""
    return curve(rows, features, number)[:, -1]


def _known(recipe: str) -> str:
    if recipe not in RECIPES:
        raise ValueError(
            f"recipe must be one of {', '.join(map(repr, RECIPES))}, but it is {recipe!r}"
        )
    return recipe


def _read(options: argparse.Namespace) -> tuple[LabelledImages, LabelledImages]:
    if options.data is None:
        return digits()
    if is_idx_folder(options.data):
        data = idx_folder(options.data)
    else:
        data = image_folder(options.data, size=options.size, mode=options.mode)
    held_out = max(1, len(data) // 5)
    train, test = data.split(len(data) - held_out, held_out)
    return train, test


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure everything on one thread and write the table."""
    from datetime import date

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a folder of images; digits by default")
    parser.add_argument("--size", type=int, help="sides of the images in pixels")
    parser.add_argument("--mode", choices=("L", "RGB"), help="grey or in color")
    parser.add_argument("--patch", type=int, default=7, help="sides of a patch")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, help="the table; needed with --data")
    options = parser.parse_args(arguments)
    if options.data is not None and options.out is None:
        parser.error("--data needs --out, so that the book's own table stays")
    torch.set_num_threads(1)
    train, test = _read(options)
    channels, height, width = train.images.shape[1:]
    if height != width or height % options.patch:
        parser.error(
            f"the images are {height} by {width} pixels: give a --size that --patch divides"
        )
    local = max(1, height // (2 * options.patch)) * options.patch
    crops = (photo_crops if channels == 3 else digit_crops)(height, local, 2)
    out = options.out or _RESULTS
    with out.open("w", encoding="utf-8", newline="") as file:
        file.write(
            f"# DINO on {len(train)} images, measured on {len(test)} others: accuracy of\n"
            "# 20 nearest neighbors and of a linear probe; mean entropy of the teacher and\n"
            "# KL divergence to the student, in nats. Made by\n"
            f"# python -m companion.analysis.dino --seeds {' '.join(map(str, options.seeds))}"
            f" --steps {options.steps}: one thread,\n"
            f"# {device().type}, torch {torch.__version__}, {date.today()}\n"
        )
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        for seed in options.seeds:
            wanted = options.data is None and seed == 0
            snapshots = Snapshots(mapped_digits()) if wanted else None
            for row in compare(
                train,
                test,
                crops,
                seed,
                steps=options.steps,
                patch_size=options.patch,
                every=max(1, options.steps // 8),
                snapshot=snapshots,
            ):
                table.writerow(
                    {
                        k: f"{v:.4g}" if isinstance(v, float) else v
                        for k, v in row.items()
                    }
                )
                file.flush()
                if "knn" in row:
                    print(
                        f"seed {seed}, {row['features']:>13}, step {row['step']:5}: "
                        f"k-NN {row['knn']:.1%}, probe {row['probe']:.1%}",
                        flush=True,
                    )
            if snapshots is not None:
                path = out.with_name(out.stem + "_snapshots.json")
                path.write_text(
                    json.dumps(snapshots.content(), separators=(",", ":")) + "\n",
                    encoding="utf-8",
                )


if __name__ == "__main__":
    main()
