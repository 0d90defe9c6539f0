"""Multi-head attention: heads, groups of heads, recording."""

from __future__ import annotations

import pytest
import torch

from companion import (
    EncoderLayer,
    MultiHeadAttention,
    causal_mask,
    record_attention,
    scaled_dot_product_attention,
)


def test_each_head_is_an_attention_in_its_own_slice() -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(12, 3).double()
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    output, weights = layer(x)
    heads = []
    for h in range(3):
        rows = slice(4 * h, 4 * h + 4)
        q, k, v = (
            x @ W.weight[rows].T + W.bias[rows]
            for W in (layer.W_q, layer.W_k, layer.W_v)
        )
        head, head_weights = scaled_dot_product_attention(q, k, v)
        torch.testing.assert_close(weights[:, h], head_weights)
        heads.append(head)
    torch.testing.assert_close(output, layer.W_o(torch.cat(heads, dim=-1)))


@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
@pytest.mark.parametrize("need_weights", [True, False])
def test_grouped_heads_equal_full_heads_with_copied_keys_and_values(
    num_kv_heads: int, need_weights: bool
) -> None:
    torch.manual_seed(0)
    grouped = MultiHeadAttention(16, 4, num_kv_heads).double()
    full = MultiHeadAttention(16, 4).double()
    full.W_q.load_state_dict(grouped.W_q.state_dict())
    full.W_o.load_state_dict(grouped.W_o.state_dict())
    for small, large in ((grouped.W_k, full.W_k), (grouped.W_v, full.W_v)):
        for h in range(4):
            serves = h // (4 // num_kv_heads)  # consecutive query heads share
            for name in ("weight", "bias"):
                source = getattr(small, name).data[4 * serves : 4 * serves + 4]
                getattr(large, name).data[4 * h : 4 * h + 4] = source
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    a, _ = grouped(x, is_causal=True, need_weights=need_weights)
    b, _ = full(x, is_causal=True)
    torch.testing.assert_close(a, b)
    assert grouped.W_k.weight.shape == (4 * num_kv_heads, 16)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("num_kv_heads", [1, 4])
def test_two_paths_one_answer(is_causal: bool, num_kv_heads: int) -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(16, 4, num_kv_heads).double()
    x = torch.randn(2, 5, 16, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(2, 1, 5, 5) > 0.3
    explicit, weights = layer(x, mask=mask, is_causal=is_causal)
    fused, nothing = layer(x, mask=mask, is_causal=is_causal, need_weights=False)
    assert nothing is None
    assert weights.shape == (2, 4, 5, 5)
    torch.testing.assert_close(explicit, fused, atol=1e-12, rtol=0)
    parameters = [x, *layer.parameters()]
    for a, b in zip(
        torch.autograd.grad(explicit.square().sum(), parameters),
        torch.autograd.grad(fused.square().sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def test_is_causal_is_the_causal_mask_also_with_more_keys_than_queries() -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(16, 4)
    query, memory = torch.randn(2, 3, 16), torch.randn(2, 5, 16)
    expected, _ = layer(query, memory, mask=causal_mask(3, 5))
    for need_weights in (True, False):
        output, _ = layer(query, memory, is_causal=True, need_weights=need_weights)
        torch.testing.assert_close(output, expected)


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    layer, x = MultiHeadAttention(16, 4, dropout=0.5), torch.randn(2, 5, 16)
    for need_weights in (True, False):
        layer.train()
        assert not torch.equal(
            layer(x, need_weights=need_weights)[0],
            layer(x, need_weights=need_weights)[0],
        )
        layer.eval()
        assert torch.equal(
            layer(x, need_weights=need_weights)[0],
            layer(x, need_weights=need_weights)[0],
        )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"d_model": 10, "num_heads": 3}, "d_model is 10 and num_heads is 3"),
        ({"d_model": 8, "num_heads": 0}, "num_heads must be at least 1"),
        ({"d_model": 8, "num_heads": 4, "num_kv_heads": 3}, "num_kv_heads is 3"),
        ({"d_model": 8, "num_heads": 4, "num_kv_heads": 0}, "num_kv_heads is 0"),
        ({"d_model": 8, "num_heads": 4, "dropout": 1.0}, "dropout"),
    ],
)
def test_impossible_sizes_are_named(arguments: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        MultiHeadAttention(**arguments)


def test_a_head_may_be_wider_than_its_share() -> None:
    layer = MultiHeadAttention(10, 3, d_k=8)
    output, weights = layer(torch.randn(2, 5, 10))
    assert output.shape == (2, 5, 10)
    assert weights.shape == (2, 3, 5, 5)


class TestRecording:
    def test_maps_come_from_every_layer_and_do_not_change_the_output(self) -> None:
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            EncoderLayer(16, 4, 32), EncoderLayer(16, 4, 32)
        ).eval()
        x = torch.randn(2, 5, 16)
        expected = model(x)
        with record_attention(model) as maps:
            output = model(x)
        torch.testing.assert_close(output, expected)
        assert list(maps) == ["0.self_attention", "1.self_attention"]
        assert maps.stack().shape == (2, 2, 4, 5, 5)
        _, first = model[0].self_attention(x)
        torch.testing.assert_close(maps["0.self_attention"][0], first)
        assert not maps.stack().requires_grad

    def test_it_stops_listening(self) -> None:
        layer, x = MultiHeadAttention(16, 4), torch.randn(1, 5, 16)
        with pytest.raises(KeyboardInterrupt), record_attention(layer) as maps:
            layer(x)
            raise KeyboardInterrupt
        layer(x)
        assert len(maps[""]) == 1
        assert layer(x, need_weights=False)[1] is None

    def test_several_calls_are_kept_in_order(self) -> None:
        layer = MultiHeadAttention(16, 4)
        with record_attention(layer) as maps:
            for length in (3, 4):
                layer(torch.randn(1, length, 16))
        assert [m.shape[-1] for m in maps[""]] == [3, 4]
        with pytest.raises(ValueError, match="2 times"):
            maps.stack()

    def test_nested_recordings_do_not_disturb_each_other(self) -> None:
        layer, x = MultiHeadAttention(16, 4), torch.randn(1, 5, 16)
        with record_attention(layer) as outer:
            layer(x)
            with record_attention(layer) as inner:
                layer(x)
            layer(x)
        assert (len(outer[""]), len(inner[""])) == (2, 1)

    def test_clear_errors(self) -> None:
        with pytest.raises(ValueError, match="Linear has no attention"):
            with record_attention(torch.nn.Linear(2, 2)):
                pass
        with record_attention(MultiHeadAttention(16, 4)) as maps:
            pass
        with pytest.raises(ValueError, match="not called"):
            maps.stack()
        model = torch.nn.ModuleList(
            [MultiHeadAttention(16, 4), MultiHeadAttention(16, 2)]
        )
        with record_attention(model) as maps:
            for layer in model:
                layer(torch.randn(1, 5, 16))
        with pytest.raises(ValueError, match="differ in shape"):
            maps.stack()
