"""Text as a file of token ids, and windows that are shared among processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from companion.data.token_file import ShuffledWindows, text_files, tokenize


def codes(text: str) -> list[int]:
    return [min(ord(c), 255) for c in text]


def make(tmp_path: Path, *texts: str, **options) -> tuple:
    files = []
    for number, text in enumerate(texts):
        files.append(tmp_path / f"{number}.txt")
        files[-1].write_text(text, encoding="utf-8")
    options = {"vocab_size": 256, "tokenizer": "codes", "progress": False} | options
    return files, tokenize(files, codes, path=tmp_path / "tokens.bin", **options)


def test_the_file_holds_the_text_and_its_separators(tmp_path):
    _, tokens = make(tmp_path, "ab\nc", "dé", separator=[0])
    assert tokens.tokens().tolist() == [*codes("ab\nc"), 0, *codes("dé"), 0]
    assert (tokens.num_characters, tokens.num_bytes, len(tokens)) == (6, 7, 8)
    assert isinstance(tokens.tokens(), np.memmap)


def test_long_texts_are_cut_at_lines_and_lose_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("companion.data.token_file._CHUNK", 7)
    text = "".join(f"line {i}\r\n" for i in range(50)) + "no end"
    pieces = []
    file = tmp_path / "a.txt"
    file.write_bytes(text.encode())
    tokenize(
        [file],
        lambda piece: pieces.append(piece) or codes(piece),
        256,
        tmp_path / "t.bin",
        tokenizer="codes",
        progress=False,
    )
    assert "".join(pieces) == text and len(pieces) > 20
    assert all(piece.endswith("\n") for piece in pieces[:-1])


def test_it_is_made_once_and_again_when_anything_changes(tmp_path):
    calls = []

    def count(text: str) -> list[int]:
        calls.append(text)
        return codes(text)

    file = tmp_path / "a.txt"
    file.write_text("hello")
    for text, name, expected in (
        ("hello", "codes", 1),
        ("hello", "codes", 1),
        ("hullo", "codes", 2),  # as long as before
        ("hullo", "others", 3),
    ):
        file.write_text(text)
        path = tmp_path / "t.bin"
        tokens = tokenize([file], count, 256, path, tokenizer=name, progress=False)
        assert len(calls) == expected
        assert tokens.tokens().tolist() == codes(text)


def test_a_large_vocabulary_takes_32_bits(tmp_path):
    _, small = make(tmp_path, "ab", vocab_size=1 << 16)
    assert small.dtype == "uint16"
    _, large = make(tmp_path, "ab", vocab_size=(1 << 16) + 1)
    assert large.dtype == "uint32" and large.tokens().tolist() == codes("ab")


def test_errors_name_the_file_and_leave_nothing(tmp_path):
    broken = tmp_path / "broken.txt"
    broken.write_bytes(b"ab\xff\xfe")
    path = tmp_path / "t.bin"
    with pytest.raises(ValueError, match=r"broken\.txt is not UTF-8"):
        tokenize([broken], codes, 256, path, tokenizer="codes", progress=False)
    broken.write_text("x")
    with pytest.raises(ValueError, match=r"from 0 to 99, but .*broken\.txt gives"):
        tokenize([broken], codes, 100, path, tokenizer="codes", progress=False)
    broken.write_text("")
    with pytest.raises(ValueError, match="must not be empty"):
        tokenize([broken], codes, 256, path, tokenizer="codes", progress=False)
    assert not path.exists()


def test_text_files(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.txt", "a.md", "c.py", "sub/d.txt"):
        (tmp_path / name).write_text("x")
    names = [str(p.relative_to(tmp_path)) for p in text_files(tmp_path)]
    assert names == ["a.md", "b.txt", str(Path("sub/d.txt"))]
    assert text_files(tmp_path / "c.py") == [tmp_path / "c.py"]
    with pytest.raises(ValueError, match="there is no"):
        text_files(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no \*\.txt"):
        text_files(tmp_path / "empty")


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_processes_share_every_batch_and_repeat_nothing(world_size):
    tokens = np.arange(1000, dtype=np.uint16)
    alone = ShuffledWindows(tokens, 10, 6, seed=3)
    shares = [
        ShuffledWindows(tokens, 10, 6, seed=3, rank=r, world_size=world_size)
        for r in range(world_size)
    ]
    for epoch in (0, 1):
        for windows in (alone, *shares):
            windows.set_epoch(epoch)
        parts = [list(share) for share in shares]
        assert {len(part) for part in parts} == {len(alone)}
        together = [torch.cat(rows) for rows in zip(*parts, strict=True)]
        # The rows of each batch are those of one process alone.
        for batch, expected in zip(together, alone, strict=True):
            assert torch.equal(batch, expected)
        read = torch.cat(together)[:, :-1].flatten()
        assert len(read.unique()) == len(read) >= 900
        assert torch.equal(torch.cat(together)[:, 1:], torch.cat(together)[:, :-1] + 1)


def test_epochs_and_seeds_differ_and_repeat():
    tokens = np.arange(500, dtype=np.uint16)
    windows = ShuffledWindows(tokens, 10, 4, seed=1)
    first = torch.cat(list(windows))
    assert torch.equal(first, torch.cat(list(windows)))
    windows.set_epoch(1)
    assert not torch.equal(first, torch.cat(list(windows)))
    assert not torch.equal(
        first, torch.cat(list(ShuffledWindows(tokens, 10, 4, seed=2)))
    )


def test_bad_windows():
    tokens = np.arange(100, dtype=np.uint16)
    with pytest.raises(ValueError, match="at least 111 ids"):
        ShuffledWindows(tokens, 10, 10)
    with pytest.raises(ValueError, match="multiple of the 2 processes, but it is 3"):
        ShuffledWindows(tokens, 10, 3, world_size=2)
    with pytest.raises(ValueError, match="rank from 0 to"):
        ShuffledWindows(tokens, 10, 2, rank=2, world_size=2)
