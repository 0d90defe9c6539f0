"""Positions as vectors that are added to the embeddings: fixed sines and cosines, or learned.

The other ways are numbers added to the attention scores, in `companion.layers.relative`,
and queries and keys that turn, in `companion.layers.rotary`.

Sources: Vaswani et al. (2017), section 3.5; Devlin et al. (2019).
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Layout = Literal["interleaved", "halves"]


def inverse_frequencies(
    dim: int,
    base: float | Tensor = 10000.0,
    *,
    endpoint: bool = False,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Float[Tensor, "pairs"]:
    """base^(-2i/dim) for i = 0 ... dim/2 - 1: how far each pair turns, in radians a position.

    A clock with ``dim / 2`` hands. The first turns once in 2 pi positions, each further
    one more slowly by the same factor, the last almost ``base`` times as slowly as the
    first.

    Args:
        dim: twice the number of hands.
        base: 10000 in Vaswani et al. (2017) and Su et al. (2021).
        endpoint: whether the last hand is exactly ``base`` times as slow as the first,
            base^(-i/(dim/2 - 1)). The paper's formula stops one step before. Its code
            reached the end, as Marian and Whisper do.
        dtype: of the result.
        device: where the result is made.

    Raises:
        ValueError: ``dim`` is not even, or below 2.
    """
    if dim < 2 or dim % 2:
        raise ValueError(
            f"dim must be even and at least 2, since it is split into pairs, but it is {dim}"
        )
    pairs = dim // 2
    steps = max(pairs - 1, 1) if endpoint else pairs
    return 1.0 / base ** (torch.arange(pairs, dtype=dtype, device=device) / steps)


def sinusoidal_table(
    length: int,
    d_model: int,
    layout: Layout = "interleaved",
    *,
    base: float = 10000.0,
    endpoint: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "length d_model"]:
    """Sine and cosine of each position's angles: the positions of Vaswani et al. (2017).

    PE(pos, 2i) = sin(pos / base^(2i/d_model)) and
    PE(pos, 2i+1) = cos(pos / base^(2i/d_model)).

    Args:
        length: how many positions, from 0 on.
        d_model: the width, an even number.
        layout: ``"interleaved"`` puts the sine and cosine of a pair side by side (the
            paper), ``"halves"`` all sines before all cosines (its code, Marian,
            Whisper).
        base, endpoint: see `inverse_frequencies`. Marian's and Whisper's table is
            ``layout="halves", endpoint=True``.
        dtype: of the table.

    Raises:
        ValueError: an odd width, an unknown layout, or a length below 1.
    """
    if length < 1:
        raise ValueError(f"length must be at least 1, but it is {length}")
    sine, cosine = pair_indices(d_model, layout, "d_model")
    # In float64, since a float32 angle of 5000 radians is off by up to 2e-4; and on the
    # CPU, since not every accelerator has float64.
    exact = {"dtype": torch.float64, "device": "cpu"}
    frequencies = inverse_frequencies(d_model, base, endpoint=endpoint, **exact)
    angles = torch.arange(length, **exact)[:, None] * frequencies  # (L, d_model / 2)
    table = torch.empty(length, d_model, **exact)
    table[:, sine] = angles.sin()
    table[:, cosine] = angles.cos()
    return table.to(dtype=dtype, device=torch.get_default_device())


def sinusoidal_grid(
    grid: tuple[int, int],
    d_model: int,
    *,
    num_prefix: int = 0,
    base: float = 10000.0,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "length d_model"]:
    """Sine and cosine of the places of a grid, row by row: half of a vector a coordinate.

    The first half of each vector is `sinusoidal_table`, in ``"halves"``, of the column,
    the second that of the row. One would expect the row first. The authors of MAE had
    the two swapped, and all its checkpoints have been so since.

    Args:
        grid: how many places there are from top to bottom and from left to right.
        d_model: the width, a multiple of 4.
        num_prefix: how many zero vectors stand before the grid, for [CLS] and its like.
        base: see `inverse_frequencies`.
        dtype: of the table.

    Raises:
        ValueError: a width that is no multiple of 4, or a side below 1.
    """
    if d_model < 4 or d_model % 4:
        raise ValueError(
            "d_model must be a multiple of 4, since it is split into sines and cosines "
            f"of rows and columns, but it is {d_model}"
        )
    rows, columns = (
        sinusoidal_table(side, d_model // 2, "halves", base=base, dtype=dtype)
        for side in grid
    )
    place = torch.cat(
        [
            columns.expand(len(rows), -1, -1),
            rows[:, None].expand(-1, len(columns), -1),
        ],
        dim=-1,
    )  # (rows, columns, D)
    return torch.cat([place.new_zeros(num_prefix, d_model), place.flatten(0, 1)])


def shift_matrix(
    k: int,
    d_model: int,
    layout: Layout = "interleaved",
    *,
    base: float = 10000.0,
    endpoint: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "d_model d_model"]:
    """The matrix M_k with PE(pos + k) = M_k PE(pos) at every position.

    It holds one rotation a pair, by the angle k / base^(2i/d_model). So M_k is
    orthogonal, M_j M_k = M_{j+k}, and ``k`` may be negative.

    Args:
        k: how many positions to go forward.
        d_model, layout, base, endpoint, dtype: as for `sinusoidal_table`.
    """
    sine, cosine = pair_indices(d_model, layout, "d_model")
    exact = {"dtype": torch.float64, "device": "cpu"}
    angles = k * inverse_frequencies(d_model, base, endpoint=endpoint, **exact)
    # sin(a + b) = sin(a) cos(b) + cos(a) sin(b), with b the angle of the shift;
    # cos(a + b) = cos(a) cos(b) - sin(a) sin(b)
    M = torch.zeros(d_model, d_model, **exact)
    M[sine, sine] = M[cosine, cosine] = angles.cos()
    M[sine, cosine] = angles.sin()
    M[cosine, sine] = -angles.sin()
    return M.to(dtype=dtype, device=torch.get_default_device())


class SinusoidalPositionalEncoding(nn.Module):
    """x + PE, with the fixed sines and cosines of `sinusoidal_table`; nothing is learned.

    Args:
        d_model: width of the embeddings, an even number.
        max_seq_len: how many positions the table holds.
        dropout: the probability with which an element of the sum is dropped in training.
        layout, base, endpoint: see `sinusoidal_table`.

    Raises:
        ValueError: an odd width, an unknown layout, or a length below 1.
    """

    def __init__(
        self,
        d_model: int,
        max_seq_len: int = 5000,
        dropout: float = 0.0,
        *,
        layout: Layout = "interleaved",
        base: float = 10000.0,
        endpoint: bool = False,
    ) -> None:
        super().__init__()
        table = sinusoidal_table(
            max_seq_len, d_model, layout, base=base, endpoint=endpoint
        )
        # Not persistent: a checkpoint need not carry what the arguments determine.
        self.register_buffer("table", table, persistent=False)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "batch length d_model"], offset: int = 0
    ) -> Float[Tensor, "batch length d_model"]:
        """Add positions ``offset ... offset + length - 1``.

        Raises:
            ValueError: the positions reach past ``max_seq_len``, or the width of ``x``
                is not ``d_model``.
        """
        return self.dropout(x + _rows(self.table, x, offset))


class LearnedPositionalEmbedding(nn.Module):
    """x + E, where E holds one learned vector a position (BERT, GPT-2).

    There is none for a position that training never reached, and none at all past
    ``max_seq_len``.

    Args:
        d_model: width of the embeddings.
        max_seq_len: how many positions there are.
        dropout: the probability with which an element of the sum is dropped in training.
    """

    def __init__(
        self, d_model: int, max_seq_len: int = 512, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.position_embeddings = nn.Embedding(max_seq_len, d_model)
        nn.init.normal_(self.position_embeddings.weight, std=0.02)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "batch length d_model"], offset: int = 0
    ) -> Float[Tensor, "batch length d_model"]:
        """Add positions ``offset ... offset + length - 1``.

        Raises:
            ValueError: the positions reach past ``max_seq_len``, or the width of ``x``
                is not ``d_model``.
        """
        return self.dropout(x + _rows(self.position_embeddings.weight, x, offset))


def pair_indices(d: int, layout: Layout, name: str) -> tuple[Tensor, Tensor]:
    """Where the first and the second member of each pair stand among ``d`` numbers."""
    if d < 2 or d % 2:
        raise ValueError(
            f"{name} must be even and at least 2, since it is split into pairs, but it is {d}"
        )
    if layout not in ("interleaved", "halves"):
        raise ValueError(
            f"layout must be 'interleaved' or 'halves', but it is {layout!r}"
        )
    index = torch.arange(d, device="cpu")
    pairs = index.view(-1, 2).T if layout == "interleaved" else index.view(2, -1)
    return pairs[0], pairs[1]


def _rows(table: Tensor, x: Tensor, offset: int) -> Tensor:
    """The rows of ``table`` for the positions of ``x``, which start at ``offset``."""
    max_seq_len, d_model = table.shape
    length = x.shape[-2]
    if x.shape[-1] != d_model:
        raise ValueError(
            f"x must have width d_model = {d_model}, but it has shape {tuple(x.shape)}"
        )
    if offset < 0 or offset + length > max_seq_len:
        raise ValueError(
            f"positions {offset} to {offset + length - 1} don't all exist: max_seq_len "
            f"is {max_seq_len}, so they run from 0 to {max_seq_len - 1}; crop the "
            "sequence or build the layer with a larger max_seq_len"
        )
    return table[offset : offset + length].to(x.dtype)
