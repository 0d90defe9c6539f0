"""The training scrubber as a reader uses it: by slider, keys and touch."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.unit.test_training_scrubber import scrubber

CHAPTER = "book/06_training.html"


def marked(page: Page, row: int) -> list[tuple[str, str]]:
    """The words of a row and how they are marked."""
    spans = page.locator(".ts-texts tbody tr").nth(row).locator("td span")
    return spans.evaluate_all("list => list.map(s => [s.textContent, s.className])")


def test_the_slider_moves_through_the_training(show_figure) -> None:
    page = show_figure(scrubber())
    status = page.locator(".cc-status")
    expect(status).to_have_text(
        "After 50 updates, 0 of these 2 are right. Right over more texts: names 0 %, "
        "colors 10 %. Learning rate: 0.0015."
    )
    page.get_by_label("updates", exact=True).fill("2")
    expect(status).to_have_text(
        "After 250 updates, 2 of these 2 are right. Right over more texts: names 100 %, "
        "colors 100 %. Learning rate: 0.003."
    )
    expect(page.locator("thead")).to_contain_text("after 250 updates")


def test_each_right_word_is_marked_once(show_figure) -> None:
    page = show_figure(scrubber(moment=1))
    assert marked(page, 0) == [
        ["heart", "ts-right"],
        ["of", "ts-wrong"],
        ["heart", "ts-wrong"],
    ]
    assert marked(page, 1) == [["yellow", "ts-right"], ["heart", "ts-right"]]


def test_a_text_without_end_is_cut(show_figure) -> None:
    page = show_figure(scrubber())
    assert marked(page, 0) == [["woman", "ts-wrong"]] * 10
    expect(page.locator(".ts-texts tbody tr").first).to_contain_text("… (32 words)")


def test_keys_move_the_slider_and_the_marks(show_figure) -> None:
    page = show_figure(scrubber())
    marks = "list => list.map(line => Number(line.getAttribute('x1')))"
    before = page.locator(".cc-mark").evaluate_all(marks)
    page.get_by_label("updates", exact=True).focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".cc-status")).to_contain_text("After 100 updates")
    after = page.locator(".cc-mark").evaluate_all(marks)
    step = 50 / 250 * (284 - 40)
    assert all(abs(b - a - step) < 1e-6 for a, b in zip(before, after, strict=True))


def test_curves_are_named_and_drawn(show_figure) -> None:
    page = show_figure(scrubber())
    assert page.locator(".ts-legend").inner_text().split() == ["names", "colors"]
    points = page.locator("polyline.ts-0").get_attribute("points").split()
    assert [float(p.split(",")[1]) for p in points] == [136, 72, 8]
    assert len(page.locator("polyline.ts-loss").get_attribute("points").split()) == 84


def test_it_fits_a_phone_and_follows_the_theme(show_figure) -> None:
    page = show_figure(scrubber(), width=400, has_touch=True, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    card = page.locator(".training-scrubber")
    assert card.evaluate("e => e.hasAttribute('data-dark')")
    page.get_by_label("updates", exact=True).tap()  # its middle
    expect(page.locator(".cc-status")).to_contain_text("After 100 updates")


def test_without_javascript_there_is_a_table(show_figure) -> None:
    page = show_figure(scrubber(moment=2), java_script_enabled=False)
    expect(page.get_by_role("row", name="rotes herz").first).to_contain_text(
        "red heart"
    )


def test_chapter_has_the_scrubber(open_page: Callable[..., Page]) -> None:
    page = open_page(CHAPTER, width=400)
    card = page.get_by_role("figure", name="Training scrubber")
    expect(card.locator(".cc-status")).to_contain_text("After 100 updates")
    card.get_by_label("updates", exact=True).fill("15")
    expect(card.locator(".cc-status")).to_contain_text("After 800 updates")
    assert card.locator(".ts-right").count() > 15
    assert card.evaluate("e => e.scrollWidth <= e.clientWidth")
    expect(card.locator("figcaption")).to_contain_text("several moments")
