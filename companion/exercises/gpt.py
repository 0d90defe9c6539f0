"""Exercises of the section on GPT."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from companion.exercises.exercise import Exercise, Inputs, Misconception, Property

# The fused and turned matrix of a GPT-2 checkpoint


def split_conv1d(
    weight: Float[Tensor, "d_model three_d_model"],
) -> tuple[Tensor, Tensor, Tensor]:
    return weight.T.chunk(3, dim=0)


def _not_turned(weight: Tensor) -> tuple[Tensor, ...]:
    return weight.chunk(3, dim=1)


def _turned_by_view(weight: Tensor) -> tuple[Tensor, ...]:
    return weight.reshape(weight.shape[1], weight.shape[0]).chunk(3, dim=0)


def _every_third_row(weight: Tensor) -> tuple[Tensor, ...]:
    return weight.T[0::3], weight.T[1::3], weight.T[2::3]


def _keys_first(weight: Tensor) -> tuple[Tensor, ...]:
    query, key, value = split_conv1d(weight)
    return key, query, value


def _draw_conv1d(generator: Generator) -> list[Inputs]:
    return [(torch.randn(d, 3 * d, generator=generator),) for d in (2, 4, 5)]


def _same_product(answer, inputs: Inputs) -> bool:
    (weight,) = inputs
    x = torch.linspace(-1, 1, len(weight))
    parts = [x @ part.T for part in answer(weight)]  # what nn.Linear computes
    return torch.allclose(torch.cat(parts), x @ weight, atol=1e-5)


# How many parameters


def gpt_parameters(
    vocab_size: int, d_model: int, num_layers: int, max_seq_len: int
) -> int:
    attention = 4 * (d_model**2 + d_model)
    feed_forward = 8 * d_model**2 + 5 * d_model
    norms = 2 * 2 * d_model
    embeddings = (vocab_size + max_seq_len) * d_model
    return embeddings + num_layers * (attention + feed_forward + norms) + 2 * d_model


def _head_counted_again(
    vocab_size: int, d_model: int, num_layers: int, max_seq_len: int
) -> int:
    rest = gpt_parameters(vocab_size, d_model, num_layers, max_seq_len)
    return rest + vocab_size * d_model


def _positions_are_free(
    vocab_size: int, d_model: int, num_layers: int, max_seq_len: int
) -> int:
    return gpt_parameters(vocab_size, d_model, num_layers, 0)


def _no_biases(vocab_size: int, d_model: int, num_layers: int, max_seq_len: int) -> int:
    biases = num_layers * 9 * d_model
    return gpt_parameters(vocab_size, d_model, num_layers, max_seq_len) - biases


def _no_norms(vocab_size: int, d_model: int, num_layers: int, max_seq_len: int) -> int:
    norms = (4 * num_layers + 2) * d_model
    return gpt_parameters(vocab_size, d_model, num_layers, max_seq_len) - norms


def _no_last_norm(
    vocab_size: int, d_model: int, num_layers: int, max_seq_len: int
) -> int:
    return gpt_parameters(vocab_size, d_model, num_layers, max_seq_len) - 2 * d_model


def _draw_sizes(generator: Generator) -> list[Inputs]:
    return [(10, 4, 1, 8), (50257, 768, 12, 1024), (84, 128, 3, 128)]


def _one_row_a_token(answer, inputs: Inputs) -> bool:
    vocab_size, d_model, layers, length = inputs
    more = answer(vocab_size + 1, d_model, layers, length)
    return more - answer(vocab_size, d_model, layers, length) == d_model


# Bits per character


def bits_per_character(
    losses: Float[Tensor, "batch length"], counted: Bool[Tensor, "batch length"]
) -> Float[Tensor, ""]:
    return losses[counted].mean() / math.log(2)


def _nats(losses: Tensor, counted: Tensor) -> Tensor:
    return losses[counted].mean()


def _times_the_logarithm(losses: Tensor, counted: Tensor) -> Tensor:
    return losses[counted].mean() * math.log(2)


def _mean_of_rows(losses: Tensor, counted: Tensor) -> Tensor:
    rows = (losses * counted).sum(dim=1) / counted.sum(dim=1)
    return rows.mean() / math.log(2)


def _zeros_in_the_mean(losses: Tensor, counted: Tensor) -> Tensor:
    return (losses * counted).mean() / math.log(2)


def _logarithm_of_the_mean(losses: Tensor, counted: Tensor) -> Tensor:
    return -losses[counted].neg().exp().mean().log2()


def _draw_losses(generator: Generator) -> list[Inputs]:
    drawn = []
    for lengths in ((2, 4), (5, 1, 3), (1, 6, 2)):
        losses = 4 * torch.rand(len(lengths), max(lengths), generator=generator) + 0.1
        counted = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        drawn.append((losses, counted))
    return drawn


def _one_bit_for_a_coin(answer, inputs: Inputs) -> bool:
    losses, counted = inputs
    coin = torch.full_like(losses, math.log(2))
    return bool(torch.isclose(answer(coin, counted), torch.tensor(1.0)))


# Smoothing


def discounted(
    counts: Float[Tensor, " vocab"], shorter: Float[Tensor, " vocab"], discount: float
) -> Float[Tensor, " vocab"]:
    freed = discount * (counts > 0).sum()
    return ((counts - discount).clamp(min=0) + freed * shorter) / counts.sum()


def _one_discount_freed(counts: Tensor, shorter: Tensor, discount: float) -> Tensor:
    return ((counts - discount).clamp(min=0) + discount * shorter) / counts.sum()


def _not_clamped(counts: Tensor, shorter: Tensor, discount: float) -> Tensor:
    freed = discount * (counts > 0).sum()
    return (counts - discount + freed * shorter) / counts.sum()


def _nothing_freed(counts: Tensor, shorter: Tensor, discount: float) -> Tensor:
    return (counts - discount).clamp(min=0) / counts.sum()


def _only_for_the_unseen(counts: Tensor, shorter: Tensor, discount: float) -> Tensor:
    freed = discount * (counts > 0).sum()
    unseen = shorter * (counts == 0)
    return ((counts - discount).clamp(min=0) + freed * unseen) / counts.sum()


def _a_plain_mixture(counts: Tensor, shorter: Tensor, discount: float) -> Tensor:
    return (1 - discount) * counts / counts.sum() + discount * shorter


def _draw_counts(generator: Generator) -> list[Inputs]:
    drawn = []
    for counts, discount in (
        ([3, 0, 1], 0.5),
        ([0, 7, 2, 0, 1], 0.75),
        ([4, 4, 1, 0, 0, 9], 0.6),
    ):
        shorter = torch.rand(len(counts), generator=generator) + 0.1
        drawn.append((torch.tensor(counts).float(), shorter / shorter.sum(), discount))
    return drawn


def _sums_to_one(answer, inputs: Inputs) -> bool:
    p = answer(*inputs)
    return bool((p > 0).all()) and abs(float(p.sum()) - 1) < 1e-5


# Writing past the window


def write_on(
    weights: Float[Tensor, "window vocab vocab"],
    prompt: Int[Tensor, " length"],
    number: int,
) -> Int[Tensor, " longer"]:
    window, ids = len(weights), prompt.tolist()
    for _ in range(number):
        shown = ids[-window:]
        logits = sum(weights[place, token] for place, token in enumerate(shown))
        ids.append(int(logits.argmax()))
    return torch.tensor(ids)


def _shows_the_beginning(weights: Tensor, prompt: Tensor, number: int) -> Tensor:
    ids = prompt.tolist()
    for _ in range(number):
        shown = ids[: len(weights)]
        logits = sum(weights[place, token] for place, token in enumerate(shown))
        ids.append(int(logits.argmax()))
    return torch.tensor(ids)


def _forgets_what_it_wrote(weights: Tensor, prompt: Tensor, number: int) -> Tensor:
    return write_on(weights, prompt, number)[-len(weights) :]


def _stops_at_the_window(weights: Tensor, prompt: Tensor, number: int) -> Tensor:
    number = max(0, min(number, len(weights) - len(prompt)))
    return write_on(weights, prompt, number)


def _only_the_new(weights: Tensor, prompt: Tensor, number: int) -> Tensor:
    return write_on(weights, prompt, number)[len(prompt) :]


def _restarts_when_full(weights: Tensor, prompt: Tensor, number: int) -> Tensor:
    window, ids = len(weights), prompt.tolist()
    for _ in range(number):
        shown = ids[-((len(ids) - 1) % window + 1) :]
        logits = sum(weights[place, token] for place, token in enumerate(shown))
        ids.append(int(logits.argmax()))
    return torch.tensor(ids)


def _draw_writing(generator: Generator) -> list[Inputs]:
    drawn = []
    for window, vocab, length, number in ((3, 4, 2, 6), (4, 5, 6, 7), (5, 7, 5, 9)):
        weights = torch.randn(window, vocab, vocab, generator=generator)
        prompt = torch.randint(vocab, (length,), generator=generator)
        drawn.append((weights, prompt, number))
    return drawn


def _the_prompt_stays(answer, inputs: Inputs) -> bool:
    weights, prompt, number = inputs
    written = answer(weights, prompt, number)
    return len(written) == len(prompt) + number and torch.equal(
        written[: len(prompt)], prompt
    )


# Fill in the middle


def middle_last(
    token_ids: Int[Tensor, " length"],
    start: int,
    stop: int,
    marks: tuple[int, int, int, int],
) -> Int[Tensor, " length_plus_4"]:
    pre, suf, mid, end = (torch.tensor([mark]) for mark in marks)
    prefix, middle, suffix = token_ids.tensor_split([start, stop])
    return torch.cat([pre, prefix, suf, suffix, mid, middle, end])


def _suffix_first(token_ids: Tensor, start: int, stop: int, marks) -> Tensor:
    pre, suf, mid, end = (torch.tensor([mark]) for mark in marks)
    prefix, middle, suffix = token_ids.tensor_split([start, stop])
    return torch.cat([suf, suffix, pre, prefix, mid, middle, end])


def _middle_stays(token_ids: Tensor, start: int, stop: int, marks) -> Tensor:
    pre, suf, mid, end = (torch.tensor([mark]) for mark in marks)
    prefix, middle, suffix = token_ids.tensor_split([start, stop])
    return torch.cat([pre, prefix, mid, middle, suf, suffix, end])


def _no_end(token_ids: Tensor, start: int, stop: int, marks) -> Tensor:
    return middle_last(token_ids, start, stop, marks)[:-1]


def _stop_is_inside(token_ids: Tensor, start: int, stop: int, marks) -> Tensor:
    return middle_last(token_ids, start, stop + 1, marks)


def _suffix_still_holds_the_middle(
    token_ids: Tensor, start: int, stop: int, marks
) -> Tensor:
    pre, suf, mid, end = (torch.tensor([mark]) for mark in marks)
    return torch.cat(
        [
            pre,
            token_ids[:start],
            suf,
            token_ids[start:],
            mid,
            token_ids[start:stop],
            end,
        ]
    )


def _draw_cuts(generator: Generator) -> list[Inputs]:
    marks = (90, 91, 92, 93)
    return [
        (torch.randint(50, (length,), generator=generator), start, stop, marks)
        for length, start, stop in ((5, 1, 3), (8, 2, 6), (12, 5, 7))
    ]


def _nothing_is_lost(answer, inputs: Inputs) -> bool:
    moved = answer(*inputs)
    return sorted(moved.tolist()) == sorted([*inputs[0].tolist(), *inputs[3]])


# The loss of an answer


def answer_loss(
    logits: Float[Tensor, "length vocab"],
    token_ids: Int[Tensor, " length"],
    prompt_length: int,
) -> Float[Tensor, ""]:
    return F.cross_entropy(logits[prompt_length - 1 : -1], token_ids[prompt_length:])


def _not_shifted(logits: Tensor, token_ids: Tensor, prompt_length: int) -> Tensor:
    return F.cross_entropy(logits[prompt_length:], token_ids[prompt_length:])


def _prompt_counts(logits: Tensor, token_ids: Tensor, prompt_length: int) -> Tensor:
    return F.cross_entropy(logits[:-1], token_ids[1:])


def _first_is_missed(logits: Tensor, token_ids: Tensor, prompt_length: int) -> Tensor:
    return F.cross_entropy(logits[prompt_length:-1], token_ids[prompt_length + 1 :])


def _shifted_back(logits: Tensor, token_ids: Tensor, prompt_length: int) -> Tensor:
    return F.cross_entropy(logits[prompt_length:], token_ids[prompt_length - 1 : -1])


def _over_the_whole_length(
    logits: Tensor, token_ids: Tensor, prompt_length: int
) -> Tensor:
    answer = len(token_ids) - prompt_length
    return answer_loss(logits, token_ids, prompt_length) * answer / len(token_ids)


def _draw_answers(generator: Generator) -> list[Inputs]:
    return [
        (
            2 * torch.randn(length, vocab, generator=generator),
            torch.randint(vocab, (length,), generator=generator),
            prompt,
        )
        for length, vocab, prompt in ((5, 4, 2), (8, 6, 3), (9, 11, 6))
    ]


def _the_last_logits_do_not_count(answer, inputs: Inputs) -> bool:
    logits, token_ids, prompt_length = inputs
    other = logits.clone()
    other[-1] += torch.arange(logits.shape[1])
    other[: prompt_length - 1] += torch.arange(logits.shape[1])
    return bool(
        torch.isclose(
            answer(logits, token_ids, prompt_length),
            answer(other, token_ids, prompt_length),
        )
    )


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="split_conv1d",
        chapter="gpt",
        title="Read the fused matrix of a GPT-2 checkpoint",
        difficulty=2,
        minutes=8,
        trains="cuts a fused matrix as its checkpoint has stored it",
        reference=split_conv1d,
        inputs=_draw_conv1d,
        properties=(Property("nn.Linear with the parts computes x W", _same_product),),
        misconceptions=(
            Misconception(
                "does not turn the matrix",
                _not_turned,
                "The three blocks are the right ones, but they still map (in, out). "
                "nn.Linear computes x @ weight.T, so each block has to be turned. They "
                "are square: loading them raises no error, and the model is wrong.",
            ),
            Misconception(
                "turns by reshaping",
                _turned_by_view,
                "The shape is that of the transpose and the numbers are not: reshape "
                "keeps their order in memory. .T exchanges rows and columns.",
            ),
            Misconception(
                "deals the rows out like cards",
                _every_third_row,
                "Queries, keys and values lie side by side in three blocks, and not "
                "alternating.",
            ),
            Misconception(
                "takes the keys first",
                _keys_first,
                "The order in the checkpoint is queries, keys, values. With queries and "
                "keys exchanged, every score is that of the other direction.",
            ),
        ),
        hints=(
            "The checkpoint computes x @ weight. What does nn.Linear compute?",
            "After .T the matrix is (3 * d_model, d_model): rows are outputs.",
            "weight.T.chunk(3, dim=0)",
        ),
    ),
    Exercise(
        name="gpt_parameters",
        chapter="gpt",
        title="Count the parameters of a GPT",
        difficulty=2,
        minutes=12,
        trains="knows which matrices of a GPT are shared, and what has biases",
        reference=gpt_parameters,
        inputs=_draw_sizes,
        properties=(
            Property(
                "one more token of the vocabulary adds one row of d_model",
                _one_row_a_token,
            ),
        ),
        misconceptions=(
            Misconception(
                "counts the output projection",
                _head_counted_again,
                "The output projection is the token embedding once more: it is tied, and "
                "stored once. For GPT-2 small the difference is 39 million.",
            ),
            Misconception(
                "gives positions away",
                _positions_are_free,
                "GPT learns one vector for each position, max_seq_len in all.",
            ),
            Misconception(
                "leaves out the biases",
                _no_biases,
                "Every linear map of GPT-2 has a bias: four of width d_model in the "
                "attention, one of 4 * d_model and one of d_model after it.",
            ),
            Misconception(
                "leaves out the norms",
                _no_norms,
                "Each layer has two norms, and there is one at the end; each has a "
                "weight and a bias.",
            ),
            Misconception(
                "forgets the last norm",
                _no_last_norm,
                "A pre-norm stack has one more norm after the last layer.",
            ),
        ),
        hints=(
            "Embeddings; then, for each layer, attention, feed-forward network and two "
            "norms; then a norm.",
            "A linear map from a to b has a * b + b parameters.",
            "A layer has 12 d^2 + 13 d.",
        ),
    ),
    Exercise(
        name="bits_per_character",
        chapter="gpt",
        title="From nats to bits per character",
        difficulty=1,
        minutes=6,
        trains="averages over characters, and changes the unit of a loss",
        reference=bits_per_character,
        inputs=_draw_losses,
        properties=(
            Property("a fair coin costs one bit a character", _one_bit_for_a_coin),
        ),
        misconceptions=(
            Misconception(
                "stays with nats",
                _nats,
                "That is the mean in nats, the unit of F.cross_entropy, which takes the "
                "natural logarithm.",
            ),
            Misconception(
                "multiplies by ln 2",
                _times_the_logarithm,
                "log2 p = ln p / ln 2. A nat is more than a bit, so the number must "
                "grow.",
            ),
            Misconception(
                "averages the rows' averages",
                _mean_of_rows,
                "A row of one character counts as much as a row of a hundred. Every "
                "character should count alike.",
            ),
            Misconception(
                "averages over what does not count",
                _zeros_in_the_mean,
                "The characters that do not count enter as zeros, and the mean looks "
                "better than it is. Divide by the number that counts.",
            ),
            Misconception(
                "averages probabilities",
                _logarithm_of_the_mean,
                "It averages p and takes the logarithm then. A text's probability is a "
                "product, so it is the logarithms that are averaged.",
            ),
        ),
        hints=(
            "Which losses count, and how many are they?",
            "log2 p = ln p / ln 2",
            "losses[counted].mean() / math.log(2)",
        ),
    ),
    Exercise(
        name="discounted",
        chapter="gpt",
        title="Counts, discounted and filled up from a shorter context",
        difficulty=3,
        minutes=15,
        trains="moves probability to unseen tokens and loses none of it",
        reference=discounted,
        inputs=_draw_counts,
        properties=(Property("all are above zero, and they sum to 1", _sums_to_one),),
        misconceptions=(
            Misconception(
                "frees the discount once",
                _one_discount_freed,
                "The discount was taken from each token that was seen, so what is freed "
                "is the discount times the number of different tokens.",
            ),
            Misconception(
                "discounts below zero",
                _not_clamped,
                "A token that was never seen has nothing to give: its count stays at "
                "zero.",
            ),
            Misconception(
                "gives nothing back",
                _nothing_freed,
                "The probabilities sum to less than 1, and what was never seen still has "
                "none. Who gets what the discount frees?",
            ),
            Misconception(
                "gives to the unseen alone",
                _only_for_the_unseen,
                "That is back-off without its normalization: interpolation adds the "
                "shorter context's probability to every token, the seen ones too. Else "
                "the sum is below 1.",
            ),
            Misconception(
                "mixes by a fixed share",
                _a_plain_mixture,
                "A fixed mixture trusts a context seen once as much as one seen a "
                "thousand times. Subtracting from the counts makes the share of the "
                "shorter context shrink as the counts grow.",
            ),
        ),
        hints=(
            "What do the counts sum to before and after the discount?",
            "freed = discount * (number of tokens with a count above 0)",
            "((counts - discount).clamp(min=0) + freed * shorter) / counts.sum()",
        ),
    ),
    Exercise(
        name="write_on",
        chapter="gpt",
        title="Write past the end of the window",
        difficulty=3,
        minutes=12,
        trains="generates past the window without losing what is written",
        reference=write_on,
        inputs=_draw_writing,
        properties=(
            Property("the prompt stays, and `number` tokens follow", _the_prompt_stays),
        ),
        misconceptions=(
            Misconception(
                "shows the beginning",
                _shows_the_beginning,
                "It goes on showing the first tokens, so that once the window is full "
                "every step sees the same and writes the same. The end of the text is "
                "what the next token follows.",
            ),
            Misconception(
                "forgets what it wrote",
                _forgets_what_it_wrote,
                "It crops the text, not only what the model is shown: the beginning is "
                "gone from the result.",
            ),
            Misconception(
                "stops when the window is full",
                _stops_at_the_window,
                "The window limits what the model sees at once, and not how long the "
                "text may become.",
            ),
            Misconception(
                "returns only what is new",
                _only_the_new,
                "The prompt is missing from the result.",
            ),
            Misconception(
                "starts over when the window is full",
                _restarts_when_full,
                "Each time the window is full, it shows the next token alone. It need "
                "not forget so much: the last `window` tokens fit.",
            ),
        ),
        hints=(
            "Keep two things apart: the text, and what of it is shown.",
            "Places are counted from 0 in what is shown.",
            "shown = ids[-window:]",
        ),
    ),
    Exercise(
        name="middle_last",
        chapter="gpt",
        title="Move the middle to the end",
        difficulty=2,
        minutes=8,
        trains="rearranges a text so that a decoder learns to fill a gap",
        reference=middle_last,
        inputs=_draw_cuts,
        properties=(
            Property("every token and every mark is there, once", _nothing_is_lost),
        ),
        misconceptions=(
            Misconception(
                "puts the suffix first",
                _suffix_first,
                "That is the other order of the paper, suffix, prefix, middle (SPM). It "
                "works as well. Asked is prefix, suffix, middle.",
            ),
            Misconception(
                "leaves the middle where it was",
                _middle_stays,
                "A causal model sees only what stands before. With the suffix behind the "
                "middle it learns nothing new.",
            ),
            Misconception(
                "does not end",
                _no_end,
                "Without a mark at the end, the model never learns where the middle "
                "meets the suffix, and writes on.",
            ),
            Misconception(
                "cuts one token late",
                _stop_is_inside,
                "The middle is token_ids[start:stop]: the token at stop belongs to the "
                "suffix.",
            ),
            Misconception(
                "leaves the middle in the suffix",
                _suffix_still_holds_the_middle,
                "The suffix begins at start, so the answer stands in the question. The "
                "loss will be splendid.",
            ),
        ),
        hints=(
            "Three pieces, four marks.",
            "The suffix is token_ids[stop:].",
            "torch.cat([pre, prefix, suf, suffix, mid, middle, end])",
        ),
    ),
    Exercise(
        name="answer_loss",
        chapter="gpt",
        title="The loss of an answer, not of its prompt",
        difficulty=3,
        minutes=12,
        trains="finds the logits that foretell an answer's first token",
        reference=answer_loss,
        inputs=_draw_answers,
        properties=(
            Property(
                "the last logits, and those inside the prompt, do not matter",
                _the_last_logits_do_not_count,
            ),
        ),
        misconceptions=(
            Misconception(
                "does not shift",
                _not_shifted,
                "The logits at a place are compared with the token that stands there. "
                "They are for the next one.",
            ),
            Misconception(
                "counts the prompt",
                _prompt_counts,
                "The model is also asked for the prompt, which it will be given.",
            ),
            Misconception(
                "misses the answer's first token",
                _first_is_missed,
                "The first token of the answer is foretold by the last of the prompt: "
                "its logits stand one place before the answer.",
            ),
            Misconception(
                "shifts the wrong way",
                _shifted_back,
                "The logits are compared with the token before: the model would be asked "
                "for what it has just read.",
            ),
            Misconception(
                "divides by the whole length",
                _over_the_whole_length,
                "The sum is right, but it is divided by the length of prompt and answer. "
                "Divide by the number of tokens that count.",
            ),
        ),
        hints=(
            "At which place do the logits stand that foretell token_ids[prompt_length]?",
            "The answer has len(token_ids) - prompt_length tokens; so many logits count.",
            "logits[prompt_length - 1 : -1] against token_ids[prompt_length:]",
        ),
    ),
)
