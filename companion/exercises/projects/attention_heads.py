"""Project 1: train a small Transformer, and find out what its heads attend to.

Sources: Clark et al. (2019), "What Does BERT Look At?", for scores against a baseline of
position; Voita et al. (2019), "Analyzing Multi-Head Self-Attention", for heads with a
role; Jain and Wallace (2019), "Attention is not Explanation", for why a map is no proof.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from companion.analysis.bottleneck import training_and_test_text
from companion.analysis.heads import ablate_heads
from companion.exercises.exercise import Exercise, Inputs, Misconception, Property
from companion.exercises.projects.grading import Criterion, Project
from companion.layers import EncoderLayer, record_attention
from companion.runtime import device, seed_everything
from companion.training.muon import MuonAndAdamW

# Shakespeare with blanks: 0 is a space, 1 to 26 are the letters

BLANK = 27
LENGTH = 32
SHARE = 0.2


class Gaps(NamedTuple):
    """Texts, each ``(number, length)``: with blanks, without, and where the blanks are."""

    token_ids: Int[Tensor, "number length"]
    truth: Int[Tensor, "number length"]
    blanks: Bool[Tensor, "number length"]


def texts_with_blanks(number: int, generator: Generator, *, held_out: bool) -> Gaps:
    """Windows of Shakespeare, in which one character of five is a blank."""
    text = _text()[held_out]
    start = torch.randint(len(text) - LENGTH, (number, 1), generator=generator)
    truth = text[start + torch.arange(LENGTH)]
    blanks = torch.rand(number, LENGTH, generator=generator) < SHARE
    return Gaps(truth.masked_fill(blanks, BLANK), truth, blanks)


@functools.cache
def _text() -> tuple[Tensor, Tensor]:
    return training_and_test_text()


def spell(token_ids: Int[Tensor, " length"]) -> str:
    """A text as people read it; a blank is a low line, a space a dot."""
    return "".join("·abcdefghijklmnopqrstuvwxyz_"[i] for i in token_ids.tolist())


class GapFiller(nn.Module):
    """A small encoder of characters: two layers of four heads, and a logit a character."""

    def __init__(
        self, num_layers: int = 2, d_model: int = 64, num_heads: int = 4
    ) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(BLANK + 1, d_model)
        self.positions = nn.Parameter(torch.empty(LENGTH, d_model))
        for table in (self.token_embedding.weight, self.positions):
            nn.init.normal_(table, std=0.3)
        self.layers = nn.ModuleList(
            EncoderLayer(
                d_model, num_heads, 4 * d_model, 0.0, activation="gelu", norm_first=True
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.output_projection = nn.Linear(d_model, BLANK)

    def forward(
        self, token_ids: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length characters"]:
        """Logits of what stands at each place."""
        x = self.token_embedding(token_ids) + self.positions[: token_ids.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return self.output_projection(self.norm(x))


def train(model: nn.Module, steps: int = 600, *, seed: int = 0) -> list[float]:
    """Fill blanks in 64 texts at a time; the loss of every update, in bits a blank."""
    draw = Generator().manual_seed(seed)
    optimizer = MuonAndAdamW(model, weight_decay=0.0)
    losses = []
    for _ in range(steps):
        batch = texts_with_blanks(64, draw, held_out=False)
        token_ids, truth, blanks = (x.to(device()) for x in batch)
        loss = F.cross_entropy(model(token_ids)[blanks], truth[blanks])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item() / math.log(2))
    return losses


def new_model(seed: int = 0) -> GapFiller:
    """A `GapFiller` with fresh weights, on the device."""
    seed_everything(seed)
    return GapFiller().to(device())


# Measuring


@torch.no_grad()
def surprise(
    model: nn.Module, gaps: Gaps, without: Mapping[int, list[int]] | None = None
) -> Float[Tensor, "number length"]:
    """Bits of the truth at each place, all heads in place or without some.

    Args:
        model: gives logits of what stands at each place.
        gaps: texts with blanks.
        without: layer -> heads that are switched off, from 0.
    """
    with ablate_heads(model, without or {}):
        logits = model(gaps.token_ids.to(_home(model))).cpu()
    return F.cross_entropy(logits.mT, gaps.truth, reduction="none") / math.log(2)


@torch.no_grad()
def head_maps(
    model: nn.Module, gaps: Gaps
) -> Float[Tensor, "layers number heads length length"]:
    """The map of every head on every text, on the CPU."""
    with record_attention(model) as maps:
        model(gaps.token_ids.to(_home(model)))
    return maps.stack().cpu()


# Roles: of texts, which keys should a query look at?

Role = Callable[[Tensor], Tensor]  # (texts, length) -> bool (texts, query, key)


def at_offset(offset: int) -> Role:
    """The character so many places later; -1 is the one before."""

    def role(token_ids: Tensor) -> Tensor:
        number, length = token_ids.shape
        place = torch.arange(length)
        return (place == place[:, None] + offset).expand(number, length, length)

    return role


def at_spaces(token_ids: Tensor) -> Tensor:
    """Every space."""
    number, length = token_ids.shape
    return (token_ids == 0)[:, None].expand(number, length, length)


def at_vowels(token_ids: Tensor) -> Tensor:
    """Every vowel."""
    number, length = token_ids.shape
    vowels = torch.tensor([1, 5, 9, 15, 21])
    return torch.isin(token_ids, vowels)[:, None].expand(number, length, length)


def in_own_word(token_ids: Tensor) -> Tensor:
    """The characters up to the next spaces on both sides."""
    word = (token_ids == 0).cumsum(dim=1)
    return (word[:, :, None] == word[:, None]) & (token_ids != 0)[:, None]


def at_same_letter(token_ids: Tensor) -> Tensor:
    """Other places where the query's character stands."""
    same = token_ids[:, :, None] == token_ids[:, None]
    return same & ~torch.eye(token_ids.shape[1], dtype=torch.bool)


