"""The modules of the package as pages of their own, which the API's "[source]" links show.

Sphinx's viewcode does the same with the whole frame of the theme around each module, which
takes longer than all chapters together.
"""

import ast
import html
import importlib.util
import os
import re
from functools import cache
from pathlib import Path

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from sphinx.application import Sphinx

FOLDER = "_modules"
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{module}</title>
<link rel="stylesheet" href="{up}_static/pygments.css">
<link rel="stylesheet" href="{up}_static/source.css">
<script>
document.documentElement.dataset.theme =
  matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
</script>
</head>
<body>
<main>
<h1>{module}</h1>
<p><a href="{up}book/api/{package}.html">What its docstrings say</a></p>
{code}
</main>
</body>
</html>
"""


def source_link(domain: str, info: dict[str, str]) -> str | None:
    """linkcode's question: where the source of an object stands, seen from its API page."""
    if domain != "py" or not info["module"].startswith("companion."):
        return None
    line = _lines(info["module"]).get(info["fullname"])
    if line is None:
        return None
    return f"../../{_page(info['module'])}#line-{line}"


def write_source_pages(app: Sphinx, exception: Exception | None) -> None:
    """build-finished: a page for each module that an API page of this build documents."""
    if exception or app.builder.name != "html":
        return
    objects = app.env.get_domain("py").get_objects()
    modules = {name for name, _, kind, *_ in objects if kind == "module"}
    for module in sorted(modules):
        page = Path(app.outdir, _page(module))
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(_render(module), encoding="utf8")


def _render(module: str) -> str:
    formatter = HtmlFormatter(lineanchors="line")
    code = highlight(_source(module), PythonLexer(), formatter)
    return PAGE.format(
        module=html.escape(module),
        package=module.split(".")[1],
        up="../" * _page(module).count("/"),
        # A link without words is nothing to who hears the page.
        code=re.sub(r'<a (id="line-\d+")[^>]*></a>', r"<span \1></span>", code),
    )


def _page(module: str) -> str:
    return f"{FOLDER}/{module.replace('.', '/')}.html"


def _source(module: str) -> str:
    origin = importlib.util.find_spec(module).origin
    return Path(os.fspath(origin)).read_text(encoding="utf8")


@cache
def _lines(module: str) -> dict[str, int]:
    """Dotted name -> the line where its definition starts, for a module's every object."""
    found: dict[str, int] = {}

    def walk(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found[prefix + node.name] = node.lineno
                if isinstance(node, ast.ClassDef):
                    walk(node.body, f"{prefix}{node.name}.")

    walk(ast.parse(_source(module)).body, "")
    return found
