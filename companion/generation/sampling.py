"""Write token by token: all at once, or as a stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from companion.generation.interface import (
    LanguageModel,
    PromptIds,
    Prompts,
    Reader,
    as_prompts,
    as_stop_ids,
)
from companion.generation.strategies import GREEDY, Strategy


def generate(
    model: LanguageModel,
    prompt_ids: PromptIds,
    max_new_tokens: int,
    strategy: Strategy = GREEDY,
    *,
    stop_ids: Collection[int] = (),
    pad_id: int = 0,
    use_cache: bool = True,
    crop: bool = False,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "batch longer"]:
    """Continue each prompt; a row is the prompt, what follows, then ``pad_id``.

    Prompts of unequal lengths share a batch, and each row is what it would be alone
    (with `Sampling`, up to chance: the rows draw from one generator).

    Args:
        model: a language model, or an encoder-decoder with its source, `GivenSource`.
        prompt_ids: ``(batch, length)`` without padding, or a list with the token ids of
            each prompt.
        max_new_tokens: how many tokens follow each prompt at most.
        strategy: `Greedy` or `Sampling`, with its settings.
        stop_ids: tokens that end a row; the one that does is kept.
        pad_id: what fills up rows that ended earlier; no model gets to see it.
        use_cache: whether to keep keys and values instead of computing them anew.
        crop: where a text outgrows ``max_seq_len``, let the model see the end of it.
        generator: for `Sampling`; PyTorch's global one by default.

    Raises:
        TypeError, ValueError: an argument is out of range, or, without ``crop``, the
            texts would outgrow the model's ``max_seq_len``.
    """
    prompts = as_prompts(model, prompt_ids, max_new_tokens, crop=crop)
    stops = as_stop_ids(stop_ids, prompts.token_ids.device)
    reader = Reader(model, use_cache=use_cache, crop=crop)
    steps = _write(reader, prompts, max_new_tokens, strategy, stops, generator)
    token_ids, ends = deque(steps, maxlen=1).pop()  # the last one
    positions = torch.arange(token_ids.shape[1], device=token_ids.device)
    return token_ids.masked_fill(positions >= ends[:, None], pad_id)


def stream(
    model: LanguageModel,
    prompt_ids: Int[Tensor, "1 length"] | Sequence[int],
    max_new_tokens: int,
    strategy: Strategy = GREEDY,
    *,
    stop_ids: Collection[int] = (),
    use_cache: bool = True,
    crop: bool = False,
    generator: torch.Generator | None = None,
) -> Iterator[int]:
    """The tokens that follow one prompt, each as soon as it is chosen.

    Takes what `generate` takes, except that there is one prompt.

    Raises:
        TypeError, ValueError: as `generate`, at once and not at the first token; or
            there are several prompts.
    """
    if not isinstance(prompt_ids, Tensor):
        prompt_ids = [prompt_ids]
    elif prompt_ids.shape[0] != 1 or prompt_ids.ndim != 2:
        raise ValueError(
            "prompt_ids must be one prompt, of shape (1, length), but it has shape "
            f"{tuple(prompt_ids.shape)}"
        )
    prompts = as_prompts(model, prompt_ids, max_new_tokens, crop=crop)
    stops = as_stop_ids(stop_ids, prompts.token_ids.device)
    reader = Reader(model, use_cache=use_cache, crop=crop)
    steps = _write(reader, prompts, max_new_tokens, strategy, stops, generator)
    return (int(token_ids[0, -1]) for token_ids, _ in steps)


def _write(
    reader: Reader,
    prompts: Prompts,
    max_new_tokens: int,
    strategy: Strategy,
    stops: Tensor,
    generator: torch.Generator | None,
) -> Iterator[tuple[Int[Tensor, "batch length"], Int[Tensor, " batch"]]]:
    """The texts after each step, one token longer than before, and where each ends.

    Rows that have ended are written on, since the batch has to be full, but not kept.
    """
    token_ids = prompts.token_ids[:, : prompts.shortest]
    ends = prompts.lengths + max_new_tokens  # where each row ends
    last_end = prompts.longest + max_new_tokens
    while True:
        position = token_ids.shape[1]
        logits = reader.read(token_ids, last=1)[:, -1]  # (B, V)
        chosen = strategy.choose(logits, token_ids, generator)
        if position < prompts.longest:
            given, inside = prompts.at(position)
            chosen = torch.where(inside, given, chosen)
        token_ids = torch.cat([token_ids, chosen[:, None]], dim=1)
        if len(stops):  # else nothing has to be looked at, which a GPU would wait for
            written = (prompts.lengths <= position) & (position < ends)
            stopped = torch.isin(chosen, stops) & written
            ends = torch.where(stopped, position + 1, ends)
            last_end = int(ends.max())
        yield token_ids, ends
        if position + 1 >= last_end:
            return
