"""The head viewer as a reader uses it: by mouse, keys and touch, without Jupyter."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from companion.figures import HeadViewer

TOKENS = ["the", "cat", "<i>it</i>", "</script>"]
LAYERS, HEADS = 2, 3
CHAPTER = "book/02_multi_head_attention.html"

GRAYS = """canvas => {
    const { width, height } = canvas;
    const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
    return Array.from({ length: width * height }, (_, i) =>
        data[4 * i] + data[4 * i + 1] + data[4 * i + 2]);
}"""


def known_maps() -> np.ndarray:
    """Weights whose order is another one in every row of every map; each row sums to 1."""
    rows = list(itertools.permutations([0.1, 0.2, 0.3, 0.4]))
    return np.array(rows).reshape(LAYERS, HEADS, 4, 4)


MAPS = known_maps()


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Opens a page that holds nothing but the given viewers."""
    contexts, faults = [], []

    def show(*viewers: HeadViewer, width: int = 800, **options: object) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "console",
            lambda message: message.type == "error" and faults.append(message.text),
        )
        html = tmp_path / "page.html"
        figures = "\n".join(viewer.to_html() for viewer in viewers)
        html.write_text(
            f"<!doctype html><meta charset=utf-8><body style='margin:0'><h1>Page</h1>{figures}",
            encoding="utf8",
        )
        page.goto(html.as_uri())
        if options.get(
            "java_script_enabled", True
        ):  # a module is loaded in its own time
            expect(page.locator(".head-viewer")).to_have_count(len(viewers))
        return page

    yield show
    for context in contexts:
        context.close()
    assert faults == []


def thumbnail(page: Page | Locator, layer: int, head: int) -> Locator:
    return page.get_by_role("row").nth(layer).get_by_role("gridcell").nth(head - 1)


def tokens(page: Page | Locator, side: str) -> Locator:
    return page.get_by_role("listbox", name=side).get_by_role("option")


def numbers(page: Page | Locator, side: str) -> list[str]:
    return tokens(page, side).locator(".hv-weight").all_inner_texts()


def as_shown(weights: np.ndarray) -> list[str]:
    return [f"{w:.2f}" for w in weights]


def test_every_thumbnail_is_the_map_of_its_head(show: Callable[..., Page]) -> None:
    page = show(HeadViewer(MAPS, TOKENS))
    for layer, head in itertools.product(range(LAYERS), range(HEADS)):
        grays = np.array(
            thumbnail(page, layer + 1, head + 1).locator("canvas").evaluate(GRAYS)
        )
        weights = MAPS[layer, head].flatten()
        # Darker means more: one shade for each weight, in the reverse order.
        assert len(set(grays)) == 4
        assert all(
            grays[a] > grays[b]
            for a in range(16)
            for b in range(16)
            if weights[a] < weights[b]
        )


def test_first_state_is_the_one_asked_for(show: Callable[..., Page]) -> None:
    page = show(
        HeadViewer(
            MAPS, TOKENS, layer=2, head=3, token=2, notes={"2.3": "finds <b>nouns</b>"}
        )
    )
    expect(page.get_by_text("Layer 2, head 3", exact=True)).to_be_visible()
    expect(page.get_by_text("finds <b>nouns</b>", exact=True)).to_be_visible()
    assert numbers(page, "Keys") == as_shown(MAPS[1, 2, 1])
    assert page.locator("svg path").count() == 4
    assert tokens(page, "Queries").locator(".hv-text").all_inner_texts() == TOKENS


def test_click_chooses_a_head_and_a_token(show: Callable[..., Page]) -> None:
    page = show(HeadViewer(MAPS, TOKENS))
    assert page.locator("svg path").count() == 16
    thumbnail(page, 2, 2).click()
    expect(thumbnail(page, 2, 2)).to_have_attribute("aria-selected", "true")
    expect(thumbnail(page, 1, 1)).to_have_attribute("aria-selected", "false")
    expect(page.get_by_text("Layer 2, head 2", exact=True)).to_be_visible()
    tokens(page, "Queries").nth(3).click()
    page.mouse.move(0, 0)
    assert numbers(page, "Keys") == as_shown(MAPS[1, 1, 3])
    tokens(page, "Queries").nth(3).click()  # again: all lines
    page.mouse.move(0, 0)
    assert numbers(page, "Keys") == [""] * 4
    assert page.locator("svg path").count() == 16


