"""Learning rates: where they start, peak and end, and that they survive a restart."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from companion.training import (
    CosineWithWarmup,
    TransformerLRScheduler,
    cosine_lr,
    transformer_lr,
)

SCHEDULERS: dict[str, Callable[[Optimizer], LRScheduler]] = {
    "transformer": lambda optimizer: TransformerLRScheduler(optimizer, 16, 4),
    "cosine": lambda optimizer: CosineWithWarmup(optimizer, 3, 9),
}


def make_optimizer(*lrs: float) -> Optimizer:
    groups = [{"params": nn.Linear(2, 2).parameters(), "lr": lr} for lr in lrs]
    return SGD(groups)


def rates(optimizer: Optimizer, scheduler: LRScheduler, steps: int) -> list[float]:
    """The rates that the next ``steps`` updates have."""
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_the_paper_peaks_at_the_end_of_warm_up() -> None:
    """The base model: 512 wide, 4000 steps; the peak is 1 / sqrt(512 * 4000)."""
    around = [transformer_lr(step, 512) for step in range(3990, 4011)]
    assert max(around) == around[10] == pytest.approx(6.987712e-4, rel=1e-6)
    assert transformer_lr(1, 512) == pytest.approx(around[10] / 4000)
    assert transformer_lr(16000, 512) == pytest.approx(around[10] / 2)
    assert transformer_lr(7, 512, factor=2) == 2 * transformer_lr(7, 512)


def test_the_cosine_starts_peaks_and_ends() -> None:
    lr = [cosine_lr(step, 2.0, 10, 110, 0.1) for step in range(1, 200)]
    assert lr[0] == pytest.approx(0.2)
    assert max(lr) == lr[9] == 2.0
    assert lr[59] == pytest.approx(1.1)  # half-way down: half-way between the two
    assert lr[109:] == pytest.approx([0.2] * 90)
    assert cosine_lr(1, 2.0, 0, 100) > cosine_lr(2, 2.0, 0, 100)  # no warm-up


def test_the_scheduler_gives_the_formula_from_the_first_update_on() -> None:
    optimizer = make_optimizer(123.0)  # of no account
    scheduler = TransformerLRScheduler(optimizer, 16, 4, 0.5)
    assert isinstance(scheduler, LRScheduler)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = rates(optimizer, scheduler, 9)
    assert seen == [transformer_lr(step, 16, 4, 0.5) for step in range(1, 10)]
    assert scheduler.get_last_lr() == [transformer_lr(10, 16, 4, 0.5)]


def test_parameter_groups() -> None:
    """The formula is one rate for all; the cosine scales each group's own."""
    optimizer = make_optimizer(1.0, 0.1)
    assert (
        TransformerLRScheduler(optimizer, 16).get_last_lr()
        == [transformer_lr(1, 16)] * 2
    )
    optimizer = make_optimizer(1.0, 0.1)
    assert CosineWithWarmup(optimizer, 4, 10).get_last_lr() == [0.25, 0.025]


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("optimizer_first", [True, False])
def test_a_saved_schedule_goes_on(name: str, optimizer_first: bool, tmp_path) -> None:
    optimizer = make_optimizer(1.0)
    scheduler = SCHEDULERS[name](optimizer)
    rates(optimizer, scheduler, 5)
    saved = tmp_path / "state.pt"
    torch.save((optimizer.state_dict(), scheduler.state_dict()), saved)
    expected = rates(optimizer, scheduler, 6)

    optimizer = make_optimizer(1.0)
    scheduler = SCHEDULERS[name](optimizer)
    for_optimizer, for_scheduler = torch.load(saved, weights_only=True)
    if optimizer_first:
        optimizer.load_state_dict(for_optimizer)
    scheduler.load_state_dict(for_scheduler)  # enough by itself
    assert rates(optimizer, scheduler, 6) == expected


def test_a_rate_that_is_a_tensor_is_changed_in_place() -> None:
    optimizer = make_optimizer(1.0)
    optimizer.param_groups[0]["lr"] = lr = torch.tensor(1.0)
    scheduler = CosineWithWarmup(optimizer, 4, 10)
    rates(optimizer, scheduler, 1)
    state = scheduler.state_dict()
    assert lr.item() == 0.5
    lr.fill_(7.0)
    scheduler.load_state_dict(state)
    assert optimizer.param_groups[0]["lr"] is lr
    assert lr.item() == 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: transformer_lr(0, 16), "step must be at least 1, but it is 0"),
        (lambda: transformer_lr(1, 0), "d_model must be at least 1"),
        (lambda: transformer_lr(1, 16, 0), "warmup_steps must be at least 1"),
        (lambda: transformer_lr(1, 16, factor=0), "factor must be positive"),
        (lambda: cosine_lr(0, 1.0, 1, 2), "step must be at least 1"),
        (lambda: cosine_lr(1, 1.0, 5, 5), "less than total_steps, which is 5"),
        (lambda: cosine_lr(1, 1.0, -1, 5), "warmup_steps must be at least 0"),
        (lambda: cosine_lr(1, 1.0, 1, 5, 1.5), "min_lr_ratio must be in"),
        (
            lambda: TransformerLRScheduler(make_optimizer(1.0), 16, -3),
            "warmup_steps must be at least 1, but it is -3",
        ),
    ],
)
def test_what_is_out_of_range_is_refused(call: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
