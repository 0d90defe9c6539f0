"""How far back a layer's last output reaches, measured by gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def gradient_reach(
    layer: Callable[[Tensor], Tensor | tuple[Tensor, ...]],
    x: Float[Tensor, "batch length d_model"],
    probes: int = 4,
) -> Float[Tensor, "length"]:
    """The size of d output_last / d input_j for each position j, the newest last.

    The size is the Jacobian's Frobenius norm: how much the last output moves, over all
    its directions, when input j does. It is estimated with random vectors v, for which
    E |v^T J|^2 = |J|_F^2 (Hutchinson, 1990), as the root mean square over batch and
    probes.

    Args:
        layer: maps ``(batch, length, d_model)`` to ``(batch, length, d_out)``, or to a
            tuple that starts with it, as attention and recurrent layers do.
        x: the inputs at which the slope is taken.
        probes: number of random vectors.
    """
    x = x.detach().requires_grad_()
    output = layer(x)
    output = output[0] if isinstance(output, tuple) else output
    last = output[:, -1]  # (B, d_out)
    squares = torch.zeros(x.shape[1], dtype=x.dtype, device=x.device)
    for _ in range(probes):
        v = torch.randn(last.shape, dtype=last.dtype).to(last.device)
        (slope,) = torch.autograd.grad(last, x, v, retain_graph=True)  # (B, L, D)
        squares += slope.square().sum(dim=-1).mean(dim=0)
    return (squares / probes).sqrt()