ROLES: dict[str, Role] = {
    **{f"{k:+d}": at_offset(k) for k in (-3, -2, -1, 1, 2, 3)},
    "itself": at_offset(0),
    "spaces": at_spaces,
    "vowels": at_vowels,
    "own word": in_own_word,
    "same letter": at_same_letter,
}

# Stage 1: a score for a role


def role_score(
    weights: Float[Tensor, "texts heads length length"],
    wanted: Bool[Tensor, "texts length length"],
) -> Float[Tensor, " heads"]:
    received = (weights * wanted[:, None]).sum(dim=-1)  # (texts, heads, queries)
    counted = wanted.any(dim=-1)[:, None]  # a query that has something to look at
    return (received * counted).sum(dim=(0, 2)) / counted.sum()


def _all_queries_counted(weights: Tensor, wanted: Tensor) -> Tensor:
    received = (weights * wanted[:, None]).sum(dim=-1)
    return received.mean(dim=(0, 2))


def _a_mean_over_keys(weights: Tensor, wanted: Tensor) -> Tensor:
    received = (weights * wanted[:, None]).sum(dim=(0, 2, 3))
    return received / wanted.sum()


def _query_and_key_swapped(weights: Tensor, wanted: Tensor) -> Tensor:
    return role_score(weights, wanted.mT)


def _each_text_alike(weights: Tensor, wanted: Tensor) -> Tensor:
    received = (weights * wanted[:, None]).sum(dim=-1)
    counted = wanted.any(dim=-1)[:, None]
    return (received.sum(dim=-1) / counted.sum(dim=-1)).mean(dim=0)


def _how_often_the_most(weights: Tensor, wanted: Tensor) -> Tensor:
    most = F.one_hot(weights.argmax(dim=-1), weights.shape[-1]).to(weights.dtype)
    return role_score(most, wanted)


def _heads_averaged_away(weights: Tensor, wanted: Tensor) -> Tensor:
    received = (weights * wanted[:, None]).sum(dim=-1)
    counted = wanted.any(dim=-1)[:, None]
    return (received * counted).sum(dim=(0, 1)) / counted.sum()


def _draw_maps(generator: Generator) -> list[Inputs]:
    cases = []
    for texts, heads, length in ((1, 1, 3), (2, 3, 4), (4, 2, 5)):
        scores = 2 * torch.randn(texts, heads, length, length, generator=generator)
        wanted = torch.rand(texts, length, length, generator=generator) < 0.4
        wanted[:, 0] = False  # a query that has nothing to look at
        wanted[:, 1, 2] = True
        wanted[0, 2] = True  # so that texts differ in how many have
        cases.append((scores.softmax(dim=-1), wanted))
    return cases


