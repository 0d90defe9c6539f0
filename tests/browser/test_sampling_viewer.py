"""The sampling viewer as a reader uses it: its numbers are those of companion.Sampling."""

from __future__ import annotations

import pytest
import torch
from playwright.sync_api import Locator, Page, expect

from companion import Sampling
from companion.figures import SamplingViewer

VOCAB = 2000
SHOWN = 16


def known_logits() -> dict[str, torch.Tensor]:
    """A peaked and a flat distribution; no two logits are equal."""
    draw = torch.Generator().manual_seed(0)
    peaked = 4 * torch.randn(VOCAB, generator=draw)
    return {"The <b>": peaked, "Once": peaked.flip(0) / 4}


LOGITS = known_logits()


def token(number: int) -> str:
    return f" t{number}"


def slide(page: Page, name: str, value: float) -> None:
    page.get_by_label(name).evaluate(
        "(input, value) => { input.value = value; "
        "input.dispatchEvent(new Event('input', { bubbles: true })); }",
        value,
    )


def rows(page: Page) -> Locator:
    return page.get_by_role("listitem")


def shown(page: Page) -> list[float]:
    texts = page.locator(".sv-value").all_inner_texts()
    return [
        0.0 if text == "cut" else float(text.replace("<0.001", "0")) for text in texts
    ]


def agree(page: Page, text: str, **settings: float) -> None:
    """What the page shows is what `Sampling` draws from."""
    logits = LOGITS[text]
    p = Sampling(**settings).probabilities(
        logits[None].double(), torch.zeros(1, 0).long()
    )
    order = logits.argsort(descending=True)[:SHOWN]
    expected = p[0, order]
    names = page.locator(".sv-token").all_inner_texts()
    assert names == [token(int(i)).replace(" ", "␣") for i in order]
    for value, want in zip(shown(page), expected.tolist(), strict=True):
        # The tail is a histogram: exact at temperature 1, nearly so elsewhere.
        assert value == pytest.approx(want, abs=0.003)
    if len(settings) > 1 or "temperature" not in settings:
        said = (
            page.locator(".sv-status")
            .inner_text()
            .split(" tokens")[0]
            .removeprefix("About ")
        )
        count = int((p > 0).sum())
        assert int(said.replace(",", "")) == pytest.approx(count, rel=0.1, abs=1)


@pytest.mark.parametrize("text", list(LOGITS))
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 2.5},
        {"top_k": 3},
        {"top_p": 0.5},
        {"min_p": 0.1},
        {"temperature": 1.5, "top_p": 0.9},
        {"temperature": 0.7, "top_k": 20, "top_p": 0.8, "min_p": 0.05},
    ],
    ids=str,
)
def test_the_numbers_are_those_of_sampling(show_figure, text, settings) -> None:
    page = show_figure(SamplingViewer(LOGITS, token))
    page.get_by_role("combobox").select_option(label=text)
    labels = {
        "temperature": "temperature",
        "top_k": "top-k (0: off)",
        "top_p": "top-p (1: off)",
        "min_p": "min-p (0: off)",
    }
    for name, value in settings.items():
        slide(page, labels[name], value)
    agree(page, text, **settings)


def test_first_state_is_the_one_asked_for_and_reset_leads_back(show_figure) -> None:
    page = show_figure(SamplingViewer(LOGITS, token, temperature=2.0, top_p=0.9))
    agree(page, "The <b>", temperature=2.0, top_p=0.9)
    page.get_by_role("button", name="reset").click()
    agree(page, "The <b>")


def test_keys_move_a_slider(show_figure) -> None:
    page = show_figure(SamplingViewer(LOGITS, token))
    slider = page.get_by_label("temperature")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("output").first).to_have_text("0.95")
    assert slider.evaluate("e => getComputedStyle(e).outlineWidth") == "3px"


def test_a_cut_token_says_so(show_figure) -> None:
    page = show_figure(SamplingViewer(LOGITS, token))
    slide(page, "top-k (0: off)", 2)
    assert page.locator(".sv-value").all_inner_texts()[2:] == ["cut"] * (SHOWN - 2)
    expect(page.locator(".sv-status")).to_contain_text("2 tokens can be drawn")


def test_it_fits_a_phone_and_follows_the_theme(show_figure) -> None:
    page = show_figure(SamplingViewer(LOGITS, token), width=400, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    paper = (
        "getComputedStyle(document.querySelector('.sampling-viewer')).backgroundColor"
    )
    dark = page.evaluate(paper)
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    page.wait_for_function(
        "!document.querySelector('.sampling-viewer').hasAttribute('data-dark')"
    )
    assert page.evaluate(paper) != dark


def test_without_javascript_there_is_a_table(show_figure) -> None:
    page = show_figure(SamplingViewer(LOGITS, token), java_script_enabled=False)
    best = int(LOGITS["Once"].argmax())
    expect(page.get_by_role("row", name="Once").first).to_contain_text(f"t{best}'")


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one text"):
        SamplingViewer({}, token)
    with pytest.raises(ValueError, match="one finite vector"):
        SamplingViewer({"a": torch.zeros(2, 100)}, token)
    with pytest.raises(ValueError, match="temperature must be from"):
        SamplingViewer(LOGITS, token, temperature=9.0)
