"""Any amount of text as one file of token ids, read from the disk where it is needed.

The text is tokenized once. What is kept is a plain array of 16- or 32-bit numbers, and
beside it a few lines of JSON that say which text and which tokenizer it came from. The
operating system maps the file into memory, and reads only the pages that are looked at.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from tqdm import tqdm

_CHUNK = 1 << 20  # characters that are tokenized at a time


@dataclass(frozen=True)
class TokenFile:
    """Token ids on the disk.

    Attributes:
        path: of the array.
        dtype: of its numbers, ``"uint16"`` or ``"uint32"``.
        vocab_size: every id is below it.
        num_characters: length of the text.
        num_bytes: length of the text in UTF-8.
    """

    path: Path
    dtype: str
    vocab_size: int
    num_characters: int
    num_bytes: int

    def tokens(self) -> np.ndarray:
        """The ids, as an array that is read as it is used."""
        return np.memmap(self.path, dtype=self.dtype, mode="r")

    def __len__(self) -> int:
        return self.path.stat().st_size // np.dtype(self.dtype).itemsize


def text_files(source: str | Path) -> list[Path]:
    """A text file, or all ``*.txt`` and ``*.md`` files in a folder and below it, by name.

    Raises:
        ValueError: there is no such file or folder, or the folder holds no text.
    """
    source = Path(source).expanduser()
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise ValueError(f"text must be a file or a folder, but there is no {source}")
    found = sorted(
        path
        for ending in ("*.txt", "*.md")
        for path in source.rglob(ending)
        if path.is_file()
    )
    if not found:
        raise ValueError(f"the folder {source} holds no *.txt or *.md file")
    return found


def tokenize(
    files: Sequence[Path],
    encode: Callable[[str], Sequence[int]],
    vocab_size: int,
    path: str | Path,
    *,
    tokenizer: str,
    separator: Sequence[int] = (),
    progress: bool = True,
) -> TokenFile:
    """Tokenize ``files`` into ``path``, unless that has been done before.

    Args:
        files: UTF-8 text.
        encode: text to ids. It is given pieces of about a million characters that end
            with a line.
        vocab_size: ids are below it.
        path: of the array. It appears when it is whole.
        tokenizer: names the tokenizer; another name makes the file anew.
        separator: ids put after each file.
        progress: whether to show a progress bar.

    Raises:
        ValueError: a file is not UTF-8 text (the file is named), an id is out of range,
            or there is no text.
    """
    path = Path(path)
    header = path.with_suffix(".json")
    wanted = {
        "tokenizer": tokenizer,
        "vocab_size": vocab_size,
        "sources": {str(f.resolve()): _fingerprint(f) for f in files},
    }
    dtype = "uint16" if vocab_size <= 1 << 16 else "uint32"
    known = _read_header(header)
    if known.get("made_from") == wanted and path.is_file():
        return TokenFile(path, dtype, vocab_size, known["characters"], known["bytes"])
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    characters = size = 0
    with (
        open(temporary, "wb") as out,
        tqdm(
            total=sum(f.stat().st_size for f in files),
            unit="B",
            unit_scale=True,
            desc="tokenize",
            disable=not progress,
        ) as bar,
    ):
        for file in files:
            for piece in _pieces(file):
                ids = np.asarray(encode(piece), dtype=np.int64)
                if len(ids) and not 0 <= ids.min() <= ids.max() < vocab_size:
                    raise ValueError(
                        f"token ids must be from 0 to {vocab_size - 1}, but {file} "
                        f"gives some from {ids.min()} to {ids.max()}"
                    )
                out.write(ids.astype(dtype).tobytes())
                length = len(piece.encode())
                characters, size = characters + len(piece), size + length
                bar.update(length)
            out.write(np.asarray(separator, dtype=dtype).tobytes())
        out.flush()
        os.fsync(out.fileno())
    if not characters:
        temporary.unlink()
        raise ValueError(f"text must not be empty, but {files[0]} and the rest are")
    os.replace(temporary, path)
    content = {"made_from": wanted, "characters": characters, "bytes": size}
    header.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return TokenFile(path, dtype, vocab_size, characters, size)


class ShuffledWindows:
    """An epoch goes once over a text, in windows that don't overlap, in random order.

    A batch is shared among the processes: each gets its own rows of it, and all together
    see every window once an epoch, whatever their number. What is too little for a batch
    is left for another epoch, which cuts the windows at other places.

    Iterating gives ``(batch_size / world_size, length + 1)``: all but the last token are
    read, all but the first foretold. It is a function of seed, epoch, rank and world size.

    Args:
        tokens: the text, an array that may lie on the disk.
        length: tokens that a model reads at once.
        batch_size: windows in a batch of all processes.
        seed: of the order.
        rank: of this process.
        world_size: number of processes.

    Raises:
        ValueError: the text is too short for one batch, the processes can't share a
            batch evenly, or rank or a size is out of range.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        length: int,
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if min(length, batch_size, world_size) < 1 or not 0 <= rank < world_size:
            raise ValueError(
                "length, batch_size and world_size must be at least 1 and rank from 0 to "
                f"world_size - 1, but they are {length}, {batch_size}, {world_size} and "
                f"{rank}"
            )
        if batch_size % world_size:
            raise ValueError(
                f"batch_size must be a multiple of the {world_size} processes, but it is "
                f"{batch_size}"
            )
        self.tokens, self.length, self.batch_size = tokens, length, batch_size
        self.seed, self.rank, self.world_size, self.epoch = seed, rank, world_size, 0
        # A window less than fits, so that windows can be cut at other places each epoch.
        self.num_windows = max((len(tokens) - 1) // length - 1, 0)
        if len(self) < 1:
            raise ValueError(
                f"tokens must hold at least {(batch_size + 1) * length + 1} ids for one "
                f"batch of {batch_size} x {length}, but it holds {len(tokens)}"
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose which epoch's batches the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_windows // self.batch_size

    def __iter__(self) -> Iterator[Int[Tensor, "batch length_and_one"]]:
        draw = np.random.default_rng((self.seed, self.epoch))
        offset = draw.integers(self.length)
        order = draw.permutation(self.num_windows)[: len(self) * self.batch_size]
        shares = order.reshape(len(self), self.world_size, -1)
        for windows in shares[:, self.rank]:
            starts = offset + self.length * windows
            rows = [self.tokens[s : s + self.length + 1] for s in starts]
            yield torch.from_numpy(np.stack(rows).astype(np.int64))


def _pieces(file: Path) -> Iterator[str]:
    """The text of a file, about a million characters at a time, cut at ends of lines."""
    try:
        with open(file, encoding="utf-8", newline="") as text:
            while lines := text.readlines(_CHUNK):
                yield "".join(lines)
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text: {error}") from error


def _fingerprint(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read_header(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
