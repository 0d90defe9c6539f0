"""The bar explorer, from Python."""

from __future__ import annotations

import pytest

from companion.figures import BarExplorer


def rows() -> list[dict]:
    """100 the task, 10 the size, 1 the bar."""
    return [
        {"task": task, "size": size, "model": model, "loss": 100 * t + 10 * s + m}
        for t, task in enumerate(("read", "write"))
        for s, size in enumerate(("small", "middle", "large"))
        for m, model in enumerate(("A", "B"))
    ]


def explorer(table: list[dict] | None = None, **options: object) -> BarExplorer:
    options = {"along": "model", "value": "loss", **options}
    return BarExplorer(rows() if table is None else table, ["task", "size"], **options)


def test_what_is_picked_is_shown() -> None:
    figure = explorer(line=(110.5, "limit"))
    assert figure.shown() == {"A": 0, "B": 1} and figure.first_above() is None
    figure.picked = [1, 2]
    assert figure.shown() == {"A": 120, "B": 121} and figure.first_above() == "A"
    figure.picked = [1, 1]
    assert figure.shown() == {"A": 110, "B": 111} and figure.first_above() == "B"
    assert explorer(rows()[::-1]).shown() == {
        "B": 121,
        "A": 120,
    }  # in the table's order


def test_page_is_the_same_each_time_and_says_it_without_javascript() -> None:
    figure = explorer(picked=[1, 2], caption="Losses.")
    html = figure.to_html()
    assert html == explorer(picked=[1, 2], caption="Losses.").to_html()
    assert html != explorer(caption="Losses.").to_html()
    assert "<caption>loss: write, large." in html and "<td>121</td>" in html
    assert repr(figure) == "<interactive figure: loss along model, by task and size>"


def test_what_does_not_fit_is_refused() -> None:
    for table, says in (
        ([], "must not be empty"),
        (rows()[1:], "some are missing"),
        (rows() + rows()[:1], "is twice"),
        ([row | {"loss": -1} for row in rows()], "loss must be a number from 0"),
        ([row | {"loss": float("nan")} for row in rows()], "loss must be a number"),
    ):
        with pytest.raises(ValueError, match=says):
            explorer(table)
    with pytest.raises(ValueError, match="floor must be above 0"):
        explorer(floor=0.0)
    for picked in ([0], [2, 0], [0, -1]):
        with pytest.raises(ValueError, match="picked must be one number for each"):
            explorer(picked=picked)
