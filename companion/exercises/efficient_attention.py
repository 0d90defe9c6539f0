"""Exercises of the chapter on efficient attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from companion.exercises.exercise import Exercise, Inputs, Misconception, Property

# A window and global tokens as a mask


def band_mask(
    length: int, window: int, num_global: int
) -> Bool[Tensor, "length length"]:
    position = torch.arange(length)
    near = (position[:, None] - position).abs() <= window  # (Q, K)
    is_global = position < num_global
    return near | is_global[:, None] | is_global[None, :]


def _band(length: int, window: int) -> Tensor:
    return band_mask(length, window, 0)


def _half_a_window(length: int, window: int, num_global: int) -> Tensor:
    return band_mask(length, window // 2, num_global)


def _short_by_one(length: int, window: int, num_global: int) -> Tensor:
    return band_mask(length, window - 1, num_global)


def _looks_back_only(length: int, window: int, num_global: int) -> Tensor:
    return band_mask(length, 0, num_global) | _band(length, window).tril()


def _seen_by_all(length: int, window: int, num_global: int) -> Tensor:
    mask = _band(length, window)
    mask[:, :num_global] = True
    return mask


def _sees_all(length: int, window: int, num_global: int) -> Tensor:
    return _seen_by_all(length, window, num_global).T


def _hidden_not_seen(length: int, window: int, num_global: int) -> Tensor:
    return ~band_mask(length, window, num_global)


def _draw_band(generator: Generator) -> list[Inputs]:
    return [(5, 1, 0), (8, 2, 1), (9, 3, 2)]


def _symmetric(answer, inputs: Inputs) -> bool:
    mask = answer(*inputs)
    return torch.equal(mask, mask.T)


def _everyone_sees_itself(answer, inputs: Inputs) -> bool:
    return bool(answer(*inputs).diagonal().all())


# How far a stack of windows reaches


def receptive_field(windows: Sequence[int], is_causal: bool) -> int:
    sides = 1 if is_causal else 2
    return 1 + sides * sum(windows)


def _product_of_windows(windows: Sequence[int], is_causal: bool) -> int:
    return math.prod(receptive_field([w], is_causal) for w in windows)


def _without_itself(windows: Sequence[int], is_causal: bool) -> int:
    return receptive_field(windows, is_causal) - 1


def _itself_in_each_layer(windows: Sequence[int], is_causal: bool) -> int:
    return sum(receptive_field([w], is_causal) for w in windows)


def _widest_layer(windows: Sequence[int], is_causal: bool) -> int:
    return receptive_field([max(windows)], is_causal)


def _both_sides_always(windows: Sequence[int], is_causal: bool) -> int:
    return receptive_field(windows, False)


def _draw_windows(generator: Generator) -> list[Inputs]:
    return [([2, 2], False), ([2, 2], True), ([1, 4, 3], False), ([256] * 12, True)]


def _grows_with_depth(answer, inputs: Inputs) -> bool:
    windows, is_causal = inputs
    step = answer([*windows, 5], is_causal) - answer(windows, is_causal)
    return step == 5 * (1 if is_causal else 2)


# What a window costs


def window_multiply_adds(n: int, window: int, d: int) -> int:
    pairs = sum(min(n - 1, i + window) - max(0, i - window) + 1 for i in range(n))
    return 2 * d * pairs  # a score, and a share of a value


def _every_pair(n: int, window: int, d: int) -> int:
    return 2 * d * n * n


def _past_the_ends(n: int, window: int, d: int) -> int:
    return 2 * d * n * (2 * window + 1)


def _without_the_query(n: int, window: int, d: int) -> int:
    return window_multiply_adds(n, window, d) - 2 * d * n


def _scores_only(n: int, window: int, d: int) -> int:
    return window_multiply_adds(n, window, d) // 2


def _one_side(n: int, window: int, d: int) -> int:
    return 2 * d * sum(min(i, window) + 1 for i in range(n))


def _draw_counts(generator: Generator) -> list[Inputs]:
    return [(5, 1, 2), (10, 3, 4), (100, 16, 64), (7, 9, 3)]


def _wide_window_is_full(answer, inputs: Inputs) -> bool:
    n, _, d = inputs
    return answer(n, n, d) == 2 * d * n * n


# Two blocks of a softmax, merged


def merge_softmax_blocks(
    top_a: Float[Tensor, "queries"],
    below_a: Float[Tensor, "queries"],
    above_a: Float[Tensor, "queries d_v"],
    top_b: Float[Tensor, "queries"],
    below_b: Float[Tensor, "queries"],
    above_b: Float[Tensor, "queries d_v"],
) -> tuple[
    Float[Tensor, "queries"], Float[Tensor, "queries"], Float[Tensor, "queries d_v"]
]:
    top = torch.maximum(top_a, top_b)
    shrink_a, shrink_b = (top_a - top).exp(), (top_b - top).exp()
    below = below_a * shrink_a + below_b * shrink_b
    above = above_a * shrink_a[:, None] + above_b * shrink_b[:, None]
    return top, below, above


def _added_as_they_are(top_a, below_a, above_a, top_b, below_b, above_b):
    return torch.maximum(top_a, top_b), below_a + below_b, above_a + above_b


def _stretched(top_a, below_a, above_a, top_b, below_b, above_b):
    top = torch.maximum(top_a, top_b)
    a, b = (top - top_a).exp(), (top - top_b).exp()
    above = above_a * a[:, None] + above_b * b[:, None]
    return top, below_a * a + below_b * b, above


def _first_is_rescaled(top_a, below_a, above_a, top_b, below_b, above_b):
    top = torch.maximum(top_a, top_b)
    a = (top_a - top).exp()
    return top, below_a * a + below_b, above_a * a[:, None] + above_b


def _sum_not_values(top_a, below_a, above_a, top_b, below_b, above_b):
    top = torch.maximum(top_a, top_b)
    below = below_a * (top_a - top).exp() + below_b * (top_b - top).exp()
    return top, below, above_a + above_b


def _already_divided(top_a, below_a, above_a, top_b, below_b, above_b):
    merged = merge_softmax_blocks(top_a, below_a, above_a, top_b, below_b, above_b)
    top, below, above = merged
    return top, below, above / below[:, None]


def _state_of(scores: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    top = scores.amax(dim=1)
    e = (scores - top[:, None]).exp()
    return top, e.sum(dim=1), e @ values


def _draw_blocks(generator: Generator) -> list[Inputs]:
    cases = []
    for queries, a, b, d_v, size in ((2, 2, 3, 2, 1.0), (3, 4, 2, 3, 2.0)):
        scores = size * torch.randn(queries, a + b, generator=generator)
        # The larger scores are in the first block for some queries, not for others.
        scores[0, :a] += 3.0
        scores[1, a:] += 3.0
        values = torch.randn(a + b, d_v, generator=generator)
        first = _state_of(scores[:, :a], values[:a])
        cases.append((*first, *_state_of(scores[:, a:], values[a:])))
    return cases


def _order_of_blocks(answer, inputs: Inputs) -> bool:
    one, other = answer(*inputs), answer(*inputs[3:], *inputs[:3])
    pairs = zip(one, other, strict=True)
    return all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)


def _shift_is_harmless(answer, inputs: Inputs) -> bool:
    """The same scores, all larger by 200, where exp would overflow."""
    top_a, below_a, above_a, top_b, below_b, above_b = inputs
    there = answer(top_a + 200, below_a, above_a, top_b + 200, below_b, above_b)
    here = answer(*inputs)
    return all(
        torch.allclose(a, b, atol=1e-3)
        for a, b in zip(there[1:], here[1:], strict=True)
    )


# Causal linear attention by prefix sums


def prefix_linear_attention(
    query: Float[Tensor, "length features"],
    key: Float[Tensor, "length features"],
    value: Float[Tensor, "length d_v"],
) -> Float[Tensor, "length d_v"]:
    state = (key[:, :, None] * value[:, None, :]).cumsum(dim=0)  # (L, F, d_v)
    total = key.cumsum(dim=0)  # (L, F)
    above = (query[:, None, :] @ state).squeeze(1)  # (L, d_v)
    below = (query * total).sum(dim=1, keepdim=True)  # (L, 1)
    return above / below


def _sees_the_future(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return query @ (key.T @ value) / (query @ key.sum(dim=0))[:, None]


def _not_normalized(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query @ key.T).tril() @ value


def _total_of_all(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return _not_normalized(query, key, value) / (query @ key.sum(dim=0))[:, None]


def _softmaxed(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = query @ key.T
    future = torch.ones_like(scores).triu(1).bool()
    return scores.masked_fill(future, -math.inf).softmax(dim=-1) @ value


def _without_the_present(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = (query @ key.T).tril(-1)
    return scores @ value / scores.sum(dim=1, keepdim=True)


def _draw_features(generator: Generator) -> list[Inputs]:
    def draw(*size: int) -> Tensor:
        return torch.randn(size, generator=generator)

    return [
        (draw(n, f).exp(), draw(n, f).exp(), draw(n, d_v))
        for n, f, d_v in ((3, 2, 2), (6, 4, 3), (5, 3, 4))
    ]


def _past_stays(answer, inputs: Inputs) -> bool:
    query, key, value = inputs
    changed = key.clone(), value.clone()
    changed[0][-1] *= 3.0
    changed[1][-1] += 1.0
    same = answer(query, *changed)[:-1], answer(query, key, value)[:-1]
    return torch.allclose(*same, atol=1e-5)


def _first_is_its_value(answer, inputs: Inputs) -> bool:
    return torch.allclose(answer(*inputs)[0], inputs[2][0], atol=1e-5)


# Positive random features


def favor_features(
    x: Float[Tensor, "length d_k"], directions: Float[Tensor, "features d_k"]
) -> Float[Tensor, "length features"]:
    x = x / x.shape[1] ** 0.25  # so that a product of two has the scale 1 / sqrt(d_k)
    half = x.square().sum(dim=1, keepdim=True) / 2  # (L, 1)
    return (x @ directions.T - half).exp() / len(directions) ** 0.5


def _exponential_only(x: Tensor, directions: Tensor) -> Tensor:
    x = x / x.shape[1] ** 0.25
    return (x @ directions.T).exp() / len(directions) ** 0.5


def _whole_square(x: Tensor, directions: Tensor) -> Tensor:
    x = x / x.shape[1] ** 0.25
    square = x.square().sum(dim=1, keepdim=True)
    return (x @ directions.T - square).exp() / len(directions) ** 0.5


def _each_by_the_root(x: Tensor, directions: Tensor) -> Tensor:
    return favor_features(x / x.shape[1] ** 0.25, directions)


def _without_a_scale(x: Tensor, directions: Tensor) -> Tensor:
    return favor_features(x * x.shape[1] ** 0.25, directions)


def _sum_not_mean(x: Tensor, directions: Tensor) -> Tensor:
    return favor_features(x, directions) * len(directions) ** 0.5


def _mean_in_each(x: Tensor, directions: Tensor) -> Tensor:
    return favor_features(x, directions) / len(directions) ** 0.5


def _draw_favor(generator: Generator) -> list[Inputs]:
    return [
        (
            torch.randn(length, d_k, generator=generator),
            torch.randn(features, d_k, generator=generator),
        )
        for length, d_k, features in ((2, 4, 3), (3, 9, 5), (4, 16, 7))
    ]


def _estimates_the_kernel(answer, inputs: Inputs) -> bool:
    """With many directions the mean comes out, on short vectors, where it varies little."""
    x = inputs[0][:2]
    x = x / x.norm(dim=1, keepdim=True) * x.shape[1] ** 0.25 / 2
    draw = torch.Generator().manual_seed(0)
    many = torch.randn(40_000, x.shape[1], generator=draw).to(x.device)
    phi = answer(x, many)
    exact = (x @ x.T / math.sqrt(x.shape[1])).exp()
    return torch.allclose(phi @ phi.T, exact, rtol=0.05)


# Linformer


def linformer_attend(
    query: Float[Tensor, "length d_k"],
    key: Float[Tensor, "length d_k"],
    value: Float[Tensor, "length d_v"],
    E: Float[Tensor, "slots length"],
    F: Float[Tensor, "slots length"],
) -> Float[Tensor, "length d_v"]:
    scores = query @ (E @ key).T / math.sqrt(query.shape[1])  # (L, slots)
    return scores.softmax(dim=-1) @ (F @ value)


def _one_projection(query, key, value, E, F) -> Tensor:
    return linformer_attend(query, key, value, E, E)


def _projected_weights(query, key, value, E, F) -> Tensor:
    weights = (query @ key.T / math.sqrt(query.shape[1])).softmax(dim=-1)
    return weights @ E.T @ (F @ value)


def _projected_scores(query, key, value, E, F) -> Tensor:
    """The right numbers, by way of all scores."""
    return (query @ key.T @ E.T / math.sqrt(len(key))).softmax(dim=-1) @ (F @ value)


def _scaled_by_slots(query, key, value, E, F) -> Tensor:
    return linformer_attend(
        query * math.sqrt(query.shape[1] / len(E)), key, value, E, F
    )


def _queries_too(query, key, value, E, F) -> Tensor:
    return linformer_attend(E @ query, key, value, E, F)


def _draw_linformer(generator: Generator) -> list[Inputs]:
    def draw(*size: int) -> Tensor:
        return torch.randn(size, generator=generator)

    return [
        (draw(n, d), draw(n, d), draw(n, d_v), draw(k, n), draw(k, n))
        for n, d, d_v, k in ((4, 2, 2, 3), (6, 5, 3, 2), (7, 3, 4, 4))
    ]


def _unit_slots_are_keys(answer, inputs: Inputs) -> bool:
    """With a slot for each position it is full attention."""
    query, key, value, E, _ = inputs
    unit = torch.eye(len(key), dtype=E.dtype, device=E.device)
    full = (query @ key.T / math.sqrt(query.shape[1])).softmax(dim=-1) @ value
    return torch.allclose(answer(query, key, value, unit, unit), full, atol=1e-4)


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="band_mask",
        chapter="efficient-attention",
        title="A window and global tokens as a mask",
        difficulty=2,
        minutes=8,
        trains="draws a sparse pattern that is seen as it sees",
        reference=band_mask,
        inputs=_draw_band,
        properties=(
            Property("who sees is seen: the mask is symmetric", _symmetric),
            Property("every position sees itself", _everyone_sees_itself),
        ),
        misconceptions=(
            Misconception(
                "takes window for the whole width",
                _half_a_window,
                "It sees window // 2 on each side. Here `window` counts the positions on "
                "one side; papers and libraries differ in this, so look before you use "
                "one.",
            ),
            Misconception(
                "stops one short",
                _short_by_one,
                "It leaves out the position exactly `window` away. Is the distance `window` "
                "still inside?",
            ),
            Misconception(
                "looks back only",
                _looks_back_only,
                "It sees `window` positions before the query and none after it. That is the "
                "window of a causal model; asked for is one on both sides.",
            ),
            Misconception(
                "lets global tokens be seen, but not see",
                _seen_by_all,
                "All see the global tokens, and those see no more than their window. What "
                "would the others then learn from them? A global token also gathers.",
            ),
            Misconception(
                "lets global tokens see, but not be seen",
                _sees_all,
                "The global tokens see everything and nobody far away sees them: they "
                "gather and don't hand on. Row or column: which is the query?",
            ),
            Misconception(
                "marks what is hidden",
                _hidden_not_seen,
                "True and False are exchanged. In this book True means may attend.",
            ),
        ),
        hints=(
            "Two conditions joined by 'or': near, or one of the two is global.",
            "position[:, None] - position is how far apart each pair stands.",
            "near | is_global[:, None] | is_global[None, :]",
        ),
    ),
    Exercise(
        name="receptive_field",
        chapter="efficient-attention",
        title="How far a stack of windows reaches",
        difficulty=1,
        minutes=6,
        trains="adds up windows, layer by layer, to a reach",
        reference=receptive_field,
        inputs=_draw_windows,
        properties=(
            Property(
                "another layer of window 5 adds 5 positions on each side that is seen",
                _grows_with_depth,
            ),
        ),
        misconceptions=(
            Misconception(
                "multiplies",
                _product_of_windows,
                "It multiplies the layers' widths. A second layer shifts the edge by its "
                "window: does that multiply the reach or add to it?",
            ),
            Misconception(
                "leaves out the position itself",
                _without_itself,
                "It counts the neighbors only. With windows of 0 an output still depends on "
                "one input.",
            ),
            Misconception(
                "counts the position anew in each layer",
                _itself_in_each_layer,
                "It adds up the layers' widths, so that the position itself is counted once "
                "a layer. How many positions do two layers of window 0 see?",
            ),
            Misconception(
                "looks at the widest layer only",
                _widest_layer,
                "It takes one layer's width. What a neighbor knows comes from its own "
                "neighbors, one layer further down.",
            ),
            Misconception(
                "counts the future of a causal model",
                _both_sides_always,
                "It counts both sides for a causal model too, which sees only what came "
                "before.",
            ),
        ),
        hints=(
            "One layer of window w reaches w positions to each side. And the layer below "
            "it, from there?",
            "On each side, the windows add up.",
            "1 for the position itself, plus the sum of the windows for each side.",
        ),
    ),
    Exercise(
        name="window_multiply_adds",
        chapter="efficient-attention",
        title="What a window costs",
        difficulty=2,
        minutes=10,
        trains="counts work exactly, without the pairs missing at the ends",
        reference=window_multiply_adds,
        inputs=_draw_counts,
        properties=(
            Property(
                "a window as wide as the sequence costs 2 d n^2, as full attention does",
                _wide_window_is_full,
            ),
        ),
        misconceptions=(
            Misconception(
                "counts every pair",
                _every_pair,
                "That is full attention, whose masked scores are computed and thrown away. "
                "Count the pairs inside the window only.",
            ),
            Misconception(
                "counts keys that don't exist",
                _past_the_ends,
                "It gives each query 2 window + 1 keys. The first query has none before it.",
            ),
            Misconception(
                "forgets the query's own key",
                _without_the_query,
                "It leaves out the pair of each position with itself.",
            ),
            Misconception(
                "counts the scores only",
                _scores_only,
                "A pair costs d multiply-adds for its score. What else is done for each "
                "pair?",
            ),
            Misconception(
                "looks to one side",
                _one_side,
                "It counts the keys before each query and not those after it.",
            ),
        ),
        hints=(
            "How many pairs (query, key) are at most `window` apart?",
            "Query i sees from max(0, i - window) to min(n - 1, i + window).",
            "Each pair costs d for the score and d for its share of the value.",
        ),
    ),
    Exercise(
        name="merge_softmax_blocks",
        chapter="efficient-attention",
        title="Merge two halves of a softmax",
        difficulty=3,
        minutes=15,
        trains="brings partial sums to one maximum before it adds them",
        reference=merge_softmax_blocks,
        inputs=_draw_blocks,
        properties=(
            Property("which half comes first does not matter", _order_of_blocks),
            Property(
                "scores that are all larger by 200 change only the maximum",
                _shift_is_harmless,
            ),
        ),
        misconceptions=(
            Misconception(
                "adds what stands relative to different maxima",
                _added_as_they_are,
                "It adds the two sums as they are. One is in units of e^top_a, the other in "
                "units of e^top_b: bring both to one unit first.",
            ),
            Misconception(
                "stretches instead of shrinking",
                _stretched,
                "The factor is upside down. The common maximum is the larger one, so what "
                "stood relative to the smaller has to shrink.",
            ),
            Misconception(
                "rescales only the first",
                _first_is_rescaled,
                "It takes the second half to have the larger maximum. For some queries the "
                "first one has it.",
            ),
            Misconception(
                "rescales the sums and not the values",
                _sum_not_values,
                "`below` is right and `above` is not: the weighted sum of values is "
                "relative to the maximum as well.",
            ),
            Misconception(
                "divides too early",
                _already_divided,
                "`above` comes out divided by `below`. Then a third block can't be merged: "
                "divide once, at the very end.",
            ),
        ),
        hints=(
            "top is a maximum, below a sum of e^(score - top), above that sum with values.",
            "A sum relative to top_a becomes one relative to top by a factor "
            "e^(top_a - top).",
            "Both halves need their factor; one of the two is 1.",
        ),
    ),
    Exercise(
        name="prefix_linear_attention",
        chapter="efficient-attention",
        title="Causal linear attention by prefix sums",
        difficulty=3,
        minutes=15,
        trains="reorders a product so that a running sum replaces scores",
        reference=prefix_linear_attention,
        inputs=_draw_features,
        properties=(
            Property("the past does not depend on the future", _past_stays),
            Property(
                "the first output is the first value, for there is nothing else to see",
                _first_is_its_value,
            ),
        ),
        misconceptions=(
            Misconception(
                "sums over all keys",
                _sees_the_future,
                "Every query reads one sum over the whole sequence, the future included. "
                "Query i may read the sum over keys 1 to i.",
            ),
            Misconception(
                "does not normalize",
                _not_normalized,
                "These are weighted sums, not averages: the weights of a row do not sum to "
                "1. What is the sum of query i's weights?",
            ),
            Misconception(
                "divides by the weights of all keys",
                _total_of_all,
                "The numerator stops at the present and the denominator does not: each "
                "query is divided by weights that it did not use.",
            ),
            Misconception(
                "takes a softmax of the products",
                _softmaxed,
                "The product of two features is a weight already. Another exponential can't "
                "be pulled apart into a sum over keys.",
            ),
            Misconception(
                "leaves the present out",
                _without_the_present,
                "Query i reads keys 1 to i - 1, so that the first divides 0 by 0. A "
                "position may see itself.",
            ),
        ),
        hints=(
            "Two running sums: one of phi(k) v^T, one of phi(k).",
            "torch.cumsum along the positions gives all of them at once.",
            "query i times the first sum, divided by query i times the second.",
        ),
    ),
    Exercise(
        name="favor_features",
        chapter="efficient-attention",
        title="Positive random features",
        difficulty=3,
        minutes=12,
        trains="estimates an exponential by random features, each scale in its place",
        reference=favor_features,
        inputs=_draw_favor,
        properties=(
            Property(
                "with very many directions, phi(x) . phi(y) comes near "
                "exp(x . y / sqrt(d_k))",
                _estimates_the_kernel,
            ),
        ),
        misconceptions=(
            Misconception(
                "forgets the length of x",
                _exponential_only,
                "The mean of e^(w.x) e^(w.y) over w is e^(|x + y|^2 / 2). What must be "
                "divided out to leave e^(x.y)?",
            ),
            Misconception(
                "subtracts the whole square",
                _whole_square,
                "|x + y|^2 / 2 holds half of each square. You subtract all of it.",
            ),
            Misconception(
                "scales twice",
                _each_by_the_root,
                "x and y are each divided by sqrt(d_k), so that their product is divided by "
                "d_k. Share the factor 1 / sqrt(d_k) between the two.",
            ),
            Misconception(
                "forgets the scale of attention",
                _without_a_scale,
                "This estimates exp(x . y). Attention wants exp(x . y / sqrt(d_k)).",
            ),
            Misconception(
                "sums over directions",
                _sum_not_mean,
                "The estimate is a mean over directions, and a dot product is a sum. Where "
                "does the 1 / features go?",
            ),
            Misconception(
                "divides by the number on both sides",
                _mean_in_each,
                "Each side is divided by the number of features, so that the product is "
                "divided by its square.",
            ),
        ),
        hints=(
            "e^(x.y) = e^(-|x|^2/2) e^(-|y|^2/2) times the mean of e^(w.x) e^(w.y).",
            "Divide x by d_k^(1/4) first: the other side brings the other quarter.",
            "exp(x w - |x|^2 / 2) / sqrt(number of directions)",
        ),
        tolerance=1e-4,
    ),
    Exercise(
        name="linformer_attend",
        chapter="efficient-attention",
        title="Fewer keys: Linformer",
        difficulty=2,
        minutes=8,
        trains="shortens the axis of keys and keeps their width",
        reference=linformer_attend,
        inputs=_draw_linformer,
        properties=(
            Property(
                "with E = F = 1, a slot for each position, it is full attention",
                _unit_slots_are_keys,
            ),
        ),
        misconceptions=(
            Misconception(
                "uses one projection for both",
                _one_projection,
                "Keys and values are both projected by E. F is there for the values.",
            ),
            Misconception(
                "projects the weights",
                _projected_weights,
                "It forms all n x n weights first, which is the cost that was to be saved, "
                "and then mixes them: the rows no longer sum to 1. Project the keys.",
            ),
            Misconception(
                "scales by the length",
                _projected_scores,
                "The scores are divided by the root of the number of keys. The scale "
                "belongs to the width of a key, as ever.",
            ),
            Misconception(
                "scales by the number of slots",
                _scaled_by_slots,
                "The scores are divided by the root of the number of slots. A score is still "
                "a dot product of width d_k.",
            ),
            Misconception(
                "projects the queries as well",
                _queries_too,
                "There come out as many rows as slots. Every position still asks its own "
                "question: only keys and values are fewer.",
            ),
        ),
        hints=(
            "E @ key has as many rows as there are slots.",
            "The scores have shape (length, slots).",
            "The rest is attention as ever, with F @ value for the values.",
        ),
    ),
)
