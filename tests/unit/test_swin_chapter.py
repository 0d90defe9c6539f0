"""The measurements behind the chapter on Swin: costs, digits, and their plots."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from companion import MultiHeadAttention, shifted_window_mask, window_partition
from companion.analysis import swin_cost, swin_digits
from companion.figures import swin_plots


@pytest.fixture
def drawn(monkeypatch):
    """The figure that a plot shows."""
    plt.switch_backend("agg")
    monkeypatch.setattr(plt, "show", lambda: None)
    yield plt.gcf
    plt.close("all")


@pytest.mark.parametrize(("height", "width", "window"), [(4, 6, 2), (9, 3, 3)])
def test_equations_count_what_pytorch_counts(height, width, window):
    layer, x = MultiHeadAttention(8, 2), torch.randn(1, height, width, 8)
    for tokens, expected in (
        (x.flatten(1, 2), swin_cost.msa_multiply_adds(height, width, 8)),
        (
            window_partition(x, window),
            swin_cost.window_msa_multiply_adds(height, width, 8, window),
        ),
    ):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            layer(tokens)
        assert counter.get_total_flops() == 2 * expected


def test_models_are_of_one_size():
    counts = [
        sum(
            p.numel() for name, p in model.named_parameters() if "positions" not in name
        )
        for model in swin_cost.models(56).values()
    ]
    assert max(counts) < 1.05 * min(counts)


def test_costs_are_measured():
    costs = swin_cost.measure_costs([56], "step", rounds=1)
    assert set(costs) == {"Swin", "ViT"}
    for by_side in costs.values():
        assert by_side[56].seconds > 0 and by_side[56].bytes > 1e5
    last = {("Swin", "forward"): 112, ("ViT", "forward"): 56}
    costs = swin_cost.measure_costs([56, 112], rounds=1, memory=False, last=last)
    assert [len(costs[name]) for name in ("Swin", "ViT")] == [2, 1]
    assert costs["ViT"][56].bytes == 0
    with pytest.raises(ValueError, match="'forward' or 'step', but it is 'backward'"):
        swin_cost.measure_costs([56], "backward")


def test_exponent_is_in_pixels():
    by_side = {side: 3.0 * side**4 for side in swin_cost.SIDES}
    by_side[56] = 1e9  # too small to count
    assert swin_cost.exponent(by_side) == pytest.approx(2.0)


def test_stored_costs_grow_as_the_chapter_says():
    table = swin_cost.stored_results()
    assert set(table) == set(swin_cost.PASSES)
    for models in table.values():
        swin, vit = models["Swin"], models["ViT"]
        assert swin_cost.exponent(swin_cost.seconds(swin)) <= 1.15
        assert swin_cost.exponent(swin_cost.megabytes(swin)) <= 1.15
        assert swin_cost.exponent(swin_cost.seconds(vit)) > 1.6
        assert max(swin) > max(vit) >= 336


def test_moved_images_leave_black_behind():
    images = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    assert swin_digits.moved(images, 2)[0, 0].tolist() == [
        [0, 0, 1],
        [0, 0, 4],
        [0, 0, 7],
    ]
    assert torch.equal(swin_digits.moved(images, 0), images)


def test_digits_have_room_to_move():
    """Six pixels to the right lose next to nothing."""
    train, test = swin_digits.digits()
    assert (len(train), len(test)) == (4000, 1000)
    assert test.images.shape[1:] == (1, 32, 32)
    assert test.images[..., -swin_digits.MOVES[-1] :].sum() < 0.005 * test.images.sum()


@pytest.mark.parametrize("task", swin_digits.TASKS)
def test_models_compared_have_as_many_parameters(task):
    counts = {
        name: sum(p.numel() for p in swin_digits.build(task, name).parameters())
        for name in swin_digits.TASKS[task]
    }
    assert max(counts.values()) < 1.04 * min(counts.values())


@pytest.mark.parametrize(("task", "places"), [("digit", 1), ("everywhere", 64)])
def test_a_few_steps_train_and_are_measured(task, places):
    model = swin_digits.train(task, "Swin", steps=2)
    assert not model.training
    images = swin_digits.digits()[1].images[:3]
    assert swin_digits.logits(model, images, task).shape == (3, places, 10)
    sum_, count = swin_digits.loss(task, model, (images, torch.tensor([1, 2, 3])))
    assert count == 3 * places and sum_ > 0
    found = swin_digits.measure(model, task)
    assert 0 <= found["accuracy"] <= 1
    if task == "digit":
        assert swin_digits.by_move(found)[0] == found["accuracy"]
    else:
        by_patch = swin_digits.by_patch(found)
        assert by_patch.shape == (8, 8)
        assert by_patch.mean().item() == pytest.approx(found["accuracy"])


def test_stored_digits_are_complete():
    stored = swin_digits.stored_results()
    assert {task: set(models) for task, models in stored.items()} == {
        task: set(models) for task, models in swin_digits.TASKS.items()
    }
    for models in stored.values():
        assert {len(runs) for runs in models.values()} == {3}


def test_plots(drawn):
    swin_plots.plot_shift(8, 4, 2)
    assert [text.get_text() for text in drawn().axes[2].texts][:2] == ["18", "19"]
    swin_plots.plot_masks(shifted_window_mask(8, 8, 4, 2), list("abcd"))
    assert "25% seen" in drawn().axes[3].get_title()
    costs = {"Swin": {56: 1.0, 112: 4.0}, "ViT": {56: 1.0, 112: 16.0}}
    swin_plots.plot_costs({"time (s)": costs}, "A title")
    assert list(drawn().axes[0].lines[0].get_xdata()) == [56**2, 112**2]
    swin_plots.plot_places(
        {"Swin": torch.full((8, 8), 0.5), "ViT": torch.ones(8, 8)}, 4
    )
    assert "50% on average" in drawn().axes[0].get_title()
    swin_plots.plot_moves([0, 1], {"Swin": [[0.9, 0.8], [0.8, 0.7]]}, [1])
    assert drawn().axes[0].get_xlabel() == "digit moved to the right (pixels)"


def test_bias_is_drawn_where_the_key_stands(drawn):
    table = torch.zeros(1, 25, 1)
    table[0, 0] = 1.0  # query minus key is (-2, -2): the key is below, on the right
    swin_plots.plot_bias(table)
    shown = drawn().axes[0].images[0].get_array()
    assert shown[4, 4] == 1.0 and shown.sum() == 1.0
