"""One update of our Transformer against one of `nn.Transformer`, of the same shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

import companion
from companion.analysis.torch_translator import TorchTranslator
from companion.models.transformer import Transformer
from companion.training import translation_loss
from tests.benchmarks.side_by_side import Pair, Work

# vocabulary, width, heads, layers on each side, sentences, tokens in one
SIZES = ((1500, 96, 4, 2, 96, 8), (4000, 256, 8, 3, 16, 48))


def pairs(
    sizes: Sequence[tuple[int, ...]] = SIZES, dropout: float = 0.1
) -> Iterator[Pair]:
    """Short sentences in a small model, longer ones in a wider one."""
    device = companion.device()
    for vocab_size, d_model, heads, layers, batch, length in sizes:
        shape = (d_model, heads, 4 * d_model, layers)
        ours = Transformer(
            vocab_size,
            vocab_size,
            *shape,
            layers,
            128,
            dropout,
            shared_vocabulary=True,
            tied_output=True,
            final_norm=True,
        )
        theirs = TorchTranslator(vocab_size, *shape, 128, dropout)
        theirs.load_ours(ours)
        ids = [torch.randint(1, vocab_size, (batch, length)).to(device) for _ in "st"]
        ids[0][::2, -length // 4 :] = 0  # padding
        yield Pair(
            work=f"update, {batch} x {length} tokens, width {d_model}, "
            f"{layers} + {layers} layers",
            ours=("Transformer", _update(ours.to(device).train(), tuple(ids))),
            reference=(
                "nn.Transformer",
                _update(theirs.to(device).train(), tuple(ids)),
            ),
        )


def _update(model: nn.Module, batch: tuple) -> Work:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss, tokens = translation_loss(model, batch, smoothing=0.1)
        (loss / tokens).backward()
        optimizer.step()
        return loss.detach() / tokens

    return step
