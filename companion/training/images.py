"""Train a classifier of images, with one command:

    python -m companion.training.images --data mnist --model vit --out RUN
    python -m companion.training.images --data FOLDER --size 64 --mode RGB --out RUN

``FOLDER`` holds a folder of images for each class, or the files of Fashion-MNIST. The
images are split in three: one part to train on, one to choose the best checkpoint by, one
to score on, which nothing else has seen. The folder ``RUN`` gets the checkpoints and the
scores. Killed at any moment, the same command with ``--resume`` goes on and ends with the
same weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import AdamW

from companion.data.images import (
    LabelledImages,
    idx_folder,
    image_folder,
    is_idx_folder,
    mnist_5k,
    small_digits,
)
from companion.models.convnet import ConvNet
from companion.models.vit import ViT
from companion.runtime import device, seed_everything
from companion.training.checkpoints import Checkpoints, load_weights
from companion.training.command import exit_status
from companion.training.errors import Row
from companion.training.loop import Trainer
from companion.training.schedules import CosineWithWarmup

Augment = Callable[[Tensor], Tensor]

# Batches, loss, recipe


def normalize(images: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Pixels from 0..1 to -1..1, where networks like their inputs."""
    return images * 2.0 - 1.0


class ImageBatches:
    """Batches ``(images, labels)`` for `Trainer`, in a new random order each epoch.

    The images are changed at random by ``augment``, if given, then go from 0..1 to -1..1.

    Args:
        data: the images.
        batch_size: of each batch; the last one of an epoch has the rest.
        shuffle: whether the order changes.
        augment: from images to images, on the CPU; draws from PyTorch's generator.
        seed: of the order.

    Raises:
        ValueError: the batch size is below 1, or there is no image.
    """

    def __init__(
        self,
        data: LabelledImages,
        batch_size: int = 64,
        *,
        shuffle: bool = True,
        augment: Augment | None = None,
        seed: int = 0,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, but it is {batch_size}")
        if len(data) < 1:
            raise ValueError("data must hold at least one image, but it holds none")
        self.data = data
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.augment = augment
        self.seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of this epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.data) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.arange(len(self.data))
        if self.shuffle:
            draw = torch.Generator().manual_seed(1_000_003 * self.seed + self._epoch)
            order = order[torch.randperm(len(order), generator=draw)]
        for chosen in order.split(self.batch_size):
            images = self.data.images[chosen]
            if self.augment is not None:
                images = self.augment(images)
            yield normalize(images), self.data.labels[chosen]


def random_views(
    *,
    degrees: float = 10.0,
    shift: float = 0.1,
    zoom: float = 0.1,
    flip: bool = False,
) -> nn.Module:
    """Augmentation by kornia: turn, shift and zoom a little, and mirror where asked.

    Args:
        degrees: by which an image is turned at most, to either side.
        shift: by which it is moved at most, as a part of its sides.
        zoom: by which it is made larger or smaller at most, as a part.
        flip: whether half of the images are mirrored, left to right. A mirrored digit is
            no digit.
    """
    import kornia.augmentation as K

    views = [
        K.RandomAffine(
            degrees, translate=(shift, shift), scale=(1 - zoom, 1 + zoom), p=1.0
        )
    ]
    return nn.Sequential(*views, *([K.RandomHorizontalFlip(p=0.5)] if flip else []))


def classification_loss(
    model: nn.Module,
    batch: tuple[Float[Tensor, "batch channels height width"], Int[Tensor, "batch"]],
) -> tuple[Float[Tensor, ""], int]:
    """The *sum* of cross-entropies in nats, and the number of images in it."""
    images, labels = batch
    return F.cross_entropy(model(images), labels, reduction="sum"), len(labels)


def train_classifier(
    model: nn.Module,
    data: LabelledImages,
    *,
    num_steps: int,
    batch_size: int = 64,
    lr: float = 2e-3,
    weight_decay: float = 0.05,
    warmup_steps: int | None = None,
    augment: Augment | None = None,
    seed: int = 0,
    **options: Any,
) -> list[Row]:
    """Train on labelled images: AdamW, a warmup, then a cosine down to a hundredth.

    Args:
        model: gives logits; it is moved to `companion.device()` and left in evaluation
            mode.
        data: to train on.
        num_steps: number of updates.
        batch_size: images in each.
        lr: the peak of the learning rate.
        weight_decay: of matrices and kernels; vectors, tokens and positions have none.
        warmup_steps: updates until the peak; a tenth of all by default.
        augment: see `ImageBatches`.
        seed: of the order of the images.
        options: of `Trainer`: ``checkpoints``, ``progress`` and so on. In its history
            and bar, a token is an image.

    Returns:
        The history, a row for each update: see `Trainer`.

    Raises:
        ValueError, TrainingError: as `Trainer` does.
    """
    model = model.to(device())
    spared = [
        name.endswith(("prefix", "positions.table")) or p.ndim < 2
        for name, p in model.named_parameters()
    ]
    both = list(zip(model.parameters(), spared, strict=True))
    groups = [
        {"params": [p for p, free in both if not free], "weight_decay": weight_decay},
        {"params": [p for p, free in both if free], "weight_decay": 0.0},
    ]
    optimizer = AdamW(groups, lr=lr)
    if warmup_steps is None:
        warmup_steps = num_steps // 10
    trainer = Trainer(
        model=model,
        optimizer=optimizer,
        batches=ImageBatches(data, batch_size, augment=augment, seed=seed),
        loss=classification_loss,
        scheduler=CosineWithWarmup(optimizer, warmup_steps, num_steps, 0.01),
        **options,
    )
    return trainer.run(num_steps=num_steps)


