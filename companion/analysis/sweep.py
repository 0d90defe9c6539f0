"""Our own scaling law: small GPTs of several sizes on several amounts of text.

Every run is one row of ``sweep.csv`` beside this file, made by

    python -m companion.analysis.sweep

which does the runs that the table lacks, one after the other or ``--jobs`` at a time, and may
be stopped at any moment.

The text is Shakespeare and the King James Bible, in tokens of a vocabulary that was learned
from the training part, the beginning of each work. No run reads a token twice. The learning
rate was tuned on the smallest width and is carried to the larger ones by the rule of
Yang et al. (2022), "Tensor Programs V": the rate of a matrix between hidden layers falls with
one over the width, that of embeddings, norms and biases stays. The runs of kind ``"flat"``
use one rate for everything instead, for comparison.
"""

from __future__ import annotations

import argparse
import csv
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from torch import Tensor, nn
from torch.optim import AdamW

from companion.analysis.flops import count_parameters
from companion.analysis.scaling import Run
from companion.data.byte_tokenizer import END_OF_TEXT, byte_tokenizer_of
from companion.data.texts import kjv_verses, plays, shakespeare
from companion.data.token_file import ShuffledWindows
from companion.models.gpt import GPT
from companion.runtime import device, seed_everything
from companion.training.language_modeling import next_token_loss
from companion.training.loop import Trainer
from companion.training.schedules import CosineWithWarmup

VOCAB_SIZE = 512
LENGTH = 64  # tokens that a model reads at once
BATCH = 8  # windows in an update: 512 tokens
PIECE = 1024  # tokens of one work in a row
EMBEDDING_STD = 0.1
GPT_STD = 0.02  # as `GPT` draws all matrices
BASE_WIDTH = 32  # where the learning rate was tuned
BASE_RATE = 8e-3  # what was best there, over three seeds
SEEDS = (0, 1, 2)
SPANS = (1, 2, 4, 8)  # tokens in a row that must all be right

_RESULTS = Path(__file__).with_suffix(".csv")
_COLUMNS = (
    "kind d_model num_layers num_heads tokens rate seed parameters loss "
    + " ".join(f"right_{span}" for span in SPANS)
    + " seconds"
).split()


@dataclass(frozen=True)
class Setting:
    """One run.

    Attributes:
        kind: what it is for: ``"rate"`` and ``"flat"`` to find the learning rate, with
            Yang's rule and without; ``"grid"`` for the law, ``"shape"`` for width, depth
            and heads.
        d_model, num_layers, num_heads: of the model.
        tokens: that it is trained on.
        rate: peak of the learning rate, at `BASE_WIDTH`.
        seed: of weights and order.
    """

    kind: str
    d_model: int
    num_layers: int
    num_heads: int
    tokens: int
    rate: float = BASE_RATE
    seed: int = 0


SIZES = ((32, 2, 2), (48, 2, 3), (64, 3, 4), (96, 4, 6), (128, 4, 8))
TOKENS = (150_000, 320_000, 680_000, 1_450_000, 3_000_000)
RATES = (1e-3, 2e-3, 4e-3, 8e-3, 16e-3, 32e-3, 64e-3)
WIDTHS = ((32, 2, 2), (64, 2, 4), (128, 2, 8))  # on which rates are tried
# About the same number of parameters, from wide to deep, and with few heads or many.
SHAPES = (
    (128, 1, 8),
    (90, 2, 6),
    (64, 4, 4),
    (45, 8, 3),
    (32, 16, 2),
    (64, 4, 1),
    (64, 4, 2),
    (64, 4, 8),
    (64, 4, 16),
    (64, 4, 32),
)


def settings() -> list[Setting]:
    """All runs: the learning rate first, then the grid from cheap to dear, then the rest."""
    rates = [
        Setting(kind, *size, TOKENS[1], rate, seed)
        for kind in ("rate", "flat")
        for size in WIDTHS
        for rate in RATES
        for seed in (SEEDS if size == SIZES[0] and kind == "rate" else (0,))
    ]
    grid = [
        Setting("grid", *size, tokens, seed=seed)
        for size in SIZES
        for tokens in TOKENS
        for seed in (SEEDS if is_corner(size, tokens) else (0,))
    ]
    shapes = [
        Setting("shape", *shape, TOKENS[2], seed=seed)
        for shape in SHAPES
        for seed in SEEDS
    ]
    return [*rates, *sorted(grid, key=_first_seeds_and_cheap_runs_first), *shapes]


def is_corner(size: tuple[int, int, int], tokens: int) -> bool:
    """Whether size and text are at an end of the grid: there all seeds are run."""
    return size in (SIZES[0], SIZES[-1]) and tokens in (TOKENS[0], TOKENS[-1])


def _first_seeds_and_cheap_runs_first(run: Setting) -> tuple[int, int]:
    return run.seed, run.d_model**2 * run.num_layers * run.tokens


class Text(NamedTuple):
    """The tokens of the two parts of the text."""

    train: np.ndarray
    held_out: np.ndarray


