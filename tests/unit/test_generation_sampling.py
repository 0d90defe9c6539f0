"""Writing token by token: `generate`, `stream`, `translate`, and the cache under them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from companion import padding_mask
from companion.generation import (
    GivenSource,
    Greedy,
    Reader,
    Sampling,
    generate,
    stream,
    translate,
)
from tests.generation_cases import (
    PROMPTS,
    SOURCE,
    VOCAB,
    Table,
    close,
    encoder_decoder,
    language_model,
)

MODELS = {
    "multi-head": language_model,
    "grouped-query": lambda: language_model(num_kv_heads=2),
    "multi-query, post-norm": lambda: language_model(num_kv_heads=1, norm_first=False),
    "encoder-decoder": lambda: GivenSource(
        encoder_decoder(), SOURCE, padding_mask(SOURCE)
    ),
    "encoder-decoder, pre-norm": lambda: GivenSource(
        encoder_decoder(norm_first=True), SOURCE, padding_mask(SOURCE)
    ),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_hand(model: nn.Module, prompt: list[int], num_tokens: int) -> list[int]:
    """Greedy search in its plainest form."""
    model = model.eval()
    tokens = list(prompt)
    for _ in range(num_tokens):
        tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
    return tokens


@pytest.mark.parametrize("name", MODELS)
def test_cached_and_uncached_readers_agree_logit_by_logit(name):
    """Token by token, in chunks, with tokens taken back and rows reordered."""
    model = MODELS[name]()
    text = torch.randint(0, VOCAB, (3, 9), generator=seeded())
    cached, uncached = Reader(model), Reader(model, use_cache=False)
    for end in (4, 5, 6, 9):
        close(cached.read(text[:, :end]), uncached.read(text[:, :end]))
    for reader in (cached, uncached):
        reader.truncate(6)
        reader.select(torch.tensor([2, 0]))
    text = text[[2, 0]]
    text[:, 6:] = 10
    logits = cached.read(text)
    assert logits.shape == (2, 3, VOCAB)
    close(logits, uncached.read(text))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "strategy", [Greedy(), Greedy(repetition_penalty=1.3), Sampling(top_p=0.9)]
)
def test_cached_and_uncached_write_the_same(name, strategy):
    model = MODELS[name]()
    with_cache, without = (
        generate(model, PROMPTS, 8, strategy, use_cache=use_cache, generator=seeded())
        for use_cache in (True, False)
    )
    assert torch.equal(with_cache, without)


def test_each_token_is_shown_to_the_model_once():
    model, shown = language_model(), []
    model.register_forward_pre_hook(lambda _, args: shown.append(args[0].shape[1]))
    generate(model, [[1, 5, 6]], 4)
    assert shown == [3, 1, 1, 1]


@pytest.mark.parametrize("use_cache", [True, False])
def test_prompts_of_unequal_lengths_are_as_each_alone(use_cache):
    model = language_model()
    together = generate(model, PROMPTS, 7, pad_id=99, use_cache=use_cache)
    assert together.shape == (3, 6 + 7)
    for prompt, row in zip(PROMPTS, together, strict=True):
        expected = by_hand(model, prompt, 7)
        assert row.tolist() == expected + [99] * (13 - len(expected))


def test_targets_of_several_sources_are_as_each_alone():
    """In a padded batch, the source mask keeps the padding out."""
    model = encoder_decoder()
    options = {"strategy": Greedy(repetition_penalty=1.5), "start_id": 1}
    mask = padding_mask(SOURCE)
    together = translate(model, SOURCE, 8, source_mask=mask, **options)
    for source, row in zip(SOURCE, together, strict=True):
        alone = translate(model, source[source != 0][None], 8, **options)
        assert torch.equal(row[None], alone)
    assert len({tuple(row) for row in together.tolist()}) == 3  # sources matter
    assert not torch.equal(translate(model, SOURCE, 8, **options), together)


def test_a_row_ends_at_its_stop_token_and_others_go_on():
    model = language_model()
    free = [by_hand(model, prompt, 8)[len(prompt) :] for prompt in PROMPTS]
    stop = free[0][2]
    rows = generate(model, PROMPTS, 8, stop_ids=[stop], pad_id=77)
    ends = []
    for prompt, tokens, row in zip(PROMPTS, free, rows, strict=True):
        if stop in tokens:
            tokens = tokens[: tokens.index(stop) + 1]
        ends.append(len(prompt) + len(tokens))
        assert row.tolist() == (prompt + tokens + [77] * 20)[: len(row)]
    assert rows.shape[1] == max(ends)  # and nothing was computed for nobody
    assert len(set(ends)) > 1


def test_a_stop_token_in_the_prompt_does_not_stop():
    model = language_model()
    plain = generate(model, PROMPTS, 3)
    absent = set(range(VOCAB)) - set(plain[2, 6:].tolist()) - {8}
    rows = generate(model, PROMPTS, 3, stop_ids={8, *list(absent)[:1]})
    expected = plain[2, 6:].tolist()
    if 8 in expected:
        expected = expected[: expected.index(8) + 1]
    assert rows[2, 6 : 6 + len(expected)].tolist() == expected


def test_several_stop_tokens_and_an_end_at_once():
    table = torch.zeros(4, 4)
    table[0, 2] = table[1, 3] = table[2, 0] = 9.0  # 0 -> 2 -> 0, 1 -> 3
    rows = generate(Table(table), [[0], [1]], 5, stop_ids=[2, 3], pad_id=8)
    assert rows.tolist() == [[0, 2], [1, 3]]


@pytest.mark.parametrize("kind", ["prompt", "tensor"])
def test_a_stream_is_what_generate_writes(kind):
    model = language_model()
    prompt = [1, 5, 6] if kind == "prompt" else torch.tensor([[1, 5, 6]])
    strategy = Sampling(temperature=0.8, top_k=5)
    whole = generate(model, [[1, 5, 6]], 9, strategy, generator=seeded(), stop_ids=[4])
    tokens = stream(model, prompt, 9, strategy, generator=seeded(), stop_ids=[4])
    assert list(tokens) == whole[0, 3:].tolist()


def test_a_stream_computes_no_more_than_is_asked_of_it():
    model, calls = language_model(), []
    model.register_forward_hook(lambda *_: calls.append(model.training))
    tokens = stream(model, [1], 10)
    assert not calls
    next(tokens), next(tokens)
    assert calls == [False, False]
    # Between two tokens the caller has the model, and gradients, as they were.
    assert model.training
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("seed", range(3))
def test_dropout_is_off_and_the_mode_is_restored_module_by_module(seed):
    """The source material samples with dropout on, so that greedy search is random."""
    model = language_model(seed, dropout=0.5)
    model.layers[1].eval()
    before = [module.training for module in model.modules()]
    torch.manual_seed(seed)
    once, again = generate(model, PROMPTS, 6), generate(model, PROMPTS, 6)
    assert torch.equal(once, again)
    assert [module.training for module in model.modules()] == before
    model.train()
    noisy = [model(torch.tensor([[1, 5, 6]])) for _ in range(2)]
    assert not torch.equal(*noisy)  # what would have happened


def test_the_mode_is_restored_after_an_error():
    model = language_model()

    def fail(*_):
        raise RuntimeError("no")

    model.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="no"):
        generate(model, PROMPTS, 2)
    assert all(module.training for module in model.modules())


def test_no_gradient_is_kept_and_the_tokens_can_be_trained_on():
    model = language_model()
    tokens = generate(model, PROMPTS, 3)
    assert not tokens.is_inference()
    model(tokens).sum().backward()  # needs to save the tokens for the embedding
    assert model.token_embedding.weight.grad is not None
    assert not Reader(model).read(tokens).requires_grad


def test_the_seed_decides_and_the_global_generator_is_left_alone():
    model = language_model()
    state = torch.random.get_rng_state()
    texts = [
        generate(model, PROMPTS, 8, Sampling(), generator=seeded(seed))
        for seed in (0, 0, 1)
    ]
    generate(model, PROMPTS, 8)  # greedy draws nothing
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(texts[0], texts[1])
    assert not torch.equal(texts[0], texts[2])


def test_samples_have_the_models_distribution():
    """All pairs of two tokens after [1], 4,000 of them, against their exact probability."""
    model = language_model(vocab_size=4, num_layers=1).eval()
    exact = pair_probabilities(model, Sampling(temperature=5.0))
    rows = generate(
        model, [[1]] * 4000, 2, Sampling(temperature=5.0), generator=seeded()
    )
    counts = (rows[:, 1] * 4 + rows[:, 2]).bincount(minlength=16)
    expected = exact.flatten() * len(rows)
    assert expected.min() > 5  # the chi-square approximation holds
    # 37.70 is the 0.1 % point at 15 degrees of freedom.
    assert ((counts - expected) ** 2 / expected).sum() < 37.70


def pair_probabilities(model: nn.Module, strategy: Sampling) -> torch.Tensor:
    """P(a, b) of the two tokens after [1], ``(V, V)``."""
    with torch.no_grad():
        start = torch.tensor([[1]])
        first = strategy.probabilities(model(start)[:, -1], start)[0]
        pairs = torch.stack([torch.full_like(first, 1), torch.arange(len(first))], 1)
        pairs = pairs.long()
        second = strategy.probabilities(model(pairs)[:, -1], pairs)
    return first[:, None] * second


@pytest.mark.parametrize("use_cache", [True, False])
def test_the_whole_of_max_seq_len_can_be_used(use_cache):
    """The last token is written and never read, so the text may be one longer."""
    model = language_model(max_seq_len=6)
    assert generate(model, [[1, 2, 3]], 4, use_cache=use_cache).shape == (1, 7)
    with pytest.raises(ValueError, match="max_seq_len of 6: max_new_tokens may be 4"):
        generate(model, [[1, 2, 3]], 5, use_cache=use_cache)
    with pytest.raises(ValueError, match="7 tokens.*a prompt may have 6 tokens"):
        generate(model, [[1, 2, 3, 4, 5, 6, 7]], 1, use_cache=use_cache)


@pytest.mark.parametrize("use_cache", [True, False])
def test_crop_shows_the_end_of_a_text_that_outgrows_the_model(use_cache):
    model = language_model(max_seq_len=5).eval()
    rows = generate(model, PROMPTS, 9, crop=True, use_cache=use_cache)
    for prompt, row in zip(PROMPTS, rows, strict=True):
        tokens = list(prompt)
        for _ in range(9):
            logits = model(torch.tensor([tokens[-5:]]))
            tokens.append(int(logits[0, -1].argmax()))
        assert row[: len(tokens)].tolist() == tokens


def test_without_crop_the_source_materials_loop_fails_in_the_middle():
    model = language_model(max_seq_len=5).eval()
    tokens = torch.tensor([[1, 2, 3]])
    with pytest.raises(ValueError, match="max_seq_len is 5"):
        for _ in range(4):
            tokens = torch.cat([tokens, model(tokens)[:, -1:].argmax(-1)], dim=1)


def test_a_model_that_names_no_limit_has_none():
    model = Table(torch.eye(3))
    assert generate(model, [[2]], 50).shape == (1, 51)
    with pytest.raises(
        ValueError, match="crop must be False.*Table has no max_seq_len"
    ):
        generate(model, [[2]], 50, crop=True)


def test_a_model_that_ignores_its_cache_is_found_out():
    """It would see one token at a time, and write nonsense without a word."""

    class Forgetful(Table):
        def forward(self, token_ids, mask=None, *, cache=None):
            return super().forward(token_ids, mask)

    model = Forgetful(torch.eye(3))
    with pytest.raises(ValueError, match="use_cache must be False.*Forgetful"):
        generate(model, [[2]], 3)
    assert generate(model, [[2]], 3, use_cache=False).tolist() == [[2, 2, 2, 2]]


def test_half_precision_logits_are_compared_in_float32():
    model = Table(torch.randn(5, 5).to(torch.bfloat16))
    assert Reader(model).read(torch.tensor([[1]])).dtype == torch.float32
    assert generate(model, [[1]], 3, Sampling(), generator=seeded()).shape == (1, 4)


def test_translate_takes_all_strategies():
    model = encoder_decoder()
    given = GivenSource(model, SOURCE, padding_mask(SOURCE))
    options = {"stop_ids": [2], "pad_id": 0}
    sampled = generate(
        given, [[1]] * 3, 6, Sampling(top_k=3), generator=seeded(), **options
    )
    same = translate(
        model,
        SOURCE,
        6,
        Sampling(top_k=3),
        start_id=1,
        source_mask=padding_mask(SOURCE),
        generator=seeded(),
        **options,
    )
    assert torch.equal(sampled[:, 1:], same)
    with pytest.raises(
        ValueError, match=r"strategy must be Greedy\(\).*num_beams is 2"
    ):
        translate(model, SOURCE, 6, Sampling(), start_id=1, num_beams=2)


def test_a_source_is_read_once_and_may_be_given_as_memory():
    model, calls = encoder_decoder(), []
    model.encoder.register_forward_hook(lambda *_: calls.append(1))
    given = GivenSource(model, SOURCE)
    first = generate(given, [[1]] * 3, 5)
    again = GivenSource(model, SOURCE, memory=given.memory)
    assert torch.equal(generate(again, [[1]] * 3, 5), first)
    assert len(calls) == 1
    assert model.training


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"prompt_ids": []}, ValueError, "at least one prompt.*it holds none"),
        ({"prompt_ids": [[1], []]}, ValueError, "at least one token.*one is empty"),
        ({"prompt_ids": torch.empty(0, 3).long()}, ValueError, "it holds none"),
        ({"prompt_ids": torch.empty(2, 0).long()}, ValueError, "one is empty"),
        (
            {"prompt_ids": torch.tensor([1, 2])},
            ValueError,
            r"\(batch, length\).*\(2,\)",
        ),
        ({"prompt_ids": torch.ones(1, 2)}, TypeError, "integers.*float32"),
        ({"prompt_ids": torch.ones(1, 2).bool()}, TypeError, "integers.*bool"),
        ({"prompt_ids": [[1.0, 2.0]]}, TypeError, "integers.*float32"),
        ({"prompt_ids": [1, 2]}, TypeError, "a list with the token ids of each.*is 1"),
        ({"prompt_ids": ["ab"]}, TypeError, "one item of it is 'ab'"),
        ({"max_new_tokens": 0}, ValueError, "max_new_tokens must be at least 1.*is 0"),
        ({"max_new_tokens": 2.5}, TypeError, "max_new_tokens must be an integer.*2.5"),
        ({"stop_ids": 2}, TypeError, r"stop_ids.*collection of integers.*\[2\].*is 2"),
        ({"stop_ids": ["</s>"]}, TypeError, "stop_ids.*</s>"),
    ],
)
def test_bad_arguments(change, error, message):
    arguments = {"prompt_ids": [[1]], "max_new_tokens": 2} | change
    with pytest.raises(error, match=message):
        generate(language_model(), **arguments)


def test_a_stream_refuses_bad_arguments_before_its_first_token():
    model = language_model()
    with pytest.raises(ValueError, match="max_new_tokens"):
        stream(model, [1], 0)
    with pytest.raises(ValueError, match=r"one prompt.*\(2, 1\)"):
        stream(model, torch.tensor([[1], [2]]), 3)


def test_one_prompt_for_each_source():
    with pytest.raises(ValueError, match="each of the 3 sources, but it holds 2"):
        generate(GivenSource(encoder_decoder(), SOURCE), [[1], [1]], 2)
