"""What `companion` promises its importers."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

import companion
from tests.cases import CASES


@pytest.mark.parametrize("name", companion.__all__)
def test_every_export_imports_and_is_documented(name: str) -> None:
    thing = getattr(companion, name)
    assert thing.__name__ == name
    assert inspect.getdoc(thing)


def test_every_exported_module_has_a_case() -> None:
    """So that the suites over devices, masks and annotations leave none out."""
    exported = {
        name
        for name in companion.__all__
        if inspect.isclass(thing := getattr(companion, name))
        and issubclass(thing, nn.Module)
    }
    missing = exported - {name.partition(",")[0] for name in CASES}
    assert not missing, f"add {sorted(missing)} to tests/cases.py"


def test_import_companion_is_light() -> None:
    heavy = ("torch", "numpy", "matplotlib", "transformers")
    code = f"import sys, companion; print([m for m in {heavy} if m in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Transfromer'"):
        companion.Transfromer  # noqa: B018
    assert set(companion.__all__) <= set(dir(companion))


FLOORS = [
    "layers",
    "models",
    "data",
    "generation",
    "training",
    "analysis",
    "figures",
    "exercises",
    "book",
]
MAY_IMPORT = {
    "layers": {"layers"},
    "models": {"layers", "models"},
    "data": {"layers", "data"},
    "training": {"layers", "models", "data", "generation", "training"},
    "generation": {"layers", "models", "generation"},
    "analysis": set(FLOORS[:6]),
    "figures": set(FLOORS[:7]),
    "exercises": set(FLOORS) - {"book"},
    "book": {"book", "exercises"},
}


def _imports(file: Path) -> set[str]:
    """The rooms of companion that a file imports from."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    rooms = set()
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "companion" and len(parts) > 1:
                rooms.add(parts[1])
    return rooms - {"runtime"}


@pytest.mark.parametrize("room", FLOORS)
def test_each_floor_imports_only_from_the_floors_under_it(room: str) -> None:
    folder = Path(companion.__file__).parent / room
    for file in folder.rglob("*.py"):
        too_high = _imports(file) - MAY_IMPORT[room]
        assert not too_high, f"{file.name} of {room} imports from {sorted(too_high)}"


def test_annotations_hold_when_the_modules_run() -> None:
    """The shapes in the signatures are checked by running every case under jaxtyping."""
    code = """
import importlib, torch
from jaxtyping import install_import_hook
with install_import_hook("companion", "beartype.beartype"):
    import companion
    for name in companion.__all__:
        getattr(companion, name)
from tests.cases import CASES
for name, case in CASES.items():
    case.call(case.build(), *case.inputs())
print(len(CASES), "cases")
try:
    companion.padding_mask(torch.randn(2, 3))  # ids that are floats
except Exception as error:
    print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[0] == f"{len(CASES)} cases"
    assert done.stdout.splitlines()[1] == "TypeCheckError"
