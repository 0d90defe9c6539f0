"""The loss of a language model in the loop: every token from those before it."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


def next_token_loss(
    model: nn.Module, windows: Int[Tensor, "batch length_and_one"]
) -> tuple[Float[Tensor, ""], int]:
    """The *sum* of cross-entropies in nats, and the number of tokens in it.

    Args:
        model: gives logits ``(batch, length, vocab)``.
        windows: all but the last token are read, all but the first foretold.
    """
    logits = model(windows[:, :-1])  # (B, L, V)
    wants = windows[:, 1:]
    loss = F.cross_entropy(logits.flatten(0, 1), wants.flatten(), reduction="sum")
    return loss, wants.numel()
