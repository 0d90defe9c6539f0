"""Fixtures that drive headless Chromium against the built book, from its files.

`built_book` is the folder of the pages (built first where they are missing or out of date),
`open_page` opens one of them. What a page may not do is checked after every test: ask another host
for anything, or log an error.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from companion.book.chromium import ARGS, HOW_TO_GET, find_chromium
from companion.figures.widget import Figure

ROOT = Path(__file__).parents[2]
NOT_TESTED = f"No Chromium was found, so the built pages were not tested. {HOW_TO_GET}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium_path() -> str:
    path = find_chromium()
    if path is None and os.environ.get("REQUIRE_BROWSER") == "1":
        pytest.fail(f"REQUIRE_BROWSER=1 is set. {NOT_TESTED}", pytrace=False)
    if path is None:
        pytest.skip(NOT_TESTED)
    return path


@pytest.fixture(scope="session")
def built_book(chromium_path: str) -> Path:
    """The folder of the built pages; a build by another process is waited for."""
    # In a process of its own: a Playwright that runs by now holds this one's event loop.
    command = [sys.executable, "-m", "companion.book", "build"]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if built.returncode:
        said = built.stdout + built.stderr
        pytest.fail(
            f"the book could not be built: run `make book`\n{said}", pytrace=False
        )
    return ROOT / "_build" / "html"


@pytest.fixture(
    scope="module"
)  # a running Playwright keeps other modules from starting an event loop
def browser(chromium_path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=ARGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, built_book: Path) -> Iterator[Callable[..., Page]]:
    """`open_page("book/intro.html", width=400, dark=True)` -> a Playwright page that shows it."""
    contexts, faults = [], []

    def open_page(name: str, *, width: int = 1280, dark: bool = False) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
        )
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: _note_foreign(request.url))
        page.on("pageerror", lambda error: faults.append(f"{name}: uncaught {error}"))
        page.on("console", lambda message: _note_error(message.type, message.text))
        path, _, query = name.partition("?")
        page.goto(
            f"file://{quote(str(built_book / path))}" + (f"?{query}" if query else "")
        )
        return page

    def _note_foreign(url: str) -> None:
        if not url.startswith(("file:", "data:", "blob:")):
            faults.append(f"request to another host: {url}")

    def _note_error(kind: str, text: str) -> None:
        if kind == "error":
            faults.append(f"console error: {text}")

    yield open_page
    for context in contexts:
        context.close()
    assert not faults, "\n".join(faults)


@pytest.fixture
def show_figure(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """`show_figure(figure, width=400)` -> a page that holds nothing but this figure."""
    contexts, faults = [], []

    def show_figure(figure: Figure, *, width: int = 800, **options: object) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        html = tmp_path / "page.html"
        html.write_text(
            f"<!doctype html><meta charset=utf-8><body style='margin:0'>{figure.to_html()}",
            encoding="utf8",
        )
        page.goto(html.as_uri())
        if options.get("java_script_enabled", True):
            expect(page.locator(".companion-figure-view > *")).to_have_count(1)
        return page

    yield show_figure
    for context in contexts:
        context.close()
    assert faults == []
