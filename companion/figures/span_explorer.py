"""The span explorer: take tokens out of a text, and see what a model reads and writes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import torch
import traitlets

from companion.figures.widget import Figure, figure_module, figure_style
from companion.training.denoising import random_spans

_HERE = Path(__file__).parent
_NOISES = ("spans", "infilling", "masks")
_LONGEST = 50  # with every other token gone, 25 spans, and a letter for each


class SpanExplorer(Figure):
    """One text with tokens taken out in three ways: T5's spans, BART's infilling, BERT's masks.

    Args:
        tokens: the text, 2 to 50 tokens.
        gone: which tokens are out at first; by default the first draw.
        noise: ``"spans"``, ``"infilling"`` or ``"masks"``.
        shares: parts of the text that can be taken out.
        lengths: mean lengths of spans to choose from.
        number: how often each can be drawn anew.
        seed: of the draws, which `random_spans` makes.
        caption: what stands under the figure.

    Raises:
        ValueError: the text is too short or too long, or ``gone`` does not fit.
    """

    _esm = figure_module(_HERE / "span_explorer.js")
    _css = figure_style(_HERE / "span_explorer.css")

    gone = traitlets.List(traitlets.Bool()).tag(sync=True)
    noise = traitlets.Enum(_NOISES, "spans").tag(sync=True)
    tokens = traitlets.List(traitlets.Unicode(), read_only=True).tag(sync=True)
    shares = traitlets.List(read_only=True).tag(sync=True)
    lengths = traitlets.List(read_only=True).tag(sync=True)
    draws = traitlets.List(read_only=True).tag(
        sync=True
    )  # [share][length][draw] -> "0110"
    caption = traitlets.Unicode("", read_only=True).tag(sync=True)

    def __init__(
        self,
        tokens: Sequence[str],
        gone: Sequence[bool] | None = None,
        noise: str = "spans",
        *,
        shares: Sequence[float] = (0.15, 0.3, 0.5),
        lengths: Sequence[int] = (1, 3, 5),
        number: int = 8,
        seed: int = 0,
        caption: str = "",
    ) -> None:
        if not 2 <= len(tokens) <= _LONGEST:
            raise ValueError(
                f"tokens must be 2 to {_LONGEST} tokens, but they are {len(tokens)}"
            )
        if noise not in _NOISES:
            raise ValueError(
                f"noise must be one of {', '.join(_NOISES)}, but it is {noise!r}"
            )
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        draws = [
            [
                [
                    "".join(
                        str(int(g))
                        for g in random_spans(len(tokens), share, mean, generator=draw)
                    )
                    for _ in range(number)
                ]
                for mean in lengths
            ]
            for share in shares
        ]
        for name, value in {
            "tokens": list(tokens),
            "shares": list(shares),
            "lengths": list(lengths),
            "draws": draws,
            "caption": caption,
        }.items():
            self.set_trait(name, value)
        first = [g == "1" for g in draws[0][0][0]]
        self.gone = first if gone is None else [bool(g) for g in gone]
        self.noise = noise

    @traitlets.validate("gone")
    def _fit_the_tokens(self, proposal: Any) -> list[bool]:
        if len(proposal.value) != len(self.tokens):
            raise ValueError(
                f"gone must have {len(self.tokens)} places, one a token, but it has "
                f"{len(proposal.value)}"
            )
        return proposal.value

    def reads(self) -> list[str]:
        """What the encoder reads: tokens, ``<A>`` and so on for T5's spans, ``___`` for masks."""
        found, spans = [], 0
        for place, (token, gone) in enumerate(zip(self.tokens, self.gone, strict=True)):
            begins = gone and not (place and self.gone[place - 1])
            if not gone:
                found.append(token)
            elif self.noise == "masks" or (self.noise == "infilling" and begins):
                found.append("___")
            elif begins:
                found.append(_sentinel(spans))
                spans += 1
        return found

    def writes(self) -> list[str]:
        """What is asked for: T5's spans, BART's whole text, BERT's hidden tokens."""
        if self.noise == "infilling":
            return list(self.tokens)
        if self.noise == "masks":
            return [t for t, g in zip(self.tokens, self.gone, strict=True) if g]
        found, spans = [], 0
        for place, (token, gone) in enumerate(zip(self.tokens, self.gone, strict=True)):
            if gone and not (place and self.gone[place - 1]):
                found.append(_sentinel(spans))
                spans += 1
            if gone:
                found.append(token)
        return [*found, _sentinel(spans)]

    def describe(self) -> str:
        return f"a text of {len(self.tokens)} tokens, to be damaged"

    def fallback(self) -> str:
        """Both sides of the first state."""
        reads, writes = (escape(" ".join(x)) for x in (self.reads(), self.writes()))
        return (
            f"<p>The model reads “{reads}” and has to write “{writes}”. With JavaScript "
            "the tokens of this figure can be taken out one by one.</p>"
        )


def _sentinel(number: int) -> str:
    return f"<{ascii_uppercase[number]}>"
