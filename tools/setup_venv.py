"""Make .venv: the pinned requirements and `companion` itself. `make` runs this.

    python tools/setup_venv.py              what requirements.txt pins
    python tools/setup_venv.py --newest     the newest that pyproject.toml allows

A finished environment carries a stamp that names what it was made from, so a second run does
nothing. An environment whose packages were being unpacked when the run was killed is made anew.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / ".complete"
UNPACKING = VENV / ".unpacking"  # exists while pip changes the environment
LOG = VENV / "setup.log"
OLDEST, NEWEST = (3, 11), (3, 13)

NO_NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|Temporary failure in name resolution|Max retries"
    r"|Network is unreachable|ConnectTimeout|ReadTimeout|ConnectionReset|ProxyError|SSLError"
    r"|Connection (refused|broken|aborted|timed out)|Could not fetch URL"
)
MISSING = re.compile(
    r"No matching distribution found for (\S+)|satisfies the requirement (\S+)"
    r"|/([\w.]+-\d[\w.+!-]*\.(?:whl|tar\.gz))"
)
PACKAGE = re.compile(
    r"(?:Collecting |Requirement already satisfied: |Processing (?:\S*/)?)([A-Za-z][\w.]*[-\w.]*)"
)


class SetupError(Exception):
    """Set-up cannot go on; the message is for the person at the terminal."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Make .venv for The Executable Transformer."
    )
    parser.add_argument(
        "--newest",
        action="store_true",
        help="ignore the pins: the newest that pyproject.toml allows",
    )
    newest = parser.parse_args().newest
    try:
        check_python()
        if STAMP.exists() and STAMP.read_text() == stamp(newest) and same_python():
            STAMP.touch()
            return 0
        started = time.monotonic()
        make_venv()
        STAMP.unlink(missing_ok=True)
        LOG.write_text("")
        if newest:
            run_pip(
                "--upgrade", "--upgrade-strategy", "eager", "--editable", f"{ROOT}[all]"
            )
        else:
            run_pip("--requirement", str(ROOT / "requirements.txt"))
            # Everything it needs is there by now, so this asks no index.
            run_pip("--no-deps", "--no-build-isolation", "--editable", str(ROOT))
        STAMP.write_text(stamp(newest))
    except SetupError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on from here.", file=sys.stderr)
        return 130
    print(f"The environment .venv is ready ({time.monotonic() - started:.0f} s).")
    return 0


