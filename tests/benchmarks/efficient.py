"""Efficient attentions against full attention by PyTorch's kernel, over lengths."""

from __future__ import annotations

from companion.analysis import efficiency
from tests.benchmarks.side_by_side import Row, compare

LENGTHS = (512, 2048, 8192)


def rows() -> list[Row]:
    """One head of width 64; above 1 the kernel, which is exact, is faster as well."""
    return [
        _against_the_kernel(name, length, pass_)
        for pass_ in efficiency.PASSES
        for length in LENGTHS
        for name in (*efficiency.LINEAR, "chunked")
    ]


def _against_the_kernel(name: str, length: int, pass_: str) -> Row:
    known, qkv = efficiency.attentions(length), efficiency.draw_qkv(length)
    return compare(
        f"{pass_}, 1 head x {length} x {efficiency.D_K}",
        (name, lambda: efficiency.run(known[name], qkv, pass_)),
        ("fused_attention", lambda: efficiency.run(known["fused"], qkv, pass_)),
        rounds=20 if length < 4096 else 5,
    )
