"""Parity tests record how far they are from their reference; a table at the end shows it."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from companion.analysis import parity

# Before any test imports transformers: a reference is local or random, never downloaded.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

_PROPERTY = "parity"
_RECORD = "--record-parity"
ParityRecord = Callable[[str, str, float, float], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--record-parity``: keep the table, which a page of the book shows."""
    parser.addoption(_RECORD, action="store_true", help="keep the table for the book")


@pytest.fixture
def parity_record(request: pytest.FixtureRequest) -> ParityRecord:
    """``parity_record(name, reference, max_abs_difference, bound)``: a row of the table.

    The row is kept, then the test fails unless the difference is below the bound.
    """

    def record(
        name: str, reference: str, max_abs_difference: float, bound: float
    ) -> None:
        difference = float(max_abs_difference)
        row = [name, reference, difference, bound]
        request.node.user_properties.append((_PROPERTY, row))
        # Not "difference >= bound": that would let NaN pass.
        if not difference < bound:
            pytest.fail(
                f"{name} differs from {reference} by {difference:.2e}, "
                f"which is not below {bound:.0e}"
            )

    return record


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table: what was compared with what, and how far apart they are."""
    # Reports come from the workers of xdist too; each property is sent along as a pair.
    rows = sorted(
        tuple(row)
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if report.when == "call"
        for key, row in report.user_properties
        if key == _PROPERTY
    )
    if not rows:
        return
    if terminalreporter.config.getoption(_RECORD):
        parity.store(rows)
    cells = [("compared", "with", "max abs difference", "bound")]
    cells += [
        (name, ref, f"{diff:.1e}", f"{bound:.0e}") for name, ref, diff, bound in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    terminalreporter.section("parity")
    for row in cells:
        line = "  ".join(map(str.ljust, row, widths))
        terminalreporter.write_line(line.rstrip())
