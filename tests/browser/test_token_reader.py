"""The token reader as a reader uses it: by list, buttons, pointer, keys and touch."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from companion.figures.token_reader import Expected, Reading, TokenReader

CHAPTERS = {
    "book/07_1_bert.html": "“lord”",
    "book/07_2_gpt.html": "bits",
    "book/07_7_comparison.html": "bits",
}


def reader(**options: int) -> TokenReader:
    """Two texts; the first token of the first was not asked."""
    likely = [("cat", 0.5), ("sat\n", 0.25)]
    sides = {
        "both sides": [None, Expected(0.5, likely), Expected(0.25, likely), Expected(1e-5, likely)],
        "left only": [None, Expected(0.125, [("dog", 0.75)]), Expected(0.5, likely), Expected(0.5, likely)],
    }  # fmt: skip
    other = {"left only": [Expected(0.25, likely), Expected(1.0, [("b", 1.0)])]}
    return TokenReader(
        {
            "one": Reading(["the", "cat", "sat\n", "<b>"], sides),
            "two": Reading(["a", "b"], other),
        },
        caption="Below the figure.",
        **options,
    )


def status(page: Page):
    return page.locator(".cc-status")


def bars(page: Page) -> dict[str, str]:
    rows = page.get_by_role("listitem")
    names = rows.locator(".tr-token").all_inner_texts()
    return dict(zip(names, rows.locator(".tr-value").all_inner_texts(), strict=True))


def test_the_most_surprising_token_comes_first(show_figure) -> None:
    page = show_figure(reader())
    expect(status(page)).to_have_text(
        "Here stands “<b>”, with p = 1e-5: 16.6 bits. It is not among the first 2."
    )
    assert bars(page) == {"cat": "0.500", "sat⏎": "0.250", "<b>": "1e-5 ✓"}
    expect(page.get_by_role("radio", name="<b>, 16.6 bits")).to_be_checked()
    expect(page.locator("figcaption")).to_have_text("Below the figure.")
    mean = (1 + 2 - math.log2(1e-5)) / 3
    expect(page.locator(".tr-means")).to_have_text(
        f"Mean of this text, in bits a token: both sides {mean:.2f}; left only 1.67."
    )


def test_another_way_of_reading_keeps_the_token(show_figure) -> None:
    page = show_figure(reader(place=1))
    expect(status(page)).to_contain_text(
        "“cat”, with p = 0.500: 1.0 bits. It is the first guess."
    )
    page.get_by_label("left only").check()
    expect(status(page)).to_contain_text("“cat”, with p = 0.125: 3.0 bits")
    assert bars(page) == {"dog": "0.750", "cat": "0.125 ✓"}


def test_another_text_keeps_the_way_and_asks_its_most_surprising_token(
    show_figure,
) -> None:
    page = show_figure(reader(way=1, place=1))
    page.get_by_label("text").select_option("two")
    expect(status(page)).to_contain_text("“a”, with p = 0.250")
    assert page.get_by_label("left only").is_hidden()  # nothing else to choose
    page.get_by_label("text").select_option("one")
    expect(page.get_by_label("left only")).to_be_checked()
    expect(status(page)).to_contain_text("“cat”, with p = 0.125")


def test_pointing_shows_a_token_and_a_click_keeps_it(show_figure) -> None:
    page = show_figure(reader())
    page.get_by_role("radio", name="sat⏎").hover()
    expect(status(page)).to_contain_text(
        "“sat⏎”, with p = 0.250: 2.0 bits. It is guess 2."
    )
    page.mouse.move(799, 899)
    expect(status(page)).to_contain_text("“<b>”")
    page.get_by_role("radio", name="sat⏎").click()
    page.mouse.move(799, 899)
    expect(status(page)).to_contain_text("“sat⏎”")


def test_arrow_keys_go_through_the_tokens_that_were_asked(show_figure) -> None:
    page = show_figure(reader(place=2))
    page.get_by_role("radio", name="sat⏎").focus()
    for key, token in (
        ("ArrowLeft", "cat"), ("ArrowLeft", "cat"), ("End", "<b>"),
        ("ArrowRight", "<b>"), ("ArrowUp", "sat⏎"), ("Home", "cat"), ("ArrowDown", "sat⏎"),
    ):  # fmt: skip
        page.keyboard.press(key)
        expect(status(page)).to_contain_text(f"“{token}”")
        expect(page.locator(".tr-strip :focus")).to_have_text(token)


def test_surprise_is_seen(show_figure) -> None:
    page = show_figure(reader())
    shares = page.locator(".tr-strip button").evaluate_all(
        "all => all.map((e) => e.style.getPropertyValue('--share'))"
    )
    assert shares == ["13%", "25%", "100%"]  # of 8 bits


def test_it_fits_a_phone_and_follows_the_theme(show_figure) -> None:
    page = show_figure(reader(), width=400, has_touch=True, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    card = page.get_by_role("figure", name="Token reader")
    assert card.evaluate("e => e.hasAttribute('data-dark')")
    page.get_by_role("radio", name="cat").tap()
    expect(status(page)).to_contain_text("“cat”")


def test_without_javascript_there_is_a_sentence(show_figure) -> None:
    page = show_figure(reader(text=1), java_script_enabled=False)
    expect(page.locator("noscript p")).to_contain_text("“two”, mean surprise")


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_has_the_reader(open_page: Callable[..., Page], chapter: str) -> None:
    page = open_page(chapter, width=400)
    card = page.get_by_role("figure", name="Token reader").first
    tokens = card.locator(".tr-strip button")
    tokens.nth(1).click()
    page.mouse.move(0, 0)
    first = card.locator(".cc-status").inner_text()
    assert CHAPTERS[chapter] in card.inner_text()
    page.keyboard.press("End")
    expect(card.locator(".cc-status")).not_to_have_text(first)
    assert card.evaluate("e => e.scrollWidth <= e.clientWidth")
