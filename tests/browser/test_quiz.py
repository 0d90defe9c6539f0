"""Choice questions as a reader meets them: on a page with no kernel, by keyboard alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from companion.exercises import quiz

NAME = "leak_after_the_softmax"
CHAPTER = "book/01_attention.html"
TASK = quiz(NAME).task


def opens_and_closes(page: Page, options: Locator) -> None:
    """Tab reaches each option, Enter and Space open it, and only one is open at a time."""
    options.first.locator("summary").focus()
    for i, (letter, option) in enumerate(TASK.options.items()):
        if i:
            page.keyboard.press("Tab")
        summary, reason = (options.nth(i).locator(part) for part in ("summary", "div"))
        expect(summary).to_be_focused()
        expect(reason).to_be_hidden()
        page.keyboard.press("Enter" if i % 2 else "Space")
        expect(reason).to_be_visible()
        expect(reason).to_contain_text(f"{TASK.mark(letter)} ")
        expect(reason).to_contain_text(option.why)
        opened = options.evaluate_all("all => all.map((option) => option.open)")
        assert opened == [j == i for j in range(len(TASK.options))]
    page.keyboard.press("Enter")
    assert not any(options.evaluate_all("all => all.map((option) => option.open)"))


@pytest.mark.parametrize("width", [800, 360])
def test_it_needs_no_script(browser: Browser, width: int) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 900}, java_script_enabled=False
    )
    page = context.new_page()
    page.set_content(quiz(NAME).to_html())
    expect(page.get_by_role("group", name=f"Question: {TASK.title}")).to_be_visible()
    opens_and_closes(page, page.locator("details"))
    context.close()


@pytest.mark.parametrize("dark", [False, True])
def test_in_the_book(open_page: Callable[..., Page], dark: bool) -> None:
    page = open_page(CHAPTER, dark=dark, width=400)
    group = page.get_by_role("group", name=f"Question: {TASK.title}")
    expect(group).to_be_visible()
    opens_and_closes(page, group.locator("details"))
    ink, text, card = group.evaluate(
        """quiz => [
             getComputedStyle(quiz).color,
             getComputedStyle(document.querySelector("article p")).color,
             getComputedStyle(quiz.closest(".text_html")).backgroundColor,
           ]"""
    )
    assert ink == text
    assert card == "rgba(0, 0, 0, 0)"
