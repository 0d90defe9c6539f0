"""Losses, schedules and the loop against PyTorch's and Hugging Face's own."""

from __future__ import annotations

import itertools
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from companion import padding_mask
from companion.training import (
    CosineWithWarmup,
    TokenBatches,
    Trainer,
    TransformerLRScheduler,
    collate_pairs,
    cosine_lr,
    label_smoothed_cross_entropy,
    train_transformer,
    translation_loss,
)
from tests.training_cases import SmallTranslator, reversals

BOUNDS = {torch.float64: 1e-12, torch.float32: 5e-6}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", BOUNDS)
def test_label_smoothing(parity_record, dtype, reduction) -> None:
    """Values and gradients, with padding inside and outside the vocabulary."""
    torch.manual_seed(0)
    logits = torch.randn(4, 6, 9, dtype=dtype, requires_grad=True)
    differences = []
    for smoothing, pad_id in itertools.product([0.0, 0.1, 0.7], [0, 3, -100]):
        target = torch.randint(0, 9, (4, 6))
        target[1, 3:] = target[3] = pad_id
        ours = label_smoothed_cross_entropy(
            logits, target, smoothing, pad_id=pad_id, reduction=reduction
        )
        theirs = F.cross_entropy(
            logits.flatten(0, 1),
            target.flatten(),
            ignore_index=pad_id,
            label_smoothing=smoothing,
            reduction=reduction,
        )
        # Squared, so that each position of "none" has a gradient of its own.
        (gradient,) = torch.autograd.grad(ours.square().sum(), logits)
        (expected,) = torch.autograd.grad(theirs.square().sum(), logits)
        for a, b in ((ours.flatten(), theirs.flatten()), (gradient, expected)):
            differences.append(((a - b).abs().max() / b.abs().max()).item())
    parity_record(
        f"label_smoothed_cross_entropy, {reduction}, {dtype}",
        "F.cross_entropy",
        max(differences),
        BOUNDS[dtype],
    )


def rates(optimizer: Optimizer, scheduler: LRScheduler, steps: int) -> list[float]:
    """The rates of the next ``steps`` updates."""
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def relative(ours: list[float], theirs: list[float]) -> float:
    return max(
        abs(a - b) / max(abs(b), 1e-9) for a, b in zip(ours, theirs, strict=True)
    )


def make_optimizer(lr: float) -> Optimizer:
    return SGD(nn.Linear(2, 2).parameters(), lr=lr)


@pytest.mark.parametrize(("d_model", "warmup"), [(512, 4000), (8, 1), (100, 37)])
def test_transformer_schedule(parity_record, d_model: int, warmup: int) -> None:
    """The formula in its two pieces, and as a factor for `LambdaLR`."""
    optimizer = make_optimizer(0.0)
    ours = rates(optimizer, TransformerLRScheduler(optimizer, d_model, warmup), 5000)
    pieces = [
        (n / (warmup * math.sqrt(warmup)) if n < warmup else 1 / math.sqrt(n))
        / math.sqrt(d_model)
        for n in range(1, 5001)
    ]
    parity_record("TransformerLRScheduler", "formula", relative(ours, pieces), 1e-13)
    optimizer = make_optimizer(2.0 / math.sqrt(d_model))
    theirs = LambdaLR(
        optimizer, lambda done: min((done + 1) / warmup**1.5, (done + 1) ** -0.5) / 2
    )
    difference = relative(ours, rates(optimizer, theirs, 5000))
    parity_record("TransformerLRScheduler", "LambdaLR", difference, 1e-13)


