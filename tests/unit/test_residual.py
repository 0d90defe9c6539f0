"""Layer scale and stochastic depth."""

from __future__ import annotations

import pytest
import torch

from companion import DropPath, EncoderLayer, LayerScale, ViT


def test_layer_scale_multiplies_each_feature() -> None:
    scale = LayerScale(3, 0.5)
    with torch.no_grad():
        scale.gamma.copy_(torch.tensor([1.0, 0.0, -2.0]))
    x = torch.randn(2, 4, 3)
    assert torch.equal(scale(x), x * torch.tensor([1.0, 0.0, -2.0]))
    assert LayerScale(3).gamma.tolist() == pytest.approx([1e-5] * 3)


def test_a_layer_of_scale_zero_is_the_identity() -> None:
    layer = EncoderLayer(8, 2, 16, 0.0, norm_first=True, layer_scale=0.0)
    x = torch.randn(2, 5, 8)
    assert torch.equal(layer(x), x)


def test_drop_path_drops_whole_examples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    drop = DropPath(0.25).train()
    x = torch.ones(4000, 2, 3)
    y = drop(x)
    kept = y[:, 0, 0] != 0
    assert torch.equal(y, torch.where(kept[:, None, None], x / 0.75, 0.0))
    # Four deviations of a share of 4,000.
    assert abs(kept.float().mean() - 0.75) < 4 * (0.75 * 0.25 / 4000) ** 0.5
    assert torch.equal(drop.eval()(x), x)
    assert torch.equal(DropPath().train()(x), x)


def test_a_dropped_sub_layer_leaves_its_residual() -> None:
    torch.manual_seed(0)
    layer = EncoderLayer(8, 2, 16, 0.0, norm_first=True, drop_path=0.5).train()
    x = torch.randn(64, 5, 8)
    same = (layer(x) == x).flatten(1).all(dim=1).float().mean()
    assert 0.08 < same < 0.45  # both of two sub-layers are dropped in a quarter


def test_depth_is_dropped_more_and_more() -> None:
    model = ViT(8, 4, 1, 2, 8, 2, 16, 5, drop_path=0.4)
    rates = [layer.drop_path.probability for layer in model.layers]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize("probability", [-0.1, 1.0, float("nan")])
def test_a_probability_out_of_range_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="probability must be at least 0 and below 1"):
        DropPath(probability)
