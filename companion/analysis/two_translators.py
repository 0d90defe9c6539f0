"""Ours against `torch.nn.Transformer`: the same start, data, recipe and budget, three seeds.

The results are kept beside this file, in ``two_translators.csv``. Made anew by

    python -m companion.analysis.two_translators

which takes about six minutes on one core of a laptop.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.optim import Adam

from companion.analysis.ablations import emoji_task
from companion.analysis.torch_translator import TorchTranslator
from companion.data.translation import encode_pairs
from companion.models.transformer import Transformer
from companion.runtime import device, seed_everything
from companion.training import (
    Checkpoints,
    CosineWithWarmup,
    TokenBatches,
    Trainer,
    translation_loss,
)
from companion.training.errors import Row
from companion.training.translate import score, translate_pairs

STEPS = 800
SAVE_EVERY = 50  # updates, where checkpoints are asked for
SEEDS = (0, 1, 2)
OURS, THEIRS = "ours", "nn.Transformer"

_RESULTS = Path(__file__).with_suffix(".csv")


def new_translators(vocab_size: int, seed: int = 0) -> dict[str, nn.Module]:
    """Two models of 0.7 M parameters that begin with the same weights."""
    sizes = {"d_model": 96, "num_heads": 4, "d_ff": 384}
    options = {"max_seq_len": 64, "dropout": 0.0}
    seed_everything(seed)
    ours = Transformer(
        vocab_size,
        vocab_size,
        **sizes,
        **options,
        num_encoder_layers=2,
        num_decoder_layers=2,
        shared_vocabulary=True,
        tied_output=True,
        final_norm=True,
    )
    theirs = TorchTranslator(vocab_size, **sizes, **options, num_layers=2)
    theirs.load_ours(ours)
    return {OURS: ours.to(device()), THEIRS: theirs.to(device())}


def train(
    model: nn.Module,
    encoded: list,
    seed: int = 0,
    *,
    checkpoints: Checkpoints | None = None,
    progress: bool = True,
) -> list[Row]:
    """The history of 800 updates of at most 768 tokens."""
    seed_everything(seed)
    adam = Adam(model.parameters(), 0.003, betas=(0.9, 0.98), eps=1e-9)
    return Trainer(
        model=model,
        optimizer=adam,
        batches=TokenBatches(encoded, 768, seed=seed),
        loss=partial(translation_loss, smoothing=0.1),
        scheduler=CosineWithWarmup(adam, 100, STEPS, min_lr_ratio=0.0),
        checkpoints=checkpoints,
        checkpoint_every=SAVE_EVERY,
        progress=progress,
    ).run(num_steps=STEPS)


def stored_results() -> dict[tuple[str, int], list[float]]:
    """(model, beams) -> the share of exact translations, one a seed."""
    exact = defaultdict(list)
    with _RESULTS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            exact[row["model"], int(row["beams"])].append(float(row["exact"]))
    return dict(exact)


def main() -> None:
    """Train both models with three seeds and write ``two_translators.csv``."""
    from datetime import date

    split, tokenizer = emoji_task(1500)
    encoded = encode_pairs(split.train, tokenizer)
    references = [pair.target for pair in split.test]
    rows = []
    for seed in SEEDS:
        for name, model in new_translators(tokenizer.vocab_size, seed).items():
            train(model, encoded, seed, progress=False)
            for beams in (1, 4):
                written = translate_pairs(
                    model,
                    tokenizer,
                    split.test,
                    num_beams=beams,
                    use_cache=name == OURS,
                    batch=150,
                )
                rows.append([name, seed, beams, score(written, references).exact])
                print(*rows[-1], flush=True)
    with _RESULTS.open("w", encoding="utf-8", newline="") as file:
        file.write(
            f"# Exact match on {len(references)} held-out combinations. Made by\n"
            f"# python -m companion.analysis.two_translators: {STEPS} steps, "
            f"seeds {SEEDS[0]}-{SEEDS[-1]},\n"
            f"# {device().type}, torch {torch.__version__}, {date.today()}\n"
        )
        table = csv.writer(file)
        table.writerow(["model", "seed", "beams", "exact"])
        table.writerows([*row[:3], f"{row[3]:.4f}"] for row in rows)


if __name__ == "__main__":
    main()
