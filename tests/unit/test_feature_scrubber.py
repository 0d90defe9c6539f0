"""The feature scrubber, from Python."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from companion.figures import FeatureScrubber


def scrubber(**changed: object) -> FeatureScrubber:
    arguments = {
        "images": np.linspace(0, 1, 3 * 4).reshape(3, 1, 2, 2),
        "labels": [0, 1, 0],
        "classes": ["a", "b"],
        "steps": [0, 50],
        "places": np.arange(12).reshape(2, 3, 2),
        "nearest": [[[1], [2], [1]], [[2], [0], [0]]],
    }
    return FeatureScrubber(**{**arguments, **changed})


def test_agreement_and_neighbors_are_those_of_the_moment() -> None:
    figure = scrubber()
    assert figure.agreement() == 0.0 and figure.neighbors() == ["b"]
    figure.moment = 1
    assert figure.agreement() == pytest.approx(2 / 3) and figure.neighbors() == ["a"]
    figure.chosen = 1
    assert figure.neighbors() == ["a"]
    assert "After 50 updates, 67% of all" in figure.fallback()
    assert repr(figure) == "<interactive figure: features of 3 images at 2 steps>"


def test_page_holds_the_pixels_and_is_the_same_each_time() -> None:
    figure = scrubber()
    pixels = np.frombuffer(base64.b64decode(figure.pixels), np.uint8)
    assert pixels.tolist() == np.rint(np.linspace(0, 255, 12)).tolist()
    assert figure.pixels in figure.to_html()
    assert figure.to_html() == scrubber().to_html()
    assert figure.to_html() != scrubber(moment=1).to_html()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"images": np.zeros((3, 2, 2))}, r"images must have shape \(images, 1"),
        ({"labels": [0, 1]}, r"labels must have shape \(3,\)"),
        ({"labels": [0, 1, 2]}, "labels must be from 0 to 1"),
        ({"places": np.zeros((1, 3, 2))}, r"places must have shape \(2, 3, 2\)"),
        ({"places": np.full((2, 3, 2), 1000)}, "places must be from 0 to 999"),
        ({"nearest": np.full((2, 3, 1), 3)}, "nearest must be from 0 to 2"),
        ({"moment": 2}, "moment must be from 0 to 1, but it is 2"),
        ({"chosen": -1}, "chosen must be from 0 to 2, but it is -1"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        scrubber(**changed)
