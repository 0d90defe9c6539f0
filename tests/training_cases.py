"""A small task, a small model and a run that the tests of training share.

``python -m tests.training_cases FOLDER LOADER [POINT:COUNT]`` does the run, with its
checkpoints in FOLDER, and prints a digest of its history and its weights. It is there to
be killed: by whoever reads the dot that it prints for each batch, or by itself when it
comes to POINT for the COUNT-th time.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pathlib
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from companion import seed_everything
from companion.training import (
    Checkpoints,
    CosineWithWarmup,
    TokenBatches,
    Trainer,
    collate_pairs,
    translation_loss,
)

PAD, START, END, VOCAB = 0, 1, 2, 12


def reversals(count: int, seed: int = 0) -> list[tuple[list[int], list[int]]]:
    """Pairs whose target is the source read backwards."""
    g = torch.Generator().manual_seed(seed)
    pairs = []
    for _ in range(count):
        length = int(torch.randint(1, 7, (1,), generator=g))
        source = torch.randint(3, VOCAB, (length,), generator=g).tolist()
        pairs.append((source, [START, *reversed(source), END]))
    return pairs


class SmallTranslator(nn.Module):
    """Knows the sum of the source's embeddings and the target token before; has dropout."""

    def __init__(self, d_model: int = 8, dropout: float = 0.2) -> None:
        super().__init__()
        self.d_model = d_model
        self.source = nn.Embedding(VOCAB, d_model)
        self.target = nn.Embedding(VOCAB, d_model)
        self.hidden = nn.Linear(d_model, d_model)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(d_model, VOCAB)

    def forward(
        self, source_ids: Tensor, target_ids: Tensor, source_mask: Tensor
    ) -> Tensor:
        real = source_mask[:, 0, 0, :, None]  # (B, S, 1)
        memory = (self.source(source_ids) * real).sum(dim=1, keepdim=True)  # (B, 1, D)
        x = self.hidden(memory + self.target(target_ids)).relu()  # (B, T, D)
        return self.output(self.dropout(x))


def small_trainer(**options: Any) -> Trainer:
    """A trainer of a new `SmallTranslator`, the same for the same options."""
    seed_everything(0)
    model = options.pop("model", None) or SmallTranslator()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    defaults = {
        "batches": TokenBatches(reversals(40), max_tokens=40),
        "loss": partial(translation_loss, smoothing=0.1),
        "scheduler": CosineWithWarmup(optimizer, 5, 60),
        "progress": False,
    }
    return Trainer(model=model, optimizer=optimizer, **(defaults | options))


LOADERS: dict[str, Callable[[], Any]] = {
    "by tokens": lambda: TokenBatches(reversals(40), max_tokens=40),
    "shuffled": lambda: DataLoader(
        reversals(40), 5, shuffle=True, collate_fn=collate_pairs
    ),
}


def killable_run(folder: str, loader: str) -> str:
    """25 updates over several epochs, with everything that a run can have."""

    def loss(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        print(".", flush=True)
        return translation_loss(model, batch, smoothing=0.1)

    trainer = small_trainer(
        batches=LOADERS[loader](),
        loss=loss,
        accumulate=2,
        validation=TokenBatches(reversals(10, seed=1), 40, shuffle=False),
        evaluate_every=4,
        patience=100,
        checkpoints=Checkpoints(folder, keep_last=2),
        checkpoint_every=3,
        resume=True,
    )
    trainer.run(num_steps=25)
    return digest(trainer)


def digest(trainer: Trainer) -> str:
    """The same for two runs only when every bit of their numbers is."""
    sums = hashlib.sha256(json.dumps(trainer.history).encode())
    for name, tensor in sorted(trainer.model.state_dict().items()):
        sums.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return sums.hexdigest()


def _kill_self() -> None:
    # Windows has no SIGKILL; there, os.kill ends the process at once for any signal.
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def _kill_at(point: str, count: int) -> None:
    """Arrange for this process to kill itself at a point of writing a checkpoint."""
    owner, name = {
        "half written": (torch, "save"),
        "not renamed": (os, "replace"),
        "renamed": (os, "replace"),
        "not deleted": (pathlib.Path, "unlink"),
    }[point]
    real, calls = getattr(owner, name), 0

    def patched(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            if point == "half written":
                state, file = args
                buffer = io.BytesIO()
                real(state, buffer)
                file.write(buffer.getvalue()[: buffer.tell() // 2])
                file.flush()
            elif point == "renamed":
                real(*args, **kwargs)
            _kill_self()
        return real(*args, **kwargs)

    setattr(owner, name, patched)


if __name__ == "__main__":
    folder, loader, *kill = sys.argv[1:]
    if kill:
        point, _, count = kill[0].partition(":")
        _kill_at(point, int(count))
    print(killable_run(folder, loader))
