"""What a trained CLIP can and can't tell: kinds without labels, what is where, how many.

Sources: Radford et al. (2021), section 3.1.4 and figure 6, for prompts and few labels;
Yuksekgonul et al. (2023), "When and Why Vision-Language Models Behave Like Bags-of-Words,
and What to Do About It?", for the test of binding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from companion.analysis.clip_retrieval import Trained
from companion.data.openmoji import KINDS, NamedPictures, openmoji
from companion.runtime import device
from companion.training.clip import normalized

# Pairs of colors and of shapes that OpenMoji has in each.
COLOR_PAIRS = (
    ("red", "blue"),
    ("green", "orange"),
    ("purple", "yellow"),
    ("red", "green"),
    ("blue", "yellow"),
    ("brown", "red"),
    ("blue", "orange"),
    ("green", "purple"),
)
SHAPE_PAIRS = (("circle", "square"), ("heart", "square"), ("circle", "heart"))
COUNTED = (
    "tennis",
    "red apple",
    "dog face",
    "red heart",
    "soccer ball",
    "banana",
    "grinning face",
    "sun",
)
NUMBERS = ("one", "two", "three", "four")


def of_a_kind(
    pictures: NamedPictures,
) -> tuple[NamedPictures, Int[Tensor, "pictures"]]:
    """The pictures that are of one of `KINDS`, and which: its place there."""
    kinds = pictures.kinds
    rows = [i for i, kind in enumerate(kinds) if kind is not None]
    return pictures[rows], torch.tensor([list(KINDS).index(kinds[i]) for i in rows])


def few_labels(
    train: tuple[Float[Tensor, "n d"], Int[Tensor, "n"]],
    test: tuple[Float[Tensor, "m d"], Int[Tensor, "m"]],
    counts: Sequence[int],
    *,
    draws: int = 3,
) -> list[list[float]]:
    """How often a linear classifier is right that has seen so many labels of each class.

    Args:
        train: features and classes to draw from; all of a class where it has too few.
        test: those to be told.
        counts: labels of each class.
        draws: how often they are drawn.

    Returns:
        A row for each draw, with the accuracy for each count.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    (X, y), (X_test, y_test) = (
        (features.flatten(1).numpy(), classes.numpy())
        for features, classes in (train, test)
    )
    runs = []
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        order = [rng.permutation(np.flatnonzero(y == c)) for c in np.unique(y)]
        row = []
        for count in counts:
            chosen = np.concatenate([places[:count] for places in order])
            probe = make_pipeline(
                StandardScaler(), LogisticRegression(C=0.1, max_iter=300)
            )
            probe.fit(X[chosen], y[chosen])
            row.append(float(probe.score(X_test, y_test)))
        runs.append(row)
    return runs


def scene(
    parts: Sequence[Float[Tensor, "3 side side"]],
) -> Float[Tensor, "3 side side"]:
    """One to four pictures, each at half its size, in the quarters of one picture."""
    if not 1 <= len(parts) <= 4:
        raise ValueError(f"parts must be one to four pictures, but it is {len(parts)}")
    canvas = torch.ones_like(parts[0])
    half = canvas.shape[-1] // 2
    for place, part in enumerate(parts):
        y, x = (half * i for i in divmod(place, 2))
        canvas[:, y : y + half, x : x + half] = F.avg_pool2d(part[None], 2)[0]
    return canvas


class Choice(NamedTuple):
    """Two scenes and two texts that differ only in what belongs to what.

    Attributes:
        scenes: such as a red circle with a blue square, and a blue circle with a red one.
        texts: in the same order.
    """

    scenes: Float[Tensor, "2 3 side side"]
    texts: tuple[str, str]


def binding_choices() -> list[Choice]:
    """All pairs of colors with all pairs of shapes."""
    pictures = openmoji(progress=False)

    def image(name: str) -> Tensor:
        return pictures.images[pictures.find(name)]

    choices = []
    for one, other in COLOR_PAIRS:
        for first, second in SHAPE_PAIRS:
            names = (f"{one} {first}", f"{other} {second}")
            swapped = (f"{other} {first}", f"{one} {second}")
            scenes = [scene([image(n) for n in both]) for both in (names, swapped)]
            texts = (" and ".join(names), " and ".join(swapped))
            choices.append(Choice(torch.stack(scenes), texts))
    return choices


def chosen(
    trained: Trained, scenes: Float[Tensor, "scenes 3 side side"], texts: Sequence[str]
) -> Int[Tensor, "scenes"]:
    """Which of the texts is nearest to each scene."""
    with torch.no_grad():
        images = trained.model.encode_image(normalized(scenes).to(device())).cpu()
    return (images @ trained.texts(texts).T).argmax(dim=1)


def counting_table(trained: Trained) -> Int[Tensor, "shown said"]:
    """How often 1 to 4 of a thing (row) are called one, two, three or four (column)."""
    pictures = openmoji(progress=False)
    table = torch.zeros(4, 4, dtype=torch.long)
    for name in COUNTED:
        image = pictures.images[pictures.find(name)]
        scenes = torch.stack([scene([image] * count) for count in (1, 2, 3, 4)])
        said = chosen(trained, scenes, [f"{number} {name}" for number in NUMBERS])
        table[torch.arange(4), said] += 1
    return table
