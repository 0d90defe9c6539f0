"""Small corruptions of a solution's syntax tree, one at a time.

A solution that is too short for many of them is also corrupted in two places at once.
"""

from __future__ import annotations

import ast
import copy
import inspect
import random
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any

_OPERATORS = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div, ast.Add),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult, ast.Mod),
    ast.Mod: (ast.FloorDiv,),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.BitXor: (ast.BitAnd,),
}
_COMPARISONS = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
_NEIGHBORS = {
    **{"sum": "mean", "mean": "sum", "amax": "amin", "amin": "amax"},
    **{"max": "min", "min": "max", "argmax": "argmin", "argmin": "argmax"},
    **{"sin": "cos", "cos": "sin", "tril": "triu", "triu": "tril", "log": "exp"},
    **{"exp": "log", "log_softmax": "softmax", "softmax": "log_softmax"},
    **{"round": "floor", "floor": "ceil", "ceil": "floor", "sqrt": "square"},
    **{"square": "sqrt", "zeros": "ones", "ones": "zeros", "any": "all", "all": "any"},
    **{"zeros_like": "ones_like", "ones_like": "zeros_like", "cumsum": "flip"},
    **{"repeat_interleave": "repeat", "var": "std", "std": "var"},
    **{"append": "extend", "maximum": "minimum", "relu": "abs", "abs": "neg"},
}
ENOUGH = 20  # mutants of one solution
# Python and PyTorch have too many names to try all that a name could be taken for.
_NAMES_A_SITE = 2


@dataclass(frozen=True)
class Mutant:
    """A corrupted solution.

    Attributes:
        says: what was done, such as ``line 2: + becomes -``.
        code: the function.
    """

    says: str
    code: Callable[..., Any]


def mutants(function: FunctionType) -> list[Mutant]:
    """Every corruption of a function that compiles, without doubles.

    If these are fewer than `ENOUGH`, pairs of them make up the number.
    """
    tree = definition(function)
    seen, once = {ast.dump(tree)}, list(_mutations(tree))
    found = list(_new(once, function, seen))
    if len(found) < ENOUGH:
        twice = [
            (f"{first}; {second}", mutated)
            for first, changed in once
            for second, mutated in _mutations(changed)
        ]
        random.Random(function.__name__).shuffle(twice)
        for mutant in _new(twice, function, seen):
            found.append(mutant)
            if len(found) == ENOUGH:
                break
    return found


def _new(
    changes: Iterable[tuple[str, ast.FunctionDef]],
    function: FunctionType,
    seen: set[str],
) -> Iterator[Mutant]:
    """Those of the changed trees that compile and were not seen before."""
    for says, tree in changes:
        key = ast.dump(tree)
        if key not in seen:
            seen.add(key)
            try:
                yield Mutant(says, compiled(tree, function))
            except (SyntaxError, ValueError):
                continue


def definition(function: FunctionType) -> ast.FunctionDef:
    """The function's syntax tree, without annotations, decorators and docstring."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    if not isinstance(tree, ast.FunctionDef):
        raise TypeError(f"function must be a def, but its source is a {type(tree)}")
    tree.returns, tree.decorator_list = None, []
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Name("object", ast.Load())
    if ast.get_docstring(tree) is not None:
        del tree.body[0]
    return tree


def compiled(
    tree: ast.FunctionDef, function: FunctionType, names: dict[str, Any] | None = None
) -> Callable[..., Any]:
    """The function that a tree defines, with the names that the original sees."""
    module = ast.fix_missing_locations(ast.Module([copy.deepcopy(tree)], []))
    space = {**function.__globals__, **(names or {})}
    exec(compile(module, f"<{tree.name}>", "exec"), space)
    return space[tree.name]


def _mutations(tree: ast.FunctionDef) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Each mutation as a changed copy of the tree."""
    arguments = [a.arg for a in tree.args.args]
    assigned = [
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]
    variables = list(dict.fromkeys([*arguments, *assigned]))
    for index, node in enumerate(ast.walk(tree)):
        for says, change in _changes(node, variables):
            mutated = copy.deepcopy(tree)
            twin = next(n for i, n in enumerate(ast.walk(mutated)) if i == index)
            replaced = change(twin)
            if replaced is not None:
                mutated = _Replace(twin, replaced).visit(mutated)
            line = getattr(node, "lineno", tree.lineno) - tree.lineno + 1
            yield f"line {line}: {says}", mutated


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self._old, self._new = old, new

    def visit(self, node: ast.AST) -> Any:
        return self._new if node is self._old else self.generic_visit(node)


Change = Callable[[Any], ast.AST | None]


