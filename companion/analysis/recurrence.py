"""Recurrent against attentive: an LSTM and a Transformer of equal size foretell letters.

The Transformer is `LLaMA`: of the models of this book it learns the fastest.

Four questions, one for each reason that is given for the Transformer's success. How good
and how quick is it (parallelization)? Can it use what is far back (long-range
dependencies)? What does size buy (scalability)? What does training on one text bring to
another (transfer)?

The results of three seeds are kept beside this file, in ``recurrence.csv``. Made anew by

    python -m companion.analysis.recurrence

which takes about fifteen minutes on one core of a laptop.
"""

from __future__ import annotations

import copy
import csv
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from companion.analysis import bottleneck
from companion.analysis.cost import best_time
from companion.data.texts import kjv_verses
from companion.layers import gated_width
from companion.models.llama import LLaMA
from companion.models.recurrent import RecurrentLanguageModel
from companion.runtime import device, seed_everything
from companion.training import CosineWithWarmup, Trainer

LSTM, TRANSFORMER = "LSTM", "Transformer"
MODELS = (LSTM, TRANSFORMER)
# Size -> widths of the two, which have two layers each and about as many parameters:
# an LSTM layer has 8 d^2, a Transformer layer 12 d^2.
SIZES = {"small": (40, 32), "medium": (78, 64), "large": (128, 104)}
LENGTH, BATCH = 128, 16
STEPS, SHORT_STEPS, COPY_STEPS = 400, 200, 1000
SEEDS = (0, 1, 2)
COPIED = (4, 8, 12, 16, 20, 24)
SEPARATOR = len(bottleneck.LETTERS)

_RESULTS = Path(__file__).with_suffix(".csv")


class Row(NamedTuple):
    """One number: of which experiment, model and seed; ``x`` is what the number depends on."""

    experiment: str
    model: str
    seed: int
    x: float
    value: float


def new_model(
    kind: str, size: str = "large", seed: int = 0, max_seq_len: int = LENGTH
) -> nn.Module:
    """An untrained model of letters, blank and a separator.

    Args:
        kind: one of ``MODELS``.
        size: one of ``SIZES``.
        seed: of its weights.
        max_seq_len: the longest text of the Transformer; the LSTM has no limit.

    Raises:
        ValueError: the kind or the size is not known.
    """
    if kind not in MODELS or size not in SIZES:
        raise ValueError(
            f"kind must be one of {', '.join(MODELS)} and size one of "
            f"{', '.join(SIZES)}, but they are {kind!r} and {size!r}"
        )
    seed_everything(seed)
    of_lstm, of_transformer = SIZES[size]
    if kind == LSTM:
        model = RecurrentLanguageModel(SEPARATOR + 1, of_lstm, 2)
    else:
        model = LLaMA(
            SEPARATOR + 1,
            of_transformer,
            4,
            gated_width(4 * of_transformer),
            2,
            max_seq_len=max_seq_len,
            tied_output=True,
        )
    return model.to(device())


def learning_rate(kind: str) -> float:
    """Of 4, 8, 16 and 32 thousandths the best in 150 updates of the large model, seed 0."""
    return {LSTM: 32e-3, TRANSFORMER: 8e-3}[kind]


def train(
    model: nn.Module,
    draw: Callable[[torch.Generator], tuple[Tensor, Tensor]],
    lr: float,
    steps: int,
    seed: int,
    *,
    watch: Callable[[int], None] | None = None,
    progress: bool = False,
) -> None:
    """``draw`` gives tokens, and the labels of the same places; -100 is not counted."""
    adam = torch.optim.AdamW(model.parameters(), lr, betas=(0.9, 0.98))
    trainer = Trainer(
        model=model,
        optimizer=adam,
        batches=_Endless(draw, seed),
        loss=_loss,
        scheduler=CosineWithWarmup(adam, 50, steps, min_lr_ratio=0.0),
        progress=progress,
    )
    every = 50 if watch else steps
    for step in range(every, steps + 1, every):
        trainer.run(num_steps=step)
        if watch:
            watch(step)


def foretell(
    ids: Int[Tensor, "letters"], generator: torch.Generator, length: int = LENGTH
) -> tuple[Tensor, Tensor]:
    """Stretches of text, and the next letter at each place."""
    text = bottleneck.sample_snippets(ids, BATCH, length + 1, generator)
    return text[:, :-1], text[:, 1:]


def copy_out(
    ids: Int[Tensor, "letters"], generator: torch.Generator, length: int | None = None
) -> tuple[Tensor, Tensor]:
    """A snippet, the separator, the snippet again: only the second time is to be foretold."""
    if length is None:
        length = int(torch.randint(2, COPIED[-1] + 1, (1,), generator=generator))
    text = bottleneck.sample_snippets(ids, 4 * BATCH, length, generator)
    separator = torch.full_like(text[:, :1], SEPARATOR)
    whole = torch.cat([text, separator, text], dim=1)
    labels = whole[:, 1:].clone()
    labels[:, :length] = -100
    return whole[:, :-1], labels


@torch.no_grad()
def bits_a_letter(
    model: nn.Module, ids: Int[Tensor, "letters"], length: int = LENGTH
) -> float:
    """On 16 batches from random places, always the same ones."""
    generator = torch.Generator().manual_seed(0)
    batches = [foretell(ids, generator, length) for _ in range(16)]
    losses = [loss / count for loss, count in (_loss(model, b) for b in batches)]
    return torch.stack(losses).mean().item() / math.log(2)


