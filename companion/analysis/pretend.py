"""One of many devices, without the others: what it holds, and what it would have to send.

PyTorch has a stand-in for a group of processes in which nothing is sent and nothing arrives.
The numbers that come out are wrong, but all shapes are right, so that exchanges can be listed
and memory can be measured on one device as if it were one of eight. `memory_plan` counts the
same on paper.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from companion.analysis.cost import peak_memory
from companion.analysis.memory_plan import (
    GPTShape,
    Precision,
    Strategy,
    all_gather_bytes,
    all_reduce_bytes,
)
from companion.models.gpt import GPT
from companion.runtime import device
from companion.training.lm import new_optimizer
from companion.training.parallel import DataParallel, FullySharded, OneProcess


@contextmanager
def pretended_devices(number: int) -> Iterator[None]:
    """Be the first of ``number`` devices, of which the others are not there."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=number, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()


class Exchange(NamedTuple):
    """Something that all devices do together.

    Attributes:
        kind: ``"all-gather"``, ``"reduce-scatter"`` or ``"all-reduce"``.
        size: bytes of the whole that is gathered or summed.
    """

    kind: str
    size: int

    def sent(self, devices: int) -> int:
        """Bytes that each of ``devices`` sends, around a ring."""
        count = all_reduce_bytes if self.kind == "all-reduce" else all_gather_bytes
        return count(self.size, devices)


# Where in PyTorch's operations the whole tensor stands.
_WHOLES = {
    "_allgather_base_": ("all-gather", 0),
    "_reduce_scatter_base_": ("reduce-scatter", 1),
    "_c10d_functional.all_reduce": ("all-reduce", 0),
}


class _Recorder(TorchDispatchMode):
    def __init__(self, found: list[Exchange]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        for name, (kind, place) in _WHOLES.items():
            if name in str(function):
                self.found.append(Exchange(kind, args[place].nbytes))
        return function(*args, **(kwargs or {}))


@contextmanager
def recorded_exchanges(model: nn.Module | None = None) -> Iterator[list[Exchange]]:
    """List what is exchanged inside of the block, in order.

    Args:
        model: one that DDP has wrapped, whose gradients travel past Python.
    """
    found: list[Exchange] = []
    if isinstance(model, DistributedDataParallel):
        model.register_comm_hook(found, _record_bucket)
    with _Recorder(found):
        yield found


def _record_bucket(found, bucket):  # DDP takes no annotations that are strings
    found.append(Exchange("all-reduce", bucket.buffer().nbytes))
    done: torch.futures.Future[Tensor] = torch.futures.Future()
    done.set_result(bucket.buffer())
    return done


class Measured(NamedTuple):
    """What one device was found to hold, in bytes, and to exchange.

    Attributes:
        parameters, gradients, optimizer: as they lie in memory between two batches.
        working: the most that a further batch holds besides, of all kinds.
        exchanges: of a batch after which gradients are averaged.
    """

    parameters: int
    gradients: int
    optimizer: int
    working: int
    exchanges: list[Exchange]

    @property
    def total(self) -> int:
        return self.parameters + self.gradients + self.optimizer + self.working


def measure(
    shape: GPTShape,
    batch: int,
    strategy: Strategy = "single",
    devices: int = 1,
    precision: Precision = "fp32",
    *,
    recompute: bool = False,
) -> Measured:
    """Take an update of a real `GPT` and look at what one device holds; `plan`'s arguments."""
    if strategy == "single":
        return _measure(OneProcess(), shape, batch, precision, recompute)
    with pretended_devices(devices):
        parallel = DataParallel() if strategy == "ddp" else FullySharded(precision)
        return _measure(parallel, shape, batch, precision, recompute)


def _measure(
    parallel: OneProcess,
    shape: GPTShape,
    batch: int,
    precision: Precision,
    recompute: bool,
) -> Measured:
    model = parallel.shard(_model_of(shape, recompute))
    called = parallel.wrap(model)
    optimizer = new_optimizer(model, 1e-3)
    ids = torch.zeros(batch, shape.length, dtype=torch.long, device=device())

    def one_batch() -> None:
        half = precision == "bf16"
        with torch.autocast(device().type, torch.bfloat16, enabled=half):
            logits = called(ids).flatten(0, 1)
            loss = nn.functional.cross_entropy(logits, ids.flatten())
        del logits
        loss.backward()

    with recorded_exchanges(called) as exchanges:
        one_batch()
    exchanges = list(exchanges)  # the next batches are not to be in it
    optimizer.step()
    one_batch()  # the second time DDP sorts its buckets anew, and for once holds both
    working = peak_memory(one_batch)
    weights = list(model.parameters())
    states = [
        value
        for of_one in optimizer.state.values()
        for value in of_one.values()
        if value.ndim
    ]
    return Measured(
        _bytes_here(weights),
        _bytes_here([weight.grad for weight in weights]),
        _bytes_here(states),
        working,
        exchanges,
    )


def _model_of(shape: GPTShape, recompute: bool) -> GPT:
    model = GPT(
        shape.vocab_size,
        shape.d_model,
        shape.num_heads,
        shape.d_ff,
        shape.num_layers,
        shape.length,
        dropout=0.0,
    ).train()
    if recompute:
        for layer in model.layers:
            layer.forward = _recomputed(layer.forward)
    return model


def _recomputed(forward: Any) -> Any:
    return lambda *inputs, **options: checkpoint(
        forward, *inputs, use_reentrant=False, **options
    )


def _bytes_here(tensors: list[Tensor]) -> int:
    """Of a tensor that is spread out, the part on this device."""
    parts = [t.to_local() if hasattr(t, "to_local") else t for t in tensors]
    return sum(part.nbytes for part in parts)
