"""Windows of a grid of tokens: cut, put back, shifted with their mask, and with a learned bias.

A grid is ``(batch, height, width, d_model)``. Its windows are squares of ``window`` by
``window`` tokens, side by side and row by row, and become the batch of an attention.

Source: Liu et al. (2021), "Swin Transformer: Hierarchical Vision Transformer using Shifted
Windows", section 3.2, figures 2 and 4, equation 4.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


def window_partition(
    x: Float[Tensor, "batch height width d_model"], window: int
) -> Float[Tensor, "batch_windows tokens d_model"]:
    """Cut each grid into windows: all windows of the first example, then of the second, ...

    The ``window ** 2`` tokens of a window are in the order of its rows.

    Raises:
        ValueError: ``x`` doesn't have four axes, or ``window`` does not divide the height
            and the width.
    """
    if x.ndim != 4:
        raise ValueError(
            "x must have shape (batch, height, width, d_model), but it has shape "
            f"{tuple(x.shape)}"
        )
    batch, height, width, d_model = x.shape
    rows, columns = windows_of(height, width, window)
    x = x.reshape(batch, rows, window, columns, window, d_model)
    x = x.transpose(2, 3)  # (B, rows, columns, M, M, D)
    return x.reshape(batch * rows * columns, window * window, d_model)


def window_reverse(
    windows: Float[Tensor, "batch_windows tokens d_model"],
    window: int,
    height: int,
    width: int,
) -> Float[Tensor, "batch height width d_model"]:
    """Put the windows of `window_partition` back in their places: its inverse.

    Raises:
        ValueError: the windows don't fill grids of that height and width.
    """
    rows, columns = windows_of(height, width, window)
    count, tokens, d_model = windows.shape
    if count % (rows * columns) or tokens != window * window:
        raise ValueError(
            f"windows must have shape (batch * {rows * columns}, {window * window}, "
            f"d_model), but it has shape {tuple(windows.shape)}"
        )
    x = windows.reshape(-1, rows, columns, window, window, d_model)
    x = x.transpose(2, 3)  # (B, rows, M, columns, M, D)
    return x.reshape(-1, height, width, d_model)


def windows_of(height: int, width: int, window: int) -> tuple[int, int]:
    """How many windows there are from top to bottom and from left to right.

    Raises:
        ValueError: ``window`` is not positive or does not divide both.
    """
    if window < 1 or height < 1 or width < 1 or height % window or width % window:
        raise ValueError(
            f"window must divide the height and the width of the grid, but it is {window} "
            f"and they are {height} and {width}"
        )
    return height // window, width // window


def shifted_window_mask(
    height: int,
    width: int,
    window: int,
    shift: int,
    *,
    device: torch.device | str | None = None,
) -> Bool[Tensor, "windows 1 tokens tokens"]:
    """Which tokens of a shifted window may see each other: those that were neighbors before.

    The grid has been rolled up and left by ``shift`` tokens. Then its last windows, below
    and on the right, hold tokens that the roll brought there from the other side. A token
    sees those tokens of its window that came the same way as itself.

    >>> shifted_window_mask(2, 4, window=2, shift=1)[0, 0].int()  # the window on the left
    tensor([[1, 1, 0, 0],
            [1, 1, 0, 0],
            [0, 0, 1, 1],
            [0, 0, 1, 1]], dtype=torch.int32)

    Args:
        height, width: of the grid, in tokens.
        window: side of a window; it divides both.
        shift: from 0, where all is seen, to ``window - 1``.
        device: where the mask is made.

    Returns:
        A mask for each window, True = may attend, with an axis of size 1 for the heads.

    Raises:
        ValueError: the sizes don't fit each other.
    """
    rows, columns = windows_of(height, width, window)
    if not 0 <= shift < window:
        raise ValueError(
            f"shift must be from 0 to window - 1 = {window - 1}, but it is {shift}"
        )
    came_down = torch.arange(height, device=device) >= height - shift
    came_right = torch.arange(width, device=device) >= width - shift
    region = 2 * came_down[:, None] + came_right  # (height, width), from 0 to 3
    region = region.reshape(rows, window, columns, window).transpose(1, 2)
    region = region.reshape(rows * columns, 1, window * window)  # (windows, 1, M^2)
    return region[..., :, None] == region[..., None, :]


def relative_index(
    window: int, table_window: int | None = None
) -> Int[Tensor, "tokens tokens"]:
    """For each query (row) and key (column) of a window, where their offset is in the table.

    The table has a row for each offset (rows down, columns right) of query minus key,
    from -(M - 1) to M - 1 each, in the order of the offsets.

    >>> relative_index(2)  # of 9 offsets; 4 is (0, 0)
    tensor([[4, 3, 1, 0],
            [5, 4, 2, 1],
            [7, 6, 4, 3],
            [8, 7, 5, 4]])

    Args:
        window: side of the window.
        table_window: the M of the table; ``window`` by default. A smaller window finds all
            its offsets in the table of a larger one.

    Raises:
        ValueError: the window is not from 1 to ``table_window``.
    """
    M = window if table_window is None else table_window
    if not 1 <= window <= M:
        raise ValueError(f"window must be from 1 to {M}, but it is {window}")
    place = torch.arange(window)
    row, column = place.repeat_interleave(window), place.repeat(window)  # (M^2,)
    down, right = row[:, None] - row, column[:, None] - column  # query minus key
    return (down + M - 1) * (2 * M - 1) + right + M - 1


class WindowRelativeBias(nn.Module):
    """A learned number for each head and offset within a window (equation 4, the B).

    Args:
        num_heads: number of attention heads.
        window: side of the window M. The table has ``(2 M - 1) ** 2`` rows.

    Raises:
        ValueError: the window is not positive.
    """

    def __init__(self, num_heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        index = relative_index(window)  # refuses a window below 1
        self.register_buffer("index", index, persistent=False)
        self.table = nn.Parameter(torch.empty((2 * window - 1) ** 2, num_heads))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(
        self, window: int | None = None
    ) -> Float[Tensor, "1 heads tokens tokens"]:
        """The ``bias`` of an attention within a window, by default of the largest.

        Raises:
            ValueError: the window is larger than the table's.
        """
        index = self.index
        if window is not None and window != self.window:
            index = relative_index(window, self.window).to(self.table.device)
        return self.table[index].permute(2, 0, 1)[None]  # (L, L, H) -> (1, H, L, L)
