"""How the next token is chosen: always the likeliest, or drawn at random.

A strategy turns logits into the distribution that the next token is drawn from. Greedy is
the one where all of it sits on a single token, so that whoever works with distributions,
as speculative decoding does, need not tell the two apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from companion.generation.filters import (
    Logits,
    apply_temperature,
    check_settings,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalize_repetition,
)

Probabilities = Float[Tensor, "batch vocab"]


@dataclass(frozen=True)
class Greedy:
    """Always the likeliest token; the first of them where several tie.

    Args:
        repetition_penalty: above 1 makes what the text holds already less likely.

    Raises:
        TypeError, ValueError: a setting is out of range.
    """

    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        check_settings(repetition_penalty=self.repetition_penalty)

    def probabilities(
        self, logits: Logits, token_ids: Int[Tensor, "batch length"]
    ) -> Probabilities:
        """One for the likeliest token, zero for all others."""
        likeliest = self.choose(logits, token_ids)
        return F.one_hot(likeliest, logits.shape[-1]).to(logits.dtype)

    def choose(
        self,
        logits: Logits,
        token_ids: Int[Tensor, "batch length"],
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, " batch"]:
        """The next token of each row; ``generator`` is not used."""
        if self.repetition_penalty != 1:
            logits = penalize_repetition(logits, token_ids, self.repetition_penalty)
        return logits.argmax(dim=-1)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Draw the next token, from a distribution that may be sharpened and cut.

    The settings apply in the order in which they stand here, which is that of Hugging
    Face's ``generate``; the order matters, as each sees what the one before left.

    Args:
        repetition_penalty: above 1 makes what the text holds already less likely.
        temperature: below 1 sharpens, above 1 flattens.
        top_k: keep this many of the likeliest tokens.
        top_p: keep the fewest likeliest tokens whose probabilities reach this.
        min_p: keep tokens at least this times as likely as the likeliest.

    Raises:
        TypeError, ValueError: a setting is out of range.
    """

    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None

    def __post_init__(self) -> None:
        check_settings(**vars(self))

    def probabilities(
        self, logits: Logits, token_ids: Int[Tensor, "batch length"]
    ) -> Probabilities:
        """The distribution of the next token.

        Args:
            logits: of the next token.
            token_ids: the text so far, for the repetition penalty.
        """
        if self.repetition_penalty != 1:
            logits = penalize_repetition(logits, token_ids, self.repetition_penalty)
        logits = apply_temperature(logits, self.temperature)
        if self.top_k is not None:
            logits = keep_top_k(logits, self.top_k)
        if self.top_p is not None:
            logits = keep_top_p(logits, self.top_p)
        if self.min_p is not None:
            logits = keep_min_p(logits, self.min_p)
        return logits.softmax(dim=-1)

    def choose(
        self,
        logits: Logits,
        token_ids: Int[Tensor, "batch length"],
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, " batch"]:
        """Draw the next token of each row."""
        return draw(self.probabilities(logits, token_ids), generator)


Strategy = Greedy | Sampling
GREEDY = Greedy()


def draw(
    probabilities: Probabilities, generator: torch.Generator | None = None
) -> Int[Tensor, " batch"]:
    """One token of each row's distribution.

    It is drawn where the generator lives: with one on the CPU, a seed means the same
    tokens whatever device the model is on.
    """
    p = probabilities if generator is None else probabilities.to(generator.device)
    token = torch.multinomial(p, num_samples=1, generator=generator)[:, 0]
    return token.to(probabilities.device)
