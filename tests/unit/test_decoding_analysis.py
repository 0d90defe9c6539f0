"""The small tasks and measures behind the chapter on the decoder."""

from __future__ import annotations

import math

import pytest
import torch

from companion import KeyValueCache, device
from companion.analysis import decoding
from companion.analysis.decoding import (
    HELD_OUT,
    PAD_ID,
    START_ID,
    STOP_ID,
    NGram,
    accuracy_by_position,
    as_words,
    distinct,
    draw_numbers,
    next_letter_loss,
    number_pairs,
    number_words,
    real_words,
    total_variation,
)


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (1, "one"),
        (10, "ten"),
        (19, "nineteen"),
        (20, "twenty"),
        (24, "four and twenty"),
        (100, "one hundred"),
        (407, "four hundred seven"),
        (1000, "one thousand"),
        (12_011, "twelve thousand eleven"),
        (
            999_999,
            "nine hundred nine and ninety thousand nine hundred nine and ninety",
        ),
    ],
)
def test_number_words(n, words):
    assert " ".join(number_words(n)) == words


def test_different_numbers_have_different_words():
    names = {tuple(number_words(n)) for n in range(1, 10_000)}
    assert len(names) == 9_999
    assert {word for name in names for word in name} <= set(decoding.WORDS)


@pytest.mark.parametrize("n", [0, -3, 1_000_000])
def test_numbers_without_words_are_refused(n):
    with pytest.raises(ValueError, match=f"n must be from 1 to 999,999, but it is {n}"):
        number_words(n)


def test_pairs():
    pairs = number_pairs([24, 7])
    assert pairs.source_ids.device.type == device().type
    assert pairs.source_ids.tolist()[1][-2:] == [STOP_ID, PAD_ID]
    assert pairs.target_ids[:, 0].tolist() == [START_ID] * 2
    assert pairs.source_mask.shape == (2, 1, 1, 3)
    assert pairs.source_mask[1, 0, 0].tolist() == [True, True, False]
    assert [as_words(row) for row in pairs.target_ids] == ["four and twenty", "seven"]


def test_held_out_numbers_are_never_trained_on():
    draw = torch.Generator().manual_seed(0)
    train = draw_numbers(300, draw, held_out=False)
    test = draw_numbers(300, draw, held_out=True, digits=6)
    assert all(n % HELD_OUT for n in train) and not any(n % HELD_OUT for n in test)
    assert {len(str(n)) for n in train} == set(range(1, 7))
    assert {len(str(n)) for n in test} == {6}


def test_letter_models_differ_in_what_they_see_only():
    causal = decoding.new_letter_model(seed=3)
    seeing = decoding.new_letter_model(seed=3, causal=False)
    for a, b in zip(causal.parameters(), seeing.parameters(), strict=True):
        assert torch.equal(a, b)
    ids = torch.randint(0, 27, (1, 9)).to(device())
    other = ids.clone()
    other[0, -1] = (ids[0, -1] + 1) % 27
    for model, moves in ((causal, False), (seeing, True)):
        model.eval()
        before, after = model(ids)[:, :-1], model(other)[:, :-1]
        assert torch.allclose(before, after) != moves


def test_training_lowers_the_loss_and_can_be_repeated():
    ids = torch.arange(2000) % 5

    def train():
        model = decoding.new_letter_model()
        losses = decoding.train_letter_model(model, ids, steps=25, length=12, batch=4)
        return model, losses

    (model, losses), (_, again) = train(), train()
    assert losses == again
    assert losses[-1] < losses[0] / 2
    assert not model.training


def test_the_speller_learns():
    model = decoding.new_speller(seed=0)
    losses = decoding.train_speller(model, steps=30)
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_next_letter_loss():
    p = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [1.0, 0.0, 0.0]])

    def model(ids):
        return p.log()[ids]

    loss = next_letter_loss(model, torch.tensor([[0, 1, 1, 2]]))
    expected = [-math.log(x) for x in (0.25, 0.8, 0.1)]
    assert torch.allclose(loss, torch.tensor([expected]))


# The n-gram model


def test_ngram_counts():
    ids = torch.tensor([0, 1, 0, 1, 0, 2])  # after 0: 1, 1, 2; after 1: 0, 0
    model = NGram(ids, vocab_size=3, order=1, strength=0.0)
    p = model(torch.tensor([[0, 1]]))[0].exp()
    assert torch.allclose(p[0], torch.tensor([0.0, 2 / 3, 1 / 3]))
    assert torch.allclose(p[1], torch.tensor([1.0, 0.0, 0.0]))


def test_ngram_falls_back_on_shorter_contexts():
    ids = torch.randint(0, 4, (500,), generator=torch.Generator().manual_seed(0))
    model = NGram(ids, vocab_size=5, order=3)
    log_p = model(torch.tensor([[4, 4, 4, 4]]))  # 4 never occurs
    assert log_p.isfinite().all()
    assert torch.allclose(log_p.exp().sum(-1), torch.ones(1, 4))
    unigram = model.log_p0[0]
    assert torch.allclose(log_p[0, -1], unigram, atol=1e-5)


def test_ngram_with_a_cache_and_taking_back():
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 6, (3000,), generator=generator)
    model = NGram(ids, vocab_size=6, order=3)
    text = torch.randint(0, 6, (2, 9), generator=generator)
    expected = model(text)
    cache = KeyValueCache()
    parts = [model(part, cache=cache) for part in text.split([1, 1, 4, 3], dim=1)]
    assert torch.equal(torch.cat(parts, dim=1), expected)
    cache.truncate(5)
    assert torch.equal(model(text[:, 5:], cache=cache), expected[:, 5:])


# Measures


def test_real_words_and_distinct():
    assert real_words(["xx to be qqqq or yy"], {"to", "be", "or"}) == 6 / 10
    assert real_words(["", "be"], {"be"}) == 0  # words at the ends may be cut
    assert distinct(["a b a b"], 1) == 0.5
    assert distinct(["a b a b", "a b"], 2) == 2 / 4
    assert distinct(["a"], 2) == 0


def test_total_variation():
    p, q = torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([[0.5, 0.0, 0.5]])
    assert total_variation(p, q).item() == 0.5
    assert total_variation(p, p).item() == 0


def test_accuracy_by_position_ignores_padding():
    pairs = number_pairs([7, 24])  # targets: "seven ⊣ · ·" and "four and twenty ⊣"
    wanted = pairs.target_ids[:, 1:]

    class Oracle:
        def __call__(self, source_ids, known, source_mask):
            right = torch.nn.functional.one_hot(wanted, len(decoding.WORDS)).float()
            right[1, 2] = right[1, 2].roll(1)  # wrong at the third word of 24
            return right

    written = wanted.clone()[:, :3]  # ends too early
    written[0, 0] = 3
    forced, free = accuracy_by_position(Oracle(), pairs, written)
    assert forced == [1, 1, 0, 1]
    assert free == [0.5, 1, 1, 0]
