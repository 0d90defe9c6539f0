"""Right answers that are written differently from the reference, made from its source.

- **by other operations**: functions of PyTorch in place of methods and operators, a
  matrix product by einsum, a softmax by exp and sum, a mean by sum and count.
- **by loops**: comprehensions as loops, for as while, a matrix product as a sum of
  products, sums one entry at a time; operands and comparisons turned around.
- **as a module in float64**: one operation a line, all names others, in a module's
  forward; computed in double precision and handed back in the inputs' own.

One that comes out like the reference, because there is nothing to rewrite, is not given.
"""

from __future__ import annotations

import ast
import copy
import inspect
import itertools
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from companion.exercises.outcome import mapped
from tests.mutation.mutants import compiled, definition

Code = Callable[..., Any]


def rewrites(function: FunctionType) -> dict[str, Code]:
    """Right answers by how they are written: up to three, none like another."""
    trees = {
        "other operations": _ByOtherOperations().rewrite(definition(function)),
        "loops": _ByLoops().rewrite(definition(function)),
        "module in float64": _renamed(_LineByLine().rewrite(definition(function))),
    }
    known = {_shape(definition(function)): ""}
    names = {known.setdefault(_shape(tree), name) for name, tree in trees.items()}
    codes = {
        name: compiled(tree, function, HELPERS)
        for name, tree in trees.items()
        if name in names
    }
    if "module in float64" in codes:
        codes["module in float64"] = _Module(codes["module in float64"])
    return codes


def _shape(tree: ast.FunctionDef) -> str:
    """The tree with names of variables taken out: what is different must be more."""
    names = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    names |= {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    order = {name: f"v{i}" for i, name in enumerate(_in_order(tree, names))}
    return ast.dump(_Rename(order).visit(ast.parse(ast.unparse(tree))))


def _in_order(tree: ast.AST, names: set[str]) -> list[str]:
    found = [
        n.arg if isinstance(n, ast.arg) else getattr(n, "id", "")
        for n in ast.walk(tree)
    ]
    return [name for name in dict.fromkeys(found) if name in names]


class _Rename(ast.NodeTransformer):
    def __init__(self, names: dict[str, str]) -> None:
        self._names = names

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(self._names.get(node.id, node.id), node.ctx)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(self._names.get(node.arg, node.arg))


def _renamed(tree: ast.FunctionDef) -> ast.FunctionDef:
    names = [node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)]
    names += [
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]
    others = {name: f"{name[0]}_{i}" for i, name in enumerate(dict.fromkeys(names))}
    return _Rename(others).visit(tree)


class _Rewriter(ast.NodeTransformer):
    def rewrite(self, tree: ast.FunctionDef) -> ast.FunctionDef:
        return ast.fix_missing_locations(self.visit(tree))


def _call(name: str, *args: ast.AST) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(args), [])


_TURNED = {ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE}
_TURNED |= {ast.Eq: ast.Eq, ast.NotEq: ast.NotEq}
_BINARY = {
    ast.MatMult: "_einsum_product",
    ast.Div: "_divide",
    ast.Add: "_add",
    ast.Mult: "_multiply",
    ast.Sub: "_subtract",
    ast.Pow: "_power",
    ast.BitAnd: "_both",
}


class _ByTurning(_Rewriter):
    """a + b as b + a, a < b as b > a, a - b as a + (-b), if-else turned around."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        node = self.generic_visit(node)
        if isinstance(node.op, ast.Mult):
            return ast.BinOp(node.right, ast.Mult(), node.left)
        if isinstance(node.op, ast.Add):
            return _call("_sum_turned", node.right, node.left)
        if isinstance(node.op, ast.Sub):
            return _call("_difference_turned", node.right, node.left)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        node = self.generic_visit(node)
        turned = _TURNED.get(type(node.ops[0]))
        if len(node.ops) > 1 or turned is None:
            return node
        return ast.Compare(node.comparators[0], [turned()], [node.left])

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        node = self.generic_visit(node)
        return ast.IfExp(ast.UnaryOp(ast.Not(), node.test), node.orelse, node.body)


class _ByOtherOperations(_Rewriter):
    """Operators and methods through functions that do the same in another way."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        node = self.generic_visit(node)
        name = _BINARY.get(type(node.op))
        return node if name is None else _call(name, node.left, node.right)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node = self.generic_visit(node)
        if not isinstance(node.func, ast.Attribute):
            return node
        method = ast.Constant(node.func.attr)
        name = ast.Name("_method", ast.Load())
        return ast.Call(name, [node.func.value, method, *node.args], node.keywords)


