"""From GPT's block to LLaMA's, one exchange at a time, and PaLM's parallel block.

Small language models of characters, each with about the same number of parameters. The
results of three seeds are kept beside this file, in ``gpt_to_llama.csv``. Made anew by

    python -m companion.analysis.gpt_to_llama

which takes about ten minutes on one core of a laptop.

Sources: Touvron et al. (2023a), "LLaMA", section 2.2, for the exchanges; Chowdhery et al.
(2022), "PaLM", section 2, for the parallel block.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from companion.analysis.bottleneck import LETTERS
from companion.analysis.extrapolation import (
    TRAINED_LENGTH,
    loss_by_position,
    tasks,
    train,
)
from companion.layers import (
    GatedFeedForward,
    LearnedPositionalEmbedding,
    MultiHeadAttention,
    PositionwiseFeedForward,
    RotaryEmbedding,
    gated_width,
)
from companion.runtime import device, seed_everything

SEEDS = (0, 1, 2)
STEPS = 300
D_MODEL, NUM_HEADS, NUM_LAYERS = 64, 4, 2

_RESULTS = Path(__file__).with_suffix(".csv")


@dataclass(frozen=True)
class Parts:
    """What a block is made of."""

    rms: bool = False
    rotary: bool = False
    gated: bool = False
    kv_heads: int = NUM_HEADS
    parallel: bool = False


_GPT = Parts()
_LLAMA = Parts(rms=True, rotary=True, gated=True)
LADDER: dict[str, Parts] = {
    "GPT": _GPT,
    "+ RMS norm": Parts(rms=True),
    "+ rotary": Parts(rms=True, rotary=True),
    "+ SwiGLU = LLaMA": _LLAMA,
    "2 key-value heads": replace(_LLAMA, kv_heads=2),
    "1 key-value head": replace(_LLAMA, kv_heads=1),
    "parallel block": replace(_LLAMA, parallel=True),
}


class Block(nn.Module):
    """A pre-norm block without biases, of the parts that are asked for."""

    def __init__(self, parts: Parts, rotary: RotaryEmbedding | None) -> None:
        super().__init__()
        norm = nn.RMSNorm if parts.rms else nn.LayerNorm
        d_ff = 4 * D_MODEL
        self.attention = MultiHeadAttention(
            D_MODEL, NUM_HEADS, parts.kv_heads, bias=False, rotary=rotary
        )
        if parts.gated:
            self.feed_forward = GatedFeedForward(D_MODEL, gated_width(d_ff))
        else:
            self.feed_forward = PositionwiseFeedForward(
                D_MODEL, d_ff, activation="gelu", bias=False
            )
        self.norm1 = norm(D_MODEL, eps=1e-6)
        self.norm2 = None if parts.parallel else norm(D_MODEL, eps=1e-6)

    def forward(
        self, x: Float[Tensor, "batch length d_model"]
    ) -> Float[Tensor, "batch length d_model"]:
        normed = self.norm1(x)
        heard, _ = self.attention(normed, is_causal=True, need_weights=False)
        if self.norm2 is None:
            return x + heard + self.feed_forward(normed)
        x = x + heard
        return x + self.feed_forward(self.norm2(x))


class SmallLM(nn.Module):
    """A language model of the 27 characters, of `Block`."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(LETTERS), D_MODEL)
        self.positions = None
        rotary = None
        if parts.rotary:
            rotary = RotaryEmbedding(D_MODEL // NUM_HEADS)
        else:
            self.positions = LearnedPositionalEmbedding(D_MODEL, TRAINED_LENGTH)
            # As loud as the token embeddings: at GPT-2's 0.02 they are hardly heard in
            # so short a training, and any other encoding would win.
            nn.init.normal_(self.positions.position_embeddings.weight)
        self.blocks = nn.ModuleList(Block(parts, rotary) for _ in range(NUM_LAYERS))
        self.norm = (nn.RMSNorm if parts.rms else nn.LayerNorm)(D_MODEL, eps=1e-6)
        self.head = nn.Linear(D_MODEL, len(LETTERS), bias=False)

    def forward(
        self, token_ids: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length symbols"]:
        x = self.embedding(token_ids)
        if self.positions is not None:
            x = self.positions(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def trained_loss(name: str, seed: int, steps: int = STEPS) -> float:
    """Nats a character on unseen text, at the second half of 64 positions."""
    train_draw, test_draw = tasks()["characters"]
    seed_everything(seed)
    model = SmallLM(LADDER[name]).to(device())
    train(model, train_draw, seed=seed, steps=steps)
    return loss_by_position(model, test_draw, length=TRAINED_LENGTH, count=512)[-1]


def stored_results() -> dict[str, list[float]]:
    """Rung of the ladder -> loss of each seed, from ``gpt_to_llama.csv``."""
    rows: dict[str, list[float]] = defaultdict(list)
    with _RESULTS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            rows[row["block"]].append(float(row["loss"]))
    return dict(rows)


def main() -> None:
    """Train every rung with three seeds and write ``gpt_to_llama.csv``."""
    from datetime import date

    with _RESULTS.open("w", encoding="utf-8", newline="") as file:
        file.write(
            "# Loss in nats a character, unseen Shakespeare, positions 33-64. Made by\n"
            "# python -m companion.analysis.gpt_to_llama: 2 layers, width 64, 4 heads,\n"
            f"# {STEPS} steps, batch 32, seeds 0-2,\n"
            f"# {device().type}, torch {torch.__version__}, {date.today()}\n"
        )
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["block", "seed", "parameters", "loss"])
        for name, parts in LADDER.items():
            count = sum(p.numel() for p in SmallLM(parts).parameters())
            for seed in SEEDS:
                loss = trained_loss(name, seed)
                table.writerow([name, seed, count, f"{loss:.4f}"])
                file.flush()
                print(
                    f"{name:>18} {seed}: {loss:.4f} ({count:,} parameters)", flush=True
                )


if __name__ == "__main__":
    main()
