"""The query plane as a reader uses it: its numbers are those of the package."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from companion.figures import QueryPlane

CHAPTER = "book/01_attention.html"
KEYS = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
VALUES = [[10.0, 0.0], [0.0, 10.0], [10.0, 10.0]]


def plane(query: list[float] = (1, 2), **options: float) -> QueryPlane:
    return QueryPlane(query, KEYS, VALUES, **options)


def tip(page: Page, name: str) -> Locator:
    return page.locator(f"g[aria-label^='{name} at']")


def middle(locator: Locator) -> tuple[float, float]:
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=4)
    page.mouse.up()


def at(page: Page, x: float, y: float) -> tuple[float, float]:
    """Where a point of the left plane is on the page."""
    box = page.locator("svg.qp-map").bounding_box()
    left, top = middle(page.locator("svg.qp-map"))
    return left + x / 3 * 0.47 * box["width"], top - y / 3 * 0.47 * box["width"]


def agree(page: Page, figure: QueryPlane) -> None:
    """The sentence and the table are what Python finds."""
    text = page.locator(".cc-status").inner_text().replace("−", "-")
    query, weights, output = re.fullmatch(
        r"The query \((.*)\) gives the keys the weights (.*)\. The output is \((.*)\)\.",
        text,
    ).groups()
    numbers = [[float(x) for x in part.split(",")] for part in (query, weights, output)]
    expected_output, expected_weights = figure.attend()
    assert numbers[0] == pytest.approx(figure.query)
    assert numbers[1] == pytest.approx(expected_weights.tolist(), abs=0.0051)
    assert numbers[2] == pytest.approx(expected_output.tolist(), abs=0.0051)
    cells = page.locator(".qp-table tbody tr td:nth-child(3)").all_inner_texts()
    scores = [
        figure.scale * (figure.query[0] * x + figure.query[1] * y)
        for x, y in figure.key_points
    ]
    assert [float(c.replace("−", "-")) for c in cells] == pytest.approx(
        scores, abs=0.0051
    )
    drawn = page.locator("circle.qp-output").evaluate(
        "c => [c.cx.baseVal.value, c.cy.baseVal.value]"
    )
    wide = 1.45 * 10
    left, top = ((x - 5) / wide for x in expected_output.tolist())
    assert drawn == pytest.approx([150 + 300 * left, 150 - 300 * top], abs=0.1)


STATES = [
    plane(),
    plane([0, 0]),
    plane([-2.5, 1.3], scale=0.0),
    plane([3, -3], scale=4.0),
    plane([-3, -3], scale=2.35),
    QueryPlane([0.5, -1], [*KEYS, [-2, 0.3]], [*VALUES, [4, 4]], scale=1.5),
]


@pytest.mark.parametrize("figure", STATES, ids=lambda f: f"{f.query}, {f.scale:.2f}")
def test_the_numbers_are_those_of_the_package(show_figure, figure: QueryPlane) -> None:
    if len(figure.values) == 3:
        agree(show_figure(figure), figure)
    else:  # other values have another frame: only the sentence
        output, _ = figure.attend()
        said = "({:.2f}, {:.2f})".format(*output.tolist())
        expect(show_figure(figure).locator(".cc-status")).to_contain_text(said)


def test_arrow_keys_move_query_and_keys_and_stop_at_the_rim(show_figure) -> None:
    page, figure = show_figure(plane()), plane()
    tip(page, "query").focus()
    for key in ("ArrowRight", "ArrowDown", "Shift+ArrowDown"):
        page.keyboard.press(key)
    figure.query = [1.1, 1.4]
    agree(page, figure)
    for _ in range(6):
        page.keyboard.press("Shift+ArrowRight")
    figure.query = [3.0, 1.4]
    agree(page, figure)
    tip(page, "key 2").focus()
    page.keyboard.press("ArrowLeft")
    figure.key_points = [KEYS[0], [-0.1, 1.0], KEYS[2]]
    agree(page, figure)


def test_every_tip_is_reached_by_tab(show_figure) -> None:
    page = show_figure(plane())
    page.get_by_role("button", name="start again").focus()
    reached = []
    for _ in range(4):
        page.keyboard.press("Tab")
        label = page.evaluate("document.activeElement.getAttribute('aria-label')")
        reached.append(label.split(" at")[0])
    assert reached == ["key 1", "key 2", "key 3", "query"]


def test_the_pointer_drags_what_is_near_and_else_brings_the_query(show_figure) -> None:
    page, figure = show_figure(plane()), plane()
    drag(page, at(page, 1, 2), at(page, -2, 0.5))
    figure.query = [-2.0, 0.5]
    agree(page, figure)
    drag(page, at(page, 1, 1), at(page, 2.4, 2.4))
    figure.key_points = [*KEYS[:2], [2.4, 2.4]]
    agree(page, figure)
    page.mouse.click(*at(page, -1, -2))
    figure.query = [-1.0, -2.0]
    agree(page, figure)
    page.mouse.move(*at(page, 2, 2))  # nothing is held any more
    agree(page, figure)


def test_slider_and_button(show_figure) -> None:
    page, figure = show_figure(plane()), plane()
    page.get_by_label("factor on the scores").fill("3.5")
    figure.scale = 3.5
    agree(page, figure)
    page.get_by_role("button", name="start again").click()
    agree(page, plane())


def test_it_fits_a_phone_and_follows_the_theme(show_figure) -> None:
    page = show_figure(plane(), width=400, has_touch=True, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    card = page.locator(".query-plane")
    assert card.evaluate("e => e.hasAttribute('data-dark')")
    page.touchscreen.tap(*at(page, -2, 1))
    expect(page.locator(".cc-status")).to_contain_text("The query (−2.0, 1.0)")


def test_without_javascript_there_is_a_sentence(show_figure) -> None:
    page = show_figure(plane(), java_script_enabled=False)
    expect(page.locator("noscript p")).to_contain_text("the output is (7.16, 8.60)")


def test_chapter_has_the_plane(open_page: Callable[..., Page]) -> None:
    page = open_page(CHAPTER, width=400)
    card = page.get_by_role("figure", name="Query plane")
    agree(page, plane())
    tip(page, "query").focus()
    page.keyboard.press("ArrowLeft")
    expect(card.locator(".cc-status")).to_contain_text("The query (0.9, 2.0)")
    assert card.evaluate("e => e.scrollWidth <= e.clientWidth")
    expect(card.locator("figcaption")).to_contain_text("their weighted average")
