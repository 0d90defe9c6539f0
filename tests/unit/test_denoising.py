"""T5's span corruption and BART's noises: exact counts, what is lost, and what comes back."""

from __future__ import annotations

import pytest
import torch

from companion.training.denoising import (
    corrupt_spans,
    delete_tokens,
    infill_text,
    mask_tokens,
    permute_sentences,
    random_spans,
    restore_spans,
    rotate_document,
)

SENTINELS = range(1000, 1200)
MASK = 999


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def text(length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 50, (length,), generator=seeded(seed))


def runs(gone: torch.Tensor) -> list[int]:
    """The lengths of the runs of True."""
    lengths, before = [], False
    for now in gone.tolist():
        if now:
            lengths = [*lengths[:-1], lengths[-1] + 1] if before else [*lengths, 1]
        before = now
    return lengths


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("length", [2, 3, 10, 57, 568])
@pytest.mark.parametrize(("density", "mean"), [(0.15, 3.0), (0.5, 5.0), (0.9, 1.0)])
def test_exact_counts(length, density, mean, seed):
    gone = random_spans(length, density, mean, generator=seeded(seed))
    wanted = min(max(round(length * density), 1), length - 1)
    assert gone.shape == (length,) and int(gone.sum()) == wanted
    assert len(runs(gone)) == min(max(round(wanted / mean), 1), length - wanted + 1)


def test_the_authors_numbers():
    """568 tokens become 512 to read, with the end token, and 114 to write."""
    gone = random_spans(568, generator=seeded(0))
    source, target = corrupt_spans(text(568), gone, SENTINELS)
    assert len(source) + 1 == 512
    assert len(target) == 114


def test_every_place_goes_about_equally_often():
    draws = torch.stack([random_spans(20, generator=seeded(s)) for s in range(4000)])
    share = draws.float().mean(dim=0)  # 3 of 20, in one span
    assert share[0] > 0.03 and share[-1] > 0.03  # a span may begin or end the text
    assert (share[2:-2] - 3 / 18).abs().max() < 0.03  # 18 places for it
    assert torch.equal(random_spans(20, generator=seeded(1)), draws[1])


def test_the_example_of_the_paper():
    words = "thank you for inviting me to your party last week".split()
    gone = torch.tensor([word in ("for", "inviting", "last") for word in words])
    source, target = corrupt_spans(torch.arange(10), gone, [90, 91, 92])
    names = dict(enumerate(words)) | {90: "<X>", 91: "<Y>", 92: "<Z>"}
    said = [" ".join(names[i] for i in ids.tolist()) for ids in (source, target)]
    assert said == [
        "thank you <X> me to your party <Y> week",
        "<X> for inviting <Y> last <Z>",
    ]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("length", [2, 5, 40, 300])
def test_the_original_comes_back(length, seed):
    ids = text(length, seed)
    gone = random_spans(length, 0.3, 2.0, generator=seeded(seed))
    source, target = corrupt_spans(ids, gone, SENTINELS)
    assert torch.equal(restore_spans(source, target, SENTINELS), ids)
    kept = source[source < 1000]
    assert torch.equal(kept, ids[~gone])


def test_what_a_model_writes_is_put_where_it_says():
    source = torch.tensor([1, 1000, 2, 1001])
    target = torch.tensor([9, 1001, 7, 8, 1000, 5])  # 9 has no place; another order
    assert restore_spans(source, target, SENTINELS).tolist() == [1, 5, 2, 7, 8]
    silent = torch.tensor([1000])
    assert restore_spans(source, silent, SENTINELS).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((1,), "length must be at least 2, but it is 1"),
        ((9, 1.0), "density must be between 0 and 1, but it is 1.0"),
        ((9, 0.5, 0.5), "mean_span must be at least 1, but it is 0.5"),
    ],
)
def test_bad_spans(arguments, says):
    with pytest.raises(ValueError, match=says):
        random_spans(*arguments)


