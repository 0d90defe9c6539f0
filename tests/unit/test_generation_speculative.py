"""Speculative decoding: the target's distribution exactly, whatever the draft model says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from companion.generation import (
    GivenSource,
    Greedy,
    Sampling,
    generate,
    speculative_generate,
)
from companion.generation import speculative as module
from companion.generation.speculative import acceptance, residual
from tests.generation_cases import (
    PROMPTS,
    SOURCE,
    Table,
    encoder_decoder,
    language_model,
)
from tests.unit.test_generation_sampling import pair_probabilities, seeded


def distributions(rows: int = 50, vocab_size: int = 7) -> tuple[Tensor, Tensor]:
    """Random p and q, some of whose tokens are impossible."""
    logits = torch.randn(2, rows, vocab_size, generator=seeded(), dtype=torch.float64)
    cut = torch.rand(logits.shape, generator=seeded(1)) < 0.25
    cut[..., 0] = False
    p, q = logits.masked_fill(cut, -torch.inf).softmax(-1)
    return p, q


def test_accepted_and_replaced_tokens_add_up_to_p():
    """Appendix A.1, as arithmetic: no sampling, no tolerance to speak of."""
    p, q = distributions()
    accepted = q * acceptance(p, q)
    refused = 1 - accepted.sum(-1, keepdim=True)
    torch.testing.assert_close(
        accepted + refused * residual(p, q), p, atol=1e-14, rtol=0
    )
    # The chance to accept is one minus the total variation distance (corollary 3.6).
    torch.testing.assert_close(1 - refused[:, 0], torch.minimum(p, q).sum(-1))


def test_equal_models_accept_everything():
    p, _ = distributions()
    assert (acceptance(p, p) == 1).all()
    torch.testing.assert_close(residual(p, p), p)  # never needed, yet no NaN


CHI_SQUARE_15 = 37.70  # the 0.1 % point at 15 degrees of freedom
TARGET = torch.tensor(
    [[0.1, 0.9, 0.0, 0.4], [1.2, 0.3, 0.8, 0.0], [0.0, 0.7, 0.2, 1.0], [0.9, 0, 0.3, 0]]
)


def chi_square_of_pairs(target, draft, strategy, count: int, num_drafts: int) -> float:
    """Of the two tokens after [1], against the target's exact distribution."""
    generator = seeded()
    counts = torch.zeros(16)
    for _ in range(count):
        text, *_ = speculative_generate(
            target,
            draft,
            [[1]],
            2 if num_drafts == 1 else 3,  # a third token, so that two can be drafted
            strategy,
            num_drafts=num_drafts,
            generator=generator,
        )
        counts[text[0, 1] * 4 + text[0, 2]] += 1
    expected = pair_probabilities(target, strategy).flatten() * count
    possible = expected > 0
    assert expected[possible].min() > 5  # the chi-square approximation holds
    assert counts[~possible].sum() == 0
    return float(((counts - expected) ** 2 / expected)[possible].sum())


@pytest.mark.parametrize("num_drafts", [1, 2])
@pytest.mark.parametrize(
    "strategy", [Sampling(), Sampling(temperature=0.8, top_k=3, repetition_penalty=1.2)]
)
def test_the_distribution_is_the_targets(strategy, num_drafts):
    draft = Table(TARGET.flip(0) * 2)
    chi_square = chi_square_of_pairs(Table(TARGET), draft, strategy, 1500, num_drafts)
    assert chi_square < CHI_SQUARE_15


def test_the_distribution_is_the_targets_with_caches_too():
    models = [language_model(seed, 4, num_layers=1).eval() for seed in (1, 2)]
    strategy = Sampling(temperature=5.0)
    p, q = (pair_probabilities(model, strategy) for model in models)
    assert 700 * ((q - p) ** 2 / p).sum() > 2 * CHI_SQUARE_15  # it could be caught
    assert chi_square_of_pairs(*models, strategy, 700, 2) < CHI_SQUARE_15


def test_replacing_from_p_instead_of_the_residual_would_be_caught(monkeypatch):
    """The likely mistake: it counts the tokens that p and q share twice."""
    monkeypatch.setattr(module, "residual", lambda p, q: p)
    draft = Table(TARGET.flip(0) * 2)
    chi_square = chi_square_of_pairs(Table(TARGET), draft, Sampling(), 1500, 2)
    assert chi_square > 2 * CHI_SQUARE_15