@torch.no_grad()
def predict(
    model: nn.Module, data: LabelledImages, batch_size: int = 256
) -> Int[Tensor, "images"]:
    """The most probable class of each image, on the CPU. Leaves the model's mode alone."""
    where = next(model.parameters()).device
    was_training = model.training
    model.eval()
    found = [
        model(images.to(where)).argmax(dim=1).cpu()
        for images, _ in ImageBatches(data, batch_size, shuffle=False)
    ]
    model.train(was_training)
    return torch.cat(found)


def accuracy(model: nn.Module, data: LabelledImages, batch_size: int = 256) -> float:
    """The share of images whose most probable class is the right one."""
    return (predict(model, data, batch_size) == data.labels).float().mean().item()


# The command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Exit status: 0 fine, 1 training failed, 2 bad input, 130 stopped."""
    return exit_status(run, _parser().parse_args(arguments))


def run(options: argparse.Namespace) -> float:
    """Read, split, train, score; see the module. Returns the accuracy on the test part.

    Raises:
        ValueError, OSError: the images, the options, or a folder that holds another run.
        TrainingError, CheckpointError: training failed, or cannot go on.
    """
    train, validation, test = _read(options)
    height, width = train.images.shape[2:]
    print(
        f"{len(train):,} images to train on, {len(validation):,} to choose by, "
        f"{len(test):,} to score on; {height} by {width} pixels, "
        f"{len(train.classes)} classes"
    )
    out = Path(options.out)
    seed_everything(options.seed)
    model = _new_model(options, train)
    _start(out, options, train)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{type(model).__name__} with {parameters:,} parameters on {device()}")
    checkpoints = Checkpoints(out / "checkpoints")
    history = train_classifier(
        model,
        train,
        num_steps=options.steps,
        batch_size=options.batch_size,
        lr=options.lr,
        weight_decay=options.weight_decay,
        augment=random_views(flip=options.flip) if options.augment else None,
        seed=options.seed,
        validation=ImageBatches(validation, options.batch_size, shuffle=False),
        evaluate_every=options.evaluate_every,
        patience=options.patience,
        precision=options.precision,
        checkpoints=checkpoints,
        checkpoint_every=options.checkpoint_every,
        resume=options.resume,
        progress=not options.quiet,
    )
    if checkpoints.best.exists():
        load_weights(model, checkpoints.best)
    losses = [row["validation_loss"] for row in history if "validation_loss" in row]
    best = f", lowest validation loss {min(losses):.3f}" if losses else ""
    print(f"{history[-1]['step']:,} steps{best}")
    said = predict(model, test)
    right = (said == test.labels).float().mean().item()
    by_class = {
        name: (said[test.labels == label] == label).float().mean().item()
        for label, name in enumerate(test.classes)
        if (test.labels == label).any()
    }
    (out / "scores.json").write_text(
        json.dumps({"accuracy": right, "by class": by_class}, indent=1) + "\n",
        encoding="utf-8",
    )
    worst = min(by_class, key=by_class.__getitem__)
    print(f"test: accuracy {right:.1%}, worst in {worst!r} with {by_class[worst]:.1%}")
    return right


def _read(
    options: argparse.Namespace,
) -> tuple[LabelledImages, LabelledImages, LabelledImages]:
    """The three parts. Images that come with a test part of their own keep it."""
    test = None
    if options.data in ("mnist", "digits"):
        images = mnist_5k() if options.data == "mnist" else small_digits()
    elif is_idx_folder(options.data):
        images = idx_folder(options.data)
        test = idx_folder(options.data, "t10k", images.classes)
    else:
        images = image_folder(
            options.data, size=options.size, fit=options.fit, mode=options.mode
        )
    held_out = [round(options.validation * len(images))]
    held_out += [round(options.test * len(images))] if test is None else []
    rest = len(images) - sum(held_out)
    if min(*held_out, rest) < 1:
        raise ValueError(
            f"{len(images)} images are too few for --validation {options.validation} "
            f"and --test {options.test}: a part would be empty"
        )
    train, validation, *more = images.split(rest, *held_out, seed=options.seed)
    return train, validation, *([test] if test is not None else more)


