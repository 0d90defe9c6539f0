"""The window explorer's rules, from Python; against the model they are in test_swin.py."""

from __future__ import annotations

import numpy as np
import pytest

from companion import shifted_window_mask, window_partition
from companion.figures import WindowExplorer


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize(("size", "window"), [(16, 4), (6, 3), (14, 7)])
def test_groups_are_the_windows_of_the_layer(size, window, mask):
    """The second block's groups: tokens of one window that the mask lets see each other."""
    import torch

    figure = WindowExplorer(2, mask=mask, size=size, window=window)
    groups = torch.from_numpy(figure.groups(2))
    by = window // 2
    rolled = groups.roll((-by, -by), (0, 1))[None, :, :, None]
    cut = window_partition(rolled, window)[..., 0]
    same = cut[:, :, None] == cut[:, None, :]
    expected = shifted_window_mask(size, size, window, by if mask else 0)[:, 0]
    assert torch.equal(same, expected)
    counts = np.unique(figure.groups(1), return_counts=True)[1]
    assert set(counts) == {window**2}


def test_reach_counts_blocks_from_the_last():
    figure = WindowExplorer(2, row=5, column=6)
    reach = figure.reach()
    assert reach[5, 6] == 0
    assert {tuple(p) for p in np.argwhere(reach == 1)} | {(5, 6)} == {
        (r, c) for r in range(2, 6) for c in range(6, 10)
    }
    assert (reach >= 0).sum() == 64
    figure.shift = False
    assert (figure.reach() >= 0).sum() == 16
    figure.blocks = 8
    assert (figure.reach() >= 0).sum() == 16
    figure.shift = True
    assert (figure.reach() >= 0).all()


def test_without_a_mask_opposite_corners_meet():
    figure = WindowExplorer(2, row=0, column=0)
    assert figure.reach()[15, 15] == -1
    figure.mask = False
    assert figure.reach()[15, 15] == 1


def test_numbers_out_of_range_are_refused():
    with pytest.raises(ValueError, match="blocks must be from 1 to 8, but it is 9"):
        WindowExplorer(9)
    with pytest.raises(ValueError, match="column must be from 0 to 15, but it is 16"):
        WindowExplorer(column=16)
    for size, window in ((15, 4), (36, 4), (4, 1), (2, 4)):
        with pytest.raises(ValueError, match="window must be at least 2 and divide"):
            WindowExplorer(size=size, window=window)


def test_page_holds_the_state_and_is_the_same_each_time():
    one, two = WindowExplorer(3, row=1, column=2), WindowExplorer(3, row=1, column=2)
    assert one.to_html() == two.to_html()
    assert one.to_html() != WindowExplorer(4, row=1, column=2).to_html()
    seen = (one.reach() >= 0).sum()
    assert f"row 1, column 2 sees {seen} of 256" in one.fallback()
    assert repr(one) == "<interactive figure: windows of 4 on a grid of 16 by 16>"
