"""Interactive figures: one JavaScript module for two hosts, Jupyter and a plain page.

A figure is an anywidget: its module (``_esm``) draws everything from synced traits. In
Jupyter it is live. On a built page there is no kernel, so the figure's ``text/html``
carries the module, the traits and a stand-in for the widget model, and nothing of it
comes from another file or host.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets

_HOST = (Path(__file__).parent / "static_host.js").read_text(encoding="utf8")
_OWN_TRAITS_OF_WIDGETS = frozenset(ipywidgets.DOMWidget.class_traits(sync=True))


def figure_module(path: Path) -> str:
    """The JavaScript of a figure, with the functions that all figures share in front."""
    common = path.with_name("common.js").read_text(encoding="utf8")
    return common + "\n" + path.read_text(encoding="utf8")


def figure_style(path: Path) -> str:
    """The style sheet of a figure on a card, with what all cards share in front."""
    common = path.with_name("common.css").read_text(encoding="utf8")
    return common + path.read_text(encoding="utf8")


class Figure(anywidget.AnyWidget):
    """A widget that also works on a page without Jupyter.

    A figure sets ``_esm`` and ``_css`` and tags its traits ``sync=True``; they must be
    what JSON can hold. The module may use of the model ``get``, ``set``, ``on``,
    ``off``, ``save_changes`` and ``send`` (which a page without a kernel ignores).
    """

    def fallback(self) -> str:
        """HTML that says the same without JavaScript."""
        raise NotImplementedError(f"{type(self).__name__} must define fallback()")

    def __repr__(self) -> str:
        return f"<interactive figure: {self.describe()}>"

    def describe(self) -> str:
        """What the figure shows, in a few words that depend on its content only."""
        return type(self).__name__

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        return data | {"text/html": self.to_html()}, metadata

    def to_html(self) -> str:
        """The figure as it stands now, as a piece of HTML that needs nothing else."""
        names = self.traits(sync=True).keys() - _OWN_TRAITS_OF_WIDGETS
        state = {n: getattr(self, n) for n in sorted(names) if not n.startswith("_")}
        content = json.dumps(
            {"module": str(self._esm), "state": state},
            ensure_ascii=False,
            sort_keys=True,
        )
        # The content decides the id: it is the same in every run.
        digest = hashlib.sha256(content.encode()).hexdigest()[:10]
        kind = re.sub(r"(?<!^)(?=[A-Z])", "-", type(self).__name__).lower()
        return _PAGE.format(
            id=f"{kind}-{digest}",
            css=str(self._css).replace("</", "<\\/"),
            fallback=self.fallback(),
            # "<" would let a token such as "</script>" end the element.
            content=content.replace("<", "\\u003c"),
            host=_HOST,
        )


_PAGE = """\
<div class="companion-figure" id="{id}">
<style>{css}</style>
<div class="companion-figure-view"></div>
<noscript>{fallback}</noscript>
<script type="application/json">{content}</script>
<script>{host}</script>
</div>"""
