"""Exercises of the chapter on attention."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from companion.exercises.exercise import Exercise, Inputs, Misconception, Property

# Soft look-up


def soft_lookup(
    queries: Float[Tensor, "queries"],
    keys: Float[Tensor, "keys"],
    values: Float[Tensor, "keys"],
    width: float,
) -> Float[Tensor, "queries"]:
    closeness = -((queries[:, None] - keys) ** 2) / (2 * width**2)  # (Q, K)
    return closeness.softmax(dim=-1) @ values


def _kernel(queries: Tensor, keys: Tensor, width: float) -> Tensor:
    return (-((queries[:, None] - keys) ** 2) / (2 * width**2)).exp()


def _kernel_sum(queries: Tensor, keys: Tensor, values: Tensor, width: float) -> Tensor:
    return _kernel(queries, keys, width) @ values


def _per_key(queries: Tensor, keys: Tensor, values: Tensor, width: float) -> Tensor:
    kernel = _kernel(queries, keys, width)
    return kernel / kernel.sum(dim=0) @ values


def _hard_lookup(queries: Tensor, keys: Tensor, values: Tensor, width: float) -> Tensor:
    return values[(queries[:, None] - keys).abs().argmin(dim=-1)]


def _plain_width(queries: Tensor, keys: Tensor, values: Tensor, width: float) -> Tensor:
    return soft_lookup(queries, keys, values, math.sqrt(width))


def _draw_lookup(generator: Generator) -> list[Inputs]:
    def draw(*size: int) -> Tensor:
        return torch.randn(size, generator=generator)

    return [
        (draw(queries), draw(keys), draw(keys), width)
        for queries, keys, width in ((2, 3, 0.5), (4, 6, 0.3), (3, 5, 2.0))
    ]


def _between_values(answer, inputs: Inputs) -> bool:
    values, found = inputs[2], answer(*inputs)
    return bool(((found >= values.min() - 1e-5) & (found <= values.max() + 1e-5)).all())


# Scaled dot-product attention


def attend(
    query: Float[Tensor, "queries d_k"],
    key: Float[Tensor, "keys d_k"],
    value: Float[Tensor, "keys d_v"],
) -> Float[Tensor, "queries d_v"]:
    scores = query @ key.T / math.sqrt(query.shape[-1])
    return scores.softmax(dim=-1) @ value


def _unscaled(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = query @ key.T
    return scores.softmax(dim=-1) @ value


def _scaled_by_d_k(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = query @ key.T / query.shape[-1]
    return scores.softmax(dim=-1) @ value


def _scaled_by_keys(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = query @ key.T / math.sqrt(len(key))
    return scores.softmax(dim=-1) @ value


def _softmax_over_queries(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = query @ key.T / math.sqrt(query.shape[-1])
    return scores.softmax(dim=0) @ value


def _without_softmax(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = query @ key.T / math.sqrt(query.shape[-1])
    return scores @ value


def _draw_qkv(generator: Generator) -> list[Inputs]:
    sizes = ((2, 3, 4, 2), (5, 4, 16, 3), (1, 7, 8, 5))
    return [
        tuple(
            torch.randn(size, generator=generator) for size in ((q, d), (k, d), (k, v))
        )
        for q, k, d, v in sizes
    ]


def _order_of_keys(answer, inputs: Inputs) -> bool:
    query, key, value = inputs
    turned = answer(query, key.flip(0), value.flip(0))
    return torch.allclose(answer(query, key, value), turned, atol=1e-5)


# A softmax that does not overflow


def stable_softmax(
    scores: Float[Tensor, "*leading keys"],
) -> Float[Tensor, "*leading keys"]:
    shifted = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    return shifted / shifted.sum(dim=-1, keepdim=True)


def _overflowing(scores: Tensor) -> Tensor:
    return scores.exp() / scores.exp().sum(dim=-1, keepdim=True)


def _one_maximum_for_all(scores: Tensor) -> Tensor:
    return _overflowing(scores - scores.max())


def _softmax_of_columns(scores: Tensor) -> Tensor:
    return stable_softmax(scores.transpose(-2, -1)).transpose(-2, -1)


def _share_of_sum(scores: Tensor) -> Tensor:
    return scores / scores.sum(dim=-1, keepdim=True)


def _draw_scores(generator: Generator) -> list[Inputs]:
    small = torch.randn(2, 3, generator=generator)
    apart = torch.randn(3, 4, generator=generator)
    apart = apart + torch.tensor([[0.0], [-1000.0], [1000.0]])
    apart[0, 1] -= 200.0  # nor is a row's smallest score a safe one to subtract
    return [(small,), (apart,), (torch.randn(2, 3, 5, generator=generator),)]


def _shift_changes_nothing(answer, inputs: Inputs) -> bool:
    return torch.allclose(answer(inputs[0] + 100), answer(*inputs), atol=1e-4)


# Causal weights


def causal_weights(
    scores: Float[Tensor, "*leading length length"],
) -> Float[Tensor, "*leading length length"]:
    length = scores.shape[-1]
    visible = torch.ones(length, length, dtype=torch.bool, device=scores.device).tril()
    return scores.masked_fill(~visible, -math.inf).softmax(dim=-1)


def _masked_after(scores: Tensor) -> Tensor:
    return scores.softmax(dim=-1).tril()


def _without_itself(scores: Tensor) -> Tensor:
    visible = torch.ones_like(scores).tril(diagonal=-1).bool()
    return scores.masked_fill(~visible, -math.inf).softmax(dim=-1)


def _hides_the_past(scores: Tensor) -> Tensor:
    visible = torch.ones_like(scores).triu().bool()
    return scores.masked_fill(~visible, -math.inf).softmax(dim=-1)


def _zero_scores(scores: Tensor) -> Tensor:
    return scores.tril().softmax(dim=-1)


def _draw_square_scores(generator: Generator) -> list[Inputs]:
    return [
        (torch.randn(size, generator=generator),)
        for size in ((3, 3), (5, 5), (2, 3, 4, 4))
    ]


def _rows_sum_to_one(answer, inputs: Inputs) -> bool:
    total = answer(*inputs).sum(dim=-1)
    return torch.allclose(total, torch.ones_like(total), atol=1e-5)


# The mask of a decoder


def decoder_mask(
    token_ids: Int[Tensor, "batch length"], pad_id: int
) -> Bool[Tensor, "batch 1 length length"]:
    length = token_ids.shape[1]
    past = torch.ones(length, length, dtype=torch.bool, device=token_ids.device).tril()
    return past & (token_ids != pad_id)[:, None, None, :]


def _hides_queries(token_ids: Tensor, pad_id: int) -> Tensor:
    past = decoder_mask(torch.full_like(token_ids, pad_id + 1), pad_id)
    return past & (token_ids != pad_id)[:, None, :, None]


def _either(token_ids: Tensor, pad_id: int) -> Tensor:
    past = decoder_mask(torch.full_like(token_ids, pad_id + 1), pad_id)
    return past | (token_ids != pad_id)[:, None, None, :]


def _true_is_hidden(token_ids: Tensor, pad_id: int) -> Tensor:
    return ~decoder_mask(token_ids, pad_id)


def _no_head_axis(token_ids: Tensor, pad_id: int) -> Tensor:
    return decoder_mask(token_ids, pad_id)[:, 0]


def _draw_padded(generator: Generator) -> list[Inputs]:
    def draw(batch: int, length: int, pad_id: int) -> Inputs:
        ids = torch.randint(1, 9, (batch, length), generator=generator)
        ids[ids == pad_id] = 9
        for i in range(batch):
            ids[i, length - i - 1 :] = pad_id
        return ids, pad_id

    return [draw(1, 3, 0), draw(2, 5, 0), draw(3, 4, 7)]


# A head that looks one token back


def previous_token_head(
    length: int,
) -> tuple[Float[Tensor, "length d_k"], Float[Tensor, "length d_k"]]:
    position = torch.eye(length)
    query = position.roll(-1, dims=1)  # the query of token i is the position i - 1
    return 20 * math.sqrt(length) * query, position


def _looks_at_itself(length: int) -> tuple[Tensor, Tensor]:
    return 20 * math.sqrt(length) * torch.eye(length), torch.eye(length)


def _looks_ahead(length: int) -> tuple[Tensor, Tensor]:
    query = torch.eye(length).roll(1, dims=1)
    return 20 * math.sqrt(length) * query, torch.eye(length)


def _too_soft(length: int) -> tuple[Tensor, Tensor]:
    return torch.eye(length).roll(-1, dims=1), torch.eye(length)


def _draw_lengths(generator: Generator) -> list[Inputs]:
    return [(length,) for length in (3, 6, 16)]


def _run_head(answer, inputs: Inputs) -> Tensor:
    """The weights from the second token on; the first has nothing before it."""
    query, key = (part.float() for part in answer(*inputs))
    scores = query @ key.T / math.sqrt(query.shape[-1])
    return scores.softmax(dim=-1)[1:]


# Attention in blocks


def streaming_attention(
    query: Float[Tensor, "queries d_k"],
    key: Float[Tensor, "keys d_k"],
    value: Float[Tensor, "keys d_v"],
    block: int,
) -> Float[Tensor, "queries d_v"]:
    query = query / math.sqrt(query.shape[-1])
    highest = query.new_full((len(query), 1), -math.inf)
    total = query.new_zeros(len(query), 1)
    output = query.new_zeros(len(query), value.shape[-1])
    for k, v in zip(key.split(block), value.split(block), strict=True):
        scores = query @ k.T  # (Q, block)
        higher = torch.maximum(highest, scores.amax(dim=-1, keepdim=True))
        weights, shrink = (scores - higher).exp(), (highest - higher).exp()
        total = total * shrink + weights.sum(dim=-1, keepdim=True)
        output = output * shrink + weights @ v
        highest = higher
    return output / total


def _mean_of_blocks(query: Tensor, key: Tensor, value: Tensor, block: int) -> Tensor:
    pairs = zip(key.split(block), value.split(block), strict=True)
    return torch.stack([attend(query, k, v) for k, v in pairs]).mean(dim=0)


def _sum_of_blocks(query: Tensor, key: Tensor, value: Tensor, block: int) -> Tensor:
    pairs = zip(key.split(block), value.split(block), strict=True)
    return torch.stack([attend(query, k, v) for k, v in pairs]).sum(dim=0)


def _never_rescales(query: Tensor, key: Tensor, value: Tensor, block: int) -> Tensor:
    query = query / math.sqrt(query.shape[-1])
    total, output = 0.0, 0.0
    highest = query.new_full((len(query), 1), -math.inf)
    for k, v in zip(key.split(block), value.split(block), strict=True):
        scores = query @ k.T
        highest = torch.maximum(highest, scores.amax(dim=-1, keepdim=True))
        weights = (scores - highest).exp()
        total = total + weights.sum(dim=-1, keepdim=True)
        output = output + weights @ v
    return output / total


def _no_maximum(query: Tensor, key: Tensor, value: Tensor, block: int) -> Tensor:
    weights = (query @ key.T / math.sqrt(query.shape[-1])).exp()
    return weights @ value / weights.sum(dim=-1, keepdim=True)


def _drops_the_rest(query: Tensor, key: Tensor, value: Tensor, block: int) -> Tensor:
    whole = len(key) // block * block
    return attend(query, key[:whole], value[:whole])


def _draw_blocks(generator: Generator) -> list[Inputs]:
    def draw(queries: int, keys: int, d: int, block: int, size: float) -> Inputs:
        query = size * torch.randn(queries, d, generator=generator)
        key = torch.randn(keys, d, generator=generator)
        return query, key, torch.randn(keys, 3, generator=generator), block

    return [draw(2, 4, 2, 2, 1), draw(3, 7, 4, 3, 2), draw(4, 10, 8, 4, 300)]


def _block_size_is_free(answer, inputs: Inputs) -> bool:
    query, key, value, _ = inputs
    whole = answer(query, key, value, len(key))
    return torch.allclose(answer(query, key, value, 1), whole, atol=1e-4)


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="soft_lookup",
        chapter="attention",
        title="Average values by the closeness of their keys",
        difficulty=1,
        minutes=8,
        trains="turns closeness into weights that sum to 1 for each query",
        reference=soft_lookup,
        inputs=_draw_lookup,
        properties=(Property("the answers lie between the values", _between_values),),
        misconceptions=(
            Misconception(
                "sums and does not average",
                _kernel_sum,
                "The values are added up with the kernel as weights, but these weights "
                "do not sum to 1. An average divides by the sum of its weights, for "
                "each query its own.",
            ),
            Misconception(
                "normalizes over the queries",
                _per_key,
                "Each key's weights sum to 1 over the queries. It is a query that "
                "spreads a total of 1 over the keys: which axis are the keys on?",
            ),
            Misconception(
                "takes the nearest key only",
                _hard_lookup,
                "The answer is the value of the nearest key. That is the hard look-up, "
                "which has no slope in the query and ignores the width; let the other "
                "keys have their share.",
            ),
            Misconception(
                "does not square the width",
                _plain_width,
                "The squared distance is divided by 2 width. Distance and width are in "
                "the same unit, so both are squared: look at the exponent again.",
            ),
        ),
        hints=(
            "queries[:, None] - keys has shape (queries, keys): every distance at once.",
            "The kernel is exp(-distance² / (2 width²)); divide each row by its sum.",
            "exp, then dividing by the row's sum, is a softmax over the last axis.",
        ),
    ),
    Exercise(
        name="attend",
        aliases=("scaled_dot_product",),
        chapter="attention",
        title="Scaled dot-product attention in three lines",
        difficulty=2,
        minutes=10,
        trains="writes attention from memory, with its scale and its axis",
        reference=attend,
        inputs=_draw_qkv,
        properties=(
            Property(
                "the order in which keys come, with their values, does not matter",
                _order_of_keys,
            ),
        ),
        misconceptions=(
            Misconception(
                "leaves out the scale",
                _unscaled,
                "The softmax sees the bare dot products. Their spread grows with the "
                "width of the keys; something has to take that growth out.",
            ),
            Misconception(
                "scales by d_k instead of its root",
                _scaled_by_d_k,
                "The scores are divided by d_k. It is the variance of a dot product "
                "that grows like d_k; how does its standard deviation grow?",
            ),
            Misconception(
                "scales by the number of keys",
                _scaled_by_keys,
                "The scores are divided by the root of the number of keys. A dot "
                "product is a sum over the features of one query and one key, however "
                "many keys there are.",
            ),
            Misconception(
                "normalizes over the queries",
                _softmax_over_queries,
                "The softmax runs over the queries, so that each key hands out a total "
                "of 1. Each query should hand out 1: over which axis do the keys lie?",
            ),
            Misconception(
                "leaves out the softmax",
                _without_softmax,
                "The values are summed with the bare scores, which may be negative and "
                "do not sum to 1, so this is no average.",
            ),
        ),
        hints=(
            "One matrix product gives the score of every query with every key.",
            "Scores have shape (queries, keys); the softmax runs over the last axis.",
            "Divide the scores by math.sqrt(query.shape[-1]) before the softmax.",
        ),
    ),
    Exercise(
        name="stable_softmax",
        chapter="attention",
        title="A softmax that does not overflow",
        difficulty=2,
        minutes=8,
        trains="keeps an exponential from overflowing without changing the result",
        reference=stable_softmax,
        inputs=_draw_scores,
        properties=(
            Property("each row sums to 1", _rows_sum_to_one),
            Property(
                "a constant added to all scores changes nothing", _shift_changes_nothing
            ),
        ),
        misconceptions=(
            Misconception(
                "overflows",
                _overflowing,
                "exp(1000) is infinity in floating point, and infinity over infinity is "
                "NaN. Softmax does not change when a row is shifted: shift it to where "
                "exp is safe.",
            ),
            Misconception(
                "subtracts one maximum from all rows",
                _one_maximum_for_all,
                "The largest of all scores is taken off everywhere. A row that lies far "
                "below it then underflows to zeros, and 0 / 0 is NaN. Each row needs a "
                "maximum of its own.",
            ),
            Misconception(
                "normalizes columns",
                _softmax_of_columns,
                "Columns sum to 1. The last axis holds the keys, and each row, one "
                "query, is to sum to 1.",
            ),
            Misconception(
                "divides scores by their sum",
                _share_of_sum,
                "Scores are divided by their sum without an exponential, so weights can "
                "be negative and blow up where the sum is near zero.",
            ),
        ),
        hints=(
            "softmax(s + c) = softmax(s) for any number c. Which c is safe?",
            "Subtract each row's maximum: then the largest exponent is exp(0) = 1.",
            "scores.amax(dim=-1, keepdim=True) keeps the axis, so that it broadcasts.",
        ),
    ),
    Exercise(
        name="causal_weights",
        chapter="attention",
        title="Weights that do not look ahead",
        difficulty=2,
        minutes=8,
        trains="hides the future and nothing else, before rows are normalized",
        reference=causal_weights,
        inputs=_draw_square_scores,
        properties=(Property("each row sums to 1", _rows_sum_to_one),),
        misconceptions=(
            Misconception(
                "masks after the softmax",
                _masked_after,
                "Weights are zeroed after the softmax. The rows no longer sum to 1, and "
                "the future still moves what is left, for it was in the denominator.",
            ),
            Misconception(
                "hides each position from itself",
                _without_itself,
                "The diagonal is hidden too. The first position then has nowhere to "
                "look, and a softmax over nothing is NaN.",
            ),
            Misconception(
                "hides the past",
                _hides_the_past,
                "Each position sees itself and what comes after. Rows are queries, "
                "columns are keys: which triangle has the key before the query?",
            ),
            Misconception(
                "fills with zero",
                _zero_scores,
                "A hidden score of 0 is a score like any other: exp(0) = 1, so the "
                "future keeps its share. Which score has the exponential 0?",
            ),
        ),
        hints=(
            "Row i may see columns 0 to i: the lower triangle with its diagonal.",
            "torch.ones(n, n).tril() is that triangle.",
            "Fill the rest of the scores with -inf before the softmax.",
        ),
    ),
    Exercise(
        name="decoder_mask",
        chapter="attention",
        title="Hide the future and the padding",
        difficulty=3,
        minutes=10,
        trains="combines masks by broadcasting, each on its own axis",
        reference=decoder_mask,
        inputs=_draw_padded,
        properties=(
            Property(
                "the mask is boolean",
                lambda answer, inputs: answer(*inputs).dtype == torch.bool,
            ),
        ),
        misconceptions=(
            Misconception(
                "hides padded queries instead of padded keys",
                _hides_queries,
                "Rows of padding are emptied and its columns stay visible, so that real "
                "tokens still read the padding. What must not be read is a key: the "
                "last axis.",
            ),
            Misconception(
                "combines with or",
                _either,
                "A key is visible when either mask allows it. It has to be allowed by "
                "both.",
            ),
            Misconception(
                "turns the mask around",
                _true_is_hidden,
                "True stands where a query may not look. In this book, and in "
                "F.scaled_dot_product_attention, True means may attend.",
            ),
            Misconception(
                "has no axis for the heads",
                _no_head_axis,
                "The mask has shape (batch, length, length). With four axes the first is "
                "the batch; here it would be read as heads. Give the heads an axis of "
                "size 1.",
            ),
        ),
        hints=(
            "Build two masks, one (length, length), one from token_ids != pad_id.",
            "Shape the second (batch, 1, 1, length), so that it means keys.",
            "Combine them with &; broadcasting does the rest.",
        ),
    ),
    Exercise(
        name="previous_token_head",
        chapter="attention",
        title="Queries and keys that look one token back",
        difficulty=3,
        minutes=15,
        trains="designs queries and keys that make a wanted pattern",
        reference=previous_token_head,
        inputs=_draw_lengths,
        run=_run_head,
        properties=(
            Property(
                "every weight on the previous token is above 0.99",
                lambda answer, inputs: bool(
                    (_run_head(answer, inputs).diagonal() > 0.99).all()
                ),
            ),
        ),
        misconceptions=(
            Misconception(
                "looks at itself",
                _looks_at_itself,
                "Query i matches key i, so each token attends to itself. The query of "
                "token i has to match the key of token i - 1.",
            ),
            Misconception(
                "looks one token ahead",
                _looks_ahead,
                "The shift goes the other way: query i matches key i + 1. Print the "
                "weights for length 3 and look at the second row.",
            ),
            Misconception(
                "is too soft",
                _too_soft,
                "The match is the right one, but its score is only 1 / sqrt(d_k) above "
                "the others, so the softmax stays nearly flat. What makes a softmax "
                "sharp?",
            ),
        ),
        hints=(
            "Give each position a key that no other key resembles: torch.eye(length).",
            "The query of token i is then row i - 1 of the same matrix.",
            "Multiply the queries by a large number: the gap between scores decides.",
        ),
        tolerance=1e-2,
    ),
    Exercise(
        name="streaming_attention",
        chapter="attention",
        title="Attention in blocks",
        difficulty=4,
        minutes=30,
        trains="keeps a running softmax right when a larger maximum comes",
        reference=streaming_attention,
        inputs=_draw_blocks,
        properties=(
            Property("the size of the blocks does not matter", _block_size_is_free),
        ),
        misconceptions=(
            Misconception(
                "averages the blocks' outputs",
                _mean_of_blocks,
                "Each block is attended to on its own and the outputs are averaged. A "
                "block with high scores should count for more than one with low scores.",
            ),
            Misconception(
                "adds the blocks' outputs",
                _sum_of_blocks,
                "Each block's weights sum to 1, so all of them together sum to the "
                "number of blocks. Divide by the sum over all keys, once, at the end.",
            ),
            Misconception(
                "does not rescale what it has",
                _never_rescales,
                "When a later block has a higher maximum, what was summed before still "
                "stands relative to the old one. Sum and output both have to shrink by "
                "exp(old maximum - new maximum).",
            ),
            Misconception(
                "keeps no maximum",
                _no_maximum,
                "Without a maximum taken off, exp overflows as soon as scores are large.",
            ),
            Misconception(
                "drops the last, shorter block",
                _drops_the_rest,
                "Only whole blocks are read. The number of keys need not be a multiple "
                "of the block.",
            ),
        ),
        hints=(
            "Keep three things while reading: the highest score so far, the sum of "
            "exponentials, and the weighted sum of values, one of each for every query.",
            "When the highest score rises from a to b, all that was summed so far is "
            "too large by exp(b - a).",
            "key.split(block) also gives a last block that is shorter.",
        ),
    ),
)
