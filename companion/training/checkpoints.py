"""Checkpoints that are whole or not there, and a run that goes on from them exactly.

A file gets its name only when all of it is on the disk, so that a process may be killed
at any moment. Every file carries checksums, which are checked before it is used.
"""

from __future__ import annotations

import os
import pickle
import random
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read."""


def save_checkpoint(state: dict[str, Any], path: str | Path) -> None:
    """Write ``state`` to ``path``, or leave ``path`` as it was.

    The state is written to a temporary file beside ``path``, forced to the disk, and
    renamed, which the file system does in one go.

    Args:
        state: tensors, numbers, strings, None, and lists, tuples and dicts of them.
        path: of the file; its folder must exist.

    Raises:
        TypeError: the state holds an object that `load_checkpoint` would refuse.
    """
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        if foreign := torch.serialization.get_unsafe_globals_in_checkpoint(temporary):
            raise TypeError(
                "state may hold tensors, numbers, strings, None, lists, tuples and "
                f"dicts, but it holds {', '.join(foreign)}, which would not be read back"
            )
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # the new name is on the disk when its folder is
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote; its tensors are on the CPU.

    Nothing in the file is run (``weights_only=True``).

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is cut short, damaged, or no checkpoint.
    """
    try:
        # torch.load does not look at the checksums that the file holds.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise CheckpointError(
                f"{path} is damaged: the checksum of {damaged} is wrong"
            )
        state = torch.load(path, map_location="cpu", weights_only=True)
    except zipfile.BadZipFile as error:
        raise CheckpointError(
            f"{path} is cut short or no checkpoint: {error}"
        ) from error
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(state, dict):
        raise CheckpointError(
            f"{path} holds a {type(state).__name__}, not a checkpoint"
        )
    return state


def load_weights(model: nn.Module, source: str | Path | dict[str, Any]) -> None:
    """Put the weights of a checkpoint, or of its state, into ``model``.

    Raises:
        CheckpointError: the file cannot be read or holds no weights.
        ValueError: the weights are those of another model; lists what differs, and
            leaves the model as it was.
    """
    state = source if isinstance(source, dict) else load_checkpoint(source)
    if "model" not in state:
        raise CheckpointError(f"the checkpoint holds no 'model', only {sorted(state)}")
    theirs: dict[str, Tensor] = state["model"]
    ours = model.state_dict()
    wrong = [f"  {name} is missing in the checkpoint" for name in ours.keys() - theirs]
    wrong += [f"  {name} is not in the model" for name in theirs.keys() - ours]
    wrong += [
        f"  {name} has shape {tuple(theirs[name].shape)} in the checkpoint and "
        f"{tuple(ours[name].shape)} in the model"
        for name in ours.keys() & theirs
        if ours[name].shape != theirs[name].shape
    ]
    if wrong:
        shown = sorted(wrong)[:8]
        if len(wrong) > len(shown):
            shown.append(f"  and {len(wrong) - len(shown)} more")
        raise ValueError(
            f"the checkpoint is not of this {type(model).__name__}:\n"
            + "\n".join(shown)
        )
    model.load_state_dict(theirs)


class Checkpoints:
    """A folder with the last few checkpoints of one run, and the best one.

    Args:
        folder: is made if it does not exist.
        keep_last: how many of the newest to keep. With more than one there is an older
            one to fall back on when the newest is damaged.

    Raises:
        ValueError: ``keep_last`` is less than 1.
    """

    _NAME = re.compile(r"step-(\d{8,})\.pt")

    def __init__(self, folder: str | Path, keep_last: int = 3) -> None:
        if keep_last < 1:
            raise ValueError(f"keep_last must be at least 1, but it is {keep_last}")
        self.folder = Path(folder)
        self.keep_last = keep_last
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def best(self) -> Path:
        """Where the checkpoint with the lowest validation loss is."""
        return self.folder / "best.pt"

    def paths(self) -> list[Path]:
        """The checkpoints of the last steps, the oldest first."""
        found = {
            int(match[1]): path
            for path in self.folder.iterdir()
            if (match := self._NAME.fullmatch(path.name))
        }
        return [found[step] for step in sorted(found)]

    def save(self, state: dict[str, Any], step: int) -> Path:
        """Write the checkpoint of ``step``, then delete those that are too old."""
        path = self.folder / f"step-{step:08d}.pt"
        save_checkpoint(state, path)
        for old in self.paths()[: -self.keep_last]:
            old.unlink()
        return path

    def save_best(self, state: dict[str, Any]) -> None:
        """Replace the best checkpoint."""
        save_checkpoint(state, self.best)

    def load_latest(self) -> dict[str, Any] | None:
        """The newest checkpoint that can be read, or None when there is none at all.

        One that cannot be read is reported by a warning and renamed to ``*.damaged``.

        Raises:
            CheckpointError: there are checkpoints, but none can be read.
        """
        reasons = []
        for path in reversed(self.paths()):
            try:
                return load_checkpoint(path)
            except CheckpointError as error:
                reasons.append(str(error))
                warnings.warn(f"{error}; the one before it is taken", stacklevel=2)
                path.replace(path.with_name(path.name + ".damaged"))
        if reasons:
            raise CheckpointError("no checkpoint can be read:\n" + "\n".join(reasons))
        return None


def rng_state() -> dict[str, Any]:
    """The states of Python's, NumPy's and PyTorch's generators, CUDA's included."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Put the generators where `rng_state` found them.

    States of CUDA are left out where this machine has not the same number of devices.
    """
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    keys = keys.numpy().astype(np.uint32)
    np.random.set_state((name, keys, *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
