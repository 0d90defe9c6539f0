"""Finding pictures by their names, and names by pictures, where both are new to the model.

Small CLIPs are trained on OpenMoji pictures and tested on 250 concepts that were held out
with all their variants. Beside them: chance, two methods without a Transformer, batches of
other sizes, fixed temperatures, the loss of one side only, and a text tower that is
pretrained and not trained further, as in Zhai et al. (2022), "LiT: Zero-Shot Transfer with
Locked-image text Tuning", with the roles exchanged. The results are kept beside this
file, in ``clip_retrieval.csv``. Made anew by

    python -m companion.analysis.clip_retrieval

which takes about ten minutes on one core; names of runs after it make only these anew.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from companion.data.openmoji import NamedPictures, openmoji, words
from companion.models.clip import CLIP, CLIPVision
from companion.runtime import device, seed_everything
from companion.training.clip import (
    Captions,
    PairBatches,
    PictureBatch,
    normalized,
    small_clip,
    train_clip,
)

HELD_OUT = 250
CUTS = (1, 5, 10)
BATCH = 64
STEPS = 800
PAIRS_SEEN = 19_200  # in the runs that compare batch sizes and temperatures
SEEDS = (0, 1, 2)
DIRECTIONS = ("picture to name", "name to picture")


# Recall


def own_ranks(scores: Float[Tensor, "n n"]) -> Int[Tensor, "n"]:
    """For each row, which place its own column has, from 1. Equal scores count against it.

    Raises:
        ValueError: the scores are not square.
    """
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1]:
        raise ValueError(
            "scores must have a row and a column for each pair, but it has shape "
            f"{tuple(scores.shape)}"
        )
    return (scores >= scores.diagonal()[:, None]).sum(dim=1)


def recall(ranks: Int[Tensor, "n"], cut: int) -> float:
    """The share of the queries whose own item is among the first ``cut``."""
    return (ranks <= cut).float().mean().item()


def confidence(
    ranks: Int[Tensor, "n"], cut: int, *, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """A 95 % interval of `recall` by the bootstrap: the queries, drawn anew many times."""
    hits = (ranks <= cut).float().cpu().numpy()
    rng = np.random.default_rng(seed)
    means = hits[rng.integers(len(hits), size=(draws, len(hits)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


# Without a Transformer


def neighbor_scores(
    train: NamedPictures, test: NamedPictures
) -> Float[Tensor, "pictures names"]:
    """Word overlap with the name of the training picture that is nearest in its pixels.

    The score of a name is the part of the words of both that they share.
    """
    nearest = torch.cdist(test.images.flatten(1), train.images.flatten(1)).argmin(1)
    bags = [set(words(name)) for name in test.names]
    rows = []
    for place in nearest.tolist():
        own = set(words(train.names[place]))
        rows.append([len(own & bag) / len(own | bag) for bag in bags])
    return torch.tensor(rows)


def histogram_scores(
    train: NamedPictures, test: NamedPictures, *, penalty: float = 10.0
) -> Float[Tensor, "pictures names"]:
    """Ridge regression from the colors of a picture to the words of its name.

    Colors are a histogram of 4 x 4 x 4 bins. The score is the cosine of the predicted
    words with those of a name.
    """
    vocabulary = sorted({word for name in train.names for word in words(name)})
    place = {word: i for i, word in enumerate(vocabulary)}

    def bags(names: Sequence[str]) -> Tensor:
        table = torch.zeros(len(names), len(vocabulary))
        for row, name in enumerate(names):
            known = [place[word] for word in words(name) if word in place]
            table[row, known] = 1.0
        return table

    X, Y = _histograms(train.images), bags(train.names)
    means = X.mean(dim=0), Y.mean(dim=0)
    X, Y = X - means[0], Y - means[1]
    W = torch.linalg.solve(X.T @ X + penalty * torch.eye(X.shape[1]), X.T @ Y)
    guess = (_histograms(test.images) - means[0]) @ W
    return F.normalize(guess, dim=1) @ F.normalize(bags(test.names), dim=1).T


def _histograms(images: Tensor) -> Tensor:
    bins = (images * 3.999).long().flatten(2)  # (N, 3, pixels), 0 to 3
    cell = bins[:, 0] * 16 + bins[:, 1] * 4 + bins[:, 2]
    return F.one_hot(cell, 64).float().mean(dim=1).sqrt()


# A locked text tower


class LockedTexts(nn.Module):
    """Texts as MiniLM has them, looked up: a text is one token, the number of its row.

    Args:
        texts: all that will be asked for.

    Attributes:
        d_model: width of the vectors.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__()
        from companion.analysis.semantic_search import embed, load_minilm

        self._row = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        vectors = embed(*load_minilm(), list(self._row))
        self.register_buffer("table", vectors.detach().to(device()))
        self.d_model = self.table.shape[1]

    def captions(self, texts: Sequence[str]) -> Int[Tensor, "texts 1"]:
        """The rows of texts."""
        return torch.tensor([[self._row[text]] for text in texts])

    def features(
        self, token_ids: Int[Tensor, "texts 1"], mask: Tensor | None = None
    ) -> Float[Tensor, "texts d_model"]:
        return self.table[token_ids[:, 0]]


