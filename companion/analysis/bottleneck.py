"""Copying text through a recurrent encoder-decoder: what one vector between the two can hold.

The results of five seeds are kept beside this file, in ``bottleneck.csv``. Made anew by

    python -m companion.analysis.bottleneck

which takes about three minutes on one core of a laptop.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor
from tqdm.auto import tqdm

from companion.data.texts import shakespeare
from companion.models.recurrent import RecurrentTranslator
from companion.runtime import device, seed_everything

LETTERS = " abcdefghijklmnopqrstuvwxyz"
START_ID = len(LETTERS)  # the decoder's first input
LENGTHS = tuple(range(4, 41, 4))
TRAINED_UP_TO = 24  # characters

_RESULTS = Path(__file__).with_suffix(".csv")
_MODELS = {  # name -> width, attention
    "one vector": (64, False),
    "one vector, twice as wide": (128, False),
    "attention": (64, True),
}


def letter_ids(text: str) -> Int[Tensor, "characters"]:
    """Each character as a number from 0 (blank) to 26; all that is not a letter is one blank."""
    letters = re.sub("[^a-z]+", " ", text.lower())
    codes = torch.frombuffer(bytearray(letters.encode("ascii")), dtype=torch.uint8)
    return (codes.long() - ord("a") + 1).clamp(min=0)


def as_text(ids: Int[Tensor, "length"]) -> str:
    """The characters that `letter_ids` numbered."""
    return "".join((LETTERS + "^")[i] for i in ids.tolist())


def sample_snippets(
    ids: Int[Tensor, "characters"],
    count: int,
    length: int,
    generator: torch.Generator,
) -> Int[Tensor, "count length"]:
    """Stretches of text from random places, on the book's device."""
    start = torch.randint(len(ids) - length, (count, 1), generator=generator)
    return ids[start + torch.arange(length)].to(device())


def new_copier(d_model: int, *, attention: bool, seed: int) -> RecurrentTranslator:
    """An untrained model from letters to letters."""
    seed_everything(seed)
    letters = len(LETTERS)
    model = RecurrentTranslator(letters, letters + 1, d_model, attention=attention)
    return model.to(device())


def train_copier(
    model: RecurrentTranslator,
    ids: Int[Tensor, "characters"],
    *,
    steps: int = 600,
    batch: int = 32,
    seed: int = 0,
) -> None:
    """Teach the model to write out what it has read, up to 24 characters at a time."""
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=5e-3, total_steps=steps
    )
    for _ in tqdm(range(steps), leave=False):
        length = int(torch.randint(2, TRAINED_UP_TO + 1, (1,), generator=draw))
        text = sample_snippets(ids, batch, length, draw)  # (B, L)
        shifted = F.pad(text[:, :-1], (1, 0), value=START_ID)  # what the decoder knows
        loss = F.cross_entropy(model(text, shifted).flatten(0, 1), text.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def copying_accuracy(
    model: RecurrentTranslator,
    ids: Int[Tensor, "characters"],
    lengths: tuple[int, ...] = LENGTHS,
    count: int = 200,
) -> list[float]:
    """For each length, the share of characters that come out right and in their place.

    The model writes on its own: its next input is its own last output.
    """
    draw = torch.Generator().manual_seed(0)
    accuracy = []
    for length in lengths:
        text = sample_snippets(ids, count, length, draw)
        copy = model.generate(text, length, START_ID)
        accuracy.append((copy == text).float().mean().item())
    return accuracy


def training_and_test_text() -> tuple[Tensor, Tensor]:
    """Shakespeare as letters: the first nine tenths to train on, the rest to test on."""
    ids = letter_ids(shakespeare())
    cut = len(ids) * 9 // 10
    return ids[:cut], ids[cut:]


def stored_results() -> dict[str, list[list[float]]]:
    """Model -> one row a seed -> accuracy at each of ``LENGTHS``, from ``bottleneck.csv``."""
    rows: dict[str, list[list[float]]] = defaultdict(list)
    with _RESULTS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            rows[row["model"]].append([float(row[str(n)]) for n in LENGTHS])
    return dict(rows)


def main() -> None:
    """Train every model with five seeds and write ``bottleneck.csv``."""
    from datetime import date

    train, test = training_and_test_text()
    with _RESULTS.open("w", encoding="utf-8", newline="") as file:
        file.write(
            "# Share of characters copied right, for each length. Made by\n"
            "# python -m companion.analysis.bottleneck: 600 steps, batch 32, seeds 0-4,\n"
            f"# {device().type}, torch {torch.__version__}, {date.today()}\n"
        )
        table = csv.writer(file)
        table.writerow(["model", "seed", *LENGTHS])
        for name, (d_model, attention) in _MODELS.items():
            for seed in range(5):
                model = new_copier(d_model, attention=attention, seed=seed)
                train_copier(model, train, seed=seed)
                accuracy = copying_accuracy(model, test)
                table.writerow([name, seed, *(f"{a:.3f}" for a in accuracy)])
                file.flush()
                print(name, seed, [f"{a:.2f}" for a in accuracy])


if __name__ == "__main__":
    main()
