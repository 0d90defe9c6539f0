"""Building a small book: what is executed, what is kept, what is said when a cell fails."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from companion.book import build, toc
from companion.book.slim import problems

ROOT = Path(__file__).parents[2]
KERNEL = {
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
}
FIGURE = {
    "mystnb": {
        "image": {"alt": "A line"},
        "figure": {"caption": "A line.", "name": "fig-b"},
    }
}
DRAW = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"

pytestmark = pytest.mark.slow


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A book of an introduction and two chapters, with the real book's configuration."""
    shutil.copy(ROOT / "_config.yml", tmp_path)
    shutil.copytree(ROOT / "book" / "_static", tmp_path / "book" / "_static")
    (tmp_path / "companion").mkdir()
    (tmp_path / "companion" / "layer.py").write_text("x = 1\n")
    (tmp_path / "requirements.txt").write_text("torch\n")
    (tmp_path / "book" / "references.bib").write_text("")
    (tmp_path / "book" / "intro.md").write_text("# Intro\n\nSee {numref}`fig-b`.\n")
    chapters = [{"file": "book/01_a"}, {"file": "book/02_b"}]
    parts = [{"caption": "Part", "numbered": True, "chapters": chapters}]
    table = {"format": "jb-book", "root": "book/intro", "parts": parts}
    (tmp_path / "_toc.yml").write_text(json.dumps(table))  # JSON is YAML
    write(tmp_path / "book" / "01_a.ipynb", "print('chapter', 1)")
    write(tmp_path / "book" / "02_b.ipynb", DRAW, FIGURE)
    return tmp_path


def write(path: Path, source: str, metadata: dict | None = None) -> None:
    title = new_markdown_cell(f"# Chapter {path.stem}")
    cells = [title, new_code_cell(source, metadata=metadata or {})]
    nbformat.write(new_notebook(cells=cells, metadata=KERNEL), path)


