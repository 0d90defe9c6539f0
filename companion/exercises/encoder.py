"""Exercises of the chapter on the encoder."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from companion.exercises.exercise import Exercise, Inputs, Misconception, Property

# Layer norm


def layer_norm(
    x: Float[Tensor, "*batch d_model"],
    weight: Float[Tensor, "d_model"],
    bias: Float[Tensor, "d_model"],
    eps: float,
) -> Float[Tensor, "*batch d_model"]:
    centered = x - x.mean(dim=-1, keepdim=True)
    variance = centered.square().mean(dim=-1, keepdim=True)
    return centered / torch.sqrt(variance + eps) * weight + bias


def _normed(x: Tensor, eps: float, dim=-1, unbiased: bool = False) -> Tensor:
    variance = x.var(dim=dim, keepdim=True, correction=int(unbiased))
    return (x - x.mean(dim=dim, keepdim=True)) / torch.sqrt(variance + eps)


def _norm_over_positions(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return _normed(x, eps, dim=-2) * weight + bias


def _norm_of_everything(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return _normed(x, eps, dim=tuple(range(x.ndim))) * weight + bias


def _unbiased(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return _normed(x, eps, unbiased=True) * weight + bias


def _eps_outside(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    centered = x - x.mean(dim=-1, keepdim=True)
    root = centered.square().mean(dim=-1, keepdim=True).sqrt()
    return centered / (root + eps) * weight + bias


def _no_root(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    centered = x - x.mean(dim=-1, keepdim=True)
    variance = centered.square().mean(dim=-1, keepdim=True)
    return centered / (variance + eps) * weight + bias


def _no_gain(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return _normed(x, eps)


def _draw_norm(generator: Generator) -> list[Inputs]:
    def draw(*size: int, eps: float) -> Inputs:
        d_model = size[-1]
        x = 2 * torch.randn(size, generator=generator) + 1
        weight = torch.rand(d_model, generator=generator) + 0.5
        return x, weight, torch.randn(d_model, generator=generator), eps

    return [
        draw(2, 3, eps=0.1),
        draw(2, 4, 6, eps=1e-5),
        draw(3, 2, 5, eps=0.5),
    ]


def _ignores_scale_and_shift(answer, inputs: Inputs) -> bool:
    x, weight, bias, _ = inputs
    same = answer(100 * x + 7, weight, bias, 0.0)
    return torch.allclose(answer(x, weight, bias, 0.0), same, atol=1e-3)


# RMS norm


def rms_norm(
    x: Float[Tensor, "*batch d_model"], weight: Float[Tensor, "d_model"], eps: float
) -> Float[Tensor, "*batch d_model"]:
    mean_square = x.square().mean(dim=-1, keepdim=True)
    return x / torch.sqrt(mean_square + eps) * weight


def _centers(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return _normed(x, eps) * weight


def _only_the_variance(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x / torch.sqrt(x.var(dim=-1, keepdim=True, correction=0) + eps) * weight


def _length_one(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x / torch.sqrt(x.square().sum(dim=-1, keepdim=True) + eps) * weight


def _rms_eps_outside(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x / (x.square().mean(dim=-1, keepdim=True).sqrt() + eps) * weight


def _mean_of_sizes(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x / (x.abs().mean(dim=-1, keepdim=True) + eps) * weight


def _draw_rms(generator: Generator) -> list[Inputs]:
    return [(x, weight, eps) for x, weight, _, eps in _draw_norm(generator)]


def _keeps_direction(answer, inputs: Inputs) -> bool:
    x, weight, eps = inputs
    found = answer(x, torch.ones_like(weight), eps)
    return torch.allclose(F.cosine_similarity(found, x, dim=-1).min(), x.new_ones(()))


# The feed-forward network


def feed_forward(
    x: Float[Tensor, "*batch d_model"],
    W_1: Float[Tensor, "d_model d_ff"],
    b_1: Float[Tensor, "d_ff"],
    W_2: Float[Tensor, "d_ff d_model"],
    b_2: Float[Tensor, "d_model"],
) -> Float[Tensor, "*batch d_model"]:
    return torch.relu(x @ W_1 + b_1) @ W_2 + b_2


def _linear(x: Tensor, W_1: Tensor, b_1: Tensor, W_2: Tensor, b_2: Tensor) -> Tensor:
    return (x @ W_1 + b_1) @ W_2 + b_2


def _activates_twice(
    x: Tensor, W_1: Tensor, b_1: Tensor, W_2: Tensor, b_2: Tensor
) -> Tensor:
    return torch.relu(feed_forward(x, W_1, b_1, W_2, b_2))


def _activates_first(
    x: Tensor, W_1: Tensor, b_1: Tensor, W_2: Tensor, b_2: Tensor
) -> Tensor:
    return _linear(torch.relu(x), W_1, b_1, W_2, b_2)


def _bias_after_relu(
    x: Tensor, W_1: Tensor, b_1: Tensor, W_2: Tensor, b_2: Tensor
) -> Tensor:
    return (torch.relu(x @ W_1) + b_1) @ W_2 + b_2


def _mixes_positions(
    x: Tensor, W_1: Tensor, b_1: Tensor, W_2: Tensor, b_2: Tensor
) -> Tensor:
    hidden = torch.relu(x @ W_1 + b_1)
    return hidden.mean(dim=-2, keepdim=True).expand_as(hidden) @ W_2 + b_2


def _draw_feed_forward(generator: Generator) -> list[Inputs]:
    def draw(*size: int, d_ff: int) -> Inputs:
        d_model = size[-1]
        sizes = (size, (d_model, d_ff), (d_ff,), (d_ff, d_model), (d_model,))
        return tuple(torch.randn(s, generator=generator) for s in sizes)

    return [draw(2, 3, d_ff=5), draw(2, 4, 3, d_ff=7), draw(3, 5, 6, d_ff=4)]


def _positions_are_alone(answer, inputs: Inputs) -> bool:
    x, *rest = inputs
    moved = x.clone()
    moved[..., -1, :] += 1
    same = answer(moved, *rest)[..., :-1, :]
    return torch.allclose(answer(x, *rest)[..., :-1, :], same, atol=1e-5)


# A gated feed-forward network


def swiglu(
    x: Float[Tensor, "*batch d_model"],
    W_1: Float[Tensor, "d_model d_ff"],
    V: Float[Tensor, "d_model d_ff"],
    W_2: Float[Tensor, "d_ff d_model"],
) -> Float[Tensor, "*batch d_model"]:
    return (F.silu(x @ W_1) * (x @ V)) @ W_2


def _sigmoid_gate(x: Tensor, W_1: Tensor, V: Tensor, W_2: Tensor) -> Tensor:
    return (torch.sigmoid(x @ W_1) * (x @ V)) @ W_2


def _gates_the_other(x: Tensor, W_1: Tensor, V: Tensor, W_2: Tensor) -> Tensor:
    return swiglu(x, V, W_1, W_2)


def _adds(x: Tensor, W_1: Tensor, V: Tensor, W_2: Tensor) -> Tensor:
    return (F.silu(x @ W_1) + x @ V) @ W_2


def _activates_both(x: Tensor, W_1: Tensor, V: Tensor, W_2: Tensor) -> Tensor:
    return (F.silu(x @ W_1) * F.silu(x @ V)) @ W_2


def _activates_the_product(x: Tensor, W_1: Tensor, V: Tensor, W_2: Tensor) -> Tensor:
    return F.silu((x @ W_1) * (x @ V)) @ W_2


def _draw_gated(generator: Generator) -> list[Inputs]:
    def draw(*size: int, d_ff: int) -> Inputs:
        d_model = size[-1]
        sizes = (size, (d_model, d_ff), (d_model, d_ff), (d_ff, d_model))
        return tuple(torch.randn(s, generator=generator) for s in sizes)

    return [draw(2, 3, d_ff=5), draw(2, 4, 3, d_ff=7), draw(1, 5, 6, d_ff=4)]


def _silent_without_values(answer, inputs: Inputs) -> bool:
    x, W_1, V, W_2 = inputs
    return not answer(x, W_1, torch.zeros_like(V), W_2).any()


# A pre-norm layer


def pre_norm_layer(
    x: Float[Tensor, "batch length d_model"],
    attend: nn.Module,
    feed_forward: nn.Module,
    norm1: nn.Module,
    norm2: nn.Module,
) -> Float[Tensor, "batch length d_model"]:
    x = x + attend(norm1(x))
    return x + feed_forward(norm2(x))


def _post_norm(x, attend, feed_forward, norm1, norm2):
    x = norm1(x + attend(x))
    return norm2(x + feed_forward(x))


def _norm_replaces_x(x, attend, feed_forward, norm1, norm2):
    x = norm1(x)
    x = norm2(x + attend(x))
    return x + feed_forward(x)


def _no_residual(x, attend, feed_forward, norm1, norm2):
    return feed_forward(norm2(attend(norm1(x))))


def _norm_of_the_branch(x, attend, feed_forward, norm1, norm2):
    x = x + norm1(attend(x))
    return x + norm2(feed_forward(x))


def _side_by_side(x, attend, feed_forward, norm1, norm2):
    return x + attend(norm1(x)) + feed_forward(norm2(x))


class _Mixer(nn.Module):
    """A stand-in for self-attention: a fixed average over positions, then a linear map."""

    def __init__(self, length: int, d_model: int, generator: Generator) -> None:
        super().__init__()
        weights = torch.randn(length, length, generator=generator).softmax(dim=-1)
        self.register_buffer("weights", weights)
        self.W = _linear_layer(d_model, generator)

    def forward(self, x: Tensor) -> Tensor:
        return self.weights @ self.W(x)


def _linear_layer(d_model: int, generator: Generator) -> nn.Linear:
    linear = nn.Linear(d_model, d_model)
    for p in linear.parameters():
        nn.init.normal_(p, generator=generator)
    return linear


def _draw_layers(generator: Generator) -> list[Inputs]:
    def draw(batch: int, length: int, d_model: int) -> Inputs:
        x = 3 * torch.randn(batch, length, d_model, generator=generator) + 1
        attend = _Mixer(length, d_model, generator)
        feed_forward = nn.Sequential(_linear_layer(d_model, generator), nn.ReLU())
        norms = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        for norm in norms:
            nn.init.normal_(norm.weight, mean=1.0, std=0.3, generator=generator)
            nn.init.normal_(norm.bias, generator=generator)
        return x, attend, feed_forward, *norms

    return [draw(1, 2, 4), draw(2, 3, 6), draw(3, 4, 5)]


def _stream_passes_through(answer, inputs: Inputs) -> bool:
    """With sub-layers that say nothing, the layer is the identity."""
    x, _, _, norm1, norm2 = inputs
    return torch.allclose(
        answer(x, torch.zeros_like, torch.zeros_like, norm1, norm2), x
    )


# One vector for a text


def mean_over_tokens(
    x: Float[Tensor, "batch length d_model"],
    token_ids: Int[Tensor, "batch length"],
    pad_id: int,
) -> Float[Tensor, "batch d_model"]:
    real = (token_ids != pad_id).unsqueeze(-1)  # (B, L, 1)
    return (x * real).sum(dim=1) / real.sum(dim=1)


def _mean_with_padding(x: Tensor, token_ids: Tensor, pad_id: int) -> Tensor:
    return x.mean(dim=1)


def _divides_by_length(x: Tensor, token_ids: Tensor, pad_id: int) -> Tensor:
    return (x * (token_ids != pad_id).unsqueeze(-1)).mean(dim=1)


def _sums(x: Tensor, token_ids: Tensor, pad_id: int) -> Tensor:
    return (x * (token_ids != pad_id).unsqueeze(-1)).sum(dim=1)


def _first_token(x: Tensor, token_ids: Tensor, pad_id: int) -> Tensor:
    return x[:, 0]


def _mean_count(x: Tensor, token_ids: Tensor, pad_id: int) -> Tensor:
    real = (token_ids != pad_id).unsqueeze(-1)
    return (x * real).sum(dim=1) / real.sum(dim=1).float().mean()


def _draw_pooled(generator: Generator) -> list[Inputs]:
    def draw(batch: int, length: int, d_model: int, pad_id: int) -> Inputs:
        ids = torch.randint(1, 9, (batch, length), generator=generator)
        ids[ids == pad_id] = 9
        for i in range(batch):
            ids[i, length - i - 1 :] = pad_id
        return torch.randn(batch, length, d_model, generator=generator), ids, pad_id

    return [draw(2, 4, 3, 0), draw(3, 5, 2, 0), draw(2, 6, 4, 7)]


def _padding_is_silent(answer, inputs: Inputs) -> bool:
    x, token_ids, pad_id = inputs
    noisy = x + 10 * (token_ids == pad_id).unsqueeze(-1)
    same = answer(noisy, token_ids, pad_id)
    longer = F.pad(x, (0, 0, 0, 2), value=5.0), F.pad(token_ids, (0, 2), value=pad_id)
    found = answer(x, token_ids, pad_id)
    return torch.allclose(found, same, atol=1e-5) and torch.allclose(
        found, answer(*longer, pad_id), atol=1e-5
    )


# Counting parameters


def encoder_parameters(
    vocab_size: int, d_model: int, d_ff: int, num_layers: int
) -> int:
    attention = 4 * (d_model * d_model + d_model)
    feed_forward = d_model * d_ff + d_ff + d_ff * d_model + d_model
    norms = 2 * 2 * d_model
    return vocab_size * d_model + num_layers * (attention + feed_forward + norms)


def _count(
    vocab_size: int,
    d_model: int,
    d_ff: int,
    num_layers: int,
    *,
    maps: int = 4,
    bias: bool = True,
    norms: int = 2,
    shared: bool = False,
) -> int:
    attention = maps * (d_model * d_model + bias * d_model)
    feed_forward = 2 * d_model * d_ff + bias * (d_ff + d_model)
    layer = attention + feed_forward + norms * 2 * d_model
    return vocab_size * d_model + (1 if shared else num_layers) * layer


def _draw_sizes(generator: Generator) -> list[Inputs]:
    return [(7, 2, 3, 1), (37000, 512, 2048, 6), (30522, 768, 3072, 12)]


# A norm folded into the map that follows


def fold_norm(
    weight: Float[Tensor, "d_model"],
    bias: Float[Tensor, "d_model"],
    W: Float[Tensor, "d_model d_out"],
    b: Float[Tensor, "d_out"],
) -> tuple[Float[Tensor, "d_model d_out"], Float[Tensor, "d_out"]]:
    return weight[:, None] * W, bias @ W + b


def _forgets_the_bias(weight, bias, W, b):
    return weight[:, None] * W, b + 0


def _scales_the_bias_too(weight, bias, W, b):
    folded = weight[:, None] * W
    return folded, bias @ folded + b


def _keeps_the_gain(weight, bias, W, b):
    return W + 0, bias @ W + b


def _divides(weight, bias, W, b):
    return W / weight[:, None], bias @ W + b


def _draw_folds(generator: Generator) -> list[Inputs]:
    def draw(d_model: int, d_out: int) -> Inputs:
        weight = torch.rand(d_model, generator=generator) + 0.5
        sizes = ((d_model,), (d_model, d_out), (d_out,))
        return weight, *(torch.randn(s, generator=generator) for s in sizes)

    return [draw(2, 3), draw(5, 4), draw(6, 9)]


def _folded_is_the_same(answer, inputs: Inputs) -> bool:
    weight, bias, W, b = inputs
    generator = Generator().manual_seed(0)
    x = torch.randn(4, len(weight), generator=generator).to(W.device)
    before = F.layer_norm(x, (len(weight),), weight, bias) @ W + b
    new_W, new_b = answer(*inputs)
    after = F.layer_norm(x, (len(weight),)) @ new_W + new_b
    return torch.allclose(before, after, atol=1e-5)


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="layer_norm",
        chapter="encoder",
        title="Layer norm",
        difficulty=2,
        minutes=8,
        trains="writes a norm with eps and variance in their places",
        reference=layer_norm,
        inputs=_draw_norm,
        properties=(
            Property(
                "with eps = 0, 100 x + 7 gives what x gives", _ignores_scale_and_shift
            ),
        ),
        misconceptions=(
            Misconception(
                "normalizes over the positions",
                _norm_over_positions,
                "Mean and variance run over the positions, for each feature. Then a "
                "token's numbers depend on the other tokens. Each position should be "
                "normed by its own features: over which axis do they lie?",
            ),
            Misconception(
                "normalizes all numbers together",
                _norm_of_everything,
                "There is one mean and one variance for the whole tensor, so that a "
                "text's numbers depend on the batch. Each position needs its own two.",
            ),
            Misconception(
                "divides by d_model - 1",
                _unbiased,
                "The variance divides by d_model - 1, as torch.var does by default. "
                "Nothing is estimated from a sample here; divide by d_model.",
            ),
            Misconception(
                "adds eps outside the root",
                _eps_outside,
                "eps is added to the root of the variance. It is added to the variance, "
                "before the root, and a root at zero would have an infinite slope.",
            ),
            Misconception(
                "divides by the variance",
                _no_root,
                "The variance has the unit of x squared, so dividing by it does not give "
                "size 1. What does have the unit of x?",
            ),
            Misconception(
                "forgets weight and bias",
                _no_gain,
                "The numbers have mean 0 and variance 1, and that is where it stops. "
                "weight and bias come last.",
            ),
        ),
        hints=(
            "Mean and variance are over the last axis; keepdim=True keeps them aligned.",
            "The variance is the mean of the squared deviations: divided by d_model.",
            "(x - mean) / sqrt(variance + eps) * weight + bias.",
        ),
    ),
    Exercise(
        name="rms_norm",
        chapter="encoder",
        title="RMS norm",
        difficulty=1,
        minutes=5,
        trains="normalizes by size alone, and leaves the direction",
        reference=rms_norm,
        inputs=_draw_rms,
        properties=(
            Property("with weights of 1 no vector changes direction", _keeps_direction),
        ),
        misconceptions=(
            Misconception(
                "takes the mean off",
                _centers,
                "The mean is subtracted first. That is layer norm; RMS norm leaves the "
                "mean in, which is all the difference.",
            ),
            Misconception(
                "divides by the standard deviation",
                _only_the_variance,
                "x is divided by its standard deviation, which does not see the mean. "
                "The root of the mean *square* does.",
            ),
            Misconception(
                "divides by the length",
                _length_one,
                "The squares are summed, so that each vector comes out with length 1. "
                "The mean of the squares gives it length sqrt(d_model), numbers of "
                "size 1.",
            ),
            Misconception(
                "adds eps outside the root",
                _rms_eps_outside,
                "eps is added to the root. It belongs under it, beside the mean square.",
            ),
            Misconception(
                "averages absolute values",
                _mean_of_sizes,
                "x is divided by the mean of its absolute values. The name says in "
                "which order: the root of the mean of the squares.",
            ),
        ),
        hints=(
            "Root, mean, square: read the name from the back.",
            "x.square().mean(dim=-1, keepdim=True), plus eps, then the root.",
            "Divide x by that root, and multiply by the weight at the end.",
        ),
    ),
    Exercise(
        name="feed_forward",
        chapter="encoder",
        title="The feed-forward network",
        difficulty=1,
        minutes=5,
        trains="puts one activation between two maps, position by position",
        reference=feed_forward,
        inputs=_draw_feed_forward,
        properties=(
            Property("moving one token moves no other output", _positions_are_alone),
        ),
        misconceptions=(
            Misconception(
                "has no activation",
                _linear,
                "Two linear maps in a row are one linear map: d_ff buys nothing then. "
                "What stands between them?",
            ),
            Misconception(
                "activates the output too",
                _activates_twice,
                "The output has no negative number. Added to the residual stream it "
                "could only push it up; the second map has no activation.",
            ),
            Misconception(
                "activates the input",
                _activates_first,
                "ReLU is applied to x, not to the hidden units.",
            ),
            Misconception(
                "adds b_1 after the activation",
                _bias_after_relu,
                "b_1 is the threshold at which a hidden unit wakes, so it has to be "
                "added before ReLU looks at the sign.",
            ),
            Misconception(
                "mixes positions",
                _mixes_positions,
                "The hidden units are averaged over the positions. Each position is to "
                "be mapped by itself; mixing is what attention is for.",
            ),
        ),
        hints=(
            "@ works on the last axis, whatever stands before it.",
            "hidden = relu(x @ W_1 + b_1) has shape (..., d_ff).",
            "hidden @ W_2 + b_2 goes back to (..., d_model), with no activation.",
        ),
    ),
    Exercise(
        name="swiglu",
        chapter="encoder",
        title="A gated feed-forward network",
        difficulty=2,
        minutes=5,
        trains="tells the gate from what passes through it",
        reference=swiglu,
        inputs=_draw_gated,
        properties=(
            Property("with V = 0 nothing passes the gate", _silent_without_values),
        ),
        misconceptions=(
            Misconception(
                "gates by a sigmoid",
                _sigmoid_gate,
                "The gate is sigmoid(x W_1). That is GLU; in SwiGLU it is "
                "silu(z) = z sigmoid(z).",
            ),
            Misconception(
                "activates V",
                _gates_the_other,
                "The activation stands on x V. The two maps are not interchangeable: "
                "it belongs to W_1, and x V stays linear.",
            ),
            Misconception(
                "adds the two",
                _adds,
                "The two maps are added, so neither can shut the other. A gate "
                "multiplies.",
            ),
            Misconception(
                "activates both",
                _activates_both,
                "Both maps have an activation. One of them stays linear.",
            ),
            Misconception(
                "activates the product",
                _activates_the_product,
                "The activation comes after the product, so it is no gate. It is "
                "applied to x W_1 alone.",
            ),
        ),
        hints=(
            "F.silu is the activation; * multiplies unit by unit.",
            "One of the two maps passes through the activation, the one named W_1.",
            "W_2 comes last: (F.silu(x @ W_1) * (...)) @ W_2.",
        ),
    ),
    Exercise(
        name="pre_norm_layer",
        chapter="encoder",
        title="A pre-norm encoder layer",
        difficulty=2,
        minutes=10,
        trains="has a sub-layer read a normalized copy and add to the stream",
        reference=pre_norm_layer,
        inputs=_draw_layers,
        properties=(
            Property(
                "where both sub-layers return zeros, x passes unchanged",
                _stream_passes_through,
            ),
        ),
        misconceptions=(
            Misconception(
                "norms the sum",
                _post_norm,
                "The norms stand after the sums: that is post-norm, the paper's order. "
                "In pre-norm each sub-layer reads a normed x.",
            ),
            Misconception(
                "norms the stream",
                _norm_replaces_x,
                "The normed x also takes the place of x in the sum, so the residual "
                "stream is normed at every step. Only the sub-layer sees the norm.",
            ),
            Misconception(
                "has no residual",
                _no_residual,
                "Each sub-layer replaces x. It should add to it.",
            ),
            Misconception(
                "norms what is added",
                _norm_of_the_branch,
                "The norm is applied to what the sub-layer returns. It should be applied "
                "to what the sub-layer reads.",
            ),
            Misconception(
                "runs both side by side",
                _side_by_side,
                "Both sub-layers read the same x (some models do that, to save time). "
                "Here the feed-forward network reads what attention has added.",
            ),
        ),
        hints=(
            "Two lines, one a sub-layer, both of the form x + sublayer(norm(x)).",
            "The second line starts from what the first line made of x.",
            "x = x + attend(norm1(x)) is the first of them.",
        ),
    ),
    Exercise(
        name="mean_over_tokens",
        chapter="encoder",
        title="One vector for a padded text",
        difficulty=2,
        minutes=8,
        trains="makes a text's vector independent of its padding",
        reference=mean_over_tokens,
        inputs=_draw_pooled,
        properties=(
            Property(
                "neither the values at padding nor more of it change anything",
                _padding_is_silent,
            ),
        ),
        misconceptions=(
            Misconception(
                "averages the padding too",
                _mean_with_padding,
                "The mean runs over all positions. What stands at the padding is not "
                "part of the text, and it is not zero either.",
            ),
            Misconception(
                "divides by the padded length",
                _divides_by_length,
                "The padding is left out of the sum but counted in the number of "
                "positions, so a short text gets a short vector.",
            ),
            Misconception(
                "sums",
                _sums,
                "The tokens are summed and not averaged: long texts get long vectors.",
            ),
            Misconception(
                "takes the first token",
                _first_token,
                "This is the first token's vector (BERT's way, with a token of its own "
                "for it). Here all tokens of the text count alike.",
            ),
            Misconception(
                "divides by the mean length of the batch",
                _mean_count,
                "All texts are divided by one number, the mean length in the batch. "
                "Each has its own length: keep the count one a row.",
            ),
        ),
        hints=(
            "token_ids != pad_id says which positions count; give it a third axis.",
            "Sum over the length what counts, and divide by how many count.",
            "(x * real).sum(dim=1) is the sum; real.sum(dim=1) says how many count.",
        ),
    ),
    Exercise(
        name="encoder_parameters",
        chapter="encoder",
        title="Count an encoder's parameters",
        difficulty=2,
        minutes=10,
        trains="predicts the size of a stack from its shape",
        reference=encoder_parameters,
        inputs=_draw_sizes,
        properties=(
            Property(
                "each further layer costs the same",
                lambda answer, inputs: (
                    answer(*inputs[:3], 3) - answer(*inputs[:3], 2)
                    == answer(*inputs[:3], 2) - answer(*inputs[:3], 1)
                    > 0
                ),
            ),
        ),
        misconceptions=(
            Misconception(
                "forgets the biases",
                partial(_count, bias=False),
                "Only matrices are counted. All six linear maps of a layer have a bias.",
            ),
            Misconception(
                "forgets W_o",
                partial(_count, maps=3),
                "There are three maps in the attention: queries, keys, values. What "
                "brings the joined heads back into the stream?",
            ),
            Misconception(
                "counts one norm",
                partial(_count, norms=1),
                "There is one norm a layer. Each of its two sub-layers has one.",
            ),
            Misconception(
                "forgets the norms",
                partial(_count, norms=0),
                "The norms have parameters too: a gain and a bias for each feature.",
            ),
            Misconception(
                "counts one layer",
                partial(_count, shared=True),
                "One layer is counted, however many there are. They share nothing.",
            ),
        ),
        hints=(
            "A linear map from a to b has a * b + b parameters.",
            "Attention has four maps from d_model to d_model: the number of heads does "
            "not matter.",
            "Two norms with 2 * d_model each; sinusoidal positions have none.",
        ),
    ),
    Exercise(
        name="fold_norm",
        chapter="encoder",
        title="Fold a norm into the map that follows",
        difficulty=3,
        minutes=15,
        trains="merges two linear steps into one that gives the same",
        reference=fold_norm,
        inputs=_draw_folds,
        properties=(
            Property(
                "the folded map after a bare norm is the old map after the old norm",
                _folded_is_the_same,
            ),
        ),
        misconceptions=(
            Misconception(
                "forgets the norm's bias",
                _forgets_the_bias,
                "The gain is folded in, the norm's bias is lost. It goes through W like "
                "everything else.",
            ),
            Misconception(
                "scales the norm's bias",
                _scales_the_bias_too,
                "The norm's bias is multiplied by the gain. It is added after the gain, "
                "so it meets the old W.",
            ),
            Misconception(
                "leaves the gain out",
                _keeps_the_gain,
                "W is unchanged, so the gain is lost. Feature i of the norm meets row i "
                "of W.",
            ),
            Misconception(
                "divides by the gain",
                _divides,
                "The rows are divided by the gain. The norm multiplied by it, and the "
                "new W has to do that in its place.",
            ),
        ),
        hints=(
            "Write out (n * weight + bias) @ W + b, where n is the bare norm's output.",
            "n * weight multiplies column i of n by weight[i]; give that to W's rows.",
            "The rest, bias @ W + b, does not depend on n.",
        ),
    ),
)
