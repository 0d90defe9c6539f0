"""Layer norm and RMS norm: by hand, against their definitions, and at the edges."""

from __future__ import annotations

import pytest
import torch

from companion.layers.norms import LayerNorm, RMSNorm


def test_three_numbers_by_hand():
    """Mean 3, deviations -2, 0, 2, variance 8/3; mean square 35/3."""
    x = torch.tensor([1.0, 3.0, 5.0], dtype=torch.float64)
    root = (8 / 3) ** 0.5
    expected = torch.tensor([-2 / root, 0, 2 / root], dtype=torch.float64)
    torch.testing.assert_close(LayerNorm(3, eps=0.0).double()(x), expected)
    expected = x / (35 / 3) ** 0.5
    torch.testing.assert_close(RMSNorm(3, eps=0.0).double()(x), expected)


def test_scale_and_shift_come_last():
    norm = LayerNorm(2, eps=0.0)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([2.0, 3.0]))
        norm.bias.copy_(torch.tensor([10.0, 20.0]))
    assert norm(torch.tensor([4.0, 8.0])).tolist() == [8.0, 23.0]


def test_each_position_by_itself():
    torch.manual_seed(0)
    x = torch.randn(3, 5, 8)
    for norm in (LayerNorm(8), RMSNorm(8)):
        alone = torch.stack([torch.stack([norm(v) for v in row]) for row in x])
        torch.testing.assert_close(norm(x), alone)


def test_what_each_ignores():
    torch.manual_seed(0)
    x = torch.randn(4, 8, dtype=torch.float64)
    layer, rms = LayerNorm(8, eps=0.0).double(), RMSNorm(8, eps=0.0).double()
    for norm in (layer, rms):
        torch.testing.assert_close(norm(7 * x), norm(x))
    torch.testing.assert_close(layer(x + 7), layer(x))
    assert not torch.allclose(rms(x + 7), rms(x))
    centered = x - x.mean(dim=-1, keepdim=True)
    torch.testing.assert_close(rms(centered), layer(centered))


def test_eps_is_under_the_root():
    """A constant vector has variance 0; a tiny one is not blown up to size 1."""
    constant = torch.full((8,), 3.0)
    assert LayerNorm(8)(constant).tolist() == [0.0] * 8
    assert RMSNorm(8)(torch.zeros(8)).tolist() == [0.0] * 8
    tiny = 1e-3 * torch.tensor([1.0, -1.0])
    expected = tiny / (1e-6 + 1e-5) ** 0.5
    torch.testing.assert_close(LayerNorm(2, eps=1e-5)(tiny), expected)
    torch.testing.assert_close(RMSNorm(2, eps=1e-5)(tiny), expected)


def test_gradients_stay_finite_where_the_variance_is_zero():
    for norm in (LayerNorm(4), RMSNorm(4)):
        x = torch.zeros(2, 4, requires_grad=True)
        norm(x).sum().backward()
        assert torch.isfinite(x.grad).all()


def test_large_half_precision_numbers_do_not_overflow():
    x = torch.tensor([[300.0, -300.0, 300.0, -300.0]], dtype=torch.float16)
    for norm in (LayerNorm(4), RMSNorm(4)):
        y = norm.half()(x)
        assert y.dtype == torch.float16  # the squares, 90000, do not fit into it
        assert y.tolist() == [[1.0, -1.0, 1.0, -1.0]]


def test_without_bias():
    norm = LayerNorm(4, bias=False)
    assert norm.bias is None
    assert [name for name, _ in norm.named_parameters()] == ["weight"]
    assert "bias=False" in repr(norm)


@pytest.mark.parametrize("norm", [LayerNorm, RMSNorm])
def test_negative_eps_is_refused(norm):
    with pytest.raises(ValueError, match="eps must be at least 0, but it is -1"):
        norm(4, eps=-1)
