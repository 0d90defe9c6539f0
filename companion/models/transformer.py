"""The Transformer of 2017: an encoder that reads, a decoder that writes.

Source: Vaswani et al. (2017), "Attention Is All You Need", section 3 and table 3.
"""

from __future__ import annotations

import math
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from companion.layers import (
    DecoderLayer,
    EncoderLayer,
    KeyValueCache,
    SinusoidalPositionalEncoding,
)

# Table 3; the big model's dropout is that of English-German. 37000 is the size of the
# vocabulary that source and target share (section 5.1).
PRESETS = {
    "base": {
        "d_model": 512,
        "num_heads": 8,
        "d_ff": 2048,
        "num_encoder_layers": 6,
        "num_decoder_layers": 6,
        "dropout": 0.1,
    },
    "big": {
        "d_model": 1024,
        "num_heads": 16,
        "d_ff": 4096,
        "num_encoder_layers": 6,
        "num_decoder_layers": 6,
        "dropout": 0.3,
    },
}


class TokenEmbedding(nn.Module):
    """Token vectors times sqrt(d_model) (section 3.4), plus positions (section 3.5)."""

    def __init__(
        self, vocab_size: int, d_model: int, max_seq_len: int, dropout: float
    ) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab_size, d_model)
        self.positions = SinusoidalPositionalEncoding(d_model, max_seq_len, dropout)
        # Times sqrt(d_model), each component has variance 1, as those of positions nearly do.
        nn.init.normal_(self.token.weight, std=d_model**-0.5)

    def forward(
        self, token_ids: Int[Tensor, "batch length"], offset: int = 0
    ) -> Float[Tensor, "batch length d_model"]:
        x = self.token(token_ids) * math.sqrt(self.token.embedding_dim)
        return self.positions(x, offset)


class TransformerEncoder(nn.Module):
    """Embeddings and a stack of encoder layers; every position sees every other.

    Args:
        vocab_size: number of distinct tokens.
        d_model: width of the residual stream.
        num_heads: attention heads in a layer.
        d_ff: inner width of the feed-forward networks.
        num_layers: number of layers.
        max_seq_len: the longest sequence.
        dropout: of the embeddings and in the layers.
        activation: of the feed-forward networks.
        norm_first: pre-norm layers instead of the paper's post-norm.
        final_norm: whether a norm follows the last layer; by default where ``norm_first``,
            since nothing else norms that residual stream.
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
        activation: str = "relu",
        norm_first: bool = False,
        final_norm: bool | None = None,
    ) -> None:
        super().__init__()
        self.embedding = TokenEmbedding(vocab_size, d_model, max_seq_len, dropout)
        self.layers = nn.ModuleList(
            EncoderLayer(
                d_model,
                num_heads,
                d_ff,
                dropout,
                activation=activation,
                norm_first=norm_first,
            )
            for _ in range(num_layers)
        )
        has_norm = norm_first if final_norm is None else final_norm
        self.norm = nn.LayerNorm(d_model) if has_norm else nn.Identity()

    def forward(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        """Hidden states. ``padding_mask(token_ids, pad_id)`` hides padding."""
        x = self.embedding(token_ids)
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x)


class TransformerDecoder(nn.Module):
    """Embeddings and a stack of decoder layers, which read a memory and not the future.

    Takes what `TransformerEncoder` takes.
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
        activation: str = "relu",
        norm_first: bool = False,
        final_norm: bool | None = None,
    ) -> None:
        super().__init__()
        self.embedding = TokenEmbedding(vocab_size, d_model, max_seq_len, dropout)
        self.layers = nn.ModuleList(
            DecoderLayer(
                d_model,
                num_heads,
                d_ff,
                dropout,
                activation=activation,
                norm_first=norm_first,
            )
            for _ in range(num_layers)
        )
        has_norm = norm_first if final_norm is None else final_norm
        self.norm = nn.LayerNorm(d_model) if has_norm else nn.Identity()

    def forward(
        self,
        token_ids: Int[Tensor, "batch target"],
        memory: Float[Tensor, "batch source d_model"],
        source_mask: Bool[Tensor, "..."] | None = None,
        target_mask: Bool[Tensor, "..."] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "batch target d_model"]:
        """Hidden states of ``token_ids``, which with a cache are only the new ones."""
        x = self.embedding(token_ids, offset=0 if cache is None else cache.length)
        for layer in self.layers:
            x = layer(x, memory, source_mask, target_mask, cache=cache)
        return self.norm(x)