def _changes(node: ast.AST, variables: list[str]) -> Iterator[tuple[str, Change]]:
    """What can be done to one node: a description, and what does it.

    A change works in place, or returns what to put in the node's place.
    """
    if isinstance(node, ast.BinOp | ast.AugAssign):
        name = type(node.op).__name__
        for other in _OPERATORS.get(type(node.op), ()):
            yield f"{name} becomes {other.__name__}", _set("op", other())
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.Sub | ast.Div | ast.MatMult | ast.Pow):
            yield f"the sides of {type(node.op).__name__} are swapped", _swap_sides
        yield "only the left side is kept", lambda n: n.left
        yield "only the right side is kept", lambda n: n.right
    if isinstance(node, ast.UnaryOp):
        yield f"{type(node.op).__name__} is dropped", lambda n: n.operand
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        for other in _COMPARISONS.get(type(node.ops[0]), ()):
            says = f"{type(node.ops[0]).__name__} becomes {other.__name__}"
            yield says, _set("ops", [other()])
    if isinstance(node, ast.BoolOp):
        other = ast.Or if isinstance(node.op, ast.And) else ast.And
        yield f"becomes {other.__name__}", _set("op", other())
    if isinstance(node, ast.IfExp):
        yield "the branches are swapped", _swap_branches
    if isinstance(node, ast.Constant):
        yield from _constants(node)
    if isinstance(node, ast.Call):
        yield from _calls(node)
    if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load):
        yield from _names(node, variables)
    if isinstance(node, ast.Slice):
        for part in ("lower", "upper", "step"):
            if getattr(node, part) is not None:
                yield f"the {part} bound of a slice is dropped", _set(part, None)
    if isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Load):
        for i in range(len(node.elts) - 1):
            yield f"items {i} and {i + 1} are swapped", _swap_items("elts", i)
    if isinstance(node, ast.comprehension) and node.ifs:
        yield "the condition is dropped", _set("ifs", [])
    if isinstance(node, ast.FunctionDef | ast.For | ast.If | ast.While):
        yield from _statements(node)


def _constants(node: ast.Constant) -> Iterator[tuple[str, Change]]:
    value = node.value
    if isinstance(value, bool):
        others: tuple = (not value,)
    elif isinstance(value, int):
        others = (value + 1, value - 1)
    elif isinstance(value, float):
        others = (value * 2, value + 1.0)
    elif isinstance(value, str) and value:
        others = (value[:-1], value + "_")
    else:
        others = ()
    for other in others:
        yield f"{value!r} becomes {other!r}", _set("value", other)


def _calls(node: ast.Call) -> Iterator[tuple[str, Change]]:
    if isinstance(node.func, ast.Attribute):
        yield f".{node.func.attr}() is dropped", lambda n: n.func.value
    elif len(node.args) == 1 and not isinstance(node.args[0], ast.Starred):
        yield "a call is dropped", lambda n: n.args[0]
    for i in range(len(node.args) - 1):
        yield f"arguments {i} and {i + 1} are swapped", _swap_items("args", i)
    for i, keyword in enumerate(node.keywords):
        if keyword.arg not in (None, "device", "dtype"):
            yield (
                f"{keyword.arg}= is dropped",
                lambda n, i=i: n.keywords.pop(i) and None,
            )


def _names(node: ast.Name | ast.Attribute, variables: list[str]) -> Iterator:
    name = node.id if isinstance(node, ast.Name) else node.attr
    field = "id" if isinstance(node, ast.Name) else "attr"
    if name in _NEIGHBORS and name not in variables:
        yield f"{name} becomes {_NEIGHBORS[name]}", _set(field, _NEIGHBORS[name])
    if isinstance(node, ast.Name) and name in variables:
        place = variables.index(name)
        others = [*variables[place + 1 :], *variables[:place]][:_NAMES_A_SITE]
        for other in others:
            yield f"{name} becomes {other}", _set("id", other)


def _statements(node: Any) -> Iterator[tuple[str, Change]]:
    for i, statement in enumerate(node.body):
        if isinstance(statement, ast.Return):
            continue
        says = f"a statement is dropped: {ast.unparse(statement).splitlines()[0]}"
        if len(node.body) == 1:
            yield says, lambda n: n.body.__setitem__(0, ast.Pass())
        else:
            yield says, lambda n, i=i: n.body.pop(i) and None


def _set(field: str, value: Any) -> Change:
    return lambda node: setattr(node, field, value)


def _swap_sides(node: ast.BinOp) -> None:
    node.left, node.right = node.right, node.left


def _swap_branches(node: ast.IfExp) -> None:
    node.body, node.orelse = node.orelse, node.body


def _swap_items(field: str, i: int) -> Change:
    def swap(node: Any) -> None:
        items = getattr(node, field)
        items[i], items[i + 1] = items[i + 1], items[i]

    return swap
