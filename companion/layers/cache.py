"""The key-value cache: what a decoder has computed once, it does not compute again.

When a model writes one token at a time, the keys and values of all earlier tokens stay the
same, since no position sees a later one. The cache keeps them for each attention layer, so
that a step costs one token's work and not the whole sequence's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

KeysAndValues = tuple[Tensor, Tensor]

# How many positions beyond its window a rolling cache keeps, for `truncate` to go back.
_SPARE = 64


class KeyValueCache:
    """Keys and values of every attention layer of one model, for one batch of sequences.

    A layer asks for its own by passing itself, so nothing has to number the layers.
    """

    def __init__(self) -> None:
        self._self: dict[nn.Module, _Growing] = {}  # self-attention: grows by each call
        self._cross: dict[nn.Module, KeysAndValues] = {}  # cross-attention: fixed

    @property
    def length(self) -> int:
        """How many positions were read; the next token's position."""
        return min((kept.length for kept in self._self.values()), default=0)

    def length_of(self, layer: nn.Module) -> int:
        """How many positions ``layer`` has read; within a step, layers differ."""
        return self._self[layer].length if layer in self._self else 0

    @property
    def num_bytes(self) -> int:
        """Memory of the kept keys and values, in bytes, without room to grow."""
        kept = [kept.view() for kept in self._self.values()]
        kept += self._cross.values()
        return sum(t.numel() * t.element_size() for pair in kept for t in pair)

    def extend(
        self,
        layer: nn.Module,
        keys: Float[Tensor, "batch heads new d_k"],
        values: Float[Tensor, "batch heads new d_v"],
        *,
        window: int | None = None,
    ) -> KeysAndValues:
        """Add the keys and values of new positions to ``layer``'s; return all of them.

        Args:
            layer: whose they are.
            keys, values: of the new positions.
            window: of the earlier positions, return only the ``window - 1`` that the
                first new one still sees, and forget those that none will see again.

        Raises:
            ValueError: the batch is not the one that the cache holds.
        """
        if layer not in self._self:
            self._self[layer] = _Growing(keys, values)
            return keys, values
        kept = self._self[layer]
        first = 0 if window is None else max(0, kept.length - (window - 1))
        kept.append(keys, values)
        kept.forget(first - _SPARE)
        return kept.view(first)

    def once(
        self, layer: nn.Module, compute: Callable[[], KeysAndValues]
    ) -> KeysAndValues:
        """``layer``'s keys and values of a memory that does not change."""
        if layer not in self._cross:
            self._cross[layer] = compute()
        return self._cross[layer]

    def truncate(self, length: int) -> None:
        """Forget all positions from ``length`` on, as when drafted tokens are refused.

        Raises:
            ValueError: there are not that many positions, or a layer with a window has
                forgotten what the next token would see.
        """
        if not 0 <= length <= self.length:
            raise ValueError(
                f"length must be from 0 to the {self.length} positions kept, "
                f"but it is {length}"
            )
        if any(
            kept.forgotten and kept.length - length > _SPARE
            for kept in self._self.values()
        ):
            raise ValueError(
                f"length must be at least {self.length - _SPARE}, but it is {length}: a "
                f"sliding window forgets what it leaves behind, all but {_SPARE} positions"
            )
        for kept in self._self.values():
            kept.length = length

    def select(self, rows: Int[Tensor, " new_batch"]) -> None:
        """Keep these sequences of the batch, in this order, as beam search needs."""
        for kept in self._self.values():
            kept.select(rows)
        for layer, (keys, values) in self._cross.items():
            self._cross[layer] = keys[rows], values[rows]


class _Growing:
    """Keys and values with room to grow: doubling makes n appends cost O(n) copies.

    ``length`` counts every position from the first on, also those ``forgotten``.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.length = keys.shape[2]
        self.forgotten = 0
        self.keys, self.values = keys, values

    def append(self, keys: Tensor, values: Tensor) -> None:
        if keys.shape[:2] != self.keys.shape[:2]:
            raise ValueError(
                f"the cache holds (batch, heads) = {tuple(self.keys.shape[:2])}, "
                f"but the new keys have {tuple(keys.shape[:2])}: "
                "start a new cache for a new batch"
            )
        used = self.length - self.forgotten
        end = used + keys.shape[2]
        if end > self.keys.shape[2]:
            room = max(end, 2 * used)
            self.keys = _grown(self.keys, used, room)
            self.values = _grown(self.values, used, room)
        self.keys[:, :, used:end] = keys
        self.values[:, :, used:end] = values
        self.length += keys.shape[2]

    def forget(self, before: int) -> None:
        """Drop the positions below ``before``, once they are half of what is kept."""
        used, gone = self.length - self.forgotten, before - self.forgotten
        if 2 * gone > used:  # at last: n appends cost O(n) copies here as well
            self.keys = self.keys[:, :, gone:used].clone()
            self.values = self.values[:, :, gone:used].clone()
            self.forgotten = before

    def view(self, first: int = 0) -> KeysAndValues:
        """From position ``first`` on, or from the first that is left."""
        start, end = max(0, first - self.forgotten), self.length - self.forgotten
        return self.keys[:, :, start:end], self.values[:, :, start:end]

    def select(self, rows: Tensor) -> None:
        self.keys, self.values = self.keys[rows], self.values[rows]


def _grown(x: Tensor, used: int, room: int) -> Tensor:
    larger = torch.empty(
        (*x.shape[:2], room, x.shape[3]), dtype=x.dtype, device=x.device
    )
    larger[:, :, :used] = x[:, :, :used]
    return larger
