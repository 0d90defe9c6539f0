"""Windows, the mask of shifted windows, the relative bias: against loops and whole attention."""

from __future__ import annotations

import pytest
import torch

from companion import MultiHeadAttention, fused_attention
from companion.layers.windows import (
    WindowRelativeBias,
    relative_index,
    shifted_window_mask,
    window_partition,
    window_reverse,
)


def test_windows_come_row_by_row_and_so_do_their_tokens():
    x = torch.arange(24.0).reshape(1, 4, 6, 1)
    windows = window_partition(x, 2)[..., 0]
    assert windows.tolist() == [
        [0, 1, 6, 7],
        [2, 3, 8, 9],
        [4, 5, 10, 11],
        [12, 13, 18, 19],
        [14, 15, 20, 21],
        [16, 17, 22, 23],
    ]


@pytest.mark.parametrize(
    ("height", "width", "window"), [(4, 6, 2), (3, 9, 3), (5, 5, 5)]
)
def test_reverse_is_the_inverse(height, width, window):
    torch.manual_seed(0)
    x = torch.randn(3, height, width, 5)
    windows = window_partition(x, window)
    assert windows.shape == (3 * height * width // window**2, window**2, 5)
    assert torch.equal(window_reverse(windows, window, height, width), x)


def test_examples_keep_apart():
    x = torch.randn(2, 4, 4, 3)
    assert torch.equal(window_partition(x, 2)[4:], window_partition(x[1:], 2))


@pytest.mark.parametrize(
    ("height", "width", "window", "shift"),
    [(4, 6, 2, 1), (6, 6, 3, 1), (6, 3, 3, 2), (8, 4, 4, 2), (4, 4, 2, 0)],
)
def test_mask_hides_what_the_roll_brought_together(height, width, window, shift):
    """By the loop: seen is who was no further away than a window before the roll."""
    mask = shifted_window_mask(height, width, window, shift)
    place = torch.stack(
        torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"), dim=-1
    )
    rolled = place[None].roll((-shift, -shift), dims=(1, 2))
    windows = window_partition(rolled, window)  # (windows, tokens, 2)
    for seen, places in zip(mask[:, 0], windows, strict=True):
        for q, (row, column) in enumerate(places.tolist()):
            for k, (other_row, other_column) in enumerate(places.tolist()):
                # In the window, but for the cyclic roll: before the shift or behind it.
                same_way = (row < shift) == (other_row < shift) or shift == 0
                same_way &= (column < shift) == (other_column < shift) or shift == 0
                # A window that does not wrap has nobody on the other side.
                near = abs(row - other_row) < window
                near &= abs(column - other_column) < window
                assert seen[q, k].item() == (same_way and near)


def test_shifted_windows_are_whole_attention_under_a_mask():
    """Roll, cut, attend under the mask, put back: the same as one big masked attention."""
    torch.manual_seed(0)
    height, width, window, shift = 6, 9, 3, 1
    q, k, v = torch.randn(3, 2, height, width, 8, dtype=torch.float64)

    def cut(x):
        return window_partition(x.roll((-shift, -shift), dims=(1, 2)), window)

    mask = shifted_window_mask(height, width, window, shift).repeat(2, 1, 1, 1)
    small = fused_attention(*(cut(x)[:, None] for x in (q, k, v)), mask)[:, 0]
    small = window_reverse(small, window, height, width)
    small = small.roll((shift, shift), dims=(1, 2))

    # Borders every `window` tokens from `shift` on; before the first there is a part, too.
    row = (torch.arange(height) + window - shift) // window
    column = (torch.arange(width) + window - shift) // window
    part = (100 * row[:, None] + column).flatten()
    whole = fused_attention(
        *(x.flatten(1, 2) for x in (q, k, v)), part[:, None] == part
    )
    torch.testing.assert_close(small.flatten(1, 2), whole, atol=1e-12, rtol=0)


def test_mask_without_a_shift_hides_nothing():
    assert shifted_window_mask(4, 6, 2, 0).all()
    assert shifted_window_mask(4, 6, 2, 0).shape == (6, 1, 4, 4)


def test_mask_obeys_the_rule_and_every_query_sees_itself():
    mask = shifted_window_mask(6, 6, 3, 1)
    assert mask.dtype == torch.bool
    assert mask.diagonal(dim1=-2, dim2=-1).all()
    assert torch.equal(mask, mask.transpose(-2, -1))
    layer = MultiHeadAttention(8, 2)
    output, weights = layer(torch.randn(4, 9, 8), mask=mask)
    assert (weights.masked_select(~mask.expand_as(weights)) == 0).all()
    assert output.shape == (4, 9, 8)


def test_index_is_one_for_each_offset():
    window = 3
    index = relative_index(window)
    assert index.unique().tolist() == list(range((2 * window - 1) ** 2))
    offsets: dict[int, tuple[int, int]] = {}
    for q in range(9):
        for k in range(9):
            offset = (q // 3 - k // 3, q % 3 - k % 3)
            assert offsets.setdefault(index[q, k].item(), offset) == offset
    ordered = [offsets[i] for i in sorted(offsets)]
    assert ordered == sorted(ordered)


def test_bias_depends_on_the_offset_only():
    torch.manual_seed(0)
    bias = WindowRelativeBias(3, 4)
    values = bias()
    assert values.shape == (1, 3, 16, 16)
    grid = values[0, 0].reshape(4, 4, 4, 4)  # query row, column, key row, column
    moved = grid[1:, 1:, 1:, 1:]  # both moved down and right by one
    assert torch.equal(grid[:-1, :-1, :-1, :-1], moved)
    assert not torch.equal(values, values.transpose(-2, -1))  # direction counts


def test_a_smaller_window_takes_the_middle_of_the_table():
    torch.manual_seed(0)
    bias = WindowRelativeBias(2, 4)
    small = bias(2)
    whole = bias()[0].reshape(2, 4, 4, 4, 4)[:, :2, :2, :2, :2].reshape(1, 2, 4, 4)
    assert torch.equal(small, whole)
    with pytest.raises(ValueError, match="window must be from 1 to 4, but it is 5"):
        bias(5)


def test_bias_learns():
    bias = WindowRelativeBias(2, 3)
    bias().sum().backward()
    counts = bias.table.grad[:, 0].reshape(5, 5)  # how many pairs have each offset
    assert counts[2, 2] == 9 and counts[0, 0] == 1 and counts.sum() == 81


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: window_partition(torch.zeros(1, 4, 5, 2), 2), "window must divide"),
        (lambda: window_partition(torch.zeros(1, 4, 4, 2), 0), "but it is 0"),
        (lambda: window_partition(torch.zeros(4, 4, 2), 2), "(batch, height, width"),
        (lambda: window_reverse(torch.zeros(3, 4, 2), 2, 4, 4), "batch * 4"),
        (lambda: window_reverse(torch.zeros(4, 9, 2), 2, 4, 4), "batch * 4, 4"),
        (lambda: shifted_window_mask(4, 4, 2, 2), "from 0 to window - 1 = 1"),
        (lambda: shifted_window_mask(4, 4, 2, -1), "but it is -1"),
        (lambda: shifted_window_mask(4, 5, 2, 1), "they are 4 and 5"),
        (lambda: WindowRelativeBias(2, 0), "window must be from 1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(call, says):
    with pytest.raises(ValueError) as raised:
        call()
    assert says in str(raised.value)