class _ByLoops(_ByTurning):
    """Comprehensions and for loops as while loops; products and sums entry by entry."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        if isinstance(node.op, ast.MatMult):
            node = self.generic_visit(node)
            return _call("_summed_product", node.left, node.right)
        return super().visit_BinOp(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node = self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr in _LOOPED:
            name = ast.Name(f"_looped_{node.func.attr}", ast.Load())
            return ast.Call(name, [node.func.value, *node.args], node.keywords)
        return node

    def visit_ListComp(self, node: ast.ListComp) -> ast.AST:
        node = self.generic_visit(node)
        return _call("list", ast.GeneratorExp(node.elt, node.generators))

    def visit_For(self, node: ast.For) -> Any:
        node = self.generic_visit(node)
        if node.orelse:
            return node
        source = f"_left_{next(self._numbers)}"
        start = ast.Assign(
            [ast.Name(source, ast.Store())], _call("_reversed_list", node.iter)
        )
        take = ast.Call(
            ast.Attribute(ast.Name(source, ast.Load()), "pop", ast.Load()), [], []
        )
        first = ast.Assign([node.target], take)
        return [
            start,
            ast.While(ast.Name(source, ast.Load()), [first, *node.body], []),
        ]


class _LineByLine(_Rewriter):
    """One operation a line: what an expression is made of gets a name first."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._before: list[ast.stmt] = []

    def visit_Assign(self, node: ast.Assign) -> Any:
        return self._spread(node)

    def visit_Return(self, node: ast.Return) -> Any:
        return self._spread(node)

    def _spread(self, node: Any) -> list[ast.stmt]:
        self._before = []
        node.value = self._parts(node.value)
        return [*self._before, node]

    def _parts(self, node: ast.expr) -> ast.expr:
        """The expression with names in place of its parts."""
        if isinstance(node, ast.BinOp):
            node.left, node.right = self._named(node.left), self._named(node.right)
        elif isinstance(node, ast.UnaryOp):
            node.operand = self._named(node.operand)
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                node.func.value = self._named(node.func.value)
            node.args = [self._named(argument) for argument in node.args]
        elif isinstance(node, ast.Subscript):
            node.value = self._named(node.value)
        elif isinstance(node, ast.Tuple):
            node.elts = [self._named(part) for part in node.elts]
        return node

    def _named(self, node: ast.expr) -> ast.expr:
        # Only what is computed in any case, and at this place.
        if not isinstance(node, ast.BinOp | ast.UnaryOp | ast.Call | ast.Subscript):
            return node
        value = self._parts(node)
        name = f"part_{next(self._numbers)}"
        self._before.append(ast.Assign([ast.Name(name, ast.Store())], value))
        return ast.Name(name, ast.Load())


# What the rewritten code calls


def _is_number(thing: Any) -> bool:
    return isinstance(thing, Tensor | int | float)


def _sum_turned(right: Any, left: Any) -> Any:
    """right + left; lists and texts, which are joined and not added, keep their order."""
    both = _is_number(left) and _is_number(right)
    return right + left if both else left + right


def _difference_turned(right: Any, left: Any) -> Any:
    both = _is_number(left) and _is_number(right)
    return -right + left if both else left - right


def _add(a: Any, b: Any) -> Any:
    return torch.add(a, b) if isinstance(a, Tensor) and _is_number(b) else a + b


def _multiply(a: Any, b: Any) -> Any:
    return torch.mul(a, b) if isinstance(a, Tensor) else a * b


def _subtract(a: Any, b: Any) -> Any:
    return torch.sub(a, b) if isinstance(a, Tensor) else a - b


def _divide(a: Any, b: Any) -> Any:
    return torch.true_divide(a, b) if isinstance(a, Tensor) else a / b


def _power(a: Any, b: Any) -> Any:
    if isinstance(b, int) and b == 2:
        return a * a
    return torch.pow(a, b) if isinstance(a, Tensor) or isinstance(b, Tensor) else a**b


def _both(a: Any, b: Any) -> Any:
    return (
        torch.logical_and(a, b)
        if isinstance(a, Tensor) and a.dtype == torch.bool
        else a & b
    )


