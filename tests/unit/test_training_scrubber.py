"""The training scrubber, from Python."""

from __future__ import annotations

import pytest

from companion.figures import TrainingScrubber


def scrubber(**changed: object) -> TrainingScrubber:
    """Two texts at three moments of a training of 250 updates."""
    arguments = {
        "updates": [50, 100, 250],
        "sources": ["rotes herz", "gelbes <herz>"],
        "wanted": ["red heart", "yellow heart"],
        "written": [
            ["woman " * 31 + "woman", ""],
            ["heart of heart", "yellow heart"],
            ["red heart", "yellow heart"],
        ],
        "losses": [8 - 0.03 * i for i in range(250)],
        "rates": [0.003 * min(1, (i + 1) / 100) for i in range(250)],
        "shares": {"names": [0.0, 0.5, 1.0], "colors": [0.1, 0.5, 1.0]},
    }
    return TrainingScrubber(**{**arguments, **changed})


def test_the_loss_is_thinned_to_means() -> None:
    figure = scrubber()
    assert len(figure.losses) == 84
    assert figure.losses[0] == [2.0, 7.97]  # updates 1 to 3
    assert figure.losses[-1] == [250.0, 0.53]  # the last alone
    assert figure.rates == [0.0015, 0.003, 0.003]


def test_few_losses_are_kept_as_they_are() -> None:
    figure = scrubber(updates=[1, 2, 3], losses=[3.0, 2.0, 1.0], rates=[0.1, 0.1, 0.1])
    assert figure.losses == [[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]


def test_page_holds_the_state_and_is_the_same_each_time() -> None:
    one, two = scrubber(moment=1), scrubber(moment=1)
    assert one.to_html() == two.to_html()
    assert one.to_html() != scrubber(moment=2).to_html()
    assert len(one.to_html()) < 40_000
    assert "Written after 100 updates" in one.fallback()
    assert "gelbes &lt;herz&gt;" in one.fallback()
    assert repr(one) == "<interactive figure: 2 texts at 3 moments of a training>"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"updates": []}, "updates must be at least one number, rising from 1 on"),
        ({"updates": [50, 50, 60]}, "updates must be at least one number, rising"),
        ({"updates": [0, 50, 60]}, "updates must be at least one number, rising"),
        ({"updates": [50, 100, 251]}, "losses and rates must both have all 251"),
        ({"rates": [0.1]}, "losses and rates must both have all 250 updates"),
        ({"wanted": ["red heart"]}, "wanted must have 2 entries, but it has 1"),
        ({"written": [["a", "b"]]}, "written must have 3 entries, but it has 1"),
        ({"written": [["a"]] * 3}, r"written\[0\] must have 2 entries, but it has 1"),
        ({"shares": {"a": [0.1]}}, r"shares\['a'\] must have 3 entries"),
        ({"shares": {"a": [0, 1, 1.1]}}, "shares must be one to 3 curves"),
        ({"shares": {n: [0, 0, 0] for n in "abcd"}}, "shares must be one to 3 curves"),
        ({"moment": 3}, "moment must be from 0 to 2, but it is 3"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        scrubber(**changed)
