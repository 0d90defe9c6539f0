"""A run goes on after its checkpoint to the last bit, also when it was killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from torch.optim import SGD

from companion.training import Checkpoints, Trainer, translation_loss
from tests.training_cases import (
    LOADERS,
    SmallTranslator,
    digest,
    killable_run,
    small_trainer,
)


class Killed(Exception):
    """Stands for the kill where a whole new process would take too long."""


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_run_stopped_after_any_batch_goes_on_exactly(
    loader: str, accumulate: int, tmp_path
) -> None:
    def new_trainer(folder: str, stop_at: int | None = None) -> Trainer:
        def loss(model: nn.Module, batch: Any) -> Any:
            seen[folder] = seen.get(folder, 0) + 1
            if seen[folder] == stop_at:
                raise Killed
            return translation_loss(model, batch, smoothing=0.1)

        return small_trainer(
            batches=LOADERS[loader](),
            loss=loss,
            accumulate=accumulate,
            checkpoints=Checkpoints(tmp_path / folder),
            checkpoint_every=2,
            resume=True,
        )

    seen: dict[str, int] = {}
    whole = new_trainer("whole")
    whole.run(num_steps=12)
    for stop in range(1, seen["whole"] + 1, accumulate):
        with pytest.raises(Killed):
            new_trainer(f"{stop}", stop).run(num_steps=12)
        resumed = new_trainer(f"{stop}")
        # The last update of an epoch may have fewer batches: there may be more steps.
        assert resumed.step >= (stop - 1) // accumulate // 2 * 2
        resumed.run(num_steps=12)
        assert resumed.history == whole.history
        assert digest(resumed) == digest(whole)


def test_a_run_goes_on_after_a_damaged_checkpoint(tmp_path) -> None:
    options = {"checkpoint_every": 2, "resume": True}
    whole = small_trainer(checkpoints=Checkpoints(tmp_path / "a"), **options)
    whole.run(num_steps=12)
    checkpoints = Checkpoints(tmp_path / "b")
    small_trainer(checkpoints=checkpoints, **options).run(num_steps=8)
    newest = checkpoints.paths()[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.warns(UserWarning, match=r"step-00000008.pt"):
        resumed = small_trainer(checkpoints=checkpoints, **options)
    assert resumed.step == 6
    resumed.run(num_steps=12)
    assert digest(resumed) == digest(whole)


def test_a_finished_run_is_not_run_again(tmp_path) -> None:
    options = {"checkpoints": Checkpoints(tmp_path), "resume": True}
    first = small_trainer(**options)
    first.run(num_steps=5)
    again = small_trainer(**options)
    assert again.run(num_steps=5) == first.history
    assert digest(again) == digest(first)


def test_another_run_is_not_overwritten_nor_mixed_in(tmp_path) -> None:
    checkpoints = Checkpoints(tmp_path)
    small_trainer(checkpoints=checkpoints).run(num_steps=3)
    with pytest.raises(ValueError, match=r"earlier run; go on with resume=True, or"):
        small_trainer(checkpoints=checkpoints)
    resume = partial(small_trainer, checkpoints=checkpoints, resume=True)
    with pytest.raises(ValueError, match=r"is not of this SmallTranslator"):
        resume(model=SmallTranslator(16))
    with pytest.raises(ValueError, match=r"'fp32'.*but this run has.*'bf16'"):
        resume(precision="bf16")
    with pytest.raises(ValueError, match=r"CosineWithWarmup.*but this run has"):
        resume(scheduler=None)
    shorter = resume(batches=list(LOADERS["by tokens"]())[:1])
    with pytest.raises(ValueError, match=r"gives 1 batches .* not the same data"):
        shorter.run(num_steps=9)


def test_another_optimizer_is_refused(tmp_path) -> None:
    checkpoints = Checkpoints(tmp_path)
    small_trainer(checkpoints=checkpoints, scheduler=None).run(num_steps=3)
    model = SmallTranslator()
    with pytest.raises(ValueError, match=r"'Adam'.*but this run has.*'SGD'"):
        Trainer(
            model=model,
            optimizer=SGD(model.parameters(), lr=0.1),
            batches=[],
            loss=translation_loss,
            checkpoints=checkpoints,
            resume=True,
        )


# --- Killing real processes -------------------------------------------------------------


def live(folder: Path, loader: str, death: int | str | None = None) -> str:
    """One life of a run: its last line, or "" when it was killed before the end.

    It is killed when it has shown ``death`` batches, or at a point of writing a
    checkpoint (see `tests.training_cases`).
    """
    point = [death] if isinstance(death, str) else []
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.training_cases", str(folder), loader, *point],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    with process:
        lines = []
        for line in process.stdout:
            lines.append(line.strip())
            if len(lines) == death:
                process.kill()
    if death is None:
        assert process.returncode == 0
        return lines[-1]
    if os.name == "posix":
        assert process.returncode == -signal.SIGKILL, "it was not killed"
    assert not re.fullmatch("[0-9a-f]{64}", (lines or [""])[-1]), "it came to its end"
    return ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loader", "deaths"),
    [
        ("shuffled", [9, 14, 4]),
        (
            "by tokens",
            ["half written:3", "not renamed:2", "renamed:2", "not deleted:4"],
        ),
    ],
)
def test_a_run_killed_again_and_again_ends_as_if_nothing_had_been(
    loader: str, deaths: list[int | str], tmp_path
) -> None:
    """SIGKILL from outside after so many batches, or from inside while it saves."""
    uninterrupted = live(tmp_path / "whole", loader)
    assert re.fullmatch("[0-9a-f]{64}", uninterrupted)
    killed = tmp_path / "killed"
    for death in deaths:
        live(killed, loader, death)
    assert live(killed, loader) == uninterrupted
    left = sorted(path.name for path in killed.iterdir())
    assert left == ["best.pt", "step-00000024.pt", "step-00000025.pt"]


def test_runs_that_differ_have_different_digests(tmp_path) -> None:
    one = killable_run(str(tmp_path / "a"), "shuffled")
    assert killable_run(str(tmp_path / "b"), "shuffled") == one
    assert killable_run(str(tmp_path / "c"), "by tokens") != one
