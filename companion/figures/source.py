"""Show the real source of a class, function or method on a page."""

from __future__ import annotations

import ast
import inspect
import textwrap
from pathlib import Path
from types import FunctionType, MethodType

import companion

_ROOT = Path(companion.__file__).parent.parent


def show_source(*objects: object, without_docstring: bool = False) -> Source:
    """The source of what the package really runs, as a highlighted block of code.

    Make it the last line of a cell. A page can't drift from the package this way.

    Args:
        objects: classes, functions or methods, shown in this order.
        without_docstring: leave out the docstrings, where the text beside says it all.

    Raises:
        TypeError: an object is not a class, function or method, or none was given.
    """
    if not objects:
        raise TypeError("objects must name at least one class, function or method")
    for thing in objects:
        if not isinstance(thing, type | FunctionType | MethodType):
            raise TypeError(
                "objects must be classes, functions or methods, but one is a "
                f"{type(thing).__name__}: {thing!r}"
            )
    return Source(objects, without_docstring)


class Source:
    """Displays as code with a caption that says where it stands.

    A stored notebook keeps only the plain text, which names the objects: code that is
    stored in a chapter would be out of date with the next edit of the package.
    """

    def __init__(self, objects: tuple[object, ...], without_docstring: bool) -> None:
        self.objects = objects
        self.without_docstring = without_docstring

    def __repr__(self) -> str:
        names = ", ".join(f"{o.__module__}.{o.__qualname__}" for o in self.objects)
        return f"source of {names}"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/plain": repr(self), "text/markdown": self.markdown()}

    def markdown(self) -> str:
        """A caption and a fenced block of Python for each object."""
        return "\n\n".join(self._block(thing) for thing in self.objects)

    def _block(self, thing: object) -> str:
        thing = inspect.unwrap(thing)
        lines, first = inspect.getsourcelines(thing)
        code = textwrap.dedent("".join(lines)).rstrip()
        if self.without_docstring:
            code = _drop_docstrings(code)
        path = Path(inspect.getsourcefile(thing))
        place = path.relative_to(_ROOT) if path.is_relative_to(_ROOT) else path.name
        where = f"`{Path(place).as_posix()}`, lines {first}–{first + len(lines) - 1}"
        return f"*{where}*\n\n````python\n{code}\n````"


def _drop_docstrings(code: str) -> str:
    lines = code.splitlines()
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if len(node.body) > 1 and ast.get_docstring(node, clean=False) is not None:
            docstring = node.body[0]
            end = docstring.end_lineno
            # The blank line under a docstring goes with it.
            if end < len(lines) and not lines[end].strip():
                end += 1
            for number in range(docstring.lineno - 1, end):
                lines[number] = None
    return "\n".join(line for line in lines if line is not None)
