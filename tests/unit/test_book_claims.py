"""The page of claims: every row leads to a cell that is there, and says what its chapter says."""

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from companion.book import claims as page
from companion.book import toc
from companion.book.anchors import cell_ids

ROOT = Path(__file__).parents[2]
CLAIMS = page.claims(ROOT)
CHAPTERS = {path.stem: path for path in toc.notebooks(ROOT)}
WITH_TABLE = [stem for stem, path in CHAPTERS.items() if page.rows_of(path)]

# How a chapter words each verdict, unless an entry names other words (`says`).
WORDS = {
    "holds": r"[Hh]old",
    "with conditions": r"\*\*",
    "not here": r"\b[Nn]ot?\b|\bbug\b",
    "not testable": r"[Nn]ot test",
}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: f"{c.chapter}: {c.said[:40]}")
def test_a_claim_leads_to_a_cell_and_agrees_with_its_chapter(claim: page.Claim) -> None:
    assert claim.cell in cell_ids(CHAPTERS[claim.chapter])
    assert claim.verdict in page.VERDICTS
    assert claim.by in ("courses", "papers")
    assert claim.said and claim.measured and "(to be measured)" not in claim.measured
    if claim.says:
        assert claim.says in claim.measured
    elif claim.from_table:
        assert re.search(WORDS[claim.verdict], claim.measured)


@pytest.mark.parametrize("chapter", WITH_TABLE)
def test_every_row_of_a_chapters_table_is_on_the_page(chapter: str) -> None:
    listed = {claim.said for claim in CLAIMS if claim.chapter == chapter}
    missing = [said for said in page.rows_of(CHAPTERS[chapter]) if said not in listed]
    assert not missing, f"companion/book/claims.yml lacks rows of {chapter}: {missing}"


def test_the_courses_claims_are_many_and_each_verdict_is_given() -> None:
    by_courses = [claim for claim in CLAIMS if claim.by == "courses"]
    assert len(by_courses) >= 60
    assert {claim.verdict for claim in by_courses} == set(page.VERDICTS)


def test_no_claim_is_listed_twice() -> None:
    count = Counter((claim.chapter, claim.said) for claim in CLAIMS)
    assert [what for what, number in count.items() if number > 1] == []


def test_the_page_counts_what_it_shows() -> None:
    text = page.claims_page(ROOT)
    for claim in CLAIMS:
        assert f"<cell-{claim.cell}>`" in text
    for verdict, words in page.VERDICTS.items():
        row = next(
            line for line in text.splitlines() if line.startswith(f"| {words} |")
        )
        numbers = [int(number) for number in re.findall(r"\d+", row)]
        assert sum(numbers) == sum(claim.verdict == verdict for claim in CLAIMS)


def test_a_row_that_has_gone_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"row": "Nobody says this", "verdict": "holds", "cell": "attention-setup"}
    file = tmp_path / "claims.yml"
    file.write_text(yaml.safe_dump({"01_attention": [entry]}))
    monkeypatch.setattr(page, "FILE", file)
    with pytest.raises(ValueError, match="0 rows of 01_attention.*'Nobody says this'"):
        page.claims(ROOT)


def test_a_chapter_that_is_not_in_the_table_of_contents_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"text": "a", "measured": "b", "verdict": "holds", "cell": "c"}
    file = tmp_path / "claims.yml"
    file.write_text(yaml.safe_dump({"99_planned": [entry]}))
    monkeypatch.setattr(page, "FILE", file)
    assert page.claims(ROOT) == []
