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


class KeyValueCache:
    """Keys and values of every attention layer of one model, for one batch of sequences.

    A layer asks for its own by passing itself, so nothing has to number the layers.
    """

    def __init__(self) -> None:
        self._self: dict[nn.Module, _Growing] = {}  # self-attention: grows by each call
        self._cross: dict[nn.Module, KeysAndValues] = {}  # cross-attention: fixed

    @property
    def length(self) -> int:
        """How many positions are kept; the next token's position."""
        return min((kept.length for kept in self._self.values()), default=0)

    def length_of(self, layer: nn.Module) -> int:
        """How many positions ``layer`` has; within a step, layers differ."""
        return self._self[layer].length if layer in self._self else 0

    @property
    def num_bytes(self) -> int:
        """Memory of the kept keys and values, in bytes, without room to grow."""
        kept = [kept.view() for kept in self._self.values()] + [*self._cross.values()]
        return sum(t.numel() * t.element_size() for pair in kept for t in pair)

    def extend(
        self,
        layer: nn.Module,
        keys: Float[Tensor, "batch heads new d_k"],
        values: Float[Tensor, "batch heads new d_v"],
    ) -> KeysAndValues:
        """Add the keys and values of new positions to ``layer``'s; return all of them.

        Raises:
            ValueError: the batch is not the one that the cache holds.
        """
        if layer not in self._self:
            self._self[layer] = _Growing(keys, values)
        else:
            self._self[layer].append(keys, values)
        return self._self[layer].view()

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
            ValueError: there are not that many positions.
        """
        if not 0 <= length <= self.length:
            raise ValueError(
                f"length must be from 0 to the {self.length} positions kept, "
                f"but it is {length}"
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
    """Keys and values with room to grow: doubling makes n appends cost O(n) copies."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.length = keys.shape[2]
        self.keys, self.values = keys, values

    def append(self, keys: Tensor, values: Tensor) -> None:
        if keys.shape[:2] != self.keys.shape[:2]:
            raise ValueError(
                f"the cache holds (batch, heads) = {tuple(self.keys.shape[:2])}, "
                f"but the new keys have {tuple(keys.shape[:2])}: "
                "start a new cache for a new batch"
            )
        end = self.length + keys.shape[2]
        if end > self.keys.shape[2]:
            room = max(end, 2 * self.length)
            self.keys = self._grown(self.keys, room)
            self.values = self._grown(self.values, room)
        self.keys[:, :, self.length : end] = keys
        self.values[:, :, self.length : end] = values
        self.length = end

    def _grown(self, x: Tensor, room: int) -> Tensor:
        larger = torch.empty(
            (*x.shape[:2], room, x.shape[3]), dtype=x.dtype, device=x.device
        )
        larger[:, :, : self.length] = x[:, :, : self.length]
        return larger

    def view(self) -> KeysAndValues:
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def select(self, rows: Tensor) -> None:
        self.keys, self.values = self.keys[rows], self.values[rows]
