"""ViT and DeiT: sizes, pooling, errors, and weights that don't fit."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from companion import DeiT, ViT, record_attention
from companion.models.convnet import ConvNet
from companion.models.deit import distillation_loss

transformers = pytest.importorskip("transformers")
SIZES = {"d_model": 16, "num_heads": 4, "d_ff": 32, "num_layers": 2}


def tiny(**options: object) -> ViT:
    torch.manual_seed(0)
    return ViT(8, 4, 3, 5, **SIZES, **options).eval()


@pytest.mark.parametrize(
    ("name", "millions"),
    [("Ti/16", 5.7), ("S/16", 22.1), ("B/16", 86.6), ("L/16", 304.3), ("H/14", 632.0)],
)
def test_presets_have_the_papers_sizes(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = ViT.preset(name)
    count = sum(p.numel() for p in model.parameters())
    assert round(count / 1e6, 1) == millions


def test_options_replace_those_of_a_preset() -> None:
    with torch.device("meta"):
        model = ViT.preset("Ti/16", image_size=32, num_classes=None, num_layers=1)
        assert isinstance(DeiT.preset("Ti/16", num_layers=1), DeiT)
    assert (model.image_size, model.head, len(model.layers)) == ((32, 32), None, 1)


def test_mean_pooling_ignores_the_prefix() -> None:
    model = tiny(pooling="mean")
    states = torch.randn(2, 5, 16)
    torch.testing.assert_close(model.pool(states), states[:, 1:].mean(1))
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(model.head(model.features(images)), model(images))
    assert torch.equal(tiny().pool(states), states[:, 0])


def test_without_positions_the_order_of_patches_is_nothing() -> None:
    model = tiny().double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    images = torch.randn(2, 3, 8, 8).double()
    turned = images.roll(4, dims=3)  # exchanges the columns of patches
    assert (model(images) - model(turned)).abs().max() > 1e-2
    with torch.no_grad():
        model.positions.table.zero_()
    torch.testing.assert_close(model(images), model(turned))


def test_another_resolution_and_a_batch_of_one() -> None:
    model = tiny()
    images = torch.randn(2, 3, 16, 12)
    with record_attention(model) as maps:
        logits = model(images)
    assert maps.stack().shape == (2, 2, 4, 13, 13)
    torch.testing.assert_close(model(images[:1]), logits[:1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 10}, "patch_size must divide image_size, but it is 4"),
        ({"image_size": (8, 6)}, "patch_size must divide image_size"),
        ({"pooling": "last"}, "pooling must be 'first' or 'mean', but it is 'last'"),
        ({"num_heads": 3}, "num_heads must divide d_model"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ViT(**{"image_size": 8, "patch_size": 4, **SIZES, **options})


def test_bad_calls() -> None:
    with pytest.raises(ValueError, match="name must be one of Ti/16"):
        ViT.preset("G/14")
    with pytest.raises(ValueError, match="patch_size must divide the height"):
        tiny()(torch.randn(1, 3, 8, 9))
    with pytest.raises(ValueError, match="has no head"):
        ViT(8, 4, 3, None, **SIZES).loss(torch.randn(1, 3, 8, 8), torch.tensor([0]))


def config(**options: object) -> transformers.ViTConfig:
    sizes = {
        "image_size": 8,
        "patch_size": 4,
        "hidden_size": 16,
        "num_attention_heads": 4,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
    }
    return transformers.ViTConfig(**{**sizes, **options})


def test_from_hf_refuses_what_it_does_not_implement() -> None:
    with pytest.raises(ValueError, match="hidden_act is 'tanh'"):
        ViT.from_hf(transformers.ViTModel(config(hidden_act="tanh")))
    with pytest.raises(ValueError, match="model_type is 'deit', but it may be 'vit'"):
        ViT.from_hf(
            transformers.DeiTModel(transformers.DeiTConfig(num_hidden_layers=1))
        )
    with pytest.raises(ValueError, match="model_type is 'vit', but it may be 'deit'"):
        DeiT.from_hf(transformers.ViTModel(config()))
    with pytest.raises(ValueError, match="problem_type is 'regression'"):
        ViT.from_hf(
            transformers.ViTForImageClassification(config(problem_type="regression"))
        )
    theirs = transformers.ViTModel(config(image_size=[8, 12], patch_size=[4, 6]))
    with pytest.raises(ValueError, match="patch_size must have equal sides"):
        ViT.from_hf(theirs)


def test_from_hf_names_what_is_left_over_or_missing() -> None:
    theirs = transformers.ViTModel(config())
    theirs.extra = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"left over(.|\n)*extra.bias(.|\n)*extra.wei"):
        ViT.from_hf(theirs)
    theirs = transformers.ViTModel(config())
    del theirs.embeddings.cls_token
    with pytest.raises(ValueError, match=r"missing:\n    prefix"):
        ViT.from_hf(theirs)
    theirs = transformers.ViTForMaskedImageModeling(config(encoder_stride=4))
    with pytest.raises(ValueError, match="decoder.0.weight"):
        ViT.from_hf(theirs)


# DeiT


def test_deit_has_two_tokens_and_the_mean_of_two_heads() -> None:
    torch.manual_seed(0)
    model = DeiT(8, 4, 3, 5, **SIZES)
    images = torch.randn(2, 3, 8, 8)
    assert model.hidden_states(images)[0].shape == (2, 2 + 4, 16)
    of_class, of_teacher = model.both_logits(images)
    assert not torch.equal(of_class, of_teacher)
    torch.testing.assert_close(model(images), (of_class + of_teacher) / 2)
    alone = DeiT(8, 4, 3, 5, distilled=False, **SIZES)
    torch.testing.assert_close(
        alone(images), alone.head(alone.hidden_states(images)[-1][:, 0])
    )
    with pytest.raises(ValueError, match="no second head"):
        alone.both_logits(images)


def test_soft_distillation_is_equation_2() -> None:
    own, taught, teacher = (torch.randn(4, 3).double() for _ in range(3))
    labels = torch.tensor([0, 2, 1, 1])
    t = 3.0
    p, q = (teacher / t).softmax(1), (taught / t).softmax(1)
    kl = (p * (p / q).log()).sum(1).mean()
    expected = 0.9 * F.cross_entropy(own, labels) + 0.1 * t**2 * kl
    loss = distillation_loss(own, taught, labels, teacher, temperature=t, weight=0.1)
    torch.testing.assert_close(loss, expected)


def test_hard_distillation_is_equation_3() -> None:
    own, taught, teacher = (torch.randn(4, 3) for _ in range(3))
    labels = torch.tensor([0, 2, 1, 1])
    expected = F.cross_entropy(own, labels) + F.cross_entropy(taught, teacher.argmax(1))
    loss = distillation_loss(own, taught, labels, teacher)
    torch.testing.assert_close(loss, expected / 2)


def test_no_gradient_reaches_the_teacher() -> None:
    teacher = torch.randn(2, 3, requires_grad=True)
    own = torch.randn(2, 3, requires_grad=True)
    labels = torch.tensor([0, 1])
    distillation_loss(own, own, labels, teacher, temperature=2.0).backward()
    assert teacher.grad is None
    assert own.grad is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": 1.5}, "weight must be from 0 to 1, but it is 1.5"),
        ({"temperature": 0.0}, "temperature must be above 0 or None, but it is 0.0"),
    ],
)
def test_distillation_out_of_range(options: dict[str, float], message: str) -> None:
    logits = torch.randn(2, 3)
    with pytest.raises(ValueError, match=message):
        distillation_loss(logits, logits, torch.tensor([0, 1]), logits, **options)


# The convolutional rival


def test_convnet_halves_the_resolution_and_counts() -> None:
    model = ConvNet(1, 10, (4, 6)).eval()
    images = torch.randn(2, 1, 8, 8)
    assert model.features(images).shape == (2, 6)
    x = model.stages[1](F.max_pool2d(model.stages[0](images), 2))
    assert x.shape == (2, 6, 4, 4)
    torch.testing.assert_close(model(images), model.head(x.mean((2, 3))))
    labels = torch.tensor([1, -100])
    torch.testing.assert_close(
        model.loss(images, labels), F.cross_entropy(model(images[:1]), labels[:1])
    )
    with pytest.raises(ValueError, match="at least one stage"):
        ConvNet(1, 10, ())
