"""Parameters, operations and activations: counted by hand, by PyTorch, and by the papers' rules."""

from __future__ import annotations

import pytest
import torch

from companion import BERT, GPT, T5, LLaMA
from companion.analysis.flops import (
    activation_bytes,
    count_parameters,
    decoder_forward_flops,
    forward_flops,
    six_nd,
)


def gpt(**changes) -> GPT:
    sizes = {"d_model": 32, "num_heads": 4, "num_layers": 3, "max_seq_len": 24}
    return GPT(50, dropout=0.0, **sizes | changes).eval()


@pytest.mark.parametrize(
    "model",
    [
        gpt(),
        BERT(50, 32, 4, 64, 2, 20),
        LLaMA(50, 32, 4, 2, 64, 2),
        T5(50, 32, 4, 8, 64, 2, 2),
    ],
    ids=lambda model: type(model).__name__,
)
def test_the_parts_add_up(model):
    parts = count_parameters(model)
    assert parts.total == sum(p.numel() for p in model.parameters())
    assert min(parts.embedding, parts.attention, parts.feed_forward) > 0


def test_the_parts_of_a_gpt():
    parts = count_parameters(gpt())
    assert parts.embedding == (50 + 24) * 32  # the tied output is counted once
    assert parts.attention == 3 * 4 * (32 * 32 + 32)
    assert parts.feed_forward == 3 * (2 * 4 * 32 * 32 + 5 * 32)
    assert parts.other == (2 * 3 + 1) * 2 * 32


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("length", [5, 24])
def test_by_hand_and_by_pytorch(batch, length):
    counted = forward_flops(gpt(), torch.zeros(batch, length, dtype=torch.long))
    assert counted == decoder_forward_flops(3, 32, 128, 50, length, batch)


def test_gpt2_on_paper():
    with torch.device("meta"):
        model = GPT.preset("gpt2").eval()
        counted = forward_flops(model, torch.zeros(1, 1024, dtype=torch.long))
    assert counted == decoder_forward_flops(12, 768, 3072, 50257, 1024)
    rule = six_nd(count_parameters(model).total, 1024) / 3  # 2ND, forward only
    assert rule / counted.total == pytest.approx(0.87, abs=0.01)


def test_backward_is_twice_the_forward():
    from torch.utils.flop_counter import FlopCounterMode

    model = gpt()
    ids = torch.zeros(2, 20, dtype=torch.long)
    with (
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        model(ids).sum().backward()
    forward = forward_flops(model, ids).total
    assert counter.get_total_flops() == pytest.approx(3 * forward, rel=1e-6)


def test_activations_grow_with_batch_and_layers():
    ids = torch.zeros(4, 20, dtype=torch.long)
    shallow, deep = gpt(num_layers=2), gpt(num_layers=6)
    one, two = (
        activation_bytes(shallow, lambda n=n: shallow.loss(ids[:n])) for n in (2, 4)
    )
    assert two == pytest.approx(2 * one, rel=0.05)
    more = activation_bytes(deep, lambda: deep.loss(ids[:2]))
    assert more > 2 * one
    with torch.no_grad():
        assert activation_bytes(shallow, lambda: shallow.loss(ids)) == 0
