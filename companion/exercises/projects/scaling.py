"""The project "A scaling study of your own": a source whose entropy is known, the stages,
and what the rubric measures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from companion.analysis.flops import count_parameters
from companion.exercises.exercise import Exercise, Inputs, Misconception, Property
from companion.exercises.projects.grading import Criterion, Project
from companion.generation.interface import evaluating

# The source


class PairGrammar:
    """Text in which the last two symbols allow four next ones, by chance.

    Their probabilities are 1/2, 1/4, 1/8 and 1/8, whatever the two symbols are. So the
    entropy of the next symbol is 1/2 + 2/4 + 3/8 + 3/8 = 1.75 bits, exactly, and no model
    can foretell better. Which four they are is drawn once, and has to be learned for
    each pair. Symbol i is drawn in proportion to (i + 1)^-``steepness``, so that some
    pairs come often and most hardly ever.

    Args:
        num_symbols: in the alphabet.
        steepness: of how often symbols are used, as in Zipf's law; 0 for all alike.
        seed: of the table.
    """

    entropy = 1.75  # bits

    def __init__(
        self, num_symbols: int = 96, steepness: float = 1.3, seed: int = 0
    ) -> None:
        draw = torch.Generator().manual_seed(seed)
        used = torch.arange(1, num_symbols + 1) ** -float(steepness)
        self.num_symbols = num_symbols
        self.chances = torch.tensor([1 / 2, 1 / 4, 1 / 8, 1 / 8])
        # Four different symbols for each pair, in the order of their chances.
        self.next = torch.multinomial(
            used.expand(num_symbols**2, num_symbols), 4, generator=draw
        )

    def draw(
        self, number: int, length: int, generator: torch.Generator
    ) -> Int[Tensor, "number length"]:
        """Texts, on the CPU, that have run for long enough to forget how they began."""
        start = torch.randint(self.num_symbols, (2, number), generator=generator)
        picks = torch.multinomial(
            self.chances.expand(number, 4), length + 50, True, generator=generator
        )
        symbols = list(start)
        for pick in picks.T:
            pair = symbols[-2] * self.num_symbols + symbols[-1]
            symbols.append(self.next[pair, pick])
        return torch.stack(symbols[-length:], dim=1)

    def log_p(self, ids: Int[Tensor, "number length"]) -> Float[Tensor, "..."]:
        """The true log p, (number, length - 1, num_symbols), after all places but one.

        The best that any model can do: its loss is the entropy.
        """
        pairs = ids[:, :-1] * self.num_symbols + ids[:, 1:]
        p = torch.zeros(*pairs.shape, self.num_symbols, dtype=torch.float64)
        chances = self.chances.double().expand(*pairs.shape, 4)
        return p.scatter(2, self.next[pairs], chances).log()


GRAMMAR = PairGrammar()
LENGTH = 8  # symbols that are read at once


@torch.no_grad()
def loss_in_bits(model: nn.Module, seed: int = 12345, number: int = 2048) -> float:
    """What a symbol costs the model, in bits, on texts that nobody has trained on.

    The mean over what might have come next, by the true probabilities, and not over what
    did: the same on average, with a fraction of the noise. The first place of a text is
    left out, since one symbol does not tell the pair.

    Raises:
        ValueError: the model does not map ids to logits of the grammar's symbols.
    """
    ids = GRAMMAR.draw(number, LENGTH, torch.Generator().manual_seed(seed))
    where = next(model.parameters()).device
    pairs = ids[:, :-1] * GRAMMAR.num_symbols + ids[:, 1:]
    with evaluating(model):
        logits = model(ids.to(where))
    if tuple(logits.shape) != (*ids.shape, GRAMMAR.num_symbols):
        raise ValueError(
            f"a model must map ids (batch, length) to logits of {GRAMMAR.num_symbols} "
            f"symbols, but for {tuple(ids.shape)} it gives {tuple(logits.shape)}"
        )
    log_q = logits[:, 1:].double().log_softmax(dim=-1).cpu()
    log_q = log_q.gather(2, GRAMMAR.next[pairs])  # (number, length - 1, 4)
    return -(log_q * GRAMMAR.chances).sum(dim=-1).mean().item() / math.log(2)


# Shapes of equal size


def width_for(parameters: int, num_layers: int, num_heads: int) -> int:
    def size(d_model: int) -> int:
        a_layer = 12 * d_model**2 + 13 * d_model
        return num_layers * a_layer + 2 * d_model

    widths = range(num_heads, math.isqrt(parameters) + num_heads, num_heads)
    return min(widths, key=lambda d_model: abs(size(d_model) - parameters))


def _without_biases_and_norms(parameters, num_layers, num_heads) -> int:
    widths = range(num_heads, math.isqrt(parameters) + num_heads, num_heads)
    return min(widths, key=lambda d: abs(12 * num_layers * d**2 - parameters))


def _not_cut_in_heads(parameters, num_layers, num_heads) -> int:
    return width_for(parameters, num_layers, 1)


def _as_if_one_layer(parameters, num_layers, num_heads) -> int:
    return width_for(parameters, 1, num_heads)


def _for_each_layer_so_many(parameters, num_layers, num_heads) -> int:
    return width_for(parameters * num_layers, 1, num_heads)


def _never_larger(parameters, num_layers, num_heads) -> int:
    widths = range(num_heads, math.isqrt(parameters) + num_heads, num_heads)
    return max(
        (w for w in widths if num_layers * (12 * w**2 + 13 * w) + 2 * w <= parameters),
        default=num_heads,
    )


def _attention_only(parameters, num_layers, num_heads) -> int:
    widths = range(num_heads, math.isqrt(parameters) + num_heads, num_heads)
    return min(
        widths,
        key=lambda w: abs(num_layers * (4 * w**2 + 8 * w) + 2 * w - parameters),
    )


def _narrow_feed_forward(parameters, num_layers, num_heads) -> int:
    """As if the feed-forward network were as wide as the model."""
    widths = range(num_heads, math.isqrt(parameters) + num_heads, num_heads)
    return min(
        widths,
        key=lambda w: abs(num_layers * (6 * w**2 + 10 * w) + 2 * w - parameters),
    )


def _draw_sizes(generator: Generator) -> list[Inputs]:
    def size(d_model: int, num_layers: int) -> int:
        return num_layers * (12 * d_model**2 + 13 * d_model) + 2 * d_model

    drawn = [(400, 1, 1), (3_700, 1, 4), (25_000, 4, 2), (1_000_000, 6, 8)]
    # Just below and above the middle between two widths, where every term counts.
    for d_model, num_layers, num_heads in ((5, 1, 1), (12, 4, 2), (32, 3, 4)):
        ends = size(d_model, num_layers) + size(d_model + num_heads, num_layers)
        drawn += [((ends - 1) // 2 - 1, num_layers, num_heads)]
        drawn += [(ends // 2 + 1, num_layers, num_heads)]
    return drawn


def _cut_evenly(answer, inputs: Inputs) -> bool:
    return answer(*inputs) % inputs[2] == 0


def _as_counted(answer, inputs: Inputs) -> bool:
    """No other width that its heads divide gives a real GPT that is nearer."""
    from companion.models.gpt import GPT

    parameters, num_layers, num_heads = inputs

    def off(width: int) -> int:
        with torch.device("meta"):
            model = GPT(1, width, num_heads, num_layers=num_layers, max_seq_len=1)
        return abs(count_parameters(model).non_embedding - parameters)

    width = answer(*inputs)
    others = [w for w in (width - num_heads, width + num_heads) if w > 0]
    return off(width) <= min(map(off, others))


# A power law above a floor


def fit_above_floor(
    sizes: Sequence[float], losses: Sequence[float], floor: float
) -> tuple[float, float]:
    above = np.asarray(losses) - floor
    slope, intercept = np.polyfit(np.log(sizes), np.log(above), 1)
    return float(np.exp(intercept)), float(-slope)


def _no_floor(sizes, losses, floor) -> tuple[float, float]:
    return fit_above_floor(sizes, losses, 0.0)


def _slope_as_it_is(sizes, losses, floor) -> tuple[float, float]:
    A, alpha = fit_above_floor(sizes, losses, floor)
    return A, -alpha


def _logarithm_of_A(sizes, losses, floor) -> tuple[float, float]:
    A, alpha = fit_above_floor(sizes, losses, floor)
    return math.log(A), alpha


def _floor_off_the_logarithm(sizes, losses, floor) -> tuple[float, float]:
    slope, intercept = np.polyfit(np.log(sizes), np.log(losses) - floor, 1)
    return float(np.exp(intercept)), float(-slope)


def _bits_on_a_plain_axis(sizes, losses, floor) -> tuple[float, float]:
    above = np.asarray(losses) - floor
    slope, intercept = np.polyfit(np.log(sizes), above, 1)
    return float(np.exp(intercept)), float(-slope)


def _tens_and_e(sizes, losses, floor) -> tuple[float, float]:
    above = np.asarray(losses) - floor
    slope, intercept = np.polyfit(np.log10(sizes), np.log10(above), 1)
    return float(np.exp(intercept)), float(-slope)


def _ends_only(sizes, losses, floor) -> tuple[float, float]:
    ends = [0, len(sizes) - 1]
    return fit_above_floor([sizes[i] for i in ends], [losses[i] for i in ends], floor)


def _draw_runs(generator: Generator) -> list[Inputs]:
    cases = []
    for A, alpha, floor, number in (
        (8.0, 0.25, 1.5, 4),
        (60.0, 0.5, 1.75, 6),
        (300.0, 0.7, 0.4, 8),
    ):
        sizes = np.geomspace(1e3, 4e4, number)
        noise = 0.05 * torch.randn(number, generator=generator).double().numpy()
        losses = floor + A * sizes**-alpha * np.exp(noise)
        cases.append((sizes.tolist(), losses.tolist(), floor))
    return cases


def _exact_laws_are_found(answer, inputs: Inputs) -> bool:
    sizes, _, floor = inputs
    A, alpha = answer(sizes, [floor + 20 * n**-0.4 for n in sizes], floor)
    return math.isclose(A, 20, rel_tol=1e-3) and math.isclose(alpha, 0.4, rel_tol=1e-3)


def _what_all_share_does_not_matter(answer, inputs: Inputs) -> bool:
    """A bit more for every loss and for the floor leaves the law as it is."""
    sizes, losses, floor = inputs
    other = answer(sizes, [x + 1 for x in losses], floor + 1)
    return np.allclose(other, answer(*inputs), rtol=1e-3)


# How far off may the bet be?


def foretold_interval(
    sizes: Sequence[float],
    losses: Sequence[float],
    floor: float,
    size: float,
    picks: Sequence[Sequence[int]],
    level: float,
) -> tuple[float, float]:
    A, alpha = fit_above_floor(sizes, losses, floor)
    law = A * np.asarray(sizes) ** -alpha
    off = np.log(np.asarray(losses) - floor) - np.log(law)  # (runs,)
    bets = []
    for *of_runs, of_bet in picks:
        again = floor + law * np.exp(off[of_runs])
        A, alpha = fit_above_floor(sizes, again, floor)
        bets.append(floor + A * size**-alpha * np.exp(off[of_bet]))
    low, high = np.quantile(bets, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _of_the_law(sizes, losses, floor, size, picks, level) -> tuple[float, float]:
    """Without the noise of the run that is foretold."""
    A, alpha = fit_above_floor(sizes, losses, floor)
    law = A * np.asarray(sizes) ** -alpha
    off = np.log(np.asarray(losses) - floor) - np.log(law)
    bets = []
    for *of_runs, _ in picks:
        A, alpha = fit_above_floor(sizes, floor + law * np.exp(off[of_runs]), floor)
        bets.append(floor + A * size**-alpha)
    low, high = np.quantile(bets, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _of_a_run(sizes, losses, floor, size, picks, level) -> tuple[float, float]:
    """Without fitting again."""
    A, alpha = fit_above_floor(sizes, losses, floor)
    law = A * np.asarray(sizes) ** -alpha
    off = np.log(np.asarray(losses) - floor) - np.log(law)
    bets = [floor + A * size**-alpha * np.exp(off[row[-1]]) for row in picks]
    low, high = np.quantile(bets, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _losses_exchanged(sizes, losses, floor, size, picks, level) -> tuple[float, float]:
    """Draws losses instead of residuals, which then stand beside other sizes."""
    A, alpha = fit_above_floor(sizes, losses, floor)
    law = A * np.asarray(sizes) ** -alpha
    off = np.log(np.asarray(losses) - floor) - np.log(law)
    bets = []
    for *of_runs, of_bet in picks:
        A, alpha = fit_above_floor(sizes, np.asarray(losses)[of_runs], floor)
        bets.append(floor + A * size**-alpha * np.exp(off[of_bet]))
    low, high = np.quantile(bets, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _whole_tail_on_each_side(
    sizes, losses, floor, size, picks, level
) -> tuple[float, float]:
    return foretold_interval(sizes, losses, floor, size, picks, 2 * level - 1)


def _above_the_floor_only(
    sizes, losses, floor, size, picks, level
) -> tuple[float, float]:
    low, high = foretold_interval(sizes, losses, floor, size, picks, level)
    return low - floor, high - floor


def _floor_forgotten(sizes, losses, floor, size, picks, level) -> tuple[float, float]:
    return foretold_interval(sizes, losses, 0.0, size, picks, level)


def _draw_bets(generator: Generator) -> list[Inputs]:
    cases = []
    for (sizes, losses, floor), samples, level in zip(
        _draw_runs(generator), (30, 60, 100), (0.6, 0.8, 0.9), strict=True
    ):
        size = (len(sizes) + 1,)
        picks = [
            torch.randint(len(sizes), size, generator=generator).tolist()
            for _ in range(samples)
        ]
        cases.append((sizes, losses, floor, 4 * sizes[-1], picks, level))
    return cases


def _a_bit_more_for_all(answer, inputs: Inputs) -> bool:
    sizes, losses, floor, *others = inputs
    more = answer(sizes, [x + 1 for x in losses], floor + 1, *others)
    return np.allclose(more, np.asarray(answer(*inputs)) + 1, rtol=1e-4)


def _sure_of_an_exact_law(answer, inputs: Inputs) -> bool:
    """Runs that lie on a law foretell without doubt."""
    sizes, _, floor, size, picks, level = inputs
    losses = [floor + 20 * n**-0.4 for n in sizes]
    interval = answer(sizes, losses, floor, size, picks, level)
    return np.allclose(interval, floor + 20 * size**-0.4, rtol=1e-4)


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="width_for",
        chapter="practice",
        title="As wide as so many parameters allow",
        difficulty=2,
        minutes=12,
        trains="counts the parameters of a GPT, biases and norms included",
        reference=width_for,
        inputs=_draw_sizes,
        properties=(
            Property("the heads divide the width", _cut_evenly),
            Property(
                "a GPT that is built with it is nearer than its neighbors", _as_counted
            ),
        ),
        misconceptions=(
            Misconception(
                "counts 12 d^2 a layer",
                _without_biases_and_norms,
                "You count the eight blocks of matrices and nothing else. In a small "
                "model, biases and norms shift the answer: 13 d a layer, and the last "
                "norm.",
            ),
            Misconception(
                "forgets that heads divide the width",
                _not_cut_in_heads,
                "Your width cannot be cut into num_heads heads. Which widths are allowed?",
            ),
            Misconception(
                "counts one layer",
                _as_if_one_layer,
                "You spend all parameters on one layer. They are for num_layers of them.",
            ),
            Misconception(
                "gives every layer so many parameters",
                _for_each_layer_so_many,
                "Your layers have `parameters` each. Together they should have as many.",
            ),
            Misconception(
                "never goes above",
                _never_larger,
                "You take the largest width that stays below. The nearest may lie above.",
            ),
            Misconception(
                "counts attention only",
                _attention_only,
                "You count attention, and leave out the feed-forward network, which has "
                "twice as many weights.",
            ),
            Misconception(
                "takes the feed-forward network to be as wide as the model",
                _narrow_feed_forward,
                "Your feed-forward network is d_model wide inside. In a GPT it is four "
                "times as wide.",
            ),
        ),
        hints=(
            "Count one layer of width d: four matrices and biases of attention, two "
            "matrices and biases of the feed-forward network, two norms.",
            "A layer has 12 d^2 + 13 d, and after the last there is a norm with 2 d.",
            "Try all multiples of num_heads, and take the one whose num_layers * (12 * d"
            " ** 2 + 13 * d) + 2 * d is nearest to `parameters`.",
        ),
    ),
    Exercise(
        name="fit_above_floor",
        chapter="practice",
        title="A power law above a floor",
        difficulty=2,
        minutes=8,
        trains="fits a power law to what is left above the entropy",
        reference=fit_above_floor,
        inputs=_draw_runs,
        tolerance=1e-3,
        properties=(
            Property("an exact law is found again", _exact_laws_are_found),
            Property(
                "one bit more for all losses and the floor changes nothing",
                _what_all_share_does_not_matter,
            ),
        ),
        misconceptions=(
            Misconception(
                "forgets the floor",
                _no_floor,
                "You fit the whole loss. What falls as a power is only the part above "
                "the floor; with the floor in it, the line bends, and the exponent "
                "comes out too small.",
            ),
            Misconception(
                "gives the slope for the exponent",
                _slope_as_it_is,
                "Your exponent has the sign of the slope. In A N^-alpha, a law that "
                "falls has a positive alpha.",
            ),
            Misconception(
                "gives the logarithm of A",
                _logarithm_of_A,
                "The intercept of the line is log A. Undo the logarithm.",
            ),
            Misconception(
                "takes the floor off the logarithm",
                _floor_off_the_logarithm,
                "You subtract the floor after the logarithm. Bits are subtracted from "
                "bits: first the floor, then the logarithm.",
            ),
            Misconception(
                "takes no logarithm of the loss",
                _bits_on_a_plain_axis,
                "You fit a line to bits against log N. A power is straight when *both* "
                "axes are logarithmic.",
            ),
            Misconception(
                "mixes the logarithm to ten with e",
                _tens_and_e,
                "Your line is in logarithms to ten, and you undo it with exp.",
            ),
            Misconception(
                "draws the line through the first and the last run",
                _ends_only,
                "You use two runs, and all their noise. Least squares asks all of them.",
            ),
        ),
        hints=(
            "Subtract what no model can learn. What is the logarithm of A N^-alpha?",
            "log(loss - floor) = log A - alpha log N: a line. np.polyfit(u, v, 1) gives "
            "its slope and intercept.",
            "A = exp(intercept) and alpha = -slope",
        ),
    ),
    Exercise(
        name="foretold_interval",
        chapter="practice",
        title="How far off may the bet be?",
        difficulty=4,
        minutes=25,
        trains="says how sure a prediction of a single run is",
        reference=foretold_interval,
        inputs=_draw_bets,
        tolerance=1e-3,
        properties=(
            Property(
                "one bit more for all losses and the floor moves both ends by one bit",
                _a_bit_more_for_all,
            ),
            Property(
                "runs that lie on a law exactly leave no doubt", _sure_of_an_exact_law
            ),
        ),
        misconceptions=(
            Misconception(
                "forgets the noise of the run that is foretold",
                _of_the_law,
                "That is the interval of the *law*. The run to come lies beside the "
                "law, as the others do: the last pick of each row says how far.",
            ),
            Misconception(
                "does not fit again",
                _of_a_run,
                "You use one law for all samples. It was fitted to noisy runs, and "
                "other noise would have given another one.",
            ),
            Misconception(
                "exchanges losses instead of residuals",
                _losses_exchanged,
                "You put a loss of one size beside another size. Exchange what is left "
                "over: how far each run lies from the law, in the logarithm.",
            ),
            Misconception(
                "leaves a whole tail on each side",
                _whole_tail_on_each_side,
                "You leave 1 - level on each side. Both sides together should be that.",
            ),
            Misconception(
                "gives what lies above the floor",
                _above_the_floor_only,
                "You give the part above the floor. The loss is that and the floor.",
            ),
            Misconception(
                "forgets the floor",
                _floor_forgotten,
                "You work with the whole loss. The law is one of what lies above the "
                "floor, residuals too.",
            ),
        ),
        hints=(
            "Fit once, and note for each run the residual log(loss - floor) - log(law). "
            "Each row of picks makes runs that might have been.",
            "For a row: the run i gets the residual picks[i] on top of the law at its "
            "own size. Fit again, foretell, and add the residual picks[-1] to that.",
            "again = floor + law * np.exp(off[row[:-1]]); A, alpha = "
            "fit_above_floor(sizes, again, floor); bet = floor + A * size ** -alpha * "
            "np.exp(off[row[-1]]). At last np.quantile.",
        ),
    ),
)

# The rubric

Law = Callable[[float], float]


def size_of(model: nn.Module) -> int:
    """Parameters without the tables of symbols and positions."""
    return count_parameters(model).non_embedding


def _checked_bet(runs: Sequence[nn.Module], bet: nn.Module) -> int:
    sizes = {size_of(model) for model in runs}
    if len(sizes) < 4:
        raise ValueError(
            f"runs must be of at least four sizes, but there are {len(sizes)}"
        )
    largest = max(sizes)
    if size_of(bet) < 2 * largest:
        raise ValueError(
            f"bet must be at least twice as large as the largest of runs, which has "
            f"{largest:,} parameters, but it has {size_of(bet):,}"
        )
    return size_of(bet)


def error_of_bet(runs: Sequence[nn.Module], law: Law, bet: nn.Module) -> float:
    """How far the law's loss for the larger model is from its own, in bits."""
    return abs(float(law(_checked_bet(runs, bet))) - loss_in_bits(bet))


