"""Rotary positions: queries and keys turn by an angle that grows with their position.

The product of a query and a key then depends on their distance only.

Source: Su et al. (2021), "RoFormer", sections 3.2.2 and 3.4.2.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from companion.layers.positions import Layout, inverse_frequencies, pair_indices
from companion.layers.rotary_scaling import DynamicNTKScaling, RotaryScaling


class RotaryEmbedding(nn.Module):
    """Turns pair i of a query or key at position m by the angle m base^(-2i/d_k).

    (x_1, x_2) -> (x_1 cos - x_2 sin, x_2 cos + x_1 sin), equation 34 of Su et al.

    Nothing is learned, and no position is too far. Which two numbers make a pair is the
    layout: a checkpoint that was trained in one gives nonsense in the other, until
    `to_half_split` or `to_interleaved` reorders its query and key weights.

    Args:
        d_k: width of a head.
        base: how many times as slow the last pair is (almost); 10000 in the paper,
            500000 in LLaMA 3.
        layout: ``"interleaved"`` pairs neighbors (the paper, Meta's LLaMA, GPT-J, GGUF);
            ``"halves"`` pairs number i with i + d_k/2 (GPT-NeoX, LLaMA and all that
            follow it in Hugging Face's format).
        scaling: how the angles shrink to read beyond the trained length.
        rotary_dim: how many numbers of each head turn, the first ones; by default all.
            The rest carries no position.

    Raises:
        TypeError, ValueError: an argument is out of range.
    """

    def __init__(
        self,
        d_k: int,
        base: float = 10000.0,
        layout: Layout = "interleaved",
        *,
        scaling: RotaryScaling | None = None,
        rotary_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.d_k = d_k
        self.base = base
        self.layout = layout
        self.rotary_dim = d_k if rotary_dim is None else rotary_dim
        name = "d_k" if rotary_dim is None else "rotary_dim"
        pair_indices(self.rotary_dim, layout, name)  # checks both
        if self.rotary_dim > d_k:
            raise ValueError(
                f"rotary_dim must be at most d_k = {d_k}, but it is {rotary_dim}"
            )
        if base <= 1:
            raise ValueError(f"base must be above 1, but it is {base}")
        if not isinstance(scaling, RotaryScaling | None):
            raise TypeError(
                "scaling must be a RotaryScaling such as LinearScaling(factor=2.0), or "
                f"None, but it is a {type(scaling).__name__}"
            )
        self.scaling = scaling
        self.register_buffer("frequencies", self._frequencies(), persistent=False)
        self._kept: tuple[tuple, Tensor, tuple[Tensor, Tensor]] | None = None

    def forward(
        self,
        q: Float[Tensor, "*batch_heads length d_k"],
        k: Float[Tensor, "*batch_kv_heads length d_k"],
        offset: int = 0,
    ) -> tuple[
        Float[Tensor, "*batch_heads length d_k"],
        Float[Tensor, "*batch_kv_heads length d_k"],
    ]:
        """Turn queries and keys at positions ``offset ... offset + length - 1``.

        With a key-value cache, ``offset`` is the number of keys in it. Cached keys have
        been turned already.

        Raises:
            ValueError: queries and keys differ in length or are not ``d_k`` wide, or
                the offset is negative.
        """
        if q.shape[-2] != k.shape[-2]:
            raise ValueError(
                f"q and k must have the same length, but their shapes are "
                f"{tuple(q.shape)} and {tuple(k.shape)}; turn them one by one with "
                "rotate(x, positions) where their positions differ"
            )
        if offset < 0:
            raise ValueError(f"offset must be at least 0, but it is {offset}")
        for x in (q, k):
            self._check_width(x)
        cos, sin = self._cos_sin_from(offset, q)
        return self._turned(q, cos, sin), self._turned(k, cos, sin)

    def rotate(
        self,
        x: Float[Tensor, "*batch_heads length d_k"],
        positions: Int[Tensor, "length"] | Int[Tensor, "batch length"],
    ) -> Float[Tensor, "*batch_heads length d_k"]:
        """Turn ``x`` by the angles of its positions.

        Args:
            x: ``(batch, heads, length, d_k)``; with one position a place in the
                sequence, ``(length, d_k)`` or ``(batch, length, d_k)`` too.
            positions: ``(length,)``, or ``(batch, length)`` where they differ between
                sequences, as with padding on the left.

        Raises:
            ValueError: the shapes don't fit together.
        """
        self._check_width(x)
        one_for_all = positions.shape == x.shape[-2:-1]
        if not one_for_all and (
            x.ndim != 4 or positions.shape != (x.shape[0], x.shape[2])
        ):
            raise ValueError(
                "positions must have shape (length,), or (batch, length) where x is "
                f"(batch, heads, length, d_k), but their shape is "
                f"{tuple(positions.shape)} and that of x {tuple(x.shape)}"
            )
        cos, sin = self.cos_sin(positions, x.dtype)  # (L, r / 2) or (B, L, r / 2)
        if not one_for_all:
            cos, sin = cos[:, None], sin[:, None]  # (B, 1, L, r / 2), over the heads

        turning, resting = x[..., : self.rotary_dim], x[..., self.rotary_dim :]
        if self.layout == "interleaved":
            first, second = turning[..., 0::2], turning[..., 1::2]
        else:
            first, second = turning.chunk(2, dim=-1)
        turned = first * cos - second * sin, second * cos + first * sin
        if self.layout == "interleaved":
            turning = torch.stack(turned, dim=-1).flatten(-2)
        else:
            turning = torch.cat(turned, dim=-1)
        return torch.cat([turning.to(x.dtype), resting], dim=-1)

    def cos_sin(
        self, positions: Int[Tensor, "*shape"], dtype: torch.dtype = torch.float32
    ) -> tuple[Float[Tensor, "*shape pairs"], Float[Tensor, "*shape pairs"]]:
        """Cosine and sine of the angles, in ``dtype`` but never below float32.

        A bfloat16 number has 8 binary digits: it would put positions 1000 and 1001 at
        the same place.
        """
        dtype = torch.promote_types(dtype, torch.float32)
        frequencies = self.frequencies
        if isinstance(self.scaling, DynamicNTKScaling):
            frequencies = self.scaling.inverse_frequencies(
                self.rotary_dim,
                self.base,
                length=positions.max() + 1,
                device=positions.device,
            )
        angles = positions[..., None].to(dtype) * frequencies.to(dtype)
        amplitude = 1.0 if self.scaling is None else self.scaling.amplitude
        return angles.cos() * amplitude, angles.sin() * amplitude

    def _cos_sin_from(self, offset: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """`cos_sin` of the positions of ``x``, the first of which is ``offset``, as `_turned` wants.

        The layers of a model share this module and ask for the same angles in turn, so
        the last answer is kept.
        """
        # What is made in inference mode is no good for training. And a compiler, which
        # finds what is common by itself, must not see the module change.
        inference = torch.is_inference_mode_enabled()
        asked = (offset, x.shape[-2], x.dtype, x.device, inference)
        keep = not torch.compiler.is_compiling()
        if keep and self._kept is not None:
            before, frequencies, found = self._kept
            if before == asked and frequencies is self.frequencies:
                return found
        positions = torch.arange(offset, offset + x.shape[-2], device=x.device)
        cos, sin = self.cos_sin(positions, x.dtype)  # (L, r / 2) each
        if self.layout == "interleaved":
            cos = cos.repeat_interleave(2, dim=-1)
            sin = torch.stack([-sin, sin], dim=-1).flatten(-2)
        else:
            cos, sin = torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)
        if keep:
            self._kept = asked, self.frequencies, (cos, sin)
        return cos, sin  # (L, r) each

    def _turned(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """The numbers of `rotate` in half the operations.

        Each number times its cosine, plus its partner times the sine, which has the sign
        of the formula in it.
        """
        turning = x if self.rotary_dim == self.d_k else x[..., : self.rotary_dim]
        if self.layout == "interleaved":
            partner = turning.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
        else:
            partner = turning.roll(self.rotary_dim // 2, dims=-1)
        turned = (turning * cos + partner * sin).to(x.dtype)
        if self.rotary_dim == self.d_k:
            return turned
        return torch.cat([turned, x[..., self.rotary_dim :]], dim=-1)

    def _check_width(self, x: Tensor) -> None:
        if x.shape[-1] != self.d_k:
            raise ValueError(
                f"x must have width d_k = {self.d_k}, but it has shape {tuple(x.shape)}"
            )

    def _frequencies(self, device: torch.device | None = None) -> Tensor:
        if self.scaling is None:
            return inverse_frequencies(self.rotary_dim, self.base, device=device)
        return self.scaling.inverse_frequencies(
            self.rotary_dim, self.base, device=device
        )

    def _apply(self, fn: Callable, recurse: bool = True) -> RotaryEmbedding:
        # `model.to(torch.bfloat16)` comes through here and would round the frequencies
        # too. They are made anew instead, wherever the module went.
        super()._apply(fn, recurse)
        self.frequencies = self._frequencies(self.frequencies.device)
        return self

    def extra_repr(self) -> str:
        return (
            f"d_k={self.d_k}, base={self.base}, layout={self.layout!r}, "
            f"rotary_dim={self.rotary_dim}, scaling={self.scaling}"
        )


def to_half_split(
    x: Shaped[Tensor, "..."],
    d_k: int,
    *,
    rotary_dim: int | None = None,
    axis: int = 0,
) -> Shaped[Tensor, "..."]:
    """Reorder each head of an interleaved model's weights for ``layout="halves"``.

    Both ``W_q`` and ``W_k`` need it, with their biases, and nothing else: a score is
    the same sum in another order. Neighbors 0 1 2 3 4 5 become 0 2 4 1 3 5.

    Args:
        x: a weight ``(heads * d_k, d_model)``, a bias ``(heads * d_k,)``, or queries and
            keys themselves with ``axis=-1``.
        d_k: width of a head.
        rotary_dim: how many numbers of each head turn, the first ones; by default all.
        axis: the one that holds the heads' numbers.

    Raises:
        ValueError: the sizes don't fit together.
    """
    return _reorder(x, d_k, rotary_dim, axis, "interleaved")


def to_interleaved(
    x: Shaped[Tensor, "..."],
    d_k: int,
    *,
    rotary_dim: int | None = None,
    axis: int = 0,
) -> Shaped[Tensor, "..."]:
    """Reorder each head of a half-split model's weights for ``layout="interleaved"``.

    The inverse of `to_half_split`: 0 1 2 3 4 5 become 0 3 1 4 2 5. This is what the
    conversion of a LLaMA checkpoint to GGUF does.
    """
    return _reorder(x, d_k, rotary_dim, axis, "halves")


def _reorder(
    x: Tensor, d_k: int, rotary_dim: int | None, axis: int, layout: Layout
) -> Tensor:
    rotary_dim = d_k if rotary_dim is None else rotary_dim
    if rotary_dim > d_k or x.shape[axis] % d_k:
        raise ValueError(
            f"axis {axis} of x must hold heads of d_k = {d_k} numbers, of which "
            f"rotary_dim = {rotary_dim} turn, but x has shape {tuple(x.shape)}"
        )
    first, second = pair_indices(rotary_dim, layout, "rotary_dim")
    order = torch.arange(d_k, device="cpu")
    if layout == "interleaved":
        order[:rotary_dim] = torch.cat([first, second])
    else:
        order[:rotary_dim] = torch.stack([first, second], dim=-1).flatten()
    axis = axis % x.ndim
    heads = x.unflatten(axis, (-1, d_k))  # (..., H, d_k, ...)
    return heads.index_select(axis + 1, order.to(x.device)).flatten(axis, axis + 1)
