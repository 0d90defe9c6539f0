"""Checkpoints of a model whose weights are spread over processes.

Each process writes its own part as safetensors, by PyTorch's distributed checkpoints. The
parts carry where they belong, so that another number of processes can read them: each takes
what it needs of every file. What is no spread-out tensor is the same everywhere, and is
written once. Nothing is pickled but for `save_checkpoint`'s file, which is read with
``weights_only=True``.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor import empty as empty_dtensor

from companion.training.checkpoints import (
    CheckpointError,
    Checkpoints,
    load_checkpoint,
    save_checkpoint,
)

_REST = "rest.pt"
_SPREAD = "spread-out tensor"


class ShardedCheckpoints(Checkpoints):
    """`Checkpoints` in which a step is a folder, and all processes write and read at once.

    Every method is to be called by every process.

    Args:
        folder: is made if it does not exist; all processes must see it.
        mesh: the processes.
        keep_last: how many of the newest to keep.
    """

    def __init__(
        self, folder: str | Path, mesh: DeviceMesh, keep_last: int = 3
    ) -> None:
        super().__init__(folder, keep_last)
        self.mesh = mesh

    @property
    def best(self) -> Path:
        return self.folder / "best"

    def paths(self) -> list[Path]:
        found = [
            path
            for path in self.folder.glob("step-*")
            if path.name[5:].isdigit() and (path / _REST).is_file()
        ]
        return sorted(found, key=lambda path: int(path.name[5:]))

    def save(self, state: dict[str, Any], step: int) -> Path:
        path = self.folder / f"step-{step:08d}"
        self._write(state, path)
        if dist.get_rank() == 0:
            for old in self.paths()[: -self.keep_last]:
                shutil.rmtree(old)
        dist.barrier()
        return path

    def save_best(self, state: dict[str, Any]) -> None:
        self._write(state, self.best)

    def load_latest(self) -> dict[str, Any] | None:
        """The newest checkpoint, for this number of processes; None when there is none.

        Raises:
            CheckpointError: the newest cannot be read. With processes that may see
                different things, an older one is not taken silently.
        """
        paths = self.paths()
        return self.load(paths[-1]) if paths else None

    def load(self, path: str | Path) -> dict[str, Any]:
        """The state in the folder ``path``, its tensors spread over these processes.

        Raises:
            CheckpointError: a file is missing, cut short or damaged.
        """
        path = Path(path)
        rest = load_checkpoint(path / _REST)
        for name, size in rest["files"].items():
            found = (path / name).stat().st_size if (path / name).is_file() else None
            if found != size:
                raise CheckpointError(
                    f"{path / name} should have {size} bytes, but "
                    + ("is missing" if found is None else f"has {found}")
                )
        spread = {
            key: empty_dtensor(
                *shape,
                dtype=getattr(torch, dtype),
                device_mesh=self.mesh,
                placements=[Shard(0)],
            )
            for key, (shape, dtype) in rest["spread"].items()
        }
        try:
            with _quiet():
                dcp.load(spread, storage_reader=dcp.HuggingFaceStorageReader(str(path)))
        except Exception as error:  # what it raises is not documented
            raise CheckpointError(f"{path} cannot be read: {error}") from error
        return _map(
            rest["state"],
            lambda leaf: (
                spread[leaf[1]]
                if isinstance(leaf, tuple) and len(leaf) == 2 and leaf[0] == _SPREAD
                else leaf
            ),
        )

    def _write(self, state: dict[str, Any], path: Path) -> None:
        """All of it under another name, which is then changed in one go."""
        temporary = path.with_name(path.name + ".tmp")
        if dist.get_rank() == 0:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
        dist.barrier()
        found: list[DTensor] = []
        _map(state, lambda leaf: isinstance(leaf, DTensor) and found.append(leaf))
        keys = [f"tensor-{number:05d}" for number in _first_of_each(found)]
        spread = {key: t.detach() for key, t in zip(keys, found, strict=True)}
        key = iter(keys)
        rest = _map(
            state,
            lambda leaf: (_SPREAD, next(key)) if isinstance(leaf, DTensor) else leaf,
        )
        with _quiet():
            dcp.save(
                spread,
                storage_writer=dcp.HuggingFaceStorageWriter(
                    str(temporary), save_distributed=True
                ),
            )
        dist.barrier()
        if dist.get_rank() == 0:
            files = {file.name: file.stat().st_size for file in temporary.iterdir()}
            shapes = {
                key: (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
                for key, tensor in spread.items()
            }
            save_checkpoint(
                {"state": rest, "spread": shapes, "files": files}, temporary / _REST
            )
            shutil.rmtree(path, ignore_errors=True)
            os.replace(temporary, path)
        dist.barrier()


def _first_of_each(tensors: list[DTensor]) -> list[int]:
    """For each tensor, the number of the first that is the same one: weights may be tied.

    Rank 0 decides, since it has a part of every tensor; a rank that has none can't tell.
    """
    seen: dict[int, int] = {}
    numbers = [
        seen.setdefault(tensor.to_local().data_ptr(), number)
        for number, tensor in enumerate(tensors)
    ]
    decided = [numbers]
    dist.broadcast_object_list(decided, src=0)
    return decided[0]


def _map(state: Any, function: Callable[[Any], Any]) -> Any:
    """``state`` with ``function`` applied to everything that is no dict or list."""
    if isinstance(state, dict):
        return {key: _map(value, function) for key, value in state.items()}
    if isinstance(state, list):
        return [_map(value, function) for value in state]
    return function(state)


class _quiet:
    """Hide the notices of PyTorch's distributed checkpoints on what it is about to do."""

    def __enter__(self) -> None:
        self.logger = logging.getLogger("torch.distributed.checkpoint")
        self.level = self.logger.level
        self.logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        self.logger.setLevel(self.level)
