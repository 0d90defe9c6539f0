"""A place to link to at every code cell of a page: `#cell-<id>`.

The id of a cell stays when the text around it is rewritten, so a link to one breaks only
when the cell goes. From other pages: ``{ref}`text <cell-attention-reach>` ``.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

PREFIX = "cell-"


def cell_ids(path: Path) -> list[str]:
    """The ids of a notebook's cells, in order."""
    return [cell["id"] for cell in json.loads(path.read_text("utf8"))["cells"]]


def mark_cells(app: Sphinx, doctree: nodes.document) -> None:
    """Give each code cell of a notebook's page its id, and the book a label for it."""
    path = Path(app.env.doc2path(app.env.docname))
    if path.suffix != ".ipynb":
        return
    ids = cell_ids(path)
    labels = app.env.get_domain("std").anonlabels
    for cell in _code_cells(doctree):
        name = PREFIX + ids[cell["cell_index"]]
        cell["ids"].append(name)
        labels[name] = app.env.docname, name


def _code_cells(doctree: nodes.document) -> Iterator[nodes.container]:
    for node in doctree.findall(nodes.container):
        if node.get("nb_element") == "cell_code":
            yield node
