"""Exercises of the chapter on LLaMA."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Generator, Tensor

from companion.exercises.exercise import Exercise, Inputs, Misconception, Property

# The sliding window


def window_mask(
    num_queries: int, num_keys: int, window: int
) -> Bool[Tensor, "queries keys"]:
    query = torch.arange(num_keys - num_queries, num_keys)[:, None]
    key = torch.arange(num_keys)
    return (key <= query) & (key > query - window)


def _one_too_many(num_queries: int, num_keys: int, window: int) -> Tensor:
    return window_mask(num_queries, num_keys, window + 1)


def _both_sides(num_queries: int, num_keys: int, window: int) -> Tensor:
    query = torch.arange(num_keys - num_queries, num_keys)[:, None]
    return (torch.arange(num_keys) - query).abs() < window


def _queries_first(num_queries: int, num_keys: int, window: int) -> Tensor:
    distance = torch.arange(num_queries)[:, None] - torch.arange(num_keys)
    return (distance >= 0) & (distance < window)


def _only_what_is_far(num_queries: int, num_keys: int, window: int) -> Tensor:
    return ~window_mask(num_queries, num_keys, window)


def _draw_window(generator: Generator) -> list[Inputs]:
    return [(4, 4, 2), (2, 6, 3), (5, 9, 4), (3, 3, 8)]


def _sees_at_most_window(answer: Callable, inputs: Inputs) -> bool:
    mask = answer(*inputs)
    return bool((mask.sum(dim=1) <= inputs[2]).all())


def _sees_itself(answer: Callable, inputs: Inputs) -> bool:
    num_queries, num_keys, _ = inputs
    return bool(answer(*inputs).diagonal(num_keys - num_queries).all())


# Scores of grouped heads, without copies of the keys


def grouped_scores(
    q: Float[Tensor, "batch heads queries d_k"],
    k: Float[Tensor, "batch kv_heads keys d_k"],
) -> Float[Tensor, "batch heads queries keys"]:
    groups = q.unflatten(1, (k.shape[1], -1))  # (B, H_kv, group, Q, d_k)
    scores = groups @ k[:, :, None].transpose(-2, -1)  # (B, H_kv, group, Q, K)
    return scores.flatten(1, 2) / q.shape[-1] ** 0.5


def _groups_of_strangers(q: Tensor, k: Tensor) -> Tensor:
    copies = k.repeat(1, q.shape[1] // k.shape[1], 1, 1)
    return q @ copies.transpose(-2, -1) / q.shape[-1] ** 0.5


def _first_head_for_all(q: Tensor, k: Tensor) -> Tensor:
    return q @ k[:, :1].transpose(-2, -1) / q.shape[-1] ** 0.5


def _unscaled(q: Tensor, k: Tensor) -> Tensor:
    return grouped_scores(q, k) * q.shape[-1] ** 0.5


def _queries_pooled(q: Tensor, k: Tensor) -> Tensor:
    pooled = q.unflatten(1, (k.shape[1], -1)).mean(dim=2)
    return pooled @ k.transpose(-2, -1) / q.shape[-1] ** 0.5


def _draw_grouped(generator: Generator) -> list[Inputs]:
    sizes = ((1, 4, 2, 2, 3, 4), (2, 6, 3, 1, 5, 2), (1, 4, 1, 3, 3, 8))
    return [
        (
            torch.randn(batch, heads, queries, d_k, generator=generator),
            torch.randn(batch, kv_heads, keys, d_k, generator=generator),
        )
        for batch, heads, kv_heads, queries, keys, d_k in sizes
    ]


def _a_group_hears_its_own_head(answer: Callable, inputs: Inputs) -> bool:
    q, k = inputs
    moved = k.clone()
    moved[:, 0] += 1
    group = q.shape[1] // k.shape[1]
    before, after = answer(q, k)[:, group:], answer(q, moved)[:, group:]
    return torch.equal(before, after)


# The parallel block


def parallel_block(
    x: Float[Tensor, "length d_model"],
    norm: Callable[[Tensor], Tensor],
    attention: Callable[[Tensor], Tensor],
    feed_forward: Callable[[Tensor], Tensor],
) -> Float[Tensor, "length d_model"]:
    normed = norm(x)
    return x + attention(normed) + feed_forward(normed)


def _one_after_the_other(x: Tensor, norm, attention, feed_forward) -> Tensor:
    x = x + attention(norm(x))
    return x + feed_forward(norm(x))


def _no_residual(x: Tensor, norm, attention, feed_forward) -> Tensor:
    return attention(norm(x)) + feed_forward(norm(x))


def _two_residuals(x: Tensor, norm, attention, feed_forward) -> Tensor:
    return (x + attention(norm(x))) + (x + feed_forward(norm(x)))


def _unnormed_feed_forward(x: Tensor, norm, attention, feed_forward) -> Tensor:
    return x + attention(norm(x)) + feed_forward(x)


def _residual_of_the_norm(x: Tensor, norm, attention, feed_forward) -> Tensor:
    normed = norm(x)
    return normed + attention(normed) + feed_forward(normed)


def _draw_parallel(generator: Generator) -> list[Inputs]:
    def draw(length: int, width: int) -> Inputs:
        mix = torch.randn(length, length, generator=generator).softmax(dim=1)
        inner = torch.randn(width, width, generator=generator)

        def norm(x: Tensor) -> Tensor:
            return x / (x.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt()

        return (
            3 * torch.randn(length, width, generator=generator),
            norm,
            lambda x: mix @ x,
            lambda x: (x @ inner).relu(),
        )

    return [draw(2, 2), draw(4, 3), draw(3, 8)]


def _silent_sublayers_pass_x_on(answer: Callable, inputs: Inputs) -> bool:
    x, norm, *_ = inputs
    return torch.equal(answer(x, norm, torch.zeros_like, torch.zeros_like), x)


# Counting parameters


def llama_parameters(
    vocab_size: int,
    d_model: int,
    num_heads: int,
    num_kv_heads: int,
    d_ff: int,
    num_layers: int,
    tied: bool,
) -> int:
    d_k = d_model // num_heads
    attention = 2 * d_model * d_model + 2 * d_model * num_kv_heads * d_k
    block = attention + 3 * d_model * d_ff + 2 * d_model
    embeddings = vocab_size * d_model * (1 if tied else 2)
    return embeddings + num_layers * block + d_model


def _two_matrices(V, d, h, kv, f, n, tied) -> int:
    return llama_parameters(V, d, h, kv, f, n, tied) - n * d * f


def _full_keys(V, d, h, kv, f, n, tied) -> int:
    return llama_parameters(V, d, h, h, f, n, tied)


def _always_tied(V, d, h, kv, f, n, tied) -> int:
    return llama_parameters(V, d, h, kv, f, n, True)


def _always_untied(V, d, h, kv, f, n, tied) -> int:
    return llama_parameters(V, d, h, kv, f, n, False)


def _layer_norms(V, d, h, kv, f, n, tied) -> int:
    return llama_parameters(V, d, h, kv, f, n, tied) + (2 * n + 1) * d


def _no_last_norm(V, d, h, kv, f, n, tied) -> int:
    return llama_parameters(V, d, h, kv, f, n, tied) - d


def _draw_sizes(generator: Generator) -> list[Inputs]:
    return [
        (10, 4, 2, 1, 6, 1, False),
        (49152, 576, 9, 3, 1536, 30, True),
        (32000, 4096, 32, 32, 11008, 32, False),
    ]


def _tying_saves_a_matrix(answer: Callable, inputs: Inputs) -> bool:
    vocab_size, d_model, *sizes, _ = inputs
    untied, tied = (answer(vocab_size, d_model, *sizes, tied) for tied in (False, True))
    return untied - tied == vocab_size * d_model


# Four bits


def unpack_q4_1(
    scale: Float[Tensor, "blocks"],
    minimum: Float[Tensor, "blocks"],
    packed: UInt8[Tensor, "blocks 16"],
) -> Float[Tensor, "blocks 32"]:
    numbers = torch.cat([packed & 15, packed >> 4], dim=1)
    return scale[:, None] * numbers + minimum[:, None]


def _neighbors_in_a_byte(scale: Tensor, minimum: Tensor, packed: Tensor) -> Tensor:
    numbers = torch.stack([packed & 15, packed >> 4], dim=2).flatten(1)
    return scale[:, None] * numbers + minimum[:, None]


def _high_bits_first(scale: Tensor, minimum: Tensor, packed: Tensor) -> Tensor:
    numbers = torch.cat([packed >> 4, packed & 15], dim=1)
    return scale[:, None] * numbers + minimum[:, None]


def _centered(scale: Tensor, minimum: Tensor, packed: Tensor) -> Tensor:
    numbers = torch.cat([packed & 15, packed >> 4], dim=1).float() - 8
    return scale[:, None] * numbers + minimum[:, None]


def _minimum_inside(scale: Tensor, minimum: Tensor, packed: Tensor) -> Tensor:
    numbers = torch.cat([packed & 15, packed >> 4], dim=1)
    return scale[:, None] * (numbers + minimum[:, None])


def _high_bits_left_in_place(scale: Tensor, minimum: Tensor, packed: Tensor) -> Tensor:
    numbers = torch.cat([packed & 15, packed & 240], dim=1)
    return scale[:, None] * numbers + minimum[:, None]


def _draw_blocks(generator: Generator) -> list[Inputs]:
    return [
        (
            torch.rand(blocks, generator=generator) * 0.1 + 0.01,
            -torch.rand(blocks, generator=generator),
            torch.randint(0, 256, (blocks, 16), generator=generator, dtype=torch.uint8),
        )
        for blocks in (1, 2, 5)
    ]


def _sixteen_levels(answer: Callable, inputs: Inputs) -> bool:
    scale, minimum, packed = inputs
    levels = (answer(scale, minimum, packed) - minimum[:, None]) / scale[:, None]
    nearest = levels.round()
    return bool(
        (levels - nearest).abs().max() < 1e-3
        and nearest.min() >= 0
        and nearest.max() <= 15
    )


# A chat as text


def chat_prompt(messages: list[dict[str, str]]) -> str:
    turns = "".join(
        f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n"
        for message in messages
    )
    return turns + "<|im_start|>assistant\n"


def _no_answer_begun(messages: list[dict[str, str]]) -> str:
    return chat_prompt(messages).removesuffix("<|im_start|>assistant\n")


def _turn_left_open(messages: list[dict[str, str]]) -> str:
    return chat_prompt(messages).replace("<|im_end|>\n", "\n")


def _roles_as_words(messages: list[dict[str, str]]) -> str:
    turns = "".join(f"{m['role']}: {m['content']}\n" for m in messages)
    return turns + "assistant: "


def _last_message_only(messages: list[dict[str, str]]) -> str:
    return chat_prompt(messages[-1:])


def _answer_closed(messages: list[dict[str, str]]) -> str:
    return chat_prompt(messages) + "<|im_end|>\n"


def _no_newlines(messages: list[dict[str, str]]) -> str:
    return chat_prompt(messages).replace("<|im_end|>\n", "<|im_end|>")


def _draw_chats(generator: Generator) -> list[Inputs]:
    system = {"role": "system", "content": "Be brief."}
    question = {"role": "user", "content": "Name a color."}
    answer = {"role": "assistant", "content": "Blue."}
    again = {"role": "user", "content": "Another one,\nplease."}
    chats = ([question], [system, question], [system, question, answer, again])
    return [(chat,) for chat in chats]


def _ends_with_the_answers_beginning(answer: Callable, inputs: Inputs) -> bool:
    return answer(*inputs).endswith("<|im_start|>assistant\n")


def _holds_every_message(answer: Callable, inputs: Inputs) -> bool:
    text = answer(*inputs)
    return all(message["content"] in text for message in inputs[0])


EXERCISES = (
    Exercise(
        name="window_mask",
        chapter="llama",
        title="A window that slides",
        difficulty=2,
        minutes=8,
        trains="counts the edges of a window right, the query included",
        reference=window_mask,
        inputs=_draw_window,
        properties=(
            Property("every query sees itself", _sees_itself),
            Property("no query sees more than window keys", _sees_at_most_window),
        ),
        misconceptions=(
            Misconception(
                "counts the window without the query itself",
                _one_too_many,
                "Each query sees one key too many. The window counts the query's own "
                "position: with window = 1 a query sees itself alone.",
            ),
            Misconception(
                "looks both ways",
                _both_sides,
                "Keys after the query are visible. A window in a language model looks "
                "back only: the distance must be at least 0 as well.",
            ),
            Misconception(
                "puts the first query at the first key",
                _queries_first,
                "With a cache there are more keys than queries, and the queries are the "
                "last of the positions: query i stands at num_keys - num_queries + i.",
            ),
            Misconception(
                "True means hidden",
                _only_what_is_far,
                "The mask is upside down. In this book True means: may attend.",
            ),
        ),
        hints=(
            "Write the position of each query as a column, that of each key as a row.",
            "Queries stand at num_keys - num_queries, ..., num_keys - 1.",
            "(key <= query) & (key > query - window)",
        ),
    ),
    Exercise(
        name="grouped_scores",
        chapter="llama",
        title="Scores of grouped heads without copying keys",
        difficulty=3,
        minutes=12,
        trains="pairs heads by axes and broadcasting, without copies",
        reference=grouped_scores,
        inputs=_draw_grouped,
        properties=(
            Property(
                "no group but the first hears the first key-value head",
                _a_group_hears_its_own_head,
            ),
        ),
        misconceptions=(
            Misconception(
                "groups every n-th head",
                _groups_of_strangers,
                "Query heads 0, 1, 2, ... meet key heads 0, 1, 0, 1: but a group is made "
                "of neighbors, 0, 0, 1, 1. Split the heads into (kv_heads, group), not "
                "into (group, kv_heads).",
            ),
            Misconception(
                "broadcasts the first key head",
                _first_head_for_all,
                "All query heads see the first key-value head. That is multi-query "
                "attention, and the other heads' keys are lost.",
            ),
            Misconception(
                "forgets the scale",
                _unscaled,
                "The scores are not divided by the root of d_k.",
            ),
            Misconception(
                "averages the queries of a group",
                _queries_pooled,
                "There are as many scores as key heads, since the queries of a group "
                "were averaged. Each query head keeps its own scores; keys are shared.",
            ),
        ),
        hints=(
            "Give the queries an axis for the key-value head and one for the place in "
            "the group.",
            "q.unflatten(1, (kv_heads, -1)) has shape (B, H_kv, group, Q, d_k).",
            "k[:, :, None] broadcasts over the group; flatten(1, 2) at the end.",
        ),
        tolerance=1e-4,
    ),
    Exercise(
        name="parallel_block",
        chapter="llama",
        title="PaLM's parallel block",
        difficulty=1,
        minutes=5,
        trains="reads off a formula what shares a norm and a residual",
        reference=parallel_block,
        inputs=_draw_parallel,
        properties=(
            Property(
                "where both sub-layers say nothing, x passes as it is",
                _silent_sublayers_pass_x_on,
            ),
        ),
        misconceptions=(
            Misconception(
                "runs the sub-layers in a row",
                _one_after_the_other,
                "The feed-forward network sees what attention has added. That is the "
                "serial block of GPT and LLaMA; here both read the same norm(x).",
            ),
            Misconception(
                "forgets the residual",
                _no_residual,
                "x itself is missing from the sum.",
            ),
            Misconception(
                "adds x twice",
                _two_residuals,
                "Each branch brings its own copy of x, and the stream doubles at every "
                "layer. There is one residual for both branches.",
            ),
            Misconception(
                "norms for attention alone",
                _unnormed_feed_forward,
                "The feed-forward network reads x. In the paper's equation both branches "
                "read norm(x), which is computed once.",
            ),
            Misconception(
                "makes the norm the residual",
                _residual_of_the_norm,
                "norm(x) was added where x should be. In pre-norm the stream itself is "
                "never normed inside a block.",
            ),
        ),
        hints=(
            "y = x + MLP(norm(x)) + Attention(norm(x)).",
            "Compute norm(x) once and hand it to both.",
            "Add three things: x itself, attention(normed), feed_forward(normed).",
        ),
        tolerance=1e-4,
        input_names=("x", "norm", "attention", "feed_forward"),
    ),
    Exercise(
        name="llama_parameters",
        chapter="llama",
        title="Count a LLaMA",
        difficulty=2,
        minutes=10,
        trains="counts a modern decoder, with grouped heads and tied tables",
        reference=llama_parameters,
        inputs=_draw_sizes,
        properties=(
            Property("tying saves vocab_size * d_model", _tying_saves_a_matrix),
        ),
        misconceptions=(
            Misconception(
                "counts two matrices in the gated network",
                _two_matrices,
                "The feed-forward network has three matrices: gate, up and down.",
            ),
            Misconception(
                "gives keys and values all heads",
                _full_keys,
                "W_k and W_v have d_k columns for each key-value head, and there may be "
                "fewer of these than query heads.",
            ),
            Misconception(
                "ties in any case",
                _always_tied,
                "The output projection is counted only if it is a matrix of its own, "
                "which it is unless tied is True.",
            ),
            Misconception(
                "never ties",
                _always_untied,
                "With tied weights the output projection is the embedding itself, which "
                "must not be counted twice.",
            ),
            Misconception(
                "gives the norms a bias",
                _layer_norms,
                "An RMS norm has d_model numbers. Twice as many would be a layer norm.",
            ),
            Misconception(
                "forgets the last norm",
                _no_last_norm,
                "d_model are missing: a pre-norm model ends with a norm of its own.",
            ),
        ),
        hints=(
            "Embedding, blocks, last norm, output. In a block: attention, network, two "
            "norms.",
            "W_q and W_o have d_model x d_model numbers, W_k and W_v d_model x "
            "(num_kv_heads * d_k).",
            "The gated network has 3 * d_model * d_ff.",
        ),
        tolerance=0.0,
        input_names=(
            "vocab_size",
            "d_model",
            "num_heads",
            "num_kv_heads",
            "d_ff",
            "num_layers",
            "tied",
        ),
    ),
    Exercise(
        name="unpack_q4_1",
        chapter="llama",
        title="Unpack weights of four bits",
        difficulty=3,
        minutes=12,
        trains="unpacks halves of bytes in the order of a file format",
        reference=unpack_q4_1,
        inputs=_draw_blocks,
        properties=(
            Property(
                "every weight is minimum + scale * n with n from 0 to 15",
                _sixteen_levels,
            ),
        ),
        misconceptions=(
            Misconception(
                "takes the two numbers of a byte for neighbors",
                _neighbors_in_a_byte,
                "The numbers come out in the order 0 16 1 17 ...: byte i holds numbers i "
                "and i + 16, so all low halves come first.",
            ),
            Misconception(
                "takes the high half first",
                _high_bits_first,
                "The two halves are swapped: numbers 0 to 15 are the low four bits.",
            ),
            Misconception(
                "centers the numbers",
                _centered,
                "8 was subtracted. That is the format Q4_0, which has no minimum; Q4_1 "
                "has one, and its numbers run from 0 to 15.",
            ),
            Misconception(
                "scales the minimum as well",
                _minimum_inside,
                "The minimum is a weight, not a number of levels: it is added after the "
                "scale.",
            ),
            Misconception(
                "leaves the high bits in place",
                _high_bits_left_in_place,
                "The high half runs from 0 to 240 in steps of 16: shift it down by four "
                "bits.",
            ),
        ),
        hints=(
            "packed & 15 keeps the low four bits, packed >> 4 the high ones.",
            "torch.cat([low, high], dim=1) has 32 numbers a block.",
            "scale[:, None] * numbers + minimum[:, None]",
        ),
        tolerance=1e-4,
    ),
    Exercise(
        name="chat_prompt",
        chapter="llama",
        title="A chat as one text",
        difficulty=1,
        minutes=6,
        trains="ends a prompt where the model's own words begin",
        reference=chat_prompt,
        inputs=_draw_chats,
        properties=(
            Property("every message is in it", _holds_every_message),
            Property(
                "it ends where the assistant is to begin",
                _ends_with_the_answers_beginning,
            ),
        ),
        misconceptions=(
            Misconception(
                "does not begin the answer",
                _no_answer_begun,
                "The text ends with the last message. The model would have to guess who "
                "speaks next, and often goes on as the user.",
            ),
            Misconception(
                "leaves turns open",
                _turn_left_open,
                "<|im_end|> is missing after the messages. The model learned to stop by "
                "writing it; if the prompt does not show it, it runs on.",
            ),
            Misconception(
                "writes roles as plain words",
                _roles_as_words,
                "The roles are marked by words and a colon. The model was trained on the "
                "control tokens <|im_start|> and <|im_end|>, which no user's text holds.",
            ),
            Misconception(
                "keeps the last message only",
                _last_message_only,
                "The earlier messages are gone. The model has no memory but its prompt: "
                "the whole chat is sent each time.",
            ),
            Misconception(
                "closes the answer before it begins",
                _answer_closed,
                "<|im_end|> stands after the assistant's line: the answer would be over.",
            ),
            Misconception(
                "leaves out the line breaks between turns",
                _no_newlines,
                "Each turn ends with <|im_end|> and a line break; without the break the "
                "tokens are not those of training.",
            ),
        ),
        hints=(
            "Each turn is <|im_start|>role, a line break, the content, <|im_end|>, a "
            "line break.",
            "After the last turn, begin the assistant's and leave it open.",
            'What stands open at the end is "<|im_start|>assistant" and a line break.',
        ),
        input_names=("messages",),
    ),
)
