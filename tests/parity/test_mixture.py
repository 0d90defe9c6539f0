"""Our mixture of experts against Mixtral's block, and the balancing loss against theirs."""

from __future__ import annotations

import pytest
import torch

from companion.layers.mixture import (
    MixtureOfExperts,
    load_balancing_loss,
    record_routing,
)

transformers = pytest.importorskip("transformers")
mixtral = pytest.importorskip("transformers.models.mixtral.modeling_mixtral")

CONFIGS = {
    "8 experts, top 2": {"num_local_experts": 8, "num_experts_per_tok": 2},
    "5 experts, top 1": {"num_local_experts": 5, "num_experts_per_tok": 1},
    "4 experts, top 4, gelu": {
        "num_local_experts": 4,
        "num_experts_per_tok": 4,
        "hidden_act": "gelu",
    },
    "6 experts, top 3, wide": {
        "num_local_experts": 6,
        "num_experts_per_tok": 3,
        "intermediate_size": 70,
    },
}


def pair(name):
    """Mixtral's block with random weights, and ours with the same."""
    torch.manual_seed(len(name))
    config = transformers.MixtralConfig(
        **{"hidden_size": 16, "intermediate_size": 24} | CONFIGS[name]
    )
    theirs = mixtral.MixtralSparseMoeBlock(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(std=0.3)
    ours = MixtureOfExperts(
        config.hidden_size,
        config.intermediate_size,
        config.num_local_experts,
        config.num_experts_per_tok,
        activation=config.hidden_act,
    )
    with torch.no_grad():
        ours.router.weight.copy_(theirs.gate.weight)
        for number, expert in enumerate(ours.experts):
            gate, up = theirs.experts.gate_up_proj[number].chunk(2)
            expert.W_1.weight.copy_(gate)
            expert.V.weight.copy_(up)
            expert.W_2.weight.copy_(theirs.experts.down_proj[number])
    return ours, theirs


@pytest.mark.parametrize("name", CONFIGS)
def test_output_and_gradients(name, parity_record):
    ours, theirs = pair(name)
    x = torch.randn(3, 7, 16)
    one, other = (x.clone().requires_grad_() for _ in range(2))
    ours(one).square().sum().backward()
    theirs(other).square().sum().backward()
    reference = "transformers.MixtralSparseMoeBlock"
    worst = (ours(x) - theirs(x)).abs().max().item()
    parity_record(f"MixtureOfExperts {name}", reference, worst, 1e-5)
    worst = (one.grad - other.grad).abs().max().item()
    router = (ours.router.weight.grad - theirs.gate.weight.grad).abs().max().item()
    size = one.grad.abs().max().item()
    parity_record(
        f"MixtureOfExperts {name}: gradients / largest",
        reference,
        max(worst, router) / size,
        1e-5,
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_balancing_loss(name, parity_record):
    ours, _ = pair(name)
    x = torch.randn(3, 7, 16)
    with record_routing(ours) as routings:
        ours(x)
    logits = ours.router(x.flatten(0, 1))
    theirs = mixtral.load_balancing_loss_func(
        (logits,), len(ours.experts), top_k=ours.top_k
    )
    worst = (load_balancing_loss(routings) - theirs).abs().item()
    parity_record(f"load_balancing_loss {name}", "transformers, one layer", worst, 1e-6)