def interval_score(
    runs: Sequence[nn.Module], interval: tuple[float, float], bet: nn.Module
) -> float:
    """Its width in bits, and ten times as much for each bit that the bet lies outside.

    Gneiting and Raftery (2007), "Strictly proper scoring rules", section 6.2, for an
    interval of 80 %: least on average for who says how sure they are.
    """
    _checked_bet(runs, bet)
    low, high = map(float, interval)
    if low > high:
        raise ValueError(f"interval must be (low, high), but it is ({low}, {high})")
    found = loss_in_bits(bet)
    return high - low + 10 * max(low - found, found - high, 0.0)


def free_fit(
    sizes: Sequence[float], losses: Sequence[float]
) -> tuple[float, float, float]:
    """(E, A, alpha) of E + A N^-alpha with the smallest squared error, E not known.

    For each E on a grid the two others are a line's.
    """
    found = []
    for E in np.linspace(0, min(losses), 400, endpoint=False):
        A, alpha = fit_above_floor(sizes, losses, E)
        off = E + A * np.asarray(sizes, float) ** -alpha - np.asarray(losses)
        found.append((float((off**2).sum()), float(E), A, alpha))
    return min(found)[1:]


def unfairness(equal: Mapping[str, Sequence[nn.Module]]) -> float:
    """By how many percent the largest of the shapes is larger than the smallest."""
    if len(equal) < 2:
        raise ValueError(f"equal must have two shapes or more, but it has {len(equal)}")
    sizes = [size_of(model) for models in equal.values() for model in models]
    return 100 * (max(sizes) / min(sizes) - 1)


