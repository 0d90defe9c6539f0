"""Build the pages from executed chapters, and refresh the stored notebooks.

What is executed is kept in Jupyter Book's own execution cache, `_build/.jupyter_cache`, so Sphinx
only reads it. That cache knows a chapter by its code. It cannot see the package that the chapter
imports, so it is emptied when a hash of `companion/`, requirements.txt and the chapters' data files
changes.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import yaml
from filelock import FileLock, Timeout
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn, JupyterCacheAbstract
from nbformat import NotebookNode

from companion.book import toc
from companion.book.execute import USUAL_SECONDS, Run, execute
from companion.book.pictures import shrink_pictures
from companion.book.slim import problems, slim

BUDGET_GB = 4.0
PLACEHOLDER = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 480 60" width="480" role="img">'
    '<text x="240" y="34" text-anchor="middle" font-family="sans-serif" font-size="14" '
    'fill="#808080">This figure is drawn when the whole book is built: make book</text></svg>'
)


def build(root: Path, only: str = "", jobs: int = 2) -> int:
    """Execute what changed and build the pages; the exit status, 0 where all went well."""
    start = time.monotonic()
    with _locked(root):
        fingerprint = _hash(root, _inputs(root, all_of_it=True), only)
        built = root / "_build" / "built"
        index = root / "_build" / "html" / "index.html"
        if built.is_file() and built.read_text() == fingerprint and index.is_file():
            print(
                f"Nothing has changed since the last build.\nRead the book at {index.as_uri()}"
            )
            return 0
        cache = _cache(root)
        if not _execute_changed(root, cache, only, jobs):
            return 1
        print("Building the pages ...", flush=True)
        built.unlink(missing_ok=True)
        if not _sphinx(root, cache, only):
            return 1
        shrink_pictures(root / "_build" / "html" / "_images")
        built.write_text(fingerprint)
    print(
        f"Read the book at {index.as_uri()}\nBuilt in {time.monotonic() - start:.0f} s."
    )
    return 0


def build_single_page(root: Path, only: str = "", jobs: int = 2) -> Path | None:
    """Execute what changed and put the book on one page: its file, None where that failed.

    The API is left out, which is for looking things up. With `only`, so are all chapters
    but those whose file name starts so.
    """
    with _locked(root):
        cache = _cache(root)
        if not _execute_changed(root, cache, only, jobs):
            return None
        print("Putting the book on one page ...", flush=True)
        table = root / "_build" / "single_toc.yml"
        table.write_text(yaml.safe_dump(toc.without(root, _left_out(root, only))))
        if not _sphinx(root, cache, only, "singlehtml", table):
            return None
    folder = root / "_build" / "singlehtml"
    shrink_pictures(folder / "_images")
    first = toc.pages(root)[0].relative_to(root).with_suffix(".html")
    # Its links to pictures and styles are written for a page at the top.
    return (folder / first).rename(folder / "one_page.html")


def _left_out(root: Path, only: str) -> list[Path]:
    api = [page for page in toc.pages(root) if "api" in (page.stem, page.parent.name)]
    if not only:
        return api
    kept = toc.notebooks(root, only)
    return api + [path for path in toc.notebooks(root) if path not in kept]


def refresh(root: Path, only: str = "", jobs: int = 2) -> int:
    """Execute chapters anew and write them back slim; the exit status."""
    with _locked(root):
        chapters = {
            path: slim(nbformat.read(path, as_version=4), path)
            for path in toc.notebooks(root, only)
        }
        before = {path: path.read_bytes() for path in chapters}
        edited = []

        def write(run: Run) -> None:
            if run.path.read_bytes() != before[run.path]:
                edited.append(run.path.name)
                return
            part = run.path.with_suffix(".ipynb.part")
            nbformat.write(slim(run.notebook, run.path), part)
            os.replace(part, run.path)

        fine = _execute(root, _cache(root), chapters, jobs, write)
    for name in edited:
        print(
            f"{name} was edited while it ran, so it was not written: refresh it again",
            file=sys.stderr,
        )
    return check(root) if fine and not edited else 1


def check(root: Path) -> int:
    """Print what is wrong with the stored notebooks; the exit status."""
    found = problems(toc.notebooks(root))
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


def keep_executed(
    root: Path, path: Path, notebook: NotebookNode, seconds: float, peak_mb: float
) -> bool:
    """Give a build what was executed elsewhere, so that it need not run it again.

    Args:
        root: of the repository.
        path: of the chapter.
        notebook: with all outputs.
        seconds: that it took.
        peak_mb: the most memory that it held.

    Returns:
        Whether it was kept. While a build runs, which may be executing the chapter
        itself, nothing is.
    """
    (root / "_build").mkdir(exist_ok=True)
    try:
        with FileLock(root / "_build" / ".lock", timeout=20):
            _keep(root, _cache(root), Run(path, notebook, seconds, peak_mb))
    except Timeout:
        return False
    return True


def _keep(root: Path, cache: JupyterCacheAbstract, run: Run) -> None:
    data = {"execution_seconds": run.seconds}
    bundle = CacheBundleIn(run.notebook, str(run.path), data=data)
    cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    timings = _timings(root)
    timings[run.path.stem] = {
        "seconds": round(run.seconds, 1),
        "peak_mb": round(run.peak_mb),
    }
    text = json.dumps(timings, indent=1, sort_keys=True) + "\n"
    (root / "_build" / "timings.json").write_text(text)


def _timings(root: Path) -> dict[str, dict[str, float]]:
    file = root / "_build" / "timings.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def _execute_changed(
    root: Path, cache: JupyterCacheAbstract, only: str, jobs: int
) -> bool:
    waiting = {
        path: notebook
        for path in toc.notebooks(root, only)
        if _cached(cache, notebook := nbformat.read(path, as_version=4)) is None
    }
    return not waiting or _execute(root, cache, waiting, jobs)


def _execute(
    root: Path,
    cache: JupyterCacheAbstract,
    chapters: dict[Path, NotebookNode],
    jobs: int,
    write: Callable[[Run], None] | None = None,
) -> bool:
    """Execute chapters into the cache, print times and failures; whether all went well."""

    def keep(run: Run) -> None:
        if run.error:
            return
        _keep(root, cache, run)
        if write:
            write(run)

    past = {name: entry["seconds"] for name, entry in _timings(root).items()}
    runs = execute(chapters, keep, jobs=jobs, past=past)
    _print_times(runs)
    failures = [run.error for run in runs if run.error]
    for error in failures:
        print(f"\n{error}", file=sys.stderr)
    return not failures


def _print_times(runs: list[Run]) -> None:
    print(f"\n{'chapter':<36}{'time':>8}{'budget':>8}{'memory':>10}")
    for run in sorted(runs, key=lambda run: run.path):
        if run.error:
            print(f"{run.path.stem:<36}{'failed':>8}")
            continue
        budget = run.notebook.metadata.get("companion", {}).get(
            "budget_seconds", USUAL_SECONDS
        )
        gigabytes = run.peak_mb / 1024
        row = f"{run.path.stem:<36}{run.seconds:>6.0f} s{budget:>6.0f} s{gigabytes:>7.1f} GB"
        over = run.seconds > budget or gigabytes > BUDGET_GB
        print(row + "   over budget" * over)
    print(flush=True)


def _cache(root: Path) -> JupyterCacheAbstract:
    """The execution cache, emptied where what the chapters depend on has changed."""
    folder, key_file = (
        root / "_build" / ".jupyter_cache",
        root / "_build" / "execution_key",
    )
    key = _hash(
        root, _inputs(root, all_of_it=False), os.environ.get("COMPANION_DEVICE", "")
    )
    if not key_file.is_file() or key_file.read_text() != key:
        shutil.rmtree(folder, ignore_errors=True)
        key_file.write_text(key)
    return get_cache(folder)


def _cached(cache: JupyterCacheAbstract, notebook: NotebookNode) -> NotebookNode | None:
    """The notebook with its cached outputs, or None; a killed build may leave half of an entry."""
    try:
        return cache.merge_match_into_notebook(notebook)[1]
    except (KeyError, ValueError):
        return None


def _inputs(root: Path, all_of_it: bool) -> Iterator[Path]:
    """The files that chapters' outputs depend on beside their own code, or all that pages do."""
    for name in ("companion", "book"):
        for path in sorted((root / name).rglob("*")):
            if not path.is_file() or {"__pycache__", ".ipynb_checkpoints"} & set(
                path.parts
            ):
                continue
            page_only = (
                path.suffix in (".ipynb", ".md", ".bib") or "_static" in path.parts
            )
            machinery = path.is_relative_to(root / "companion" / "book")
            if all_of_it or not (page_only or machinery):
                yield path
    names = ["requirements.txt"] + ["_config.yml", "_toc.yml"] * all_of_it
    yield from (path for name in names if (path := root / name).is_file())


