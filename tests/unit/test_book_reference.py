"""Computed reference pages: the glossary's links, minutes for teachers, the API, papers."""

import importlib
import json
import re
from pathlib import Path

import pytest
import yaml
from docutils import nodes

from companion.analysis import parity
from companion.book import api, glossary, source_pages, teaching, toc
from companion.book.anchors import cell_ids
from companion.book.extension import COMPUTED, compute

ROOT = Path(__file__).parents[2]
CHAPTERS = toc.notebooks(ROOT)
PACKAGES = [path.stem for path in (ROOT / "book" / "api").glob("*.md")]


def test_the_glossary_leads_to_sections_that_use_the_term() -> None:
    terms = yaml.safe_load(glossary.FILE.read_text(encoding="utf8"))
    text = glossary.glossary(ROOT)
    assert len(terms) >= 50
    assert text.count("*Used in*") == len(terms)
    labels = set(re.findall(r"\{ref\}`[^`]+ <([\w-]+)>`", text))
    prose = "".join(path.read_text(encoding="utf8") for path in CHAPTERS)
    assert labels and all(f"({label})=" in prose for label in labels)


def test_a_term_that_no_chapter_uses_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "glossary.yml"
    file.write_text("phlogiston: {means: what burns}\n")
    monkeypatch.setattr(glossary, "FILE", file)
    with pytest.raises(ValueError, match="phlogiston"):
        glossary.glossary(ROOT)


def test_exercises_minutes_are_those_that_stand_beside_them() -> None:
    loads = teaching.loads(ROOT)
    first = loads["1"]
    assert first.path.name == "01_attention.ipynb"
    prose = first.path.read_text(encoding="utf8")
    assert len(first.exercises) == prose.count(":class: exercise")
    assert all(2 <= minutes <= 60 for minutes in first.exercises)
    assert 20 < first.reading < 120
    numbered = [path for path in CHAPTERS if path.name[0].isdigit()]
    assert [load.path for load in loads.values()] == numbered


def test_plans_for_a_day_a_week_and_a_term_grow() -> None:
    text = (ROOT / "book" / "teaching.md").read_text(encoding="utf8")
    plans = re.findall(r"^% computed: hours (.+)$", text, re.MULTILINE)
    assert len(plans) == 3
    totals = []
    for plan in plans:
        reading, exercises = re.findall(
            r"([\d.]+) hours", teaching.hours(ROOT, *plan.split())
        )
        totals.append(float(reading) + float(exercises))
    assert totals == sorted(totals) and totals[0] < totals[2] / 2
    with pytest.raises(ValueError, match="not here: \\['77'\\]"):
        teaching.hours(ROOT, "1", "77")


def test_what_is_computed_takes_the_place_of_its_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Environment:
        def doc2path(self, name: str) -> str:
            return name

    class Application:
        srcdir, env = "/book", Environment()

    monkeypatch.setitem(COMPUTED, "echo", lambda root, *words: f"{root}: {words}")
    source = ["# Title\n\n% computed: echo one two\n\n% a comment\n"]
    compute(Application(), "page.md", source)
    assert source == ["# Title\n\n/book: ('one', 'two')\n\n% a comment\n"]


@pytest.mark.parametrize("package", PACKAGES)
def test_the_api_names_every_public_documented_thing(package: str) -> None:
    text = api.api(ROOT, f"companion.{package}")
    module = importlib.import_module(f"companion.{package}")
    listed = set(re.findall(r"\w+", " ".join(re.findall(r":members: (.+)", text))))
    assert listed
    for name in getattr(module, "__all__", []):
        if callable(getattr(module, name)) and getattr(module, name).__doc__:
            assert name in listed, name


def test_every_package_has_its_page_of_the_api() -> None:
    have = {path.parent.name for path in (ROOT / "companion").glob("*/__init__.py")}
    assert set(PACKAGES) == have - {"book"}
    listed = {path.stem for path in toc.pages(ROOT) if path.parent.name == "api"}
    assert listed == set(PACKAGES)


def test_docstrings_are_read_as_they_are_written() -> None:
    lines = ["The norm |x| of `x`, as in ``|y|``."]
    api.read_as_written(None, "function", "f", None, {}, lines)
    assert lines == [r"The norm \|x\| of ``x``, as in ``|y|``."]


def test_source_links_lead_to_the_line_of_a_definition() -> None:
    info = {
        "module": "companion.layers.multi_head",
        "fullname": "MultiHeadAttention.forward",
    }
    page, _, line = source_pages.source_link("py", info).partition("#line-")
    assert page == "../../_modules/companion/layers/multi_head.html"
    source = (ROOT / "companion/layers/multi_head.py").read_text().splitlines()
    assert source[int(line) - 1].strip().startswith("def forward(")
    assert source_pages.source_link("py", {"module": "torch", "fullname": "x"}) is None
    info["fullname"] = "Nothing"
    assert source_pages.source_link("py", info) is None


def test_cells_get_their_ids_as_places_to_link_to(tmp_path: Path) -> None:
    from companion.book.anchors import mark_cells

    path = tmp_path / "01_a.ipynb"
    path.write_text(json.dumps({"cells": [{"id": "a-text"}, {"id": "a-code"}]}))
    assert cell_ids(path) == ["a-text", "a-code"]

    labels: dict[str, tuple[str, str]] = {}

    class Domain:
        anonlabels = labels

    class Environment:
        docname = "01_a"

        def doc2path(self, name: str) -> str:
            return str(path)

        def get_domain(self, name: str) -> Domain:
            return Domain()

    class Application:
        env = Environment()

    document = nodes.section()
    document += nodes.container(nb_element="cell_code", cell_index=1)
    mark_cells(Application(), document)
    assert document[0]["ids"] == ["cell-a-code"]
    assert labels == {"cell-a-code": ("01_a", "cell-a-code")}


def bibliography() -> dict[str, str]:
    text = (ROOT / "book" / "references.bib").read_text(encoding="utf8")
    return dict(re.findall(r"^@\w+\{([^,]+),(.*?)^\}", text, re.MULTILINE | re.DOTALL))


def test_every_paper_says_where_it_was_published() -> None:
    where = r"\b(journal|booktitle|publisher|school|institution|howpublished|note)\s*="
    entries = bibliography()
    assert len(entries) > 100
    for key, fields in entries.items():
        assert re.search(where, fields), f"{key} has no venue"
        assert all(
            re.search(rf"\b{f}\s*=", fields) for f in ("author", "title", "year")
        )


def test_every_citation_has_its_entry() -> None:
    entries = bibliography()
    for path in toc.pages(ROOT):
        text = path.read_text(encoding="utf8")
        for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", text):
            assert set(re.split(r",\s*", keys)) <= set(entries), (path.name, keys)


def test_parity_rows_are_kept_and_summed_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "FILE", tmp_path / "parity.csv")
    rows = [("BERT, tiny", "theirs", 1e-7, 1e-5), ("BERT, wide", "theirs", 3e-5, 1e-4)]
    parity.store([*rows, ("GPT", "theirs", 0.0, 1e-5)])
    assert [tuple(row) for row in parity.stored_rows()][:2] == rows
    assert re.match(r"\d{4}-\d\d-\d\d, torch \d", parity.made())
    bert, gpt = parity.groups(parity.stored_rows())
    assert (bert.name, bert.comparisons, bert.worst.name) == ("BERT", 2, "BERT, wide")
    assert bert.room == pytest.approx(10 / 3) and gpt.room > 1e6
