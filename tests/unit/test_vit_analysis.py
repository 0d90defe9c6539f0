"""Rollout and its test, shuffled and shifted images, the table, the patch viewer, the plots."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from companion.analysis import image_data
from companion.analysis.rollout import (
    attention_rollout,
    occlusion,
    rank_correlation,
)
from companion.data.images import LabelledImages
from companion.figures import PatchViewer, vit_plots

# Rollout


def test_rollout_is_the_product_of_half_mixed_layers() -> None:
    maps = torch.randn(3, 2, 4, 5, 5).double().softmax(dim=-1)
    eye = torch.eye(5).double()
    expected = eye
    for layer in maps:
        expected = (layer.mean(1) / 2 + eye / 2) @ expected
    found = attention_rollout(maps)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 5).double())
    plain = attention_rollout(maps, residual=0.0)
    means = maps.mean(2)
    torch.testing.assert_close(plain, means[2] @ means[1] @ means[0])
    assert torch.equal(attention_rollout(maps, residual=1.0)[0], eye)


def test_rollout_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 3, 3\)"):
        attention_rollout(torch.rand(2, 3, 3))
    with pytest.raises(ValueError, match="residual must be from 0 to 1"):
        attention_rollout(torch.rand(1, 1, 1, 2, 2), residual=2.0)


def test_occlusion_finds_the_patch_that_decides() -> None:
    class LooksAtOnePatch(torch.nn.Module):
        def forward(self, images):
            value = images[:, 0, 2:4, 4:6].sum(dim=(1, 2))  # row 1, column 2 of 2 x 3
            return torch.stack([value, -value], dim=1)

    images = torch.ones(2, 1, 4, 6)
    falls = occlusion(
        LooksAtOnePatch(), images, torch.tensor([0, 1]), patch_size=2, fill=-1.0
    )
    expected = torch.zeros(2, 6)
    expected[:, 5] = torch.tensor([8.0, -8.0])
    torch.testing.assert_close(falls, expected)


def test_rank_correlation_is_spearmans() -> None:
    stats = pytest.importorskip("scipy.stats")
    a = torch.randn(3, 20).round(decimals=1)  # with ties
    b = a + torch.randn(3, 20)
    expected = [stats.spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(rank_correlation(a, b), expected, atol=1e-5)


# The race


@pytest.mark.parametrize("block", [1, 7])
def test_shuffled_images_keep_their_blocks_and_one_order(block: int) -> None:
    images = torch.rand(3, 1, 14, 14)
    images[2] = images[0]
    mixed = image_data.shuffle_pixels(images, block)
    assert torch.equal(mixed[0], mixed[2])
    assert not torch.equal(mixed, images)
    assert torch.equal(mixed.flatten(1).sort().values, images.flatten(1).sort().values)
    if block == 7:
        corners = [images[0, 0, r : r + 7, c : c + 7] for r in (0, 7) for c in (0, 7)]
        assert any(torch.equal(mixed[0, 0, :7, :7], corner) for corner in corners)


def test_shift_moves_and_fills_with_black() -> None:
    images = torch.arange(1.0, 10).reshape(1, 1, 3, 3)
    moved = image_data.shift(images, 1, -1)[0, 0]
    assert moved.tolist() == [[0, 0, 0], [2, 3, 0], [5, 6, 0]]
    assert torch.equal(image_data.shift(images, 0, 0), images)


def test_accuracy_when_shifted_is_the_mean_of_four_ways() -> None:
    class BrightestColumn(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, images):
            return self.scale * images.sum(dim=(1, 2))

    images = torch.zeros(2, 1, 5, 5)
    images[:, 0, 2, 2] = 1.0
    data = LabelledImages(images, torch.tensor([2, 3]), tuple("abcde"))
    # Right when moved up and down for the first, and to the right for the second.
    share = image_data.accuracy_when_shifted(BrightestColumn(), data, 1)
    assert share == pytest.approx(3 / 8)


def test_rivals_are_equally_large() -> None:
    sizes = [
        sum(p.numel() for p in build().parameters())
        for build in image_data.MODELS.values()
    ]
    assert max(sizes) < 1.01 * min(sizes)


def test_table_holds_the_plan() -> None:
    stored = image_data.stored_results()
    wanted: dict[tuple[str, str], dict[int, int]] = {}
    for run in image_data.plan():
        of = wanted.setdefault((run.model, run.change), {})
        of[run.images] = of.get(run.images, 0) + 1
    found = {
        key: {size: len(runs) for size, runs in by_size.items()}
        for key, by_size in stored.items()
    }
    assert found == wanted
    assert all(len(image_data.STEPS[run.model]) == 5 for run in image_data.plan())


def test_a_run_is_repeatable() -> None:
    run = image_data.Run("ViT", "patches shuffled", 100, 1)
    one, two = (image_data.train(run, 2) for _ in range(2))
    assert torch.equal(one.head.weight, two.head.weight)
    assert len(image_data.data_for(run)[0]) == 100


# The viewer


def maps(layers: int = 2, images: int = 1, heads: int = 3, tokens: int = 7):
    return torch.randn(layers, images, heads, tokens, tokens).softmax(dim=-1)


def test_viewer_reads_a_row_and_names_tokens() -> None:
    given = maps()
    viewer = PatchViewer(torch.rand(1, 1, 4, 6), given, (2, 3), head=2, layer=2)
    assert viewer.token == 1 + 3 + 1 + 1  # row 2, column 2
    np.testing.assert_allclose(viewer.row(), given[1, 0, 1, 5], atol=3e-3)
    viewer.head = 0
    np.testing.assert_allclose(viewer.row(), given[1, 0, :, 5].mean(0), atol=3e-3)
    assert viewer.name_of(1) == "[CLS]" and viewer.name_of(7) == "patch 2, 3"
    assert "patch 2, 2 looks most at" in viewer.fallback()
    assert repr(viewer).startswith("<interactive figure: attention of 2 by 3 patches")


def test_viewer_is_the_same_each_time() -> None:
    given, image = maps(), torch.rand(1, 3, 4, 6)
    one, two = (PatchViewer(image, given, (2, 3)) for _ in range(2))
    assert one.to_html() == two.to_html()
    other = PatchViewer(image, given, (2, 3), captions=["</script><b>"])
    assert "</script><b>" not in other.to_html()


def test_viewer_refuses_what_does_not_fit() -> None:
    image = torch.rand(1, 1, 4, 6)
    with pytest.raises(ValueError, match="1 or 3 channels, but they have 2"):
        PatchViewer(torch.rand(1, 2, 4, 6), maps(), (2, 3))
    with pytest.raises(ValueError, match=r"heads, 5, 5\) for 1 images"):
        PatchViewer(image, maps(), (2, 2))
    with pytest.raises(ValueError, match="images must be from 0 to 1"):
        PatchViewer(image * 255, maps(), (2, 3))
    with pytest.raises(ValueError, match="maps must be from 0 to 1"):
        PatchViewer(image, maps() * torch.nan, (2, 3))
    with pytest.raises(ValueError, match="captions must be 1 names, but there are 2"):
        PatchViewer(image, maps(), (2, 3), captions=["a", "b"])
    with pytest.raises(ValueError, match="more than the 800,000"):
        PatchViewer(torch.rand(1, 1, 4, 6), torch.zeros(1, 1, 17_000, 7, 7), (2, 3))
    for name, value in (("layer", 3), ("image", 0), ("head", 4), ("token", 8)):
        viewer = PatchViewer(image, maps(), (2, 3))
        with pytest.raises(ValueError, match=f"{name} must be from"):
            setattr(viewer, name, value)


# The plots


def test_plots_show_what_they_are_given(monkeypatch) -> None:
    monkeypatch.setattr(plt, "show", lambda: None)
    curves = {"ViT": {10: [0.1, 0.3], 100: [0.5, 0.7]}, "CNN": {10: [0.4], 100: [0.9]}}
    vit_plots.plot_data(curves, {"ViT": (10, 0.25)}, "title")
    lines = {line.get_label(): line.get_ydata() for line in plt.gca().get_lines()}
    np.testing.assert_allclose(lines["ViT"], [0.2, 0.6])
    np.testing.assert_allclose(lines["CNN"], [0.4, 0.9])
    vit_plots.plot_position_similarity(torch.eye(6), (2, 3), "title")
    panels = [ax for ax in plt.gcf().axes if ax.images and ax.get_xlabel() == ""]
    np.testing.assert_allclose(panels[4].images[0].get_array()[1, 1], 1.0)
    vit_plots.plot_patches(torch.rand(1, 4, 4), torch.rand(4, 1, 2, 2), 2)
    vit_plots.plot_relevance(
        torch.rand(2, 1, 4, 4),
        {"a": torch.rand(2, 2, 2), "b": torch.randn(2, 2, 2)},
        "t",
    )
    vit_plots.plot_bias(
        {"ViT": {0: 0.9, 1: 0.4}, "CNN": {0: 0.95, 1: 0.9}},
        {"ViT": {"nothing": [0.9, 0.8]}, "CNN": {"nothing": [0.95, 0.96]}},
        "t",
    )
    heights = [bar.get_height() for bar in plt.gcf().axes[1].patches]
    np.testing.assert_allclose(heights, [0.85, 0.955])
    plt.close("all")
