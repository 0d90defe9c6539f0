"""Scalings of the rotary angles, which let a model read further than it was trained to.

Each is a formula for the angles: `inverse_frequencies` with other numbers in it. None
of them changes a weight.

Sources: Chen et al. (2023), "Extending Context Window of Large Language Models via
Positional Interpolation"; Peng et al. (2023), "YaRN: Efficient Context Window Extension
of Large Language Models", section 3; Grattafiori et al. (2024), "The Llama 3 Herd of
Models", and the code released with its version 3.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from companion.layers.positions import inverse_frequencies


@dataclass(frozen=True)
class RotaryScaling:
    """How the angles shrink, so that ``factor`` times the trained length can be read.

    Attributes:
        factor: the length to be read over the length of training, at least 1.
    """

    factor: float

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise ValueError(f"factor must be at least 1, but it is {self.factor}")

    @property
    def amplitude(self) -> float:
        """What cosines and sines are multiplied by; the scores grow with its square."""
        return 1.0

    def inverse_frequencies(
        self, dim: int, base: float, *, device: torch.device | str | None = None
    ) -> Float[Tensor, "pairs"]:
        """The angles of ``dim / 2`` pairs, in radians a position."""
        raise NotImplementedError


@dataclass(frozen=True)
class LinearScaling(RotaryScaling):
    """Position interpolation (Chen et al., 2023): positions are divided by ``factor``.

    No angle grows beyond those of training, but neighbors come closer together, which
    the fast pairs have to tell apart.
    """

    def inverse_frequencies(
        self, dim: int, base: float, *, device: torch.device | str | None = None
    ) -> Float[Tensor, "pairs"]:
        return inverse_frequencies(dim, base, device=device) / self.factor


@dataclass(frozen=True)
class NTKScaling(RotaryScaling):
    """NTK-aware interpolation: the base grows to base * factor^(dim / (dim - 2)).

    The slowest pair is then interpolated by just ``factor``, the fastest not at all
    (Peng et al., 2023, section 3.1).
    """

    def inverse_frequencies(
        self, dim: int, base: float, *, device: torch.device | str | None = None
    ) -> Float[Tensor, "pairs"]:
        return _with_larger_base(dim, base, self.factor, device)


@dataclass(frozen=True)
class DynamicNTKScaling(RotaryScaling):
    """NTK-aware interpolation that grows with the sequence, and starts past training.

    A sequence of ``length`` is interpolated by
    ``factor * length / original_max_seq_len - (factor - 1)``, or not at all where that
    is below 1. So the angles of a position depend on how long the sequence is: keys
    that a cache holds were turned for a shorter one (Peng et al., 2023, section 3.3).

    Attributes:
        original_max_seq_len: the length of training.
    """

    original_max_seq_len: int

    def inverse_frequencies(
        self,
        dim: int,
        base: float,
        *,
        length: int | Int[Tensor, ""] = 0,
        device: torch.device | str | None = None,
    ) -> Float[Tensor, "pairs"]:
        """The angles in a sequence of ``length``; by default one as short as in training."""
        # A tensor, so that no accelerator has to report a length before it goes on.
        length = torch.as_tensor(length, device=device)
        length = length.clamp(min=self.original_max_seq_len)
        stretch = self.factor * length / self.original_max_seq_len - (self.factor - 1)
        return _with_larger_base(dim, base, stretch, device)


@dataclass(frozen=True)
class YaRNScaling(RotaryScaling):
    """YaRN: fast pairs stay, slow pairs are interpolated, attention gets sharper.

    A pair that turns ``beta_fast`` times or more within the length of training keeps
    its angle, one that turns ``beta_slow`` times or fewer is divided by ``factor``. In
    between the share is a ramp over the number of the pair, as in the authors' code;
    section 3.2 of the paper has a ramp over the turns, as `Llama3Scaling` does.

    Attributes:
        original_max_seq_len: the length of training.
        beta_fast, beta_slow: turns within the length of training.
        attention_factor: replaces the paper's amplitude of 0.1 ln(factor) + 1.
        mscale, mscale_all_dim: where both are given, the amplitude is
            (0.1 mscale ln(factor) + 1) / (0.1 mscale_all_dim ln(factor) + 1), as in
            DeepSeek-V2.
        truncate: whether the ends of the ramp are rounded outwards to whole pairs.
    """

    original_max_seq_len: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True

    @property
    def amplitude(self) -> float:
        """The square root of 1/t, where t is the temperature of the softmax (section 3.4)."""
        if self.attention_factor is not None:
            return self.attention_factor
        log = 0.1 * math.log(self.factor)
        if self.mscale and self.mscale_all_dim:
            return (self.mscale * log + 1) / (self.mscale_all_dim * log + 1)
        return log + 1

    def inverse_frequencies(
        self, dim: int, base: float, *, device: torch.device | str | None = None
    ) -> Float[Tensor, "pairs"]:
        def pair_that_turns(times: float) -> float:
            wavelength = self.original_max_seq_len / times
            return dim * math.log(wavelength / (2 * math.pi)) / (2 * math.log(base))

        low, high = pair_that_turns(self.beta_fast), pair_that_turns(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, dim - 1)
        if low == high:
            high += 0.001
        pair = torch.arange(dim // 2, dtype=torch.float32, device=device)
        kept = 1 - ((pair - low) / (high - low)).clamp(0, 1)
        return _in_part(kept, self.factor, dim, base, device)


@dataclass(frozen=True)
class Llama3Scaling(RotaryScaling):
    """LLaMA 3.1: the same idea with the ramp over the turns, and without sharpening.

    This is "NTK-by-parts" (Peng et al., 2023, section 3.2), with ends at 1 and 4 turns
    instead of 1 and 32.

    Attributes:
        original_max_seq_len: the length of training, 8192 for LLaMA 3.
        low_freq_factor, high_freq_factor: turns within that length; fewer than the
            first are interpolated in full, more than the second not at all.
    """

    original_max_seq_len: int
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0

    def inverse_frequencies(
        self, dim: int, base: float, *, device: torch.device | str | None = None
    ) -> Float[Tensor, "pairs"]:
        frequencies = inverse_frequencies(dim, base, device=device)
        turns = self.original_max_seq_len / (2 * math.pi / frequencies)
        width = self.high_freq_factor - self.low_freq_factor
        kept = ((turns - self.low_freq_factor) / width).clamp(0, 1)
        return _in_part(kept, self.factor, dim, base, device)


def _with_larger_base(
    dim: int,
    base: float,
    stretch: float | Tensor,
    device: torch.device | str | None,
) -> Tensor:
    if dim < 4:
        raise ValueError(
            f"NTK-aware scaling needs at least two pairs, but there are {dim} numbers"
        )
    larger = base * stretch ** (dim / (dim - 2))
    return inverse_frequencies(dim, larger, device=device)


def _in_part(
    kept: Tensor,
    factor: float,
    dim: int,
    base: float,
    device: torch.device | str | None,
) -> Tensor:
    """Each pair's angle, divided by ``factor`` except for the share that is kept."""
    frequencies = inverse_frequencies(dim, base, device=device)
    return frequencies / factor * (1 - kept) + frequencies * kept
