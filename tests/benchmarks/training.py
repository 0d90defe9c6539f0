"""One update of our Transformer against one of `nn.Transformer`, of the same shapes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

import companion
from companion.analysis.torch_translator import TorchTranslator
from companion.models.transformer import Transformer
from companion.training import translation_loss
from tests.benchmarks.side_by_side import Row, compare


def _update(model: nn.Module, batch: tuple) -> Callable[[], None]:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        loss, tokens = translation_loss(model, batch, smoothing=0.1)
        (loss / tokens).backward()
        optimizer.step()

    return step


def rows() -> list[Row]:
    """Short sentences in a small model, longer ones in a wider one."""
    device = companion.device()
    table = []
    for vocab_size, d_model, heads, layers, batch, length in (
        (1500, 96, 4, 2, 96, 8),
        (4000, 256, 8, 3, 16, 48),
    ):
        sizes = (d_model, heads, 4 * d_model, layers)
        shared = {"shared_vocabulary": True, "tied_output": True}
        ours = Transformer(vocab_size, vocab_size, *sizes, layers, 128, **shared)
        theirs = TorchTranslator(vocab_size, *sizes, max_seq_len=128)
        ids = [torch.randint(1, vocab_size, (batch, length)).to(device) for _ in "st"]
        ids[0][::2, -length // 4 :] = 0  # padding
        table.append(
            compare(
                f"update, {batch} x {length} tokens, width {d_model}, "
                f"{layers} + {layers} layers",
                ("Transformer", _update(ours.to(device).train(), tuple(ids))),
                ("nn.Transformer", _update(theirs.to(device).train(), tuple(ids))),
            )
        )
    return table
