"""What a masked autoencoder learns from digits without labels, and what of it depends on what.

Three questions: how good are its features beside raw pixels, an untrained encoder's and a
supervised one's; what changes with the share that is hidden, and with normalized targets;
and what is gained by fine-tuning where labels are few.

The results of three seeds are kept beside this file, in ``mae.csv``. Made anew by

    python -m companion.analysis.mae

which takes about ten minutes on one core. ``--data FOLDER`` does the same for your own
images, a folder for each class, and prints the table instead.

Source: the questions are those of He et al. (2022), section 4.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from companion.analysis.inpainting import most_similar
from companion.analysis.nearest import knn_accuracy, linear_probe_accuracy
from companion.data.images import LabelledImages, image_folder, mnist_5k
from companion.models.mae import MAE, Masking
from companion.models.vit import ViT
from companion.runtime import device, seed_everything
from companion.training.images import classification_loss
from companion.training.loop import Trainer
from companion.training.mae import train_mae
from companion.training.muon import MuonAndAdamW
from companion.training.schedules import CosineWithWarmup

PATCH = 4
SIZES: dict[str, Any] = {
    "d_model": 64,
    "num_heads": 4,
    "d_ff": 256,
    "num_layers": 2,
    "decoder_d_model": 64,
    "decoder_num_heads": 4,
    "decoder_d_ff": 256,
    "decoder_num_layers": 1,
    "position_base": 10.0,  # seven rows, not thousands of positions
}
STEPS, BATCH = 800, 32
LONGER = 3000  # updates of one more run, of the first seed only
RATIOS = (0.25, 0.5, 0.75, 0.9)
# Labelled images -> updates of fine-tuning.
LABELS = {100: 100, 500: 200, 4000: 400}
TRAIN, TEST = 4000, 1000
SEEDS = (0, 1, 2)


def split_digits() -> tuple[LabelledImages, LabelledImages]:
    """MNIST's 4,000 training and 1,000 test images of this study."""
    return mnist_5k().split(TRAIN, TEST)


class Scale(NamedTuple):
    """How pixels from 0 to 1 are brought to mean 0 and deviation 1, and back.

    At this size it decides how far a few hundred updates get.
    """

    shift: float
    scale: float

    @classmethod
    def of(cls, images: Tensor) -> Scale:
        """That of all pixels of some images."""
        return cls(images.mean().item(), images.std().item())

    def into(self, images: Tensor) -> Tensor:
        """Pixels as the model reads them."""
        return (images - self.shift) / self.scale

    def back(self, images: Tensor) -> Tensor:
        """Pixels from 0 to 1 again."""
        return images * self.scale + self.shift


def new_mae(images: Tensor, **options: Any) -> MAE:
    """An untrained MAE of this study's sizes for such images."""
    channels, height, width = images.shape[1:]
    model = MAE((height, width), PATCH, channels, **{**SIZES, **options})
    for layer in model.layers:
        # Like looks for like from the start: it spares the updates in which attention
        # would find out that near places are worth a look.
        attention = layer.self_attention
        attention.W_k.load_state_dict(attention.W_q.state_dict())
    return model


def pretrain(
    images: Float[Tensor, "images channels height width"],
    seed: int,
    *,
    steps: int = STEPS,
    progress: bool = False,
    **options: Any,
) -> MAE:
    """An MAE trained on ``images``, from 0 to 1; options are its arguments."""
    seed_everything(seed)
    model = new_mae(images, **options)
    train_mae(
        model,
        Scale.of(images).into(images),
        steps,
        batch_size=BATCH,
        progress=progress,
    )
    return model


@torch.no_grad()
def features(
    encoder: ViT, images: Tensor, scale: Scale
) -> Float[Tensor, "images d_model"]:
    """The mean over all patches of the encoder's last states, nothing hidden."""
    here = encoder.prefix.device
    return torch.cat(
        [
            encoder.hidden_states(scale.into(part).to(here))[-1][:, 1:]
            .mean(dim=1)
            .cpu()
            for part in images.split(250)
        ]
    )


def feature_scores(
    see: Callable[[Tensor], Tensor], train: LabelledImages, test: LabelledImages
) -> dict[str, float]:
    """Accuracy on the test images: of the 20 nearest neighbors, and of a linear probe."""
    both = see(train.images), train.labels, see(test.images), test.labels
    k = min(20, len(train))
    return {"knn": knn_accuracy(*both, k=k), "probe": linear_probe_accuracy(*both)}


