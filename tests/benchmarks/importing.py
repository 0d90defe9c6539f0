"""How long a new Python takes to import the package, against PyTorch alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from tests.benchmarks.side_by_side import Pair

PARTS = "MultiHeadAttention, GPT, Trainer, generate"


def pairs() -> Iterator[Pair]:
    """The package by itself loads nothing heavy; what is taken from it loads PyTorch."""
    for statement in ("import companion", f"from companion import {PARTS}"):
        yield Pair(
            work="a new Python",
            ours=(statement, lambda s=statement: loaded(s)),
            reference=("import torch", lambda: loaded("import torch")),
            rounds=7,
        )


def loaded(statement: str) -> bool:
    """Run it in a new Python; whether PyTorch is loaded then."""
    program = f"import sys; {statement}; print('torch' in sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    return output.stdout == "True\n"
