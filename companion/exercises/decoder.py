"""Exercises of the chapter on the decoder."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from companion.exercises.exercise import Exercise, Inputs, Misconception, Property

IGNORED = -100  # what cross-entropy leaves out by default


# Teacher forcing


def teacher_forcing(
    token_ids: Int[Tensor, "batch length"], pad_id: int
) -> tuple[Int[Tensor, "batch known"], Int[Tensor, "batch known"]]:
    wanted = token_ids[:, 1:].masked_fill(token_ids[:, 1:] == pad_id, IGNORED)
    return token_ids[:, :-1], wanted


def _no_shift(token_ids: Tensor, pad_id: int) -> tuple[Tensor, Tensor]:
    known = token_ids[:, :-1]
    return known, known.masked_fill(known == pad_id, IGNORED)


def _shifts_backwards(token_ids: Tensor, pad_id: int) -> tuple[Tensor, Tensor]:
    wanted = token_ids[:, :-1].masked_fill(token_ids[:, :-1] == pad_id, IGNORED)
    return token_ids[:, 1:], wanted


def _rolls_round(token_ids: Tensor, pad_id: int) -> tuple[Tensor, Tensor]:
    wanted = token_ids.roll(-1, dims=1)
    return token_ids, wanted.masked_fill(wanted == pad_id, IGNORED)


def _learns_padding(token_ids: Tensor, pad_id: int) -> tuple[Tensor, Tensor]:
    return token_ids[:, :-1], token_ids[:, 1:].clone()


def _draw_targets(generator: Generator) -> list[Inputs]:
    def draw(batch: int, length: int, pad_id: int) -> Inputs:
        ids = torch.randint(2, 20, (batch, length), generator=generator)
        ids[ids == pad_id] = 20
        ids[:, 0] = 1
        for i in range(batch):
            ids[i, length - i :] = pad_id
        return ids, pad_id

    return [draw(2, 4, 0), draw(3, 7, 0), draw(4, 6, 9)]


def _wants_the_next(answer, inputs: Inputs) -> bool:
    known, wanted = answer(*inputs)
    following = known[:, 1:]
    return torch.equal(
        following[following != inputs[1]], wanted[:, :-1][wanted[:, :-1] >= 0]
    )


# The log-probability of a sequence


def sequence_log_prob(
    logits: Float[Tensor, "batch length vocab"],
    token_ids: Int[Tensor, "batch length"],
) -> Float[Tensor, "batch"]:
    log_p = logits.log_softmax(dim=-1)
    return log_p.gather(-1, token_ids[..., None])[..., 0].sum(dim=-1)


def _sums_logits(logits: Tensor, token_ids: Tensor) -> Tensor:
    return logits.gather(-1, token_ids[..., None])[..., 0].sum(dim=-1)


def _sums_probabilities(logits: Tensor, token_ids: Tensor) -> Tensor:
    return _sums_logits(logits.softmax(dim=-1), token_ids)


def _mean_log_prob(logits: Tensor, token_ids: Tensor) -> Tensor:
    return sequence_log_prob(logits, token_ids) / token_ids.shape[1]


def _log_of_product(logits: Tensor, token_ids: Tensor) -> Tensor:
    p = logits.softmax(dim=-1).gather(-1, token_ids[..., None])[..., 0]
    return p.prod(dim=-1).log()


def _over_positions(logits: Tensor, token_ids: Tensor) -> Tensor:
    return _sums_logits(logits.log_softmax(dim=1), token_ids)


def _draw_logits_and_tokens(generator: Generator) -> list[Inputs]:
    return [
        (
            size * torch.randn(*shape, generator=generator),
            torch.randint(0, shape[-1], shape[:-1], generator=generator),
        )
        for size, shape in ((1, (1, 2, 3)), (2, (3, 5, 7)), (20, (2, 60, 4)))
    ]


def _no_chance_above_one(answer, inputs: Inputs) -> bool:
    return bool((answer(*inputs) <= 1e-6).all())


def _shifted_logits(answer, inputs: Inputs) -> bool:
    logits, token_ids = inputs
    moved = answer(logits + 3.0, token_ids)
    return torch.allclose(moved, answer(logits, token_ids), rtol=1e-4, atol=1e-3)


# Temperature and top-k


def tempered_top_k(
    logits: Float[Tensor, "vocab"], temperature: float, top_k: int
) -> Float[Tensor, "vocab"]:
    threshold = logits.topk(top_k).values[-1]
    kept = (logits / temperature).masked_fill(logits < threshold, -math.inf)
    return kept.softmax(dim=-1)


def _multiplies(logits: Tensor, temperature: float, top_k: int) -> Tensor:
    return tempered_top_k(logits, 1 / temperature, top_k)


def _after_softmax(logits: Tensor, temperature: float, top_k: int) -> Tensor:
    p = tempered_top_k(logits, 1.0, top_k)
    return p / temperature


def _zeroed_logits(logits: Tensor, temperature: float, top_k: int) -> Tensor:
    threshold = logits.topk(top_k).values[-1]
    kept = (logits / temperature).masked_fill(logits < threshold, 0.0)
    return kept.softmax(dim=-1)


def _breaks_ties(logits: Tensor, temperature: float, top_k: int) -> Tensor:
    kept = torch.full_like(logits, -math.inf)
    index = logits.topk(top_k).indices
    return kept.scatter(0, index, logits[index] / temperature).softmax(dim=-1)


def _not_made_to_sum_to_one(logits: Tensor, temperature: float, top_k: int) -> Tensor:
    p = (logits / temperature).softmax(dim=-1)
    return p.masked_fill(logits < logits.topk(top_k).values[-1], 0.0)


def _draw_for_top_k(generator: Generator) -> list[Inputs]:
    plain = torch.randn(5, generator=generator)
    # The second and third likeliest tie, so that top_k = 2 has to keep three.
    tied = torch.tensor([2.0, 1.0, 1.0, -1.0, 0.5]).to(plain.dtype)
    tied = tied + 0.5 * torch.rand(1, generator=generator)
    return [
        (tied, 1.5, 2),
        (plain, 0.5, 3),
        (2 * torch.randn(12, generator=generator), 2.0, 4),
    ]


def _sums_to_one(answer, inputs: Inputs) -> bool:
    total = answer(*inputs).sum()
    return torch.allclose(total, torch.ones_like(total), atol=1e-5)


# The nucleus


def nucleus(p: Float[Tensor, "vocab"], top_p: float) -> Float[Tensor, "vocab"]:
    ordered, index = p.sort(descending=True)
    before = ordered.cumsum(dim=-1) - ordered
    kept = ordered.masked_fill(before >= top_p, 0.0)
    kept = torch.zeros_like(p).scatter(0, index, kept)
    return kept / kept.sum()


def _drops_the_one_that_crosses(p: Tensor, top_p: float) -> Tensor:
    ordered, index = p.sort(descending=True)
    kept = ordered.masked_fill(ordered.cumsum(dim=-1) > top_p, 0.0)
    kept = torch.zeros_like(p).scatter(0, index, kept)
    return kept / kept.sum()


def _nucleus_not_normalized(p: Tensor, top_p: float) -> Tensor:
    return p.masked_fill(nucleus(p, top_p) == 0, 0.0)


def _from_the_tail(p: Tensor, top_p: float) -> Tensor:
    ordered, index = p.sort()
    before = ordered.cumsum(dim=-1) - ordered
    kept = ordered.masked_fill(before >= top_p, 0.0)
    kept = torch.zeros_like(p).scatter(0, index, kept)
    return kept / kept.sum()


def _as_a_threshold(p: Tensor, top_p: float) -> Tensor:
    kept = p.masked_fill(p < (1 - top_p) * p.max(), 0.0)
    return kept / kept.sum()


def _unsorted(p: Tensor, top_p: float) -> Tensor:
    kept = p.masked_fill(p.cumsum(dim=-1) - p >= top_p, 0.0)
    return kept / kept.sum()


def _draw_for_nucleus(generator: Generator) -> list[Inputs]:
    def draw(vocab: int, sharpness: float) -> Tensor:
        return (sharpness * torch.randn(vocab, generator=generator)).softmax(dim=-1)

    skewed = torch.tensor([0.06, 0.5, 0.29, 0.15])[
        torch.randperm(4, generator=generator)
    ]
    # Nearly flat: no token stands out, so that a threshold would keep them all.
    flat = torch.linspace(1.0, 1.5, 12)[torch.randperm(12, generator=generator)]
    return [
        (skewed, 0.6),
        (draw(9, 1.0), 0.8),
        (draw(20, 1.5), 0.9),
        (flat / flat.sum(), 0.5),
    ]


def _holds_enough(answer, inputs: Inputs) -> bool:
    p, top_p = inputs
    return bool(p[answer(*inputs) > 0].sum() >= top_p - 1e-6)


# One step of beam search


def beam_step(
    scores: Float[Tensor, "beams"], log_p: Float[Tensor, "beams vocab"]
) -> tuple[Float[Tensor, "beams"], Int[Tensor, "beams"], Int[Tensor, "beams"]]:
    total = scores[:, None] + log_p  # (K, V)
    best, index = total.flatten().topk(len(scores))
    return best, index // log_p.shape[1], index % log_p.shape[1]


def _each_for_itself(scores: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    best, token = (scores[:, None] + log_p).max(dim=1)
    return best, torch.arange(len(scores), device=scores.device), token


def _forgets_scores(scores: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return beam_step(torch.zeros_like(scores) + 0 * scores, log_p)


def _multiplies_logs(scores: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    best, index = (scores[:, None] * log_p).flatten().topk(len(scores))
    return best, index // log_p.shape[1], index % log_p.shape[1]


def _divides_by_beams(scores: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    best, index = (scores[:, None] + log_p).flatten().topk(len(scores))
    return best, index // len(scores), index % len(scores)


def _draw_beams(generator: Generator) -> list[Inputs]:
    def draw(beams: int, vocab: int, spread: float) -> Inputs:
        scores = -spread * torch.rand(beams, generator=generator) - 1
        # The first beam is far ahead: several of its extensions beat the others' best.
        scores[0] = -0.5
        log_p = torch.randn(beams, vocab, generator=generator).log_softmax(dim=-1)
        return scores, log_p

    return [draw(2, 3, 4.0), draw(3, 5, 6.0), draw(4, 9, 8.0)]


def _scores_only_fall(answer, inputs: Inputs) -> bool:
    scores, _ = inputs
    best, parent, _ = answer(*inputs)
    return bool((best <= scores[parent] + 1e-6).all())


def _best_first(answer, inputs: Inputs) -> bool:
    best = answer(*inputs)[0]
    return bool((best[:-1] >= best[1:] - 1e-6).all())


# Length penalty


def length_normalized(
    log_probs: Float[Tensor, "texts"], lengths: Int[Tensor, "texts"], alpha: float
) -> Float[Tensor, "texts"]:
    return log_probs / ((5 + lengths) / 6) ** alpha


def _multiplies_penalty(log_probs: Tensor, lengths: Tensor, alpha: float) -> Tensor:
    return log_probs * ((5 + lengths) / 6) ** alpha


def _plain_power(log_probs: Tensor, lengths: Tensor, alpha: float) -> Tensor:
    return log_probs / lengths**alpha


def _no_power(log_probs: Tensor, lengths: Tensor, alpha: float) -> Tensor:
    return log_probs / (alpha * (5 + lengths) / 6)


def _bare_sums(log_probs: Tensor, lengths: Tensor, alpha: float) -> Tensor:
    return log_probs + 0.0


def _draw_finished(generator: Generator) -> list[Inputs]:
    def draw(texts: int, alpha: float) -> Inputs:
        lengths = torch.randint(1, 30, (texts,), generator=generator)
        lengths[0] = 7
        return (
            -3 * lengths * torch.rand(texts, generator=generator) - 0.1,
            lengths,
            alpha,
        )

    return [draw(2, 0.6), draw(4, 1.0), draw(6, 0.3)]


def _one_token_is_left_alone(answer, inputs: Inputs) -> bool:
    log_probs, lengths, alpha = inputs
    found = answer(log_probs, torch.ones_like(lengths), alpha)
    return torch.allclose(found, log_probs, atol=1e-5)


# Speculative decoding


def speculate(
    p: Float[Tensor, "vocab"], q: Float[Tensor, "vocab"]
) -> tuple[Float[Tensor, "vocab"], Float[Tensor, "vocab"]]:
    left = (p - q).clamp(min=0.0)
    return (p / q).clamp(max=1.0), left / left.sum()


def _inverted(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    return (q / p).clamp(max=1.0), speculate(p, q)[1]


def _redraws_from_target(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    return speculate(p, q)[0], p + 0.0


def _absolute_residual(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    left = (p - q).abs()
    return speculate(p, q)[0], left / left.sum()


def _residual_not_normalized(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    return speculate(p, q)[0], (p - q).clamp(min=0.0)


def _accepts_by_target(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    return p + 0.0 * q, speculate(p, q)[1]


def _draw_two_distributions(generator: Generator) -> list[Inputs]:
    def draw(vocab: int) -> Tensor:
        return (1.5 * torch.randn(vocab, generator=generator)).softmax(dim=-1)

    return [(draw(vocab), draw(vocab)) for vocab in (3, 5, 12)]


def _preserves_the_target(answer, inputs: Inputs) -> bool:
    p, q = inputs
    accept, rest = answer(p, q)
    return torch.allclose(q * accept + (1 - (q * accept).sum()) * rest, p, atol=1e-5)


# A step with a cache


def cached_step(
    x: Float[Tensor, "new d"],
    positions: Float[Tensor, "max d"],
    W_q: Float[Tensor, "d d"],
    W_k: Float[Tensor, "d d"],
    W_v: Float[Tensor, "d d"],
    past_keys: Float[Tensor, "past d"],
    past_values: Float[Tensor, "past d"],
) -> tuple[
    Float[Tensor, "new d"], Float[Tensor, "past+new d"], Float[Tensor, "past+new d"]
]:
    past, new = len(past_keys), len(x)
    x = x + positions[past : past + new]
    keys = torch.cat([past_keys, x @ W_k])
    values = torch.cat([past_values, x @ W_v])
    scores = x @ W_q @ keys.T / math.sqrt(x.shape[-1])  # (new, past + new)
    visible = torch.ones_like(scores).tril(diagonal=past).bool()
    weights = scores.masked_fill(~visible, -math.inf).softmax(dim=-1)
    return weights @ values, keys, values


def _restarts_positions(
    x, positions, W_q, W_k, W_v, past_keys, past_values
) -> tuple[Tensor, Tensor, Tensor]:
    again = torch.cat([positions[: len(past_keys)], positions])
    return cached_step(x, again, W_q, W_k, W_v, past_keys, past_values)


def _forgets_the_past(
    x, positions, W_q, W_k, W_v, past_keys, past_values
) -> tuple[Tensor, Tensor, Tensor]:
    shifted = positions[len(past_keys) :]
    output, _, _ = cached_step(
        x, shifted, W_q, W_k, W_v, past_keys[:0], past_values[:0]
    )
    _, keys, values = cached_step(x, positions, W_q, W_k, W_v, past_keys, past_values)
    return output, keys, values


def _sees_ahead(
    x, positions, W_q, W_k, W_v, past_keys, past_values
) -> tuple[Tensor, Tensor, Tensor]:
    x = x + positions[len(past_keys) : len(past_keys) + len(x)]
    keys = torch.cat([past_keys, x @ W_k])
    values = torch.cat([past_values, x @ W_v])
    scores = x @ W_q @ keys.T / math.sqrt(x.shape[-1])
    return scores.softmax(dim=-1) @ values, keys, values


def _mask_from_the_corner(
    x, positions, W_q, W_k, W_v, past_keys, past_values
) -> tuple[Tensor, Tensor, Tensor]:
    x = x + positions[len(past_keys) : len(past_keys) + len(x)]
    keys = torch.cat([past_keys, x @ W_k])
    values = torch.cat([past_values, x @ W_v])
    scores = x @ W_q @ keys.T / math.sqrt(x.shape[-1])
    visible = torch.ones_like(scores).tril().bool()
    weights = scores.masked_fill(~visible, -math.inf).softmax(dim=-1)
    return weights @ values, keys, values


def _newest_first(
    x, positions, W_q, W_k, W_v, past_keys, past_values
) -> tuple[Tensor, Tensor, Tensor]:
    output, keys, values = cached_step(
        x, positions, W_q, W_k, W_v, past_keys, past_values
    )
    return output, keys.roll(len(x), dims=0), values.roll(len(x), dims=0)


def _draw_cache(generator: Generator) -> list[Inputs]:
    def draw(new: int, past: int, d: int) -> Inputs:
        sizes = (
            (new, d),
            (past + new + 3, d),
            (d, d),
            (d, d),
            (d, d),
            (past, d),
            (past, d),
        )
        return tuple(torch.randn(size, generator=generator) for size in sizes)

    return [draw(1, 2, 2), draw(3, 4, 5), draw(4, 0, 3)]


def _in_two_steps(answer, inputs: Inputs) -> bool:
    x, positions, W_q, W_k, W_v, past_keys, past_values = inputs
    kept = past_keys, past_values
    outputs = []
    for token in x.split(1):
        output, *kept = answer(token, positions, W_q, W_k, W_v, *kept)
        outputs.append(output)
    whole = answer(*inputs)[0]
    return torch.allclose(torch.cat(outputs), whole, atol=1e-4)


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="teacher_forcing",
        chapter="decoder",
        title="Cut a target into what is known and what is wanted",
        difficulty=1,
        minutes=6,
        trains="lines up each known token with the one that follows",
        reference=teacher_forcing,
        inputs=_draw_targets,
        properties=(
            Property(
                "what is wanted here is what is known one place on", _wants_the_next
            ),
        ),
        misconceptions=(
            Misconception(
                "does not shift",
                _no_shift,
                "Each position is asked for the very token that it is given. Copying "
                "solves that perfectly, and teaches nothing about what comes next.",
            ),
            Misconception(
                "shifts the wrong way",
                _shifts_backwards,
                "Each position is given a token and asked for the one before it. When "
                "the model writes, which of the two is not there yet?",
            ),
            Misconception(
                "wraps around",
                _rolls_round,
                "roll moves the first token to the end, so that the last position is "
                "asked for the start token. What comes after the last token is not "
                "known: there, nothing can be learned.",
            ),
            Misconception(
                "counts padding",
                _learns_padding,
                "The shift is right, but padding is among the tokens that are wanted. "
                "The loss is then an average over positions that stand for nothing; "
                "cross-entropy leaves out -100.",
            ),
        ),
        hints=(
            "Both parts are one token shorter than the target.",
            "All but the last token are known; all but the first are wanted.",
            "masked_fill(wanted == pad_id, -100) takes padding out of the loss.",
        ),
    ),
    Exercise(
        name="sequence_log_prob",
        chapter="decoder",
        title="The log-probability of a sequence",
        difficulty=2,
        minutes=8,
        trains="scores a text under a model without underflow",
        reference=sequence_log_prob,
        inputs=_draw_logits_and_tokens,
        properties=(
            Property("no log-probability is above zero", _no_chance_above_one),
            Property(
                "adding one number to all logits changes nothing", _shifted_logits
            ),
        ),
        misconceptions=(
            Misconception(
                "adds up logits",
                _sums_logits,
                "Logits are added up as they are. They become log-probabilities only "
                "when the log of their normalizer is taken off.",
            ),
            Misconception(
                "adds up probabilities",
                _sums_probabilities,
                "The chain rule multiplies probabilities. What is added are their "
                "logarithms.",
            ),
            Misconception(
                "averages",
                _mean_log_prob,
                "This is the mean over the tokens, which is the loss with its sign "
                "turned. The probability of the sequence is a product: a sum of logs.",
            ),
            Misconception(
                "multiplies before the logarithm",
                _log_of_product,
                "Right on paper, but a product of sixty small numbers is zero in a "
                "computer, and its logarithm minus infinity. Take logarithms first.",
            ),
            Misconception(
                "normalizes over positions",
                _over_positions,
                "The softmax runs over the positions. At each position, it is the "
                "tokens of the vocabulary that compete: which axis are they on?",
            ),
        ),
        hints=(
            "log_softmax over the vocabulary gives the logarithm of every probability.",
            "gather picks, at each position, the entry of the token that stands there.",
            "log_p.gather(-1, token_ids[..., None]) has shape (batch, length, 1).",
        ),
        tolerance=1e-4,
    ),
    Exercise(
        name="tempered_top_k",
        chapter="decoder",
        title="Temperature and top-k",
        difficulty=2,
        minutes=10,
        trains="shapes a distribution by its logits, and is fair to ties",
        reference=tempered_top_k,
        inputs=_draw_for_top_k,
        properties=(Property("the probabilities sum to 1", _sums_to_one),),
        misconceptions=(
            Misconception(
                "multiplies by the temperature",
                _multiplies,
                "A high temperature makes your distribution sharper. It should make it "
                "flatter: heat brings the logits together.",
            ),
            Misconception(
                "applies the temperature to probabilities",
                _after_softmax,
                "Dividing probabilities by a number does not change which is how many "
                "times another. Temperature acts on logits, before the softmax.",
            ),
            Misconception(
                "sets refused logits to zero",
                _zeroed_logits,
                "A logit of zero is not a probability of zero: e^0 is 1. Which logit "
                "does softmax turn into zero?",
            ),
            Misconception(
                "breaks a tie by position",
                _breaks_ties,
                "Two tokens tie for the last place, and one is thrown out because of "
                "where it stands in the vocabulary. Keep all that reach the k-th value.",
            ),
            Misconception(
                "cuts after the softmax",
                _not_made_to_sum_to_one,
                "The refused tokens are gone, but what is left does not sum to 1.",
            ),
        ),
        hints=(
            "logits.topk(top_k).values[-1] is the smallest logit that may stay.",
            "Replace the logits below it by minus infinity.",
            "Divide by the temperature, and let the softmax come last.",
        ),
    ),
    Exercise(
        name="nucleus",
        chapter="decoder",
        title="The nucleus of a distribution",
        difficulty=3,
        minutes=12,
        trains="keeps the token that crosses a threshold, and renormalizes",
        reference=nucleus,
        inputs=_draw_for_nucleus,
        properties=(
            Property(
                "the tokens kept hold at least top_p of the probability", _holds_enough
            ),
        ),
        misconceptions=(
            Misconception(
                "drops the token that crosses the threshold",
                _drops_the_one_that_crosses,
                "Your tokens stop short of top_p: the one whose probability carries the "
                "sum past it is thrown out. If the likeliest token alone is above "
                "top_p, nothing is left at all.",
            ),
            Misconception(
                "does not sum to 1",
                _nucleus_not_normalized,
                "The right tokens stay, with their old probabilities. What was cut off "
                "has to be shared among them.",
            ),
            Misconception(
                "collects from the tail",
                _from_the_tail,
                "The running sum starts at the least likely token. The nucleus is made "
                "of the likeliest ones.",
            ),
            Misconception(
                "compares single probabilities",
                _as_a_threshold,
                "Each token is judged by its own probability, relative to the largest; "
                "that is min-p. For the nucleus it is the running sum that counts.",
            ),
            Misconception(
                "does not sort",
                _unsorted,
                "The running sum goes through the vocabulary in its own order, so who "
                "is kept depends on a token's number.",
            ),
        ),
        hints=(
            "Sort the probabilities, largest first, and remember where each came from.",
            "A token stays if those before it hold less than top_p.",
            "torch.zeros_like(p).scatter(0, index, kept) puts them back in their places.",
        ),
    ),
    Exercise(
        name="cached_step",
        chapter="decoder",
        title="Causal attention with a key-value cache",
        difficulty=4,
        minutes=20,
        trains="keeps positions and mask right when only new tokens come in",
        reference=cached_step,
        inputs=_draw_cache,
        properties=(
            Property("token by token gives what all at once gives", _in_two_steps),
        ),
        misconceptions=(
            Misconception(
                "starts positions at zero again",
                _restarts_positions,
                "The new tokens get the first positions, as if the text began with "
                "them. How many tokens stand before them?",
            ),
            Misconception(
                "attends to the new tokens only",
                _forgets_the_past,
                "The cache is filled but not read: the new tokens see each other and "
                "nothing of what was written before.",
            ),
            Misconception(
                "lets new tokens see each other's future",
                _sees_ahead,
                "With one new token no mask is needed. With several, the first of them "
                "must not see the last.",
            ),
            Misconception(
                "aligns the mask at the wrong corner",
                _mask_from_the_corner,
                "The triangle starts at the first key, so the first new token sees one "
                "key only. It stands at the end of the past and sees all of it.",
            ),
            Misconception(
                "puts new keys first",
                _newest_first,
                "The new keys and values stand before the old ones. The next step will "
                "take them for the oldest.",
            ),
        ),
        hints=(
            "len(past_keys) is the position of the first new token.",
            "Append to keys and values first; then the new queries attend to all of them.",
            "Query i may see keys 0 to past + i: torch.tril with diagonal=past.",
        ),
        tolerance=1e-4,
    ),
    Exercise(
        name="beam_step",
        chapter="decoder",
        title="One step of beam search",
        difficulty=3,
        minutes=12,
        trains="ranks beams and tokens together, and finds both again",
        reference=beam_step,
        inputs=_draw_beams,
        properties=(
            Property(
                "a longer text is never more probable than its beginning",
                _scores_only_fall,
            ),
            Property("the best beam comes first", _best_first),
        ),
        misconceptions=(
            Misconception(
                "lets each beam keep its own best",
                _each_for_itself,
                "Every beam is extended by its own best token, so beams never compete: "
                "this is greedy search from several beginnings. The best extensions "
                "may all come from one beam.",
            ),
            Misconception(
                "forgets what a beam cost so far",
                _forgets_scores,
                "Only the last token's log-probability is compared. A beam carries the "
                "log-probability of all its tokens.",
            ),
            Misconception(
                "multiplies logarithms",
                _multiplies_logs,
                "Probabilities are multiplied; their logarithms are added. The product "
                "of two negative numbers is even positive.",
            ),
            Misconception(
                "splits the index by the number of beams",
                _divides_by_beams,
                "The flat index runs over beams and tokens, tokens fastest. By which "
                "size does it have to be divided to give the beam?",
            ),
        ),
        hints=(
            "scores[:, None] + log_p has one entry for each way to go on.",
            "topk over the flattened table lets all of them compete.",
            "index // vocabulary is the beam, index % vocabulary is the token.",
        ),
    ),
    Exercise(
        name="length_normalized",
        chapter="decoder",
        title="Compare texts of different lengths",
        difficulty=1,
        minutes=5,
        trains="compares scores of texts without favoring short ones",
        reference=length_normalized,
        inputs=_draw_finished,
        properties=(
            Property(
                "the score of a text of one token is its log-probability",
                _one_token_is_left_alone,
            ),
        ),
        misconceptions=(
            Misconception(
                "multiplies by the penalty",
                _multiplies_penalty,
                "Log-probabilities are negative, so a factor above 1 makes a long text "
                "worse than it was. Which operation makes it better?",
            ),
            Misconception(
                "takes the bare length",
                _plain_power,
                "This is n^alpha, as Hugging Face has it. Here the length is (5 + n) / 6, "
                "which tells short texts apart less sharply.",
            ),
            Misconception(
                "uses alpha as a factor",
                _no_power,
                "alpha is an exponent. As a factor it scales all scores alike and ranks "
                "nothing.",
            ),
            Misconception(
                "compares bare sums",
                _bare_sums,
                "Each further token costs probability, so bare sums favor whoever stops "
                "first. The length is not used at all.",
            ),
        ),
        hints=(
            "The larger the divisor, the closer to zero a negative number comes.",
            "The divisor is ((5 + n) / 6) to the power alpha.",
            "In PyTorch the lengths are a tensor: all texts are done in one line.",
        ),
    ),
    Exercise(
        name="speculate",
        chapter="decoder",
        title="Accept a draft, or replace it",
        difficulty=3,
        minutes=12,
        trains="draws exactly from one distribution with drafts of another",
        reference=speculate,
        inputs=_draw_two_distributions,
        properties=(
            Property(
                "accepted and replaced tokens together are distributed like p",
                _preserves_the_target,
            ),
        ),
        misconceptions=(
            Misconception(
                "turns the ratio around",
                _inverted,
                "A token that the draft offers too often (q > p) is always taken, and "
                "one that it offers too seldom is refused. It should be the reverse.",
            ),
            Misconception(
                "draws the replacement from p",
                _redraws_from_target,
                "Tokens with q >= p are then written too often: the draft has already "
                "given them all that p allows. What is still missing, token by token?",
            ),
            Misconception(
                "takes the absolute difference",
                _absolute_residual,
                "Where q is above p, nothing is missing, so nothing may be added there.",
            ),
            Misconception(
                "leaves the rest unnormalized",
                _residual_not_normalized,
                "What is missing is no distribution yet: it does not sum to 1.",
            ),
            Misconception(
                "accepts with probability p",
                _accepts_by_target,
                "The draft was already drawn with probability q, so accepting it with "
                "probability p gives p q. By what does q have to be multiplied?",
            ),
        ),
        hints=(
            "q times the acceptance must not be above p anywhere.",
            "min(1, p / q); what is missing then is max(0, p - q).",
            "(p - q).clamp(min=0) divided by its sum.",
        ),
    ),
)
