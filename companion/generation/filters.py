"""What is done to the logits of the next token before one is drawn.

Each function takes logits of shape (batch, vocab) and returns new ones. A token that must
not be drawn gets minus infinity, so that softmax gives it probability zero.

Sources: Keskar et al. (2019), "CTRL: A Conditional Transformer Language Model for
Controllable Generation", section 4.1 (repetition penalty); Fan et al. (2018),
"Hierarchical Neural Story Generation" (top-k); Holtzman et al. (2020), "The Curious Case
of Neural Text Degeneration", section 3.1 (top-p, or nucleus); Nguyen et al. (2024),
"Turning Up the Heat: Min-p Sampling for Creative and Coherent LLM Outputs" (min-p).
"""

from __future__ import annotations

import math
from numbers import Integral, Real

import torch
from jaxtyping import Float, Int
from torch import Tensor

Logits = Float[Tensor, "batch vocab"]


def penalize_repetition(
    logits: Logits, token_ids: Int[Tensor, "batch length"], penalty: float
) -> Logits:
    """Make each token that ``token_ids`` holds less likely, once, however often it stands there.

    Its logit is divided by ``penalty`` where it is positive and multiplied where it is
    negative: both lower it when ``penalty`` is above 1. (The paper divides always, which
    would raise a negative one.) Below 1, repetition is favored.
    """
    check_settings(repetition_penalty=penalty)
    seen = logits.gather(1, token_ids)
    seen = torch.where(seen > 0, seen / penalty, seen * penalty)
    return logits.scatter(1, token_ids, seen)


def apply_temperature(logits: Logits, temperature: float) -> Logits:
    """Sharpen the distribution (below 1) or flatten it (above 1)."""
    check_settings(temperature=temperature)
    return logits / temperature


def keep_top_k(logits: Logits, top_k: int) -> Logits:
    """Keep the ``top_k`` likeliest tokens, and those that tie with the last of them."""
    check_settings(top_k=top_k)
    kth = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]  # (B, 1)
    return logits.masked_fill(logits < kth, -torch.inf)


def keep_top_p(logits: Logits, top_p: float) -> Logits:
    """Keep the nucleus: the fewest likeliest tokens whose probabilities reach ``top_p``."""
    check_settings(top_p=top_p)
    if top_p == 1:
        return logits  # the running sum below may round up to 1 before the last token
    ordered, index = logits.sort(descending=True)
    p = ordered.softmax(dim=-1)
    more_likely = p.cumsum(dim=-1) - p  # what the tokens before this one add up to
    ordered = ordered.masked_fill(more_likely >= top_p, -torch.inf)
    return torch.empty_like(logits).scatter(1, index, ordered)


def keep_min_p(logits: Logits, min_p: float) -> Logits:
    """Keep the tokens at least ``min_p`` times as likely as the likeliest."""
    check_settings(min_p=min_p)
    p = logits.softmax(dim=-1)
    return logits.masked_fill(p < min_p * p.amax(dim=-1, keepdim=True), -torch.inf)


def check_settings(
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
) -> None:
    """Refuse a setting that is no number or out of its range.

    Raises:
        TypeError, ValueError: naming the setting, what it was and what it may be.
    """
    for name, value in (
        ("temperature", temperature),
        ("repetition_penalty", repetition_penalty),
    ):
        _check_number(name, value)
        if not 0 < value < math.inf:
            hint = "; for the likeliest token always, use Greedy()"
            raise ValueError(
                f"{name} must be above 0 and finite, but it is {value}"
                f"{hint if name == 'temperature' else ''}"
            )
    if top_k is not None:
        check_count("top_k", top_k)
    if top_p is not None:
        _check_number("top_p", top_p)
        if not 0 < top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, but it is {top_p}")
    if min_p is not None:
        _check_number("min_p", min_p)
        if not 0 <= min_p <= 1:
            raise ValueError(f"min_p must be from 0 to 1, but it is {min_p}")


def check_count(name: str, value: int) -> None:
    """Refuse what is no integer or below 1.

    Raises:
        TypeError, ValueError: naming the argument.
    """
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, but it is {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, but it is {value}")


def _check_number(name: str, value: float) -> None:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, but it is {value!r}")
