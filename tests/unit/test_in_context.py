"""What a model makes of its context: the measures, on models whose answer is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from companion.analysis.in_context import (
    EVERY,
    LAYERS,
    PATTERNS,
    STEPS,
    answer_scores,
    bits_by_position,
    example_prompts,
    induction_scores,
    new_small_gpt,
    periodic_accuracy,
    periodic_batch,
    repeated_windows,
    stored_results,
)
from companion.data.characters import Characters
from companion.layers import KeyValueCache


class Repeater(nn.Module):
    """Says what came ``period`` tokens before the token that is wanted."""

    def __init__(self, vocab_size: int, period: int, certainty: float = 20.0) -> None:
        super().__init__()
        self.vocab_size, self.period = vocab_size, period
        self.certainty = nn.Parameter(torch.tensor(certainty))
        self.read = torch.empty(1, 0, dtype=torch.int64)

    def forward(self, token_ids, mask=None, *, cache: KeyValueCache | None = None):
        new = token_ids.shape[1]
        if cache is not None:
            if cache.length == 0:
                self.read = token_ids[:, :0]
            self.read = token_ids = torch.cat([self.read, token_ids], dim=1)
            kept = torch.zeros(1, 1, new, 1)
            cache.extend(self, kept, kept)
        logits = torch.zeros(*token_ids.shape, self.vocab_size)
        back = self.period - 1
        if token_ids.shape[1] > back:
            said = token_ids[:, : token_ids.shape[1] - back]
            logits[:, back:].scatter_(2, said[..., None], 1.0)
        return logits[:, -new:] * self.certainty


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_random_text_twice():
    windows = repeated_windows([3, 5, 7], 6, 50, draw())
    assert windows.shape == (50, 12)
    assert torch.equal(windows[:, :6], windows[:, 6:])
    assert set(windows.unique().tolist()) == {3, 5, 7}


def test_only_the_second_half_can_be_foretold():
    windows = repeated_windows(range(16), 10, 200, draw())
    bits = bits_by_position(Repeater(16, 10), windows)
    assert bits.shape == (19,)
    assert bits[:9] == pytest.approx(torch.full((9,), 4.0), abs=1e-3)
    assert bits[9:].max() < 1e-3


def test_induction_scores_of_known_maps():
    """One head that completes, one that looks at the copy itself, one that looks evenly."""
    length, n = 5, 10
    weights = torch.zeros(1, 2, 3, n, n)
    for query in range(n):
        weights[0, :, 0, query, max(0, query - length + 1)] = 1
        weights[0, :, 1, query, max(0, query - length)] = 1
        weights[0, :, 2, query] = 1 / n
    scores = induction_scores(weights)
    torch.testing.assert_close(scores, torch.tensor([[1.0, 0.0, 0.1]]))


def test_prompts_show_the_pattern_and_ask_a_new_word():
    words = ["love", "king", "night", "hand"]
    prompts = example_prompts(words, PATTERNS["reverse"], 2, 20, draw())
    assert len(prompts) == 20
    for prompt in prompts:
        *lines, last = prompt.text.split("\n")
        assert len(lines) == 2
        asked = last.removesuffix(" - ")
        assert prompt.answer == asked[::-1]
        for line in lines:
            word, answer = line.removesuffix(";").split(" - ")
            assert answer == word[::-1] and word != asked
    assert PATTERNS["capitals"]("king") == "KING"


def test_scores_of_a_model_that_copies():
    """Words of four letters, "love - " before the answer: seven characters back."""
    characters = Characters("abcdefghijklmnopqrstuvwxyz -;\n")
    words = ["love", "king", "hand", "eyes"]
    model = Repeater(characters.vocab_size, 7)
    copy = answer_scores(
        model, characters, example_prompts(words, PATTERNS["copy"], 0, 4, draw())
    )
    back = answer_scores(
        model, characters, example_prompts(words, PATTERNS["reverse"], 0, 4, draw())
    )
    # The semicolon is not what stands seven back, a blank is.
    assert copy.exact == 0 and back.exact == 0
    wrong = math.log2(math.e**20 + characters.vocab_size - 1)
    assert copy.bits == pytest.approx(wrong / 5, rel=1e-3)
    assert back.bits > copy.bits + 5


def test_letters_come_again_after_one_period():
    texts, labels = periodic_batch(200, draw(), (3, 5), 15)
    assert texts.shape == labels.shape == (200, 15)
    periods = set()
    for text, label in zip(texts.tolist(), labels.tolist(), strict=True):
        period = next(p for p in (3, 4, 5) if text[p:] == text[:-p])
        counted = [i for i, wanted in enumerate(label) if wanted != -100]
        assert counted[-1] == 14
        assert all(label[i] == text[i] == text[i - period] for i in counted)
        periods.add((period, counted[0] - period))
    assert {(3, 1), (4, 1), (5, 1)} <= periods


def test_two_layers_find_the_period_and_one_does_not():
    """The stored runs: every seed of two layers is far above every seed of one."""
    one, two = (stored_results()[layers] for layers in LAYERS)
    assert len(one) == len(two) == 3
    assert max(run[-1] for run in one) < 0.55 < 0.8 < min(run[-1] for run in two)
    assert all(len(run) == STEPS // EVERY for run in (*one, *two))


def test_accuracy_of_a_fresh_model_is_chance():
    assert periodic_accuracy(new_small_gpt(1, 0)) < 0.2
