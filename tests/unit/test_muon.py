"""Muon and AdamW as one optimizer."""

from __future__ import annotations

import copy

import pytest
import torch

from companion import GPT, CosineWithWarmup, Trainer
from companion.data.characters import RandomWindows
from companion.training.language_modeling import next_token_loss
from companion.training.muon import MuonAndAdamW


def tiny() -> GPT:
    torch.manual_seed(0)
    return GPT(11, 16, 4, num_layers=2, max_seq_len=8, dropout=0.0)


def trainer(model: GPT, optimizer: MuonAndAdamW, **options) -> Trainer:
    text = torch.arange(200) % 11
    return Trainer(
        model=model,
        optimizer=optimizer,
        batches=RandomWindows(text, 8, 4, 10),
        loss=next_token_loss,
        scheduler=CosineWithWarmup(optimizer, 2, 20),
        progress=False,
        **options,
    )


def test_every_parameter_has_one_optimizer():
    model = tiny()
    optimizer = MuonAndAdamW(model)
    muon, adamw = (
        {id(p) for group in part.param_groups for p in group["params"]}
        for part in (optimizer.muon, optimizer.adamw)
    )
    assert not muon & adamw
    assert muon | adamw == {id(p) for p in model.parameters()}
    assert len(muon) == 2 * 6
    assert id(model.token_embedding.weight) in adamw


def test_a_step_of_muon_has_equal_singular_values():
    model = tiny()
    optimizer = MuonAndAdamW(model, muon_lr=0.1)
    before = model.layers[0].self_attention.W_q.weight.detach().clone()
    model.loss(torch.randint(0, 11, (4, 8))).backward()
    optimizer.step()
    step = model.layers[0].self_attention.W_q.weight.detach() - before
    values = torch.linalg.svdvals(step / 0.1)[:12]  # the gradient's rank may be lower
    assert values.max() < 1.4 and values.min() > 0.4


def test_a_schedule_sets_both_rates_and_the_loss_falls():
    model = tiny()
    optimizer = MuonAndAdamW(model, 0.02, 0.01)
    first = trainer(model, optimizer).run(num_steps=20)
    muon, adamw = (group["lr"] for group in optimizer.param_groups)
    assert muon / adamw == pytest.approx(2)
    assert muon < 0.01
    assert first[-1]["loss"] < first[0]["loss"] - 0.1


def test_its_state_can_be_loaded():
    model = tiny()
    optimizer = MuonAndAdamW(model)
    trainer(model, optimizer).run(num_steps=3)
    twin = copy.deepcopy(model)
    other = MuonAndAdamW(twin)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    ids = torch.randint(0, 11, (4, 8))
    for m, o in ((model, optimizer), (twin, other)):
        o.zero_grad()
        m.loss(ids).backward()
        o.step()
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


def test_what_it_refuses():
    with pytest.raises(ValueError, match="this Embedding has none"):
        MuonAndAdamW(torch.nn.Embedding(3, 4))
    with pytest.raises(ValueError, match="closure must be None"):
        MuonAndAdamW(tiny()).step(lambda: 0.0)
