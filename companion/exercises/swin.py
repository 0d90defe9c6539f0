"""Exercises of the chapter on Swin."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from companion.exercises.exercise import Exercise, Inputs, Misconception, Property

# Cut a grid into windows


def cut_windows(
    grid: Float[Tensor, "height width d_model"], window: int
) -> Float[Tensor, "windows tokens d_model"]:
    height, width, d_model = grid.shape
    x = grid.reshape(height // window, window, width // window, window, d_model)
    return x.transpose(1, 2).reshape(-1, window * window, d_model)


def _strips(grid: Tensor, window: int) -> Tensor:
    return grid.reshape(-1, window * window, grid.shape[-1])


def _windows_by_column(grid: Tensor, window: int) -> Tensor:
    height, width, d_model = grid.shape
    x = grid.reshape(height // window, window, width // window, window, d_model)
    return x.permute(2, 0, 1, 3, 4).reshape(-1, window * window, d_model)


def _tokens_by_column(grid: Tensor, window: int) -> Tensor:
    height, width, d_model = grid.shape
    x = grid.reshape(height // window, window, width // window, window, d_model)
    return x.permute(0, 2, 3, 1, 4).reshape(-1, window * window, d_model)


def _dilated(grid: Tensor, window: int) -> Tensor:
    height, width, d_model = grid.shape
    x = grid.reshape(window, height // window, window, width // window, d_model)
    return x.permute(1, 3, 0, 2, 4).reshape(-1, window * window, d_model)


def _draw_grids(generator: Generator) -> list[Inputs]:
    return [
        (torch.randn(size, generator=generator), window)
        for size, window in (((4, 6, 2), 2), ((6, 9, 1), 3), ((8, 4, 3), 2))
    ]


def _first_is_the_corner(answer, inputs: Inputs) -> bool:
    grid, window = inputs
    return torch.equal(answer(grid, window)[0], grid[:window, :window].flatten(0, 1))


# The mask of shifted windows


def wrapped_mask(
    height: int, width: int, window: int, shift: int
) -> Bool[Tensor, "windows tokens tokens"]:
    down = torch.arange(height) >= height - shift
    right = torch.arange(width) >= width - shift
    came = 2 * down.long()[:, None] + right  # 0 to 3: who came around, and how
    came = cut_windows(came[..., None], window)[..., 0]  # (windows, tokens)
    return came[:, :, None] == came[:, None, :]


def _rows_only(height: int, width: int, window: int, shift: int) -> Tensor:
    down = torch.arange(height) >= height - shift
    came = down.long()[:, None].expand(height, width)
    came = cut_windows(came[..., None], window)[..., 0]
    return came[:, :, None] == came[:, None, :]


def _at_the_start(height: int, width: int, window: int, shift: int) -> Tensor:
    down, right = torch.arange(height) < shift, torch.arange(width) < shift
    came = 2 * down.long()[:, None] + right
    came = cut_windows(came[..., None], window)[..., 0]
    return came[:, :, None] == came[:, None, :]


def _hidden_is_true(height: int, width: int, window: int, shift: int) -> Tensor:
    return ~wrapped_mask(height, width, window, shift)


def _around_or_not(height: int, width: int, window: int, shift: int) -> Tensor:
    down = torch.arange(height) >= height - shift
    right = torch.arange(width) >= width - shift
    came = (down[:, None] | right).long()
    came = cut_windows(came[..., None], window)[..., 0]
    return came[:, :, None] == came[:, None, :]


def _hides_the_wrapped(height: int, width: int, window: int, shift: int) -> Tensor:
    down = torch.arange(height) >= height - shift
    right = torch.arange(width) >= width - shift
    stayed = ~(down[:, None] | right)
    stayed = cut_windows(stayed[..., None], window)[..., 0]
    return stayed[:, None, :].expand(-1, stayed.shape[1], -1).clone()


def _draw_masks(generator: Generator) -> list[Inputs]:
    return [(4, 4, 2, 1), (6, 3, 3, 1), (4, 8, 4, 2), (6, 6, 3, 2)]


def _sees_itself(answer, inputs: Inputs) -> bool:
    return bool(answer(*inputs).diagonal(dim1=1, dim2=2).all())


def _nothing_hidden_without_shift(answer, inputs: Inputs) -> bool:
    height, width, window, _ = inputs
    return bool(answer(height, width, window, 0).all())


# The relative bias


def bias_of_window(
    table: Float[Tensor, "offsets heads"], window: int
) -> Float[Tensor, "heads tokens tokens"]:
    place = torch.arange(window)
    row, column = place.repeat_interleave(window), place.repeat(window)
    down = row[:, None] - row + window - 1  # query minus key, from 0 on
    right = column[:, None] - column + window - 1
    return table[down * (2 * window - 1) + right].permute(2, 0, 1)


def _key_minus_query(table: Tensor, window: int) -> Tensor:
    return bias_of_window(table, window).transpose(1, 2)


def _indexed(table: Tensor, window: int, stride: int, start: int) -> Tensor:
    place = torch.arange(window)
    row, column = place.repeat_interleave(window), place.repeat(window)
    down = row[:, None] - row + start
    right = column[:, None] - column + start
    return table[down * stride + right].permute(2, 0, 1)


def _stride_of_window(table: Tensor, window: int) -> Tensor:
    return _indexed(table, window, window, window - 1)


def _negative_offsets(table: Tensor, window: int) -> Tensor:
    return _indexed(table, window, 2 * window - 1, 0)


def _columns_first(table: Tensor, window: int) -> Tensor:
    side = 2 * window - 1
    turned = table.reshape(side, side, -1).transpose(0, 1).reshape(side * side, -1)
    return bias_of_window(turned, window)


def _distances(table: Tensor, window: int) -> Tensor:
    place = torch.arange(window)
    row, column = place.repeat_interleave(window), place.repeat(window)
    down, right = (row[:, None] - row).abs(), (column[:, None] - column).abs()
    start = window - 1
    return table[(down + start) * (2 * window - 1) + right + start].permute(2, 0, 1)


def _draw_tables(generator: Generator) -> list[Inputs]:
    return [
        (torch.randn((2 * window - 1) ** 2, heads, generator=generator), window)
        for window, heads in ((2, 1), (3, 2), (4, 3))
    ]


def _same_offset_same_bias(answer, inputs: Inputs) -> bool:
    table, window = inputs
    bias = answer(table, window).reshape(-1, window, window, window, window)
    return torch.equal(bias[:, 1:, 1:, 1:, 1:], bias[:, :-1, :-1, :-1, :-1])


def _middle_is_itself(answer, inputs: Inputs) -> bool:
    table, window = inputs
    own = answer(table, window).diagonal(dim1=1, dim2=2)  # (heads, tokens)
    middle = table[len(table) // 2]
    return torch.equal(own, middle[:, None].expand_as(own))


# Attention in shifted windows


def attend_in_shifted_windows(
    grid: Float[Tensor, "height width d_model"], window: int, shift: int
) -> Float[Tensor, "height width d_model"]:
    height, width, d_model = grid.shape
    x = cut_windows(grid.roll((-shift, -shift), dims=(0, 1)), window)
    scores = x @ x.transpose(1, 2) / math.sqrt(d_model)  # (windows, tokens, tokens)
    mask = wrapped_mask(height, width, window, shift).to(x.device)
    x = scores.masked_fill(~mask, -math.inf).softmax(dim=-1) @ x
    x = x.reshape(height // window, width // window, window, window, d_model)
    x = x.transpose(1, 2).reshape(height, width, d_model)
    return x.roll((shift, shift), dims=(0, 1))


def _attend(
    grid: Tensor,
    window: int,
    shift: int,
    *,
    direction: int = -1,
    back: bool = True,
    masked: bool = True,
) -> Tensor:
    height, width, d_model = grid.shape
    rolled = grid.roll((direction * shift, direction * shift), dims=(0, 1))
    x = cut_windows(rolled, window)  # (windows, tokens, D)
    scores = x @ x.transpose(1, 2) / math.sqrt(d_model)
    if masked:
        mask = wrapped_mask(height, width, window, shift).to(x.device)
        scores = scores.masked_fill(~mask, -math.inf)
    x = scores.softmax(dim=-1) @ x
    x = x.reshape(height // window, width // window, window, window, d_model)
    x = x.transpose(1, 2).reshape(height, width, d_model)
    return x.roll((-direction * shift,) * 2, dims=(0, 1)) if back else x


def _no_mask(grid: Tensor, window: int, shift: int) -> Tensor:
    return _attend(grid, window, shift, masked=False)


def _stays_rolled(grid: Tensor, window: int, shift: int) -> Tensor:
    return _attend(grid, window, shift, back=False)


def _rolls_the_other_way(grid: Tensor, window: int, shift: int) -> Tensor:
    return _attend(grid, window, shift, direction=1)


def _not_shifted(grid: Tensor, window: int, shift: int) -> Tensor:
    return _attend(grid, window, 0)


def _adds_minus_one(grid: Tensor, window: int, shift: int) -> Tensor:
    """A boolean mask that is added to the scores as if it were a bias."""
    height, width, d_model = grid.shape
    x = cut_windows(grid.roll((-shift, -shift), dims=(0, 1)), window)
    mask = wrapped_mask(height, width, window, shift).to(x)
    x = (x @ x.transpose(1, 2) / math.sqrt(d_model) + mask).softmax(dim=-1) @ x
    x = x.reshape(height // window, width // window, window, window, d_model)
    x = x.transpose(1, 2).reshape(height, width, d_model)
    return x.roll((shift, shift), dims=(0, 1))


def _draw_shifted(generator: Generator) -> list[Inputs]:
    return [
        (torch.randn(size, generator=generator), window, shift)
        for size, window, shift in (((4, 6, 3), 2, 1), ((6, 9, 5), 3, 1))
    ]


def _edges_stay_apart(answer, inputs: Inputs) -> bool:
    """The last row and column don't change what comes out in the first corner."""
    grid, window, shift = inputs
    changed = grid.clone()
    changed[-1] += 1.0
    changed[:, -1] += 1.0
    before, after = answer(grid, window, shift), answer(changed, window, shift)
    return torch.allclose(before[0, 0], after[0, 0], atol=1e-5)