def _hash(root: Path, paths: Iterator[Path], extra: str) -> str:
    digest = hashlib.sha256(f"{sys.version_info[:2]} {extra}".encode())
    for path in paths:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root)} {content}\n".encode())
    return digest.hexdigest()


def _sphinx(
    root: Path,
    cache: JupyterCacheAbstract,
    only: str,
    builder: str = "html",
    table: Path | None = None,
) -> bool:
    """Run Jupyter Book, quietly unless it fails.

    Warnings are errors, unless a `table` of contents leaves out pages that others name.

    Every page is read anew: Sphinx warns only about those that it reads, and does not see that an
    unchanged notebook has new outputs.
    """
    shutil.rmtree(root / "_build" / builder, ignore_errors=True)
    jb = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command = [*jb, "build", str(root), "--all", "--builder", builder]
    if table:
        command += ["--toc", str(table)]
    if not table:
        command += ["-W", "-n", "--keep-going"]
    if only:
        command += ["--config", str(_partial_config(root, cache, only))]
    done = subprocess.run(command, capture_output=True, text=True)
    (root / "_build" / "sphinx.log").write_text(done.stdout + done.stderr)
    if done.returncode:
        print(
            done.stderr,
            "\nThe pages could not be built (whole log: _build/sphinx.log)",
            file=sys.stderr,
        )
    return done.returncode == 0


