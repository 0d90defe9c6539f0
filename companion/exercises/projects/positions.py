"""Project: which questions about order can be answered without positions?

A text is START and then random letters, so that nothing but places can help. At each
place two questions are asked:

- "back", a *relative* one: which letter stood ``STEPS`` places before this one?
- "place", an *absolute* one: which letter stands at place ``STEPS`` of the text?
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from companion.exercises.exercise import Exercise, Inputs, Misconception, Property
from companion.exercises.projects.grading import Criterion, Project
from companion.runtime import device

# The task

START = 0
NUM_LETTERS = 8
VOCAB_SIZE = NUM_LETTERS + 1
TRAINED_LENGTH = 12  # letters of a text in training
STEPS = 3
QUESTIONS = ("back", "place")
READERS = ("encoder", "decoder")
ENCODINGS = ("none", "learned", "sinusoidal", "rotary")
UNASKED = -100  # where a question has no answer

_HELD_OUT = 30_000  # a seed that no training uses


class Examples(NamedTuple):
    """Texts, and what is right at each place of them."""

    ids: Int[Tensor, "batch length"]
    answers: Int[Tensor, "batch length 2"]


def draw(count: int, generator: Generator, letters: int = TRAINED_LENGTH) -> Examples:
    """Texts of START and so many letters, drawn on the CPU and moved to the device.

    A place has an answer if a decoder has read it: from place ``STEPS + 1`` on for
    "back", from ``STEPS`` on for "place".

    Raises:
        ValueError: the texts are too short to ask anything.
    """
    if letters <= STEPS:
        raise ValueError(f"letters must be above {STEPS}, but it is {letters}")
    ids = torch.randint(1, VOCAB_SIZE, (count, letters + 1), generator=generator)
    ids[:, 0] = START
    answers = torch.full((count, letters + 1, 2), UNASKED)
    answers[:, STEPS + 1 :, 0] = ids[:, 1:-STEPS]
    answers[:, STEPS:, 1] = ids[:, STEPS : STEPS + 1]
    return Examples(ids.to(device()), answers.to(device()))


# What is measured. A model takes ids (batch, length), gives logits (batch, length, 2,
# VOCAB_SIZE), one for each question, and has a method `states`, whose last entry is
# what its logits are made of: (batch, length, d_model).


@torch.no_grad()
def accuracy(
    model: nn.Module, letters: int = TRAINED_LENGTH, *, count: int = 400
) -> dict[str, float]:
    """Question -> the share of held-out places where the likeliest letter is right.

    Of a text that is longer than in training, only the places beyond count.
    """
    ids, answers = draw(count, Generator().manual_seed(_HELD_OUT), letters)
    within, beyond = accuracies(model(ids), answers, TRAINED_LENGTH + 1)
    of_places = beyond if letters > TRAINED_LENGTH else within
    return dict(zip(QUESTIONS, of_places.tolist(), strict=True))


@torch.no_grad()
def order_blindness(model: nn.Module) -> float:
    """How far a logit moves, at most, if the text is shuffled and shuffled back."""
    generator = Generator().manual_seed(_HELD_OUT)
    ids, _ = draw(32, generator)
    order = torch.randperm(ids.shape[1], generator=generator).to(ids.device)
    return float(equivariance_gap(model, ids, order))


@torch.no_grad()
def place_in_states(model: nn.Module, layer: int = -1, *, count: int = 200) -> float:
    """How well a linear probe reads the place out of a model's states, on texts held out.

    START is left out: that *it* stands at place 0 can be told by its looks.
    """
    generator = Generator().manual_seed(_HELD_OUT)
    parts = []
    for _ in range(2):
        ids, _ = draw(count, generator)
        states = model.states(ids)[layer][:, 1:].cpu().double()  # (B, L, D)
        places = torch.arange(1.0, ids.shape[1]).double().expand(count, -1)
        parts += [states.flatten(0, 1), places.flatten()]
    return float(probe_r2(*parts))


# Stage: is it blind to order?


def equivariance_gap(
    model: nn.Module, ids: Int[Tensor, "batch length"], order: Int[Tensor, " length"]
) -> Float[Tensor, ""]:
    shuffled_before = model(ids[:, order])
    shuffled_after = model(ids)[:, order]
    return (shuffled_before - shuffled_after).abs().max()


def _invariance(model: nn.Module, ids: Tensor, order: Tensor) -> Tensor:
    shuffled_before = model(ids[:, order])
    shuffled_after = model(ids)
    return (shuffled_before - shuffled_after).abs().max()


def _back_the_wrong_way(model: nn.Module, ids: Tensor, order: Tensor) -> Tensor:
    shuffled_before = model(ids[:, order])
    shuffled_after = model(ids)[:, order.argsort()]
    return (shuffled_before - shuffled_after).abs().max()


def _on_average(model: nn.Module, ids: Tensor, order: Tensor) -> Tensor:
    shuffled_before = model(ids[:, order])
    shuffled_after = model(ids)[:, order]
    return (shuffled_before - shuffled_after).abs().mean()


def _signs_kept(model: nn.Module, ids: Tensor, order: Tensor) -> Tensor:
    shuffled_before = model(ids[:, order])
    shuffled_after = model(ids)[:, order]
    return (shuffled_before - shuffled_after).max()


def _of_the_mean(model: nn.Module, ids: Tensor, order: Tensor) -> Tensor:
    shuffled_before = model(ids[:, order]).mean(dim=1)
    shuffled_after = model(ids).mean(dim=1)
    return (shuffled_before - shuffled_after).abs().max()


class _Leaning(nn.Module):
    """A small model that looks to the left as much as ``lean`` says."""

    def __init__(self, lean: float, weight: Tensor) -> None:
        super().__init__()
        self.lean = lean
        self.register_buffer("weight", weight)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.weight[ids]  # (B, L, D)
        before = F.pad(x[:, :-1], (0, 0, 1, 0))
        return (x + x.mean(dim=1, keepdim=True)).tanh() + self.lean * before


def _draw_models(generator: Generator) -> list[Inputs]:
    drawn: list[Inputs] = []
    for lean, batch, length in (
        (0.0, 1, 3),
        (1.0, 1, 3),
        (0.5, 2, 5),
        (0.0, 3, 6),
        (-2.0, 2, 7),
    ):
        weight = torch.randn(9, 4, generator=generator)
        ids = torch.randint(9, (batch, length), generator=generator)
        ids[0] = torch.randperm(9, generator=generator)[:length]
        order = torch.arange(length).roll(1)  # not its own inverse
        if length > 3:
            order[2:] = order[2:][torch.randperm(length - 2, generator=generator)]
        drawn.append((_Leaning(lean, weight), ids, order))
    return drawn


def _no_shuffle_no_gap(answer, inputs: Inputs) -> bool:
    model, ids, order = inputs
    return float(answer(model, ids, order.sort().values)) < 1e-5


def _zero_for_who_does_not_look(answer, inputs: Inputs) -> bool:
    model, ids, order = inputs
    return (float(answer(model, ids, order)) < 1e-5) == (model.lean == 0)


# Stage: read the place out of the states


def probe_r2(
    states: Float[Tensor, "n d_model"],
    places: Float[Tensor, " n"],
    new_states: Float[Tensor, "m d_model"],
    new_places: Float[Tensor, " m"],
) -> Float[Tensor, ""]:
    # Units that are dead make columns alike: the pseudoinverse does not mind.
    weights = torch.linalg.pinv(_with_one(states)) @ places
    told = _with_one(new_states) @ weights
    missed = (new_places - told).square().mean()
    return 1 - missed / (new_places - new_places.mean()).square().mean()


def _with_one(states: Tensor) -> Tensor:
    return F.pad(states, (0, 1), value=1.0)


def _on_what_it_was_fitted_to(
    states: Tensor, places: Tensor, new_states: Tensor, new_places: Tensor
) -> Tensor:
    return probe_r2(states, places, states, places)


def _without_a_constant(
    states: Tensor, places: Tensor, new_states: Tensor, new_places: Tensor
) -> Tensor:
    weights = torch.linalg.pinv(states) @ places
    told = new_states @ weights
    missed = (new_places - told).square().mean()
    return 1 - missed / (new_places - new_places.mean()).square().mean()


def _squared_correlation(
    states: Tensor, places: Tensor, new_states: Tensor, new_places: Tensor
) -> Tensor:
    weights = torch.linalg.pinv(_with_one(states)) @ places
    told = _with_one(new_states) @ weights
    return torch.corrcoef(torch.stack([new_places, told]))[0, 1].square()


def _against_zero(
    states: Tensor, places: Tensor, new_states: Tensor, new_places: Tensor
) -> Tensor:
    weights = torch.linalg.pinv(_with_one(states)) @ places
    told = _with_one(new_states) @ weights
    missed = (new_places - told).square().mean()
    return 1 - missed / new_places.square().mean()


def _only_what_is_missed(
    states: Tensor, places: Tensor, new_states: Tensor, new_places: Tensor
) -> Tensor:
    weights = torch.linalg.pinv(_with_one(states)) @ places
    told = _with_one(new_states) @ weights
    missed = (new_places - told).square().mean()
    return missed / (new_places - new_places.mean()).square().mean()


def _fitted_again(
    states: Tensor, places: Tensor, new_states: Tensor, new_places: Tensor
) -> Tensor:
    return probe_r2(new_states, new_places, new_states, new_places)


def _draw_states(generator: Generator) -> list[Inputs]:
    drawn: list[Inputs] = []
    for n, m, d_model, noise in ((6, 4, 1, 0.5), (12, 9, 3, 0.5), (30, 20, 5, 4.0)):
        direction = torch.randn(d_model, generator=generator)
        parts = []
        for count in (n, m):
            places = torch.randint(3, 12, (count,), generator=generator).float()
            places[0], places[1] = 3, 11
            dirt = torch.randn(count, d_model, generator=generator)
            parts += [places[:, None] * direction + 4 + noise * dirt, places]
        drawn.append(tuple(parts))
    return drawn


def _the_origin_does_not_matter(answer, inputs: Inputs) -> bool:
    states, places, new_states, new_places = inputs
    moved = answer(states, places + 100, new_states, new_places + 100)
    return abs(float(moved) - float(answer(*inputs))) < 1e-4


def _places_themselves_are_read(answer, inputs: Inputs) -> bool:
    _, places, _, new_places = inputs
    found = answer(
        2 * places[:, None] + 1, places, 2 * new_places[:, None] + 1, new_places
    )
    return abs(float(found) - 1) < 1e-5


# Stage: within and beyond the trained length


def accuracies(
    logits: Float[Tensor, "batch length questions vocab"],
    answers: Int[Tensor, "batch length questions"],
    trained: int,
) -> Float[Tensor, "2 questions"]:
    asked = answers != UNASKED
    right = logits.argmax(dim=-1) == answers  # -100 is never right
    parts = []
    for part in (slice(None, trained), slice(trained, None)):
        parts.append(right[:, part].sum(dim=(0, 1)) / asked[:, part].sum(dim=(0, 1)))
    return torch.stack(parts)


def _unasked_is_wrong(logits: Tensor, answers: Tensor, trained: int) -> Tensor:
    right = (logits.argmax(dim=-1) == answers).float()
    return torch.stack(
        [r.mean(dim=(0, 1)) for r in (right[:, :trained], right[:, trained:])]
    )


def _one_place_late(logits: Tensor, answers: Tensor, trained: int) -> Tensor:
    return accuracies(logits, answers, trained + 1)


def _one_place_early(logits: Tensor, answers: Tensor, trained: int) -> Tensor:
    return accuracies(logits, answers, trained - 1)


def _questions_together(logits: Tensor, answers: Tensor, trained: int) -> Tensor:
    asked = answers != UNASKED
    right = logits.argmax(dim=-1) == answers  # -100 is never right
    parts = []
    for part in (slice(None, trained), slice(trained, None)):
        share = right[:, part].sum() / asked[:, part].sum()
        parts.append(share.expand(answers.shape[-1]))
    return torch.stack(parts)


def _beyond_is_everything(logits: Tensor, answers: Tensor, trained: int) -> Tensor:
    asked = answers != UNASKED
    right = logits.argmax(dim=-1) == answers  # -100 is never right
    parts = []
    for part in (slice(None, trained), slice(None, None)):
        parts.append(right[:, part].sum(dim=(0, 1)) / asked[:, part].sum(dim=(0, 1)))
    return torch.stack(parts)


def _axes_swapped(logits: Tensor, answers: Tensor, trained: int) -> Tensor:
    return accuracies(logits, answers, trained).mT.contiguous()


def _draw_answers(generator: Generator) -> list[Inputs]:
    drawn: list[Inputs] = []
    for batch, length, trained in ((1, 6, 4), (2, 9, 5), (5, 12, 7), (3, 15, 6)):
        answers = torch.randint(1, 4, (batch, length, 2), generator=generator)
        wrong = torch.rand(answers.shape, generator=generator) < 0.35
        logits = F.one_hot(torch.where(wrong, (answers + 1) % 5, answers), 5).float()
        logits = logits + 0.3 * torch.rand(logits.shape, generator=generator)
        answers[:, :2, 0] = UNASKED
        answers[:, :1, 1] = UNASKED
        answers[0, -1, 0] = UNASKED
        drawn.append((logits, answers, trained))
    return drawn


def _all_right_is_one(answer, inputs: Inputs) -> bool:
    logits, answers, trained = inputs
    perfect = F.one_hot(answers.clamp(min=0), logits.shape[-1]).float()
    return torch.allclose(
        answer(perfect, answers, trained).float(), torch.ones(2, 2).to(logits)
    )


def _the_end_does_not_change_the_start(answer, inputs: Inputs) -> bool:
    logits, answers, trained = inputs
    before = answer(logits, answers, trained)[0].clone()
    logits[:, trained:] = logits[:, trained:].flip(-1)
    return torch.equal(answer(logits, answers, trained)[0], before)


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="equivariance_gap",
        chapter="practice",
        title="Is it blind to order?",
        difficulty=2,
        minutes=8,
        trains="tests whether a model knows anything about order, whatever its weights",
        reference=equivariance_gap,
        inputs=_draw_models,
        properties=(
            Property("without a shuffle there is no gap", _no_shuffle_no_gap),
            Property(
                "it is zero if, and only if, the model does not look at order",
                _zero_for_who_does_not_look,
            ),
        ),
        misconceptions=(
            Misconception(
                "asks for the same outputs in the same places",
                _invariance,
                "The outputs of the shuffled text are compared with those of the "
                "text, place by place. But a letter that moves takes its output along: "
                "the outputs have to be shuffled as well.",
            ),
            Misconception(
                "shuffles the outputs the other way",
                _back_the_wrong_way,
                "The outputs are shuffled by the inverse. ids[:, order] puts letter "
                "order[i] in place i; where has its output to go?",
            ),
            Misconception(
                "takes the mean",
                _on_average,
                "This is a mean. A model that cheats in a single place nearly "
                "disappears in it; asked is the largest difference.",
            ),
            Misconception(
                "loses what is negative",
                _signs_kept,
                "The largest difference is taken with its sign, so that one far below "
                "zero does not count.",
            ),
            Misconception(
                "pools first",
                _of_the_mean,
                "Means over places are compared. They hide what happens in single "
                "places: here each output counts.",
            ),
        ),
        hints=(
            "Shuffle before the model, shuffle after the model, compare.",
            "ids[:, order] shuffles the places of a batch of texts. It does the same "
            "for outputs, whose axis 1 is the place too.",
            "(model(ids[:, order]) - model(ids)[:, order]), then its largest size.",
        ),
    ),
    Exercise(
        name="probe_r2",
        chapter="practice",
        title="Read the place out of the states",
        difficulty=3,
        minutes=12,
        trains="fits a linear probe and measures it on what it has not seen",
        reference=probe_r2,
        inputs=_draw_states,
        tolerance=1e-4,
        properties=(
            Property(
                "where places are counted from does not matter",
                _the_origin_does_not_matter,
            ),
            Property(
                "states that are the places, scaled and moved, give 1",
                _places_themselves_are_read,
            ),
        ),
        misconceptions=(
            Misconception(
                "measures what it was fitted to",
                _on_what_it_was_fitted_to,
                "R² is measured on the states that the probe was fitted to. With many "
                "dimensions and few texts that is near 1 for noise.",
            ),
            Misconception(
                "fits to the new states",
                _fitted_again,
                "The probe is fitted to the new states as well. They are there to test "
                "what the others have taught.",
            ),
            Misconception(
                "has no constant",
                _without_a_constant,
                "The probe has no constant term, so it must say 0 where the state is "
                "zero. Give it one more column, of ones.",
            ),
            Misconception(
                "squares the correlation",
                _squared_correlation,
                "This is a squared correlation, which forgives a probe that is off by a "
                "factor or by a constant. R² does not: it compares what is missed with "
                "what guessing the mean would miss.",
            ),
            Misconception(
                "compares with guessing zero",
                _against_zero,
                "What is missed is divided by the mean square of the places. Then "
                "counting from 100 makes every probe good. Subtract the mean first.",
            ),
            Misconception(
                "gives what is missed",
                _only_what_is_missed,
                "This is the share that is missed. R² is one minus it.",
            ),
        ),
        hints=(
            "torch.linalg.pinv(A) @ b gives the weights w for which A @ w is nearest to b.",
            "A column of ones in A makes room for a constant: F.pad(states, (0, 1), "
            "value=1.0).",
            "R² = 1 - mean((new_places - told)²) / mean((new_places - their mean)²), "
            "where told is what the probe says about new_states.",
        ),
    ),
    Exercise(
        name="accuracies",
        chapter="practice",
        title="Within and beyond the trained length",
        difficulty=2,
        minutes=10,
        trains="counts only what was asked, and keeps apart what training has reached",
        reference=accuracies,
        inputs=_draw_answers,
        properties=(
            Property(
                "a model that is always right gets 1 everywhere", _all_right_is_one
            ),
            Property(
                "what is beyond does not change the first row",
                _the_end_does_not_change_the_start,
            ),
        ),
        misconceptions=(
            Misconception(
                "counts what was not asked",
                _unasked_is_wrong,
                "Places without an answer, -100, are in the number that you divide by: "
                "the best of models stays below 1.",
            ),
            Misconception(
                "begins beyond one place late",
                _one_place_late,
                "Place number `trained` counts as within. Places are counted from 0, so "
                "the first `trained` of them end one earlier.",
            ),
            Misconception(
                "begins beyond one place early",
                _one_place_early,
                "The last place that training has reached counts as beyond.",
            ),
            Misconception(
                "throws the questions together",
                _questions_together,
                "Both questions get the same number. They are the last axis of answers: "
                "sum over the other two.",
            ),
            Misconception(
                "takes the whole text for what is beyond",
                _beyond_is_everything,
                "The second row is of all places, so that the trained ones hide what "
                "happens further on.",
            ),
            Misconception(
                "swaps the axes",
                _axes_swapped,
                "Rows and columns are swapped: rows are within and beyond, columns the "
                "questions.",
            ),
        ),
        hints=(
            "Two masks of the shape of answers: which are asked, and which of them are "
            "right?",
            "logits.argmax(dim=-1) has the shape of answers.",
            "right[:, :trained].sum(dim=(0, 1)) / asked[:, :trained].sum(dim=(0, 1)) is "
            "the first row.",
        ),
    ),
)


# The rubric

Models = Mapping[str, Mapping[str, nn.Module]]


def _blind(models: Models) -> float:
    return order_blindness(models["encoder"]["none"])


def _place_leaks(models: Models) -> float:
    model = models["decoder"]["none"]
    with torch.no_grad():
        layers = len(model.states(draw(1, Generator().manual_seed(0)).ids))
    return max(place_in_states(model, layer) for layer in range(layers))


def _by_the_mask_alone(models: Models) -> float:
    found = accuracy(models["decoder"]["none"])
    return 100 * sum(found.values()) / len(found)


def _with_positions(models: Models) -> float:
    told = [models[reader][name] for reader in READERS for name in ENCODINGS[1:]]
    return 100 * min(min(accuracy(model).values()) for model in told)


def _farther(models: Models) -> float:
    every = [models[reader][name] for reader in READERS for name in ENCODINGS]
    return 100 * max(accuracy(model, 2 * TRAINED_LENGTH)["back"] for model in every)


PROJECT = Project(
    name="positions",
    title="Where am I?",
    stages=tuple(exercise.name for exercise in EXERCISES),
    minutes=150,
    criteria=(
        Criterion(
            name="blind",
            asks="how far a logit of the encoder without positions moves when the text "
            "is shuffled before instead of after",
            measure=_blind,
            levels=(1e-1, 1e-2, 1e-3),
            digits=6,
            advice=(
                "It knows something about order. Is there a causal mask, or a table of "
                "positions?",
                "Something small depends on the place: is dropout off?",
                "It is nearly rounding; logits that are very large round coarsely.",
            ),
        ),
        Criterion(
            name="the mask leaks",
            asks="R² of a linear probe for the place, in the states of the decoder "
            "without positions: the best of its layers",
            measure=_place_leaks,
            levels=(0.5, 0.9, 0.98),
            advice=(
                "The place can't be read. Does each place see exactly what is before "
                "it, and itself?",
                "Train it: what the mask gives away by itself, training makes plainer.",
                "More updates. A model that answers both questions knows its place.",
            ),
        ),
        Criterion(
            name="by the mask alone",
            asks="right answers of the decoder without positions, mean of both questions",
            measure=_by_the_mask_alone,
            levels=(40.0, 65.0, 98.0),
            unit=" %",
            digits=1,
            advice=(
                "Guessing from what letters there are gets about 30 %. Train longer: it "
                "has to find out first where it is.",
                "One of the two questions is still open. More updates.",
                "The relative question comes late, and all at once: give it time.",
            ),
        ),
        Criterion(
            name="told where",
            asks="right answers within the trained length: the worst of three encodings, "
            "two readers and two questions",
            measure=_with_positions,
            levels=(40.0, 90.0, 99.0),
            unit=" %",
            digits=1,
            advice=(
                "Some encoding does not reach its model. Are positions as loud as "
                "letters?",
                "One of the twelve numbers is behind: print them all, and train longer.",
                "Let the rate fall to zero at the end.",
            ),
        ),
        Criterion(
            name="farther",
            asks="three places back, at places that training has not reached: the best "
            "of all models",
            measure=_farther,
            levels=(35.0, 65.0, 98.0),
            unit=" %",
            digits=1,
            advice=(
                "Nobody gets beyond the trained length. Which encoding depends on "
                "distances alone?",
                "Rotary positions get farther than this, if trained until they are "
                "sure.",
                "Far keys that were never so far in training disturb. Hide them: "
                "MultiHeadAttention has a window.",
            ),
        ),
    ),
)
