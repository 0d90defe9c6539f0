"""A character-level GPT on Shakespeare, and what it is measured by.

Longer runs than a page has time for are kept beside this file, in ``mini_gpt.csv``. Made
anew by

    python -m companion.analysis.mini_gpt

which takes about a quarter of an hour on one core.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from companion.analysis.ngram import NGramModel
from companion.data.characters import (
    CharacterSplit,
    RandomWindows,
    even_windows,
    shakespeare_by_play,
)
from companion.models.gpt import GPT
from companion.runtime import device, seed_everything
from companion.training import CosineWithWarmup, Trainer
from companion.training.infilling import SENTINELS, Sentinels, WithInfilling
from companion.training.language_modeling import next_token_loss
from companion.training.muon import MuonAndAdamW

_RESULTS = Path(__file__).with_suffix(".csv")


@dataclass(frozen=True)
class Setting:
    """A model and its training.

    Attributes:
        d_model, num_heads, num_layers: of the model.
        length: characters that it reads at once.
        batch_size: windows in an update.
        steps: updates.
        muon: whether matrices are trained by Muon, or by AdamW as all else.
        rate: peak of AdamW.
        warmup: updates until the peak.
    """

    d_model: int = 128
    num_heads: int = 4
    num_layers: int = 3
    length: int = 128
    batch_size: int = 8
    steps: int = 1300
    muon: bool = True
    rate: float = 3e-3
    warmup: int = 50

    @property
    def characters(self) -> int:
        """Characters foretold in training."""
        return self.steps * self.batch_size * self.length


HERE = Setting()
SETTINGS = {
    "this page": HERE,
    "this page, AdamW alone": replace(HERE, muon=False),
    # The README of nanoGPT, "I only have a macbook": 0.8 M parameters, 1.5 M characters.
    "nanoGPT for a CPU": Setting(
        num_layers=4,
        length=64,
        batch_size=12,
        steps=2000,
        muon=False,
        rate=1e-3,
        warmup=100,
    ),
    "four times as long": replace(HERE, steps=4 * HERE.steps),
}


def load_split() -> CharacterSplit:
    """Shakespeare by play, with the sentinels of infilling in the vocabulary."""
    return shakespeare_by_play(SENTINELS)


def new_model(vocab_size: int, setting: Setting = HERE, seed: int = 0) -> GPT:
    """A GPT with fresh weights; without dropout, since no text is read twice."""
    seed_everything(seed)
    model = GPT(
        vocab_size,
        setting.d_model,
        setting.num_heads,
        num_layers=setting.num_layers,
        max_seq_len=setting.length,
        dropout=0.0,
    )
    return model.to(device())


def new_optimizer(model: GPT, setting: Setting) -> Optimizer:
    """MuonAndAdamW, or AdamW as nanoGPT has it."""
    if setting.muon:
        return MuonAndAdamW(model, adamw_lr=setting.rate)
    return AdamW(
        model.parameters(),
        setting.rate,
        betas=(0.9, 0.99),
        weight_decay=0.1,
        fused=True,
    )


def train(
    model: GPT,
    batches: Iterable[Tensor],
    setting: Setting = HERE,
    **options: Any,
) -> list[dict[str, float]]:
    """Train with warm-up and a cosine to a tenth; ``options`` go to `Trainer`."""
    optimizer = new_optimizer(model, setting)
    trainer = Trainer(
        model=model,
        optimizer=optimizer,
        batches=batches,
        loss=next_token_loss,
        scheduler=CosineWithWarmup(optimizer, setting.warmup, setting.steps),
        **options,
    )
    return trainer.run(num_steps=setting.steps)


def train_mini_gpt(
    split: CharacterSplit,
    setting: Setting = HERE,
    seed: int = 0,
    evaluations: int = 10,
    **options: Any,
) -> tuple[GPT, list[tuple[int, float]]]:
    """The model, and its learning curve.

    Returns:
        The model, and (characters foretold, bits per character of the validation plays)
        for each evaluation.
    """
    model = new_model(split.characters.vocab_size, setting, seed)
    windows = RandomWindows(
        split.train, setting.length, setting.batch_size, setting.steps, seed
    )
    watched = watched_windows(split, setting.length)
    history = train(
        model,
        windows,
        setting,
        validation=watched.split(16),
        evaluate_every=setting.steps // evaluations,
        **options,
    )
    per_step = setting.batch_size * setting.length
    curve = [
        (row["step"] * per_step, row["validation_loss"] / math.log(2))
        for row in history
        if "validation_loss" in row
    ]
    return model, curve


# Bits per character


@torch.no_grad()
def last_half_probabilities(
    model: nn.Module, windows: Int[Tensor, "number length_and_one"]
) -> Float[Tensor, "number half"]:
    """p of each character of the second half of the windows, given all before it."""
    where, found = next(model.parameters()).device, []
    for batch in windows.split(32):
        p = model(batch[:, :-1].to(where)).double().softmax(dim=-1).cpu()
        found.append(p.gather(2, batch[:, 1:, None])[..., 0])
    p = torch.cat(found)
    return p[:, p.shape[1] // 2 :]


def ngram_probabilities(
    model: NGramModel, windows: Int[Tensor, "number length_and_one"], order: int
) -> Float[Tensor, "number half"]:
    """The same of an n-gram model, for the same characters."""
    half = (windows.shape[1] - 1 + 1) // 2
    return torch.stack([model.probabilities(row, order)[-half:] for row in windows])


def window_bits(
    model: NGramModel, windows: Int[Tensor, "number length_and_one"], order: int
) -> float:
    """Bits per character of whole windows, whose first characters have less context.

    What the learning curve of `train_mini_gpt` measures, for an n-gram model.
    """
    p = [model.probabilities(row, order) for row in windows]
    p += [
        model.probabilities(row[: n + 1], n) for row in windows for n in range(1, order)
    ]
    return bits(torch.cat(p))


def watched_windows(split: CharacterSplit, length: int) -> Tensor:
    """The windows of the validation plays that the learning curve is measured on."""
    return even_windows(split.validation, length, 8192 // length)


def bits(probabilities: Tensor) -> float:
    """-log2 p, averaged."""
    return -probabilities.log2().mean().item()


# Memory


def longest_copies(text: str, source: str, longest: int = 200) -> list[int]:
    """For each place of ``text``: how many characters from there on stand in ``source``.

    A run of many is copied; real text that is not from the source has runs too, since
    phrases come again.
    """
    lengths, length = [], 0
    for start in range(len(text)):
        # A run that began one place earlier goes on for at least one less.
        length = max(length - 1, 0)
        while (
            length < longest
            and start + length < len(text)
            and text[start : start + length + 1] in source
        ):
            length += 1
        lengths.append(length)
    return lengths


# Fill in the middle


def sentinels(split: CharacterSplit) -> Sentinels:
    """The ids of the sentinels in the vocabulary of `load_split`."""
    return Sentinels(*(split.characters.ids[name] for name in SENTINELS))


def train_infilling(
    model: GPT,
    split: CharacterSplit,
    steps: int,
    *,
    setting: Setting = HERE,
    rate: float = 0.9,
    max_middle: int = 8,
    max_suffix: int = 8,
    seed: int = 1,
    **options: Any,
) -> list[dict[str, float]]:
    """Go on with a trained model, with most of the windows rearranged for infilling."""
    windows = WithInfilling(
        RandomWindows(split.train, setting.length, setting.batch_size, steps, seed),
        sentinels(split),
        rate=rate,
        max_middle=max_middle,
        max_suffix=max_suffix,
        seed=seed,
    )
    shorter = replace(setting, steps=steps, warmup=min(20, steps // 2))
    return train(model, windows, shorter, **options)


class MiddleBits(NamedTuple):
    """Bits per character of the middles, by what the model sees besides the prefix."""

    prefix_alone: float
    both_sides: float
    wrong_suffix: float


@torch.no_grad()
def middle_bits(
    model: nn.Module,
    windows: Int[Tensor, "number length"],
    marks: Sentinels,
    middle: int,
    suffix: int = 8,
) -> MiddleBits:
    """How well the same ``middle`` characters are foretold with and without what follows.

    The last ``suffix`` characters of each window are what follows. Without them, the text
    is read in its own order. The wrong suffix is the next window's.
    """
    where = next(model.parameters()).device
    number, length = windows.shape
    prefix, wanted, after = windows.split([length - middle - suffix, middle, suffix], 1)

    def cost(before: Tensor) -> float:
        text = torch.cat([before, wanted], dim=1).to(where)
        logits = model(text[:, :-1])[:, -middle:]
        loss = F.cross_entropy(logits.flatten(0, 1), text[:, -middle:].flatten())
        return loss.item() / math.log(2)

    def column(token: int) -> Tensor:
        return torch.full((number, 1), token)

    def around(after: Tensor) -> Tensor:
        parts = [column(marks.prefix), prefix, column(marks.suffix), after]
        return torch.cat([*parts, column(marks.middle)], dim=1)

    return MiddleBits(
        cost(prefix), cost(around(after)), cost(around(after.roll(1, dims=0)))
    )


# The table of longer runs


class Run(NamedTuple):
    """One run: its learning curve, and bits per character of the test plays."""

    curve: list[tuple[int, float]]
    test_bits: float


def stored_results() -> dict[str, Run]:
    """Name of the setting -> its run."""
    runs: dict[str, Run] = {}
    curve: list[tuple[int, float]] = []
    with _RESULTS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            if row["part"] == "validation":
                curve.append((int(row["characters"]), float(row["bits"])))
            else:
                runs[row["setting"]], curve = Run(curve, float(row["bits"])), []
    return runs


def held_out_windows(split: CharacterSplit, length: int = HERE.length) -> Tensor:
    """400 windows of the test plays, whose second halves are scored."""
    return even_windows(split.test, length, 400)


def main(names: Sequence[str] = tuple(SETTINGS)) -> None:
    """Train with each setting and write ``mini_gpt.csv``."""
    from datetime import date

    split = load_split()
    with _RESULTS.open("w", encoding="utf-8", newline="") as file:
        file.write(
            "# Bits per character of a GPT on plays of Shakespeare that were held out.\n"
            "# Made by python -m companion.analysis.mini_gpt: seed 0, one thread,\n"
            f"# {device().type}, torch {torch.__version__}, {date.today()}\n"
        )
        table = csv.writer(file)
        table.writerow(["setting", "part", "characters", "bits"])
        for name in names:
            setting = SETTINGS[name]
            model, curve = train_mini_gpt(split, setting, progress=False)
            for characters, value in curve:
                table.writerow([name, "validation", characters, f"{value:.3f}"])
            score = bits(
                last_half_probabilities(model, held_out_windows(split, setting.length))
            )
            table.writerow([name, "test", setting.characters, f"{score:.3f}"])
            file.flush()


if __name__ == "__main__":
    main()
