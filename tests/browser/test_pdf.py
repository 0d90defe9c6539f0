"""A chapter as a PDF: its text, formulas and figures are there, its solutions at the end."""

import json
import re
import shutil
import zlib
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from playwright.sync_api import Browser

from companion.book import pdf
from companion.book.slim import KERNEL
from companion.exercises import quiz

ROOT = Path(__file__).parents[2]
DRAW = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"
FIGURE = {
    "mystnb": {
        "image": {"alt": "A line that rises"},
        "figure": {"caption": "A line.", "name": "fig-line"},
    }
}
SOLUTION = {"tags": ["hide-cell"], "mystnb": {"code_prompt_show": "Show the solution"}}
QUIZ = 'from companion.exercises import quiz\nquiz("beyond_the_values")'
EXERCISE = """:::{admonition} Exercise 1.1: add
:class: exercise
*Difficulty ●○○○○, about 5 minutes.* Add.
:::"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def printed(chromium_path: str, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a book with one chapter."""
    root = tmp_path_factory.mktemp("book")
    shutil.copy(ROOT / "_config.yml", root)
    shutil.copytree(ROOT / "book" / "_static", root / "book" / "_static")
    (root / "book" / "references.bib").write_text("")
    (root / "book" / "intro.md").write_text("# A small book\n\nWith one chapter.\n")
    parts = [{"caption": "Part", "chapters": [{"file": "book/01_a"}]}]
    table = {"format": "jb-book", "root": "book/intro", "parts": parts}
    (root / "_toc.yml").write_text(json.dumps(table))  # JSON is YAML
    cells = [
        new_markdown_cell("# The first chapter\n\n$$\\int_0^1 x^2\\,dx = \\frac13$$"),
        new_code_cell(DRAW, metadata=FIGURE),
        new_markdown_cell(EXERCISE),
        new_code_cell("print('the answer is', 1 + 1)", metadata=SOLUTION),
        new_code_cell(QUIZ),
        new_markdown_cell("## The last section\n\nNothing else."),
    ]
    notebook = new_notebook(cells=cells, metadata=KERNEL)
    nbformat.write(notebook, root / "book" / "01_a.ipynb")
    assert pdf.pdf(root) == 0
    return (root / "_build" / "pdf" / "book.pdf").read_bytes()


def streams(printed: bytes) -> str:
    """What the compressed parts of a PDF hold, as far as it is text."""
    found = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", printed, re.DOTALL)
    parts = []
    for part in found:
        try:
            parts.append(zlib.decompress(part).decode("latin1"))
        except zlib.error:
            continue
    return "\n".join(parts)


def titles(printed: bytes) -> list[str]:
    """The titles of a PDF's outline, in the order of reading."""
    objects = rb"(\d+) 0 obj\n<<(/Title .*?)>>\nendobj"
    entries = dict(re.findall(objects, printed, re.DOTALL))
    found: list[str] = []

    def walk(body: bytes) -> None:
        for key in (b"First", b"Next"):
            if key == b"First" and b"/Title" in body:
                title = re.match(rb"/Title (?:\((.*?)\)\n|<FEFF(\w+)>)", body)
                plain, wide = title.groups()
                found.append(
                    bytes.fromhex(wide.decode()).decode("utf-16-be")
                    if wide
                    else plain.decode("latin1")
                )
            if link := re.search(rb"/%s (\d+) 0 R" % key, body):
                walk(entries[link[1]])

    root = re.search(rb"<<(/Type /Outlines.*?)>>", printed, re.DOTALL)
    walk(root[1])
    return found


def test_it_has_pages_and_an_outline(printed: bytes) -> None:
    assert printed.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type /Page\b", printed)) >= 2
    outline = " ".join(titles(printed))
    for title in ("A small book", "The first chapter", "The last section", "Solutions"):
        assert title in outline


def test_formulas_are_drawn_and_not_left_as_source(printed: bytes) -> None:
    fonts = set(re.findall(rb"/FontName /\w+\+([\w-]+)", printed))
    assert {b"MathJax_Main-Regular", b"MathJax_Math-Italic"} <= fonts
    assert "\\int" not in streams(printed)


def test_the_figure_and_its_text_are_there(printed: bytes) -> None:
    assert re.search(rb"/Subtype /Image", printed)
    everything = printed.decode("latin1") + streams(printed)
    wide = "A line that rises".encode("utf-16-be").decode("latin1")
    assert "A line that rises" in everything or wide in everything


def test_the_solution_stands_after_everything_else(printed: bytes) -> None:
    order = titles(printed)
    last = max(i for i, title in enumerate(order) if "The last section" in title)
    solutions = next(i for i, title in enumerate(order) if "Solutions" in title)
    exercise = next(i for i, title in enumerate(order) if "Exercise 1.1" in title)
    assert all("#" not in title for title in order)
    assert last < solutions < exercise


def test_the_reasons_of_a_quiz_are_open_and_at_the_end(browser: Browser) -> None:
    page = browser.new_page()
    question = quiz("beyond_the_values")
    page.set_content(f"<article><h1>A chapter</h1>{question.to_html()}</article>")
    page.evaluate(pdf.PREPARE)
    [first, last] = page.locator(".quiz").all()
    for letter, option in question.task.options.items():
        assert f"{letter}. {option.text}" in first.inner_text()
        assert option.why not in first.inner_text()
        assert f"{letter}. {option.text}" in last.inner_text()
        assert option.why in last.inner_text()
    assert page.locator(".pdf-solutions .quiz").count() == 1
    page.close()
