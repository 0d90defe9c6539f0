"""The token reader: how surprising each token of a text is, and what was expected there."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import traitlets
from jaxtyping import Float
from torch import Tensor

from companion.figures.widget import Figure, figure_module, figure_style

_HERE = Path(__file__).parent


class Expected(NamedTuple):
    """What a model expects at one place.

    Attributes:
        p: the probability of the token that stands there.
        likeliest: tokens and their probabilities, best first.
    """

    p: float
    likeliest: list[tuple[str, float]]


class Reading(NamedTuple):
    """A text, and what was expected at each of its tokens in one or several ways.

    Attributes:
        tokens: the text.
        ways: name -> one `Expected` a token; None where nothing was asked.
    """

    tokens: Sequence[str]
    ways: Mapping[str, Sequence[Expected | None]]

    @classmethod
    def of(
        cls,
        token_ids: Sequence[int],
        logits: Mapping[str, Float[Tensor, "length vocab"]],
        name: Callable[[int], str],
        *,
        number: int = 5,
    ) -> Reading:
        """From logits.

        Args:
            token_ids: the text.
            logits: way -> the logits at each token, a row of NaN where it is not asked.
            name: the text of a token id.
            number: how many likeliest tokens are kept.
        """
        ids = [int(i) for i in token_ids]
        ways = {}
        for way, table in logits.items():
            if table.ndim != 2 or len(table) != len(ids):
                raise ValueError(
                    f"logits of {way!r} must have shape ({len(ids)}, vocab), a row a "
                    f"token, but they have shape {tuple(table.shape)}"
                )
            places: list[Expected | None] = []
            for token, row in zip(ids, table.detach().double().cpu(), strict=True):
                if row.isnan().any():
                    places.append(None)
                    continue
                p = row.softmax(dim=-1)
                best = p.topk(min(number, len(p)))
                pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
                places.append(
                    Expected(p[token].item(), [(name(i), v) for i, v in pairs])
                )
            ways[way] = places
        return cls([name(i) for i in ids], ways)


class TokenReader(Figure):
    """A text whose tokens are shaded by their surprise, -log2 p; choose one to ask.

    The traits ``text``, ``way`` and ``place`` can be set and observed from Python; they
    count from 0.

    Args:
        readings: title -> a text and what was expected in it.
        text, way: what is shown first.
        place: the token that is chosen first, by default the most surprising one.
        caption: what stands under the figure.

    Raises:
        ValueError: there is no reading or nothing was asked in one, the places of a way
            do not fit its tokens, or a number is out of range.
    """

    _esm = figure_module(_HERE / "token_reader.js")
    _css = figure_style(_HERE / "token_reader.css")

    text = traitlets.Int(0).tag(sync=True)
    way = traitlets.Int(0).tag(sync=True)
    place = traitlets.Int(0).tag(sync=True)
    caption = traitlets.Unicode("", read_only=True).tag(sync=True)
    # A dict a text: title, tokens, and ways, each [name, [[p, [[token, p], ...]] or null]].
    readings = traitlets.List(read_only=True).tag(sync=True)

    def __init__(
        self,
        readings: Mapping[str, Reading],
        text: int = 0,
        way: int = 0,
        place: int | None = None,
        *,
        caption: str = "",
    ) -> None:
        if not readings:
            raise ValueError("readings must hold at least one text, but it is empty")
        super().__init__()
        self.set_trait("readings", [_stored(*item) for item in readings.items()])
        self.set_trait("caption", caption)
        self.text, self.way = text, way
        asked = self._places()
        if place is None:
            place = max(
                (i for i, e in enumerate(asked) if e), key=lambda i: -asked[i][0]
            )
        self.place = place

    @traitlets.validate("text", "way", "place")
    def _stay_in_range(self, proposal: Any) -> int:
        name, value = proposal.trait.name, proposal.value
        if name == "text":
            options = len(self.readings)
        elif name == "way":
            options = len(self.readings[self.text]["ways"])
        else:
            options = len(self._places())
        if not 0 <= value < options:
            raise ValueError(
                f"{name} must be from 0 to {options - 1}, but it is {value}"
            )
        if name == "place" and self._places()[value] is None:
            raise ValueError(f"place must be a token that is asked for, not {value}")
        return value

    def _places(self) -> list[Any]:
        return self.readings[self.text]["ways"][self.way][1]

    def mean_bits(self) -> dict[str, float]:
        """Way -> the mean surprise of the text that is shown, in bits a token."""
        found = {}
        for way, places in self.readings[self.text]["ways"]:
            bits = [-math.log2(place[0]) for place in places if place]
            found[way] = sum(bits) / len(bits)
        return found

    def describe(self) -> str:
        return f"{len(self.readings)} texts, token by token"

    def fallback(self) -> str:
        """The mean surprises in a sentence."""
        means = "; ".join(f"{escape(w)} {b:.2f}" for w, b in self.mean_bits().items())
        title = escape(self.readings[self.text]["title"])
        return (
            f"<p>“{title}”, mean surprise in bits a token: {means}. With JavaScript this "
            "figure tells for each token what was expected there.</p>"
        )


def _stored(title: str, reading: Reading) -> dict[str, Any]:
    """One text as the page holds it; probabilities with three digits."""
    if not reading.ways:
        raise ValueError(
            f"the ways of {title!r} must be at least one, but there is none"
        )
    ways = []
    for name, places in reading.ways.items():
        if len(places) != len(reading.tokens):
            raise ValueError(
                f"the way {name!r} must have {len(reading.tokens)} places, one a token, "
                f"but it has {len(places)}"
            )
        if not any(places):
            raise ValueError(
                f"the way {name!r} must ask for a token, but asks for none"
            )
        ways.append([name, [place and _digits(place) for place in places]])
    return {"title": title, "tokens": list(reading.tokens), "ways": ways}


def _digits(place: Expected) -> list[Any]:
    if not 0 < place.p <= 1:
        raise ValueError(f"p must be above 0 and at most 1, but it is {place.p}")
    best = [[token, float(f"{p:.3g}")] for token, p in place.likeliest]
    return [float(f"{place.p:.3g}"), best]