def _all_weight_where_wanted_is_1(answer, inputs: Inputs) -> bool:
    weights, wanted = inputs
    perfect = wanted.to(weights.dtype)
    perfect = perfect / perfect.sum(dim=-1, keepdim=True).clamp(min=1)
    found = answer(perfect[:, None].expand_as(weights), wanted)
    return torch.allclose(found, torch.ones_like(found), atol=1e-5)


# Stage 2: would the head do the same with its eyes shut?


def blind_score(
    weights: Float[Tensor, "texts heads length length"],
    wanted: Bool[Tensor, "texts length length"],
) -> Float[Tensor, " heads"]:
    habit = weights.mean(dim=0, keepdim=True).expand_as(weights)
    return role_score(habit, wanted)


def _with_open_eyes(weights: Tensor, wanted: Tensor) -> Tensor:
    return role_score(weights, wanted)


def _spread_evenly(weights: Tensor, wanted: Tensor) -> Tensor:
    habit = torch.full_like(weights, 1 / weights.shape[-1])
    return role_score(habit, wanted)


def _one_place_for_all_queries(weights: Tensor, wanted: Tensor) -> Tensor:
    habit = weights.mean(dim=(0, 2), keepdim=True).expand_as(weights)
    return role_score(habit, wanted)


def _one_head_for_all(weights: Tensor, wanted: Tensor) -> Tensor:
    habit = weights.mean(dim=(0, 1), keepdim=True).expand_as(weights)
    return role_score(habit, wanted)


def _the_first_text(weights: Tensor, wanted: Tensor) -> Tensor:
    habit = weights[:1].expand_as(weights)
    return role_score(habit, wanted)


def _the_lead(weights: Tensor, wanted: Tensor) -> Tensor:
    return role_score(weights, wanted) - blind_score(weights, wanted)


def _same_for_shuffled_texts(answer, inputs: Inputs) -> bool:
    weights, wanted = inputs
    shuffled = answer(weights.roll(1, dims=0), wanted)
    return torch.allclose(shuffled, answer(weights, wanted), atol=1e-5)


# Stage 3: does it hurt where the role says?


def cost_where(
    without: Float[Tensor, "texts length"],
    whole: Float[Tensor, "texts length"],
    wanted: Bool[Tensor, "texts length length"],
    blanks: Bool[Tensor, "texts length"],
) -> tuple[float, float]:
    readable = (wanted & ~blanks[:, None]).any(dim=-1)
    cost = without - whole
    where, elsewhere = cost[blanks & readable], cost[blanks & ~readable]
    return where.mean().item(), elsewhere.mean().item()


def _blank_keys_are_read(
    without: Tensor, whole: Tensor, wanted: Tensor, blanks: Tensor
) -> tuple[float, float]:
    readable = wanted.any(dim=-1)
    cost = without - whole
    where, elsewhere = cost[blanks & readable], cost[blanks & ~readable]
    return where.mean().item(), elsewhere.mean().item()


def _all_places_counted(
    without: Tensor, whole: Tensor, wanted: Tensor, blanks: Tensor
) -> tuple[float, float]:
    readable = (wanted & ~blanks[:, None]).any(dim=-1)
    cost = without - whole
    where, elsewhere = cost[readable], cost[~readable]
    return where.mean().item(), elsewhere.mean().item()


def _gain_for_cost(
    without: Tensor, whole: Tensor, wanted: Tensor, blanks: Tensor
) -> tuple[float, float]:
    return cost_where(whole, without, wanted, blanks)


def _elsewhere_first(
    without: Tensor, whole: Tensor, wanted: Tensor, blanks: Tensor
) -> tuple[float, float]:
    where, elsewhere = cost_where(without, whole, wanted, blanks)
    return elsewhere, where


