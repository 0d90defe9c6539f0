"""What an answer does with one set of inputs: its value, its error, what it does besides.

An answer is a stranger's code. It gets copies of the inputs, its errors are caught, its
random numbers come from a seed of their own, its time and memory are limited, and its
value is copied before anything else runs.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import io
import linecache
import random
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import companion
from companion.exercises.exercise import Answer, Exercise, Inputs, Property
from companion.exercises.limits import within_limits

_PACKAGE = str(Path(companion.__file__).parent)
_LIBRARIES = (*(sysconfig.get_paths()[k] for k in ("stdlib", "purelib", "platlib")),)
_MAX_PRINTED = 10_000  # characters of one call


@dataclass(frozen=True)
class Outcome:
    """One call of an answer.

    Attributes:
        value: what it returned, copied and detached.
        error: what it raised instead.
        changed: which inputs it changed in place, by position.
        gradients: for each floating-point input tensor, by its path: whether a gradient
            ``"flows"`` back to it, is ``"blocked"``, is ``"nan"``, or is so ``"faint"``
            that rounding may have made it.
    """

    value: Any = None
    error: BaseException | None = None
    changed: tuple[int, ...] = ()
    gradients: dict[tuple[int, ...], str] = field(default_factory=dict)


def observe(
    exercise: Exercise,
    answer: Answer,
    inputs: Inputs,
    *,
    seed: int = 0,
    quiet: bool = True,
) -> Outcome:
    """Call ``answer`` on a copy of ``inputs``, and once more to follow the gradients.

    Args:
        seed: seeds the random numbers that the answer draws.
        quiet: swallow what the answer prints.

    Raises:
        KeyboardInterrupt: someone stopped it.
        TookTooLong: the time limit stopped it.
    """
    own = copied(inputs)
    with _sandbox(seed, quiet):
        try:
            value = within_limits(lambda: exercise.use(answer, own))
            value = copied(value, detach=True)
        except (Exception, SystemExit) as error:
            return Outcome(error=error)
    changed = tuple(
        i for i, pair in enumerate(zip(own, inputs, strict=True)) if not _intact(*pair)
    )
    with _sandbox(seed, quiet=True):
        gradients = _gradients(exercise, answer, inputs)
    return Outcome(value=value, changed=changed, gradients=gradients)


def holds(rule: Property, answer: Answer, inputs: Inputs) -> bool:
    """Whether ``answer`` has a property on a copy of ``inputs``; an error means no."""
    with _sandbox(0, quiet=True):
        try:
            return within_limits(lambda: bool(rule.holds(answer, copied(inputs))))
        except (Exception, SystemExit):
            return False


def error_place(error: BaseException, answer: Answer) -> str:
    """The line of the learner's code that raised, such as ``f, line 2: x = y + z``.

    The line is counted from the function's own first line. Empty if the error did not
    come from the learner's code, such as when the arguments did not fit.
    """
    frames = [
        (frame.f_code, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if _is_learners(frame.f_code.co_filename, answer)
    ]
    if not frames:
        return ""
    code, line = frames[-1]
    text = linecache.getline(code.co_filename, line).strip()
    name = code.co_qualname.rpartition("<locals>.")[2]
    place = f"{name}, line {line - code.co_firstlineno + 1}"
    return f"{place}: {text}" if text else place


def copied(thing: Any, *, detach: bool = False) -> Any:
    """A copy of a nest of tensors, modules and plain values that shares no memory."""

    def copy_leaf(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            plain = leaf.detach().clone()
            return plain if detach else plain.requires_grad_(leaf.requires_grad)
        if isinstance(leaf, torch.Generator):
            return leaf.clone_state()
        try:
            return copy.deepcopy(leaf)
        except Exception:  # such as an open file: nothing that a check compares
            return leaf

    return mapped(copy_leaf, thing)


def mapped(function: Callable[[Any], Any], thing: Any) -> Any:
    """Apply ``function`` to every leaf of a nest of tuples, lists and dicts."""
    if isinstance(thing, dict):
        return {key: mapped(function, value) for key, value in thing.items()}
    if isinstance(thing, tuple) and hasattr(thing, "_fields"):
        return type(thing)(*(mapped(function, part) for part in thing))
    if isinstance(thing, list | tuple):
        return type(thing)([mapped(function, part) for part in thing])
    return function(thing)


def tensors(thing: Any, path: tuple = ()) -> Iterator[tuple[tuple, Tensor]]:
    """Every tensor in a nest of tuples, lists and dicts, with the path to it."""
    if isinstance(thing, Tensor):
        yield path, thing
    elif isinstance(thing, dict):
        for key, part in thing.items():
            yield from tensors(part, (*path, key))
    elif isinstance(thing, list | tuple):
        for i, part in enumerate(thing):
            yield from tensors(part, (*path, i))


def _intact(now: Any, before: Any) -> bool:
    if isinstance(before, nn.Module):
        return _intact(now.state_dict(), before.state_dict())
    after, original = list(tensors(now)), list(tensors(before))
    return len(after) == len(original) and all(
        a.shape == b.shape and a.dtype == b.dtype and _same_bits(a, b)
        for (_, a), (_, b) in zip(after, original, strict=True)
    )


def _same_bits(a: Tensor, b: Tensor) -> bool:
    return bool(((a == b) | ((a != a) & (b != b))).all())


def _gradients(exercise: Exercise, answer: Answer, inputs: Inputs) -> dict:
    leaves: dict[tuple, Tensor] = {
        path: t.detach().clone().requires_grad_()
        for path, t in tensors(inputs)
        if t.is_floating_point()
    }
    if not leaves:
        return {}
    blocked = dict.fromkeys(leaves, "blocked")
    # The answer gets copies of the leaves: on a leaf itself PyTorch refuses every
    # in-place operation, and that is not what is asked here.
    stand_ins = iter([leaf.clone() for leaf in leaves.values()])
    own = mapped(
        lambda leaf: (
            next(stand_ins)
            if isinstance(leaf, Tensor) and leaf.is_floating_point()
            else copied(leaf)
        ),
        inputs,
    )
    try:
        outputs = [
            t
            for _, t in tensors(within_limits(lambda: exercise.use(answer, own)))
            if t.requires_grad and t.is_floating_point()
        ]
        if not outputs:
            return blocked
        # Not the plain sum: rows of weights sum to 1 whatever the inputs are.
        objective = sum(
            (t * torch.arange(t.numel(), device=t.device).cos().view(t.shape)).sum()
            for t in outputs
        )
        found = torch.autograd.grad(objective, list(leaves.values()), allow_unused=True)
    except (Exception, SystemExit):  # such as .numpy() on a tensor with a gradient
        return blocked
    return {
        path: _gradient_state(grad) for path, grad in zip(leaves, found, strict=True)
    }


def _gradient_state(gradient: Tensor | None) -> str:
    if gradient is None or not gradient.count_nonzero():
        return "blocked"
    if not gradient.isfinite().all():
        return "nan"
    return "flows" if gradient.abs().max() > 1e-5 else "faint"


class _Printed(io.TextIOBase):
    """What an answer prints: shown up to a limit, or not at all."""

    def __init__(self, quiet: bool) -> None:
        self._shown = sys.stdout
        self._left = 0 if quiet else _MAX_PRINTED

    def write(self, text: str) -> int:
        if self._left > 0:
            self._shown.write(text[: self._left])
            self._left -= len(text)
            if self._left <= 0:
                self._shown.write("\n[what it prints after this is not shown]\n")
        return len(text)

    def flush(self) -> None:
        if self._left > 0:
            self._shown.flush()


@contextlib.contextmanager
def _sandbox(seed: int, quiet: bool) -> Iterator[None]:
    """Random numbers from ``seed``, gradients on; all as it was afterwards."""
    python_state = random.getstate()
    numpy_state = np.random.get_state()  # noqa: NPY002 (learners may use it)
    on_cuda = torch.cuda.is_initialized()
    devices = range(torch.cuda.device_count() if on_cuda else 0)
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=devices))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(contextlib.redirect_stdout(_Printed(quiet)))
        if quiet:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        # Not torch.manual_seed: for each kind of device that is not in use it queues
        # a call with the whole stack, which costs more than the answer itself.
        torch.default_generator.manual_seed(seed)
        if on_cuda:
            torch.cuda.manual_seed_all(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002


def _is_learners(filename: str, answer: Answer) -> bool:
    try:
        if filename == inspect.getfile(inspect.unwrap(answer)):
            return True
    except (TypeError, OSError):  # a class of a notebook has no file
        pass
    return not filename.startswith((_PACKAGE, *_LIBRARIES, "<frozen"))
