"""The Sphinx extension of this book: pages that are computed, and places to link to.

A page of Markdown may hold a line such as ``% computed: claims``. It is replaced by what
the function of that name in `COMPUTED` returns, as Markdown, before the page is read.
"""

import re
from collections.abc import Callable
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

from companion.book import anchors, api, source_pages
from companion.book.claims import claims_page
from companion.book.exercises_page import exercise_tables, exercise_totals
from companion.book.glossary import glossary
from companion.book.teaching import hours, teaching

COMPUTED: dict[str, Callable[..., str]] = {
    "api": api.api,
    "claims": claims_page,
    "exercise_tables": exercise_tables,
    "exercise_totals": exercise_totals,
    "glossary": glossary,
    "hours": hours,
    "teaching": teaching,
}
_LINE = re.compile(r"^% computed: (\w+) ?(.*)$", re.MULTILINE)


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx's entry point."""
    app.connect("config-inited", configure)
    app.connect("source-read", compute)
    app.connect("doctree-read", anchors.mark_cells)
    app.connect("doctree-read", api.unlink_foreign)
    app.connect("autodoc-process-docstring", api.read_as_written, priority=400)
    app.connect("autodoc-skip-member", api.skip_member)
    app.connect("build-finished", source_pages.write_source_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def configure(app: Sphinx, config: Config) -> None:
    """Set what `_config.yml` cannot hold: a function."""
    config.linkcode_resolve = source_pages.source_link


def compute(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put what is computed in the place of each line that asks for it."""
    if not app.env.doc2path(docname).endswith(".md"):
        return
    root = Path(app.srcdir)
    source[0] = _LINE.sub(lambda m: COMPUTED[m[1]](root, *m[2].split()), source[0])