def _bits_for_cost(
    without: Tensor, whole: Tensor, wanted: Tensor, blanks: Tensor
) -> tuple[float, float]:
    readable = (wanted & ~blanks[:, None]).any(dim=-1)
    cost = without
    where, elsewhere = cost[blanks & readable], cost[blanks & ~readable]
    return where.mean().item(), elsewhere.mean().item()


def _shares_of_all_blanks(
    without: Tensor, whole: Tensor, wanted: Tensor, blanks: Tensor
) -> tuple[float, float]:
    readable = (wanted & ~blanks[:, None]).any(dim=-1)
    cost = without - whole
    where, elsewhere = cost[blanks & readable], cost[blanks & ~readable]
    return (where.sum() / blanks.sum()).item(), (elsewhere.sum() / blanks.sum()).item()


def _draw_costs(generator: Generator) -> list[Inputs]:
    cases = []
    for texts, length in ((1, 6), (3, 5), (4, 8)):
        blanks = torch.rand(texts, length, generator=generator) < 0.5
        blanks[:, :4] = torch.tensor([True, False, True, True])
        wanted = torch.rand(texts, length, length, generator=generator) < 0.2
        wanted[:, 0] = torch.arange(length) == 1  # a blank that can read
        wanted[:, 2] = torch.arange(length) == 0  # one whose key is a blank
        wanted[:, 3] = False  # one without a key
        wanted[:, 1] = blanks  # a place that is no blank
        whole = 3 * torch.rand(texts, length, generator=generator)
        rise = torch.rand(texts, length, generator=generator)
        cases.append((whole + rise, whole, wanted, blanks))
    return cases


def _what_is_no_blank_does_not_matter(answer, inputs: Inputs) -> bool:
    without, whole, wanted, blanks = inputs
    moved = without + 5.0 * ~blanks
    one, other = answer(moved, whole, wanted, blanks), answer(*inputs)
    return all(
        math.isclose(a, b, abs_tol=1e-4) for a, b in zip(one, other, strict=True)
    )