def test_accepting_all_drafts_would_be_caught(monkeypatch):
    monkeypatch.setattr(module, "acceptance", lambda p, q: torch.ones_like(p))
    draft = Table(TARGET.flip(0) * 2)
    chi_square = chi_square_of_pairs(Table(TARGET), draft, Sampling(), 1500, 2)
    assert chi_square > 2 * CHI_SQUARE_15


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("num_drafts", [1, 3, 20])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_speculation_is_greedy(use_cache, num_drafts, prompt):
    """With a draft that often errs; one token of it after another must be taken back."""
    target, draft = language_model(), language_model(2, num_layers=1, num_kv_heads=2)
    for strategy in (Greedy(), Greedy(repetition_penalty=1.3)):
        expected = generate(target, [prompt], 12, strategy)
        result = speculative_generate(
            target,
            draft,
            [prompt],
            12,
            strategy,
            num_drafts=num_drafts,
            use_cache=use_cache,
        )
        assert torch.equal(result.token_ids, expected)
        assert result.num_accepted <= result.num_drafted
        assert result.num_accepted + result.num_target_calls == 12


def test_a_perfect_draft_saves_calls_and_a_hopeless_one_none():
    model = language_model()
    result = speculative_generate(model, model, [[1]], 10, num_drafts=4)
    assert (result.num_target_calls, result.num_accepted) == (2, 8)
    target, draft = torch.zeros(3, 3), torch.zeros(3, 3)
    target[:, 1], draft[:, 2] = 9.0, 9.0
    result = speculative_generate(Table(target), Table(draft), [[0]], 10, num_drafts=4)
    assert (result.num_target_calls, result.num_accepted) == (10, 0)
    assert result.token_ids.tolist() == [[0] + [1] * 10]


def test_the_number_of_calls_is_what_the_paper_expects():
    """Equation 1: (1 - alpha^(gamma + 1)) / (1 - alpha) tokens a call, here 2.05."""
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.3, 0.5])
    alpha = float(torch.minimum(p, q).sum())  # 0.7: the same after every token
    target, draft = (Table(x.log().expand(3, 3).clone()) for x in (p, q))
    gamma, total = 2, 3000
    expected = (1 - alpha ** (gamma + 1)) / (1 - alpha)
    result = speculative_generate(
        target,
        draft,
        [[0]],
        total,
        Sampling(),
        num_drafts=gamma,
        generator=seeded(),
    )
    assert abs(total / result.num_target_calls - expected) < 0.05


def test_an_encoder_decoder_drafts_for_another():
    source = SOURCE[:1]
    target = GivenSource(encoder_decoder(1), source)
    draft = GivenSource(encoder_decoder(2), source)
    strategy = Greedy(repetition_penalty=1.5)
    expected = generate(target, [[1]], 9, strategy)
    result = speculative_generate(target, draft, [[1]], 9, strategy)
    assert torch.equal(result.token_ids, expected)


def test_a_stop_token_ends_the_text_also_among_accepted_drafts():
    model = language_model()
    free = generate(model, [[3]], 12)[0].tolist()
    for stop in set(free[1:]):
        result = speculative_generate(model, model, [[3]], 12, stop_ids=[stop])
        end = free.index(stop, 1) + 1
        assert result.token_ids.tolist() == [free[:end]]


def test_the_whole_of_max_seq_len_can_be_used():
    target, draft = language_model(max_seq_len=8), language_model(2, max_seq_len=8)
    result = speculative_generate(target, draft, [[1, 2, 3]], 6, num_drafts=5)
    assert torch.equal(result.token_ids, generate(target, [[1, 2, 3]], 6))
    short = language_model(2, max_seq_len=7)
    for models in ((target, short), (short, target)):
        with pytest.raises(ValueError, match="max_seq_len of 7"):
            speculative_generate(*models, [[1, 2, 3]], 6)


def test_both_models_run_without_dropout_and_keep_their_mode():
    target, draft = language_model(dropout=0.5), language_model(2, dropout=0.5)
    results = [speculative_generate(target, draft, [[1]], 9) for _ in range(2)]
    assert torch.equal(results[0].token_ids, results[1].token_ids)
    assert results[0][1:] == results[1][1:]
    assert target.training and draft.training


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"num_drafts": 0}, ValueError, "num_drafts must be at least 1, but it is 0"),
        ({"num_drafts": None}, TypeError, "num_drafts must be an integer.*None"),
        ({"prompt_ids": [[1], [2]]}, ValueError, "one prompt, but there are 2"),
        ({"prompt_ids": [[]]}, ValueError, "one is empty"),
        ({"max_new_tokens": 0}, ValueError, "max_new_tokens must be at least 1"),
    ],
)
def test_bad_arguments(change, error, message):
    arguments = {"prompt_ids": [[1]], "max_new_tokens": 4} | change
    with pytest.raises(error, match=message):
        speculative_generate(language_model(), language_model(2), **arguments)


def test_another_vocabulary_is_refused():
    with pytest.raises(ValueError, match="target has 11 tokens and draft has 7"):
        speculative_generate(language_model(), language_model(2, 7), [[1]], 4)