def _new_model(options: argparse.Namespace, data: LabelledImages) -> nn.Module:
    channels, height, width = data.images.shape[1:]
    if options.model == "cnn":
        widths = [options.width * 2**stage for stage in range(3)]
        return ConvNet(channels, len(data.classes), widths)
    patch_size = options.patch_size or _about_eight_patches(height, width)
    return ViT(
        (height, width),
        patch_size,
        channels,
        len(data.classes),
        options.d_model,
        options.heads,
        options.d_ff or 4 * options.d_model,
        options.layers,
        options.dropout,
        drop_path=options.drop_path,
        pooling=options.pooling,
    )


def _about_eight_patches(height: int, width: int) -> int:
    """The patch size that makes the shorter side nearest to eight patches long."""
    short = min(height, width)
    fits = [p for p in range(1, short + 1) if height % p == width % p == 0]
    return min(fits, key=lambda p: abs(short / p - 8))


# What a run that goes on may change: how long it waits, and what it shows.
_MAY_CHANGE = {"data", "out", "resume", "quiet", "patience", "checkpoint_every"}


def _start(out: Path, options: argparse.Namespace, train: LabelledImages) -> None:
    """Begin a run in ``out``, or make sure that the one there is the same.

    Raises:
        ValueError: ``out`` holds another run, or one that is not to be resumed.
    """
    settings = {k: v for k, v in vars(options).items() if k not in _MAY_CHANGE}
    content = train.images.numpy().tobytes() + train.labels.numpy().tobytes()
    settings["images"] = hashlib.sha256(content).hexdigest()
    path = out / "settings.json"
    if path.exists():
        if not options.resume:
            raise ValueError(f"{out} holds a run; go on with --resume, or take another")
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = [
            f"{name} was {before.get(name)} and is {settings.get(name)}"
            for name in sorted(before.keys() | settings)
            if before.get(name) != settings.get(name)
        ]
        if changed:
            raise ValueError(f"{out} holds another run: {'; '.join(changed)}")
        return
    out.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name("settings.json.tmp")
    temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m companion.training.images",
        description="Train a classifier of images, on your own if you like.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    data = parser.add_argument_group("images")
    data.add_argument(
        "--data",
        required=True,
        help="mnist, digits, or a folder: of a folder for each class, or of idx files",
    )
    data.add_argument("--size", type=int, help="side in pixels to bring all images to")
    data.add_argument(
        "--fit", default="stretch", choices=("stretch", "crop", "pad"), help="how"
    )
    data.add_argument(
        "--mode", choices=("L", "RGB"), help="make all images grey, or three-colored"
    )
    run_ = parser.add_argument_group("run")
    run_.add_argument("--out", default="classifier", help="folder of this run")
    run_.add_argument(
        "--resume", action="store_true", help="go on with the run in --out, if any"
    )
    run_.add_argument("--quiet", action="store_true", help="show no progress bar")
    run_.add_argument(
        "--augment",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="turn, shift and zoom images at random",
    )
    run_.add_argument("--flip", action="store_true", help="mirror half of them, too")
    run_.add_argument("--model", default="vit", choices=("vit", "cnn"), help="model")
    run_.add_argument(
        "--pooling",
        default="first",
        choices=("first", "mean"),
        help="what the head of a vit reads: [CLS], or the mean of the patches",
    )
    numbers: dict[str, tuple[Any, str]] = {
        "validation": (0.1, "share of the images to choose the best checkpoint by"),
        "test": (0.1, "share of the images to score on"),
        "patch_size": (0, "side of a patch; 0 makes about eight patches a side"),
        "d_model": (64, "width of a vit"),
        "heads": (4, "attention heads in a layer"),
        "d_ff": (0, "inner width of the feed-forward networks; 0 is 4 d_model"),
        "layers": (4, "layers of a vit"),
        "dropout": (0.0, "dropout of a vit"),
        "drop_path": (0.0, "stochastic depth of a vit"),
        "width": (22, "channels of a cnn's first stage"),
        "steps": (1500, "updates of the weights"),
        "batch_size": (64, "images in a batch"),
        "lr": (2e-3, "peak of the learning rate"),
        "weight_decay": (0.05, "weight decay"),
        "evaluate_every": (100, "updates between two measurements on validation"),
        "patience": (10, "measurements without a new lowest loss until it stops"),
        "checkpoint_every": (100, "updates between two checkpoints"),
        "seed": (0, "of the split, the weights and the batches"),
    }
    for name, (default, help_) in numbers.items():
        flag = "--" + name.replace("_", "-")
        run_.add_argument(flag, type=type(default), default=default, help=help_)
    run_.add_argument(
        "--precision",
        default="fp32",
        choices=("fp32", "bf16", "fp16"),
        help="of products",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