def _nothing_lost_costs_nothing(answer, inputs: Inputs) -> bool:
    _, whole, wanted, blanks = inputs
    return all(abs(x) < 1e-5 for x in answer(whole, whole, wanted, blanks))


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="role_score",
        chapter="practice",
        title="A score for a role",
        difficulty=2,
        minutes=12,
        reference=role_score,
        inputs=_draw_maps,
        properties=(
            Property(
                "a head that puts all weight where it is wanted scores 1",
                _all_weight_where_wanted_is_1,
            ),
        ),
        misconceptions=(
            Misconception(
                "counts queries with nothing to look at",
                _all_queries_counted,
                "You average over all queries. The first character has none before it, "
                "so not even a perfect head for that role could reach 1. Leave out "
                "queries whose row of wanted is empty.",
            ),
            Misconception(
                "averages over keys",
                _a_mean_over_keys,
                "You divide by the number of wanted keys. Then a role with many keys "
                "scores low even if all the weight is on them. Add up over a query's "
                "keys, and average over queries.",
            ),
            Misconception(
                "swaps query and key",
                _query_and_key_swapped,
                "You read wanted turned round. In both tables a row is a query.",
            ),
            Misconception(
                "gives each text the same say",
                _each_text_alike,
                "You average inside each text, then over texts. A text with one query "
                "that counts then weighs as much as one with thirty. Asked is the mean "
                "over all queries that count.",
            ),
            Misconception(
                "counts winners",
                _how_often_the_most,
                "You look only at the key with the most weight. That is the score of "
                "chapter 2 for relations; here the weight itself is asked.",
            ),
            Misconception(
                "averages the heads away",
                _heads_averaged_away,
                "You add up over the heads, and keep a number a query. Which axis is "
                "the heads', and which the queries'?",
            ),
        ),
        hints=(
            "For one query: how much of its attention goes to wanted keys?",
            "wanted has no axis for heads: wanted[:, None] gives it one. Sum over the "
            "keys.",
            "counted = wanted.any(dim=-1): add up what these queries gave, over texts "
            "and queries, and divide by counted.sum().",
        ),
        trains="turns a sentence about a head into a number over many texts",
    ),
    Exercise(
        name="blind_score",
        chapter="practice",
        title="Would it do the same with its eyes shut?",
        difficulty=2,
        minutes=10,
        reference=blind_score,
        inputs=_draw_maps,
        properties=(
            Property(
                "it does not matter which map belongs to which text",
                _same_for_shuffled_texts,
            ),
        ),
        misconceptions=(
            Misconception(
                "leaves its eyes open",
                _with_open_eyes,
                "This is the score of the head itself. The blind one has the same map "
                "in every text: its average.",
            ),
            Misconception(
                "spreads evenly",
                _spread_evenly,
                "You score a head that looks everywhere alike. That is a baseline too, "
                "a weaker one: this head may well prefer near places to far ones, "
                "without reading a letter.",
            ),
            Misconception(
                "has one row for all queries",
                _one_place_for_all_queries,
                "You average over the queries as well, and lose where a head looks "
                "*from where it stands*. Only texts are to be averaged over.",
            ),
            Misconception(
                "averages over heads",
                _one_head_for_all,
                "All your heads get the same score: you average over heads as well.",
            ),
            Misconception(
                "takes the first text for a habit",
                _the_first_text,
                "The map of one text still has seen that text. A habit is the mean over "
                "all of them.",
            ),
            Misconception(
                "gives the lead",
                _the_lead,
                "You give how far the head is ahead of its blind twin. Asked is what "
                "the twin scores.",
            ),
        ),
        hints=(
            "A head that cannot see the text does the same thing in every text.",
            "What it does is its mean map over the texts: (heads, length, length).",
            "weights.mean(dim=0, keepdim=True).expand_as(weights), and score that.",
        ),
        trains="makes the baseline that separates reading from habit",
    ),
    Exercise(
        name="cost_where",
        chapter="practice",
        title="Does it hurt where the role says?",
        difficulty=3,
        minutes=12,
        reference=cost_where,
        inputs=_draw_costs,
        properties=(
            Property(
                "what happens at places that are no blanks does not matter",
                _what_is_no_blank_does_not_matter,
            ),
            Property(
                "if nothing is lost, both costs are 0", _nothing_lost_costs_nothing
            ),
        ),
        misconceptions=(
            Misconception(
                "reads blank keys",
                _blank_keys_are_read,
                "A blank whose wanted key is a blank itself counts as served in your "
                "answer. There is nothing to read there, and the role predicts no cost.",
            ),
            Misconception(
                "counts all places",
                _all_places_counted,
                "You count places that are no blanks. The model was never trained on "
                "them, and what it says there is no one's business.",
            ),
            Misconception(
                "gives the gain",
                _gain_for_cost,
                "Your costs have the wrong sign. A head that is missed makes the bits "
                "rise: without minus whole.",
            ),
            Misconception(
                "puts elsewhere first",
                _elsewhere_first,
                "The two numbers are in the wrong order: first where the role predicts "
                "a cost, then elsewhere.",
            ),
            Misconception(
                "gives the bits",
                _bits_for_cost,
                "You give the bits without the head. Some blanks are hard with all heads "
                "in place: the cost is what is added to that.",
            ),
            Misconception(
                "divides by all blanks",
                _shares_of_all_blanks,
                "You divide both by the number of all blanks. Then the rarer of the two "
                "looks cheap. Each is a mean over its own blanks.",
            ),
        ),
        hints=(
            "At which blanks does the role find something to read? Among its wanted keys "
            "there is one that is no blank.",
            "readable = (wanted & ~blanks[:, None]).any(dim=-1): a bool a query.",
            "cost = without - whole. Its mean over blanks & readable, and over blanks & "
            "~readable, as floats.",
        ),
        trains="derives from a claim what an ablation should do, and where",
    ),
)

# The rubric

_LEAD = 0.3  # of the way from the baseline to 1, for a role to hold
_RISE = 0.1  # bits
_WORTH = 0.5  # bits that all attention together must be worth


def lead(
    weights: Float[Tensor, "texts heads length length"],
    wanted: Bool[Tensor, "texts length length"],
) -> Float[Tensor, " heads"]:
    """How far a role's score is on its way from a dumb baseline, 0, to 1.

    The baseline is even attention. Where what is wanted depends on the text it is also
    the head's own average map, which does not.
    """
    even = torch.full_like(weights, 1 / weights.shape[-1])
    dumb = role_score(even, wanted)
    if (wanted != wanted[:1]).any():
        dumb = torch.maximum(dumb, blind_score(weights, wanted))
    return (role_score(weights, wanted) - dumb) / (1 - dumb).clamp(min=1e-3)


