"""The models that differ in their encoding of positions, and what is measured of them."""

import functools
import math

import pytest
import torch
from torch import nn

from companion.analysis import extrapolation
from companion.analysis.extrapolation import (
    ENCODINGS,
    READ_LENGTH,
    SCALINGS,
    STEPS_BACK,
    TASKS,
    TRAINED_LENGTH,
    VARIANTS,
    PositionedLM,
    at_multiples,
    draw_characters,
    draw_steps_back,
    loss_by_position,
    new_model,
    stored_results,
    train,
)
from companion.layers.rotary import RotaryEmbedding
from companion.runtime import device


def generator():
    return torch.Generator().manual_seed(0)


class Flat(nn.Module):
    """All characters equally likely, but for the target of the first 32 positions."""

    def forward(self, ids):
        logits = torch.zeros(*ids.shape, 27, device=ids.device)
        first = ids[:, : 32 - STEPS_BACK]
        logits[:, STEPS_BACK:32] += 1e3 * nn.functional.one_hot(first, 27)
        return logits


@pytest.mark.parametrize("encoding", ENCODINGS)
class TestModel:
    def test_a_longer_text_leaves_the_shorter_one_alone(self, encoding):
        """What makes one reading of 256 positions measure every shorter length."""
        model = new_model(encoding, 0)
        ids, _ = draw_steps_back(2, 40, generator())
        torch.testing.assert_close(model(ids)[:, :16], model(ids[:, :16]))

    def test_knows_order(self, encoding):
        model = new_model(encoding, 0)
        ids = torch.tensor([[1, 2, 3, 4], [2, 1, 3, 4]]).to(device())
        last = model(ids)[:, -1]
        # Without positions the last token of *one* layer sees a set; with two, the
        # causal mask alone tells orders apart.
        assert not torch.allclose(last[0], last[1], atol=1e-6)

    def test_starts_from_the_same_weights(self, encoding):
        blank = new_model("none", 3).state_dict()
        state = new_model(encoding, 3).state_dict()
        assert all(torch.equal(state[name], blank[name]) for name in blank)

    def test_learns(self, encoding):
        model = new_model(encoding, 0)
        text = torch.arange(5000) % 5
        before = loss_by_position(model, draw_characters(text), length=64, count=4)
        train(model, draw_characters(text), steps=8)
        after = loss_by_position(model, draw_characters(text), length=64, count=4)
        assert max(after) < 0.6 * min(before)


def test_unknown_encoding():
    with pytest.raises(ValueError, match="encoding must be one of none, sinusoidal"):
        PositionedLM("absolute")


def test_a_table_ends():
    model = PositionedLM("learned", max_seq_len=TRAINED_LENGTH)
    ids = torch.zeros(1, TRAINED_LENGTH + 1, dtype=torch.long)
    model(ids[:, 1:])
    with pytest.raises(ValueError, match="max_seq_len"):
        model(ids)


def test_targets():
    text = torch.arange(27).repeat(40)
    x, target = draw_characters(text)(3, 20, generator())
    assert torch.equal(target, (x + 1) % 27)
    x, target = draw_steps_back(3, 20, generator())
    assert (target[:, :STEPS_BACK] == -100).all()
    assert torch.equal(target[:, STEPS_BACK:], x[:, :-STEPS_BACK])


def test_losses_stand_in_their_blocks():
    losses = loss_by_position(Flat(), draw_steps_back, count=4)
    assert len(losses) == READ_LENGTH // 32
    assert losses[0] == pytest.approx(0, abs=1e-4)
    assert losses[1:] == pytest.approx([math.log(27)] * 7)


def test_multiples():
    assert at_multiples([float(i) for i in range(8)]) == [1, 3, 7]


def test_a_rotary_model_can_turn_otherwise():
    model = new_model("rotary", 0)
    ids, _ = draw_steps_back(1, 30, generator())
    before = model(ids)
    model.replace_rotary(RotaryEmbedding(16, layout="interleaved"))
    assert not torch.allclose(model(ids), before, atol=1e-4)
    model.replace_rotary(RotaryEmbedding(16, layout="halves"))
    assert torch.equal(model(ids), before)


def test_the_stored_table_is_whole():
    stored = stored_results()
    names = {*ENCODINGS, *SCALINGS, *VARIANTS}
    assert set(stored) == {(task, name) for task in TASKS for name in names}
    for runs in stored.values():
        assert len(runs) == 3 and {len(run) for run in runs} == {8}


def test_the_command_writes_what_is_read(monkeypatch, tmp_path):
    monkeypatch.setattr(extrapolation, "_RESULTS", tmp_path / "results.csv")
    monkeypatch.setattr(extrapolation, "train", lambda *_, **__: None)
    few = functools.partial(loss_by_position, count=1)
    monkeypatch.setattr(extrapolation, "loss_by_position", few)
    extrapolation.main()
    assert set(stored_results()) == {
        (task, name) for task in TASKS for name in (*ENCODINGS, *SCALINGS, *VARIANTS)
    }
    assert (tmp_path / "results.csv").read_text().count("\n") == 5 + 2 * 3 * 11
