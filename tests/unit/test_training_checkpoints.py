"""Checkpoints: whole or not there, and refused when damaged."""

from __future__ import annotations

import os
import pickle
import random
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from companion.training import (
    CheckpointError,
    Checkpoints,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from companion.training.checkpoints import rng_state, set_rng_state
from tests.training_cases import SmallTranslator

STATE = {"a": torch.arange(1000.0), "b": [1, 2.5, None, (True, "x")], "step": 7}


def test_what_is_saved_comes_back(tmp_path) -> None:
    path = tmp_path / "state.pt"
    save_checkpoint(STATE, path)
    loaded = load_checkpoint(path)
    assert torch.equal(loaded.pop("a"), STATE["a"])
    assert loaded == {"b": STATE["b"], "step": 7}
    assert os.listdir(tmp_path) == ["state.pt"]


@pytest.mark.parametrize(
    ("owner", "name"), [(torch, "save"), (os, "fsync"), (os, "replace")]
)
def test_a_failure_leaves_the_old_file(owner, name, tmp_path, monkeypatch) -> None:
    path = tmp_path / "state.pt"
    save_checkpoint({"step": 1}, path)

    def full(*args: Any) -> None:
        raise OSError("no space left on the device")

    monkeypatch.setattr(owner, name, full)
    with pytest.raises(OSError, match=r"no space"):
        save_checkpoint({"step": 2}, path)
    assert load_checkpoint(path) == {"step": 1}
    assert os.listdir(tmp_path) == ["state.pt"]


def test_what_could_not_be_read_back_is_not_written(tmp_path) -> None:
    path = tmp_path / "state.pt"
    save_checkpoint({"step": 1}, path)
    with pytest.raises(TypeError, match=r"state may hold .* but it holds .*scalar"):
        save_checkpoint({"step": np.float64(2)}, path)
    assert load_checkpoint(path) == {"step": 1}


def flip(content: bytes) -> bytes:
    """Flip one bit in the middle of a tensor."""
    place = content.find(STATE["a"].numpy().tobytes()) + 1500
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "one bit": flip,
    "half": lambda content: content[: len(content) // 2],
    "last byte": lambda content: content[:-1],
    "nothing": lambda content: b"",
    "something else": lambda content: b"not a checkpoint at all",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused(damage: str, tmp_path) -> None:
    path = tmp_path / "state.pt"
    save_checkpoint(STATE, path)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    message = (
        "is damaged: the checksum"
        if damage == "one bit"
        else "is cut short or no checkpoint"
    )
    with pytest.raises(CheckpointError, match=f"state.pt {message}"):
        load_checkpoint(path)


def test_files_that_are_no_checkpoints_are_refused(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(CheckpointError, match=r"other.zip cannot be read"):
        load_checkpoint(tmp_path / "other.zip")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match=r"holds a list, not a checkpoint"):
        load_checkpoint(tmp_path / "list.pt")
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "none.pt")


class Trap:
    def __reduce__(self) -> tuple:
        return (exec, ("raise SystemExit('the file ran code')",))


def test_a_file_cannot_run_code(tmp_path) -> None:
    torch.save({"model": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(CheckpointError, match=r"cannot be read"):
        load_checkpoint(tmp_path / "trap.pt")
    (tmp_path / "old.pt").write_bytes(pickle.dumps({"model": Trap()}))
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "old.pt")


def test_weights_of_another_model_are_refused_and_nothing_changes() -> None:
    model = SmallTranslator(8)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    other = SmallTranslator(16).state_dict()
    del other["output.bias"]
    other["extra"] = torch.ones(1)
    with pytest.raises(ValueError) as caught:
        load_weights(model, {"model": other})
    message = str(caught.value)
    assert "not of this SmallTranslator" in message
    assert "output.bias is missing in the checkpoint" in message
    assert "extra is not in the model" in message
    assert "hidden.weight has shape (16, 16) in the checkpoint and (8, 8)" in message
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    with pytest.raises(CheckpointError, match=r"no 'model', only"):
        load_weights(model, {"weights": other})


def test_many_differences_are_counted() -> None:
    stack = nn.Sequential(*[nn.Linear(2, 2) for _ in range(10)])
    with pytest.raises(ValueError, match=r"and 12 more$"):
        load_weights(stack, {"model": {}})


def test_the_last_few_and_the_best_are_kept(tmp_path) -> None:
    checkpoints = Checkpoints(tmp_path / "new" / "folder", keep_last=2)
    assert checkpoints.load_latest() is None
    for step in (1, 2, 10, 100_000_000):
        checkpoints.save({"step": step}, step)
        if step == 2:
            checkpoints.save_best({"step": step})
    names = [path.name for path in checkpoints.paths()]
    assert names == ["step-00000010.pt", "step-100000000.pt"]
    assert checkpoints.load_latest() == {"step": 100_000_000}
    assert load_checkpoint(checkpoints.best) == {"step": 2}
    with pytest.raises(ValueError, match=r"keep_last must be at least 1"):
        Checkpoints(tmp_path, keep_last=0)


def test_a_damaged_checkpoint_falls_back_on_the_one_before(tmp_path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        checkpoints.save({"step": step}, step)
    for path in checkpoints.paths()[1:]:
        path.write_bytes(path.read_bytes()[:-50])
    with pytest.warns(UserWarning, match=r"step-0000000[23].pt is cut short") as seen:
        assert checkpoints.load_latest() == {"step": 1}
    assert len(seen) == 2
    # The damaged ones do not count among those to keep.
    assert [path.name for path in checkpoints.paths()] == ["step-00000001.pt"]
    assert (tmp_path / "step-00000003.pt.damaged").exists()

    checkpoints.paths()[0].write_bytes(b"")
    with (
        pytest.warns(UserWarning, match=r"step-00000001.pt is cut short"),
        pytest.raises(
            CheckpointError, match=r"no checkpoint can be read:\n.*cut short"
        ),
    ):
        checkpoints.load_latest()


def test_every_generator_is_put_back(tmp_path) -> None:
    def draw() -> tuple:
        numpy_s = np.random.rand(), np.random.randn()
        return random.gauss(0, 1), *numpy_s, torch.rand(1).item()

    draw()  # leaves a second Gaussian waiting in Python's and NumPy's generators
    save_checkpoint({"rng": rng_state()}, tmp_path / "rng.pt")
    expected = draw()
    draw()
    set_rng_state(load_checkpoint(tmp_path / "rng.pt")["rng"])
    assert draw() == expected
