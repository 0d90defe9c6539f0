"""A report as HTML, for a notebook and for the built page.

Styles are inline and few: the same markup stands in Jupyter, in the book and in an
e-mail. Text keeps the color of the page around it, so that it reads on light and dark.
"""

from __future__ import annotations

import html
import re

from companion.exercises.compare import Verdict
from companion.exercises.report import Grid, Report, show

# Only bars have a color of their own, and the symbol says the same.
_COLORS = {Verdict.PASSED: "#009e73", Verdict.NOT_IMPLEMENTED: "#7a7a7a"}
_WRONG = "#d55e00"
_CODE = "font-family:monospace;white-space:pre-wrap;overflow-wrap:anywhere"
_CALL = re.compile(r"\b(?:hint|solution|check)\(&quot;[\w.]+&quot;\)")


def to_html(report: Report) -> str:
    """The report as a box with a colored bar at its left."""
    color = _COLORS.get(report.verdict, _WRONG)
    head = (
        f"<div><strong>{report.symbol} {_text(report.headline)}</strong> · "
        f"<code>{_text(report.exercise)}</code> {_text(report.title)}</div>"
    )
    shown = _shown_as_grids(report)
    body = "".join(_line(*line) for line in report.lines if line[0] not in shown)
    if report.grids:
        grids = "".join(map(_grid, report.grids))
        at = body.rindex('<div style="display:flex')  # what to do next stays last
        row = f'<div style="display:flex;flex-wrap:wrap;align-items:flex-start;gap:.2rem 1.6rem">{grids}</div>'
        body = body[:at] + row + body[at:]
    return (
        f'<div class="check-report" style="border-left:.3rem solid {color};'
        f'padding:.1rem 0 .1rem .9rem;margin:.4rem 0;line-height:1.5">{head}{body}</div>'
    )


def _shown_as_grids(report: Report) -> set[str]:
    if not report.grids:
        return set()
    return {"Inputs", "Expected", "Found"}


def _line(label: str, body: str) -> str:
    paragraphs = "".join(
        f"<div>{_prose(part, label)}</div>" for part in body.split("\n")
    )
    if not label:
        return paragraphs
    return (
        '<div style="display:flex;gap:.6rem"><div style="flex:0 0 4.6rem;'
        f'font-weight:600">{_text(label)}</div><div style="min-width:0">'
        f"{paragraphs}</div></div>"
    )


def _prose(text: str, label: str) -> str:
    if label in ("Inputs", "Expected", "Found"):
        return f'<span style="{_CODE}">{_text(text)}</span>'
    return _CALL.sub(lambda match: f"<code>{match[0]}</code>", _text(text))


def _grid(grid: Grid) -> str:
    rows = grid.values if grid.values.ndim == 2 else grid.values[None]
    marks = (
        grid.wrong if grid.wrong is None or grid.wrong.ndim == 2 else grid.wrong[None]
    )
    cells = "".join(
        "<tr>"
        + "".join(
            _cell(show(value), marks is not None and bool(marks[i, j]))
            for j, value in enumerate(row)
        )
        + "</tr>"
        for i, row in enumerate(rows.tolist())
    )
    name = _text(grid.name)
    return (
        '<table style="width:auto;margin:.2rem 0;border-collapse:collapse;'
        'font-family:monospace"><caption style="caption-side:top;padding:0;'
        f'text-align:left;color:inherit">{name}</caption><tbody>{cells}</tbody></table>'
    )


def _cell(number: str, wrong: bool) -> str:
    mark = f"outline:2px solid {_WRONG};outline-offset:-2px;font-weight:700;"
    style = f"padding:.1rem .5rem;text-align:right;{mark if wrong else ''}"
    return f'<td style="{style}">{_text(number)}</td>'


def _text(text: str) -> str:
    return html.escape(text)