def _crosses_the_border(answer, inputs: Inputs) -> bool:
    """A token left of an old border sees the one on its right."""
    grid, window, shift = inputs
    changed = grid.clone()
    changed[window, window] += 1.0
    before, after = answer(grid, window, shift), answer(changed, window, shift)
    return not torch.allclose(
        before[window - 1, window - 1], after[window - 1, window - 1]
    )


# Patch merging


def merge_neighbors(
    grid: Float[Tensor, "height width d_model"],
) -> Float[Tensor, "half_height half_width four_d"]:
    corners = [grid[row::2, column::2] for column in (0, 1) for row in (0, 1)]
    return torch.cat(corners, dim=-1)


def _right_before_down(grid: Tensor) -> Tensor:
    corners = [grid[row::2, column::2] for row in (0, 1) for column in (0, 1)]
    return torch.cat(corners, dim=-1)


def _quarters(grid: Tensor) -> Tensor:
    h, w = grid.shape[0] // 2, grid.shape[1] // 2
    return torch.cat([grid[:h, :w], grid[h:, :w], grid[:h, w:], grid[h:, w:]], dim=-1)


def _averaged(grid: Tensor) -> Tensor:
    corners = merge_neighbors(grid).chunk(4, dim=-1)
    return sum(corners) / 4


