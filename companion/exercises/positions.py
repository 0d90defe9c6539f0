"""Exercises of the chapter on positional encoding."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from companion.exercises.exercise import Exercise, Inputs, Misconception, Property
from companion.layers.positions import shift_matrix, sinusoidal_table
from companion.layers.rotary import RotaryEmbedding, to_half_split, to_interleaved

# The table of sines and cosines


def sinusoids(length: int, d_model: int) -> Float[Tensor, "length d_model"]:
    pair = torch.arange(d_model // 2)
    angles = torch.arange(length)[:, None] * 10000.0 ** (-2 * pair / d_model)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def _with_angles(angles: Tensor) -> Tensor:
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def _half_the_exponent(length: int, d_model: int) -> Tensor:
    pair = torch.arange(d_model // 2)
    angles = torch.arange(length)[:, None] * 10000.0 ** (-pair / d_model)
    return _with_angles(angles)


def _to_the_endpoint(length: int, d_model: int) -> Tensor:
    pair = torch.arange(d_model // 2)
    angles = torch.arange(length)[:, None] * 10000.0 ** (-pair / (d_model // 2 - 1))
    return _with_angles(angles)


def _all_sines_first(length: int, d_model: int) -> Tensor:
    return sinusoidal_table(length, d_model, "halves")


def _cosine_first(length: int, d_model: int) -> Tensor:
    return sinusoids(length, d_model).view(length, -1, 2).flip(-1).flatten(1)


def _a_hand_a_column(length: int, d_model: int) -> Tensor:
    column = torch.arange(d_model)
    angles = torch.arange(length)[:, None] * 10000.0 ** (-column / d_model)
    return torch.where(column % 2 == 0, angles.sin(), angles.cos())


def _draw_table_sizes(generator: Generator) -> list[Inputs]:
    return [(3, 4), (5, 6), (64, 8)]


def _on_the_circle(answer, inputs: Inputs) -> bool:
    table = answer(*inputs)
    radius = table[:, 0::2] ** 2 + table[:, 1::2] ** 2
    return torch.allclose(radius, torch.ones_like(radius), atol=1e-5)


# The matrix of a shift


def shift(k: int, d_model: int) -> Float[Tensor, "d_model d_model"]:
    angles = k * 10000.0 ** (-2 * torch.arange(d_model // 2) / d_model)
    blocks = [
        torch.stack([torch.stack([a.cos(), a.sin()]), torch.stack([-a.sin(), a.cos()])])
        for a in angles
    ]
    return torch.block_diag(*blocks)


def _shifts_back(k: int, d_model: int) -> Tensor:
    return shift(-k, d_model)


def _one_angle(k: int, d_model: int) -> Tensor:
    return torch.block_diag(*[shift(k, 2)] * (d_model // 2))


def _no_minus(k: int, d_model: int) -> Tensor:
    M = shift(k, d_model)
    return M.triu() + M.triu(diagonal=1).T


def _shift_in_halves(k: int, d_model: int) -> Tensor:
    return shift_matrix(k, d_model, "halves")


def _draw_shifts(generator: Generator) -> list[Inputs]:
    return [(1, 4), (3, 6), (-2, 4), (10, 8)]


def _shifts_the_table(answer, inputs: Inputs) -> bool:
    k, d_model = inputs
    table = sinusoidal_table(60, d_model).cpu()
    M = answer(k, d_model).cpu()
    return torch.allclose(table[20:40] @ M.T, table[20 + k : 40 + k], atol=1e-4)


# Four terms of a score


def four_terms(
    x: Float[Tensor, "length d_model"],
    p: Float[Tensor, "length d_model"],
    W_q: Float[Tensor, "d_model d_k"],
    W_k: Float[Tensor, "d_model d_k"],
) -> Float[Tensor, "4 length length"]:
    terms = [(a @ W_q) @ (b @ W_k).T for a in (x, p) for b in (x, p)]
    return torch.stack(terms) / math.sqrt(W_q.shape[1])


def _mixed_swapped(x: Tensor, p: Tensor, W_q: Tensor, W_k: Tensor) -> Tensor:
    return four_terms(x, p, W_q, W_k)[[0, 2, 1, 3]]


def _terms_unscaled(x: Tensor, p: Tensor, W_q: Tensor, W_k: Tensor) -> Tensor:
    return four_terms(x, p, W_q, W_k) * math.sqrt(W_q.shape[1])


def _terms_scaled_by_d_model(x: Tensor, p: Tensor, W_q: Tensor, W_k: Tensor) -> Tensor:
    return _terms_unscaled(x, p, W_q, W_k) / math.sqrt(x.shape[1])


def _one_matrix(x: Tensor, p: Tensor, W_q: Tensor, W_k: Tensor) -> Tensor:
    return four_terms(x, p, W_q, W_q)


def _row_is_key(x: Tensor, p: Tensor, W_q: Tensor, W_k: Tensor) -> Tensor:
    return four_terms(x, p, W_q, W_k).mT


def _draw_terms(generator: Generator) -> list[Inputs]:
    def draw(n: int, d_model: int, d_k: int) -> Inputs:
        sizes = ((n, d_model), (n, d_model), (d_model, d_k), (d_model, d_k))
        return tuple(torch.randn(size, generator=generator) for size in sizes)

    return [draw(2, 3, 2), draw(4, 6, 5), draw(5, 3, 4)]


def _adds_up(answer, inputs: Inputs) -> bool:
    x, p, W_q, W_k = inputs
    whole = ((x + p) @ W_q) @ ((x + p) @ W_k).T / math.sqrt(W_q.shape[1])
    return torch.allclose(answer(*inputs).sum(dim=0), whole, atol=1e-4)


# T5's buckets for a decoder


def t5_bucket(
    relative: Int[Tensor, "*shape"], num_buckets: int, max_distance: int
) -> Int[Tensor, "*shape"]:
    distance = (-relative).clamp(min=0)
    exact = num_buckets // 2
    growth = (distance.clamp(min=1) / exact).log() / math.log(max_distance / exact)
    far = exact + (growth * (num_buckets - exact)).long()
    return torch.where(distance < exact, distance, far.clamp(max=num_buckets - 1))


def _after_the_query(relative: Tensor, num_buckets: int, max_distance: int) -> Tensor:
    return t5_bucket(-relative, num_buckets, max_distance)


def _either_side(relative: Tensor, num_buckets: int, max_distance: int) -> Tensor:
    return t5_bucket(-relative.abs(), num_buckets, max_distance)


def _one_each(relative: Tensor, num_buckets: int, max_distance: int) -> Tensor:
    return (-relative).clamp(min=0, max=num_buckets - 1)


def _even_steps(relative: Tensor, num_buckets: int, max_distance: int) -> Tensor:
    distance = (-relative).clamp(min=0)
    exact = num_buckets // 2
    growth = (distance - exact) / (max_distance - exact)
    far = exact + (growth * (num_buckets - exact)).long()
    return torch.where(distance < exact, distance, far.clamp(max=num_buckets - 1))


def _log_from_one(relative: Tensor, num_buckets: int, max_distance: int) -> Tensor:
    distance = (-relative).clamp(min=0)
    exact = num_buckets // 2
    growth = distance.clamp(min=1).log() / math.log(max_distance)
    far = exact + (growth * (num_buckets - exact)).long()
    return torch.where(distance < exact, distance, far.clamp(max=num_buckets - 1))


def _draw_relative(generator: Generator) -> list[Inputs]:
    return [
        (torch.arange(-12, 4), 6, 11),
        (torch.arange(-150, 10), 32, 128),
        (torch.arange(6)[None, :] - torch.arange(40)[:, None], 8, 20),
    ]


def _never_falls(answer, inputs: Inputs) -> bool:
    _, num_buckets, max_distance = inputs
    far_to_near = torch.arange(-2 * max_distance, 1, device=inputs[0].device)
    buckets = answer(far_to_near, num_buckets, max_distance)
    falls = bool((buckets.diff() <= 0).all())
    return falls and buckets[-1] == 0 and buckets[0] == num_buckets - 1


# ALiBi


def alibi(num_heads: int, length: int) -> Float[Tensor, "heads length length"]:
    position = torch.arange(length)
    distance = (position[:, None] - position).abs()  # (Q, K)
    slopes = 2.0 ** (-8 * torch.arange(1, num_heads + 1) / num_heads)  # (H,)
    return -slopes[:, None, None] * distance


def _pulls_far(num_heads: int, length: int) -> Tensor:
    return -alibi(num_heads, length)


def _slopes_reversed(num_heads: int, length: int) -> Tensor:
    return alibi(num_heads, length).flip(0)


def _slopes_from_one(num_heads: int, length: int) -> Tensor:
    return alibi(num_heads, length) * 2 ** (8 / num_heads)


def _halves_each_head(num_heads: int, length: int) -> Tensor:
    return alibi(8, length)[:num_heads]


def _one_slope(num_heads: int, length: int) -> Tensor:
    return alibi(num_heads, length)[-1:].expand(num_heads, -1, -1)


def _draw_heads(generator: Generator) -> list[Inputs]:
    return [(2, 3), (4, 5), (16, 7)]


def _causal_weights(answer, inputs: Inputs) -> Tensor:
    """The weights of queries and keys that say nothing, under a causal mask."""
    bias = answer(*inputs)
    future = torch.ones_like(bias[0], dtype=torch.bool).triu(diagonal=1)
    return bias.masked_fill(future, -math.inf).softmax(dim=-1)


def _near_gets_more(answer, inputs: Inputs) -> bool:
    last_row = _causal_weights(answer, inputs)[:, -1]
    return bool((last_row.diff(dim=-1) > 0).all())


# Rotation by pairs


def rotate(
    x: Float[Tensor, "length d_k"], positions: Int[Tensor, "length"], base: float
) -> Float[Tensor, "length d_k"]:
    d_k = x.shape[1]
    pair = torch.arange(d_k // 2, device=x.device)
    angles = positions[:, None] * base ** (-2 * pair / d_k)  # (L, d_k / 2)
    first, second = x[:, 0::2], x[:, 1::2]
    turned = (
        first * angles.cos() - second * angles.sin(),
        first * angles.sin() + second * angles.cos(),
    )
    return torch.stack(turned, dim=-1).flatten(1)


def _turns_back(x: Tensor, positions: Tensor, base: float) -> Tensor:
    return rotate(x, -positions, base)


def _turns_halves(x: Tensor, positions: Tensor, base: float) -> Tensor:
    d_k = x.shape[1]
    turned = rotate(to_interleaved(x, d_k, axis=-1), positions, base)
    return to_half_split(turned, d_k, axis=-1)


def _turns_alike(x: Tensor, positions: Tensor, base: float) -> Tensor:
    pairs = x.reshape(-1, 2)
    turned = rotate(pairs, positions.repeat_interleave(x.shape[1] // 2), base)
    return turned.view_as(x)


def _two_minuses(x: Tensor, positions: Tensor, base: float) -> Tensor:
    pair = torch.arange(x.shape[1] // 2, device=x.device)
    angles = positions[:, None] * base ** (-2 * pair / x.shape[1])
    first, second = x[:, 0::2], x[:, 1::2]
    turned = (
        first * angles.cos() - second * angles.sin(),
        second * angles.cos() - first * angles.sin(),
    )
    return torch.stack(turned, dim=-1).flatten(1)


def _half_the_exponent_turned(x: Tensor, positions: Tensor, base: float) -> Tensor:
    return rotate(x, positions, math.sqrt(base))


def _draw_turning(generator: Generator) -> list[Inputs]:
    def draw(d_k: int, positions: list[int], base: float) -> Inputs:
        x = torch.randn(len(positions), d_k, generator=generator)
        return x, torch.tensor(positions), base

    return [
        draw(4, [0, 1, 2], 100.0),
        draw(6, [3, 4, 5, 6], 100.0),
        draw(8, [7, 0, 40], 10000.0),
    ]


def _keeps_lengths(answer, inputs: Inputs) -> bool:
    return torch.allclose(answer(*inputs).norm(dim=1), inputs[0].norm(dim=1), atol=1e-4)


def _relative_only(answer, inputs: Inputs) -> bool:
    x, positions, base = inputs
    scores = []
    for moved in (positions, positions + 9):
        turned = answer(x, moved, base)
        scores.append(turned @ turned.T)
    return torch.allclose(*scores, atol=1e-3)


# Attention with rotary positions


def rotary_attention(
    query: Float[Tensor, "queries d_k"],
    key: Float[Tensor, "keys d_k"],
    value: Float[Tensor, "keys d_v"],
) -> Float[Tensor, "queries d_v"]:
    position = torch.arange(len(key), device=key.device)
    q = _turn(query, position[len(key) - len(query) :])
    k = _turn(key, position)
    return (q @ k.T / math.sqrt(key.shape[1])).softmax(dim=-1) @ value


def _turn(x: Tensor, positions: Tensor) -> Tensor:
    return RotaryEmbedding(x.shape[1]).to(x.device).rotate(x, positions)


def _turns_values(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    position = torch.arange(len(key), device=key.device)
    return rotary_attention(query, key, _turn(value, position))


def _turns_queries_only(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    position = torch.arange(len(key), device=key.device)
    q = _turn(query, position[len(key) - len(query) :])
    return (q @ key.T / math.sqrt(key.shape[1])).softmax(dim=-1) @ value


def _queries_from_zero(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    position = torch.arange(len(key), device=key.device)
    q, k = _turn(query, position[: len(query)]), _turn(key, position)
    return (q @ k.T / math.sqrt(key.shape[1])).softmax(dim=-1) @ value


def _adds_sinusoids(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    table = sinusoidal_table(len(key), key.shape[1]).to(key)
    q, k = query + table[len(key) - len(query) :], key + table
    return (q @ k.T / math.sqrt(key.shape[1])).softmax(dim=-1) @ value


def _draw_last_queries(generator: Generator) -> list[Inputs]:
    def draw(queries: int, keys: int, d_k: int, d_v: int) -> Inputs:
        sizes = ((queries, d_k), (keys, d_k), (keys, d_v))
        return tuple(torch.randn(size, generator=generator) for size in sizes)

    return [draw(2, 2, 2, 2), draw(3, 5, 4, 6), draw(1, 7, 8, 4)]


def _within_values(answer, inputs: Inputs) -> bool:
    value, output = inputs[2], answer(*inputs)
    low, high = value.amin(dim=0) - 1e-5, value.amax(dim=0) + 1e-5
    return bool(((output >= low) & (output <= high)).all())


# From one layout to the other


def half_split(
    W: Float[Tensor, "out d_model"], d_k: int
) -> Float[Tensor, "out d_model"]:
    heads = W.unflatten(0, (-1, d_k // 2, 2))  # (H, pair, member, d_model)
    return heads.transpose(1, 2).flatten(0, 2)  # (H, member, pair, d_model)


def _back_to_interleaved(W: Tensor, d_k: int) -> Tensor:
    return to_interleaved(W, d_k)


def _over_all_heads(W: Tensor, d_k: int) -> Tensor:
    return torch.cat([W[0::2], W[1::2]])


def _columns_instead(W: Tensor, d_k: int) -> Tensor:
    return half_split(W.T, d_k).T


def _swaps_halves(W: Tensor, d_k: int) -> Tensor:
    return W.unflatten(0, (-1, 2, d_k // 2)).flip(1).flatten(0, 2)


def _draw_weights(generator: Generator) -> list[Inputs]:
    return [
        (torch.randn(size, size, generator=generator), d_k)
        for size, d_k in ((8, 4), (12, 6), (16, 8))
    ]


def _same_scores(answer, inputs: Inputs) -> bool:
    W, d_k = inputs
    x = torch.linspace(-1, 1, 5 * W.shape[1], device=W.device).view(5, -1).sin()

    def scores(W: Tensor, layout: str) -> Tensor:
        heads = (x @ W.T).unflatten(-1, (-1, d_k)).transpose(0, 1)  # (H, L, d_k)
        q, k = RotaryEmbedding(d_k, 10.0, layout).to(W.device)(heads, heads.flip(-2))
        return q @ k.mT

    theirs = scores(W, "interleaved")
    return torch.allclose(scores(answer(W, d_k), "halves"), theirs, atol=1e-4)


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="sinusoids",
        chapter="positions",
        title="The table of sines and cosines",
        difficulty=2,
        minutes=8,
        trains="reads exponents and interleaving off a formula",
        reference=sinusoids,
        inputs=_draw_table_sizes,
        properties=(
            Property(
                "the sine and cosine of a pair, squared, add up to 1", _on_the_circle
            ),
        ),
        misconceptions=(
            Misconception(
                "halves the exponent",
                _half_the_exponent,
                "The number of the pair is divided by d_model, so the slowest hand is "
                "about 100 times as slow as the first, not 10,000. In the formula i "
                "numbers pairs, and 2i numbers columns.",
            ),
            Misconception(
                "runs to the endpoint",
                _to_the_endpoint,
                "The slowest hand is exactly 10,000 times as slow as the first. The "
                "paper's formula stops one step before; Marian and Whisper are built as "
                "yours is. How many steps are there if the last exponent is "
                "(d_model - 2) / d_model?",
            ),
            Misconception(
                "puts all sines first",
                _all_sines_first,
                "The numbers are right and stand elsewhere: all sines, then all cosines. "
                "The formula puts the two of a pair side by side, in columns 2i and "
                "2i + 1.",
            ),
            Misconception(
                "swaps sine and cosine",
                _cosine_first,
                "Each pair starts with its cosine. Look at position 0: which of the two "
                "should be 0 in column 0?",
            ),
            Misconception(
                "gives each column a hand of its own",
                _a_hand_a_column,
                "Sine and cosine next to each other have different frequencies. They are "
                "two coordinates of one hand, and only together can they be turned: "
                "columns 2i and 2i + 1 share one angle.",
            ),
        ),
        hints=(
            "There are d_model / 2 angles for each position, not d_model.",
            "angles = position[:, None] * 10000 ** (-2 * i / d_model), of shape "
            "(length, d_model / 2).",
            "Put angles.sin() in the columns 0::2 and angles.cos() in the columns 1::2.",
        ),
    ),
    Exercise(
        name="shift",
        chapter="positions",
        title="The matrix that moves k positions on",
        difficulty=3,
        minutes=15,
        trains="writes a step in position as one rotation for each frequency",
        reference=shift,
        inputs=_draw_shifts,
        properties=(
            Property("M @ PE(pos) is PE(pos + k) for every pos", _shifts_the_table),
        ),
        misconceptions=(
            Misconception(
                "shifts backwards",
                _shifts_back,
                "M @ PE(pos) gives PE(pos - k). The pair is (sine, cosine) and not "
                "(cosine, sine), so the minus sign is not where textbooks on rotations "
                "have it: write out sin(a + b) for the first row.",
            ),
            Misconception(
                "turns every pair by the same angle",
                _one_angle,
                "Each pair turns by k. That is right for the first hand; the others are "
                "slower, each by its own frequency.",
            ),
            Misconception(
                "leaves out the minus",
                _no_minus,
                "Both sines of a block are positive, so the block is no rotation. One of "
                "the addition theorems has a minus: which?",
            ),
            Misconception(
                "builds it for the other layout",
                _shift_in_halves,
                "Sine i meets cosine i at column i + d_model/2. In this table they stand "
                "side by side, so the matrix is made of 2 x 2 blocks along the diagonal.",
            ),
        ),
        hints=(
            "Do it for d_model = 2 first: which matrix takes (sin a, cos a) to "
            "(sin(a + b), cos(a + b))?",
            "Its rows are (cos b, sin b) and (-sin b, cos b).",
            "b is k times the pair's frequency; torch.block_diag puts blocks on a "
            "diagonal.",
        ),
    ),
    Exercise(
        name="four_terms",
        chapter="positions",
        title="Content and position, four terms of a score",
        difficulty=2,
        minutes=10,
        trains="multiplies out a score and says what each term compares",
        reference=four_terms,
        inputs=_draw_terms,
        properties=(Property("the four terms add up to the score of x + p", _adds_up),),
        misconceptions=(
            Misconception(
                "swaps the mixed terms",
                _mixed_swapped,
                "The second and the third term have changed places. The first word names "
                "the query: content-position is the content of the query against the "
                "position of the key.",
            ),
            Misconception(
                "leaves out the scale",
                _terms_unscaled,
                "These are bare dot products. The softmax sees them divided by something "
                "that depends on d_k.",
            ),
            Misconception(
                "scales by the width of the model",
                _terms_scaled_by_d_model,
                "The terms are divided by the root of d_model. The dot product is taken "
                "between queries and keys: how wide are these?",
            ),
            Misconception(
                "projects the keys with W_q",
                _one_matrix,
                "One matrix serves queries and keys. Then a score cannot tell who asks "
                "from who is asked; keys have their own.",
            ),
            Misconception(
                "has a row for each key",
                _row_is_key,
                "The terms are transposed: a row is a query, a column a key.",
            ),
        ),
        hints=(
            "(x + p) W_q is x W_q + p W_q; the same for the keys. Multiply out.",
            "Each term is (a @ W_q) @ (b @ W_k).T with a and b out of x and p.",
            "The order is x x, x p, p x, p p. Divide by the root of W_q.shape[1].",
        ),
    ),
    Exercise(
        name="t5_bucket",
        chapter="positions",
        title="Distances into buckets",
        difficulty=3,
        minutes=15,
        trains="tells near distances finely and far ones coarsely",
        reference=t5_bucket,
        inputs=_draw_relative,
        properties=(
            Property(
                "buckets go from 0 at the query to the last one far away and never fall",
                _never_falls,
            ),
        ),
        misconceptions=(
            Misconception(
                "turns the sign around",
                _after_the_query,
                "Keys after the query get the buckets and all keys before it share "
                "bucket 0. `relative` is the key's position minus the query's: negative "
                "for what has been read.",
            ),
            Misconception(
                "treats both sides alike",
                _either_side,
                "A key 3 places after the query gets the bucket of one 3 places before. "
                "In a decoder the mask hides it; its bucket is 0.",
            ),
            Misconception(
                "gives each distance a bucket",
                _one_each,
                "All distances from num_buckets - 1 on share the last bucket, long before "
                "max_distance. Half of the buckets are for single distances; the rest "
                "get wider.",
            ),
            Misconception(
                "makes the far buckets equally wide",
                _even_steps,
                "The far buckets grow in even steps. What matters at a distance of 100 "
                "is the ratio: let equal ratios take equal numbers of buckets.",
            ),
            Misconception(
                "starts the logarithm at 1",
                _log_from_one,
                "The logarithm starts at distance 1, so the buckets after the single "
                "ones are skipped. It should be 0 at the first distance that has no "
                "bucket of its own.",
            ),
        ),
        hints=(
            "distance = (-relative).clamp(min=0); the first num_buckets // 2 distances "
            "keep their number.",
            "From exact = num_buckets // 2 on: log(distance / exact) / "
            "log(max_distance / exact) goes from 0 to 1.",
            "Times (num_buckets - exact), cut to an integer, plus exact, at most "
            "num_buckets - 1.",
        ),
    ),
    Exercise(
        name="alibi",
        chapter="positions",
        title="Attention with linear biases",
        difficulty=2,
        minutes=8,
        trains="penalizes distance by a slope that differs from head to head",
        reference=alibi,
        inputs=_draw_heads,
        run=_causal_weights,
        properties=(
            Property("the nearer key gets the larger weight", _near_gets_more),
        ),
        misconceptions=(
            Misconception(
                "favors what is far",
                _pulls_far,
                "The bias grows with distance, so the first token gets most. The bias is "
                "a penalty: which sign has it?",
            ),
            Misconception(
                "reverses the slopes",
                _slopes_reversed,
                "The first head has the smallest slope. Its exponent is the smallest, so "
                "its slope is the largest.",
            ),
            Misconception(
                "starts the slopes at 1",
                _slopes_from_one,
                "The first head has slope 1. The exponents start one step later: at 8/n "
                "for n heads, and end at 8.",
            ),
            Misconception(
                "halves from head to head whatever their number",
                _halves_each_head,
                "The slopes are 1/2, 1/4, 1/8 and so on. That is right for 8 heads; for "
                "other numbers the range is the same and the steps differ.",
            ),
            Misconception(
                "has one slope for all heads",
                _one_slope,
                "All heads have the same slope. Some heads should look near and some far.",
            ),
        ),
        hints=(
            "The distance of query i and key j is |i - j|, of shape (length, length).",
            "The slopes are 2 ** (-8 * h / num_heads) for h = 1 ... num_heads.",
            "-slopes[:, None, None] * distance has shape (num_heads, length, length).",
        ),
    ),
    Exercise(
        name="rotate",
        chapter="positions",
        title="Turn neighbors in pairs",
        difficulty=3,
        minutes=15,
        trains="turns pairs so that lengths stay and only distances count",
        reference=rotate,
        inputs=_draw_turning,
        properties=(
            Property("a vector keeps its length", _keeps_lengths),
            Property(
                "products stay when all positions move by the same number",
                _relative_only,
            ),
        ),
        misconceptions=(
            Misconception(
                "turns the other way",
                _turns_back,
                "Every pair turns by minus its angle. If queries and keys both do, the "
                "scores of your own model are right, and those of every checkpoint are "
                "wrong: the first number is x1 cos - x2 sin.",
            ),
            Misconception(
                "pairs number i with i + d_k/2",
                _turns_halves,
                "This is the other layout, that of LLaMA in Hugging Face's format. Here "
                "neighbors 2i and 2i + 1 make a pair.",
            ),
            Misconception(
                "turns all pairs alike",
                _turns_alike,
                "Every pair turns by the position itself, as the first should. Pair i is "
                "slower by base^(2i/d_k).",
            ),
            Misconception(
                "has two minus signs",
                _two_minuses,
                "Both numbers of a pair lose something, so lengths change. A rotation "
                "has one minus and one plus.",
            ),
            Misconception(
                "halves the exponent",
                _half_the_exponent_turned,
                "The slow pairs turn too fast: the exponent is i / d_k where it should "
                "be 2i / d_k, with i the number of the pair.",
            ),
        ),
        hints=(
            "first, second = x[:, 0::2], x[:, 1::2] are the two members of each pair.",
            "angles = positions[:, None] * base ** (-2 * i / d_k), i = 0 ... d_k/2 - 1.",
            "torch.stack([new_first, new_second], dim=-1).flatten(1) puts them back side "
            "by side.",
        ),
    ),
    Exercise(
        name="rotary_attention",
        chapter="positions",
        title="Attention whose scores know distances",
        difficulty=3,
        minutes=15,
        trains="knows what to turn in attention, and what to leave",
        reference=rotary_attention,
        inputs=_draw_last_queries,
        properties=(Property("outputs lie between the values", _within_values),),
        misconceptions=(
            Misconception(
                "turns the values too",
                _turns_values,
                "The values turn with their positions, so what a key hands over depends "
                "on where it stands in the text, not on how far it is. Only what goes "
                "into the score is turned.",
            ),
            Misconception(
                "turns the queries only",
                _turns_queries_only,
                "Keys stay as they are. Then the score depends on the query's position "
                "alone; the difference comes from turning both.",
            ),
            Misconception(
                "starts the queries at position 0",
                _queries_from_zero,
                "The queries are counted from 0. They are the *last* positions of the "
                "keys, as with a cache: the last query stands where the last key does.",
            ),
            Misconception(
                "adds sines instead of turning",
                _adds_sinusoids,
                "The table of sinusoids is added to queries and keys. That puts content "
                "and position into one sum; here the position is an angle.",
            ),
        ),
        hints=(
            "companion.RotaryEmbedding(d_k).rotate(x, positions) turns x.",
            "Keys stand at 0 ... K - 1, queries at K - Q ... K - 1.",
            "Turn query and key, then softmax(q @ k.T / sqrt(d_k)) @ value.",
        ),
    ),
    Exercise(
        name="half_split",
        chapter="positions",
        title="A checkpoint in the other layout",
        difficulty=4,
        minutes=20,
        trains="reorders weights so that another layout gives the same scores",
        reference=half_split,
        inputs=_draw_weights,
        properties=(
            Property(
                "scores of the new weights in halves are those of the old ones "
                "interleaved",
                _same_scores,
            ),
        ),
        misconceptions=(
            Misconception(
                "goes the other way",
                _back_to_interleaved,
                "This takes weights in halves to interleaved ones. For d_k = 4 the two "
                "are the same, which is why it is so often missed; look at d_k = 6.",
            ),
            Misconception(
                "mixes the heads",
                _over_all_heads,
                "All even rows of the matrix come first, over all heads. Each head is d_k "
                "rows, and must keep its own.",
            ),
            Misconception(
                "reorders the columns",
                _columns_instead,
                "The columns of W are the features that come in; they have nothing to do "
                "with pairs. The numbers of a query are made by the rows.",
            ),
            Misconception(
                "swaps the two halves",
                _swaps_halves,
                "Each head's second half comes first. The pairs are still neighbors: row "
                "0 has to meet what was its neighbor at distance d_k/2.",
            ),
        ),
        hints=(
            "W.unflatten(0, (heads, d_k)): one head at a time.",
            "Within a head, rows 0 1 2 3 4 5 become 0 2 4 1 3 5.",
            "unflatten(0, (-1, d_k // 2, 2)) has axes head, pair, member. Which two "
            "change places?",
        ),
    ),
)
