"""The bar explorer: a table of numbers, of which the reader chooses what is drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import traitlets

from companion.figures.widget import Figure, figure_module, figure_style

_HERE = Path(__file__).parent


class BarExplorer(Figure):
    """Bars for one choice at a time, all on one axis, so that choices can be compared.

    The trait ``picked`` holds the number of the chosen option of each column, from 0.

    Args:
        rows: the table. Each row has the columns of ``choose``, ``along`` and ``value``.
        choose: the columns to choose from; the table has every combination once.
        along: the column that names the bars.
        value: the column with the numbers, none below 0.
        picked: what is shown first, by default the first of each.
        line: a number that the bars are compared with, and what it is called.
        floor: if given, the axis is logarithmic and begins here.
        notes: sentences to show with options, such as ``{"no mask": "Every ..."}``.
        caption: what stands under the figure.

    Raises:
        ValueError: a combination is missing or given twice, a number or the floor is
            below 0, or ``picked`` is no option.
    """

    _esm = figure_module(_HERE / "bar_explorer.js")
    _css = figure_style(_HERE / "bar_explorer.css")

    picked = traitlets.List(traitlets.Int()).tag(sync=True)
    columns = traitlets.List(read_only=True).tag(sync=True)  # [name, options] each
    bars = traitlets.List(read_only=True).tag(sync=True)  # their names
    # The values of each combination, the last column's options changing fastest.
    values = traitlets.List(read_only=True).tag(sync=True)
    names = traitlets.Dict(read_only=True).tag(sync=True)  # of bars, values and line
    line = traitlets.Float(0.0, read_only=True).tag(sync=True)  # 0: none
    floor = traitlets.Float(0.0, read_only=True).tag(sync=True)  # 0: the axis is linear
    notes = traitlets.Dict(read_only=True).tag(sync=True)
    caption = traitlets.Unicode("", read_only=True).tag(sync=True)

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        choose: Sequence[str],
        *,
        along: str,
        value: str,
        picked: Sequence[int] | None = None,
        line: tuple[float, str] | None = None,
        floor: float | None = None,
        notes: Mapping[str, str] | None = None,
        caption: str = "",
    ) -> None:
        super().__init__()
        options = [list(dict.fromkeys(row[name] for row in rows)) for name in choose]
        bars = list(dict.fromkeys(row[along] for row in rows))
        if not options or not bars:
            raise ValueError("rows and choose must not be empty")
        if floor is not None and floor <= 0:
            raise ValueError(f"floor must be above 0, but it is {floor}")
        number = math.prod(map(len, options))
        table: list[list[float | None]] = [[None] * len(bars) for _ in range(number)]
        for row in rows:
            place = _place(
                [o.index(row[c]) for o, c in zip(options, choose, strict=True)], options
            )
            bar, height = bars.index(row[along]), float(row[value])
            if table[place][bar] is not None:
                raise ValueError(
                    f"rows must be all different, but {dict(row)} is twice"
                )
            if not 0 <= height < math.inf:
                raise ValueError(f"{value} must be a number from 0, but it is {height}")
            table[place][bar] = float(f"{height:.4g}")
        if any(None in heights for heights in table):
            raise ValueError("rows must hold every combination, but some are missing")
        for name, content in {
            "columns": [[n, o] for n, o in zip(choose, options, strict=True)],
            "bars": bars,
            "values": table,
            "names": {"along": along, "value": value, "line": line[1] if line else ""},
            "line": line[0] if line else 0.0,
            "floor": floor or 0.0,
            "notes": dict(notes or {}),
            "caption": caption,
        }.items():
            self.set_trait(name, content)
        self.picked = [0] * len(options) if picked is None else list(picked)

    @traitlets.validate("picked")
    def _be_options(self, proposal: Any) -> list[int]:
        sizes = [len(options) for _, options in self.columns]
        value = proposal.value
        if len(value) != len(sizes) or not all(
            0 <= i < size for i, size in zip(value, sizes, strict=True)
        ):
            raise ValueError(
                f"picked must be one number for each of {sizes}, from 0 and below it, "
                f"but it is {value}"
            )
        return value

    def shown(self) -> dict[str, float]:
        """The bars of what is picked, by name."""
        place = _place(self.picked, [options for _, options in self.columns])
        return dict(zip(self.bars, self.values[place], strict=True))

    def first_above(self) -> str | None:
        """The first bar of what is picked that is above the line."""
        return next((name for name, v in self.shown().items() if v > self.line), None)

    def describe(self) -> str:
        chosen = " and ".join(name for name, _ in self.columns)
        return f"{self.names['value']} along {self.names['along']}, by {chosen}"

    def fallback(self) -> str:
        """What is picked, as a table."""
        rows = "".join(
            f"<tr><th scope='row'>{escape(str(name))}</th><td>{value:.3g}</td></tr>"
            for name, value in self.shown().items()
        )
        options = (o[i] for (_, o), i in zip(self.columns, self.picked, strict=True))
        title = escape(", ".join(map(str, options)))
        return (
            f"<table><caption>{escape(self.names['value'])}: {title}. With JavaScript "
            f"this figure has choices.</caption>{rows}</table>"
        )


def _place(picked: Sequence[int], options: Sequence[Sequence[Any]]) -> int:
    """The number of a combination, the last column's options changing fastest."""
    place = 0
    for i, of in zip(picked, options, strict=True):
        place = place * len(of) + i
    return place
