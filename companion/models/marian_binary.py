"""Read the weights of the Marian toolkit's binary files, 8-bit ones included.

Marian (Junczys-Dowmunt et al., 2018) writes a header for each tensor, then the names,
the shapes and the data. In 8-bit files a matrix is stored as integers with one scale,
such that ``weight = integer / scale``.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_FLOAT32 = 0x404
_TEXT = 0x101
_INT8 = 0x4101  # "intgemm8": 8-bit integers, then their scale as a float32
_CONFIG = "special:model.yml"


class MarianFile(NamedTuple):
    """What a file holds.

    Attributes:
        config: the options of the model, as text.
        weights: float32 tensors by Marian's names, in Marian's shapes: a matrix ``W``
            is ``(inputs, outputs)``, for ``x W``; a vector is ``(1, size)``.
    """

    config: dict[str, str]
    weights: dict[str, Tensor]


class _Header(NamedTuple):
    name_length: int
    kind: int
    num_axes: int
    num_bytes: int


def read_marian(path: str | Path) -> MarianFile:
    """Read a Marian binary model.

    Layout, in little-endian: the version and the number n of tensors (u64 each); n
    headers of four u64: length of the name, type, number of axes, bytes of data; n
    names that end in a zero byte; n shapes of i32; the size of a gap (u64) and the gap,
    which aligns the data to 256 bytes; the data of each tensor.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no such file format, a type that is not known, or a file that is cut
            short.
    """
    try:
        return _parse(Path(path).read_bytes())
    except (struct.error, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is cut short, or no Marian binary file: {error}"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error


def _parse(content: bytes) -> MarianFile:
    version, number = struct.unpack_from("<QQ", content)
    if version != 1:
        raise ValueError(f"must be of version 1 of Marian's format, but has {version}")
    at = 16
    if number * 32 > len(content):
        raise ValueError(f"cannot hold the {number} tensors that it announces")
    headers = [
        _Header(*struct.unpack_from("<4Q", content, at + 32 * i)) for i in range(number)
    ]
    at += 32 * number
    names = []
    for header in headers:
        names.append(content[at : at + header.name_length - 1].decode())
        at += header.name_length
    shapes = []
    for header in headers:
        shapes.append(struct.unpack_from(f"<{header.num_axes}i", content, at))
        at += 4 * header.num_axes
    (gap,) = struct.unpack_from("<Q", content, at)
    at += 8 + gap
    config: dict[str, str] = {}
    weights: dict[str, Tensor] = {}
    for name, shape, header in zip(names, shapes, headers, strict=True):
        data = content[at : at + header.num_bytes]
        if len(data) < header.num_bytes:
            raise ValueError(f"is cut short: it ends inside {name!r}")
        at += header.num_bytes
        if name == _CONFIG:
            config = _read_config(data.rstrip(b"\0").decode())
        else:
            weights[name] = _read_tensor(name, shape, header.kind, data)
    return MarianFile(config, weights)


def _read_tensor(name: str, shape: tuple[int, ...], kind: int, data: bytes) -> Tensor:
    size = math.prod(shape)
    if kind == _FLOAT32:
        values = np.frombuffer(data, "<f4", size).reshape(shape)
    elif kind == _INT8:
        (scale,) = struct.unpack_from("<f", data, size)
        integers = np.frombuffer(data, np.int8, size).astype(np.float32)
        # A matrix is stored by columns, as the products read it; the embedding by rows.
        by_rows = name.startswith("Wemb")
        values = integers.reshape(shape if by_rows else shape[::-1]) / np.float32(scale)
        values = values if by_rows else values.T
    else:
        raise ValueError(f"holds {name!r} in the type {kind:#x}, which is not known")
    return torch.from_numpy(values.copy())


def _read_config(text: str) -> dict[str, str]:
    """The ``option: value`` lines of a flat YAML text; a list's items are left out."""
    lines = (line.partition(": ") for line in text.splitlines())
    return {name: value.strip().strip('"') for name, mark, value in lines if mark}
