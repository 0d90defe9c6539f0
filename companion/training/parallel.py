"""One run on several devices: PyTorch's DDP and FSDP2 behind one small interface.

Under ``torchrun --nproc-per-node 4 ...`` the same program runs four times. Each process, a
*rank*, takes its own part of every update's data, and before the weights change, gradients
are averaged over all ranks. With DDP every rank keeps the whole model. With FSDP each keeps
a part of every weight, its gradient and its optimizer state, and fetches the rest of a layer
only while that layer runs.

Sources: Li et al. (2020), "PyTorch Distributed: Experiences on Accelerating Data Parallel
Training"; Rajbhandari et al. (2020), "ZeRO", section 5 (stage 3); Zhao et al. (2023),
"PyTorch FSDP".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from companion.runtime import device
from companion.training.checkpoints import Checkpoints

STRATEGIES = ("single", "ddp", "fsdp")


class OneProcess:
    """Nothing to share: the strategy of a run on one device.

    Attributes:
        rank: of this process, from 0.
        world_size: number of processes.
    """

    rank = 0
    world_size = 1

    def shard(self, model: nn.Module) -> nn.Module:
        """Put the model where it trains. Call it before the optimizer is made."""
        return model.to(device())

    def wrap(self, model: nn.Module) -> nn.Module:
        """What is called in the place of the model, so that gradients are averaged."""
        return model

    def total(self, value: Tensor) -> Tensor:
        """The sum of ``value`` over all ranks."""
        return value

    @contextmanager
    def micro_batch(self, model: nn.Module, *, last: bool) -> Iterator[None]:
        """Around the backward pass of a batch; ``last``: the update's last one."""
        yield

    def checkpoints(self, folder: str | os.PathLike, keep_last: int = 3) -> Checkpoints:
        """The kind of checkpoints that this strategy writes."""
        return Checkpoints(folder, keep_last)

    def once(self, function: Callable[..., Any], *args: Any) -> None:
        """Call ``function(*args)`` on rank 0, while the others wait."""
        function(*args)

    def save(self, write: Callable[..., Any], *args: Any) -> None:
        """Call ``write(*args)`` on the ranks that have something to write."""
        self.once(write, *args)

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        """The whole weights on the CPU, on rank 0; every rank has to call it."""
        return {name: w.detach().cpu() for name, w in model.state_dict().items()}

    def close(self) -> None:
        """Leave the group of processes."""


class DataParallel(OneProcess):
    """DDP: the whole model on every rank, one average of all gradients an update.

    The average of a bucket of gradients is under way while earlier layers still compute
    theirs. `Trainer`'s loss must *call* the model: a method such as ``model.loss`` goes
    past the wrapper.
    """

    def __init__(self) -> None:
        _join()
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()

    def wrap(self, model: nn.Module) -> nn.Module:
        # Otherwise the buckets in which gradients travel are a second copy of all.
        return DistributedDataParallel(model, gradient_as_bucket_view=True)

    def total(self, value: Tensor) -> Tensor:
        value = value.detach().clone()
        dist.all_reduce(value)
        return value

    @contextmanager
    def micro_batch(self, model: nn.Module, *, last: bool) -> Iterator[None]:
        wrapped = getattr(model, "_orig_mod", model)  # torch.compile's wrapper
        if last:
            yield
        else:
            with wrapped.no_sync():
                yield

    def once(self, function: Callable[..., Any], *args: Any) -> None:
        if self.rank == 0:
            function(*args)
        dist.barrier()

    def close(self) -> None:
        dist.destroy_process_group()


class FullySharded(DataParallel):
    """FSDP2: weights, gradients and optimizer state in parts, one for each rank.

    Each layer of ``model.layers`` is gathered when it runs and let go after; so is what
    is outside of them. A layer's gradients are averaged and scattered in one go.

    Args:
        precision: ``"bf16"`` gathers weights and averages gradients in 16 bits, which
            halves what is sent; the parts themselves stay in 32.
    """

    def __init__(self, precision: str = "fp32") -> None:
        from torch.distributed.device_mesh import init_device_mesh

        super().__init__()
        self.precision = precision
        self.mesh = init_device_mesh(device().type, (self.world_size,))

    def shard(self, model: nn.Module) -> nn.Module:
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        half = torch.bfloat16 if self.precision == "bf16" else None
        options = {
            "mesh": self.mesh,
            "mp_policy": MixedPrecisionPolicy(
                param_dtype=half, reduce_dtype=torch.float32 if half else None
            ),
        }
        model = model.to(device())
        for layer in getattr(model, "layers", ()):
            fully_shard(layer, **options)
        return fully_shard(model, **options)

    def wrap(self, model: nn.Module) -> nn.Module:
        return model  # fully_shard has put its hooks into the model itself

    @contextmanager
    def micro_batch(self, model: nn.Module, *, last: bool) -> Iterator[None]:
        sharded = getattr(model, "_orig_mod", model)
        sharded.set_requires_gradient_sync(last)
        yield

    def checkpoints(self, folder: str | os.PathLike, keep_last: int = 3) -> Checkpoints:
        # Here, since to import it takes a second that a run on one device need not wait.
        from companion.training.sharded import ShardedCheckpoints

        return ShardedCheckpoints(folder, self.mesh, keep_last)

    def save(self, write: Callable[..., Any], *args: Any) -> None:
        write(*args)  # every rank writes its part

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        return {n: whole(w.detach()).cpu() for n, w in model.state_dict().items()}


def start(strategy: str = "single", precision: str = "fp32") -> OneProcess:
    """Join the run that ``torchrun`` started, or run alone.

    Args:
        strategy: ``"single"``, ``"ddp"`` or ``"fsdp"``.
        precision: of the run.

    Raises:
        ValueError: the strategy is not known, or does not fit how the program was
            started.
    """
    if strategy not in STRATEGIES:
        raise ValueError(
            f"strategy must be one of {', '.join(STRATEGIES)}, but it is {strategy!r}"
        )
    launched = "RANK" in os.environ and "WORLD_SIZE" in os.environ
    if strategy == "single":
        if launched and int(os.environ["WORLD_SIZE"]) > 1:
            raise ValueError(
                f"torchrun started {os.environ['WORLD_SIZE']} processes, but with "
                "strategy 'single' each would train alone; it must be 'ddp' or 'fsdp'"
            )
        return OneProcess()
    if not launched:
        raise ValueError(
            f"strategy {strategy!r} needs processes to share the work; start them with "
            "torchrun --standalone --nproc-per-node 2 -m ... instead of python -m ..."
        )
    return DataParallel() if strategy == "ddp" else FullySharded(precision)


def whole(tensor: Tensor) -> Tensor:
    """A spread-out tensor gathered from all ranks, each of which must ask; else itself."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def _join() -> None:
    """Enter the group that torchrun describes in the environment."""
    if dist.is_initialized():
        return
    if device().type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        dist.init_process_group("nccl")
    else:
        dist.init_process_group("gloo")
