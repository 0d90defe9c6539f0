"""What shifted windows are good for: digits named at every patch, and digits named once.

Swin, Swin whose windows stay where they are, Swin without relative bias, and a ViT of as
many parameters learn on 4,000 digits. The results of three seeds are kept beside this file,
in ``swin_digits.csv``. Made anew by

    python -m companion.analysis.swin_digits

which takes about seven minutes on one core.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import AdamW

from companion.data.images import LabelledImages, mnist_5k
from companion.models.swin import Swin
from companion.models.vit import ViT
from companion.runtime import device, seed_everything
from companion.training.images import ImageBatches, normalize
from companion.training.loop import Trainer
from companion.training.schedules import CosineWithWarmup

SIDE, PATCH, WINDOW = 32, 4, 4  # 8 by 8 patches in 2 by 2 windows
TRAIN, TEST = 4000, 1000
SEEDS = (0, 1, 2)
STEPS, BATCH, LR = 500, 32, 3e-3
MOVES = tuple(range(7))  # pixels to the right; there is room for six

# "digit" names the class of an image once, from the mean over its patches, after two
# stages of two blocks. "everywhere" names it at each patch, after one stage of four.
TASKS: dict[str, dict[str, Callable[[], nn.Module]]] = {
    "digit": {
        "Swin": lambda: _swin((2, 2)),
        "windows only": lambda: _swin((2, 2), shift=False),
        "no relative bias": lambda: _swin((2, 2), relative_bias=False),
        "ViT": lambda: _vit(52),
    },
    "everywhere": {
        "Swin": lambda: _swin((4,)),
        "windows only": lambda: _swin((4,), shift=False),
        "ViT": lambda: _vit(32),
    },
}


def _swin(depths: tuple[int, ...], **options: bool) -> Swin:
    return Swin(
        SIDE, PATCH, 1, 10, 32, (2, 4)[: len(depths)], depths, WINDOW, **options
    )


def _vit(d_model: int) -> ViT:
    sizes = {"d_model": d_model, "num_heads": 4, "d_ff": 4 * d_model, "num_layers": 4}
    return ViT(SIDE, PATCH, 1, 10, pooling="mean", num_prefix=0, **sizes)


@cache
def digits() -> tuple[LabelledImages, LabelledImages]:
    """4,000 digits to learn from and 1,000 to score on, with a margin: 32 by 32 pixels."""
    data = mnist_5k()
    margin = (SIDE - data.images.shape[-1]) // 2
    padded = LabelledImages(
        F.pad(data.images, (margin,) * 4), data.labels, data.classes
    )
    return padded.split(TRAIN, TEST)


def build(task: str, name: str) -> nn.Module:
    """One of `TASKS`, its matrices drawn anew.

    At a width of 32, the authors' deviation of 0.02 starts so small that 500 steps are
    spent on growing. Glorot's, which depends on the width, is used for all models alike.
    """
    model = TASKS[task][name]()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
    return model


def logits(
    model: nn.Module, images: Float[Tensor, "batch 1 height width"], task: str
) -> Float[Tensor, "batch places classes"]:
    """Of the image as a whole, which is one place, or of each patch."""
    if task == "digit":
        return model(images)[:, None]
    return model.head(model.hidden_states(images)[-1])


def loss(
    task: str, model: nn.Module, batch: tuple[Tensor, Int[Tensor, "batch"]]
) -> tuple[Float[Tensor, ""], int]:
    """The sum of cross-entropies, and how many there are, as `Trainer` wants it."""
    images, labels = batch
    scores = logits(model, images, task)
    labels = labels[:, None].expand(scores.shape[:2])
    sum_ = F.cross_entropy(scores.flatten(0, 1), labels.flatten(), reduction="sum")
    return sum_, labels.numel()


def train(task: str, name: str, seed: int = 0, steps: int = STEPS) -> nn.Module:
    """One model, trained: AdamW, a warmup over a tenth of the steps, a cosine down."""
    seed_everything(seed)
    model = build(task, name).to(device())
    optimizer = AdamW(model.parameters(), LR, weight_decay=0.05)
    Trainer(
        model=model,
        optimizer=optimizer,
        batches=ImageBatches(digits()[0], BATCH, seed=seed),
        loss=partial(loss, task),
        scheduler=CosineWithWarmup(optimizer, steps // 10, steps, 0.01),
        progress=False,
    ).run(num_steps=steps)
    return model


def moved(
    images: Float[Tensor, "*batch height width"], pixels: int
) -> Float[Tensor, "*batch height width"]:
    """The images moved to the right; what is left behind is black."""
    width = images.shape[-1]
    return F.pad(images, (pixels, 0))[..., :width]


@torch.no_grad()
def hits(model: nn.Module, task: str, move: int = 0) -> Float[Tensor, "places"]:
    """At each place, the share of test digits that are named right there."""
    test = digits()[1]
    found = []
    for images, labels in zip(
        test.images.split(250), test.labels.split(250), strict=True
    ):
        images = normalize(moved(images, move)).to(device())
        right = logits(model, images, task).argmax(-1).cpu() == labels[:, None]
        found.append(right.float())
    return torch.cat(found).mean(dim=0)


def measure(model: nn.Module, task: str) -> dict[str, float]:
    """What the table holds of a model."""
    places = hits(model, task)
    found = {"accuracy": places.mean().item()}
    if task == "digit":
        found |= {f"moved {k}": hits(model, task, k).item() for k in MOVES}
    else:
        found |= {f"patch {k}": share for k, share in enumerate(places.tolist())}
    return found


# The table

_RESULTS = Path(__file__).with_suffix(".csv")


def stored_results() -> dict[str, dict[str, list[dict[str, float]]]]:
    """Task -> model -> what was measured, one dict a seed, from ``swin_digits.csv``."""
    found: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    with _RESULTS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            of_model = found.setdefault(row["task"], {}).setdefault(row["model"], {})
            of_seed = of_model.setdefault(row["seed"], {})
            of_seed[row["measure"]] = float(row["value"])
    return {
        task: {name: list(seeds.values()) for name, seeds in models.items()}
        for task, models in found.items()
    }


def by_move(found: Mapping[str, float]) -> list[float]:
    """The accuracy on images moved by each of `MOVES`."""
    return [found[f"moved {k}"] for k in MOVES]


def by_patch(found: Mapping[str, float]) -> Float[Tensor, "rows columns"]:
    """The share of digits that is named right at each patch."""
    side = SIDE // PATCH
    shares = [found[f"patch {k}"] for k in range(side**2)]
    return torch.tensor(shares).reshape(side, side)


def main() -> None:
    """Train every model with three seeds and write ``swin_digits.csv``."""
    from datetime import date

    torch.set_num_threads(1)
    with _RESULTS.open("w", encoding="utf-8", newline="") as file:
        file.write(
            f"# Digits named right, of {TEST}, by models that learned on {TRAIN}. Made by\n"
            f"# python -m companion.analysis.swin_digits: {STEPS} steps of {BATCH} digits,\n"
            f"# seeds 0-2, one thread, {device().type}, torch {torch.__version__}, "
            f"{date.today()}\n"
        )
        table = csv.writer(file)
        table.writerow(["task", "model", "seed", "measure", "value"])
        for task, models in TASKS.items():
            for name in models:
                for seed in SEEDS:
                    found = measure(train(task, name, seed), task)
                    for what, value in found.items():
                        table.writerow([task, name, seed, what, f"{value:.3f}"])
                    file.flush()
                    print(task, name, seed, f"{found['accuracy']:.3f}", flush=True)


if __name__ == "__main__":
    main()
