"""The stack explorer as a reader uses it: boxes, list and slider choose what Python computed."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from companion.figures import StackExplorer
from tests.unit.test_stack_explorer import PARTS, STREAMS

CHAPTER = "book/04_encoder.html"
NORMS = ["none", "post", "pre"]
SUPERSCRIPTS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


def number(text: str) -> float:
    """What `0.27`, `41,000` or `2.3 · 10⁻⁸` stands for."""
    digits, _, power = text.replace(",", "").partition(" · 10")
    return float(digits) * 10 ** int(power.translate(SUPERSCRIPTS) or 0)


def agree(page: Page, figure: StackExplorer) -> None:
    """The sentence, the tokens and the marked lines are those of the figure's state."""
    status = page.locator(".cc-status").inner_text()
    said = re.search(
        r"tells them apart is (.*); their numbers are of size (.*)\.", status
    )
    assert [number(s) for s in said.groups()] == pytest.approx(
        list(figure.shown()), rel=0.06
    )
    stack = figure.stacks[
        PARTS.index((figure.residual, figure.norm, figure.feed_forward))
    ]
    places = np.array(stack["places"][figure.depth]).reshape(-1, 2) / 1000
    drawn = page.locator("circle.se-token").evaluate_all(
        "list => list.map(c => [c.cx.baseVal.value, -c.cy.baseVal.value])"
    )
    np.testing.assert_allclose(drawn, places, atol=1e-4)
    for chart, name in enumerate(("shares", "sizes")):
        values = [value for s in figure.stacks for value in s[name]]
        low, high = np.floor(min(values)), np.ceil(max(values))
        y = 136 - (np.array(stack[name]) - low) / (high - low) * (136 - 8)
        points = page.locator("polyline.se-shown").nth(chart).get_attribute("points")
        heights = [float(point.split(",")[1]) for point in points.split()]
        np.testing.assert_allclose(heights, y, atol=0.06)
    assert page.locator("polyline.se-other").count() == 22


def explorer(**options: object) -> StackExplorer:
    return StackExplorer(STREAMS, **options)


@pytest.mark.parametrize("depth", [0, 2, 4])
def test_every_stack_can_be_chosen(show_figure, depth: int) -> None:
    page, figure = show_figure(explorer(depth=depth)), explorer(depth=depth)
    agree(page, figure)
    for residual, norm, feed_forward in PARTS:
        page.get_by_label("residual connections").set_checked(residual)
        page.get_by_label("feed-forward networks").set_checked(feed_forward)
        page.get_by_label("norm", exact=True).select_option(index=NORMS.index(norm))
        figure.residual, figure.norm, figure.feed_forward = residual, norm, feed_forward
        agree(page, figure)


def test_keys_move_the_slider_and_tick_a_box(show_figure) -> None:
    page, figure = show_figure(explorer(depth=1)), explorer(depth=2, residual=True)
    page.get_by_label("layers", exact=True).focus()
    page.keyboard.press("ArrowRight")
    page.get_by_label("residual connections").focus()
    page.keyboard.press("Space")
    agree(page, figure)
    expect(page.locator(".cc-status")).to_contain_text("After 2 layers, the part")


def test_the_first_state_is_the_one_asked_for(show_figure) -> None:
    figure = explorer(residual=True, norm="pre", feed_forward=True, depth=3)
    agree(show_figure(figure), figure)


def test_it_fits_a_phone_and_follows_the_theme(show_figure) -> None:
    page = show_figure(explorer(), width=400, has_touch=True, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.locator(".stack-explorer").evaluate("e => e.hasAttribute('data-dark')")
    page.get_by_label("layers", exact=True).tap()  # its middle
    expect(page.locator(".cc-status")).to_contain_text("After 2 layers")


def test_without_javascript_there_is_a_sentence(show_figure) -> None:
    page = show_figure(explorer(depth=3), java_script_enabled=False)
    expect(page.locator("noscript p")).to_contain_text("After 3 layers")


def test_chapter_has_the_explorer(open_page: Callable[..., Page]) -> None:
    page = open_page(CHAPTER, width=400)
    card = page.get_by_role("figure", name="Stack explorer")
    expect(card.locator(".cc-status")).to_contain_text("After 1 layer,")
    card.get_by_label("layers", exact=True).fill("24")
    expect(card.locator(".cc-status")).to_contain_text("10⁻¹⁶")
    card.get_by_label("residual connections").check()
    expect(card.locator(".cc-status")).not_to_contain_text("10⁻")
    assert card.evaluate("e => e.scrollWidth <= e.clientWidth")
    expect(card.locator("figcaption")).to_contain_text("All weights are fresh")
