"""A mixture of experts: many feed-forward networks, of which each token uses a few.

Sources: Shazeer et al. (2017), "Outrageously Large Neural Networks: The Sparsely-Gated
Mixture-of-Experts Layer", section 2; Lepikhin et al. (2020), "GShard", section 2.2, and
Fedus et al. (2021), "Switch Transformers", section 2.2, for capacity and the balancing
loss; Jiang et al. (2024), "Mixtral of Experts", section 2.1, for the router used here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from companion.layers.feed_forward import GatedFeedForward


class Routing(NamedTuple):
    """Where one call sent its tokens.

    ``probabilities`` are the router's, over all experts; ``chosen`` are each token's
    experts, the best first; ``kept`` is False where an expert had no room left.
    """

    probabilities: Float[Tensor, "tokens experts"]
    chosen: Int[Tensor, "tokens top_k"]
    kept: Bool[Tensor, "tokens top_k"]

    def usage(self) -> Float[Tensor, " experts"]:
        """The share of all choices that went to each expert."""
        experts = self.probabilities.shape[-1]
        return torch.bincount(self.chosen.flatten(), minlength=experts) / max(
            self.chosen.numel(), 1
        )


class MixtureOfExperts(nn.Module):
    """y = sum over the top k experts e of p_e * FFN_e(x), with p the router's softmax.

    The choice itself has no slope: the router learns through the probabilities of the
    experts that it chose.

    Args:
        d_model: width of input and output.
        d_ff: inner width of each expert, a `GatedFeedForward`.
        num_experts: number of experts.
        top_k: how many of them a token uses.
        capacity_factor: None for no limit ("dropless"). Otherwise an expert takes at
            most ``capacity_factor * top_k / num_experts`` of the tokens of a call,
            rounded up; first choices go before second ones, and earlier tokens before
            later ones. Who finds no room gets nothing from that expert.
        normalize: whether the k probabilities are divided by their sum, as in Mixtral.
            With ``top_k=1`` that makes them 1 and leaves the router without a gradient,
            so the Switch Transformer does not.
        activation: of the experts' gates.

    Raises:
        ValueError: ``top_k`` is not from 1 to ``num_experts``, or the capacity factor is
            not above zero.
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        num_experts: int,
        top_k: int = 2,
        *,
        capacity_factor: float | None = None,
        normalize: bool = True,
        activation: str = "silu",
    ) -> None:
        super().__init__()
        if not 1 <= top_k <= num_experts:
            raise ValueError(
                f"top_k must be from 1 to num_experts = {num_experts}, but it is {top_k}"
            )
        if capacity_factor is not None and capacity_factor <= 0:
            raise ValueError(
                f"capacity_factor must be None or above 0, but it is {capacity_factor}"
            )
        self.top_k, self.normalize = top_k, normalize
        self.capacity_factor = capacity_factor
        self.router = nn.Linear(d_model, num_experts, bias=False)
        self.experts = nn.ModuleList(
            GatedFeedForward(d_model, d_ff, activation=activation)
            for _ in range(num_experts)
        )
        self._listener: list[Routing] | None = None

    def forward(
        self, x: Float[Tensor, "*batch d_model"]
    ) -> Float[Tensor, "*batch d_model"]:
        tokens = x.reshape(-1, x.shape[-1])  # (N, D): to a router, batches are one list
        probabilities = self.router(tokens).float().softmax(dim=-1)  # (N, E)
        weights, chosen = probabilities.topk(self.top_k, dim=-1)  # (N, k)
        if self.normalize:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        kept = self._within_capacity(chosen)  # (N, k)
        if self._listener is not None:
            self._listener.append(Routing(probabilities, chosen, kept))

        y = torch.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            token, choice = torch.where((chosen == number) & kept)  # who comes here
            share = weights[token, choice, None].to(x.dtype)  # (n, 1)
            y = y.index_add(0, token, share * expert(tokens[token]))
        return y.view_as(x)

    def _within_capacity(self, chosen: Tensor) -> Tensor:
        if self.capacity_factor is None:
            return torch.ones_like(chosen, dtype=torch.bool)
        num_experts = len(self.experts)
        capacity = math.ceil(self.capacity_factor * chosen.numel() / num_experts)
        queue = chosen.T.flatten()  # all first choices, then all second ones
        before = nn.functional.one_hot(queue, num_experts).cumsum(dim=0)
        place = before.gather(1, queue[:, None])[:, 0]  # from 1, in its expert's queue
        return (place <= capacity).view_as(chosen.T).T

    def extra_repr(self) -> str:
        return f"top_k={self.top_k}, capacity_factor={self.capacity_factor}"


@contextmanager
def record_routing(model: nn.Module) -> Iterator[list[Routing]]:
    """Collect the `Routing` of every mixture in ``model``, in the order of the calls.

    The probabilities keep their gradient, so that a loss can be made of them.

    Raises:
        ValueError: the model has no mixture of experts.
    """
    mixtures = [m for m in model.modules() if isinstance(m, MixtureOfExperts)]
    if not mixtures:
        raise ValueError(
            f"{type(model).__name__} has no MixtureOfExperts, so there is nothing to record"
        )
    routings: list[Routing] = []
    before = [mixture._listener for mixture in mixtures]
    for mixture in mixtures:
        mixture._listener = routings
    try:
        yield routings
    finally:
        for mixture, listener in zip(mixtures, before, strict=True):
            mixture._listener = listener


def load_balancing_loss(routings: Sequence[Routing]) -> Float[Tensor, ""]:
    """E * sum over experts of (share of tokens that chose it) * (mean probability).

    Equation 4 of Fedus et al. (2021), with a token counted once for each of its ``top_k``
    choices; the mean over ``routings``, one a layer. It is ``top_k`` when all experts
    are used alike, and ``num_experts`` when ``top_k`` of them get everything. The share
    has no slope. The probability has, and is pushed down where the share is large.

    Raises:
        ValueError: ``routings`` is empty.
    """
    if not routings:
        raise ValueError("routings must hold at least one Routing, but it is empty")
    losses = []
    for routing in routings:
        num_experts = routing.probabilities.shape[-1]
        share = routing.usage() * routing.chosen.shape[-1]  # (E,), sums to top_k
        losses.append(num_experts * (share * routing.probabilities.mean(dim=0)).sum())
    return torch.stack(losses).mean()
