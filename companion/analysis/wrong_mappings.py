"""A checkpoint that loads and is wrong: at which layer does each mistake first show?

A small random LLaMA of ``transformers`` is read into ours, once rightly and once with each
of some usual mistakes. None of them is an error: all shapes fit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor, nn

from companion.models.llama import LLaMA

Weights = dict[str, Tensor]

NUM_LAYERS = 6
PLACES = (
    "embedding", *(f"layer {n}" for n in range(1, NUM_LAYERS)), "last norm", "logits"
)  # fmt: skip
SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "d_model": 32,
    "num_heads": 4,
    "d_ff": 48,
    "num_layers": NUM_LAYERS,
    "num_kv_heads": 2,
}


class Mistake(NamedTuple):
    """What is done to the weights of our model, or to its options."""

    says: str
    change: Callable[[Weights], Weights] = dict
    options: dict[str, Any] | None = None


def _turn_an_output(weights: Weights) -> Weights:
    name = "layers.2.self_attention.W_o.weight"
    return weights | {name: weights[name].T}


def _exchange_gate_and_up(weights: Weights) -> Weights:
    gate, up = (f"layers.3.feed_forward.{name}.weight" for name in ("W_1", "V"))
    return weights | {gate: weights[up], up: weights[gate]}


def _forget_the_last_norm(weights: Weights) -> Weights:
    return weights | {"norm.weight": torch.ones_like(weights["norm.weight"])}


def _tie_the_output(weights: Weights) -> Weights:
    return weights | {"output_projection.weight": weights["token_embedding.weight"]}


MISTAKES = {
    "no mistake": Mistake("Every weight and every option is theirs."),
    "W_o turned": Mistake(
        "The square matrix W_o of layer 3 is transposed.", _turn_an_output
    ),
    "gate and up exchanged": Mistake(
        "In layer 4 the gate's matrix is taken for the other one of the same shape.",
        _exchange_gate_and_up,
    ),
    "rotary pairs": Mistake(
        "Pairs that turn are neighbors, where theirs are half a head apart.",
        options={"rope_layout": "interleaved"},
    ),
    "rotary base": Mistake(
        "The base is 500,000, where theirs is 10,000.", options={"rope_base": 500_000.0}
    ),
    "eps": Mistake(
        "RMS norm adds 1e-5, where theirs adds 1e-6.", options={"norm_eps": 1e-5}
    ),
    "last norm forgotten": Mistake(
        "The last norm's weight is left at ones.", _forget_the_last_norm
    ),
    "output tied": Mistake(
        "The embedding is taken for the output projection.", _tie_the_output
    ),
}

WEIGHTS = {"as they begin": 0.02, "large": 0.3}  # deviation of the matrices


def reference(deviation: float, seed: int = 0) -> nn.Module:
    """A LLaMA of ``transformers`` with random weights.

    With a deviation of 0.02 it is as their class begins, with norms whose weights are all
    1. With any other, norms are as random as the matrices.
    """
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=SIZES["vocab_size"],
        hidden_size=SIZES["d_model"],
        intermediate_size=SIZES["d_ff"],
        num_hidden_layers=NUM_LAYERS,
        num_attention_heads=SIZES["num_heads"],
        num_key_value_heads=SIZES["num_kv_heads"],
        initializer_range=deviation,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    if deviation != WEIGHTS["as they begin"]:
        for parameter in model.parameters():
            if parameter.ndim == 1:
                nn.init.normal_(parameter, 1.0, deviation)
    return model


@torch.no_grad()
def differences(theirs: nn.Module, mistake: str) -> dict[str, float]:
    """The largest absolute difference at each of `PLACES`, on one random text.

    Args:
        theirs: as `reference` makes it.
        mistake: one of `MISTAKES`.

    Raises:
        ValueError: the mistake is not known.
    """
    if mistake not in MISTAKES:
        raise ValueError(
            f"mistake must be one of {', '.join(MISTAKES)}, but it is {mistake!r}"
        )
    _, change, options = MISTAKES[mistake]
    ours = LLaMA(**SIZES | (options or {})).eval()
    ours.load_state_dict(change(LLaMA.from_hf(theirs).state_dict()))
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(SIZES["vocab_size"], (1, 24), generator=draw)
    expected = theirs(ids, output_hidden_states=True)
    found = [*ours.hidden_states(ids), ours(ids)]
    return {
        place: (a - b).abs().max().item()
        for place, a, b in zip(
            PLACES, found, [*expected.hidden_states, expected.logits], strict=True
        )
    }


def table() -> list[dict[str, Any]]:
    """A row for each mistake, kind of weights and place."""
    models = {name: reference(deviation) for name, deviation in WEIGHTS.items()}
    return [
        {
            "mistake": mistake,
            "weights": weights,
            "place": place,
            "difference": difference,
        }
        for mistake in MISTAKES
        for weights, theirs in models.items()
        for place, difference in differences(theirs, mistake).items()
    ]
