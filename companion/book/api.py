"""The pages of the API: what the docstrings say, a section for each module of a package."""

import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

from companion.book.toc import notebooks

# `x` in a docstring is code. reStructuredText wants two backticks for that.
_SINGLE = re.compile(r"(?<![`:\w])`([^`\n]+)`(?![`_])")
_CODE = re.compile(r"(``.+?``)")

EXPORTED = ("exercises", "figures")  # packages that show only what they export


def api(root: Path, name: str) -> str:
    """Markdown that documents a package: a heading a module, and autodoc's directives.

    Args:
        root: of the repository.
        name: of the package, ``companion.layers``.
    """
    package = importlib.import_module(name)
    short = name.rpartition(".")[2]
    if short in EXPORTED:
        shown = set(package.__all__)
    elif short == "analysis":
        shown = _words_of_chapters(root)
    else:
        shown = None
    parts = []
    for module in _modules(package):
        names = [n for n in _public(module) if shown is None or n in shown]
        if names:
            parts += [
                f"## `{module.__name__.removeprefix(f'{name}.')}`",
                "",
                "```{eval-rst}",
                f".. automodule:: {module.__name__}",
                f"   :members: {', '.join(names)}",
                "```",
                "",
            ]
    return "\n".join(parts)


def _words_of_chapters(root: Path) -> set[str]:
    """Every name in the code of the chapters."""
    words: set[str] = set()
    for path in notebooks(root):
        for cell in json.loads(path.read_text(encoding="utf8"))["cells"]:
            if cell["cell_type"] == "code":
                words.update(re.findall(r"\w+", "".join(cell["source"])))
    return words


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not info.ispkg and not info.name.endswith("__main__"):
            yield importlib.import_module(info.name)


def _public(module: ModuleType) -> list[str]:
    """The documented classes and functions that a module defines."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
        and value.__doc__
    ]


def read_as_written(
    app: Sphinx, what: str, name: str, thing: object, options: dict, lines: list[str]
) -> None:
    """autodoc-process-docstring: single backticks are code, and a bar is only a bar."""
    for index, line in enumerate(lines):
        parts = _CODE.split(_SINGLE.sub(r"``\1``", line))
        # Every second part is code.
        parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
        lines[index] = "".join(parts)


def skip_member(
    app: Sphinx, what: str, name: str, thing: object, skip: bool, options: dict
) -> bool | None:
    """autodoc-skip-member: `forward` is shown though the class's text says it all.

    The fields of a named tuple are not: their only text is "Alias for field number 0".
    """
    if name == "forward":
        return False
    return True if type(thing).__name__ == "_tuplegetter" else None


def unlink_foreign(app: Sphinx, doctree: nodes.document) -> None:
    """doctree-read: types of other projects, such as Tensor, have no page to link to."""
    for node in list(doctree.findall(addnodes.pending_xref)):
        if node["refdomain"] == "py" and not node["reftarget"].startswith("companion."):
            node.replace_self(node.children)