def test_pointing_shows_a_tokens_weights_and_leaving_hides_them(
    show: Callable[..., Page],
) -> None:
    page = show(HeadViewer(MAPS, TOKENS, token=1))
    tokens(page, "Queries").nth(2).hover()
    assert numbers(page, "Keys") == as_shown(MAPS[0, 0, 2])
    tokens(page, "Keys").nth(1).hover()  # who attends to it?
    assert numbers(page, "Keys") == [""] * 4
    assert numbers(page, "Queries") == as_shown(MAPS[0, 0, :, 1])
    page.mouse.move(0, 0)
    assert numbers(page, "Keys") == as_shown(MAPS[0, 0, 0])


def test_line_widths_follow_the_weights(show: Callable[..., Page]) -> None:
    page = show(HeadViewer(MAPS, TOKENS, token=1))
    for name in ("stroke-width", "stroke-opacity"):
        drawn = [
            float(path.get_attribute(name)) for path in page.locator("svg path").all()
        ]
        assert np.argsort(drawn).tolist() == np.argsort(MAPS[0, 0, 0]).tolist()


def test_pointing_into_the_large_map_shows_that_row(show: Callable[..., Page]) -> None:
    page = show(HeadViewer(MAPS, TOKENS))
    canvas = page.locator(".hv-map canvas")
    box = canvas.bounding_box()
    canvas.hover(position={"x": box["width"] / 2, "y": box["height"] * 0.625})
    assert numbers(page, "Keys") == as_shown(MAPS[0, 0, 2])


def test_arrow_keys_walk_through_the_heads(show: Callable[..., Page]) -> None:
    page = show(HeadViewer(MAPS, TOKENS))
    page.keyboard.press("Tab")
    expect(thumbnail(page, 1, 1)).to_be_focused()
    walk = [
        ("ArrowRight", 1, 2),
        ("ArrowDown", 2, 2),
        ("End", 2, 3),
        ("ArrowRight", 2, 3),
        ("ArrowUp", 1, 3),
        ("Home", 1, 1),
        ("ArrowLeft", 1, 1),
    ]
    for key, layer, head in walk:
        page.keyboard.press(key)
        expect(thumbnail(page, layer, head)).to_be_focused()
        expect(
            page.get_by_text(f"Layer {layer}, head {head}", exact=True)
        ).to_be_visible()


