"""nbval for this book: run every notebook and hold its stored text to what it prints now.

    python -m pytest -p tests.notebooks.plugin -n 2 --dist loadscope book tests      # make test
    python -m pytest -p tests.notebooks.plugin --gpu book                             # make gpu

Loading the plugin is enough: it collects notebooks, runs them on this environment's kernel with one
thread, uses the sanitize file beside it and a time limit a cell. Write `python -m pytest`, not
`pytest`: only then is the repository root on the path. Options it adds:

    --gpu           on CUDA: fails where there is none, or where a notebook did not use it;
                    implies --nbval-rtol 1e-4
    --nbval-rtol R  floats in the outputs may differ by this relative amount (default 0: not at all)

Outputs are compared as they are stored (companion/book/slim.py): all text, but no pictures, widgets
or progress bars. A notebook that was not run from top to bottom fails, where nbval itself would
pass it unchecked. What has passed goes, pictures and all, to the execution cache of the book, so that
`make book` after `make test` need not run it again. A notebook that has no use for a GPU says so in its metadata:
`{"companion": {"gpu": false}}`.
"""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import nbformat
import pytest
from nbformat import NotebookNode
from nbval.plugin import IPyNbCell, IPyNbFile

from companion.book import toc
from companion.book.build import keep_executed
from companion.book.execute import (
    CELL_TIMEOUT,
    KERNEL_ENV,
    PEAK,
    STARTUP_TIMEOUT,
    USUAL_SECONDS,
    peak_mb,
)
from companion.book.slim import count_problem, drop_progress, slim_outputs

GPU_RTOL = 1e-4
NBVAL_CELL_TIMEOUT = 2000  # nbval's own default, which means that nobody set one

