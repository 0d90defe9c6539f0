"""Set-up says in plain words what is wrong, and what to do about it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
REFUSED = "http://127.0.0.1:9/simple"  # the discard port: nothing answers


@pytest.fixture
def setup_venv(tmp_path: Path) -> ModuleType:
    """The script, looking at an empty project."""
    spec = importlib.util.spec_from_file_location(
        "setup_venv", ROOT / "tools" / "setup_venv.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.ROOT, module.LOG = tmp_path, tmp_path / ".venv" / "setup.log"
    for name in ("requirements.txt", "pyproject.toml"):
        (tmp_path / name).write_text("")
    return module


def project(folder: Path) -> Path:
    """A project that pins one package, with our set-up."""
    (folder / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "setup_venv.py", folder / "tools")
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "pyproject.toml").write_text("")
    (folder / "requirements.txt").write_text("tqdm==4.66.5\n")
    return folder


def make(
    folder: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    clean = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("PIP_", "MAKE", "MFLAGS"))
    }
    return subprocess.run(
        ["make", "lint", *arguments],
        cwd=folder,
        env=clean | {"PIP_CONFIG_FILE": os.devnull} | environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_without_a_network_the_missing_package_and_the_remedies_are_named(
    tmp_path: Path,
) -> None:
    done = make(
        project(tmp_path), PYTHON=sys.executable, PIP_INDEX_URL=REFUSED, PIP_RETRIES="0"
    )
    assert done.returncode != 0
    for part in (
        "tqdm==4.66.5",
        "cannot be reached",
        "PIP_INDEX_URL",
        "PIP_FIND_LINKS",
    ):
        assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / ".venv" / ".complete").exists()


def test_a_python_that_does_not_run_is_told_from_one_that_does(tmp_path: Path) -> None:
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\necho 'no such version' >&2\nexit 127\n")
    shim.chmod(0o755)
    done = make(project(tmp_path), f"PYTHON={shim}")
    assert done.returncode != 0
    assert "No Python 3.11, 3.12 or 3.13 runs here" in done.stderr
    assert str(shim) in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_an_unsupported_python_is_refused(setup_venv: ModuleType, monkeypatch) -> None:
    monkeypatch.setattr(setup_venv.sys, "version_info", (3, 10, 4, "final", 0))
    with pytest.raises(
        setup_venv.SetupError, match=r"is Python 3\.10\.4\. The book needs"
    ):
        setup_venv.check_python()


def test_a_missing_venv_module_is_named_with_its_package(
    setup_venv: ModuleType, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(
        setup_venv.SetupError, match=r"lacks the venv module.*python3-venv"
    ):
        setup_venv.check_python()


def test_the_stamp_follows_what_the_environment_is_made_from(
    setup_venv: ModuleType,
) -> None:
    before = setup_venv.stamp(newest=False)
    assert setup_venv.stamp(newest=False) == before
    assert setup_venv.stamp(newest=True) != before
    (setup_venv.ROOT / "requirements.txt").write_text("torch==2.13.0\n")
    assert setup_venv.stamp(newest=False) != before


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("OSError: [Errno 28] No space left on device", "The disk is full"),
        (
            "ERROR: No matching distribution found for numpy==2.4.6",
            "no such release for Python",
        ),
        ("error: metadata-generation-failed", "metadata-generation-failed"),
    ],
)
def test_other_failures_of_pip_are_told_apart(
    setup_venv: ModuleType, output: str, says: str
) -> None:
    assert says in setup_venv.explain(output)