def draw_test_masking(model: MAE, images: Tensor, seed: int = 0) -> Masking:
    """The same patches of the same images, whatever was drawn before."""
    rows, columns = model.encoder.positions.grid
    noise = torch.rand(
        len(images), rows * columns, generator=torch.Generator().manual_seed(seed)
    )
    return model.draw_masking(images, noise.to(images.device))


def hidden_pixels(masking: Masking, grid: tuple[int, int], patch_size: int) -> Tensor:
    """The hidden patches as hidden pixels: ``(batch, height, width)``."""
    hidden = masking.hidden.unflatten(1, grid)
    return hidden.repeat_interleave(patch_size, 1).repeat_interleave(patch_size, 2)


def squared_error(guess: Tensor, images: Tensor, hidden: Tensor) -> float:
    """The mean squared error over hidden pixels."""
    where = hidden[:, None].expand_as(images)
    return (guess - images)[where].square().mean().item()


@torch.no_grad()
def reconstruction_errors(
    model: MAE, train: LabelledImages, test: LabelledImages
) -> dict[str, float]:
    """Mean squared errors of hidden pixels, from 0 to 1: of the model and of two baselines.

    ``"average"`` is the average training image, ``"similar"`` the mean of the ten training
    images that are most like the visible pixels.
    """
    here = next(model.parameters()).device
    images = test.images.to(here)
    masking = draw_test_masking(model, images)
    hidden = hidden_pixels(masking, model.encoder.positions.grid, model.patch_size)
    scale = Scale.of(train.images)
    painted = scale.back(model.reconstruct(scale.into(images), masking))
    hidden = hidden.cpu()
    average = train.images.mean(dim=0, keepdim=True).expand_as(test.images)
    similar = most_similar(test.images, hidden, train.images)
    return {
        "error": squared_error(painted.cpu(), test.images, hidden),
        "average": squared_error(average, test.images, hidden),
        "similar": squared_error(similar, test.images, hidden),
    }