def _held_out() -> Gaps:
    return texts_with_blanks(512, Generator().manual_seed(24680), held_out=True)


Roles = Mapping[tuple[int, int], Role]


def _bits(model: nn.Module) -> float:
    gaps = _held_out()
    return surprise(model, gaps)[gaps.blanks].mean().item()


def _hold(model: nn.Module, roles: Roles) -> float:
    gaps = _held_out()
    maps = head_maps(model, gaps)
    holds = [
        lead(maps[layer], role(gaps.token_ids))[head].item() >= _LEAD
        for (layer, head), role in roles.items()
    ]
    return 2 * sum(holds) - len(holds)


def _hurt(model: nn.Module, roles: Roles) -> float:
    gaps = _held_out()
    whole, total = surprise(model, gaps), 0
    for (layer, head), role in roles.items():
        cost = surprise(model, gaps, {layer: [head]})
        where, elsewhere = cost_where(
            cost, whole, role(gaps.token_ids), gaps.blanks
        )  # NaN where all or no blank can be read: the role predicts nothing
        total += 1 if where - elsewhere >= max(_RISE, where / 2) else -1
    return total


def _left_out(model: nn.Module, roles: Roles) -> float:
    gaps = _held_out()
    layers, _, heads, *_ = head_maps(model, gaps).shape
    rest = {
        layer: [head for head in range(heads) if (layer, head) not in roles]
        for layer in range(layers)
    }
    everything = {layer: list(range(heads)) for layer in range(layers)}
    whole, poorer, blind = (
        surprise(model, gaps, off)[gaps.blanks].mean().item()
        for off in ({}, rest, everything)
    )
    if blind - whole < _WORTH:
        raise ValueError(
            f"without any attention the model is only {blind - whole:.2f} bits worse: "
            "there is nothing to explain"
        )
    return 100 * (poorer - whole) / (blind - whole)


PROJECT = Project(
    name="attention_heads",
    title="Find out what the heads of a small Transformer do",
    stages=tuple(exercise.name for exercise in EXERCISES),
    minutes=120,
    criteria=(
        Criterion(
            name="fills blanks",
            asks="bits a blank on text that was held out",
            measure=_bits,
            levels=(3.3, 2.75, 2.4),
            advice=(
                "Counting which character follows which needs 3.53. Does the loss fall "
                "at all?",
                "Counting what stands between which two characters needs 2.77, and 600 "
                "updates of 64 texts gave less than 2.7.",
                "Twice as many updates were enough here.",
            ),
            unit=" bits",
        ),
        Criterion(
            name="roles that hold",
            asks=(
                "heads whose role is at least 0.3 of the way from its baseline to 1, "
                "less those whose role is not"
            ),
            measure=_hold,
            levels=(1, 3, 4),
            advice=(
                "Claim only roles that beat even attention, and the head's average map "
                "if they depend on the text.",
                "Score more offsets for the heads of the first layer.",
                "Every head that is missed when it is off has a role. Find it, or take "
                "the wrong claims out.",
            ),
            digits=0,
        ),
        Criterion(
            name="hurts where it should",
            asks=(
                "heads that are missed twice as much, and by 0.1 bits more, where the "
                "role has something to read, less those that are not"
            ),
            measure=_hurt,
            levels=(1, 3, 4),
            advice=(
                "Switch the head off and compare blanks at which its role can read a "
                "character with those at which it cannot.",
                "A head may look there and not matter. Claim heads that do.",
                "Test each claim with cost_where before you make it.",
            ),
            digits=0,
        ),
        Criterion(
            name="left out",
            asks="of what all attention is worth, the share of heads without a role",
            measure=_left_out,
            levels=(50, 20, 10),
            advice=(
                "The heads that matter most are not in your table: switch each off.",
                "A head that matters is missing from the table.",
                "Many heads that matter a little are missing. Do two of them do the same?",
            ),
            unit=" %",
            digits=0,
        ),
    ),
)


def _home(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
