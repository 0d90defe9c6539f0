"""The pattern explorer as a reader uses it: by slider, pointer, keys and touch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from companion.figures.pattern_explorer import PatternExplorer

CHAPTER = "book/07_6_efficient_attention.html"
SLIDERS = {
    "window": "window (each side)",
    "num_global": "global tokens",
    "num_random": "random keys a query",
    "layers": "layers",
}
# Whether each position is drawn in another color than that of what is hidden.
FILLED = """(canvas, rows) => {
    const context = canvas.getContext("2d");
    const style = getComputedStyle(canvas.parentElement);
    context.fillStyle = style.getPropertyValue("--hidden").trim();
    const hidden = context.fillStyle;
    const n = canvas.width / 6;
    const hex = (x) => x.toString(16).padStart(2, "0");
    return Array.from({ length: rows }, (_, q) => Array.from({ length: n }, (_, k) => {
        const [r, g, b] = context.getImageData(6 * k + 3, 6 * q + 3, 1, 1).data;
        return "#" + hex(r) + hex(g) + hex(b) !== hidden;
    }));
}"""


def shown(page: Page) -> tuple[np.ndarray, np.ndarray]:
    """The mask and the reach that are drawn."""
    mask = page.locator("canvas.pe-map").evaluate(FILLED, 64)
    strip = page.locator("canvas.pe-strip").evaluate(FILLED, 1)
    return np.array(mask), np.array(strip[0])


def slide(page: Page, name: str, value: int) -> None:
    page.get_by_label(SLIDERS[name], exact=True).fill(str(value))


STATES = [(2, 0, 0, 1, 32), (3, 1, 0, 2, 40), (1, 0, 2, 3, 10), (4, 2, 1, 5, 63)]


@pytest.mark.parametrize("state", STATES)
def test_the_first_state_is_the_one_asked_for(
    show_figure, state: tuple[int, ...]
) -> None:
    figure = PatternExplorer(*state)
    mask, reach = shown(show_figure(figure))
    off = np.arange(64) != state[-1]  # rows beside the framed one
    off &= np.roll(off, 1) & np.roll(off, -1)
    np.testing.assert_array_equal(mask[off][:, 1:-1], figure.mask()[off][:, 1:-1])
    np.testing.assert_array_equal(reach, figure.reach())


def test_sliders_change_the_pattern_and_the_sentence(show_figure) -> None:
    page = show_figure(PatternExplorer(query=30))
    wanted = PatternExplorer(5, 1, 2, 4, 30)
    for name in SLIDERS:
        slide(page, name, getattr(wanted, name))
    np.testing.assert_array_equal(shown(page)[1], wanted.reach())
    seen = wanted.mask()
    expect(page.locator(".pe-status")).to_have_text(
        f"{seen.mean() * 100:.0f} % of all pairs are scored. Query 30 sees "
        f"{seen[30].sum()} of 64 keys; through 4 layers it depends on "
        f"{wanted.reach().sum()} inputs."
    )


def test_pointing_shows_a_row_and_a_click_keeps_it(show_figure) -> None:
    page = show_figure(PatternExplorer())
    canvas, status = page.locator("canvas.pe-map"), page.locator(".pe-status")
    box = canvas.bounding_box()
    canvas.hover(position={"x": 20, "y": box["height"] * 10.5 / 64})
    expect(status).to_contain_text("Query 10 sees 5")
    page.mouse.move(799, 899)
    expect(status).to_contain_text("Query 32 sees 5")
    canvas.click(position={"x": 20, "y": box["height"] * 1.5 / 64})
    page.mouse.move(799, 899)
    expect(status).to_contain_text("Query 1 sees 4")


def test_arrow_keys_move_the_query(show_figure) -> None:
    page = show_figure(PatternExplorer())
    page.locator("canvas.pe-map").focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowUp", "PageUp"):
        page.keyboard.press(key)
    expect(page.locator(".pe-status")).to_contain_text("Query 25")


def test_it_fits_a_phone_and_follows_the_theme(show_figure) -> None:
    page = show_figure(
        PatternExplorer(), width=400, has_touch=True, color_scheme="dark"
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    explorer = page.locator(".pattern-explorer")
    assert explorer.evaluate("e => e.hasAttribute('data-dark')")
    page.locator("canvas.pe-map").tap(position={"x": 50, "y": 5})
    expect(page.locator(".pe-status")).to_contain_text("Query 0")


def test_without_javascript_there_is_a_sentence(show_figure) -> None:
    page = show_figure(PatternExplorer(3), java_script_enabled=False)
    expect(page.locator("noscript p")).to_contain_text("Query 32 sees 7 of 64 keys")


def test_chapter_has_the_explorer(open_page: Callable[..., Page]) -> None:
    page = open_page(CHAPTER, width=400)
    explorer = page.get_by_role("group", name="Attention pattern explorer").first
    slide(page, "window", 0)
    slide(page, "num_random", 0)
    expect(explorer.locator(".pe-status")).to_contain_text("sees 1 of 64 keys")
    assert explorer.evaluate("e => e.scrollWidth <= e.clientWidth")