@torch.no_grad()
def copied_right(model: nn.Module, ids: Int[Tensor, "letters"], length: int) -> float:
    """The share of letters that are right, each after the right ones before it."""
    tokens, labels = copy_out(ids, torch.Generator().manual_seed(0), length)
    right = model(tokens).argmax(dim=-1) == labels
    return right[labels >= 0].double().mean().item()


def seconds_a_step(kind: str, length: int, tokens: int = 4096) -> float:
    """Time of a forward and backward pass of the large model on ``tokens`` tokens.

    They are cut into texts of one length.
    """
    model = new_model(kind, max_seq_len=length)
    ids = torch.randint(SEPARATOR, (tokens // length, length)).to(device())

    def step() -> None:
        logits = model(ids)
        F.cross_entropy(logits.flatten(0, 1), ids.flatten()).backward()

    return best_time(step)


# The experiments, each a stream of rows.


def quality(seed: int, size: str = "large", steps: int = STEPS) -> Iterator[Row]:
    """Bits a letter on held-out text while training; then `transfer` with what came out."""
    train_ids, test_ids = bottleneck.training_and_test_text()
    for kind in MODELS:
        model = new_model(kind, size, seed)
        rows = []

        def watch(step: int, kind=kind, model=model, rows=rows) -> None:
            bits = bits_a_letter(model, test_ids)
            rows.append(Row("by updates", kind, seed, step, bits))

        draw = partial(foretell, train_ids)
        train(model, draw, learning_rate(kind), steps, seed, watch=watch)
        yield from rows
        yield from transfer(kind, model, seed)


def transfer(kind: str, trained: nn.Module, seed: int) -> Iterator[Row]:
    """Shakespeare's models on 200,000 letters of the Bible, beside models that start there."""
    text = bottleneck.letter_ids(" ".join(kjv_verses()))
    few, test_ids = text[:200_000], text[len(text) // 2 :]
    fresh = new_model(kind, seed=seed)
    for name, model in (("trained before", copy.deepcopy(trained)), ("fresh", fresh)):
        yield Row(f"transfer, {name}", kind, seed, 0, bits_a_letter(model, test_ids))
        lr = learning_rate(kind) / (8 if name == "trained before" else 1)
        train(model, partial(foretell, few), lr, 100, seed)
        yield Row(f"transfer, {name}", kind, seed, 100, bits_a_letter(model, test_ids))


def scale(seed: int) -> Iterator[Row]:
    """Bits a letter by number of parameters, after as many updates each."""
    train_ids, test_ids = bottleneck.training_and_test_text()
    for kind in MODELS:
        for size in SIZES:
            model = new_model(kind, size, seed)
            number = sum(p.numel() for p in model.parameters())
            lr = learning_rate(kind)
            train(model, partial(foretell, train_ids), lr, SHORT_STEPS, seed)
            yield Row("by size", kind, seed, number, bits_a_letter(model, test_ids))


def far_back(seed: int, steps: int = COPY_STEPS) -> Iterator[Row]:
    """The share of letters copied right, by the length of the snippet."""
    train_ids, test_ids = bottleneck.training_and_test_text()
    for kind in MODELS:
        model = new_model(kind, seed=seed)
        lr = learning_rate(kind)
        train(model, partial(copy_out, train_ids), lr, steps, seed)
        for length in COPIED:
            share = copied_right(model, test_ids, length)
            yield Row("copying", kind, seed, length, share)


def stored_results() -> dict[str, dict[str, list[list[tuple[float, float]]]]]:
    """Experiment -> model -> one curve of (x, value) a seed, from ``recurrence.csv``."""
    curves = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    with _RESULTS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            curve = curves[row["experiment"]][row["model"]][row["seed"]]
            curve.append((float(row["x"]), float(row["value"])))
    return {
        experiment: {model: list(seeds.values()) for model, seeds in models.items()}
        for experiment, models in curves.items()
    }


def main() -> None:
    """Run all experiments with three seeds and write ``recurrence.csv``."""
    from datetime import date

    rows = []
    for seed in SEEDS:
        for experiment in (quality, far_back, scale):
            for row in experiment(seed):
                rows.append(row)
                print(*row, flush=True)
    with _RESULTS.open("w", encoding="utf-8", newline="") as file:
        file.write(
            "# An LSTM and a Transformer of equal size. Made by\n"
            f"# python -m companion.analysis.recurrence: seeds {SEEDS[0]}-{SEEDS[-1]},\n"
            f"# {device().type}, torch {torch.__version__}, {date.today()}\n"
        )
        table = csv.writer(file)
        table.writerow(Row._fields)
        table.writerows([*row[:3], f"{row.x:.6g}", f"{row.value:.4f}"] for row in rows)


class _Endless:
    """Batches without end, in an order that the seed decides."""

    def __init__(self, draw: Callable, seed: int) -> None:
        self._draw, self._seed = draw, seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(self._seed)
        while True:
            yield self._draw(generator)


def _loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    tokens, labels = batch
    logits = model(tokens).flatten(0, 1)
    loss = F.cross_entropy(logits, labels.flatten(), reduction="sum")
    return loss, (labels >= 0).sum()


if __name__ == "__main__":
    main()
