"""Swin alone: sizes, windows that don't mix, shifts that do, padding, and what from_hf refuses."""

from __future__ import annotations

import pytest
import torch

from companion import Swin, record_attention
from companion.models.swin import PRESETS, PatchMerging, SwinBlock


def tiny(**options) -> Swin:
    torch.manual_seed(0)
    given = {"patch_size": 2, "in_channels": 1, "num_classes": 3, "d_model": 8}
    given |= {"num_heads": (2, 4), "depths": (2, 2), "window": 4}
    return Swin(32, **given | options).eval()


def randomized(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    return model


@pytest.mark.parametrize(
    ("preset", "paper", "exact"),
    [
        ("tiny", 29, 28_288_354),
        ("small", 50, 49_606_258),
        ("base", 88, 87_768_224),
        ("large", 197, 196_532_476),
    ],
)
def test_presets_have_the_size_of_the_paper(preset, paper, exact):
    """Table 1 (a) and (b): 29, 50, 88 and 197 M."""
    with torch.device("meta"):
        model = Swin.preset(preset)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == exact
    assert count / 1e6 == pytest.approx(paper, abs=0.75)
    heads = {stage.blocks[0].self_attention.d_k for stage in model.stages}
    assert heads == {32}  # section 3.3


def test_unknown_preset():
    with pytest.raises(ValueError, match="one of tiny, small, base, large"):
        Swin.preset("huge")
    assert set(PRESETS) == {"tiny", "small", "base", "large"}


def test_the_pyramid_halves_and_doubles():
    model = tiny(depths=(1, 1, 1), num_heads=(1, 2, 4))
    images = torch.randn(2, 1, 32, 32)
    shapes = [tuple(state.shape) for state in model.hidden_states(images)]
    assert shapes == [(2, 256, 8), (2, 64, 16), (2, 16, 32), (2, 16, 32)]
    shapes = [tuple(grid.shape) for grid in model.feature_maps(images)]
    assert shapes == [(2, 8, 16, 16), (2, 16, 8, 8), (2, 32, 4, 4)]
    assert model(images).shape == (2, 3)
    assert model.features(images).shape == (2, 32)
    assert torch.equal(model(images), model.head(model.features(images)))


def test_without_a_head_the_output_is_the_last_state():
    model = tiny(num_classes=None)
    images = torch.randn(2, 1, 32, 32)
    assert torch.equal(model(images), model.hidden_states(images)[-1])
    with pytest.raises(ValueError, match="no head"):
        model.loss(images, torch.tensor([0, 1]))


def reach(model: Swin, size: int, row: int, column: int) -> torch.Tensor:
    """Which patches of a one-stage model move the output at one place."""
    images = torch.randn(1, 1, 2 * size, 2 * size).requires_grad_()
    out = model.feature_maps(images)[0][0, :, row, column]
    (slope,) = torch.autograd.grad(out.square().sum(), images)
    return slope[0, 0].abs().reshape(size, 2, size, 2).amax(dim=(1, 3)) > 0


def test_without_a_shift_windows_never_meet():
    model = randomized(tiny(depths=(6,), num_heads=(2,), shift=False))
    seen = reach(model, 16, 5, 6)
    assert seen[4:8, 4:8].all() and seen.sum() == 16


def test_two_blocks_with_a_shift_reach_over_the_border():
    model = randomized(tiny(depths=(2,), num_heads=(2,)))
    seen = reach(model, 16, 5, 6)  # the shifted window: rows 2 to 5, columns 6 to 9
    assert seen[0:8, 4:12].all() and seen.sum() == 64


def test_opposite_edges_never_meet_in_a_shifted_window():
    model = randomized(tiny(depths=(2,), num_heads=(2,)))
    seen = reach(model, 16, 0, 0)  # in the corner that the roll brings around
    assert seen[:4, :4].all() and seen.sum() == 16
    for block in model.stages[0].blocks:
        assert block.shift in (0, 2)


@pytest.mark.parametrize("blocks", [1, 2, 3, 4])
@pytest.mark.parametrize("place", [(0, 0), (7, 7), (3, 12), (15, 9)])
def test_the_explorer_draws_what_gradients_say(blocks, place):
    from companion.figures import WindowExplorer

    model = randomized(tiny(depths=(blocks,), num_heads=(2,)))
    figure = WindowExplorer(blocks, True, True, *place)
    drawn = torch.from_numpy(figure.reach()) >= 0
    assert torch.equal(reach(model, 16, *place), drawn)


def test_window_order_does_not_matter_but_places_in_it_do():
    """Attention in windows knows no place but the offsets within a window."""
    torch.manual_seed(0)
    block = randomized(SwinBlock(8, 2, 16, 4)).eval()
    x = torch.randn(1, 8, 8, 8)
    rolled = x.roll((4, 4), dims=(1, 2))
    torch.testing.assert_close(block(rolled), block(x).roll((4, 4), dims=(1, 2)))
    by_one = block(x.roll((1, 1), dims=(1, 2))).roll((-1, -1), dims=(1, 2))
    assert (by_one - block(x)).abs().max() > 0.1


@pytest.mark.parametrize(
    "size", [(32, 32), (30, 26), (31, 33), (9, 40), (8, 8), (3, 2)]
)
def test_any_size_of_image(size):
    model = randomized(tiny(absolute_positions=True))
    images = torch.randn(2, 1, *size)
    assert model(images).isfinite().all()
    state = model.hidden_states(images)[0]
    assert state.shape[1] == -(-size[0] // 2) * -(-size[1] // 2)


def test_a_small_image_leaves_no_trace():
    """A window that shrank for one image is back for the next."""
    model = randomized(tiny())
    images = torch.randn(1, 1, 32, 32)
    before = model(images)
    model(images[..., :8, :8])
    assert torch.equal(model(images), before)


def test_padding_within_windows_is_seen():
    """As in the authors' code: what is padded is a key like any other."""
    torch.manual_seed(0)
    block = randomized(SwinBlock(8, 2, 16, 4)).eval()
    x = torch.randn(1, 6, 6, 8)
    with record_attention(block) as maps:
        assert block(x).shape == x.shape
    weights = maps.stack()[0]  # windows, heads, queries, keys
    right = weights[1].unflatten(-1, (4, 4))  # the two columns on its right are padding
    assert (right[..., 2:] > 0).all()


def test_merging_takes_four_neighbors_in_the_authors_order():
    merging = PatchMerging(2)
    with torch.no_grad():
        merging.norm = torch.nn.Identity()
        merging.reduction.weight.copy_(torch.eye(8)[:4])
    x = torch.arange(32.0).reshape(1, 4, 4, 2)
    merged = merging(x)
    assert merged.shape == (1, 2, 2, 4)
    assert merged[0, 0, 0].tolist() == [0, 1, 8, 9]  # (0, 0), then (1, 0)
    with torch.no_grad():
        merging.reduction.weight.copy_(torch.eye(8)[4:])
    assert merging(x)[0, 0, 0].tolist() == [2, 3, 10, 11]  # (0, 1), then (1, 1)


def test_merging_pads_an_odd_side():
    torch.manual_seed(0)
    merging = PatchMerging(4)
    x = torch.randn(2, 3, 5, 4)
    padded = torch.nn.functional.pad(x, (0, 0, 0, 1, 0, 1))
    assert merging(x).shape == (2, 2, 3, 8)
    assert torch.equal(merging(x), merging(padded))


def test_batch_does_not_matter():
    model = randomized(tiny())
    images = torch.randn(3, 1, 32, 32)
    torch.testing.assert_close(model(images)[1:2], model(images[1:2]))


def test_maps_are_recorded_by_window():
    model = tiny()
    with record_attention(model) as maps:
        model(torch.randn(2, 1, 32, 32))
    shapes = [tuple(found[0].shape) for found in maps.values()]
    assert shapes == [(32, 2, 16, 16)] * 2 + [(8, 4, 16, 16)] * 2


def test_loss_ignores_a_label():
    model = randomized(tiny())
    images = torch.randn(3, 1, 32, 32)
    two = model.loss(images[:2], torch.tensor([0, 2]))
    three = model.loss(images, torch.tensor([0, 2, -100]))
    torch.testing.assert_close(two, three)


def test_stochastic_depth_rises_to_the_last_block():
    model = tiny(drop_path=0.3, depths=(2, 2))
    rates = [b.drop_path.probability for s in model.stages for b in s.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"depths": (2,)}, "one number of at least 1 for each stage"),
        ({"depths": (2, 0)}, "one number of at least 1"),
        ({"num_heads": (3, 4)}, "num_heads must divide d_model"),
        ({"window": 0}, "window must be from 1"),
        ({"drop_path": 1.0}, "probability must be"),
        ({"activation": "tan"}, "tan"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, says):
    with pytest.raises(ValueError) as raised:
        tiny(**options)
    assert says in str(raised.value)


def test_images_that_do_not_fit_are_refused():
    model = tiny()
    with pytest.raises(ValueError, match="in_channels = 1"):
        model(torch.randn(1, 3, 32, 32))
    with pytest.raises(ValueError, match=r"\(batch, channels, height, width\)"):
        model(torch.randn(1, 32, 32))
    with pytest.raises(TypeError, match="floating-point"):
        model(torch.zeros(1, 1, 32, 32, dtype=torch.uint8))


def test_what_from_hf_refuses():
    transformers = pytest.importorskip("transformers")
    sizes = {
        "image_size": 16,
        "patch_size": 2,
        "embed_dim": 8,
        "depths": [1, 1],
        "num_heads": [2, 2],
        "window_size": 4,
    }
    vit = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    with pytest.raises(ValueError, match="model_type is 'vit', but it may be 'swin'"):
        Swin.from_hf(transformers.ViTModel(vit))
    config = transformers.SwinConfig(**sizes)
    config.hidden_act = "tanh"
    with pytest.raises(ValueError, match="hidden_act is 'tanh'"):
        Swin.from_hf(transformers.SwinModel(config))
    masked = transformers.SwinForMaskedImageModeling(transformers.SwinConfig(**sizes))
    with pytest.raises(ValueError, match=r"left over(.|\n)*mask_token"):
        Swin.from_hf(masked)
    oblong = transformers.SwinConfig(**sizes | {"patch_size": [2, 4]})
    with pytest.raises(ValueError, match="square patches"):
        Swin.from_hf(transformers.SwinModel(oblong))


def test_from_hf_names_what_is_missing(tmp_path):
    transformers = pytest.importorskip("transformers")
    from safetensors.torch import load_file, save_file

    config = transformers.SwinConfig(
        image_size=16,
        patch_size=2,
        embed_dim=8,
        depths=[1, 1],
        num_heads=[2, 2],
        window_size=4,
    )
    transformers.SwinModel(config).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    lost = "encoder.layers.1.blocks.0.attention.self.relative_position_bias_table"
    del weights[lost]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(
        ValueError, match=r"missing:\n +stages\.1\.blocks\.0\.bias\.table"
    ):
        Swin.from_hf(tmp_path)
