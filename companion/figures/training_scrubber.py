"""The interactive training scrubber: what a model writes at several moments of its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import traitlets

from companion.figures.widget import Figure, figure_module, figure_style

_HERE = Path(__file__).parent
_POINTS = (
    100  # of the loss curve; its values are means over as many updates as it takes
)
_LINES = 3


class TrainingScrubber(Figure):
    """A slider through a training: what the model writes for some sources, and curves.

    The trait ``moment`` can be set and observed from Python.

    Args:
        updates: after which there is a moment, rising; the last may be the last of all.
        sources: some texts.
        wanted: what should be written for each.
        written: for each moment, what is written for each source.
        losses: of all updates.
        rates: the learning rates of all updates.
        shares: one to three curves by name: for each moment a number from 0 to 1.
        moment: which is shown first, counted from 0.

    Raises:
        ValueError: lengths don't fit together, or a number is out of range.
    """

    _esm = figure_module(_HERE / "training_scrubber.js")
    _css = figure_style(_HERE / "training_scrubber.css")

    moment = traitlets.Int(0).tag(sync=True)
    updates = traitlets.List(read_only=True).tag(sync=True)
    sources = traitlets.List(read_only=True).tag(sync=True)
    wanted = traitlets.List(read_only=True).tag(sync=True)
    written = traitlets.List(read_only=True).tag(sync=True)
    losses = traitlets.List(read_only=True).tag(sync=True)  # [update, mean loss]
    rates = traitlets.List(read_only=True).tag(sync=True)  # one a moment
    shares = traitlets.List(read_only=True).tag(sync=True)  # [name, one a moment]

    def __init__(
        self,
        updates: Sequence[int],
        sources: Sequence[str],
        wanted: Sequence[str],
        written: Sequence[Sequence[str]],
        *,
        losses: Sequence[float],
        rates: Sequence[float],
        shares: Mapping[str, Sequence[float]],
        moment: int = 0,
    ) -> None:
        if not updates or sorted(set(updates)) != list(updates) or updates[0] < 1:
            raise ValueError(
                f"updates must be at least one number, rising from 1 on, but it is {updates}"
            )
        if len(losses) < updates[-1] or len(rates) != len(losses):
            raise ValueError(
                f"losses and rates must both have all {updates[-1]} updates, but they "
                f"have {len(losses)} and {len(rates)}"
            )
        for name, given, count in (
            ("wanted", wanted, len(sources)),
            ("written", written, len(updates)),
            *(
                (f"written[{i}]", texts, len(sources))
                for i, texts in enumerate(written)
            ),
            *((f"shares[{n!r}]", share, len(updates)) for n, share in shares.items()),
        ):
            if len(given) != count:
                raise ValueError(
                    f"{name} must have {count} entries, but it has {len(given)}"
                )
        values = [value for share in shares.values() for value in share]
        if not 1 <= len(shares) <= _LINES or min(values) < 0 or max(values) > 1:
            raise ValueError(
                f"shares must be one to {_LINES} curves with values from 0 to 1, but "
                f"they are {dict(shares)}"
            )
        super().__init__()
        self.set_trait("updates", list(updates))
        self.set_trait("sources", list(sources))
        self.set_trait("wanted", list(wanted))
        self.set_trait("written", [list(texts) for texts in written])
        self.set_trait("losses", _thinned(losses))
        self.set_trait("rates", [float(f"{rates[n - 1]:.3g}") for n in updates])
        self.set_trait(
            "shares",
            [[name, [round(v, 4) for v in share]] for name, share in shares.items()],
        )
        self.moment = moment

    @traitlets.validate("moment")
    def _stay_in_range(self, proposal: Any) -> int:
        high = max(len(self.updates) - 1, 0)
        if not 0 <= proposal.value <= high:
            raise ValueError(
                f"moment must be from 0 to {high}, but it is {proposal.value}"
            )
        return proposal.value

    def describe(self) -> str:
        return f"{len(self.sources)} texts at {len(self.updates)} moments of a training"

    def fallback(self) -> str:
        """What is written at the moment."""
        rows = "".join(
            f"<tr><th scope='row'>{escape(source)}</th><td>{escape(text)}</td></tr>"
            for source, text in zip(
                self.sources, self.written[self.moment], strict=True
            )
        )
        return (
            f"<table><caption>Written after {self.updates[self.moment]} updates. With "
            "JavaScript this figure has a slider.</caption><tr><th scope='col'>source"
            f"</th><th scope='col'>written</th></tr>{rows}</table>"
        )


def _thinned(losses: Sequence[float]) -> list[list[float]]:
    """At most 100 points, each the mean over a stretch and at its middle."""
    width = -(-len(losses) // _POINTS)
    parts = [losses[i : i + width] for i in range(0, len(losses), width)]
    return [
        [i * width + (len(part) + 1) / 2, round(sum(part) / len(part), 3)]
        for i, part in enumerate(parts)
    ]
