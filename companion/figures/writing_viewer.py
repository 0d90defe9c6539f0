"""The interactive writing viewer: an encoder-decoder writes, one step at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import traitlets
from jaxtyping import Bool, Int
from torch import Tensor

from companion.figures.widget import Figure, figure_module, figure_style
from companion.layers.record import record_attention
from companion.models.transformer import Transformer

_HERE = Path(__file__).parent
_CANDIDATES = 5


@dataclass(frozen=True)
class Writing:
    """A text that a model wrote, and what it saw and thought at each step.

    Attributes:
        name: of the run, to choose it by.
        source: the source's tokens, as text.
        read: what the decoder was given: the start token, and what it wrote.
        written: what it wrote, one token a step; up to the stop token.
        wanted: what it should have written.
        across: by step, the weight on each source token.
        back: by step, the weight on each token that was read so far.
        candidates: by step, the likeliest next tokens and their probabilities.
    """

    name: str
    source: list[str]
    read: list[str]
    written: list[str]
    wanted: list[str]
    across: list[list[float]]
    back: list[list[float]]
    candidates: list[list[tuple[str, float]]]

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        name: str,
        model: Transformer,
        source_ids: Int[Tensor, "1 source"],
        written_ids: Int[Tensor, "1 written"],
        wanted_ids: Int[Tensor, "1 wanted"],
        *,
        source_tokens: Sequence[str],
        target_tokens: Sequence[str],
        start_id: int,
        source_mask: Bool[Tensor, "1 1 1 source"] | None = None,
    ) -> Writing:
        """Run the model once more over what it wrote, and record the last decoder layer.

        Weights are the mean over heads. One pass gives what step after step gave, by the
        causal mask.

        Raises:
            ValueError: more than one text, or the model is in training mode, so that
                dropout would change what it says.
        """
        if len(source_ids) != 1 or len(written_ids) != 1:
            raise ValueError(
                "source_ids and written_ids must hold one text, but they hold "
                f"{len(source_ids)} and {len(written_ids)}"
            )
        if model.training:
            raise ValueError("model must be in evaluation mode: call model.eval()")
        read_ids = F.pad(written_ids[:, :-1], (1, 0), value=start_id)
        with record_attention(model) as maps:
            logits = model(source_ids, read_ids, source_mask)
        last = f"decoder.layers.{len(model.decoder.layers) - 1}."
        across, back = (
            maps[last + kind][0][0].mean(dim=0).cpu()  # (steps, keys)
            for kind in ("cross_attention", "self_attention")
        )
        best = logits[0].softmax(dim=-1).topk(min(_CANDIDATES, logits.shape[-1]))
        return cls(
            name,
            [source_tokens[i] for i in source_ids[0].tolist()],
            *(
                [target_tokens[i] for i in ids[0].tolist()]
                for ids in (read_ids, written_ids, wanted_ids)
            ),
            across=_rounded(across),
            back=[row[: step + 1] for step, row in enumerate(_rounded(back))],
            candidates=[
                [(target_tokens[i], round(p, 4)) for i, p in zip(*row, strict=True)]
                for row in zip(best.indices.tolist(), best.values.tolist(), strict=True)
            ],
        )

    def is_right(self, step: int) -> bool:
        """Whether the token of a step, counted from 0, is the one that is wanted there."""
        wanted = self.wanted[step : step + 1]
        return step < len(self.written) and [self.written[step]] == wanted


class WritingViewer(Figure):
    """Step through the writing of a text: where the model looks, and what it costs.

    The traits can be set and observed from Python.

    Args:
        writings: some, to choose from.
        writing: which is shown first, counted from 0.
        step: of it, counted from 1.
        cached: whether keys and values of earlier steps are kept.

    Raises:
        ValueError: there is no writing, or a number is out of range.
    """

    _esm = figure_module(_HERE / "writing_viewer.js")
    _css = figure_style(_HERE / "writing_viewer.css")

    writing = traitlets.Int(0).tag(sync=True)
    step = traitlets.Int(1).tag(sync=True)  # at most the writing's; the figure cuts it
    cached = traitlets.Bool(True).tag(sync=True)
    writings = traitlets.List(read_only=True).tag(sync=True)

    def __init__(
        self,
        writings: Sequence[Writing],
        *,
        writing: int = 0,
        step: int = 1,
        cached: bool = True,
    ) -> None:
        if not writings:
            raise ValueError("writings must hold at least one, but it is empty")
        super().__init__()
        self._writings = list(writings)
        self.set_trait("writings", [asdict(w) for w in writings])
        self.writing, self.step, self.cached = writing, step, cached

    @traitlets.validate("writing", "step")
    def _stay_in_range(self, proposal: Any) -> int:
        longest = max((len(w["written"]) for w in self.writings), default=1)
        low, high = {
            "writing": (0, max(len(self.writings) - 1, 0)),
            "step": (1, longest),
        }[proposal.trait.name]
        if not low <= proposal.value <= high:
            raise ValueError(
                f"{proposal.trait.name} must be from {low} to {high}, but it is "
                f"{proposal.value}"
            )
        return proposal.value

    def tokens_computed(self) -> tuple[int, int]:
        """Tokens that go through the decoder in this step, and up to and with it."""
        if self.cached:
            return 1, self.step
        return self.step, self.step * (self.step + 1) // 2

    def describe(self) -> str:
        return f"{len(self.writings)} texts as they were written, step by step"

    def fallback(self) -> str:
        """All texts, right and wrong."""
        rows = "".join(
            f"<tr><th scope='row'>{escape(w.name)}</th>"
            f"<td>{escape(' '.join(w.written))}</td></tr>"
            for w in self._writings
        )
        return (
            "<table><caption>What the models wrote. With JavaScript this figure steps "
            "through it.</caption><tr><th scope='col'>source</th>"
            f"<th scope='col'>written</th></tr>{rows}</table>"
        )


def _rounded(weights: Tensor) -> list[list[float]]:
    return [[round(weight, 3) for weight in row] for row in weights.tolist()]
