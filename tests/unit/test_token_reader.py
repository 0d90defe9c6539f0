"""The token reader, from Python."""

from __future__ import annotations

import json
import math
import re

import pytest
import torch

from companion.figures import Reading, TokenReader
from companion.figures.token_reader import Expected

NAMES = ["a", "b", " ", "</script>"]


def logits() -> torch.Tensor:
    """Probabilities of 0.5, 0.25, 0.15 and 0.1, and a first row that is not asked."""
    table = torch.tensor([0.5, 0.25, 0.15, 0.1]).log().repeat(3, 1)
    table[0] = math.nan
    return table


def reader(**options: object) -> TokenReader:
    ids = [3, 0, 1]
    both = Reading.of(
        ids, {"plain": logits(), "sharp": 2 * logits()}, NAMES.__getitem__
    )
    one = Reading(["x", "y"], {"by hand": [Expected(1.0, [("x", 1.0)]), None]})
    return TokenReader({"first": both, "second": one}, **options)


def test_expectations_are_the_softmax_of_the_logits() -> None:
    reading = Reading.of([3, 0, 1], {"plain": logits()}, NAMES.__getitem__, number=2)
    assert reading.tokens == ["</script>", "a", "b"]
    nothing, first, second = reading.ways["plain"]
    assert nothing is None
    assert first.p == pytest.approx(0.5) and second.p == pytest.approx(0.25)
    assert [token for token, _ in first.likeliest] == ["a", "b"]
    assert [p for _, p in first.likeliest] == pytest.approx([0.5, 0.25])


def test_means_are_bits_a_token_that_was_asked() -> None:
    means = reader().mean_bits()
    assert means["plain"] == pytest.approx((1 + 2) / 2)
    weights = [p**2 for p in (0.5, 0.25, 0.15, 0.1)]
    sharp = [-math.log2(w / sum(weights)) for w in weights[:2]]
    assert means["sharp"] == pytest.approx(sum(sharp) / 2, abs=0.005)
    assert reader(text=1).mean_bits() == {"by hand": 0.0}


def test_the_most_surprising_token_is_asked_first() -> None:
    assert (
        reader().place == 2 and reader(text=1).place == 0 and reader(place=1).place == 1
    )


def test_page_holds_the_readings_and_is_the_same_each_time() -> None:
    html = reader(caption="Below.").to_html()
    assert html == reader(caption="Below.").to_html() != reader().to_html()
    content = re.search(r'<script type="application/json">(.*?)</script>', html, re.S)
    state = json.loads(content.group(1))["state"]
    assert state["readings"][0]["tokens"][0] == "</script>"
    assert state["readings"][0]["ways"][0][1][2] == [
        0.25, [["a", 0.5], ["b", 0.25], [" ", 0.15], ["</script>", 0.1]]
    ]  # fmt: skip
    assert "mean surprise in bits a token: plain 1.50" in html
    assert repr(reader()) == "<interactive figure: 2 texts, token by token>"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"text": 2}, "text must be from 0 to 1, but it is 2"),
        ({"way": 2}, "way must be from 0 to 1, but it is 2"),
        ({"text": 1, "way": 1}, "way must be from 0 to 0, but it is 1"),
        ({"place": 3}, "place must be from 0 to 2, but it is 3"),
        ({"place": 0}, "place must be a token that is asked for, not 0"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        reader(**options)


def test_readings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one text"):
        TokenReader({})
    with pytest.raises(ValueError, match=r"shape \(2, vocab\).*\(3, 4\)"):
        Reading.of([0, 1], {"plain": logits()}, NAMES.__getitem__)
    for ways, says in (
        ({}, "must be at least one"),
        ({"w": [None]}, "must have 2 places"),
        ({"w": [None, None]}, "asks for none"),
        ({"w": [None, Expected(0.0, [])]}, "p must be above 0"),
    ):
        with pytest.raises(ValueError, match=says):
            TokenReader({"text": Reading(["x", "y"], ways)})