def seeds_of(
    runs: Sequence[nn.Module], equal: Mapping[str, Sequence[nn.Module]]
) -> float:
    """How many different models of each size and shape there are, at the least."""
    by_shape: dict[object, set[float]] = {}
    for model in runs:
        by_shape.setdefault(size_of(model), set()).add(_print(model))
    for shape, models in equal.items():
        by_shape[shape] = {_print(model) for model in models}
    return min(len(prints) for prints in by_shape.values())


def _print(model: nn.Module) -> float:
    """A number that no two models share that were trained from different seeds."""
    return sum(p.detach().double().abs().sum().item() for p in model.parameters())


PROJECT = Project(
    name="scaling_study",
    title="A scaling study of your own",
    stages=("width_for", "fit_above_floor", "foretold_interval"),
    minutes=120,
    criteria=(
        Criterion(
            name="bet",
            asks="how far your law's loss for a model twice as large or more is from "
            "what that model reaches",
            measure=lambda runs, law, bet: error_of_bet(runs, law, bet),
            levels=(0.15, 0.06, 0.02),
            unit=" bits",
            digits=3,
            advice=(
                "Plot the runs above the floor on two logarithmic axes. Is it a line?",
                "Are all sizes trained with the rate that is right for them?",
                "More seeds at the large end, and the bet averaged over seeds as well.",
            ),
        ),
        Criterion(
            name="interval",
            asks="width of your 80 % interval, and ten times what the outcome lies "
            "outside of it",
            measure=lambda runs, interval, bet: interval_score(runs, interval, bet),
            levels=(0.6, 0.3, 0.1),
            unit=" bits",
            digits=3,
            advice=(
                "An interval that is missed costs most. Is the run's own noise in it?",
                "Less noise in the runs makes it narrow: more seeds, lower last rate.",
                "More sizes near the bet make it narrower.",
            ),
        ),
        Criterion(
            name="fairness",
            asks="by how much the shapes of equal size differ in size",
            measure=lambda equal: unfairness(equal),
            levels=(10.0, 4.0, 1.8),
            unit=" %",
            digits=1,
            advice=(
                "Choose the width by `width_for`, and the same number of heads.",
                "Fewer heads leave more widths to choose from.",
                "Try several targets and one head, and take what all shapes come near.",
            ),
        ),
        Criterion(
            name="seeds",
            asks="how often each size and shape was trained, at the least",
            measure=lambda runs, equal: seeds_of(runs, equal),
            levels=(2, 3, 5),
            digits=0,
            advice=(
                "One run is no measurement: train each a second time, with other weights.",
                "A third seed shows whether the first two agreed by chance.",
                "Five seeds, and the differences between shapes get error bars.",
            ),
        ),
    ),
)
