"""Runs of ``companion.training.lm`` in processes of their own, alone or under ``torchrun``."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def train(
    options: Sequence[str], out: Path, strategy: str = "single", processes: int = 1
) -> list[float]:
    """Run the command to its end on the CPU; the loss of each update.

    Args:
        options: of the command, without those that follow.
        out: folder of the run.
        strategy: ``"single"``, which is started without ``torchrun``, ``"ddp"`` or
            ``"fsdp"``.
        processes: that share the work, one thread each.

    Raises:
        RuntimeError: the run failed; the message is what it said.
    """
    command = [sys.executable, "-m"]
    if strategy != "single":
        command += ["torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(processes), "-m"]
    command += ["companion.training.lm", "--strategy", strategy, "--out", str(out)]
    finished = subprocess.run(
        [*command, *options],
        env=os.environ | {"OMP_NUM_THREADS": "1", "COMPANION_DEVICE": "cpu"},
        capture_output=True,
        text=True,
    )
    if finished.returncode:
        raise RuntimeError(finished.stdout + finished.stderr)
    with (Path(out) / "history.csv").open(encoding="utf-8") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]
