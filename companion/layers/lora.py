"""Low-rank adapters: train a small correction of a frozen matrix instead of the matrix.

Source: Hu et al. (2021), "LoRA: Low-Rank Adaptation of Large Language Models", section
4.1, equation 3.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


class LoRALinear(nn.Module):
    """W x + b + (alpha / rank) B A x, where only A and B are trained.

    A begins random and B at zero, so that the layer begins as the linear one it wraps.
    The factor ``1 / rank`` keeps the size of a step about the same when the rank is
    changed.

    Args:
        linear: the layer to adapt. Its weight and bias are frozen.
        rank: the width r between A and B, at most that of the layer.
        alpha: the size of the correction; ``rank`` by default, so that the factor is 1.

    Raises:
        TypeError: ``linear`` is not an ``nn.Linear``.
        ValueError: the rank is below 1 or above the smaller side of the weight.
    """

    def __init__(
        self, linear: nn.Linear, rank: int, alpha: float | None = None
    ) -> None:
        super().__init__()
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"linear must be an nn.Linear, but it is {type(linear)}")
        largest = min(linear.in_features, linear.out_features)
        if not 1 <= rank <= largest:
            raise ValueError(
                f"rank must be from 1 to {largest}, the smaller side of the weight, but "
                f"it is {rank}"
            )
        self.linear = linear.requires_grad_(False)
        self.rank = rank
        self.alpha = float(rank if alpha is None else alpha)
        new = linear.weight.new_empty
        self.A = nn.Parameter(new(rank, linear.in_features))
        self.B = nn.Parameter(new(linear.out_features, rank).zero_())
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))  # as nn.Linear's own weight
        self._unmerged: Tensor | None = None

    @property
    def merged(self) -> bool:
        """Whether the correction is in the weight, so that the layer costs nothing extra."""
        return self._unmerged is not None

    def correction(self) -> Float[Tensor, "out in"]:
        """(alpha / rank) B A: what is added to the weight, a matrix of rank at most r."""
        return self.alpha / self.rank * self.B @ self.A

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        if self.merged:
            return self.linear(x)
        # (x A^T) B^T: r numbers in between; B A x would be a full matrix each time.
        low = x @ self.A.mT  # (..., r)
        return self.linear(x) + self.alpha / self.rank * (low @ self.B.mT)

    @torch.no_grad()
    def merge(self) -> None:
        """Add the correction to the weight. Does nothing when it is in already.

        The weight that was is kept, since W + D - D is not W in floating point.
        """
        if not self.merged:
            self._unmerged = self.linear.weight.detach().clone()
            self.linear.weight.add_(self.correction())

    @torch.no_grad()
    def unmerge(self) -> None:
        """Put the weight back as it was before `merge`, to the last bit."""
        if self._unmerged is not None:
            self.linear.weight.copy_(self._unmerged)
            self._unmerged = None

    def extra_repr(self) -> str:
        return f"rank={self.rank}, alpha={self.alpha:g}, merged={self.merged}"


def add_lora(
    model: nn.Module,
    rank: int,
    targets: Collection[str] = ("W_q", "W_v"),
    alpha: float | None = None,
) -> list[str]:
    """Freeze ``model`` and put an adapter around each linear layer that ``targets`` names.

    Args:
        model: changed in place. What else is to be trained, such as a new head, is
            unfrozen after this call.
        rank, alpha: as for `LoRALinear`.
        targets: the layers, each by its whole dotted name or by the end of it: ``"W_q"``
            is every query projection, ``"layers.0.self_attention.W_q"`` is one.

    Returns:
        The names of the layers that have an adapter now.

    Raises:
        TypeError: ``targets`` is one string.
        ValueError: a target names no linear layer, or the rank does not fit.
    """
    if isinstance(targets, str):
        raise TypeError(f"targets must be several names, but it is {targets!r}")
    linears = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear)}
    chosen: list[str] = []
    for target in targets:
        found = [n for n in linears if n == target or n.endswith(f".{target}")]
        if not found:
            ends = sorted({name.rpartition(".")[2] for name in linears})
            raise ValueError(
                f"targets may name linear layers such as {', '.join(ends)}, but "
                f"{target!r} is the name of none"
            )
        chosen += [name for name in found if name not in chosen]
    adapters = {name: LoRALinear(linears[name], rank, alpha) for name in chosen}
    model.requires_grad_(False)
    for name, adapter in adapters.items():
        _replace(model, name, adapter.requires_grad_(True))
        adapter.linear.requires_grad_(False)
    return chosen


def merge_lora(model: nn.Module) -> None:
    """Replace each adapter by a plain linear layer with the correction in its weight."""
    for name, adapter in list(lora_layers(model)):
        adapter.merge()
        _replace(model, name, adapter.linear)


def remove_lora(model: nn.Module) -> None:
    """Replace each adapter by the linear layer that it wraps, as it was before."""
    for name, adapter in list(lora_layers(model)):
        adapter.unmerge()
        _replace(model, name, adapter.linear)


def lora_layers(model: nn.Module) -> Iterator[tuple[str, LoRALinear]]:
    """The adapters of ``model`` with their names."""
    for name, module in model.named_modules():
        if isinstance(module, LoRALinear):
            yield name, module


def save_lora(model: nn.Module, path: str | Path) -> None:
    """Write the adapters of ``model``, and nothing else, to a safetensors file.

    Raises:
        ValueError: the model has no adapters.
    """
    layers = dict(lora_layers(model))
    if not layers:
        raise ValueError("model must have adapters to save, but it has none")
    tensors = {
        f"{name}.{part}": getattr(layer, part).detach().cpu().contiguous()
        for name, layer in layers.items()
        for part in "AB"
    }
    alphas = {name: layer.alpha for name, layer in layers.items()}
    save_file(tensors, path, metadata={"alpha": json.dumps(alphas)})


def load_lora(model: nn.Module, path: str | Path) -> list[str]:
    """Put the adapters of a file that `save_lora` wrote onto a model without adapters.

    Returns:
        The names of the layers that have an adapter now.

    Raises:
        ValueError: the file holds no adapters, or they don't fit the model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            alphas = json.loads((file.metadata() or {}).get("alpha", "{}"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a readable safetensors file: {error}"
        ) from error
    if not alphas:
        raise ValueError(f"path must be a file of save_lora, but {path} is not")
    linears = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear)}
    adapters = {}
    for name, alpha in alphas.items():
        A, B = tensors[f"{name}.A"], tensors[f"{name}.B"]
        if name not in linears:
            raise ValueError(
                f"the file adapts {name}, but model has no such linear layer"
            )
        shape = (B.shape[0], A.shape[1])
        if shape != tuple(linears[name].weight.shape):
            raise ValueError(
                f"the file adapts {name} as a {shape} matrix, but the model's is "
                f"{tuple(linears[name].weight.shape)}"
            )
        adapters[name] = LoRALinear(linears[name], A.shape[0], alpha)
        with torch.no_grad():
            adapters[name].A.copy_(A)
            adapters[name].B.copy_(B)
    model.requires_grad_(False)
    for name, adapter in adapters.items():
        _replace(model, name, adapter)
    return list(adapters)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
