"""Two mistakes at once, made out of the code of each.

People rarely make one mistake at a time. What two of them do together follows from the
code that an exercise declares for each, in one of two ways:

- **Two edits.** The code of a mistake is the reference with something changed. Where two
  mistakes change different places, both changes can be made to the reference, as two
  branches are merged: the tokens of the three sources are compared, and no hunk of one
  may touch a hunk of the other.
- **One inside the other.** Where the code of a mistake calls the reference, to give it
  other inputs or to change what comes out, it can call the code of the other instead.

Nothing is claimed about a pair that is made in this way but what it returns.
"""

from __future__ import annotations

import ast
import difflib
import functools
import inspect
import io
import itertools
import textwrap
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from companion.exercises.exercise import Answer, Exercise, Misconception

_NAME = "answer"
# Sources that have less in common are not edits of one another.
_LEAST_IN_COMMON = 0.5


@dataclass(frozen=True)
class Pair:
    """Two misconceptions of one exercise, and the code of someone who has both."""

    mistakes: tuple[Misconception, Misconception]
    wrong: Answer


@functools.cache
def pairs(exercise: Exercise) -> tuple[Pair, ...]:
    """Every pair of an exercise's misconceptions that can be put together.

    A pair appears more than once where there are several ways to do that.
    """
    return tuple(
        Pair((first, second), wrong)
        for first, second in itertools.combinations(exercise.misconceptions, 2)
        for wrong in _together(exercise, first.wrong, second.wrong)
    )


def _together(exercise: Exercise, first: Answer, second: Answer) -> Iterator[Answer]:
    merged = _merged(exercise.reference, first, second)
    if merged is not None:
        yield merged
    for outer, inner in ((first, second), (second, first)):
        nested = _nested(exercise.reference, outer, inner)
        if nested is not None:
            yield nested


def _nested(reference: Answer, outer: Answer, inner: Answer) -> Answer | None:
    """``outer`` with ``inner`` in place of the reference, if it calls that."""
    name = reference.__name__
    if not isinstance(outer, FunctionType) or name not in outer.__code__.co_names:
        return None
    if outer.__globals__.get(name) is not reference or outer.__closure__:
        return None
    return FunctionType(
        outer.__code__,
        {**outer.__globals__, name: inner},
        outer.__name__,
        outer.__defaults__,
    )


def _merged(reference: Answer, first: Answer, second: Answer) -> Answer | None:
    """The reference with both edits, or None if they meet."""
    base, one, other = (_tokens(code) for code in (reference, first, second))
    if not (base and one and other):
        return None
    changes, others = _hunks(base, one), _hunks(base, other)
    if not changes or not others or _meet(changes, others):
        return None
    merged: list[str] = list(base)
    for start, end, new in sorted([*changes, *others], reverse=True):
        merged[start:end] = new
    names: dict[str, Any] = {}
    for code in (second, first, reference):
        names |= code.__globals__
    try:
        exec(compile(_layout(merged), "<two mistakes>", "exec"), names)
    except SyntaxError:
        return None
    return names[_NAME]


Hunk = tuple[int, int, list[str]]


def _hunks(base: list[str], changed: list[str]) -> list[Hunk]:
    matcher = difflib.SequenceMatcher(None, base, changed, autojunk=False)
    if matcher.ratio() < _LEAST_IN_COMMON:
        return []
    return [
        (i1, i2, changed[j1:j2])
        for kind, i1, i2, j1, j2 in matcher.get_opcodes()
        if kind != "equal"
    ]


def _meet(one: list[Hunk], other: list[Hunk]) -> bool:
    """Whether a hunk of one overlaps or touches a hunk of the other."""
    return any(a1 <= b2 and b1 <= a2 for a1, a2, _ in one for b1, b2, _ in other)


@functools.cache
def _tokens(code: Answer) -> list[str]:
    """The source as tokens; no names of its own, annotations or docstring."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, TypeError, SyntaxError):
        return []
    function = tree.body[0]
    if not isinstance(function, ast.FunctionDef) or code.__closure__:
        return []
    function.name, function.returns, function.decorator_list = _NAME, None, []
    for argument in ast.walk(function.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    if ast.get_docstring(function) is not None:
        del function.body[0]
    if not function.body:
        return []
    for node in ast.walk(function):
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Name("object")
    lines = io.StringIO(ast.unparse(function)).readline
    found = []
    for token in tokenize.generate_tokens(lines):
        if token.type == tokenize.INDENT:
            found.append("<in>")
        elif token.type == tokenize.DEDENT:
            found.append("<out>")
        elif token.type == tokenize.NEWLINE:
            found.append("\n")
        elif token.string.strip():
            found.append(token.string)
    return found


def _layout(tokens: list[str]) -> str:
    """Source code of tokens."""
    depth, lines, line = 0, [], []
    for token in tokens:
        if token == "<in>":
            depth += 1
        elif token == "<out>":
            depth -= 1
        elif token == "\n":
            lines.append("    " * depth + " ".join(line))
            line = []
        else:
            line.append(token)
    return "\n".join([*lines, "    " * depth + " ".join(line)]) + "\n"
