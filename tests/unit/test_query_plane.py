"""The query plane, from Python."""

from __future__ import annotations

import math

import pytest
import torch

from companion.figures import QueryPlane

KEYS = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
VALUES = [[10.0, 0.0], [0.0, 10.0], [10.0, 10.0]]


def test_attend_is_the_example_by_hand() -> None:
    output, weights = QueryPlane([1, 2], KEYS, VALUES).attend()
    e = [math.exp(score / math.sqrt(2)) for score in (1, 2, 3)]
    torch.testing.assert_close(weights, torch.tensor(e, dtype=torch.float64) / sum(e))
    assert output.tolist() == pytest.approx([7.16, 8.60], abs=0.005)


def test_traits_change_what_comes_out() -> None:
    figure = QueryPlane([1, 2], KEYS, VALUES)
    figure.scale = 0.0
    assert figure.attend()[1].tolist() == pytest.approx([1 / 3] * 3)
    figure.scale, figure.query = 4.0, [3.0, -3.0]
    assert figure.attend()[0].tolist() == pytest.approx([10, 0], abs=1e-3)
    figure.key_points = [[-1.0, 0.0], *KEYS[1:]]
    assert figure.attend()[1][0] < 1e-4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (([1, 2], KEYS[:1], VALUES[:1]), "values must be 2 to 6 pairs of coordinates"),
        (([1, 2], KEYS, [[1.0], *VALUES[1:]]), "values must be 2 to 6 pairs"),
        (([1, 2], KEYS[:2], VALUES), "keys must be 3 points, one a value, but they"),
        (([1, 4], KEYS, VALUES), "query must have two coordinates from -3 to 3"),
        (([1, 2, 3], KEYS, VALUES), "query must have two coordinates"),
        (([1, 2], [[0, -3.1], *KEYS[1:]], VALUES), "keys must have two coordinates"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: tuple, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        QueryPlane(*arguments)
    with pytest.raises(ValueError, match="scale must be from 0 to 4, but it is 5"):
        QueryPlane([1, 2], KEYS, VALUES, scale=5)


def test_page_holds_the_state_and_is_the_same_each_time() -> None:
    one, two = QueryPlane([1, 2], KEYS, VALUES), QueryPlane([1, 2], KEYS, VALUES)
    assert one.to_html() == two.to_html()
    assert one.to_html() != QueryPlane([1, 1], KEYS, VALUES).to_html()
    assert len(one.to_html()) < 40_000
    assert "the output is (7.16, 8.60)" in one.fallback()
    assert repr(one) == "<interactive figure: a query among 3 keys in the plane>"
