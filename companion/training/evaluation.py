"""The loss of a model on batches, in one of three precisions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from companion.training.checkpoints import rng_state, set_rng_state

# (model, batch) -> the sum of the loss, and over how many tokens it is a sum.
Loss = Callable[[nn.Module, Any], tuple[Tensor, Tensor | int]]

Precision = Literal["fp32", "bf16", "fp16"]
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def evaluate(
    model: nn.Module,
    batches: Iterable[Any],
    loss: Loss,
    *,
    precision: Precision = "fp32",
) -> float:
    """The mean loss per token over all of ``batches``, without dropout or gradients.

    Every token counts alike, whatever the size of its batch. The model's mode and the
    random generators are left as they were, so that measuring does not change a run.

    Raises:
        ValueError: there are no batches, or no tokens in them.
    """
    was_training, rng = model.training, rng_state()
    model.eval()
    loss_sum, num_tokens = 0.0, 0
    with torch.no_grad():
        for batch in batches:
            more_loss, more_tokens = sum_of_loss(loss, model, batch, precision)
            loss_sum, num_tokens = loss_sum + more_loss, num_tokens + more_tokens
    model.train(was_training)
    set_rng_state(rng)
    if num_tokens == 0:
        raise ValueError("batches must hold at least one token, but they hold none")
    return (loss_sum / num_tokens).item()


def sum_of_loss(
    loss: Loss, model: nn.Module, batch: Any, precision: Precision
) -> tuple[Tensor, Tensor]:
    """``loss(model, batch)`` where the model is, with matrix products in ``precision``.

    Raises:
        TypeError: ``loss`` does not give a sum and a number of tokens.
    """
    device = next(model.parameters()).device
    with torch.autocast(device.type, HALF.get(precision), enabled=precision != "fp32"):
        result = loss(model, to_device(batch, device))
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(
            "loss must give a tuple (sum of the loss, number of tokens), but it gives "
            f"a {type(result).__name__}"
        )
    return result[0], torch.as_tensor(result[1], device=device)


def to_device(batch: Any, device: torch.device) -> Any:
    """A copy of ``batch``, a nest of tuples, lists and dicts, with its tensors moved."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {key: to_device(item, device) for key, item in batch.items()}
    if isinstance(batch, tuple | list):
        moved = [to_device(item, device) for item in batch]
        # A named tuple takes its fields one by one.
        return type(batch)(*moved) if hasattr(batch, "_fields") else type(batch)(moved)
    return batch
