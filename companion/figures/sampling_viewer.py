"""The sampling viewer: what temperature, top-k, top-p and min-p do to real next-token logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import torch
import traitlets
from torch import Tensor

from companion.figures.widget import Figure

_HERE = Path(__file__).parent
_NAMED = 60  # tokens that are kept with their text
_BINS = 80  # for the logits of all others


class SamplingViewer(Figure):
    """The distribution of the next token, under settings that the reader chooses.

    The likeliest tokens are kept one by one. All others are kept as a histogram of
    their logits, which is enough to know what share they get at any temperature, and
    small enough for a page.

    Args:
        logits: text -> the logits of the token after it, ``(vocab,)``.
        tokens: the text of each token of the vocabulary, or a function that gives it.

    Raises:
        ValueError: no text, or logits that are not one finite vector each.
    """

    _esm = _HERE / "sampling_viewer.js"
    _css = _HERE / "sampling_viewer.css"

    text = traitlets.Int(0).tag(sync=True)  # which of the prompts
    temperature = traitlets.Float(1.0).tag(sync=True)
    top_k = traitlets.Int(0).tag(sync=True)  # 0: no limit
    top_p = traitlets.Float(1.0).tag(sync=True)
    min_p = traitlets.Float(0.0).tag(sync=True)
    # A dict a prompt: text, tokens, logits of the likeliest, and the bins of the rest.
    prompts = traitlets.List(read_only=True).tag(sync=True)

    def __init__(
        self,
        logits: Mapping[str, Tensor],
        tokens: Sequence[str] | Any,
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
    ) -> None:
        if not logits:
            raise ValueError("logits must hold at least one text, but it is empty")
        name = tokens if callable(tokens) else tokens.__getitem__
        super().__init__()
        self.set_trait(
            "prompts", [_summary(text, row, name) for text, row in logits.items()]
        )
        self.temperature, self.top_p = temperature, top_p

    @traitlets.validate("temperature", "top_p", "min_p", "top_k", "text")
    def _stay_in_range(self, proposal: Any) -> Any:
        low, high = {
            "temperature": (0.1, 3.0),
            "top_p": (0.01, 1.0),
            "min_p": (0.0, 1.0),
            "top_k": (0, _NAMED),
            "text": (0, max(len(self.prompts) - 1, 0)),
        }[proposal.trait.name]
        if not low <= proposal.value <= high:
            raise ValueError(
                f"{proposal.trait.name} must be from {low} to {high}, but it is "
                f"{proposal.value}"
            )
        return proposal.value

    def describe(self) -> str:
        return f"sampling settings on the next token of {len(self.prompts)} texts"

    def fallback(self) -> str:
        rows = "".join(
            f"<tr><th scope='row'>{escape(prompt['text'])}</th><td>"
            + ", ".join(escape(repr(token)) for token in prompt["tokens"][:5])
            + "</td></tr>"
            for prompt in self.prompts
        )
        return (
            "<table><caption>The five likeliest next tokens. With JavaScript this "
            "figure shows what sampling settings do to them.</caption><tr>"
            "<th scope='col'>text</th><th scope='col'>next</th></tr>"
            f"{rows}</table>"
        )


def _summary(text: str, logits: Tensor, name: Any) -> dict[str, Any]:
    logits = logits.detach().double().cpu()
    if logits.ndim != 1 or not logits.isfinite().all():
        raise ValueError(
            f"logits of {text!r} must be one finite vector, but their shape is "
            f"{tuple(logits.shape)}"
        )
    values, order = logits.sort(descending=True)
    values = values - values[0]
    rest = values[_NAMED:]
    edges = torch.linspace(float(rest[-1]), float(rest[0]) + 1e-9, _BINS + 1).double()
    place = torch.bucketize(rest, edges[1:-1])
    counts = torch.bincount(place, minlength=_BINS)
    # The mean in a bin by its weight at temperature 1, so that the share is exact there.
    mass = torch.zeros(_BINS, dtype=torch.float64).scatter_add(0, place, rest.exp())
    full = counts > 0
    centers = (mass[full] / counts[full]).log()
    return {
        "text": text,
        "tokens": [name(int(i)) for i in order[:_NAMED]],
        "logits": [round(float(v), 4) for v in values[:_NAMED]],
        "rest_logits": [round(float(v), 4) for v in centers.flip(0)],
        "rest_counts": [int(n) for n in counts[full].flip(0)],
    }
