"""A mixture of experts: its formula, its capacity, its loss, what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from companion.layers.mixture import (
    MixtureOfExperts,
    Routing,
    load_balancing_loss,
    record_routing,
)


def mixture(**options) -> MixtureOfExperts:
    torch.manual_seed(0)
    return MixtureOfExperts(8, 12, **({"num_experts": 4, "top_k": 2} | options))


@torch.no_grad()
def test_it_is_the_weighted_sum_of_the_chosen_experts():
    layer = mixture()
    x = torch.randn(3, 5, 8)
    p = layer.router(x).softmax(dim=-1)
    expected = torch.zeros_like(x)
    for b in range(3):
        for i in range(5):
            best = p[b, i].topk(2).indices
            for e in best:
                share = p[b, i, e] / p[b, i, best].sum()
                expected[b, i] += share * layer.experts[e](x[b, i])
    torch.testing.assert_close(layer(x), expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_one_expert_and_all_experts():
    x = torch.randn(2, 3, 8)
    one = mixture(num_experts=1, top_k=1)
    torch.testing.assert_close(one(x), one.experts[0](x))
    every = mixture(top_k=4)
    p = every.router(x).softmax(dim=-1)
    outputs = torch.stack([expert(x) for expert in every.experts], dim=-1)
    torch.testing.assert_close(every(x), (outputs * p[..., None, :]).sum(dim=-1))


def test_the_router_learns_though_a_choice_has_no_slope():
    layer = mixture()
    layer(torch.randn(4, 8)).sum().backward()
    assert layer.router.weight.grad.abs().sum() > 0
    alone = mixture(top_k=1)  # its share is 1 whatever the router says
    alone(torch.randn(4, 8)).sum().backward()
    assert alone.router.weight.grad.abs().max() < 1e-6
    switch = mixture(top_k=1, normalize=False)
    switch(torch.randn(4, 8)).sum().backward()
    assert switch.router.weight.grad.abs().max() > 1e-3


@torch.no_grad()
def test_capacity_serves_first_choices_and_earlier_tokens_first():
    layer = mixture(num_experts=2, top_k=2, capacity_factor=0.75)
    nn.init.zeros_(layer.router.weight)
    layer.router.weight[0] = 1.0  # a positive x prefers expert 0
    x = torch.ones(4, 8)
    x[3] = -1
    with record_routing(layer) as routings:
        layer(x)
    # Room for 3 of 4. First choices: tokens 0 to 2 fill expert 0, token 3 takes 1.
    # Second choices: expert 1 has room for tokens 0 and 1, expert 0 for nobody.
    assert routings[0].chosen.tolist() == [[0, 1], [0, 1], [0, 1], [1, 0]]
    assert routings[0].kept.tolist() == [[1, 1], [1, 1], [1, 0], [1, 0]]


@torch.no_grad()
def test_ample_capacity_drops_nothing():
    x = torch.randn(2, 9, 8)
    assert torch.equal(mixture(capacity_factor=4.0)(x), mixture()(x))


def test_the_balancing_loss_is_top_k_when_even_and_rises_with_crowding():
    even = torch.full((4, 4), 0.25)
    kept = torch.ones(4, 2, dtype=torch.bool)
    spread = Routing(even, torch.tensor([[0, 1], [2, 3], [0, 1], [2, 3]]), kept)
    assert load_balancing_loss([spread]).item() == pytest.approx(2.0)
    crowd = torch.tensor([[0.5, 0.5, 0.0, 0.0]]).expand(4, 4)
    crowded = Routing(crowd, torch.tensor([[0, 1]]).expand(4, 2), kept)
    assert load_balancing_loss([crowded]).item() == pytest.approx(4.0)
    assert load_balancing_loss([spread, crowded]).item() == pytest.approx(3.0)
    assert crowded.usage().tolist() == [0.5, 0.5, 0.0, 0.0]


def test_minimizing_it_spreads_the_tokens():
    layer, x = mixture(), torch.randn(200, 8)
    with torch.no_grad():
        x[:, 0] = 3.0  # what all tokens share
        layer.router.weight[0, 0] = 1.0  # and expert 0 likes
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    largest = []
    for _ in range(40):
        with record_routing(layer) as routings:
            layer(x)
        largest.append(routings[0].usage().max().item())
        optimizer.zero_grad()
        load_balancing_loss(routings).backward()
        optimizer.step()
    assert largest[0] > 0.45 and largest[-1] < 0.35


def test_listening_ends_with_the_block_and_survives_an_error():
    layer = mixture()
    with pytest.raises(KeyError), record_routing(layer):
        raise KeyError
    assert layer._listener is None


def test_what_does_not_fit_is_refused():
    for top_k in (0, 5):
        with pytest.raises(ValueError, match="top_k must be from 1 to num_experts = 4"):
            mixture(top_k=top_k)
    with pytest.raises(ValueError, match="capacity_factor must be None or above 0"):
        mixture(capacity_factor=0.0)
    with (
        pytest.raises(ValueError, match="nothing to record"),
        record_routing(nn.Linear(2, 2)),
    ):
        pass
    with pytest.raises(ValueError, match="at least one Routing"):
        load_balancing_loss([])
