"""Costs and errors of efficient attentions, and the stored table of them."""

from __future__ import annotations

import math

import pytest
import torch

from companion import BERT, device, fused_attention, scaled_dot_product_attention
from companion.analysis import efficiency
from companion.analysis.cost import peak_memory


def test_every_attention_runs_at_short_lengths_and_the_exact_ones_agree() -> None:
    for length in (1024, 1100):
        qkv = efficiency.draw_qkv(length)
        full = fused_attention(*qkv)
        for name, attention in efficiency.attentions(length).items():
            output = efficiency.run(attention, qkv, "forward")
            assert output.shape == full.shape and output.isfinite().all()
            exact = name in ("formula", "fused", "online softmax")
            error = efficiency.relative_error(output, full).item()
            assert (error < 1e-5) == exact, name


def test_a_step_has_gradients_and_forward_has_none() -> None:
    qkv = efficiency.draw_qkv(256)
    attention = efficiency.attentions(256)["window"]
    assert efficiency.run(attention, qkv, "step").requires_grad
    assert not efficiency.run(attention, qkv, "forward").requires_grad
    assert qkv[0].grad is None


def test_measured_costs_are_those_of_the_lengths_asked_for() -> None:
    costs = efficiency.measure_costs(["fused", "linear"], [256, 512], rounds=1)
    assert costs.keys() == {"fused", "linear"}
    for by_length in costs.values():
        assert list(by_length) == [256, 512]
        assert all(c.seconds > 0 and c.bytes > 0 for c in by_length.values())
    with pytest.raises(ValueError, match="pass_ must be 'forward' or 'step'"):
        efficiency.measure_costs(["fused"], [256], "backward")


def test_no_efficient_attention_holds_an_n_by_n_matrix() -> None:
    n = 8192
    known, qkv = efficiency.attentions(n), efficiency.draw_qkv(n)
    for name in (*efficiency.LINEAR, "chunked"):
        held = peak_memory(efficiency.run, known[name], qkv, "forward")
        assert held < n * n, name  # not even of single bytes


def test_exponent_looks_at_the_upper_end() -> None:
    by_length = {1: 50.0, 2: 50.0, 4: 16.0, 8: 64.0, 16: 256.0, 32: 1024.0}
    assert efficiency.exponent(by_length) == pytest.approx(2.0)
    assert efficiency.exponent(by_length, last=6) < 2.0


def test_crossover() -> None:
    other = {n: float(n**2) for n in (1, 10, 100, 1000)}
    mine = {n: 30.0 * n for n in (1, 10, 100, 1000)}
    assert efficiency.crossover(mine, other) == pytest.approx(30.0)
    assert efficiency.crossover(other, mine) == math.inf
    assert efficiency.crossover({n: n / 2 for n in mine}, other) == 1.0
    # Only lengths that both have count, and the last crossing.
    assert efficiency.crossover({10: 1.0, 5: 1.0}, other) == 10.0
    wave = {1: 0.5, 10: 200.0, 100: 1000.0, 1000: 1.0}
    assert 10 < efficiency.crossover(wave, other) < 100


def test_relative_error_is_by_head() -> None:
    full = torch.ones(1, 3, 4, 2)
    output = full.clone()
    output[:, 1] = 0.0
    output[:, 2] = 3.0
    found = efficiency.relative_error(output, full)
    assert torch.allclose(found, torch.tensor([0.0, 1.0, 2.0]))


def test_rivals_become_exact_with_enough_keys() -> None:
    qkv = efficiency.draw_qkv(64, heads=2, d_k=16)
    full = fused_attention(*qkv)
    rivals = efficiency.rivals(64, 16, keys=64)
    for name in ("largest weights", "Linformer, averages"):
        assert torch.allclose(rivals[name](*qkv), full, atol=1e-5), name
    wide = efficiency.rivals(64, 16, keys=128)["window"]
    assert torch.allclose(wide(*qkv), full, atol=1e-5)
    mean = rivals["mean of values"](*qkv)
    assert torch.allclose(mean[:, :, 3], qkv[2].mean(2))


def test_averages_are_averages() -> None:
    E = efficiency.averages(10, 4)
    assert E.shape == (1, 4, 10)
    assert torch.allclose(E.sum(-1), torch.ones(1, 4))
    assert ((E > 0).sum(1) == 1).all()  # each position goes into one slot


def small_bert() -> BERT:
    torch.manual_seed(0)
    model = BERT(30, 32, 4, 48, 2, max_seq_len=128).eval()
    return model.to(device())


def test_real_qkv_are_those_of_the_layers() -> None:
    model = small_bert()
    ids = torch.randint(1, 30, (1, 100)).to(device())
    found = efficiency.real_qkv(model, ids)
    assert len(found) == 2
    states = model.hidden_states(ids)
    attention = model.layers[1].self_attention
    heads, _ = scaled_dot_product_attention(*found[1])
    output = attention.W_o(heads.transpose(1, 2).flatten(2))
    expected, _ = attention(states[1])
    assert torch.allclose(output, expected, atol=1e-5)
    errors = efficiency.errors(found, keys=16)
    assert all(error.shape == (2, 4) for error in errors.values())


def test_attention_is_replaced_with_its_weights_and_put_back() -> None:
    model = small_bert()
    ids = torch.randint(1, 30, (1, 100)).to(device())
    before = model(ids)
    for name, new in efficiency.replacements(32, 4, 100, keys=16).items():
        old = efficiency.replace_attention(model, new)
        changed = model(ids)
        assert changed.isfinite().all() and not torch.equal(changed, before), name
        assert torch.equal(model.layers[0].self_attention.W_q.weight, old[0].W_q.weight)
        for layer, attention in zip(model.layers, old, strict=True):
            layer.self_attention = attention
    assert torch.equal(model(ids), before)


def test_the_stored_table_is_whole_and_the_linear_ones_are_linear() -> None:
    table = efficiency.stored_results()
    assert tuple(table) == efficiency.PASSES
    for costs in table.values():
        assert costs.keys() == efficiency.attentions(256).keys()
        for name, by_length in costs.items():
            known = [
                n
                for n in efficiency.LENGTHS
                if name != "formula" or n <= efficiency.FORMULA_UP_TO
            ]
            assert list(by_length) == known
        for name in efficiency.LINEAR:
            memory = efficiency.megabytes(costs[name])
            assert efficiency.exponent(memory) <= 1.05, name
    for name in efficiency.LINEAR:
        time = efficiency.seconds(table["step"][name])
        assert efficiency.exponent(time) <= 1.15, name
        assert time[16384] < efficiency.seconds(table["step"]["fused"])[16384] / 5
