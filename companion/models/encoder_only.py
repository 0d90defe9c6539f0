"""A Transformer that reads and judges: encoder layers, and a head that classifies.

Source: Devlin et al. (2019), sections 3.2 and 4: one head for a whole sequence, one for
each token, on top of the same encoder. Here all of it is trained from scratch.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from companion.layers import EncoderLayer, LearnedPositionalEmbedding
from companion.models.bert_tasks import mean_over_tokens

Pooling = Literal["first", "mean"] | None


class ClassificationHead(nn.Module):
    """Logits of classes, for each sequence or for each token.

    A sequence becomes one vector h, and its logits are tanh(h W + b) V + c. Of a token,
    the head reads the hidden state as it is: h V + c.

    Args:
        d_model: width of the hidden states.
        num_classes: number of logits.
        pooling: what stands for a sequence: ``"first"``, the state of its first token,
            [CLS]; ``"mean"``, the mean of all that are no padding; or None: each token
            is classified.
        dropout: before the last map, in training.

    Raises:
        ValueError: the pooling is not known.
    """

    def __init__(
        self,
        d_model: int,
        num_classes: int,
        pooling: Pooling = "first",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if pooling not in ("first", "mean", None):
            raise ValueError(
                f"pooling must be 'first', 'mean' or None, but it is {pooling!r}"
            )
        self.pooling = pooling
        self.dense = nn.Identity() if pooling is None else nn.Linear(d_model, d_model)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(d_model, num_classes)

    def forward(
        self,
        states: Float[Tensor, "batch length d_model"],
        mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch *length num_classes"]:
        """``mask`` says what is padding, where a mean is taken: as `padding_mask` makes it."""
        if self.pooling is None:
            return self.classifier(self.dropout(states))
        pooled = (
            states[:, 0] if self.pooling == "first" else mean_over_tokens(states, mask)
        )
        return self.classifier(self.dropout(self.dense(pooled).tanh()))


class EncoderOnlyTransformer(nn.Module):
    """Token and position embeddings, encoder layers, and a head if classes are asked for.

    Args:
        vocab_size: number of distinct tokens.
        d_model: width of the residual stream.
        num_heads: attention heads in a layer.
        d_ff: inner width of the feed-forward networks.
        num_layers: number of layers.
        num_classes: of the head; None has no head, and calling the model gives hidden
            states.
        max_seq_len: the longest sequence, for which there are position embeddings.
        dropout: in training, of the embeddings, in the layers and in the head.
        pooling: of the head, as in `ClassificationHead`.
        num_token_types: number of segments; 0 has no embeddings of segments.
        activation: of the feed-forward networks.
        norm_first: pre-norm layers and a last norm, or post-norm ones.

    Raises:
        ValueError: sizes that `MultiHeadAttention` refuses, or an unknown pooling.
    """

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        num_heads: int,
        d_ff: int,
        num_layers: int,
        num_classes: int | None = None,
        max_seq_len: int = 512,
        dropout: float = 0.1,
        *,
        pooling: Pooling = "first",
        num_token_types: int = 0,
        activation: str = "gelu",
        norm_first: bool = False,
    ) -> None:
        super().__init__()
        self.d_model = d_model
        self.max_seq_len = max_seq_len
        self.token_embedding = nn.Embedding(vocab_size, d_model)
        self.token_types = (
            nn.Embedding(num_token_types, d_model) if num_token_types else None
        )
        self.positions = LearnedPositionalEmbedding(d_model, max_seq_len, dropout)
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
        self.norm = nn.LayerNorm(d_model) if norm_first else nn.Identity()
        self.head = (
            None
            if num_classes is None
            else ClassificationHead(d_model, num_classes, pooling, dropout)
        )
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)

    def hidden_states(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
        token_types: Int[Tensor, "batch length"] | None = None,
    ) -> list[Float[Tensor, "batch length d_model"]]:
        """The embeddings, then what each layer makes of them: ``num_layers + 1`` tensors.

        The last has gone through the last norm, if there is one.
        """
        x = self.token_embedding(token_ids)
        if token_types is not None:
            if self.token_types is None:
                raise ValueError(
                    "token_types must be None, since this model was made with "
                    "num_token_types=0"
                )
            x = x + self.token_types(token_types)
        states = [self.positions(x)]
        for layer in self.layers:
            states.append(layer(states[-1], mask))
        states[-1] = self.norm(states[-1])
        return states

    def forward(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
        token_types: Int[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch *length width"]:
        """Logits of the classes; the last hidden states, where there is no head.

        Args:
            token_ids: the text.
            mask: ``padding_mask(token_ids, pad_id)`` hides padding.
            token_types: the segment of each token.

        Raises:
            ValueError: the text is longer than ``max_seq_len``, or there are token types
                and no embeddings of them.
        """
        states = self.hidden_states(token_ids, mask, token_types)[-1]
        return states if self.head is None else self.head(states, mask)

    def loss(
        self,
        token_ids: Int[Tensor, "batch length"],
        labels: Int[Tensor, "batch *length"],
        mask: Bool[Tensor, "..."] | None = None,
        token_types: Int[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, ""]:
        """The mean cross-entropy of the head; a label of -100 is not counted.

        Raises:
            ValueError: there is no head.
        """
        if self.head is None:
            raise ValueError("this model has no head: it was made without num_classes")
        logits = self(token_ids, mask, token_types)
        return F.cross_entropy(logits.flatten(0, -2), labels.flatten())
