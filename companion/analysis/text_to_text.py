"""One small T5 for four tasks, against a model for each, with pre-training and without.

The results of three seeds are kept beside this file, in ``text_to_text.csv``. Made anew by

    python -m companion.analysis.text_to_text --seeds 0 1 2

which takes about a quarter of an hour on one core of a laptop.
"""

from __future__ import annotations

import argparse
import csv
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from companion.data.bpe import BPETokenizer
from companion.data.parallel import Pair
from companion.data.text_tasks import (
    TextTask,
    load_text_tasks,
    train_task_tokenizer,
    unlabeled_texts,
)
from companion.data.translation import batch_sources
from companion.generation import translate
from companion.layers import padding_mask
from companion.models.t5 import T5
from companion.runtime import device, seed_everything
from companion.training import CosineWithWarmup, PairBatch, Trainer, collate_pairs
from companion.training.denoising import corrupt_spans, infill_text, random_spans

NUM_SENTINELS = 16
BATCH = 16  # pairs of one task in a step
STEPS = 400
PRETRAINING_STEPS = 400
PRETRAINING_BATCH = 16
LONGEST_TEXT = 24  # tokens of a text in pre-training
PEAK_LR = 0.02  # times the size of each weight
ONE_LR = 3e-3  # the same for all weights

_RESULTS = Path(__file__).with_suffix(".csv")
_COLUMNS = ["kind", "seed", "task", "exact", "words", "cpu_seconds"]
_BASELINE = "nearest training pair"

KINDS = (
    "one model, one rate",
    "a model for each task",
    "one model",
    "one model, after span corruption",
    "one model, after text infilling",
)

Ids = list[int]
Maker = Callable[[random.Random], tuple[Ids, Ids]]


class Setup(NamedTuple):
    """The tasks, their vocabulary, and the sentinels that follow it."""

    tasks: dict[str, TextTask]
    tokenizer: BPETokenizer
    texts: list[str]

    @property
    def sentinel_ids(self) -> range:
        first = self.tokenizer.vocab_size
        return range(first, first + NUM_SENTINELS)


def prepare(seed: int = 0) -> Setup:
    """Load the tasks and learn their vocabulary."""
    tasks = load_text_tasks(seed)
    return Setup(tasks, train_task_tokenizer(tasks), unlabeled_texts(tasks))


def new_model(setup: Setup, seed: int = 0) -> T5:
    """An untrained T5 of version 1.1, with 0.6 million parameters."""
    seed_everything(seed)
    tokenizer = setup.tokenizer
    model = T5(
        tokenizer.vocab_size + NUM_SENTINELS,
        d_model=96,
        num_heads=4,
        d_k=24,
        d_ff=192,
        num_encoder_layers=2,
        num_decoder_layers=2,
        dropout=0.1,
        activation="gelu_new",
        gated=True,
        pad_id=tokenizer.pad_id,
        start_id=tokenizer.bos_id,
        eos_id=tokenizer.eos_id,
    )
    return model.to(device())


class Batches:
    """Rounds of one batch of every maker; a maker draws a source and a target.

    Iterating gives ``steps`` rounds, the same at each iteration.
    """

    def __init__(
        self, makers: Sequence[Maker], steps: int, *, batch: int = BATCH, seed: int = 0
    ) -> None:
        self.makers = makers
        self.steps = steps
        self.batch = batch
        self.seed = seed

    def __iter__(self) -> Iterator[PairBatch]:
        draw = random.Random(self.seed)
        for _ in range(self.steps):
            for make in self.makers:
                yield collate_pairs([make(draw) for _ in range(self.batch)])


def labeled(pairs: Sequence[Pair], tokenizer: BPETokenizer) -> Maker:
    """Draws one of ``pairs``: ``prefix: source </s>`` and ``<s> target </s>``."""
    encoded = [
        (tokenizer.encode_source(pair.source), tokenizer.encode_target(pair.target))
        for pair in pairs
    ]
    return lambda draw: draw.choice(encoded)


