"""Where tensors live and where randomness starts: the only place that names a device."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_DEVICES = ("cpu", "cuda", "mps")


def device() -> torch.device:
    """The device of this process: ``COMPANION_DEVICE``, else CUDA where it works, else the CPU.

    Raises:
        ValueError: ``COMPANION_DEVICE`` is not cpu, cuda (with or without an index) or
            mps.
        RuntimeError: ``COMPANION_DEVICE`` names a device that this machine does not
            have.
    """
    import torch

    name = os.environ.get("COMPANION_DEVICE", "")
    if not name:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.partition(":")[0] not in _DEVICES:
        raise ValueError(
            f"the environment variable COMPANION_DEVICE must be one of {', '.join(_DEVICES)}, but it is {name!r}"
        )
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise RuntimeError(
            f"COMPANION_DEVICE is {name!r}, but PyTorch finds no CUDA device here"
        )
    if name == "mps" and not torch.backends.mps.is_available():
        raise RuntimeError(
            "COMPANION_DEVICE is 'mps', but PyTorch finds no Apple GPU here"
        )
    return torch.device(name)


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators, so that a run can be repeated.

    Raises:
        ValueError: the seed is not in [0, 2**32), which NumPy requires.
    """
    import numpy as np
    import torch

    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be in [0, 2**32), but it is {seed}")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
