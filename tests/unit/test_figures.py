"""The pictures' style, sources shown on pages, heatmaps, and figures' two hosts."""

from __future__ import annotations

import base64
import inspect
import json
import re
from collections.abc import Iterator

import matplotlib

matplotlib.use("agg")

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import traitlets
from matplotlib.colors import to_rgb

from companion.figures import (
    HeadViewer,
    attention_heatmap,
    show_source,
    style,
    visualize_attention_heads,
)
from companion.figures.widget import Figure
from companion.layers import MultiHeadAttention, causal_mask

TOKENS = ["the", "cat", "sat", "down"]


@pytest.fixture(autouse=True)
def book_style() -> Iterator[None]:
    with matplotlib.rc_context():
        style.use()
        yield
        plt.close("all")


def some_maps(layers: int = 2, heads: int = 3, queries: int = 4, keys: int = 4):
    logits = torch.randn(
        layers, heads, queries, keys, generator=torch.Generator().manual_seed(0)
    )
    return torch.softmax(2 * logits, dim=-1)


# --- style ------------------------------------------------------------------------------


def luminance(color: str) -> float:
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


LINE_COLORS = {k: v for k, v in style.COLORS.items() if k not in ("mask", "context")}
LINE_COLORS |= {f"head {i}": style.head_color(i) for i in range(12)}


@pytest.mark.parametrize("name", LINE_COLORS)
def test_lines_stand_out_from_the_card(name: str) -> None:
    contrast = (luminance(style.CARD) + 0.05) / (luminance(LINE_COLORS[name]) + 0.05)
    assert contrast >= 3  # WCAG 1.4.11


def test_twelve_heads_have_twelve_colors() -> None:
    assert len({style.head_color(i) for i in range(12)}) == 12
    with pytest.raises(ValueError, match="head must be at least 0, but it is -1"):
        style.head_color(-1)


def test_figures_bring_their_own_opaque_background() -> None:
    figure, ax = plt.subplots()
    assert figure.get_facecolor() == (*to_rgb(style.CARD), 1.0)
    assert ax.get_facecolor() == (*to_rgb(style.CARD), 1.0)


def test_spread_draws_the_mean_and_the_range() -> None:
    _, ax = plt.subplots()
    style.spread(ax, [1, 2], [[0.0, 1.0], [3.0, 2.0]], "loss", "#0072b2")
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [1.5, 1.5])
    corners = ax.collections[0].get_paths()[0].vertices
    assert {(1.0, 0.0), (1.0, 3.0), (2.0, 1.0), (2.0, 2.0)} <= set(map(tuple, corners))
    with pytest.raises(ValueError, match=r"runs must have shape \(seeds, 3\)"):
        style.spread(ax, [1, 2, 3], [[0.0, 1.0]], "loss", "#0072b2")


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_line_labels_do_not_overlap_and_keep_their_order(scale: str) -> None:
    figure, ax = plt.subplots()
    for i, end in enumerate([1.0, 1.001, 1.002, 50.0]):
        ax.plot([0, 1, 2], [1.0, 2.0, end], label=f"line {i}")
    ax.plot([0, 2], [1, 1])  # has no label and gets none
    ax.set_yscale(scale)
    style.label_lines(ax)
    figure.canvas.draw()
    assert [text.get_text() for text in ax.texts] == [f"line {i}" for i in range(4)]
    boxes = [text.get_window_extent() for text in ax.texts]
    for below, above in itertools.pairwise(boxes):
        assert below.y1 <= above.y0 + 1
    assert all(box.x1 <= figure.bbox.x1 for box in boxes)


# --- show_source ------------------------------------------------------------------------


def test_source_is_the_real_one_with_its_place() -> None:
    shown = show_source(MultiHeadAttention)
    source, first = inspect.getsourcelines(MultiHeadAttention)
    bundle = shown._repr_mimebundle_()
    assert "".join(source).rstrip() in bundle["text/markdown"]
    place = f"`companion/layers/multi_head.py`, lines {first}–{first + len(source) - 1}"
    assert place in bundle["text/markdown"]
    assert bundle["text/plain"] == (
        "source of companion.layers.multi_head.MultiHeadAttention"
    )


def test_source_of_a_method_is_dedented_and_can_lose_its_docstring() -> None:
    shown = show_source(MultiHeadAttention.forward, causal_mask, without_docstring=True)
    blocks = re.findall(r"````python\n(.*?)\n````", shown.markdown(), re.DOTALL)
    assert len(blocks) == 2
    assert blocks[0].startswith("def forward(")
    for block, real in zip(
        blocks, (MultiHeadAttention.forward, causal_mask), strict=True
    ):
        assert '"""' not in block
        assert inspect.getdoc(real).splitlines()[0] not in block
        compile(block, "shown", "exec")
        assert "return" in block


class OnlyADocstring:
    """Nothing else."""


def test_a_body_that_is_only_a_docstring_stays_valid() -> None:
    shown = show_source(OnlyADocstring, without_docstring=True).markdown()
    assert "Nothing else." in shown


