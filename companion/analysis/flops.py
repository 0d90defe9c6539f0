"""What a model costs, counted: parameters by part, multiplications by kind, memory of a step.

What is counted by hand, term by term as in the papers, is held to PyTorch's own counter,
which looks at the shapes of every product while the model runs.

Sources: Kaplan et al. (2020), section 2.1, for 2ND and 6ND; Hoffmann et al. (2022), appendix
F, for the full count; Korthikanti et al. (2022), section 4, for activations.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from companion.layers import MultiHeadAttention


class Parameters(NamedTuple):
    """Where the parameters of a model are; tied ones are counted once.

    Attributes:
        embedding: tables of tokens, positions and segments.
        attention: maps to queries, keys and values, and back.
        feed_forward: all other matrices inside of layers.
        other: norms, heads that are not tied, and whatever else.
    """

    embedding: int
    attention: int
    feed_forward: int
    other: int

    @property
    def total(self) -> int:
        return sum(self)

    @property
    def non_embedding(self) -> int:
        """What Kaplan et al. (2020) call N."""
        return self.total - self.embedding


def count_parameters(model: nn.Module) -> Parameters:
    """The parameters of ``model`` by part."""
    counts = dict.fromkeys(Parameters._fields, 0)
    seen: set[int] = set()
    owners = _owners(model)
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            counts[_part(name, module, owners)] += parameter.numel()
    return Parameters(**counts)


def _owners(model: nn.Module) -> dict[str, str]:
    """The names of attention modules and of layers: what is inside of them belongs to them."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, MultiHeadAttention):
            found[name] = "attention"
        elif name.rpartition(".")[2].startswith(("feed_forward", "experts")):
            found[name] = "feed_forward"
    return found


def _part(name: str, module: nn.Module, owners: dict[str, str]) -> str:
    if isinstance(module, nn.Embedding):
        return "embedding"
    for owner, part in owners.items():
        if name == owner or name.startswith(owner + "."):
            return part
    return "other"


class Flops(NamedTuple):
    """Floating-point operations of matrix products: two for a multiplication and its addition.

    Attributes:
        weights: products with parameters.
        attention: products of activations with each other: scores, and averages of values.
    """

    weights: int
    attention: int

    @property
    def total(self) -> int:
        return self.weights + self.attention


def forward_flops(model: nn.Module, *inputs: Any, **options: Any) -> Flops:
    """The operations of ``model(*inputs, **options)``, by PyTorch's counter.

    Causal attention is counted in full: a kernel may skip half of it, or not. For the
    count it runs as plain products, since the counter does not know all kernels.
    """
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model(*inputs, **options)
    by_kind = counter.get_flop_counts()["Global"]
    attention = sum(
        number
        for kind, number in by_kind.items()
        if any(word in str(kind) for word in ("attention", "bmm"))
    )
    return Flops(sum(by_kind.values()) - attention, attention)


def layer_flops(model: nn.Module, *inputs: Any, **options: Any) -> Flops:
    """The same by hand, for any model: from what goes through each of its layers.

    A `Linear` costs 2 x inputs x outputs for each row, a convolution 2 x its kernel for
    each number it gives, and `MultiHeadAttention` 2 d_k for each score and as much for
    the average. What a model multiplies outside of such layers is not seen: an output
    that is the embedding's table once more, without a `Linear`, and attention that
    leaves pairs out.
    """
    weights = attention = 0

    def linear(layer: nn.Linear, given: tuple, _named: dict, _result: Tensor) -> None:
        nonlocal weights
        weights += 2 * given[0].numel() * layer.out_features

    def convolution(layer: Any, _given: tuple, _named: dict, result: Tensor) -> None:
        nonlocal weights
        weights += 2 * result.numel() * layer.weight[0].numel()

    def attend(
        layer: MultiHeadAttention, given: tuple, named: dict, _result: Any
    ) -> None:
        nonlocal attention
        query, key = (*given, None)[:2]
        key = named.get("key") if key is None else key
        keys = query.shape[1] if key is None else key.shape[1]
        pairs = query.shape[0] * query.shape[1] * keys
        attention += 4 * pairs * layer.num_heads * layer.d_k

    counts = {
        nn.Linear: linear,
        nn.Conv1d: convolution,
        nn.Conv2d: convolution,
        MultiHeadAttention: attend,
    }
    hooks = [
        layer.register_forward_hook(count, with_kwargs=True)
        for layer in model.modules()
        for kind, count in counts.items()
        if isinstance(layer, kind)
    ]
    try:
        with torch.no_grad():
            model(*inputs, **options)
    finally:
        for hook in hooks:
            hook.remove()
    return Flops(weights, attention)


def decoder_forward_flops(
    num_layers: int,
    d_model: int,
    d_ff: int,
    vocab_size: int,
    length: int,
    batch: int = 1,
) -> Flops:
    """The same from the sizes alone, for a GPT: every term of Hoffmann et al. (2022), appendix F.

    For each token and layer: 2 * 4 d^2 for queries, keys, values and output, 2 * 2 d d_ff
    for the feed-forward network; and at the end 2 d V for the logits. For each pair of
    tokens and layer: 2 d for the score and 2 d for the average, over all heads. Lookups
    in tables cost nothing here; theirs counts them as products.
    """
    tokens = batch * length
    a_layer = 2 * (4 * d_model**2 + 2 * d_model * d_ff)
    weights = tokens * (num_layers * a_layer + 2 * d_model * vocab_size)
    attention = num_layers * batch * length**2 * 4 * d_model
    return Flops(weights, attention)


def six_nd(parameters: int, tokens: int) -> int:
    """6ND: two operations for each weight and token forward, four backward."""
    return 6 * parameters * tokens


@contextmanager
def saved_for_backward() -> Iterator[dict[int, int]]:
    """Collect the bytes of what autograd keeps for the backward pass, by storage.

    A storage that is kept for several operations, and one that belongs to a parameter,
    is counted once; the sum over the values is the memory of activations, plus that of
    the parameters that were used.
    """
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept


def activation_bytes(model: nn.Module, loss: Any) -> int:
    """Bytes that ``loss()`` leaves behind for its backward pass, without the parameters."""
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    with saved_for_backward() as kept:
        result = loss()
    del result
    return sum(size for where, size in kept.items() if where not in parameters)
