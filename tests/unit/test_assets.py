"""Assets: downloaded by the real pip from a folder or a server of the test's own, offline."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import io
import json
import os
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest

from companion.data import assets
from companion.data.assets import ASSETS, Asset, AssetError, fetch

ROOT = Path(__file__).parents[2]
CONTENT = {
    "tiny/data/one.txt": b"first line\n" * 500,
    "tiny/data/two.txt": b"second\n" * 300,
}

# Run by a second process: argv[1] is the asset as JSON.
FETCH = """
import json, sys, time
from companion.data import assets

fields = json.loads(sys.argv[1])
asset = assets.Asset(**{**fields, "members": tuple(fields["members"])})
assets.ASSETS[asset.name] = asset
"""


def wheel_bytes(
    files: dict[str, bytes], name: str = "tiny", tag: str = "py3-none-any"
) -> bytes:
    info = f"{name}-1.0.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
        f"{info}/RECORD": b"",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return buffer.getvalue()


def tar_bytes(files: dict[str, bytes], odd: tarfile.TarInfo | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        if odd:
            archive.addfile(odd)
    return buffer.getvalue()


def register(monkeypatch, archive: bytes, **changes) -> Asset:
    """Put an asset `tiny`, whose archive has these bytes, into the table."""
    fields = {
        "name": "tiny",
        "package": "tiny",
        "version": "1.0",
        "filename": "tiny-1.0-py3-none-any.whl",
        "sha256": hashlib.sha256(archive).hexdigest(),
        "members": ("tiny/data/*.txt",),
        "what": "two small texts",
        "license": "MIT",
        "origin": "this test",
        "archive_size": len(archive),
        "size": sum(map(len, CONTENT.values())),
    }
    asset = Asset(**{**fields, **changes})
    monkeypatch.setitem(ASSETS, asset.name, asset)
    return asset


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A folder in which pip, cut off from every index, looks for archives; and an empty cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    for variable in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("COMPANION_OFFLINE", raising=False)
    monkeypatch.setenv("COMPANION_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def tiny(index, monkeypatch) -> Asset:
    """A wheel in the index, and its asset."""
    unwanted = (
        "data/one.txt",
        "tiny/one.txt",
        "tiny/data/a.txt/deep.txt",
        "x/tiny/data/one.txt",
    )
    archive = wheel_bytes({**CONTENT, **dict.fromkeys(unwanted, b"not wanted")})
    asset = register(monkeypatch, archive)
    (index / asset.filename).write_bytes(archive)
    return asset


@pytest.fixture
def slow_server(tiny, index, monkeypatch):
    """A server that sends half of the wheel on the first request, then waits for `go_on`."""
    archive = (index / tiny.filename).read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            if not self.path.endswith(".whl"):
                page = f'<a href="{tiny.filename}">{tiny.filename}</a>'.encode()
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(page)))
                self.end_headers()
                self.wfile.write(page)
                return
            self.send_header("Content-Length", str(len(archive)))
            self.end_headers()
            first = not server.half_sent.is_set()
            half = len(archive) // 2
            self.wfile.write(archive[:half])
            self.wfile.flush()
            server.half_sent.set()
            if first:
                server.go_on.wait(30)
            self.wfile.write(archive[half:])

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *args: (
        None
    )  # a killed client hangs up: that is the test
    server.half_sent, server.go_on = threading.Event(), threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PIP_FIND_LINKS", f"http://127.0.0.1:{server.server_port}/")
    yield server
    server.go_on.set()
    server.shutdown()
    server.server_close()


def start(asset: Asset, script: str) -> subprocess.Popen:
    command = [
        sys.executable,
        "-c",
        FETCH + script,
        json.dumps(dataclasses.asdict(asset)),
    ]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def assert_complete(folder: Path) -> None:
    assert {path.name: path.read_bytes() for path in folder.glob("*.txt")} == {
        Path(path).name: content for path, content in CONTENT.items()
    }
    assert assets.verify("tiny") == []


def put_by_hand(asset: Asset, archive: bytes) -> Path:
    path = assets.cache_dir() / "archives" / asset.filename
    path.parent.mkdir(parents=True)
    path.write_bytes(archive)
    return path


# What goes well


def test_fetch_takes_only_the_members_and_needs_pip_only_once(tiny, monkeypatch):
    folder = fetch("tiny")
    assert folder == assets.cache_dir() / "tiny-1.0" / "tiny"
    assert_complete(folder)
    assert {path.name for path in folder.iterdir()} == {
        "one.txt",
        "two.txt",
    }

    def no_pip(*args, **kwargs):
        raise AssertionError("pip was called for an asset that is already there")

    monkeypatch.setattr(assets.subprocess, "Popen", no_pip)
    monkeypatch.setenv("COMPANION_OFFLINE", "1")
    began = time.perf_counter()
    assert fetch("tiny") == folder
    assert time.perf_counter() - began < 1


def test_one_member_gives_a_file(tiny, monkeypatch):
    monkeypatch.setitem(
        ASSETS, "tiny", dataclasses.replace(tiny, members=("tiny/data/one.txt",))
    )
    assert fetch("tiny").read_bytes() == CONTENT["tiny/data/one.txt"]


def test_source_distribution_with_nested_archive_runs_none_of_its_code(
    index, monkeypatch
):
    trap = index.parent / "setup-was-run"
    nested = tar_bytes({"inside/one.txt": b"nested text", "inside/other.bin": b"no"})
    archive = tar_bytes(
        {
            "tiny-1.0/PKG-INFO": b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
            "tiny-1.0/setup.py": f"open({str(trap)!r}, 'w')\n".encode(),
            "tiny-1.0/data.tar.gz": nested,
        }
    )
    asset = register(
        monkeypatch,
        archive,
        filename="tiny-1.0.tar.gz",
        nested="tiny-1.0/data.tar.gz",
        members=("inside/one.txt",),
    )
    (index / asset.filename).write_bytes(archive)
    assert fetch("tiny").read_bytes() == b"nested text"
    assert not trap.exists()


def test_a_wheel_of_another_platform_can_be_had(index, monkeypatch):
    name = "tiny-1.0-py3-none-plan9_vax.whl"
    archive = wheel_bytes(CONTENT, tag="py3-none-plan9_vax")
    (index / name).write_bytes(archive)
    register(monkeypatch, archive, filename=name, platform="plan9_vax")
    assert_complete(fetch("tiny"))


def test_a_copied_archive_is_used_without_pip(tiny, index, monkeypatch):
    archive = index / tiny.filename
    put_by_hand(tiny, archive.read_bytes())
    archive.unlink()
    monkeypatch.setenv("COMPANION_OFFLINE", "1")
    assert_complete(fetch("tiny"))


def test_a_newer_table_and_a_lost_or_shortened_file_are_fetched_again(
    tiny, monkeypatch
):
    folder = fetch("tiny")
    (folder / "one.txt").unlink()
    assert_complete(fetch("tiny"))
    (folder / "one.txt").write_bytes(CONTENT["tiny/data/one.txt"][:100])
    assert_complete(fetch("tiny"))
    monkeypatch.setitem(
        ASSETS, "tiny", dataclasses.replace(tiny, members=("tiny/data/two.txt",))
    )
    assert fetch("tiny") == folder / "two.txt"
    assert not (folder / "one.txt").exists()


def test_a_download_of_more_than_a_second_shows_a_bar(tiny, slow_server):
    process = start(tiny, "print(assets.fetch('tiny'))")
    assert slow_server.half_sent.wait(30)
    time.sleep(1.3)
    slow_server.go_on.set()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "tiny: " in err and "%" in err
    assert_complete(Path(out.strip()))


# Killed, and two at once


def test_killed_in_the_middle_of_the_download(tiny, slow_server):
    process = start(tiny, "assets.fetch('tiny')")
    assert slow_server.half_sent.wait(30)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.communicate()
    assert not (assets.cache_dir() / "tiny-1.0").exists()
    # The killed process leaves its pip behind, which still downloads while this one does.
    folder = fetch("tiny")
    assert_complete(folder)
    slow_server.go_on.set()
    time.sleep(0.5)
    assert_complete(folder)


def test_killed_in_the_middle_of_the_extraction(tiny):
    process = start(
        tiny,
        """
