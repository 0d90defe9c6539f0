"""The hyper-parameters of "Attention Is All You Need" for the loop.

Source: Vaswani et al. (2017), sections 5.1, 5.3 and 5.4.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from torch import nn
from torch.optim import Adam

from companion.runtime import device
from companion.training.batching import PairBatch
from companion.training.loop import Row, Trainer
from companion.training.losses import translation_loss
from companion.training.schedules import TransformerLRScheduler


def train_transformer(
    model: nn.Module,
    train_loader: Iterable[PairBatch],
    num_epochs: int | None = None,
    d_model: int | None = None,
    warmup_steps: int = 4000,
    max_grad_norm: float | None = 1.0,
    label_smoothing: float = 0.1,
    *,
    num_steps: int | None = None,
    lr_factor: float = 1.0,
    pad_id: int | None = None,
    **options: Any,
) -> list[Row]:
    """Train a sequence-to-sequence model as the paper does.

    Adam with beta_1 = 0.9, beta_2 = 0.98 and epsilon = 1e-9; `TransformerLRScheduler`;
    label smoothing. The paper trains its base model for 100,000 steps and its big one
    for 300,000, on batches of about 25,000 source and 25,000 target tokens. It does not
    mention clipping, which is done here at a norm of 1.

    The validation loss is measured without label smoothing, so that `perplexity` of it
    is a perplexity.

    Args:
        model: called as ``model(source_ids, target_ids, source_mask=...)``; it is moved
            to `companion.device()` and left in evaluation mode.
        train_loader: pairs of source and target tokens, such as `TokenBatches`; targets
            begin with a start token.
        num_epochs: how often to go over the data; give this or ``num_steps``.
        d_model: width of the model, for the schedule; by default ``model.d_model``.
        warmup_steps: updates until the learning rate's peak.
        max_grad_norm: the norm at which gradients are clipped, None for no clipping.
        label_smoothing: of `label_smoothed_cross_entropy`.
        num_steps: number of updates, in place of ``num_epochs``.
        lr_factor: multiplies the learning rate.
        pad_id: the padding token; by default ``train_loader.pad_id``, else 0.
        options: of `Trainer`: ``validation``, ``checkpoints``, ``resume`` and so on.

    Returns:
        The history, a row for each update: see `Trainer`.

    Raises:
        TypeError, ValueError, TrainingError: as `Trainer` does.
    """
    d_model = getattr(model, "d_model", None) if d_model is None else d_model
    if d_model is None:
        raise ValueError(
            f"d_model must be given, because this {type(model).__name__} does not have "
            "the attribute d_model"
        )
    if pad_id is None:
        pad_id = getattr(train_loader, "pad_id", 0)
    model = model.to(device())
    # The schedule replaces this learning rate before the first update.
    optimizer = Adam(model.parameters(), lr=0.0, betas=(0.9, 0.98), eps=1e-9)
    trainer = Trainer(
        model=model,
        optimizer=optimizer,
        batches=train_loader,
        loss=partial(translation_loss, smoothing=label_smoothing, pad_id=pad_id),
        scheduler=TransformerLRScheduler(optimizer, d_model, warmup_steps, lr_factor),
        max_grad_norm=max_grad_norm,
        validation_loss=partial(translation_loss, pad_id=pad_id),
        **options,
    )
    return trainer.run(num_epochs=num_epochs, num_steps=num_steps)
