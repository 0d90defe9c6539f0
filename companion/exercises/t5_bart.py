"""Exercises of the chapter on T5 and BART."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from companion.exercises.exercise import Exercise, Inputs, Misconception, Property

Tokens = list[int]

# Damaged text: spans are (first token, tokens), in the order of the text


def span_corruption(
    tokens: Tokens, spans: list[tuple[int, int]], sentinels: Tokens
) -> tuple[Tokens, Tokens]:
    source, target, end = [], [], 0
    for sentinel, (start, length) in zip(sentinels, spans, strict=False):
        source += [*tokens[end:start], sentinel]
        end = start + length
        target += [sentinel, *tokens[start:end]]
    return source + tokens[end:], [*target, sentinels[len(spans)]]


def _no_last_sentinel(tokens, spans, sentinels):
    source, target = span_corruption(tokens, spans, sentinels)
    return source, target[:-1]


def _one_sentinel_a_token(tokens, spans, sentinels):
    gone = {i for start, length in spans for i in range(start, start + length)}
    order = iter(sentinels)
    named = {i: next(order) for i in sorted(gone)}
    source = [named.get(i, token) for i, token in enumerate(tokens)]
    target = [x for i in sorted(gone) for x in (named[i], tokens[i])]
    return source, [*target, next(order)]


def _the_same_sentinel(tokens, spans, sentinels):
    return span_corruption(tokens, spans, [sentinels[0]] * len(sentinels))


def _whole_text_as_target(tokens, spans, sentinels):
    return span_corruption(tokens, spans, sentinels)[0], list(tokens)


def _sentinels_backward(tokens, spans, sentinels):
    return span_corruption(tokens, spans, sentinels[len(spans) :: -1])


def _draw_text(generator: Generator, length: int) -> Tokens:
    return torch.randint(10, 90, (length,), generator=generator).tolist()


_SPANS = (
    (6, [(2, 2)]),
    (9, [(0, 1), (4, 3)]),
    (12, [(1, 2), (5, 1), (9, 3)]),
)
_SENTINELS = list(range(99, 89, -1))


def _draw_corruption(generator: Generator) -> list[Inputs]:
    return [(_draw_text(generator, n), spans, _SENTINELS) for n, spans in _SPANS]


def _nothing_is_lost(answer, inputs: Inputs) -> bool:
    tokens, _, sentinels = inputs
    source, target = answer(*inputs)
    words = [token for token in source + target if token not in sentinels]
    return sorted(words) == sorted(tokens)


def restored(source: Tokens, target: Tokens, sentinels: Tokens) -> Tokens:
    spans, last = {}, None
    for token in target:
        if token in sentinels:
            last = token
            spans[last] = []
        elif last is not None:
            spans[last].append(token)
    return [x for token in source for x in spans.get(token, [token])]


def _keeps_sentinels(source, target, sentinels):
    found = restored(source, target, sentinels)
    gaps = iter(token for token in source if token in sentinels)
    firsts = {target[target.index(s) + 1]: s for s in gaps}
    return [y for x in found for y in ([firsts[x], x] if x in firsts else [x])]


def _only_first_tokens(source, target, sentinels):
    spans = {s: [t] for s, t in pairwise(target)}
    return [x for t in source for x in (spans[t] if t in sentinels else [t])]


def _spans_at_the_end(source, target, sentinels):
    kept = [token for token in source if token not in sentinels]
    return kept + [token for token in target if token not in sentinels]


def _spans_in_order_of_target(source, target, sentinels):
    spans: list[Tokens] = []
    for token in target:
        if token in sentinels:
            spans.append([])
        else:
            spans[-1].append(token)
    order = iter(spans)
    return [x for t in source for x in (next(order) if t in sentinels else [t])]


def _draw_restored(generator: Generator) -> list[Inputs]:
    drawn = []
    for length, spans in _SPANS:
        # Different words, so that no span begins like another.
        tokens = (torch.randperm(80, generator=generator)[:length] + 10).tolist()
        source, target = span_corruption(tokens, spans, _SENTINELS)
        if len(spans) == 3:  # the spans in another order: their sentinels name them
            cuts = [target.index(s) for s in _SENTINELS[:4]]
            a, b, c, end = cuts
            target = target[c:end] + target[a:b] + target[b:c] + target[end:]
        drawn.append((source, target, _SENTINELS))
    return drawn


def _no_sentinel_is_left(answer, inputs: Inputs) -> bool:
    return not set(answer(*inputs)) & set(inputs[2])


def text_infilling(
    tokens: Tokens, spans: list[tuple[int, int]], mask_id: int
) -> Tokens:
    source, end = [], 0
    for start, length in spans:
        source += [*tokens[end:start], mask_id]
        end = start + length
    return source + tokens[end:]


def _a_mask_for_each_token(tokens, spans, mask_id):
    gone = {i for start, length in spans for i in range(start, start + length)}
    return [mask_id if i in gone else token for i, token in enumerate(tokens)]


def _no_mask_at_all(tokens, spans, mask_id):
    return [token for token in text_infilling(tokens, spans, mask_id) if token < 90]


def _no_empty_spans(tokens, spans, mask_id):
    return text_infilling(tokens, [span for span in spans if span[1]], mask_id)


def _empty_spans_take_one(tokens, spans, mask_id):
    return text_infilling(tokens, [(a, max(n, 1)) for a, n in spans], mask_id)


def _draw_infilling(generator: Generator) -> list[Inputs]:
    spans = ([(2, 3)], [(1, 0), (4, 2)], [(0, 2), (5, 0), (7, 3)])
    return [
        (_draw_text(generator, n), s, 99)
        for n, s in zip((6, 8, 11), spans, strict=True)
    ]


def _a_mask_for_each_span(answer, inputs: Inputs) -> bool:
    _, spans, mask_id = inputs
    return list(answer(*inputs)).count(mask_id) == len(spans)


# How much there is to read and to write


def corrupted_lengths(length: int, density: float, mean_span: float) -> tuple[int, int]:
    gone = round(length * density)
    spans = round(gone / mean_span)
    return length - gone + spans, gone + spans + 1


def _without_sentinels(length, density, mean_span):
    gone = round(length * density)
    return length - gone, gone


def _without_the_last(length, density, mean_span):
    source, target = corrupted_lengths(length, density, mean_span)
    return source, target - 1


def _sentinel_for_each_token(length, density, mean_span):
    gone = round(length * density)
    return length, 2 * gone + 1


def _target_is_the_text(length, density, mean_span):
    return corrupted_lengths(length, density, mean_span)[0], length


def _draw_lengths(generator: Generator) -> list[Inputs]:
    return [(100, 0.15, 3.0), (568, 0.15, 3.0), (200, 0.5, 5.0)]


def _longer_spans_are_cheaper(answer, inputs: Inputs) -> bool:
    length, density, mean_span = inputs
    return sum(answer(length, density, 2 * mean_span)) < sum(answer(*inputs))


# What the decoder reads


def decoder_reads(
    labels: Int[Tensor, "batch length"], start_id: int, pad_id: int
) -> Int[Tensor, "batch length"]:
    start = torch.full_like(labels[:, :1], start_id)
    reads = torch.cat([start, labels[:, :-1]], dim=1)
    return reads.masked_fill(reads == -100, pad_id)


def _the_labels_themselves(labels, start_id, pad_id):
    return labels.masked_fill(labels == -100, pad_id)


def _shifted_left(labels, start_id, pad_id):
    end = torch.full_like(labels[:, :1], pad_id)
    reads = torch.cat([labels[:, 1:], end], dim=1)
    return reads.masked_fill(reads == -100, pad_id)


def _keeps_minus_100(labels, start_id, pad_id):
    return torch.cat([torch.full_like(labels[:, :1], start_id), labels[:, :-1]], dim=1)


def _one_longer(labels, start_id, pad_id):
    reads = torch.cat([torch.full_like(labels[:, :1], start_id), labels], dim=1)
    return reads.masked_fill(reads == -100, pad_id)


def _rolled_around(labels, start_id, pad_id):
    return labels.roll(1, dims=1).masked_fill(labels.roll(1, dims=1) == -100, pad_id)


def _draw_labels(generator: Generator) -> list[Inputs]:
    drawn = []
    for batch, length, start in ((1, 3, 2), (2, 5, 0), (3, 6, 1)):
        labels = torch.randint(5, 50, (batch, length), generator=generator)
        labels[-1, length // 2 + 1 :] = -100
        drawn.append((labels, start, 3))
    return drawn


def _last_label_is_not_read(answer, inputs: Inputs) -> bool:
    labels, start_id, pad_id = inputs
    changed = labels.clone()
    changed[:, -1] = 77
    return torch.equal(answer(labels, start_id, pad_id), answer(changed, *inputs[1:]))


# T5's arithmetic


def t5_weights(
    query: Float[Tensor, "queries d_k"],
    key: Float[Tensor, "keys d_k"],
    bias: Float[Tensor, "queries keys"],
) -> Float[Tensor, "queries keys"]:
    return (query @ key.T + bias).softmax(dim=-1)


def _scaled(query, key, bias):
    return (query @ key.T / math.sqrt(query.shape[-1]) + bias).softmax(dim=-1)


def _bias_on_weights(query, key, bias):
    return (query @ key.T).softmax(dim=-1) + bias


def _all_scaled(query, key, bias):
    return ((query @ key.T + bias) / math.sqrt(query.shape[-1])).softmax(dim=-1)


def _bias_as_factor(query, key, bias):
    return (query @ key.T * bias).softmax(dim=-1)


def _draw_t5(generator: Generator) -> list[Inputs]:
    return [
        tuple(torch.randn(s, generator=generator) for s in ((q, d), (k, d), (q, k)))
        for q, k, d in ((2, 2, 4), (3, 4, 2), (5, 5, 8))
    ]


def _a_constant_bias_changes_nothing(answer, inputs: Inputs) -> bool:
    query, key, bias = inputs
    moved = answer(query, key, bias + 2.0)
    return torch.allclose(answer(query, key, bias), moved, atol=1e-5)


def tied_logits(
    states: Float[Tensor, "length d_model"], embedding: Float[Tensor, "vocab d_model"]
) -> Float[Tensor, "length vocab"]:
    return states * states.shape[-1] ** -0.5 @ embedding.T


def _unscaled_head(states, embedding):
    return states @ embedding.T


def _scaled_up(states, embedding):
    return states * states.shape[-1] ** 0.5 @ embedding.T


def _scaled_by_width(states, embedding):
    return states / states.shape[-1] @ embedding.T


def _scaled_by_vocabulary(states, embedding):
    return states * len(embedding) ** -0.5 @ embedding.T


def _probabilities(states, embedding):
    return tied_logits(states, embedding).softmax(dim=-1)


def _draw_tied(generator: Generator) -> list[Inputs]:
    return [
        (torch.randn(n, d, generator=generator), torch.randn(v, d, generator=generator))
        for n, d, v in ((1, 4, 3), (3, 8, 5), (2, 16, 7))
    ]


def _linear_in_states(answer, inputs: Inputs) -> bool:
    states, embedding = inputs
    double = answer(2 * states, embedding)
    return torch.allclose(double, 2 * answer(states, embedding), atol=1e-4)


# Which task it is


def split_prefix(text: str, tasks: list[str]) -> tuple[str | None, str]:
    head, colon, rest = text.partition(": ")
    return (head, rest) if colon and head in tasks else (None, text)


def _any_prefix(text, tasks):
    head, colon, rest = text.partition(": ")
    return (head, rest) if colon else (None, text)


def _at_the_last_colon(text, tasks):
    head, colon, rest = text.rpartition(": ")
    return (head, rest) if colon and head in tasks else (None, text)


def _all_pieces(text, tasks):
    head, *rest = text.split(": ")
    return (head, "".join(rest)) if head in tasks else (None, text)


def _keeps_the_blank(text, tasks):
    head, colon, rest = text.partition(":")
    return (head, rest) if colon and head in tasks else (None, text)


def _anywhere(text, tasks):
    for task in tasks:
        if task + ": " in text:
            return task, text.replace(task + ": ", "", 1)
    return None, text


def _draw_prefixes(generator: Generator) -> list[Inputs]:
    tasks = ["translate", "restore"]
    return [
        ("restore: and god said", tasks),
        ("translate: gesicht: lachend", tasks),
        ("and God said: let there be light", tasks),
        ("he asked me to restore: the old house", tasks),
        ("restore: ", tasks),
        ("translate", tasks),
    ]


def _prefix_comes_off_again(answer, inputs: Inputs) -> bool:
    text, tasks = inputs
    return answer(f"{tasks[0]}: {text}", tasks) == (tasks[0], text)


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="split_prefix",
        chapter="t5-bart",
        title="Tell the task from the text",
        difficulty=1,
        minutes=5,
        trains="parses an instruction without harming the text behind it",
        reference=split_prefix,
        inputs=_draw_prefixes,
        properties=(
            Property(
                "a prefix that is put before any text comes off again",
                _prefix_comes_off_again,
            ),
        ),
        misconceptions=(
            Misconception(
                "takes whatever stands before a colon",
                _any_prefix,
                "Ordinary text holds colons too. Only a known task is a prefix; what else "
                "comes before a colon belongs to the text.",
            ),
            Misconception(
                "splits at the last colon",
                _at_the_last_colon,
                "The text may hold colons of its own. The prefix ends at the first one.",
            ),
            Misconception(
                "loses the colons of the text",
                _all_pieces,
                "Splitting at every colon and joining the pieces leaves out what was "
                "between them. Split once.",
            ),
            Misconception(
                "leaves the blank",
                _keeps_the_blank,
                "The text begins with the blank that belongs to the prefix, which is the "
                "task, a colon and a blank.",
            ),
            Misconception(
                "finds the task anywhere",
                _anywhere,
                "A prefix stands at the beginning. The same words later on are text.",
            ),
        ),
        hints=(
            "There are three cases: no colon, an unknown task before it, a known one.",
            'text.partition(": ") cuts once, at the first.',
            "Return (None, text) unless what is before the cut is in tasks.",
        ),
    ),
    Exercise(
        name="span_corruption",
        chapter="t5-bart",
        title="Corrupt spans as T5 does",
        difficulty=2,
        minutes=15,
        trains="builds a source and a target that share out the words",
        reference=span_corruption,
        inputs=_draw_corruption,
        properties=(
            Property(
                "source and target together hold every word of the text once",
                _nothing_is_lost,
            ),
        ),
        misconceptions=(
            Misconception(
                "leaves out the last sentinel",
                _no_last_sentinel,
                "The target of the paper ends with one more sentinel, which says that no "
                "further span follows.",
            ),
            Misconception(
                "puts a sentinel for each token",
                _one_sentinel_a_token,
                "Each missing token has a sentinel of its own. A sentinel stands for a "
                "whole span: neither is its length told, nor does it cost more to write.",
            ),
            Misconception(
                "uses one sentinel for all spans",
                _the_same_sentinel,
                "All gaps look alike. The sentinels must differ, or the target cannot say "
                "which span is whose: take them in order.",
            ),
            Misconception(
                "asks for the whole text",
                _whole_text_as_target,
                "That is BART's target. T5 writes the missing spans alone, which is "
                "several times shorter.",
            ),
            Misconception(
                "takes the sentinels backward",
                _sentinels_backward,
                "The first span gets the first sentinel of the list, and the last one is "
                "the one after those that were used.",
            ),
        ),
        hints=(
            "Walk over the spans and keep in mind where the last one ended.",
            "For each span: what is kept goes to the source, then the sentinel to both, "
            "then the span to the target.",
            "At the end: the rest of the text to the source, sentinels[len(spans)] to the "
            "target.",
        ),
    ),
    Exercise(
        name="restored",
        chapter="t5-bart",
        title="Put the spans back",
        difficulty=2,
        minutes=15,
        trains="follows marks from one sequence to the other, in any order",
        reference=restored,
        inputs=_draw_restored,
        properties=(Property("no sentinel is left", _no_sentinel_is_left),),
        misconceptions=(
            Misconception(
                "keeps the sentinels",
                _keeps_sentinels,
                "The spans are where they belong, but their sentinels still stand before "
                "them. A sentinel is replaced, not followed, by its span.",
            ),
            Misconception(
                "takes one token a span",
                _only_first_tokens,
                "Only the token after each sentinel was taken. A span runs up to the next "
                "sentinel of the target.",
            ),
            Misconception(
                "puts the spans at the end",
                _spans_at_the_end,
                "All tokens are there, in the wrong order. Each span belongs where its "
                "sentinel stands in the source.",
            ),
            Misconception(
                "trusts the order of the target",
                _spans_in_order_of_target,
                "The first span of the target went to the first gap. A model may write "
                "them in another order: it is the sentinel that says which gap is meant.",
            ),
        ),
        hints=(
            "First read the target into a table: sentinel -> its tokens.",
            "Every token of the target belongs to the last sentinel before it.",
            "Then copy the source, with the table's entry in the place of each sentinel.",
        ),
    ),
    Exercise(
        name="text_infilling",
        chapter="t5-bart",
        title="Infill text as BART does",
        difficulty=2,
        minutes=10,
        trains="treats a span of no tokens as well as one of many",
        reference=text_infilling,
        inputs=_draw_infilling,
        properties=(
            Property("there are as many masks as spans", _a_mask_for_each_span),
        ),
        misconceptions=(
            Misconception(
                "puts a mask for each token",
                _a_mask_for_each_token,
                "That is how BERT and BART's token masking do it, and it gives away how "
                "many tokens are missing. Here one mask stands for the whole span.",
            ),
            Misconception(
                "puts no mask",
                _no_mask_at_all,
                "The spans are gone without a trace. That is token deletion; infilling "
                "marks where something is missing.",
            ),
            Misconception(
                "skips empty spans",
                _no_empty_spans,
                "A span of length 0 puts a mask where nothing is missing, so that the "
                "model must also learn to say: nothing.",
            ),
            Misconception(
                "lets an empty span take a token",
                _empty_spans_take_one,
                "A span of length 0 removes no token. It puts a mask between two.",
            ),
        ),
        hints=(
            "As span corruption, but with one mask for all spans and no target.",
            "For each span: what is kept up to its start, then the mask.",
            "Go on at start + length; for length 0 that is start.",
        ),
    ),
    Exercise(
        name="corrupted_lengths",
        chapter="t5-bart",
        title="Count what is read and written",
        difficulty=2,
        minutes=10,
        trains="predicts the lengths of a source and a target beforehand",
        reference=corrupted_lengths,
        inputs=_draw_lengths,
        properties=(
            Property(
                "with spans twice as long there is less to read and write",
                _longer_spans_are_cheaper,
            ),
        ),
        misconceptions=(
            Misconception(
                "forgets the sentinels",
                _without_sentinels,
                "Every span leaves a sentinel in the source and has one in the target.",
            ),
            Misconception(
                "forgets the last sentinel",
                _without_the_last,
                "The target ends with one more sentinel than there are spans.",
            ),
            Misconception(
                "counts a sentinel for each token",
                _sentinel_for_each_token,
                "There is one sentinel for each span, and a span has mean_span tokens.",
            ),
            Misconception(
                "writes the whole text",
                _target_is_the_text,
                "The target holds the missing spans only, each after its sentinel.",
            ),
        ),
        hints=(
            "How many tokens are gone? In how many spans?",
            "round(length * density) tokens in round(gone / mean_span) spans.",
            "source = kept + spans, target = gone + spans + 1.",
        ),
    ),
    Exercise(
        name="decoder_reads",
        chapter="t5-bart",
        title="Shift the labels right",
        difficulty=1,
        minutes=5,
        trains="makes a decoder's input of labels without giving an answer away",
        reference=decoder_reads,
        inputs=_draw_labels,
        properties=(Property("the last label is never read", _last_label_is_not_read),),
        misconceptions=(
            Misconception(
                "lets the decoder read the answer",
                _the_labels_themselves,
                "At each position the decoder reads the very token that it is to write. "
                "The loss falls to zero, and nothing is learned but to copy.",
            ),
            Misconception(
                "shifts left",
                _shifted_left,
                "At each position the decoder reads the token after the one that it is to "
                "write. It should read the one before.",
            ),
            Misconception(
                "keeps -100",
                _keeps_minus_100,
                "-100 tells the loss to look away. It is no token: the embedding has no "
                "row -100. What is read in its place does not matter, so it is padding.",
            ),
            Misconception(
                "makes it one longer",
                _one_longer,
                "There is one input more than there are labels. Nothing is to be written "
                "after the last label, so nobody needs to read it.",
            ),
            Misconception(
                "rolls the last label to the front",
                _rolled_around,
                "The first input is the last label. It must be the start token, the same "
                "for every text: when the model writes, nothing else is known.",
            ),
        ),
        hints=(
            "The input at position i is the label at position i - 1.",
            "Put start_id in front, leave the last label out.",
            "Replace -100 by pad_id after the shift.",
        ),
    ),
    Exercise(
        name="t5_weights",
        chapter="t5-bart",
        title="Attend as T5 does",
        difficulty=2,
        minutes=10,
        trains="adds a bias where it counts, and knows what is not scaled",
        reference=t5_weights,
        inputs=_draw_t5,
        properties=(
            Property(
                "a bias that is the same everywhere changes nothing",
                _a_constant_bias_changes_nothing,
            ),
        ),
        misconceptions=(
            Misconception(
                "scales the scores",
                _scaled,
                "T5 does not divide by the root of d_k. Its queries start that much "
                "smaller instead, so a trained checkpoint read with a scale is wrong.",
            ),
            Misconception(
                "adds the bias to the weights",
                _bias_on_weights,
                "The bias came after the softmax, and the rows no longer sum to 1. It is "
                "added to the scores.",
            ),
            Misconception(
                "scales the bias too",
                _all_scaled,
                "Score and bias were divided by the root of d_k. Neither is.",
            ),
            Misconception(
                "multiplies by the bias",
                _bias_as_factor,
                "The bias is a summand: a score of 0 may still be raised or lowered by "
                "its distance.",
            ),
        ),
        hints=(
            "Three operations: a product, a sum, a softmax.",
            "What does scaled_dot_product_attention do that T5 leaves out?",
            "(query @ key.T + bias).softmax(dim=-1)",
        ),
    ),
    Exercise(
        name="tied_logits",
        chapter="t5-bart",
        title="Use the embedding as the head",
        difficulty=2,
        minutes=10,
        trains="shares one matrix between input and output, at two scales",
        reference=tied_logits,
        inputs=_draw_tied,
        properties=(
            Property(
                "states twice as large give logits twice as large", _linear_in_states
            ),
        ),
        misconceptions=(
            Misconception(
                "does not scale",
                _unscaled_head,
                "With components of variance 1 on both sides, a sum of d_model products "
                "has deviation sqrt(d_model): the untrained model would be very sure of "
                "something random.",
            ),
            Misconception(
                "scales up",
                _scaled_up,
                "Multiplying by sqrt(d_model) is what the Transformer of 2017 does to "
                "its small embeddings. T5's are large already: here it is divided.",
            ),
            Misconception(
                "divides by the width",
                _scaled_by_width,
                "A sum of d products has deviation sqrt(d), not d. Divide by the root.",
            ),
            Misconception(
                "uses the size of the vocabulary",
                _scaled_by_vocabulary,
                "A logit is a sum over d_model features, so it is d_model's root that "
                "keeps it at scale 1, however many tokens there are.",
            ),
            Misconception(
                "returns probabilities",
                _probabilities,
                "Asked are the logits, before the softmax.",
            ),
        ),
        hints=(
            "How large is a sum of d products of numbers of variance 1?",
            "The embedding is (vocab, d_model): along which axis is the sum?",
            "states * d_model ** -0.5 @ embedding.T",
        ),
    ),
)
