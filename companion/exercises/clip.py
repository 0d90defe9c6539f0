"""Exercises of the chapter on CLIP."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from companion.exercises.exercise import Exercise, Inputs, Misconception, Property

# The loss of both sides


def both_sides_loss(logits: Float[Tensor, "pairs pairs"]) -> Float[Tensor, ""]:
    own = logits.diagonal()
    of_images = logits.logsumexp(dim=1) - own
    of_texts = logits.logsumexp(dim=0) - own
    return (of_images.mean() + of_texts.mean()) / 2


def _rows_only(logits: Tensor) -> Tensor:
    return (logits.logsumexp(dim=1) - logits.diagonal()).mean()


def _columns_only(logits: Tensor) -> Tensor:
    return _rows_only(logits.T)


def _not_halved(logits: Tensor) -> Tensor:
    return 2 * both_sides_loss(logits)


def _summed(logits: Tensor) -> Tensor:
    return len(logits) * both_sides_loss(logits)


def _whole_table(logits: Tensor) -> Tensor:
    return logits.flatten().logsumexp(dim=0) - logits.diagonal().mean()


def _only_the_wrong(logits: Tensor) -> Tensor:
    own = logits.diagonal()
    off = logits.masked_fill(torch.eye(len(own)).bool().to(own.device), -math.inf)
    return (off.logsumexp(dim=1) - own + off.logsumexp(dim=0) - own).mean() / 2


def _draw_logits(generator: Generator) -> list[Inputs]:
    return [
        (scale * torch.randn(n, n, generator=generator),)
        for n, scale in ((3, 1.0), (5, 3.0), (2, 10.0))
    ]


def _same_when_turned(answer, inputs: Inputs) -> bool:
    (logits,) = inputs
    return torch.allclose(answer(logits), answer(logits.T), atol=1e-5)


def _log_of_the_batch(answer, inputs: Inputs) -> bool:
    (logits,) = inputs
    flat = torch.zeros_like(logits)
    return bool((answer(flat) - math.log(len(logits))).abs() < 1e-5)


# The state at the end of a text


def end_of_text_state(
    states: Float[Tensor, "batch length d_model"],
    token_ids: Int[Tensor, "batch length"],
    eos_id: int,
) -> Float[Tensor, "batch d_model"]:
    ends = (token_ids == eos_id).int().argmax(dim=1)  # the first one
    return states[torch.arange(len(states), device=states.device), ends]


def _the_last(states: Tensor, token_ids: Tensor, eos_id: int) -> Tensor:
    return states[:, -1]


def _the_first(states: Tensor, token_ids: Tensor, eos_id: int) -> Tensor:
    return states[:, 0]


def _one_before(states: Tensor, token_ids: Tensor, eos_id: int) -> Tensor:
    ends = (token_ids == eos_id).int().argmax(dim=1) - 1
    return states[torch.arange(len(states), device=states.device), ends]


def _last_of_them(states: Tensor, token_ids: Tensor, eos_id: int) -> Tensor:
    length = token_ids.shape[1]
    ends = length - 1 - (token_ids == eos_id).flip(1).int().argmax(dim=1)
    return states[torch.arange(len(states), device=states.device), ends]


def _all_of_them(states: Tensor, token_ids: Tensor, eos_id: int) -> Tensor:
    ends = (token_ids == eos_id).int().argmax(dim=1)
    return states[:, ends][:, 0]


def _largest_id(states: Tensor, token_ids: Tensor, eos_id: int) -> Tensor:
    ends = token_ids.argmax(dim=1)
    return states[torch.arange(len(states), device=states.device), ends]


def _draw_texts(generator: Generator) -> list[Inputs]:
    cases = []
    for ends, length, eos_id in (((3, 2, 4), 6, 7), ((4, 1), 5, 4)):
        token_ids = torch.randint(8, 12, (len(ends), length), generator=generator)
        for row, end in enumerate(ends):
            token_ids[row, end:] = 0
            token_ids[row, end : end + 2] = eos_id  # once too often
        states = torch.randn(len(ends), length, 3, generator=generator)
        cases.append((states, token_ids, eos_id))
    return cases


def _padding_is_not_read(answer, inputs: Inputs) -> bool:
    states, token_ids, eos_id = inputs
    changed = states.clone()
    ends = (token_ids == eos_id).int().argmax(dim=1)
    for row, end in enumerate(ends.tolist()):
        changed[row, end + 1 :] += 1.0
    same = answer(changed, token_ids, eos_id), answer(states, token_ids, eos_id)
    return torch.equal(*same)


# Classes that were never trained


def zero_shot_classes(
    images: Float[Tensor, "images d"], prompts: Float[Tensor, "classes prompts d"]
) -> Int[Tensor, "images"]:
    classes = F.normalize(F.normalize(prompts, dim=-1).mean(dim=1), dim=-1)
    return (images @ classes.T).argmax(dim=1)


def _not_normalized_first(images: Tensor, prompts: Tensor) -> Tensor:
    classes = F.normalize(prompts.mean(dim=1), dim=-1)
    return (images @ classes.T).argmax(dim=1)


def _not_normalized_after(images: Tensor, prompts: Tensor) -> Tensor:
    classes = F.normalize(prompts, dim=-1).mean(dim=1)
    return (images @ classes.T).argmax(dim=1)


def _first_prompt(images: Tensor, prompts: Tensor) -> Tensor:
    return (images @ F.normalize(prompts[:, 0], dim=-1).T).argmax(dim=1)


def _best_prompt(images: Tensor, prompts: Tensor) -> Tensor:
    scores = torch.einsum("id,cpd->icp", images, F.normalize(prompts, dim=-1))
    return scores.amax(dim=2).argmax(dim=1)


def _image_of_each_class(images: Tensor, prompts: Tensor) -> Tensor:
    classes = F.normalize(F.normalize(prompts, dim=-1).mean(dim=1), dim=-1)
    return (images @ classes.T).argmax(dim=0)


def _draw_prompts(generator: Generator) -> list[Inputs]:
    cases = []
    for images, classes, prompts, d in ((12, 3, 2, 3), (40, 5, 3, 4), (30, 4, 4, 2)):
        length = 0.1 + 3 * torch.rand(classes, prompts, 1, generator=generator)
        cases.append(
            (
                F.normalize(torch.randn(images, d, generator=generator), dim=1),
                length * torch.randn(classes, prompts, d, generator=generator),
            )
        )
    return cases


def _length_of_a_prompt_is_nothing(answer, inputs: Inputs) -> bool:
    images, prompts = inputs
    longer = prompts.clone()
    longer[:, 0] *= 50.0
    return torch.equal(answer(images, longer), answer(images, prompts))


# Recall


def recall_at(scores: Float[Tensor, "queries items"], k: int) -> float:
    own = scores.diagonal()[:, None]
    before = (scores >= own).sum(dim=1) - 1  # how many others are not below it
    return (before < k).float().mean().item()


def _ties_count_for_it(scores: Tensor, k: int) -> float:
    own = scores.diagonal()[:, None]
    return ((scores > own).sum(dim=1) < k).float().mean().item()


def _one_more(scores: Tensor, k: int) -> float:
    return recall_at(scores, k + 1)


def _one_less(scores: Tensor, k: int) -> float:
    return recall_at(scores, k - 1)


def _other_direction(scores: Tensor, k: int) -> float:
    return recall_at(scores.T, k)


def _exactly_there(scores: Tensor, k: int) -> float:
    before = (scores >= scores.diagonal()[:, None]).sum(dim=1) - 1
    return (before == k - 1).float().mean().item()


def _precision(scores: Tensor, k: int) -> float:
    return recall_at(scores, k) / k


def _draw_scores(generator: Generator) -> list[Inputs]:
    cases = []
    for n, k in ((5, 2), (40, 3), (60, 10)):
        scores = torch.randn(n, n, generator=generator)
        scores += torch.eye(n)
        scores[:, 0] += 0.5  # an item that all queries like
        scores[1, (2, 3, 4)] = scores[1, 1].item()  # a tie
        scores[:, 2] = scores[:, 2].clamp(max=0)
        cases.append((scores, k))
    tied = torch.zeros(8, 8)
    cases.append((tied, 4))
    return cases


def _all_within_all(answer, inputs: Inputs) -> bool:
    scores, _ = inputs
    return answer(scores, len(scores)) == 1.0


# The gradient of the temperature


def scale_gradient(
    cosines: Float[Tensor, "pairs pairs"], logit_scale: float
) -> Float[Tensor, ""]:
    scale = math.exp(logit_scale)
    weights = (scale * cosines).softmax(dim=1)
    expected = (weights * cosines).sum(dim=1)
    return scale * (expected - cosines.diagonal()).mean()


def _of_the_scale_itself(cosines: Tensor, logit_scale: float) -> Tensor:
    return scale_gradient(cosines, logit_scale) / math.exp(logit_scale)


def _wrong_sign(cosines: Tensor, logit_scale: float) -> Tensor:
    return -scale_gradient(cosines, logit_scale)


def _at_scale_one(cosines: Tensor, logit_scale: float) -> Tensor:
    expected = (cosines.softmax(dim=1) * cosines).sum(dim=1)
    return math.exp(logit_scale) * (expected - cosines.diagonal()).mean()


def _plain_mean(cosines: Tensor, logit_scale: float) -> Tensor:
    return math.exp(logit_scale) * (cosines.mean(dim=1) - cosines.diagonal()).mean()


def _log_not_exponential(cosines: Tensor, logit_scale: float) -> Tensor:
    weights = (logit_scale * cosines).softmax(dim=1)
    return ((weights * cosines).sum(dim=1) - cosines.diagonal()).mean()


def _draw_cosines(generator: Generator) -> list[Inputs]:
    cases = []
    for n, d, logit_scale in ((3, 2, 0.7), (6, 4, 2.66), (5, 3, 1.5)):
        images, texts = (
            F.normalize(torch.randn(n, d, generator=generator), dim=1) for _ in "it"
        )
        cases.append((images @ texts.T, logit_scale))
    return cases


def _autograd_agrees(answer, inputs: Inputs) -> bool:
    cosines, logit_scale = inputs
    t = torch.tensor(logit_scale, device=cosines.device, requires_grad=True)
    pairs = torch.arange(len(cosines), device=cosines.device)
    F.cross_entropy(cosines * t.exp(), pairs).backward()
    return torch.allclose(answer(cosines, logit_scale), t.grad, atol=1e-4)


# The batch on several machines


def sharded_loss(
    images: Float[Tensor, "machines local d"],
    texts: Float[Tensor, "machines local d"],
    scale: float,
) -> Float[Tensor, "machines"]:
    all_images, all_texts = images.flatten(0, 1), texts.flatten(0, 1)
    local = images.shape[1]
    losses = []
    for machine in range(len(images)):
        own = torch.arange(local, device=images.device) + machine * local
        of_images = F.cross_entropy(scale * images[machine] @ all_texts.T, own)
        of_texts = F.cross_entropy(scale * texts[machine] @ all_images.T, own)
        losses.append((of_images + of_texts) / 2)
    return torch.stack(losses)


def _local_only(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    return torch.stack(
        [both_sides_loss(scale * i @ t.T) for i, t in zip(images, texts, strict=True)]
    )


def _own_place_without_offset(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    all_images, all_texts = images.flatten(0, 1), texts.flatten(0, 1)
    own = torch.arange(images.shape[1], device=images.device)
    losses = []
    for i, t in zip(images, texts, strict=True):
        of_images = F.cross_entropy(scale * i @ all_texts.T, own)
        losses.append((of_images + F.cross_entropy(scale * t @ all_images.T, own)) / 2)
    return torch.stack(losses)


def _images_side_only(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    all_texts, local = texts.flatten(0, 1), images.shape[1]
    own = torch.arange(local, device=images.device)
    return torch.stack(
        [
            F.cross_entropy(scale * i @ all_texts.T, own + machine * local)
            for machine, i in enumerate(images)
        ]
    )


def _columns_of_own_rows(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    all_texts, local = texts.flatten(0, 1), images.shape[1]
    own = torch.arange(local, device=images.device)
    losses = []
    for machine, i in enumerate(images):
        logits = scale * i @ all_texts.T  # (local, all)
        square = logits[:, machine * local : (machine + 1) * local]
        of_images = F.cross_entropy(logits, own + machine * local)
        losses.append((of_images + F.cross_entropy(square.T, own)) / 2)
    return torch.stack(losses)


def _shared_by_all(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    return sharded_loss(images, texts, scale) / len(images)


def _draw_shards(generator: Generator) -> list[Inputs]:
    def unit(*size: int) -> Tensor:
        return F.normalize(torch.randn(size, generator=generator), dim=-1)

    return [
        (unit(m, n, d), unit(m, n, d), scale)
        for m, n, d, scale in ((2, 3, 4, 2.0), (3, 2, 5, 8.0), (4, 4, 3, 5.0))
    ]


def _mean_is_the_whole(answer, inputs: Inputs) -> bool:
    images, texts, scale = inputs
    whole = both_sides_loss(scale * images.flatten(0, 1) @ texts.flatten(0, 1).T)
    return torch.allclose(answer(*inputs).mean(), whole, atol=1e-5)


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="both_sides_loss",
        chapter="clip",
        title="The contrastive loss",
        difficulty=2,
        minutes=10,
        trains="asks a table of similarities along its rows and its columns",
        reference=both_sides_loss,
        inputs=_draw_logits,
        properties=(
            Property("to exchange images and texts changes nothing", _same_when_turned),
            Property("logits that are all equal cost log(pairs)", _log_of_the_batch),
        ),
        misconceptions=(
            Misconception(
                "asks the images only",
                _rows_only,
                "Each image chooses among the texts, and no text chooses among the images. "
                "A text that every image likes then costs nothing to its column.",
            ),
            Misconception(
                "asks the texts only",
                _columns_only,
                "Each text chooses among the images, and no image chooses among the texts.",
            ),
            Misconception(
                "adds the two sides",
                _not_halved,
                "The sum of both sides; the paper takes their mean. With logits that are "
                "all zero, what should one choice among n cost?",
            ),
            Misconception(
                "sums over the pairs",
                _summed,
                "It grows with the batch. Both sides are means over the pairs.",
            ),
            Misconception(
                "takes one softmax over the whole table",
                _whole_table,
                "All n x n entries compete with each other. An image should compete "
                "for its text with the entries of its own row only.",
            ),
            Misconception(
                "leaves the right pair out of the sum",
                _only_the_wrong,
                "The logsumexp runs over the wrong pairs only, so that the loss can fall "
                "below zero without end. The right one is among the candidates.",
            ),
        ),
        hints=(
            "-log softmax of a logit is logsumexp of its row minus the logit itself.",
            "Once along dim=1, once along dim=0; the diagonal is what is right.",
            "The mean of (logits.logsumexp(1) - own) and (logits.logsumexp(0) - own).",
        ),
    ),
    Exercise(
        name="end_of_text_state",
        chapter="clip",
        title="The state that stands for a text",
        difficulty=2,
        minutes=8,
        trains="picks one state a text, at a place that differs by text",
        reference=end_of_text_state,
        inputs=_draw_texts,
        properties=(
            Property("what comes after the end is not read", _padding_is_not_read),
        ),
        misconceptions=(
            Misconception(
                "reads the last position",
                _the_last,
                "It reads the last position of the tensor. Most texts end earlier and are "
                "padded; which position has seen the text and nothing else?",
            ),
            Misconception(
                "reads the first position",
                _the_first,
                "That is where BERT puts [CLS]. This tower is causal: its first token has "
                "seen only itself.",
            ),
            Misconception(
                "reads the token before the end",
                _one_before,
                "It reads the last word. The end-of-text token itself is read: it was "
                "trained for nothing else.",
            ),
            Misconception(
                "reads the last end-of-text token",
                _last_of_them,
                "Padding may begin with the same token, or be made of it. The first one "
                "is the end of the text.",
            ),
            Misconception(
                "reads all texts at the end of the first",
                _all_of_them,
                "states[:, ends] takes every row at every end. Pair row i with ends[i].",
            ),
            Misconception(
                "looks for the largest id",
                _largest_id,
                "That is the rule of CLIP's first code, right for its vocabulary, where "
                "end-of-text is the last token of all. Here it need not be.",
            ),
        ),
        hints=(
            "Where does eos_id occur first in each row?",
            "argmax of a row of zeros and ones is the place of the first one.",
            "states[torch.arange(batch), ends]",
        ),
    ),
    Exercise(
        name="zero_shot_classes",
        chapter="clip",
        title="A classifier out of prompts",
        difficulty=3,
        minutes=12,
        trains="averages directions, whatever the length of the vectors",
        reference=zero_shot_classes,
        inputs=_draw_prompts,
        properties=(
            Property(
                "how long the vector of a prompt is does not matter",
                _length_of_a_prompt_is_nothing,
            ),
        ),
        misconceptions=(
            Misconception(
                "averages vectors of different lengths",
                _not_normalized_first,
                "A prompt with a long vector outweighs the others in the mean. Bring each "
                "to length 1 first.",
            ),
            Misconception(
                "leaves the mean as long as it is",
                _not_normalized_after,
                "Where the prompts of a class disagree, their mean is short, and its "
                "scores are small for that reason. Scores are cosines.",
            ),
            Misconception(
                "uses one prompt",
                _first_prompt,
                "Only the first prompt of each class is used.",
            ),
            Misconception(
                "takes the best prompt of each class",
                _best_prompt,
                "The highest score of any prompt decides. Asked for is the mean vector "
                "of a class: one row of a classifier, whatever the number of prompts.",
            ),
            Misconception(
                "finds an image for each class",
                _image_of_each_class,
                "There comes out an image for each class. Over which axis do the "
                "classes lie?",
            ),
        ),
        hints=(
            "Each class becomes one vector of length 1.",
            "Normalize, average over the prompts, normalize again.",
            "Then (images @ classes.T).argmax(dim=1).",
        ),
    ),
    Exercise(
        name="recall_at",
        chapter="clip",
        title="Recall at k",
        difficulty=2,
        minutes=10,
        trains="scores a search without being generous to ties",
        reference=recall_at,
        inputs=_draw_scores,
        properties=(Property("recall at the number of items is 1", _all_within_all),),
        misconceptions=(
            Misconception(
                "counts a tie as a success",
                _ties_count_for_it,
                "Only larger scores count against the right item. A model that gives all "
                "pairs the same score would then be perfect.",
            ),
            Misconception(
                "is one too generous",
                _one_more,
                "It accepts place k + 1 as well.",
            ),
            Misconception(
                "is one too strict",
                _one_less,
                "It accepts places up to k - 1. Does the score count itself?",
            ),
            Misconception(
                "searches in the other direction",
                _other_direction,
                "It ranks the queries for each item. A query is a row.",
            ),
            Misconception(
                "asks for place k exactly",
                _exactly_there,
                "It counts what stands in place k, not among the first k.",
            ),
            Misconception(
                "divides by k",
                _precision,
                "That is precision at k. Only one item is right, so recall is the share of "
                "queries that find it.",
            ),
        ),
        hints=(
            "How many other items of the row have a score that is not below the right one?",
            "The right item is on the diagonal, and is equal to itself.",
            "((scores >= own).sum(dim=1) <= k).float().mean()",
        ),
    ),
    Exercise(
        name="scale_gradient",
        chapter="clip",
        title="Where the temperature is pulled",
        difficulty=4,
        minutes=20,
        trains="derives the gradient of a learned temperature by hand",
        reference=scale_gradient,
        inputs=_draw_cosines,
        properties=(Property("autograd gives the same", _autograd_agrees),),
        misconceptions=(
            Misconception(
                "takes the slope in the scale",
                _of_the_scale_itself,
                "That is the derivative in s = e^t. What is learned is t: one factor is "
                "missing, by the chain rule.",
            ),
            Misconception(
                "has the sign of an ascent",
                _wrong_sign,
                "The sign is turned. Where the right cosine is above the mean, a larger "
                "scale makes the loss smaller.",
            ),
            Misconception(
                "takes the weights at scale 1",
                _at_scale_one,
                "The softmax sees the cosines times the scale.",
            ),
            Misconception(
                "averages all cosines alike",
                _plain_mean,
                "The mean of a row is weighted by the softmax of its logits.",
            ),
            Misconception(
                "takes t for the scale",
                _log_not_exponential,
                "The logits are multiplied by e^t, not by t.",
            ),
        ),
        hints=(
            "The loss of a row is logsumexp(s c) - s c_own. Differentiate in s first.",
            "The slope of a logsumexp is the mean of c, weighted by the softmax.",
            "ds/dt = s for s = e^t.",
        ),
        tolerance=1e-4,
    ),
    Exercise(
        name="sharded_loss",
        chapter="clip",
        title="A batch on several machines",
        difficulty=4,
        minutes=20,
        trains="splits a loss over machines so that their mean is exact",
        reference=sharded_loss,
        inputs=_draw_shards,
        properties=(
            Property(
                "the mean over machines is the loss of the whole batch",
                _mean_is_the_whole,
            ),
        ),
        misconceptions=(
            Misconception(
                "compares within a machine only",
                _local_only,
                "Each machine sees its own pairs only: its negatives are few, and the "
                "task is easier. Gather the vectors of all first.",
            ),
            Misconception(
                "forgets where its pairs stand",
                _own_place_without_offset,
                "Pair i of machine m stands in place m * local + i among all.",
            ),
            Misconception(
                "asks the images only",
                _images_side_only,
                "The texts choose among all images, too.",
            ),
            Misconception(
                "lets texts choose among its own images",
                _columns_of_own_rows,
                "The columns of the machine's logits hold its own images only. For the "
                "texts a second product is needed, with all images.",
            ),
            Misconception(
                "divides by the number of machines",
                _shared_by_all,
                "Each machine gives the mean over its own pairs. To average over machines "
                "comes after that.",
            ),
        ),
        hints=(
            "A machine needs a row of logits for each of its images, over all texts, and "
            "one for each of its texts, over all images.",
            "flatten(0, 1) gathers; the right answers start at machine * local.",
            "Two cross-entropies of shape (local, machines * local) for each machine.",
        ),
    ),
)
