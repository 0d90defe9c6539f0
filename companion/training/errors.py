"""The error that stops a run when a number is no longer finite."""

from __future__ import annotations

from pathlib import Path

# One update: step, epoch, loss, lr, grad_norm, tokens; validation_loss where measured.
Row = dict[str, int | float]


class TrainingError(RuntimeError):
    """Training cannot go on: a loss, a gradient or a weight is not a finite number.

    Args:
        what: is not finite.
        row: of the update that failed.
        history: the rows of the updates before it.
        checkpoint: the last good one, if there is one.
    """

    def __init__(
        self, what: str, row: Row, history: list[Row], checkpoint: Path | None
    ) -> None:
        self.row = row
        self.checkpoint = checkpoint
        message = (
            f"{what} is not a finite number at step {row['step']}: {_numbers(row)}"
        )
        before = [earlier for earlier in history if earlier["step"] < row["step"]]
        if before:
            message += f"; the step before had {_numbers(before[-1])}"
        if checkpoint is not None:
            message += f"; the last good checkpoint is {checkpoint}"
        super().__init__(message)


def _numbers(row: Row) -> str:
    names = {
        "loss": "loss",
        "validation_loss": "validation loss",
        "lr": "learning rate",
        "grad_norm": "gradient norm",
    }
    return ", ".join(f"{names[key]} {row[key]:.4g}" for key in names if key in row)
