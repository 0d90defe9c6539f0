"""PyTorch's own Transformer, dressed so that it takes what ours takes.

The baseline of the chapter on training: the same sizes, embeddings, positions and
interface, but every layer is `torch.nn.Transformer`'s.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from companion.layers import MultiHeadAttention, causal_mask
from companion.models.transformer import TokenEmbedding, Transformer


class TorchTranslator(nn.Module):
    """`nn.Transformer` between embeddings and an output projection; see `Transformer`.

    Source, target and output share one embedding. PyTorch ends both stacks with a layer
    norm, which the paper does not. It has no key-value cache: ``use_cache=False``.

    Args:
        vocab_size: number of tokens that source and target share.
        d_model, num_heads, d_ff, num_layers, max_seq_len, dropout, norm_first: as in
            `Transformer`.
    """

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        num_heads: int,
        d_ff: int,
        num_layers: int,
        max_seq_len: int = 512,
        dropout: float = 0.1,
        *,
        norm_first: bool = False,
    ) -> None:
        super().__init__()
        self.d_model = d_model
        self.max_seq_len = max_seq_len
        self.embedding = TokenEmbedding(vocab_size, d_model, max_seq_len, dropout)
        self.transformer = nn.Transformer(
            d_model,
            num_heads,
            num_layers,
            num_layers,
            d_ff,
            dropout,
            batch_first=True,
            norm_first=norm_first,
        )
        # Its fast path for evaluation would return sequences of another length.
        self.transformer.encoder.use_nested_tensor = False
        self.output_projection = nn.Linear(d_model, vocab_size, bias=False)
        self.output_projection.weight = self.embedding.token.weight

    def load_ours(self, model: Transformer) -> None:
        """Take the weights of ``model``, which has the same sizes, one embedding and last norms.

        Raises:
            RuntimeError: the sizes differ.
        """
        self.embedding.load_state_dict(model.decoder.embedding.state_dict())
        for name in ("encoder", "decoder"):
            ours, theirs = getattr(model, name), getattr(self.transformer, name)
            theirs.norm.load_state_dict(ours.norm.state_dict())
            for our_layer, their_layer in zip(ours.layers, theirs.layers, strict=True):
                _copy_layer(our_layer, their_layer)

    def encode(
        self,
        source_ids: Int[Tensor, "batch source"],
        source_mask: Bool[Tensor, "batch 1 1 source"] | None = None,
    ) -> Float[Tensor, "batch source d_model"]:
        """What the decoder will read."""
        return self.transformer.encoder(
            self.embedding(source_ids), src_key_padding_mask=_hidden(source_mask)
        )

    def decode(
        self,
        target_ids: Int[Tensor, "batch target"],
        memory: Float[Tensor, "batch source d_model"],
        source_mask: Bool[Tensor, "batch 1 1 source"] | None = None,
        target_mask: None = None,
        *,
        cache: None = None,
    ) -> Float[Tensor, "batch target vocab"]:
        """Logits of the token after each target token.

        Raises:
            ValueError: a mask of the target, or a cache.
        """
        if target_mask is not None or cache is not None:
            raise ValueError("target_mask and cache must be None here")
        future = ~causal_mask(target_ids.shape[1], device=target_ids.device)
        x = self.transformer.decoder(
            self.embedding(target_ids),
            memory,
            tgt_mask=future,
            memory_key_padding_mask=_hidden(source_mask),
            tgt_is_causal=True,
        )
        return self.output_projection(x)

    def forward(
        self,
        source_ids: Int[Tensor, "batch source"],
        target_ids: Int[Tensor, "batch target"],
        source_mask: Bool[Tensor, "batch 1 1 source"] | None = None,
        target_mask: None = None,
    ) -> Float[Tensor, "batch target vocab"]:
        """Logits of the token after each of ``target_ids``, for training."""
        memory = self.encode(source_ids, source_mask)
        return self.decode(target_ids, memory, source_mask, target_mask)


def _hidden(mask: Bool[Tensor, "batch 1 1 keys"] | None) -> Tensor | None:
    """Our mask, whose True means *may attend*, as PyTorch's, (batch, keys)."""
    return None if mask is None else ~mask[:, 0, 0]


# PyTorch's names of the parts of a layer, and ours.
_PARTS = {
    "linear1": "feed_forward.W_1",
    "linear2": "feed_forward.W_2",
    "norm1": "norm1",
    "norm2": "norm2",
    "norm3": "norm3",
}
_ATTENTIONS = {"self_attn": "self_attention", "multihead_attn": "cross_attention"}


def _copy_layer(ours: nn.Module, theirs: nn.Module) -> None:
    for name, part in theirs.named_children():
        if name in _PARTS:
            part.load_state_dict(ours.get_submodule(_PARTS[name]).state_dict())
        elif name in _ATTENTIONS:
            _copy_attention(ours.get_submodule(_ATTENTIONS[name]), part)


def _copy_attention(ours: MultiHeadAttention, theirs: nn.MultiheadAttention) -> None:
    stacked = (ours.W_q, ours.W_k, ours.W_v)  # PyTorch has one matrix for the three
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([linear.weight for linear in stacked]))
        theirs.in_proj_bias.copy_(torch.cat([linear.bias for linear in stacked]))
    theirs.out_proj.load_state_dict(ours.W_o.state_dict())
