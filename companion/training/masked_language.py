"""The inputs of BERT's two tasks: masked tokens, and pairs of sentences.

Sources: Devlin et al. (2019), section 3.1 and appendix A.2; Lan et al. (2020), "ALBERT: A
Lite BERT for Self-supervised Learning of Language Representations", section 3.1, for pairs
whose order is swapped; Liu et al. (2019), "RoBERTa: A Robustly Optimized BERT Pretraining
Approach", section 4.1, for masking anew in each epoch, which is a new call of `mask_tokens`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

Sentence = Sequence[int]  # token ids
NOT_ASKED = -100  # the label of a token that no loss is taken of


def mask_tokens(
    token_ids: Int[Tensor, "batch length"],
    mask_id: int,
    vocab_size: int,
    special_ids: Collection[int] = (),
    probability: float = 0.15,
    *,
    generator: torch.Generator | None = None,
) -> tuple[Int[Tensor, "batch length"], Int[Tensor, "batch length"]]:
    """Choose 15 % of the tokens; hide 80 % of these, replace 10 %, and leave 10 % as they are.

    The model has to tell all of the chosen. It cannot know which of the tokens that it
    sees are wrong, so it must keep an idea of every one.

    Args:
        token_ids: the text.
        mask_id: the token [MASK].
        vocab_size: number of distinct tokens.
        special_ids: tokens that are never chosen, nor put in the place of others: [CLS],
            [SEP], [PAD]. A random [PAD] would be taken for padding.
        probability: the share of the other tokens that is chosen, rounded in each
            sequence, and at least one token in each.
        generator: draws what is random, on the CPU.

    Returns:
        The text as the model sees it, and the labels: the true token where one was
        chosen, -100 elsewhere.

    Raises:
        ValueError: a probability outside (0, 1), or no token left to draw.
    """
    if not 0 < probability < 1:
        raise ValueError(
            f"probability must be between 0 and 1, but it is {probability}"
        )
    special = sorted({*special_ids, mask_id})
    ordinary = torch.tensor(sorted(set(range(vocab_size)) - set(special)))
    if not len(ordinary):
        raise ValueError(
            f"special_ids must leave a token, but all {vocab_size} are special"
        )

    def uniform() -> Tensor:
        return torch.rand(token_ids.shape, generator=generator).to(token_ids.device)

    may_choose = ~torch.isin(token_ids, torch.tensor(special, device=token_ids.device))
    number = (may_choose.sum(1) * probability).round().clamp(min=1)
    order = uniform().masked_fill(~may_choose, 2.0).argsort(1)  # special ones come last
    rank = order.argsort(1)  # of each token, from 0
    chosen = (rank < number[:, None]) & may_choose

    dice = uniform()
    hidden = chosen & (dice < 0.8)
    replaced = chosen & (dice >= 0.9)
    draw = torch.randint(len(ordinary), token_ids.shape, generator=generator)
    inputs = token_ids.masked_fill(hidden, mask_id)
    inputs = torch.where(replaced, ordinary[draw].to(token_ids), inputs)
    return inputs, token_ids.masked_fill(~chosen, NOT_ASKED)


class SentencePairs(NamedTuple):
    """Pairs [CLS] A [SEP] B [SEP], padded to one length.

    Attributes:
        token_ids: the tokens.
        token_types: 0 for [CLS] A [SEP] and for padding, 1 for B [SEP].
        is_next: whether B is what follows A in the text.
    """

    token_ids: Int[Tensor, "pairs length"]
    token_types: Int[Tensor, "pairs length"]
    is_next: Bool[Tensor, "pairs"]


def sentence_pairs(
    documents: Sequence[Sequence[Sentence]],
    max_seq_len: int,
    *,
    cls_id: int,
    sep_id: int,
    pad_id: int = 0,
    wrong: Literal["random", "swapped"] = "random",
    short_probability: float = 0.1,
    generator: torch.Generator | None = None,
) -> SentencePairs:
    """Cut documents into pairs of spans, of which about half do not belong together.

    A "sentence" of BERT is a span of text: as many sentences of a document as fit. It is
    cut in two between two sentences. Half of the time the second part is replaced by a
    span of another document, and what was cut off begins the next pair.

    Args:
        documents: of each document its sentences, of each sentence its token ids, with
            no special tokens.
        max_seq_len: of a whole pair, with its three special tokens.
        cls_id, sep_id, pad_id: the special tokens.
        wrong: what a pair is that does not belong together: ``"random"``, as in BERT, or
            ``"swapped"``, the two parts in the wrong order, as in ALBERT.
        short_probability: how often a pair aims at a shorter, random length, so that
            fine-tuning on short texts meets nothing new.
        generator: draws what is random.

    Raises:
        ValueError: too short a ``max_seq_len``, an unknown ``wrong``, fewer than two
            documents for random pairs, or an empty document or sentence.
    """
    if max_seq_len < 5:
        raise ValueError(
            f"max_seq_len must leave room for [CLS] A [SEP] B [SEP], 5 tokens, but it is "
            f"{max_seq_len}"
        )
    if wrong not in ("random", "swapped"):
        raise ValueError(f"wrong must be 'random' or 'swapped', but it is {wrong!r}")
    if wrong == "random" and len(documents) < 2:
        raise ValueError(
            "documents must be two or more, for random pairs of different documents, but "
            f"there are {len(documents)}"
        )
    if not all(document and all(map(len, document)) for document in documents):
        raise ValueError("documents must not hold an empty document or sentence")
    room = max_seq_len - 3
    pairs: list[tuple[list[int], list[int], bool]] = []
    for index, document in enumerate(documents):
        start = 0
        while start < len(document):
            short = _chance(short_probability, generator)
            target = _integer(2, room, generator) if short else room
            end = _reach(document, start, target)
            if wrong == "swapped" and end - start < 2:
                start = end  # one sentence has no two parts to swap
                continue
            cut = _integer(start + 1, max(start + 1, end - 1), generator)
            first, second = _join(document[start:cut]), _join(document[cut:end])
            is_next = cut < end and _chance(0.5, generator)
            if not is_next and wrong == "random":
                other = _integer(0, len(documents) - 2, generator)
                other += other >= index  # any document but this one
                strange = documents[other]
                begin = _integer(0, len(strange) - 1, generator)
                stop = _reach(strange, begin, target - len(first))
                second = _join(strange[begin:stop])
                end = cut
            elif not is_next:
                first, second = second, first
            pairs.append((*_truncate(first, second, target, generator), is_next))
            start = end
    return _pack(pairs, max_seq_len, cls_id, sep_id, pad_id)


def _pack(
    pairs: list[tuple[list[int], list[int], bool]],
    length: int,
    cls_id: int,
    sep_id: int,
    pad_id: int,
) -> SentencePairs:
    token_ids = torch.full((len(pairs), length), pad_id)
    token_types = torch.zeros(len(pairs), length, dtype=torch.long)
    for row, (first, second, _) in enumerate(pairs):
        tokens = [cls_id, *first, sep_id, *second, sep_id]
        token_ids[row, : len(tokens)] = torch.tensor(tokens)
        token_types[row, len(first) + 2 : len(tokens)] = 1
    is_next = torch.tensor([follows for *_, follows in pairs], dtype=torch.bool)
    return SentencePairs(token_ids, token_types, is_next)


def _reach(document: Sequence[Sentence], start: int, target: int) -> int:
    """One past the sentence with which the text from ``start`` on has ``target`` tokens."""
    length, end = 0, start
    while end < len(document) and (end == start or length < target):
        length += len(document[end])
        end += 1
    return end


def _truncate(
    first: list[int], second: list[int], target: int, generator: torch.Generator | None
) -> tuple[list[int], list[int]]:
    """Take tokens off the longer part, from its front or its back, until the pair fits."""
    first, second = list(first), list(second)
    while len(first) + len(second) > target:
        longer = first if len(first) > len(second) else second
        longer.pop(0 if _chance(0.5, generator) else -1)
    return first, second


def _join(sentences: Sequence[Sentence]) -> list[int]:
    return [token for sentence in sentences for token in sentence]


def _chance(probability: float, generator: torch.Generator | None) -> bool:
    return float(torch.rand((), generator=generator)) < probability


def _integer(low: int, high: int, generator: torch.Generator | None) -> int:
    """Between ``low`` and ``high``, both of them included."""
    return int(torch.randint(low, high + 1, (), generator=generator))