def half(stream, out, *args):
    out.write(stream.read(100))
    out.flush()
    print("half", flush=True)
    time.sleep(60)

assets.shutil.copyfileobj = half
assets.fetch("tiny")
""",
    )
    assert process.stdout.readline() == "half\n"
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (assets.cache_dir() / "tiny-1.0").exists()
    assert list((assets.cache_dir() / "work").rglob("*.txt")), (
        "nothing was half-written"
    )
    assert_complete(fetch("tiny"))
    assert not list((assets.cache_dir() / "work").rglob("*.txt")), (
        "the remains were not removed"
    )


def test_two_at_once_download_once_and_both_succeed(tiny, slow_server):
    first = start(tiny, "print(assets.fetch('tiny'))")
    assert slow_server.half_sent.wait(30)
    second = start(
        tiny,
        """
def no_download(*args):
    raise SystemExit("downloaded a second time")

assets._download = no_download
print("ready", flush=True)
print(assets.fetch("tiny"))
""",
    )
    assert second.stdout.readline() == "ready\n"
    time.sleep(0.3)
    assert second.poll() is None, second.communicate()  # it waits for the first one
    slow_server.go_on.set()
    for process in (first, second):
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert_complete(Path(out.strip()))


# What goes wrong


def failure(name: str = "tiny") -> str:
    with pytest.raises(AssetError) as error:
        fetch(name)
    assert not (assets.cache_dir() / "tiny-1.0").exists()
    return str(error.value)


def test_unknown_name_suggests_and_lists():
    with pytest.raises(
        AssetError, match=r"no asset 'minlm'\. Did you mean 'minilm'\?"
    ) as error:
        fetch("minlm")
    assert all(name in str(error.value) for name in ASSETS)


def test_pip_refuses_a_wrong_hash(tiny, index):
    other = wheel_bytes({**CONTENT, "tiny/data/one.txt": b"forged"})
    (index / tiny.filename).write_bytes(other)
    text = failure()
    assert "has the wrong hash" in text
    assert tiny.sha256 in text and hashlib.sha256(other).hexdigest() in text
    assert "Run this again" in text and "PIP_INDEX_URL" in text


def test_pip_refuses_a_truncated_archive(tiny, index):
    archive = (index / tiny.filename).read_bytes()
    (index / tiny.filename).write_bytes(archive[:-200])
    text = failure()
    assert tiny.sha256 in text and hashlib.sha256(archive[:-200]).hexdigest() in text


def test_a_copied_archive_is_checked(tiny):
    forged = wheel_bytes({**CONTENT, "tiny/data/three.txt": b"forged" * 100})
    path = put_by_hand(tiny, forged)
    text = failure()
    assert "has the wrong hash" in text and hashlib.sha256(forged).hexdigest() in text
    assert not path.exists(), "the message says that the file was deleted"
    assert_complete(fetch("tiny"))  # by pip now


def test_a_truncated_copy_is_named_as_such(tiny, index):
    put_by_hand(tiny, (index / tiny.filename).read_bytes()[:1000])
    text = failure()
    assert (
        "is truncated" in text
        and "(1,000 bytes)" in text
        and f"{tiny.archive_size:,}" in text
    )


def test_no_network_names_what_is_missing_and_how_to_get_it(tiny, index):
    (index / tiny.filename).unlink()
    text = failure()
    assert "tiny==1.0" in text and "No matching distribution" in text
    assert "pip download --no-deps --only-binary :all: tiny==1.0" in text
    assert f"copy {tiny.filename} to {assets.cache_dir() / 'archives'}" in text


def test_companion_offline_does_not_ask_pip(tiny, monkeypatch):
    monkeypatch.setenv("COMPANION_OFFLINE", "1")
    text = failure()
    assert "COMPANION_OFFLINE is set" in text and "pip download" in text
    assert not list((assets.cache_dir() / "work").rglob("pip.log"))


@pytest.mark.parametrize("place", ["a file", "under a file"])
def test_unwritable_cache(tiny, tmp_path, monkeypatch, place):
    (tmp_path / "file").touch()
    cache = tmp_path / "file" if place == "a file" else tmp_path / "file" / "cache"
    monkeypatch.setenv("COMPANION_CACHE", str(cache))
    with pytest.raises(
        AssetError, match="could not be stored in the cache folder"
    ) as error:
        fetch("tiny")
    assert str(cache) in str(error.value) and "COMPANION_CACHE" in str(error.value)


def symlink(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def zip_symlink() -> bytes:
    buffer = io.BytesIO(wheel_bytes(CONTENT))
    with zipfile.ZipFile(buffer, "a") as archive:
        member = zipfile.ZipInfo("tiny/data/link.txt")
        member.create_system = (
            3  # Unix, where the high half of external_attr is the mode
        )
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/hostname")
    return buffer.getvalue()


SDIST = {"tiny/data/one.txt": b"fine"}


@pytest.mark.parametrize(
    ("filename", "archive", "message"),
    [
        ("tiny-1.0-py3-none-any.whl", wheel_bytes({"../evil.txt": b""}), "unsafe path"),
        (
            "tiny-1.0-py3-none-any.whl",
            wheel_bytes({"tiny/data/../../evil.txt": b""}),
            "unsafe path",
        ),
        (
            "tiny-1.0-py3-none-any.whl",
            wheel_bytes({"/tmp/evil.txt": b""}),
            "unsafe path",
        ),
        ("tiny-1.0-py3-none-any.whl", zip_symlink(), "link.txt' is not a regular file"),
        ("tiny-1.0.tar.gz", tar_bytes({**SDIST, "../../evil.txt": b""}), "unsafe path"),
        ("tiny-1.0.tar.gz", tar_bytes({**SDIST, "/tmp/evil.txt": b""}), "unsafe path"),
        ("tiny-1.0.tar.gz", tar_bytes({**SDIST, "C:\\evil.txt": b""}), "unsafe path"),
        (
            "tiny-1.0.tar.gz",
            tar_bytes(SDIST, symlink("tiny/data/link.txt", "/etc/hostname")),
            "link.txt' is not a regular file",
        ),
        (
            "tiny-1.0.tar.gz",
            tar_bytes(
                SDIST,
                symlink("tiny/data/hard.txt", "tiny/data/one.txt", tarfile.LNKTYPE),
            ),
            "hard.txt' is not a regular file",
        ),
        (
            "tiny-1.0.tar.gz",
            tar_bytes(SDIST, symlink("tiny/data/device.txt", "", tarfile.CHRTYPE)),
            "device.txt' is not a regular file",
        ),
        ("tiny-1.0.tar.gz", tar_bytes(SDIST)[:-20], "cannot be read"),
        ("tiny-1.0-py3-none-any.whl", b"not an archive", "cannot be read"),
        (
            "tiny-1.0.tar.gz",
            tar_bytes({"tiny/other/one.txt": b""}),
            "does not hold tiny/data/[*].txt",
        ),
    ],
    ids=[
        "wheel: parent",
        "wheel: inner parent",
        "wheel: absolute",
        "wheel: symlink",
        "sdist: parent",
        "sdist: absolute",
        "sdist: drive",
        "sdist: symlink",
        "sdist: hard link",
        "sdist: device",
        "sdist: damaged inside",
        "wheel: no archive",
        "sdist: without the member",
    ],
)
def test_hostile_and_damaged_archives(index, monkeypatch, filename, archive, message):
    """Even an archive with the right hash is not trusted."""
    put_by_hand(register(monkeypatch, archive, filename=filename), archive)
    with pytest.raises(AssetError, match=message):
        fetch("tiny")
    assert not (assets.cache_dir() / "tiny-1.0").exists()
    assert (
        not list(index.parent.rglob("evil.txt")) and not Path("/tmp/evil.txt").exists()
    )
    assert not list(index.parent.rglob("link.txt"))


# The command line


def test_command_line(tiny, monkeypatch, capsys):
    monkeypatch.setattr(assets, "ASSETS", {"tiny": tiny})
    assert assets.main([]) == 0
    row = next(
        line for line in capsys.readouterr().out.splitlines() if line.startswith("tiny")
    )
    assert row.split() == [
        "tiny",
        "tiny==1.0",
        "0.0",
        "MB",
        "0.0",
        "MB",
        "missing",
        "MIT",
    ]
    assert assets.main(["verify"]) == 1
    assert "tiny: not fetched" in capsys.readouterr().err
    assert assets.main(["fetch"]) == 0
    assert "[1/1, 0.0 MB] tiny: two small texts" in capsys.readouterr().out
    assert assets.main(["fetch"]) == 0
    assert "[1/1" not in capsys.readouterr().out
    assert assets.main(["list"]) == 0
    assert "fetched" in capsys.readouterr().out
    assert assets.main(["verify"]) == 0
    assert "tiny: verified" in capsys.readouterr().out


def test_verify_finds_a_changed_byte_and_says_how_to_repair_it(tiny, capsys):
    file = fetch("tiny") / "one.txt"
    content = bytearray(file.read_bytes())
    content[7] ^= 1
    file.write_bytes(content)
    assert assets.main(["verify", "tiny"]) == 1
    err = capsys.readouterr().err
    assert f"{file} has changed" in err
    assert (
        f"delete {assets.cache_dir() / 'tiny-1.0'} and run" in err
        and "fetch tiny" in err
    )
    file.unlink()
    assert assets.verify("tiny") == [f"tiny: {file} is missing"]


def test_the_module_runs_and_its_errors_are_one_message(tiny):
    command = [sys.executable, "-m", "companion.data.assets", "fetch", "shakespear"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.startswith("error: There is no asset 'shakespear'")
    assert "Traceback" not in done.stderr


# The real assets (`make test` has fetched them)

DEFAULT = [name for name, asset in ASSETS.items() if asset.default]


@pytest.mark.parametrize("name", DEFAULT)
def test_real_assets_are_whole(name):
    path, asset = fetch(name), ASSETS[name]
    assert assets.verify(name) == []
    folder = path.parent if path.is_file() else path
    files = list(folder.iterdir())
    assert sum(file.stat().st_size for file in files) == asset.size
    manifest = json.loads((folder.parent / assets.MANIFEST).read_text())
    assert (
        manifest["requirement"] == asset.requirement
        and manifest["sha256"] == asset.sha256
    )
    assert set(manifest["files"]) == {file.name for file in files}


def test_minilm_is_a_bert_with_72_heads():
    folder = fetch("minilm")
    config = json.loads((folder / "config.json").read_text())
    assert config["num_hidden_layers"] * config["num_attention_heads"] == 72
    assert config["hidden_size"] == 384
    assert (
        len((folder / "vocab.txt").read_text().split("\n")) - 1
        == config["vocab_size"]
        == 30522
    )


def test_emoji_names_come_in_14_languages():
    folder = fetch("emoji-names")
    names = {
        file.stem: json.loads(file.read_text(encoding="utf-8"))
        for file in folder.glob("*.json")
    }
    assert len(names) == 14  # English is in emoji.json, the others in emoji_XX.json
    pairs = {
        (names["emoji_de"][symbol], entry["en"])
        for symbol, entry in names["emoji"].items()
        if symbol in names["emoji_de"]
    }
    assert len(pairs) == 4148


def test_the_table_is_well_formed():
    for name, asset in ASSETS.items():
        assert asset.name == name
        assert len(asset.sha256) == 64 and int(asset.sha256, 16)
        assert asset.filename.replace("_", "-").startswith(
            f"{asset.package}-{asset.version}"
        )
        assert asset.archive_size > 0 and asset.size > 0
        assert asset.what and asset.license and asset.origin


def test_the_page_shows_the_table():
    page = (ROOT / "book" / "assets.md").read_text(encoding="utf-8")
    assert assets.as_markdown() in page, (
        "book/assets.md differs from the table of assets. Put the output of\n"
        "  python -c \"from companion.data import assets; print(assets.as_markdown(), end='')\"\n"
        "in place of the page's table and its block of hashes."
    )
