"""The inputs of BERT's two tasks."""

from __future__ import annotations

import pytest
import torch

from companion import mask_tokens, sentence_pairs

PAD, CLS, SEP, MASK = range(4)
SPECIAL = (PAD, CLS, SEP)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def text(batch: int = 40, length: int = 60) -> torch.Tensor:
    token_ids = torch.randint(4, 500, (batch, length), generator=seeded(1))
    token_ids[:, 0] = CLS
    token_ids[:, 30] = SEP
    token_ids[::2, 40:] = PAD
    return token_ids


def test_80_10_10():
    token_ids = torch.randint(4, 500, (200, 200), generator=seeded(1))
    inputs, labels = mask_tokens(token_ids, MASK, 500, SPECIAL, generator=seeded())
    chosen = labels != -100
    assert (chosen.sum(1) == 30).all(), "15 % of 200"
    share = (inputs[chosen] == MASK).float().mean()
    kept = (inputs[chosen] == token_ids[chosen]).float().mean()
    assert share == pytest.approx(0.8, abs=0.02)
    assert kept == pytest.approx(0.1, abs=0.015)


def test_what_is_never_touched():
    token_ids = text()
    inputs, labels = mask_tokens(token_ids, MASK, 500, SPECIAL, generator=seeded())
    chosen = labels != -100
    special = torch.isin(token_ids, torch.tensor(SPECIAL))
    assert not (chosen & special).any()
    assert torch.equal(inputs[~chosen], token_ids[~chosen])
    assert torch.equal(labels[chosen], token_ids[chosen])
    assert not torch.isin(inputs[chosen], torch.tensor(SPECIAL)).any()
    assert not (token_ids == MASK).any(), "the text itself is not changed"


def test_at_least_one_where_there_is_one():
    token_ids = torch.tensor([[CLS, 9, SEP, PAD], [CLS, SEP, PAD, PAD]])
    _, labels = mask_tokens(token_ids, MASK, 500, SPECIAL, generator=seeded())
    assert (labels != -100).sum(1).tolist() == [1, 0]


def test_masks_are_new_each_time_and_seeded():
    token_ids = text()
    generator = seeded()
    first = mask_tokens(token_ids, MASK, 500, SPECIAL, generator=generator)
    second = mask_tokens(token_ids, MASK, 500, SPECIAL, generator=generator)
    again = mask_tokens(token_ids, MASK, 500, SPECIAL, generator=seeded())
    assert not torch.equal(first[1], second[1])
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])


def test_mask_tokens_refuses():
    with pytest.raises(ValueError, match="probability must be between 0 and 1"):
        mask_tokens(text(), MASK, 500, SPECIAL, 1.5)
    with pytest.raises(ValueError, match="special_ids must leave a token"):
        mask_tokens(text(), MASK, 4, SPECIAL)


# Documents whose tokens tell where they are from: 100 * document + sentence


def documents(number: int = 6, sentences: int = 9) -> list[list[list[int]]]:
    return [
        [[100 * d + s] * (3 + (d + s) % 4) for s in range(sentences)]
        for d in range(1, number + 1)
    ]


def spans(pairs) -> list[tuple[list[int], list[int], bool]]:
    """A and B of each pair, found by the token types."""
    found = []
    rows = zip(pairs.token_ids, pairs.token_types, pairs.is_next, strict=True)
    for tokens, types, is_next in rows:
        length = int((tokens != PAD).sum())
        tokens, types = tokens[:length], types[:length]
        assert tokens[0] == CLS and tokens[-1] == SEP and (tokens == SEP).sum() == 2
        assert (tokens[types == 0][-1], tokens[types == 1][-1]) == (SEP, SEP)
        assert types.diff().ge(0).all()
        first, second = tokens[types == 0][1:-1], tokens[types == 1][:-1]
        found.append((first.tolist(), second.tolist(), bool(is_next)))
    return found


def test_sentence_pairs():
    pairs = sentence_pairs(
        documents(),
        20,
        cls_id=CLS,
        sep_id=SEP,
        generator=seeded(),
        short_probability=0.0,
    )
    assert pairs.token_ids.shape == pairs.token_types.shape == (len(pairs.is_next), 20)
    assert pairs.token_types[pairs.token_ids == PAD].sum() == 0
    for first, second, is_next in spans(pairs):
        assert first and second
        same = first[-1] // 100 == second[0] // 100
        assert same == is_next
        if is_next:  # nothing between them but what was cut off at the end of A
            assert 0 <= second[0] - first[-1] <= 2


def test_about_half_of_the_pairs_belong_together():
    pairs = sentence_pairs(
        documents(40, 40), 24, cls_id=CLS, sep_id=SEP, generator=seeded()
    )
    assert pairs.is_next.float().mean() == pytest.approx(0.5, abs=0.08)


def test_no_text_is_lost_where_a_pair_is_random():
    """What was cut off begins the next pair: every sentence is the start of some span."""
    pairs = sentence_pairs(
        documents(),
        64,
        cls_id=CLS,
        sep_id=SEP,
        generator=seeded(),
        short_probability=0.0,
    )
    seen = {token for first, second, _ in spans(pairs) for token in first + second}
    assert seen == {100 * d + s for d in range(1, 7) for s in range(9)}


def test_swapped_pairs():
    pairs = sentence_pairs(
        documents(), 20, cls_id=CLS, sep_id=SEP, wrong="swapped", generator=seeded()
    )
    found = spans(pairs)
    assert {is_next for *_, is_next in found} == {True, False}
    for first, second, in_order in found:
        assert first[0] // 100 == second[0] // 100, "both of one document"
        assert (first[0] < second[0]) == in_order


def test_some_pairs_are_short():
    def lengths(short):
        pairs = sentence_pairs(
            documents(),
            40,
            cls_id=CLS,
            sep_id=SEP,
            generator=seeded(),
            short_probability=short,
        )
        return (pairs.token_ids != PAD).sum(1).float()

    assert lengths(1.0).mean() < lengths(0.0).mean()


def test_one_sentence_documents_still_make_pairs():
    pairs = sentence_pairs(
        [[[10, 11]], [[20, 21, 22]]], 12, cls_id=CLS, sep_id=SEP, generator=seeded()
    )
    assert not pairs.is_next.any() and len(pairs.is_next) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_seq_len": 4}, "max_seq_len must leave room"),
        ({"wrong": "shuffled"}, "wrong must be 'random' or 'swapped'"),
        ({"documents": documents(1)}, "two or more"),
        ({"documents": [[[5]], []]}, "empty"),
        ({"documents": [[[5]], [[]]]}, "empty"),
    ],
)
def test_sentence_pairs_refuses(change, message):
    options = {"documents": documents(), "max_seq_len": 20} | change
    with pytest.raises(ValueError, match=message):
        sentence_pairs(**options, cls_id=CLS, sep_id=SEP)
