"""What this machine can do at best: the rate of its products, and of its memory."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

import companion

# What a row of the table is a fraction of.
PRODUCT = "matrix product"
READING = "plain read"


def multiply() -> Tensor:
    """A product of two square matrices, whose numbers are used over and over."""
    left, right = _square(), _square()
    return left @ right


def read() -> Tensor:
    """The largest number of many, on all cores: each is read once and little else is done.

    A product with a vector would be nearer to what a model does, but PyTorch leaves that
    to one core of a CPU, and a model can do better.
    """
    return _large().max()


# How much each of the two does: operations, and bytes.
AMOUNT = {
    PRODUCT: lambda: 2 * len(_square()) ** 3,
    READING: lambda: _large().numel() * _large().element_size(),
}


def half_on_cuda() -> torch.dtype:
    """bfloat16 on a GPU, whose matrix units want it, and float32 elsewhere."""
    return torch.bfloat16 if companion.device().type == "cuda" else torch.float32


@cache
def _square() -> Tensor:
    side = 8192 if companion.device().type == "cuda" else 1024
    return torch.randn(side, side).to(companion.device(), half_on_cuda())


@cache
def _large() -> Tensor:
    # 128 MB on a CPU, several times what its caches hold.
    rows = 2**20 if companion.device().type == "cuda" else 2**15
    return torch.randn(rows, 1024).to(companion.device(), half_on_cuda())
