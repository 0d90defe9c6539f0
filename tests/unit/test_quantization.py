"""Rounded weights: errors within bounds, layers near the real ones, what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from companion import DecoderOnlyTransformer
from companion.layers.quantization import (
    Int8Linear,
    QuantizedLinear,
    quantize_,
    quantize_absmax,
    quantize_blocks,
    quantize_minmax,
    relative_error,
    storage_bytes,
)


@pytest.fixture
def weight():
    torch.manual_seed(0)
    return torch.randn(6, 64) * torch.logspace(-3, 1, 6)[:, None]  # rows of all sizes


@pytest.mark.parametrize("per_row", [True, False])
def test_rounding_is_off_by_at_most_half_a_step(weight, per_row):
    values, scale = quantize_absmax(weight, per_row=per_row)
    assert values.dtype == torch.int8 and values.abs().max() == 127
    assert scale.shape == ((6, 1) if per_row else (1, 1))
    assert ((values * scale - weight).abs() <= 0.5001 * scale).all()
    assert torch.equal(quantize_absmax(-weight, per_row=per_row)[0], -values)

    values, scale, lowest = quantize_minmax(weight, per_row=per_row)
    assert values.dtype == torch.uint8 and values.min() == 0 and values.max() == 255
    error = (values * scale + lowest - weight).abs()
    assert (error <= 0.501 * scale).all()


def test_a_scale_for_each_row_saves_the_small_rows(weight):
    errors = {}
    for per_row in (True, False):
        values, scale = quantize_absmax(weight, per_row=per_row)
        errors[per_row] = relative_error((values * scale)[0], weight[0])
    assert errors[True] < 0.01 and errors[False] == 1.0  # all of row 0 becomes zero


def test_rows_of_zeros_stay_zero():
    for function in (quantize_absmax, quantize_minmax):
        values, scale, *lowest = function(torch.zeros(2, 4))
        back = values * scale + (lowest[0] if lowest else 0)
        assert (back == 0).all()
    assert (quantize_blocks(torch.zeros(2, 32)) == 0).all()


def test_blocks_are_those_of_q4_1():
    gguf = pytest.importorskip("gguf")
    torch.manual_seed(0)
    weight = torch.randn(8, 96)
    kind = gguf.GGMLQuantizationType.Q4_1
    packed = gguf.quants.quantize(weight.numpy(), kind)
    assert packed.nbytes == weight.numel() * 5 // 8  # 4 bits and two halves for 32
    theirs = torch.from_numpy(gguf.quants.dequantize(packed, kind))
    torch.testing.assert_close(quantize_blocks(weight), theirs, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="block must divide the 96 columns"):
        quantize_blocks(weight, 36)


def test_a_quantized_layer_is_linear_with_the_rounded_weight():
    torch.manual_seed(0)
    linear = nn.Linear(32, 8)
    layer = QuantizedLinear(linear)
    x = torch.randn(2, 3, 32, requires_grad=True)
    expected = nn.functional.linear(x, layer.weight, linear.bias)
    torch.testing.assert_close(layer(x), expected)
    assert relative_error(layer(x), linear(x)) < 0.01
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad[0, 0], layer.weight.sum(dim=0))
    assert set(layer.state_dict()) == {"values", "scale", "bias"}


def with_an_outlier() -> tuple[nn.Linear, torch.Tensor]:
    torch.manual_seed(0)
    x = torch.randn(20, 64)
    x[:, 5] *= 100
    return nn.Linear(64, 16), x


def test_one_outlier_spoils_all_and_taking_it_out_repairs_that():
    linear, x = with_an_outlier()
    with torch.no_grad():
        linear.weight[:, 5] = 0  # so that only the others' accuracy is looked at
        exact = linear(x)
        plain = relative_error(Int8Linear(linear)(x), exact)
        split = relative_error(Int8Linear(linear, threshold=6.0)(x), exact)
    assert plain > 0.1 and split < 0.015


def test_integers_are_multiplied_as_integers(monkeypatch):
    linear, x = with_an_outlier()
    layer = Int8Linear(linear)
    fast = layer(x)

    def absent(*_):
        raise NotImplementedError

    monkeypatch.setattr(torch, "_int_mm", absent)
    torch.testing.assert_close(layer(x), fast, atol=1e-4, rtol=1e-5)
    assert layer(x[0]).shape == (16,)
    torch.testing.assert_close(layer(x[0]), fast[0], atol=1e-4, rtol=1e-5)


def test_a_whole_model_in_place():
    torch.manual_seed(0)
    model = DecoderOnlyTransformer(11, 32, 4, 64, 2, tied_output=True).eval()
    ids = torch.randint(1, 11, (2, 5))
    before, size = model(ids), storage_bytes(model)
    linear_numbers = 2 * (4 * 32 * 32 + 2 * 32 * 64)
    assert quantize_(model, skip=("output_projection",)) is model
    assert relative_error(model(ids), before) < 0.02
    assert not torch.equal(model(ids), before)
    scales = 2 * 4 * (4 * 32 + 64 + 32)
    assert size - storage_bytes(model) == 3 * linear_numbers - scales
    assert isinstance(model.output_projection, nn.Linear)
    with pytest.raises(ValueError, match="must have linear layers"):
        quantize_(model, skip=("output_projection",))
