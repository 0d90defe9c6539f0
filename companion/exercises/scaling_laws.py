"""Exercises of the chapter on scaling laws and on training on several devices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from companion.exercises.exercise import Exercise, Inputs, Misconception, Property

# What training costs, exactly


def training_flops(
    num_layers: int, d_model: int, d_ff: int, vocab_size: int, length: int, texts: int
) -> int:
    a_layer = 2 * (4 * d_model**2 + 2 * d_model * d_ff)  # for each token
    logits = 2 * d_model * vocab_size
    attention = num_layers * 4 * d_model * length  # scores and averages, for each token
    forward = texts * length * (num_layers * a_layer + logits + attention)
    return 3 * forward


def _forward_only(num_layers, d_model, d_ff, vocab_size, length, texts) -> int:
    sizes = num_layers, d_model, d_ff, vocab_size, length, texts
    return training_flops(*sizes) // 3


def _backward_as_forward(num_layers, d_model, d_ff, vocab_size, length, texts) -> int:
    sizes = num_layers, d_model, d_ff, vocab_size, length, texts
    return 2 * training_flops(*sizes) // 3


def _multiply_adds(num_layers, d_model, d_ff, vocab_size, length, texts) -> int:
    sizes = num_layers, d_model, d_ff, vocab_size, length, texts
    return training_flops(*sizes) // 2


def _weights_only(num_layers, d_model, d_ff, vocab_size, length, texts) -> int:
    pairs = 3 * texts * length**2 * num_layers * 4 * d_model
    sizes = num_layers, d_model, d_ff, vocab_size, length, texts
    return training_flops(*sizes) - pairs


def _table_is_a_product(num_layers, d_model, d_ff, vocab_size, length, texts) -> int:
    lookups = 6 * texts * length * d_model * vocab_size
    sizes = num_layers, d_model, d_ff, vocab_size, length, texts
    return training_flops(*sizes) + lookups


def _without_logits(num_layers, d_model, d_ff, vocab_size, length, texts) -> int:
    return training_flops(num_layers, d_model, d_ff, 0, length, texts)


def _draw_models(generator: Generator) -> list[Inputs]:
    return [
        (1, 2, 8, 5, 3, 1),
        (3, 32, 128, 50, 24, 2),
        (12, 768, 3072, 50257, 1024, 8),
        (2, 64, 96, 300, 512, 4),
    ]


def _six_for_each_weight(answer, inputs: Inputs) -> bool:
    """With a text of one token the pairs hardly count: 6 a weight, as 6ND says."""
    num_layers, d_model, d_ff, vocab_size, _, texts = inputs
    weights = num_layers * (4 * d_model**2 + 2 * d_model * d_ff) + d_model * vocab_size
    pairs = 12 * num_layers * d_model * texts
    return answer(*inputs[:4], 1, texts) - 6 * weights * texts == pairs


# A power law through some runs


def power_law_fit(
    sizes: Sequence[float], losses: Sequence[float]
) -> tuple[float, float]:
    slope, intercept = np.polyfit(np.log(sizes), np.log(losses), 1)
    exponent = -slope  # log L = exponent log(scale) - exponent log x
    return float(exponent), float(np.exp(intercept / exponent))


def _slope_as_it_is(sizes, losses) -> tuple[float, float]:
    exponent, scale = power_law_fit(sizes, losses)
    return -exponent, scale


def _intercept_is_the_scale(sizes, losses) -> tuple[float, float]:
    exponent, scale = power_law_fit(sizes, losses)
    return exponent, scale**exponent


def _logarithm_to_ten(sizes, losses) -> tuple[float, float]:
    slope, intercept = np.polyfit(np.log10(sizes), np.log10(losses), 1)
    return float(-slope), float(np.exp(intercept / -slope))


def _loss_as_it_is(sizes, losses) -> tuple[float, float]:
    slope, intercept = np.polyfit(np.log(sizes), losses, 1)
    return float(-slope), float(np.exp(intercept / -slope))


def _first_and_last(sizes, losses) -> tuple[float, float]:
    ends = [0, -1]
    return power_law_fit(np.asarray(sizes)[ends], np.asarray(losses)[ends])


def _size_from_loss(sizes, losses) -> tuple[float, float]:
    slope, intercept = np.polyfit(np.log(losses), np.log(sizes), 1)
    return float(-1 / slope), float(np.exp(intercept))


def _draw_power_laws(generator: Generator) -> list[Inputs]:
    cases = []
    for exponent, scale, number in ((0.5, 100.0, 4), (0.08, 9e13, 6), (0.1, 5e6, 8)):
        sizes = np.geomspace(1e3, 1e6, number)
        noise = 0.05 * torch.randn(number, generator=generator).double().numpy()
        losses = (scale / sizes) ** exponent * np.exp(noise)
        cases.append((sizes.tolist(), losses.tolist()))
    return cases


def _exact_laws_are_found(answer, inputs: Inputs) -> bool:
    exponent, scale = answer(inputs[0], [(1e4 / x) ** 0.3 for x in inputs[0]])
    return math.isclose(exponent, 0.3, rel_tol=1e-4) and math.isclose(
        scale, 1e4, rel_tol=1e-3
    )


def _twice_the_loss(answer, inputs: Inputs) -> bool:
    """A loss in other units moves the scale and leaves the exponent."""
    sizes, losses = inputs
    other = answer(sizes, [2 * x for x in losses])[0]
    return math.isclose(other, answer(sizes, losses)[0], rel_tol=1e-4)


# The best size at one budget


def isoflop_minimum(sizes: Sequence[float], losses: Sequence[float]) -> float:
    a, b, _ = np.polyfit(np.log(sizes), losses, 2)
    return float(np.exp(-b / (2 * a)))


def _best_run(sizes, losses) -> float:
    return float(sizes[int(np.argmin(losses))])


def _on_plain_sizes(sizes, losses) -> float:
    a, b, _ = np.polyfit(sizes, losses, 2)
    return float(-b / (2 * a))


def _still_a_logarithm(sizes, losses) -> float:
    return math.log(isoflop_minimum(sizes, losses))


def _least_loss(sizes, losses) -> float:
    a, b, c = np.polyfit(np.log(sizes), losses, 2)
    return float(c - b**2 / (4 * a))


def _half_forgotten(sizes, losses) -> float:
    a, b, _ = np.polyfit(np.log(sizes), losses, 2)
    return float(np.exp(-b / a))


def _draw_budgets(generator: Generator) -> list[Inputs]:
    cases = []
    for best, number in ((3.0, 5), (40.0, 6), (700.0, 7)):
        sizes = best * np.geomspace(0.2, 9, number)
        noise = 0.005 * torch.randn(number, generator=generator).double().numpy()
        losses = 3 + 0.04 * np.log(sizes / best) ** 2 + noise
        cases.append((sizes.tolist(), losses.tolist()))
    return cases


def _other_units(answer, inputs: Inputs) -> bool:
    """Sizes in thousands give the answer in thousands."""
    sizes, losses = inputs
    other = 1000 * answer([x / 1000 for x in sizes], losses)
    return math.isclose(other, answer(sizes, losses), rel_tol=1e-3)


# How to spend compute


def compute_optimal(
    flops: float, A: float, B: float, alpha: float, beta: float
) -> tuple[float, float]:
    G = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
    parameters = G * (flops / 6) ** (beta / (alpha + beta))
    return parameters, flops / (6 * parameters)


def _without_the_six(flops, A, B, alpha, beta) -> tuple[float, float]:
    return compute_optimal(6 * flops, A, B, alpha, beta)


def _exponents_exchanged(flops, A, B, alpha, beta) -> tuple[float, float]:
    G = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
    parameters = G * (flops / 6) ** (alpha / (alpha + beta))
    return parameters, flops / (6 * parameters)


def _both_alike(flops, A, B, alpha, beta) -> tuple[float, float]:
    return math.sqrt(flops / 6), math.sqrt(flops / 6)


def _terms_made_equal(flops, A, B, alpha, beta) -> tuple[float, float]:
    G = (A / B) ** (1 / (alpha + beta))
    parameters = G * (flops / 6) ** (beta / (alpha + beta))
    return parameters, flops / (6 * parameters)


def _twenty_tokens(flops, A, B, alpha, beta) -> tuple[float, float]:
    parameters = math.sqrt(flops / 120)
    return parameters, 20 * parameters


def _roles_exchanged(flops, A, B, alpha, beta) -> tuple[float, float]:
    parameters, tokens = compute_optimal(flops, A, B, alpha, beta)
    return tokens, parameters


def _draw_laws(generator: Generator) -> list[Inputs]:
    return [
        (6e4, 4.0, 9.0, 0.5, 0.25),
        (1e18, 406.4, 410.7, 0.34, 0.28),
        (5.76e23, 482.01, 2085.43, 0.3478, 0.3658),
    ]


def _spends_all(answer, inputs: Inputs) -> bool:
    parameters, tokens = answer(*inputs)
    return math.isclose(6 * parameters * tokens, inputs[0], rel_tol=1e-4)


def _no_neighbor_is_better(answer, inputs: Inputs) -> bool:
    flops, A, B, alpha, beta = inputs

    def loss(parameters: float) -> float:
        return A / parameters**alpha + B / (flops / 6 / parameters) ** beta

    parameters, _ = answer(*inputs)
    return loss(parameters) <= min(loss(0.95 * parameters), loss(1.05 * parameters))


# The error that the fit makes small


def log_huber(
    predicted: Float[Tensor, "runs"], measured: Float[Tensor, "runs"], delta: float
) -> Float[Tensor, ""]:
    off = (predicted.log() - measured.log()).abs()
    return torch.where(off <= delta, off**2 / 2, delta * (off - delta / 2)).sum()


def _plain_losses(predicted: Tensor, measured: Tensor, delta: float) -> Tensor:
    return F.huber_loss(predicted, measured, reduction="sum", delta=delta)


def _squares(predicted: Tensor, measured: Tensor, delta: float) -> Tensor:
    return ((predicted.log() - measured.log()) ** 2 / 2).sum()


def _with_a_step(predicted: Tensor, measured: Tensor, delta: float) -> Tensor:
    off = (predicted.log() - measured.log()).abs()
    return torch.where(off <= delta, off**2 / 2, delta * off).sum()


def _smooth_l1(predicted: Tensor, measured: Tensor, delta: float) -> Tensor:
    return log_huber(predicted, measured, delta) / delta


def _cut_off(predicted: Tensor, measured: Tensor, delta: float) -> Tensor:
    off = (predicted.log() - measured.log()).abs().clamp(max=delta)
    return (off**2 / 2).sum()


def _share_of_the_loss(predicted: Tensor, measured: Tensor, delta: float) -> Tensor:
    off = predicted / measured - 1
    return F.huber_loss(off, torch.zeros_like(off), reduction="sum", delta=delta)


def _draw_losses(generator: Generator) -> list[Inputs]:
    cases = []
    for number, delta in ((3, 0.1), (6, 0.05), (8, 0.2)):
        measured = 2 + 2 * torch.rand(number, generator=generator)
        off = 2 * delta * torch.rand(number, generator=generator)
        off[0], off[1] = 6 * delta, 0.4 * delta  # one run failed, and one is near
        cases.append((measured * off.exp(), measured, delta))
    return cases


def _same_on_both_sides(answer, inputs: Inputs) -> bool:
    predicted, measured, delta = inputs
    there, back = (
        answer(*pair, delta) for pair in ((predicted, measured), (measured, predicted))
    )
    return torch.allclose(there, back, rtol=1e-4)


def _far_runs_pull_no_harder(answer, inputs: Inputs) -> bool:
    """Beyond delta, each further step costs the same."""
    _, measured, delta = inputs
    costs = [answer(measured * math.exp(k * delta), measured, delta) for k in (4, 5, 6)]
    return torch.allclose(costs[2] - costs[1], costs[1] - costs[0], rtol=1e-2) and bool(
        costs[1] > costs[0]
    )


# How sure is a number?


def bootstrap_interval(
    values: Float[Tensor, "runs"], picks: Int[Tensor, "samples runs"], level: float
) -> Float[Tensor, "2"]:
    means = values[picks].mean(dim=1)  # (samples,)
    tail = (1 - level) / 2
    return torch.quantile(means, means.new_tensor([tail, 1 - tail]))


def _spread_of_runs(values: Tensor, picks: Tensor, level: float) -> Tensor:
    tail = (1 - level) / 2
    return torch.quantile(values, values.new_tensor([tail, 1 - tail]))


def _all_draws_in_one(values: Tensor, picks: Tensor, level: float) -> Tensor:
    tail = (1 - level) / 2
    return torch.quantile(values[picks].flatten(), values.new_tensor([tail, 1 - tail]))


def _whole_tail_on_each_side(values: Tensor, picks: Tensor, level: float) -> Tensor:
    means = values[picks].mean(dim=1)
    return torch.quantile(means, means.new_tensor([1 - level, level]))


def _extremes(values: Tensor, picks: Tensor, level: float) -> Tensor:
    means = values[picks].mean(dim=1)
    return torch.stack([means.min(), means.max()])


def _means_of_columns(values: Tensor, picks: Tensor, level: float) -> Tensor:
    return bootstrap_interval(values, picks.T, level)


def _two_deviations(values: Tensor, picks: Tensor, level: float) -> Tensor:
    means = values[picks].mean(dim=1)
    return torch.stack([means.mean() - 2 * means.std(), means.mean() + 2 * means.std()])


def _draw_samples(generator: Generator) -> list[Inputs]:
    return [
        (
            3 + torch.randn(runs, generator=generator),
            torch.randint(runs, (samples, runs), generator=generator),
            level,
        )
        for runs, samples, level in ((4, 20, 0.5), (6, 50, 0.8), (10, 200, 0.9))
    ]


def _wider_for_more(answer, inputs: Inputs) -> bool:
    values, picks, _ = inputs
    narrow, wide = answer(values, picks, 0.5), answer(values, picks, 0.95)
    return bool(wide[0] < narrow[0] and narrow[1] < wide[1])


def _shifts_with_the_runs(answer, inputs: Inputs) -> bool:
    values, picks, level = inputs
    return torch.allclose(
        answer(values + 5, picks, level), answer(values, picks, level) + 5, atol=1e-4
    )


# A smooth loss and a jump


def exact_match(
    log_probs: Float[Tensor, "answers tokens"],
) -> Float[Tensor, ""]:
    return log_probs.sum(dim=1).exp().mean()


def _token_accuracy(log_probs: Tensor) -> Tensor:
    return log_probs.exp().mean()


def _power_of_the_mean(log_probs: Tensor) -> Tensor:
    return log_probs.exp().mean() ** log_probs.shape[1]


def _power_of_the_loss(log_probs: Tensor) -> Tensor:
    return log_probs.sum(dim=1).mean().exp()


def _a_token_on_average(log_probs: Tensor) -> Tensor:
    return log_probs.mean(dim=1).exp().mean()


def _over_the_answers(log_probs: Tensor) -> Tensor:
    return log_probs.sum(dim=0).exp().mean()


def _weakest_token(log_probs: Tensor) -> Tensor:
    return log_probs.amin(dim=1).exp().mean()


def _draw_answers(generator: Generator) -> list[Inputs]:
    return [
        (-torch.rand(answers, tokens, generator=generator),)
        for answers, tokens in ((2, 3), (3, 2), (5, 4))
    ]


def _longer_is_harder(answer, inputs: Inputs) -> bool:
    (log_probs,) = inputs
    longer = torch.cat([log_probs, log_probs[:, :1]], dim=1)
    return bool(answer(longer) < answer(log_probs))


def _two_answers_apart(answer, inputs: Inputs) -> bool:
    """One that never comes halves the share of one that always does."""
    (log_probs,) = inputs
    certain = torch.zeros_like(log_probs[:2])
    certain[1] = -1000.0
    return torch.allclose(answer(certain), answer(certain[:1]) / 2)


# Learning rates for another width


def mup_rates(
    shapes: Mapping[str, tuple[int, ...]], width: int, base_width: int, rate: float
) -> dict[str, float]:
    return {
        name: rate * base_width / width
        if len(shape) == 2 and "embedding" not in name
        else rate
        for name, shape in shapes.items()
    }


def _everything(shapes, width, base_width, rate) -> dict[str, float]:
    return dict.fromkeys(shapes, rate * base_width / width)


def _all_matrices(shapes, width, base_width, rate) -> dict[str, float]:
    return {
        name: rate * base_width / width if len(shape) == 2 else rate
        for name, shape in shapes.items()
    }


def _root_of_the_width(shapes, width, base_width, rate) -> dict[str, float]:
    return mup_rates(shapes, math.sqrt(width), math.sqrt(base_width), rate)


def _the_other_way(shapes, width, base_width, rate) -> dict[str, float]:
    return mup_rates(shapes, base_width, width, rate)


def _by_own_inputs(shapes, width, base_width, rate) -> dict[str, float]:
    return {
        name: rate * base_width / shape[1]
        if len(shape) == 2 and "embedding" not in name
        else rate
        for name, shape in shapes.items()
    }


def _shapes_of(width: int) -> dict[str, tuple[int, ...]]:
    return {
        "token_embedding.weight": (512, width),
        "position_embedding.weight": (64, width),
        "layers.0.norm1.weight": (width,),
        "layers.0.self_attention.W_q.weight": (width, width),
        "layers.0.self_attention.W_q.bias": (width,),
        "layers.0.feed_forward.W_1.weight": (4 * width, width),
        "layers.0.feed_forward.W_2.weight": (width, 4 * width),
    }


def _draw_widths(generator: Generator) -> list[Inputs]:
    return [
        (_shapes_of(64), 64, 32, 0.8),
        (_shapes_of(256), 256, 32, 0.08),
        (_shapes_of(16), 16, 64, 0.2),
    ]


def _base_width_is_left_alone(answer, inputs: Inputs) -> bool:
    _, _, base_width, rate = inputs
    return all(
        math.isclose(value, rate)
        for value in answer(
            _shapes_of(base_width), base_width, base_width, rate
        ).values()
    )


# What an update sends


def update_traffic(
    parameters: int, devices: int, micro_batches: int, strategy: str
) -> int:
    once_around = 4 * parameters * (devices - 1) // devices
    if strategy == "ddp":
        return 2 * once_around  # one all-reduce of gradients, after the last batch
    # Weights, forward and backward, for each batch; a reduce-scatter after the last.
    return (2 * micro_batches + 1) * once_around


def _ddp_each_time(parameters, devices, micro_batches, strategy) -> int:
    times = micro_batches if strategy == "ddp" else 1
    return times * update_traffic(parameters, devices, micro_batches, strategy)


def _weights_once_a_batch(parameters, devices, micro_batches, strategy) -> int:
    once = 4 * parameters * (devices - 1) // devices
    if strategy == "ddp":
        return 2 * once
    return (micro_batches + 1) * once


def _weights_once_an_update(parameters, devices, micro_batches, strategy) -> int:
    return update_traffic(parameters, devices, 1, strategy)


def _own_part_too(parameters, devices, micro_batches, strategy) -> int:
    times = 2 if strategy == "ddp" else 2 * micro_batches + 1
    return times * 4 * parameters


def _scatter_and_gather(parameters, devices, micro_batches, strategy) -> int:
    once = 4 * parameters * (devices - 1) // devices
    return 2 * once if strategy == "ddp" else (2 * micro_batches + 2) * once


def _all_devices_together(parameters, devices, micro_batches, strategy) -> int:
    return devices * update_traffic(parameters, devices, micro_batches, strategy)


def _draw_updates(generator: Generator) -> list[Inputs]:
    return [
        (6, 2, 1, "ddp"),
        (6, 3, 1, "fsdp"),
        (1000, 4, 8, "ddp"),
        (1000, 4, 8, "fsdp"),
        (124_439_808, 8, 4, "fsdp"),
    ]


def _alone_sends_nothing(answer, inputs: Inputs) -> bool:
    parameters, _, micro_batches, strategy = inputs
    return answer(parameters, 1, micro_batches, strategy) == 0


# A feed-forward network on several devices


def feed_forward_shares(
    x: Float[Tensor, "length d_model"],
    W_1: Float[Tensor, "d_ff d_model"],
    b_1: Float[Tensor, "d_ff"],
    W_2: Float[Tensor, "d_model d_ff"],
    b_2: Float[Tensor, "d_model"],
    devices: int,
) -> Float[Tensor, "devices length d_model"]:
    units = zip(
        W_1.chunk(devices), b_1.chunk(devices), W_2.chunk(devices, dim=1), strict=True
    )
    shares = torch.stack([F.gelu(x @ W.T + b) @ V.T for W, b, V in units])
    first = torch.eye(devices, dtype=x.dtype, device=x.device)[0]  # adds b_2 once
    return shares + first[:, None, None] * b_2


def _bias_on_every_device(x, W_1, b_1, W_2, b_2, devices) -> Tensor:
    return feed_forward_shares(x, W_1, b_1, W_2, 0 * b_2, devices) + b_2


def _bias_in_parts(x, W_1, b_1, W_2, b_2, devices) -> Tensor:
    return feed_forward_shares(x, W_1, b_1, W_2, 0 * b_2, devices) + b_2 / devices


def _no_last_bias(x, W_1, b_1, W_2, b_2, devices) -> Tensor:
    return feed_forward_shares(x, W_1, b_1, W_2, 0 * b_2, devices)


def _by_inputs(x, W_1, b_1, W_2, b_2, devices) -> Tensor:
    parts = zip(x.chunk(devices, dim=1), W_1.chunk(devices, dim=1), strict=True)
    shares = torch.stack([F.gelu(own @ W.T + b_1) @ W_2.T for own, W in parts])
    first = torch.eye(devices, dtype=x.dtype, device=x.device)[0]
    return shares + first[:, None, None] * b_2


def _by_texts(x, W_1, b_1, W_2, b_2, devices) -> Tensor:
    whole = F.gelu(x @ W_1.T + b_1) @ W_2.T + b_2
    owner = torch.arange(len(x), device=x.device) * devices // len(x)
    mine = owner == torch.arange(devices, device=x.device)[:, None]
    return whole * mine[:, :, None]


def _in_turns(x, W_1, b_1, W_2, b_2, devices) -> Tensor:
    """Every device-th row of the first matrix, and a block of columns of the second."""
    order = torch.arange(len(b_1), device=x.device).view(-1, devices).T.flatten()
    return feed_forward_shares(x, W_1[order], b_1[order], W_2, b_2, devices)


def _draw_feed_forward(generator: Generator) -> list[Inputs]:
    def draw(*size: int) -> Tensor:
        return torch.randn(size, generator=generator)

    return [
        (draw(n, d), draw(f, d), draw(f), draw(d, f), draw(d), devices)
        for n, d, f, devices in ((2, 2, 4, 2), (3, 6, 12, 3), (5, 4, 16, 4))
    ]


def _sum_is_the_network(answer, inputs: Inputs) -> bool:
    x, W_1, b_1, W_2, b_2, _ = inputs
    whole = F.gelu(x @ W_1.T + b_1) @ W_2.T + b_2
    return torch.allclose(answer(*inputs).sum(dim=0), whole, atol=1e-4)


# A pipeline of unequal stages


def pipeline_seconds(stages: Sequence[float], micro_batches: int) -> float:
    return sum(stages) + (micro_batches - 1) * max(stages)


def _one_after_the_other(stages, micro_batches) -> float:
    return micro_batches * sum(stages)


def _without_filling(stages, micro_batches) -> float:
    return micro_batches * max(stages)


def _average_stage(stages, micro_batches) -> float:
    return (micro_batches + len(stages) - 1) * sum(stages) / len(stages)


def _all_as_slow(stages, micro_batches) -> float:
    return (micro_batches + len(stages) - 1) * max(stages)


def _one_turn_too_many(stages, micro_batches) -> float:
    return sum(stages) + micro_batches * max(stages)


def _set_by_the_last(stages, micro_batches) -> float:
    return sum(stages) + (micro_batches - 1) * stages[-1]


def _draw_pipelines(generator: Generator) -> list[Inputs]:
    return [
        ([1.0, 1.0], 3),
        ([1.0, 3.0, 2.0], 4),
        ([0.5, 0.25, 2.0, 1.0], 10),
        ([4.0, 1.0, 0.5], 2),
    ]


def _one_batch_walks_through(answer, inputs: Inputs) -> bool:
    stages, _ = inputs
    return math.isclose(answer(stages, 1), sum(stages))


def _paced_by_the_slowest(answer, inputs: Inputs) -> bool:
    stages, micro_batches = inputs
    more = answer(stages, micro_batches + 1) - answer(stages, micro_batches)
    return math.isclose(more, max(stages), rel_tol=1e-6)


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="training_flops",
        chapter="scaling-laws",
        title="What training costs, exactly",
        difficulty=2,
        minutes=12,
        trains="counts a run's operations where rules of thumb fail",
        reference=training_flops,
        inputs=_draw_models,
        properties=(
            Property(
                "texts of one token cost 6 operations a weight, and 12 d_model a layer "
                "for the token's look at itself",
                _six_for_each_weight,
            ),
        ),
        misconceptions=(
            Misconception(
                "counts the forward pass only",
                _forward_only,
                "That is the forward pass. Training also sends a gradient back through "
                "each product, to its input and to its weights.",
            ),
            Misconception(
                "counts the backward pass as one forward pass",
                _backward_as_forward,
                "It counts the backward pass once. Each product Y = X W has two gradients, "
                "by X and by W, and each of them is a product of the same size.",
            ),
            Misconception(
                "counts a multiplication and its addition as one",
                _multiply_adds,
                "It counts multiply-adds. An operation here is one multiplication or one "
                "addition, so a multiply-add is two.",
            ),
            Misconception(
                "leaves out the pairs of tokens",
                _weights_only,
                "It counts products with weights, as 6ND does. Scores, and averages of "
                "values, are products of activations with each other: for each layer and "
                "pair of tokens, d_model multiply-adds each.",
            ),
            Misconception(
                "multiplies by the table of embeddings",
                _table_is_a_product,
                "It counts the embedding of tokens as a product with a one-hot vector. It "
                "is a lookup, and costs nothing that is counted here. The *output* is a "
                "product with that table, once.",
            ),
            Misconception(
                "leaves out the logits",
                _without_logits,
                "It counts the layers only. The product of the last hidden state with "
                "vocab_size vectors is a large part of a small model's cost.",
            ),
        ),
        hints=(
            "Count for one token: the matrices of a layer, its look at `length` tokens, "
            "and the logits.",
            "A layer has 4 d_model^2 + 2 d_model d_ff weights, and 2 d_model multiply-adds "
            "for each pair. Two operations each.",
            "3 * texts * length * (num_layers * (2 * weights + 4 * d_model * length) + 2 * "
            "d_model * vocab_size)",
        ),
    ),
    Exercise(
        name="power_law_fit",
        chapter="scaling-laws",
        title="A power law through some runs",
        difficulty=2,
        minutes=10,
        trains="fits a line to logarithms and translates it back",
        reference=power_law_fit,
        inputs=_draw_power_laws,
        tolerance=1e-3,
        properties=(
            Property("an exact power law is found again", _exact_laws_are_found),
            Property(
                "doubling all losses leaves the exponent as it is", _twice_the_loss
            ),
        ),
        misconceptions=(
            Misconception(
                "returns the slope",
                _slope_as_it_is,
                "The exponent has the wrong sign. The loss falls with x, and the exponent "
                "of (scale / x)^exponent is positive: it is minus the slope.",
            ),
            Misconception(
                "takes the intercept for the scale",
                _intercept_is_the_scale,
                "Its second number is e^intercept, the c of c x^-exponent. Asked for is "
                "the x at which the loss would be 1: set the line to 0 and solve for x.",
            ),
            Misconception(
                "mixes logarithms",
                _logarithm_to_ten,
                "It fits in logarithms to the base 10 and goes back with e. The exponent "
                "does not mind, the scale does.",
            ),
            Misconception(
                "takes the logarithm of the sizes only",
                _loss_as_it_is,
                "It fits the loss itself on a logarithmic axis of sizes. A power law is a "
                "straight line when *both* axes are logarithmic.",
            ),
            Misconception(
                "draws a line through the ends",
                _first_and_last,
                "It takes the first and the last run and throws away what the others say. "
                "Each of them is noisy: use all.",
            ),
            Misconception(
                "fits sizes to losses",
                _size_from_loss,
                "It takes the loss as given and the size as noisy. The size was chosen, "
                "the loss was measured: the errors to make small are those of the loss.",
            ),
        ),
        hints=(
            "Take the logarithm of L = (scale / x)^exponent. What is the slope, and what "
            "the intercept?",
            "log L = exponent log(scale) - exponent log(x): a line. np.polyfit(u, v, 1) "
            "gives slope and intercept.",
            "exponent = -slope and scale = exp(intercept / exponent)",
        ),
    ),
    Exercise(
        name="isoflop_minimum",
        chapter="scaling-laws",
        title="The best size at one budget",
        difficulty=2,
        minutes=10,
        trains="finds the lowest point between the runs that were made",
        reference=isoflop_minimum,
        inputs=_draw_budgets,
        tolerance=1e-3,
        properties=(Property("sizes in other units give the same size", _other_units),),
        misconceptions=(
            Misconception(
                "takes the best run",
                _best_run,
                "It returns a size that was tried. The minimum lies between runs, and with "
                "noise the best run need not be the nearest to it: fit all of them.",
            ),
            Misconception(
                "fits a parabola on plain sizes",
                _on_plain_sizes,
                "Its parabola is in the size itself, where the largest models decide "
                "alone. The runs' sizes grow by factors: use their logarithms.",
            ),
            Misconception(
                "returns a logarithm",
                _still_a_logarithm,
                "It returns the logarithm of the size. Go back with exp.",
            ),
            Misconception(
                "returns the least loss",
                _least_loss,
                "It returns the height of the lowest point. Asked for is where it lies.",
            ),
            Misconception(
                "forgets the 2 of the derivative",
                _half_forgotten,
                "The derivative of a u^2 + b u + c is 2 a u + b. Where is it 0?",
            ),
        ),
        hints=(
            "Hoffmann et al., approach 2: a parabola in the logarithm of the size.",
            "np.polyfit(u, losses, 2) gives a, b, c of a u^2 + b u + c.",
            "The lowest point is at u = -b / (2 a); and u is a logarithm.",
        ),
    ),
    Exercise(
        name="compute_optimal",
        chapter="scaling-laws",
        title="How to spend compute",
        difficulty=3,
        minutes=15,
        trains="solves a fitted law for its optimum under a budget",
        reference=compute_optimal,
        inputs=_draw_laws,
        tolerance=1e-4,
        properties=(
            Property("6 N D is the compute that is given", _spends_all),
            Property(
                "5 % more or fewer parameters are no better", _no_neighbor_is_better
            ),
        ),
        misconceptions=(
            Misconception(
                "takes N D for the compute",
                _without_the_six,
                "Its N times its D is all of the compute. Each parameter and token costs "
                "six operations.",
            ),
            Misconception(
                "exchanges the exponents",
                _exponents_exchanged,
                "Its N grows with alpha / (alpha + beta). The larger alpha is, the sooner "
                "a larger model has nothing more to give: so should N grow faster or "
                "slower?",
            ),
            Misconception(
                "shares evenly without looking at the law",
                _both_alike,
                "It makes N and D equal. They grow alike when alpha equals beta, and even "
                "then by a factor apart.",
            ),
            Misconception(
                "makes the two terms equal",
                _terms_made_equal,
                "At its answer A / N^alpha equals B / D^beta. At the minimum not the terms "
                "are equal but what a percent more of each would gain: alpha times the one "
                "and beta times the other.",
            ),
            Misconception(
                "takes twenty tokens a parameter",
                _twenty_tokens,
                "Twenty tokens a parameter is what one fit says at one budget. Take it "
                "from the law that is given.",
            ),
            Misconception(
                "exchanges parameters and tokens",
                _roles_exchanged,
                "The right numbers in the wrong order: parameters first, then tokens.",
            ),
        ),
        hints=(
            "Put D = C / (6 N) into A / N^alpha + B / D^beta, and set the derivative by N "
            "to 0.",
            "It says alpha A / N^alpha = beta B / D^beta.",
            "N = G (C / 6)^(beta / (alpha + beta)), where G = (alpha A / (beta B))^(1 / "
            "(alpha + beta))",
        ),
    ),
    Exercise(
        name="log_huber",
        chapter="scaling-laws",
        title="The error that the fit makes small",
        difficulty=2,
        minutes=10,
        trains="writes an error that a few bad points can't rule",
        reference=log_huber,
        inputs=_draw_losses,
        properties=(
            Property(
                "predicted and measured may be exchanged: a factor above costs what it "
                "does below",
                _same_on_both_sides,
            ),
            Property(
                "beyond delta every further step costs the same",
                _far_runs_pull_no_harder,
            ),
        ),
        misconceptions=(
            Misconception(
                "compares the losses themselves",
                _plain_losses,
                "It compares losses, not their logarithms. Then a small model's large loss "
                "counts for more than a large model's.",
            ),
            Misconception(
                "squares everything",
                _squares,
                "It is the sum of squares, in which one run that failed outweighs all "
                "others. Beyond delta the error is to grow along a line.",
            ),
            Misconception(
                "jumps at delta",
                _with_a_step,
                "Beyond delta it is delta |r|, which is delta^2 at delta, where the square "
                "is delta^2 / 2. The two have to meet: what is to be subtracted?",
            ),
            Misconception(
                "divides by delta",
                _smooth_l1,
                "It is the right sum divided by delta, PyTorch's smooth_l1_loss. Near 0 "
                "the Huber loss is r^2 / 2.",
            ),
            Misconception(
                "stops growing at delta",
                _cut_off,
                "Beyond delta it stays the same, so that a run far off pulls no more at "
                "all. The Huber loss pulls on, with the same force.",
            ),
            Misconception(
                "takes the share instead of the logarithm",
                _share_of_the_loss,
                "It compares predicted / measured - 1, which is near the logarithm where "
                "both are nearly equal. Twice too high and twice too low differ then: 1 "
                "and -1/2.",
            ),
        ),
        hints=(
            "r = log(predicted) - log(measured) for each run.",
            "r^2 / 2 where |r| is at most delta; beyond it, a line of slope delta that "
            "meets it there.",
            "torch.where(r.abs() <= delta, r**2 / 2, delta * (r.abs() - delta / 2)).sum()",
        ),
    ),
    Exercise(
        name="bootstrap_interval",
        chapter="scaling-laws",
        title="How sure is a number?",
        difficulty=2,
        minutes=8,
        trains="says how sure a mean of few runs is, by resampling",
        reference=bootstrap_interval,
        inputs=_draw_samples,
        properties=(
            Property("a higher level gives a wider interval", _wider_for_more),
            Property(
                "values that are all larger by 5 move both ends by 5",
                _shifts_with_the_runs,
            ),
        ),
        misconceptions=(
            Misconception(
                "gives the spread of the runs",
                _spread_of_runs,
                "It is the interval in which single runs lie. Asked for is how well their "
                "*mean* is known, and many runs know it better than one.",
            ),
            Misconception(
                "throws all draws together",
                _all_draws_in_one,
                "It takes the quantiles of all drawn values. First each sample gives its "
                "mean, then the means have quantiles.",
            ),
            Misconception(
                "cuts off the whole rest on each side",
                _whole_tail_on_each_side,
                "It leaves out 1 - level below and as much above. Both together should be "
                "1 - level.",
            ),
            Misconception(
                "takes the extremes",
                _extremes,
                "Least and largest mean: that interval grows with the number of samples, "
                "and does not look at the level.",
            ),
            Misconception(
                "averages over samples",
                _means_of_columns,
                "It averages over the wrong axis of values[picks]. A row of `picks` is one "
                "sample.",
            ),
            Misconception(
                "takes two standard deviations",
                _two_deviations,
                "It gives two standard deviations to each side, whatever the level. The "
                "bootstrap needs no bell curve: read the ends off the samples.",
            ),
        ),
        hints=(
            "values[picks] holds a sample in each row.",
            "The middle `level` leaves (1 - level) / 2 on each side.",
            "torch.quantile(values[picks].mean(dim=1), torch.tensor([tail, 1 - tail]))",
        ),
    ),
    Exercise(
        name="exact_match",
        chapter="scaling-laws",
        title="A smooth loss and a jump",
        difficulty=1,
        minutes=6,
        trains="explains a sudden score by a probability that grows smoothly",
        reference=exact_match,
        inputs=_draw_answers,
        properties=(
            Property("one more token makes it less", _longer_is_harder),
            Property(
                "an answer that never comes halves the share of one that always does",
                _two_answers_apart,
            ),
        ),
        misconceptions=(
            Misconception(
                "gives the accuracy of a token",
                _token_accuracy,
                "It averages over tokens, each for itself: the smooth number. One wrong "
                "token makes the whole answer wrong.",
            ),
            Misconception(
                "raises the average accuracy to a power",
                _power_of_the_mean,
                "It takes all tokens to be equally hard. Answers differ, and a mean of "
                "products is not the product of means.",
            ),
            Misconception(
                "averages the answers' losses first",
                _power_of_the_loss,
                "It averages the logarithms of the answers, and then takes exp: a "
                "geometric mean, in which one hopeless answer makes everything 0.",
            ),
            Misconception(
                "averages within an answer",
                _a_token_on_average,
                "exp of the mean log-probability is a token's chance, not the answer's. "
                "All tokens have to be right at once: are their logarithms averaged then?",
            ),
            Misconception(
                "multiplies over answers",
                _over_the_answers,
                "It sums over the wrong axis: tokens of one answer belong together, not "
                "the first tokens of all.",
            ),
            Misconception(
                "looks at the weakest token",
                _weakest_token,
                "The hardest token alone is an upper bound. The others can go wrong too.",
            ),
        ),
        hints=(
            "With what probability are all tokens of one answer right?",
            "Probabilities multiply, so log-probabilities add.",
            "log_probs.sum(dim=1).exp().mean()",
        ),
    ),
    Exercise(
        name="mup_rates",
        chapter="scaling-laws",
        title="Learning rates for another width",
        difficulty=2,
        minutes=10,
        trains="knows which learning rates change with the width",
        reference=mup_rates,
        inputs=_draw_widths,
        properties=(
            Property(
                "at the width where the rate was tuned, everything gets that rate",
                _base_width_is_left_alone,
            ),
        ),
        misconceptions=(
            Misconception(
                "scales everything",
                _everything,
                "It lowers the rate of all parameters. A bias, a norm and a row of the "
                "embedding add no more terms up when the model is wider: their rate stays.",
            ),
            Misconception(
                "scales embeddings too",
                _all_matrices,
                "It takes the embeddings for hidden matrices. A token picks *one* row of "
                "the table, however wide it is; nothing is summed over the width.",
            ),
            Misconception(
                "goes by the root of the width",
                _root_of_the_width,
                "It divides by the root, as initial weights do. Those are random and their "
                "sum grows like a root; Adam's steps all point the same way, and their sum "
                "grows like the width.",
            ),
            Misconception(
                "scales up",
                _the_other_way,
                "A wider model gets a higher rate. Each output sums over more inputs, so "
                "the same step on each weight moves it further: go the other way.",
            ),
            Misconception(
                "divides by each matrix's own inputs",
                _by_own_inputs,
                "It divides by each matrix's number of inputs, which for W_2 is four times "
                "the width, at the base too. What counts is by how much that number has "
                "grown.",
            ),
        ),
        hints=(
            "Which parameters take a sum over something that grows with the width?",
            "The matrices inside of the layers: two-dimensional, and no embedding.",
            "rate * base_width / width for those, rate for the rest",
        ),
    ),
    Exercise(
        name="update_traffic",
        chapter="scaling-laws",
        title="What an update sends",
        difficulty=3,
        minutes=12,
        trains="counts what goes over the wire, for each way of sharing",
        reference=update_traffic,
        inputs=_draw_updates,
        properties=(Property("one device sends nothing", _alone_sends_nothing),),
        misconceptions=(
            Misconception(
                "averages gradients after each batch",
                _ddp_each_time,
                "With DDP it sends the gradients for each of the batches. They can be "
                "added up where they are, and sent once (no_sync).",
            ),
            Misconception(
                "gathers weights once a batch",
                _weights_once_a_batch,
                "A sharded layer is let go after it ran forward. Backward it has to be "
                "gathered again.",
            ),
            Misconception(
                "gathers weights once an update",
                _weights_once_an_update,
                "It takes the weights to stay for all batches. But then every device would "
                "hold the whole model, which FSDP is there to avoid.",
            ),
            Misconception(
                "sends its own part too",
                _own_part_too,
                "It sends all 4 * parameters bytes each time. What a device has, it need "
                "not be sent: of n parts around a ring, n - 1 go through each device.",
            ),
            Misconception(
                "reduces for all",
                _scatter_and_gather,
                "It gives FSDP an all-reduce of gradients. Each device steps on its own "
                "part only, and needs the sum for that part: half an all-reduce.",
            ),
            Misconception(
                "adds up over the devices",
                _all_devices_together,
                "That is what all devices send together. Asked for is one device's part, "
                "which hardly grows with their number.",
            ),
        ),
        hints=(
            "All-gather and reduce-scatter send each part once around the ring, an "
            "all-reduce twice.",
            "Once around is 4 * parameters * (devices - 1) // devices. DDP does it twice, "
            "after the last batch.",
            "FSDP gathers the weights forward and backward for each batch, and scatters "
            "the gradients once: 2 * micro_batches + 1 times around.",
        ),
    ),
    Exercise(
        name="feed_forward_shares",
        chapter="scaling-laws",
        title="A feed-forward network on several devices",
        difficulty=3,
        minutes=15,
        trains="cuts two matrices so that one exchange is enough",
        reference=feed_forward_shares,
        inputs=_draw_feed_forward,
        properties=(
            Property("the shares sum to the network's output", _sum_is_the_network),
        ),
        misconceptions=(
            Misconception(
                "adds the last bias on every device",
                _bias_on_every_device,
                "Each device adds b_2, and the sum holds it once a device.",
            ),
            Misconception(
                "adds the last bias in parts",
                _bias_in_parts,
                "The sum is right, but each device adds a part of b_2. Here the first "
                "device adds it, and the others don't have it at all.",
            ),
            Misconception(
                "forgets the last bias",
                _no_last_bias,
                "b_2 is nowhere. One device has to add it.",
            ),
            Misconception(
                "splits the inputs of the first matrix",
                _by_inputs,
                "Each device multiplies its part of x. What comes out are parts of a sum, "
                "and GELU of a part is not a part of GELU: there would have to be another "
                "exchange before it. Split the hidden units instead.",
            ),
            Misconception(
                "splits the tokens",
                _by_texts,
                "Each device takes some tokens through the whole network. The sum is "
                "right, but every device holds all weights: that is data parallelism.",
            ),
            Misconception(
                "splits the two matrices in different orders",
                _in_turns,
                "The hidden units of a device don't meet the columns of W_2 that belong to "
                "them: rows in turns of W_1, and a block of W_2.",
            ),
        ),
        hints=(
            "A hidden unit needs one row of W_1, one number of b_1 and one column of W_2, "
            "and no other unit.",
            "W_1.chunk(devices), b_1.chunk(devices), W_2.chunk(devices, dim=1)",
            "F.gelu(x @ W.T + b) @ V.T for each device; the first adds b_2.",
        ),
    ),
    Exercise(
        name="pipeline_seconds",
        chapter="scaling-laws",
        title="A pipeline of unequal stages",
        difficulty=2,
        minutes=8,
        trains="finds the stage that sets the pace, and the cost of filling",
        reference=pipeline_seconds,
        inputs=_draw_pipelines,
        properties=(
            Property(
                "a single micro-batch takes the sum of all stages",
                _one_batch_walks_through,
            ),
            Property(
                "each further one takes as long as the slowest stage",
                _paced_by_the_slowest,
            ),
        ),
        misconceptions=(
            Misconception(
                "lets one finish before the next begins",
                _one_after_the_other,
                "It waits until a micro-batch has left the last stage. The first stage is "
                "free long before that.",
            ),
            Misconception(
                "forgets that the pipeline fills",
                _without_filling,
                "It counts the slowest stage only. The first micro-batch also has to come "
                "to it, and the last to leave it.",
            ),
            Misconception(
                "takes all stages for average",
                _average_stage,
                "With equal stages it would be right. With unequal ones the slow stage "
                "sets the pace, and the quick ones wait.",
            ),
            Misconception(
                "takes all stages for as slow as the slowest",
                _all_as_slow,
                "It fills the pipeline at the pace of the slowest stage. The first "
                "micro-batch finds every stage free, and takes its own time in each.",
            ),
            Misconception(
                "counts the first micro-batch twice",
                _one_turn_too_many,
                "The sum of the stages is the first micro-batch, and its time in the "
                "slowest stage is in it. How many come after it?",
            ),
            Misconception(
                "lets the last stage set the pace",
                _set_by_the_last,
                "It takes the last stage for the narrowest place. Which one is it?",
            ),
        ),
        hints=(
            "Draw stages as rows and time as columns, for two micro-batches.",
            "The first takes the sum of the stages. How much later does the next arrive?",
            "sum(stages) + (micro_batches - 1) * max(stages)",
        ),
    ),
)
