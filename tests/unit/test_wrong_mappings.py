"""Each mistake shows where it was made, and only with weights that can show it."""

from __future__ import annotations

import pytest

from companion.analysis.wrong_mappings import (
    MISTAKES,
    PLACES,
    WEIGHTS,
    differences,
    reference,
    table,
)

FIRST = {
    "no mistake": None,
    "W_o turned": "layer 3",
    "gate and up exchanged": "layer 4",
    "rotary pairs": "layer 1",
    "rotary base": "layer 1",
    "eps": "layer 1",
    "last norm forgotten": "last norm",
    "output tied": "logits",
}


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, str], dict[str, float]]:
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for row in table():
        key = row["mistake"], row["weights"]
        rows.setdefault(key, {})[row["place"]] = row["difference"]
    return rows


def test_table_holds_every_mistake(found) -> None:
    assert set(found) == {(m, w) for m in MISTAKES for w in WEIGHTS}
    assert all(list(places) == list(PLACES) for places in found.values())


@pytest.mark.parametrize("mistake", FIRST)
def test_large_weights_show_a_mistake_where_it_is(found, mistake: str) -> None:
    places = found[mistake, "large"]
    above = [place for place, off in places.items() if off > 1e-4]
    assert (above[0] if above else None) == FIRST[mistake]
    before = PLACES[: PLACES.index(FIRST[mistake])] if FIRST[mistake] else PLACES
    assert all(places[place] < 1e-5 for place in before)


def test_fresh_weights_hide_mistakes(found) -> None:
    assert max(found["last norm forgotten", "as they begin"].values()) == 0
    assert (
        found["rotary base", "as they begin"]["layer 1"] < 1e-4
    )  # below the tolerance
    for mistake in (
        "rotary base",
        "rotary pairs",
        "gate and up exchanged",
        "output tied",
    ):
        fresh, large = (found[mistake, weights]["logits"] for weights in WEIGHTS)
        assert fresh < large / 10


def test_an_unknown_mistake_is_refused() -> None:
    with pytest.raises(
        ValueError, match="mistake must be one of no mistake, W_o turned"
    ):
        differences(reference(0.02), "typo")
