"""Parameters, operations and activations: counted by hand, by PyTorch, and by the papers' rules."""

from __future__ import annotations

import pytest
import torch

import companion
from companion import BERT, GPT, T5, LLaMA
from companion.analysis.flops import (
    activation_bytes,
    count_parameters,
    decoder_forward_flops,
    forward_flops,
    layer_flops,
    six_nd,
)
from tests.cases import CASES


def gpt(**changes) -> GPT:
    sizes = {"d_model": 32, "num_heads": 4, "num_layers": 3, "max_seq_len": 24}
    return GPT(50, dropout=0.0, **sizes | changes).eval()


@pytest.mark.parametrize(
    "model",
    [
        gpt(),
        BERT(50, 32, 4, 64, 2, 20),
        LLaMA(50, 32, 4, 2, 64, 2),
        T5(50, 32, 4, 8, 64, 2, 2),
    ],
    ids=lambda model: type(model).__name__,
)
def test_the_parts_add_up(model):
    parts = count_parameters(model)
    assert parts.total == sum(p.numel() for p in model.parameters())
    assert min(parts.embedding, parts.attention, parts.feed_forward) > 0


def test_the_parts_of_a_gpt():
    parts = count_parameters(gpt())
    assert parts.embedding == (50 + 24) * 32  # the tied output is counted once
    assert parts.attention == 3 * 4 * (32 * 32 + 32)
    assert parts.feed_forward == 3 * (2 * 4 * 32 * 32 + 5 * 32)
    assert parts.other == (2 * 3 + 1) * 2 * 32


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("length", [5, 24])
def test_by_hand_and_by_pytorch(batch, length):
    counted = forward_flops(gpt(), torch.zeros(batch, length, dtype=torch.long))
    assert counted == decoder_forward_flops(3, 32, 128, 50, length, batch)


def test_gpt2_on_paper():
    with torch.device("meta"):
        model = GPT.preset("gpt2").eval()
        counted = forward_flops(model, torch.zeros(1, 1024, dtype=torch.long))
    assert counted == decoder_forward_flops(12, 768, 3072, 50257, 1024)
    rule = six_nd(count_parameters(model).total, 1024) / 3  # 2ND, forward only
    assert rule / counted.total == pytest.approx(0.87, abs=0.01)


def test_backward_is_twice_the_forward():
    from torch.utils.flop_counter import FlopCounterMode

    model = gpt()
    ids = torch.zeros(2, 20, dtype=torch.long)
    with (
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        model(ids).sum().backward()
    forward = forward_flops(model, ids).total
    assert counter.get_total_flops() == pytest.approx(3 * forward, rel=1e-6)


def test_activations_grow_with_batch_and_layers():
    ids = torch.zeros(4, 20, dtype=torch.long)
    shallow, deep = gpt(num_layers=2), gpt(num_layers=6)
    one, two = (
        activation_bytes(shallow, lambda n=n: shallow.loss(ids[:n])) for n in (2, 4)
    )
    assert two == pytest.approx(2 * one, rel=0.05)
    more = activation_bytes(deep, lambda: deep.loss(ids[:2]))
    assert more > 2 * one
    with torch.no_grad():
        assert activation_bytes(shallow, lambda: shallow.loss(ids)) == 0


def _tied_output(model, rows: int, unused: int = 0) -> int:
    """Of a table of embeddings that is the output once more, without a layer for it."""
    tables = (m for m in model.modules() if isinstance(m, torch.nn.Embedding))
    return 2 * rows * next(tables).weight[unused:].numel()


# What `layer_flops` does not see, by model: (weights, attention).
_BESIDE_LAYERS = {
    "T5": lambda model, x: (_tied_output(model, x[1].numel()), 0),
    "BART": lambda model, x: (_tied_output(model, x[1].numel()), 0),
    # Marian's last row is padding, which is never written.
    "Marian": lambda model, x: (_tied_output(model, x[1].numel(), unused=1), 0),
    "BERTForPreTraining": lambda model, x: (_tied_output(model, x[0].numel()), 0),
    "RoBERTaForMaskedLM": lambda model, x: (_tied_output(model, x[0].numel()), 0),
    "ALBERTForPreTraining": lambda model, x: (_tied_output(model, x[0].numel()), 0),
}
# With attention that leaves pairs out, a recurrent network, or a layer of their own.
_OTHERWISE = (
    "Longformer LongformerForMaskedLM BigBird BigBirdForPreTraining RecurrentTranslator "
    "DINO DINOHead DINOv2 CLIP"
).split()


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in CASES
        if getattr(companion, name.split(",")[0]).__module__.startswith(
            "companion.models"
        )
        and name not in _OTHERWISE
    ],
)
def test_layer_by_layer_and_by_pytorch(name):
    case = CASES[name]
    torch.manual_seed(0)
    model, inputs = case.build().eval(), case.inputs()
    counted = forward_flops(model, *inputs, **case.kwargs or {})
    by_hand = layer_flops(model, *inputs, **case.kwargs or {})
    more = _BESIDE_LAYERS.get(name, lambda model, x: (0, 0))(model, inputs)
    assert counted == (by_hand[0] + more[0], by_hand[1] + more[1])
    assert counted.total > 0


def test_the_hooks_are_gone_after_an_error():
    model = gpt()
    with pytest.raises(ValueError, match="max_seq_len"):
        layer_flops(model, torch.zeros(1, 25, dtype=torch.long))
    assert not any(m._forward_hooks for m in model.modules())
