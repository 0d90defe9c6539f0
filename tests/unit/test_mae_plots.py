"""The plots of the chapter on masked autoencoders draw what they are given."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from companion.figures import mae_plots as plots
from companion.figures import style


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(plt, "show", lambda: None)
    with matplotlib.rc_context():
        style.use()
        yield
        plt.close("all")


def test_pictures_are_drawn_as_they_are_and_hidden_pixels_blue() -> None:
    grey, colors = torch.rand(2, 1, 4, 4), torch.rand(2, 3, 4, 4)
    hidden = torch.zeros(2, 4, 4).bool()
    hidden[1, :2] = True
    rows = {"seen": grey, "painted": colors}
    plots.plot_pictures(rows, "Title", hidden, "seen")
    drawn = [np.asarray(ax.images[0].get_array()) for ax in plt.gcf().axes]
    np.testing.assert_allclose(drawn[0][..., 0], grey[0, 0])
    np.testing.assert_allclose(drawn[3], colors[1].permute(1, 2, 0))
    blue = drawn[1][:2]
    assert (blue[..., 2] > blue[..., 0]).all()
    np.testing.assert_allclose(drawn[1][2:, :, 1], grey[1, 0, 2:])
    assert [ax.get_ylabel() for ax in plt.gcf().axes] == ["seen", "", "painted", ""]


def test_baselines_have_a_panel_a_patch_size_on_one_scale() -> None:
    lines = {"average": [0.06, 0.06], "linear": [0.01, 0.2]}
    plots.plot_baselines((0.1, 0.9), {"small": lines, "large": lines}, "Title")
    left, right = plt.gcf().axes
    for ax in (left, right):
        assert [list(line.get_ydata()) for line in ax.get_lines()] == [*lines.values()]
        assert ax.get_ylim()[0] == 0 and ax.get_ylim()[1] > 0.2
    assert left.get_ylabel() == "mean squared error"


def test_masking_ratios_show_the_mean_of_seeds() -> None:
    runs = [[0.7, 0.8], [0.9, 0.6]]
    plots.plot_masking_ratios(
        (0.25, 0.75), {"linear probe": runs}, {"model": runs, "average": runs}, "Title"
    )
    left, right = plt.gcf().axes
    np.testing.assert_allclose(left.get_lines()[0].get_ydata(), [0.8, 0.7])
    assert len(right.get_lines()) == 2
    assert left.get_xlabel() == "patches hidden in training"


def test_few_labels_have_a_cross_for_the_run_at_hand() -> None:
    plots.plot_few_labels(
        [100, 4000],
        {"from MAE": [[0.6, 0.9]], "from scratch": [[0.5, 0.9]]},
        {"from MAE": {100: 0.63}},
        "Title",
    )
    ax = plt.gca()
    (cross,) = (line for line in ax.get_lines() if line.get_marker() == "x")
    assert list(cross.get_ydata()) == [0.63]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["100", "4,000"]


def test_cost_draws_count_and_time() -> None:
    plots.plot_cost((0, 0.5), [1, 0.6], [1, 0.7], "Title")
    drawn = {line.get_label(): list(line.get_ydata()) for line in plt.gca().get_lines()}
    assert drawn == {"multiply-adds": [1, 0.6], "time": [1, 0.7]}
