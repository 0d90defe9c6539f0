"""The stack explorer, from Python."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from companion.analysis import depth
from companion.figures import StackExplorer

PARTS = list(itertools.product((False, True), ("none", "post", "pre"), (False, True)))


@torch.no_grad()
def streams(layers: int = 4) -> dict:
    """The states of twelve small stacks on one input, as in the chapter."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(1, 5, 8, dtype=torch.float64, generator=draw)
    found = {}
    for residual, norm, feed_forward in PARTS:
        states = [x]
        for layer in depth.new_stack(
            layers, 8, 2, residual=residual, norm=norm, feed_forward=feed_forward
        ).cpu():
            states.append(layer(states[-1]))
        found[residual, norm, feed_forward] = torch.cat(states)
    return found


STREAMS = streams()


def test_shown_is_what_the_stream_holds() -> None:
    figure = StackExplorer(STREAMS, residual=True, norm="pre", depth=3)
    states = STREAMS[True, "pre", False][3]
    share, size = figure.shown()
    assert share == pytest.approx(depth.distinctness(states[None]), rel=2e-3)
    assert size == pytest.approx(states.square().mean().sqrt().item(), rel=2e-3)
    figure.norm, figure.depth = "post", 4
    assert figure.shown()[1] == pytest.approx(1.0, rel=1e-2)


def test_places_are_a_projection_of_tokens_of_one_size() -> None:
    figure = StackExplorer(STREAMS)
    stack = next(s for s in figure.stacks if s["residual"] and s["norm"] == "none")
    places = torch.tensor(stack["places"][4]).reshape(5, 2) / 1000
    states = STREAMS[True, "none", stack["feed_forward"]][4]
    longest = (states / states.square().mean().sqrt()).norm(dim=1)
    assert (places.norm(dim=1) <= longest + 2e-3).all()
    start = STREAMS[True, "none", False][0]
    apart = torch.tensor(stack["places"][0]).reshape(5, 2) / 1000
    apart = (apart - apart.mean(dim=0)) * start.square().mean().sqrt()
    # The plane holds the two largest principal components of the input.
    expected = torch.linalg.svdvals(start - start.mean(dim=0))[:2]
    found = torch.linalg.svdvals(apart.double())
    assert found.tolist() == pytest.approx(expected.tolist(), abs=5e-3)


def test_equal_tokens_have_the_smallest_share_there_is() -> None:
    equal = {parts: torch.ones(2, 3, 8) for parts in PARTS}
    assert StackExplorer(equal).shown()[0] == pytest.approx(1e-16)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="missing or too many"):
        StackExplorer({k: v for k, v in STREAMS.items() if k[0]})
    with pytest.raises(ValueError, match="streams must all have one shape"):
        StackExplorer({**STREAMS, PARTS[0]: torch.zeros(2, 5, 8)})
    with pytest.raises(ValueError, match="norm must be one of"):
        StackExplorer(STREAMS, norm="batch")
    with pytest.raises(ValueError, match="depth must be from 0 to 4, but it is 5"):
        StackExplorer(STREAMS, depth=5)


def test_page_holds_the_state_and_is_the_same_each_time() -> None:
    one, two = StackExplorer(STREAMS, depth=2), StackExplorer(STREAMS, depth=2)
    assert one.to_html() == two.to_html()
    assert one.to_html() != StackExplorer(STREAMS, depth=1).to_html()
    assert "After 2 layers (residual: False" in one.fallback()
    assert repr(one) == "<interactive figure: stacks of 4 layers, part by part>"
    assert math.isfinite(one.shown()[0])


def test_the_chapters_figure_is_small() -> None:
    large = {parts: torch.randn(25, 16, 32) for parts in PARTS}
    assert len(StackExplorer(large).to_html()) < 150_000