def _reversed_list(things: Any) -> list:
    return list(things)[::-1]


def _einsum_product(a: Any, b: Any) -> Any:
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        return a @ b
    left, right = "ij"[2 - min(a.ndim, 2) :], "jk"[: min(b.ndim, 2)]
    out = left.replace("j", "") + right.replace("j", "")
    pattern = (
        f"{'...' if a.ndim > 2 else ''}{left},{'...' if b.ndim > 2 else ''}{right}"
    )
    dots = "..." if max(a.ndim, b.ndim) > 2 else ""
    return torch.einsum(f"{pattern}->{dots}{out}", a, b)


def _summed_product(a: Any, b: Any) -> Any:
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)) or min(a.ndim, b.ndim) < 2:
        return a @ b
    return (a[..., :, :, None] * b[..., None, :, :]).sum(dim=-2)


def _method(thing: Any, name: str, *args: Any, **keywords: Any) -> Any:
    """``thing.name(...)``, for tensors by a function that does it otherwise."""
    if isinstance(thing, Tensor):
        if name in _OTHERWISE:
            return _OTHERWISE[name](thing, *args, **keywords)
        if name in ("reshape", "permute", "expand", "repeat"):
            return getattr(thing, name)(*args, **keywords)
        function = getattr(torch, name, None)
        if inspect.isbuiltin(function) or inspect.isfunction(function):
            return function(thing, *args, **keywords)
    return getattr(thing, name)(*args, **keywords)


def _softmax(x: Tensor, dim: int) -> Tensor:
    e = (x - x.amax(dim, keepdim=True).detach()).exp()
    return e / e.sum(dim, keepdim=True)


def _log_softmax(x: Tensor, dim: int) -> Tensor:
    return x - x.logsumexp(dim, keepdim=True)


def _mean(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    if dim is None:
        return x.sum() / x.numel()
    dims = (dim,) if isinstance(dim, int) else dim
    count = 1
    for d in dims:
        count *= x.shape[d]
    return x.sum(dim, keepdim=keepdim) / count


def _masked_fill(x: Tensor, mask: Tensor, value: float) -> Tensor:
    return torch.where(mask, torch.as_tensor(value, dtype=x.dtype, device=x.device), x)


def _square(x: Tensor) -> Tensor:
    return x * x


_OTHERWISE = {
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "mean": _mean,
    "masked_fill": _masked_fill,
    "square": _square,
}


def _looped_sum(x: Any, *args: Any, **keywords: Any) -> Any:
    """A sum over one axis, one entry after the other."""
    dim = keywords.get("dim", args[0] if args else None)
    if not isinstance(x, Tensor) or not isinstance(dim, int):
        return x.sum(*args, **keywords)
    whole = x.long() if x.dtype == torch.bool else x
    keep = keywords.get("keepdim", args[1] if len(args) > 1 else False)
    total = torch.zeros_like(whole.select(dim, 0))
    for part in whole.unbind(dim):
        total = total + part
    return total.unsqueeze(dim if dim >= 0 else x.ndim + dim) if keep else total


def _looped_cumsum(x: Any, dim: int) -> Any:
    total, sums = 0, []
    for part in x.unbind(dim):
        total = total + part
        sums.append(total)
    return torch.stack(sums, dim)


_LOOPED = {"sum", "cumsum"}


HELPERS = {
    name: thing
    for name, thing in globals().items()
    if name.startswith("_") and callable(thing)
}


class _Module(nn.Module):
    """Code in double precision as a module's forward."""

    def __init__(self, code: Code) -> None:
        super().__init__()
        self._code = code

    def forward(self, *inputs: Any) -> Any:
        if any(inspect.isfunction(thing) for thing in inputs):
            return self._code(*inputs)  # what it holds can't be made double
        usual = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            return mapped(_narrowed, self._code(*mapped(_widened, inputs)))
        finally:
            torch.set_default_dtype(usual)


def _widened(leaf: Any) -> Any:
    if isinstance(leaf, Tensor) and leaf.dtype == torch.float32:
        return leaf.double()
    return copy.deepcopy(leaf).double() if isinstance(leaf, nn.Module) else leaf


def _narrowed(leaf: Any) -> Any:
    if isinstance(leaf, Tensor) and leaf.dtype == torch.float64:
        return leaf.float()
    return leaf