def damaged(setup: Setup, noise: str) -> Maker:
    """Draws a text without a label and damages it, each time in another way.

    Args:
        setup: holds the texts.
        noise: ``"span corruption"`` asks for the missing spans (T5), ``"text infilling"``
            for the whole text (BART).
    """
    tokenizer, sentinel_ids = setup.tokenizer, setup.sentinel_ids
    encoded = [torch.tensor(tokenizer.encode(text)) for text in setup.texts]
    encoded = [ids for ids in encoded if len(ids) >= 5]

    def make(draw: random.Random) -> tuple[Ids, Ids]:
        ids = draw.choice(encoded)
        if len(ids) > LONGEST_TEXT:
            start = draw.randrange(len(ids) - LONGEST_TEXT)
            ids = ids[start : start + LONGEST_TEXT]
        generator = torch.Generator().manual_seed(draw.getrandbits(32))
        if noise == "span corruption":
            gone = random_spans(len(ids), generator=generator)
            source, target = corrupt_spans(ids, gone, sentinel_ids)
        else:
            source = infill_text(ids, 0.3, sentinel_ids[0], generator=generator)
            target = ids
        start, end = [tokenizer.bos_id], [tokenizer.eos_id]
        return source.tolist() + end, start + target.tolist() + end

    return make


def mean_loss(model: T5, batch: PairBatch) -> tuple[Tensor, int]:
    """The loss of a batch as if it were one token, so that each task weighs the same."""
    wants = batch.target_ids[:, 1:]
    labels = wants.masked_fill(wants == model.pad_id, -100)
    mask = padding_mask(batch.source_ids, model.pad_id)
    return model.loss(batch.source_ids, labels, mask), 1


def relative_rates(model: T5, lr: float) -> list[dict[str, Any]]:
    """Parameter groups whose rates are ``lr`` times the root mean square of each weight.

    T5's embeddings start 50 times as large as the maps of its queries, and so must their
    steps be. This is the part of Adafactor (Shazeer and Stern, 2018, section 8) that
    matters here; the sizes are those at the start.
    """
    return [
        {"params": [p], "lr": lr * max(p.detach().square().mean().sqrt().item(), 1e-3)}
        for p in model.parameters()
    ]


