"""The page "Glossary": each term, what it means, and links to where the chapters use it.

The links are computed from the chapters' text: a link a chapter, to the section in which
the term stands most often.
"""

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path

import yaml

from companion.book.toc import notebooks

FILE = Path(__file__).with_name("glossary.yml")
MOST_LINKS = 6  # of a term: the chapters that use it most
_LABEL = re.compile(r"^\(([\w-]+)\)=$", re.MULTILINE)
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def glossary(root: Path) -> str:
    """Markdown: a glossary, in which each term ends with the places that use it.

    Raises:
        ValueError: no chapter uses a term.
    """
    terms = yaml.safe_load(FILE.read_text(encoding="utf8"))
    lines = ["::::{glossary}"]
    for term in sorted(terms, key=str.lower):
        links = places(root, terms[term].get("words", re.escape(term)))
        if not links:
            raise ValueError(f"glossary.yml: no chapter uses the term {term!r}")
        lines += [
            term,
            f"  {terms[term]['means']}",
            "",
            f"  *Used in* {', '.join(links)}.",
        ]
        lines.append("")
    return "\n".join([*lines, "::::"])


def places(root: Path, words: str) -> list[str]:
    """Links to the sections that use a term most, a chapter each, in the book's order."""
    pattern = re.compile(words, re.IGNORECASE)
    found = []
    for path in notebooks(root):
        sections = Counter(
            {label: len(pattern.findall(text)) for label, text in _sections(path)}
        )
        label, count = sections.most_common(1)[0]
        if count:
            found.append((sections.total(), len(found), _link(path, label)))
    most = sorted(found, reverse=True)[:MOST_LINKS]
    return [link for _, _, link in sorted(most, key=lambda one: one[1])]


def _link(path: Path, label: str) -> str:
    title = chapter_title(path)
    return f"{{ref}}`{title} <{label}>`" if label else f"[{title}]({path.name})"


@cache
def _sections(path: Path) -> list[tuple[str, str]]:
    """The prose of a chapter, by the label that stands before it; "" where none does yet."""
    found: dict[str, str] = {"": ""}
    label = ""
    for cell in json.loads(path.read_text(encoding="utf8"))["cells"]:
        if cell["cell_type"] != "markdown":
            continue
        first, *rest = _LABEL.split(_FENCED.sub("", "".join(cell["source"])))
        found[label] += first
        for label, text in zip(rest[::2], rest[1::2], strict=True):
            # Of an equation or figure: not a place to read from.
            found[label] = found.get(label, "") + text
    return list(found.items())


def chapter_title(path: Path) -> str:
    """A chapter's own title."""
    first = json.loads(path.read_text(encoding="utf8"))["cells"][0]
    return re.search(r"^# (.+)", "".join(first["source"]), re.MULTILINE)[1]