def test_source_of_what_has_none() -> None:
    with pytest.raises(TypeError, match=r"objects must be classes, .* one is a int: 3"):
        show_source(3)
    with pytest.raises(TypeError, match="at least one"):
        show_source()


# --- heatmaps ---------------------------------------------------------------------------


def cells(ax) -> np.ndarray:
    return ax.collections[0].get_array().reshape(-1)


def test_heatmap_rows_are_queries_from_the_top() -> None:
    _figure, ax = plt.subplots()
    weights = some_maps(queries=2)[0, 0]
    attention_heatmap(ax, weights.requires_grad_(), ["who", "what"], TOKENS)
    np.testing.assert_allclose(cells(ax), weights.detach().flatten(), rtol=1e-6)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["who", "what"]
    assert [t.get_text() for t in ax.get_xticklabels()] == TOKENS
    assert ax.yaxis_inverted()
    assert (ax.get_xlabel(), ax.get_ylabel()) == (
        "key (attended to)",
        "query (attends)",
    )
    assert ax.collections[0].get_clim() == (0.0, 1.0)
    assert ax.get_aspect() == 1.0


def test_heatmap_takes_half_precision_and_hides_what_is_masked() -> None:
    _, ax = plt.subplots()
    weights = some_maps()[0, 0].bfloat16()
    attention_heatmap(ax, weights, TOKENS, mask=causal_mask(4))
    hidden = np.ma.getmaskarray(ax.collections[0].get_array()).reshape(4, 4)
    np.testing.assert_array_equal(hidden, ~causal_mask(4).numpy())


def test_crowded_labels_do_not_touch() -> None:
    figure, ax = plt.subplots(figsize=(4, 4))
    attention_heatmap(ax, np.eye(80), [f"w{i}" for i in range(80)])
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert len(boxes) >= 10
    assert all(a.y0 >= b.y1 - 1 for a, b in itertools.pairwise(boxes))


