"""Which files make the book: `_toc.yml` is the only list."""

from collections.abc import Iterable
from pathlib import Path

import yaml

NESTED = ("parts", "subtrees", "chapters", "sections", "entries")


def book_root(folder: Path | str = ".") -> Path:
    """The repository root, which is the folder that holds `_toc.yml` and `_config.yml`."""
    root = Path(folder).resolve()
    if not (root / "_toc.yml").is_file():
        raise ValueError(
            f"{root} has no _toc.yml: run this from the root of the repository"
        )
    return root


def pages(root: Path) -> list[Path]:
    """Every page of `_toc.yml` in reading order, as paths of existing source files."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf8"))
    return [_source(root, name) for name in _names(toc)]


def notebooks(root: Path, only: str = "") -> list[Path]:
    """The notebooks in reading order; with `only` ("01"), those whose file name starts so.

    Raises ValueError where `only` fits no notebook.
    """
    every = [page for page in pages(root) if page.suffix == ".ipynb"]
    chosen = [path for path in every if path.name.startswith(only)]
    if only and not chosen:
        have = ", ".join(path.stem for path in every)
        raise ValueError(
            f"no chapter's file name starts with {only!r}; there are: {have}"
        )
    return chosen


def without(root: Path, left_out: Iterable[Path]) -> dict:
    """The table of contents, less some pages; a part that would be empty goes as well."""
    gone = {path.relative_to(root).with_suffix("").as_posix() for path in left_out}

    def kept(node: dict) -> dict | None:
        if node.get("file") in gone:
            return None
        node = dict(node)
        for key in NESTED:
            if key in node:
                node[key] = [one for item in node[key] if (one := kept(item))]
                if not node[key]:
                    del node[key]
        return node if {"file", "root", *NESTED} & set(node) else None

    return kept(yaml.safe_load((root / "_toc.yml").read_text(encoding="utf8")))


def _names(node: dict | list) -> list[str]:
    if isinstance(node, list):
        return [name for item in node for name in _names(item)]
    own = [node[key] for key in ("root", "file") if key in node]
    nested = [node[key] for key in NESTED if key in node]
    return own + [name for item in nested for name in _names(item)]


def _source(root: Path, name: str) -> Path:
    for suffix in ("", ".md", ".ipynb"):
        path = root / f"{name}{suffix}"
        if path.is_file():
            return path
    raise ValueError(
        f"_toc.yml lists {name!r}, but there is no {name}.md and no {name}.ipynb"
    )
