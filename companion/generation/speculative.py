"""Speculative decoding: a small model drafts, the large one checks all drafts at once.

The texts have exactly the distribution of the large model's own. The small one only
decides how fast they come.

Source: Leviathan et al. (2023), "Fast Inference from Transformers via Speculative
Decoding", algorithm 1 and appendix A.1.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from companion.generation.filters import check_count
from companion.generation.interface import (
    LanguageModel,
    PromptIds,
    Reader,
    as_prompts,
    as_stop_ids,
)
from companion.generation.strategies import GREEDY, Probabilities, Strategy, draw


class Speculation(NamedTuple):
    """A text, and what it took to write it.

    Attributes:
        token_ids: the prompt and what follows.
        num_drafted: tokens that the draft model proposed.
        num_accepted: how many of them the target model took.
        num_target_calls: how often the target model ran; without drafts, it would be
            once for each new token.
    """

    token_ids: Int[Tensor, "1 length"]
    num_drafted: int
    num_accepted: int
    num_target_calls: int


def speculative_generate(
    target: LanguageModel,
    draft: LanguageModel,
    prompt_ids: PromptIds,
    max_new_tokens: int,
    strategy: Strategy = GREEDY,
    *,
    num_drafts: int = 4,
    stop_ids: Collection[int] = (),
    use_cache: bool = True,
    generator: torch.Generator | None = None,
) -> Speculation:
    """Continue one prompt as ``target`` would, in fewer calls of it.

    Args:
        target: the model whose distribution the text has.
        draft: a cheaper model of the same vocabulary.
        prompt_ids: one prompt, ``(1, length)`` or a list with one list of token ids.
        max_new_tokens, strategy, stop_ids, use_cache, generator: as in `generate`.
        num_drafts: how many tokens are drafted in a row (the paper's gamma).

    Raises:
        TypeError, ValueError: an argument is out of range, there are several prompts
            (they would accept different numbers of drafts), or the vocabularies differ.
    """
    check_count("num_drafts", num_drafts)
    as_prompts(draft, prompt_ids, max_new_tokens)
    token_ids, lengths = as_prompts(target, prompt_ids, max_new_tokens)
    if len(lengths) != 1:
        raise ValueError(f"prompt_ids must be one prompt, but there are {len(lengths)}")
    stops = as_stop_ids(stop_ids, token_ids.device)
    end = token_ids.shape[1] + max_new_tokens
    checker = Reader(target, use_cache=use_cache)
    drafter = Reader(draft, use_cache=use_cache)
    num_drafted = num_accepted = num_calls = 0

    while token_ids.shape[1] < end:
        start = token_ids.shape[1]
        # One token comes from the target in any case, so at most one less is drafted.
        n = min(num_drafts, end - start - 1)
        drafted, q = token_ids, []
        for _ in range(n):
            logits = drafter.read(drafted, last=1)[:, -1]  # (1, V)
            q.append(strategy.probabilities(logits, drafted))
            drafted = torch.cat([drafted, draw(q[-1], generator)[:, None]], dim=1)

        logits = checker.read(drafted, last=n + 1)  # (1, n + 1, V)
        p = [
            strategy.probabilities(logits[:, i], drafted[:, : start + i])
            for i in range(n + 1)
        ]
        _check_vocabularies(p, q)
        accepted = 0
        while accepted < n and _accepts(
            p[accepted], q[accepted], drafted[0, start + accepted], generator
        ):
            accepted += 1
        rest = p[n] if accepted == n else residual(p[accepted], q[accepted])
        token_ids = torch.cat(
            [drafted[:, : start + accepted], draw(rest, generator)[:, None]], dim=1
        )
        checker.truncate(start + accepted)
        drafter.truncate(start + accepted)
        num_drafted, num_accepted = num_drafted + n, num_accepted + accepted
        num_calls += 1

        stopped = torch.isin(token_ids[0, start:], stops).nonzero()
        if len(stopped):
            token_ids = token_ids[:, : start + int(stopped[0]) + 1]
            break
    return Speculation(token_ids, num_drafted, num_accepted, num_calls)


def acceptance(p: Probabilities, q: Probabilities) -> Float[Tensor, "batch vocab"]:
    """How likely each token, drafted from ``q``, is accepted for ``p``: min(1, p / q)."""
    return (p / q).nan_to_num(nan=1.0, posinf=1.0).clamp(max=1.0)


def residual(p: Probabilities, q: Probabilities) -> Probabilities:
    """What a refused token is replaced from: max(0, p - q), made to sum to 1.

    It makes up for what `acceptance` takes away, so that the token that comes out, an
    accepted or a replaced one, has distribution ``p`` whatever ``q`` is.
    """
    left = (p - q).clamp(min=0.0)
    total = left.sum(dim=-1, keepdim=True)
    # Zero only where p and q are equal up to rounding, and then either will do.
    return torch.where(total > 0, left / total, p)


def _accepts(
    p: Probabilities,
    q: Probabilities,
    token: Tensor,
    generator: torch.Generator | None,
) -> bool:
    device = "cpu" if generator is None else generator.device
    chance = torch.rand((), generator=generator, device=device, dtype=torch.float64)
    return bool(chance < float(acceptance(p, q)[0, token]))


def _check_vocabularies(p: list[Tensor], q: list[Tensor]) -> None:
    if q and p[0].shape != q[0].shape:
        raise ValueError(
            f"target and draft must have one vocabulary, but target has "
            f"{p[0].shape[-1]} tokens and draft has {q[0].shape[-1]}"
        )
