"""What happens to the logits before a token is drawn."""

from __future__ import annotations

import math

import pytest
import torch

from companion.generation import Greedy, Sampling
from companion.generation.filters import (
    apply_temperature,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalize_repetition,
)
from companion.generation.strategies import draw

# Probabilities 0.5, 0.3, 0.15, 0.05, out of order.
P = torch.tensor([[0.15, 0.5, 0.05, 0.3]], dtype=torch.float64)
LOGITS = P.log() + 7.0  # a shift changes no probability
NO_TEXT = torch.empty(1, 0, dtype=torch.long)


def kept(logits: torch.Tensor) -> list[int]:
    return logits[0].isfinite().nonzero()[:, 0].tolist()


@pytest.mark.parametrize(
    ("k", "expected"), [(1, [1]), (2, [1, 3]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3])]
)
def test_top_k(k, expected):
    assert kept(keep_top_k(LOGITS, k)) == expected


def test_top_k_keeps_ties():
    assert kept(keep_top_k(torch.tensor([[1.0, 3.0, 3.0, 0.0]]), 1)) == [1, 2]


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (0.01, [1]),
        (0.49, [1]),
        (0.51, [1, 3]),
        (0.79, [1, 3]),
        (0.81, [0, 1, 3]),
        (0.96, [0, 1, 2, 3]),
        (1.0, [0, 1, 2, 3]),
    ],
)
def test_top_p_is_the_smallest_set_that_reaches_it(p, expected):
    assert kept(keep_top_p(LOGITS, p)) == expected


def test_top_p_of_one_keeps_a_tail_that_rounding_would_lose():
    logits = torch.tensor([[0.0, -40.0, -41.0]])  # 1 + e^-40 is 1 in any float
    assert kept(keep_top_p(logits, 1.0)) == [0, 1, 2]


def test_top_p_works_row_by_row():
    rows = torch.cat([LOGITS, LOGITS.flip(-1)])
    both = keep_top_p(rows, 0.6)
    assert torch.equal(both[0], both[1].flip(-1))


@pytest.mark.parametrize(
    ("p", "expected"),
    [(0.0, [0, 1, 2, 3]), (0.2, [0, 1, 3]), (0.5, [1, 3]), (0.7, [1]), (1.0, [1])],
)
def test_min_p_is_relative_to_the_likeliest(p, expected):
    assert kept(keep_min_p(LOGITS, p)) == expected


def test_temperature_is_a_power_of_the_probabilities():
    for t in (0.5, 2.0):
        expected = P ** (1 / t) / (P ** (1 / t)).sum()
        torch.testing.assert_close(apply_temperature(LOGITS, t).softmax(-1), expected)


def test_repetition_penalty_lowers_both_signs_and_counts_once():
    logits = torch.tensor([[2.0, -2.0, 1.0, -1.0]])
    text = torch.tensor([[0, 1, 1, 0, 0]])
    expected = torch.tensor([[1.0, -4.0, 1.0, -1.0]])
    assert torch.equal(penalize_repetition(logits, text, 2.0), expected)
    assert torch.equal(logits, torch.tensor([[2.0, -2.0, 1.0, -1.0]]))  # untouched


def test_the_order_is_penalty_temperature_k_p_min_p():
    """Temperature comes before top-p: at 2 the nucleus of 0.6 has one token more."""
    cold = Sampling(top_p=0.6).probabilities(LOGITS, NO_TEXT)
    warm = Sampling(top_p=0.6, temperature=2.0).probabilities(LOGITS, NO_TEXT)
    assert ((cold > 0).sum(), (warm > 0).sum()) == (2, 2)
    # 0.5 and 0.3 are 0.625 and 0.375 once top-k has left only them.
    both = Sampling(top_k=2, top_p=0.6).probabilities(LOGITS, NO_TEXT)
    assert both.tolist() == [[0.0, 1.0, 0.0, 0.0]]
    # The penalty acts on the logit itself, before anything else.
    text = torch.tensor([[1]])
    penalized = Sampling(repetition_penalty=3.0, top_k=1).probabilities(LOGITS, text)
    assert penalized.argmax() == 3


def test_greedy_is_a_distribution_too():
    assert Greedy().probabilities(LOGITS, NO_TEXT).tolist() == [[0.0, 1.0, 0.0, 0.0]]
    assert Greedy().choose(torch.tensor([[1.0, 3.0, 3.0]]), NO_TEXT).tolist() == [1]
    text = torch.tensor([[1]])
    assert Greedy(repetition_penalty=3.0).choose(LOGITS, text).tolist() == [3]


def test_draws_have_the_distribution_and_the_seed_decides():
    """Chi-square over 20,000 draws: 16.27 is its 0.1 % point at 3 degrees of freedom."""
    rows = P.expand(20_000, -1)
    tokens = draw(rows, torch.Generator().manual_seed(0))
    counts = tokens.bincount(minlength=4)
    expected = P[0] * len(rows)
    assert ((counts - expected) ** 2 / expected).sum() < 16.27
    assert torch.equal(tokens, draw(rows, torch.Generator().manual_seed(0)))
    assert not torch.equal(tokens, draw(rows, torch.Generator().manual_seed(1)))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"temperature": 0}, ValueError, r"temperature must be above 0.*is 0;.*Greedy"),
        ({"temperature": -1.0}, ValueError, "temperature must be above 0.*-1.0"),
        ({"temperature": math.nan}, ValueError, "temperature.*nan"),
        ({"temperature": math.inf}, ValueError, "temperature.*finite.*inf"),
        ({"temperature": "hot"}, TypeError, "temperature must be a number.*'hot'"),
        ({"top_k": 0}, ValueError, "top_k must be at least 1, but it is 0"),
        ({"top_k": 2.0}, TypeError, "top_k must be an integer.*2.0"),
        ({"top_k": True}, TypeError, "top_k must be an integer.*True"),
        ({"top_p": 0.0}, ValueError, "top_p must be above 0 and at most 1.*0.0"),
        ({"top_p": 1.01}, ValueError, "top_p.*1.01"),
        ({"top_p": math.nan}, ValueError, "top_p.*nan"),
        ({"min_p": -0.1}, ValueError, "min_p must be from 0 to 1.*-0.1"),
        ({"min_p": 1.5}, ValueError, "min_p.*1.5"),
        ({"repetition_penalty": 0}, ValueError, "repetition_penalty.*above 0.*is 0$"),
        ({"repetition_penalty": None}, TypeError, "repetition_penalty.*number.*None"),
    ],
)
def test_bad_settings(settings, error, message):
    with pytest.raises(error, match=message):
        Sampling(**settings)
    if "repetition_penalty" in settings:
        with pytest.raises(error, match=message):
            Greedy(**settings)


@pytest.mark.parametrize(
    ("apply", "value", "name"),
    [
        (apply_temperature, 0.0, "temperature"),
        (keep_top_k, 0, "top_k"),
        (keep_top_p, 0.0, "top_p"),
        (keep_min_p, 2.0, "min_p"),
    ],
)
def test_the_filters_check_for_themselves(apply, value, name):
    with pytest.raises(ValueError, match=name):
        apply(LOGITS, value)
