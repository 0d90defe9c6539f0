"""Exercises of the chapter that compares the families, and both with recurrent networks."""

from __future__ import annotations

import math
import statistics

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from companion.exercises.exercise import Exercise, Inputs, Misconception, Property

# The price of filling all blanks at once


def independent_bits(joint: Float[Tensor, "first second"]) -> float:
    return sum(_entropy(joint.sum(dim=axis)) for axis in (0, 1)).item()


def _entropy(p: Tensor) -> Tensor:
    return -torch.special.xlogy(p, p).sum() / math.log(2)


def _one_after_the_other(joint: Tensor) -> float:
    return _entropy(joint).item()


def _in_nats(joint: Tensor) -> float:
    return independent_bits(joint) * math.log(2)


def _only_the_first(joint: Tensor) -> float:
    return _entropy(joint.sum(dim=1)).item()


def _what_is_lost(joint: Tensor) -> float:
    return independent_bits(joint) - _one_after_the_other(joint)


def _draw_joint(generator: Generator) -> list[Inputs]:
    drawn = [torch.tensor([[0.25, 0.25], [0.0, 0.5]])]
    for size in ((2, 3), (3, 3), (4, 2)):
        weights = torch.rand(size, generator=generator) ** 3
        drawn.append(weights / weights.sum())
    return [(joint,) for joint in drawn]


def _never_below_the_joint_entropy(answer, inputs: Inputs) -> bool:
    return float(answer(*inputs)) >= _entropy(inputs[0]).item() - 1e-5


# A mask between the families


def prefix_mask(source_length: int, target_length: int) -> Bool[Tensor, "n n"]:
    n = source_length + target_length
    mask = torch.ones(n, n, dtype=torch.bool).tril()
    mask[:, :source_length] = True
    mask[:source_length, source_length:] = False
    return mask


def _causal_everywhere(source_length: int, target_length: int) -> Tensor:
    n = source_length + target_length
    return torch.ones(n, n, dtype=torch.bool).tril()


def _source_sees_target(source_length: int, target_length: int) -> Tensor:
    mask = prefix_mask(source_length, target_length)
    mask[:source_length] = True
    return mask


def _target_sees_itself_whole(source_length: int, target_length: int) -> Tensor:
    mask = prefix_mask(source_length, target_length)
    mask[source_length:] = True
    return mask


def _target_forgets_source(source_length: int, target_length: int) -> Tensor:
    mask = prefix_mask(source_length, target_length)
    mask[source_length:, :source_length] = False
    return mask


def _not_even_itself(source_length: int, target_length: int) -> Tensor:
    mask = prefix_mask(source_length, target_length)
    later = torch.arange(len(mask)) >= source_length
    mask[later, later.nonzero()[:, 0]] = False
    return mask


def _transposed(source_length: int, target_length: int) -> Tensor:
    return prefix_mask(source_length, target_length).mT.contiguous()


def _draw_lengths(generator: Generator) -> list[Inputs]:
    return [(2, 2), (3, 2), (2, 4), (4, 3)]


def _every_row_sees_the_source(answer, inputs: Inputs) -> bool:
    return bool(answer(*inputs)[:, : inputs[0]].all())


# Labels of a source and a target in one text


def target_labels(
    token_ids: Int[Tensor, "batch length"],
    source_lengths: Int[Tensor, " batch"],
    pad_id: int,
) -> Int[Tensor, "batch length"]:
    labels = torch.full_like(token_ids, -100)
    labels[:, :-1] = token_ids[:, 1:]
    place = torch.arange(token_ids.shape[1]) + 1  # of the token that is foretold
    labels[place < source_lengths[:, None]] = -100
    labels[labels == pad_id] = -100
    return labels


def _not_shifted(token_ids: Tensor, source_lengths: Tensor, pad_id: int) -> Tensor:
    place = torch.arange(token_ids.shape[1])
    hidden = (place < source_lengths[:, None]) | (token_ids == pad_id)
    return token_ids.masked_fill(hidden, -100)


def _learns_the_source(
    token_ids: Tensor, source_lengths: Tensor, pad_id: int
) -> Tensor:
    return target_labels(token_ids, torch.zeros_like(source_lengths), pad_id)


def _first_token_lost(token_ids: Tensor, source_lengths: Tensor, pad_id: int) -> Tensor:
    return target_labels(token_ids, source_lengths + 1, pad_id)


