"""Which of the paper's training tricks pay: one at a time, on emoji names, German to English.

A small Transformer is trained with the same number of updates each time, with one thing
changed. The results of three seeds are kept beside this file, in ``ablations.csv``. Made
anew by

    python -m companion.analysis.ablations --jobs 2

which takes about ten minutes on two cores of a laptop.
"""

from __future__ import annotations

import argparse
import csv
import functools
import multiprocessing
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from companion.data.bpe import BPETokenizer, train_bpe
from companion.data.emoji_names import load_emoji_pairs, split_by_combination
from companion.data.parallel import Split
from companion.data.translation import encode_pairs
from companion.models.transformer import Transformer
from companion.runtime import device, seed_everything
from companion.training import (
    TokenBatches,
    Trainer,
    evaluate,
    transformer_lr,
    translation_loss,
)
from companion.training.errors import Row
from companion.training.translate import score, translate_pairs

STEPS = 400
SEEDS = (0, 1, 2)
D_MODEL, NUM_LAYERS = 64, 2
MAX_TOKENS = 768
WARMUP_STEPS = 100
PEAK = 0.004  # learning rate at the end of warm-up

_RESULTS = Path(__file__).with_suffix(".csv")


@dataclass(frozen=True)
class Setting:
    """What an ablation may change.

    Attributes:
        warm_up: whether the rate rises linearly to its peak in the first 100 updates;
            if not, it begins at the peak and stays there for as long.
        peak_lr: the peak, after which the rate falls as 1 / sqrt(step) in both cases.
        label_smoothing, dropout, num_heads: as everywhere.
        tied: whether source, target and output share one embedding, or have three.
    """

    warm_up: bool = True
    peak_lr: float = PEAK
    label_smoothing: float = 0.1
    dropout: float = 0.1
    num_heads: int = 4
    tied: bool = True


BASE = Setting()
# What is varied -> the variants, by name; each has the base among them.
ABLATIONS: dict[str, dict[str, Setting]] = {
    "warm-up": {"with": BASE, "without": replace(BASE, warm_up=False)},
    "warm-up at twice the rate": {
        "with": replace(BASE, peak_lr=2 * PEAK),
        "without": replace(BASE, peak_lr=2 * PEAK, warm_up=False),
    },
    "label smoothing": {
        "0": replace(BASE, label_smoothing=0.0),
        "0.1": BASE,
    },
    "dropout": {
        "0": replace(BASE, dropout=0.0),
        "0.1": BASE,
        "0.3": replace(BASE, dropout=0.3),
    },
    "heads": {
        str(n): BASE if n == BASE.num_heads else replace(BASE, num_heads=n)
        for n in (1, 2, 4, 8)
    },
    "embeddings": {"tied": BASE, "separate": replace(BASE, tied=False)},
}


class Task(NamedTuple):
    """The split and the tokenizer of its training part."""

    split: Split
    tokenizer: BPETokenizer


class Result(NamedTuple):
    """What came out, measured on the test pairs.

    Attributes:
        exact: share of greedy translations that equal the reference.
        loss: cross-entropy per token without smoothing, in nats.
    """

    exact: float
    loss: float


@functools.cache
def emoji_task(vocab_size: int = 1000) -> Task:
    """Held-out combinations of known concepts and known skin tones."""
    split = split_by_combination(load_emoji_pairs("de", "en"), test=0.2)
    texts = [text for pair in split.train for text in (pair.source, pair.target)]
    return Task(split, train_bpe(texts, vocab_size))


def train(
    setting: Setting, seed: int, steps: int = STEPS
) -> tuple[Transformer, list[Row]]:
    """A translator of emoji names, and the history of its training."""
    split, tokenizer = emoji_task()
    seed_everything(seed)
    model = Transformer(
        tokenizer.vocab_size,
        tokenizer.vocab_size,
        D_MODEL,
        setting.num_heads,
        4 * D_MODEL,
        NUM_LAYERS,
        NUM_LAYERS,
        max_seq_len=64,
        dropout=setting.dropout,
        shared_vocabulary=setting.tied,
        tied_output=setting.tied,
    ).to(device())
    optimizer = Adam(model.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9)
    history = Trainer(
        model=model,
        optimizer=optimizer,
        batches=TokenBatches(
            encode_pairs(split.train, tokenizer), MAX_TOKENS, seed=seed
        ),
        loss=partial(translation_loss, smoothing=setting.label_smoothing),
        scheduler=LambdaLR(optimizer, partial(rate, setting)),
        progress=False,
    ).run(num_steps=steps)
    return model, history


def rate(setting: Setting, updates_done: int) -> float:
    """The learning rate of the next update: `transformer_lr`, or its peak until there."""
    step = updates_done + 1
    if not setting.warm_up:
        step = max(step, WARMUP_STEPS)
    factor = setting.peak_lr * (D_MODEL * WARMUP_STEPS) ** 0.5
    return transformer_lr(step, D_MODEL, WARMUP_STEPS, factor)


def measure(model: Transformer) -> Result:
    """Exact match and loss on the test pairs."""
    split, tokenizer = emoji_task()
    written = translate_pairs(model, tokenizer, split.test, batch=300)
    batches = TokenBatches(encode_pairs(split.test, tokenizer), 4096, shuffle=False)
    return Result(
        score(written, [pair.target for pair in split.test]).exact,
        evaluate(model, batches, translation_loss),
    )


def stored_results() -> dict[str, dict[str, list[Result]]]:
    """What is varied -> variant -> one result a seed, from ``ablations.csv``."""
    of_setting = defaultdict(list)
    with _RESULTS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            result = Result(float(row["exact"]), float(row["loss"]))
            of_setting[row["varied"], row["variant"]].append(result)
    first = next(iter(ABLATIONS))
    base = next(name for name, s in ABLATIONS[first].items() if s == BASE)
    return {
        varied: {
            name: of_setting[(first, base) if setting == BASE else (varied, name)]
            for name, setting in variants.items()
        }
        for varied, variants in ABLATIONS.items()
    }


def main() -> None:
    """Train every variant with three seeds and write ``ablations.csv``."""
    from datetime import date

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    jobs = parser.parse_args().jobs
    named: dict[Setting, tuple[str, str]] = {}  # the base is trained once
    for varied, variants in ABLATIONS.items():
        for name, setting in variants.items():
            named.setdefault(setting, (varied, name))
    runs = [(setting, seed) for setting in named for seed in SEEDS]
    with (
        _RESULTS.open("w", encoding="utf-8", newline="") as file,
        ProcessPoolExecutor(
            jobs, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,)
        ) as pool,
    ):
        file.write(
            "# Exact match and loss on held-out combinations. Made by\n"
            f"# python -m companion.analysis.ablations: {STEPS} steps of up to "
            f"{MAX_TOKENS} tokens, seeds 0-2,\n"
            f"# {device().type}, torch {torch.__version__}, {date.today()}\n"
        )
        table = csv.writer(file)
        table.writerow(["varied", "variant", "seed", *Result._fields])
        for (setting, seed), result in zip(runs, pool.map(_run, runs), strict=True):
            row = [*named[setting], seed, *(f"{value:.4f}" for value in result)]
            table.writerow(row)
            file.flush()
            print(*row, flush=True)


def _run(setting_and_seed: tuple[Setting, int]) -> Result:
    model, _ = train(*setting_and_seed)
    return measure(model)


if __name__ == "__main__":
    main()
