"""The memory planner against what real runs keep, and the traffic against what is known."""

from __future__ import annotations

import itertools

import pytest
import torch

from companion import GPT
from companion.analysis.flops import activation_bytes
from companion.analysis.memory_plan import (
    SHAPES,
    GPTShape,
    all_gather_bytes,
    all_reduce_bytes,
    bubble,
    layer_activations,
    plan,
    traffic,
)
from companion.training.lm import new_optimizer

SMALL = GPTShape(3, 32, 4, 128, 64, 16)


def model_of(shape: GPTShape) -> GPT:
    return GPT(
        shape.vocab_size,
        shape.d_model,
        shape.num_heads,
        shape.d_ff,
        shape.num_layers,
        shape.length,
        dropout=0.0,
    )


@pytest.mark.parametrize("name", SHAPES)
def test_parameters(name):
    shape = SHAPES[name]
    with torch.device("meta"):
        model = model_of(shape)
    assert shape.parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("d_model", "num_heads", "d_ff"), [(32, 4, 128), (64, 8, 128), (64, 2, 256)]
)
def test_activations_of_a_block(d_model, num_heads, d_ff, precision):
    """Two models that differ by a block differ by what it keeps."""
    batch = 2

    def kept(num_layers: int) -> int:
        shape = GPTShape(num_layers, d_model, num_heads, d_ff, 64, 16)
        model = model_of(shape).train()
        ids = torch.zeros(batch, 16, dtype=torch.long)

        def loss() -> torch.Tensor:
            half = precision == "bf16"
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                return model.loss(ids)

        return activation_bytes(model, loss)

    shape = GPTShape(1, d_model, num_heads, d_ff, 64, 16)
    more = kept(3) - kept(2)
    if precision == "bf16":
        more -= 2 * (4 * d_model**2 + 2 * d_model * d_ff)  # 16-bit copies of matrices
    assert layer_activations(shape, batch * 16, precision) == pytest.approx(
        more, rel=0.02
    )


def test_all_of_a_small_run():
    batch = 8
    shape = GPTShape(4, 64, 4, 256, 512, 32)
    model = model_of(shape).train()
    optimizer = new_optimizer(model, 1e-3)
    ids = torch.zeros(batch, shape.length, dtype=torch.long)
    planned = plan(shape, batch)
    kept = activation_bytes(model, lambda: model.loss(ids))
    assert planned.activations == pytest.approx(kept, rel=0.05)
    model.loss(ids).backward()
    optimizer.step()
    sizes = [p.numel() * p.element_size() for p in model.parameters()]
    assert planned.parameters == planned.gradients == sum(sizes)
    state = [
        value
        for of_one in optimizer.state.values()
        for value in of_one.values()
        if value.ndim
    ]
    assert planned.optimizer == sum(v.numel() * v.element_size() for v in state)


def test_what_strategies_share():
    alone = plan(SMALL, 4)
    copied = plan(SMALL, 4, "ddp", 8)
    shared = plan(SMALL, 4, "fsdp", 8)
    assert copied == alone  # DDP saves nothing but time
    for part in ("parameters", "gradients", "optimizer"):
        assert getattr(shared, part) == getattr(alone, part) // 8
    assert shared.activations == alone.activations
    assert 0 < shared.gathered < alone.parameters


def test_175_billion_parameters_need_many_devices():
    """ZeRO, section 3.1: 16 bytes a parameter, so 2.8 TB for GPT-3, before activations."""
    shape = SHAPES["GPT-3 175B"]
    alone = plan(shape, 1)
    states = alone.parameters + alone.gradients + alone.optimizer
    assert states == 16 * shape.parameters and states > 2.7e12
    shared = plan(shape, 1, "fsdp", 1024, "bf16", recompute=True)
    assert shared.total < 80e9 < plan(shape, 1, "fsdp", 16, "bf16").total


def test_recomputing_trades_memory_for_time():
    shape = SHAPES["GPT-2 124M"]
    kept, again = (plan(shape, 8, recompute=r).activations for r in (False, True))
    assert again < 0.5 * kept


@pytest.mark.parametrize("devices", [1, 2, 7])
def test_collectives(devices):
    size = 7 * 2 * 10
    assert all_gather_bytes(size, devices) == size * (devices - 1) / devices
    assert all_reduce_bytes(size, devices) == 2 * all_gather_bytes(size, devices)


def test_traffic():
    shape, n = SHAPES["GPT-2 124M"], 8
    costs = traffic(shape, 64, n)
    # ZeRO, section 7.2.2: sharding everything costs half as much again as DDP. Ours
    # gathers the tables, a large part of a small model, only once.
    ratio = costs["fully sharded (FSDP)"].bytes / costs["data parallel (DDP)"].bytes
    tables = shape.table_parameters / shape.parameters
    assert ratio == pytest.approx(1.5 - tables / 2, rel=1e-6)
    # Korthikanti et al., section 4.2.2: sequence parallelism sends no more.
    tensor, sequence = costs["tensor parallel"], costs["sequence parallel"]
    assert tensor.bytes == pytest.approx(sequence.bytes)
    # Weights do not depend on the batch, activations do.
    larger = traffic(shape, 128, n)
    assert larger["data parallel (DDP)"] == costs["data parallel (DDP)"]
    assert larger["tensor parallel"].bytes == 2 * tensor.bytes
    assert all(cost.bytes == 0 for cost in traffic(shape, 64, 1).values())


def test_ddp_sends_what_a_ring_sends():
    """A ring of n devices, walked through: everyone gets every sum, and we count."""
    n, size = 4, 8
    parts = [[{(device, part)} for part in range(n)] for device in range(n)]
    sent = [0] * n
    for phase, step in itertools.product(range(2), range(n - 1)):
        messages = []
        for device in range(n):
            part = (device - step + phase) % n
            messages.append(((device + 1) % n, part, set(parts[device][part])))
            sent[device] += size // n
        for device, part, content in messages:
            parts[device][part] |= content
    assert all(
        parts[device][part] == {(other, part) for other in range(n)}
        for device in range(n)
        for part in range(n)
    )
    assert set(sent) == {all_reduce_bytes(size, n)}


def test_bubble():
    assert bubble(4, 1) == 0.75 and bubble(1, 5) == 0
    assert bubble(4, 12) == pytest.approx(0.2)


def test_errors():
    with pytest.raises(ValueError, match="strategy must be one of single, ddp, fsdp"):
        plan(SMALL, 1, "tensor")
    with pytest.raises(ValueError, match="devices must be 1"):
        plan(SMALL, 1, "single", 2)
    for call in (lambda: plan(SMALL, 0), lambda: traffic(SMALL, 1, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            call()
    with pytest.raises(ValueError, match="micro_batches"):
        bubble(2, 0)