def fine_tune(
    start: MAE,
    train: LabelledImages,
    scale: Scale,
    seed: int,
    *,
    steps: int,
    muon_lr: float = 0.02,
    adamw_lr: float = 3e-3,
) -> ViT:
    """A classifier that begins with the encoder of ``start``, trained or not.

    The optimizer and its schedule are those of `train_mae`.
    """
    seed_everything(seed)
    model = start.classifier(len(train.classes))
    batches = DataLoader(
        TensorDataset(scale.into(train.images), train.labels), BATCH, shuffle=True
    )
    optimizer = MuonAndAdamW(model, muon_lr, adamw_lr, betas=(0.9, 0.95))
    Trainer(
        model=model,
        optimizer=optimizer,
        batches=batches,
        loss=classification_loss,
        scheduler=CosineWithWarmup(optimizer, steps // 10, steps, min_lr_ratio=0.0),
        progress=False,
    ).run(num_steps=steps)
    return model


@torch.no_grad()
def accuracy(model: ViT, data: LabelledImages, scale: Scale) -> float:
    """The share of images whose most probable class is the right one."""
    here = model.prefix.device
    said = torch.cat(
        [
            model(scale.into(part).to(here)).argmax(dim=1).cpu()
            for part in data.images.split(250)
        ]
    )
    return (said == data.labels).float().mean().item()


Row = tuple[str, str, int, str, float]  # study, setting, seed, measure, value


def study(
    seed: int, train: LabelledImages, test: LabelledImages, steps: int = STEPS
) -> Iterator[Row]:
    """All runs of one seed, row by row."""

    def rows(name: str, setting: object, scores: dict[str, float]) -> Iterator[Row]:
        return ((name, str(setting), seed, what, x) for what, x in scores.items())

    def of(model: ViT) -> dict[str, float]:
        return feature_scores(partial(features, model, scale=scale), train, test)

    scale = Scale.of(train.images)
    untrained = new_mae_seeded(train.images, seed)
    start = None
    for ratio in RATIOS:
        model = pretrain(train.images, seed, steps=steps, mask_ratio=ratio)
        scores = of(model.encoder) | reconstruction_errors(model, train, test)
        yield from rows("ratio", ratio, scores)
        if ratio == 0.75:
            start = model
            yield from rows("features", "MAE", of(model.encoder))
    yield from rows("features", "untrained", of(untrained.encoder))
    raw = feature_scores(lambda images: images.flatten(1), train, test)
    yield from rows("features", "pixels", raw)
    other = pretrain(train.images, seed, steps=steps, normalize_target=True)
    yield from rows("target", "normalized", of(other.encoder))
    for labels, updates in LABELS.items():
        some = train[: min(labels, len(train))]
        for name, model in (("from MAE", start), ("from scratch", untrained)):
            tuned = fine_tune(model, some, scale, seed, steps=updates)
            found = {"accuracy": accuracy(tuned, test, scale)}
            yield from rows(f"labels {labels}", name, found)
            if labels == max(LABELS) and name == "from scratch":
                yield from rows("features", "supervised", of(tuned))
        for name, see in (
            ("frozen MAE", partial(features, start.encoder, scale=scale)),
            ("pixels", lambda images: images.flatten(1)),
        ):
            found = {"accuracy": feature_scores(see, some, test)["probe"]}
            yield from rows(f"labels {labels}", name, found)
    if seed == SEEDS[0]:
        more = LONGER * steps // STEPS
        model = pretrain(train.images, seed, steps=more)
        yield from rows("longer", more, reconstruction_errors(model, train, test))
        yield from rows("longer", more, of(model.encoder))
        see = partial(features, model.encoder, scale=scale)
        for labels in LABELS:
            found = feature_scores(see, train[: min(labels, len(train))], test)
            yield from rows("longer", more, {f"probe {labels}": found["probe"]})


def new_mae_seeded(images: Tensor, seed: int) -> MAE:
    """The MAE with which `pretrain` begins."""
    seed_everything(seed)
    return new_mae(images).to(device()).eval()


_RESULTS = Path(__file__).with_suffix(".csv")


def stored_results() -> dict[tuple[str, str], dict[str, list[float]]]:
    """(study, setting) -> measure -> one value a seed."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    with _RESULTS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            measures = found.setdefault(
                (row["study"], row["setting"]), defaultdict(list)
            )
            measures[row["measure"]].append(float(row["value"]))
    return {key: dict(measures) for key, measures in found.items()}


def rows_by_seed(
    settings: Sequence[tuple[str, str]], measure: str
) -> list[tuple[float, ...]]:
    """A stored measure for each (study, setting): one row a seed, as plots take them."""
    stored = stored_results()
    return list(zip(*(stored[setting][measure] for setting in settings), strict=True))


def dino_results() -> dict[str, list[float]]:
    """DINO's scores at the end of its training, one a seed, on the same split of digits.

    Empty where ``dino.csv`` has not been made.
    """
    from companion.analysis import dino

    if not Path(dino.__file__).with_suffix(".csv").is_file():
        return {}
    rows = [row for row in dino.stored_results() if row["features"] == "both"]
    end = max(row["step"] for row in rows)
    last = [row for row in rows if row["step"] == end]
    return {what: [row[what] for row in last] for what in ("knn", "probe")}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study; write ``mae.csv``, or print the table of a folder's images."""
    from datetime import date

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--data", metavar="FOLDER", help="images, a folder for each class"
    )
    parser.add_argument(
        "--size", type=int, default=28, help="to which images are brought"
    )
    parser.add_argument("--mode", choices=("L", "RGB"), default="L")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    options = parser.parse_args(arguments)
    names = ("study", "setting", "seed", "measure", "value")
    if options.data is not None:
        try:
            data = image_folder(options.data, size=options.size, mode=options.mode)
            test = max(1, len(data) // 5)
            parts = data.split(len(data) - test, test)
        except (ValueError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        table = csv.writer(sys.stdout)
        table.writerow(names)
        for seed in options.seeds:
            table.writerows(study(seed, *parts, options.steps))
        return 0
    parts = split_digits()
    with _RESULTS.open("w", encoding="utf-8", newline="") as file:
        seeds = " ".join(map(str, options.seeds))
        file.write(
            "# Accuracies on 1,000 test images, and mean squared errors of hidden pixels.\n"
            f"# Made by python -m companion.analysis.mae: {options.steps} steps, seeds "
            f"{seeds}, one thread,\n"
            f"# {device().type}, torch {torch.__version__}, {date.today()}\n"
        )
        table = csv.writer(file)
        table.writerow(names)
        for seed in options.seeds:
            for *row, value in study(seed, *parts, options.steps):
                table.writerow([*row, f"{value:.4f}"])
                file.flush()
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
