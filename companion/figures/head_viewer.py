"""The interactive head viewer: every head of a model at a glance, and one in detail."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
import traitlets
from numpy.typing import ArrayLike

from companion.figures.widget import Figure

_HERE = Path(__file__).parent
_MAX_WEIGHTS = 500_000


class HeadViewer(Figure):
    """All attention maps of a model on one sentence; pick a head, then a token.

    Layers, heads and tokens count from 1, as people say it: "layer 6, head 12". The
    traits ``layer``, ``head`` and ``token`` can be set and observed from Python.

    Args:
        maps: ``(layers, heads, queries, keys)``, or ``(layers, 1, heads, queries,
            keys)`` as ``record_attention``'s ``stack()`` gives it, on any device.
        tokens: of the queries, and of the keys too unless ``key_tokens`` are given.
        key_tokens: of the keys, for cross-attention.
        layer: shown first.
        head: shown first.
        token: the query chosen first: its number, or its text (where it first occurs);
            0 shows the lines of all.
        notes: what to say about a head, under its "layer.head": ``{"6.12": "..."}``.

    Raises:
        ValueError: shapes and tokens don't fit, a number is out of range, a weight is
            not between 0 and 1, or there are too many for a page.
    """

    _esm = _HERE / "head_viewer.js"
    _css = _HERE / "head_viewer.css"

    layer = traitlets.Int(1).tag(sync=True)
    head = traitlets.Int(1).tag(sync=True)
    token = traitlets.Int(0).tag(sync=True)
    notes = traitlets.Dict(read_only=True).tag(sync=True)
    tokens = traitlets.List(traitlets.Unicode(), read_only=True).tag(sync=True)
    key_tokens = traitlets.List(traitlets.Unicode(), read_only=True).tag(sync=True)
    # layers, heads, queries, keys
    shape = traitlets.List(traitlets.Int(), read_only=True).tag(sync=True)
    # The weights times 65535 as little-endian unsigned 16-bit numbers, in base64.
    weights = traitlets.Unicode(read_only=True).tag(sync=True)

    def __init__(
        self,
        maps: ArrayLike,
        tokens: Sequence[str],
        key_tokens: Sequence[str] | None = None,
        *,
        layer: int = 1,
        head: int = 1,
        token: int | str = 0,
        notes: Mapping[str, str] | None = None,
    ) -> None:
        maps = _as_maps(maps)
        num_layers, num_heads, queries, keys = maps.shape
        key_tokens = tokens if key_tokens is None else key_tokens
        _check_tokens("tokens", tokens, queries, "queries")
        _check_tokens("key_tokens", key_tokens, keys, "keys")
        if isinstance(token, str):
            if token not in tokens:
                raise ValueError(f"token is {token!r}, but tokens are {list(tokens)}")
            token = list(tokens).index(token) + 1
        _check_number("layer", layer, 1, num_layers)
        _check_number("head", head, 1, num_heads)
        _check_number("token", token, 0, queries)
        notes = dict(notes or {})
        known = {
            f"{i + 1}.{j + 1}" for i in range(num_layers) for j in range(num_heads)
        }
        if unknown := sorted(notes.keys() - known):
            raise ValueError(
                f'notes must be keyed "layer.head", from "1.1" to "{num_layers}.'
                f'{num_heads}", but it has {unknown}'
            )

        super().__init__()
        self._maps = maps
        self.set_trait("tokens", list(tokens))
        self.set_trait("key_tokens", list(key_tokens))
        self.set_trait("shape", list(maps.shape))
        levels = np.rint(maps * 65535).astype("<u2")
        self.set_trait("weights", base64.b64encode(levels.tobytes()).decode("ascii"))
        self.set_trait("notes", notes)
        self.layer, self.head, self.token = layer, head, token

    @traitlets.validate("layer", "head", "token")
    def _stay_in_range(self, proposal: Any) -> int:
        name, value = proposal.trait.name, proposal.value
        if self.shape:
            position = {"layer": 0, "head": 1, "token": 2}[name]
            _check_number(name, value, int(name != "token"), self.shape[position])
        return value

    def describe(self) -> str:
        num_layers, num_heads, queries, keys = self.shape
        return (
            f"attention heads, {num_layers} layers of {num_heads}, "
            f"{queries} queries by {keys} keys"
        )

    def fallback(self) -> str:
        """The head shown first as a table: what each token attends to most."""
        rows = []
        for query, weights in zip(
            self.tokens, self._maps[self.layer - 1, self.head - 1], strict=True
        ):
            most = np.argsort(-weights, kind="stable")[:3]
            cells = ", ".join(
                f"{escape(self.key_tokens[k])} {weights[k]:.2f}" for k in most
            )
            rows.append(
                f"<tr><th scope='row'>{escape(query)}</th><td>{cells}</td></tr>"
            )
        return (
            f"<table><caption>Layer {self.layer}, head {self.head}: what each token "
            "attends to most. With JavaScript this figure shows every head."
            "</caption><tr><th scope='col'>token</th><th scope='col'>attends to</th></tr>"
            f"{''.join(rows)}</table>"
        )


def _as_maps(maps: ArrayLike) -> np.ndarray:
    if isinstance(maps, torch.Tensor):
        maps = maps.detach().float().cpu().numpy()
    maps = np.asarray(maps, dtype=np.float32)
    if maps.ndim == 5 and maps.shape[1] == 1:
        maps = maps[:, 0]
    if maps.ndim != 4 or 0 in maps.shape:
        raise ValueError(
            "maps must have shape (layers, heads, queries, keys) or (layers, 1, heads, "
            f"queries, keys), but it has shape {maps.shape}"
        )
    if maps.size > _MAX_WEIGHTS:
        raise ValueError(
            f"maps holds {maps.size:,} weights, more than the {_MAX_WEIGHTS:,} that a "
            "page can carry: take a shorter sentence, or fewer layers or heads"
        )
    # Softmax may exceed 1 by a rounding error; NaN fails the comparison as it should.
    if not (maps.min() >= 0 and maps.max() <= 1 + 1e-4):
        raise ValueError(
            "maps must hold weights between 0 and 1, but they run from "
            f"{maps.min()} to {maps.max()}"
        )
    return np.minimum(maps, 1.0)


def _check_tokens(name: str, tokens: Sequence[str], wanted: int, of_what: str) -> None:
    if isinstance(tokens, str):
        raise ValueError(f"{name} must be a list of strings, but it is {tokens!r}")
    if len(tokens) != wanted:
        raise ValueError(
            f"{name} must name the {wanted} {of_what} of maps, but it has "
            f"{len(tokens)} entries"
        )


def _check_number(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low} to {high}, but it is {value}")
