"""The training loop, for any model."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm.auto import tqdm

from companion.training.checkpoints import (
    Checkpoints,
    load_weights,
    rng_state,
    set_rng_state,
)
from companion.training.errors import Row, TrainingError
from companion.training.evaluation import (
    HALF,
    Loss,
    Precision,
    evaluate,
    sum_of_loss,
)
from companion.training.parallel import OneProcess, whole

# Where a run is, beside its history.
_POSITION = ("step", "_epoch", "_batch", "_best", "_since_best")


@dataclass(kw_only=True, eq=False)
class Trainer:
    """Trains a model, and can go on exactly where a killed run stopped.

    ``loss(model, batch)`` gives the *sum* of a loss and the number of tokens in it.
    An update divides by that number, over all batches that belong to the update: with
    ``accumulate=4``, four batches make the same update as one batch of all their pairs.

    The model is trained on the device that it is on. A batch is a tensor, or a tuple,
    list or dict of tensors, and is moved there.

    Args:
        model: to train. `run` leaves it in evaluation mode.
        optimizer: of the model's parameters.
        batches: the batches of one epoch; iterated once an epoch, after a call of
            ``batches.set_epoch(epoch)`` where it has that method. A list, `TokenBatches`
            or a ``DataLoader``.
        loss: as above.
        scheduler: stepped once after each update.
        max_grad_norm: gradients with a larger norm are scaled down to it; None for no
            clipping.
        accumulate: batches that make one update; fewer at the end of an epoch.
        precision: ``"fp32"``, or ``"bf16"`` or ``"fp16"`` for mixed precision. fp16
            comes with loss scaling: an update whose gradients overflow is left out,
            and counts as no step.
        compile: whether the model runs through ``torch.compile``, which takes a minute
            or more before the first update and pays in long runs.
        validation: batches to measure the loss on.
        validation_loss: by default ``loss``.
        evaluate_every: updates between two measurements on ``validation``.
        patience: stop after so many measurements without a new lowest loss.
        checkpoints: where to save, once every ``checkpoint_every`` updates, and at the
            end. A new lowest validation loss goes to ``checkpoints.best``.
        checkpoint_every: updates between two checkpoints.
        resume: go on from the newest checkpoint, if there is one. A run that was
            killed and resumed gives the same numbers as one that was not, to the last
            bit on a CPU.
        progress: whether to show a progress bar; of several processes, the first has it.
        parallel: who else takes part, as `companion.training.parallel.start` gives it.
            ``batches`` are then those of this process, as many as every other's, and
            ``loss`` calls the model itself.

    Attributes:
        history: a row for each update: ``step`` (from 1), ``epoch`` (from 0), ``loss``
            (mean per token, before the update), ``lr``, ``grad_norm`` (before clipping)
            and ``tokens``; also ``validation_loss`` where it was measured.
        step: number of updates done.

    Raises:
        TypeError: ``batches`` or ``validation`` can be iterated only once.
        ValueError: an option is out of range, or lacks another that it needs; or
            ``checkpoints`` holds another run's and ``resume`` is False.
    """

    model: nn.Module
    optimizer: Optimizer
    batches: Iterable[Any]
    loss: Loss
    scheduler: LRScheduler | None = None
    max_grad_norm: float | None = 1.0
    accumulate: int = 1
    precision: Precision = "fp32"
    compile: bool = False
    validation: Iterable[Any] | None = None
    validation_loss: Loss | None = None
    evaluate_every: int | None = None
    patience: int | None = None
    checkpoints: Checkpoints | None = None
    checkpoint_every: int = 1000
    resume: bool = False
    progress: bool = True
    parallel: OneProcess = field(default_factory=OneProcess)

    history: list[Row] = field(default_factory=list, init=False)
    step: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._check_options()
        self._called = self.parallel.wrap(self.model)
        if self.compile:
            self._called = torch.compile(self._called)
        self._scaler = torch.amp.GradScaler(
            next(self.model.parameters()).device.type, enabled=self.precision == "fp16"
        )
        self._epoch = 0
        self._batch = 0  # batches of this epoch that are done
        self._epoch_rng: dict[str, Any] | None = None  # the generators at its start
        self._best = math.inf
        self._since_best = 0
        self._seconds, self._tokens = 0.0, 0
        if self.checkpoints is not None:
            saved = self.checkpoints.load_latest() if self.resume else None
            if saved is not None:
                self._restore(saved)
            elif self.checkpoints.paths():
                raise ValueError(
                    f"{self.checkpoints.folder} holds the checkpoints of an earlier run; "
                    "go on with resume=True, or take an empty folder"
                )

    def run(
        self, *, num_steps: int | None = None, num_epochs: int | None = None
    ) -> list[Row]:
        """Train until there are ``num_steps`` updates, or ``num_epochs`` epochs, in all.

        Returns:
            The history.

        Raises:
            ValueError: not exactly one of the two is given, or there are no batches.
            TrainingError: a number is not finite; names the step, the learning rate and
                the gradient norm. Checkpoints hold what was good before.
        """
        if (num_steps is None) == (num_epochs is None):
            raise ValueError("give either num_steps or num_epochs")
        steps = math.inf if num_steps is None else num_steps
        epochs = math.inf if num_epochs is None else num_epochs
        self._called.train()
        with self._bar(num_steps, num_epochs) as bar:
            saved = self.step
            while self.step < steps and self._epoch < epochs and not self._stopped():
                for group in self._rest_of_epoch():
                    row = self._update(group)
                    if row is None:
                        continue
                    if self.evaluate_every and self.step % self.evaluate_every == 0:
                        self._measure(row)
                    if self.checkpoints and self.step % self.checkpoint_every == 0:
                        saved = self._save()
                    self._show(bar, row)
                    if self.step >= steps or self._stopped():
                        break
                else:
                    if self._batch == 0:
                        raise ValueError(
                            f"batches gave no batch in epoch {self._epoch}"
                        )
                    self._epoch, self._batch, self._epoch_rng = self._epoch + 1, 0, None
            if self.checkpoints and self.step > saved:
                self._save()
        self._called.eval()
        return self.history

    def _stopped(self) -> bool:
        return self.patience is not None and self._since_best >= self.patience

    def _rest_of_epoch(self) -> Iterator[list[Any]]:
        """The batches of this epoch that are still to come, grouped into updates."""
        if hasattr(self.batches, "set_epoch"):
            self.batches.set_epoch(self._epoch)
        if self._epoch_rng is None:
            self._epoch_rng = rng_state()
        # A loader that shuffles draws its order from PyTorch's generator. To see the
        # same order again, begin where the epoch began, then come back to where we are.
        now = rng_state()
        set_rng_state(self._epoch_rng)
        batches = iter(self.batches)
        if self._batch:
            passed = sum(1 for _ in islice(batches, self._batch))
            if passed < self._batch:
                raise ValueError(
                    f"batches gives {passed} batches in epoch {self._epoch}, but "
                    f"{self._batch} were done before: these are not the same data"
                )
            set_rng_state(now)
        while group := list(islice(batches, self.accumulate)):
            self._batch += len(group)
            yield group

    def _update(self, group: list[Any]) -> Row | None:
        """One update of the weights; None where fp16 overflowed and there is none."""
        started = time.perf_counter()
        self.optimizer.zero_grad()
        loss_sum, num_tokens, divisor = 0.0, 0, None
        for number, batch in enumerate(group, 1):
            last = number == len(group)
            with self.parallel.micro_batch(self._called, last=last):
                loss, tokens = sum_of_loss(
                    self.loss, self._called, batch, self.precision
                )
                # All gradients are to be divided by the number of tokens in the update,
                # which is known at the end. Dividing by the first batch's number keeps
                # them in fp16's range until then. Processes average their gradients,
                # so it is the mean number over them.
                tokens = self.parallel.total(tokens)
                if divisor is None:
                    divisor = tokens.clamp(min=1) / self.parallel.world_size
                self._scaler.scale(loss / divisor).backward()
            loss_sum, num_tokens = loss_sum + loss.detach(), num_tokens + tokens
        loss_sum = self.parallel.total(loss_sum)
        self._scaler.unscale_(self.optimizer)
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        if len(group) > 1:
            wanted = float(num_tokens.clamp(min=1)) / self.parallel.world_size
            for p in parameters:
                p.grad.mul_(float(divisor)).div_(wanted)
        limit = math.inf if self.max_grad_norm is None else self.max_grad_norm
        row = {
            "step": self.step + 1,
            "epoch": self._epoch,
            "loss": (loss_sum / num_tokens.clamp(min=1)).item(),
            "lr": float(self.optimizer.param_groups[0]["lr"]),
            "grad_norm": whole(clip_grad_norm_(parameters, limit)).item(),
            "tokens": int(num_tokens),
        }
        if not (math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"])):
            # Loss scaling looks for the largest scale by overflowing now and then.
            overflow = self._scaler.is_enabled() and math.isfinite(row["loss"])
            if not overflow or self._scaler.get_scale() < 1:
                raise self._error("the loss or its gradient", row)
            self._scaler.update()
            return None
        self._scaler.step(self.optimizer)
        self._scaler.update()
        if self.scheduler is not None:
            self.scheduler.step()
        self.step += 1
        self.history.append(row)
        self._tokens += row["tokens"]
        self._seconds += time.perf_counter() - started
        return row

    def _measure(self, row: Row) -> None:
        """Measure the validation loss into ``row``."""
        row["validation_loss"] = loss = evaluate(
            self._called,
            self.validation,
            self.validation_loss or self.loss,
            precision=self.precision,
        )
        if not math.isfinite(loss):
            raise self._error("the validation loss", row)
        self._since_best = 0 if loss < self._best else self._since_best + 1
        self._best = min(self._best, loss)
        if self.checkpoints and self._since_best == 0:
            self.parallel.save(self.checkpoints.save_best, self._state())

    def _bar(self, num_steps: int | None, num_epochs: int | None) -> tqdm:
        total = num_steps
        if num_epochs is not None and hasattr(self.batches, "__len__"):
            total = num_epochs * math.ceil(len(self.batches) / self.accumulate)
        return tqdm(
            total=total,
            initial=self.step,
            unit="step",
            disable=not self.progress or self.parallel.rank > 0,
        )

    def _show(self, bar: tqdm, row: Row) -> None:
        bar.set_postfix(
            loss=f"{row['loss']:.3f}",
            lr=f"{row['lr']:.1e}",
            speed=f"{self._tokens / self._seconds:,.0f} tokens/s",
            refresh=False,
        )
        bar.update()

    def _state(self) -> dict[str, Any]:
        """All that the rest of the run depends on."""
        return {
            "model": self.model.state_dict(),
            "kinds": self._kinds(),
            **{kind: part.state_dict() for kind, part in self._parts().items()},
            "rng": rng_state(),
            "epoch_rng": self._epoch_rng,
            "position": {name: getattr(self, name) for name in _POSITION},
            "history": self.history,
        }

    def _parts(self) -> dict[str, Any]:
        """What has a state beside the model."""
        parts = {"optimizer": self.optimizer, "scaler": self._scaler}
        return parts | ({"scheduler": self.scheduler} if self.scheduler else {})

    def _kinds(self) -> dict[str, str]:
        kinds = {kind: type(part).__name__ for kind, part in self._parts().items()}
        return kinds | {"precision": self.precision}

    def _save(self) -> int:
        """Save a checkpoint of this step, if the weights are good; returns the step."""
        if not all(whole(p.isfinite().all()) for p in self.model.parameters()):
            raise self._error("a weight after the update", self.history[-1])
        self.parallel.save(self.checkpoints.save, self._state(), self.step)
        return self.step

    def _restore(self, state: dict[str, Any]) -> None:
        if state["kinds"] != self._kinds():
            raise ValueError(
                f"the checkpoint was saved with {state['kinds']}, but this run has "
                f"{self._kinds()}"
            )
        load_weights(self.model, state)
        for kind, part in self._parts().items():
            part.load_state_dict(state[kind])
        for name, value in state["position"].items():
            setattr(self, name, value)
        self.history = state["history"]
        self._epoch_rng = state["epoch_rng"]
        set_rng_state(state["rng"])
        if self.parallel.world_size > 1:
            # One process's generators were saved. Each goes on with numbers of its own.
            torch.manual_seed(torch.initial_seed() + self.step + self.parallel.rank)

    def _error(self, what: str, row: Row) -> TrainingError:
        saved = self.checkpoints.paths() if self.checkpoints else []
        return TrainingError(what, row, self.history, saved[-1] if saved else None)

    def _check_options(self) -> None:
        for name in ("batches", "validation"):
            if isinstance(getattr(self, name), Iterator):
                raise TypeError(
                    f"{name} must be something that can be iterated once an epoch, such "
                    "as a list or TokenBatches, but it is an iterator, which ends"
                )
        for name in ("accumulate", "checkpoint_every", "evaluate_every", "patience"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name} must be at least 1, but it is {number}")
        if self.precision not in ("fp32", *HALF):
            raise ValueError(
                f"precision must be 'fp32', 'bf16' or 'fp16', but it is "
                f"{self.precision!r}"
            )
        if self.precision == "fp16" and self.parallel.world_size > 1:
            raise ValueError(
                "precision 'fp16' scales the loss, which several processes would have to "
                "agree on; with parallel it may be 'fp32' or 'bf16'"
            )
        if self.max_grad_norm is not None and self.max_grad_norm <= 0:
            raise ValueError(
                f"max_grad_norm must be positive or None, but it is {self.max_grad_norm}"
            )
        if (self.validation is None) != (self.evaluate_every is None):
            raise ValueError("validation and evaluate_every need each other")
        if self.patience is not None and self.validation is None:
            raise ValueError("patience needs validation and evaluate_every")
