"""What deep image models do to a sub-layer's output before it is added: scale it, or leave it out.

Sources: Huang et al. (2016), "Deep Networks with Stochastic Depth", section 3; Touvron et
al. (2021), "Going Deeper with Image Transformers", section 2, for the scale.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LayerScale(nn.Module):
    """x * gamma, one learned factor a feature, which starts small.

    Args:
        d_model: width of ``x``.
        initial: the factors at the start; at 1e-5 a layer begins as almost the identity.
    """

    def __init__(self, d_model: int, initial: float = 1e-5) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((d_model,), float(initial)))

    def forward(
        self, x: Float[Tensor, "*batch d_model"]
    ) -> Float[Tensor, "*batch d_model"]:
        return x * self.gamma


class DropPath(nn.Module):
    """In training, zero for some examples, and the others scaled up to keep the mean.

    What is dropped is a whole sub-layer for a whole example: its residual connection is
    all that is left. In evaluation, nothing happens.

    Args:
        probability: with which an example is dropped.

    Raises:
        ValueError: the probability is not from 0 to below 1.
    """

    def __init__(self, probability: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= probability < 1.0:
            raise ValueError(
                f"probability must be at least 0 and below 1, but it is {probability}"
            )
        self.probability = probability

    def forward(self, x: Float[Tensor, "batch *rest"]) -> Float[Tensor, "batch *rest"]:
        if not self.training or self.probability == 0.0:
            return x
        keep = 1.0 - self.probability
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        return x * torch.bernoulli(x.new_full(shape, keep)) / keep

    def extra_repr(self) -> str:
        return f"probability={self.probability}"
