"""The whole book as one PDF: one long page, printed by Chromium.

Interactive figures stand in their first state. What is folded away on the pages is open,
but solutions and the reasons for the options of a quiz stand together at the end, so
that nobody reads one by accident.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from companion.book import build as book
from companion.book.chromium import ARGS, HOW_TO_GET, find_chromium

WAIT_SECONDS = 900
FOOTER = (
    '<div style="width: 100%; font-size: 8px; text-align: center; color: #555">'
    '<span class="pageNumber"></span></div>'
)

# Runs in the page. Formulas and figures draw themselves; the rest is made ready for paper.
PREPARE = """
async () => {
  document.documentElement.dataset.theme = "light";
  document.documentElement.dataset.mode = "light";
  for (const image of document.images) image.loading = "eager";
  for (const mark of document.querySelectorAll(".headerlink, .onlyprint")) mark.remove();
  // Sphinx names the page itself in links within it, by a path that leads elsewhere.
  for (const link of document.querySelectorAll("a[href*='.html#']"))
    if (document.getElementById(decodeURIComponent(link.hash.slice(1))))
      link.href = link.hash;

  const appendix = document.createElement("section");
  appendix.className = "pdf-solutions";
  appendix.innerHTML = "<h1>Solutions</h1>";
  let exercise = "";
  const places = "article .admonition.exercise, article .quiz, article details:not(.quiz *)";
  for (const element of document.querySelectorAll(places)) {
    if (element.matches(".exercise")) {
      exercise = element.querySelector(".admonition-title")?.textContent.trim() ?? "";
    } else if (element.matches(".quiz")) {
      const answers = element.cloneNode(true);
      for (const option of answers.querySelectorAll("details")) {
        option.removeAttribute("name");  // of one name, only one can be open
        option.open = true;
      }
      appendix.append(answers);
      for (const option of element.querySelectorAll("details")) {
        const text = document.createElement("div");
        text.append(...option.querySelector("summary").childNodes);
        option.replaceWith(text);
      }
    } else if (/solution/i.test(element.querySelector("summary")?.textContent ?? "")) {
      const title = document.createElement("h2");
      title.textContent = exercise;
      const note = document.createElement("p");
      note.className = "pdf-solution-note";
      note.textContent = "The solution is at the end of the book.";
      element.replaceWith(note);
      element.querySelector("summary").remove();
      appendix.append(title, ...element.childNodes);
    } else {
      element.open = true;
    }
  }
  if (appendix.children.length > 1) document.querySelector("article").append(appendix);
  for (const folded of document.querySelectorAll(".toggle-hidden"))
    folded.classList.remove("toggle-hidden");

  if (window.MathJax?.startup) await MathJax.startup.promise;
  const loaded = (image) => image.complete ||
    new Promise((done) => { image.onload = image.onerror = done; });
  await Promise.all([...document.images].map(loaded));
  await document.fonts.ready;
}
"""


def pdf(root: Path, only: str = "", jobs: int = 2) -> int:
    """Execute what changed, put the book on one page and print it; the exit status.

    Args:
        root: of the repository.
        only: chapters whose file name starts so; the others are left out.
        jobs: chapters to execute at a time.
    """
    chromium = find_chromium()
    if chromium is None:
        print(
            f"The book is printed by Chromium, and none was found. {HOW_TO_GET}",
            file=sys.stderr,
        )
        return 1
    start = time.monotonic()
    page = book.build_single_page(root, only, jobs)
    if page is None:
        return 1
    target = root / "_build" / "pdf" / (f"{only}.pdf" if only else "book.pdf")
    target.parent.mkdir(exist_ok=True)
    print("Printing ...", flush=True)
    print_page(chromium, page, target)
    megabytes = target.stat().st_size / 1e6
    print(
        f"{target}\n{megabytes:.1f} MB, made in {time.monotonic() - start:.0f} s.",
    )
    return 0


def print_page(chromium: str, page: Path, target: Path) -> None:
    """Print an HTML file as A4, with an outline and page numbers.

    Raises:
        playwright.sync_api.Error: the page does not come to rest in `WAIT_SECONDS`.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGS)
        tab = browser.new_page(
            viewport={"width": 900, "height": 1200}, color_scheme="light"
        )
        tab.set_default_timeout(1000 * WAIT_SECONDS)
        tab.goto(page.as_uri(), wait_until="load")
        tab.evaluate(PREPARE)
        tab.wait_for_timeout(1000)  # figures that draw in the next frame
        _write(
            target,
            lambda path: tab.pdf(
                path=path,
                format="A4",
                print_background=True,
                outline=True,
                tagged=True,
                display_header_footer=True,
                header_template="<span></span>",
                footer_template=FOOTER,
                margin={
                    "top": "15mm",
                    "bottom": "15mm",
                    "left": "14mm",
                    "right": "14mm",
                },
            ),
        )
        browser.close()


def _write(target: Path, make: Callable[[Path], object]) -> None:
    """Make a file beside its place and move it there: half of one never stands there."""
    part = target.with_suffix(".part.pdf")
    try:
        make(part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