class Transformer(nn.Module):
    """The encoder-decoder of the paper, for translation and other sequence pairs.

    Args:
        source_vocab_size: number of source tokens.
        target_vocab_size: number of target tokens.
        d_model: width of the residual streams.
        num_heads: attention heads in a layer.
        d_ff: inner width of the feed-forward networks.
        num_encoder_layers: layers that read.
        num_decoder_layers: layers that write.
        max_seq_len: the longest source or target.
        dropout: of the embeddings and in the layers.
        shared_vocabulary: whether source and target tokens are the same and have one
            embedding, as in the paper.
        tied_output: whether the output projection is the target embedding once more, as
            in the paper (section 3.4).
        activation: of the feed-forward networks.
        norm_first: pre-norm layers instead of the paper's post-norm.
        final_norm: whether a norm follows each stack; by default where ``norm_first``.

    Raises:
        ValueError: a shared vocabulary of two sizes, or sizes that `MultiHeadAttention`
            refuses.
    """

    def __init__(
        self,
        source_vocab_size: int,
        target_vocab_size: int,
        d_model: int = 512,
        num_heads: int = 8,
        d_ff: int = 2048,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        max_seq_len: int = 512,
        dropout: float = 0.1,
        *,
        shared_vocabulary: bool = False,
        tied_output: bool = False,
        activation: str = "relu",
        norm_first: bool = False,
        final_norm: bool | None = None,
    ) -> None:
        super().__init__()
        if shared_vocabulary and source_vocab_size != target_vocab_size:
            raise ValueError(
                "a shared vocabulary has one size, but source_vocab_size is "
                f"{source_vocab_size} and target_vocab_size is {target_vocab_size}"
            )
        self.max_seq_len = max_seq_len
        self.d_model = d_model
        sizes = (max_seq_len, dropout)
        options = {
            "activation": activation,
            "norm_first": norm_first,
            "final_norm": final_norm,
        }
        self.encoder = TransformerEncoder(
            source_vocab_size,
            d_model,
            num_heads,
            d_ff,
            num_encoder_layers,
            *sizes,
            **options,
        )
        self.decoder = TransformerDecoder(
            target_vocab_size,
            d_model,
            num_heads,
            d_ff,
            num_decoder_layers,
            *sizes,
            **options,
        )
        self.output_projection = nn.Linear(d_model, target_vocab_size, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1 and "embedding" not in name:
                nn.init.xavier_uniform_(parameter)
        if shared_vocabulary:
            self.encoder.embedding.token.weight = self.decoder.embedding.token.weight
        if tied_output:
            self.output_projection.weight = self.decoder.embedding.token.weight

    @classmethod
    def preset(cls, name: str, vocab_size: int = 37000, **changes: Any) -> Transformer:
        """The paper's ``"base"`` (65 M parameters) or ``"big"`` (213 M) model.

        Raises:
            ValueError: the preset is not known.
        """
        if name not in PRESETS:
            raise ValueError(
                f"name must be one of {', '.join(PRESETS)}, but it is {name!r}"
            )
        paper = {"shared_vocabulary": True, "tied_output": True}
        return cls(vocab_size, vocab_size, **(PRESETS[name] | paper | changes))

    def encode(
        self,
        source_ids: Int[Tensor, "batch source"],
        source_mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch source d_model"]:
        """What the decoder will read, one vector for each source token."""
        return self.encoder(source_ids, source_mask)

    def decode(
        self,
        target_ids: Int[Tensor, "batch target"],
        memory: Float[Tensor, "batch source d_model"],
        source_mask: Bool[Tensor, "..."] | None = None,
        target_mask: Bool[Tensor, "..."] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "batch target vocab"]:
        """Logits of the token after each target token.

        Args:
            target_ids: the target so far; with a cache, only its new tokens.
            memory: what `encode` returned.
            source_mask: hides source tokens, as it did in `encode`.
            target_mask: hides target tokens, such as padding; the future is always
                hidden.
            cache: keys and values of earlier calls.
        """
        x = self.decoder(target_ids, memory, source_mask, target_mask, cache=cache)
        return self.output_projection(x)

    def forward(
        self,
        source_ids: Int[Tensor, "batch source"],
        target_ids: Int[Tensor, "batch target"],
        source_mask: Bool[Tensor, "..."] | None = None,
        target_mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch target vocab"]:
        """Logits of the token after each of ``target_ids``, all at once, for training."""
        memory = self.encode(source_ids, source_mask)
        return self.decode(target_ids, memory, source_mask, target_mask)
