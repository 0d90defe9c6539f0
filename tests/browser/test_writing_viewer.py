"""The writing viewer as a reader uses it: by list, box, slider, keys and touch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from companion.figures import Writing, WritingViewer

CHAPTER = "book/05_decoder.html"
RIGHT = Writing(
    name="24, good",
    source=["2", "4", "⊣"],
    read=["⊢", "four", "and", "twenty"],
    written=["four", "and", "twenty", "⊣"],
    wanted=["four", "and", "twenty", "⊣"],
    across=[[0.1, 0.9, 0.0], [0.2, 0.3, 0.5], [0.8, 0.1, 0.1], [0.3, 0.3, 0.4]],
    back=[[1.0], [0.25, 0.75], [0.2, 0.3, 0.5], [0.1, 0.2, 0.3, 0.4]],
    candidates=[
        [("four", 0.9), ("five", 0.05)],
        [("and", 0.99), ("⊣", 0.01)],
        [("twenty", 0.97), ("thirty", 0.02)],
        [("⊣", 1.0), ("and", 0.0)],
    ],
)
WRONG = Writing(
    name="7, bad",
    source=["7", "⊣"],
    read=["⊢", "six"],
    written=["six", "⊣"],
    wanted=["seven", "⊣"],
    across=[[0.6, 0.4], [0.5, 0.5]],
    back=[[1.0], [0.5, 0.5]],
    candidates=[[("six", 0.5), ("seven", 0.45)], [("⊣", 0.8), ("and", 0.1)]],
)


def viewer(**options: object) -> WritingViewer:
    return WritingViewer([RIGHT, WRONG], **options)


def tiles(page: Page, row: int) -> list[list[str]]:
    """Text, weight and classes of each token of a row."""
    return (
        page.locator(".wv-tokens")
        .nth(row)
        .locator("li")
        .evaluate_all(
            "list => list.map(t => [t.childNodes[0].textContent.trim(),"
            " t.style.getPropertyValue('--weight'), t.className])"
        )
    )


def squares(page: Page) -> dict[str, int]:
    kinds = page.locator(".wv-rows rect").evaluate_all(
        "list => list.map(r => r.getAttribute('class'))"
    )
    return {kind: kinds.count(kind) for kind in ("wv-now", "wv-seen", "wv-mask")}


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_a_step_shows_what_was_recorded(show_figure, step: int) -> None:
    page = show_figure(viewer(step=step))
    source = [(text, float(weight)) for text, weight, _ in tiles(page, 0)]
    assert source == list(zip(RIGHT.source, RIGHT.across[step - 1], strict=True))
    target = tiles(page, 1)
    assert [t[0] for t in target] == [
        *RIGHT.read[:step],
        RIGHT.written[step - 1],
        *[""] * (4 - step),
    ]
    assert [float(t[1]) for t in target[:step]] == RIGHT.back[step - 1]
    rows = page.get_by_role("listitem").filter(has=page.locator(".wv-track"))
    shown = [row.split() for row in rows.all_inner_texts()]
    assert shown == [[text, f"{p:.3f}"] for text, p in RIGHT.candidates[step - 1]]


def test_the_cache_decides_what_is_computed(show_figure) -> None:
    page = show_figure(viewer(step=3))
    status = page.locator(".cc-status")
    expect(status).to_have_text(
        "Step 3 writes “twenty”, with probability 0.97. With a cache, 1 token goes "
        "through the decoder in this step, 3 so far."
    )
    assert squares(page) == {"wv-now": 3, "wv-seen": 3, "wv-mask": 10}
    assert [t[2] for t in tiles(page, 1)] == [
        "",
        "",
        "wv-computed",
        "wv-new",
        "wv-future",
    ]
    page.get_by_label("keep keys and values (cache)").uncheck()
    expect(status).to_contain_text(
        "Without a cache, 3 tokens go through the decoder in this step, 6 so far."
    )
    assert squares(page) == {"wv-now": 6, "wv-seen": 0, "wv-mask": 10}
    assert [t[2] for t in tiles(page, 1)][:3] == ["wv-computed"] * 3


def test_a_mistake_is_named_and_a_shorter_text_cuts_the_slider(show_figure) -> None:
    page = show_figure(viewer(step=4))
    page.get_by_label("text", exact=True).select_option(label="7, bad")
    expect(page.locator(".cc-status")).to_contain_text("Step 2 writes “⊣”")
    slider = page.get_by_label("step", exact=True)
    assert slider.get_attribute("max") == "2"
    slider.fill("1")
    expect(page.locator(".cc-status")).to_contain_text(
        "Step 1 writes “six”, with probability 0.50. It should be “seven”."
    )
    assert tiles(page, 1)[1][2] == "wv-new wv-wrong"
    page.get_by_label("text", exact=True).select_option(label="24, good")
    assert slider.get_attribute("max") == "4"


def test_keys_move_the_slider(show_figure) -> None:
    page = show_figure(viewer())
    page.get_by_label("step", exact=True).focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    expect(page.locator(".cc-status")).to_contain_text("Step 2 writes “and”")
    expect(page.locator("output")).to_have_text("2 of 4")


def test_it_fits_a_phone_and_follows_the_theme(show_figure) -> None:
    page = show_figure(viewer(), width=400, has_touch=True, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.locator(".writing-viewer").evaluate("e => e.hasAttribute('data-dark')")
    page.get_by_label("keep keys and values (cache)").tap()
    expect(page.locator(".cc-status")).to_contain_text("Without a cache")


def test_without_javascript_there_is_a_table(show_figure) -> None:
    page = show_figure(viewer(), java_script_enabled=False)
    expect(page.get_by_role("row", name="24, good").first).to_contain_text(
        "four and twenty"
    )


def test_chapter_has_the_viewer(open_page: Callable[..., Page]) -> None:
    page = open_page(CHAPTER, width=400)
    card = page.get_by_role("figure", name="Writing viewer")
    expect(card.locator(".cc-status")).to_contain_text("Step 4 writes “and”")
    card.get_by_label("keep keys and values (cache)").uncheck()
    expect(card.locator(".cc-status")).to_contain_text("4 tokens go through")
    card.get_by_label("text", exact=True).select_option(label="776,139, hasty")
    expect(card.locator(".cc-status")).to_contain_text("Step 4 writes")
    assert card.evaluate("e => e.scrollWidth <= e.clientWidth")
    expect(card.locator("figcaption")).to_contain_text("last decoder layer")
