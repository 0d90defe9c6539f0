"""The rotary explorer, from Python."""

from __future__ import annotations

import numpy as np
import pytest

from companion.figures import RotaryExplorer

QUERY, KEY = [1.0, 0.0, 0.5, 0.5], [0.8, 0.6, -0.2, 1.0]


def test_a_rotary_score_is_the_sum_of_turned_products() -> None:
    figure = RotaryExplorer(QUERY, KEY, place=40, distance=7, base=100.0)
    as_complex = [np.array(v[0::2]) + 1j * np.array(v[1::2]) for v in (QUERY, KEY)]
    turn = np.exp(1j * 7 * np.array([1.0, 0.1]))
    expected = (as_complex[0] * turn * as_complex[1].conj()).real.sum()
    assert figure.score() == pytest.approx(expected, abs=1e-5)


def test_an_added_score_is_that_of_the_sums() -> None:
    figure = RotaryExplorer(QUERY, KEY, base=100.0, encoding="added")
    p = np.arange(129)[:, None]
    table = np.concatenate(
        [np.sin(p), np.cos(p), np.sin(p / 10), np.cos(p / 10)], axis=1
    )
    query, key = figure.placed()
    np.testing.assert_allclose(query, QUERY + table, atol=1e-9)
    np.testing.assert_allclose(key, KEY + table, atol=1e-9)
    assert figure.score() == pytest.approx(query[45] @ key[40])


def test_only_rotary_scores_stay_as_both_move_along() -> None:
    figure = RotaryExplorer(QUERY, KEY, distance=-9)
    assert np.ptp(figure.along()) < 1e-4
    figure.encoding = "added"
    assert np.ptp(figure.along()) > 1
    assert len(figure.along()) == 65
    figure.place = 50
    assert figure.score() == figure.along()[50 - 32]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"place": 97}, "place must be from 32 to 96, but it is 97"),
        ({"distance": -33}, "distance must be from -32 to 32, but it is -33"),
        ({"base": 9.0}, r"base must be from 10 to 1e\+06, but it is 9"),
        ({"encoding": "none"}, "encoding must be 'rotary' or 'added'"),
    ],
)
def test_what_is_out_of_range_is_refused(options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        RotaryExplorer(QUERY, KEY, **options)


@pytest.mark.parametrize("pair", [(QUERY, KEY[:2]), (QUERY[:3], KEY[:3]), ([], [])])
def test_query_and_key_must_be_of_one_even_width(pair: tuple) -> None:
    with pytest.raises(ValueError, match="query and key must both have 2, 4, 6 or 8"):
        RotaryExplorer(*pair)


def test_page_holds_the_state_and_is_the_same_each_time() -> None:
    one, two = RotaryExplorer(QUERY, KEY), RotaryExplorer(QUERY, KEY)
    assert one.to_html() == two.to_html()
    assert one.to_html() != RotaryExplorer(KEY, QUERY).to_html()
    assert len(one.to_html()) < 40_000
    assert f"have the score {one.score():.2f}" in one.fallback()
    assert repr(one) == (
        "<interactive figure: a query and a key of 2 pairs at any two positions>"
    )
