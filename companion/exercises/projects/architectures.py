"""Project: three families of Transformers as one stack of layers, compared fairly.

Each task gives a source and a target of the same length, so that a family differs from
another in one thing only: in what a place of the target may see. The tasks ask for three
things that are often taken for one:

- "tag" needs the *right context*: is this the last time that the letter stands here?
- "reverse" wants a *text*, but leaves no choice: the source, last letter first.
- "coin" leaves a *choice*: the source as it is or reversed, each half of the time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from companion.exercises.exercise import Exercise, Inputs, Misconception, Property
from companion.exercises.projects.grading import Criterion, Project
from companion.layers.decoder import DecoderLayer
from companion.layers.encoder import EncoderLayer
from companion.runtime import device

# The tasks

PAD, START = 0, 1
FIRST_LETTER, NUM_LETTERS = 2, 10
AGAIN, LAST = 12, 13  # the two tags
VOCAB_SIZE = 14
SHORTEST, WIDTH = 3, 6  # letters of a source; all are padded to the same width
TASKS = ("tag", "reverse", "coin")
FAMILIES = ("encoder-only", "decoder-only", "encoder-decoder")
WRITERS = FAMILIES[1:]

_HELD_OUT = 20_000  # a seed that no training uses


class Examples(NamedTuple):
    """Sources and targets, padded at the end to ``WIDTH``."""

    source: Int[Tensor, "batch width"]
    target: Int[Tensor, "batch width"]


def draw(task: str, count: int, generator: Generator) -> Examples:
    """Examples of a task, drawn on the CPU and moved to the device.

    Raises:
        ValueError: the task is not known.
    """
    if task not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}, but it is {task!r}")
    lengths = torch.randint(SHORTEST, WIDTH + 1, (count, 1), generator=generator)
    last = FIRST_LETTER + NUM_LETTERS
    source = torch.randint(FIRST_LETTER, last, (count, WIDTH), generator=generator)
    heads = torch.rand(count, 1, generator=generator) < 0.5
    source = source.masked_fill(torch.arange(WIDTH) >= lengths, PAD)
    if task == "tag":
        target = _tags(source)
    elif task == "reverse":
        target = backwards(source)
    else:
        target = torch.where(heads, source, backwards(source))
    return Examples(source.to(device()), target.to(device()))


def backwards(source: Int[Tensor, "batch width"]) -> Int[Tensor, "batch width"]:
    """Each row last letter first, with its padding where it was."""
    lengths = (source != PAD).sum(dim=1, keepdim=True)
    place = torch.arange(source.shape[1], device=source.device)
    mirrored = (lengths - 1 - place).clamp(min=0)
    return source.gather(1, mirrored).masked_fill(source == PAD, PAD)


def _tags(source: Tensor) -> Tensor:
    later = torch.ones(WIDTH, WIDTH, dtype=torch.bool).triu(1)
    comes_again = ((source[:, :, None] == source[:, None, :]) & later).any(dim=-1)
    tags = torch.where(comes_again, AGAIN, LAST)
    return tags.masked_fill(source == PAD, PAD)


def text(ids: Int[Tensor, " width"]) -> str:
    """A row as letters; the tags are + (comes again) and . (the last time)."""
    signs = {PAD: "", START: "", AGAIN: "+", LAST: "."}
    return "".join(signs.get(i, chr(ord("a") + i - FIRST_LETTER)) for i in ids.tolist())


# What is measured. A model takes sources and targets and gives logits for every column
# that it reads. The last ``width`` columns are those of the target; which tokens they may
# see is the model's own affair.


def _told(
    model: nn.Module, source: Tensor, target: Tensor
) -> Float[Tensor, "batch width vocab"]:
    return model(source, target)[:, -target.shape[1] :].float()


@torch.no_grad()
def written(
    model: nn.Module,
    source: Int[Tensor, "batch width"],
    generator: Generator | None = None,
) -> Int[Tensor, "batch width"]:
    """What a model writes, token by token, as long as the source is.

    The likeliest token each time, or one drawn by its probability if a generator (of
    the CPU) is given. A model that does not look at what is written already fills in all
    places independently.
    """
    found = torch.full_like(source, FIRST_LETTER)
    for place in range(source.shape[1]):
        logits = _told(model, source, found)[:, place]
        if generator is None:
            token = logits.argmax(dim=-1)
        else:
            chances = logits.softmax(dim=-1).cpu()
            token = torch.multinomial(chances, 1, generator=generator)[:, 0]
        found[:, place] = token.to(source.device)
    return found.masked_fill(source == PAD, PAD)


def share_right(
    model: nn.Module, task: str, *, count: int = 500, sample: bool = False
) -> float:
    """The share of held-out sources to which a model writes a target that is allowed."""
    generator = Generator().manual_seed(_HELD_OUT)
    source, target = draw(task, count, generator)
    found = written(model, source, generator if sample else None)
    allowed = [source, backwards(source)] if task == "coin" else [target]
    right = torch.stack([(found == option).all(dim=1) for option in allowed])
    return right.any(dim=0).double().mean().item()


@torch.no_grad()
def bits_a_target(model: nn.Module, task: str, *, count: int = 500) -> float:
    """What a held-out target costs as a whole, in bits."""
    source, target = draw(task, count, Generator().manual_seed(_HELD_OUT))
    logits = _told(model, source, target).transpose(1, 2)
    nats = F.cross_entropy(logits, target, ignore_index=PAD, reduction="sum")
    return nats.item() / math.log(2) / count


def least_bits(task: str, *, at_once: bool, count: int = 500) -> float:
    """The fewest bits that the same targets cost a model which knows all there is to know.

    Written one after the other, a coin costs one bit. Filled in all at once, it costs
    one bit in each place that differs from its mirror image.
    """
    source, _ = draw(task, count, Generator().manual_seed(_HELD_OUT))
    if task != "coin":
        return 0.0
    differ = (source != backwards(source)).sum(dim=1)
    return (differ if at_once else differ.clamp(max=1)).double().mean().item()


# Stage: one mask for all families


def layout_mask(
    source_lengths: Int[Tensor, " batch"],
    source_width: int,
    target_width: int,
    prefix: bool,
) -> Bool[Tensor, "batch 1 n n"]:
    n = source_width + target_width
    place = torch.arange(n, device=source_lengths.device)
    visible = place <= place[:, None]  # (n, n), row = query
    if prefix:
        visible = visible | (place < source_width)
    real = (place < source_lengths[:, None]) | (place >= source_width)  # (B, n)
    return visible & real[:, None, None, :]


def _causal_anyway(
    source_lengths: Tensor, source_width: int, target_width: int, prefix: bool
) -> Tensor:
    return layout_mask(source_lengths, source_width, target_width, False)


def _prefix_anyway(
    source_lengths: Tensor, source_width: int, target_width: int, prefix: bool
) -> Tensor:
    return layout_mask(source_lengths, source_width, target_width, True)


def _source_reads_target(
    source_lengths: Tensor, source_width: int, target_width: int, prefix: bool
) -> Tensor:
    mask = layout_mask(source_lengths, source_width, target_width, prefix)
    if prefix:
        mask[:, :, :source_width, source_width:] = True
    return mask


def _hides_the_target(
    source_lengths: Tensor, source_width: int, target_width: int, prefix: bool
) -> Tensor:
    n = source_width + target_width
    place = torch.arange(n, device=source_lengths.device)
    visible = place <= place[:, None]  # (n, n), row = query
    if prefix:
        visible = visible | (place < source_width)
    real = place < source_lengths[:, None]  # (B, n)
    return visible & real[:, None, None, :]


def _padding_is_seen(
    source_lengths: Tensor, source_width: int, target_width: int, prefix: bool
) -> Tensor:
    full = torch.full_like(source_lengths, source_width)
    return layout_mask(full, source_width, target_width, prefix)


def _blind_padding(
    source_lengths: Tensor, source_width: int, target_width: int, prefix: bool
) -> Tensor:
    n = source_width + target_width
    place = torch.arange(n, device=source_lengths.device)
    visible = place <= place[:, None]  # (n, n), row = query
    if prefix:
        visible = visible | (place < source_width)
    real = (place < source_lengths[:, None]) | (place >= source_width)  # (B, n)
    return visible & real[:, None, :, None]


def _not_even_itself(
    source_lengths: Tensor, source_width: int, target_width: int, prefix: bool
) -> Tensor:
    n = source_width + target_width
    place = torch.arange(n, device=source_lengths.device)
    visible = place < place[:, None]  # (n, n), row = query
    if prefix:
        visible = visible | (place < source_width)
    real = (place < source_lengths[:, None]) | (place >= source_width)  # (B, n)
    return visible & real[:, None, None, :]


def _draw_layouts(generator: Generator) -> list[Inputs]:
    drawn: list[Inputs] = [
        (torch.tensor([2]), 2, 2, True),
        (torch.tensor([2]), 2, 2, False),
    ]
    for source, target, prefix in (
        (3, 2, True),
        (4, 3, False),
        (4, 0, True),  # an encoder
        (3, 0, False),
        (2, 4, True),
    ):
        lengths = torch.randint(1, source + 1, (3,), generator=generator)
        lengths[0], lengths[1] = 1, source
        drawn.append((lengths, source, target, prefix))
    return drawn


def _target_is_causal(answer, inputs: Inputs) -> bool:
    mask = answer(*inputs)[..., inputs[1] :, inputs[1] :]
    return not mask.triu(1).any() and bool(mask.diagonal(dim1=-2, dim2=-1).all())


def _padding_is_nobodys_key(answer, inputs: Inputs) -> bool:
    lengths, source_width, *_ = inputs
    seen = answer(*inputs).any(dim=-2).flatten(0, -2)[:, :source_width]
    place = torch.arange(source_width, device=lengths.device)
    return not (seen & (place >= lengths[:, None])).any()


# Stage: as many parameters for everyone


def equal_feed_forward(
    d_model: int, d_ff: int, num_layers: int, num_readers: int, num_writers: int
) -> int:
    attention = 4 * (d_model**2 + d_model)
    norm = 2 * d_model
    a_unit = 2 * d_model + 1
    stack = num_layers * (attention + 2 * norm + d_ff * a_unit + d_model)
    readers = num_readers * (attention + 2 * norm + d_model)
    writers = num_writers * (2 * attention + 3 * norm + d_model)
    return (stack - readers - writers) // ((num_readers + num_writers) * a_unit)


def _forgets_looking_across(
    d_model: int, d_ff: int, num_layers: int, num_readers: int, num_writers: int
) -> int:
    return equal_feed_forward(d_model, d_ff, num_layers, num_readers + num_writers, 0)


def _readers_look_across(
    d_model: int, d_ff: int, num_layers: int, num_readers: int, num_writers: int
) -> int:
    return equal_feed_forward(d_model, d_ff, num_layers, 0, num_readers + num_writers)


def _writers_pay(
    d_model: int, d_ff: int, num_layers: int, num_readers: int, num_writers: int
) -> int:
    attention = 4 * (d_model**2 + d_model)
    norm = 2 * d_model
    a_unit = 2 * d_model + 1
    stack = num_layers * (attention + 2 * norm + d_ff * a_unit + d_model)
    readers = num_readers * (attention + 2 * norm + d_ff * a_unit + d_model)
    writers = num_writers * (2 * attention + 3 * norm + d_model)
    return (stack - readers - writers) // (num_writers * a_unit)


def _rounds_up(
    d_model: int, d_ff: int, num_layers: int, num_readers: int, num_writers: int
) -> int:
    narrow = equal_feed_forward(d_model, d_ff, num_layers, num_readers, num_writers)
    return narrow + 1


def _no_biases(
    d_model: int, d_ff: int, num_layers: int, num_readers: int, num_writers: int
) -> int:
    attention = 4 * d_model**2
    norm = 2 * d_model
    a_unit = 2 * d_model
    stack = num_layers * (attention + 2 * norm + d_ff * a_unit)
    readers = num_readers * (attention + 2 * norm)
    writers = num_writers * (2 * attention + 3 * norm)
    return (stack - readers - writers) // ((num_readers + num_writers) * a_unit)


def _cross_attention_is_one_matrix(
    d_model: int, d_ff: int, num_layers: int, num_readers: int, num_writers: int
) -> int:
    attention = 4 * (d_model**2 + d_model)
    norm = 2 * d_model
    a_unit = 2 * d_model + 1
    stack = num_layers * (attention + 2 * norm + d_ff * a_unit + d_model)
    readers = num_readers * (attention + 2 * norm + d_model)
    writers = num_writers * (attention + attention // 4 + 3 * norm + d_model)
    return (stack - readers - writers) // ((num_readers + num_writers) * a_unit)


def _draw_sizes(generator: Generator) -> list[Inputs]:
    drawn = [(2, 20, 2, 1, 1), (4, 41, 6, 1, 5), (48, 96, 2, 1, 1)]
    for _ in range(16):
        d_model, layers, readers, writers = (
            int(torch.randint(1, high, (), generator=generator))
            for high in (9, 9, 3, 3)
        )
        d_ff = int(torch.randint(60, 99, (), generator=generator))
        drawn.append((2 * d_model, d_ff, layers + 3, readers, writers))
    return drawn


def _as_large_as_allowed(answer, inputs: Inputs) -> bool:
    d_model, d_ff, num_layers, num_readers, num_writers = inputs
    width = answer(*inputs)
    if width != int(width) or width < 1:
        return False

    def size(layer: type[nn.Module], width: int) -> int:
        return sum(p.numel() for p in layer(d_model, 1, width).parameters())

    allowed = num_layers * size(EncoderLayer, d_ff)
    found = [
        num_readers * size(EncoderLayer, w) + num_writers * size(DecoderLayer, w)
        for w in (int(width), int(width) + 1)
    ]
    return found[0] <= allowed < found[1]


# Stage: the loss of the target


def target_loss(
    logits: Float[Tensor, "batch n vocab"],
    target: Int[Tensor, "batch width"],
    pad_id: int,
) -> Float[Tensor, ""]:
    told = logits[:, logits.shape[1] - target.shape[1] :]
    return F.cross_entropy(told.transpose(1, 2), target, ignore_index=pad_id)


def _shifts_twice(logits: Tensor, target: Tensor, pad_id: int) -> Tensor:
    return target_loss(logits[:, :-1], target[:, 1:], pad_id)


def _a_column_early(logits: Tensor, target: Tensor, pad_id: int) -> Tensor:
    return target_loss(logits[:, :-1], target, pad_id)


def _at_the_source(logits: Tensor, target: Tensor, pad_id: int) -> Tensor:
    return target_loss(logits[:, : target.shape[1]], target, pad_id)


def _learns_padding(logits: Tensor, target: Tensor, pad_id: int) -> Tensor:
    return target_loss(logits, target, -100)


def _divides_by_places(logits: Tensor, target: Tensor, pad_id: int) -> Tensor:
    real = (target != pad_id).sum()
    return target_loss(logits, target, pad_id) * real / target.numel()


def _each_row_alike(logits: Tensor, target: Tensor, pad_id: int) -> Tensor:
    rows = zip(logits.split(1), target.split(1), strict=True)
    return torch.stack([target_loss(*row, pad_id) for row in rows]).mean()


def _softmax_twice(logits: Tensor, target: Tensor, pad_id: int) -> Tensor:
    return target_loss(logits.softmax(dim=-1), target, pad_id)


def _draw_logits(generator: Generator) -> list[Inputs]:
    drawn: list[Inputs] = []
    for lengths, source, pad_id in (
        ((2,), 2, 0),
        ((3, 1), 3, 0),
        ((1, 4, 2), 5, 6),
        ((3, 3), 1, 2),
    ):
        width = max(lengths) + (source == 5)
        shape = (len(lengths), source + width, 7)
        target = torch.randint(3, 6, (*shape[:1], width), generator=generator)
        for row, length in zip(target, lengths, strict=True):
            row[length:] = pad_id
        drawn.append((2 * torch.randn(shape, generator=generator), target, pad_id))
    return drawn


def _source_does_not_count(answer, inputs: Inputs) -> bool:
    logits, target, pad_id = inputs
    before = answer(logits.clone(), target, pad_id)
    logits[:, : logits.shape[1] - target.shape[1]] += torch.arange(7.0).to(logits)
    return torch.allclose(answer(logits, target, pad_id), before, atol=1e-5)


def _knowing_nothing_costs_log_vocab(answer, inputs: Inputs) -> bool:
    logits, target, pad_id = inputs
    flat = answer(torch.zeros_like(logits), target, pad_id)
    return abs(flat.item() - math.log(logits.shape[-1])) < 1e-4


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="layout_mask",
        chapter="practice",
        title="One mask for all families",
        difficulty=3,
        minutes=12,
        trains="writes the mask of a prefix language model for a padded batch",
        reference=layout_mask,
        inputs=_draw_layouts,
        properties=(
            Property(
                "each place of the target sees itself and no later place",
                _target_is_causal,
            ),
            Property("padding is nobody's key", _padding_is_nobodys_key),
        ),
        misconceptions=(
            Misconception(
                "is causal in any case",
                _causal_anyway,
                "With prefix=True the first letters of the source still cannot see the "
                "later ones. The source is given: nothing has to be foretold in it.",
            ),
            Misconception(
                "is a prefix in any case",
                _prefix_anyway,
                "With prefix=False the source sees its own later letters. Then the mask "
                "has to be causal everywhere.",
            ),
            Misconception(
                "lets the source read the target",
                _source_reads_target,
                "Rows of the source see the target. One layer up the target sees its "
                "own future through them, and training shows a loss that no writing "
                "reaches.",
            ),
            Misconception(
                "takes the target for padding",
                _hides_the_target,
                "Everything from source_lengths on is hidden, and that includes the "
                "target: it starts at source_width, however short the source is.",
            ),
            Misconception(
                "shows the padding",
                _padding_is_seen,
                "Padding may be attended to. The places from source_lengths[i] up to "
                "source_width are nobody's key.",
            ),
            Misconception(
                "hides padding from asking",
                _blind_padding,
                "Rows of padding see nothing, and all others still see the padding. "
                "What must not be seen is a column: keys are the last axis.",
            ),
            Misconception(
                "hides each place from itself",
                _not_even_itself,
                "A place cannot see itself, and its own token is the last that is "
                "known. Which comparison hides only what comes later?",
            ),
        ),
        hints=(
            "Two questions decide, and & joins them: may this row see this column, and "
            "is this column a real token?",
            "place = torch.arange(n): a row sees the columns with place <= its own, and "
            "with prefix=True also all with place < source_width.",
            "real = (place < source_lengths[:, None]) | (place >= source_width) has "
            "shape (batch, n). Which axes does real[:, None, None, :] add?",
        ),
    ),
    Exercise(
        name="equal_feed_forward",
        chapter="practice",
        title="As many parameters for everyone",
        difficulty=3,
        minutes=12,
        trains="counts what a layer of an encoder and of a decoder weighs",
        reference=equal_feed_forward,
        inputs=_draw_sizes,
        properties=(
            Property(
                "the two stacks are not larger, and one unit more would make them so",
                _as_large_as_allowed,
            ),
        ),
        misconceptions=(
            Misconception(
                "forgets to look across",
                _forgets_looking_across,
                "All layers are counted like an encoder's. A layer that writes has a "
                "second attention and a third norm.",
            ),
            Misconception(
                "gives every layer two attentions",
                _readers_look_across,
                "The layers that read are counted with a cross-attention too. Only "
                "those that write look across.",
            ),
            Misconception(
                "lets only the writing layers pay",
                _writers_pay,
                "The layers that read keep d_ff here, and the others get what is left. "
                "Asked is one width for all of them.",
            ),
            Misconception(
                "rounds up",
                _rounds_up,
                "The two stacks come out a little larger than the one. The width is to "
                "be the largest that does not exceed it.",
            ),
            Misconception(
                "forgets the biases",
                _no_biases,
                "Only matrices and norms are counted. The four maps of an attention and "
                "the two of a feed-forward network have biases here.",
            ),
            Misconception(
                "takes cross-attention for one matrix",
                _cross_attention_is_one_matrix,
                "Looking across is counted as one matrix. It is a whole attention, with "
                "W_q, W_k, W_v and W_o.",
            ),
        ),
        hints=(
            "Write down what a layer weighs: attention 4 (d² + d), a norm 2d, and a "
            "feed-forward network of width f: 2df + f + d.",
            "A layer that reads has one attention and two norms. One that writes has "
            "two attentions and three norms.",
            "One unit of width costs 2d + 1 in each layer. What is left of the stack's "
            "parameters when everything else is paid, divided (//) by that of all "
            "layers together?",
        ),
    ),
    Exercise(
        name="target_loss",
        chapter="practice",
        title="The loss of the target",
        difficulty=2,
        minutes=8,
        trains="finds the columns of a decoder-only model that foretell a target",
        reference=target_loss,
        inputs=_draw_logits,
        properties=(
            Property("the logits of the source do not count", _source_does_not_count),
            Property(
                "logits that are all equal cost log(vocab)",
                _knowing_nothing_costs_log_vocab,
            ),
        ),
        misconceptions=(
            Misconception(
                "shifts a second time",
                _shifts_twice,
                "The target is moved by one place, but START has done that already: the "
                "model has read the token *before* the one that stands in that column "
                "of target.",
            ),
            Misconception(
                "reads one column too early",
                _a_column_early,
                "The columns begin at the last one of the source. That is right where no "
                "START is read; here START foretells the first token of the target.",
            ),
            Misconception(
                "asks the source",
                _at_the_source,
                "These are the first columns, those of the source. The target's are the "
                "last ones.",
            ),
            Misconception(
                "learns to write padding",
                _learns_padding,
                "Places where target is pad_id are counted. Nothing is to be foretold "
                "there.",
            ),
            Misconception(
                "divides by all places",
                _divides_by_places,
                "The sum is divided by all places, padding included, so that a batch of "
                "short targets looks better than it is.",
            ),
            Misconception(
                "weighs each row alike",
                _each_row_alike,
                "This is a mean of the rows' means, in which a token of a short target "
                "counts more than one of a long target. Asked is the mean over tokens.",
            ),
            Misconception(
                "takes the softmax twice",
                _softmax_twice,
                "cross_entropy has the softmax in it and wants logits. Probabilities, "
                "which lie between 0 and 1, come out nearly equal after another one.",
            ),
        ),
        hints=(
            "The model has read source, START and all of the target but its last token. "
            "Which columns have read START or something after it?",
            "The last target.shape[1] columns. F.cross_entropy wants the vocabulary on "
            "axis 1: transpose(1, 2).",
            "F.cross_entropy(..., target, ignore_index=pad_id) leaves padding out of "
            "the sum and of what it is divided by.",
        ),
    ),
)


# The rubric

Models = Mapping[str, Mapping[str, nn.Module]]


def _unfairness(models: Models) -> float:
    spread = []
    for task in TASKS:
        sizes = [
            sum(p.numel() for p in models[task][family].parameters())
            for family in FAMILIES
        ]
        spread.append(max(sizes) / min(sizes) - 1)
    return 100 * max(spread)


@torch.no_grad()
def leak(model: nn.Module) -> float:
    """How far a probability moves, at most, when tokens change that are not known yet.

    Logits number t foretell target token t, and may depend on the tokens before it.
    """
    source, target = draw("reverse", 64, Generator().manual_seed(_HELD_OUT))
    other = FIRST_LETTER + (target - FIRST_LETTER + 1) % NUM_LETTERS
    before = _told(model, source, target).softmax(dim=-1)
    moved = 0.0
    for place in range(target.shape[1]):
        changed = torch.cat([target[:, :place], other[:, place:]], dim=1)
        after = _told(model, source, changed).softmax(dim=-1)
        difference = (after - before)[:, : place + 1].abs().max().item()
        moved = max(moved, difference)
    return moved


def _leaks(models: Models) -> float:
    return max(leak(models[task][family]) for task in TASKS for family in FAMILIES)


def _tags_right(models: Models) -> float:
    return 100 * share_right(models["tag"]["encoder-only"], "tag")


def _reverses_right(models: Models) -> float:
    of_families = models["reverse"]
    return 100 * min(share_right(of_families[name], "reverse") for name in FAMILIES)


def _bits_too_many(models: Models) -> float:
    cost = max(bits_a_target(models["coin"][name], "coin") for name in WRITERS)
    return cost - least_bits("coin", at_once=False)


PROJECT = Project(
    name="architectures",
    title="Three families, one stack",
    stages=tuple(exercise.name for exercise in EXERCISES),
    minutes=150,
    criteria=(
        Criterion(
            name="fairness",
            asks="by how much the largest family has more parameters than the smallest",
            measure=_unfairness,
            levels=(10.0, 2.0, 0.5),
            unit=" %",
            digits=2,
            advice=(
                "Count the parameters of each family before you train any of them.",
                "The encoder-decoder has a cross-attention a layer: its feed-forward "
                "networks pay for it, by equal_feed_forward.",
                "What is left are norms and tables of positions: give all families the "
                "same ones.",
            ),
        ),
        Criterion(
            name="no leak",
            asks="how far a probability moves when target tokens change that are not "
            "known yet",
            measure=_leaks,
            levels=(1e-2, 1e-3, 1e-4),
            digits=6,
            advice=(
                "Some place sees what it has to foretell. Is the target shifted, so that "
                "place t has read START and the tokens before t?",
                "Something still comes through: look at the rows of the source. They "
                "must not see the target.",
                "It is nearly nothing, but not rounding: is dropout off when you write?",
            ),
        ),
        Criterion(
            name="right context",
            asks="tag: held-out texts that the encoder tags without a mistake",
            measure=_tags_right,
            levels=(50.0, 90.0, 99.0),
            unit=" %",
            digits=1,
            advice=(
                "Two texts in five can be had without looking to the right. Does each "
                "place see all letters of its text?",
                "Train longer, or with a higher rate: the loss should fall to a "
                "hundredth of a bit.",
                "Let the rate fall to zero at the end, and give it more updates.",
            ),
        ),
        Criterion(
            name="writing",
            asks="reverse: held-out texts that each family reverses without a mistake, "
            "of the worst family",
            measure=_reverses_right,
            levels=(20.0, 90.0, 99.0),
            unit=" %",
            digits=1,
            advice=(
                "A family learns nothing here. Do its positions tell a place of the "
                "source from a place of the target?",
                "Some family is not done yet: more updates, the same number for all.",
                "Let the rate fall to zero at the end, and give all of them more "
                "updates.",
            ),
        ),
        Criterion(
            name="the coin",
            asks="coin: bits that the worse of the two families that write pays for a "
            "text, beyond what must be paid",
            measure=_bits_too_many,
            levels=(2.0, 0.5, 0.1),
            unit=" bits",
            digits=2,
            advice=(
                "This is no better than filling all places at once. Does place t read "
                "the tokens before it?",
                "After the first letter the rest is settled. More updates, or a higher "
                "rate.",
                "Three times the updates bring it here. A schedule that falls to zero "
                "helps.",
            ),
        ),
    ),
)
