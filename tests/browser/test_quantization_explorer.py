"""The quantization explorer as a reader uses it: its numbers are those of Python."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from companion.figures.quantization_explorer import QuantizationExplorer

CHAPTER = "book/07_4_cheaper_models.html"
LABELS = {"matrix": "the whole matrix", "row": "each row", "blocks": "each 32 weights"}


def explorer(**options: object) -> QuantizationExplorer:
    """Three rows: a plain one, one with an outlier, and one that is zero for a block."""
    rows = 0.05 * np.random.default_rng(0).standard_normal((3, 128))
    rows[1, 70] = 2.0
    rows[2, 32:64] = 0.0
    names = ["plain", "outlier", "holes"]
    return QuantizationExplorer(
        dict(zip(names, rows, strict=True)), 2.5, 40, caption="Rows.", **options
    )


def numbers(page: Page) -> dict[str, str]:
    boxes = page.locator(".qe-numbers")
    names = boxes.locator("dt").all_inner_texts()
    return dict(zip(names, boxes.locator("dd").all_inner_texts(), strict=True))


def agree(page: Page, figure: QuantizationExplorer) -> None:
    shown = numbers(page)
    assert float(shown["row off by"].rstrip(" %")) == pytest.approx(
        100 * figure.error(), rel=6e-3
    )
    assert shown["bits a weight"] == f"{figure.bits_a_weight():.2f}"
    assert float(shown["7 B weights"].rstrip(" GB")) == pytest.approx(
        7 * figure.bits_a_weight() / 8, abs=0.051
    )
    if figure.way == "blocks":
        used = np.mean([len(set(b)) for b in figure.levels().reshape(-1, 32).tolist()])
        assert shown["levels in use"] == f"{used + 1e-9:.1f} of {2**figure.bits}"
    else:
        used = len(set(figure.levels().tolist()))
        assert shown["levels in use"] == f"{used} of {2**figure.bits - 1}"
    place = figure.place
    said = page.locator(".cc-status").inner_text()
    assert f"Weight {place} is " in said
    assert f"becomes level {figure.levels()[place]}" in said
    back = float(said.rsplit(": ", 1)[1].rstrip("."))
    assert back == pytest.approx(figure.rounded()[place], rel=6e-3, abs=1e-9)


@pytest.mark.parametrize("way", LABELS)
@pytest.mark.parametrize("row", range(3))
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_numbers_are_those_of_python(
    show_figure, way: str, row: int, bits: int
) -> None:
    figure = explorer(way=way, row=row, bits=bits, place=70)
    agree(show_figure(figure), figure)


def test_buttons_and_sliders_change_the_grid(show_figure) -> None:
    page, figure = show_figure(explorer()), explorer()
    lines = page.locator(".qe-grid")
    page.get_by_label("outlier").check()
    figure.row, figure.place = 1, 70  # its largest
    agree(page, figure)
    for way, label in LABELS.items():
        page.get_by_label(label).check()
        figure.way = way
        agree(page, figure)
    page.get_by_label("bits", exact=True).fill("2")
    page.get_by_label("weight", exact=True).fill("0")
    figure.bits, figure.place = 2, 0
    agree(page, figure)
    expect(lines).to_have_count(8)  # four levels in each of two blocks
    page.get_by_label("weight", exact=True).fill("100")
    figure.place = 100
    agree(page, figure)


def test_weights_stand_where_they_are_and_where_they_end(show_figure) -> None:
    figure = explorer(bits=3, way="row")
    page = show_figure(figure)
    drawn = {
        name: page.locator(f"circle.{name}").evaluate_all(
            "all => all.map((e) => parseFloat(e.getAttribute('cy')))"
        )
        for name in ("qe-true", "qe-back")
    }
    # Heights are one linear function of weights, the same for both kinds of circles.
    inside = [w for w in figure.rows[0][:64] if len(drawn["qe-true"]) == 64]
    slope, origin = np.polyfit(inside, drawn["qe-true"], 1)
    np.testing.assert_allclose(
        slope * np.array(inside) + origin, drawn["qe-true"], atol=1e-6
    )
    np.testing.assert_allclose(
        slope * figure.rounded()[:64] + origin, drawn["qe-back"], atol=1e-6
    )


def test_an_outlier_is_marked_at_the_edge(show_figure) -> None:
    page = show_figure(explorer(row=1, place=70))
    expect(page.locator(".qe-far")).to_have_count(1)
    expect(page.locator("circle.qe-true")).to_have_count(63)


def test_pointing_shows_a_weight_and_a_click_keeps_it(show_figure) -> None:
    page, figure = show_figure(explorer(place=64)), explorer(place=64)
    picture = page.locator(".qe-picture")
    wide = picture.bounding_box()["width"] / 64
    picture.hover(position={"x": 10.5 * wide, "y": 50})
    expect(page.locator(".cc-status")).to_contain_text("Weight 74 is")
    page.mouse.move(799, 899)
    agree(page, figure)
    picture.click(position={"x": 3.5 * wide, "y": 50})
    page.mouse.move(799, 899)
    figure.place = 67
    agree(page, figure)


def test_keys_move_along_the_row_and_stop_at_its_ends(show_figure) -> None:
    page = show_figure(explorer(place=1))
    page.locator(".qe-picture").focus()
    said = page.locator(".cc-status")
    for key, place in (
        ("ArrowLeft", 0), ("ArrowLeft", 0), ("PageDown", 64), ("ArrowRight", 65),
        ("PageDown", 127), ("PageUp", 63), ("End", 127), ("Home", 0),
    ):  # fmt: skip
        page.keyboard.press(key)
        expect(said).to_contain_text(f"Weight {place} is")


def test_it_fits_a_phone_and_follows_the_theme(show_figure) -> None:
    page = show_figure(explorer(), width=400, has_touch=True, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    card = page.get_by_role("figure", name="Quantization explorer")
    assert card.evaluate("e => e.hasAttribute('data-dark')")
    page.locator(".qe-picture").tap(position={"x": 2, "y": 20})
    expect(page.locator(".cc-status")).to_contain_text("Weight 0 is")


def test_without_javascript_there_is_a_sentence(show_figure) -> None:
    figure = explorer(bits=3, way="row")
    page = show_figure(figure, java_script_enabled=False)
    expect(page.locator("noscript p")).to_contain_text(
        f"is {100 * figure.error():.1f}% off"
    )


def test_chapter_has_the_explorer(open_page: Callable[..., Page]) -> None:
    page = open_page(CHAPTER, width=400)
    card = page.get_by_role("figure", name="Quantization explorer")
    off = card.locator("dd").first
    before = float(off.inner_text().rstrip(" %"))
    card.get_by_label("each row").check()
    assert float(off.inner_text().rstrip(" %")) < before / 5
    page.keyboard.press("ArrowRight")
    expect(card.get_by_label("each 32 weights")).to_be_checked()
    assert card.evaluate("e => e.scrollWidth <= e.clientWidth")
