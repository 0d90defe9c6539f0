"""A language model laid out for writing one text, or a few, quickly, a token at a time.

Then each number of each matrix is read once and hardly used, and the memory decides how
long a token takes. `unrolled` makes four changes, none of which changes what is computed:

- Matrices that are applied to the same vector lie side by side, as one.
- A matrix with more outputs than inputs lies in memory column by column. Row by row, each
  output is a sum that ends after a few hundred numbers, and a CPU waits at each end.
- Where there are several cores, each multiplies with a part of the matrix. PyTorch's
  product with one vector keeps to one core.
- A step is one function without modules, since calling a thousand of them takes time too.

The model itself is the readable form, which this one is tested against.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from companion.layers import GatedFeedForward, KeyValueCache, PositionwiseFeedForward
from companion.layers.block import TransformerBlock
from companion.layers.feed_forward import ACTIVATIONS
from companion.layers.multi_head import MultiHeadAttention
from companion.models.decoder_only import DecoderOnlyTransformer
from companion.models.llama import LLaMABlock

Map = Callable[[Tensor], Tensor]  # from (B, inputs) to (B, outputs)
_WORTH_SHARING = 2**18  # numbers; fewer are read before other cores are awake
_FEW = 8  # texts; with more of them, products with matrices as they are do better


def unrolled(model: DecoderOnlyTransformer) -> Unrolled:
    """``model``, quicker at writing up to 8 texts: for `generate`, `stream` and the like.

    It holds a second copy of the weights as they are now, where they are now: train or
    move the model, and make it anew. What is not one new token of each text, such as a
    prompt, a longer batch or texts behind a mask, it leaves to the model.

    >>> from companion import GPT
    >>> from companion.generation import generate
    >>> model = GPT(20, 16, 2, num_layers=1).eval()
    >>> quick = unrolled(model)
    >>> torch.equal(generate(quick, [[1, 2]], 5), generate(model, [[1, 2]], 5))
    True

    Args:
        model: a `GPT`, a `LLaMA`, or another `DecoderOnlyTransformer` of their blocks.

    Raises:
        TypeError: it has blocks or layers of another kind, such as adapters or weights of
            8 bits.
    """
    return Unrolled(model)


class Unrolled(nn.Module):
    """See `unrolled`."""

    def __init__(self, model: DecoderOnlyTransformer) -> None:
        super().__init__()
        if not isinstance(model, DecoderOnlyTransformer):
            raise TypeError(
                f"model must be a DecoderOnlyTransformer, but it is a {type(model).__name__}"
            )
        self.model = model
        self.max_seq_len = model.max_seq_len
        with torch.no_grad():
            self._steps = [_unroll(layer) for layer in model.layers]
            self._last_norm = _norm(model.norm)
            self._logits = _side_by_side(model.output_projection)

    def forward(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
        *,
        cache: KeyValueCache | None = None,
        last: int | None = None,
    ) -> Float[Tensor, "batch length vocab"]:
        """Logits of the token after each of ``token_ids``, as the model gives them."""
        if (
            cache is None
            or mask is not None
            or token_ids.shape[1] != 1
            or len(token_ids) > _FEW
            or self.model.training
            or torch.is_grad_enabled()
            or self._steps[0].attention.is_recorded
        ):
            return self.model(token_ids, mask, cache=cache, last=last)
        return self._write(token_ids, cache)

    def _write(self, token_ids: Tensor, cache: KeyValueCache) -> Tensor:
        position = cache.length
        x = self.model.token_embedding(token_ids)  # (B, 1, D)
        positions = getattr(self.model, "positions", None)
        if positions is not None:
            x = positions(x, offset=position)
        x = x[:, 0]  # (B, D)
        for step in self._steps:
            if step.norm_first:
                x = x + step.attend(step.norm1(x), cache)
                x = x + step.feed(step.norm2(x))
            else:
                x = step.norm1(x + step.attend(x, cache))
                x = step.norm2(x + step.feed(x))
        return self._logits(self._last_norm(x))[:, None]  # (B, 1, V)


class _Step(NamedTuple):
    """A block as functions of one vector of each text."""

    attention: MultiHeadAttention
    norm_first: bool
    norm1: Map
    norm2: Map
    qkv: Map
    W_o: Map
    feed: Map

    def attend(self, x: Tensor, cache: KeyValueCache) -> Tensor:
        """What `MultiHeadAttention` does for one new position, which may see all others."""
        a, qkv = self.attention, self.qkv(x)
        qkv = qkv.view(len(x), a.num_heads + 2 * a.num_kv_heads, 1, a.d_k)
        QK, V = qkv.split([a.num_heads + a.num_kv_heads, a.num_kv_heads], dim=1)
        if a.rotary is not None:
            QK, _ = a.rotary(QK, QK[:, :0], offset=cache.length_of(a))
        Q, K = QK.split([a.num_heads, a.num_kv_heads], dim=1)  # (B, H, 1, d_k)
        K, V = cache.extend(a, K, V, window=a.window)  # (B, H_kv, K, d_k) each
        heads = F.scaled_dot_product_attention(
            Q, K, V, scale=a.scale, enable_gqa=a.num_kv_heads < a.num_heads
        )
        return self.W_o(heads.flatten(1))


def _unroll(layer: nn.Module) -> _Step:
    if type(layer) not in (TransformerBlock, LLaMABlock):
        raise TypeError(
            "the model's layers must be TransformerBlock or LLaMABlock, but one is a "
            f"{type(layer).__name__}"
        )
    attention = layer.self_attention
    if type(attention) is not MultiHeadAttention:
        raise TypeError(
            "the model's attention must be MultiHeadAttention, but it is a "
            f"{type(attention).__name__}"
        )
    return _Step(
        attention,
        getattr(layer, "norm_first", True),
        _norm(layer.norm1),
        _norm(layer.norm2),
        _side_by_side(attention.W_q, attention.W_k, attention.W_v),
        _side_by_side(attention.W_o),
        _feed_forward(layer.feed_forward),
    )


def _feed_forward(network: nn.Module) -> Map:
    if type(network) is PositionwiseFeedForward:
        activation = ACTIVATIONS[network.activation]
        first, second = _side_by_side(network.W_1), _side_by_side(network.W_2)
        return lambda x: second(activation(first(x)))
    if type(network) is GatedFeedForward:
        activation = ACTIVATIONS[network.activation]
        both, second = _side_by_side(network.W_1, network.V), _side_by_side(network.W_2)

        def gated(x: Tensor) -> Tensor:
            gate, passed = both(x).chunk(2, dim=-1)
            return second(activation(gate) * passed)

        return gated
    raise TypeError(
        "the model's feed-forward networks must be PositionwiseFeedForward or "
        f"GatedFeedForward, but one is a {type(network).__name__}"
    )


def _norm(norm: nn.Module) -> Map:
    if type(norm) is nn.Identity:
        return lambda x: x
    if type(norm) is nn.LayerNorm:
        shape, weight, bias = norm.normalized_shape, norm.weight, norm.bias
        return lambda x: F.layer_norm(x, shape, weight, bias, norm.eps)
    if type(norm) is nn.RMSNorm:
        shape, weight = norm.normalized_shape, norm.weight
        return lambda x: F.rms_norm(x, shape, weight, norm.eps)
    raise TypeError(
        "the model's norms must be LayerNorm or RMSNorm of torch.nn, but one is a "
        f"{type(norm).__name__}"
    )


def _side_by_side(*linears: nn.Module) -> Map:
    """One map for all outputs of the linear maps of one vector, in their order."""
    for linear in linears:
        if type(linear) is not nn.Linear:
            raise TypeError(
                "the model's maps must be torch.nn.Linear, but one is a "
                f"{type(linear).__name__}"
            )
    weight = torch.cat([linear.weight for linear in linears])  # (outputs, inputs)
    bias = linears[0].bias
    bias = None if bias is None else torch.cat([linear.bias for linear in linears])
    alone = weight.device.type != "cpu" or weight.numel() < _WORTH_SHARING
    cores = 1 if alone else torch.get_num_threads()
    parts = max(n for n in range(1, cores + 1) if weight.shape[1] % n == 0)
    if parts > 1:
        return _in_parts(weight, bias, parts)
    if weight.shape[0] >= weight.shape[1]:
        weight = weight.T.contiguous().T  # the same numbers, column by column
    return partial(F.linear, weight=weight, bias=bias)


def _in_parts(weight: Tensor, bias: Tensor | None, parts: int) -> Map:
    """Every core multiplies its share of the inputs; what they find is added."""
    columns = weight.T.contiguous().view(
        parts, -1, len(weight)
    )  # (parts, share, outputs)

    def shares(x: Tensor) -> Tensor:
        return x.view(len(x), parts, -1).transpose(0, 1)  # (parts, B, share)

    if bias is None:
        return lambda x: torch.bmm(shares(x), columns).sum(dim=0)
    first = torch.stack([bias[None], *[torch.zeros_like(bias[None])] * (parts - 1)])
    return lambda x: torch.baddbmm(first, shares(x), columns).sum(dim=0)
