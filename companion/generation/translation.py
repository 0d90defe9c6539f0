"""From a source to a target: encode, write, and leave the start token away."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from companion.generation.beam import beam_search
from companion.generation.filters import check_count
from companion.generation.interface import GivenSource
from companion.generation.sampling import generate
from companion.generation.strategies import GREEDY, Strategy


def translate(
    model: nn.Module,
    source_ids: Int[Tensor, "batch source"],
    max_new_tokens: int,
    strategy: Strategy = GREEDY,
    *,
    start_id: int,
    source_mask: Bool[Tensor, "batch 1 1 source"] | None = None,
    num_beams: int = 1,
    length_penalty: float = 1.0,
    length_norm: Literal["power", "gnmt"] = "power",
    stop_ids: Collection[int] = (),
    pad_id: int = 0,
    use_cache: bool = True,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "batch target"]:
    """The target of each source: its tokens after ``start_id``, then ``pad_id``.

    Args:
        model: an encoder-decoder; see `GivenSource`.
        source_ids: the sources, padded to one length.
        max_new_tokens: how many tokens a target has at most.
        strategy: `Greedy` or `Sampling`, with one beam.
        start_id: the token that every target starts with.
        source_mask: hides padding; ``padding_mask(source_ids, pad_id)`` builds it.
        num_beams, length_penalty, length_norm: as in `beam_search`, which runs if there
            is more than one beam; its best target is returned.
        stop_ids, pad_id, use_cache, generator: as in `generate`.

    Raises:
        TypeError, ValueError: an argument is out of range, or beams are to be sampled.
    """
    check_count("num_beams", num_beams)
    given = GivenSource(model, source_ids, source_mask)
    start = torch.full_like(source_ids[:, :1], start_id)
    options = {"stop_ids": stop_ids, "pad_id": pad_id, "use_cache": use_cache}
    if num_beams == 1:
        return generate(
            given, start, max_new_tokens, strategy, generator=generator, **options
        )[:, 1:]
    if strategy != GREEDY:
        raise ValueError(
            f"strategy must be Greedy() with several beams, but it is {strategy} and "
            f"num_beams is {num_beams}"
        )
    return beam_search(
        given,
        start,
        max_new_tokens,
        num_beams,
        length_penalty=length_penalty,
        length_norm=length_norm,
        **options,
    ).best[:, 1:]
