"""Every page of the built book, as a reader meets it: from files, without a network, on a phone."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Page

from companion.book import toc

ROOT = Path(__file__).parents[2]
PAGES = [str(path.relative_to(ROOT).with_suffix(".html")) for path in toc.pages(ROOT)]
OpenPage = Callable[..., Page]

every_page = pytest.mark.parametrize("name", PAGES)


@every_page
def test_page_is_whole(open_page: OpenPage, name: str) -> None:
    page = open_page(name)
    assert page.locator("article h1").count() == 1
    check_mathematics(page)
    check_pictures(page)
    assert dead_links(page) == []


@every_page
def test_page_fits_a_phone(open_page: OpenPage, name: str) -> None:
    page = open_page(name, width=400)
    check_mathematics(page)
    too_wide = page.evaluate(
        """() => document.documentElement.scrollWidth <= 400 ? [] :
             ["the page scrolls sideways"].concat([...document.querySelectorAll("article *")]
               .filter(element => element.getBoundingClientRect().right > 401)
               .map(element => element.outerHTML.slice(0, 120)))"""
    )
    assert too_wide == []
    squeezed = page.evaluate(
        """() => [...document.querySelectorAll("article img")].filter(image => image.naturalWidth)
             .filter(({width, height, naturalWidth, naturalHeight}) =>
               Math.abs((width / height) / (naturalWidth / naturalHeight) - 1) > 0.1)
             .map(image => image.alt)"""
    )
    assert squeezed == []


def check_mathematics(page: Page) -> None:
    """Wait until MathJax has drawn every formula, and see that it understood them."""
    formulas = page.locator(".math").count()
    page.wait_for_function(
        f"document.querySelectorAll('.math mjx-container').length >= {formulas}"
    )
    assert page.locator("mjx-merror, [data-mjx-error]").count() == 0


def check_pictures(page: Page) -> None:
    """Every picture is loaded, and has a text for who cannot see it."""
    broken = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
    assert page.evaluate(broken) == []
    for image in page.locator("article img").all():
        source, text = image.get_attribute("src"), image.get_attribute("alt")
        # Sphinx falls back on the file's name, which tells a reader nothing.
        assert text and Path(source).name not in text, f"no alt text: {source}"


def dead_links(page: Page) -> list[str]:
    """The links to files of the book, or to places in them, that are not there."""
    dead = []
    for link in sorted(
        set(page.eval_on_selector_all("a[href]", "links => links.map(a => a.href)"))
    ):
        parts = urlsplit(link)
        if parts.scheme != "file":
            continue
        path, place = Path(unquote(parts.path)), unquote(parts.fragment)
        if not path.exists():
            dead.append(link)
        elif place and path.suffix == ".html":
            text = path.read_text(encoding="utf8")
            if f'id="{place}"' not in text and f'name="{place}"' not in text:
                dead.append(link)
    return dead


def test_search_works_without_a_server(open_page: OpenPage) -> None:
    page = open_page("search.html?q=attention")
    page.wait_for_selector("#search-results li a")
    assert "attention" in page.locator("#search-results").inner_text().lower()


@pytest.mark.parametrize("width", [1280, 400])
def test_search_field_opens_the_search_page(open_page: OpenPage, width: int) -> None:
    page = open_page(PAGES[0], width=width)
    page.locator("button.search-button__button:visible").first.click()
    page.locator("input[type=search]:visible").first.fill("attention")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li a")


def test_dark_mode_can_be_switched_on(open_page: OpenPage) -> None:
    page = open_page(PAGES[0])
    theme = "document.documentElement.dataset.theme"
    seen = {page.evaluate(theme)}
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    for _ in range(3):  # it goes round light, dark and "as the system has it"
        page.locator("button.theme-switch-button:visible").first.click()
        seen.add(page.evaluate(theme))
        if page.evaluate(theme) == "dark":
            assert page.evaluate(background) != light
    assert seen == {"light", "dark"}


def test_a_report_takes_the_colors_of_a_dark_page(open_page: OpenPage) -> None:
    page = open_page("book/01_attention.html", dark=True)
    ink, text, card = page.locator(".check-report").first.evaluate(
        """report => [
             getComputedStyle(report).color,
             getComputedStyle(document.querySelector("article p")).color,
             getComputedStyle(report.closest(".text_html")).backgroundColor,
           ]"""
    )
    assert ink == text
    assert card == "rgba(0, 0, 0, 0)"


def test_a_chapter_can_be_downloaded_as_a_notebook(
    open_page: OpenPage, built_book: Path
) -> None:
    for name in PAGES:
        source = ROOT / Path(name).with_suffix(".ipynb")
        if source.is_file():
            link = (
                open_page(name)
                .locator("a.btn-download-source-button")
                .first.get_attribute("href")
            )
            assert (built_book / name).parent.joinpath(
                unquote(link)
            ).resolve().suffix == ".ipynb"


def test_pages_are_one_connected_book(open_page: OpenPage) -> None:
    name, walked = "index.html", []
    page = open_page(name)
    page.wait_for_url("**/book/intro.html")
    while True:
        walked.append(page.url.split("/_build/html/")[1])
        following = page.locator("a.right-next")
        if not following.count():
            break
        following.first.click()
        page.wait_for_load_state()
    assert walked == PAGES
