"""Every page by axe, in light and dark; how much it weighs; what its figures say.

axe is the engine behind most checkers of accessibility. Its script comes from a Python
package and is put into the page, which asks nobody for anything.
"""

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import axe_playwright_python
import pytest
from playwright.sync_api import Page

from companion.book import toc

ROOT = Path(__file__).parents[2]
PAGES = [str(path.relative_to(ROOT).with_suffix(".html")) for path in toc.pages(ROOT)]
CHAPTERS = [
    str(path.relative_to(ROOT).with_suffix(".html")) for path in toc.notebooks(ROOT)
]
OTHERS = ["search.html", "genindex.html", "_modules/companion/layers/masks.html"]
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf8")
MAX_MEGABYTES = 2.0
OpenPage = Callable[..., Page]

every_page = pytest.mark.parametrize("name", PAGES)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", PAGES + OTHERS)
def test_axe_finds_nothing_serious(open_page: OpenPage, name: str, dark: bool) -> None:
    page = open_page(name, dark=dark)
    page.wait_for_load_state()
    page.evaluate("window.MathJax?.startup?.promise")
    assert serious_faults(page, only_colors=dark) == []  # the rest is alike


def serious_faults(page: Page, only_colors: bool = False) -> list[str]:
    """What axe calls serious or critical: the rule, the element and the reason, a line each."""
    page.evaluate(AXE)
    options = "{resultTypes: ['violations'], preload: false%s}"
    rules = ", runOnly: ['color-contrast']" if only_colors else ""
    found = page.evaluate(f"axe.run({options % rules})")
    return [
        f"{rule['id']}: {node['html'][:120]} ({check['message']})"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
        for check in (node["any"] + node["all"] + node["none"])[:1]
    ]


def test_axe_sees_a_fault(open_page: OpenPage) -> None:
    """The check above would notice: a picture without a text, and grey on grey."""
    page = open_page(PAGES[0])
    page.evaluate(
        """() => document.querySelector("article").insertAdjacentHTML("beforeend",
             "<img src='data:,'><p style='color: #aaa; background: #bbb'>faint</p>")"""
    )
    rules = {fault.partition(":")[0] for fault in serious_faults(page)}
    assert {"image-alt", "color-contrast"} <= rules


@every_page
def test_a_page_weighs_under_two_megabytes(built_book: Path, name: str) -> None:
    """The page and what only it loads: its pictures. Theme, MathJax and index serve all."""
    page = built_book / name
    text = page.read_text(encoding="utf8")
    own = {
        (page.parent / unquote(urlsplit(source).path)).resolve()
        for source in re.findall(r'<(?:img|source|script)[^>]* src="([^"]+)"', text)
        if not urlsplit(source).scheme
    }
    static = built_book / "_static"
    shared = built_book / "searchindex.js"
    files = [page, *(f for f in own if not f.is_relative_to(static) and f != shared)]
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    assert megabytes < MAX_MEGABYTES


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_figure_has_caption_and_text(open_page: OpenPage, name: str) -> None:
    page = open_page(name)
    for figure in page.locator("article figure:not(.companion-figure figure)").all():
        caption = figure.locator("figcaption").inner_text()
        assert len(caption.split()) >= 4, caption
    for picture in page.locator("article .cell_output img").all():
        text = picture.get_attribute("alt") or ""
        assert len(text.split()) >= 4, picture.get_attribute("src")
        assert picture.evaluate("image => !!image.closest('figure')"), text


@pytest.mark.parametrize("name", [n for n in CHAPTERS if re.match(r"book/0\d", n)])
def test_a_chapter_has_a_figure_that_can_be_moved(
    open_page: OpenPage, name: str
) -> None:
    """Something that draws itself by script, can be reached by Tab, and has a name."""
    page = open_page(name)
    page.wait_for_selector("article .companion-figure")
    figures = page.locator("article .companion-figure")
    for figure in figures.all():
        assert figure.locator("[tabindex='0'], input, button, select").count()


@every_page
def test_what_is_typed_by_keyboard_reaches_the_text(
    open_page: OpenPage, name: str
) -> None:
    """The first Tab shows a link that skips the menu."""
    page = open_page(name)
    page.keyboard.press("Tab")
    focused = page.evaluate("document.activeElement.textContent.trim()")
    assert "skip" in focused.lower() or "main content" in focused.lower()


def test_the_source_of_a_class_is_one_click_away(open_page: OpenPage) -> None:
    page = open_page("book/api/layers.html")
    name = "companion.layers.multi_head.MultiHeadAttention"
    page.locator(f"dt[id='{name}'] a:has-text('[source]')").click()
    page.wait_for_url("**/_modules/companion/layers/multi_head.html#line-*")
    line = int(page.url.rpartition("-")[2])
    source = (ROOT / "companion/layers/multi_head.py").read_text().splitlines()
    assert source[line - 1].startswith("class MultiHeadAttention")
    assert page.locator(f"[id='line-{line}']").count() == 1


def test_claims_lead_to_their_cells(open_page: OpenPage) -> None:
    page = open_page("book/claims.html")
    links = page.locator("article a[href*='#cell-']")
    assert links.count() >= 60
    cell = links.first.get_attribute("href").partition("#")[2]
    links.first.click()
    page.wait_for_url(f"**#{cell}")
    page.wait_for_selector(f"[id='{cell}']", state="attached")
    box = page.locator(f"[id='{cell}']")
    assert box.count() == 1 and "cell" in box.get_attribute("class").split()
