"""``make bench``: print all tables."""

from __future__ import annotations

import platform

import torch

import companion
from tests.benchmarks import attention, efficient, training
from tests.benchmarks.side_by_side import show

if __name__ == "__main__":
    print(
        f"PyTorch {torch.__version__} on {companion.device()}, "
        f"{torch.get_num_threads()} threads, {platform.machine()}"
    )
    for name, module in {
        "attention": attention,
        "training": training,
        "efficient attention": efficient,
    }.items():
        print(f"\n{name}")
        show(module.rows())