@pytest.fixture
def executed(capfd: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """Which chapters were executed since it was last asked."""

    def executed() -> list[str]:
        lines = capfd.readouterr().err.splitlines()
        return sorted(
            line.split()[1].rstrip(":") for line in lines if line.startswith("[")
        )

    return executed


def test_only_what_changed_is_executed(
    book: Path, executed: Callable[[], list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    assert build.build(book) == 0
    assert executed() == ["01_a", "02_b"]
    page = (book / "_build" / "html" / "book" / "01_a.html").read_text()
    assert "chapter 1" in page
    timings = json.loads((book / "_build" / "timings.json").read_text())
    assert set(timings) == {"01_a", "02_b"} and timings["01_a"]["peak_mb"] > 10

    start = time.monotonic()
    assert build.build(book) == 0
    assert time.monotonic() - start < 5
    assert "Nothing has changed" in capfd.readouterr().out

    write(book / "book" / "01_a.ipynb", "print('chapter', 'one')")
    assert build.build(book) == 0
    assert executed() == ["01_a"]
    assert (
        "chapter one" in (book / "_build" / "html" / "book" / "01_a.html").read_text()
    )


def test_only_what_chapters_depend_on_makes_them_run_again(
    book: Path, executed: Callable[[], list[str]], no_pages: None
) -> None:
    assert build.build(book) == 0
    executed()
    for file, again in {
        book / "book" / "intro.md": [],
        book / "_config.yml": [],
        book / "companion" / "book" / "build.py": [],
        book / "companion" / "layer.py": ["01_a", "02_b"],
        book / "book" / "table.csv": ["01_a", "02_b"],
    }.items():
        file.parent.mkdir(exist_ok=True)
        file.write_text(file.read_text() + "\n" if file.exists() else "1,2\n")
        assert build.build(book) == 0
        assert executed() == again, file


@pytest.fixture
def no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only execute: most of these tests are not about Sphinx, which takes its seconds."""

    def no_sphinx(root: Path, cache: object, only: str) -> bool:
        (root / "_build" / "html").mkdir(exist_ok=True)
        (root / "_build" / "html" / "index.html").touch()
        return True

    monkeypatch.setattr(build, "_sphinx", no_sphinx)


def test_what_the_notebook_tests_have_passed_is_not_run_again(
    book: Path, executed: Callable[[], list[str]]
) -> None:
    build.refresh(book)
    assert build.build(book) == 0
    images = book / "_build" / "html" / "_images"
    pictures = {file.name: file.read_bytes() for file in images.iterdir()}
    shutil.rmtree(book / "_build")
    chapter = book / "book" / "01_a.ipynb"
    chapter.write_text(chapter.read_text().replace("chapter 1", "chapter 2"))
    command = [sys.executable, "-m", "pytest", "-p", "tests.notebooks.plugin", "-q"]
    command += ["--rootdir", str(book), "-c", os.devnull, str(book / "book")]
    tested = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "1 failed, 3 passed" in tested.stdout, tested.stdout
    executed()
    assert build.build(book) == 0
    assert executed() == ["01_a"]
    assert {file.name: file.read_bytes() for file in images.iterdir()} == pictures


def test_a_failing_cell_is_named_and_the_other_chapter_is_kept(
    book: Path,
    capfd: pytest.CaptureFixture[str],
    executed: Callable[[], list[str]],
    no_pages: None,
) -> None:
    write(
        book / "book" / "02_b.ipynb",
        "side = 3\nraise ValueError(f'a {side}-sided coin')",
        FIGURE,
    )
    assert build.build(book) == 1
    said = capfd.readouterr().err
    assert "02_b" in said and "side = 3" in said  # the chapter, the cell
    assert "ValueError" in said and "a 3-sided coin" in said  # the traceback
    assert not (book / "_build" / "html").exists()

    write(book / "book" / "02_b.ipynb", DRAW, FIGURE)
    assert build.build(book) == 0
    assert executed() == ["02_b"]


def test_a_kernel_that_dies_is_a_failure(
    book: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(
        book / "book" / "02_b.ipynb",
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    )
    assert build.build(book) == 1
    assert "kernel died" in capfd.readouterr().err


def test_a_warning_fails_the_build(
    book: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (book / "book" / "intro.md").write_text("# Intro\n\n{ref}`nowhere`\n")
    assert build.build(book) == 1
    assert "nowhere" in capfd.readouterr().err
    assert build.build(book) == 1, "a second build must not forget the warning"


def test_only_one_chapter(book: Path, executed: Callable[[], list[str]]) -> None:
    assert build.refresh(book) == 0
    shutil.rmtree(book / "_build")
    executed()
    assert build.build(book, only="01") == 0
    assert executed() == ["01_a"]
    html = book / "_build" / "html" / "book"
    assert "chapter 1" in (html / "01_a.html").read_text()
    # The reference to the other chapter's figure still leads somewhere, where a placeholder is.
    assert "02_b.html#fig-b" in (html / "intro.html").read_text()
    assert build.build(book) == 0
    assert executed() == ["02_b"]


def test_a_chapter_that_is_not_there_is_an_error_that_names_those_that_are(
    book: Path,
) -> None:
    with pytest.raises(ValueError, match=r"'07'.*01_a, 02_b"):
        build.build(book, only="07")
    (book / "book" / "01_a.ipynb").unlink()
    with pytest.raises(ValueError, match="book/01_a"):
        toc.notebooks(book)


def test_refresh_writes_slim_notebooks(book: Path) -> None:
    assert problems(toc.notebooks(book)) != []
    assert build.refresh(book) == 0
    assert problems(toc.notebooks(book)) == []
    notebook = nbformat.read(book / "book" / "01_a.ipynb", as_version=4)
    assert notebook.cells[1].outputs[0].text == "chapter 1\n"
    before = (book / "book" / "02_b.ipynb").read_bytes()
    assert build.refresh(book, only="02") == 0
    assert (book / "book" / "02_b.ipynb").read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_build_goes_on_where_it_stopped(
    book: Path,
    number: signal.Signals,
    executed: Callable[[], list[str]],
    no_pages: None,
) -> None:
    write(book / "book" / "02_b.ipynb", "import time\ntime.sleep(600)")
    command = [
        sys.executable,
        "-m",
        "companion.book",
        "build",
        "--jobs",
        "1",
        "--root",
        str(book),
    ]
    (book / "_build").mkdir()
    past = {"01_a": {"seconds": 99, "peak_mb": 1}, "02_b": {"seconds": 1, "peak_mb": 1}}
    (book / "_build" / "timings.json").write_text(
        json.dumps(past)
    )  # the longest goes first
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as process:
        assert b"01_a" in process.stderr.readline()
        time.sleep(2)
        process.send_signal(number)
        said = process.stderr.read()
        assert process.wait(timeout=30) == (130 if number == signal.SIGINT else -number)
    if number == signal.SIGINT:
        assert b"goes on from here" in said

    write(book / "book" / "02_b.ipynb", DRAW, FIGURE)
    assert build.build(book) == 0
    assert executed() == ["02_b"]
