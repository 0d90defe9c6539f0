"""A stand-in accelerator: tensors that have a shape, a dtype and a device, and no data.

PyTorch's ``FakeTensorMode`` runs a model on tensors that claim to live on a device called
``stand_in``. Any operation that mixes them with a CPU tensor raises, just as on a real
accelerator, so that a misplaced tensor is caught on a machine that has none.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._mode_utils import no_dispatch
from torch.utils.backend_registration import (
    _setup_privateuseone_for_python_backend as register_backend,
)

DEVICE = "stand_in"


@functools.cache
def _register() -> None:
    register_backend(DEVICE)


@contextmanager
def fake_accelerator() -> Iterator[FakeTensorMode]:
    """All tensors made inside are fakes, on the CPU until they are moved."""
    _register()
    # With Python's dispatcher, a fused operation that only real devices have (a GRU's
    # cell) falls apart into operations that fakes know.
    with FakeTensorMode() as mode, enable_python_dispatcher():
        yield mode


def move(x: Tensor, mode: FakeTensorMode) -> Tensor:
    """A fake of ``x`` on the stand-in accelerator."""
    with no_dispatch():
        x = x.detach()
    return mode.from_tensor(x).to(DEVICE)


def move_module(module: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """Move what ``Module.to`` would move: parameters and registered buffers, no more.

    (``Module.to`` itself swaps the data of a parameter in place, which fakes don't allow.)
    """
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            part.register_parameter(name, nn.Parameter(move(parameter, mode)))
        for name, buffer in part.named_buffers(recurse=False):
            persistent = name not in part._non_persistent_buffers_set
            part.register_buffer(name, move(buffer, mode), persistent)
        if isinstance(part, nn.RNNBase):  # keeps a second list of its parameters
            part._flat_weights = [getattr(part, n) for n in part._flat_weights_names]
    return module


def tensors(result: object) -> list[Tensor]:
    """All tensors in a result, however it nests them."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, tuple | list):
        return [t for item in result for t in tensors(item)]
    return []
