"""Exercises of the section on BERT and its relatives."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from companion.exercises.exercise import Exercise, Inputs, Misconception, Property

# Masking


def hide_tokens(
    token_ids: Int[Tensor, "*batch"],
    chosen: Bool[Tensor, "*batch"],
    dice: Float[Tensor, "*batch"],
    random_ids: Int[Tensor, "*batch"],
    mask_id: int,
) -> tuple[Int[Tensor, "*batch"], Int[Tensor, "*batch"]]:
    hidden = chosen & (dice < 0.8)
    replaced = chosen & (dice >= 0.9)
    inputs = token_ids.masked_fill(hidden, mask_id)
    inputs = torch.where(replaced, random_ids, inputs)
    labels = token_ids.masked_fill(~chosen, -100)
    return inputs, labels


def _always_mask(token_ids, chosen, dice, random_ids, mask_id):
    labels = token_ids.masked_fill(~chosen, -100)
    return token_ids.masked_fill(chosen, mask_id), labels


def _ask_for_all(token_ids, chosen, dice, random_ids, mask_id):
    inputs, _ = hide_tokens(token_ids, chosen, dice, random_ids, mask_id)
    return inputs, token_ids.clone()


def _labels_after_masking(token_ids, chosen, dice, random_ids, mask_id):
    inputs, _ = hide_tokens(token_ids, chosen, dice, random_ids, mask_id)
    return inputs, inputs.masked_fill(~chosen, -100)


def _no_label_where_kept(token_ids, chosen, dice, random_ids, mask_id):
    inputs, labels = hide_tokens(token_ids, chosen, dice, random_ids, mask_id)
    return inputs, labels.masked_fill((dice >= 0.8) & (dice < 0.9), -100)


def _everywhere(token_ids, chosen, dice, random_ids, mask_id):
    _, labels = hide_tokens(token_ids, chosen, dice, random_ids, mask_id)
    inputs = token_ids.masked_fill(dice < 0.8, mask_id)
    return torch.where(dice >= 0.9, random_ids, inputs), labels


def _never_kept(token_ids, chosen, dice, random_ids, mask_id):
    _, labels = hide_tokens(token_ids, chosen, dice, random_ids, mask_id)
    inputs = token_ids.masked_fill(chosen & (dice < 0.8), mask_id)
    return torch.where(chosen & (dice >= 0.8), random_ids, inputs), labels


def _draw_masking(generator: Generator) -> list[Inputs]:
    drawn = []
    for size in ((10,), (2, 12), (3, 40)):
        token_ids = torch.randint(5, 30, size, generator=generator)
        chosen = torch.rand(size, generator=generator) < 0.5
        dice = torch.rand(size, generator=generator)
        # One of each kind, so that no mistake stays hidden.
        chosen.view(-1)[:4] = torch.tensor([True, True, True, False])
        dice.view(-1)[:4] = torch.tensor([0.5, 0.85, 0.95, 0.97])
        random_ids = 35 + torch.randint(0, 10, size, generator=generator)
        drawn.append((token_ids, chosen, dice, random_ids, 4))
    return drawn


def _others_are_left_alone(answer, inputs: Inputs) -> bool:
    token_ids, chosen, *_ = inputs
    seen, labels = answer(*inputs)
    return bool(
        (seen == token_ids)[~chosen].all() and (labels == token_ids)[chosen].all()
    )


# The loss


def masked_language_loss(
    logits: Float[Tensor, "batch length vocab"], labels: Int[Tensor, "batch length"]
) -> Float[Tensor, ""]:
    asked = labels != -100
    log_p = logits[asked].log_softmax(dim=-1)  # (asked, vocab)
    return -log_p.gather(-1, labels[asked][:, None]).mean()


def _over_all_positions(logits, labels):
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
    return losses / labels.numel()


def _minus_100_is_token_0(logits, labels):
    return F.cross_entropy(logits.flatten(0, 1), labels.clamp(min=0).flatten())


def _sum_not_mean(logits, labels):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")


def _mean_of_means(logits, labels):
    rows = zip(logits, labels, strict=True)
    return torch.stack([F.cross_entropy(*row) for row in rows]).mean()


def _probability_not_log(logits, labels):
    asked = labels != -100
    p = logits[asked].softmax(dim=-1)
    return 1 - p.gather(-1, labels[asked][:, None]).mean()


def _draw_loss(generator: Generator) -> list[Inputs]:
    drawn = []
    for batch, length, vocab in ((2, 3, 4), (2, 6, 5), (3, 9, 7)):
        logits = torch.randn(batch, length, vocab, generator=generator)
        labels = torch.randint(0, vocab, (batch, length), generator=generator)
        labels[torch.rand(batch, length, generator=generator) < 0.5] = -100
        labels[:, 0] = 1  # each row asks for something, and not all for equally much
        labels[0, 1], labels[1, 1:] = 2, -100
        drawn.append((logits, labels))
    return drawn


def _blind_to_the_rest(answer, inputs: Inputs) -> bool:
    logits, labels = inputs
    changed = logits.clone()
    changed[labels == -100] += torch.arange(logits.shape[-1])
    return bool(torch.isclose(answer(changed, labels), answer(logits, labels)))


# Packing a pair


def pack_pair(
    first: list[int],
    second: list[int],
    length: int,
    cls_id: int,
    sep_id: int,
    pad_id: int,
) -> tuple[Int[Tensor, "length"], Int[Tensor, "length"]]:
    tokens = [cls_id, *first, sep_id, *second, sep_id]
    types = [0] * (len(first) + 2) + [1] * (len(second) + 1)
    padding = length - len(tokens)
    token_ids = torch.tensor(tokens + [pad_id] * padding)
    token_types = torch.tensor(types + [0] * padding)
    return token_ids, token_types


def _types(answer_types, first, second, length, cls_id, sep_id, pad_id):
    token_ids, _ = pack_pair(first, second, length, cls_id, sep_id, pad_id)
    padding = length - len(first) - len(second) - 3
    types = answer_types(len(first), len(second), padding)
    return token_ids, torch.tensor(types)


def _last_sep_of_the_first(*inputs):
    return _types(lambda a, b, p: [0] * (a + 2) + [1] * b + [0] * (p + 1), *inputs)


def _first_sep_of_the_second(*inputs):
    return _types(lambda a, b, p: [0] * (a + 1) + [1] * (b + 2) + [0] * p, *inputs)


def _padding_is_second(*inputs):
    return _types(lambda a, b, p: [0] * (a + 2) + [1] * (b + 1 + p), *inputs)


def _no_last_sep(first, second, length, cls_id, sep_id, pad_id):
    tokens = [cls_id, *first, sep_id, *second]
    types = [0] * (len(first) + 2) + [1] * len(second)
    padding = length - len(tokens)
    return torch.tensor(tokens + [pad_id] * padding), torch.tensor(
        types + [0] * padding
    )


def _cls_twice(first, second, length, cls_id, sep_id, pad_id):
    tokens = [cls_id, *first, sep_id, cls_id, *second, sep_id]
    types = [0] * (len(first) + 2) + [1] * (len(second) + 2)
    padding = length - len(tokens)
    return torch.tensor(tokens + [pad_id] * padding), torch.tensor(
        types + [0] * padding
    )


def _draw_pack(generator: Generator) -> list[Inputs]:
    def sentence(number: int) -> list[int]:
        return torch.randint(10, 99, (number,), generator=generator).tolist()

    return [
        (sentence(a), sentence(b), length, 2, 3, 0)
        for a, b, length in ((2, 3, 10), (4, 1, 12), (5, 6, 16))
    ]


def _marks_the_second(answer, inputs: Inputs) -> bool:
    _, second, *_ = inputs
    token_ids, token_types = answer(*inputs)
    return token_ids[token_types == 1].tolist() == [*second, inputs[4]]


# Mean pooling


def mean_pool(
    states: Float[Tensor, "batch length d_model"], real: Bool[Tensor, "batch length"]
) -> Float[Tensor, "batch d_model"]:
    kept = states * real[..., None]  # (B, L, D), zero at padding
    return kept.sum(dim=1) / real.sum(dim=1, keepdim=True)


def _mean_of_all(states, real):
    return states.mean(dim=1)


def _zeros_counted(states, real):
    return (states * real[..., None]).mean(dim=1)


def _one_count_for_all(states, real):
    return (states * real[..., None]).sum(dim=1) / real.sum() * len(real)


def _first_token(states, real):
    return states[:, 0] * 1.0


def _largest(states, real):
    return states.masked_fill(~real[..., None], -torch.inf).amax(dim=1)


def _draw_pool(generator: Generator) -> list[Inputs]:
    drawn = []
    for batch, length, width in ((2, 3, 2), (2, 6, 4), (3, 8, 5)):
        states = torch.randn(batch, length, width, generator=generator)
        lengths = torch.randint(2, length, (batch,), generator=generator)
        lengths[0], lengths[1] = length, 2
        drawn.append((states, torch.arange(length) < lengths[:, None]))
    return drawn


def _padding_has_no_say(answer, inputs: Inputs) -> bool:
    states, real = inputs
    changed = states.masked_fill(~real[..., None], 7.0)
    return torch.allclose(answer(changed, real), answer(states, real), atol=1e-5)


# RoBERTa's positions


def roberta_positions(
    token_ids: Int[Tensor, "batch length"], pad_id: int
) -> Int[Tensor, "batch length"]:
    real = (token_ids != pad_id).long()
    return real.cumsum(dim=1) * real + pad_id


def _places(token_ids, pad_id):
    length = token_ids.shape[1]
    return (torch.arange(length) + pad_id + 1).expand(token_ids.shape).clone()


def _from_one(token_ids, pad_id):
    return roberta_positions(token_ids, pad_id) - pad_id


def _from_pad_id(token_ids, pad_id):
    real = (token_ids != pad_id).long()
    return (real.cumsum(dim=1) - 1) * real + pad_id


def _padding_counts_on(token_ids, pad_id):
    return (token_ids != pad_id).long().cumsum(dim=1) + pad_id


def _padding_at_zero(token_ids, pad_id):
    real = (token_ids != pad_id).long()
    return (real.cumsum(dim=1) + pad_id) * real


def _draw_positions(generator: Generator) -> list[Inputs]:
    drawn = []
    for batch, length, pad_id in ((2, 5, 1), (2, 7, 3), (3, 8, 2)):
        token_ids = torch.randint(5, 30, (batch, length), generator=generator)
        token_ids[0, -2:] = pad_id
        token_ids[1, :2] = pad_id
        drawn.append((token_ids, pad_id))
    return drawn


def _padding_in_front_moves_nothing(answer, inputs: Inputs) -> bool:
    token_ids, pad_id = inputs
    padding = torch.full((len(token_ids), 2), pad_id)
    longer = torch.cat([padding, token_ids], dim=1)
    real = token_ids != pad_id
    same = answer(longer, pad_id)[:, 2:] == answer(token_ids, pad_id)
    return bool(same[real].all())


# The best answer span


def best_span(
    start: Float[Tensor, "length"], end: Float[Tensor, "length"], max_length: int
) -> tuple[int, int]:
    best, span = float("-inf"), (0, 0)
    for i in range(len(start)):
        for j in range(i, min(i + max_length, len(end))):
            score = float(start[i] + end[j])
            if score > best:
                best, span = score, (i, j)
    return span


def _span(start, end, allowed) -> tuple[int, int]:
    scores = start[:, None] + end[None, :]
    i, j = torch.meshgrid(
        torch.arange(len(start)), torch.arange(len(end)), indexing="ij"
    )
    flat = int(scores.masked_fill(~allowed(i, j), -torch.inf).argmax())
    return flat // len(end), flat % len(end)


def _each_alone(start, end, max_length):
    return int(start.argmax()), int(end.argmax())


def _any_length(start, end, max_length):
    return _span(start, end, lambda i, j: i <= j)


def _one_too_long(start, end, max_length):
    return _span(start, end, lambda i, j: (i <= j) & (j - i <= max_length))


def _two_tokens_or_more(start, end, max_length):
    return _span(start, end, lambda i, j: (i < j) & (j - i < max_length))


def _start_first(start, end, max_length):
    i = int(start.argmax())
    return i, i + int(end[i : i + max_length].argmax())


def _turned_round(start, end, max_length):
    i, j = int(start.argmax()), int(end.argmax())
    return min(i, j), max(i, j)


def _spread(length: int, peaks: dict[int, float], generator: Generator) -> Tensor:
    scores = torch.rand(length, generator=generator)
    for place, height in peaks.items():
        scores[place] += height
    return scores


def _draw_span(generator: Generator) -> list[Inputs]:
    cases = (
        # The best start, the best end, and what stands between them and an answer.
        (5, {1: 9.0}, {3: 9.0}, 3),  # nothing
        (6, {4: 9.0, 1: 6.0}, {2: 9.0}, 4),  # the end comes before the start
        (9, {0: 9.0, 5: 7.0}, {8: 9.0}, 4),  # too far apart
        (8, {2: 9.0}, {2: 9.0, 3: 3.0}, 3),  # one token
        (9, {1: 9.0}, {4: 9.0, 3: 6.0}, 3),  # by one too far apart
    )
    return [
        (_spread(n, s, generator), _spread(n, e, generator), m) for n, s, e, m in cases
    ]


def _is_a_span(answer, inputs: Inputs) -> bool:
    start, _, max_length = inputs
    i, j = answer(*inputs)
    return 0 <= i <= j < min(len(start), i + max_length)


# Names from BIO tags


def bio_spans(tags: list[str]) -> list[tuple[int, int, str]]:
    spans: list[tuple[int, int, str]] = []
    for place, tag in enumerate(tags):
        if tag == "O":
            continue
        begins, kind = tag.split("-")
        goes_on = spans and spans[-1][1:] == (place, kind)
        if begins == "I" and goes_on:
            spans[-1] = (spans[-1][0], place + 1, kind)
        else:
            spans.append((place, place + 1, kind))
    return spans


def _b_does_not_part(tags):
    return bio_spans([tag.replace("B-", "I-") for tag in tags])


def _ends_included(tags):
    return [(start, end - 1, kind) for start, end, kind in bio_spans(tags)]


def _kind_of_the_first(tags):
    spans, kind = [], None
    for place, tag in enumerate(tags):
        if tag == "O":
            kind = None
        elif tag[0] == "I" and kind is not None:
            spans[-1] = (spans[-1][0], place + 1, kind)
        else:
            kind = tag[2:]
            spans.append((place, place + 1, kind))
    return spans


def _only_after_b(tags):
    spans, kind = [], None
    for place, tag in enumerate(tags):
        if tag[0] == "B":
            kind = tag[2:]
            spans.append((place, place + 1, kind))
        elif tag[0] == "I" and tag[2:] == kind:
            spans[-1] = (spans[-1][0], place + 1, kind)
        else:
            kind = None
    return spans


def _single_tokens(tags):
    return [(p, p + 1, tag[2:]) for p, tag in enumerate(tags) if tag != "O"]


def _over_the_gap(tags):
    spans: list[tuple[int, int, str]] = []
    for place, tag in enumerate(tags):
        if tag[0] == "I" and spans and spans[-1][2] == tag[2:]:
            spans[-1] = (spans[-1][0], place + 1, tag[2:])
        elif tag != "O":
            spans.append((place, place + 1, tag[2:]))
    return spans


def _draw_tags(generator: Generator) -> list[Inputs]:
    fixed = (
        "O B-PER I-PER O",
        "B-PER B-PER I-PER O B-LOC",
        "B-PER I-LOC O I-PER I-PER",
        "B-LOC O I-LOC O B-PER I-PER I-PER",
    )
    names = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
    drawn = torch.randint(0, len(names), (12,), generator=generator)
    tags = [names[int(index)] for index in drawn]
    return [*((text.split(),) for text in fixed), (tags,)]


def _covers_what_is_tagged(answer, inputs: Inputs) -> bool:
    (tags,) = inputs
    covered = sorted(p for start, end, _ in answer(tags) for p in range(start, end))
    return covered == [place for place, tag in enumerate(tags) if tag != "O"]


# ALBERT's embeddings


def factorized_parameters(vocab_size: int, d_model: int, d_embedding: int) -> int:
    return vocab_size * d_embedding + d_embedding * d_model


def _table_only(vocab_size, d_model, d_embedding):
    return vocab_size * d_embedding


def _wide_table(vocab_size, d_model, d_embedding):
    return vocab_size * d_model + d_embedding * d_model


def _product(vocab_size, d_model, d_embedding):
    return vocab_size * d_embedding * d_model


def _counted_twice(vocab_size, d_model, d_embedding):
    return 2 * factorized_parameters(vocab_size, d_model, d_embedding)


def _draw_factorized(generator: Generator) -> list[Inputs]:
    return [(10, 4, 2), (30000, 768, 128), (30000, 4096, 128), (591, 256, 128)]


def _grows_with_the_vocabulary(answer, inputs: Inputs) -> bool:
    vocab_size, d_model, d_embedding = inputs
    more = answer(vocab_size + 1, d_model, d_embedding)
    return more - answer(*inputs) == d_embedding


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="hide_tokens",
        chapter="bert",
        title="Hide 80 %, replace 10 %, keep 10 %",
        difficulty=2,
        minutes=10,
        trains="keeps what a model is shown apart from what it is asked",
        reference=hide_tokens,
        inputs=_draw_masking,
        properties=(
            Property(
                "a token that was not chosen is seen as it is, and a chosen one is the "
                "label of its place",
                _others_are_left_alone,
            ),
        ),
        misconceptions=(
            Misconception(
                "masks every chosen token",
                _always_mask,
                "All chosen tokens become [MASK]. Then a token that is not [MASK] need "
                "never be thought about, and fine-tuning, where no [MASK] occurs, meets a "
                "model that has learned to look at nothing else. What becomes of a token "
                "with dice at 0.85, or at 0.95?",
            ),
            Misconception(
                "asks for all tokens",
                _ask_for_all,
                "The labels hold every token, so the loss is mostly about tokens that can "
                "be seen and need only be copied. Those that were not chosen get -100.",
            ),
            Misconception(
                "takes the labels after masking",
                _labels_after_masking,
                "The labels are what the model sees, so it is asked to say [MASK]. Take "
                "them from the tokens as they were.",
            ),
            Misconception(
                "asks for nothing where the token is kept",
                _no_label_where_kept,
                "Kept tokens look like the others, but they were chosen: the model is "
                "asked for them too. That is why it cannot trust what it sees.",
            ),
            Misconception(
                "forgets who was chosen",
                _everywhere,
                "The dice decide about all tokens, chosen or not: 80 % of the whole text "
                "is hidden. They are thrown for the chosen ones only.",
            ),
            Misconception(
                "never keeps a token",
                _never_kept,
                "From 0.8 on all are replaced, 20 % of them. Those between 0.8 and 0.9 stay "
                "as they are.",
            ),
        ),
        hints=(
            "Three cases of a chosen token, told apart by its dice: below 0.8, below 0.9, "
            "and the rest.",
            "Two boolean tensors say where [MASK] goes and where the random token goes.",
            "torch.where(replaced, random_ids, token_ids.masked_fill(hidden, mask_id)).",
        ),
    ),
    Exercise(
        name="masked_language_loss",
        chapter="bert",
        title="The loss of the masked tokens",
        difficulty=2,
        minutes=8,
        trains="averages a loss over the asked tokens of a whole batch",
        reference=masked_language_loss,
        inputs=_draw_loss,
        properties=(
            Property(
                "logits where the label is -100 have no influence", _blind_to_the_rest
            ),
        ),
        misconceptions=(
            Misconception(
                "divides by all positions",
                _over_all_positions,
                "The sum is right, but it is divided by the number of all positions. Only "
                "about 15 % are asked for, so the loss looks seven times as good, and it "
                "changes with the amount of padding.",
            ),
            Misconception(
                "takes -100 for token 0",
                _minus_100_is_token_0,
                "Where nothing is asked, the model is trained to say token 0. -100 is not "
                "a token: those positions must be left out.",
            ),
            Misconception(
                "adds up and does not divide",
                _sum_not_mean,
                "This is the sum over the masked tokens. Divide by their number, or a "
                "larger batch means a larger step.",
            ),
            Misconception(
                "averages averages",
                _mean_of_means,
                "Each text is averaged first, and then the texts. A masked token in a text "
                "with few of them weighs more than one in a text with many.",
            ),
            Misconception(
                "forgets the logarithm",
                _probability_not_log,
                "This is one minus the probability of the right token. Cross-entropy is "
                "minus its logarithm, which does not forgive certainty about a wrong one.",
            ),
        ),
        hints=(
            "First keep only the positions that are asked for.",
            "logits[labels != -100] has shape (asked, vocab).",
            "Then log_softmax, gather the right token's entry, and take minus the mean.",
        ),
    ),
    Exercise(
        name="pack_pair",
        chapter="bert",
        title="[CLS] A [SEP] B [SEP], with token types",
        difficulty=2,
        minutes=10,
        trains="knows to which sentence each special token belongs",
        reference=pack_pair,
        inputs=_draw_pack,
        properties=(
            Property(
                "the tokens of type 1 are those of the second sentence and its [SEP]",
                _marks_the_second,
            ),
        ),
        misconceptions=(
            Misconception(
                "gives the last [SEP] to the first sentence",
                _last_sep_of_the_first,
                "Type 1 stops before the last [SEP]. That token ends the second sentence "
                "and belongs to it.",
            ),
            Misconception(
                "gives the first [SEP] to the second sentence",
                _first_sep_of_the_second,
                "Type 1 begins at the [SEP] in the middle. That token ends the first "
                "sentence: type 0.",
            ),
            Misconception(
                "types the padding as the second sentence",
                _padding_is_second,
                "The padding has type 1. No one attends to it, but checkpoints were "
                "trained with 0 there, and a test of equal inputs fails.",
            ),
            Misconception(
                "leaves out the last [SEP]",
                _no_last_sep,
                "There is a [SEP] between the two, and none after the second. BERT has "
                "one after each: two in all.",
            ),
            Misconception(
                "puts a [CLS] before each sentence",
                _cls_twice,
                "There is one [CLS], at the very front: it stands for the pair.",
            ),
        ),
        hints=(
            "Three special tokens: where do they go?",
            "The first len(first) + 2 places have type 0.",
            "tokens = [cls_id, *first, sep_id, *second, sep_id], then padding.",
        ),
    ),
    Exercise(
        name="mean_pool",
        chapter="bert",
        title="The mean of the tokens that are there",
        difficulty=1,
        minutes=6,
        trains="divides each text by the number of its own tokens",
        reference=mean_pool,
        inputs=_draw_pool,
        properties=(
            Property("what stands at padding has no influence", _padding_has_no_say),
        ),
        misconceptions=(
            Misconception(
                "averages the padding in",
                _mean_of_all,
                "The states of padding are part of the mean. They are no zeros: every "
                "layer has computed something there. So a sentence's vector depends on "
                "the longest sentence of its batch.",
            ),
            Misconception(
                "counts the padding in the divisor",
                _zeros_counted,
                "The padding is zero in the sum, but is still counted: a sentence that "
                "fills half of the length gets half the vector. Divide by the number of "
                "real tokens.",
            ),
            Misconception(
                "divides all texts by the average length",
                _one_count_for_all,
                "One number divides all rows. Each text needs its own: "
                "real.sum(dim=1, keepdim=True).",
            ),
            Misconception(
                "takes [CLS]",
                _first_token,
                "This is the first token's state, as BERT's own classifier has it. Here "
                "the mean is asked for.",
            ),
            Misconception(
                "takes the maximum",
                _largest,
                "Each feature is its maximum over the tokens. The mean is asked for.",
            ),
        ),
        hints=(
            "Set the states of padding to zero, then add over the length.",
            "Divide by how many real tokens each text has, not by the length.",
            "(states * real[..., None]).sum(1) / real.sum(1, keepdim=True).",
        ),
    ),
    Exercise(
        name="roberta_positions",
        chapter="bert",
        title="RoBERTa's positions",
        difficulty=2,
        minutes=8,
        trains="counts tokens and not places, as a checkpoint demands",
        reference=roberta_positions,
        inputs=_draw_positions,
        properties=(
            Property(
                "padding in front of a text moves none of its positions",
                _padding_in_front_moves_nothing,
            ),
        ),
        misconceptions=(
            Misconception(
                "counts places, not tokens",
                _places,
                "These are the places in the row, shifted. RoBERTa counts tokens: padding "
                "in front moves nothing, and padding itself has the position pad_id.",
            ),
            Misconception(
                "starts at 1",
                _from_one,
                "The count is right, but it starts at 1. Positions up to pad_id are taken: "
                "the first token has pad_id + 1.",
            ),
            Misconception(
                "gives the first token the padding's position",
                _from_pad_id,
                "The first token has position pad_id, which is the padding's own. All are "
                "one too low.",
            ),
            Misconception(
                "lets the padding count on",
                _padding_counts_on,
                "Padding has the position of the last token before it. It should have "
                "pad_id, whose vector is never trained.",
            ),
            Misconception(
                "puts the padding at 0",
                _padding_at_zero,
                "The tokens are right, and padding has position 0. It should have pad_id.",
            ),
        ),
        hints=(
            "A running count over the tokens that are no padding: cumsum.",
            "Multiply by the same zeros and ones, so that padding counts as 0.",
            "Then add pad_id.",
        ),
    ),
    Exercise(
        name="best_span",
        chapter="bert",
        title="The best answer in a passage",
        difficulty=3,
        minutes=12,
        trains="searches start and end together, under limits",
        reference=best_span,
        inputs=_draw_span,
        properties=(
            Property(
                "the span starts no later than it ends, and has at most max_length tokens",
                _is_a_span,
            ),
        ),
        misconceptions=(
            Misconception(
                "picks start and end apart",
                _each_alone,
                "The best start and the best end are picked each for itself. Together they "
                "may end before they start, or span the whole passage. Score pairs.",
            ),
            Misconception(
                "has no longest span",
                _any_length,
                "The span may be longer than max_length. Pairs that are further apart "
                "don't count.",
            ),
            Misconception(
                "allows one token too many",
                _one_too_long,
                "From start to end there are end - start + 1 tokens. Yours may be one "
                "longer than max_length.",
            ),
            Misconception(
                "forbids answers of one token",
                _two_tokens_or_more,
                "Start and end may be the same token: most answers to 'who?' are one word.",
            ),
            Misconception(
                "takes the best start and then its best end",
                _start_first,
                "The start is fixed before any end is looked at. A second-best start with "
                "a much better end wins: compare the sums of all pairs.",
            ),
            Misconception(
                "turns a span round",
                _turned_round,
                "Where the best end comes before the best start, yours swaps them. A score "
                "for 'starts here' says nothing about ending here.",
            ),
        ),
        hints=(
            "Look at all pairs i <= j; there are few.",
            "end - start < max_length.",
            "Keep the pair with the largest start[i] + end[j].",
        ),
    ),
    Exercise(
        name="bio_spans",
        chapter="bert",
        title="From tags to names",
        difficulty=3,
        minutes=15,
        trains="reads names out of tags, also where the tags are faulty",
        reference=bio_spans,
        inputs=_draw_tags,
        properties=(
            Property(
                "each token that is tagged is in exactly one span",
                _covers_what_is_tagged,
            ),
        ),
        misconceptions=(
            Misconception(
                "does not part two names that touch",
                _b_does_not_part,
                "Two names in a row become one. B begins a new name even where the token "
                "before belongs to one: that is what it is for.",
            ),
            Misconception(
                "includes the end",
                _ends_included,
                "Your spans end at their last token. Here the end is one past it, as in "
                "Python's slices.",
            ),
            Misconception(
                "keeps the kind of the first token",
                _kind_of_the_first,
                "An I of another kind goes on with the name before it. It begins a new one.",
            ),
            Misconception(
                "drops an I without a B",
                _only_after_b,
                "An I that continues nothing is thrown away. Models write such tags; by "
                "the usual rule (conlleval's) the name begins there.",
            ),
            Misconception(
                "makes each token a name",
                _single_tokens,
                "Every tagged token is a span of its own. An I of the same kind, right "
                "after, makes the span longer.",
            ),
            Misconception(
                "joins over a gap",
                _over_the_gap,
                "A name goes on although an O stands between. It ends at the first token "
                "that does not continue it.",
            ),
        ),
        hints=(
            "Go through the tags and keep the list of spans so far.",
            "A tag continues the last span if it is an I of the same kind and the span "
            "ends right before it.",
            "In every other case that is not O, a new span (place, place + 1, kind) begins.",
        ),
    ),
    Exercise(
        name="factorized_parameters",
        chapter="bert",
        title="What ALBERT's embeddings weigh",
        difficulty=1,
        minutes=4,
        trains="weighs two narrow matrices against a wide one",
        reference=factorized_parameters,
        inputs=_draw_factorized,
        properties=(
            Property(
                "one more token costs d_embedding parameters",
                _grows_with_the_vocabulary,
            ),
        ),
        misconceptions=(
            Misconception(
                "counts the table alone",
                _table_only,
                "These are the narrow vectors. The layers want d_model, so a matrix of "
                "d_embedding by d_model stands between.",
            ),
            Misconception(
                "keeps the wide table",
                _wide_table,
                "The vectors of the tokens are still d_model wide. They are d_embedding "
                "wide: that is the saving.",
            ),
            Misconception(
                "multiplies the two matrices' sizes",
                _product,
                "Two matrices, one after the other, have the sum of their sizes.",
            ),
            Misconception(
                "counts the output layer",
                _counted_twice,
                "Twice the count. The output layer is the same table once more: tied, "
                "nothing is added.",
            ),
        ),
        hints=(
            "There are two matrices: which shapes do they have?",
            "vocab_size by d_embedding, and d_embedding by d_model.",
            "Add their sizes; none of the two has a bias.",
        ),
    ),
)
