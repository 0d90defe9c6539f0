"""The mask viewer, from Python: what it sends, what it refuses, what its sentence says."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import torch

from companion import MAE
from companion.figures import MaskViewer


def viewer(**options: object) -> MaskViewer:
    torch.manual_seed(0)
    model = MAE(8, 2, 1, 16, 2, 24, 1, 12, 2, 20, 1).eval()
    images = torch.rand(3, 1, 8, 8)
    return MaskViewer(model, images, images.mean(dim=0), **options)


def test_the_weights_are_all_there_in_half_precision() -> None:
    figure = viewer()
    sent = np.frombuffer(base64.b64decode(figure.weights), dtype="<f2")
    state = figure._model.state_dict()
    assert [name for name, _ in figure.sizes["names"]] == list(state)
    start = 0
    for name, shape in figure.sizes["names"]:
        count = int(np.prod(shape))
        part = torch.from_numpy(sent[start : start + count].astype(np.float32))
        torch.testing.assert_close(
            part.reshape(shape), state[name], atol=1e-3, rtol=1e-3
        )
        start += count
    assert start == len(sent)


def test_it_begins_with_the_models_share_hidden_by_its_first_order() -> None:
    figure = viewer()
    assert sum(figure.hidden) == 12
    half = viewer(mask_ratio=0.5)
    assert sum(half.hidden) == 8
    assert {n for n, h in enumerate(half.hidden) if h} == set(half.orders[0][:8])


def test_the_answer_keeps_what_is_visible_and_measures_the_rest() -> None:
    figure = viewer()
    figure.example = 1
    figure.hidden = [1] + [0] * 15
    painted, error, mean = figure.answer()
    image, average = (
        torch.tensor(x).reshape(8, 8) / 255 for x in (figure.images[1], figure.mean)
    )
    changed = ~torch.isclose(painted, image, atol=1e-6)
    assert changed[:2, :2].all() and changed.sum() == 4
    assert error == pytest.approx((painted - image)[:2, :2].square().mean().item())
    assert mean == pytest.approx((average - image)[:2, :2].square().mean().item())
    assert f"{error:.3f} by the model" in figure.fallback()
    assert "1 of 16 patches" in figure.fallback()


def test_what_does_not_fit_is_refused() -> None:
    figure = viewer()
    with pytest.raises(ValueError, match="example must be from 0 to 2, but it is 3"):
        figure.example = 3
    with pytest.raises(ValueError, match="hidden must hold 16 numbers"):
        figure.hidden = [1, 0]
    with pytest.raises(ValueError, match="hidden must hold 16 numbers, 0 or 1"):
        figure.hidden = [2] * 16
    with pytest.raises(ValueError, match=r"images must have shape \(images, 1, 8, 8\)"):
        MaskViewer(figure._model, torch.rand(2, 1, 9, 9), torch.rand(1, 9, 9))
    colors = MAE(8, 2, 3, 16, 2, 24, 1, 12, 2, 20, 1)
    with pytest.raises(ValueError, match="in_channels = 3"):
        MaskViewer(colors, torch.rand(2, 3, 8, 8), torch.rand(3, 8, 8))
    encoder = MAE(8, 2, 1, 16, 2, 24, 1, with_decoder=False)
    with pytest.raises(ValueError, match="no decoder"):
        MaskViewer(encoder, torch.rand(2, 1, 8, 8), torch.rand(1, 8, 8))


def test_page_holds_the_state_and_is_the_same_each_time() -> None:
    one, two = viewer(), viewer()
    assert one.to_html() == two.to_html()
    assert one.to_html() != viewer(mask_ratio=0.5).to_html()
    assert one.fallback() in one.to_html()
    assert repr(one) == "<interactive figure: 3 pictures of 4 by 4 patches to hide>"
