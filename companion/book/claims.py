"""The page "Claims, tested": the chapters' tables in one, with a verdict and a link for each row.

`claims.yml` holds the verdicts and links. What a chapter has in its own table is read from
there, so that the two cannot say different things.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import yaml

from companion.book.anchors import PREFIX
from companion.book.glossary import chapter_title
from companion.book.toc import notebooks

FILE = Path(__file__).with_name("claims.yml")
VERDICTS = {
    "holds": "holds",
    "with conditions": "holds with conditions",
    "not here": "does not hold here",
    "not testable": "not testable here",
}
_HEADING = re.compile(r"^## What .*\bmeasured\b", re.MULTILINE)


@dataclass(frozen=True)
class Claim:
    """What is said, what this book measured, where, and the verdict.

    Args:
        chapter: the stem of its file, ``01_attention``.
        said: the claim, in our words.
        measured: what the chapter found.
        verdict: a key of `VERDICTS`.
        cell: the id of the code cell that measures it.
        by: who says it, "courses" or "papers".
        says: words of `measured` that carry an unusual verdict.
        from_table: whether it is a row of the chapter's own table.
    """

    chapter: str
    said: str
    measured: str
    verdict: str
    cell: str
    by: str = "courses"
    says: str = ""
    from_table: bool = False


def claims(root: Path) -> list[Claim]:
    """Every claim of the chapters in the table of contents, in their order.

    Raises:
        ValueError: an entry of claims.yml has no row, or more than one, in its chapter.
    """
    listed = yaml.safe_load(FILE.read_text(encoding="utf8"))
    found = []
    for path in notebooks(root):
        entries = listed.get(path.stem, [])
        rows = rows_of(path) if any("row" in entry for entry in entries) else {}
        found += [_claim(path.stem, entry, rows) for entry in entries]
    return found


def rows_of(path: Path) -> dict[str, str]:
    """A chapter's table of claims: what is said -> what was measured; {} where it has none."""
    cells = json.loads(path.read_text(encoding="utf8"))["cells"]
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and _HEADING.search(source):
            lines = [line for line in source.splitlines() if line.startswith("|")]
            rows = [re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in lines]
            return {said.strip(): what.strip() for said, what in rows[2:]}
    return {}


def claims_page(root: Path) -> str:
    """Markdown: how many claims have which verdict, then a table a chapter."""
    every = claims(root)
    parts = ["| | courses | papers |", "|---|--:|--:|"]
    count = Counter((claim.verdict, claim.by) for claim in every)
    for key, verdict in VERDICTS.items():
        parts.append(
            f"| {verdict} | {count[key, 'courses']} | {count[key, 'papers']} |"
        )
    totals = [sum(claim.by == who for claim in every) for who in ("courses", "papers")]
    parts += [f"| together | {totals[0]} | {totals[1]} |", ""]
    for path in notebooks(root):
        mine = [claim for claim in every if claim.chapter == path.stem]
        if mine:
            parts += [f"## {chapter_title(path)}", "", *_table(mine), ""]
    return "\n".join(parts)


def _claim(chapter: str, entry: dict[str, str], rows: dict[str, str]) -> Claim:
    common = {
        key: entry[key] for key in ("verdict", "cell", "by", "says") if key in entry
    }
    if "text" in entry:
        return Claim(chapter, entry["text"], entry["measured"], **common)
    fits = [said for said in rows if said.startswith(entry["row"])]
    if len(fits) != 1:
        raise ValueError(
            f"claims.yml: {len(fits)} rows of {chapter}'s table begin with "
            f"{entry['row']!r}, not one"
        )
    return Claim(chapter, fits[0], rows[fits[0]], from_table=True, **common)


def _table(mine: list[Claim]) -> list[str]:
    lines = ["| What is said | by | verdict | What was measured |", "|---|---|---|---|"]
    for claim in mine:
        verdict = f"{{ref}}`{VERDICTS[claim.verdict]} <{PREFIX}{claim.cell}>`"
        lines.append(f"| {claim.said} | {claim.by} | {verdict} | {claim.measured} |")
    return lines
