"""The key-value cache: cached and uncached agree, position by position."""

from __future__ import annotations

import pytest
import torch

from companion import MultiHeadAttention, RotaryEmbedding
from companion.layers import DecoderLayer, KeyValueCache


@pytest.fixture(autouse=True)
def _no_grad():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
@pytest.mark.parametrize("steps", [[1] * 9, [4, 1, 3, 1], [9]])
@pytest.mark.parametrize("need_weights", [True, False])
def test_attention_step_by_step_equals_all_at_once(num_kv_heads, steps, need_weights):
    layer = MultiHeadAttention(16, 4, num_kv_heads).double().eval()
    x = torch.randn(2, 9, 16, dtype=torch.float64)
    expected, _ = layer(x, is_causal=True)
    cache, outputs = KeyValueCache(), []
    for part in x.split(steps, dim=1):
        output, _ = layer(part, is_causal=True, need_weights=need_weights, cache=cache)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs, 1), expected, atol=1e-12, rtol=0)
    assert cache.length == 9


@pytest.mark.parametrize("layout", ["interleaved", "halves"])
def test_rotary_positions_go_on_where_the_cache_ends(layout):
    rotary = RotaryEmbedding(4, layout=layout)
    layers = [
        MultiHeadAttention(16, 4, 2, rotary=rotary).double().eval() for _ in range(2)
    ]
    x = torch.randn(2, 9, 16, dtype=torch.float64)

    def run(x, cache=None):
        for layer in layers:
            x = x + layer(x, is_causal=True, cache=cache)[0]
        return x

    cache = KeyValueCache()
    parts = [run(part, cache) for part in x.split([4, 1, 4], dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1), run(x), atol=1e-12, rtol=0)
    for layer in layers:  # and they do matter
        layer.rotary = None
    assert (torch.cat(parts, 1) - run(x)).abs().max() > 0.01


def test_self_attention_is_known_by_its_key_also_when_it_is_named():
    layer = MultiHeadAttention(16, 4).eval()
    x = torch.randn(1, 3, 16)
    a, b = KeyValueCache(), KeyValueCache()
    for t in range(3):
        step = x[:, t : t + 1]
        named, _ = layer(step, step, step, is_causal=True, cache=a)
        unnamed, _ = layer(step, is_causal=True, cache=b)
        assert torch.equal(named, unnamed)


@pytest.mark.parametrize("norm_first", [False, True])
def test_decoder_layer_step_by_step_equals_all_at_once(norm_first):
    layer = DecoderLayer(16, 4, 32, norm_first=norm_first).double().eval()
    x = torch.randn(2, 7, 16, dtype=torch.float64)
    memory = torch.randn(2, 5, 16, dtype=torch.float64)
    source_mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()[:, None, None]
    expected = layer(x, memory, source_mask)
    cache = KeyValueCache()
    for t in range(7):
        output = layer(x[:, t : t + 1], memory, source_mask, cache=cache)
        torch.testing.assert_close(output, expected[:, t : t + 1], atol=1e-12, rtol=0)


def test_cross_attention_projects_its_memory_once():
    layer, cache = MultiHeadAttention(16, 4).eval(), KeyValueCache()
    calls = []
    layer.W_k.register_forward_hook(lambda *_: calls.append(1))
    memory = torch.randn(2, 5, 16)
    for _ in range(3):
        layer(torch.randn(2, 1, 16), memory, cache=cache)
    assert len(calls) == 1
    assert cache.length == 0  # no position of the target has been kept


def test_truncate_takes_positions_back():
    layer = MultiHeadAttention(16, 4).eval()
    x = torch.randn(1, 6, 16)
    expected, _ = layer(x, is_causal=True)
    cache = KeyValueCache()
    layer(torch.cat([x[:, :4], torch.randn(1, 3, 16)], 1), is_causal=True, cache=cache)
    cache.truncate(4)
    output, _ = layer(x[:, 4:], is_causal=True, cache=cache)
    torch.testing.assert_close(output, expected[:, 4:])
    for wrong in (-1, 7):
        with pytest.raises(ValueError, match=f"6 positions kept, but it is {wrong}"):
            cache.truncate(wrong)


def test_select_reorders_the_batch():
    layer = MultiHeadAttention(16, 4, 2).eval()
    x, memory = torch.randn(3, 4, 16), torch.randn(3, 5, 16)
    rows = torch.tensor([2, 0, 0])
    cache = KeyValueCache()
    cross = MultiHeadAttention(16, 4).eval()
    layer(x[:, :3], is_causal=True, cache=cache)
    cross(x[:, :3], memory, cache=cache)
    cache.select(rows)
    output, _ = layer(x[rows, 3:], is_causal=True, cache=cache)
    expected, _ = layer(x[rows], is_causal=True)
    torch.testing.assert_close(output, expected[:, 3:])
    output, _ = cross(x[rows, 3:], torch.empty(0), cache=cache)
    expected, _ = cross(x[rows, 3:], memory[rows])
    torch.testing.assert_close(output, expected)


def test_bytes_are_those_of_the_kept_positions():
    cache = KeyValueCache()
    assert cache.num_bytes == 0
    layer = MultiHeadAttention(16, 4, 2).eval()
    for length in (5, 1, 1):
        layer(torch.randn(3, length, 16), is_causal=True, cache=cache)
    # keys and values, batch, key-value heads, positions, width, bytes of a float32
    assert cache.num_bytes == 2 * 3 * 2 * 7 * 4 * 4


def test_another_batch_is_refused():
    layer, cache = MultiHeadAttention(16, 4).eval(), KeyValueCache()
    layer(torch.randn(2, 3, 16), is_causal=True, cache=cache)
    with pytest.raises(ValueError, match="start a new cache"):
        layer(torch.randn(3, 1, 16), is_causal=True, cache=cache)