def test_bad_corruption():
    ids = torch.tensor([1, 2, 3, 4])
    gone = torch.tensor([True, False, True, False])
    with pytest.raises(ValueError, match="each span and one more, but it holds 2"):
        corrupt_spans(ids, gone, [90, 91])
    with pytest.raises(ValueError, match=r"holds \{3\}"):
        corrupt_spans(ids, gone, [90, 3, 91])
    with pytest.raises(ValueError, match="must differ"):
        corrupt_spans(ids, gone, [90, 90, 91])
    with pytest.raises(ValueError, match=r"gone must be boolean.*torch.int64"):
        corrupt_spans(ids, gone.long(), [90, 91, 92])


# BART


def is_subsequence(some: list[int], of: list[int]) -> bool:
    rest = iter(of)
    return all(token in rest for token in some)


@pytest.mark.parametrize("share", [0.0, 0.15, 0.5, 1.0])
def test_masking_and_deletion(share):
    ids = torch.arange(40)
    masked = mask_tokens(ids, share, MASK, generator=seeded(3))
    assert int((masked == MASK).sum()) == round(40 * share)
    assert torch.equal(masked[masked != MASK], ids[masked != MASK])
    shorter = delete_tokens(ids, share, generator=seeded(3))
    assert len(shorter) == 40 - round(40 * share)
    assert is_subsequence(shorter.tolist(), ids.tolist())
    assert torch.equal(shorter, masked[masked != MASK])  # the same places, no trace


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.1, 0.3, 1.0])
def test_infilling_removes_exactly_its_share(share, seed):
    ids = torch.arange(100)
    source = infill_text(ids, share, MASK, generator=seeded(seed))
    kept = source[source != MASK].tolist()
    assert len(kept) == 100 - round(100 * share)
    assert is_subsequence(kept, ids.tolist())
    again = infill_text(ids, share, MASK, generator=seeded(seed))
    assert torch.equal(source, again)


def test_infilled_spans_have_poisson_lengths():
    ids = torch.arange(30_000)
    source = infill_text(ids, 0.3, MASK, generator=seeded(0))
    spans = int((source == MASK).sum())
    assert 9000 / spans == pytest.approx(3, abs=0.15)
    # Two neighbors that were neighbors before, with a mask in between: length 0.
    s = source.tolist()
    empty = sum(
        s[i] == MASK and s[i - 1] != MASK and s[i + 1] == s[i - 1] + 1
        for i in range(1, len(s) - 1)
    )
    neighbors = sum(
        s[i - 1] != MASK != s[i + 1] for i in range(1, len(s) - 1) if s[i] == MASK
    )
    assert empty / neighbors == pytest.approx(0.0498, abs=0.012)  # e^-3


def test_nothing_to_infill():
    assert infill_text(torch.arange(5), 0.0, MASK).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("seed", range(6))
def test_sentences_stay_whole(seed):
    ids = torch.tensor([1, 2, 90, 3, 91, 4, 5, 90, 6])  # the last has no end
    mixed = permute_sentences(ids, (90, 91), generator=seeded(seed)).tolist()
    sentences = [[1, 2, 90], [3, 91], [4, 5, 90], [6]]
    assert sorted(mixed) == sorted(ids.tolist())
    for sentence in sentences:
        start = mixed.index(sentence[0])
        assert mixed[start : start + len(sentence)] == sentence


def test_sentences_come_in_every_order():
    ids = torch.tensor([1, 90, 2, 90, 3, 90])
    orders = {
        tuple(permute_sentences(ids, [90], generator=seeded(s)).tolist())
        for s in range(60)
    }
    assert len(orders) == 6


def test_rotation():
    ids = torch.arange(6)
    seen = {
        tuple(rotate_document(ids, generator=seeded(s)).tolist()) for s in range(60)
    }
    assert seen == {tuple((ids + k).remainder(6).tolist()) for k in range(6)}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda ids: mask_tokens(ids, 1.5, MASK), "share must be from 0 to 1"),
        (lambda ids: delete_tokens(ids, -0.1), "share must be from 0 to 1"),
        (lambda ids: infill_text(ids, 0.3, MASK, mean_span=0), "mean_span .* positive"),
        (lambda ids: rotate_document(ids[:0]), "at least one token"),
    ],
)
def test_bad_noise(call, says):
    with pytest.raises(ValueError, match=says):
        call(torch.arange(9))
