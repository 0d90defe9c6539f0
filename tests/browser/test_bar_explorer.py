"""The bar explorer as a reader uses it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from companion.figures.bar_explorer import BarExplorer

CHAPTER = "book/07_8_hugging_face.html"


def rows() -> list[dict]:
    return [
        {"mistake": mistake, "size": size, "layer": f"layer {n}", "off": off * 10.0**n}
        for mistake, size, off in (
            ("none", "small", 1e-8), ("none", "large", 1e-7),
            ("eps", "small", 1e-6), ("eps", "large", 0.0),
        )
        for n in range(3)
    ]  # fmt: skip


def explorer(**options: object) -> BarExplorer:
    options = {"line": (5e-5, "tolerance"), "floor": 1e-8, **options}
    return BarExplorer(
        rows(), ["mistake", "size"], along="layer", value="off",
        notes={"eps": "The eps is another."}, caption="By layer.", **options,
    )  # fmt: skip


def widths(page: Page) -> list[float]:
    return page.locator(".be-bar").evaluate_all(
        "all => all.map((e) => parseFloat(e.style.width))"
    )


def test_bars_are_on_one_logarithmic_axis(show_figure) -> None:
    page, figure = show_figure(explorer()), explorer()
    for picked, (mistake, size) in (
        ([0, 0], ("none", "small")), ([1, 0], ("eps", "small")), ([0, 1], ("none", "large")),
    ):  # fmt: skip
        page.get_by_label(mistake).check()
        page.get_by_label(size).check()
        figure.picked = picked
        expected = [
            100 * math.log(max(v, 1e-8) / 1e-8) / math.log(1e-4 / 1e-8)
            for v in figure.shown().values()
        ]
        assert widths(page) == pytest.approx(expected, abs=0.01)


def test_it_says_which_bar_is_first_above_the_line(show_figure) -> None:
    page = show_figure(explorer())
    status = page.locator(".cc-status").last
    expect(status).to_have_text("none, small. Nothing is above the tolerance.")
    page.get_by_label("eps").check()
    expect(status).to_have_text("eps, small. First above the tolerance: layer 2, 1e-4.")
    expect(page.get_by_text("The eps is another.")).to_be_visible()
    expect(page.locator(".be-above")).to_have_count(1)
    line = page.locator(".be-line").first.evaluate("e => parseFloat(e.style.left)")
    assert line == pytest.approx(100 * math.log(5000) / math.log(10_000), abs=0.01)


def test_without_line_and_floor_the_axis_is_linear(show_figure) -> None:
    page = show_figure(explorer(line=None, floor=None, picked=[1, 0]))
    assert widths(page) == pytest.approx([1, 10, 100])
    expect(page.locator(".cc-status").last).to_have_text(
        "eps, small. Highest: layer 2, 1e-4."
    )


def test_keys_choose(show_figure) -> None:
    page = show_figure(explorer())
    page.get_by_label("none").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_label("eps")).to_be_checked()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".cc-status").last).to_contain_text("eps, large.")
    assert widths(page) == [0, 0, 0]
    assert page.locator(".be-value").all_inner_texts() == ["0", "0", "0"]


def test_it_fits_a_phone_and_follows_the_theme(show_figure) -> None:
    page = show_figure(explorer(), width=400, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.get_by_role("figure").evaluate("e => e.hasAttribute('data-dark')")


def test_without_javascript_there_is_a_table(show_figure) -> None:
    page = show_figure(explorer(picked=[1, 0]), java_script_enabled=False)
    expect(page.get_by_role("row", name="layer 1")).to_contain_text("1e-05")


def test_chapter_has_the_explorer(open_page: Callable[..., Page]) -> None:
    page = open_page(CHAPTER, width=400)
    card = page.get_by_role("figure", name="Bar explorer")
    said = card.locator(".cc-status").last
    before = said.inner_text()
    assert "First above the" in before
    card.get_by_label("no mistake").check()
    expect(said).to_contain_text("Nothing is above the")
    page.keyboard.press("ArrowRight")
    expect(said).not_to_contain_text("no mistake")
    assert card.evaluate("e => e.scrollWidth <= e.clientWidth")
