"""Slim notebooks: what is stored is what a person wrote and the text that the cells printed.

Stored: source, cell ids, tags and figure captions, execution counts, text outputs. Not stored:
pictures, widget state, interactive figures, progress bars, tracebacks (they hold paths) and what
editors add to the metadata. The nbval plugin slims what a run gives in the same way, so the two can
be compared strictly.
"""

import copy
import json
import re
import warnings
from collections.abc import Iterable
from pathlib import Path

import nbformat
from nbformat import NotebookNode

CELL_METADATA = ("tags", "mystnb", "companion")
NOTEBOOK_METADATA = ("mystnb", "companion")
KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
MAX_HTML = 20_000  # characters

_PROGRESS = re.compile(r"\d+%\||\d+(?:\.\d+)?(?:it/s|s/it)\b|\?it/s")
_FIGURE_HTML = re.compile(r"<script|<svg|<iframe|data:image")
_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
_MACHINE_PATH = re.compile(r"/home/|/root/|/Users/|/tmp/|[A-Z]:\\Users")


def slim(notebook: NotebookNode, path: Path) -> NotebookNode:
    """A slim copy of an executed notebook; `path` gives the prefix of cell ids that it lacks."""
    notebook = copy.deepcopy(notebook)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    kept = {
        key: notebook.metadata[key]
        for key in NOTEBOOK_METADATA
        if key in notebook.metadata
    }
    notebook.metadata = nbformat.from_dict(KERNEL | kept)
    prefix = id_prefix(path)
    taken = {cell.get("id") for cell in notebook.cells}
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(
            {k: v for k, v in cell.metadata.items() if k in CELL_METADATA}
        )
        if not cell.get("id", "").startswith(prefix):
            cell.id = _new_id(prefix, cell.source, taken)
            taken.add(cell.id)
        if cell.cell_type == "code":
            cell.outputs = slim_outputs(cell.outputs)
    return notebook


def slim_outputs(outputs: Iterable[NotebookNode]) -> list[NotebookNode]:
    """The outputs as they are stored: text only, no progress bars, adjacent streams joined."""
    kept: list[NotebookNode] = []
    for output in drop_progress(outputs):
        if "data" in output:
            data = {
                mime: value
                for mime, value in output.data.items()
                if _is_text(mime, output.data)
            }
            if not data or _WIDGET_VIEW in output.data:
                continue
            output = nbformat.from_dict({**output, "data": data, "metadata": {}})
        elif output.output_type == "error":
            output = nbformat.from_dict({**output, "traceback": []})
        elif kept and output.get("name") and kept[-1].get("name") == output.name:
            kept[-1] = nbformat.from_dict(
                {**output, "text": kept[-1].text + output.text}
            )
            continue
        kept.append(output)
    return kept


def drop_progress(outputs: Iterable[NotebookNode]) -> list[NotebookNode]:
    """The outputs without progress bars (stderr or widget): on a page they are noise."""
    kept = []
    for output in outputs:
        if output.get("name") == "stderr":
            lines = re.split(r"(?<=[\r\n])", output.text)
            text = "".join(line for line in lines if not _PROGRESS.search(line))
            if not text.strip():
                continue
            output = nbformat.from_dict({**output, "text": text})
        elif _WIDGET_VIEW in output.get("data", {}) and _PROGRESS.search(
            output.data.get("text/plain", "")
        ):
            continue
        kept.append(output)
    return kept


def problems(paths: Iterable[Path]) -> list[str]:
    """What is wrong with stored notebooks, a sentence each; none if all are as they should be."""
    found, owners = [], {}
    for path in paths:
        text = path.read_text(encoding="utf8")
        notebook = _as_stored(text)
        found += [
            f"{path.name}: {problem}"
            for problem in _notebook_problems(path, text, notebook)
        ]
        for cell in notebook.cells:
            owner = owners.setdefault(cell.get("id"), path)
            if owner != path:
                found.append(
                    f"{path.name}: cell id {cell.id!r} is also used in {owner.name}"
                )
    return found


def count_problem(notebook: NotebookNode) -> str:
    """Why a notebook was not run from top to bottom, by its execution counts; "" where it was."""
    counts = [
        cell.execution_count for cell in notebook.cells if cell.cell_type == "code"
    ]
    if counts == list(range(1, len(counts) + 1)):
        return ""
    return (
        f"its execution counts are {counts}, not 1..{len(counts)}: run `make refresh`"
    )


def id_prefix(path: Path) -> str:
    """`book/01_attention.ipynb` -> `attention-`: renumbering a chapter leaves its ids alone.

    Projects have names like chapters, so their number tells them apart: `practice-4-`.
    """
    if project := re.match(r"10_(\d+)_", path.stem):
        return f"practice-{project[1]}-"
    return re.sub(r"^(\d+[a-z]?_)+", "", path.stem).replace("_", "-") + "-"


def _as_stored(text: str) -> NotebookNode:
    """The notebook with the cell ids of the file: nbformat gives doubles a new id as it reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        notebook = nbformat.reads(text, as_version=4)
    for cell, stored in zip(notebook.cells, json.loads(text)["cells"], strict=True):
        cell.id = stored.get("id", "")
    return notebook


def _notebook_problems(path: Path, text: str, notebook: NotebookNode) -> list[str]:
    found = [problem] if (problem := count_problem(notebook)) else []
    ids = [cell.get("id", "") for cell in notebook.cells]
    found += [
        f"cell id {i!r} appears twice"
        for i in sorted({i for i in ids if ids.count(i) > 1})
    ]
    found += [
        f"cell id {i!r} does not start with {id_prefix(path)!r}"
        for i in ids
        if not i.startswith(id_prefix(path))
    ]
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            printed = [output.get("text", ""), *output.get("data", {}).values()]
            if any(
                isinstance(part, str) and _MACHINE_PATH.search(part) for part in printed
            ):
                found.append(
                    f"cell {cell.id}: its stored output names a path of one machine"
                )
    if not found and text != nbformat.writes(slim(notebook, path)) + "\n":
        found.append("holds more than source and text outputs: run `make refresh`")
    return found


def _is_text(mime: str, data: dict) -> bool:
    if mime in ("text/html", "text/markdown"):
        # Stored where the plain text is only "<... object>", unless it is an interactive figure.
        says_nothing = data.get("text/plain", "<").startswith("<")
        return (
            says_nothing
            and len(data[mime]) <= MAX_HTML
            and not _FIGURE_HTML.search(data[mime])
        )
    return mime in ("text/plain", "text/latex")


def _new_id(prefix: str, source: str, taken: set[str]) -> str:
    words = re.findall(r"[a-z][a-z0-9]*", source.lower())[:4]
    stem = (prefix + "-".join(words or ["cell"]))[:56]
    number = 1
    while f"{stem}-{number}" in taken:
        number += 1
    return f"{stem}-{number}"
