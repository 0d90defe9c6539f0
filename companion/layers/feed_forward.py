"""The position-wise feed-forward network, plain and gated.

Sources: Vaswani et al. (2017), section 3.3, equation 2; Shazeer (2020), "GLU Variants
Improve Transformer", equations 5 and 6.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

# The names are those of Hugging Face configurations.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),  # as in GPT-2's code
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),  # as in CLIP's code
    "silu": F.silu,  # also called swish
    "sigmoid": torch.sigmoid,
    "linear": lambda x: x,
}


class PositionwiseFeedForward(nn.Module):
    """FFN(x) = activation(x W_1 + b_1) W_2 + b_2, the same map at each position.

    Args:
        d_model: width of input and output.
        d_ff: width in between; the paper takes ``4 * d_model``.
        dropout: the probability with which a hidden unit is dropped in training.
        activation: ``"relu"`` (the paper), ``"gelu"`` (BERT), ``"gelu_new"`` (GPT-2)
            or another of ``ACTIVATIONS``.
        bias: whether there are b_1 and b_2.

    Raises:
        ValueError: the activation is not known.
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        dropout: float = 0.0,
        activation: str = "relu",
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.W_1 = nn.Linear(d_model, d_ff, bias=bias)
        self.W_2 = nn.Linear(d_ff, d_model, bias=bias)
        self.activation = _known(activation)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "*batch d_model"]
    ) -> Float[Tensor, "*batch d_model"]:
        return self.W_2(self.dropout(self._activate(self.W_1(x))))

    def _activate(self, hidden: Tensor) -> Tensor:
        # On a CPU, new memory takes longer than a maximum. So without gradients it is
        # done in place, unless a hook may have kept what W_1 gave.
        if self.activation == "relu" and not (
            hidden.requires_grad or self.W_1._forward_hooks
        ):
            return hidden.relu_()
        return ACTIVATIONS[self.activation](hidden)


class GatedFeedForward(nn.Module):
    """FFN(x) = (activation(x W_1) * x V) W_2: one half decides how much of the other passes.

    With ``"sigmoid"`` this is GLU, with ``"gelu"`` GEGLU, with ``"silu"`` SwiGLU, with
    ``"relu"`` ReGLU, with ``"linear"`` the bilinear layer. LLaMA calls W_1, V and W_2
    ``gate_proj``, ``up_proj`` and ``down_proj``.

    Args:
        d_model: width of input and output.
        d_ff: width in between. There are three matrices, so two thirds of a plain
            network's ``d_ff`` take as many parameters (see `gated_width`).
        dropout: the probability with which a hidden unit is dropped in training.
        activation: of the gate, one of ``ACTIVATIONS``.
        bias: whether the three maps add a bias.

    Raises:
        ValueError: the activation is not known.
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        dropout: float = 0.0,
        activation: str = "silu",
        *,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.W_1 = nn.Linear(d_model, d_ff, bias=bias)
        self.V = nn.Linear(d_model, d_ff, bias=bias)
        self.W_2 = nn.Linear(d_ff, d_model, bias=bias)
        self.activation = _known(activation)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "*batch d_model"]
    ) -> Float[Tensor, "*batch d_model"]:
        gate = ACTIVATIONS[self.activation](self.W_1(x))
        return self.W_2(self.dropout(gate * self.V(x)))


def gated_width(d_ff: int, multiple_of: int = 1) -> int:
    """The width at which a gated network has the parameters of a plain one of width ``d_ff``.

    That is ``2 * d_ff / 3`` (Shazeer, 2020, section 3), rounded up to a multiple of
    ``multiple_of`` as LLaMA does with 256.

    Raises:
        ValueError: an argument is below 1.
    """
    for name, value in (("d_ff", d_ff), ("multiple_of", multiple_of)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, but it is {value}")
    return multiple_of * -(-2 * d_ff // (3 * multiple_of))


def _known(activation: str) -> str:
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"activation must be one of {', '.join(ACTIVATIONS)}, but it is {activation!r}"
        )
    return activation
