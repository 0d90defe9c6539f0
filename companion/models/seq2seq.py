"""What all encoder-decoders of text share: how they are called and what they lose."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from companion.layers import KeyValueCache

IGNORED = -100  # a label that is not counted, as in Hugging Face


def shift_right(
    labels: Int[Tensor, "batch target"], start_id: int, pad_id: int
) -> Int[Tensor, "batch target"]:
    """What the decoder reads when it is to write ``labels``: each token one place later.

    The start token comes first and the last label is never read. Labels that don't
    count, -100, are read as padding.

    >>> import torch
    >>> shift_right(torch.tensor([[7, 8, 1, -100]]), start_id=0, pad_id=3)
    tensor([[0, 7, 8, 1]])
    """
    reads = F.pad(labels[:, :-1], (1, 0), value=start_id)
    return reads.masked_fill(reads == IGNORED, pad_id)


class EncoderDecoder(nn.Module):
    """A model that reads a source and writes a target; subclasses have the two stacks.

    Attributes:
        pad_id: fills up short sequences.
        start_id: the token that the decoder reads first.
        eos_id: the token that ends a text.
    """

    pad_id: int
    start_id: int
    eos_id: int

    def encoder_states(
        self,
        source_ids: Int[Tensor, "batch source"],
        source_mask: Bool[Tensor, "..."] | None = None,
    ) -> list[Float[Tensor, "batch source d_model"]]:
        """The embeddings, then the output of each layer of the encoder."""
        raise NotImplementedError

    def decoder_states(
        self,
        target_ids: Int[Tensor, "batch target"],
        memory: Float[Tensor, "batch source d_model"],
        source_mask: Bool[Tensor, "..."] | None = None,
        target_mask: Bool[Tensor, "..."] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> list[Float[Tensor, "batch target d_model"]]:
        """The embeddings, then the output of each layer of the decoder."""
        raise NotImplementedError

    def logits(
        self, x: Float[Tensor, "batch target d_model"]
    ) -> Float[Tensor, "batch target vocab"]:
        """A score for each token, from the decoder's last states."""
        raise NotImplementedError

    def encode(
        self,
        source_ids: Int[Tensor, "batch source"],
        source_mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch source d_model"]:
        """What the decoder will read, one vector for each source token."""
        return self.encoder_states(source_ids, source_mask)[-1]

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
            target_ids: the target so far, from ``start_id`` on; with a cache, only its
                new tokens.
            memory: what `encode` returned.
            source_mask: hides source tokens, as it did in `encode`.
            target_mask: hides further target tokens; the future is always hidden.
            cache: keys and values of earlier calls.
        """
        states = self.decoder_states(
            target_ids, memory, source_mask, target_mask, cache=cache
        )
        return self.logits(states[-1])

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

    def hidden_states(
        self,
        source_ids: Int[Tensor, "batch source"],
        target_ids: Int[Tensor, "batch target"],
        source_mask: Bool[Tensor, "..."] | None = None,
        target_mask: Bool[Tensor, "..."] | None = None,
    ) -> tuple[
        list[Float[Tensor, "batch source d_model"]],
        list[Float[Tensor, "batch target d_model"]],
    ]:
        """The states of the encoder and those of the decoder, embeddings first."""
        source = self.encoder_states(source_ids, source_mask)
        target = self.decoder_states(target_ids, source[-1], source_mask, target_mask)
        return source, target

    def loss(
        self,
        source_ids: Int[Tensor, "batch source"],
        labels: Int[Tensor, "batch target"],
        source_mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, ""]:
        """The mean cross-entropy of ``labels``, which the decoder reads shifted right.

        Args:
            source_ids: the sources.
            labels: the targets, without a start token; -100 is not counted.
            source_mask: hides padding of the source.
        """
        reads = shift_right(labels, self.start_id, self.pad_id)
        logits = self(source_ids, reads, source_mask)
        return F.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED
        )