# Runs


@dataclass(frozen=True)
class Run:
    """What differs from the standard run.

    Attributes:
        steps: number of updates.
        batch_size: pairs in each.
        temperature: at the start.
        learned: whether the temperature is learned.
        sides: ``"both"``, or ``"images"`` for the loss of the rows alone.
        locked: whether MiniLM is the text tower.
        words_alone: how often a caption is one word.
        augment: whether pictures are moved, turned and scaled.
    """

    steps: int = STEPS
    batch_size: int = BATCH
    temperature: float = 0.07
    learned: bool = True
    sides: str = "both"
    locked: bool = False
    words_alone: float = 0.5
    augment: bool = False


_SHORT = PAIRS_SEEN // BATCH
RUNS: dict[str, Run] = {
    "CLIP": Run(),
    "CLIP, MiniLM locked": Run(locked=True),
    "batch 64": Run(steps=_SHORT),  # the one to compare with
    "batch 16": Run(steps=PAIRS_SEEN // 16, batch_size=16),
    "batch 256": Run(steps=PAIRS_SEEN // 256, batch_size=256),
    "temperature 1": Run(steps=_SHORT, temperature=1.0, learned=False),
    "temperature 0.01": Run(steps=_SHORT, temperature=0.01, learned=False),
    "whole captions": Run(steps=_SHORT, words_alone=0.0),
    "augmented": Run(steps=_SHORT, augment=True),
    "rows only": Run(steps=_SHORT, sides="images"),
}


@dataclass(frozen=True)
class Trained:
    """A model that was trained, with what it has seen and what it has not."""

    model: CLIP
    captions: Callable[[Sequence[str]], Tensor]
    train: NamedPictures
    test: NamedPictures
    history: list[dict[str, float]]

    @torch.no_grad()
    def pictures(self, of: NamedPictures) -> Float[Tensor, "pictures d"]:
        """The vectors of pictures."""
        return self.model.encode_image(normalized(of.images).to(device())).cpu()

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Float[Tensor, "texts d"]:
        """The vectors of texts."""
        return self.model.encode_text(self.captions(texts).to(device())).cpu()

    def scores(self) -> Float[Tensor, "pictures names"]:
        """Cosines of the pictures held out with their names."""
        return self.pictures(self.test) @ self.texts(self.test.names).T


def train_run(run: Run, seed: int = 0, *, progress: bool = True) -> Trained:
    """Train and say nothing: one run from its seed, which also chooses what is held out."""
    train, test = openmoji(progress=False).split(HELD_OUT, seed)
    texts = [text for captions in train.captions for text in captions]
    seed_everything(seed)
    if run.locked:
        alone = [word for text in texts for word in words(text)]
        tower = LockedTexts([*texts, *alone, *test.names])
        vision = CLIPVision(32, 8, 3, 64, 4, 3)
        model = CLIP(vision, tower, 64, temperature=run.temperature)
        captions = tower.captions
    else:
        captions = Captions(texts)
        model = small_clip(captions, temperature=run.temperature)
    history = train_clip(
        model,
        PairBatches(
            train,
            captions,
            run.batch_size,
            words_alone=run.words_alone,
            augment=run.augment,
            seed=seed,
        ),
        run.steps,
        learn_temperature=run.learned,
        loss=None if run.sides == "both" else _loss_of_rows,
        progress=progress,
    )
    return Trained(model, captions, train, test, history)


def _loss_of_rows(model: CLIP, batch: PictureBatch) -> tuple[Tensor, int]:
    logits = model(*batch)
    pairs = torch.arange(len(logits), device=logits.device)
    return F.cross_entropy(logits, pairs, reduction="sum"), len(logits)


def shuffled(name: str, seed: int = 0) -> str:
    """The words of a name in another order, where there is one."""
    parts = words(name)
    if len(set(parts)) < 2:
        return name
    rng = np.random.default_rng((seed, *name.encode()))
    while (order := [parts[i] for i in rng.permutation(len(parts))]) == parts:
        pass
    return " ".join(order)


def rows_of(
    scores: Float[Tensor, "pictures names"],
) -> list[dict[str, str | float]]:
    """A row of results for each direction."""
    rows = []
    for direction, table in zip(DIRECTIONS, (scores, scores.T), strict=True):
        ranks = own_ranks(table)
        low, high = confidence(ranks, 10)
        rows.append(
            {"direction": direction}
            | {f"recall@{cut}": recall(ranks, cut) for cut in CUTS}
            | {"low@10": low, "high@10": high}
        )
    return rows


_RESULTS = Path(__file__).with_suffix(".csv")
FIELDS = (
    "run",
    "seed",
    "direction",
    *(f"recall@{cut}" for cut in CUTS),
    "low@10",
    "high@10",
    "temperature",
)


def stored_results() -> dict[str, dict[str, list[dict[str, float]]]]:
    """Run -> direction -> a row for each seed, from ``clip_retrieval.csv``."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    with _RESULTS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            numbers = {
                name: float(row[name])
                for name in FIELDS[3:]
                if row[name] not in ("", None)
            }
            of_run = found.setdefault(row["run"], {})
            of_run.setdefault(row["direction"], []).append(numbers)
    return found


def mean_of(rows: Sequence[Mapping[str, float]], field: str) -> float:
    """The mean over seeds."""
    return float(np.mean([row[field] for row in rows]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Train runs with three seeds and write ``clip_retrieval.csv``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("runs", nargs="*", help="by default all of them")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    options = parser.parse_args(arguments)
    if unknown := set(options.runs) - {"simple", *RUNS}:
        parser.error(f"runs may be simple, {', '.join(RUNS)}, but not {unknown}")
    torch.set_num_threads(1)
    for name in options.runs or ("simple", *RUNS):
        for seed in options.seeds:
            _store(_measured(name, seed))


def _measured(name: str, seed: int) -> list[dict[str, Any]]:
    """The rows of one run, or of the two simple methods."""
    if name == "simple":
        pair = openmoji(progress=False).split(HELD_OUT, seed)
        methods = {
            "nearest picture": neighbor_scores(*pair),
            "colors, ridge": histogram_scores(*pair),
        }
        more = {}
    else:
        trained = train_run(RUNS[name], seed, progress=sys.stderr.isatty())
        methods = {name: trained.scores()}
        more = {"temperature": trained.model.temperature}
        if name == "CLIP":
            mixed = [shuffled(text) for text in trained.test.names]
            scores = trained.pictures(trained.test) @ trained.texts(mixed).T
            methods["CLIP, words shuffled"] = scores
    return [
        {"run": method, "seed": seed} | row | more
        for method, scores in methods.items()
        for row in rows_of(scores)
    ]


def _store(rows: Sequence[Mapping[str, Any]]) -> None:
    """Put rows into the table, in place of those of the same run, seed and direction."""

    def key(row: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(str(row[field]) for field in FIELDS[:3])

    table: dict[tuple[str, ...], Mapping[str, Any]] = {}
    if _RESULTS.is_file():
        with _RESULTS.open(encoding="utf-8", newline="") as file:
            lines = (line for line in file if not line.startswith("#"))
            table = {key(row): row for row in csv.DictReader(lines)}
    for row in rows:
        table[key(row)] = {
            field: f"{x:.4f}" if isinstance(x, float) else x for field, x in row.items()
        }
    with _RESULTS.open("w", encoding="utf-8", newline="") as file:
        file.write(
            f"# Retrieval among {HELD_OUT} held-out OpenMoji pictures and their names; the\n"
            "# interval is a bootstrap over the pairs of one seed. A seed chooses what is\n"
            "# held out, too. Made by python -m companion.analysis.clip_retrieval: seeds\n"
            f"# 0 1 2, one thread, {device().type}, torch {torch.__version__}, {date.today()}\n"
        )
        written = csv.DictWriter(file, FIELDS)
        written.writeheader()
        written.writerows(table.values())


if __name__ == "__main__":
    main()
