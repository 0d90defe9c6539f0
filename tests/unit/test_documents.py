"""What the documents say is so: examples run, the files of the project agree with each other."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import companion

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "book").glob("*.md"))
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(companion.__path__, "companion.")
    if not module.name.endswith("__main__")
)
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def pins() -> list[Requirement]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run_examples(test: doctest.DocTest) -> None:
    report: list[str] = []
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, _ = doctest.DocTestRunner(optionflags=flags).run(test, out=report.append)
    assert not failed, "".join(report)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_of_a_page(page: Path) -> None:
    text = re.sub(r"^\s*```$", "", page.read_text(), flags=re.MULTILINE)
    run_examples(doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0))


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module(name: str) -> None:
    for test in doctest.DocTestFinder().find(importlib.import_module(name), name):
        run_examples(test)


def test_every_requirement_is_an_exact_version() -> None:
    for pin in pins():
        assert [clause.operator for clause in pin.specifier] == ["=="], (
            f"{pin} is not exact"
        )


def test_the_pins_lie_in_the_ranges_of_the_project() -> None:
    pinned = {canonicalize_name(pin.name): pin for pin in pins()}
    extras = project()["optional-dependencies"]
    for line in [
        *project()["dependencies"],
        *(line for extra in extras.values() for line in extra),
    ]:
        wanted = Requirement(line)
        if wanted.name == "companion":
            assert wanted.extras <= set(extras), (
                f"{line} names an extra that there is not"
            )
            continue
        assert canonicalize_name(wanted.name) in pinned, (
            f"requirements.txt does not pin {line}"
        )
        (clause,) = pinned[canonicalize_name(wanted.name)].specifier
        assert wanted.specifier.contains(clause.version), f"{clause} is not in {line}"


def test_make_help_lists_every_target() -> None:
    listed = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    for target in "book test gpu bench parity lab refresh lint clean".split():
        assert re.search(rf"make {target} +\w", listed), (
            f"`make help` does not list {target}"
        )


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_calls_what_there_is(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    targets = set(
        re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    )
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert all(("run" in step) != ("uses" in step) for step in steps)
    for command in (step["run"] for step in steps if "run" in step):
        for target in re.findall(r"make ([a-z]+)", command):
            assert target in targets, f"{path.name} calls `make {target}`"
        if command.startswith(".ci/"):
            assert (ROOT / command).stat().st_mode & 0o100, (
                f"{command} cannot be executed"
            )
