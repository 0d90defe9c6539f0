"""Efficient attentions against full attention by PyTorch's kernel, over lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from companion.analysis import efficiency
from tests.benchmarks.side_by_side import Pair

NAMES = (*efficiency.LINEAR, "chunked")


def pairs(lengths: Sequence[int] = (512, 2048, 8192)) -> Iterator[Pair]:
    """One head of width 64; below 1x the kernel, which is exact, is faster as well."""
    for pass_ in efficiency.PASSES:
        for length in lengths:
            known, qkv = efficiency.attentions(length), efficiency.draw_qkv(length)
            full = known["fused"]
            for name in NAMES:
                yield Pair(
                    work=f"{pass_}, 1 head x {length} x {efficiency.D_K}",
                    ours=(
                        name,
                        lambda f=known[name], x=qkv, p=pass_: efficiency.run(f, x, p),
                    ),
                    reference=(
                        "fused_attention",
                        lambda f=full, x=qkv, p=pass_: efficiency.run(f, x, p),
                    ),
                    rounds=20 if length < 4096 else 5,
                )
