"""What a long context costs: cache bytes and attention FLOPs of published shapes."""

from __future__ import annotations

import pytest
import torch

from companion import GPT, KeyValueCache
from companion.analysis.cost import (
    GPT3_175B,
    LLAMA3_70B,
    DecoderShape,
    attention_flops,
    cache_bytes,
    weight_flops,
)
from companion.models.decoder_only import DecoderOnlyTransformer


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_cache_bytes_are_those_of_the_cache(kv_heads):
    model = DecoderOnlyTransformer(11, 16, 4, 32, 3, 8, num_kv_heads=kv_heads)
    cache = KeyValueCache()
    model(torch.randint(0, 11, (1, 7)), cache=cache)
    shape = DecoderShape(3, 16, 4, kv_heads, 4)
    assert cache_bytes(shape, 7, 4) == cache.num_bytes


def test_published_shapes():
    assert cache_bytes(GPT3_175B, 1) == 96 * 2 * 96 * 128 * 2  # 4.7 MB a token
    assert cache_bytes(LLAMA3_70B, 1) == 80 * 2 * 8 * 128 * 2
    assert cache_bytes(GPT3_175B, 1) / cache_bytes(LLAMA3_70B, 1) == pytest.approx(14.4)


@pytest.mark.parametrize("causal", [True, False])
def test_attention_flops_by_counting_pairs(causal):
    shape = DecoderShape(2, 16, 4, 2, 4)
    new, past = 3, 5
    pairs = sum(
        not causal or key <= past + query
        for query in range(new)
        for key in range(past + new)
    )
    assert attention_flops(shape, new, past, causal=causal) == 2 * 4 * 4 * 4 * pairs


def test_a_text_read_at_once_or_token_by_token_costs_the_same():
    at_once = attention_flops(GPT3_175B, 50)
    steps = sum(attention_flops(GPT3_175B, 1, past) for past in range(50))
    assert at_once == steps


def test_weights_cost_two_flops_each_a_token():
    """The count of PyTorch's own profiler, for the matrices of a small model."""
    from torch.utils.flop_counter import FlopCounterMode

    model = GPT(11, 16, 4, num_layers=3, max_seq_len=8, dropout=0.0)
    matrices = sum(
        m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear)
    )
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.randint(0, 11, (1, 8)))
    counted = sum(
        flops
        for op, flops in counter.get_flop_counts()["Global"].items()
        if "mm" in str(op) and "bmm" not in str(op)
    )
    assert counted == weight_flops(matrices, 8)
