"""The span explorer as a reader uses it: its two sides are those of SpanExplorer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from companion.figures.span_explorer import SpanExplorer

CHAPTER = "book/07_5_t5_bart.html"
TOKENS = "thank you for inviting me to your <b> party last week".split()
LABELS = {
    "spans": "T5’s spans",
    "infilling": "BART’s infilling",
    "masks": "BERT’s masks",
}


def sides(page: Page) -> tuple[list[str], list[str]]:
    return tuple(
        page.locator(f"{name} > *").all_inner_texts()
        for name in (".se-reads", ".se-writes")
    )


def agree(page: Page, figure: SpanExplorer) -> None:
    assert sides(page) == (figure.reads(), figure.writes())
    expect(page.locator(".cc-status")).to_contain_text(
        f"Of 11 tokens {sum(figure.gone)} are out"
    )


@pytest.mark.parametrize("noise", LABELS)
@pytest.mark.parametrize("out", [[], [2, 3, 9], [0, 1, 10], [1, 3, 5, 7], range(11)])
def test_both_sides_are_those_of_python(show_figure, noise: str, out) -> None:
    gone = [i in out for i in range(11)]
    figure = SpanExplorer(TOKENS, gone, noise)
    page = show_figure(figure)
    if not out and noise == "masks":
        assert sides(page)[1] == ["nothing"] and figure.writes() == []
    else:
        agree(page, figure)
    expect(page.get_by_label(LABELS[noise])).to_be_checked()


def test_a_click_takes_a_token_out_and_puts_it_back(show_figure) -> None:
    figure = SpanExplorer(TOKENS, [False] * 11)
    page = show_figure(figure)
    for place in (2, 3, 7, 2):
        page.get_by_role("button", name=TOKENS[place], exact=True).click()
        figure.gone = [g != (i == place) for i, g in enumerate(figure.gone)]
        agree(page, figure)
    assert sides(page)[1] == ["<A>", "inviting", "<B>", "<b>", "<C>"]
    page.get_by_label(LABELS["masks"]).check()
    figure.noise = "masks"
    agree(page, figure)


def test_keys_go_to_a_token_and_take_it_out(show_figure) -> None:
    page, figure = (
        show_figure(SpanExplorer(TOKENS, [False] * 11)),
        SpanExplorer(TOKENS, [False] * 11),
    )
    page.get_by_role("button", name="thank").focus()
    for key in (
        "ArrowRight",
        "ArrowRight",
        "Space",
        "End",
        "ArrowLeft",
        "Enter",
        "Home",
        "ArrowUp",
    ):
        page.keyboard.press(key)
    figure.gone = [i in (2, 9) for i in range(11)]
    agree(page, figure)
    expect(page.locator(".se-text :focus")).to_have_text("thank")


def test_share_and_length_and_new_draws_are_those_of_python(show_figure) -> None:
    figure = SpanExplorer(TOKENS, shares=(0.2, 0.4), lengths=(1, 4), number=3)
    page = show_figure(figure)
    agree(page, figure)

    def at(share: int, length: int, draw: int) -> None:
        figure.gone = [bit == "1" for bit in figure.draws[share][length][draw]]
        agree(page, figure)

    page.get_by_label("40 %").check()
    at(1, 0, 0)
    page.get_by_label("4", exact=True).check()
    at(1, 1, 0)
    for draw in (1, 2, 0):
        page.get_by_role("button", name="draw again").click()
        at(1, 1, draw)


def test_it_fits_a_phone_and_follows_the_theme(show_figure) -> None:
    page = show_figure(
        SpanExplorer(TOKENS), width=400, has_touch=True, color_scheme="dark"
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    card = page.get_by_role("figure", name="Span explorer")
    assert card.evaluate("e => e.hasAttribute('data-dark')")
    token = page.get_by_role("button", name="party")
    before = token.get_attribute("aria-pressed")
    token.tap()
    expect(token).to_have_attribute(
        "aria-pressed", "true" if before == "false" else "false"
    )


def test_without_javascript_there_is_a_sentence(show_figure) -> None:
    figure = SpanExplorer(TOKENS, [i == 7 for i in range(11)])
    page = show_figure(figure, java_script_enabled=False)
    expect(page.locator("noscript p")).to_contain_text("has to write “<A> <b> <B>”")


def test_chapter_has_the_explorer(open_page: Callable[..., Page]) -> None:
    page = open_page(CHAPTER, width=400)
    card = page.get_by_role("figure", name="Span explorer")
    said = card.locator(".cc-status")
    before = said.inner_text()
    card.locator(".se-text button").first.click()
    expect(said).not_to_have_text(before)
    page.keyboard.press("Space")
    expect(said).to_have_text(before)
    assert card.evaluate("e => e.scrollWidth <= e.clientWidth")
