"""What a computation costs: seconds, bytes, multiply-adds, and how they grow."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

from companion.runtime import device


def best_time(fn: Callable[..., object], *args: object, repeats: int = 3) -> float:
    """Seconds that ``fn(*args)`` takes at its quickest, after one call to warm up.

    The quickest, not the mean: whatever else the machine does only ever adds time.
    """
    fn(*args)
    seconds = []
    for _ in range(repeats):
        _wait()
        start = time.perf_counter()
        fn(*args)
        _wait()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def peak_memory(fn: Callable[..., object], *args: object) -> int:
    """The most bytes that ``fn(*args)`` holds at one time, beyond what was held before.

    Counts what PyTorch's allocator hands out, inside kernels too: on CUDA by the
    allocator's own counter, on the CPU by the profiler's list of allocations.
    """
    if device().type == "cuda":
        _wait()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        fn(*args)
        _wait()
        return torch.cuda.max_memory_allocated() - before
    with (
        _silent_stderr(),
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace,
    ):
        fn(*args)
    events = [
        e for e in trace.profiler.kineto_results.events() if e.name() == "[memory]"
    ]
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()  # negative where memory is given back
        peak = max(peak, live)
    return peak


def log_log_slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The p of the power law y = c x^p that fits best: a straight line in log-log axes.

    Raises:
        ValueError: there are fewer than two points, x and y differ in number, or a
            value is not positive.
    """
    if len(x) != len(y) or len(x) < 2 or min(*x, *y) <= 0:
        raise ValueError(
            "x and y must be equally many positive numbers, at least two, "
            f"but they are {list(x)} and {list(y)}"
        )
    log_x, log_y = [math.log(v) for v in x], [math.log(v) for v in y]
    mean_x, mean_y = sum(log_x) / len(x), sum(log_y) / len(y)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(log_x, log_y, strict=True))
    return slope / sum((a - mean_x) ** 2 for a in log_x)


def attention_multiply_adds(n: int, d: int) -> int:
    """Multiply-adds of one head of self-attention over ``n`` tokens of width ``d``.

    Three projections, n d^2 each; Q K^T and the average of the values, n^2 d each.
    """
    return 3 * n * d**2 + 2 * n**2 * d


def gru_multiply_adds(n: int, d: int) -> int:
    """Multiply-adds of a GRU over ``n`` tokens: three gates, two d-by-d maps for each."""
    return 6 * n * d**2


class DecoderShape(NamedTuple):
    """What of a decoder-only model decides the cost of a context.

    The shapes below are published: GPT-3 175B in Brown et al. (2020), table 2.1, and Llama 3
    70B in Grattafiori et al. (2024), table 3.
    """

    num_layers: int
    d_model: int
    num_heads: int
    num_kv_heads: int
    d_k: int


GPT3_175B = DecoderShape(96, 12288, 96, 96, 128)
LLAMA3_70B = DecoderShape(80, 8192, 64, 8, 128)


def cache_bytes(shape: DecoderShape, tokens: int, bytes_per_number: int = 2) -> int:
    """Bytes of the keys and values of ``tokens`` tokens of one text; 2 a number is fp16.

    Source: Shazeer (2019) for why few key-value heads; each layer keeps 2 * d_k numbers
    for each of them and each token.
    """
    per_token = shape.num_layers * 2 * shape.num_kv_heads * shape.d_k
    return tokens * per_token * bytes_per_number


def attention_flops(
    shape: DecoderShape, new_tokens: int, past_tokens: int = 0, *, causal: bool = True
) -> int:
    """Floating-point operations of Q K^T and of the average of the values, in all layers.

    Two for a multiply-add: 4 * heads * d_k for each pair of a query and a key. The number
    of key-value heads does not matter. The softmax, some percent more, is left out.

    Args:
        shape: of the model.
        new_tokens: queries.
        past_tokens: keys that are in the cache before.
        causal: whether a pair with the key in the future costs nothing; a kernel that
            computes it and throws it away does about twice the work.
    """
    pairs = new_tokens * past_tokens + (
        new_tokens * (new_tokens + 1) // 2 if causal else new_tokens**2
    )
    return 4 * shape.num_layers * shape.num_heads * shape.d_k * pairs


def weight_flops(parameters: int, tokens: int) -> int:
    """2 * parameters * tokens: a multiply-add for each weight and token, forward only.

    Source: Kaplan et al. (2020), section 2.1.
    """
    return 2 * parameters * tokens


def _wait() -> None:
    """A GPU computes behind Python's back: let it finish before looking at the clock."""
    if device().type == "cuda":
        torch.cuda.synchronize()


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """The profiler's C++ part announces itself there, past Python's own sys.stderr."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
