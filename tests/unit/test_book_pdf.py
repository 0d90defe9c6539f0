"""The pieces of `make pdf` that need no browser."""

from pathlib import Path

import pytest
import yaml

from companion.book import build, chromium, pdf, toc

ROOT = Path(__file__).parents[2]


def names(table: dict) -> set[str]:
    return set(toc._names(table))


def test_the_one_page_leaves_out_the_api_and_nothing_else() -> None:
    every = names(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf8")))
    kept = names(toc.without(ROOT, build._left_out(ROOT, "")))
    assert every - kept == {n for n in every if n.startswith("book/api")} != set()


def test_the_one_page_of_a_chapter_leaves_out_the_other_chapters() -> None:
    left_out = build._left_out(ROOT, "01")
    table = toc.without(ROOT, left_out)
    notebooks = {path.with_suffix("").name for path in toc.notebooks(ROOT)}
    kept = {Path(name).name for name in names(table)}
    assert kept & notebooks == {"01_attention"}
    assert "intro" in kept


def test_parts_that_would_be_empty_go(tmp_path: Path) -> None:
    table = {
        "root": "intro",
        "parts": [
            {"caption": "A", "chapters": [{"file": "a"}]},
            {"caption": "B", "chapters": [{"file": "b", "sections": [{"file": "c"}]}]},
        ],
    }
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(table))
    assert toc.without(tmp_path, [tmp_path / "a.md", tmp_path / "c.ipynb"]) == {
        "root": "intro",
        "parts": [{"caption": "B", "chapters": [{"file": "b"}]}],
    }


def test_a_named_chromium_is_taken_and_a_wrong_name_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    browser = tmp_path / "chrome"
    browser.write_text("#!/bin/sh\n")
    browser.chmod(0o755)
    monkeypatch.setenv("CHROMIUM", str(browser))
    assert chromium.find_chromium() == str(browser)
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "nothing"))
    assert chromium.find_chromium() is None


def test_half_of_a_file_never_stands_in_its_place(tmp_path: Path) -> None:
    target = tmp_path / "book.pdf"
    target.write_text("old")

    def fails(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError("printer on fire")

    with pytest.raises(RuntimeError):
        pdf._write(target, fails)
    assert target.read_text() == "old"
    pdf._write(target, lambda path: path.write_text("new"))
    assert target.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["book.pdf"]


def test_without_a_browser_it_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "none"))
    assert pdf.pdf(tmp_path) == 1
    said = capsys.readouterr().err
    assert "none was found" in said and "CHROMIUM=/path/to/chrome" in said