def test_tokens_by_keyboard_with_visible_focus_and_spoken_weights(
    show: Callable[..., Page],
) -> None:
    page = show(HeadViewer(MAPS, TOKENS))
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    first = tokens(page, "Queries").nth(0)
    expect(first).to_be_focused()
    assert first.evaluate("e => getComputedStyle(e).outlineWidth") == "3px"
    assert numbers(page, "Keys") == as_shown(MAPS[0, 0, 0])  # focus alone shows it
    page.keyboard.press("ArrowDown")
    expect(tokens(page, "Queries").nth(1)).to_be_focused()
    expect(tokens(page, "Queries").nth(1)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("ArrowRight")  # the next head, the same token
    assert numbers(page, "Keys") == as_shown(MAPS[0, 1, 1])
    order = np.argsort(-MAPS[0, 1, 1])[:3]
    best = ", ".join(f"{TOKENS[k]} {MAPS[0, 1, 1, k]:.2f}" for k in order)
    expect(page.locator("[aria-live=polite]")).to_have_text(
        f"Layer 1, head 2: cat → {best}"
    )
    page.keyboard.press("Tab")
    expect(tokens(page, "Keys").nth(0)).to_be_focused()
    assert numbers(page, "Queries") == as_shown(MAPS[0, 1, :, 0])
    page.keyboard.press("Escape")
    assert numbers(page, "Keys") == numbers(page, "Queries") == [""] * 4


def test_figures_on_one_page_do_not_disturb_each_other(
    show: Callable[..., Page],
) -> None:
    twin = HeadViewer(MAPS, TOKENS)
    page = show(twin, HeadViewer(MAPS, TOKENS, layer=2), twin)
    figures = page.get_by_role("group", name="Attention head viewer")
    expect(figures).to_have_count(3)
    thumbnail(figures.nth(0), 1, 3).click()
    titles = [figures.nth(i).locator(".hv-title").inner_text() for i in range(3)]
    assert titles == ["Layer 1, head 3", "Layer 2, head 1", "Layer 1, head 1"]


def test_colors_follow_the_page_then_the_system(show: Callable[..., Page]) -> None:
    page = show(HeadViewer(MAPS, TOKENS), color_scheme="dark")
    paper = "getComputedStyle(document.querySelector('.head-viewer')).backgroundColor"
    canvas = thumbnail(page, 1, 1).locator("canvas")
    dark = page.evaluate(paper), canvas.evaluate(GRAYS)
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    page.wait_for_function(
        "!document.querySelector('.head-viewer').hasAttribute('data-dark')"
    )
    light = page.evaluate(paper), canvas.evaluate(GRAYS)
    assert dark[0] != light[0]
    # More weight is darker on white and brighter on black.
    assert np.corrcoef(MAPS[0, 0].flatten(), light[1])[0, 1] < -0.9
    assert np.corrcoef(MAPS[0, 0].flatten(), dark[1])[0, 1] > 0.9


def test_it_works_by_touch_on_a_phone(show: Callable[..., Page]) -> None:
    page = show(HeadViewer(MAPS, TOKENS), width=400, has_touch=True)
    thumbnail(page, 2, 1).tap()
    tokens(page, "Queries").nth(1).tap()
    assert numbers(page, "Keys") == as_shown(MAPS[1, 0, 1])
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_without_javascript_there_is_a_table(show: Callable[..., Page]) -> None:
    page = show(HeadViewer(MAPS, TOKENS, layer=2), java_script_enabled=False)
    row = page.get_by_role("row", name="cat").first
    expect(row).to_contain_text(f"{MAPS[1, 0, 1].max():.2f}")
    assert page.get_by_role("row").count() == 1 + len(TOKENS)


# --- in the built book ------------------------------------------------------------------


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_chapter_shows_the_heads_of_a_real_model(
    open_page: Callable[..., Page], width: int, dark: bool
) -> None:
    page = open_page(CHAPTER, width=width, dark=dark)
    viewer = page.get_by_role("group", name="Attention head viewer").first
    canvases = viewer.get_by_role("gridcell").locator("canvas")
    expect(canvases).to_have_count(72)
    assert all(len(set(canvas.evaluate(GRAYS))) > 2 for canvas in canvases.all())
    assert viewer.evaluate("e => e.hasAttribute('data-dark')") == dark

    # Nothing of it is cut off, and a finger can hit a map.
    frame = viewer.bounding_box()
    assert viewer.evaluate("e => e.scrollWidth <= e.clientWidth")
    assert frame["x"] >= 0 and frame["x"] + frame["width"] <= width
    assert thumbnail(viewer, 1, 1).bounding_box()["width"] >= 20

    thumbnail(viewer, 3, 2).click()
    expect(viewer.locator(".hv-title")).to_have_text("Layer 3, head 2")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    expect(viewer.locator(".hv-title")).to_have_text("Layer 4, head 1")
    expect(thumbnail(viewer, 4, 1)).to_be_focused()

    tokens(viewer, "Queries").nth(1).hover()
    shown = [float(number) for number in numbers(viewer, "Keys")]
    assert sum(shown) == pytest.approx(1, abs=0.005 * len(shown))
    # Two weights may round to the same number: either may be named first.
    names = tokens(viewer, "Keys").locator(".hv-text").all_inner_texts()
    best = "|".join(
        re.escape(name)
        for name, number in zip(names, shown, strict=True)
        if number == max(shown)
    )
    expect(viewer.locator("[aria-live=polite]")).to_contain_text(
        re.compile(f"→ ({best}) {max(shown):.2f}")
    )
