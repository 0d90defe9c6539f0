"""The rubric of the scaling study, on models whose loss and size are chosen."""

import functools

import numpy as np
import pytest
import torch
from torch import nn

from companion.exercises.projects import grade
from companion.exercises.projects import scaling as project
from companion.models.gpt import GPT

GRAMMAR = project.GRAMMAR


class Knows(nn.Module):
    """The true table, watered down, with as many parameters as it is told to have."""

    def __init__(self, size, wrong=0.0, seed=0):
        super().__init__()
        self.wrong = wrong
        self.idle = nn.Parameter(torch.full((size,), float(seed)))

    def forward(self, ids):
        true = GRAMMAR.log_p(ids).exp()
        first = torch.ones_like(true[:, :1])
        p = torch.cat([first, true], dim=1)
        p = p / p.sum(dim=-1, keepdim=True)
        even = torch.full_like(p, 1 / GRAMMAR.num_symbols)
        # A share of even guesses, so that little of the truth is lost.
        return ((1 - self.wrong) * p + self.wrong * even).log()


def of_loss(size, bits, seed=0):
    """A model of that size whose loss is ``bits``, found by bisection."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        p = (1 - middle) * GRAMMAR.chances + middle / GRAMMAR.num_symbols
        cost = -(GRAMMAR.chances * p.log2()).sum().item()
        low, high = (middle, high) if cost < bits else (low, middle)
    return Knows(size, low, seed)


def law(size):
    return 1.75 + 60 * size**-0.5


SIZES = (1000, 2000, 5000, 10_000, 20_000)


@functools.cache
def exact_study():
    # Five seeds of one size differ in a number, and in nothing that counts.
    runs = [of_loss(n, law(n), seed) for n in SIZES for seed in range(1, 6)]
    return {
        "runs": runs,
        "law": law,
        "bet": of_loss(50_000, law(50_000)),
        "interval": (law(50_000) - 0.01, law(50_000) + 0.01),
        "equal": {k: [Knows(9000, 0.1, s) for s in range(1, 6)] for k in "ab"},
    }


# Few texts, and each model once.
measured = functools.cache(functools.partial(project.loss_in_bits, number=8))


@pytest.fixture(autouse=True)
def fewer_texts(monkeypatch):
    monkeypatch.setattr(project, "loss_in_bits", measured)
    monkeypatch.setattr(
        project, "size_of", lambda m: sum(p.numel() for p in m.parameters())
    )


def test_the_truth_costs_the_entropy():
    assert project.loss_in_bits(Knows(1)) == pytest.approx(1.75, abs=1e-5)
    uniform = Knows(1, wrong=1.0)
    assert project.loss_in_bits(uniform) == pytest.approx(np.log2(96), abs=1e-5)


def test_texts_follow_the_table():
    texts = GRAMMAR.draw(20, 30, torch.Generator().manual_seed(3))
    log_p = GRAMMAR.log_p(texts[:, :-1]).gather(2, texts[:, 2:, None])
    assert log_p.isfinite().all()
    assert -log_p.mean().item() / np.log(2) == pytest.approx(1.75, abs=0.1)


def test_an_exact_study_is_excellent():
    found = grade("scaling_study", **exact_study())
    assert [line.level for line in found.lines] == [3] * 4, str(found)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"law": lambda n: 2.5}, "bet"),
        ({"interval": (2.5, 2.6)}, "interval"),
        ({"interval": (1.0, 3.0)}, "interval"),
        ({"interval": (3.0, 1.0)}, "interval"),
        ({"bet": Knows(30_000)}, "bet"),  # not twice as large
        ({"equal": {"a": [Knows(9000)], "b": [Knows(12_000)]}}, "fairness"),
        ({"equal": {"a": [Knows(9000)]}}, "fairness"),
        ({"equal": {"a": [Knows(9000)] * 5, "b": [Knows(9000)] * 5}}, "seeds"),
        ({"runs": [Knows(n, 0.1) for n in (500, 1000)]}, "bet"),  # two sizes
    ],
)
def test_each_fault_costs_its_line(changes, name):
    found = grade("scaling_study", **exact_study() | changes)
    assert found[name].level == 0, str(found)


def test_the_floor_is_found_where_runs_lie_on_a_law():
    E, _, alpha = project.free_fit(SIZES, [law(n) for n in SIZES])
    assert (E, alpha) == (pytest.approx(1.75, abs=0.02), pytest.approx(0.5, abs=0.02))


def test_widths_are_those_of_real_models():
    for parameters, layers, heads in ((28_700, 1, 2), (28_700, 4, 2), (5000, 2, 1)):
        width = project.width_for(parameters, layers, heads)
        model = GPT(96, width, heads, num_layers=layers, max_seq_len=8)
        counted = project.count_parameters(model).non_embedding
        assert counted == layers * (12 * width**2 + 13 * width) + 2 * width