@pytest.mark.parametrize(("warmup", "total"), [(0, 10), (7, 50), (100, 1000)])
@pytest.mark.parametrize("ratio", [0.0, 0.1])
def test_cosine_schedule(parity_record, warmup: int, total: int, ratio: float) -> None:
    """Hugging Face's is the same one update later."""
    transformers = pytest.importorskip("transformers")
    optimizer = make_optimizer(0.3)
    scheduler = CosineWithWarmup(optimizer, warmup, total, ratio)
    ours = rates(optimizer, scheduler, total)
    assert ours == [
        cosine_lr(n, 0.3, warmup, total, ratio) for n in range(1, total + 1)
    ]
    optimizer = make_optimizer(0.3)
    if ratio:
        make = partial(
            transformers.get_cosine_with_min_lr_schedule_with_warmup, min_lr_rate=ratio
        )
    else:
        make = transformers.get_cosine_schedule_with_warmup
    theirs = rates(optimizer, make(optimizer, warmup, total), total + 1)
    parity_record("CosineWithWarmup", "transformers", relative(ours, theirs[1:]), 1e-12)


@pytest.mark.parametrize("max_grad_norm", [None, 0.1])
def test_accumulation_is_one_large_batch(parity_record, max_grad_norm) -> None:
    """Four batches of unequal numbers of tokens, one of them with hardly any."""
    pairs = sorted(reversals(30), key=lambda pair: len(pair[0]))
    parts = [pairs[:1], pairs[1:3], pairs[3:12], pairs[12:]]

    def weights_after(batches: list, accumulate: int) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = SmallTranslator(dropout=0.0).double()
        trainer = Trainer(
            model=model,
            optimizer=Adam(model.parameters(), lr=0.01),
            batches=batches,
            loss=partial(translation_loss, smoothing=0.1),
            accumulate=accumulate,
            max_grad_norm=max_grad_norm,
            progress=False,
        )
        history = trainer.run(num_steps=3)
        numbers = [row[key] for row in history for key in ("loss", "grad_norm")]
        return [torch.tensor(numbers, dtype=torch.float64), *model.parameters()]

    small = weights_after([collate_pairs(part) for part in parts], 4)
    large = weights_after([collate_pairs(pairs)], 1)
    difference = max(
        (a - b).abs().max().item() for a, b in zip(small, large, strict=True)
    )
    parity_record("Trainer, 4 batches an update", "one batch", difference, 1e-9)


@pytest.mark.parametrize("dtype", BOUNDS)
def test_the_loop_is_the_plain_loop(parity_record, dtype) -> None:
    """`train_transformer` against its steps written out with PyTorch's own parts."""
    batches = TokenBatches(reversals(60), 60, seed=5)
    torch.manual_seed(0)
    ours = SmallTranslator(d_model=8).to(dtype)  # with dropout
    history = train_transformer(ours, batches, 3, warmup_steps=10, progress=False)

    torch.manual_seed(0)
    model = SmallTranslator(d_model=8).to(dtype)
    optimizer = Adam(model.parameters(), lr=8**-0.5, betas=(0.9, 0.98), eps=1e-9)
    scheduler = LambdaLR(
        optimizer, lambda done: min((done + 1) ** -0.5, (done + 1) * 10**-1.5)
    )
    criterion = nn.CrossEntropyLoss(ignore_index=0, label_smoothing=0.1)
    model.train()
    losses, norms = [], []
    for epoch in range(3):
        batches.set_epoch(epoch)
        for source, target in batches:
            logits = model(source, target[:, :-1], padding_mask(source))
            loss = criterion(logits.flatten(0, 1), target[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            norms.append(clip_grad_norm_(model.parameters(), 1.0).item())
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
    assert len(losses) == len(history) > 20
    differences = [abs(r["loss"] - b) for r, b in zip(history, losses, strict=True)]
    differences += [
        abs(r["grad_norm"] - b) for r, b in zip(history, norms, strict=True)
    ]
    differences += [
        (a - b).abs().max().item()
        for a, b in zip(ours.parameters(), model.parameters(), strict=True)
    ]
    parity_record(
        f"train_transformer, losses, norms, weights, {dtype}",
        "plain loop",
        max(differences),
        BOUNDS[dtype],
    )
