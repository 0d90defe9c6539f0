"""MAE: masks, what each half sees, targets, reconstructions, errors; the recipe; the baselines."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from companion import MAE, Masking, patchify, sinusoidal_grid, sinusoidal_table
from companion.analysis import mae as analysis
from companion.analysis.inpainting import interpolate_hidden, most_similar
from companion.training.mae import mae_loss, train_mae


def small(**options) -> MAE:
    torch.manual_seed(0)
    sizes = {
        "image_size": 8,
        "patch_size": 2,
        "in_channels": 1,
        "d_model": 16,
        "num_heads": 2,
        "d_ff": 24,
        "num_layers": 2,
        "decoder_d_model": 12,
        "decoder_num_heads": 2,
        "decoder_d_ff": 20,
        "decoder_num_layers": 1,
    }
    return MAE(**{**sizes, **options}).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def patches_changed(images: Tensor, where: Tensor) -> Tensor:
    """The images with other pixels in some patches."""
    pixels = analysis.hidden_pixels(
        Masking(where, where[:, :0].long(), where.long()), (4, 4), 2
    )
    return torch.where(pixels[:, None], images + 1.0, images)


# Masks


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 0.75, 0.9, 0.99])
def test_so_many_are_hidden_in_each_image(ratio: float) -> None:
    masking = Masking.from_noise(torch.rand(5, 16), ratio)
    visible = int(16 * (1 - ratio))
    assert masking.keep.shape == (5, visible)
    assert (masking.hidden.sum(dim=1) == 16 - visible).all()
    assert not masking.hidden.gather(1, masking.keep).any()


def test_the_smallest_noise_stays_and_restore_undoes_the_shuffle() -> None:
    noise = torch.tensor([[0.6, 0.2, 0.8, 0.4]])
    masking = Masking.from_noise(noise, 0.5)
    assert masking.keep.tolist() == [[1, 3]]
    assert masking.hidden.tolist() == [[True, False, True, False]]
    assert masking.restore.tolist() == [[2, 0, 3, 1]]


def test_a_mask_of_ones_own() -> None:
    hidden = torch.tensor([[True, False, True, True], [False, True, True, True]])
    masking = Masking.from_hidden(hidden)
    assert torch.equal(masking.hidden, hidden)
    assert masking.keep.tolist() == [[1], [0]]


def test_every_patch_is_hidden_as_often() -> None:
    torch.manual_seed(0)
    hidden = small().draw_masking(torch.zeros(4000, 1, 8, 8)).hidden.float()
    assert (hidden.mean(dim=0) - 0.75).abs().max() < 4 * math.sqrt(0.75 * 0.25 / 4000)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Masking.from_noise(torch.rand(4), 0.5), ValueError, r"\(4,\)"),
        (lambda: Masking.from_noise(torch.rand(1, 4), 1.0), ValueError, "mask_ratio"),
        (lambda: Masking.from_hidden(torch.ones(1, 4)), TypeError, "hidden"),
        (lambda: Masking.from_hidden(torch.eye(2).bool()[:1]), None, ""),
        (
            lambda: Masking.from_hidden(torch.tensor([[True, True], [True, False]])),
            ValueError,
            "from 1 to 2",
        ),
        (lambda: small(mask_ratio=-0.1), ValueError, "mask_ratio"),
        (lambda: small(d_model=18), ValueError, "multiple of 4"),
        (lambda: small(patch_size=3), ValueError, "patch_size"),
        (lambda: MAE.preset("B/32"), ValueError, "B/16"),
    ],
)
def test_what_does_not_fit_is_an_error_that_says_so(make, error, says: str) -> None:
    if error is None:
        make()
        return
    with pytest.raises(error, match=says):
        make()


def test_a_masking_of_other_images_is_an_error(images: Tensor) -> None:
    with pytest.raises(ValueError, match="3 images of 16 patches"):
        small()(images, Masking.from_noise(torch.rand(3, 9), 0.5))


def test_without_anything_hidden_there_is_no_loss(images: Tensor) -> None:
    with pytest.raises(ValueError, match="hides no patch"):
        small(mask_ratio=0.0).loss(images)


def test_without_a_decoder_there_are_no_pixels(images: Tensor) -> None:
    model = small(with_decoder=False)
    assert model(images).shape == (3, 1 + 4, 16)
    for method in (model.loss, model.reconstruct):
        with pytest.raises(ValueError, match="no decoder"):
            method(images)


# What is seen and what is not


@torch.no_grad()
@pytest.mark.parametrize("normalize", [False, True])
def test_nothing_leaks_from_hidden_patches(images: Tensor, normalize: bool) -> None:
    model = small(normalize_target=normalize)
    masking = model.draw_masking(images)
    other = patches_changed(images, masking.hidden)
    assert torch.equal(model(images, masking), model(other, masking))
    seen = patches_changed(images, ~masking.hidden)
    assert not torch.allclose(model(images, masking), model(seen, masking), atol=1e-3)


@torch.no_grad()
def test_the_order_of_the_shuffle_does_not_matter(images: Tensor) -> None:
    """Attention sees a set: only what is hidden counts, not how it was shuffled."""
    model = small()
    hidden = model.draw_masking(images).hidden
    orders = (hidden + torch.rand(2, *hidden.shape)).argsort(dim=-1)
    one, two = (
        model(images, Masking(hidden, order[:, :4], order.argsort(dim=-1)))
        for order in orders
    )
    assert not torch.equal(*orders)
    torch.testing.assert_close(one, two, atol=1e-5, rtol=0)


@torch.no_grad()
def test_with_nothing_hidden_the_encoder_is_a_vit(images: Tensor) -> None:
    model = small()
    masking = Masking.from_noise(torch.arange(16.0).expand(3, -1), 0.0)
    whole = model.encoder(images)
    torch.testing.assert_close(model.encode(images, masking), whole)


def test_positions_are_fixed(images: Tensor) -> None:
    model = small().train()
    before = model.encoder.positions.table.clone()
    model.loss(images).backward()
    learned = dict(model.named_parameters())
    assert all((p.grad is None) == ("positions" in name) for name, p in learned.items())
    assert torch.equal(before, sinusoidal_grid((4, 4), 16, num_prefix=1))
    assert not before[0].any()


def test_the_grid_of_positions_by_hand() -> None:
    table = sinusoidal_grid((2, 3), 8).unflatten(0, (2, 3))
    line = sinusoidal_table(3, 4, "halves")
    for row in range(2):
        for column in range(3):
            expected = torch.cat([line[column], line[row]])  # the column comes first
            assert torch.equal(table[row, column], expected)


# Loss and reconstructions


@torch.no_grad()
@pytest.mark.parametrize("normalize", [False, True])
def test_the_loss_by_hand(images: Tensor, normalize: bool) -> None:
    model = small(normalize_target=normalize)
    masking = model.draw_masking(images)
    patches, predicted = patchify(images, 2), model(images, masking)
    total = count = 0.0
    for image in range(3):
        for patch in range(16):
            if not masking.hidden[image, patch]:
                continue
            target = patches[image, patch]
            if normalize:
                target = (target - target.mean()) / (target.var() + 1e-6).sqrt()
            total += (predicted[image, patch] - target).square().sum().item()
            count += 4
    assert model.loss(images, masking).item() == pytest.approx(total / count, rel=1e-5)


@torch.no_grad()
def test_a_reconstruction_keeps_what_is_visible(images: Tensor) -> None:
    for normalize in (False, True):
        model = small(normalize_target=normalize)
        masking = model.draw_masking(images)
        painted = model.reconstruct(images, masking)
        hidden = analysis.hidden_pixels(masking, (4, 4), 2)[:, None]
        assert torch.equal(painted.where(~hidden, 0), images.where(~hidden, 0))
        assert not torch.isclose(painted, images)[hidden].any()


def test_a_perfect_answer_has_no_loss(images: Tensor) -> None:
    model = small()
    model.forward = lambda x, masking=None: model.target(x)
    assert model.loss(images).item() == 0.0
    assert torch.equal(model.reconstruct(images), images)


# Training


def test_the_recipe_learns() -> None:
    torch.manual_seed(0)
    images = torch.rand(64, 1, 1, 1).expand(-1, 1, 8, 8) * 2 - 1  # of one shade each
    model = small()
    history = train_mae(model, images, 60, batch_size=32, progress=False)
    assert history[0]["tokens"] == 32 * 12
    assert not model.training
    first, last = (sum(r["loss"] for r in h) / 5 for h in (history[:5], history[-5:]))
    assert last < 0.2 * first
    assert last < 0.5 * images.var()  # better than the average picture


def test_the_recipes_loss_is_the_models() -> None:
    model, images = small(), torch.rand(3, 1, 8, 8)
    torch.manual_seed(3)
    total, count = mae_loss(model, images)
    torch.manual_seed(3)
    assert count == 36
    torch.testing.assert_close(total / count, model.loss(images))


def test_a_classifier_is_a_copy_of_the_encoder(images: Tensor) -> None:
    model = small()
    classifier = model.classifier(5)
    assert classifier(images).shape == (3, 5)
    states = model.encoder(images)
    torch.testing.assert_close(classifier.features(images), states[:, 1:].mean(dim=1))
    with torch.no_grad():
        classifier.patches.projection.weight.zero_()
    assert model.encoder.patches.projection.weight.any()
    assert model.encoder.head is None


# Baselines


def test_interpolation_of_a_slope_is_exact() -> None:
    slope = torch.arange(8.0).expand(1, 2, 8, 8).clone()
    slope[:, 1] = slope[:, 1].mT * 3
    hidden = torch.zeros(1, 8, 8).bool()
    hidden[:, 2:6, 3:5] = True
    broken = slope.where(~hidden[:, None], torch.tensor(99.0))
    for method in ("linear", "cubic"):
        torch.testing.assert_close(interpolate_hidden(broken, hidden, method), slope)
    nearest = interpolate_hidden(broken, hidden, "nearest")
    assert nearest[0, 0, 3].tolist() == [0, 1, 2, 2, 5, 5, 6, 7]


def test_a_corner_without_neighbors_takes_the_nearest() -> None:
    hidden = torch.zeros(1, 4, 4).bool()
    hidden[:, :2, :2] = True
    filled = interpolate_hidden(torch.ones(1, 1, 4, 4), hidden, "linear")
    assert torch.equal(filled, torch.ones(1, 1, 4, 4))


def test_the_most_similar_image_by_its_visible_half() -> None:
    known = torch.rand(20, 1, 6, 6)
    hidden = torch.zeros(3, 6, 6).bool()
    hidden[:, 3:] = True
    asked = known[[4, 9, 2]].clone()
    asked[:, :, 3:] = 99.0
    torch.testing.assert_close(
        most_similar(asked, hidden, known, k=1), known[[4, 9, 2]]
    )
    two = most_similar(asked, hidden, known, k=20)
    torch.testing.assert_close(
        two[:, :, 3:], known.mean(dim=0)[None, :, 3:].expand(3, -1, -1, -1)
    )


def test_baselines_refuse_what_they_cannot_do() -> None:
    x, all_hidden = torch.rand(1, 1, 4, 4), torch.ones(1, 4, 4).bool()
    with pytest.raises(ValueError, match="method"):
        interpolate_hidden(x, ~all_hidden, "quintic")
    with pytest.raises(ValueError, match="visible"):
        interpolate_hidden(x, all_hidden)
    with pytest.raises(ValueError, match="k must be from 1 to the 1"):
        most_similar(x, all_hidden, x, k=2)


# The study


def test_the_stored_results_are_whole() -> None:
    stored = analysis.stored_results()
    for ratio in analysis.RATIOS:
        found = stored["ratio", str(ratio)]
        assert found.keys() == {"knn", "probe", "error", "average", "similar"}
        assert all(len(values) == 3 for values in found.values())
    for setting in ("pixels", "untrained", "MAE", "supervised"):
        assert stored["features", setting].keys() == {"knn", "probe"}
    for labels in analysis.LABELS:
        for start in ("from MAE", "from scratch", "frozen MAE", "pixels"):
            assert len(stored[f"labels {labels}", start]["accuracy"]) == 3


def test_the_command_takes_a_folder_and_names_a_bad_file(
    tmp_path, capsys, monkeypatch
) -> None:
    from PIL import Image

    monkeypatch.setattr(analysis, "LABELS", {10: 2, 48: 2})

    draw = torch.Generator().manual_seed(0)
    for name in ("dark", "light"):
        (tmp_path / name).mkdir()
        for n in range(30):
            grey = torch.rand(8, 8, generator=draw) * 100 + (name == "light") * 100
            picture = Image.fromarray(grey.byte().numpy())
            picture.save(tmp_path / name / f"{n}.png")
    options = ["--data", str(tmp_path), "--size", "8", "--steps", "2", "--seeds", "0"]
    assert analysis.main(options) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "study,setting,seed,measure,value"
    assert any(line.startswith("features,MAE,0,knn,") for line in table)
    (tmp_path / "dark" / "broken.png").write_bytes(b"no picture")
    assert analysis.main(options) == 2
    assert "broken.png" in capsys.readouterr().err
