"""The memory planner as a reader uses it: lists, sliders, a box, keys, a phone, the dark."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from companion.analysis.memory_plan import MemoryPlan
from companion.figures.memory_planner import MemoryPlanner

CHAPTER = "book/09_scaling_laws.html"
UNITS = {"TB": 1e12, "GB": 1e9, "MB": 1e6, "kB": 1e3, "bytes": 1}


def in_bytes(text: str) -> float:
    number, _, unit = text.partition(" ")
    return float(number.replace(",", "")) * UNITS[unit or "bytes"]


def held(page: Page) -> dict[str, float]:
    """Bytes by part, as the table says them."""
    return {
        part: in_bytes(page.locator(f".mp-size-{part}").inner_text())
        for part in MemoryPlan._fields
    }


def widths(page: Page, bar: str = "mp-chosen") -> list[float]:
    """The pieces of a bar, as parts of its whole width."""
    pieces = page.locator(f".{bar} i").evaluate_all(
        "pieces => pieces.map((p) => p.getBoundingClientRect().width)"
    )
    whole = page.locator(f".{bar}").evaluate("b => b.getBoundingClientRect().width")
    return [piece / whole for piece in pieces]


def same_as(page: Page, figure: MemoryPlanner) -> None:
    """Table, bar and sentence against the formulas in Python."""
    plan, shown = figure.plan(), held(page)
    for part, size in plan._asdict().items():
        assert shown[part] == pytest.approx(size, rel=6e-3), part
    drawn = widths(page)
    for piece, size in zip(drawn, plan, strict=True):
        assert piece / sum(drawn) == pytest.approx(size / plan.total, abs=3e-3)
    says = status(page).inner_text()
    total = re.search(r"holds ([\d.,]+ \wB)", says)[1]
    assert in_bytes(total) == pytest.approx(plan.total, rel=6e-3)
    sent = re.search(r"sends ([\d.,]+ \wB)", says)
    assert (in_bytes(sent[1]) if sent else 0) == pytest.approx(figure.sent(), rel=6e-3)
    fits = [size for size in figure.cards if plan.total <= 1e9 * size]
    expected = f"fits on a card of {fits[0]} GB" if fits else "too much for a card"
    assert expected in says


def status(page: Page):
    return page.locator(".cc-status")


def test_the_first_state_does_not_fit(show_figure) -> None:
    figure = MemoryPlanner("GPT-3 6.7B")
    page = show_figure(figure)
    same_as(page, figure)
    expect(status(page)).to_contain_text("too much for a card of 24 or 80 GB")
    expect(page.get_by_label("devices", exact=True)).to_be_disabled()


def test_two_gestures_make_it_fit(show_figure) -> None:
    page, figure = show_figure(MemoryPlanner("GPT-3 6.7B")), MemoryPlanner("GPT-3 6.7B")
    page.get_by_label("strategy", exact=True).select_option("fully sharded (FSDP)")
    figure.strategy = "fsdp"
    same_as(page, figure)
    expect(status(page)).to_contain_text("each of 8 devices holds")
    expect(status(page)).to_contain_text("fits on a card of 80 GB")
    page.get_by_label("recompute blocks backward").check()
    figure.recompute = True
    same_as(page, figure)
    expect(status(page)).to_contain_text("fits on a card of 24 GB")


def test_all_settings_are_what_python_says(show_figure) -> None:
    """Every model with every strategy, precision and recomputation, and some of the rest."""
    figure = MemoryPlanner("GPT-2 124M")
    page = show_figure(figure)
    choices = figure.choices
    settings = itertools.product(
        choices["shape"], choices["strategy"], choices["precision"], (False, True)
    )
    for number, (shape, strategy, precision, recompute) in enumerate(settings):
        figure.shape, figure.strategy = shape, strategy
        figure.precision, figure.recompute = precision, recompute
        figure.batch = choices["batch"][number % len(choices["batch"])]
        page.get_by_label("model", exact=True).select_option(shape)
        page.get_by_label("strategy", exact=True).select_option(
            index=choices["strategy"].index(strategy)
        )
        page.get_by_label("precision", exact=True).select_option(precision)
        page.get_by_label("recompute").set_checked(recompute)
        page.get_by_label("batch", exact=True).fill(
            str(choices["batch"].index(figure.batch))
        )
        if strategy != "single":
            figure.devices = choices["devices"][number % len(choices["devices"])]
            place = choices["devices"].index(figure.devices)
            page.get_by_label("devices", exact=True).fill(str(place))
        same_as(page, figure)


def test_arrow_keys_move_the_sliders(show_figure) -> None:
    figure = MemoryPlanner("GPT-2 1.6B", strategy="fsdp", devices=8)
    page = show_figure(figure)
    page.get_by_label("devices", exact=True).focus()
    page.keyboard.press("ArrowRight")
    figure.devices = 16
    same_as(page, figure)
    page.get_by_label("batch", exact=True).focus()
    for key in ("ArrowLeft", "ArrowRight", "ArrowRight"):  # it stops at the end
        page.keyboard.press(key)
    figure.batch = 4
    same_as(page, figure)
    page.get_by_label("recompute").focus()
    page.keyboard.press("Space")
    figure.recompute = True
    same_as(page, figure)


def test_the_thin_bar_stays_what_one_device_holds(show_figure) -> None:
    page = show_figure(MemoryPlanner("GPT-3 6.7B"))
    assert widths(page) == pytest.approx(widths(page, "mp-plain"))
    page.get_by_label("strategy", exact=True).select_option("fully sharded (FSDP)")
    assert sum(widths(page)) < 0.4 * sum(widths(page, "mp-plain"))
    expect(page.locator(".mp-name").last).to_have_text(re.compile("125 GB$"))
    page.get_by_label("recompute").check()  # now it is cut off
    expect(page.locator(".mp-name").last).to_have_text(re.compile("125 GB →$"))
    assert sum(widths(page)) > 0.15


def test_cards_stand_where_the_axis_says(show_figure) -> None:
    page = show_figure(MemoryPlanner("GPT-3 6.7B"))
    end = in_bytes(page.locator(".mp-axis span").last.inner_text())
    box = page.locator(".mp-chart").bounding_box()
    for card, size in zip(page.locator(".mp-card").all(), (24e9, 80e9), strict=True):
        place = (card.bounding_box()["x"] - box["x"]) / box["width"]
        assert place == pytest.approx(size / end, abs=0.01)
    page.get_by_label("model", exact=True).select_option("GPT-2 124M")
    expect(page.locator(".mp-card").first).to_be_hidden()  # far outside


@pytest.mark.parametrize("shape", ["GPT-2 124M", "GPT-3 6.7B", "GPT-3 175B"])
def test_it_fits_a_phone_and_follows_the_theme(show_figure, shape: str) -> None:
    page = show_figure(
        MemoryPlanner(shape), width=400, has_touch=True, color_scheme="dark"
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    planner = page.locator(".memory-planner")
    assert planner.evaluate("e => e.hasAttribute('data-dark')")
    page.get_by_label("recompute").tap()
    figure = MemoryPlanner(shape, recompute=True)
    same_as(page, figure)


def test_without_javascript_there_is_a_sentence(show_figure) -> None:
    page = show_figure(MemoryPlanner("GPT-3 6.7B"), java_script_enabled=False)
    expect(page.locator("noscript p")).to_contain_text("125.0 GB on a device")


def test_chapter_has_the_planner(open_page: Callable[..., Page]) -> None:
    page = open_page(CHAPTER, width=400)
    planner = page.get_by_role("figure", name="Memory planner").first
    planner.get_by_label("strategy", exact=True).select_option("fully sharded (FSDP)")
    expect(planner.locator(".cc-status")).to_contain_text("fits on a card of 80 GB")
    assert planner.evaluate("e => e.scrollWidth <= e.clientWidth")
