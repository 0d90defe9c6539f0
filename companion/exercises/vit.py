"""Exercises of the chapter on the Vision Transformer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from companion.exercises.exercise import Exercise, Inputs, Misconception, Property

# Cut an image into patches


def cut_patches(
    image: Float[Tensor, "channels height width"], size: int
) -> Float[Tensor, "patches values"]:
    channels, height, width = image.shape
    x = image.reshape(channels, height // size, size, width // size, size)
    x = x.permute(1, 3, 2, 4, 0)  # (rows, columns, size, size, C)
    return x.reshape(-1, size * size * channels)


def _reshaped_only(image: Tensor, size: int) -> Tensor:
    return image.reshape(-1, size * size * image.shape[0])


def _channels_first(image: Tensor, size: int) -> Tensor:
    channels, height, width = image.shape
    x = image.reshape(channels, height // size, size, width // size, size)
    return x.permute(1, 3, 0, 2, 4).reshape(-1, size * size * channels)


def _down_the_columns(image: Tensor, size: int) -> Tensor:
    channels, height, width = image.shape
    x = image.reshape(channels, height // size, size, width // size, size)
    return x.permute(3, 1, 2, 4, 0).reshape(-1, size * size * channels)


def _pixels_transposed(image: Tensor, size: int) -> Tensor:
    channels, height, width = image.shape
    x = image.reshape(channels, height // size, size, width // size, size)
    return x.permute(1, 3, 4, 2, 0).reshape(-1, size * size * channels)


def _dilated(image: Tensor, size: int) -> Tensor:
    """Takes every n-th pixel instead of neighboring ones."""
    channels, height, width = image.shape
    x = image.reshape(channels, size, height // size, size, width // size)
    return x.permute(2, 4, 1, 3, 0).reshape(-1, size * size * channels)


def _draw_images(generator: Generator) -> list[Inputs]:
    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return [(draw(1, 4, 6), 2), (draw(3, 6, 9), 3), (draw(2, 8, 4), 2)]


def _first_patch_is_the_corner(answer, inputs: Inputs) -> bool:
    image, size = inputs
    corner = image[:, :size, :size].permute(1, 2, 0).flatten()
    return torch.equal(answer(image, size)[0], corner)


def _no_pixel_is_lost(answer, inputs: Inputs) -> bool:
    image, size = inputs
    return torch.equal(
        answer(image, size).flatten().sort().values, image.flatten().sort().values
    )


# How many parameters


def vit_parameters(
    image_size: int,
    patch_size: int,
    channels: int,
    classes: int,
    d_model: int,
    d_ff: int,
    num_layers: int,
) -> int:
    patches = (image_size // patch_size) ** 2
    embedding = (patch_size**2 * channels + 1) * d_model
    tokens = d_model + (patches + 1) * d_model  # [CLS], and a position for each token
    attention = 4 * (d_model + 1) * d_model
    feed_forward = (d_model + 1) * d_ff + (d_ff + 1) * d_model
    layer = attention + feed_forward + 4 * d_model  # two norms
    head = 2 * d_model + (d_model + 1) * classes  # the last norm, too
    return embedding + tokens + num_layers * layer + head


def _with(change):
    """The count with a change that depends on the sizes."""

    def count(
        image_size, patch_size, channels, classes, d_model, d_ff, num_layers
    ) -> int:
        sizes = (
            image_size,
            patch_size,
            channels,
            classes,
            d_model,
            d_ff,
            num_layers,
        )
        return vit_parameters(*sizes) + change(*sizes)

    return count


_no_biases = _with(lambda s, p, c, k, d, f, n: -(d + k + n * (5 * d + f)))
_no_cls_position = _with(lambda s, p, c, k, d, f, n: -d)
_no_norms = _with(lambda s, p, c, k, d, f, n: -(2 * d + 4 * n * d))
_patch_is_a_pixel_wide = _with(lambda s, p, c, k, d, f, n: (p * c - p * p * c) * d)
_three_maps = _with(lambda s, p, c, k, d, f, n: -n * (d + 1) * d)


def _draw_sizes(generator: Generator) -> list[Inputs]:
    return [
        (8, 4, 1, 3, 4, 8, 1),
        (28, 7, 1, 10, 64, 128, 4),
        (224, 16, 3, 1000, 768, 3072, 12),
    ]


def _layers_add_up(answer, inputs: Inputs) -> bool:
    *rest, num_layers = inputs
    one, two, three = (answer(*rest, num_layers + more) for more in range(3))
    return (
        three - two
        == two - one
        == 4 * (rest[4] + 1) * rest[4]
        + ((rest[4] + 1) * rest[5] + (rest[5] + 1) * rest[4] + 4 * rest[4])
    )


# The mean of the patches


def pool_patches(
    states: Float[Tensor, "batch tokens d_model"], num_prefix: int
) -> Float[Tensor, "batch d_model"]:
    return states[:, num_prefix:].mean(dim=1)


def _mean_of_all(states: Tensor, num_prefix: int) -> Tensor:
    return states.mean(dim=1)


def _first_token(states: Tensor, num_prefix: int) -> Tensor:
    return states[:, 0]


def _sum_of_patches(states: Tensor, num_prefix: int) -> Tensor:
    return states[:, num_prefix:].sum(dim=1)


def _one_prefix_always(states: Tensor, num_prefix: int) -> Tensor:
    return states[:, 1:].mean(dim=1)


def _off_the_end(states: Tensor, num_prefix: int) -> Tensor:
    return states[:, : states.shape[1] - num_prefix].mean(dim=1)


def _draw_states(generator: Generator) -> list[Inputs]:
    return [
        (torch.randn(2, tokens, width, generator=generator), prefix)
        for tokens, width, prefix in ((5, 3, 1), (6, 4, 2), (9, 2, 0))
    ]


def _blind_to_the_prefix(answer, inputs: Inputs) -> bool:
    states, num_prefix = inputs
    changed = states.clone()
    changed[:, :num_prefix] += 5.0
    pooled = answer(states, num_prefix), answer(changed, num_prefix)
    return torch.allclose(*pooled, atol=1e-5)


def _order_of_patches(answer, inputs: Inputs) -> bool:
    states, num_prefix = inputs
    turned = torch.cat([states[:, :num_prefix], states[:, num_prefix:].flip(1)], dim=1)
    pooled = answer(states, num_prefix), answer(turned, num_prefix)
    return torch.allclose(*pooled, atol=1e-5)


# Positions for another resolution


def resize_positions(
    table: Float[Tensor, "tokens d_model"],
    old_grid: tuple[int, int],
    new_grid: tuple[int, int],
) -> Float[Tensor, "new_tokens d_model"]:
    first, patches = table[:1], table[1:]
    picture = patches.T.reshape(1, -1, *old_grid)  # (1, D, rows, columns)
    picture = F.interpolate(picture, new_grid, mode="bicubic")
    return torch.cat([first, picture[0].flatten(1).T])


def _as_a_line(table: Tensor, old_grid, new_grid) -> Tensor:
    """Resizes the whole list, as if it were a text."""
    length = new_grid[0] * new_grid[1]
    line = table[1:].T[None]  # (1, D, N)
    line = F.interpolate(line, length, mode="linear")
    return torch.cat([table[:1], line[0].T])


def _with_the_class(table: Tensor, old_grid, new_grid) -> Tensor:
    """The [CLS] position goes into the grid, and the last patch falls off."""
    shifted = torch.cat([table[:1], table[:-1]])
    return resize_positions(shifted, old_grid, new_grid)


def _nearest(table: Tensor, old_grid, new_grid) -> Tensor:
    picture = table[1:].T.reshape(1, -1, *old_grid)
    picture = F.interpolate(picture, new_grid, mode="nearest")
    return torch.cat([table[:1], picture[0].flatten(1).T])


def _reshaped_without_turning(table: Tensor, old_grid, new_grid) -> Tensor:
    picture = table[1:].reshape(1, -1, *old_grid)  # features and places mixed up
    picture = F.interpolate(picture, new_grid, mode="bicubic")
    return torch.cat([table[:1], picture[0].flatten(1).T])


def _without_the_class(table: Tensor, old_grid, new_grid) -> Tensor:
    return resize_positions(table, old_grid, new_grid)[1:]


def _corners_aligned(table: Tensor, old_grid, new_grid) -> Tensor:
    picture = table[1:].T.reshape(1, -1, *old_grid)
    picture = F.interpolate(picture, new_grid, mode="bicubic", align_corners=True)
    return torch.cat([table[:1], picture[0].flatten(1).T])


def _draw_tables(generator: Generator) -> list[Inputs]:
    return [
        (torch.randn(1 + r * c, d, generator=generator), (r, c), new)
        for r, c, d, new in ((2, 2, 3, (4, 4)), (3, 2, 4, (6, 5)), (4, 4, 2, (3, 6)))
    ]


def _same_grid_same_table(answer, inputs: Inputs) -> bool:
    table, old_grid, _ = inputs
    return torch.allclose(answer(table, old_grid, old_grid), table, atol=1e-5)


def _class_stays(answer, inputs: Inputs) -> bool:
    return torch.equal(answer(*inputs)[0], inputs[0][0])


# Rollout


def rollout(
    maps: Float[Tensor, "layers heads tokens tokens"],
) -> Float[Tensor, "tokens tokens"]:
    identity = torch.eye(maps.shape[-1]).to(maps)
    total = identity
    for weights in maps.mean(dim=1):  # over the heads
        total = (0.5 * weights + 0.5 * identity) @ total
    return total


def _no_residual(maps: Tensor) -> Tensor:
    total = torch.eye(maps.shape[-1]).to(maps)
    for weights in maps.mean(dim=1):
        total = weights @ total
    return total


def _wrong_order(maps: Tensor) -> Tensor:
    return rollout(maps.flip(0))


def _mean_over_layers(maps: Tensor) -> Tensor:
    identity = torch.eye(maps.shape[-1]).to(maps)
    return 0.5 * maps.mean(dim=(0, 1)) + 0.5 * identity


def _last_layer_only(maps: Tensor) -> Tensor:
    return rollout(maps[-1:])


def _residual_added(maps: Tensor) -> Tensor:
    identity = torch.eye(maps.shape[-1]).to(maps)
    total = identity
    for weights in maps.mean(dim=1):
        total = (weights + identity) @ total
    return total


def _draw_maps(generator: Generator) -> list[Inputs]:
    return [
        (torch.randn(shape, generator=generator).mul(2).softmax(dim=-1),)
        for shape in ((2, 1, 3, 3), (3, 2, 4, 4), (4, 3, 5, 5))
    ]


def _rows_sum_to_one(answer, inputs: Inputs) -> bool:
    sums = answer(*inputs).sum(dim=-1)
    return torch.allclose(sums, torch.ones_like(sums), atol=1e-5)


def _nothing_mixed_nothing_moved(answer, inputs: Inputs) -> bool:
    (maps,) = inputs
    identity = torch.eye(maps.shape[-1]).to(maps)
    same = answer(identity.expand(*maps.shape))
    return torch.allclose(same, identity, atol=1e-5)


# Hard distillation


def hard_distillation(
    class_logits: Float[Tensor, "batch classes"],
    distillation_logits: Float[Tensor, "batch classes"],
    labels: Int[Tensor, "batch"],
    teacher: Float[Tensor, "batch classes"],
) -> Float[Tensor, ""]:
    own = F.cross_entropy(class_logits, labels)
    taught = F.cross_entropy(distillation_logits, teacher.argmax(dim=1))
    return (own + taught) / 2


def _teacher_as_probabilities(class_logits, distillation_logits, labels, teacher):
    own = F.cross_entropy(class_logits, labels)
    taught = F.cross_entropy(distillation_logits, teacher.softmax(dim=1))
    return (own + taught) / 2


def _heads_exchanged(class_logits, distillation_logits, labels, teacher):
    return hard_distillation(distillation_logits, class_logits, labels, teacher)


def _both_learn_labels(class_logits, distillation_logits, labels, teacher):
    return hard_distillation(
        class_logits, distillation_logits, labels, F.one_hot(labels).float()
    )


def _mean_of_the_heads(class_logits, distillation_logits, labels, teacher):
    mean = (class_logits + distillation_logits) / 2
    return hard_distillation(mean, mean, labels, teacher)


def _not_halved(class_logits, distillation_logits, labels, teacher):
    return 2 * hard_distillation(class_logits, distillation_logits, labels, teacher)


def _draw_distillation(generator: Generator) -> list[Inputs]:
    cases = []
    for batch, classes in ((2, 3), (4, 5), (6, 4)):
        own, taught, teacher = (
            2 * torch.randn(batch, classes, generator=generator) for _ in range(3)
        )
        labels = torch.randint(classes, (batch,), generator=generator)
        # The teacher is wrong at least once, and all classes occur in its words.
        labels[0] = (teacher[0].argmax() + 1) % classes
        labels[-1] = classes - 1
        cases.append((own, taught, labels, teacher))
    return cases


def _only_its_choice_counts(answer, inputs: Inputs) -> bool:
    *rest, teacher = inputs
    return torch.allclose(answer(*rest, teacher), answer(*rest, 3 * teacher + 1))


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="cut_patches",
        chapter="vit",
        title="Cut an image into patches",
        difficulty=2,
        minutes=10,
        trains="orders axes before it flattens them",
        reference=cut_patches,
        inputs=_draw_images,
        properties=(
            Property(
                "the first patch is the upper left corner", _first_patch_is_the_corner
            ),
            Property("every pixel comes once", _no_pixel_is_lost),
        ),
        misconceptions=(
            Misconception(
                "reshapes and nothing else",
                _reshaped_only,
                "A reshape cuts the numbers as they lie in memory: stretches of rows, not "
                "squares. Split both axes first, then bring the two inner ones together.",
            ),
            Misconception(
                "keeps the channels in front",
                _channels_first,
                "The patches are right, but in each of them comes first all of one channel. "
                "Asked for are the channels of a pixel side by side.",
            ),
            Misconception(
                "goes down the columns",
                _down_the_columns,
                "The second patch is the one below the first. Asked for is reading order: "
                "along a row, then the next row.",
            ),
            Misconception(
                "turns each patch over",
                _pixels_transposed,
                "The patches are in order, but inside one the pixels run down the columns. "
                "Which of the two inner axes varies fastest?",
            ),
            Misconception(
                "takes pixels that lie apart",
                _dilated,
                "Each patch is a thinned-out picture of the whole. When the height splits "
                "into two axes, the pixels inside a patch are the second of the two.",
            ),
        ),
        hints=(
            "Split height into (rows, size) and width into (columns, size) by one reshape.",
            "Then permute to (rows, columns, size, size, channels), then reshape again.",
            "image.reshape(C, H // size, size, W // size, size).permute(1, 3, 2, 4, 0)",
        ),
    ),
    Exercise(
        name="vit_parameters",
        chapter="vit",
        title="Count a Vision Transformer",
        difficulty=2,
        minutes=12,
        trains="counts a network from its description, to the last bias",
        reference=vit_parameters,
        inputs=_draw_sizes,
        properties=(Property("each layer adds as much", _layers_add_up),),
        misconceptions=(
            Misconception(
                "forgets the biases",
                _no_biases,
                "All linear maps here have a bias: the four of attention, the two of the "
                "feed-forward network, the patch embedding and the head.",
            ),
            Misconception(
                "gives [CLS] no position",
                _no_cls_position,
                "One vector of width d_model is missing: [CLS] has a position as the "
                "patches have, or the position was counted and the token itself was not.",
            ),
            Misconception(
                "forgets the layer norms",
                _no_norms,
                "There are two layer norms a layer and one at the end, each with a weight "
                "and a bias of width d_model.",
            ),
            Misconception(
                "takes a patch for a row of pixels",
                _patch_is_a_pixel_wide,
                "A patch has patch_size squared pixels, each with all its channels.",
            ),
            Misconception(
                "leaves out W_o",
                _three_maps,
                "Attention has four maps: queries, keys, values, and the one that mixes the "
                "heads.",
            ),
        ),
        hints=(
            "Patch embedding, [CLS], positions, layers, last norm, head: six summands.",
            "A layer: 4 (d + 1) d, (d + 1) f + (f + 1) d, and 4 d of its two norms.",
            "B/16 at 224 pixels and 1,000 classes comes out as 86,567,656.",
        ),
    ),
    Exercise(
        name="pool_patches",
        chapter="vit",
        title="One vector an image, without [CLS]",
        difficulty=1,
        minutes=4,
        trains="keeps special tokens out of an average",
        reference=pool_patches,
        inputs=_draw_states,
        properties=(
            Property(
                "what stands before the patches doesn't count", _blind_to_the_prefix
            ),
            Property("the order of the patches doesn't count", _order_of_patches),
        ),
        misconceptions=(
            Misconception(
                "averages the prefix, too",
                _mean_of_all,
                "[CLS] and its like are averaged with the patches. They are no part of the "
                "image.",
            ),
            Misconception(
                "takes the first token",
                _first_token,
                "That is the other way to do it: the state of [CLS]. Without a prefix it "
                "would be the patch in the upper left corner.",
            ),
            Misconception(
                "adds up",
                _sum_of_patches,
                "A sum grows with the number of patches, so an image of a higher resolution "
                "would have larger features.",
            ),
            Misconception(
                "leaves out one token always",
                _one_prefix_always,
                "It leaves out exactly one token. DeiT has two before the patches, and a "
                "model may have none.",
            ),
            Misconception(
                "cuts at the wrong end",
                _off_the_end,
                "It leaves out the last tokens instead of the first.",
            ),
        ),
        hints=(
            "Which axis holds the tokens?",
            "Cut off the first num_prefix tokens, then take the mean over the rest.",
            "states[:, num_prefix:].mean(dim=1)",
        ),
    ),
    Exercise(
        name="resize_positions",
        chapter="vit",
        title="Positions for another resolution",
        difficulty=3,
        minutes=12,
        trains="interpolates on the grid and leaves special tokens alone",
        reference=resize_positions,
        inputs=_draw_tables,
        properties=(
            Property("for the same grid the table is the same", _same_grid_same_table),
            Property("[CLS] keeps its position", _class_stays),
        ),
        tolerance=1e-4,
        misconceptions=(
            Misconception(
                "stretches the list instead of the grid",
                _as_a_line,
                "It interpolates along the list of patches, where the end of one row lies "
                "beside the start of the next. The patches lie in a grid: make it one.",
            ),
            Misconception(
                "puts [CLS] into the grid",
                _with_the_class,
                "The first row of the table belongs to [CLS] and has no place in the image. "
                "Cut it off before you make the grid.",
            ),
            Misconception(
                "copies the nearest",
                _nearest,
                "Several new places get the same vector and can't be told apart. Asked for "
                'is mode="bicubic".',
            ),
            Misconception(
                "mixes features and places",
                _reshaped_without_turning,
                "The patches are (places, features), and interpolate wants features in "
                "front. A reshape does not exchange axes; .T does.",
            ),
            Misconception(
                "loses [CLS]",
                _without_the_class,
                "The result has no row for [CLS] any more.",
            ),
            Misconception(
                "lines up the corners",
                _corners_aligned,
                "align_corners=True takes the vectors to stand at the corners of the image. "
                "They stand in the middle of their patches.",
            ),
        ),
        hints=(
            "F.interpolate resizes pictures of shape (batch, channels, height, width). Let "
            "the features be the channels.",
            "table[1:].T.reshape(1, -1, *old_grid) is that picture.",
            'F.interpolate(picture, new_grid, mode="bicubic"), then back: flatten(1).T',
        ),
    ),
    Exercise(
        name="rollout",
        chapter="vit",
        title="Attention rolled out",
        difficulty=3,
        minutes=12,
        trains="multiplies layers in the order in which information flows",
        reference=rollout,
        inputs=_draw_maps,
        properties=(
            Property("each row sums to 1", _rows_sum_to_one),
            Property(
                "where no layer mixes, nothing is mixed", _nothing_mixed_nothing_moved
            ),
        ),
        misconceptions=(
            Misconception(
                "forgets the residual connection",
                _no_residual,
                "It multiplies the maps as they are. But each layer adds its output to what "
                "was there: half of each row stays where it is.",
            ),
            Misconception(
                "multiplies in the wrong order",
                _wrong_order,
                "The first layer stands leftmost in its product. Its output is what the "
                "second one reads: A_2 A_1 x.",
            ),
            Misconception(
                "averages over layers",
                _mean_over_layers,
                "Layers come one after the other and not side by side: their matrices are "
                "multiplied.",
            ),
            Misconception(
                "looks at the last layer only",
                _last_layer_only,
                "The last layer's tokens are mixtures already. What it looks at says "
                "nothing about the pixels until the layers below are followed back.",
            ),
            Misconception(
                "adds the identity and doesn't halve",
                _residual_added,
                "Rows sum to 2, then to 4, 8, ...: take one half of each.",
            ),
        ),
        hints=(
            "Take the mean over the heads; what is left is one matrix a layer.",
            "Mix each with the identity, half and half, and multiply.",
            "total = (0.5 * weights + 0.5 * identity) @ total, from the first layer on",
        ),
    ),
    Exercise(
        name="hard_distillation",
        chapter="vit",
        title="Learn from labels and from a teacher",
        difficulty=2,
        minutes=8,
        trains="gives each of two heads the target that is its own",
        reference=hard_distillation,
        inputs=_draw_distillation,
        properties=(
            Property(
                "of the teacher only its choice counts, not how sure it is",
                _only_its_choice_counts,
            ),
        ),
        misconceptions=(
            Misconception(
                "learns the teacher's probabilities",
                _teacher_as_probabilities,
                "That is soft distillation at temperature 1. In the hard one the teacher "
                "names one class, by its argmax.",
            ),
            Misconception(
                "exchanges the heads",
                _heads_exchanged,
                "The head of [CLS] learns from the teacher here, and the head of [DIST] "
                "from the labels.",
            ),
            Misconception(
                "does not ask the teacher",
                _both_learn_labels,
                "Both heads learn the labels. Then the second token has nothing of its own "
                "to learn.",
            ),
            Misconception(
                "averages the heads before the loss",
                _mean_of_the_heads,
                "The mean of both is for prediction. In training each head has its own "
                "target.",
            ),
            Misconception(
                "adds up instead of halving",
                _not_halved,
                "Equation 3 takes one half of each part.",
            ),
        ),
        hints=(
            "Two cross-entropies, one a head.",
            "The teacher's label is teacher.argmax(dim=1).",
            "Half of F.cross_entropy(class_logits, labels), half of the other one.",
        ),
    ),
)