def _four_in_a_row(grid: Tensor) -> Tensor:
    height, width, d_model = grid.shape
    return grid.reshape(height // 2, width // 2, 4 * d_model)


def _draw_even_grids(generator: Generator) -> list[Inputs]:
    sizes = ((2, 2, 1), (4, 6, 2), (6, 4, 3))
    return [(torch.randn(size, generator=generator),) for size in sizes]


def _nothing_is_lost(answer, inputs: Inputs) -> bool:
    merged, grid = answer(*inputs), inputs[0]
    return torch.equal(merged.flatten().sort().values, grid.flatten().sort().values)


# What windows cost


def window_attention_cost(height: int, width: int, d_model: int, window: int) -> int:
    tokens = height * width
    return 4 * tokens * d_model**2 + 2 * window**2 * tokens * d_model


def _among_all(height: int, width: int, d_model: int, window: int) -> int:
    tokens = height * width
    return 4 * tokens * d_model**2 + 2 * tokens**2 * d_model


def _one_window(height: int, width: int, d_model: int, window: int) -> int:
    return window_attention_cost(window, window, d_model, window)


def _side_for_area(height: int, width: int, d_model: int, window: int) -> int:
    tokens = height * width
    return 4 * tokens * d_model**2 + 2 * window * tokens * d_model


def _without_output_map(height: int, width: int, d_model: int, window: int) -> int:
    tokens = height * width
    return 3 * tokens * d_model**2 + 2 * window**2 * tokens * d_model


def _scores_alone(height: int, width: int, d_model: int, window: int) -> int:
    tokens = height * width
    return 4 * tokens * d_model**2 + window**2 * tokens * d_model


def _without_maps(height: int, width: int, d_model: int, window: int) -> int:
    return 2 * window**2 * height * width * d_model


def _draw_sizes(generator: Generator) -> list[Inputs]:
    return [(4, 4, 3, 2), (6, 9, 5, 3), (56, 56, 96, 7)]


def _twice_as_high_twice_as_dear(answer, inputs: Inputs) -> bool:
    height, width, d_model, window = inputs
    once = answer(height, width, d_model, window)
    return answer(2 * height, width, d_model, window) == 2 * once


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="cut_windows",
        chapter="swin",
        title="Cut a grid into windows",
        difficulty=2,
        minutes=10,
        trains="reorders a grid so that near places lie together",
        reference=cut_windows,
        inputs=_draw_grids,
        properties=(
            Property(
                "the first window is the upper left corner, row by row",
                _first_is_the_corner,
            ),
        ),
        misconceptions=(
            Misconception(
                "cuts strips",
                _strips,
                "A reshape alone takes tokens in the order in which they lie in memory: "
                "along the rows of the whole grid. A window wants `window` of them from "
                "each of its rows. An axis has to change places in between.",
            ),
            Misconception(
                "orders the windows by columns",
                _windows_by_column,
                "The windows are right, their order is not: it goes down first. Asked for "
                "is row by row.",
            ),
            Misconception(
                "orders the tokens by columns",
                _tokens_by_column,
                "Each window is transposed: its tokens come column by column. The relative "
                "bias would then be read sideways.",
            ),
            Misconception(
                "takes every n-th token",
                _dilated,
                "The tokens of one window are spread over the whole grid. When an axis of "
                "height is split, the first new axis counts windows and the second the "
                "places within one.",
            ),
        ),
        hints=(
            "Split each of the two axes in two: which window, and which place in it.",
            "(rows, window, columns, window, d): which two axes must change places?",
            "Transpose axes 1 and 2, then reshape to (-1, window * window, d).",
        ),
    ),
    Exercise(
        name="wrapped_mask",
        chapter="swin",
        title="The mask of shifted windows",
        difficulty=4,
        minutes=20,
        trains="finds the neighbors that only a roll has made",
        reference=wrapped_mask,
        inputs=_draw_masks,
        properties=(
            Property("every token sees itself", _sees_itself),
            Property(
                "without a shift nothing is hidden", _nothing_hidden_without_shift
            ),
        ),
        misconceptions=(
            Misconception(
                "looks at the rows only",
                _rows_only,
                "It keeps the top and the bottom of the picture apart, but not its left "
                "and its right. The roll goes both ways.",
            ),
            Misconception(
                "marks the first rows instead of the last",
                _at_the_start,
                "After a roll up and left, what came around is at the end: the last "
                "`shift` rows and columns. It marks the first ones.",
            ),
            Misconception(
                "marks what is hidden",
                _hidden_is_true,
                "True and False are exchanged. In this book True means may attend.",
            ),
            Misconception(
                "puts all that came around together",
                _around_or_not,
                "It knows two sorts of tokens, those that came around and those that did "
                "not. In the last window there are four: what came from above is no "
                "neighbor of what came from the left.",
            ),
            Misconception(
                "hides what came around from everybody",
                _hides_the_wrapped,
                "Nobody sees a token that came around, not even itself. Such tokens are "
                "neighbors of each other: they may see each other.",
            ),
        ),
        hints=(
            "Give each place of the rolled grid a number that says how it came there.",
            "Rows from height - shift on came around, and so did columns from width - "
            "shift on: 2 * down + right.",
            "Cut these numbers into windows; two tokens may see each other where their "
            "numbers are equal.",
        ),
    ),
    Exercise(
        name="attend_in_shifted_windows",
        chapter="swin",
        title="Attention in shifted windows",
        difficulty=3,
        minutes=20,
        trains="puts shift, mask and shift back in order",
        reference=attend_in_shifted_windows,
        inputs=_draw_shifted,
        properties=(
            Property(
                "the last row and column are not seen from the first corner",
                _edges_stay_apart,
            ),
            Property(
                "tokens see across the border of the unshifted windows",
                _crosses_the_border,
            ),
        ),
        misconceptions=(
            Misconception(
                "forgets the mask",
                _no_mask,
                "The sky looks at the grass: tokens from opposite edges of the picture "
                "share a window after the roll, and nothing keeps them apart.",
            ),
            Misconception(
                "does not roll back",
                _stays_rolled,
                "The output is moved by `shift` against the input. The residual connection "
                "would add a token to its neighbor.",
            ),
            Misconception(
                "rolls the other way",
                _rolls_the_other_way,
                "It rolls down and right, and then hides the last rows and columns, where "
                "nothing came around. Roll up and left: by -shift.",
            ),
            Misconception(
                "does not shift",
                _not_shifted,
                "These are the plain windows. Roll the grid before it is cut.",
            ),
            Misconception(
                "adds a boolean mask to the scores",
                _adds_minus_one,
                "True counts as 1 and False as 0, so that hidden keys lose a little and "
                "stay visible. Fill their scores with -inf.",
            ),
        ),
        hints=(
            "Roll, cut, attend under the mask, put back, roll back.",
            "torch.roll(grid, (-shift, -shift), dims=(0, 1)) brings the first rows to the "
            "end.",
            "window_partition, shifted_window_mask and window_reverse do three of the five "
            "steps; they want a batch axis.",
        ),
    ),
    Exercise(
        name="bias_of_window",
        chapter="swin",
        title="The relative bias of a window",
        difficulty=3,
        minutes=15,
        trains="turns offsets in two directions into rows of one table",
        reference=bias_of_window,
        inputs=_draw_tables,
        properties=(
            Property(
                "pairs with the same offset have the same bias", _same_offset_same_bias
            ),
            Property(
                "a token's bias to itself is the middle of the table", _middle_is_itself
            ),
        ),
        misconceptions=(
            Misconception(
                "takes key minus query",
                _key_minus_query,
                "It comes out transposed: the offset is counted from the query to the key. "
                "The table is ordered by query minus key.",
            ),
            Misconception(
                "steps by the window",
                _stride_of_window,
                "A row of offsets in the table is not as long as a window: from -(M - 1) "
                "to M - 1 there are 2 M - 1 of them. Different offsets share a row of the "
                "table now.",
            ),
            Misconception(
                "uses negative offsets as they are",
                _negative_offsets,
                "Offsets run from -(M - 1) on and a table from 0 on. Python takes a "
                "negative index without a word, from the end.",
            ),
            Misconception(
                "exchanges rows and columns",
                _columns_first,
                "The offset down and the offset to the right are exchanged. The table runs "
                "through all offsets to the right before it goes on to the next down.",
            ),
            Misconception(
                "takes distances",
                _distances,
                "Up and down share a number, and so do left and right. The table has one "
                "for each direction.",
            ),
        ),
        hints=(
            "For each of the M^2 tokens, write down its row and its column in the window.",
            "The offsets are row[:, None] - row and column[:, None] - column; add M - 1.",
            "down * (2 * M - 1) + right is the row of the table; then the heads go in front.",
        ),
    ),
    Exercise(
        name="merge_neighbors",
        chapter="swin",
        title="Four neighbors become one token",
        difficulty=2,
        minutes=8,
        trains="halves a resolution without losing a number",
        reference=merge_neighbors,
        inputs=_draw_even_grids,
        properties=(
            Property("every number of the grid is still there", _nothing_is_lost),
        ),
        misconceptions=(
            Misconception(
                "goes right before it goes down",
                _right_before_down,
                "The neighbors are right, in another order than the authors': down first. "
                "Trained from scratch it would not matter; with their weights it does.",
            ),
            Misconception(
                "stacks the quarters of the picture",
                _quarters,
                "It lays the four quarters of the picture on top of each other: tokens that "
                "are half a picture apart. Neighbors are every second token, from 0 or 1 on.",
            ),
            Misconception(
                "averages",
                _averaged,
                "That is pooling: where an edge lay among the four is lost. Merging keeps "
                "all numbers and lets a matrix choose.",
            ),
            Misconception(
                "takes four in a row",
                _four_in_a_row,
                "A reshape alone joins tokens along a row. The four are a square of two by "
                "two.",
            ),
        ),
        hints=(
            "grid[0::2, 0::2] is the upper left one of each four.",
            "The order: (0, 0), (1, 0), (0, 1), (1, 1), as (row, column).",
            "Concatenate the four along the last axis.",
        ),
    ),
    Exercise(
        name="window_attention_cost",
        chapter="swin",
        title="What attention in windows costs",
        difficulty=2,
        minutes=8,
        trains="predicts how a cost grows with picture and window",
        reference=window_attention_cost,
        inputs=_draw_sizes,
        properties=(
            Property(
                "twice as high a picture costs twice as much",
                _twice_as_high_twice_as_dear,
            ),
        ),
        misconceptions=(
            Misconception(
                "lets every token see all",
                _among_all,
                "That is equation 1, attention among all tokens. In a window a query has "
                "window^2 keys.",
            ),
            Misconception(
                "counts one window",
                _one_window,
                "It counts one window. How many are there on the grid?",
            ),
            Misconception(
                "takes the side for the area",
                _side_for_area,
                "It gives a query `window` keys. A window is a square.",
            ),
            Misconception(
                "forgets the output map",
                _without_output_map,
                "Three maps lead to queries, keys and values. A fourth, W_o, mixes the "
                "heads.",
            ),
            Misconception(
                "counts the scores only",
                _scores_alone,
                "A pair costs d for its score and d for its share of the value.",
            ),
            Misconception(
                "forgets the projections",
                _without_maps,
                "It counts pairs only. Each token also goes through four d by d matrices.",
            ),
        ),
        hints=(
            "Four maps for each token, then two sums of d products for each pair.",
            "There are height * width queries with window^2 keys each.",
            "4 n d^2 + 2 window^2 n d, for n = height * width.",
        ),
    ),
)