def check_python() -> None:
    """This interpreter is one that the book supports, and it can make environments."""
    version = ".".join(map(str, sys.version_info[:3]))
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        raise SetupError(
            f"{sys.executable} is Python {version}. The book needs Python 3.11, 3.12 or 3.13: "
            "name one, as in `make book PYTHON=python3.12`."
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        raise SetupError(
            f"{sys.executable} (Python {version}) lacks the venv module. On Debian and Ubuntu it "
            f"is in the package python3-venv (or python3.{sys.version_info[1]}-venv). Or name "
            "another Python, as in `make book PYTHON=python3.12`."
        ) from None


def stamp(newest: bool) -> str:
    """What the environment is made from, then where: an environment cannot be moved."""
    made_from = hashlib.sha256(b"newest" if newest else b"pinned")
    for name in ("requirements.txt", "pyproject.toml"):
        made_from.update((ROOT / name).read_bytes())
    return f"{made_from.hexdigest()}\n{ROOT}\n"


def same_python() -> bool:
    """.venv runs, and runs the version of Python that we were asked for."""
    program = "import sys; print(sys.prefix, *sys.version_info[:2], sep='|')"
    try:
        answer = subprocess.run([PYTHON, "-c", program], capture_output=True, text=True)
    except OSError:
        return False
    return answer.stdout.strip() == "|".join(map(str, (VENV, *sys.version_info[:2])))


def make_venv() -> None:
    """An environment with pip: the one that is there if it is sound, else a new one."""
    if same_python() and not UNPACKING.exists():
        return
    version = ".".join(map(str, sys.version_info[:3]))
    print(f"Making .venv with Python {version}")
    # `_base_executable`: we may be running from the very environment that is to be replaced.
    base = getattr(sys, "_base_executable", sys.executable)
    made = subprocess.run(
        [base, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True
    )
    if made.returncode:
        raise SetupError(
            f"Could not make .venv with {base}:\n{made.stdout}{made.stderr}".rstrip()
        )


def run_pip(*arguments: str) -> None:
    """Run `pip install` with one moving line in place of its output, which goes to the log."""
    raw = pip_version() >= (
        24,
        1,
    )  # the first that reports its bytes in a form made to be read
    command = [
        PYTHON,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
        "install",
    ]
    command += ["--progress-bar", "raw" if raw else "off", *arguments]
    pip = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        encoding="utf-8", errors="replace",
    )  # fmt: skip
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in pip.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    progress, output = Progress(), []
    try:
        with LOG.open("a", encoding="utf-8") as log:
            while True:
                try:
                    line = lines.get(timeout=0.5)
                except queue.Empty:
                    progress.show()
                    continue
                if line is None:
                    break
                if line.startswith("Installing collected packages"):
                    UNPACKING.touch()
                if not line.startswith("Progress "):
                    log.write(line)
                    output.append(line)
                progress.read(line)
    except KeyboardInterrupt:
        pip.terminate()
        raise
    finally:
        progress.close()
        pip.wait()
    if pip.returncode:
        raise SetupError(explain("".join(output)))
    UNPACKING.unlink(missing_ok=True)


def pip_version() -> tuple[int, int]:
    answer = subprocess.run(
        [PYTHON, "-m", "pip", "--version"], capture_output=True, text=True
    )
    found = re.match(r"pip (\d+)\.(\d+)", answer.stdout)
    if not found:
        raise SetupError(
            f"pip does not run in .venv. Remove .venv and try again.\n{answer.stderr}"
        )
    return int(found[1]), int(found[2])


def explain(output: str) -> str:
    """A plain sentence for pip's failure, what to do about it, and where to read more."""
    log = f"pip's own words are in {LOG.relative_to(ROOT)}."
    if "No space left on device" in output:
        free = shutil.disk_usage(ROOT).free / 1e9
        return f"The disk is full ({free:.1f} GB free): README.md says how much .venv takes. {log}"
    named = [next(filter(None, groups)) for groups in MISSING.findall(output)]
    what = named[-1] if named else "the packages of requirements.txt"
    # With PIP_RETRIES=0 pip keeps to itself that the index is out of reach: it found nothing.
    nothing = "(from versions: none)" in output and not os.environ.get("PIP_NO_INDEX")
    if nothing or NO_NETWORK.search(output):
        return (
            f"Could not fetch {what}: the package index cannot be reached.\n"
            "  Connect once and run the same command again. What was fetched is kept, and with\n"
            "  .venv complete everything works offline.\n"
            "  Behind a mirror: set PIP_INDEX_URL to its address (and PIP_PROXY to a proxy's).\n"
            "  With no network at all: on a connected machine of the same kind run\n"
            "      python -m pip download -r requirements.txt -d wheels\n"
            "  bring the folder here, and set PIP_NO_INDEX=1 and PIP_FIND_LINKS=/path/to/wheels.\n"
            f"{log}"
        )
    if named:
        return (
            f"Could not fetch {what}: the package index (or PIP_FIND_LINKS folder) in use has no "
            f"such release for Python {sys.version_info[0]}.{sys.version_info[1]} on this system.\n"
            f"  `python -m pip config list` shows which index that is. {log}"
        )
    return f"pip failed; its last words:\n{''.join(output.splitlines(True)[-12:])}{log}"


class Progress:
    """One line that says what pip is doing; where there is no terminal, a line for each stage."""

    def __init__(self) -> None:
        self.started = self.shown = time.monotonic()
        self.packages = 0
        self.stage = "asking for packages"
        self.terminal = sys.stdout.isatty()

    def read(self, line: str) -> None:
        """Take in a line of pip's output."""
        stage = self.stage
        if found := PACKAGE.match(line):
            self.packages += 1
            stage = re.split(r"-\d", found[1])[0]
            if self.packages % 50 == 0:
                self.say(f"{self.packages} packages")
        elif found := re.match(r"\s+Downloading (\S+) (\([^)]*B\))", line):
            stage = f"{found[1].rpartition('/')[2].partition('-')[0]} {found[2]}"
        elif found := re.match(r"Progress (\d+) of (\d+)", line):
            done, total = (int(number) / 1e6 for number in found.groups())
            stage = f"{stage.partition(' ')[0]} ({done:.0f} of {total:.0f} MB)"
        elif found := re.match(r"Installing collected packages: (.*)", line):
            stage = f"unpacking {found[1].count(',') + 1} (a minute or two)"
            if "," in found[1]:
                self.say(stage)
        self.stage = stage
        if time.monotonic() - self.shown > 0.1:
            self.show()

    def show(self) -> None:
        """Redraw the moving line."""
        if not self.terminal:
            return
        self.shown = time.monotonic()
        elapsed = int(self.shown - self.started)
        text = f"  {elapsed // 60}:{elapsed % 60:02d}  {self.packages:3d} packages  {self.stage}"
        width = shutil.get_terminal_size().columns - 1
        print(f"\r{text[:width]:<{width}}", end="", flush=True)

    def say(self, text: str) -> None:
        """A line of its own, for a log."""
        if not self.terminal:
            print(f"  {text}", flush=True)

    def close(self) -> None:
        if self.terminal:
            print(
                "\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r",
                end="",
                flush=True,
            )


if __name__ == "__main__":
    raise SystemExit(main())
