"""The pattern explorer's rules, from Python."""

from __future__ import annotations

import numpy as np
import pytest

from companion import longformer_mask
from companion.figures import PatternExplorer


def test_mask_is_longformers_and_random_keys_are_added() -> None:
    figure = PatternExplorer(3, 2, length=20)
    expected = longformer_mask(20, 3, num_global=2).numpy()
    np.testing.assert_array_equal(figure.mask(), expected)
    figure.num_random = 2
    added = figure.mask() & ~expected
    assert added.any() and (added.sum(axis=1) <= 2).all()


def test_reach_grows_by_a_window_a_layer_and_a_global_token_sees_all() -> None:
    figure = PatternExplorer(2, layers=3, query=30)
    assert figure.reach().nonzero()[0].tolist() == list(range(24, 37))
    figure.num_global = 1
    assert figure.reach().all()
    figure.layers = 1
    assert figure.reach().nonzero()[0].tolist() == [0, *range(28, 33)]


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="window must be from 0 to 16, but it is 17"):
        PatternExplorer(17)
    figure = PatternExplorer(length=10)
    with pytest.raises(ValueError, match="query must be from 0 to 9, but it is 10"):
        figure.query = 10
    with pytest.raises(ValueError, match="layers must be from 1 to 8, but it is 0"):
        figure.layers = 0
    with pytest.raises(ValueError, match="length must be from 8 to 128"):
        PatternExplorer(length=4)


def test_page_holds_the_state_and_is_the_same_each_time() -> None:
    one, two = PatternExplorer(4, 1, 2, 3), PatternExplorer(4, 1, 2, 3)
    assert one.to_html() == two.to_html()
    assert one.to_html() != PatternExplorer(5, 1, 2, 3).to_html()
    share = f"{one.mask().mean():.0%}"
    assert share in one.fallback() and share in one.to_html()
    assert repr(one) == "<interactive figure: attention pattern over 64 positions>"
