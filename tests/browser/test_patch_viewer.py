"""The patch viewer as a reader uses it: by pointer, keys, menus and touch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from playwright.sync_api import Page, expect

from companion.figures.patch_viewer import PatchViewer

CHAPTER = "book/08_1_vit.html"


def figure(**options: object) -> PatchViewer:
    """Two images of 2 by 3 patches, three layers of two heads, two tokens before."""
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 8, 12, generator=draw)
    maps = torch.randn(3, 2, 2, 8, 8, generator=draw).mul(2).softmax(dim=-1)
    return PatchViewer(
        images,
        maps,
        (2, 3),
        prefix=("[CLS]", "[DIST]"),
        captions=("a cat", "a dog"),
        **options,
    )


def percent(x: float) -> str:
    return f"{100 * x:.{1 if x < 0.0995 else 0}f} %"


def expect_state(page: Page, viewer: PatchViewer) -> None:
    """The sentence under the figure says what Python says."""
    row = viewer.row()
    most = int(row.argmax())
    head = f"head {viewer.head}" if viewer.head else "mean of heads"
    expect(page.locator(".pv-status")).to_have_text(
        f"{viewer.name_of(viewer.token)} in layer {viewer.layer}, {head}: looks most at "
        f"{viewer.name_of(most + 1)} ({percent(row[most])}), [CLS] gets {percent(row[0])}, "
        f"[DIST] gets {percent(row[1])}. Evenly spread, each would get 13 %."
    )


@pytest.mark.parametrize(
    "state",
    [{}, {"image": 2, "layer": 3, "head": 2, "token": 8}, {"head": 1, "token": 2}],
)
def test_the_first_state_is_the_one_asked_for(
    show_figure, state: dict[str, int]
) -> None:
    viewer = figure(**state)
    expect_state(show_figure(viewer), viewer)


def test_menus_choose_picture_layer_and_head(show_figure) -> None:
    page = show_figure(figure())
    page.get_by_label("picture", exact=True).select_option("a dog")
    page.get_by_label("layer", exact=True).select_option("layer 2")
    page.get_by_label("head", exact=True).select_option("head 2")
    expect_state(page, figure(image=2, layer=2, head=2))


def test_pointing_shows_a_patch_and_a_click_keeps_it(show_figure) -> None:
    page = show_figure(figure())
    for kind in ("pv-picture", "pv-looks"):  # either of the two can be pointed at
        canvas, status = page.locator(f"canvas.{kind}"), page.locator(".pv-status")
        box = canvas.bounding_box()
        corner = {"x": box["width"] * 0.9, "y": box["height"] * 0.1}
        canvas.hover(position=corner)
        expect(status).to_contain_text("patch 1, 3 in")
        page.mouse.move(799, 899)
        expect(status).to_contain_text("patch 2, 2 in")
    page.locator("canvas.pv-looks").click(position=corner)
    page.mouse.move(799, 899)
    expect_state(page, figure(token=5))


def test_arrow_keys_move_and_stop_at_the_edge(show_figure) -> None:
    page = show_figure(figure())  # patch 2, 2
    page.locator("canvas.pv-picture").focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    expect_state(page, figure(token=5))


def test_tokens_before_the_patches_have_buttons(show_figure) -> None:
    page = show_figure(figure())
    page.get_by_role("button", name="from [DIST]").click()
    expect_state(page, figure(token=2))
    pressed = page.get_by_role("button", name="from [DIST]")
    expect(pressed).to_have_attribute("aria-pressed", "true")
    page.locator("canvas.pv-picture").focus()
    page.keyboard.press("ArrowDown")
    expect_state(page, figure(token=3))


def test_the_image_is_drawn_and_the_most_seen_patch_is_the_brightest(
    show_figure,
) -> None:
    viewer = figure(image=2, layer=1, head=1, token=1)
    page = show_figure(viewer)
    pixels = page.evaluate("""() => ["pv-picture", "pv-looks"].map((kind) => {
        const canvas = document.querySelector("canvas." + kind);
        const context = canvas.getContext("2d");
        const [w, h] = [canvas.width / 12, canvas.height / 8];
        return Array.from({ length: 96 }, (_, i) => [...context.getImageData(
            Math.floor((i % 12 + 0.5) * w), Math.floor((Math.floor(i / 12) + 0.5) * h), 1, 1
        ).data.slice(0, 3)]);
    })""")
    images, looks = (np.array(p).reshape(8, 12, 3) for p in pixels)
    draw = torch.Generator().manual_seed(0)
    expected = torch.rand(2, 3, 8, 12, generator=draw)[1].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(images / 255, expected, atol=0.01)
    # Of 4 by 4 pixels: how bright a patch is beside what it was.
    red = looks[..., 0].reshape(2, 4, 3, 4).mean(axis=(1, 3)).flatten()
    assert red.argmax() == viewer.row()[2:].argmax()
    assert red.argmin() == viewer.row()[2:].argmin()


def test_it_fits_a_phone_and_follows_the_theme(show_figure) -> None:
    page = show_figure(figure(), width=400, has_touch=True, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    viewer = page.locator(".patch-viewer")
    assert viewer.evaluate("e => e.hasAttribute('data-dark')")
    page.locator("canvas.pv-picture").tap(position={"x": 5, "y": 5})
    expect(page.locator(".pv-status")).to_contain_text("patch 1, 1 in")


def test_without_javascript_there_is_a_sentence(show_figure) -> None:
    viewer = figure(head=2, token=1)
    page = show_figure(viewer, java_script_enabled=False)
    expect(page.locator("noscript p")).to_contain_text(
        f"with a weight of {viewer.row().max():.0%}"
    )


def test_chapter_has_the_viewer(open_page: Callable[..., Page]) -> None:
    page = open_page(CHAPTER, width=400)
    viewer = page.get_by_role("group", name="Patch attention viewer").first
    viewer.get_by_label("head", exact=True).select_option("head 1")
    viewer.get_by_role("button", name="from [CLS]").click()
    expect(viewer.locator(".pv-status")).to_contain_text("[CLS] in layer")
    assert viewer.evaluate("e => e.scrollWidth <= e.clientWidth")
