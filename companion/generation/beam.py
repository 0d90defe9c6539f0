"""Beam search: keep the few likeliest beginnings, not one.

Sources: Wu et al. (2016), "Google's Neural Machine Translation System", section 7
(length penalty); Vaswani et al. (2017), section 6.1 (four beams, alpha = 0.6).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
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

# What a text's log-probability is divided by, from its number of new tokens and alpha.
LENGTH_NORMS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "power": lambda length, alpha: length**alpha,
    "gnmt": lambda length, alpha: ((5 + length) / 6) ** alpha,
}


class Beams(NamedTuple):
    """The texts found for each prompt, the best first, with their scores.

    A score is the log-probability of the new tokens over the length's norm. It is minus
    infinity where fewer texts than beams exist.
    """

    token_ids: Int[Tensor, "batch beams length"]
    scores: Float[Tensor, "batch beams"]

    @property
    def best(self) -> Int[Tensor, "batch length"]:
        """The best text of each row."""
        return self.token_ids[:, 0]


def beam_search(
    model: LanguageModel,
    prompt_ids: PromptIds,
    max_new_tokens: int,
    num_beams: int = 4,
    *,
    length_penalty: float = 1.0,
    length_norm: Literal["power", "gnmt"] = "power",
    early_stopping: bool | Literal["never"] = False,
    stop_ids: Collection[int] = (),
    pad_id: int = 0,
    use_cache: bool = True,
) -> Beams:
    """Continue each prompt by the ``num_beams`` best texts that are found.

    At each step all beams are extended by all tokens. Of the best extensions, those that
    stop are set aside as finished, and the best ``num_beams`` others are the new beams.

    Args:
        model, prompt_ids, max_new_tokens, stop_ids, pad_id, use_cache: as in `generate`.
        num_beams: how many texts are kept at each step; 1 is greedy search.
        length_penalty: alpha; 0 compares bare log-probabilities, which favors short
            texts, and larger values favor longer ones.
        length_norm: what a text of n new tokens has its log-probability divided by:
            ``"power"`` is n^alpha (Hugging Face), ``"gnmt"`` is ((5 + n) / 6)^alpha (Wu
            et al. (2016), and with alpha = 0.6 Vaswani et al. (2017)).
        early_stopping: when a row that has ``num_beams`` finished texts is done: True
            at once; False when no beam, if it ended now, would be better than the worst
            of them; ``"never"`` when no beam ever could be. As in Hugging Face.

    Raises:
        TypeError, ValueError: an argument is out of range.
    """
    check_count("num_beams", num_beams)
    _check_options(length_penalty, length_norm, early_stopping)
    prompts = as_prompts(model, prompt_ids, max_new_tokens)
    device = prompts.token_ids.device
    stops = as_stop_ids(stop_ids, device)
    batch, K = len(prompts.lengths), num_beams

    def norm(length: Tensor) -> Tensor:
        """Of texts of this many new tokens, (B, 1)."""
        length = length.clamp(min=1).to(logits.dtype)[:, None]
        return LENGTH_NORMS[length_norm](length, length_penalty)

    reader = Reader(model, use_cache=use_cache)
    token_ids = prompts.token_ids[:, : prompts.shortest]
    logits = reader.read(token_ids, last=1)[:, -1]  # (B, V), before there are beams

    first_beam = torch.arange(batch, device=device) * K  # (B,), among the B * K rows
    copies = torch.arange(batch, device=device).repeat_interleave(K)
    reader.select(copies)
    token_ids, logits = token_ids[copies], logits[copies]  # (B * K, ...)

    # The copies are equal: all but one are out of the race, or they'd stay equal.
    scores = logits.new_full((batch, K), -torch.inf)
    scores[:, 0] = 0.0
    finished = token_ids.new_full((batch, K, prompts.longest + max_new_tokens), pad_id)
    finished_scores = torch.full_like(scores, -torch.inf)
    is_open = torch.ones_like(prompts.lengths, dtype=torch.bool)  # (B,)

    while True:
        log_p = logits.log_softmax(dim=-1).view(batch, K, -1)  # (B, K, V)
        given, inside = prompts.at(token_ids.shape[1])
        log_p = torch.where(inside[:, None, None], _certain(given, log_p), log_p)
        vocab_size = log_p.shape[-1]
        extended = (scores[..., None] + log_p).flatten(1)  # (B, K * V)
        # So many that K are left even if every beam has all stop tokens among them.
        num_candidates = min((1 + max(1, len(stops))) * K, K * vocab_size)
        best, index = extended.topk(num_candidates)  # (B, C)
        beam, token = index // vocab_size, index % vocab_size
        candidates = token_ids[first_beam[:, None] + beam]  # (B, C, L)
        candidates = torch.cat([candidates, token[..., None]], dim=-1)

        length = token_ids.shape[1] + 1 - prompts.lengths  # (B,), new tokens
        ends = torch.isin(token, stops) & ~inside[:, None]  # (B, C)
        ends = ends | (length == max_new_tokens)[:, None]

        # A text that stops must be among the best K, as if it were to go on.
        counts = ends[:, :K] & is_open[:, None]
        stopped_scores = (best[:, :K] / norm(length)).masked_fill(~counts, -torch.inf)
        room = finished.shape[-1] - candidates.shape[-1]
        stopped = F.pad(candidates[:, :K], (0, room), value=pad_id)
        finished_scores, kept = torch.cat([finished_scores, stopped_scores], 1).topk(K)
        finished = torch.cat([finished, stopped], 1).take_along_dim(kept[..., None], 1)

        scores, kept = best.masked_fill(ends, -torch.inf).topk(K)  # (B, K)
        token_ids = candidates.take_along_dim(kept[..., None], 1).flatten(0, 1)
        is_open &= _can_improve(
            scores,
            finished_scores,
            norm,
            length,
            max_new_tokens,
            early_stopping,
            length_penalty,
        )
        if not bool(is_open.any()):
            break
        rows = first_beam[:, None] + beam.gather(1, kept)  # (B, K)
        reader.select(rows.flatten())
        logits = reader.read(token_ids, last=1)[:, -1]

    return Beams(finished[..., : token_ids.shape[1]], finished_scores)


def _certain(token: Tensor, log_p: Tensor) -> Tensor:
    """The log-probabilities of a token that the prompt gives: 0, and all others minus infinity."""
    vocabulary = torch.arange(log_p.shape[-1], device=log_p.device)
    is_given = vocabulary == token[:, None, None]  # (B, 1, V)
    return torch.zeros_like(log_p).masked_fill(~is_given, -torch.inf)


def _can_improve(
    scores: Tensor,
    finished_scores: Tensor,
    norm: Callable[[Tensor], Tensor],
    length: Tensor,
    max_new_tokens: int,
    early_stopping: bool | str,
    length_penalty: float,
) -> Tensor:
    """Which rows may still find a text better than the worst that they have, (B,)."""
    worst = finished_scores[:, -1]  # minus infinity unless there are K
    if early_stopping is True:
        return (worst == -torch.inf) & (scores[:, 0] > -torch.inf)
    if early_stopping == "never" and length_penalty > 0:
        # A log-probability only falls, so its norm at the full length is the best hope.
        length = torch.full_like(length, max_new_tokens)
    return scores[:, 0] / norm(length)[:, 0] > worst


def _check_options(
    length_penalty: float, length_norm: str, early_stopping: bool | str
) -> None:
    if not isinstance(length_penalty, int | float) or isinstance(length_penalty, bool):
        raise TypeError(
            f"length_penalty must be a number, but it is {length_penalty!r}"
        )
    if not abs(length_penalty) < torch.inf:
        raise ValueError(f"length_penalty must be finite, but it is {length_penalty}")
    if length_norm not in LENGTH_NORMS:
        raise ValueError(
            f"length_norm must be one of {', '.join(LENGTH_NORMS)}, but it is "
            f"{length_norm!r}"
        )
    if early_stopping not in (True, False, "never"):
        raise ValueError(
            f"early_stopping must be True, False or 'never', but it is {early_stopping!r}"
        )
