"""The rotary explorer as a reader uses it: its scores are those of the package."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from companion.figures import RotaryExplorer

CHAPTER = "book/03_positional_encoding.html"
QUERY = [1.0, 0.0, 0.5, 0.5, -1.2, 0.3, 0.1, 0.9]
KEY = [0.8, 0.6, -0.2, 1.0, 0.4, 0.4, 1.0, -0.7]


def explorer(**options: object) -> RotaryExplorer:
    return RotaryExplorer(QUERY, KEY, **options)


def numbers(text: str) -> list[float]:
    return [float(n) for n in re.findall(r"-?\d+\.\d+", text.replace("−", "-"))]


def heights(page: Page, chart: int) -> np.ndarray:
    """The y of each point of a chart's line, from the top."""
    points = page.locator("polyline.re-score").nth(chart).get_attribute("points")
    return np.array([float(point.split(",")[1]) for point in points.split()])


def agree(page: Page, figure: RotaryExplorer) -> None:
    """Sentence, dials and both curves are what Python finds."""
    place, distance = figure.place, figure.distance
    along, scores = figure.along(), figure.scores()
    status = page.locator(".cc-status").inner_text()
    assert f"The query at {place + distance} and the key at {place}" in status
    said = numbers(status)
    expected = [figure.score()]
    if np.ptp(along) >= 0.005:
        expected += [along.min(), along.max()]
    else:
        assert status.endswith("they keep it.")
    assert said == pytest.approx(expected, abs=0.0052)

    query, key = (v.reshape(-1, 4, 2) for v in figure.placed())
    products = (query[place + distance] * key[place]).sum(axis=1)
    dials = page.locator(".re-dials p").all_inner_texts()
    shown = [numbers(text.split("product")[1])[0] for text in dials]
    assert shown == pytest.approx(products.tolist(), abs=0.0052)

    by_distance = scores[place + np.arange(-32, 33), place]
    low, high = (f(0, *by_distance, *along) for f in (min, max))
    low, high = 2 * np.floor(low / 2), 2 * np.ceil(high / 2)
    for chart, curve in enumerate((by_distance, along)):
        y = 136 - (curve - low) / (high - low) * (136 - 8)
        np.testing.assert_allclose(heights(page, chart), y, atol=0.06)


STATES = [
    {},
    {"distance": -20, "place": 96},
    {"base": 100.0, "distance": 3},
    {"base": 1e6, "place": 32, "distance": 32},
    {"encoding": "added"},
    {"encoding": "added", "base": 31.6227766, "distance": -32, "place": 77},
]


@pytest.mark.parametrize("state", STATES, ids=str)
def test_the_scores_are_those_of_the_package(show_figure, state: dict) -> None:
    figure = explorer(**state)
    agree(show_figure(figure), figure)


def test_controls_change_the_picture(show_figure) -> None:
    page, figure = show_figure(explorer()), explorer()
    page.get_by_label("move both along", exact=True).fill("80")
    page.get_by_label("distance", exact=True).fill("-7")
    figure.place, figure.distance = 80, -7
    agree(page, figure)
    page.get_by_label("base", exact=True).fill("2.5")
    figure.base = 10**2.5
    agree(page, figure)
    page.get_by_label("positions", exact=True).select_option(index=1)
    figure.encoding = "added"
    agree(page, figure)


def test_keys_move_a_slider(show_figure) -> None:
    page = show_figure(explorer())
    page.get_by_label("move both along", exact=True).focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".cc-status")).to_contain_text(
        "The query at 46 and the key at 41"
    )
    page.keyboard.press("End")
    expect(page.locator(".cc-status")).to_contain_text(
        "The query at 101 and the key at 96"
    )
    expect(page.locator(".cc-status")).to_contain_text("they keep it.")


def test_it_fits_a_phone_and_follows_the_theme(show_figure) -> None:
    page = show_figure(explorer(), width=400, has_touch=True, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    card = page.locator(".rotary-explorer")
    assert card.evaluate("e => e.hasAttribute('data-dark')")
    page.get_by_label("distance", exact=True).tap()  # its middle
    expect(page.locator(".cc-status")).to_contain_text(
        "The query at 40 and the key at 40"
    )


def test_without_javascript_there_is_a_sentence(show_figure) -> None:
    figure = explorer()
    page = show_figure(figure, java_script_enabled=False)
    expect(page.locator("noscript p")).to_contain_text(f"score {figure.score():.2f}")


def test_chapter_has_the_explorer(open_page: Callable[..., Page]) -> None:
    page = open_page(CHAPTER, width=400)
    card = page.get_by_role("figure", name="Rotary explorer")
    expect(card.locator(".cc-status")).to_contain_text("they keep it.")
    card.get_by_label("positions", exact=True).select_option(index=1)
    expect(card.locator(".cc-status")).to_contain_text("their score goes from 4.87 to")
    assert card.evaluate("e => e.scrollWidth <= e.clientWidth")
    expect(card.locator("figcaption")).to_contain_text("Each dial is one pair")