# The blanks beside a number go with it: a sign or a digit more moves the columns of a tensor.
_NUMBER = re.compile(
    r"\s*([-+]?(?:\d+\.\d*|\.\d+|\d+)(?:e[-+]?\d+)?)\s*", re.IGNORECASE
)
_CUDA_BYTES = (
    "(lambda torch: torch.cuda.memory_stats().get('allocated_bytes.all.allocated', 0)"
    " if torch and torch.cuda.is_available() else 0)(__import__('sys').modules.get('torch'))"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("nbval")
    group.addoption(
        "--gpu",
        action="store_true",
        help="run the notebooks on CUDA, and fail where they do not use it",
    )
    group.addoption(
        "--nbval-rtol",
        type=float,
        default=0.0,
        help="relative tolerance of floats in outputs",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    option = config.option
    option.nbval = False  # this plugin collects the notebooks, nbval would do it again
    option.nbval_current_env = option.nbval_kernel_name is None
    option.nbval_sanitize_with = option.nbval_sanitize_with or str(
        Path(__file__).with_name("sanitize.cfg")
    )
    if option.nbval_cell_timeout == NBVAL_CELL_TIMEOUT:
        option.nbval_cell_timeout = CELL_TIMEOUT
    option.nbval_kernel_startup_timeout = max(
        option.nbval_kernel_startup_timeout, STARTUP_TIMEOUT
    )
    if option.gpu:
        option.nbval_rtol = option.nbval_rtol or GPU_RTOL
        import torch

        if not torch.cuda.is_available():
            raise pytest.UsageError(
                f"--gpu needs CUDA, and torch {torch.__version__} finds none "
                "(torch.cuda.is_available() is False). Is there an NVIDIA GPU with a driver, "
                "and is this torch a CUDA build?"
            )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Notebooks first, the longest before all; pages are driven when all have been run."""
    folders = ("parity", "browser", "unit")

    def place(node: pytest.Collector) -> tuple[int, float]:
        if isinstance(node, Notebook):
            about = nbformat.read(node.path, as_version=4).metadata.get("companion", {})
            return 0, -about.get("budget_seconds", USUAL_SECONDS)
        folder = node.path.parent.name
        return 1 + folders.index(folder) if folder in folders else len(folders) + 1, 0

    places = {item.parent: place(item.parent) for item in items}
    items.sort(key=lambda item: places[item.parent])


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "Notebook | None":
    return (
        Notebook.from_parent(parent, path=file_path)
        if file_path.suffix == ".ipynb"
        else None
    )


class Notebook(IPyNbFile):
    """A notebook: a test that it is executed, one a cell, under --gpu one that it used CUDA."""

    def setup(self) -> None:
        self.passed: dict[int, list[NotebookNode]] = {}  # outputs of the cells
        self.started = time.monotonic()
        device = {"COMPANION_DEVICE": "cuda"} if self.config.option.gpu else {}
        with mock.patch.dict(os.environ, KERNEL_ENV | device):
            super().setup()

    def teardown(self) -> None:
        executed, peak = self._executed(), 0.0
        if executed is not None:
            peak = peak_mb(self.evaluate(PEAK))
        super().teardown()
        if executed is not None:
            seconds = time.monotonic() - self.started
            keep_executed(self.config.rootpath, self.path, executed, seconds, peak)

    def _executed(self) -> NotebookNode | None:
        """The chapter with what it printed and drew; None if that is not what the book wants."""
        root, code = self.config.rootpath, [c for c in self.nb.cells if is_code(c)]
        in_book = (root / "_toc.yml").is_file() and self.path in toc.notebooks(root)
        if self.config.option.gpu or not in_book or len(self.passed) < len(code):
            return None
        executed = nbformat.read(self.path, as_version=4)
        for number, cell in enumerate(filter(is_code, executed.cells)):
            cell.outputs = drop_progress(self.passed[number])
            cell.execution_count = number + 1
        return executed

    def evaluate(self, expression: str) -> dict:
        """The kernel's reply to ``user_expressions={"value": expression}``."""
        return self.kernel.kc.execute(
            "",
            silent=True,
            user_expressions={"value": expression},
            reply=True,
            timeout=30,
        )

    def collect(self) -> Iterator[pytest.Item]:
        yield Executed.from_parent(self, name="executed")
        for cell in super().collect():
            yield Cell.from_parent(
                self,
                name=cell.name,
                cell_num=cell.cell_num,
                cell=cell.cell,
                options=cell.options,
            )
        if self.config.option.gpu and self.nb.metadata.get("companion", {}).get(
            "gpu", True
        ):
            yield UsedCuda.from_parent(self, name="used CUDA")


def is_code(cell: NotebookNode) -> bool:
    return cell.cell_type == "code"


class Executed(pytest.Item):
    """The stored notebook was run from top to bottom."""

    def runtest(self) -> None:
        if problem := count_problem(nbformat.read(self.path, as_version=4)):
            pytest.fail(
                f"{self.path.name} is not stored as executed: {problem}", pytrace=False
            )


class UsedCuda(pytest.Item):
    """The notebook's kernel has allocated memory on the GPU."""

    def runtest(self) -> None:
        reply = self.parent.evaluate(_CUDA_BYTES)
        if reply["content"]["user_expressions"]["value"]["data"]["text/plain"] == "0":
            pytest.fail(
                f"{self.path.name} ran without allocating anything on the GPU",
                pytrace=False,
            )


class Cell(IPyNbCell):
    """A code cell, whose outputs are compared slim and within the tolerance for floats."""

    def runtest(self) -> None:
        super().runtest()
        self.parent.passed[self.cell_num] = self.test_outputs

    def compare_outputs(
        self, test: list, ref: list, skip_compare: tuple | None = None
    ) -> bool:
        test, ref = slim_outputs(test), slim_outputs(ref)
        if rtol := self.config.option.nbval_rtol:
            test = [
                self._forgive(new, old, rtol)
                for new, old in zip(test, ref, strict=False)
            ] + test[len(ref) :]
        return super().compare_outputs(test, ref, skip_compare)

    def _forgive(
        self, new: NotebookNode, old: NotebookNode, rtol: float
    ) -> NotebookNode:
        """The new output, with the old text where they differ only by floats within tolerance."""

        def text(one: str, other: object) -> str:
            return (
                other
                if isinstance(other, str)
                and close(self.sanitize(one), self.sanitize(other), rtol)
                else one
            )

        if "data" in new:
            stored = old.get("data", {})
            return NotebookNode(
                new,
                data={
                    mime: text(value, stored.get(mime))
                    for mime, value in new.data.items()
                },
            )
        return (
            NotebookNode(new, text=text(new.text, old.get("text")))
            if "text" in new
            else new
        )


def close(new: str, old: str, rtol: float) -> bool:
    """Whether two texts are equal but for floats that differ by at most `rtol`, relatively.

    A float printed with three decimals or more may also differ by one in its last place, where
    rounding can go either way. Whole numbers, "nan" and all words must be equal.
    """
    if _NUMBER.sub("#", new) != _NUMBER.sub("#", old):
        return False
    return all(
        _close(*pair, rtol)
        for pair in zip(_NUMBER.findall(new), _NUMBER.findall(old), strict=True)
    )


def _close(new: str, old: str, rtol: float) -> bool:
    if new == old:
        return True
    if not re.search(r"[.e]", new + old, re.IGNORECASE):
        return False
    last_place = max(_last_place(new), _last_place(old))
    return abs(float(new) - float(old)) <= max(
        rtol * abs(float(old)), 1.001 * last_place
    )


def _last_place(number: str) -> float:
    digits, _, exponent = number.lower().partition("e")
    decimals = len(digits.partition(".")[2])
    return 10.0 ** (int(exponent or 0) - decimals) if decimals >= 3 else 0.0
