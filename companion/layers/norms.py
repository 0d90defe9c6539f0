"""Layer norm and RMS norm: each position brought to one scale by its own numbers alone.

Sources: Ba, Kiros and Hinton (2016), "Layer Normalization", equation 3; Zhang and Sennrich
(2019), "Root Mean Square Layer Normalization", equation 4.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias, over the features of each position.

    The variance divides by ``d_model``, not by ``d_model - 1``. Same numbers and same
    parameter names as `torch.nn.LayerNorm`, whose kernel is quicker.

    Args:
        d_model: width, the size of the last axis.
        eps: added to the variance, under the root, so that a constant vector gives zero.
        bias: whether the features are shifted at the end, besides being scaled.

    Raises:
        ValueError: ``eps`` is negative.
    """

    def __init__(self, d_model: int, eps: float = 1e-5, *, bias: bool = True) -> None:
        super().__init__()
        self.eps = _checked(eps)
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model)) if bias else None

    def forward(
        self, x: Float[Tensor, "*batch d_model"]
    ) -> Float[Tensor, "*batch d_model"]:
        exact = _at_least_float32(x)
        centered = exact - exact.mean(dim=-1, keepdim=True)
        variance = centered.square().mean(dim=-1, keepdim=True)
        normed = centered / torch.sqrt(variance + self.eps) * self.weight
        if self.bias is not None:
            normed = normed + self.bias
        return normed.to(x.dtype)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}, bias={self.bias is not None}"


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight: layer norm without the mean and without a bias.

    The norm of T5 and LLaMA. Equal to `torch.nn.RMSNorm`.

    Args:
        d_model: width, the size of the last axis.
        eps: added to the mean square, under the root; 1e-6 in T5 and LLaMA.

    Raises:
        ValueError: ``eps`` is negative.
    """

    def __init__(self, d_model: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = _checked(eps)
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(
        self, x: Float[Tensor, "*batch d_model"]
    ) -> Float[Tensor, "*batch d_model"]:
        exact = _at_least_float32(x)
        mean_square = exact.square().mean(dim=-1, keepdim=True)
        return (exact / torch.sqrt(mean_square + self.eps) * self.weight).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}"


def _at_least_float32(x: Tensor) -> Tensor:
    # A sum of 512 squares does not fit into the 8 binary digits of a bfloat16.
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _checked(eps: float) -> float:
    if eps < 0:
        raise ValueError(f"eps must be at least 0, but it is {eps}")
    return eps
