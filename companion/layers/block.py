"""The block of decoder-only models: an encoder layer that does not see the future.

Sources: Radford et al. (2018), "Improving Language Understanding by Generative
Pre-Training", section 3.1, where the decoder loses its cross-attention; Radford et al.
(2019), "Language Models are Unsupervised Multitask Learners", section 2.3, for the norm
before each sub-layer.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from companion.layers.cache import KeyValueCache
from companion.layers.encoder import EncoderLayer


class TransformerBlock(EncoderLayer):
    """Causal self-attention, then a feed-forward network: what GPT stacks.

    A decoder layer without a source to look at is an encoder layer with a causal mask,
    and that is all there is to it. Takes what `EncoderLayer` takes.
    """

    def forward(
        self,
        x: Float[Tensor, "batch length d_model"],
        mask: Bool[Tensor, "..."] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        """``mask`` hides further keys, such as padding; the future is always hidden.

        Args:
            x: the sequence; with a cache, only its new positions.
            mask: broadcasts to ``(batch, heads, length, keys)``, True = may attend.
            cache: keys and values of the positions before ``x``.
        """
        return super().forward(x, mask, is_causal=True, cache=cache)
