"""Exercises with a bug to fix: a short, plausible program, and the failure it causes.

The program is the first misconception of each: handed in unchanged, it is told what it
does wrong, but not where.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from companion.exercises.exercise import Exercise, Inputs, Misconception, Property

# Attention that may see nothing


def visible_average(
    scores: Float[Tensor, "queries keys"],
    values: Float[Tensor, "keys d"],
    mask: Bool[Tensor, "queries keys"],
) -> Float[Tensor, "queries d"]:
    scores = scores.masked_fill(~mask, -math.inf)
    weights = scores.softmax(dim=-1)
    weights = weights.masked_fill(~mask, 0.0)
    return weights @ values


def _average_by_product(scores: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    scores = scores * mask
    weights = scores.softmax(dim=-1)
    return weights @ values


def _average_of_all(scores: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    weights = scores.softmax(dim=-1)
    weights = weights.masked_fill(~mask, 0.0)
    return weights @ values


def _average_nan(scores: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    scores = scores.masked_fill(~mask, -math.inf)
    weights = scores.softmax(dim=-1)
    return weights @ values


def _average_turned(scores: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    scores = scores.masked_fill(mask, -math.inf)
    weights = scores.softmax(dim=-1)
    weights = weights.masked_fill(mask, 0.0)
    return weights @ values


def _draw_average(generator: Generator) -> list[Inputs]:
    masks = (
        [[1, 0], [1, 1]],
        [[0, 0, 0], [1, 1, 0], [1, 0, 1]],
        [[1, 0, 1, 1], [0, 1, 1, 0]],
    )
    tensors = [torch.tensor(mask, dtype=torch.bool) for mask in masks]
    return [
        (
            torch.randn(m.shape, generator=generator),
            torch.randn(m.shape[1], 2, generator=generator),
            m,
        )
        for m in tensors
    ]


def _hidden_values_are_unseen(answer, inputs: Inputs) -> bool:
    scores, values, mask = inputs
    others = torch.where(mask.any(dim=0)[:, None], values, values + 9.0)
    unseen = mask.clone()
    unseen[:, 0] = False
    changed = values.clone()
    changed[0] += 9.0
    return torch.allclose(
        answer(scores, values, unseen), answer(scores, changed, unseen)
    ) and torch.allclose(answer(scores, values, mask), answer(scores, others, mask))


# The scale of each head


def heads_attend(
    query: Float[Tensor, "batch heads queries d_k"],
    key: Float[Tensor, "batch heads keys d_k"],
    value: Float[Tensor, "batch heads keys d_v"],
) -> Float[Tensor, "batch heads queries d_v"]:
    d_k = query.shape[-1]
    scores = query @ key.transpose(-2, -1) / math.sqrt(d_k)
    return scores.softmax(dim=-1) @ value


def _scaled_by_model(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    d_k = query.shape[1] * query.shape[-1]
    scores = query @ key.transpose(-2, -1) / math.sqrt(d_k)
    return scores.softmax(dim=-1) @ value


def _heads_unscaled(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = query @ key.transpose(-2, -1)
    return scores.softmax(dim=-1) @ value


def _scaled_by_heads(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    d_k = query.shape[1]
    scores = query @ key.transpose(-2, -1) / math.sqrt(d_k)
    return scores.softmax(dim=-1) @ value


def _heads_over_queries(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    d_k = query.shape[-1]
    scores = query @ key.transpose(-2, -1) / math.sqrt(d_k)
    return scores.softmax(dim=-2) @ value


def _draw_heads(generator: Generator) -> list[Inputs]:
    return [
        tuple(
            torch.randn(b, h, length, width, generator=generator)
            for length, width in ((q, d), (k, d), (k, v))
        )
        for b, h, q, k, d, v in ((1, 2, 2, 3, 3, 2), (2, 3, 4, 5, 8, 4))
    ]


def _heads_are_independent(answer, inputs: Inputs) -> bool:
    alone = answer(*(x[:, :1] for x in inputs))
    return torch.allclose(answer(*inputs)[:, :1], alone, atol=1e-5)


# Positions of new tokens


def positions_from(
    table: Float[Tensor, "max_length d_model"], past: int, new: int
) -> Float[Tensor, "new d_model"]:
    return table[past : past + new]


def _positions_from_zero(table: Tensor, past: int, new: int) -> Tensor:
    return table[:new]


def _positions_until_new(table: Tensor, past: int, new: int) -> Tensor:
    return table[past:new]


def _positions_one_late(table: Tensor, past: int, new: int) -> Tensor:
    return table[past + 1 : past + 1 + new]


def _last_position(table: Tensor, past: int, new: int) -> Tensor:
    return table[past : past + 1].expand(new, -1)


def _draw_positions(generator: Generator) -> list[Inputs]:
    return [
        (torch.randn(6, 2, generator=generator), 2, 1),
        (torch.randn(8, 3, generator=generator), 3, 4),
        (torch.randn(9, 2, generator=generator), 1, 3),
    ]


def _pieces_make_the_whole(answer, inputs: Inputs) -> bool:
    table, past, new = inputs
    pieces = torch.cat([answer(table, 0, past), answer(table, past, new)])
    return torch.equal(pieces, table[: past + new])


# The residual connection


def residual_layer(
    x: Float[Tensor, "length d_model"], W: Float[Tensor, "d_model d_model"]
) -> Float[Tensor, "length d_model"]:
    y = torch.relu(x @ W)
    return F.layer_norm(x + y, x.shape[-1:])


def _norms_the_stream_only(x: Tensor, W: Tensor) -> Tensor:
    y = torch.relu(x @ W)
    return F.layer_norm(x, x.shape[-1:]) + y


def _no_residual(x: Tensor, W: Tensor) -> Tensor:
    y = torch.relu(x @ W)
    return F.layer_norm(y, x.shape[-1:])


def _norms_before(x: Tensor, W: Tensor) -> Tensor:
    y = torch.relu(F.layer_norm(x, x.shape[-1:]) @ W)
    return x + y


def _norms_the_table(x: Tensor, W: Tensor) -> Tensor:
    y = torch.relu(x @ W)
    return F.layer_norm(x + y, x.shape)


def _draw_layer(generator: Generator) -> list[Inputs]:
    return [
        (
            3 * torch.randn(length, width, generator=generator) + 1,
            torch.randn(width, width, generator=generator),
        )
        for length, width in ((2, 3), (4, 6), (5, 4))
    ]


def _each_token_is_normal(answer, inputs: Inputs) -> bool:
    found = answer(*inputs)
    mean = found.mean(dim=-1).abs().max() < 1e-4
    return bool(mean and (found.var(dim=-1, unbiased=False) - 1).abs().max() < 1e-2)


# The logits of the last real token


def last_logits(
    logits: Float[Tensor, "batch length vocab"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch vocab"]:
    row = torch.arange(len(logits), device=logits.device)
    return logits[row, lengths - 1]


def _logits_of_padding(logits: Tensor, lengths: Tensor) -> Tensor:
    return logits[:, -1]


def _logits_one_late(logits: Tensor, lengths: Tensor) -> Tensor:
    row = torch.arange(len(logits), device=logits.device)
    return logits[row, lengths]


def _logits_of_all(logits: Tensor, lengths: Tensor) -> Tensor:
    return logits[:, lengths - 1]


def _logits_from_the_end(logits: Tensor, lengths: Tensor) -> Tensor:
    row = torch.arange(len(logits), device=logits.device)
    return logits[row, -lengths]


def _draw_last(generator: Generator) -> list[Inputs]:
    return [
        (torch.randn(2, 3, 2, generator=generator), torch.tensor([2, 1])),
        (torch.randn(3, 6, 4, generator=generator), torch.tensor([5, 1, 2])),
    ]


def _padding_does_not_matter(answer, inputs: Inputs) -> bool:
    logits, lengths = inputs
    longer = torch.cat([logits, logits[:, :2] + 7], dim=1)
    return torch.equal(answer(logits, lengths), answer(longer, lengths))


# Perplexity over batches


def validation_perplexity(
    loss_sums: Float[Tensor, " batches"], num_tokens: Int[Tensor, " batches"]
) -> Float[Tensor, ""]:
    return (loss_sums.sum() / num_tokens.sum()).exp()


def _mean_of_perplexities(loss_sums: Tensor, num_tokens: Tensor) -> Tensor:
    return (loss_sums / num_tokens).exp().mean()


def _mean_of_means(loss_sums: Tensor, num_tokens: Tensor) -> Tensor:
    return (loss_sums / num_tokens).mean().exp()


def _base_two(loss_sums: Tensor, num_tokens: Tensor) -> Tensor:
    return 2 ** (loss_sums.sum() / num_tokens.sum())


def _a_loss(loss_sums: Tensor, num_tokens: Tensor) -> Tensor:
    return loss_sums.sum() / num_tokens.sum()


def _draw_losses(generator: Generator) -> list[Inputs]:
    found = []
    for batches in (2, 3, 5):
        tokens = torch.randint(2, 30, (batches,), generator=generator)
        tokens[0] = 40  # batches that differ in size
        loss = 1 + 2 * torch.rand(batches, generator=generator)
        found.append((loss * tokens, tokens))
    return found


def _batches_may_be_joined(answer, inputs: Inputs) -> bool:
    sums, tokens = inputs
    joined = answer(
        torch.cat([sums[:2].sum()[None], sums[2:]]),
        torch.cat([tokens[:2].sum()[None], tokens[2:]]),
    )
    return torch.allclose(answer(sums, tokens), joined, rtol=1e-4)


# Next-token loss


def next_token_loss(
    logits: Float[Tensor, "batch length vocab"], token_ids: Int[Tensor, "batch length"]
) -> Float[Tensor, ""]:
    seen, wanted = logits[:, :-1], token_ids[:, 1:]
    return F.cross_entropy(seen.flatten(0, 1), wanted.flatten())


def _same_token(logits: Tensor, token_ids: Tensor) -> Tensor:
    seen, wanted = logits, token_ids
    return F.cross_entropy(seen.flatten(0, 1), wanted.flatten())


def _token_before(logits: Tensor, token_ids: Tensor) -> Tensor:
    seen, wanted = logits[:, 1:], token_ids[:, :-1]
    return F.cross_entropy(seen.flatten(0, 1), wanted.flatten())


def _wraps_around(logits: Tensor, token_ids: Tensor) -> Tensor:
    seen, wanted = logits, token_ids.roll(-1, dims=1)
    return F.cross_entropy(seen.flatten(0, 1), wanted.flatten())


def _sum_of_losses(logits: Tensor, token_ids: Tensor) -> Tensor:
    seen, wanted = logits[:, :-1], token_ids[:, 1:]
    return F.cross_entropy(seen.flatten(0, 1), wanted.flatten(), reduction="sum")


def _draw_next(generator: Generator) -> list[Inputs]:
    return [
        (
            torch.randn(batch, length, vocab, generator=generator),
            torch.randint(vocab, (batch, length), generator=generator),
        )
        for batch, length, vocab in ((1, 3, 4), (2, 5, 6), (3, 4, 7))
    ]


def _last_logits_do_not_count(answer, inputs: Inputs) -> bool:
    logits, token_ids = inputs
    other = logits.clone()
    other[:, -1] = other[:, -1].roll(1, dims=-1) * 3
    return torch.allclose(answer(logits, token_ids), answer(other, token_ids))


# Accuracy on hidden tokens


def masked_accuracy(
    logits: Float[Tensor, "batch length vocab"], labels: Int[Tensor, "batch length"]
) -> float:
    asked = labels != -100
    right = (logits.argmax(dim=-1) == labels) & asked
    return (right.sum() / asked.sum()).item()


def _accuracy_of_all(logits: Tensor, labels: Tensor) -> float:
    asked = labels != -100
    right = (logits.argmax(dim=-1) == labels) & asked
    return (right.sum() / asked.numel()).item()


def _accuracy_by_text(logits: Tensor, labels: Tensor) -> float:
    asked = labels != -100
    right = (logits.argmax(dim=-1) == labels) & asked
    return (right.sum(dim=1) / asked.sum(dim=1)).mean().item()


def _share_of_wrong(logits: Tensor, labels: Tensor) -> float:
    asked = labels != -100
    right = (logits.argmax(dim=-1) != labels) & asked
    return (right.sum() / asked.sum()).item()


def _ignored_are_right(logits: Tensor, labels: Tensor) -> float:
    asked = labels != -100
    right = (logits.argmax(dim=-1) == labels) | ~asked
    return (right.sum() / asked.numel()).item()


def _draw_masked(generator: Generator) -> list[Inputs]:
    found = []
    for batch, length, vocab in ((2, 4, 3), (3, 6, 4), (2, 9, 5)):
        logits = torch.randn(batch, length, vocab, generator=generator)
        labels = logits.argmax(dim=-1)  # right, but for one of each text
        labels[:, 0] = (labels[:, 0] + 1) % vocab
        for row in range(batch):
            labels[row, 2 + row :] = -100
        found.append((logits, labels))
    return found


def _is_a_share(answer, inputs: Inputs) -> bool:
    logits, labels = inputs
    all_right = torch.where(labels == -100, labels, logits.argmax(dim=-1))
    return answer(logits, all_right) == 1.0


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="visible_average",
        chapter="attention",
        title="Fix the bug: hidden keys have a say",
        difficulty=2,
        minutes=6,
        trains="hides keys before the softmax",
        reference=visible_average,
        broken=_average_by_product,
        inputs=_draw_average,
        properties=(
            Property("values of hidden keys do not matter", _hidden_values_are_unseen),
        ),
        misconceptions=(
            Misconception(
                "multiplies scores by the mask",
                _average_by_product,
                "A hidden key has the score 0, and exp(0) is 1: it gets as much weight "
                "as a key whose score is 0. Which score gives the weight zero?",
            ),
            Misconception(
                "hides after the softmax",
                _average_of_all,
                "Hidden keys have taken their share of the softmax already, so that the "
                "rest does not sum to 1. Hide before it as well.",
            ),
            Misconception(
                "NaN where nothing is visible",
                _average_nan,
                "A query that may see no key has only scores of minus infinity, and "
                "their softmax is 0 / 0. Its output should be zero.",
            ),
            Misconception(
                "hides what is visible",
                _average_turned,
                "True means may be seen; masked_fill fills where its mask is True.",
            ),
        ),
        hints=(
            "Look at the score of a hidden key and at its exponential.",
            "Fill the scores with minus infinity where the mask is False.",
            "A row with nothing visible is NaN then: fill its weights with zero.",
        ),
    ),
    Exercise(
        name="heads_attend",
        chapter="multi-head",
        title="Fix the bug: the weights are too flat",
        difficulty=2,
        minutes=5,
        trains="knows whose width the scale is about",
        reference=heads_attend,
        broken=_scaled_by_model,
        inputs=_draw_heads,
        properties=(
            Property("a head does what it does alone", _heads_are_independent),
        ),
        misconceptions=(
            Misconception(
                "scales by the width of the model",
                _scaled_by_model,
                "The scores are divided by the root of the whole model's width. A dot "
                "product of one head sums fewer terms: how many?",
            ),
            Misconception(
                "leaves out the scale",
                _heads_unscaled,
                "Without a scale the scores grow with the width of a head.",
            ),
            Misconception(
                "scales by the number of heads",
                _scaled_by_heads,
                "The scores are divided by the root of the number of heads. It is the "
                "width of a head over which the dot product sums.",
            ),
            Misconception(
                "normalizes over the queries",
                _heads_over_queries,
                "Each key hands out a total of 1. It is the query that should: over "
                "which axis do the keys lie?",
            ),
        ),
        hints=(
            "Give it one head: is it right then?",
            "Over how many numbers does a head's dot product sum?",
            "The last axis of query is d_k, and nothing else belongs under the root.",
        ),
    ),
    Exercise(
        name="positions_from",
        chapter="positions",
        title="Fix the bug: every new token is the first",
        difficulty=1,
        minutes=4,
        trains="continues positions behind a cache",
        reference=positions_from,
        broken=_positions_from_zero,
        inputs=_draw_positions,
        properties=(
            Property("pieces give what the whole text gives", _pieces_make_the_whole),
        ),
        misconceptions=(
            Misconception(
                "starts at zero",
                _positions_from_zero,
                "The new tokens get the positions of the first ones, whatever came "
                "before them.",
            ),
            Misconception(
                "takes a length for an end",
                _positions_until_new,
                "The slice ends at `new`, which is a number of tokens and no position.",
            ),
            Misconception(
                "starts one too late",
                _positions_one_late,
                "After `past` tokens the next has the position `past`, as they count "
                "from 0.",
            ),
            Misconception(
                "gives all the same position",
                _last_position,
                "All new tokens get the position of the first of them.",
            ),
        ),
        hints=(
            "Which position has the first new token after 3 others?",
            "Positions count from 0, so that one is 3.",
            "A slice needs where it starts and where it ends: start + new.",
        ),
    ),
    Exercise(
        name="residual_layer",
        chapter="encoder",
        title="Fix the bug: the stream grows",
        difficulty=2,
        minutes=6,
        trains="places a norm",
        reference=residual_layer,
        broken=_norms_the_stream_only,
        inputs=_draw_layer,
        properties=(
            Property(
                "each token comes out with mean 0 and variance 1", _each_token_is_normal
            ),
        ),
        misconceptions=(
            Misconception(
                "normalizes before it adds",
                _norms_the_stream_only,
                "What is added after the norm is not normalized. In a layer that "
                "normalizes last, as asked here, nothing comes after the norm.",
            ),
            Misconception(
                "loses the residual connection",
                _no_residual,
                "x itself is gone: only what the sub-layer made of it is left.",
            ),
            Misconception(
                "normalizes first",
                _norms_before,
                "That is the other kind of layer, which normalizes what the sub-layer "
                "reads. Asked is one that normalizes the sum.",
            ),
            Misconception(
                "normalizes over all tokens",
                _norms_the_table,
                "One mean and one variance are taken over all tokens. Each token has "
                "its own.",
            ),
        ),
        hints=(
            "What is the last thing that happens to the output?",
            "The norm should see the sum.",
            "LayerNorm(x + sublayer(x)) is the form of 2017.",
        ),
    ),
    Exercise(
        name="last_logits",
        chapter="decoder",
        title="Fix the bug: short texts go on with nonsense",
        difficulty=2,
        minutes=5,
        trains="finds the last real token of a padded batch",
        reference=last_logits,
        broken=_logits_of_padding,
        inputs=_draw_last,
        properties=(
            Property("more padding changes nothing", _padding_does_not_matter),
        ),
        misconceptions=(
            Misconception(
                "reads the padding",
                _logits_of_padding,
                "The last column is padding for every text but the longest.",
            ),
            Misconception(
                "reads one too late",
                _logits_one_late,
                "A text of 3 tokens ends at index 2; index 3 is padding.",
            ),
            Misconception(
                "crosses every text with every length",
                _logits_of_all,
                "With a colon each text is read at the ends of all texts. Each should be "
                "read at its own: give the first axis indices, too.",
            ),
            Misconception(
                "counts from the end",
                _logits_from_the_end,
                "The length is counted from the right end, where the padding is.",
            ),
        ),
        hints=(
            "Where does a text of 2 tokens end in a batch of length 3?",
            "Each row has its own last index, lengths - 1.",
            "Two index tensors of the same length pick one entry a row.",
        ),
    ),
    Exercise(
        name="validation_perplexity",
        chapter="training",
        title="Fix the bug: the perplexity depends on the batch size",
        difficulty=2,
        minutes=5,
        trains="averages before it takes an exponential",
        reference=validation_perplexity,
        broken=_mean_of_perplexities,
        inputs=_draw_losses,
        properties=(
            Property("joining two batches changes nothing", _batches_may_be_joined),
        ),
        misconceptions=(
            Misconception(
                "averages perplexities",
                _mean_of_perplexities,
                "Each batch's perplexity is averaged. The exponential makes much of the "
                "worst batches: average losses, and take it once.",
            ),
            Misconception(
                "weighs each batch alike",
                _mean_of_means,
                "A token in a small batch counts more than one in a large batch.",
            ),
            Misconception(
                "raises 2 to a loss in nats",
                _base_two,
                "The loss is a natural logarithm, which the power of e undoes.",
            ),
            Misconception(
                "returns the loss",
                _a_loss,
                "That is the mean loss. The perplexity is its exponential.",
            ),
        ),
        hints=(
            "Which number of one token should be averaged over all tokens?",
            "Add up losses and tokens over all batches first.",
            "The exponential comes last, once.",
        ),
    ),
    Exercise(
        name="next_token_loss",
        chapter="gpt",
        title="Fix the bug: a loss that falls too fast",
        difficulty=2,
        minutes=5,
        trains="shifts targets by one",
        reference=next_token_loss,
        broken=_same_token,
        inputs=_draw_next,
        properties=(
            Property(
                "what stands behind the last token does not count",
                _last_logits_do_not_count,
            ),
        ),
        misconceptions=(
            Misconception(
                "predicts the token it reads",
                _same_token,
                "Each position is asked for the token that it has just read, which is "
                "no prediction. It should foretell the next one.",
            ),
            Misconception(
                "predicts the token before",
                _token_before,
                "The shift goes the wrong way: position 1 is asked for token 0.",
            ),
            Misconception(
                "wraps around",
                _wraps_around,
                "The last position is asked for the first token. It has no next one and "
                "should be left out.",
            ),
            Misconception(
                "adds up",
                _sum_of_losses,
                "The losses are added up; their mean is asked.",
            ),
        ),
        hints=(
            "Which token should the logits at position 0 foretell?",
            "The last logits have no target, and the first token is no target.",
            "logits[:, :-1] goes with token_ids[:, 1:].",
        ),
    ),
    Exercise(
        name="masked_accuracy",
        chapter="bert",
        title="Fix the bug: an accuracy that never passes 15%",
        difficulty=1,
        minutes=4,
        trains="divides by what was asked",
        reference=masked_accuracy,
        broken=_accuracy_of_all,
        inputs=_draw_masked,
        properties=(Property("all right gives 1", _is_a_share),),
        misconceptions=(
            Misconception(
                "divides by all tokens",
                _accuracy_of_all,
                "Right answers are counted among the asked tokens and divided by the "
                "number of all tokens.",
            ),
            Misconception(
                "averages over texts",
                _accuracy_by_text,
                "Each text's accuracy counts alike, however few tokens were asked in it. "
                "Each asked token should.",
            ),
            Misconception(
                "counts what is wrong",
                _share_of_wrong,
                "That is the share of wrong answers.",
            ),
            Misconception(
                "counts what is not asked as right",
                _ignored_are_right,
                "Tokens with the label -100 were not asked. They are neither right nor "
                "wrong.",
            ),
        ),
        hints=(
            "How many answers could be right at most?",
            "Only labels other than -100 are asked.",
            "Both the counter and the divisor count asked tokens only.",
        ),
    ),
)
