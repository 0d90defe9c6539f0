"""A memory limit for a stranger's code: tensors are measured before they are made."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

try:
    import resource
except ImportError:  # Windows
    resource = None

TENSOR_NUMBERS = 2**28  # the most numbers of one tensor: a gibibyte in float32
PROCESS_BYTES = 4 * 2**30  # what all that one call makes may take

_BY_SIZE = {"zeros", "ones", "empty", "rand", "randn", "new_zeros", "new_ones"}
_BY_SIZE |= {"new_empty", "repeat", "tile"}
_PRODUCTS = {"matmul", "__matmul__", "__rmatmul__", "mm", "bmm"}


@contextlib.contextmanager
def memory_limit() -> Iterator[None]:
    """Within it, what asks for too much memory gets a MemoryError and not the memory.

    Tensors are measured on every system. Lists and NumPy arrays are limited on Linux
    alone, and only where there is no CUDA: it reserves addresses by the hundred
    gigabytes that are not memory.

    Raises:
        MemoryError: a tensor of more than `TENSOR_NUMBERS` numbers, or all together
            more than `PROCESS_BYTES`.
    """
    try:
        with _process_limit(), _TensorLimit():
            yield
    except RuntimeError as error:
        if "can't allocate memory" in str(error) or "out of memory" in str(error):
            raise MemoryError(str(error).partition("\n")[0]) from error
        raise


class _TensorLimit(TorchFunctionMode):
    """Sees every call of PyTorch, and refuses those with too large a result."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        try:
            numbers = _numbers(getattr(func, "__name__", ""), args, kwargs)
        except Exception:  # wrong arguments: PyTorch says so itself
            numbers = 0
        if numbers > TENSOR_NUMBERS:
            raise MemoryError(f"a tensor of {numbers:,} numbers is asked for")
        return func(*args, **kwargs)


def _numbers(name: str, args: tuple, kwargs: dict) -> int:
    """How many numbers the result has, as far as a glance at the arguments tells."""
    given = [t for t in args if isinstance(t, Tensor)]
    if name in _BY_SIZE:
        size = kwargs.get("size", args[1:] if given else args)
        numbers = _product(size)
        return numbers * given[0].numel() if name in ("repeat", "tile") else numbers
    if name in ("full", "new_full"):
        return _product(kwargs.get("size", args[len(given)]))
    if name == "eye":
        return args[0] * (args[1] if len(args) > 1 else args[0])
    if name == "randint":
        return _product(kwargs.get("size", args[-1]))
    if name == "arange":
        start, end, step = {1: (0, *args, 1), 2: (*args, 1), 3: args}[len(args)]
        return math.ceil((end - start) / step)
    if name == "linspace":
        return kwargs.get("steps", args[-1])
    if name == "one_hot":
        classes = kwargs.get("num_classes", args[1] if len(args) > 1 else -1)
        return given[0].numel() * max(classes, int(given[0].max()) + 1)
    if name == "repeat_interleave" and isinstance(args[1], int):
        return given[0].numel() * args[1]
    if len(given) != 2:
        return 0
    a, b = (t.shape for t in given)
    if name in _PRODUCTS and len(a) > 1 and len(b) > 1:
        return math.prod(_broadcast(a[:-2], b[:-2])) * a[-2] * b[-1]
    if name in ("outer", "kron"):
        return a.numel() * b.numel()
    return math.prod(_broadcast(a, b))


def _product(size: Any) -> int:
    """The product of a size, given as numbers or as a tuple of numbers."""
    if isinstance(size, int):
        return size
    return math.prod(_product(part) for part in size if not isinstance(part, float))


def _broadcast(a: tuple, b: tuple) -> tuple:
    """The shape of ``a + b``; empty where they do not go together."""
    length = max(len(a), len(b))
    pairs = zip(
        (1,) * (length - len(a)) + tuple(a),
        (1,) * (length - len(b)) + tuple(b),
        strict=True,
    )
    shape = tuple(n if m == 1 else m for m, n in pairs if m == n or 1 in (m, n))
    return shape if len(shape) == length else (0,)


@contextlib.contextmanager
def _process_limit() -> Iterator[None]:
    if resource is None or torch.cuda.is_available():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            used = int(statm.read().split()[0]) * resource.getpagesize()
        known = [n for n in (soft, hard) if n != resource.RLIM_INFINITY]
        resource.setrlimit(
            resource.RLIMIT_AS, (min([used + PROCESS_BYTES, *known]), hard)
        )
    except (OSError, ValueError):  # no Linux
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
