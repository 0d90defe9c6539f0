"""Every public module on a stand-in accelerator: nothing is left on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.cases import CASES
from tests.fake_accelerator import DEVICE, fake_accelerator, move, move_module, tensors


@pytest.mark.parametrize("name", CASES)
def test_module_runs_and_learns_where_its_inputs_are(name: str) -> None:
    case = CASES[name]
    module, inputs = case.build(), case.inputs()
    with fake_accelerator() as mode:
        move_module(module, mode)
        outputs = tensors(case.call(module, *(move(x, mode) for x in inputs)))
        assert outputs
        assert {t.device.type for t in outputs} == {DEVICE}
        sum(t.sum() for t in outputs if t.requires_grad).backward()
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        assert gradients
        assert {g.device.type for g in gradients} == {DEVICE}


class MakesATensorOnTheCPU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.ones(x.shape)


class ForgetsToRegister(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.ones(16)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class MasksOnTheCPU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.masked_fill(torch.ones(16, dtype=torch.bool), 0.0)


@pytest.mark.parametrize(
    "broken", [MakesATensorOnTheCPU, ForgetsToRegister, MasksOnTheCPU]
)
def test_the_stand_in_catches_a_misplaced_tensor(broken: type[nn.Module]) -> None:
    module, x = broken(), torch.randn(2, 5, 16)
    with fake_accelerator() as mode:
        move_module(module, mode)
        with pytest.raises((RuntimeError, AssertionError), match="device|FakeTensor"):
            module(move(x, mode))
