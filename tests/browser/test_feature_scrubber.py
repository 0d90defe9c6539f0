"""The feature scrubber as a reader uses it: by slider, pointer, keys and touch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from playwright.sync_api import Page, expect

from companion.figures import FeatureScrubber

CHAPTER = "book/08_3_dino.html"


def scrubber(**options: int) -> FeatureScrubber:
    """Four images whose neighbors are wrong at first and right after 100 updates."""
    images = np.zeros((4, 1, 3, 3))
    images[:, 0, 1, 1] = [0.25, 0.5, 0.75, 1.0]
    return FeatureScrubber(
        images,
        [0, 1, 0, 1],
        ["a", "b"],
        [0, 100],
        [
            [[0, 0], [999, 0], [0, 999], [999, 999]],
            [[0, 0], [999, 999], [0, 500], [999, 0]],
        ],
        [[[1, 3], [0, 2], [1, 3], [0, 2]], [[2, 1], [3, 0], [0, 1], [1, 0]]],
        **options,
    )


def test_the_slider_moves_through_the_training(show_figure) -> None:
    page = show_figure(scrubber())
    status = page.locator(".fs-status")
    expect(status).to_have_text(
        "After 0 updates, 0 % of all nearest neighbors have the same label. "
        "The neighbors of this a: b, b."
    )
    page.get_by_label("updates", exact=True).fill("1")
    expect(status).to_have_text(
        "After 100 updates, 50 % of all nearest neighbors have the same label. "
        "The neighbors of this a: a, b."
    )
    others = page.locator(".fs-picture").evaluate_all(
        "boxes => boxes.map(b => b.hasAttribute('data-other'))"
    )
    assert others == [False, False, True]


def test_keys_move_the_slider_and_the_choice(show_figure) -> None:
    page = show_figure(scrubber())
    page.get_by_label("updates", exact=True).focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".fs-status")).to_contain_text("After 100 updates")
    page.locator("canvas.fs-map").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".fs-status")).to_contain_text("of this b: b, a.")
    for _ in range(2):
        page.keyboard.press("ArrowLeft")
    expect(page.locator(".fs-status")).to_contain_text("of this b: b, a.")  # the last
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".fs-status")).to_contain_text("of this a: a, b.")


def test_pointing_chooses_the_nearest_mark(show_figure) -> None:
    page = show_figure(scrubber(moment=1))
    canvas = page.locator("canvas.fs-map")
    side = canvas.bounding_box()["width"]
    canvas.hover(position={"x": side * 0.9, "y": side * 0.9})
    expect(page.locator(".fs-status")).to_contain_text("of this b: b, a.")
    canvas.hover(position={"x": side * 0.1, "y": side * 0.45})
    expect(page.locator(".fs-status")).to_contain_text("of this a: a, b.")


def test_pictures_are_those_of_the_images(show_figure) -> None:
    page = show_figure(scrubber(chosen=3))
    middles = page.locator(".fs-picture canvas").evaluate_all(
        "list => list.map(c => c.getContext('2d').getImageData(1, 1, 1, 1).data[0])"
    )
    assert middles == [0, 255 - 64, 255 - 191]  # images 3, 0 and 2


def test_it_fits_a_phone_and_follows_the_theme(show_figure) -> None:
    page = show_figure(scrubber(), width=400, has_touch=True, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    figure = page.locator(".feature-scrubber")
    assert figure.evaluate("e => e.hasAttribute('data-dark')")
    canvas = page.locator("canvas.fs-map")
    side = canvas.bounding_box()["width"]
    canvas.tap(position={"x": side - 20, "y": 20})
    expect(page.locator(".fs-status")).to_contain_text("of this b: a, a.")


def test_without_javascript_there_is_a_sentence(show_figure) -> None:
    page = show_figure(scrubber(moment=1), java_script_enabled=False)
    expect(page.locator("noscript p")).to_contain_text("After 100 updates, 50%")


def test_chapter_has_the_scrubber(open_page: Callable[..., Page]) -> None:
    page = open_page(CHAPTER, width=400)
    figure = page.get_by_role("group", name="Feature scrubber").first
    page.get_by_label("updates", exact=True).fill("0")
    expect(figure.locator(".fs-status")).to_contain_text("After 0 updates")
    assert figure.evaluate("e => e.scrollWidth <= e.clientWidth")