@cache
def load_text() -> Text:
    """The tokens of the first 95 % of each work, and of the rest."""
    works = [shakespeare(play) for play in plays()]
    verses = kjv_verses()
    works += ["\n".join(verses[i : i + 1000]) for i in range(0, len(verses), 1000)]
    cuts = [round(0.95 * len(work)) for work in works]
    first = [work[:cut] for work, cut in zip(works, cuts, strict=True)]
    last = [work[cut:] for work, cut in zip(works, cuts, strict=True)]
    tokenizer = byte_tokenizer_of(first, VOCAB_SIZE)
    end = tokenizer.token_to_id(END_OF_TEXT)

    def tokens(parts: Sequence[str]) -> np.ndarray:
        encoded = tokenizer.encode_batch(list(parts))
        ids = [token for part in encoded for token in (*part.ids, end)]
        return np.array(ids, dtype=np.uint16)

    # Pieces in random order: a run that ends early has seen a bit of everything.
    train = tokens(first)
    pieces = train[: len(train) // PIECE * PIECE].reshape(-1, PIECE)
    train = np.random.default_rng(0).permutation(pieces).ravel()
    return Text(train, tokens(last))


def new_model(setting: Setting) -> GPT:
    """The GPT of a setting, without dropout: no token is seen twice.

    GPT-2's standard deviation of 0.02 suits its widths. At ours it is so small that
    attention takes thousands of steps to begin. Yang et al. (2022), table 8: a matrix
    between hidden layers has the variance 1 / its inputs, embeddings the same at all
    widths.
    """
    seed_everything(setting.seed)
    model = GPT(
        VOCAB_SIZE,
        setting.d_model,
        setting.num_heads,
        num_layers=setting.num_layers,
        max_seq_len=LENGTH,
        dropout=0.0,
    )
    with torch.no_grad():
        for matrix in _hidden_matrices(model):
            matrix.mul_(matrix.shape[1] ** -0.5 / GPT_STD)
        model.token_embedding.weight.mul_(EMBEDDING_STD / GPT_STD)
    return model.to(device())


def _hidden_matrices(model: GPT) -> list[nn.Parameter]:
    return [m.weight for m in model.layers.modules() if isinstance(m, nn.Linear)]


def new_optimizer(model: GPT, rate: float, *, carried: bool = True) -> AdamW:
    """AdamW with the rate of `BASE_WIDTH` carried to the width of ``model``.

    Yang et al. (2022), table 8: with Adam, the matrices between hidden layers get the
    rate times base width / width, and all else the rate itself.

    Args:
        carried: whether to do so; otherwise everything gets the rate itself.
    """
    hidden = _hidden_matrices(model)
    chosen = {id(p) for p in hidden}
    others = [p for p in model.parameters() if id(p) not in chosen]
    width = model.token_embedding.embedding_dim
    groups = [
        {"params": hidden, "lr": rate * BASE_WIDTH / width if carried else rate},
        {"params": others, "lr": rate},
    ]
    return AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0)


def train(setting: Setting, text: Text, *, progress: bool = False) -> GPT:
    """A model trained on ``setting.tokens`` tokens, none of them twice.

    Raises:
        ValueError: the text is shorter than that.
    """
    trainer = _trainer(setting, text, progress)
    trainer.run(num_steps=_steps(setting.tokens))
    return trainer.model


def course(
    setting: Setting, text: Text, *, at: Sequence[int], progress: bool = False
) -> dict[int, float]:
    """The loss of a run on its way, after each of the numbers of tokens ``at``.

    Raises:
        ValueError: the text is shorter than the run.
    """
    trainer = _trainer(setting, text, progress)
    losses = {}
    for tokens in at:
        trainer.run(num_steps=_steps(tokens))
        losses[tokens] = score(trainer.model, text).loss
    return losses


def _steps(tokens: int) -> int:
    return tokens // (BATCH * LENGTH)


