"""What is counted on paper against one device of several that PyTorch pretends to be."""

from __future__ import annotations

import pytest
import torch

from companion.analysis.memory_plan import GPTShape, all_reduce_bytes, plan, traffic
from companion.analysis.pretend import measure, pretended_devices, recorded_exchanges
from companion.layers import PositionwiseFeedForward

SHAPE = GPTShape(4, 64, 4, 256, 512, 32)
BATCH, DEVICES = 4, 4
STATES = ("parameters", "gradients", "optimizer")


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("strategy", ["single", "ddp", "fsdp"])
def test_memory(strategy, precision, recompute):
    devices = 1 if strategy == "single" else DEVICES
    options = {"precision": precision, "recompute": recompute}
    planned = plan(SHAPE, BATCH, strategy, devices, **options)
    found = measure(SHAPE, BATCH, strategy, devices, **options)
    for part in STATES:
        assert getattr(found, part) == getattr(planned, part)
    # Where only one thing is large at a time, the plan's sum is too high, never too low.
    exact = strategy != "fsdp" and not recompute
    low = 0.99 if exact else 0.7
    assert low * planned.total < found.total < 1.01 * planned.total


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("num_layers", [2, 5])
def test_traffic(num_layers, precision):
    shape = GPTShape(num_layers, 32, 4, 64, 100, 16)
    costs = traffic(shape, BATCH * DEVICES, DEVICES, precision)
    for strategy, name in (
        ("ddp", "data parallel (DDP)"),
        ("fsdp", "fully sharded (FSDP)"),
    ):
        exchanges = measure(shape, BATCH, strategy, DEVICES, precision).exchanges
        assert len(exchanges) == costs[name].messages
        assert sum(e.sent(DEVICES) for e in exchanges) == costs[name].bytes
    kinds = [exchange.kind for exchange in exchanges]
    assert kinds.count("all-gather") == 2 * num_layers + 1
    assert kinds.count("reduce-scatter") == num_layers + 1


def test_tensor_parallel_feed_forward():
    """PyTorch's own: one sum forward and one backward, half of what a block sends."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    network = PositionwiseFeedForward(SHAPE.d_model, SHAPE.d_ff)
    x = torch.randn(BATCH, SHAPE.length, SHAPE.d_model, requires_grad=True)
    with pretended_devices(DEVICES):
        mesh = init_device_mesh("cpu", (DEVICES,))
        split = {"W_1": ColwiseParallel(), "W_2": RowwiseParallel()}
        parallelize_module(network, mesh, split)
        with recorded_exchanges() as forward:
            y = network(x)
        with recorded_exchanges() as backward:
            y.sum().backward()
    assert forward == backward == [("all-reduce", x.nbytes)]
    a_block = traffic(SHAPE, BATCH, DEVICES)["tensor parallel"].bytes / SHAPE.num_layers
    assert 4 * all_reduce_bytes(x.nbytes, DEVICES) == a_block


def test_the_group_is_left_again():
    with pytest.raises(RuntimeError, match="stop"), pretended_devices(2):
        assert torch.distributed.get_world_size() == 2
        raise RuntimeError("stop")
    assert not torch.distributed.is_initialized()
