"""The position-wise feed-forward network.

Source: Vaswani et al. (2017), section 3.3, equation 2.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
}


class PositionwiseFeedForward(nn.Module):
    """FFN(x) = activation(x W_1 + b_1) W_2 + b_2, the same map at each position.

    Args:
        d_model: width of input and output.
        d_ff: width in between; the paper takes ``4 * d_model``.
        dropout: the probability with which a hidden unit is dropped in training.
        activation: ``"relu"`` (the paper) or ``"gelu"`` (BERT, GPT).

    Raises:
        ValueError: the activation is not known.
    """

    def __init__(
        self, d_model: int, d_ff: int, dropout: float = 0.0, activation: str = "relu"
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"activation must be one of {', '.join(ACTIVATIONS)}, but it is {activation!r}"
            )
        self.W_1 = nn.Linear(d_model, d_ff)
        self.W_2 = nn.Linear(d_ff, d_model)
        self.activation = activation
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "*batch d_model"]
    ) -> Float[Tensor, "*batch d_model"]:
        return self.W_2(self.dropout(ACTIVATIONS[self.activation](self.W_1(x))))
