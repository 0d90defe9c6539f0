"""Weights in 8 bits, and in 4: a number becomes a small integer times a shared scale.

Sources: Dettmers et al. (2022), "LLM.int8(): 8-bit Matrix Multiplication for Transformers
at Scale", sections 2 and 3; llama.cpp's Q4_1 format for `quantize_blocks`.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int8, UInt8
from torch import Tensor, nn

LARGEST = 127  # of a symmetric int8: -128 is left out, so that -w becomes -q


def quantize_absmax(
    weight: Float[Tensor, "rows columns"], *, per_row: bool = True
) -> tuple[Int8[Tensor, "rows columns"], Float[Tensor, "#rows 1"]]:
    """q = round(w / scale), where the scale makes the largest |w| 127.

    Args:
        weight: real numbers.
        per_row: whether each row has a scale of its own, or all share one.

    Returns:
        The integers and the scale, ``(rows, 1)`` or ``(1, 1)``: ``q * scale`` is near
        ``weight``, no further off than half a scale.
    """
    largest = weight.abs().amax(dim=1 if per_row else (0, 1), keepdim=True)
    scale = largest.clamp(min=torch.finfo(weight.dtype).tiny) / LARGEST
    return (weight / scale).round().to(torch.int8), scale


def quantize_minmax(
    weight: Float[Tensor, "rows columns"], *, per_row: bool = True
) -> tuple[
    UInt8[Tensor, "rows columns"], Float[Tensor, "#rows 1"], Float[Tensor, "#rows 1"]
]:
    """q = round((w - lowest) / scale): all 256 levels between the lowest and the highest.

    Returns:
        The integers, the scale and the lowest: ``q * scale + lowest`` is near ``weight``.
    """
    dim = 1 if per_row else (0, 1)
    lowest = weight.amin(dim=dim, keepdim=True)
    span = weight.amax(dim=dim, keepdim=True) - lowest
    scale = span.clamp(min=torch.finfo(weight.dtype).tiny) / 255
    return ((weight - lowest) / scale).round().to(torch.uint8), scale, lowest


def quantize_blocks(
    weight: Float[Tensor, "rows columns"], block: int = 32
) -> Float[Tensor, "rows columns"]:
    """``weight`` as it comes back from 4 bits: 16 levels between each block's ends.

    This is the arithmetic of Q4_1: each block of ``block`` neighbors in a row keeps its
    lowest number and its scale in 16 bits each, so that a weight costs 4 + 32 / block
    bits. The packing of two levels into a byte is left out.

    Raises:
        ValueError: the block does not divide the columns.
    """
    if block < 1 or weight.shape[-1] % block:
        raise ValueError(
            f"block must divide the {weight.shape[-1]} columns, but it is {block}"
        )
    blocks = weight.float().unflatten(-1, (-1, block))  # (rows, blocks, block)
    lowest = blocks.amin(dim=-1, keepdim=True)
    scale = (blocks.amax(dim=-1, keepdim=True) - lowest) / 15
    inverse = torch.where(scale == 0, 0.0, 1 / scale)
    # floor(x + 0.5) and not round(x), which takes 2.5 to 2: as llama.cpp does.
    level = ((blocks - lowest) * inverse + 0.5).floor().clamp(0, 15)
    back = level * scale.half().float() + lowest.half().float()
    return back.flatten(-2).to(weight.dtype)


class QuantizedLinear(nn.Module):
    """A linear layer that keeps its weight as int8 with one scale for each output.

    The weight is turned back into real numbers for each call, and the input stays as it
    is, so gradients reach the input. Memory is saved; time is not.

    Args:
        linear: the layer whose weight is rounded; its bias is kept as it is.
        per_row: whether each output has a scale of its own, or all share one.
    """

    def __init__(self, linear: nn.Linear, *, per_row: bool = True) -> None:
        super().__init__()
        values, scale = quantize_absmax(linear.weight.detach(), per_row=per_row)
        self.register_buffer("values", values)  # (out, in)
        self.register_buffer("scale", scale)  # (out, 1) or (1, 1)
        self.bias = linear.bias
        self.out_features, self.in_features = values.shape

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """The weight after rounding, as real numbers."""
        return self.values * self.scale

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        y = x @ self.values.to(x.dtype).mT * self.scale.mT  # scales after the product
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"scales={self.scale.numel()}"
        )


class Int8Linear(QuantizedLinear):
    """A linear layer that multiplies integers: the input is rounded too, a scale a token.

    x W^T is about (x_q W_q^T) * scale_x * scale_W, with the product in int8 and its sum in
    int32. Features of the input that somewhere exceed ``threshold`` are taken out of the
    rounding and multiplied as real numbers (Dettmers et al., 2022, section 3.2): one
    large feature would otherwise spread its coarse scale over all features of its token.

    Args:
        linear: the layer.
        threshold: the size from which a feature counts as an outlier; the paper takes 6.
            None rounds all.
        per_row: as for `QuantizedLinear`.

    No gradient reaches the input, since rounding has no slope: this is for inference.
    """

    def __init__(
        self,
        linear: nn.Linear,
        *,
        threshold: float | None = None,
        per_row: bool = True,
    ) -> None:
        super().__init__(linear, per_row=per_row)
        self.threshold = threshold

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        y = self._product(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], -1)
        return y if self.bias is None else y + self.bias

    @torch.no_grad()
    def _product(self, x: Float[Tensor, "n in"]) -> Float[Tensor, "n out"]:
        exact = 0.0
        if self.threshold is not None:
            outlier = (x.abs() >= self.threshold).any(dim=0)  # (in,)
            columns = self.values[:, outlier].to(x.dtype)
            exact = x[:, outlier] @ columns.mT * self.scale.mT  # (n, out)
            x = x.masked_fill(outlier, 0.0)
        values, scale = quantize_absmax(x)
        product = _integer_product(values, self.values.mT).to(x.dtype)  # (n, out)
        return product * scale * self.scale.mT + exact

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, threshold={self.threshold}"


def quantize_(
    model: nn.Module,
    layer: type[QuantizedLinear] = QuantizedLinear,
    skip: Collection[str] = (),
    **options: object,
) -> nn.Module:
    """Replace the linear layers of ``model`` by quantized ones, in place.

    Args:
        model: changed in place. Embeddings and norms stay as they are.
        layer: `QuantizedLinear` or `Int8Linear`.
        skip: names of layers to leave alone, each whole or the end of it.
        options: passed to ``layer``.

    Returns:
        The same model.

    Raises:
        ValueError: the model has no linear layer to replace.
    """
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and not any(name == s or name.endswith(f".{s}") for s in skip)
    ]
    if not found:
        raise ValueError("model must have linear layers to quantize, but it has none")
    for name, linear in found:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer(linear, **options))
    return model


def storage_bytes(model: nn.Module) -> int:
    """Bytes of the parameters and buffers of ``model``; what is shared counts once."""
    tensors = [*model.parameters(), *model.buffers()]
    distinct = {t.data_ptr(): t.numel() * t.element_size() for t in tensors}
    return sum(distinct.values())


def relative_error(found: Tensor, exact: Tensor) -> float:
    """|found - exact| / |exact|, in the Euclidean norm over all numbers."""
    return ((found - exact).norm() / exact.norm()).item()


def _integer_product(a: Int8[Tensor, "n in"], b: Int8[Tensor, "in out"]) -> Tensor:
    """a b with sums in int32, by PyTorch's integer kernel where there is one."""
    try:
        return torch._int_mm(a, b)
    except (RuntimeError, NotImplementedError):
        # Sums of 1,040 products of int8 are still exact in float32, in float64 all are.
        return F.linear(a.float(), b.mT.float())
