"""The window explorer as a reader uses it: by slider, boxes, pointer, keys and touch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from companion.figures.window_explorer import WindowExplorer

CHAPTER = "book/08_2_swin.html"
# After which block each patch is drawn as seen; -1 is never. Beyond four, 4.
DRAWN = """(canvas) => {
    const context = canvas.getContext("2d");
    const style = getComputedStyle(canvas.parentElement);
    const names = ["--hidden", "--step-0", "--step-1", "--step-2", "--step-3", "--step-4"];
    const colors = names.map((name) => {
        context.fillStyle = style.getPropertyValue(name).trim();
        return context.fillStyle;
    });
    const n = canvas.width / 20;
    const hex = (x) => x.toString(16).padStart(2, "0");
    const at = (r, c) => {
        const [red, green, blue] = context.getImageData(20 * c + 10, 20 * r + 10, 1, 1).data;
        return "#" + hex(red) + hex(green) + hex(blue);
    };
    return Array.from({ length: n }, (_, r) =>
        Array.from({ length: n }, (_, c) => colors.indexOf(at(r, c)) - 1));
}"""


def drawn(page: Page) -> np.ndarray:
    return np.array(page.locator("canvas.we-map").evaluate(DRAWN))


def expected(figure: WindowExplorer) -> np.ndarray:
    return np.minimum(figure.reach(), 4)


def status(page: Page):
    return page.locator(".we-status")


STATES = [
    (2, True, True, 7, 7),
    (1, True, True, 0, 15),
    (4, True, False, 1, 14),
    (6, False, True, 9, 3),
    (8, True, True, 15, 0),
]


@pytest.mark.parametrize("state", STATES)
def test_the_first_state_is_the_one_asked_for(show_figure, state: tuple) -> None:
    figure = WindowExplorer(*state)
    page = show_figure(figure)
    np.testing.assert_array_equal(drawn(page), expected(figure))
    seen = (figure.reach() >= 0).sum()
    expect(status(page)).to_contain_text(f"sees {seen} of 256 patches")


def test_slider_and_boxes_change_the_reach(show_figure) -> None:
    page, figure = show_figure(WindowExplorer(2)), WindowExplorer(2)
    page.get_by_label("blocks", exact=True).fill("3")
    figure.blocks = 3
    np.testing.assert_array_equal(drawn(page), expected(figure))
    page.get_by_label("shift every second block").uncheck()
    figure.shift = False
    np.testing.assert_array_equal(drawn(page), expected(figure))
    expect(status(page)).to_contain_text("sees 16 of 256 patches")


def test_the_mask_keeps_edges_apart(show_figure) -> None:
    page, figure = show_figure(WindowExplorer(2, row=0, column=0)), WindowExplorer(2)
    expect(status(page)).to_contain_text("sees 16 of 256 patches")
    page.get_by_label("mask what comes from the other edge").uncheck()
    figure.row, figure.column, figure.mask = 0, 0, False
    np.testing.assert_array_equal(drawn(page), expected(figure))
    expect(status(page)).to_contain_text("sees 64 of 256 patches")


def test_pointing_shows_a_patch_and_a_click_keeps_it(show_figure) -> None:
    page = show_figure(WindowExplorer())
    canvas = page.locator("canvas.we-map")
    cell = canvas.bounding_box()["width"] / 16
    canvas.hover(position={"x": 3.5 * cell, "y": 10.5 * cell})
    expect(status(page)).to_contain_text("row 10, column 3")
    page.mouse.move(799, 899)
    expect(status(page)).to_contain_text("row 7, column 7")
    canvas.click(position={"x": 0.5 * cell, "y": 1.5 * cell})
    page.mouse.move(799, 899)
    expect(status(page)).to_contain_text("row 1, column 0")
    figure = WindowExplorer(row=1, column=0)
    np.testing.assert_array_equal(drawn(page), expected(figure))


def test_arrow_keys_move_the_patch_and_stop_at_the_edge(show_figure) -> None:
    page = show_figure(WindowExplorer(row=1, column=14))
    page.locator("canvas.we-map").focus()
    for key in ("ArrowUp", "ArrowUp", "ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    expect(status(page)).to_contain_text("row 0, column 14")
    page.keyboard.press("ArrowDown")
    expect(status(page)).to_contain_text("row 1, column 14")


def test_it_fits_a_phone_and_follows_the_theme(show_figure) -> None:
    page = show_figure(WindowExplorer(), width=400, has_touch=True, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    explorer = page.locator(".window-explorer")
    assert explorer.evaluate("e => e.hasAttribute('data-dark')")
    page.locator("canvas.we-map").tap(position={"x": 5, "y": 5})
    expect(status(page)).to_contain_text("row 0, column 0")


def test_without_javascript_there_is_a_sentence(show_figure) -> None:
    page = show_figure(WindowExplorer(2), java_script_enabled=False)
    expect(page.locator("noscript p")).to_contain_text("sees 64 of 256 patches")


def test_chapter_has_the_explorer(open_page: Callable[..., Page]) -> None:
    page = open_page(CHAPTER, width=400)
    explorer = page.get_by_role("group", name="Window explorer").first
    explorer.get_by_label("shift every second block").uncheck()
    expect(explorer.locator(".we-status")).to_contain_text("sees 16 of 256 patches")
    assert explorer.evaluate("e => e.scrollWidth <= e.clientWidth")
