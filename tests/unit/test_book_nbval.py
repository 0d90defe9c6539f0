"""Tests of the notebook tests: what must fail fails, and only a tolerance is lenient."""

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tests.notebooks.plugin import close

ROOT = Path(__file__).parents[2]
FIGURE = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"
PROGRESS = "from tqdm import tqdm\nfor _ in tqdm(range(3)):\n    pass\nprint('done')"
SHIFTED = "print('weights [ 0.1234, -0.0000]\\n        [ 0.5000, 12.0000]')"

# name -> (source, stored text of stdout)
NOTEBOOKS = {
    "good": ("print('loss 0.25')", "loss 0.25\n"),
    "altered": ("print('loss 0.25')", "loss 0.26\n"),
    "lost": ("print('loss 0.25')", ""),
    "raises": ("raise ValueError('no')", ""),
    "figure": (FIGURE, ""),
    "progress": (PROGRESS, "done\n"),
    "object": ("print(object())", "<object object at 0x7f0000000001>\n"),
    "off_1e3": ("print('loss 1.234567')", "loss 1.235801\n"),
    "off_1e5": ("print('loss 1.234567')", "loss 1.234579\n"),
    "off_words": ("print('loss 1.234567')", "cost 1.234567\n"),
    "off_count": ("print('heads 12')", "heads 13\n"),
    "columns": (SHIFTED, "weights [0.1234, 0.0000]\n        [0.5000, 12.0000]\n"),
}
STUB_TORCH = """
__version__ = "stub"
class cuda:
    used = 0
    def is_available(): return True
    def memory_stats(): return {"allocated_bytes.all.allocated": cuda.used}
"""


def write(path: Path, source: str, text: str, count: int | None = 1) -> None:
    cell = new_code_cell(source, execution_count=count)
    if text:
        cell.outputs.append(new_output("stream", name="stdout", text=text))
    if "plt" in source:
        data = {"text/plain": "<Figure size 640x480 with 1 Axes>"}
        cell.outputs.append(new_output("display_data", data))
    nbformat.write(new_notebook(cells=[cell]), path)


def run_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pytest", "-p", "tests.notebooks.plugin", *options]
    command += [
        f"--junitxml={folder / 'report.xml'}",
        "-p",
        "no:cacheprovider",
        str(folder),
    ]
    path = os.pathsep.join([str(folder), str(ROOT)])
    env = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    return subprocess.run(
        command,
        cwd=ROOT,
        env=env | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


def failures(folder: Path) -> dict[str, str]:
    """Notebook -> names of its tests that failed, with their messages."""
    found = {}
    for case in ET.parse(folder / "report.xml").iter("testcase"):
        for bad in (*case.iter("failure"), *case.iter("error")):
            name = re.split(r"[./]", case.get("classname").removesuffix(".ipynb"))[-1]
            found[name] = f"{case.get('name')}: {bad.text}"
    return found


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("strict")
    for name, (source, text) in NOTEBOOKS.items():
        write(folder / f"{name}.ipynb", source, text)
    write(folder / "unexecuted.ipynb", "print('loss 0.25')", "", count=None)
    run_pytest(folder)
    return failures(folder)


@pytest.fixture(scope="module")
def lenient(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("lenient")
    for name, (source, text) in NOTEBOOKS.items():
        if name.startswith(("off_", "columns", "altered")):
            write(folder / f"{name}.ipynb", source, text)
    run_pytest(folder, "--nbval-rtol", "1e-4")
    return failures(folder)


def test_what_must_fail_fails_and_nothing_else(strict: dict[str, str]) -> None:
    passes = {"good", "figure", "progress", "object"}
    assert set(strict) == set(NOTEBOOKS) - passes | {"unexecuted"}


def test_failures_say_what_is_wrong(strict: dict[str, str]) -> None:
    assert "loss 0.26" in strict["altered"] and "loss 0.25" in strict["altered"]
    assert "ValueError" in strict["raises"]
    assert "make refresh" in strict["unexecuted"]


def test_the_tolerance_forgives_floats_only(lenient: dict[str, str]) -> None:
    assert set(lenient) == {"off_1e3", "off_words", "off_count", "altered"}


@pytest.mark.parametrize(
    ("new", "old", "same"),
    [
        ("x 1.00001", "x 1.0", True),
        ("x 1.001", "x 1.0", True),  # one in the last of three places: rounding
        ("x 1.0010", "x 1.0000", False),
        ("0.1235", "0.1234", True),
        ("0.1236", "0.1234", False),
        ("0.86", "0.85", False),
        ("2.", "3.", False),
        ("12", "13", False),
        ("1.5e-07", "1.50001e-07", True),
        ("1.5e-07", "1.6e-07", False),
        ("tensor([-0.0000, 1.0000])", "tensor([0.0000, 1.0000])", True),
        ("nan", "0.5", False),
        ("1.0 2.0", "1.0", False),
    ],
)
def test_close(new: str, old: str, same: bool) -> None:
    assert close(new, old, 1e-4) is same


def test_gpu_run_wants_every_notebook_to_use_the_gpu(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(STUB_TORCH)
    use = "import os, torch\ntorch.cuda.used = 1\nprint(os.environ['COMPANION_DEVICE'])"
    write(tmp_path / "uses.ipynb", use, "cuda\n")
    write(tmp_path / "imports_only.ipynb", "import torch", "")
    write(tmp_path / "without_torch.ipynb", "1 + 1\nNone", "")
    write(tmp_path / "exempt.ipynb", "None", "")
    notebook = nbformat.read(tmp_path / "exempt.ipynb", as_version=4)
    notebook.metadata["companion"] = {"gpu": False}
    nbformat.write(notebook, tmp_path / "exempt.ipynb")
    run_pytest(tmp_path, "--gpu")
    found = failures(tmp_path)
    assert set(found) == {"imports_only", "without_torch"}
    assert all("GPU" in message for message in found.values())


def test_gpu_run_without_cuda_fails_at_once(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(
        STUB_TORCH.replace("return True", "return False")
    )
    write(tmp_path / "good.ipynb", *NOTEBOOKS["good"])
    done = run_pytest(tmp_path, "--gpu")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--gpu needs CUDA" in done.stderr
    assert not (tmp_path / "report.xml").exists()