def test_heads_share_one_scale_and_write_no_file(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    figure = visualize_attention_heads(some_maps(1, 6), TOKENS)
    *maps, bar = figure.axes
    assert [ax.get_title(loc="left") for ax in maps] == [
        f"head {i}" for i in (1, 2, 3, 4)
    ]
    assert {ax.collections[0].get_clim() for ax in maps} == {(0.0, 1.0)}
    for ax, weights in zip(maps, some_maps(1, 6)[0], strict=False):
        np.testing.assert_allclose(cells(ax), weights.flatten(), rtol=1e-6)
    assert bar.get_ylabel() == "attention weight"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("heads", [1, 3, 5])
def test_any_number_of_heads_is_drawn(heads: int) -> None:
    figure = visualize_attention_heads(some_maps(1, heads)[0], TOKENS, 12)
    figure.canvas.draw()
    drawn = [ax for ax in figure.axes if ax.get_title(loc="left")]
    assert len(drawn) == heads


BAD_HEATMAPS = {
    r"weights must have shape \(queries, keys\), but it": {"weights": np.ones(4)},
    r"query_tokens must name the 4 rows .* has 1 entries": {"query_tokens": ["a"]},
    r"query_tokens must be a list of strings": {"query_tokens": "abcd"},
    r"key_tokens must name the 4 columns .* has 2": {"key_tokens": ["a", "b"]},
    r"vmax must be positive, but it is 0": {"vmax": 0},
    r"mask must have the shape of weights": {"mask": causal_mask(3)},
}


@pytest.mark.parametrize("message", BAD_HEATMAPS)
def test_heatmap_errors_name_the_argument(message: str) -> None:
    arguments = {"weights": np.eye(4), "query_tokens": TOKENS} | BAD_HEATMAPS[message]
    with pytest.raises(ValueError, match=message):
        attention_heatmap(plt.subplots()[1], **arguments)


def test_heads_errors_name_the_argument() -> None:
    maps = some_maps(1, 2)
    with pytest.raises(ValueError, match=r"weights must have shape \(heads, queries"):
        visualize_attention_heads(maps[0, 0], TOKENS)
    with pytest.raises(ValueError, match="titles must name the 2 maps"):
        visualize_attention_heads(maps, TOKENS, titles=["one"])
    with pytest.raises(ValueError, match="num_heads_to_show must be at least 1"):
        visualize_attention_heads(maps, TOKENS, 0)
    with pytest.raises(ValueError, match="columns must be at least 1"):
        visualize_attention_heads(maps, TOKENS, columns=0)


# --- figures for two hosts --------------------------------------------------------------


def inlined(html: str) -> dict:
    (content,) = re.findall(
        r'<script type="application/json">(.*?)</script>', html, re.DOTALL
    )
    return json.loads(content)


class Counter(Figure):
    _esm = "export default { render({ model, el }) { el.textContent = 1; } };"
    _css = "b { color: red } /* </style> */"

    count = traitlets.Int(3).tag(sync=True)
    label = traitlets.Unicode("").tag(sync=True)
    private = traitlets.Int(1)

    def fallback(self) -> str:
        return f"<p>{self.count}</p>"


def test_a_page_gets_the_module_and_the_synced_traits() -> None:
    html = Counter(count=5, label="</script><!--").to_html()
    content = inlined(html)
    assert content["module"] == Counter._esm
    assert content["state"] == {"count": 5, "label": "</script><!--"}
    assert html.count("</script") == 2
    assert html.count("</style") == 1
    assert "<!--" not in html
    assert "<noscript><p>5</p></noscript>" in html


def test_jupyter_gets_the_live_widget_and_stable_text() -> None:
    first, _ = Counter()._repr_mimebundle_()
    second, _ = Counter()._repr_mimebundle_()
    view = "application/vnd.jupyter.widget-view+json"
    assert first[view]["model_id"] != second[view]["model_id"]
    assert first["text/html"] == second["text/html"]
    assert (
        first["text/plain"] == second["text/plain"] == "<interactive figure: Counter>"
    )
    assert Counter(count=4).to_html() != first["text/html"]


def test_the_inlined_html_names_no_other_host() -> None:
    html = HeadViewer(some_maps(), TOKENS).to_html()
    hosts = set(re.findall(r"https?://[^/\"']+", html))
    assert hosts == {"http://www.w3.org"}  # a namespace's name, nothing that is loaded


# --- the head viewer --------------------------------------------------------------------


def test_viewer_carries_the_weights_to_four_decimals() -> None:
    maps = some_maps(queries=3)
    viewer = HeadViewer(maps.unsqueeze(1), TOKENS[:3], TOKENS)
    state = inlined(viewer.to_html())["state"]
    levels = np.frombuffer(base64.b64decode(state["weights"]), dtype="<u2")
    assert state["shape"] == [2, 3, 3, 4]
    np.testing.assert_allclose(levels.reshape(2, 3, 3, 4) / 65535, maps, atol=1e-5)


def test_viewer_starts_where_it_is_told() -> None:
    viewer = HeadViewer(
        some_maps(), TOKENS, layer=2, head=3, token="sat", notes={"2.3": "looks back"}
    )
    state = inlined(viewer.to_html())["state"]
    assert (state["layer"], state["head"], state["token"]) == (2, 3, 3)
    assert state["notes"] == {"2.3": "looks back"}
    assert repr(viewer) == (
        "<interactive figure: attention heads, 2 layers of 3, 4 queries by 4 keys>"
    )


def test_python_and_the_page_share_the_choice() -> None:
    viewer, seen = HeadViewer(some_maps(), TOKENS), []
    viewer.observe(
        lambda change: seen.append((change.name, change.new)),
        ["layer", "head", "token"],
    )
    viewer.set_state({"layer": 2, "token": 4})  # as a message from the page does
    assert (viewer.layer, viewer.token) == (2, 4)
    viewer.head = 3
    assert set(seen) == {("layer", 2), ("token", 4), ("head", 3)}
    assert viewer.get_state(["layer", "head", "token"]) == {
        "layer": 2,
        "head": 3,
        "token": 4,
    }
    with pytest.raises(ValueError, match="head must be from 1 to 3, but it is 4"):
        viewer.head = 4
    assert viewer.head == 3


def test_fallback_says_what_the_first_head_shows() -> None:
    maps = torch.zeros(1, 1, 2, 2)
    maps[0, 0] = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    html = HeadViewer(maps, ["<s>", "cat"]).fallback()
    assert "&lt;s&gt;</th><td>cat 0.75, &lt;s&gt; 0.25" in html
    assert "cat</th><td>&lt;s&gt; 1.00, cat 0.00" in html


BAD_VIEWERS = {
    r"maps must have shape \(layers, heads, queries": {"maps": some_maps()[0]},
    r"weights between 0 and 1, but they run from 0.0 to 7": {
        "maps": 7 * np.ones((1, 1, 4, 4)) * np.eye(4)
    },
    r"weights between 0 and 1, but they run from nan": {
        "maps": np.full((1, 1, 4, 4), np.nan)
    },
    r"tokens must name the 4 queries of maps, but it has 1": {"tokens": ["a"]},
    r"tokens must be a list of strings": {"tokens": "abcd"},
    r"key_tokens must name the 4 keys": {"key_tokens": ["a"]},
    r"layer must be from 1 to 2, but it is 0": {"layer": 0},
    r"head must be from 1 to 3, but it is 12": {"head": 12},
    r"token must be from 0 to 4, but it is 5": {"token": 5},
    r"token is 'dog', but tokens are \['the'": {"token": "dog"},
    r"notes must be keyed .* but it has \['6.12'\]": {"notes": {"6.12": "far"}},
    r"maps holds 518,400 weights": {"maps": np.zeros((6, 6, 120, 120))},
}


@pytest.mark.parametrize("message", BAD_VIEWERS)
def test_viewer_errors_name_the_argument(message: str) -> None:
    arguments = {"maps": some_maps(), "tokens": TOKENS} | BAD_VIEWERS[message]
    with pytest.raises(ValueError, match=message):
        HeadViewer(**arguments)
