"""Damage to text that a model learns to repair: T5's span corruption and BART's five noises.

Every function works on the token ids of one text and draws from the generator that it is
given, so that the same seed damages in the same way.

Sources: Raffel et al. (2020), section 3.1.4 and figure 2, section 3.3.4 (spans); Lewis et
al. (2020), section 2.2 and figure 2.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from jaxtyping import Bool, Int
from torch import Generator, Tensor

TokenIds = Int[Tensor, " length"]

# T5


def random_spans(
    length: int,
    density: float = 0.15,
    mean_span: float = 3.0,
    *,
    generator: Generator | None = None,
) -> Bool[Tensor, " length"]:
    """Which tokens of a text go: ``round(length * density)``, in spans that never touch.

    There are ``round(gone / mean_span)`` spans, at least one; all ways to cut the gone
    tokens into spans and the kept ones into gaps are equally likely. The authors' code
    is a special case: there, a text never begins with a span and always ends with one.

    Args:
        length: tokens of the text, at least 2.
        density: the share that goes; at least one token goes and one stays.
        mean_span: tokens of a span on average.
        generator: draws the spans.

    Raises:
        ValueError: an argument is out of range.
    """
    if length < 2:
        raise ValueError(f"length must be at least 2, but it is {length}")
    if not 0 < density < 1:
        raise ValueError(f"density must be between 0 and 1, but it is {density}")
    if mean_span < 1:
        raise ValueError(f"mean_span must be at least 1, but it is {mean_span}")
    gone = min(max(round(length * density), 1), length - 1)
    kept = length - gone
    spans = min(max(round(gone / mean_span), 1), kept + 1)
    span_lengths = _cut(gone, spans, generator)
    # The gaps before the first span and after the last may be empty, those between not.
    gap_lengths = _cut(kept + 2, spans + 1, generator)
    gap_lengths[0] -= 1
    gap_lengths[-1] -= 1
    runs = torch.stack([gap_lengths[:-1], span_lengths], dim=1).flatten()
    runs = torch.cat([runs, gap_lengths[-1:]])
    is_span = torch.arange(len(runs)) % 2 == 1
    return is_span.repeat_interleave(runs)


def corrupt_spans(
    token_ids: TokenIds, gone: Bool[Tensor, " length"], sentinel_ids: Sequence[int]
) -> tuple[TokenIds, TokenIds]:
    """The text with a sentinel for each span, and the spans, each after its sentinel.

        text      thank you for inviting me to your party last week
        source    thank you <A> me to your party <B> week
        target    <A> for inviting <B> last <C>

    The last sentinel of the target says that there is no further span.

    Args:
        token_ids: the text.
        gone: as `random_spans` gives it; each run of True is a span.
        sentinel_ids: one token for each span and one more, in their order.

    Raises:
        ValueError: ``gone`` does not fit, there are not enough sentinels, or the text
            holds one.
    """
    if gone.dtype != torch.bool or gone.shape != token_ids.shape:
        raise ValueError(
            f"gone must be boolean, with the shape of token_ids, "
            f"{tuple(token_ids.shape)}, but it is {gone.dtype} of shape "
            f"{tuple(gone.shape)}"
        )
    _check_sentinels(token_ids, sentinel_ids)
    source: list[int] = []
    target: list[int] = []
    spans = 0
    before = False
    for token, is_gone in zip(token_ids.tolist(), gone.tolist(), strict=True):
        if is_gone and not before:
            if spans + 1 >= len(sentinel_ids):
                raise ValueError(
                    "sentinel_ids must hold one token for each span and one more, but "
                    f"it holds {len(sentinel_ids)}"
                )
            source.append(sentinel_ids[spans])
            target.append(sentinel_ids[spans])
            spans += 1
        (target if is_gone else source).append(token)
        before = is_gone
    target.append(sentinel_ids[spans])
    return token_ids.new_tensor(source), token_ids.new_tensor(target)


def restore_spans(
    source: TokenIds, target: TokenIds, sentinel_ids: Sequence[int]
) -> TokenIds:
    """The text that `corrupt_spans` took apart, or what a model's ``target`` makes of it.

    A sentinel of the source whose span the target lacks stands for nothing, and what
    the target says before its first sentinel has no place.
    """
    sentinels = set(sentinel_ids)
    spans: dict[int, list[int]] = {}
    current: list[int] = []
    for token in target.tolist():
        if token in sentinels:
            current = spans.setdefault(token, [])
        else:
            current.append(token)
    text: list[int] = []
    for token in source.tolist():
        text.extend(spans.get(token, []) if token in sentinels else [token])
    return source.new_tensor(text)


# BART


def mask_tokens(
    token_ids: TokenIds,
    share: float,
    mask_id: int,
    *,
    generator: Generator | None = None,
) -> TokenIds:
    """Token masking: ``mask_id`` in the place of a random ``share`` of the tokens."""
    chosen = _choose(len(token_ids), share, generator)
    return token_ids.masked_fill(chosen, mask_id)


def delete_tokens(
    token_ids: TokenIds, share: float, *, generator: Generator | None = None
) -> TokenIds:
    """Token deletion: the same without a trace, so that the places must be found."""
    return token_ids[~_choose(len(token_ids), share, generator)]


def infill_text(
    token_ids: TokenIds,
    share: float,
    mask_id: int,
    *,
    mean_span: float = 3.0,
    generator: Generator | None = None,
) -> TokenIds:
    """Text infilling: spans of Poisson lengths, each replaced by a single ``mask_id``.

    How many tokens a mask stands for must be guessed. It may be none: a span of length
    0 is a mask put between two tokens. Spans are drawn until ``round(share * length)``
    tokens are gone; the last is cut to fit.

    Args:
        token_ids: the text.
        share: the part of the tokens that goes; 0.3 in the paper's large model.
        mask_id: the mask.
        mean_span: the mean of the Poisson distribution.
        generator: draws lengths and places.

    Raises:
        ValueError: ``share`` or ``mean_span`` is out of range.
    """
    if mean_span <= 0:
        raise ValueError(f"mean_span must be positive, but it is {mean_span}")
    budget = _count(len(token_ids), share)
    spans: list[int] = []
    while sum(spans) < budget:
        drawn = int(torch.poisson(torch.tensor(mean_span), generator=generator))
        spans.append(min(drawn, budget - sum(spans)))
    # Kept tokens and spans in a row, every order of the two equally likely.
    places = len(token_ids) - budget + len(spans)
    is_span = torch.zeros(places, dtype=torch.bool)
    is_span[torch.randperm(places, generator=generator)[: len(spans)]] = True
    rest, waiting = iter(token_ids.tolist()), iter(spans)
    source: list[int] = []
    for mask_here in is_span.tolist():
        if mask_here:
            source.append(mask_id)
            for _ in range(next(waiting)):
                next(rest)
        else:
            source.append(next(rest))
    return token_ids.new_tensor(source)


def permute_sentences(
    token_ids: TokenIds, end_ids: Collection[int], *, generator: Generator | None = None
) -> TokenIds:
    """Sentence permutation: the sentences, each up to one of ``end_ids``, in random order."""
    ends = torch.isin(token_ids, token_ids.new_tensor(sorted(end_ids)))
    cuts = (ends.nonzero().flatten() + 1).tolist()
    starts = [0, *(cut for cut in cuts if cut < len(token_ids))]
    stops = [*starts[1:], len(token_ids)]
    sentences = [token_ids[a:b] for a, b in zip(starts, stops, strict=True)]
    order = torch.randperm(len(sentences), generator=generator).tolist()
    return torch.cat([sentences[i] for i in order])


def rotate_document(
    token_ids: TokenIds, *, generator: Generator | None = None
) -> TokenIds:
    """Document rotation: begin at a random token, and put what was before it at the end."""
    if len(token_ids) == 0:
        raise ValueError("token_ids must hold at least one token, but it is empty")
    start = int(torch.randint(len(token_ids), (), generator=generator))
    return token_ids.roll(-start)


def _cut(total: int, parts: int, generator: Generator | None) -> Tensor:
    """``total`` as a sum of ``parts`` numbers of at least 1, every way equally likely."""
    cuts = torch.randperm(total - 1, generator=generator)[: parts - 1] + 1
    ends = torch.tensor([0, *sorted(cuts.tolist()), total])
    return ends.diff()


def _choose(length: int, share: float, generator: Generator | None) -> Tensor:
    """True at ``round(share * length)`` random places."""
    chosen = torch.zeros(length, dtype=torch.bool)
    places = torch.randperm(length, generator=generator)[: _count(length, share)]
    chosen[places] = True
    return chosen


def _count(length: int, share: float) -> int:
    if not 0 <= share <= 1:
        raise ValueError(f"share must be from 0 to 1, but it is {share}")
    return round(share * length)


def _check_sentinels(token_ids: Tensor, sentinel_ids: Sequence[int]) -> None:
    if len(set(sentinel_ids)) != len(sentinel_ids):
        raise ValueError(f"sentinel_ids must differ, but they are {sentinel_ids!r}")
    if found := set(sentinel_ids) & set(token_ids.tolist()):
        raise ValueError(f"token_ids must hold no sentinel, but it holds {found}")
