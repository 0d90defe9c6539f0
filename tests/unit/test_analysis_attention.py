"""The measurements of the chapter on attention."""

import math
import time

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from companion import SelfAttention, fused_attention, scaled_dot_product_attention
from companion.analysis import bottleneck, cost
from companion.analysis.reach import gradient_reach
from companion.analysis.weights import (
    attention_distance,
    attention_entropy,
    effective_keys,
)
from companion.runtime import device, seed_everything


class TestReach:
    def test_of_a_layer_whose_slopes_are_known(self):
        """output_last = sum_j 0.5^(n - j) x_j W: each slope is 0.5^(n - j) |W|."""
        seed_everything(0)
        W = torch.randn(6, 4, dtype=torch.float64).to(device())
        factor = 0.5 ** torch.arange(4, -1, -1, dtype=torch.float64).to(device())

        def layer(x):
            last = (factor[:, None] * (x @ W)).sum(dim=1, keepdim=True)
            return torch.cat([x @ W, last], dim=1), None

        x = torch.randn(64, 5, 6, dtype=torch.float64).to(device())
        reach = gradient_reach(layer, x, probes=64)
        torch.testing.assert_close(reach, factor * W.norm(), rtol=0.05, atol=0)
        torch.testing.assert_close(reach / reach[-1], factor)

    def test_leaves_the_input_alone(self):
        x = torch.randn(2, 5, 4).to(device())
        gradient_reach(nn.GRU(4, 4, batch_first=True).to(device()), x)
        assert not x.requires_grad and x.grad is None


class TestWeights:
    def test_extremes(self):
        one_key = torch.eye(5)
        uniform = torch.full((5, 5), 0.2)
        assert torch.allclose(attention_entropy(one_key), torch.zeros(5))
        assert torch.allclose(attention_entropy(uniform), torch.full((5,), math.log(5)))
        assert torch.allclose(effective_keys(one_key), torch.ones(5))
        assert torch.allclose(effective_keys(uniform), torch.full((5,), 5.0))

    def test_two_keys_alike(self):
        weights = torch.tensor([[[0.5, 0.5, 0.0, 0.0]]])
        assert effective_keys(weights).item() == pytest.approx(2)

    def test_a_row_of_zeros_has_entropy_zero(self):
        assert attention_entropy(torch.zeros(1, 3)).item() == 0

    def test_distance(self):
        weights = torch.tensor([[1.0, 0, 0], [0.5, 0, 0.5], [0.5, 0.25, 0.25]])
        expected = torch.tensor([0.0, 1.0, 1.25])
        assert torch.allclose(attention_distance(weights), expected)
        with pytest.raises(ValueError, match="3 queries and 2 keys"):
            attention_distance(torch.ones(3, 2) / 2)


class TestCost:
    def test_slope_of_a_power_law(self):
        x = [1, 2, 5, 10]
        assert cost.log_log_slope(x, [3 * v**1.5 for v in x]) == pytest.approx(1.5)
        for bad in ([1, 2], []), ([1], [1]), ([1, 2], [0, 1]):
            with pytest.raises(ValueError, match="positive numbers"):
                cost.log_log_slope(*bad)

    def test_best_time_is_the_quickest_call(self):
        naps = iter([0.0, 0.2, 0.02, 0.2])
        assert 0.02 <= cost.best_time(lambda: time.sleep(next(naps))) < 0.15

    def test_peak_memory_counts_bytes_that_are_held_together(self):
        def allocate():
            a = torch.empty(2**20, dtype=torch.uint8, device=device())
            b = torch.empty(2**21, dtype=torch.uint8, device=device())
            del a, b
            return torch.empty(2**21, dtype=torch.uint8, device=device())

        assert cost.peak_memory(allocate) == 3 * 2**20

    def test_peak_memory_is_silent(self, capfd):
        cost.peak_memory(torch.ones, 3)
        assert capfd.readouterr() == ("", "")

    def test_peak_memory_sees_the_scores(self):
        n = 512
        q = torch.randn(1, 1, n, 16).to(device())
        explicit = cost.peak_memory(scaled_dot_product_attention, q, q, q)
        assert explicit >= 2 * 4 * n * n
        if device().type == "cpu":
            assert cost.peak_memory(fused_attention, q, q, q) < 4 * n * n

    def test_multiply_adds_of_attention_are_those_that_pytorch_counts(self):
        n, d = 24, 16
        with FlopCounterMode(display=False) as counter:
            SelfAttention(d).to(device())(torch.randn(1, n, d).to(device()))
        assert counter.get_total_flops() == 2 * cost.attention_multiply_adds(n, d)

    def test_multiply_adds_of_a_gru_are_its_weights_times_tokens(self):
        gru = nn.GRU(16, 16, bias=False)
        weights = sum(p.numel() for p in gru.parameters())
        assert cost.gru_multiply_adds(24, 16) == 24 * weights

    def test_equal_at_three_halves_of_d(self):
        assert cost.attention_multiply_adds(96, 64) == cost.gru_multiply_adds(96, 64)


class TestBottleneck:
    def test_letters(self):
        ids = bottleneck.letter_ids("Tu-whit;  tu-WHO\n9!")
        assert bottleneck.as_text(ids) == "tu whit tu who "
        assert ids.dtype == torch.int64 and ids.min() == 0 and ids.max() <= 26

    def test_snippets_are_stretches_of_the_text(self):
        ids = torch.arange(50)
        draw = torch.Generator().manual_seed(0)
        snippets = bottleneck.sample_snippets(ids, 200, 10, draw)
        assert snippets.shape == (200, 10)
        assert (snippets.diff(dim=1) == 1).all()
        assert snippets.min() == 0 and snippets.max() >= 48

    def test_stored_results_are_complete(self):
        stored = bottleneck.stored_results()
        assert set(stored) == set(bottleneck._MODELS)
        for rows in stored.values():
            rows = torch.tensor(rows)
            assert rows.shape == (5, len(bottleneck.LENGTHS))
            assert ((rows > 0) & (rows <= 1)).all()

    def test_a_model_learns_to_copy(self):
        text = "the quick brown fox jumps over the lazy dog and runs on " * 4
        ids = bottleneck.letter_ids(text)
        model = bottleneck.new_copier(32, attention=True, seed=0)
        (before,) = bottleneck.copying_accuracy(model, ids, lengths=(6,))
        bottleneck.train_copier(model, ids, steps=250, batch=16)
        (after,) = bottleneck.copying_accuracy(model, ids, lengths=(6,))
        assert before < 0.3 and after > 0.7

    def test_the_same_seed_gives_the_same_model(self):
        one, other = (bottleneck.new_copier(8, attention=True, seed=3) for _ in "ab")
        ids = bottleneck.letter_ids("to be or not to be that is the question " * 2)
        for model in (one, other):
            bottleneck.train_copier(model, ids, steps=3, batch=2, seed=1)
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)
