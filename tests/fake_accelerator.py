"""A stand-in accelerator: tensors that have a shape, a dtype and a device, and no data.

PyTorch's ``FakeTensorMode`` runs a model on tensors that claim to live on a device called
``stand_in``. Any operation that mixes them with a CPU tensor raises, just as on a real
accelerator, so that a misplaced tensor is caught on a machine that has none.

``python -m tests.fake_accelerator`` runs all cases and prints what became of each as JSON.
It has a process of its own, since a backend cannot be taken back once it is registered,
and autograd counts the devices when it first runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._mode_utils import no_dispatch
from torch.utils.backend_registration import (
    _setup_privateuseone_for_python_backend as register_backend,
)

from tests.cases import CASES, Case

DEVICE = "stand_in"


@contextmanager
def fake_accelerator() -> Iterator[FakeTensorMode]:
    """All tensors made inside are fakes, on the CPU until they are moved."""
    # With Python's dispatcher, a fused operation that only real devices have (a GRU's
    # cell) falls apart into operations that fakes know.
    # With a ShapeEnv, a size may be unknown: how many tokens an expert gets, say.
    mode = FakeTensorMode(shape_env=ShapeEnv(), static_shapes=True)
    with mode, enable_python_dispatcher():
        yield mode


def move(x: Any, mode: FakeTensorMode) -> Any:
    """A fake of ``x`` on the stand-in accelerator, if it is a tensor."""
    if not isinstance(x, Tensor):
        return x
    with no_dispatch():
        x = x.detach()
    return mode.from_tensor(x).to(DEVICE)


def move_module(module: nn.Module, mode: FakeTensorMode) -> None:
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


def tensors(result: object) -> list[Tensor]:
    """All tensors in a result, however it nests them."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, tuple | list):
        return [t for item in result for t in tensors(item)]
    return []


def run(case: Case) -> str:
    """Run a case forward and backward; "" if all is well, else what is wrong."""
    module, inputs = case.build(), case.inputs()
    kwargs = case.kwargs or {}
    learns = any(True for _ in module.parameters())
    try:
        with fake_accelerator() as mode:
            move_module(module, mode)
            outputs = tensors(
                module(
                    *(move(x, mode) for x in inputs),
                    **{name: move(x, mode) for name, x in kwargs.items()},
                )
            )
            if learns:
                sum(t.sum() for t in outputs if t.requires_grad).backward()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        return f"{type(error).__name__}: {error}"
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    astray = {t.device.type for t in outputs + gradients} - {DEVICE}
    if not outputs or (learns and not gradients):
        return "it has no output or no gradient"
    return f"it leaves tensors on {astray}" if astray else ""


class MakesATensorOnTheCPU(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + torch.ones(x.shape)


class ForgetsToRegister(nn.Linear):
    def __init__(self) -> None:
        super().__init__(16, 16)
        self.scale = torch.ones(16)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale


class MasksOnTheCPU(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).masked_fill(torch.ones(16, dtype=torch.bool), 0.0)


BROKEN = {
    "makes a tensor on the CPU": Case(
        lambda: MakesATensorOnTheCPU(16, 16), lambda: (torch.randn(5, 16),)
    ),
    "forgets to register a buffer": Case(
        ForgetsToRegister, lambda: (torch.randn(5, 16),)
    ),
    "masks on the CPU": Case(
        lambda: MasksOnTheCPU(16, 16), lambda: (torch.randn(5, 16),)
    ),
}

if __name__ == "__main__":
    register_backend(DEVICE)
    print(json.dumps({name: run(case) for name, case in (CASES | BROKEN).items()}))
