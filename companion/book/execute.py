"""Execute notebooks, some at a time, and hand each over as soon as it is done."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from jupyter_client.utils import ensure_async
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from tqdm import tqdm

from companion.book.slim import drop_progress

# One thread a kernel: two chapters share two cores, and sums come out the same whatever the cores.
# The book's own answers are no reader's progress.
KERNEL_ENV = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
    ),
    "1",
) | {"COMPANION_PROGRESS": "off"}
CELL_TIMEOUT = 600  # seconds
STARTUP_TIMEOUT = (
    180  # seconds; a kernel starts in two, on a crowded machine in many more
)
USUAL_SECONDS = 60.0  # a chapter's budget, the guess for one that never ran

# The kernel's peak memory, in the system's unit: evaluate it there, then `peak_mb` reads the reply.
PEAK = "max(__import__('resource').getrusage(who).ru_maxrss for who in (0, -1))"


@dataclass
class Run:
    """One execution of a chapter: its outcome, wall time (s) and the kernel's peak memory (MB)."""

    path: Path
    notebook: NotebookNode
    seconds: float = 0.0
    peak_mb: float = 0.0
    error: str = ""


def execute(
    chapters: Mapping[Path, NotebookNode],
    on_done: Callable[[Run], None],
    *,
    jobs: int = 2,
    past: Mapping[str, float] | None = None,
) -> list[Run]:
    """Execute notebooks in place, each in its own kernel and folder, `jobs` at a time.

    `on_done` gets each Run as it ends, so that an interrupted build keeps what is done. `past` has
    the seconds that a chapter (by file stem) took before. A cell that fails ends its chapter only:
    its Run has an `error`.
    """
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}, it must be at least 1")
    return asyncio.run(_execute(chapters, on_done, jobs, past or {}))


async def _execute(
    chapters: Mapping[Path, NotebookNode],
    on_done: Callable[[Run], None],
    jobs: int,
    past: Mapping[str, float],
) -> list[Run]:
    usual = sum(past.values()) / len(past) if past else USUAL_SECONDS
    expected = {path: past.get(path.stem, usual) for path in chapters}
    cells = sum(
        cell.cell_type == "code" for nb in chapters.values() for cell in nb.cells
    )
    progress = Progress(expected, cells, jobs)
    slots = asyncio.Semaphore(jobs)

    async def one(path: Path) -> Run:
        async with slots:
            progress.start(path)
            run = await _run(path, chapters[path], progress.cell)
            on_done(run)
            progress.finish(run)
            return run

    ticker = asyncio.create_task(progress.tick())
    try:
        # The longest first, so that none is left running alone at the end.
        order = sorted(chapters, key=expected.get, reverse=True)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(path)) for path in order]
    finally:
        ticker.cancel()
        progress.close()
    return [task.result() for task in tasks]


async def _run(path: Path, notebook: NotebookNode, on_cell: Callable[[], None]) -> Run:
    run, start = Run(path, notebook), time.monotonic()
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        startup_timeout=STARTUP_TIMEOUT,
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
    )
    client.reset_execution_trackers()
    client.create_kernel_manager()
    cell = NotebookNode(id="(none yet)", source="")
    try:
        # Not client.async_setup_kernel(): its signal handlers keep Ctrl-C from ending the build.
        await client.async_start_new_kernel(
            cwd=str(path.parent),
            env={**os.environ, **KERNEL_ENV},
            stdout=subprocess.DEVNULL,  # else kernels write through the bar
            stderr=subprocess.DEVNULL,
        )
        await client.async_start_new_kernel_client()
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type == "code":
                await client.async_execute_cell(
                    cell, index, execution_count=client.code_cells_executed + 1
                )
                cell.outputs = drop_progress(cell.outputs)
                on_cell()
        run.peak_mb = await _peak_mb(client)
    except (CellExecutionError, CellTimeoutError, RuntimeError) as error:
        run.error = _describe(path, cell, error)
    finally:
        if client.km is not None:
            client.shutdown_kernel = "immediate"
            await client._async_cleanup_kernel()
    run.seconds = time.monotonic() - start
    return run


async def _peak_mb(client: NotebookClient) -> float:
    reply = await ensure_async(
        client.kc.execute(
            "", silent=True, user_expressions={"value": PEAK}, reply=True, timeout=60
        )
    )
    return peak_mb(reply)


def peak_mb(reply: dict) -> float:
    """Megabytes, from a kernel's reply to ``user_expressions={"value": PEAK}``."""
    peak = reply["content"]["user_expressions"]["value"]["data"]["text/plain"]
    unit = (
        1 if sys.platform == "darwin" else 2**10
    )  # macOS counts in bytes, Linux in KB
    return int(peak) * unit / 2**20


def _describe(path: Path, cell: NotebookNode, error: Exception) -> str:
    if isinstance(error, CellExecutionError):
        what = error.traceback
    elif isinstance(error, DeadKernelError):
        what = "The kernel died. It may have run out of memory."
    elif isinstance(error, CellTimeoutError):
        what = f"The cell took longer than {CELL_TIMEOUT} s."
    else:
        what = f"{type(error).__name__}: {error}"
    if not sys.stderr.isatty():
        what = re.sub(r"\x1b\[[0-9;]*m", "", what)
    rule = "-" * 80
    return f"{path.stem}: cell {cell.get('id')} failed\n{rule}\n{cell.source}\n{rule}\n{what.strip()}"


class Progress:
    """A bar with the chapters that run, how many are done and the time left.

    Without a terminal: a line for each chapter that is done.
    """

    def __init__(self, expected: Mapping[Path, float], cells: int, jobs: int) -> None:
        self.waiting, self.jobs, self.total = dict(expected), jobs, len(expected)
        self.running: dict[
            Path, float
        ] = {}  # path -> when it should end, on the monotonic clock
        self.done = 0
        form = "|{bar:16}| {desc}"
        self.bar = tqdm(
            total=cells, bar_format=form, disable=not sys.stderr.isatty(), leave=False
        )

    def start(self, path: Path) -> None:
        self.running[path] = time.monotonic() + self.waiting.pop(path)
        self.show()

    def cell(self) -> None:
        self.bar.update()

    def finish(self, run: Run) -> None:
        self.running.pop(run.path)
        self.done += 1
        outcome = (
            "FAILED"
            if run.error
            else f"{run.seconds:.0f} s, {run.peak_mb / 1024:.1f} GB"
        )
        with tqdm.external_write_mode(file=sys.stderr):
            print(
                f"[{self.done}/{self.total}] {run.path.stem}: {outcome}",
                file=sys.stderr,
                flush=True,
            )
        self.show()

    def show(self) -> None:
        names = ", ".join(path.stem for path in self.running)
        self.bar.set_description_str(
            f"{self.done}/{self.total} chapters done, about {self.left()} left · {names}"
        )

    def left(self) -> str:
        rest = [max(end - time.monotonic(), 0) for end in self.running.values()]
        seconds = max(
            [(sum(rest) + sum(self.waiting.values())) / self.jobs, *rest], default=0
        )
        return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"

    async def tick(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            self.show()

    def close(self) -> None:
        self.bar.close()
