"""The device and the seed."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

import companion


def test_device_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPANION_DEVICE", "cpu")
    assert companion.device() == torch.device("cpu")
    monkeypatch.delenv("COMPANION_DEVICE")
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert companion.device().type == expected


def test_device_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPANION_DEVICE", "gpu")
    with pytest.raises(ValueError, match="COMPANION_DEVICE .*cpu, cuda, mps.*'gpu'"):
        companion.device()
    monkeypatch.setenv("COMPANION_DEVICE", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="finds no CUDA device"):
        companion.device()
    monkeypatch.setenv("COMPANION_DEVICE", "mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="no Apple GPU"):
        companion.device()


def test_seed_everything_repeats_every_generator() -> None:
    def draw() -> tuple:
        return random.random(), np.random.rand(), torch.rand(1).item()

    companion.seed_everything(7)
    first = draw()
    companion.seed_everything(7)
    assert draw() == first
    companion.seed_everything(8)
    assert draw() != first
    for wrong in (-1, 2**32):
        with pytest.raises(ValueError, match=str(wrong)):
            companion.seed_everything(wrong)
