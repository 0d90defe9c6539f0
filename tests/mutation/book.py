"""The book's own solutions: written by hand for the chapters, not like the references."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat

_BOOK = Path(__file__).parents[2] / "book"


@functools.cache
def book_solutions() -> dict[str, Callable[..., Any]]:
    """Each exercise's solution as the chapters show it, by the exercise's name.

    Of the cells before it only imports and definitions are run.
    """
    found: dict[str, Callable[..., Any]] = {}
    for path in sorted(_BOOK.glob("*.ipynb")):
        space: dict[str, Any] = {"__name__": path.stem}
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type != "code":
                continue
            tree = ast.parse(_plain_python(cell.source))
            tree.body = [node for node in tree.body if isinstance(node, _DEFINES)]
            for node in tree.body:
                _define(node, space)
            if "-solution-" in cell.id:
                defined = [getattr(node, "name", None) for node in tree.body]
                found |= {name: space[name] for name in defined if name in space}
    return found


_DEFINES = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign)


def _define(node: ast.stmt, space: dict[str, Any]) -> None:
    if isinstance(node, ast.Assign) and not _is_constant(node.value):
        return
    try:
        exec(compile(ast.Module([node], []), "<book>", "exec"), space)
    except NameError:  # it wants what a cell computes, so no solution needs it
        return


def _is_constant(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except ValueError:
        return False
    return True


def _plain_python(source: str) -> str:
    return "\n".join(line for line in source.splitlines() if line[:1] not in "%!")
