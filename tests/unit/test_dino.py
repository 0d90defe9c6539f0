"""DINO's head, loss, center and teacher, its views and its trainer; DINOv2's options."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from companion import DINO, DINOHead, DINOv2, ViT, seed_everything
from companion.analysis.nearest import (
    knn_accuracy,
    knn_votes,
    linear_probe_accuracy,
)
from companion.models.dino import dino_loss, entropy, teacher_probabilities
from companion.models.dinov2 import PRESETS
from companion.training.checkpoints import Checkpoints
from companion.training.dino import (
    ViewBatches,
    digit_crops,
    dino_trainer,
    momentum_at,
    photo_crops,
)


def small(**options: float) -> DINO:
    torch.manual_seed(0)
    vit = ViT(8, 4, 1, None, 16, 4, 32, 2)
    return DINO(vit, 12, d_hidden=16, d_bottleneck=8, **options)


def views(count: int = 3, size: int = 8) -> list[Tensor]:
    return [torch.randn(4, 1, size, size) for _ in range(count)]


# The head


def test_scores_are_cosines():
    head = DINOHead(16, 12, 16, 8)
    scores = head(torch.randn(50, 16) * 100)
    assert scores.abs().max() <= 1 + 1e-5
    with torch.no_grad():
        head.directions.weight.mul_(7.0)  # how long a direction is does not matter
        scaled = head.mlp[0].weight.shape
    assert scaled == (16, 16)
    again = head(torch.zeros(1, 16))
    assert again.isfinite().all()


def test_length_of_directions_does_not_matter():
    head = DINOHead(16, 12, 16, 8)
    x = torch.randn(5, 16)
    before = head(x)
    with torch.no_grad():
        head.directions.weight.mul_(torch.rand(12, 1) + 0.5)
    torch.testing.assert_close(head(x), before)


def test_head_refuses_no_layers():
    with pytest.raises(ValueError, match="num_layers must be at least 1, but it is 0"):
        DINOHead(16, num_layers=0)


# The loss


def test_loss_by_hand():
    """Two views, three outputs: the example of the chapter."""
    teacher = [torch.tensor([[0.2, 0.1, 0.0]]), torch.tensor([[0.1, 0.2, 0.0]])]
    student = [torch.tensor([[0.3, 0.1, 0.0]]), torch.tensor([[0.0, 0.2, 0.1]])]
    expected = 0.0
    for t, s in ((0, 1), (1, 0)):
        P = [math.exp(g / 0.05) for g in teacher[t][0].tolist()]
        Q = [math.exp(g / 0.1) for g in student[s][0].tolist()]
        expected -= sum(
            p / sum(P) * math.log(q / sum(Q)) for p, q in zip(P, Q, strict=True)
        )
    loss = dino_loss(student, teacher, 0.0, 0.1, 0.05)
    assert math.isclose(loss.item(), expected / 2, rel_tol=1e-5)


def test_loss_is_entropy_and_kl():
    student, teacher = torch.randn(3, 5, 7), torch.randn(2, 5, 7)
    center = torch.randn(7)
    loss = dino_loss(list(student), list(teacher), center, 0.5, 0.3)
    P = teacher_probabilities(teacher, center, 0.3)
    log_Q = (student / 0.5).log_softmax(-1)
    kl = [
        (P[t] * (P[t].log() - log_Q[s])).sum(-1).mean()
        for t in range(2)
        for s in range(3)
        if s != t
    ]
    torch.testing.assert_close(loss, entropy(P).mean() + torch.stack(kl).mean())


def test_entropy_at_its_ends():
    assert entropy(torch.tensor([1.0, 0.0, 0.0])).item() == 0.0
    uniform = entropy(torch.full((8,), 1 / 8)).item()
    assert math.isclose(uniform, math.log(8), rel_tol=1e-6)


def test_center_shifts_do_not_matter_but_its_shape_does():
    scores, center = torch.randn(2, 5), torch.randn(5)
    torch.testing.assert_close(
        teacher_probabilities(scores, center + 3.0, 0.1),
        teacher_probabilities(scores, center, 0.1),
    )
    assert not torch.allclose(
        teacher_probabilities(scores, 0.0, 0.1),
        teacher_probabilities(scores, center, 0.1),
    )


@pytest.mark.parametrize(
    ("student", "teacher"), [(1, 1), (2, 0), (0, 0)], ids=["one", "no teacher", "none"]
)
def test_loss_without_pairs_is_refused(student: int, teacher: int):
    with pytest.raises(ValueError, match="must hold two views at least"):
        dino_loss([torch.ones(2, 3)] * student, [torch.ones(2, 3)] * teacher)


def test_temperatures_are_above_zero():
    scores = [torch.ones(2, 3)] * 2
    with pytest.raises(ValueError, match="student_temperature must be above 0"):
        dino_loss(scores, scores, student_temperature=0.0)
    with pytest.raises(ValueError, match="teacher_temperature must be above 0"):
        dino_loss(scores, scores, teacher_temperature=-0.1)


# The pair


def test_only_the_student_has_gradients():
    model = small()
    model.loss(views()).backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    assert all(p.grad is None for p in model.teacher_head.parameters())
    unused = {n for n, p in model.student.named_parameters() if p.grad is None}
    assert unused == set()


def test_teacher_starts_as_the_student_and_follows():
    model = small()
    x = views(1)[0]
    torch.testing.assert_close(model.features(x), model.student.features(x))
    with torch.no_grad():
        for p in model.student.parameters():
            p.add_(1.0)
    before = model.teacher.prefix.clone()
    model.update_teacher(0.75)
    torch.testing.assert_close(model.teacher.prefix, before + 0.25)
    model.update_teacher(0.0)
    torch.testing.assert_close(model.features(x), model.student.features(x))
    with pytest.raises(ValueError, match="momentum must be from 0 to 1, but it is 1.5"):
        model.update_teacher(1.5)


def test_center_moves_in_training_only():
    model, batch = small(center_momentum=0.5), views(2)
    model.eval()
    model.loss(batch)
    assert not model.center.any()
    _, teacher = model.scores(batch)
    model.train()
    model.loss(batch)
    torch.testing.assert_close(model.center, 0.5 * torch.cat(list(teacher)).mean(0))
    off = small(center_momentum=1.0)
    off.loss(batch)
    assert not off.center.any()  # a momentum of 1 is no centering


def test_views_of_different_sizes_in_any_order():
    model = small().eval()
    large, little = views(2), views(2, size=4)
    student, teacher = model.scores([*large, *little])
    assert len(student) == 4 and len(teacher) == 2
    torch.testing.assert_close(student[2], model(little[0]))
    torch.testing.assert_close(student[1], model(large[1]))
    mixed, _ = model.scores([large[0], little[0], large[1]], num_global=1)
    torch.testing.assert_close(mixed[2], model(large[1]))


def test_entropy_of_the_last_loss_is_kept():
    model, batch = small().eval(), views(3)
    assert model.teacher_entropy.isnan()
    loss = model.loss(batch, 0.07)
    _, teacher = model.scores(batch)
    P = teacher_probabilities(torch.cat(list(teacher)), model.center, 0.07)
    torch.testing.assert_close(model.teacher_entropy, entropy(P).mean())
    assert loss > model.teacher_entropy  # the rest is a KL divergence


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="center_momentum must be from 0 to 1"):
        small(center_momentum=-0.1)
    with pytest.raises(ValueError, match="student_temperature must be above 0"):
        small(student_temperature=0.0)
    with pytest.raises(ValueError, match="at least two, of which the first num_global"):
        small().scores(views(2), num_global=3)


# Views and batches


def test_digit_views_have_their_sizes_and_are_drawn_anew():
    crops = digit_crops(12, 8, 3)
    images = torch.rand(5, 1, 12, 12)
    seed_everything(0)
    first = crops(images)
    assert [v.shape[-1] for v in first] == [12, 12, 8, 8, 8]
    assert not torch.equal(first[0], first[1])
    seed_everything(0)
    assert all(map(torch.equal, first, crops(images)))
    assert first[0].min() >= 0 and first[0].max() <= 1 + 1e-5


def test_photo_views_are_in_color():
    made = photo_crops(24, 12, 2)(torch.rand(3, 3, 30, 40))
    assert [tuple(v.shape) for v in made] == [(3, 3, 24, 24)] * 2 + [(3, 3, 12, 12)] * 2
    assert all(v.isfinite().all() for v in made)


def test_an_epoch_has_each_image_once():
    images = torch.arange(10.0)[:, None, None, None].expand(10, 1, 2, 2)
    batches = ViewBatches(images, 3, lambda x: [x, x + 100])
    seen = [v[0][:, 0, 0, 0] for v in batches]
    assert len(batches) == len(seen) == 3
    assert len(set(torch.cat(seen).tolist())) == 9
    with pytest.raises(ValueError, match="batch_size must be from 1 to the 10 images"):
        ViewBatches(images, 11, lambda x: [x])


# The trainer


def train(tmp_path=None, steps: int = 6, resume: bool = False, **options: object):
    model = small()
    trainer = dino_trainer(
        model,
        torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(1)),
        digit_crops(8, 4, 1),
        6,
        batch_size=8,
        progress=False,
        checkpoints=None if tmp_path is None else Checkpoints(tmp_path),
        checkpoint_every=2,
        resume=resume,
        **options,
    )
    trainer.run(num_steps=steps)
    return trainer


def test_rows_hold_entropy_and_kl_and_the_teacher_moves():
    seed_everything(3)
    trainer = train(momentum=0.5)
    model, start = trainer.model, small()
    assert len(trainer.history) == 6
    for row in trainer.history:
        assert math.isclose(row["entropy"] + row["kl"], row["loss"], rel_tol=1e-6)
        assert row["kl"] > 0
    teacher, student = model.teacher.prefix, model.student.prefix
    assert not torch.equal(teacher, start.teacher.prefix)
    assert not torch.equal(teacher, student)
    assert model.center.any()


def test_a_resumed_run_ends_with_the_same_weights(tmp_path):
    seed_everything(3)
    whole = train(tmp_path / "whole")
    seed_everything(3)
    train(tmp_path / "cut", steps=4)
    seed_everything(99)
    resumed = train(tmp_path / "cut", resume=True)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    assert [r["kl"] for r in whole.history] == [r["kl"] for r in resumed.history]


def test_directions_can_be_frozen_at_first():
    seed_everything(3)
    before = small().student_head.directions.weight
    trainer = train(steps=2, frozen_steps=2)
    assert torch.equal(trainer.model.student_head.directions.weight, before)
    trainer.run(num_steps=3)
    assert not torch.equal(trainer.model.student_head.directions.weight, before)


def test_schedules():
    assert momentum_at(0, 10, 0.9) == pytest.approx(0.9)
    assert momentum_at(5, 10, 0.9) == pytest.approx(0.95)
    assert momentum_at(10, 10, 0.9) == momentum_at(11, 10, 0.9) == 1.0
    trainer = train(
        steps=1, teacher_temperature=0.07, warmup_temperature=0.04, temperature_steps=3
    )
    temperatures = [trainer.temperature_at(step) for step in (0, 1, 3, 9)]
    assert temperatures == pytest.approx([0.04, 0.05, 0.07, 0.07])
    assert train(steps=1).temperature_at(0) == 0.04


# k-NN and probe


def test_neighbors_vote_with_their_nearness():
    bank = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 5.0]])
    labels = torch.tensor([0, 0, 1, 1])
    query = torch.tensor([[2.0, 0.1], [0.0, 0.1]])
    assert knn_votes(bank, labels, query, k=3).argmax(-1).tolist() == [0, 1]
    assert knn_accuracy(bank, labels, query, torch.tensor([0, 0]), k=1) == 0.5
    # Two far neighbors don't outvote one that is near.
    far = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    votes = knn_votes(far, torch.tensor([0, 1, 1]), torch.tensor([[1.0, 0.3]]), k=3)
    assert votes.argmax(-1).item() == 0


def test_votes_do_not_overflow():
    bank = torch.eye(3)
    votes = knn_votes(bank, torch.arange(3), bank, k=2, temperature=1e-6)
    assert votes.isfinite().all() and (votes.argmax(-1) == torch.arange(3)).all()


def test_probe_finds_what_is_linear():
    torch.manual_seed(0)
    x = torch.randn(300, 5)
    labels = (x[:, 0] - x[:, 1] > 0).long()
    accuracy = linear_probe_accuracy(x[:200], labels[:200], x[200:], labels[200:])
    assert accuracy > 0.93
    shuffled = labels[torch.randperm(300)]
    chance = linear_probe_accuracy(x[:200], shuffled[:200], x[200:], shuffled[200:])
    assert chance < 0.7


def test_measures_refuse_what_does_not_fit():
    x, y = torch.randn(6, 3), torch.zeros(6, dtype=torch.long)
    with pytest.raises(ValueError, match="k must be from 1 to the 6"):
        knn_accuracy(x, y, x, y, k=7)
    with pytest.raises(ValueError, match="temperature must be above 0"):
        knn_accuracy(x, y, x, y, k=2, temperature=0.0)
    with pytest.raises(ValueError, match=r"test_features must have shape \(test, 3\)"):
        knn_accuracy(x, y, x[:, :2], y, k=2)
    with pytest.raises(ValueError, match=r"train_labels must have shape \(6,\)"):
        knn_accuracy(x, y[:5], x, y, k=2)
    with pytest.raises(ValueError, match=r"test_labels must have shape \(6,\)"):
        linear_probe_accuracy(x, y, x, y[:5])
    with pytest.raises(ValueError, match="strength must be above 0"):
        linear_probe_accuracy(x, y, x, y, strength=0.0)


# DINOv2


@pytest.mark.parametrize(
    ("name", "millions"), [("S/14", 22.1), ("B/14", 86.6), ("L/14", 304.4)]
)
def test_presets_have_the_papers_sizes(name: str, millions: float):
    with torch.device("meta"):
        model = DINOv2.preset(name, image_size=518)
    count = sum(p.numel() for p in model.parameters())
    assert abs(count / 1e6 - millions) < 0.05


def test_giant_is_gated():
    with torch.device("meta"):
        model = DINOv2.preset("g/14", image_size=518)
    count = sum(p.numel() for p in model.parameters())
    assert abs(count / 1e9 - 1.1365) < 0.0005
    assert model.layers[0].feed_forward.W_1.out_features == 4096
    assert set(PRESETS) == {"S/14", "B/14", "L/14", "g/14"}
    with pytest.raises(ValueError, match="name must be one of S/14"):
        DINOv2.preset("H/14")


def test_registers_have_no_position_and_are_no_patches():
    torch.manual_seed(0)
    model = DINOv2(8, 4, 1, None, 16, 4, 2, num_registers=3, layer_scale=1.0).eval()
    x = torch.randn(2, 1, 8, 8)
    states = model.embed(x)
    assert states.shape == (2, 1 + 3 + 4, 16)
    torch.testing.assert_close(states[0, 1:4], model.registers)
    assert model.positions.table.shape == (1 + 4, 16)
    pooled = DINOv2(8, 4, 1, None, 16, 4, 2, num_registers=3, pooling="mean").eval()
    states = pooled.hidden_states(x)[-1]
    torch.testing.assert_close(pooled.features(x), states[:, 4:].mean(1))
    with pytest.raises(ValueError, match="num_registers must be at least 0"):
        DINOv2(8, 4, 1, num_registers=-1)


def test_layer_scale_starts_layers_as_near_identities():
    torch.manual_seed(0)
    model = DINOv2(8, 4, 1, None, 16, 4, 2, layer_scale=1e-5).eval()
    states = model.hidden_states(torch.randn(2, 1, 8, 8))
    moved = (states[1] - states[0]).abs().max()
    assert 0 < moved < 1e-4


def test_drop_path_is_the_same_in_each_layer():
    model = DINOv2(8, 4, 1, None, 16, 4, 3, drop_path=0.25)
    assert [layer.drop_path.probability for layer in model.layers] == [0.25] * 3


def test_from_hf_refuses_what_it_lacks():
    transformers = pytest.importorskip("transformers")
    options = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 8,
    }
    config = transformers.Dinov2Config(**options, patch_size=[4, 2])
    with pytest.raises(ValueError, match="patch_size must have equal sides"):
        DINOv2.from_hf(transformers.Dinov2Model(config))
    config = transformers.Dinov2Config(**options, patch_size=4, hidden_act="mish")
    with pytest.raises(ValueError, match="hidden_act is 'mish'"):
        DINOv2.from_hf(transformers.Dinov2Model(config))
    vit = transformers.ViTModel(
        transformers.ViTConfig(**options, patch_size=4, intermediate_size=8)
    )
    with pytest.raises(ValueError, match="model_type is 'vit'"):
        DINOv2.from_hf(vit)
    theirs = transformers.Dinov2Model(
        transformers.Dinov2Config(**options, patch_size=4)
    )
    theirs.extra = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"left over, no rule takes them:\n.*extra"):
        DINOv2.from_hf(theirs)
