"""Exercises of the section on cheaper models: adapters, 8 bits, experts."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int, Int8
from torch import Generator, Tensor

from companion.exercises.exercise import Exercise, Inputs, Misconception, Property

# Merging an adapter


def merged_weight(
    weight: Float[Tensor, "out in"],
    A: Float[Tensor, "rank in"],
    B: Float[Tensor, "out rank"],
    alpha: float,
) -> Float[Tensor, "out in"]:
    rank = A.shape[0]
    return weight + alpha / rank * B @ A


def _no_rank(weight: Tensor, A: Tensor, B: Tensor, alpha: float) -> Tensor:
    return weight + alpha * B @ A


def _no_alpha(weight: Tensor, A: Tensor, B: Tensor, alpha: float) -> Tensor:
    return weight + B @ A


def _over_width(weight: Tensor, A: Tensor, B: Tensor, alpha: float) -> Tensor:
    return weight + alpha / A.shape[1] * B @ A


def _correction_only(weight: Tensor, A: Tensor, B: Tensor, alpha: float) -> Tensor:
    return alpha / A.shape[0] * B @ A


def _draw_merge(generator: Generator) -> list[Inputs]:
    return [
        (
            torch.randn(out, width, generator=generator),
            torch.randn(rank, width, generator=generator),
            torch.randn(out, rank, generator=generator),
            alpha,
        )
        for out, width, rank, alpha in ((2, 3, 2, 6.0), (5, 4, 3, 2.0), (7, 7, 2, 5.0))
    ]


def _zero_changes_nothing(answer, inputs: Inputs) -> bool:
    weight, A, B, alpha = inputs
    return torch.equal(answer(weight, A, torch.zeros_like(B), alpha), weight)


# What training keeps in memory


def training_bytes(frozen: int, trained: int) -> int:
    weights = frozen + trained
    gradients = trained
    moments = 2 * trained  # Adam's running means of the gradient and of its square
    return 4 * (weights + gradients + moments)


def _gradients_for_all(frozen: int, trained: int) -> int:
    return 4 * (2 * (frozen + trained) + 2 * trained)


def _one_moment(frozen: int, trained: int) -> int:
    return 4 * (frozen + 3 * trained)


def _frozen_are_free(frozen: int, trained: int) -> int:
    return 16 * trained


def _adam_for_all(frozen: int, trained: int) -> int:
    return 16 * (frozen + trained)


def _draw_training(generator: Generator) -> list[Inputs]:
    return [(100, 10), (0, 7), (22_565_376, 663_552), (7_000_000_000, 4_194_304)]


def _sixteen_when_all_is_trained(answer, inputs: Inputs) -> bool:
    return answer(0, inputs[1]) == 16 * inputs[1]


# Rounding to 8 bits


def quantize_rows(
    weight: Float[Tensor, "out in"],
) -> tuple[Int8[Tensor, "out in"], Float[Tensor, "out 1"]]:
    scale = weight.abs().amax(dim=1, keepdim=True) / 127  # (out, 1)
    return (weight / scale).round().to(torch.int8), scale


def _columns(weight: Tensor) -> tuple[Tensor, Tensor]:
    scale = weight.abs().amax(dim=0, keepdim=True) / 127
    return (weight / scale).round().to(torch.int8), scale


def _cuts_off(weight: Tensor) -> tuple[Tensor, Tensor]:
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    return (weight / scale).to(torch.int8), scale


def _up_to_128(weight: Tensor) -> tuple[Tensor, Tensor]:
    scale = weight.abs().amax(dim=1, keepdim=True) / 128
    levels = (weight / scale).round()
    return ((levels + 128) % 256 - 128).to(torch.int8), scale


def _largest_not_absolute(weight: Tensor) -> tuple[Tensor, Tensor]:
    scale = weight.amax(dim=1, keepdim=True) / 127
    levels = (weight / scale).round()
    return ((levels + 128) % 256 - 128).to(torch.int8), scale


def _inverse_scale(weight: Tensor) -> tuple[Tensor, Tensor]:
    scale = 127 / weight.abs().amax(dim=1, keepdim=True)
    return (weight * scale).round().to(torch.int8), scale


def _draw_rows(generator: Generator) -> list[Inputs]:
    found = []
    for rows, columns in ((2, 3), (4, 5), (3, 8)):
        weight = torch.randn(rows, columns, generator=generator)
        # Each row has a size of its own, and its largest number is negative somewhere.
        weight = weight * torch.logspace(0, 2, rows)[:, None]
        weight[0, 0] = -weight[0].abs().max() - 0.5
        weight[-1, -1] = weight[-1].abs().max() + 0.5
        weight[0, 1] = weight[0, 0].abs() / 3
        found.append((weight,))
    return found


def _half_a_step(answer, inputs: Inputs) -> bool:
    (weight,) = inputs
    values, scale = answer(weight)
    return bool(((values * scale - weight).abs() <= 0.501 * scale).all())


# Multiplying integers


def integer_linear(
    x: Int8[Tensor, "tokens in"],
    x_scale: Float[Tensor, "tokens 1"],
    w: Int8[Tensor, "out in"],
    w_scale: Float[Tensor, "out 1"],
) -> Float[Tensor, "tokens out"]:
    sums = x.int() @ w.int().T  # (tokens, out), int32
    return sums * x_scale * w_scale.T


def _sums_in_8_bits(x: Tensor, x_scale: Tensor, w: Tensor, w_scale: Tensor) -> Tensor:
    sums = x.int() @ w.int().T
    return ((sums + 128) % 256 - 128) * x_scale * w_scale.T


def _adds_scales(x: Tensor, x_scale: Tensor, w: Tensor, w_scale: Tensor) -> Tensor:
    return (x.int() @ w.int().T) * (x_scale + w_scale.T)


def _one_scale(x: Tensor, x_scale: Tensor, w: Tensor, w_scale: Tensor) -> Tensor:
    return (x.int() @ w.int().T) * x_scale


def _largest_scales(x: Tensor, x_scale: Tensor, w: Tensor, w_scale: Tensor) -> Tensor:
    return (x.int() @ w.int().T) * x_scale.max() * w_scale.max()


def _draw_integers(generator: Generator) -> list[Inputs]:
    found = []
    for tokens, width, out in ((2, 3, 2), (3, 8, 5), (4, 16, 3)):
        x, w = (
            torch.randint(-127, 128, (rows, width), generator=generator).to(torch.int8)
            for rows in (tokens, out)
        )
        scales = (
            0.01 + torch.rand(rows, 1, generator=generator) for rows in (tokens, out)
        )
        x_scale, w_scale = scales
        found.append((x, x_scale, w, w_scale))
    return found


def _scales_come_out(answer, inputs: Inputs) -> bool:
    x, x_scale, w, w_scale = inputs
    twice = answer(x, 2 * x_scale, w, 3 * w_scale)
    return torch.allclose(twice, 6 * answer(*inputs), rtol=1e-4)


# Routing


def route(
    logits: Float[Tensor, "tokens experts"], top_k: int
) -> Float[Tensor, "tokens experts"]:
    probabilities = logits.softmax(dim=-1)
    kept, chosen = probabilities.topk(top_k, dim=-1)  # (tokens, k)
    kept = kept / kept.sum(dim=-1, keepdim=True)
    return torch.zeros_like(logits).scatter(-1, chosen, kept)


def _not_renormalized(logits: Tensor, top_k: int) -> Tensor:
    kept, chosen = logits.softmax(dim=-1).topk(top_k, dim=-1)
    return torch.zeros_like(logits).scatter(-1, chosen, kept)


def _tokens_compete(logits: Tensor, top_k: int) -> Tensor:
    kept, chosen = logits.softmax(dim=-1).topk(top_k, dim=0)
    kept = kept / kept.sum(dim=0, keepdim=True)
    return torch.zeros_like(logits).scatter(0, chosen, kept)


def _equal_shares(logits: Tensor, top_k: int) -> Tensor:
    chosen = logits.topk(top_k, dim=-1).indices
    return torch.zeros_like(logits).scatter(-1, chosen, 1 / top_k) + 0 * logits


def _softmax_twice(logits: Tensor, top_k: int) -> Tensor:
    kept, chosen = logits.softmax(dim=-1).topk(top_k, dim=-1)
    return torch.zeros_like(logits).scatter(-1, chosen, kept.softmax(dim=-1))


def _zeros_before_softmax(logits: Tensor, top_k: int) -> Tensor:
    kept, chosen = logits.topk(top_k, dim=-1)
    return torch.zeros_like(logits).scatter(-1, chosen, kept).softmax(dim=-1)


def _draw_route(generator: Generator) -> list[Inputs]:
    return [
        (2 * torch.randn(tokens, experts, generator=generator), k)
        for tokens, experts, k in ((3, 4, 2), (4, 8, 2), (5, 6, 3))
    ]


def _k_shares_that_sum_to_one(answer, inputs: Inputs) -> bool:
    logits, top_k = inputs
    shares = answer(logits, top_k)
    ones = torch.ones(len(logits))
    sums = torch.allclose(shares.sum(dim=-1), ones, atol=1e-5)
    return sums and bool(((shares > 0).sum(dim=-1) == top_k).all())


# Balance


def balance_loss(
    probabilities: Float[Tensor, "tokens experts"], chosen: Int[Tensor, " tokens"]
) -> Float[Tensor, ""]:
    num_experts = probabilities.shape[1]
    share = torch.bincount(chosen, minlength=num_experts) / len(chosen)  # (experts,)
    return num_experts * (share * probabilities.mean(dim=0)).sum()


def _not_times_experts(probabilities: Tensor, chosen: Tensor) -> Tensor:
    return balance_loss(probabilities, chosen) / probabilities.shape[1]


def _only_shares(probabilities: Tensor, chosen: Tensor) -> Tensor:
    num_experts = probabilities.shape[1]
    share = torch.bincount(chosen, minlength=num_experts) / len(chosen)
    return num_experts * (share * share).sum() + 0 * probabilities.sum()


def _only_probabilities(probabilities: Tensor, chosen: Tensor) -> Tensor:
    return probabilities.shape[1] * probabilities.mean(dim=0).square().sum()


def _token_by_token(probabilities: Tensor, chosen: Tensor) -> Tensor:
    picked = probabilities.gather(1, chosen[:, None])
    return probabilities.shape[1] * picked.mean()


def _counts_not_shares(probabilities: Tensor, chosen: Tensor) -> Tensor:
    return balance_loss(probabilities, chosen) * len(chosen)


def _draw_balance(generator: Generator) -> list[Inputs]:
    found = []
    for tokens, experts in ((4, 2), (9, 4), (12, 3)):
        logits = 2 * torch.randn(tokens, experts, generator=generator)
        probabilities = logits.softmax(dim=-1)
        chosen = probabilities.argmax(dim=-1)
        chosen[0] = experts - 1  # the chosen need not be the likeliest
        if tokens == 12:
            chosen[chosen == experts - 1] = 0  # nor has each expert a token
        found.append((probabilities, chosen))
    return found


def _one_when_even(answer, inputs: Inputs) -> bool:
    experts = inputs[0].shape[1]
    even = torch.full((2 * experts, experts), 1 / experts)
    chosen = torch.arange(2 * experts) % experts
    return abs(float(answer(even, chosen)) - 1) < 1e-5


# Capacity


def within_capacity(
    chosen: Int[Tensor, " tokens"], num_experts: int, capacity: int
) -> Bool[Tensor, " tokens"]:
    one_hot = torch.nn.functional.one_hot(chosen, num_experts)  # (tokens, experts)
    place = one_hot.cumsum(dim=0).gather(1, chosen[:, None])[:, 0]  # from 1
    return place <= capacity


def _one_too_few(chosen: Tensor, num_experts: int, capacity: int) -> Tensor:
    return within_capacity(chosen, num_experts, capacity - 1)


def _last_come(chosen: Tensor, num_experts: int, capacity: int) -> Tensor:
    return within_capacity(chosen.flip(0), num_experts, capacity).flip(0)


def _all_or_nothing(chosen: Tensor, num_experts: int, capacity: int) -> Tensor:
    counts = torch.bincount(chosen, minlength=num_experts)
    return (counts <= capacity)[chosen]


def _one_queue(chosen: Tensor, num_experts: int, capacity: int) -> Tensor:
    return torch.arange(len(chosen), device=chosen.device) < num_experts * capacity


def _draw_capacity(generator: Generator) -> list[Inputs]:
    return [
        (torch.tensor([0, 1, 0, 0, 1]), 2, 2),
        (torch.tensor([2, 2, 0, 2, 1, 2, 0, 0, 0, 2]), 3, 2),
        (torch.randint(4, (30,), generator=generator), 4, 5),
    ]


def _nobody_has_more(answer, inputs: Inputs) -> bool:
    chosen, num_experts, capacity = inputs
    counts = torch.bincount(chosen, minlength=num_experts)
    kept = torch.bincount(chosen[answer(*inputs)], minlength=num_experts)
    return torch.equal(kept, counts.clamp(max=capacity))


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="merged_weight",
        chapter="cheaper-models",
        title="Put an adapter into its weight",
        difficulty=1,
        minutes=5,
        trains="adds a low-rank update to its weight at the right scale",
        reference=merged_weight,
        inputs=_draw_merge,
        properties=(
            Property("with B at zero the weight stays as it is", _zero_changes_nothing),
        ),
        misconceptions=(
            Misconception(
                "forgets to divide by the rank",
                _no_rank,
                "The correction is too large, by a factor of the rank. Without 1 / rank, "
                "doubling the rank would double the size of each step.",
            ),
            Misconception(
                "forgets the scale",
                _no_alpha,
                "B A is added as it is. The layer was trained with alpha / rank in front "
                "of it, so the merged layer must have it too.",
            ),
            Misconception(
                "divides by the width",
                _over_width,
                "Alpha is divided by the number of inputs. The rank is the other axis of "
                "A: the one that A and B share.",
            ),
            Misconception(
                "leaves out the weight",
                _correction_only,
                "This is the correction alone. The frozen weight is still needed.",
            ),
        ),
        hints=(
            "The rank can be read off a shape.",
            "B is (out, rank) and A is (rank, in): in which order do they multiply?",
            "weight + alpha / rank * B @ A",
        ),
    ),
    Exercise(
        name="training_bytes",
        chapter="cheaper-models",
        title="Bytes that training with AdamW holds",
        difficulty=2,
        minutes=8,
        trains="says which tensors training holds for a weight, frozen or not",
        reference=training_bytes,
        inputs=_draw_training,
        properties=(
            Property(
                "with nothing frozen it is 16 bytes a parameter",
                _sixteen_when_all_is_trained,
            ),
        ),
        misconceptions=(
            Misconception(
                "keeps gradients of frozen weights",
                _gradients_for_all,
                "A frozen weight has requires_grad = False, so no gradient is stored "
                "for it.",
            ),
            Misconception(
                "counts one moment",
                _one_moment,
                "Adam keeps two numbers a parameter beside the gradient: a running mean of "
                "it and one of its square.",
            ),
            Misconception(
                "takes frozen weights for free",
                _frozen_are_free,
                "Frozen weights are not trained, but they are in memory all the same: the "
                "forward pass needs them.",
            ),
            Misconception(
                "gives everything an optimizer state",
                _adam_for_all,
                "That is the cost of training all of it. What is frozen needs its 4 bytes "
                "and nothing else.",
            ),
        ),
        hints=(
            "Four things take memory: weights, gradients, and two more of Adam's.",
            "Which of the four does a frozen parameter need?",
            "4 bytes for a frozen parameter, 16 for a trained one.",
        ),
    ),
    Exercise(
        name="quantize_rows",
        chapter="cheaper-models",
        title="Round a matrix to int8, a scale for each row",
        difficulty=2,
        minutes=10,
        trains="rounds to integers with a scale that bounds the error",
        reference=quantize_rows,
        inputs=_draw_rows,
        properties=(
            Property("no weight is off by more than half a scale", _half_a_step),
        ),
        misconceptions=(
            Misconception(
                "scales the columns",
                _columns,
                "Each column has a scale. A row of the weight makes one output, and a scale "
                "for each output can be taken out of the sum; one for each input cannot.",
            ),
            Misconception(
                "cuts off instead of rounding",
                _cuts_off,
                ".to(torch.int8) drops what is behind the point, 2.9 becomes 2. The error "
                "is then up to a whole step, and always toward zero.",
            ),
            Misconception(
                "maps the largest to 128",
                _up_to_128,
                "The largest int8 is 127. 128 wraps around to -128, and the largest weight "
                "of the row changes its sign.",
            ),
            Misconception(
                "forgets the sign",
                _largest_not_absolute,
                "The scale comes from the largest number, but a row's largest in size may "
                "be negative, and then it does not fit.",
            ),
            Misconception(
                "gives back the inverse of the scale",
                _inverse_scale,
                "The integers are right. But values * scale should be near the weight, and "
                "this scale is its inverse.",
            ),
        ),
        hints=(
            "First the scale: which number becomes 127?",
            "weight.abs().amax(dim=1, keepdim=True)",
            "Divide by the scale, round, and only then .to(torch.int8).",
        ),
    ),
    Exercise(
        name="integer_linear",
        chapter="cheaper-models",
        title="A linear layer in integers",
        difficulty=2,
        minutes=10,
        trains="takes scales out of a sum of integers",
        reference=integer_linear,
        inputs=_draw_integers,
        properties=(
            Property("scales come out of the sum as factors", _scales_come_out),
        ),
        misconceptions=(
            Misconception(
                "sums in 8 bits",
                _sums_in_8_bits,
                "A product of two int8 is up to 16,129, and int8 holds 127: the sums wrap "
                "around. Kernels multiply int8 and add in int32.",
            ),
            Misconception(
                "adds the scales",
                _adds_scales,
                "x is x_q times one scale, w is w_q times another. In their product the "
                "scales are multiplied.",
            ),
            Misconception(
                "forgets the weight's scale",
                _one_scale,
                "The output is in units of the weight's scale. Both scales belong to it.",
            ),
            Misconception(
                "takes the largest scale for all",
                _largest_scales,
                "Each token and each output has its own scale. One for all is right only "
                "where they happen to be equal.",
            ),
        ),
        hints=(
            "Write x = x_q s_x and w = w_q s_w into x w^T.",
            ".int() makes 32-bit integers, whose products don't overflow here.",
            "(x.int() @ w.int().T) times a (tokens, 1) and a (1, out).",
        ),
        tolerance=1e-4,
    ),
    Exercise(
        name="route",
        chapter="cheaper-models",
        title="Shares of the top k experts",
        difficulty=2,
        minutes=10,
        trains="gives shares to a chosen few that still sum to 1",
        reference=route,
        inputs=_draw_route,
        properties=(
            Property(
                "each token has k shares, which sum to 1", _k_shares_that_sum_to_one
            ),
        ),
        misconceptions=(
            Misconception(
                "does not divide by the sum",
                _not_renormalized,
                "The k probabilities sum to less than 1, since the other experts' part is "
                "gone. Divide by what is left.",
            ),
            Misconception(
                "lets tokens compete",
                _tokens_compete,
                "Each expert picks its best tokens. (That exists, as expert choice.) Asked "
                "is that each token picks its best experts: the other axis.",
            ),
            Misconception(
                "gives equal shares",
                _equal_shares,
                "Every chosen expert gets 1 / k. The shares must come from the logits, or "
                "the router has no gradient to learn from.",
            ),
            Misconception(
                "takes the softmax twice",
                _softmax_twice,
                "A softmax of probabilities makes them nearly equal: they differ by less "
                "than 1. Divide by their sum, or take one softmax of the top logits.",
            ),
            Misconception(
                "leaves zeros in the softmax",
                _zeros_before_softmax,
                "A logit of 0 is no absence: it gets e^0 = 1. Nobody is left out that way.",
            ),
        ),
        hints=(
            "softmax, then topk, then divide.",
            "topk gives values and indices; scatter puts values at indices.",
            "torch.zeros_like(logits).scatter(-1, chosen, kept)",
        ),
    ),
    Exercise(
        name="balance_loss",
        chapter="cheaper-models",
        title="The balancing loss for top 1",
        difficulty=3,
        minutes=12,
        trains="builds a loss that is least when work is spread evenly",
        reference=balance_loss,
        inputs=_draw_balance,
        properties=(Property("it is 1 when all is even", _one_when_even),),
        misconceptions=(
            Misconception(
                "leaves out the number of experts",
                _not_times_experts,
                "Without the factor, an even load gives 1 / E, and the loss would mean "
                "something else for each number of experts.",
            ),
            Misconception(
                "squares the shares",
                _only_shares,
                "Shares come from counting, and counts have no slope: this loss is right in "
                "size and cannot teach anything.",
            ),
            Misconception(
                "squares the probabilities",
                _only_probabilities,
                "This has a slope, but it never looks at where tokens went: a router that "
                "prefers one expert by a hair sends it everything.",
            ),
            Misconception(
                "multiplies token by token",
                _token_by_token,
                "The mean probability of what was chosen is a measure of how sure the "
                "router is. Take the two means over tokens first, then multiply.",
            ),
            Misconception(
                "counts instead of shares",
                _counts_not_shares,
                "It grows with the number of tokens. Divide the counts by it.",
            ),
        ),
        hints=(
            "Two vectors with an entry for each expert, multiplied and summed.",
            "torch.bincount(chosen, minlength=num_experts) / len(chosen)",
            "The other one is probabilities.mean(dim=0); do not forget the factor E.",
        ),
    ),
    Exercise(
        name="within_capacity",
        chapter="cheaper-models",
        title="Who finds room at an expert",
        difficulty=3,
        minutes=12,
        trains="gives out limited places in the order of arrival",
        reference=within_capacity,
        inputs=_draw_capacity,
        properties=(
            Property(
                "each expert has all that chose it, up to its capacity",
                _nobody_has_more,
            ),
        ),
        misconceptions=(
            Misconception(
                "has room for one too few",
                _one_too_few,
                "Places count from 1 after a cumulative sum, so place = capacity is still "
                "inside.",
            ),
            Misconception(
                "serves the last first",
                _last_come,
                "The latest tokens are kept. In a causal model a token would then lose its "
                "place to one from its future.",
            ),
            Misconception(
                "drops a full expert's tokens all",
                _all_or_nothing,
                "An expert that is chosen too often still serves the first of them.",
            ),
            Misconception(
                "has one queue for all",
                _one_queue,
                "Each expert has its own queue: a crowd at one does not take the room of "
                "another.",
            ),
        ),
        hints=(
            "For each token: how many before it chose the same expert?",
            "A one-hot matrix (tokens, experts) and a cumulative sum over tokens.",
            "one_hot.cumsum(dim=0).gather(1, chosen[:, None]) is each one's place.",
        ),
    ),
)