def _padding_kept(token_ids: Tensor, source_lengths: Tensor, pad_id: int) -> Tensor:
    labels = target_labels(token_ids, source_lengths, -1)
    labels[:, -1] = -100
    return labels


def _last_source_token_too(
    token_ids: Tensor, source_lengths: Tensor, pad_id: int
) -> Tensor:
    return target_labels(token_ids, source_lengths - 1, pad_id)


def _draw_texts(generator: Generator) -> list[Inputs]:
    drawn = []
    for rows, pad_id in (
        (((2, 2),), 0),
        (((2, 3), (4, 2)), 0),
        (((3, 2), (2, 5), (5, 2)), 9),
    ):
        length = max(s + t for s, t in rows) + 1
        ids = torch.randint(1, 9, (len(rows), length), generator=generator)
        for row, (s, t) in zip(ids, rows, strict=True):
            row[s + t :] = pad_id
        drawn.append((ids, torch.tensor([s for s, _ in rows]), pad_id))
    return drawn


def _one_label_a_target_token(answer, inputs: Inputs) -> bool:
    ids, source_lengths, pad_id = inputs
    targets = (ids != pad_id).sum(dim=1) - source_lengths
    return bool(((answer(*inputs) != -100).sum(dim=1) == targets).all())


# Equal parameters


def lstm_parameters(d_input: int, d_model: int, num_layers: int) -> int:
    widths = [d_input, *[d_model] * (num_layers - 1)]
    return sum(4 * (width * d_model + d_model**2 + 2 * d_model) for width in widths)


def _three_gates(d_input: int, d_model: int, num_layers: int) -> int:
    return lstm_parameters(d_input, d_model, num_layers) // 4 * 3


def _one_bias(d_input: int, d_model: int, num_layers: int) -> int:
    return lstm_parameters(d_input, d_model, num_layers) - 4 * d_model * num_layers


def _no_way_back(d_input: int, d_model: int, num_layers: int) -> int:
    return lstm_parameters(d_input, d_model, num_layers) - 4 * d_model**2 * num_layers


def _all_layers_like_the_first(d_input: int, d_model: int, num_layers: int) -> int:
    return num_layers * lstm_parameters(d_input, d_model, 1)


def _one_matrix(d_input: int, d_model: int, num_layers: int) -> int:
    return lstm_parameters(d_input, d_model, num_layers) // 4


def _a_wider_input_costs_four_columns(answer, inputs: Inputs) -> bool:
    d_input, d_model, num_layers = inputs
    wider = answer(d_input + 1, d_model, num_layers)
    return wider - answer(*inputs) == 4 * d_model


def _draw_lstms(generator: Generator) -> list[Inputs]:
    return [(2, 3, 1), (3, 4, 2), (10, 6, 3), (64, 128, 2)]


# Steps that cannot be taken at once


def sequential_steps(length: int, num_layers: int) -> tuple[int, int]:
    return length + num_layers - 1, num_layers


def _layer_after_layer(length: int, num_layers: int) -> tuple[int, int]:
    return length * num_layers, num_layers


def _attention_waits(length: int, num_layers: int) -> tuple[int, int]:
    return length + num_layers - 1, length + num_layers - 1


def _only_the_length(length: int, num_layers: int) -> tuple[int, int]:
    return length, num_layers


def _all_at_once(length: int, num_layers: int) -> tuple[int, int]:
    return length + num_layers - 1, 1


def _the_other_way_round(length: int, num_layers: int) -> tuple[int, int]:
    return sequential_steps(length, num_layers)[::-1]


def _one_position_is_one_step(answer, inputs: Inputs) -> bool:
    length, num_layers = inputs
    return answer(length + 1, num_layers)[0] - answer(*inputs)[0] == 1


def _draw_stacks(generator: Generator) -> list[Inputs]:
    return [(4, 2), (5, 3), (128, 6), (1000, 12)]


# Seeds


def standard_error(values: list[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values))


def _spread(values: list[float]) -> float:
    return statistics.stdev(values)


def _known_mean(values: list[float]) -> float:
    return statistics.pstdev(values) / math.sqrt(len(values))


def _without_the_root(values: list[float]) -> float:
    return statistics.stdev(values) / len(values)


def _of_the_variance(values: list[float]) -> float:
    return statistics.variance(values) / math.sqrt(len(values))


def _population_spread(values: list[float]) -> float:
    return statistics.pstdev(values)


