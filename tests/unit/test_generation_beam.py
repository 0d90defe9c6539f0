"""Beam search: against exhaustive search, against greedy, and with a cache that is reordered."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from companion import padding_mask
from companion.generation import GivenSource, beam_search, generate, translate
from tests.generation_cases import (
    PROMPTS,
    SOURCE,
    Table,
    close,
    encoder_decoder,
    language_model,
)

STOP = 2


def log_probability(
    model: nn.Module, prompt: list[int], text: tuple[int, ...]
) -> float:
    ids = torch.tensor([[*prompt, *text]])
    with torch.no_grad():
        log_p = model.eval()(ids)[0].log_softmax(-1)
    return sum(float(log_p[len(prompt) - 1 + i, token]) for i, token in enumerate(text))


def all_texts(vocab_size: int, length: int) -> list[tuple[int, ...]]:
    """Every text that stops, or reaches the length without."""
    texts = []
    for n in range(1, length + 1):
        for text in itertools.product(range(vocab_size), repeat=n):
            ended = text[-1] == STOP or n == length
            if ended and STOP not in text[:-1]:
                texts.append(text)
    return texts


@pytest.mark.parametrize(
    ("norm", "alpha"), [("power", 0.7), ("gnmt", 0.6), ("power", 0.0)]
)
@pytest.mark.parametrize("prompt", [[1], [3, 0, 2]])
def test_enough_beams_find_what_exhaustive_search_finds(norm, alpha, prompt):
    """Four tokens, three steps: 27 beams can lose nothing."""
    model = language_model(vocab_size=4)
    divide = {"power": lambda n: n**alpha, "gnmt": lambda n: ((5 + n) / 6) ** alpha}
    scored = sorted(
        (
            (log_probability(model, prompt, text) / divide[norm](len(text)), text)
            for text in all_texts(4, 3)
        ),
        reverse=True,
    )
    found = beam_search(
        model,
        [prompt],
        3,
        num_beams=27,
        length_penalty=alpha,
        length_norm=norm,
        early_stopping="never",
        stop_ids=[STOP],
        pad_id=9,
    )
    for (score, text), row, its_score in zip(
        scored, found.token_ids[0], found.scores[0], strict=False
    ):
        assert abs(score - its_score) < 1e-10
        assert row.tolist() == ([*prompt, *text] + [9] * 3)[: len(row)]
    assert found.scores.shape == (1, 27)
    assert torch.equal(found.best, found.token_ids[:, 0])


def test_one_beam_is_greedy():
    model = language_model()
    for stops in ([], [6], [4, 10]):
        options = {"stop_ids": stops, "pad_id": 7}
        greedy = generate(model, PROMPTS, 7, **options)
        found = beam_search(model, PROMPTS, 7, 1, early_stopping=True, **options)
        assert torch.equal(found.best, greedy)


def test_a_beam_sees_past_a_tempting_first_step():
    """Greedy takes 1, after which nothing is likely; the best text starts with 2."""
    p = torch.full((5, 5), 0.01)
    p[0, 1], p[0, 2] = 0.5, 0.4
    p[1] = 0.2
    p[2, 3] = 0.96
    model = Table(p.log())
    assert generate(model, [[0]], 2)[0, 1] == 1
    best = beam_search(model, [[0]], 2, 2).best
    assert best.tolist() == [[0, 2, 3]]


MODELS = {
    "multi-head": language_model,
    "grouped-query": lambda: language_model(num_kv_heads=2),
    "encoder-decoder": lambda: GivenSource(
        encoder_decoder(), SOURCE, padding_mask(SOURCE)
    ),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("num_beams", [2, 4])
def test_cached_beams_are_uncached_beams(name, num_beams):
    model = MODELS[name]()
    options = {"stop_ids": [6], "length_penalty": 0.8}
    cached = beam_search(model, PROMPTS, 7, num_beams, **options)
    uncached = beam_search(model, PROMPTS, 7, num_beams, use_cache=False, **options)
    assert torch.equal(cached.token_ids, uncached.token_ids)
    close(cached.scores, uncached.scores)


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
@pytest.mark.parametrize("stops", [[], [6], [4, 7, 10]])
def test_prompts_of_unequal_lengths_are_as_each_alone(early_stopping, stops):
    model = language_model()
    options = {"stop_ids": stops, "early_stopping": early_stopping, "pad_id": 99}
    together = beam_search(model, PROMPTS, 6, 3, **options)
    for prompt, rows, scores in zip(PROMPTS, *together, strict=True):
        alone = beam_search(model, [prompt], 6, 3, **options)
        width = alone.token_ids.shape[-1]
        assert torch.equal(rows[:, :width], alone.token_ids[0])
        assert (rows[:, width:] == 99).all()
        close(scores, alone.scores[0])


def test_a_prompt_costs_once_and_not_once_a_beam():
    model, shown = language_model(), []
    model.register_forward_pre_hook(lambda _, args: shown.append(tuple(args[0].shape)))
    beam_search(model, [[1, 5, 6]], 3, 4)
    assert shown == [(1, 3), (4, 1), (4, 1)]


def test_scores_are_log_probabilities_over_the_norm():
    model = language_model()
    found = beam_search(model, [[1, 5]], 5, 3, length_penalty=0.6, length_norm="gnmt")
    for row, score in zip(found.token_ids[0], found.scores[0], strict=True):
        expected = log_probability(model, [1, 5], tuple(row[2:].tolist()))
        assert abs(score - expected / (10 / 6) ** 0.6) < 1e-10
    assert (found.scores.diff() <= 0).all()


def test_a_larger_penalty_makes_longer_texts():
    """After each token, stopping is likely, yet going on costs little."""
    p = torch.tensor([[0.0, 0.60, 0.40], [0.0, 0.60, 0.40], [0.0, 0.0, 1.0]])
    model = Table(p.clamp(min=1e-9).log())
    lengths = []
    for alpha in (0.0, 1.0, 3.0):
        best = beam_search(
            model,
            [[0]],
            6,
            3,
            length_penalty=alpha,
            stop_ids=[STOP],
            early_stopping="never",
        ).best[0]
        lengths.append(int((best != 0).sum()))
    assert lengths == sorted(lengths)
    assert lengths[0] == 1
    assert lengths[-1] == 6


def test_early_stopping_stops_earlier_and_never_searches_longest():
    p = torch.tensor([[0.0, 0.60, 0.40], [0.0, 0.60, 0.40], [0.0, 0.0, 1.0]])
    model, calls = Table(p.clamp(min=1e-9).log()), []
    model.register_forward_hook(lambda *_: calls.append(1))
    counts = []
    for early_stopping in (True, False, "never"):
        calls.clear()
        beam_search(
            model,
            [[0]],
            12,
            2,
            length_penalty=1.5,
            stop_ids=[STOP],
            early_stopping=early_stopping,
        )
        counts.append(len(calls))
    assert counts[0] < counts[2]
    assert counts == sorted(counts)


def test_fewer_texts_than_beams_are_told_by_their_score():
    found = beam_search(Table(torch.zeros(2, 2)), [[0]], 1, 4)
    assert found.scores.isfinite().tolist() == [[True, True, False, False]]


def test_translate_with_beams():
    model, mask = encoder_decoder(), padding_mask(SOURCE)
    options = {"stop_ids": [6], "length_penalty": 0.6, "length_norm": "gnmt"}
    found = beam_search(GivenSource(model, SOURCE, mask), [[1]] * 3, 8, 4, **options)
    best = translate(
        model, SOURCE, 8, start_id=1, source_mask=mask, num_beams=4, **options
    )
    assert torch.equal(best, found.best[:, 1:])
    for i, source in enumerate(SOURCE):
        alone = translate(
            model, source[source != 0][None], 8, start_id=1, num_beams=4, **options
        )
        width = alone.shape[1]
        assert torch.equal(best[i : i + 1, :width], alone)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"num_beams": 0}, ValueError, "num_beams must be at least 1, but it is 0"),
        ({"num_beams": 1.5}, TypeError, "num_beams must be an integer.*1.5"),
        ({"length_penalty": "1"}, TypeError, "length_penalty must be a number.*'1'"),
        ({"length_penalty": float("inf")}, ValueError, "length_penalty.*finite.*inf"),
        ({"length_norm": "hf"}, ValueError, "length_norm.*power, gnmt.*'hf'"),
        ({"early_stopping": "yes"}, ValueError, "early_stopping.*'never'.*'yes'"),
        ({"max_new_tokens": 0}, ValueError, "max_new_tokens must be at least 1"),
        ({"max_new_tokens": 25}, ValueError, "max_seq_len of 24.*24 at most"),
        ({"prompt_ids": [[]]}, ValueError, "one is empty"),
        ({"stop_ids": 3}, TypeError, "stop_ids"),
    ],
)
def test_bad_arguments(change, error, message):
    arguments = {"prompt_ids": [[1]], "max_new_tokens": 2} | change
    with pytest.raises(error, match=message):
        beam_search(language_model(), **arguments)
