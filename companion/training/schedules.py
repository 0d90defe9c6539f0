"""Learning rates that warm up and then decay.

Sources: Vaswani et al. (2017), section 5.3, equation 3; Loshchilov and Hutter (2017),
"SGDR: Stochastic Gradient Descent with Warm Restarts", equation 5, for the cosine.

Steps are counted from 1: step ``n`` is the ``n``-th update of the weights. A schedule
that starts at step 0 has the rate 0 there, and its first update changes nothing.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


def transformer_lr(
    step: int, d_model: int, warmup_steps: int = 4000, factor: float = 1.0
) -> float:
    """The rate of update ``step``: linear up to ``warmup_steps``, then as 1 / sqrt(step).

        lr = factor * d_model^-0.5 * min(step^-0.5, step * warmup_steps^-1.5)

    Its peak, ``factor / sqrt(d_model * warmup_steps)``, is at ``step == warmup_steps``.

    Raises:
        ValueError: an argument is out of range; steps are counted from 1.
    """
    _at_least_one(step=step, d_model=d_model, warmup_steps=warmup_steps)
    if factor <= 0:
        raise ValueError(f"factor must be positive, but it is {factor}")
    return factor * d_model**-0.5 * min(step**-0.5, step * warmup_steps**-1.5)


def cosine_lr(
    step: int,
    peak_lr: float,
    warmup_steps: int,
    total_steps: int,
    min_lr_ratio: float = 0.1,
) -> float:
    """The rate of update ``step``: linear up to the peak, then half a cosine down.

    The peak is at ``step == warmup_steps``; ``min_lr_ratio * peak_lr`` is reached at
    ``step == total_steps`` and kept from there on.

    Raises:
        ValueError: an argument is out of range; steps are counted from 1.
    """
    _at_least_one(step=step, total_steps=total_steps)
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            f"warmup_steps must be at least 0 and less than total_steps, which is "
            f"{total_steps}, but it is {warmup_steps}"
        )
    if not 0 <= min_lr_ratio <= 1:
        raise ValueError(f"min_lr_ratio must be in [0, 1], but it is {min_lr_ratio}")
    if step < warmup_steps:
        return peak_lr * step / warmup_steps
    progress = min(1.0, (step - warmup_steps) / (total_steps - warmup_steps))
    cosine = 0.5 * (1 + math.cos(math.pi * progress))  # from 1 to 0
    return peak_lr * (min_lr_ratio + (1 - min_lr_ratio) * cosine)


class _ByStep(LRScheduler):
    """A scheduler whose rate is a function of the step and of the group's own rate."""

    def _lr_at(self, step: int, base_lr: float) -> float:
        raise NotImplementedError

    def get_lr(self) -> list[float]:
        # PyTorch's last_epoch is the number of updates done: 0 before the first one.
        return [self._lr_at(self.last_epoch + 1, base) for base in self.base_lrs]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state, and give the optimizer the rate that belongs to it.

        PyTorch's own leaves the optimizer's rate to the optimizer's state.
        """
        super().load_state_dict(state_dict)
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr


class TransformerLRScheduler(_ByStep):
    """The schedule of "Attention Is All You Need": `transformer_lr` at each update.

    The formula gives the rate itself, not a multiple of one: the ``lr`` that the
    optimizer was made with is not used, and all of its parameter groups get the same
    rate. Call `step` after each ``optimizer.step()``, as with any PyTorch scheduler;
    the rate of the first update is set when the scheduler is made.

    Args:
        optimizer: whose rate is set.
        d_model: width of the model; wider models learn more slowly.
        warmup_steps: updates until the peak; the paper takes 4000.
        factor: multiplies the rate.
        last_epoch: updates done before, -1 for none. To go on with a run, load the
            state instead.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        d_model: int,
        warmup_steps: int = 4000,
        factor: float = 1.0,
        last_epoch: int = -1,
    ) -> None:
        self.d_model = d_model
        self.warmup_steps = warmup_steps
        self.factor = factor
        super().__init__(optimizer, last_epoch)

    def _lr_at(self, step: int, base_lr: float) -> float:
        return transformer_lr(step, self.d_model, self.warmup_steps, self.factor)


class CosineWithWarmup(_ByStep):
    """`cosine_lr` at each update; the peak is the ``lr`` that the optimizer was made with.

    Each parameter group keeps its own peak. The cosine is that of Hugging Face's
    ``get_cosine_schedule_with_warmup``, one update earlier: theirs spends the first
    update at the rate 0.

    Args:
        optimizer: whose rate is set.
        warmup_steps: updates until the peak, 0 for none.
        total_steps: updates until the smallest rate.
        min_lr_ratio: the smallest rate, as a part of the peak.
        last_epoch: updates done before, -1 for none. To go on with a run, load the
            state instead.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: int,
        total_steps: int,
        min_lr_ratio: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.min_lr_ratio = min_lr_ratio
        super().__init__(optimizer, last_epoch)

    def _lr_at(self, step: int, base_lr: float) -> float:
        return cosine_lr(
            step, base_lr, self.warmup_steps, self.total_steps, self.min_lr_ratio
        )


def _at_least_one(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, but it is {number}")
