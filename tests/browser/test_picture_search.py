"""The picture search as a reader uses it: by typing, by buttons, by pictures, by keys."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from playwright.sync_api import Page, expect

from companion.data.openmoji import openmoji
from companion.figures import PictureSearch
from companion.training.clip import Captions, small_clip

CHAPTER = "book/08_5_clip.html"
# Words that are known, in pieces, unknown and marked; more than the tower can read; two.
QUERIES = (
    "cat",
    "grinning cat with wry smile",
    "O'clock #5, naïve Zebra",
    "日本 face",
    "a " * 40 + "heart",
    "cat + heart",
)


@pytest.fixture(scope="module")
def figure() -> PictureSearch:
    """A model that was not trained: its scores are as good as any to be compared."""
    pictures = openmoji(progress=False)
    captions = Captions([text for texts in pictures.captions for text in texts], 800)
    torch.manual_seed(0)
    model = small_clip(captions, text_layers=2).eval()
    with torch.no_grad():  # so that texts differ, and no weight is as it starts
        for parameter in model.text.parameters():
            parameter.add_(torch.randn(parameter.shape).to(parameter.device) * 0.1)
    some = pictures[list(range(0, 1600, 40))]
    marked = [place % 2 == 0 for place in range(len(some))]
    return PictureSearch(model, captions, some, "cat", marked=marked)


def shown(page: Page) -> list[tuple[str, float]]:
    """The name and the cosine of each picture, in order."""
    texts = page.locator(
        ".ps-results li button > span:last-of-type"
    ).all_text_contents()
    return [(text.rpartition(" ")[0], float(text.rpartition(" ")[2])) for text in texts]


def expected(figure: PictureSearch) -> list[tuple[str, float]]:
    scores = figure.scores()
    order = scores.argsort(descending=True)[:12].tolist()
    return [(figure.names[i], scores[i].item()) for i in order]


def ask(page: Page, query: str) -> None:
    page.get_by_label("Text to search for").fill(query)


@pytest.mark.parametrize("query", QUERIES)
def test_the_page_computes_what_the_model_does(show_figure, figure, query: str) -> None:
    page = show_figure(figure)
    ask(page, query)
    figure.query = query
    wanted = expected(figure)
    figure.query = "cat"
    found = shown(page)
    assert len(found) == 12
    for (_, score), (_, want) in zip(found, wanted, strict=True):
        assert score == pytest.approx(want, abs=0.012)
    assert wanted[0][0] in [name for name, _ in found[:3]]


def test_the_first_state_is_the_one_asked_for(show_figure, figure) -> None:
    page = show_figure(figure)
    expect(page.get_by_label("Text to search for")).to_have_value("cat")
    assert shown(page)[0][0] == figure.found(1)[0]
    expect(page.locator(".ps-status")).to_contain_text("Nearest to “cat”")
    names = {n for n, m in zip(figure.names, figure.marked, strict=True) if m}
    marked = page.locator(".ps-new > span:last-of-type").all_text_contents()
    assert {text.rpartition(" ")[0] for text in marked} == {
        name for name, _ in shown(page) if name in names
    }


def test_a_button_asks_and_an_empty_text_asks_for_one(show_figure, figure) -> None:
    page = show_figure(figure)
    page.get_by_role("button", name="sad face", exact=True).click()
    expect(page.get_by_label("Text to search for")).to_have_value("sad face")
    expect(page.locator(".ps-status")).to_contain_text("“sad face”")
    ask(page, " + ")
    expect(page.locator(".ps-status")).to_contain_text("Type a text")
    expect(page.locator(".ps-results li")).to_have_count(0)


def test_a_picture_is_followed_by_keyboard_to_those_like_it(
    show_figure, figure
) -> None:
    page = show_figure(figure)
    second = shown(page)[1][0]
    page.get_by_label("Text to search for").focus()
    for _ in range(len(figure.ideas) + 2):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".ps-status")).to_contain_text(f"the picture of “{second}”")
    name, score = shown(page)[0]
    assert name == second and score == 1.0
    ask(page, "cat")
    expect(page.locator(".ps-status")).to_contain_text("Nearest to “cat”")


def test_it_fits_a_phone_and_follows_the_theme(show_figure, figure) -> None:
    page = show_figure(figure, width=400, has_touch=True, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    search = page.locator(".picture-search")
    assert search.evaluate("e => e.hasAttribute('data-dark')")


def test_without_javascript_there_is_a_sentence(show_figure, figure) -> None:
    page = show_figure(figure, java_script_enabled=False)
    expect(page.locator("noscript p")).to_contain_text(figure.found(1)[0])


def test_chapter_has_the_search(open_page: Callable[..., Page]) -> None:
    page = open_page(CHAPTER, width=400)
    search = page.get_by_role("group", name="Search pictures by text").first
    ask(page, "face")
    expect(search.locator(".ps-status")).to_contain_text("Nearest to “face”")
    expect(search.locator(".ps-results li")).to_have_count(12)
    assert search.evaluate("e => e.scrollWidth <= e.clientWidth")
