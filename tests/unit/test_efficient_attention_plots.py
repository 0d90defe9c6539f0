"""The plots of the chapter on efficient attention draw what they are given."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from companion import longformer_mask
from companion.figures import efficient_attention_plots as plots
from companion.figures import style


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(plt, "show", lambda: None)
    with matplotlib.rc_context():
        style.use()
        yield
        plt.close("all")


def test_patterns_show_the_share_of_pairs() -> None:
    band = longformer_mask(30, 2)
    plots.plot_patterns({"full": torch.ones(30, 30).bool(), "band": band})
    axes = plt.gcf().axes
    assert axes[0].get_title(loc="left") == "full\n100% of the pairs"
    share = f"{band.float().mean():.0%}"
    assert axes[1].get_title(loc="left") == f"band\n{share} of the pairs"
    np.testing.assert_array_equal(axes[1].images[0].get_array(), band)


def test_costs_have_a_panel_a_quantity_and_a_line_an_attention() -> None:
    series = {name: {256: 1.0, 512: 2.0} for name in ("fused", "window", "linear")}
    plots.plot_costs({"time": series, "memory": series}, "title")
    axes = plt.gcf().axes
    assert [ax.get_ylabel() for ax in axes] == ["time", "memory"]
    assert [line.get_label() for line in axes[0].lines] == list(series)
    np.testing.assert_allclose(axes[1].lines[2].get_ydata(), [1.0, 2.0])


def test_errors_have_a_row_each_and_a_line_at_the_baseline() -> None:
    found = {"mean": torch.full((2, 3), 0.5), "window": torch.full((2, 3), 0.2)}
    plots.plot_errors(found, "mean", "title")
    ax = plt.gca()
    assert [t.get_text() for t in ax.get_yticklabels()] == list(found)
    assert ax.lines[-1].get_xdata()[0] == pytest.approx(0.5)
    assert len(ax.lines[0].get_xdata()) == 6


def test_recall_draws_seeds_and_this_run() -> None:
    stored = {"full": [[1.0, 1.0], [1.0, 0.8]], "window": [[1.0, 0.1], [0.9, 0.1]]}
    plots.plot_recall(
        [16, 32], stored, {"window": [1.0, 0.2]}, window=16, layers=2, chance=0.1
    )
    upper, lower = plt.gcf().axes
    lines = {line.get_label(): line.get_ydata() for line in upper.lines}
    np.testing.assert_allclose(lines["full"], [1.0, 0.9])
    points = [line for line in lower.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(points[0].get_ydata(), [1.0, 0.2])


def test_features_memory_and_reach_draw() -> None:
    names = ("trigonometric", "positive", "positive, orthogonal")
    draws = {name: torch.rand(50) for name in names}
    plots.plot_features([16, 64], {name: [1.0, 0.5] for name in names}, draws, 0.4)
    assert len(plt.gcf().axes[1].lines) == 3
    kinds = ("softmax", "elu+1", "positive features")
    plots.plot_memory([4, 8], {name: [1.0, 0.5] for name in kinds}, d_k=8)
    assert {"softmax", "elu+1", "positive features"} <= {
        line.get_label() for line in plt.gca().lines
    }
    strips = [torch.tensor([0.0, 1.0, 0.0]), torch.ones(3)]
    plots.plot_reach({"window": strips, "global": strips})
    np.testing.assert_array_equal(
        plt.gcf().axes[0].images[0].get_array(), [[0, 1, 0], [1, 1, 1]]
    )
