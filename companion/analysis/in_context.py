"""What a model makes of its context without changing a weight: repetition, examples, recall.

- `repetition_bits`: random text twice over. Nothing but the context foretells the second
  half (Olsson et al., 2022, "In-context Learning and Induction Heads").
- `example_prompts` and `answer_scores`: a pattern shown by k examples (Brown et al., 2020,
  figure 1.2).
- `periodic_batch` and `train_periodic`: random letters that come again after a period that
  has to be found out. Small models are trained on it in ``in_context.csv``, which is made
  anew by

      python -m companion.analysis.in_context

  in about a minute on one core.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from companion.data.characters import Characters
from companion.generation import generate
from companion.models.gpt import GPT
from companion.runtime import device, seed_everything
from companion.training.muon import MuonAndAdamW

# Random text, twice


def repeated_windows(
    token_ids: Sequence[int], length: int, number: int, generator: torch.Generator
) -> Int[Tensor, "number two_lengths"]:
    """``length`` tokens drawn evenly from ``token_ids``, then the same again."""
    pool = torch.tensor(token_ids)
    drawn = pool[torch.randint(len(pool), (number, length), generator=generator)]
    return torch.cat([drawn, drawn], dim=1)


@torch.no_grad()
def bits_by_position(
    model: nn.Module, windows: Int[Tensor, "batch length"], batch_size: int = 32
) -> Float[Tensor, " length_less_1"]:
    """-log2 p of the token after 1, 2, ... tokens of context, averaged over the windows."""
    where = next(model.parameters()).device
    found = []
    for batch in windows.split(batch_size):
        batch = batch.to(where)
        logits = model(batch[:, :-1])  # (B, L - 1, V)
        loss = F.cross_entropy(logits.mT, batch[:, 1:], reduction="none")
        found.append(loss.double().cpu() / torch.tensor(2.0).log())
    return torch.cat(found).mean(dim=0)


def induction_scores(
    weights: Float[Tensor, "layers batch heads tokens tokens"],
) -> Float[Tensor, "layers heads"]:
    """On text that is given twice: mean attention to the token after the earlier copy.

    A head that does so completes A B ... A with B. The queries are those of the second
    half, of which the first has its copy ``length`` tokens before.

    Args:
        weights: maps of windows from `repeated_windows`.
    """
    length = weights.shape[-1] // 2
    # Query i looks at key i - length + 1; in the second half i >= length.
    return weights.diagonal(1 - length, dim1=-2, dim2=-1)[..., 1:].mean(dim=(1, 3))


# A pattern, by examples

PATTERNS: dict[str, Callable[[str], str]] = {
    "copy": lambda word: word,
    "reverse": lambda word: word[::-1],
    "capitals": str.upper,
}


class Prompt(NamedTuple):
    """A prompt that ends where the answer has to follow."""

    text: str
    answer: str


def example_prompts(
    words: Sequence[str],
    pattern: Callable[[str], str],
    examples: int,
    number: int,
    generator: torch.Generator,
) -> list[Prompt]:
    """``number`` prompts of ``examples`` lines "word - answer;", then a new word."""
    prompts = []
    for _ in range(number):
        order = torch.randperm(len(words), generator=generator)[: examples + 1]
        *shown, asked = (words[i] for i in order)
        lines = [f"{word} - {pattern(word)};\n" for word in shown]
        prompts.append(Prompt("".join(lines) + f"{asked} - ", pattern(asked)))
    return prompts


class AnswerScore(NamedTuple):
    """Share of answers that greedy writing gets right, and bits per character of them."""

    exact: float
    bits: float


@torch.no_grad()
def answer_scores(
    model: nn.Module, characters: Characters, prompts: Sequence[Prompt]
) -> AnswerScore:
    """How well a model continues the prompts with their answers and a semicolon."""
    where = next(model.parameters()).device
    right, bits, number = 0, 0.0, 0
    for prompt in prompts:
        asked = characters.encode(prompt.text).to(where)
        wanted = characters.encode(prompt.answer + ";").to(where)
        both = torch.cat([asked, wanted])[None]
        logits = model(both[:, :-1])[0, len(asked) - 1 :]
        bits += F.cross_entropy(logits, wanted, reduction="sum").item()
        number += len(wanted)
        written = generate(model, asked[None], len(wanted))[0, len(asked) :]
        right += bool(torch.equal(written, wanted))
    return AnswerScore(right / len(prompts), bits / number / math.log(2))


# A task that nothing but the context can solve

LETTERS = 26  # tokens 0 to 25
LENGTH = 36
PERIODS = (4, 12)
LAYERS = (1, 2)
STEPS, EVERY = 350, 25
_RESULTS = Path(__file__).with_suffix(".csv")


def periodic_batch(
    number: int,
    generator: torch.Generator,
    periods: tuple[int, int] = PERIODS,
    length: int = LENGTH,
) -> tuple[Int[Tensor, "number length"], Int[Tensor, "number length"]]:
    """Random letters that come again and again, after a period that differs by text.

    Letters and period are drawn anew for each text. No fixed distance finds the next
    letter: one has to look for what stood here before, and what came after it.

    Returns:
        Tokens ``(number, length)``, and labels for the model's ``loss``: -100 as long as
        nothing has come again.
    """
    low, high = periods
    period = torch.randint(low, high + 1, (number, 1), generator=generator)
    letters = torch.randint(LETTERS, (number, high), generator=generator)
    place = torch.arange(length)
    texts = letters.gather(1, place % period)
    # The first letter that comes again is a surprise; what follows it is not.
    return texts, texts.masked_fill(place <= period, -100)


def new_small_gpt(num_layers: int, seed: int) -> GPT:
    """A GPT of width 64 and two heads with fresh weights."""
    seed_everything(seed)
    model = GPT(LETTERS, 64, 2, num_layers=num_layers, max_seq_len=LENGTH, dropout=0.0)
    return model.to(device())


def train_periodic(model: GPT, steps: int = STEPS, *, seed: int = 0) -> list[float]:
    """Train on `periodic_batch`; the accuracy on new texts, every 25 steps."""
    draw = torch.Generator().manual_seed(seed)
    optimizer = MuonAndAdamW(model, weight_decay=0.0)
    accuracy = []
    for step in range(1, steps + 1):
        texts, labels = (t.to(device()) for t in periodic_batch(32, draw))
        loss = model.loss(texts, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % EVERY == 0:
            accuracy.append(periodic_accuracy(model))
    return accuracy


@torch.no_grad()
def periodic_accuracy(
    model: GPT, periods: tuple[int, int] = PERIODS, number: int = 128
) -> float:
    """Share of letters that are right once something has come again, on fixed texts."""
    draw = torch.Generator().manual_seed(12345)
    texts, labels = (t.to(device()) for t in periodic_batch(number, draw, periods))
    guessed = model(texts).argmax(dim=-1)[:, :-1]
    counted = labels[:, 1:] != -100
    return (guessed == labels[:, 1:])[counted].float().mean().item()


def stored_results() -> dict[int, list[list[float]]]:
    """Number of layers -> one row a seed -> accuracy every 25 steps."""
    rows: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with _RESULTS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            rows[int(row["layers"])][row["seed"]].append(float(row["accuracy"]))
    return {layers: list(seeds.values()) for layers, seeds in rows.items()}


def main() -> None:
    """Train each number of layers with three seeds and write ``in_context.csv``."""
    from datetime import date

    with _RESULTS.open("w", encoding="utf-8", newline="") as file:
        file.write(
            "# Random letters that come again after 4 to 12 places: share foretold right\n"
            "# on new texts. Made by python -m companion.analysis.in_context: batch 32,\n"
            f"# Muon, seeds 0-2, {device().type}, torch {torch.__version__}, "
            f"{date.today()}\n"
        )
        table = csv.writer(file)
        table.writerow(["layers", "seed", "step", "accuracy"])
        for layers in LAYERS:
            for seed in range(3):
                accuracy = train_periodic(new_small_gpt(layers, seed), seed=seed)
                for i, share in enumerate(accuracy, 1):
                    table.writerow([layers, seed, i * EVERY, f"{share:.3f}"])
                file.flush()


if __name__ == "__main__":
    main()
