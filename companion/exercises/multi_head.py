"""Exercises of the chapter on multi-head attention."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from companion.exercises.exercise import Exercise, Inputs, Misconception, Property

# Splitting and merging heads


def split_heads(
    x: Float[Tensor, "batch length d_model"], num_heads: int
) -> Float[Tensor, "batch heads length d_k"]:
    batch, length, d_model = x.shape
    x = x.view(batch, length, num_heads, d_model // num_heads)  # (B, L, H, d_k)
    return x.transpose(1, 2)  # (B, H, L, d_k)


def _view_without_transpose(x: Tensor, num_heads: int) -> Tensor:
    batch, length, d_model = x.shape
    return x.reshape(batch, num_heads, length, d_model // num_heads)


def _heads_left_behind(x: Tensor, num_heads: int) -> Tensor:
    return x.unflatten(-1, (num_heads, -1))


def _every_nth_feature(x: Tensor, num_heads: int) -> Tensor:
    return x.unflatten(-1, (-1, num_heads)).permute(0, 3, 1, 2)


def _draw_split(generator: Generator) -> list[Inputs]:
    return [
        (torch.randn(size, generator=generator), heads)
        for size, heads in (((1, 3, 4), 2), ((2, 5, 12), 4), ((3, 2, 6), 3))
    ]


def _one_token_moves_one_row(answer, inputs: Inputs) -> bool:
    x, heads = inputs
    moved = x.clone()
    moved[:, -1] += 1.0
    same = answer(x, heads)[:, :, :-1] == answer(moved, heads)[:, :, :-1]
    return bool(same.all())


def merge_heads(
    heads: Float[Tensor, "batch heads length d_k"],
) -> Float[Tensor, "batch length d_model"]:
    batch, num_heads, length, d_k = heads.shape
    heads = heads.transpose(1, 2)  # (B, L, H, d_k)
    return heads.reshape(batch, length, num_heads * d_k)  # (B, L, H * d_k)


def _reshape_without_transpose(heads: Tensor) -> Tensor:
    batch, num_heads, length, d_k = heads.shape
    return heads.reshape(batch, length, num_heads * d_k)


def _mean_of_heads(heads: Tensor) -> Tensor:
    return heads.mean(dim=1)


def _interleaved(heads: Tensor) -> Tensor:
    return heads.permute(0, 2, 3, 1).flatten(2)


def _draw_merge(generator: Generator) -> list[Inputs]:
    return [
        (torch.randn(size, generator=generator),)
        for size in ((1, 2, 3, 2), (2, 4, 5, 3), (3, 3, 2, 4))
    ]


def _first_head_comes_first(answer, inputs: Inputs) -> bool:
    (heads,) = inputs
    return torch.equal(answer(heads)[..., : heads.shape[-1]], heads[:, 0])


# What each head adds


def head_contributions(
    heads: Float[Tensor, "batch heads length d_k"],
    weight: Float[Tensor, "d_model heads*d_k"],
) -> Float[Tensor, "batch heads length d_model"]:
    slices = weight.unflatten(1, heads.shape[1:4:2])  # (d_model, H, d_k)
    return torch.einsum("bhld,mhd->bhlm", heads, slices)


def _row_slices(heads: Tensor, weight: Tensor) -> Tensor:
    slices = weight.T.unflatten(1, heads.shape[1:4:2])  # of W_o transposed
    return torch.einsum("bhld,mhd->bhlm", heads, slices)


def _strided_slices(heads: Tensor, weight: Tensor) -> Tensor:
    slices = weight.unflatten(1, (heads.shape[3], heads.shape[1]))
    return torch.einsum("bhld,mdh->bhlm", heads, slices)


def _already_summed(heads: Tensor, weight: Tensor) -> Tensor:
    return head_contributions(heads, weight).sum(dim=1)


def _shared_out(heads: Tensor, weight: Tensor) -> Tensor:
    return head_contributions(heads, weight) / heads.shape[1]


def _draw_contributions(generator: Generator) -> list[Inputs]:
    sizes = ((1, 2, 3, 2), (2, 4, 5, 3), (1, 3, 2, 4))
    return [
        (
            torch.randn(size, generator=generator),
            torch.randn(size[1] * size[3], size[1] * size[3], generator=generator),
        )
        for size in sizes
    ]


def _sum_is_the_output(answer, inputs: Inputs) -> bool:
    heads, weight = inputs
    output = merge_heads(heads) @ weight.T
    return torch.allclose(answer(heads, weight).sum(dim=1), output, atol=1e-4)


# Grouped-query attention


def repeat_kv(
    x: Float[Tensor, "batch kv_heads length d_k"], num_heads: int
) -> Float[Tensor, "batch heads length d_k"]:
    group = num_heads // x.shape[1]
    return x.repeat_interleave(group, dim=1)


def _tiled(x: Tensor, num_heads: int) -> Tensor:
    return x.repeat(1, num_heads // x.shape[1], 1, 1)


def _repeated_along_length(x: Tensor, num_heads: int) -> Tensor:
    return x.repeat_interleave(num_heads // x.shape[1], dim=2)


def _repeated_times_heads(x: Tensor, num_heads: int) -> Tensor:
    return x.repeat_interleave(num_heads, dim=1)


def _draw_repeat(generator: Generator) -> list[Inputs]:
    sizes = (((1, 2, 3, 2), 4), ((2, 2, 4, 3), 6), ((1, 1, 2, 4), 3), ((1, 3, 2, 2), 3))
    return [(torch.randn(size, generator=generator), heads) for size, heads in sizes]


def _neighbors_share(answer, inputs: Inputs) -> bool:
    x, num_heads = inputs
    group = num_heads // x.shape[1]
    return torch.equal(answer(x, num_heads)[:, group - 1], x[:, 0])


def pool_kv(
    weight: Float[Tensor, "heads*d_k d_model"], num_heads: int, num_kv_heads: int
) -> Float[Tensor, "kv_heads*d_k d_model"]:
    d_k = weight.shape[0] // num_heads
    groups = weight.unflatten(0, (num_kv_heads, num_heads // num_kv_heads, d_k))
    return groups.mean(dim=1).flatten(0, 1)  # (H_kv, group, d_k, D) -> (H_kv * d_k, D)


def _pool_strangers(weight: Tensor, num_heads: int, num_kv_heads: int) -> Tensor:
    d_k = weight.shape[0] // num_heads
    groups = weight.unflatten(0, (num_heads // num_kv_heads, num_kv_heads, d_k))
    return groups.mean(dim=0).flatten(0, 1)


def _pool_rows(weight: Tensor, num_heads: int, num_kv_heads: int) -> Tensor:
    return weight.unflatten(0, (-1, num_heads // num_kv_heads)).mean(dim=1)


def _pool_by_sum(weight: Tensor, num_heads: int, num_kv_heads: int) -> Tensor:
    return pool_kv(weight, num_heads, num_kv_heads) * (num_heads // num_kv_heads)


def _keep_first(weight: Tensor, num_heads: int, num_kv_heads: int) -> Tensor:
    d_k = weight.shape[0] // num_heads
    groups = weight.unflatten(0, (num_kv_heads, num_heads // num_kv_heads, d_k))
    return groups[:, 0].flatten(0, 1)


def _draw_pool(generator: Generator) -> list[Inputs]:
    return [
        (torch.randn(heads * d_k, d_model, generator=generator), heads, kv_heads)
        for heads, kv_heads, d_k, d_model in ((4, 2, 2, 3), (6, 3, 4, 5), (6, 2, 3, 4))
    ]


def _pooling_equals(answer, inputs: Inputs) -> bool:
    weight, num_heads, num_kv_heads = inputs
    d_k = weight.shape[0] // num_heads
    one = weight[:d_k]
    return torch.allclose(
        answer(one.repeat(num_heads, 1), num_heads, num_kv_heads),
        one.repeat(num_kv_heads, 1),
        atol=1e-5,
    )


# What a cache costs


def cache_bytes(
    tokens: int,
    num_layers: int,
    num_heads: int,
    num_kv_heads: int,
    d_k: int,
    bytes_per_number: int,
) -> int:
    per_layer = 2 * num_kv_heads * d_k  # a key and a value
    return tokens * num_layers * per_layer * bytes_per_number


def _keys_only(*sizes: int) -> int:
    return cache_bytes(*sizes) // 2


def _for_all_query_heads(tokens, layers, heads, kv_heads, d_k, number) -> int:
    return cache_bytes(tokens, layers, heads, heads, d_k, number)


def _one_layer(tokens, layers, heads, kv_heads, d_k, number) -> int:
    return cache_bytes(tokens, 1, heads, kv_heads, d_k, number)


def _numbers_not_bytes(tokens, layers, heads, kv_heads, d_k, number) -> int:
    return cache_bytes(tokens, layers, heads, kv_heads, d_k, 1)


def _attention_maps(tokens, layers, heads, kv_heads, d_k, number) -> int:
    return layers * heads * tokens**2 * number


def _draw_cache(generator: Generator) -> list[Inputs]:
    return [(1, 2, 4, 2, 8, 2), (10, 3, 8, 2, 16, 4), (100, 32, 32, 8, 128, 2)]


def _grows_evenly(answer, inputs: Inputs) -> bool:
    tokens, *rest = inputs
    return answer(2 * tokens, *rest) == 2 * answer(tokens, *rest)


# Scoring a head


def head_accuracy(
    weights: Float[Tensor, "words words"], pairs: list[tuple[int, int]]
) -> float:
    hits = [int(weights[query].argmax()) == key for query, key in pairs]
    return sum(hits) / len(hits)


def _by_column(weights: Tensor, pairs: list[tuple[int, int]]) -> float:
    return head_accuracy(weights.T, pairs)


def _by_majority(weights: Tensor, pairs: list[tuple[int, int]]) -> float:
    return sum(bool(weights[query, key] > 0.5) for query, key in pairs) / len(pairs)


def _mean_weight(weights: Tensor, pairs: list[tuple[int, int]]) -> float:
    return sum(float(weights[query, key]) for query, key in pairs) / len(pairs)


def _hits_not_share(weights: Tensor, pairs: list[tuple[int, int]]) -> float:
    return head_accuracy(weights, pairs) * len(pairs)


def _draw_accuracy(generator: Generator) -> list[Inputs]:
    drawn = []
    for words, number in ((4, 3), (6, 4), (9, 7)):
        weights = torch.randn(words, words, generator=generator).softmax(dim=-1)
        pairs = [(q, int(weights[q].argmax())) for q in range(number)]
        pairs[0] = (0, int(weights[0].argmin()))  # one pair that the head gets wrong
        drawn.append((weights, pairs))
    return drawn


def _only_order_counts(answer, inputs: Inputs) -> bool:
    weights, pairs = inputs
    return answer(weights, pairs) == answer(weights.sqrt(), pairs)


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="split_heads",
        chapter="multi-head",
        title="Split a tensor into heads",
        difficulty=1,
        minutes=5,
        trains="knows when a view needs a transpose after it",
        reference=split_heads,
        inputs=_draw_split,
        properties=(
            Property(
                "changing the last token changes only the last position of each head",
                _one_token_moves_one_row,
            ),
        ),
        misconceptions=(
            Misconception(
                "views where it should transpose",
                _view_without_transpose,
                "The shape is right and the content is not: a head's row holds pieces of "
                "several tokens. A view never moves a number; it only cuts the same line "
                "of numbers differently. In which order do the axes lie in x?",
            ),
            Misconception(
                "leaves the heads behind the tokens",
                _heads_left_behind,
                "Each token is cut into heads, but the axes are (batch, length, heads, "
                "d_k). Attention treats the last two axes as length and width, so the heads "
                "must come before the length.",
            ),
            Misconception(
                "deals features out like cards",
                _every_nth_feature,
                "Head i gets features i, i + h, i + 2h, ... It should get a block of d_k "
                "neighbors: the order in which the last axis is cut decides that.",
            ),
        ),
        hints=(
            "Two steps: cut the last axis in two, then move an axis.",
            "The last axis becomes (num_heads, d_k), in this order.",
            "x.view(batch, length, num_heads, d_k), then swap axes 1 and 2.",
        ),
    ),
    Exercise(
        name="merge_heads",
        chapter="multi-head",
        title="Concatenate the heads again",
        difficulty=1,
        minutes=5,
        trains="undoes a change of axes step by step",
        reference=merge_heads,
        inputs=_draw_merge,
        properties=(
            Property(
                "the first d_k features of each token are those of the first head",
                _first_head_comes_first,
            ),
        ),
        misconceptions=(
            Misconception(
                "reshapes without turning back",
                _reshape_without_transpose,
                "The shape is right, but one token's row now holds one head's output at "
                "several positions. Put the axis of length back before the heads first.",
            ),
            Misconception(
                "averages the heads",
                _mean_of_heads,
                "The mean over heads throws away what tells them apart, and leaves width "
                "d_k. The heads go side by side.",
            ),
            Misconception(
                "interleaves the heads",
                _interleaved,
                "The features of all heads alternate. W_o expects all of head 1, then all "
                "of head 2: which of the last two axes should run slower?",
            ),
        ),
        hints=(
            "It is split_heads backward.",
            "After the transpose the tensor is not contiguous: view refuses, reshape "
            "copies.",
            "Swap axes 1 and 2, then flatten the last two.",
        ),
    ),
    Exercise(
        name="head_contributions",
        chapter="multi-head",
        title="What each head adds to the output",
        difficulty=3,
        minutes=15,
        trains="reads a projection of joined heads as a sum over them",
        reference=head_contributions,
        inputs=_draw_contributions,
        properties=(
            Property("summed over heads it is Concat(heads) W_o", _sum_is_the_output),
        ),
        misconceptions=(
            Misconception(
                "slices the wrong axis",
                _row_slices,
                "nn.Linear stores its weight as (out, in) and computes x @ weight.T. The "
                "heads lie along the input, so along which axis of weight?",
            ),
            Misconception(
                "takes every h-th column",
                _strided_slices,
                "Head i owns a block of d_k neighboring columns, as the concatenation lays "
                "the heads side by side, and not every h-th column.",
            ),
            Misconception(
                "sums the heads already",
                _already_summed,
                "The sum over heads is the layer's output. Asked is what goes into it: "
                "keep the axis of heads.",
            ),
            Misconception(
                "averages the heads",
                _shared_out,
                "Each contribution is divided by the number of heads. The output is a sum "
                "over heads, not a mean.",
            ),
        ),
        hints=(
            "A matrix product over a long axis is a sum of products over pieces of it.",
            "weight.unflatten(1, (num_heads, d_k)) gives each head its own columns.",
            'torch.einsum("bhld,mhd->bhlm", heads, slices)',
        ),
        tolerance=1e-4,
    ),
    Exercise(
        name="repeat_kv",
        chapter="multi-head",
        title="Share key-value heads among query heads",
        difficulty=2,
        minutes=8,
        trains="lays copies so that each group meets its own head",
        reference=repeat_kv,
        inputs=_draw_repeat,
        properties=(
            Property(
                "the whole first group of query heads sees the first key-value head",
                _neighbors_share,
            ),
        ),
        misconceptions=(
            Misconception(
                "lays copies end to end",
                _tiled,
                "The order is 1 2 1 2, but a group is made of neighbors: 1 1 2 2. The "
                "model still runs and still trains; only a checkpoint of somebody else's "
                "comes out wrong.",
            ),
            Misconception(
                "repeats the tokens",
                _repeated_along_length,
                "The sequence grew longer and the heads are as few as before. Which axis "
                "holds the heads?",
            ),
            Misconception(
                "repeats num_heads times",
                _repeated_times_heads,
                "Each key-value head serves a group, and the groups together make "
                "num_heads: how many heads are in one group?",
            ),
        ),
        hints=(
            "How many query heads share one key-value head?",
            "repeat lays copies end to end, repeat_interleave lays them side by side.",
            "x.repeat_interleave(num_heads // num_kv_heads, dim=1)",
        ),
    ),
    Exercise(
        name="cache_bytes",
        chapter="multi-head",
        title="Size of a key-value cache",
        difficulty=2,
        minutes=8,
        trains="says beforehand how much memory a cache will take",
        reference=cache_bytes,
        inputs=_draw_cache,
        properties=(Property("twice the tokens take twice the bytes", _grows_evenly),),
        misconceptions=(
            Misconception(
                "stores the keys only",
                _keys_only,
                "It is half of what is needed. Later tokens need the keys, and what else?",
            ),
            Misconception(
                "counts query heads",
                _for_all_query_heads,
                "Queries are used once and never stored. Which heads are?",
            ),
            Misconception(
                "counts one layer",
                _one_layer,
                "Each layer has its own keys and values.",
            ),
            Misconception(
                "counts numbers, not bytes",
                _numbers_not_bytes,
                "That is how many numbers are stored. How many bytes has one?",
            ),
            Misconception(
                "stores the attention maps",
                _attention_maps,
                "The maps grow with the square of the tokens and are never read again. "
                "What a new token needs of the old ones are their keys and values.",
            ),
        ),
        hints=(
            "What does a new token need from each old one, in each layer?",
            "A key and a value of width d_k for every key-value head.",
            "tokens * num_layers * 2 * num_kv_heads * d_k * bytes_per_number",
        ),
    ),
    Exercise(
        name="pool_kv",
        chapter="multi-head",
        title="Turn a multi-head checkpoint into a grouped-query one",
        difficulty=3,
        minutes=15,
        trains="finds the rows of one head in a matrix of all",
        reference=pool_kv,
        inputs=_draw_pool,
        properties=(
            Property("heads that are all equal stay what they are", _pooling_equals),
        ),
        misconceptions=(
            Misconception(
                "pools strangers",
                _pool_strangers,
                "It averages heads that lie far apart, but a key-value head serves "
                "neighboring query heads: pool the ones that will share it.",
            ),
            Misconception(
                "pools rows inside a head",
                _pool_rows,
                "It averages neighboring rows, which are different features of the same "
                "head. Rows that stand for the same feature of different heads are d_k "
                "apart.",
            ),
            Misconception(
                "sums instead of averaging",
                _pool_by_sum,
                "The scores grow with the size of the group, and the softmax sharpens. Ask "
                "what should happen when all heads of a group are equal.",
            ),
            Misconception(
                "keeps the first head of a group",
                _keep_first,
                "It throws the other heads away. Ainslie et al. (2023) compare this with "
                "the mean, and the mean loses less.",
            ),
        ),
        hints=(
            "Cut the rows in three: group, member of the group, feature.",
            "weight.unflatten(0, (num_kv_heads, num_heads // num_kv_heads, d_k))",
            "Average over the members, then put groups and features together again.",
        ),
    ),
    Exercise(
        name="head_accuracy",
        chapter="multi-head",
        title="Score a head on a relation",
        difficulty=2,
        minutes=10,
        trains="scores a head by where its largest weight falls",
        reference=head_accuracy,
        inputs=_draw_accuracy,
        properties=(
            Property(
                "only the order of weights in a row counts, not their size",
                _only_order_counts,
            ),
        ),
        misconceptions=(
            Misconception(
                "reads columns",
                _by_column,
                "It asks which word attends most to the query. A row of the map is a "
                "query: which index of weights comes first?",
            ),
            Misconception(
                "wants more than half of the weight",
                _by_majority,
                "A word can be the most attended one with far less than half of the "
                "weight: compare it with the other words of the row.",
            ),
            Misconception(
                "averages the weights",
                _mean_weight,
                "That is the mean weight on the right word. Asked is how often the right "
                "word comes first.",
            ),
            Misconception(
                "counts instead of dividing",
                _hits_not_share,
                "That is the number of hits. Divide by the number of pairs.",
            ),
        ),
        hints=(
            "For one pair: which word does the query attend to most?",
            "weights[query].argmax()",
            "The share of pairs for which that is the key.",
        ),
    ),
)
