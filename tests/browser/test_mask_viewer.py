"""The mask viewer as a reader uses it: by slider, pointer, keys and touch; and what it computes."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from playwright.sync_api import Page, expect

from companion import MAE
from companion.figures.mask_viewer import MaskViewer

CHAPTER = "book/08_4_mae.html"
ROWS, COLUMNS, PATCH = 4, 4, 3
# The level of each pixel of a picture as it is drawn.
LEVELS = """(canvas, [rows, columns]) => {
    const context = canvas.getContext("2d");
    const size = canvas.width / columns;
    return Array.from({ length: rows }, (_, y) => Array.from({ length: columns }, (_, x) =>
        context.getImageData((x + 0.5) * size, (y + 0.5) * size, 1, 1).data[0]));
}"""


def viewer(**options: object) -> MaskViewer:
    """A model with weights that are large enough to matter."""
    torch.manual_seed(0)
    model = MAE(12, PATCH, 1, 16, 2, 32, 2, 12, 3, 20, 2, position_base=10.0).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.15 * torch.randn(parameter.shape))
    images = torch.rand(3, 1, 12, 12)
    return MaskViewer(
        model, images, images.mean(dim=0), shift=0.4, scale=0.5, **options
    )


def painted(page: Page, name: str = "painted") -> np.ndarray:
    size = [ROWS * PATCH, COLUMNS * PATCH]
    return np.array(page.locator(f"canvas.mv-{name}").evaluate(LEVELS, size))


def expected(figure: MaskViewer) -> np.ndarray:
    """What the Python model paints, as levels."""
    picture, _, _ = figure.answer()
    return (picture.clamp(0, 1) * 255).round().numpy()


def expect_sentence(page: Page, figure: MaskViewer) -> None:
    """The sentence under the pictures, its errors up to the weights' half precision."""
    status = page.locator(".mv-status")
    expect(status).to_contain_text(f"{sum(figure.hidden)} of 16 patches are hidden.")
    said = re.findall(r"0\.\d{3}", status.text_content())
    assert [float(x) for x in said] == pytest.approx(figure.answer()[1:], abs=3e-3)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.75, 0.95])
def test_it_computes_what_the_model_computes(show_figure, ratio: float) -> None:
    """The model in JavaScript against the one in Python; weights have half precision."""
    figure = viewer(mask_ratio=ratio)
    page = show_figure(figure)
    assert np.abs(painted(page) - expected(figure)).max() <= 2
    assert (
        np.ptp(
            expected(figure)[
                np.kron(np.array(figure.hidden).reshape(4, 4), np.ones((3, 3))) > 0
            ]
        )
        > 20
    )


def test_slider_button_and_example_change_it(show_figure) -> None:
    figure = viewer()
    page = show_figure(figure)
    page.get_by_label("patches hidden").fill("6")
    page.get_by_label("image").fill("3")
    page.get_by_role("button", name="Hide others").click()
    figure.example, figure.order = 2, 1
    figure.hidden = [int(n in figure.orders[1][:6]) for n in range(16)]
    expect_sentence(page, figure)
    assert np.abs(painted(page) - expected(figure)).max() <= 2


def test_a_click_hides_and_shows_a_patch(show_figure) -> None:
    figure = viewer(mask_ratio=0.0)
    page = show_figure(figure)
    status, canvas = page.locator(".mv-status"), page.locator("canvas.mv-seen")
    expect(status).to_contain_text("Nothing is hidden")
    box = canvas.bounding_box()
    place = {"x": box["width"] * 0.6, "y": box["height"] * 0.1}  # row 1, column 3
    canvas.click(position=place)
    figure.hidden = [int(n == 2) for n in range(16)]
    expect_sentence(page, figure)
    assert np.abs(painted(page) - expected(figure)).max() <= 2
    canvas.click(position=place)
    expect(status).to_contain_text("Nothing is hidden")
    np.testing.assert_array_equal(painted(page), painted(page, "original"))


def test_arrow_keys_and_space(show_figure) -> None:
    figure = viewer(mask_ratio=0.0)
    page = show_figure(figure)
    canvas = page.locator("canvas.mv-seen")
    canvas.focus()
    for key in ("ArrowUp", "ArrowUp", "ArrowUp", "ArrowRight", " "):
        page.keyboard.press(key)
    figure.hidden = [int(n == 1) for n in range(16)]
    expect_sentence(page, figure)
    expect(canvas).to_have_attribute(
        "aria-label", re.compile("row 1, column 2, which is hidden")
    )


def test_it_fits_a_phone_and_follows_the_theme(show_figure) -> None:
    page = show_figure(viewer(), width=400, has_touch=True, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.locator(".mask-viewer").evaluate("e => e.hasAttribute('data-dark')")
    before = page.locator(".mv-status").text_content()
    page.locator("canvas.mv-seen").tap(position={"x": 5, "y": 5})
    expect(page.locator(".mv-status")).not_to_have_text(before)


def test_without_javascript_there_is_a_sentence(show_figure) -> None:
    page = show_figure(viewer(), java_script_enabled=False)
    expect(page.locator("noscript p")).to_contain_text("12 of 16 patches of a picture")


@pytest.mark.parametrize(
    "options", [{"normalize_target": True}, {"activation": "relu"}]
)
def test_a_model_that_it_cannot_run_is_an_error(options: dict[str, object]) -> None:
    model = MAE(8, 4, 1, 16, 2, 24, 1, 12, 2, 20, 1, **options)
    with pytest.raises(ValueError, match=r"model must have"):
        MaskViewer(model, torch.rand(1, 1, 8, 8), torch.rand(1, 8, 8))


def test_chapter_has_the_viewer(open_page: Callable[..., Page]) -> None:
    page = open_page(CHAPTER, width=400)
    figure = page.get_by_role("group", name="Mask viewer").first
    figure.get_by_label("patches hidden").fill("0")
    expect(figure.locator(".mv-status")).to_contain_text("Nothing is hidden")
    figure.get_by_label("patches hidden").fill("20")
    expect(figure.locator(".mv-status")).to_contain_text("20 of 49 patches are hidden")
    assert figure.evaluate("e => e.scrollWidth <= e.clientWidth")