def _trainer(setting: Setting, text: Text, progress: bool) -> Trainer:
    if setting.tokens + 2 * LENGTH > len(text.train):
        raise ValueError(
            f"tokens must be at most {len(text.train) - 2 * LENGTH:,}, the length of the "
            f"text, but it is {setting.tokens:,}"
        )
    model = new_model(setting)
    optimizer = new_optimizer(model, setting.rate, carried=setting.kind != "flat")
    steps = _steps(setting.tokens)
    return Trainer(
        model=model,
        optimizer=optimizer,
        batches=ShuffledWindows(
            text.train[: setting.tokens + 2 * LENGTH], LENGTH, BATCH, seed=setting.seed
        ),
        loss=next_token_loss,
        scheduler=CosineWithWarmup(optimizer, max(1, steps // 10), steps),
        progress=progress,
    )


class Scores(NamedTuple):
    """What a model makes of the held-out text.

    Attributes:
        loss: nats a token.
        right: for each number of `SPANS`, the share of runs of so many tokens that the
            model would write exactly so, always given the true text before.
    """

    loss: float
    right: tuple[float, ...]


@torch.no_grad()
def score(model: GPT, text: Text, windows: int = 400) -> Scores:
    """Measure on windows of the held-out text, the same ones each time."""
    model.eval()
    starts = np.linspace(0, len(text.held_out) - LENGTH - 1, windows).astype(int)
    rows = np.stack([text.held_out[s : s + LENGTH + 1] for s in starts])
    ids = torch.from_numpy(rows.astype(np.int64)).to(device())
    losses, hits = [], []
    for part in ids.split(50):
        logits = model(part[:, :-1])
        wants = part[:, 1:]
        losses.append(F.cross_entropy(logits.flatten(0, 1), wants.flatten()))
        hits.append(logits.argmax(dim=-1) == wants)
    right = torch.cat(hits)  # (windows, length)
    return Scores(
        torch.stack(losses).mean().item(),
        tuple(_share_of_spans(right, span) for span in SPANS),
    )


def _share_of_spans(right: Tensor, span: int) -> float:
    """The share of runs of ``span`` neighbors that are right throughout."""
    return right.unfold(1, span, 1).all(dim=-1).double().mean().item()


def run(setting: Setting) -> dict[str, str]:
    """A row of the table."""
    torch.set_num_threads(1)
    text = load_text()
    start = time.process_time()
    model = train(setting, text)
    seconds = time.process_time() - start
    scores = score(model, text)
    measured = {
        f"right_{s}": f"{r:.5f}" for s, r in zip(SPANS, scores.right, strict=True)
    }
    return {
        **{name: str(getattr(setting, name)) for name in _COLUMNS[:7]},
        "parameters": str(count_parameters(model).non_embedding),
        "loss": f"{scores.loss:.4f}",
        **measured,
        "seconds": f"{seconds:.0f}",
    }


def stored_rows(
    kind: str | None = None, path: Path = _RESULTS
) -> list[dict[str, float]]:
    """The rows of ``sweep.csv``, as numbers; of one kind, or all."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    return [
        {name: float(value) for name, value in row.items() if name != "kind"}
        for row in rows
        if kind in (None, row["kind"])
    ]


def embedding_parameters(d_model: int) -> int:
    """Numbers in the tables of tokens and positions of a model of this sweep."""
    return (VOCAB_SIZE + LENGTH) * d_model


def stored_runs(kind: str, *, embeddings: bool = True) -> list[Run]:
    """The runs of a kind, as `companion.analysis.scaling` fits them.

    Args:
        kind: as in `Setting`.
        embeddings: whether their tables count as parameters.
    """
    return [
        Run(
            row["parameters"]
            + (embedding_parameters(int(row["d_model"])) if embeddings else 0),
            row["tokens"],
            row["loss"],
        )
        for row in stored_rows(kind)
    ]


def missing(wanted: Iterable[Setting], path: Path = _RESULTS) -> list[Setting]:
    """The settings that the table has no row for."""
    if not path.is_file():
        return list(wanted)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    done = {tuple(row[name] for name in _COLUMNS[:7]) for row in rows}
    return [
        s for s in wanted if tuple(str(getattr(s, n)) for n in _COLUMNS[:7]) not in done
    ]


def _append(row: dict[str, str], path: Path) -> None:
    with FileLock(path.with_suffix(".lock")):
        new = not path.is_file()
        with path.open("a", encoding="utf-8", newline="") as file:
            if new:
                file.write(
                    "# Small GPTs on Shakespeare and the King James Bible: nats a token on\n"
                    "# held-out text, the share of spans that are right throughout, and\n"
                    "# seconds of processor time. Parameters are without embeddings. Made by\n"
                    "# python -m companion.analysis.sweep (companion "
                    f"{metadata.version('companion')}, torch {torch.__version__}), each run on one\n"
                    f"# thread of {device().type} ({platform.machine()}), from "
                    f"{date.today()} on.\n"
                )
            table = csv.DictWriter(file, _COLUMNS)
            if new:
                table.writeheader()
            table.writerow(row)


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the runs that ``sweep.csv`` lacks, and add a row for each."""
    parser = argparse.ArgumentParser(
        prog="python -m companion.analysis.sweep", description=main.__doc__
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--kinds", nargs="+", help="only these: rate flat grid shape")
    parser.add_argument("--out", type=Path, default=_RESULTS, help="the table")
    asked = parser.parse_args(arguments)
    waiting = [
        s for s in missing(settings(), asked.out) if s.kind in (asked.kinds or [s.kind])
    ]
    for number, row in enumerate(_rows(waiting, asked.jobs), 1):
        _append(row, asked.out)
        shown = " ".join(f"{name} {row[name]}" for name in _COLUMNS[:9])
        print(f"[{number}/{len(waiting)}] {shown}", file=sys.stderr, flush=True)


def _rows(waiting: Sequence[Setting], jobs: int) -> Iterator[dict[str, str]]:
    """A row for each setting, as soon as it and those before it are done."""
    if jobs == 1:
        yield from map(run, waiting)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(run, waiting)


if __name__ == "__main__":
    main()
