"""The measures of the mini-GPT, and that its stored runs are what the book says."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from companion import GPT
from companion.analysis import mini_gpt
from companion.analysis.mini_gpt import (
    HERE,
    SETTINGS,
    bits,
    last_half_probabilities,
    longest_copies,
    middle_bits,
    ngram_probabilities,
)
from companion.analysis.ngram import NGramModel
from companion.data.characters import even_windows, split_by_position
from companion.training.infilling import SENTINELS

PATTERN = "abcdefgh" * 100


@pytest.fixture(scope="module")
def split():
    return split_by_position(PATTERN, 0.1, 0.1, special=SENTINELS)


def test_it_learns_a_pattern(split):
    setting = replace(HERE, d_model=32, num_layers=1, length=16, steps=60, warmup=5)
    model, curve = mini_gpt.train_mini_gpt(split, setting, progress=False)
    assert [characters for characters, _ in curve] == [
        16 * 8 * 6 * i for i in range(1, 11)
    ]
    assert curve[-1][1] < 0.5 < curve[0][1]
    windows = even_windows(split.test, 16, 5)
    assert bits(last_half_probabilities(model, windows)) < 0.5


def test_both_kinds_of_model_are_scored_on_the_same_characters(split):
    torch.manual_seed(0)
    model = GPT(split.characters.vocab_size, 16, 2, num_layers=1, max_seq_len=17).eval()
    windows = even_windows(split.test, 17, 4)
    ours = last_half_probabilities(model, windows)
    counted = ngram_probabilities(NGramModel(split.train, 12, 2), windows, 2)
    assert ours.shape == counted.shape == (4, 9)
    p = model(windows[:1, :-1]).softmax(-1)
    assert ours[0, -1].item() == pytest.approx(
        p[0, -1, windows[0, -1]].item(), rel=1e-5
    )
    assert counted.min() > 0.9


def test_windows_of_counting_count_every_character_but_the_first(split):
    model = NGramModel(split.train, 12, 3)
    windows = even_windows(split.test, 6, 2)
    by_hand = [
        model.distribution(row[max(0, t - 3) : t])[row[t]]
        for row in windows
        for t in range(1, 7)
    ]
    found = mini_gpt.window_bits(model, windows, 3)
    assert found == pytest.approx(bits(torch.stack(by_hand)))


def test_bits():
    assert bits(torch.tensor([0.5, 0.25])) == pytest.approx(1.5)


def test_longest_copies_by_brute_force():
    source, text = "the cat sat on the mat", "cat on the mattress sat"
    for start, length in enumerate(longest_copies(text, source)):
        longest = max(
            n for n in range(len(text) - start + 1) if text[start : start + n] in source
        )
        assert length == longest
    assert longest_copies("zz", source) == [0, 0]
    assert max(longest_copies(source, source, longest=5)) == 5


class CountsCalls(GPT):
    """Remembers what it is shown."""

    def forward(self, token_ids, mask=None, *, cache=None):
        self.shown = [*getattr(self, "shown", []), token_ids]
        return super().forward(token_ids, mask, cache=cache)


def test_the_middle_is_the_same_in_all_three_readings(split):
    model = CountsCalls(split.characters.vocab_size, 16, 2, num_layers=1).eval()
    marks = mini_gpt.sentinels(split)
    windows = even_windows(split.test, 19, 3)
    found = middle_bits(model, windows, marks, 6, suffix=7)
    assert all(b == pytest.approx(math.log2(12), abs=0.3) for b in found)
    alone, both, wrong = model.shown
    assert torch.equal(alone, windows[:, :12])
    assert torch.equal(both[:, 1:8], windows[:, :7])
    assert torch.equal(both[:, 9:16], windows[:, 13:])
    assert torch.equal(both[:, 17:], windows[:, 7:12])
    assert torch.equal(wrong[:, 9:16], windows[:, 13:].roll(1, dims=0))


def test_stored_runs():
    runs = mini_gpt.stored_results()
    assert set(runs) <= set(SETTINGS) and "this page" in runs
    for name, run in runs.items():
        characters, values = zip(*run.curve, strict=True)
        assert characters[-1] == SETTINGS[name].characters
        assert values[-1] < values[0]
        assert run.test_bits == pytest.approx(values[-1], abs=0.3)
