"""Exercises of the chapter on training."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from companion.exercises.exercise import Exercise, Inputs, Misconception, Property

# Label smoothing


def smoothed_target(
    target: int, vocab_size: int, smoothing: float
) -> Float[Tensor, " vocab"]:
    q = torch.full((vocab_size,), smoothing / vocab_size)
    q[target] += 1 - smoothing
    return q


def _over_the_others(target: int, vocab_size: int, smoothing: float) -> Tensor:
    q = torch.full((vocab_size,), smoothing / (vocab_size - 1))
    q[target] = 1 - smoothing
    return q


def _target_gets_no_share(target: int, vocab_size: int, smoothing: float) -> Tensor:
    q = torch.full((vocab_size,), smoothing / vocab_size)
    q[target] = 1 - smoothing
    return q


def _target_not_lowered(target: int, vocab_size: int, smoothing: float) -> Tensor:
    q = torch.full((vocab_size,), smoothing / vocab_size)
    q[target] = 1.0
    return q


def _all_to_everyone(target: int, vocab_size: int, smoothing: float) -> Tensor:
    q = torch.full((vocab_size,), smoothing)
    q[target] = 1 - smoothing
    return q


def _draw_smoothing(generator: Generator) -> list[Inputs]:
    return [(1, 4, 0.1), (0, 5, 0.2), (6, 7, 0.35), (2, 20, 0.1)]


def _is_a_distribution(answer, inputs: Inputs) -> bool:
    q = answer(*inputs)
    return bool((q >= 0).all()) and abs(float(q.sum()) - 1) < 1e-5


# The mean over tokens


def mean_loss(
    losses: Float[Tensor, "batch length"],
    target_ids: Int[Tensor, "batch length"],
    pad_id: int,
) -> Float[Tensor, ""]:
    real = target_ids != pad_id
    return losses.masked_fill(~real, 0.0).sum() / real.sum()


def _padding_in_the_mean(losses: Tensor, target_ids: Tensor, pad_id: int) -> Tensor:
    return (losses * (target_ids != pad_id)).mean()


def _padding_learned(losses: Tensor, target_ids: Tensor, pad_id: int) -> Tensor:
    return losses.mean()


def _mean_of_means(losses: Tensor, target_ids: Tensor, pad_id: int) -> Tensor:
    real = (target_ids != pad_id).to(losses.dtype)
    return ((losses * real).sum(dim=1) / real.sum(dim=1)).mean()


def _per_sentence(losses: Tensor, target_ids: Tensor, pad_id: int) -> Tensor:
    return (losses * (target_ids != pad_id)).sum() / len(losses)


def _draw_losses(generator: Generator) -> list[Inputs]:
    drawn = []
    for lengths, pad_id in (((2, 4), 0), ((5, 1, 3), 0), ((1, 6, 2), 9)):
        longest = max(lengths)
        losses = 4 * torch.rand(len(lengths), longest, generator=generator) + 0.1
        ids = torch.randint(1, 9, losses.shape, generator=generator)
        for row, length in zip(ids, lengths, strict=True):
            row[length:] = pad_id
        drawn.append((losses, ids, pad_id))
    return drawn


def _more_padding_changes_nothing(answer, inputs: Inputs) -> bool:
    losses, ids, pad_id = inputs
    wider = torch.cat([losses, torch.full_like(losses[:, :2], 7.0)], dim=1)
    wider_ids = torch.cat([ids, torch.full_like(ids[:, :1], pad_id).expand(-1, 2)], 1)
    return bool(
        torch.isclose(answer(losses, ids, pad_id), answer(wider, wider_ids, pad_id))
    )


# The schedule


def warmup_lr(step: int, d_model: int, warmup_steps: int) -> float:
    return d_model**-0.5 * min(step**-0.5, step * warmup_steps**-1.5)


def _largest_of_the_two(step: int, d_model: int, warmup_steps: int) -> float:
    return d_model**-0.5 * max(step**-0.5, step * warmup_steps**-1.5)


def _wrong_power(step: int, d_model: int, warmup_steps: int) -> float:
    return d_model**-0.5 * min(step**-0.5, step * warmup_steps**-0.5)


def _width_forgotten(step: int, d_model: int, warmup_steps: int) -> float:
    return min(step**-0.5, step * warmup_steps**-1.5)


def _counted_from_zero(step: int, d_model: int, warmup_steps: int) -> float:
    return 0.0 if step == 1 else warmup_lr(step - 1, d_model, warmup_steps)


def _wider_is_faster(step: int, d_model: int, warmup_steps: int) -> float:
    return d_model**0.5 * min(step**-0.5, step * warmup_steps**-1.5)


def _draw_steps(generator: Generator) -> list[Inputs]:
    return [(1, 4, 10), (10, 4, 10), (40, 4, 10), (4000, 512, 4000), (90, 96, 200)]


def _peak_is_at_the_end_of_warmup(answer, inputs: Inputs) -> bool:
    _, d_model, warmup = inputs
    around = [answer(s, d_model, warmup) for s in (warmup - 1, warmup, warmup + 1)]
    return max(around) == around[1]


# Accumulation


def accumulated_gradient(
    gradients: Float[Tensor, "batches parameters"], num_tokens: Int[Tensor, " batches"]
) -> Float[Tensor, " parameters"]:
    return gradients.sum(dim=0) / num_tokens.sum()


def _not_divided(gradients: Tensor, num_tokens: Tensor) -> Tensor:
    return gradients.sum(dim=0)


def _sum_of_means(gradients: Tensor, num_tokens: Tensor) -> Tensor:
    return (gradients / num_tokens[:, None]).sum(dim=0)


def _average_of_means(gradients: Tensor, num_tokens: Tensor) -> Tensor:
    return (gradients / num_tokens[:, None]).mean(dim=0)


def _over_batches(gradients: Tensor, num_tokens: Tensor) -> Tensor:
    return gradients.mean(dim=0)


def _draw_gradients(generator: Generator) -> list[Inputs]:
    drawn = []
    for counts, parameters in (((2, 6), 2), ((10, 1, 4), 3), ((5, 9, 2, 30), 4)):
        size = (len(counts), parameters)
        drawn.append((torch.randn(size, generator=generator), torch.tensor(counts)))
    return drawn


def _cutting_does_not_matter(answer, inputs: Inputs) -> bool:
    gradients, num_tokens = inputs
    one = answer(gradients.sum(dim=0, keepdim=True), num_tokens.sum()[None])
    return torch.allclose(answer(gradients, num_tokens), one, atol=1e-5)


# Clipping


def clip_gradients(gradients: list[Tensor], max_norm: float) -> list[Tensor]:
    total = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    scale = (max_norm / total).clamp(max=1.0)
    return [g * scale for g in gradients]


def _tensor_by_tensor(gradients: list[Tensor], max_norm: float) -> list[Tensor]:
    return [clip_gradients([g], max_norm)[0] for g in gradients]


def _entry_by_entry(gradients: list[Tensor], max_norm: float) -> list[Tensor]:
    return [g.clamp(-max_norm, max_norm) for g in gradients]


def _always_scaled(gradients: list[Tensor], max_norm: float) -> list[Tensor]:
    total = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    return [g * (max_norm / total) for g in gradients]


def _sum_of_norms(gradients: list[Tensor], max_norm: float) -> list[Tensor]:
    total = torch.stack([g.norm() for g in gradients]).sum()
    return [g * (max_norm / total).clamp(max=1.0) for g in gradients]


def _draw_clipping(generator: Generator) -> list[Inputs]:
    shapes = ((2,), (3, 2), (4,))
    drawn = [([torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])], 1.0)]
    for size, max_norm in ((5.0, 1.0), (0.05, 1.0), (2.0, 0.5)):
        tensors = [size * torch.randn(s, generator=generator) for s in shapes]
        drawn.append((tensors, max_norm))
    return drawn


def _direction_is_kept(answer, inputs: Inputs) -> bool:
    gradients, max_norm = inputs
    before = torch.cat([g.flatten() for g in gradients])
    after = torch.cat([g.flatten() for g in answer(gradients, max_norm)])
    cosine = torch.cosine_similarity(before, after, dim=0)
    return bool(cosine > 1 - 1e-5) and bool(after.norm() <= max_norm * (1 + 1e-5))


# Byte-pair encoding

Words = list[tuple[tuple[str, ...], int]]


def next_merge(words: Words) -> tuple[str, str]:
    counts: Counter[tuple[str, str]] = Counter()
    for symbols, frequency in words:
        for pair in pairwise(symbols):
            counts[pair] += frequency
    return counts.most_common(1)[0][0]


def _each_word_once(words: Words) -> tuple[str, str]:
    return next_merge([(symbols, 1) for symbols, _ in words])


def _two_most_frequent_symbols(words: Words) -> tuple[str, str]:
    counts: Counter[str] = Counter()
    for symbols, frequency in words:
        for symbol in symbols:
            counts[symbol] += frequency
    (first, _), (second, _) = counts.most_common(2)
    return first, second


def _across_words(words: Words) -> tuple[str, str]:
    joined = [symbol for symbols, n in words for symbol in symbols * n]
    return next_merge([(tuple(joined), 1)])


def _once_in_a_word(words: Words) -> tuple[str, str]:
    counts: Counter[tuple[str, str]] = Counter()
    for symbols, frequency in words:
        for pair in dict.fromkeys(pairwise(symbols)):
            counts[pair] += frequency
    return counts.most_common(1)[0][0]


def _draw_words(generator: Generator) -> list[Inputs]:
    def split(**frequencies: int) -> tuple[Words]:
        return ([(tuple(word), n) for word, n in frequencies.items()],)

    return [
        split(low=5, lower=2, newest=6),
        split(ab=9, cd=2, cdx=2, cdy=2),  # (a, b) is frequent in one word
        split(anan=3, anx=1, xb=5),  # (a, n) is there twice in a word
        split(tat=4, ata=3, taa=1),
        split(saaat=2, sbt=2, sct=2, sdt=2),  # t, s: only across words
    ]


def _stands_side_by_side(answer, inputs: Inputs) -> bool:
    (words,) = inputs
    return any(tuple(answer(words)) in pairwise(symbols) for symbols, _ in words)


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="smoothed_target",
        chapter="training",
        title="The distribution that label smoothing asks for",
        difficulty=1,
        minutes=6,
        trains="takes from one outcome and gives to all, mass for mass",
        reference=smoothed_target,
        inputs=_draw_smoothing,
        properties=(Property("it is a distribution", _is_a_distribution),),
        misconceptions=(
            Misconception(
                "spreads over the other tokens only",
                _over_the_others,
                "The mass is divided by V - 1 and given to the others. That is a sensible "
                "definition, and not the one of the paper and of PyTorch: there all V "
                "tokens get the same share, the right one too.",
            ),
            Misconception(
                "forgets the right token's own share",
                _target_gets_no_share,
                "The others get smoothing / V each and the right token 1 - smoothing: "
                "together that is less than 1. The right token gets a share as well.",
            ),
            Misconception(
                "takes nothing from the right token",
                _target_not_lowered,
                "The right token keeps 1 and the others get something on top, so the sum "
                "exceeds 1. Where does the mass come from?",
            ),
            Misconception(
                "gives each token all of the mass",
                _all_to_everyone,
                "Every other token gets the whole smoothing. It has to be divided among "
                "the tokens.",
            ),
        ),
        hints=(
            "It is a mixture of two distributions: a sure one and a uniform one.",
            "The uniform one has 1 / vocab_size everywhere, at the target too.",
            "Fill with smoothing / vocab_size, then add 1 - smoothing in one place.",
        ),
    ),
    Exercise(
        name="mean_loss",
        chapter="training",
        title="The mean loss of a padded batch",
        difficulty=2,
        minutes=6,
        trains="averages over real tokens, however many are padding",
        reference=mean_loss,
        inputs=_draw_losses,
        properties=(
            Property("more padding changes nothing", _more_padding_changes_nothing),
        ),
        misconceptions=(
            Misconception(
                "counts padding in the mean",
                _padding_in_the_mean,
                "The losses at padding are zeroed, but the divisor still counts them. A "
                "batch with one long sentence then has small gradients: divide by the "
                "number of real tokens.",
            ),
            Misconception(
                "learns to predict padding",
                _padding_learned,
                "All positions enter. The model is paid for predicting padding, which is "
                "easy, and the loss looks better than it is.",
            ),
            Misconception(
                "averages the sentences' averages",
                _mean_of_means,
                "Each sentence counts alike, so that a token of a short one counts more. "
                "The sum over all real tokens, divided by their number, is wanted.",
            ),
            Misconception(
                "divides by the number of sentences",
                _per_sentence,
                "That is the loss of a sentence, which grows with its length. Asked is the "
                "loss of a token.",
            ),
        ),
        hints=(
            "Two sums: of the losses of real tokens, and of ones.",
            "real = target_ids != pad_id",
            "Zero the losses where not real, sum, and divide by real.sum().",
        ),
    ),
    Exercise(
        name="warmup_lr",
        chapter="training",
        title="The learning rate of a step",
        difficulty=1,
        minutes=5,
        trains="writes a schedule whose two branches meet at its peak",
        reference=warmup_lr,
        inputs=_draw_steps,
        properties=(
            Property(
                "the peak is at the end of warm-up", _peak_is_at_the_end_of_warmup
            ),
        ),
        misconceptions=(
            Misconception(
                "takes the larger of the two",
                _largest_of_the_two,
                "The first step has the highest rate and there is a valley where the peak "
                "should be. Of the rising line and the falling curve the lower one counts.",
            ),
            Misconception(
                "lets the line rise too fast",
                _wrong_power,
                "The line meets the curve long before the end of warm-up. At step = "
                "warmup_steps both must be equal: which power of warmup_steps does that?",
            ),
            Misconception(
                "forgets the width",
                _width_forgotten,
                "The rate does not depend on d_model. The paper divides by its root.",
            ),
            Misconception(
                "counts updates from zero",
                _counted_from_zero,
                "Every step has the rate of the one before, and the first update has the "
                "rate 0: it computes a gradient and throws it away.",
            ),
            Misconception(
                "multiplies by the root of the width",
                _wider_is_faster,
                "A wider model gets a higher rate here. It is the other way round.",
            ),
        ),
        hints=(
            "Two expressions in step, equal at step = warmup_steps.",
            "step^-0.5 falls. step * warmup_steps^-1.5 rises.",
            "d_model**-0.5 * min(..., ...)",
        ),
        tolerance=1e-9,
    ),
    Exercise(
        name="accumulated_gradient",
        chapter="training",
        title="One update from several batches",
        difficulty=2,
        minutes=8,
        trains="makes small batches equal one large one, token by token",
        reference=accumulated_gradient,
        inputs=_draw_gradients,
        properties=(
            Property(
                "how the tokens are cut into batches does not matter",
                _cutting_does_not_matter,
            ),
        ),
        misconceptions=(
            Misconception(
                "does not divide",
                _not_divided,
                "Gradients add up in .grad and are never divided: four batches make a step "
                "that is four times as long, and clipping or Adam may hide it.",
            ),
            Misconception(
                "adds the batches' means",
                _sum_of_means,
                "Each batch is divided by its own tokens and the results are added: the "
                "size grows with the number of batches.",
            ),
            Misconception(
                "averages the batches' means",
                _average_of_means,
                "That is what loss / accumulate does. A token in a small batch counts more "
                "than one in a large batch. It equals the large batch only when all are "
                "of the same size.",
            ),
            Misconception(
                "divides by the number of batches",
                _over_batches,
                "These are gradients of sums over tokens, so tokens are what to divide by.",
            ),
        ),
        hints=(
            "What would the gradient be if all tokens were in one batch?",
            "The gradient of a sum is the sum of the gradients.",
            "Add up the gradients, add up the tokens, divide once.",
        ),
    ),
    Exercise(
        name="clip_gradients",
        chapter="training",
        title="Clip by the norm of all gradients",
        difficulty=2,
        minutes=8,
        trains="limits how far a step goes without turning it",
        reference=clip_gradients,
        inputs=_draw_clipping,
        properties=(
            Property("the direction is kept, the norm is limited", _direction_is_kept),
        ),
        misconceptions=(
            Misconception(
                "clips each tensor by itself",
                _tensor_by_tensor,
                "Each tensor gets its own scale. That turns the direction of the step "
                "toward those with small gradients. There is one norm, over all of them.",
            ),
            Misconception(
                "clips each number by itself",
                _entry_by_entry,
                "That is clipping by value. It bends the direction, and does not limit "
                "the norm to max_norm.",
            ),
            Misconception(
                "scales small gradients up",
                _always_scaled,
                "The norm becomes max_norm even where it was smaller. Clipping only ever "
                "makes a step shorter.",
            ),
            Misconception(
                "adds the norms",
                _sum_of_norms,
                "The norm of all is not the sum of the parts' norms: squares add up, as in "
                "the theorem of Pythagoras.",
            ),
        ),
        hints=(
            "Think of all gradients as one long vector.",
            "Its norm is the root of the sum of all squares.",
            "Multiply by max_norm / norm, but never by more than 1.",
        ),
    ),
    Exercise(
        name="next_merge",
        chapter="training",
        title="The next merge of byte-pair encoding",
        difficulty=2,
        minutes=10,
        trains="counts pairs within words, by how often each word occurs",
        reference=next_merge,
        inputs=_draw_words,
        properties=(
            Property(
                "the two symbols stand side by side in some word", _stands_side_by_side
            ),
        ),
        misconceptions=(
            Misconception(
                "counts each word once",
                _each_word_once,
                "A pair is counted once for each different word. A word that occurs 9 "
                "times has its pairs 9 times: add its frequency.",
            ),
            Misconception(
                "joins the two most frequent symbols",
                _two_most_frequent_symbols,
                "Two symbols may be frequent and never stand side by side. Count pairs of "
                "neighbors.",
            ),
            Misconception(
                "counts pairs across words",
                _across_words,
                "The end of one word and the beginning of the next are counted as "
                "neighbors. Merges stay within words.",
            ),
            Misconception(
                "counts a pair once in a word",
                _once_in_a_word,
                "A pair that stands twice in a word counts twice.",
            ),
        ),
        hints=(
            "A Counter over pairs of neighboring symbols.",
            "itertools.pairwise(symbols) gives the pairs of a word.",
            "counts[pair] += frequency, then counts.most_common(1)[0][0].",
        ),
    ),
)