def _partial_config(root: Path, cache: JupyterCacheAbstract, only: str) -> Path:
    """A configuration for a book whose chapters, where not executed, show their stored text.

    They come from a second cache, with a placeholder for each figure, so that references to
    figures still resolve.
    """
    folder = root / "_build" / ".jupyter_cache_partial"
    shutil.rmtree(folder, ignore_errors=True)
    partial = get_cache(folder)
    for path in toc.notebooks(root):
        notebook = nbformat.read(path, as_version=4)
        executed = _cached(cache, notebook) or _with_placeholders(notebook)
        partial.cache_notebook_bundle(
            CacheBundleIn(executed, str(path)), check_validity=False, overwrite=True
        )
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf8"))
    config["execute"]["cache"] = str(folder)
    file = root / "_build" / "partial_config.yml"
    file.write_text(yaml.safe_dump(config))
    return file


def _with_placeholders(notebook: NotebookNode) -> NotebookNode:
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("data", {}).get("text/plain", "").startswith("<Figure"):
                output.data["image/svg+xml"] = PLACEHOLDER
    return notebook


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """One build at a time; a second waits and says so."""
    (root / "_build").mkdir(exist_ok=True)
    lock = FileLock(root / "_build" / ".lock")
    try:
        lock.acquire(timeout=0.1)
    except Timeout:
        print("Another build is running; waiting for it ...", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
