"""Slim notebooks: what is kept, what is dropped, what is reported; and the book's own are slim."""

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from companion.book import toc
from companion.book.slim import id_prefix, problems, slim, slim_outputs

ROOT = Path(__file__).parents[2]
VIEW = "application/vnd.jupyter.widget-view+json"


def display(**data: str) -> nbformat.NotebookNode:
    mimes = {
        "plain": "text/plain",
        "html": "text/html",
        "png": "image/png",
        "view": VIEW,
    }
    return new_output(
        "display_data", {mimes[name]: value for name, value in data.items()}
    )


def written(path: Path, *cells: nbformat.NotebookNode) -> Path:
    nbformat.write(slim(new_notebook(cells=list(cells)), path), path)
    return path


def test_the_books_notebooks_are_executed_slim_and_have_unique_ids() -> None:
    assert problems(toc.notebooks(ROOT)) == []


def test_pictures_widgets_and_progress_are_dropped_and_text_is_kept() -> None:
    outputs = [
        new_output("stream", name="stdout", text="loss 0.5\n"),
        new_output("stream", name="stdout", text="loss 0.4\n"),
        new_output(
            "stream",
            name="stderr",
            text="  0%|   | 0/3\r100%|###| 3/3 [00:01, 2.1it/s]\n",
        ),
        new_output("stream", name="stderr", text="UserWarning: kept\n"),
        display(plain="<Figure size 640x480 with 1 Axes>", png="iVBORw0KGgo="),
        display(plain="  0%|          | 0/3 [00:00<?, ?it/s]", view="{}"),
        display(plain="HeadViewer(layer=0)", html="<script>1</script>", view="{}"),
        display(plain="   a\n0  1", html="<table>a 1</table>"),
        display(plain="<Report object>", html="<b>bold</b>"),
        display(plain="<Report object>", html="<script type=module>draw()</script>"),
        new_output(
            "error", ename="ValueError", evalue="no", traceback=["File /somewhere/x.py"]
        ),
    ]
    assert [
        dict(out.get("data", {})) or out.get("text") or out.ename
        for out in slim_outputs(outputs)
    ] == [
        "loss 0.5\nloss 0.4\n",
        "UserWarning: kept\n",
        {"text/plain": "<Figure size 640x480 with 1 Axes>"},
        {"text/plain": "   a\n0  1"},
        {"text/plain": "<Report object>", "text/html": "<b>bold</b>"},
        {"text/plain": "<Report object>"},
        "ValueError",
    ]
    assert slim_outputs(outputs)[-1].traceback == []


def test_slim_is_idempotent_and_keeps_what_a_person_wrote(tmp_path: Path) -> None:
    path = tmp_path / "01_attention.ipynb"
    figure = {"tags": ["hide-input"], "mystnb": {"figure": {"caption": "A line."}}}
    cell = new_code_cell(
        "plot()", execution_count=1, metadata=figure | {"scrolled": True}
    )
    notebook = new_notebook(cells=[new_markdown_cell("# Attention is *all*"), cell])
    notebook.metadata = {"companion": {"budget_seconds": 240}, "widgets": {"state": {}}}
    once = slim(notebook, path)
    assert slim(once, path) == once
    assert once.cells[1].metadata == figure
    assert (
        once.metadata.companion == {"budget_seconds": 240}
        and "widgets" not in once.metadata
    )
    assert once.cells[0].id == "attention-attention-is-all-1"
    assert cell.metadata["scrolled"], "the notebook that was given is left as it was"


def test_ids_that_have_the_prefix_stay_and_new_ones_are_unique() -> None:
    path = Path("book/02_multi_head_attention.ipynb")
    assert id_prefix(path) == "multi-head-attention-"
    assert id_prefix(Path("book/10_4_mini_gpt.ipynb")) == "practice-4-"
    cells = [new_markdown_cell("Same words here") for _ in range(3)]
    cells[1].id = "multi-head-attention-mine"
    ids = [cell.id for cell in slim(new_notebook(cells=cells), path).cells]
    assert ids[1] == "multi-head-attention-mine" and len(set(ids)) == 3


def test_a_good_notebook_has_no_problems(tmp_path: Path) -> None:
    cell = new_code_cell("1", execution_count=1)
    assert (
        problems([written(tmp_path / "01_a.ipynb", new_markdown_cell("Hi"), cell)])
        == []
    )


@pytest.mark.parametrize("counts", [[None], [2], [1, None], [1, 3], [2, 1]])
def test_execution_counts_other_than_1_to_n_are_reported(
    tmp_path: Path, counts: list
) -> None:
    cells = [new_code_cell("1", execution_count=count) for count in counts]
    [found] = problems([written(tmp_path / "01_a.ipynb", *cells)])
    assert "execution counts" in found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda nb: nb.cells[0].outputs.append(
                display(plain="<Figure>", png="iVBORw0=")
            ),
            "refresh",
        ),
        (lambda nb: nb.cells[0].metadata.update(scrolled=True), "refresh"),
        (lambda nb: nb.metadata.update(widgets={}), "refresh"),
        (lambda nb: nb.cells[0].update(id="random-id"), "does not start with 'a-'"),
        (
            lambda nb: nb.cells[0].outputs.append(display(plain="/home/me/x")),
            "path of one machine",
        ),
    ],
)
def test_what_is_not_slim_is_reported(
    tmp_path: Path, change: object, words: str
) -> None:
    path = written(
        tmp_path / "01_a.ipynb",
        new_code_cell("1", execution_count=1),
        new_code_cell("2", execution_count=2),
    )
    notebook = nbformat.read(path, as_version=4)
    change(notebook)
    path.write_text(nbformat.writes(nbformat.from_dict(notebook)) + "\n")
    found = problems([path])
    assert any(words in problem for problem in found), found


def test_an_id_used_twice_is_reported(tmp_path: Path) -> None:
    path = written(
        tmp_path / "01_a.ipynb", new_markdown_cell("Same"), new_markdown_cell("Other")
    )
    path.write_text(path.read_text().replace('"a-other-1"', '"a-same-1"'))
    assert problems([path]) == ["01_a.ipynb: cell id 'a-same-1' appears twice"]


def test_an_id_used_in_two_chapters_is_reported(tmp_path: Path) -> None:
    first = written(tmp_path / "01_a.ipynb", new_markdown_cell("Same"))
    second = written(tmp_path / "02_a.ipynb", new_markdown_cell("Same"))
    assert problems([first, second]) == [
        "02_a.ipynb: cell id 'a-same-1' is also used in 01_a.ipynb"
    ]
