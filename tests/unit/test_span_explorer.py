"""The span explorer's two sides are those of the functions that training uses."""

from __future__ import annotations

import pytest
import torch

from companion.figures import SpanExplorer
from companion.training.denoising import corrupt_spans, random_spans, restore_spans

TOKENS = [f"t{i}" for i in range(50)]
NAMES = [f"<{chr(65 + i)}>" for i in range(26)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("share", "mean"), [(0.15, 3), (0.3, 1), (0.5, 1), (0.5, 5)])
def test_spans_are_those_of_corrupt_spans(seed: int, share: float, mean: int) -> None:
    gone = random_spans(50, share, mean, generator=torch.Generator().manual_seed(seed))
    figure = SpanExplorer(TOKENS, gone.tolist())
    ids, sentinels = torch.arange(50), range(50, 76)
    names = [*TOKENS, *NAMES]
    source, target = corrupt_spans(ids, gone, sentinels)
    assert figure.reads() == [names[i] for i in source]
    assert figure.writes() == [names[i] for i in target]
    back = [
        torch.tensor([names.index(n) for n in x])
        for x in (figure.reads(), figure.writes())
    ]
    assert torch.equal(restore_spans(*back, sentinels), ids)


def test_infilling_and_masks_say_less_and_more_of_the_length() -> None:
    gone = [False, True, True, False, True]
    figure = SpanExplorer(list("abcde"), gone, "infilling")
    assert figure.reads() == ["a", "___", "d", "___"] and figure.writes() == list(
        "abcde"
    )
    figure.noise = "masks"
    assert figure.reads() == ["a", "___", "___", "d", "___"]
    assert figure.writes() == ["b", "c", "e"]
    figure.noise = "spans"
    assert figure.writes() == ["<A>", "b", "c", "<B>", "e", "<C>"]


def test_draws_take_the_share_in_spans_of_the_mean() -> None:
    figure = SpanExplorer(TOKENS, shares=(0.3,), lengths=(1, 5), number=4)
    for mean, draws in zip((1, 5), figure.draws[0], strict=True):
        assert len(set(draws)) == 4
        for bits in draws:
            assert bits.count("1") == 15
            assert len([run for run in bits.split("0") if run]) == 15 // mean
    assert figure.gone == [bit == "1" for bit in figure.draws[0][0][0]]


def test_with_every_other_token_gone_the_letters_suffice() -> None:
    figure = SpanExplorer(TOKENS, [i % 2 == 0 for i in range(50)])
    assert figure.writes()[-1] == "<Z>"
    assert SpanExplorer(TOKENS, [False] * 50).writes() == ["<A>"]


def test_page_is_the_same_each_time_and_says_it_without_javascript() -> None:
    figure = SpanExplorer(["a", "<b>"], [False, True], caption="Try.")
    assert (
        figure.to_html()
        == SpanExplorer(["a", "<b>"], [False, True], caption="Try.").to_html()
    )
    assert (
        "reads “a &lt;A&gt;” and has to write “&lt;A&gt; &lt;b&gt; &lt;B&gt;”"
        in figure.fallback()
    )
    assert repr(figure) == "<interactive figure: a text of 2 tokens, to be damaged>"


def test_what_does_not_fit_is_refused() -> None:
    for tokens in (["a"], [*TOKENS, "t"]):
        with pytest.raises(
            ValueError, match=f"2 to 50 tokens, but they are {len(tokens)}"
        ):
            SpanExplorer(tokens)
    with pytest.raises(ValueError, match="gone must have 50 places"):
        SpanExplorer(TOKENS, [True])
    with pytest.raises(
        ValueError, match="noise must be one of spans, infilling, masks, but"
    ):
        SpanExplorer(TOKENS, noise="rotation")