def train(
    model: T5,
    makers: Sequence[Maker],
    steps: int,
    *,
    batch: int = BATCH,
    seed: int = 0,
    relative: bool = True,
) -> list[float]:
    """Train on a batch of every maker in each step; the loss of each step.

    ``relative`` takes `relative_rates`, otherwise all weights have one rate.
    """
    groups = relative_rates(model, PEAK_LR) if relative else model.parameters()
    optimizer = torch.optim.Adam(groups, lr=ONE_LR, betas=(0.9, 0.99))
    trainer = Trainer(
        model=model,
        optimizer=optimizer,
        scheduler=CosineWithWarmup(optimizer, max(steps // 10, 1), steps),
        batches=Batches(makers, steps, batch=batch, seed=seed),
        loss=mean_loss,
        accumulate=len(makers),
        progress=False,
    )
    return [row["loss"] for row in trainer.run(num_steps=steps)]


def pretrain(
    model: T5, setup: Setup, noise: str, steps: int = PRETRAINING_STEPS, seed: int = 0
) -> list[float]:
    """Train on damaged text; the loss of each step."""
    maker = damaged(setup, noise)
    return train(model, [maker], steps, batch=PRETRAINING_BATCH, seed=seed)


def answers(
    model: T5, sources: Sequence[str], tokenizer: BPETokenizer, longest: int = 32
) -> list[str]:
    """What the model writes for each source, always taking the likeliest token."""
    encoded = batch_sources(sources, tokenizer)
    target_ids = translate(
        model,
        encoded.token_ids.to(device()),
        longest,
        start_id=model.start_id,
        source_mask=encoded.mask.to(device()),
        stop_ids=[model.eos_id],
    )
    known = target_ids.clamp(max=tokenizer.vocab_size - 1)  # a sentinel is no text
    return [tokenizer.decode(row) for row in known]


class Score(NamedTuple):
    """How well texts agree with what they should be, both from 0 to 1.

    Attributes:
        exact: the share that is right to the letter.
        words: words in the right order, over all words of the longer text (a longest
            common subsequence), on average.
    """

    exact: float
    words: float


def score(found: Sequence[str], wanted: Sequence[str]) -> Score:
    """Compare texts with what they should be."""
    pairs = [(a.split(), b.split()) for a, b in zip(found, wanted, strict=True)]
    exact = sum(a == b for a, b in pairs) / len(pairs)
    words = sum(_common(a, b) / max(len(a), len(b), 1) for a, b in pairs) / len(pairs)
    return Score(exact, words)


def score_tasks(model: T5, setup: Setup, tasks: Sequence[str]) -> dict[str, Score]:
    """The model's score on the test of each task."""
    return {
        task: score(
            answers(model, [p.source for p in test], setup.tokenizer),
            [p.target for p in test],
        )
        for task in tasks
        if (test := setup.tasks[task].test)
    }


def nearest_answers(task: TextTask) -> list[str]:
    """A baseline that learns nothing: the answer to the training source with most words in common.

    Words in common count over all words of the two; of ties, the first in training
    counts.
    """
    holders = defaultdict(list)  # word -> training pairs that hold it
    words = [set(pair.source.split()) for pair in task.train]
    for i, row in enumerate(words):
        for word in row:
            holders[word].append(i)
    found = []
    for pair in task.test:
        asked = set(pair.source.split())
        common = Counter(i for word in sorted(asked) for i in holders[word])
        best = max(common, key=lambda i: (common[i] / len(asked | words[i]), -i))
        found.append(task.train[best].target)
    return found


def run(
    setup: Setup,
    kind: str,
    *,
    seed: int = 0,
    steps: int = STEPS,
    pretraining_steps: int = PRETRAINING_STEPS,
) -> dict[str, Score]:
    """Train by one of ``KINDS`` and score all tasks."""
    tokenizer = setup.tokenizer
    makers = {
        task: labeled(pairs.train, tokenizer) for task, pairs in setup.tasks.items()
    }
    if kind == "a model for each task":
        scores = {}
        for task, maker in makers.items():
            model = new_model(setup, seed)
            train(model, [maker], steps, seed=seed)
            scores |= score_tasks(model, setup, [task])
        return scores
    model = new_model(setup, seed)
    _, after, noise = kind.partition(", after ")
    if after:
        pretrain(model, setup, noise, pretraining_steps, seed)
    relative = kind != "one model, one rate"
    train(model, list(makers.values()), steps, seed=seed, relative=relative)
    return score_tasks(model, setup, list(makers))


def stored_results() -> dict[str, dict[str, list[Score]]]:
    """Kind -> task -> the score of each seed, from ``text_to_text.csv``."""
    found: dict[str, dict[str, list[Score]]] = defaultdict(lambda: defaultdict(list))
    for kind, _, task, exact, words, _ in _stored_rows():
        found[kind][task].append(Score(float(exact), float(words)))
    return {kind: dict(tasks) for kind, tasks in found.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the kinds and seeds that are asked for, and put them into ``text_to_text.csv``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    asked = parser.parse_args(arguments)
    setup = prepare()
    nearest = {
        name: score(nearest_answers(task), [p.target for p in task.test])
        for name, task in setup.tasks.items()
    }
    _store(_BASELINE, 0, nearest, 0.0)
    for seed in asked.seeds:
        for kind in asked.kinds:
            start = time.process_time()
            scores = run(setup, kind, seed=seed)
            _store(kind, seed, scores, time.process_time() - start)
            print(kind, seed, {task: f"{s.exact:.2f}" for task, s in scores.items()})


def _store(kind: str, seed: int, scores: dict[str, Score], seconds: float) -> None:
    """Put one run into the table, in the place of an earlier one."""
    rows = [row for row in _stored_rows() if (row[0], int(row[1])) != (kind, seed)]
    for task, (exact, words) in scores.items():
        row = [kind, str(seed), task, f"{exact:.3f}", f"{words:.3f}", f"{seconds:.0f}"]
        rows.append(row)
    order = [_BASELINE, *KINDS]
    rows.sort(key=lambda row: (int(row[1]), order.index(row[0])))
    with _RESULTS.open("w", encoding="utf-8", newline="") as file:
        file.write(
            "# Scores on up to 300 test pairs a task. Made by python -m "
            "companion.analysis.text_to_text:\n"
            f"# {STEPS} steps of {BATCH} pairs a task, pre-training of "
            f"{PRETRAINING_STEPS} steps of {PRETRAINING_BATCH} texts,\n"
            f"# {device().type}, torch {torch.__version__}, {date.today()}\n"
        )
        csv.writer(file).writerows([_COLUMNS, *rows])


def _stored_rows() -> list[list[str]]:
    if not _RESULTS.exists():
        return []
    with _RESULTS.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(line for line in file if not line.startswith("#")))[1:]


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for x in a:
        before = row
        row = [0]
        for j, y in enumerate(b):
            row.append(before[j] + 1 if x == y else max(before[j + 1], row[j]))
    return row[-1]


if __name__ == "__main__":
    main()
