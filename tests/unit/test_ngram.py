"""Counting models: probabilities that sum to one, and Kneser-Ney by hand."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from companion.analysis.ngram import NGramModel

TEXT = torch.randint(0, 5, (400,), generator=torch.Generator().manual_seed(0))


def by_hand(text: list[int], vocab: int, context: list[int], discounts) -> list[float]:
    """p of every token after ``context``, with Counters and one loop a formula."""
    order = len(context)
    p = [1 / vocab] * vocab
    for n in range(order + 1):
        grams = [tuple(text[i : i + n + 1]) for i in range(len(text) - n)]
        if n == order:
            count = Counter(grams)
        else:
            longer = {tuple(text[i : i + n + 2]) for i in range(len(text) - n - 1)}
            count = Counter(gram[1:] for gram in longer)
        h = tuple(context[order - n :])
        after = {w: count[(*h, w)] for w in range(vocab)}
        total = sum(after.values())
        if total:
            kinds = sum(c > 0 for c in after.values())
            d = discounts[n]
            p = [
                (max(after[w] - d, 0) + d * kinds * p[w]) / total for w in range(vocab)
            ]
    return p


@pytest.mark.parametrize("order", [0, 1, 2, 3, 4])
def test_probabilities_sum_to_one_after_any_context(order):
    model = NGramModel(TEXT, 7, 4)  # tokens 5 and 6 never occur
    draw = torch.Generator().manual_seed(order)
    for _ in range(30):
        p = model.distribution(torch.randint(0, 7, (order,), generator=draw))
        assert p.sum().item() == pytest.approx(1, abs=1e-12)
        assert (p > 0).all()


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_it_is_kneser_ney(order):
    model = NGramModel(TEXT, 7, 3)
    discounts = [table.discount for table in model._tables(order)]
    assert all(0 < d < 1 for d in discounts)
    for start in range(0, 40, 7):
        context = TEXT[start : start + order]
        expected = by_hand(TEXT.tolist(), 7, context.tolist(), discounts)
        torch.testing.assert_close(
            model.distribution(context), torch.tensor(expected, dtype=torch.float64)
        )


def test_the_probabilities_of_a_text_are_those_of_its_contexts():
    model = NGramModel(TEXT, 5, 3)
    text = torch.randint(0, 5, (20,), generator=torch.Generator().manual_seed(9))
    p = model.probabilities(text, 2)
    assert len(p) == 18
    for i in range(18):
        expected = model.distribution(text[i : i + 2])[text[i + 2]]
        assert p[i].item() == pytest.approx(expected.item(), rel=1e-12)
    assert model.bits(text, 2) == pytest.approx(-p.log2().mean().item())


def test_lower_tables_count_kinds_of_contexts_not_occurrences():
    """ "b" comes often but only after "a"; "c" comes once after each of three letters."""
    text = torch.tensor([0, 1] * 20 + [2, 2, 3, 2, 4, 2, 0, 1])
    p = NGramModel(text, 5, 1)._by_kind[0]
    count = dict(zip(p.grams.tolist(), p.counts.tolist(), strict=True))
    assert count[1] == 1 and count[2] == 4


def test_the_share_of_known_contexts():
    model = NGramModel(torch.tensor([0, 1, 0, 1, 0, 2]), 4, 2)
    text = torch.tensor([0, 1, 0, 2, 3])
    assert model.share_known(text, 0) == 1
    assert model.share_known(text, 1) == pytest.approx(3 / 5)  # nothing follows 2
    assert model.share_known(text, 2) == pytest.approx(2 / 4)


def test_a_pattern_is_learned_and_written():
    text = torch.tensor([0, 1, 2, 3] * 50)
    model = NGramModel(text, 4, 2)
    assert model.bits(text, 2) < 0.2 < 1.9 < model.bits(text, 0)
    draw = torch.Generator().manual_seed(0)
    written = model.sample(text[:2], 30, 2, draw)
    assert (written[:30] == text[:30]).float().mean() > 0.5
    assert len(written) == 32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((TEXT, 100, 9), "max_order must be smaller"),
        ((TEXT[:3], 5, 3), "more than max_order = 3"),
        ((TEXT, 4, 2), "from 0 to 3, but it has 400 from 0 to 4"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        NGramModel(*arguments)


def test_bad_orders():
    model = NGramModel(TEXT, 5, 2)
    with pytest.raises(ValueError, match="order must be from 0 to max_order = 2"):
        model.bits(TEXT, 3)
    with pytest.raises(ValueError, match="more than order = 2, but it has 2"):
        model.probabilities(TEXT[:2], 2)
