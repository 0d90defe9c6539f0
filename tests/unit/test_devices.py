"""Every public module on a stand-in accelerator: nothing is left on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.cases import CASES
from tests.fake_accelerator import BROKEN


@pytest.fixture(scope="module")
def verdicts() -> dict[str, str]:
    command = [sys.executable, "-m", "tests.fake_accelerator"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", CASES)
def test_module_runs_and_learns_where_its_inputs_are(name: str, verdicts) -> None:
    assert not verdicts[name], verdicts[name]


@pytest.mark.parametrize("name", BROKEN)
def test_the_stand_in_catches_a_misplaced_tensor(name: str, verdicts) -> None:
    assert "same device" in verdicts[name] or "FakeTensor" in verdicts[name]
