"""Exercises of the chapter on masked autoencoders."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from companion.exercises.exercise import Exercise, Inputs, Misconception, Property

# Masking by sorting noise


def shuffle_and_mask(
    noise: Float[Tensor, "batch patches"], visible: int
) -> tuple[
    Int[Tensor, "batch visible"],
    Bool[Tensor, "batch patches"],
    Int[Tensor, "batch patches"],
]:
    order = noise.argsort(dim=1)
    restore = order.argsort(dim=1)
    return order[:, :visible], restore >= visible, restore


def _mask_still_shuffled(noise: Tensor, visible: int):
    keep, hidden, restore = shuffle_and_mask(noise, visible)
    return keep, (torch.arange(noise.shape[1]) >= visible).expand_as(hidden), restore


def _order_as_its_inverse(noise: Tensor, visible: int):
    order = noise.argsort(dim=1)
    return order[:, :visible], order >= visible, order


def _keeps_the_largest(noise: Tensor, visible: int):
    return shuffle_and_mask(-noise, visible)


def _true_is_visible(noise: Tensor, visible: int):
    keep, hidden, restore = shuffle_and_mask(noise, visible)
    return keep, ~hidden, restore


def _one_order_for_all(noise: Tensor, visible: int):
    return shuffle_and_mask(noise[:1].expand_as(noise), visible)


def _draw_noise(generator: Generator) -> list[Inputs]:
    return [
        (torch.rand(batch, patches, generator=generator), visible)
        for batch, patches, visible in ((1, 4, 1), (3, 8, 3), (2, 16, 4))
    ]


def _kept_are_not_hidden(answer, inputs: Inputs) -> bool:
    keep, hidden, _ = answer(*inputs)
    return not hidden.gather(1, keep).any()


def _restores(answer, inputs: Inputs) -> bool:
    """Put in shuffled order and brought back, the noise is as it was."""
    noise, _ = inputs
    restore = answer(*inputs)[2]
    return torch.equal(noise.sort(dim=1).values.gather(1, restore), noise)


# The loss


def hidden_patch_loss(
    prediction: Float[Tensor, "batch patches values"],
    target: Float[Tensor, "batch patches values"],
    hidden: Bool[Tensor, "batch patches"],
) -> Float[Tensor, ""]:
    error = (prediction - target).square().mean(dim=-1)
    return error[hidden].mean()


def _counts_all(prediction: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
    return (prediction - target).square().mean()


def _counts_the_visible(prediction: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
    return hidden_patch_loss(prediction, target, ~hidden)


def _divides_by_all(prediction: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
    error = (prediction - target).square().mean(dim=-1)
    return (error * hidden).mean()


def _sums_pixels(prediction: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
    error = (prediction - target).square().sum(dim=-1)
    return error[hidden].mean()


def _mean_of_means(prediction: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
    error = (prediction - target).square().mean(dim=-1)
    return ((error * hidden).sum(dim=1) / hidden.sum(dim=1)).mean()


def _absolute(prediction: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
    return (prediction - target).abs().mean(dim=-1)[hidden].mean()


def _draw_predictions(generator: Generator) -> list[Inputs]:
    cases = []
    for batch, patches, values in ((1, 3, 2), (2, 6, 4), (3, 5, 9)):
        hidden = torch.rand(batch, patches, generator=generator) < 0.6
        # Another number of hidden patches in each image, and some of either kind.
        hidden[:, 0], hidden[:, -1] = True, False
        hidden[0, 1], hidden[-1, 1:] = True, batch == 1
        hidden[:, -1] = False
        draw = (
            torch.randn(batch, patches, values, generator=generator) for _ in range(2)
        )
        cases.append((*draw, hidden))
    return cases


def _visible_is_free(answer, inputs: Inputs) -> bool:
    prediction, target, hidden = inputs
    other = torch.where(hidden[..., None], prediction, prediction + 5.0)
    return torch.allclose(answer(other, target, hidden), answer(*inputs))


# Normalized targets


def normalize_patches(
    patches: Float[Tensor, "batch patches values"],
) -> Float[Tensor, "batch patches values"]:
    mean = patches.mean(dim=-1, keepdim=True)
    variance = patches.var(dim=-1, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()


def _by_image(patches: Tensor) -> Tensor:
    flat = patches.flatten(1)
    mean, variance = flat.mean(dim=1), flat.var(dim=1)
    return (patches - mean[:, None, None]) / (variance + 1e-6).sqrt()[:, None, None]


def _by_value(patches: Tensor) -> Tensor:
    return normalize_patches(patches.mT).mT


def _only_centered(patches: Tensor) -> Tensor:
    return patches - patches.mean(dim=-1, keepdim=True)


def _by_variance(patches: Tensor) -> Tensor:
    variance = patches.var(dim=-1, keepdim=True)
    return (patches - patches.mean(dim=-1, keepdim=True)) / (variance + 1e-6)


def _divides_by_zero(patches: Tensor) -> Tensor:
    deviation = patches.std(dim=-1, keepdim=True)
    return (patches - patches.mean(dim=-1, keepdim=True)) / deviation


def _biased(patches: Tensor) -> Tensor:
    variance = patches.var(dim=-1, keepdim=True, unbiased=False)
    mean = patches.mean(dim=-1, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()


def _draw_patches(generator: Generator) -> list[Inputs]:
    cases = []
    for batch, patches, values in ((1, 3, 4), (2, 4, 9), (3, 5, 16)):
        x = torch.randn(batch, patches, values, generator=generator)
        x = x * torch.rand(batch, patches, 1, generator=generator) * 3 + 1
        x[:, -1] = 0.25  # of one color
        cases.append((x,))
    return cases


def _light_does_not_count(answer, inputs: Inputs) -> bool:
    """Brighter and with more contrast, a patch is the same."""
    rich = inputs[0][:, :-1]
    return torch.allclose(answer(3 * rich + 1), answer(rich), atol=1e-3)


def _plain_is_zero(answer, inputs: Inputs) -> bool:
    return not answer(*inputs)[:, -1].abs().max() > 1e-5


# What the decoder reads


def fill_with_mask_tokens(
    visible: Float[Tensor, "batch visible d_model"],
    mask_token: Float[Tensor, "d_model"],
    restore: Int[Tensor, "batch patches"],
) -> Float[Tensor, "batch patches d_model"]:
    batch, count, width = visible.shape
    fill = mask_token.expand(batch, restore.shape[1] - count, width)
    shuffled = torch.cat([visible, fill], dim=1)
    return shuffled.gather(1, restore[..., None].expand(-1, -1, width))


def _stays_shuffled(visible: Tensor, mask_token: Tensor, restore: Tensor) -> Tensor:
    identity = torch.arange(restore.shape[1]).expand_as(restore)
    return fill_with_mask_tokens(visible, mask_token, identity)


def _shuffles_again(visible: Tensor, mask_token: Tensor, restore: Tensor) -> Tensor:
    return fill_with_mask_tokens(visible, mask_token, restore.argsort(dim=1))


def _mask_tokens_first(visible: Tensor, mask_token: Tensor, restore: Tensor) -> Tensor:
    batch, count, width = visible.shape
    fill = mask_token.expand(batch, restore.shape[1] - count, width)
    shuffled = torch.cat([fill, visible], dim=1)
    return shuffled.gather(1, restore[..., None].expand(-1, -1, width))


def _zeros_for_the_hidden(
    visible: Tensor, mask_token: Tensor, restore: Tensor
) -> Tensor:
    return fill_with_mask_tokens(visible, torch.zeros_like(mask_token), restore)


def _order_of_the_first(visible: Tensor, mask_token: Tensor, restore: Tensor) -> Tensor:
    return fill_with_mask_tokens(visible, mask_token, restore[:1].expand_as(restore))


def _draw_tokens(generator: Generator) -> list[Inputs]:
    cases = []
    for batch, patches, visible, width in ((2, 4, 1, 2), (2, 8, 3, 3), (3, 9, 4, 5)):
        order = torch.rand(batch, patches, generator=generator).argsort(dim=1)
        cases.append(
            (
                torch.randn(batch, visible, width, generator=generator),
                torch.randn(width, generator=generator),
                order.argsort(dim=1),
            )
        )
    return cases


def _hidden_are_the_token(answer, inputs: Inputs) -> bool:
    visible, mask_token, restore = inputs
    tokens = answer(*inputs)[restore >= visible.shape[1]]
    return torch.equal(tokens, mask_token.expand_as(tokens))


# What it costs


def encoder_multiply_adds(tokens: int, d_model: int, d_ff: int, layers: int) -> int:
    linear = 4 * d_model**2 + 2 * d_model * d_ff
    attention = 2 * tokens * d_model
    return layers * tokens * (linear + attention)


def _linear_only(tokens: int, d_model: int, d_ff: int, layers: int) -> int:
    return layers * tokens * (4 * d_model**2 + 2 * d_model * d_ff)


def _scores_only(tokens: int, d_model: int, d_ff: int, layers: int) -> int:
    half = layers * tokens * tokens * d_model
    return _linear_only(tokens, d_model, d_ff, layers) + half


def _three_projections(tokens: int, d_model: int, d_ff: int, layers: int) -> int:
    return encoder_multiply_adds(tokens, d_model, d_ff, layers) - (
        layers * tokens * d_model**2
    )


def _half_a_feed_forward(tokens: int, d_model: int, d_ff: int, layers: int) -> int:
    return encoder_multiply_adds(tokens, d_model, d_ff, layers) - (
        layers * tokens * d_model * d_ff
    )


def _weights_only(tokens: int, d_model: int, d_ff: int, layers: int) -> int:
    return layers * (4 * d_model**2 + 2 * d_model * d_ff)


def _draw_sizes(generator: Generator) -> list[Inputs]:
    return [(2, 3, 5, 1), (13, 48, 192, 4), (50, 768, 3072, 12), (197, 768, 3072, 12)]


def _more_than_half_for_two(answer, inputs: Inputs) -> bool:
    """Twice the tokens cost more than twice as much."""
    tokens, *sizes = inputs
    return answer(2 * tokens, *sizes) > 2 * answer(tokens, *sizes)


# Positions on a grid


def grid_positions(
    rows: int, columns: int, d_model: int
) -> Float[Tensor, "patches d_model"]:
    pairs = d_model // 4
    frequency = 10000.0 ** (-torch.arange(pairs) / pairs)
    row = torch.arange(rows).repeat_interleave(columns)
    column = torch.arange(columns).repeat(rows)
    across, down = column[:, None] * frequency, row[:, None] * frequency
    return torch.cat([across.sin(), across.cos(), down.sin(), down.cos()], dim=1)


def _row_first(rows: int, columns: int, d_model: int) -> Tensor:
    table = grid_positions(rows, columns, d_model)
    half = d_model // 2
    return torch.cat([table[:, half:], table[:, :half]], dim=1)


def _column_by_column(rows: int, columns: int, d_model: int) -> Tensor:
    table = grid_positions(rows, columns, d_model)
    return table.unflatten(0, (rows, columns)).transpose(0, 1).flatten(0, 1)


def _as_a_line(rows: int, columns: int, d_model: int) -> Tensor:
    pairs = d_model // 2
    frequency = 10000.0 ** (-torch.arange(pairs) / pairs)
    angle = torch.arange(rows * columns)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def _interleaved(rows: int, columns: int, d_model: int) -> Tensor:
    table = grid_positions(rows, columns, d_model)
    return table.unflatten(1, (2, 2, -1)).transpose(2, 3).flatten(1)


def _frequencies_of_the_whole(rows: int, columns: int, d_model: int) -> Tensor:
    pairs = d_model // 4
    frequency = 10000.0 ** (-torch.arange(pairs) / (2 * pairs))
    row = torch.arange(rows).repeat_interleave(columns)
    column = torch.arange(columns).repeat(rows)
    across, down = column[:, None] * frequency, row[:, None] * frequency
    return torch.cat([across.sin(), across.cos(), down.sin(), down.cos()], dim=1)


def _draw_grids(generator: Generator) -> list[Inputs]:
    return [(2, 3, 8), (1, 4, 12), (7, 7, 16), (3, 64, 24)]


def _same_length(answer, inputs: Inputs) -> bool:
    """Each pair of sine and cosine adds 1."""
    lengths = answer(*inputs).square().sum(dim=1)
    return torch.allclose(lengths, torch.full_like(lengths, inputs[2] / 2), atol=1e-3)


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="shuffle_and_mask",
        chapter="mae",
        title="Masking by sorting noise",
        difficulty=2,
        minutes=12,
        trains="tells a permutation from its inverse",
        reference=shuffle_and_mask,
        inputs=_draw_noise,
        properties=(
            Property("no patch that is kept is marked as hidden", _kept_are_not_hidden),
            Property("restore undoes the shuffle", _restores),
        ),
        misconceptions=(
            Misconception(
                "marks the mask in shuffled order",
                _mask_still_shuffled,
                "In every image the last patches are marked, whatever the noise was. That "
                "is the mask in *shuffled* order. Where does patch 0 stand in that order?",
            ),
            Misconception(
                "takes the order for its own inverse",
                _order_as_its_inverse,
                "order[i] says which patch comes at place i. restore[p] says at which place "
                "patch p comes. That is the inverse permutation: one more argsort.",
            ),
            Misconception(
                "keeps the largest",
                _keeps_the_largest,
                "It keeps the patches with the largest noise. As good a mask, but another "
                "one: the reference keeps the smallest, and so do the checkpoints' tests.",
            ),
            Misconception(
                "marks the visible ones",
                _true_is_visible,
                "True stands where a patch is visible. Here the mask says what is hidden, "
                "for it is where the loss is.",
            ),
            Misconception(
                "hides the same patches in every image",
                _one_order_for_all,
                "All images get the first one's order. Sort each row of the noise.",
            ),
        ),
        hints=(
            "Sorting random numbers shuffles: argsort gives the order.",
            "The inverse of a permutation is its argsort.",
            "A patch is hidden if its place in the shuffled order is not among the first.",
        ),
    ),
    Exercise(
        name="fill_with_mask_tokens",
        chapter="mae",
        title="What the decoder reads",
        difficulty=3,
        minutes=12,
        trains="puts tokens back in their places, image by image",
        reference=fill_with_mask_tokens,
        inputs=_draw_tokens,
        properties=(
            Property(
                "at every hidden patch stands the mask token", _hidden_are_the_token
            ),
        ),
        misconceptions=(
            Misconception(
                "leaves them shuffled",
                _stays_shuffled,
                "The mask tokens stand at the end. The positions that are added next belong "
                "to patches 0, 1, 2, ..., so each token must be in its place by then.",
            ),
            Misconception(
                "shuffles once more",
                _shuffles_again,
                "It takes the order where its inverse is asked for. For place p of the "
                "result, restore[p] says where to fetch it from.",
            ),
            Misconception(
                "puts the mask tokens first",
                _mask_tokens_first,
                "In shuffled order the visible ones come first; that is what restore was "
                "made for.",
            ),
            Misconception(
                "fills with zeros",
                _zeros_for_the_hidden,
                "Zeros stand where the learned mask token should.",
            ),
            Misconception(
                "uses one order for all",
                _order_of_the_first,
                "The first image's restore is used for all. Each image has its own.",
            ),
        ),
        hints=(
            "First make the shuffled sequence whole: visible tokens, then mask tokens.",
            "gather along the patches, with restore as the index.",
            "The index needs the width as well: restore[..., None].expand(-1, -1, width).",
        ),
    ),
    Exercise(
        name="hidden_patch_loss",
        chapter="mae",
        title="The loss, where nothing was seen",
        difficulty=1,
        minutes=6,
        trains="averages over a selection and divides by its size",
        reference=hidden_patch_loss,
        inputs=_draw_predictions,
        properties=(
            Property(
                "what is predicted for visible patches does not matter",
                _visible_is_free,
            ),
        ),
        misconceptions=(
            Misconception(
                "counts all patches",
                _counts_all,
                "Visible patches are in the mean. To predict what one sees is to copy, and "
                "a decoder that copies well hides from you how badly it paints.",
            ),
            Misconception(
                "counts the visible ones",
                _counts_the_visible,
                "The mask is upside down: this is the loss where nothing was hidden.",
            ),
            Misconception(
                "divides by the number of all patches",
                _divides_by_all,
                "The sum is over hidden patches and the divisor is not. Then the loss "
                "shrinks with the masking ratio and two ratios can't be compared.",
            ),
            Misconception(
                "sums over pixels",
                _sums_pixels,
                "Each patch counts with the sum of its pixels' errors. A mean is asked for.",
            ),
            Misconception(
                "averages image by image",
                _mean_of_means,
                "Each image counts alike, whatever number of its patches is hidden. Every "
                "hidden patch counts alike.",
            ),
            Misconception(
                "takes absolute errors",
                _absolute,
                "The error is absolute, not squared.",
            ),
        ),
        hints=(
            "A squared error for each patch first: a mean over its values.",
            "A boolean mask picks: error[hidden].",
            "One mean over all that was picked.",
        ),
    ),
    Exercise(
        name="normalize_patches",
        chapter="mae",
        title="Normalized targets",
        difficulty=2,
        minutes=8,
        trains="normalizes along the right axis, and survives a flat patch",
        reference=normalize_patches,
        inputs=_draw_patches,
        properties=(
            Property(
                "a brighter patch with more contrast is the same", _light_does_not_count
            ),
            Property("a patch of one color is all zeros", _plain_is_zero),
        ),
        misconceptions=(
            Misconception(
                "normalizes the image",
                _by_image,
                "All patches of an image share a mean and a variance. Then a dark patch is "
                "still dark. Which axis holds the values of one patch?",
            ),
            Misconception(
                "normalizes over patches",
                _by_value,
                "It compares the same pixel of all patches. The mean and the variance are "
                "over the pixels of one patch.",
            ),
            Misconception(
                "only centers",
                _only_centered,
                "The mean is gone and the contrast is not.",
            ),
            Misconception(
                "divides by the variance",
                _by_variance,
                "It divides by the variance and not by its root, so that a patch with less "
                "contrast comes out with more.",
            ),
            Misconception(
                "divides by zero",
                _divides_by_zero,
                "A patch of one color gives 0 / 0. A little is added to the variance, 1e-6.",
            ),
            Misconception(
                "takes the biased variance",
                _biased,
                "It divides the sum of squares by n. The reference divides by n - 1; with "
                "16 pixels that is 3 % of the deviation. A habit, not a law.",
            ),
        ),
        hints=(
            "Mean and variance over the last axis, kept for broadcasting.",
            "Add 1e-6 to the variance before the root.",
            "(patches - mean) / (variance + 1e-6).sqrt(), with var as torch has it.",
        ),
        tolerance=1e-4,
    ),
    Exercise(
        name="encoder_multiply_adds",
        chapter="mae",
        title="What a token costs",
        difficulty=2,
        minutes=10,
        trains="tells what grows with tokens from what grows with their square",
        reference=encoder_multiply_adds,
        inputs=_draw_sizes,
        properties=(
            Property(
                "twice the tokens cost more than twice as much", _more_than_half_for_two
            ),
        ),
        misconceptions=(
            Misconception(
                "forgets the attention itself",
                _linear_only,
                "Only products with weights are counted. Scores and averages multiply "
                "tokens with tokens.",
            ),
            Misconception(
                "counts the scores and not the averages",
                _scores_only,
                "Each pair of tokens costs d_model for its scores. What else happens to "
                "each pair?",
            ),
            Misconception(
                "forgets the output projection",
                _three_projections,
                "Queries, keys, values, and one more matrix that mixes the heads.",
            ),
            Misconception(
                "counts one half of the feed-forward network",
                _half_a_feed_forward,
                "It goes from d_model to d_ff and back.",
            ),
            Misconception(
                "counts the weights",
                _weights_only,
                "That is the number of weights. Each token is multiplied with all of them.",
            ),
        ),
        hints=(
            "A token is multiplied with four matrices of d_model by d_model and two of "
            "d_model by d_ff.",
            "A pair of tokens costs d_model for scores and d_model for averages, over all "
            "heads together.",
            "layers * (tokens * (4 d^2 + 2 d d_ff) + 2 tokens^2 d)",
        ),
    ),
    Exercise(
        name="grid_positions",
        chapter="mae",
        title="Sines and cosines of two coordinates",
        difficulty=3,
        minutes=15,
        trains="lays out two coordinates as a checkpoint expects them",
        reference=grid_positions,
        inputs=_draw_grids,
        properties=(
            Property("every position has the length sqrt(d_model / 2)", _same_length),
        ),
        misconceptions=(
            Misconception(
                "puts the row first",
                _row_first,
                "What one would expect, and what the authors meant. Their code has the "
                "column in the first half, and every checkpoint was trained so.",
            ),
            Misconception(
                "goes column by column",
                _column_by_column,
                "Patches are counted row by row: patch 1 is to the right of patch 0.",
            ),
            Misconception(
                "treats the grid as a line",
                _as_a_line,
                "These are the positions 0, 1, 2, ... of a text. The patch below has no "
                "relation to this one then. Give each coordinate its half.",
            ),
            Misconception(
                "interleaves sine and cosine",
                _interleaved,
                "Sines and cosines alternate. Here all sines of a coordinate come first, "
                "then all its cosines.",
            ),
            Misconception(
                "takes the frequencies of the whole width",
                _frequencies_of_the_whole,
                "The frequencies fall too slowly: a coordinate has d_model / 2 numbers, so "
                "d_model / 4 frequencies, from 1 down to nearly 1 / 10000.",
            ),
        ),
        hints=(
            "d_model / 4 frequencies: 10000 ** (-i / (d_model / 4)).",
            "repeat_interleave gives the rows, repeat the columns.",
            "sin and cos of the column, then sin and cos of the row, side by side.",
        ),
        tolerance=1e-4,
    ),
)
