"""Collect the attention maps of any model, without threading a return value through it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn


class AttentionMaps(dict[str, list[Tensor]]):
    """Module name -> the maps of its calls, in order, each ``(batch, heads, queries, keys)``."""

    def stack(self) -> Float[Tensor, "modules batch heads queries keys"]:
        """All maps as one tensor, for modules that were called once each on inputs of one shape.

        Raises:
            ValueError: nothing was recorded, a module was called more than once, or
                shapes differ.
        """
        if not self:
            raise ValueError("no attention map was recorded: the model was not called")
        for name, maps in self.items():
            if len(maps) != 1:
                raise ValueError(
                    f"{name!r} was called {len(maps)} times: take its maps from the list, "
                    "or record one call"
                )
        shapes = {name: tuple(maps[0].shape) for name, maps in self.items()}
        if len(set(shapes.values())) != 1:
            raise ValueError(
                f"the maps differ in shape and cannot be stacked: {shapes}"
            )
        return torch.stack([maps[0] for maps in self.values()])


class RecordsAttention(nn.Module):
    """A layer that computes attention weights and hands them to `record_attention`, when it listens."""

    _listener: tuple[AttentionMaps, str] | None = None

    @property
    def is_recorded(self) -> bool:
        """Whether someone listens, so that the weights must be computed."""
        return self._listener is not None

    def record(self, weights: Float[Tensor, "batch heads queries keys"]) -> None:
        """Hand over the weights of this call."""
        if self._listener is not None:
            maps, name = self._listener
            maps.setdefault(name, []).append(weights.detach())


@contextmanager
def record_attention(model: nn.Module) -> Iterator[AttentionMaps]:
    """Collect every attention map that ``model`` computes inside the ``with`` block.

    >>> from companion.layers import MultiHeadAttention
    >>> layer = MultiHeadAttention(d_model=8, num_heads=2)
    >>> with record_attention(layer) as maps:
    ...     output, _ = layer(torch.randn(1, 5, 8), need_weights=False)
    >>> maps.stack().shape
    torch.Size([1, 1, 2, 5, 5])

    The maps are detached, taken before dropout, and appear under the names of
    ``model.named_modules()``, in the order in which the modules were called. Inside the
    block the layers take the explicit path, since the fused kernel has no weights to
    give.

    Raises:
        ValueError: the model has no layer that computes attention.
    """
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, RecordsAttention)
    }
    if not layers:
        raise ValueError(
            f"{type(model).__name__} has no attention layer of companion's, so there is nothing to record"
        )
    maps = AttentionMaps()
    before = {name: layer._listener for name, layer in layers.items()}
    for name, layer in layers.items():
        layer._listener = (maps, name)
    try:
        yield maps
    finally:
        for name, layer in layers.items():
            layer._listener = before[name]
