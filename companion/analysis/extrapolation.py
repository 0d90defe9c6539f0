"""Small causal language models that differ in nothing but their encoding of positions.

Each is trained on 64 positions and read at up to 256. The results of three seeds are kept
beside this file, in ``extrapolation.csv``. Made anew by

    python -m companion.analysis.extrapolation

which takes about nine minutes on one core of a laptop.

Sources: the question is that of Press et al. (2022), "Train Short, Test Long".
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from companion.analysis.bottleneck import LETTERS, training_and_test_text
from companion.layers.feed_forward import PositionwiseFeedForward
from companion.layers.multi_head import MultiHeadAttention
from companion.layers.positions import (
    LearnedPositionalEmbedding,
    SinusoidalPositionalEncoding,
)
from companion.layers.relative import ALiBi, T5RelativeBias
from companion.layers.rotary import RotaryEmbedding
from companion.layers.rotary_scaling import (
    LinearScaling,
    NTKScaling,
    RotaryScaling,
    YaRNScaling,
)
from companion.runtime import device, seed_everything

ENCODINGS = ("none", "sinusoidal", "learned", "T5", "ALiBi", "rotary")
TASKS = ("characters", "5 back")
TRAINED_LENGTH = 64
READ_LENGTH = 4 * TRAINED_LENGTH
STRIDE = 32  # positions that one number of the results averages over
STEPS_BACK = 5
SCALINGS: dict[str, RotaryScaling] = {
    "rotary, linear": LinearScaling(4.0),
    "rotary, NTK": NTKScaling(4.0),
    "rotary, YaRN": YaRNScaling(4.0, TRAINED_LENGTH),
}
# Two ways to go wrong that are measured as well: name -> encoding, options of the model.
VARIANTS: dict[str, tuple[str, dict[str, float]]] = {
    "learned, std 0.02": ("learned", {"learned_std": 0.02}),
    "T5, reach 128": ("T5", {"t5_reach": 128}),
}

_RESULTS = Path(__file__).with_suffix(".csv")
_BLOCKS = READ_LENGTH // STRIDE
_IGNORED = -100  # what cross_entropy skips
_SYMBOLS = len(LETTERS)

# (how many sequences, their length, a generator) -> inputs and targets, (count, length)
Draw = Callable[[int, int, torch.Generator], tuple[Tensor, Tensor]]


class Block(nn.Module):
    """x + attention(norm(x)), then x + FFN(norm(x)): causal, pre-norm."""

    def __init__(
        self, d_model: int, num_heads: int, rotary: RotaryEmbedding | None
    ) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(d_model, num_heads, rotary=rotary)
        self.feed_forward = PositionwiseFeedForward(d_model, 4 * d_model)
        self.norm1 = nn.LayerNorm(d_model)
        self.norm2 = nn.LayerNorm(d_model)

    def forward(
        self,
        x: Float[Tensor, "batch length d_model"],
        bias: Float[Tensor, "1 heads length length"] | None,
    ) -> Float[Tensor, "batch length d_model"]:
        heard, _ = self.attention(
            self.norm1(x), bias=bias, is_causal=True, need_weights=False
        )
        x = x + heard
        return x + self.feed_forward(self.norm2(x))


class PositionedLM(nn.Module):
    """A causal language model with one of six encodings of positions.

    Args:
        encoding: one of `ENCODINGS`.
        max_seq_len: how many positions the table of ``"learned"`` and ``"sinusoidal"``
            holds; the others need no such number.
        learned_std: spread of the learned table at the start. Token embeddings start
            at 1 here, so by default positions are heard as loudly.
        t5_reach: the distance from which on all share T5's last bucket. T5 itself has
            128 and is trained on 512; a bucket that training never reaches stays as it
            was at the start.
        d_model, num_heads, num_layers: as everywhere.

    Raises:
        ValueError: the encoding is not known.
    """

    def __init__(
        self,
        encoding: str,
        max_seq_len: int = READ_LENGTH,
        *,
        learned_std: float = 1.0,
        t5_reach: int = 32,
        d_model: int = 64,
        num_heads: int = 4,
        num_layers: int = 2,
    ) -> None:
        super().__init__()
        if encoding not in ENCODINGS:
            raise ValueError(
                f"encoding must be one of {', '.join(ENCODINGS)}, but it is {encoding!r}"
            )
        self.embedding = nn.Embedding(_SYMBOLS, d_model)
        self.added: nn.Module = nn.Identity()
        self.bias: nn.Module | None = None
        rotary = None
        if encoding == "sinusoidal":
            self.added = SinusoidalPositionalEncoding(d_model, max_seq_len)
        elif encoding == "learned":
            table = LearnedPositionalEmbedding(d_model, max_seq_len)
            nn.init.normal_(table.position_embeddings.weight, std=learned_std)
            self.added = table
        elif encoding == "T5":
            self.bias = T5RelativeBias(
                num_heads, max_distance=t5_reach, bidirectional=False
            )
        elif encoding == "ALiBi":
            self.bias = ALiBi(num_heads)
        elif encoding == "rotary":
            rotary = RotaryEmbedding(d_model // num_heads, layout="halves")
        self.blocks = nn.ModuleList(
            Block(d_model, num_heads, rotary) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, _SYMBOLS)

    def forward(
        self, token_ids: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length symbols"]:
        x = self.added(self.embedding(token_ids))
        bias = None if self.bias is None else self.bias(token_ids.shape[1])
        for block in self.blocks:
            x = block(x, bias)
        return self.head(self.norm(x))

    def replace_rotary(self, rotary: RotaryEmbedding) -> None:
        """Turn queries and keys in another way from now on, with the same weights."""
        for block in self.blocks:
            block.attention.rotary = rotary.to(self.head.weight.device)


def draw_characters(ids: Int[Tensor, "characters"]) -> Draw:
    """Stretches of a text; the target is the next character."""

    def draw(count: int, length: int, generator: torch.Generator):
        start = torch.randint(len(ids) - length - 1, (count, 1), generator=generator)
        text = ids[start + torch.arange(length + 1)].to(device())  # (B, L + 1)
        return text[:, :-1], text[:, 1:]

    return draw


def draw_steps_back(count: int, length: int, generator: torch.Generator):
    """Random characters; the target is the one five places back. No content helps."""
    ids = torch.randint(_SYMBOLS, (count, length), generator=generator).to(device())
    return ids, F.pad(ids[:, :-STEPS_BACK], (STEPS_BACK, 0), value=_IGNORED)


def new_model(encoding: str, seed: int, **options: float) -> PositionedLM:
    """An untrained model; with one seed, all encodings start from the same weights."""
    seed_everything(seed)
    blank = PositionedLM("none")
    model = PositionedLM(encoding, **options)
    model.load_state_dict(blank.state_dict(), strict=False)
    return model.to(device())


def train(model: nn.Module, draw: Draw, *, steps: int = 300, seed: int = 0) -> None:
    """Teach the model its task on batches of 32 sequences of 64 positions."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=4e-3, total_steps=steps
    )
    for _ in tqdm(range(steps), leave=False):
        x, target = draw(32, TRAINED_LENGTH, generator)
        loss = F.cross_entropy(
            model(x).flatten(0, 1), target.flatten(), ignore_index=_IGNORED
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


@torch.no_grad()
def loss_by_position(
    model: nn.Module, draw: Draw, *, length: int = READ_LENGTH, count: int = 128
) -> list[float]:
    """Nats a character, averaged over blocks of 32 positions of unseen sequences.

    No output of a causal model depends on what comes later. So what a model does at
    position 50 of 256 is what it does at position 50 of 64, and one pass over long
    sequences measures every shorter length as well.
    """
    generator = torch.Generator().manual_seed(10_000)  # no seed of training
    x, target = draw(count, length, generator)
    losses = F.cross_entropy(
        model(x).flatten(0, 1),
        target.flatten(),
        ignore_index=_IGNORED,
        reduction="none",
    )
    counted = (target != _IGNORED).view(count, -1, STRIDE).sum(dim=(0, 2))
    return (losses.view(count, -1, STRIDE).sum(dim=(0, 2)) / counted).tolist()


def tasks() -> dict[str, tuple[Draw, Draw]]:
    """Task -> what to train on, and what to test on."""
    train_text, test_text = training_and_test_text()
    return {
        "characters": (draw_characters(train_text), draw_characters(test_text)),
        "5 back": (draw_steps_back, draw_steps_back),
    }


def stored_results() -> dict[tuple[str, str], list[list[float]]]:
    """(task, encoding) -> one row a seed -> loss in each block, from ``extrapolation.csv``."""
    rows: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    with _RESULTS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            losses = [float(row[name]) for name in _block_names()]
            rows[row["task"], row["encoding"]].append(losses)
    return dict(rows)


def at_multiples(losses: list[float]) -> list[float]:
    """The last 32 of 64, 128 and 256 positions: once, twice, four times as in training."""
    return [losses[m * TRAINED_LENGTH // STRIDE - 1] for m in (1, 2, 4)]


def _block_names() -> list[str]:
    return [f"{i * STRIDE + 1}-{(i + 1) * STRIDE}" for i in range(_BLOCKS)]


def main() -> None:
    """Train every encoding on both tasks with three seeds and write ``extrapolation.csv``."""
    from datetime import date

    with _RESULTS.open("w", encoding="utf-8", newline="") as file:
        file.write(
            "# Loss in nats a character at each block of positions, trained on the first\n"
            f"# {TRAINED_LENGTH}. Made by python -m companion.analysis.extrapolation:\n"
            "# 2 layers, width 64, 4 heads, 300 steps, batch 32, seeds 0-2,\n"
            f"# {device().type}, torch {torch.__version__}, {date.today()}\n"
        )
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["task", "encoding", "seed", *_block_names()])

        def write(task: str, name: str, seed: int, losses: list[float]) -> None:
            table.writerow([task, name, seed, *(f"{loss:.4f}" for loss in losses)])
            file.flush()
            print(f"{task:>10} {name:>15} {seed}:", *(f"{x:.2f}" for x in losses))

        models = VARIANTS | {name: (name, {}) for name in ENCODINGS}
        for task, (train_draw, test_draw) in tasks().items():
            for seed in range(3):
                for name, (encoding, options) in models.items():
                    model = new_model(encoding, seed, **options)
                    train(model, train_draw, seed=seed)
                    losses = loss_by_position(model, test_draw)
                    write(task, name, seed, losses)
                for name, scaling in SCALINGS.items():  # of the last one, rotary
                    model.replace_rotary(
                        RotaryEmbedding(16, layout="halves", scaling=scaling)
                    )
                    write(task, name, seed, loss_by_position(model, test_draw))


if __name__ == "__main__":
    main()
