"""The feed-forward network: the formula, each position alone, and the gated kinds."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from companion.layers.feed_forward import (
    ACTIVATIONS,
    GatedFeedForward,
    PositionwiseFeedForward,
    gated_width,
)

# Written out, independently of what the layers call.
FORMULAS = {
    "relu": lambda x: torch.clamp(x, min=0),
    "gelu": lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2,
    "gelu_new": lambda x: (
        x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    ),
    "quick_gelu": lambda x: x / (1 + torch.exp(-1.702 * x)),
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "sigmoid": lambda x: 1 / (1 + torch.exp(-x)),
    "linear": lambda x: x,
}


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.randn(2, 5, 6, dtype=torch.float64)


def test_every_activation_has_a_formula():
    assert FORMULAS.keys() == ACTIVATIONS.keys()


@pytest.mark.parametrize("activation", FORMULAS)
def test_plain_is_the_papers_formula(activation, x):
    layer = PositionwiseFeedForward(6, 9, activation=activation).double()
    hidden = FORMULAS[activation](x @ layer.W_1.weight.T + layer.W_1.bias)
    torch.testing.assert_close(
        layer(x), hidden @ layer.W_2.weight.T + layer.W_2.bias, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("activation", FORMULAS)
@pytest.mark.parametrize("bias", [False, True])
def test_gated_is_shazeers_formula(activation, bias, x):
    layer = GatedFeedForward(6, 9, activation=activation, bias=bias).double()
    gate, value, out = (
        lambda y, W=W: y @ W.weight.T + (W.bias if bias else 0)
        for W in (layer.W_1, layer.V, layer.W_2)
    )
    expected = out(FORMULAS[activation](gate(x)) * value(x))
    torch.testing.assert_close(layer(x), expected, rtol=1e-9, atol=1e-12)


def test_sigmoid_gate_is_pytorchs_glu(x):
    """F.glu takes both halves in one tensor, the value first."""
    layer = GatedFeedForward(6, 9, activation="sigmoid").double()
    both = torch.cat([layer.V(x), layer.W_1(x)], dim=-1)
    torch.testing.assert_close(layer(x), layer.W_2(F.glu(both)))


@pytest.mark.parametrize("layer", [PositionwiseFeedForward, GatedFeedForward])
def test_each_position_by_itself(layer, x):
    layer = layer(6, 9).double()
    alone = torch.stack([layer(x[:, i]) for i in range(5)], dim=1)
    torch.testing.assert_close(layer(x), alone)
    slope = torch.autograd.functional.jacobian(layer, x[0])  # (L, D, L, D)
    across = slope.norm(dim=(1, 3))
    assert (across.diagonal() > 0).all()
    assert (across - across.diag().diag()).count_nonzero() == 0


def test_plain_is_a_convolution_of_width_one(x):
    layer = PositionwiseFeedForward(6, 9).double()
    first, second = nn.Conv1d(6, 9, 1).double(), nn.Conv1d(9, 6, 1).double()
    for conv, linear in ((first, layer.W_1), (second, layer.W_2)):
        conv.weight.data = linear.weight.data[:, :, None]
        conv.bias.data = linear.bias.data
    torch.testing.assert_close(layer(x), second(first(x.mT).relu()).mT)


def test_dropout_only_in_training(x):
    for layer in (PositionwiseFeedForward(6, 9, 0.5), GatedFeedForward(6, 9, 0.5)):
        layer = layer.double()
        assert not torch.equal(layer(x), layer(x))
        layer.eval()
        assert torch.equal(layer(x), layer(x))


def test_parameter_names_are_kept():
    names = ["W_1.weight", "W_1.bias", "W_2.weight", "W_2.bias"]
    assert list(PositionwiseFeedForward(4, 8).state_dict()) == names
    assert list(PositionwiseFeedForward(4, 8, bias=False).state_dict()) == names[::2]
    assert list(GatedFeedForward(4, 8).state_dict()) == [
        "W_1.weight",
        "V.weight",
        "W_2.weight",
    ]


def test_two_thirds_of_the_width_has_as_many_parameters():
    def count(layer):
        return sum(p.numel() for p in layer.parameters())

    plain = count(PositionwiseFeedForward(12, 48, bias=False))
    assert count(GatedFeedForward(12, gated_width(48))) == plain
    assert gated_width(2048) == 1366
    assert gated_width(4 * 4096, multiple_of=256) == 11008  # LLaMA 7B
    with pytest.raises(ValueError, match="d_ff must be at least 1, but it is 0"):
        gated_width(0)
    with pytest.raises(ValueError, match="multiple_of must be at least 1"):
        gated_width(8, multiple_of=0)


@pytest.mark.parametrize("layer", [PositionwiseFeedForward, GatedFeedForward])
def test_unknown_activation(layer):
    with pytest.raises(ValueError, match="must be one of relu, gelu.* it is 'swish'"):
        layer(4, 8, activation="swish")