def _draw_values(generator: Generator) -> list[Inputs]:
    drawn = [([1.0, 2.0, 6.0],)]
    for number in (3, 5, 8):
        drawn.append(((10 * torch.rand(number, generator=generator)).tolist(),))
    return drawn


def _grows_with_the_values(answer, inputs: Inputs) -> bool:
    (values,) = inputs
    doubled = [2 * value for value in values]
    return math.isclose(2 * answer(values), answer(doubled), rel_tol=1e-6)


EXERCISES = (
    Exercise(
        name="independent_bits",
        chapter="comparison",
        title="The price of filling all blanks at once",
        difficulty=3,
        minutes=10,
        trains="puts a number of bits on assuming independence",
        reference=independent_bits,
        inputs=_draw_joint,
        properties=(
            Property(
                "it is never below the entropy of the pair",
                _never_below_the_joint_entropy,
            ),
        ),
        misconceptions=(
            Misconception(
                "lets the second see the first",
                _one_after_the_other,
                "This is the entropy of the pair, which a model reaches that writes one "
                "after the other. Two blanks that are filled at once can only follow their "
                "own marginal distributions.",
            ),
            Misconception(
                "counts in nats",
                _in_nats,
                "The logarithm is the natural one. Bits want base 2: divide by ln 2.",
            ),
            Misconception(
                "counts one blank",
                _only_the_first,
                "That is the cost of the first blank. The second one has its own.",
            ),
            Misconception(
                "gives the difference",
                _what_is_lost,
                "That is what is lost against writing left to right, the mutual "
                "information. Asked is the whole cost.",
            ),
        ),
        hints=(
            "What is the best that one blank can do that knows nothing of the other?",
            "Its distribution is a marginal: a sum over the other axis.",
            "The entropies of the two marginals, -sum p log2 p each, added.",
        ),
        tolerance=1e-4,
    ),
    Exercise(
        name="prefix_mask",
        chapter="comparison",
        title="A decoder that reads its source both ways",
        difficulty=2,
        minutes=8,
        trains="writes a mask with different rules for source and target",
        reference=prefix_mask,
        inputs=_draw_lengths,
        properties=(
            Property(
                "every position sees the whole source", _every_row_sees_the_source
            ),
        ),
        misconceptions=(
            Misconception(
                "is causal in the source too",
                _causal_everywhere,
                "The first source tokens don't see the later ones. That is the plain "
                "decoder-only mask; a prefix is given and may be read both ways.",
            ),
            Misconception(
                "lets the source read the answer",
                _source_sees_target,
                "Rows of the source see the target. The target then sees its own future "
                "through them, one layer later, and training shows a loss that no "
                "generation reaches.",
            ),
            Misconception(
                "lets the target see its future",
                _target_sees_itself_whole,
                "Rows of the target see all of the target. The next token is in view of "
                "the position that has to foretell it.",
            ),
            Misconception(
                "hides the source from the target",
                _target_forgets_source,
                "The target cannot see what it should answer to.",
            ),
            Misconception(
                "hides each target token from itself",
                _not_even_itself,
                "A target position does not see its own token, which is the last one that "
                "is known. Only what comes later is to be hidden.",
            ),
            Misconception(
                "swaps queries and keys",
                _transposed,
                "The mask is the transpose. Rows are queries, columns are keys.",
            ),
        ),
        hints=(
            "Start from a causal mask.",
            "Which columns may everybody see?",
            "mask[:, :source_length] = True, and nothing else changes.",
        ),
    ),
    Exercise(
        name="target_labels",
        chapter="comparison",
        title="Learn the answer, not the question",
        difficulty=3,
        minutes=12,
        trains="hides from the loss exactly what is only read",
        reference=target_labels,
        inputs=_draw_texts,
        properties=(
            Property("there is one label a target token", _one_label_a_target_token),
        ),
        misconceptions=(
            Misconception(
                "does not shift",
                _not_shifted,
                "Each position is asked for its own token, which it sees. The label at "
                "position t is the token at t + 1.",
            ),
            Misconception(
                "learns the source as well",
                _learns_the_source,
                "Tokens of the source have labels. That is language modeling of both "
                "parts; here only the target counts.",
            ),
            Misconception(
                "loses the first target token",
                _first_token_lost,
                "The last token of the source foretells the first one of the target. Its "
                "label is missing.",
            ),
            Misconception(
                "learns the last source token",
                _last_source_token_too,
                "One token too many: the last of the source is a label too.",
            ),
            Misconception(
                "learns to write padding",
                _padding_kept,
                "Padding is a label. Nothing is to be foretold after the target's end.",
            ),
        ),
        hints=(
            "Shift first: labels[:, :-1] = token_ids[:, 1:].",
            "Which token does position t foretell, and is that one of the target?",
            "Hide where t + 1 < source_lengths, and where the label is pad_id.",
        ),
    ),
    Exercise(
        name="lstm_parameters",
        chapter="comparison",
        title="Count an LSTM",
        difficulty=2,
        minutes=8,
        trains="counts gates, biases and directions of a recurrent network",
        reference=lstm_parameters,
        inputs=_draw_lstms,
        properties=(
            Property(
                "one more input feature costs one column of each of four matrices",
                _a_wider_input_costs_four_columns,
            ),
        ),
        misconceptions=(
            Misconception(
                "counts three gates",
                _three_gates,
                "An LSTM has input, forget and output gate *and* the new content: four "
                "maps. Three is the GRU.",
            ),
            Misconception(
                "counts one bias",
                _one_bias,
                "PyTorch has two biases, one beside each matrix, which add up.",
            ),
            Misconception(
                "forgets the way back",
                _no_way_back,
                "The matrices that read the last state are missing: without them nothing "
                "recurs.",
            ),
            Misconception(
                "makes all layers like the first",
                _all_layers_like_the_first,
                "From the second layer on the input is the state of the layer below, of "
                "width d_model.",
            ),
            Misconception(
                "counts one map",
                _one_matrix,
                "A gate has its own matrices and biases; there are four such sets.",
            ),
        ),
        hints=(
            "Four maps: three gates and the new content.",
            "Each reads the input and the last state, with two biases.",
            "4 * (d_input * d_model + d_model**2 + 2 * d_model) for the first layer.",
        ),
    ),
    Exercise(
        name="sequential_steps",
        chapter="comparison",
        title="Steps that wait for each other",
        difficulty=2,
        minutes=6,
        trains="finds the longest chain of steps that wait for each other",
        reference=sequential_steps,
        inputs=_draw_stacks,
        properties=(
            Property(
                "one more position costs the LSTM one step", _one_position_is_one_step
            ),
        ),
        misconceptions=(
            Misconception(
                "runs one layer after the other",
                _layer_after_layer,
                "With enough workers, the second layer can start when the first one has "
                "done its first position: they run as a wave.",
            ),
            Misconception(
                "lets attention wait for positions",
                _attention_waits,
                "In training all positions of a Transformer's layer are computed at once.",
            ),
            Misconception(
                "forgets the layers of the LSTM",
                _only_the_length,
                "After the last position of the first layer, the layers above still have "
                "to take theirs.",
            ),
            Misconception(
                "forgets the layers of the Transformer",
                _all_at_once,
                "A layer needs the output of the one below.",
            ),
            Misconception(
                "has the two the other way round",
                _the_other_way_round,
                "The LSTM comes first in the answer.",
            ),
        ),
        hints=(
            "Draw a grid: positions to the right, layers upward. What needs what?",
            "In an LSTM a cell needs its left and its lower neighbor.",
            "The longest way through the grid, and the height of the other one.",
        ),
    ),
    Exercise(
        name="standard_error",
        chapter="comparison",
        title="How sure is a mean of three seeds?",
        difficulty=1,
        minutes=5,
        trains="tells the spread of runs from the error of their mean",
        reference=standard_error,
        inputs=_draw_values,
        properties=(
            Property("twice the values have twice the error", _grows_with_the_values),
        ),
        misconceptions=(
            Misconception(
                "gives the spread of the runs",
                _spread,
                "That is how far apart runs are. The mean of n runs is surer by the root "
                "of n.",
            ),
            Misconception(
                "divides by n inside",
                _known_mean,
                "The mean was estimated from the same values, which makes them look "
                "closer together than they are: divide by n - 1 inside the root.",
            ),
            Misconception(
                "divides by n outside",
                _without_the_root,
                "Variances of independent runs add up, so the error falls with the root "
                "of n.",
            ),
            Misconception(
                "takes the variance",
                _of_the_variance,
                "The root of the variance is missing.",
            ),
            Misconception(
                "gives the spread, with n inside",
                _population_spread,
                "This is the deviation of a whole population. The runs are a sample, and "
                "asked is the error of their mean.",
            ),
        ),
        hints=(
            "First the sample's standard deviation.",
            "It divides the squares by n - 1.",
            "Then divide by the root of n.",
        ),
        tolerance=1e-6,
    ),
)
