"""PaLM: attention and feed-forward network side by side, and one key-value head for all.

Source: Chowdhery et al. (2022), "PaLM: Scaling Language Modeling with Pathways", section
2 and table 1. The weights were never published.
"""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtyping import Bool, Float
from torch import Tensor, nn

from companion.layers import (
    GatedFeedForward,
    KeyValueCache,
    MultiHeadAttention,
    RotaryEmbedding,
)
from companion.models.llama import LLaMA

# Table 1. Heads are 256 wide, so in the largest they are narrower than the model together.
PRESETS: dict[str, dict[str, Any]] = {
    "8b": {"d_model": 4096, "num_heads": 16, "num_layers": 32},
    "62b": {"d_model": 8192, "num_heads": 32, "num_layers": 64},
    "540b": {"d_model": 18432, "num_heads": 48, "num_layers": 118},
}


class PaLMBlock(nn.Module):
    """y = x + SwiGLU(norm(x)) + attention(norm(x)), section 2, "Parallel Layers".

    One norm serves both, and none waits for the other's result: their first matrices
    can be multiplied in one go.

    Args:
        d_model: width of the residual stream.
        num_heads: query heads; they share one key-value head.
        d_ff: inner width of the feed-forward network.
        rotary: turns queries and keys.
        norm_eps: what layer norm adds to the variance.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ff: int,
        rotary: RotaryEmbedding,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model, eps=norm_eps, bias=False)
        self.self_attention = MultiHeadAttention(
            d_model, num_heads, 1, d_k=rotary.d_k, bias=False, rotary=rotary
        )
        self.feed_forward = GatedFeedForward(d_model, d_ff)

    def forward(
        self,
        x: Float[Tensor, "batch length d_model"],
        mask: Bool[Tensor, "..."] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        normed = self.norm(x)
        heard, _ = self.self_attention(
            normed, mask=mask, is_causal=True, need_weights=False, cache=cache
        )
        return x + self.feed_forward(normed) + heard


class PaLM(LLaMA):
    """The frame of `LLaMA`, older than it, around `PaLMBlock`.

    Differences to LLaMA: layer norm (without bias) instead of RMS norm, one key-value
    head, a feed-forward width of ``4 * d_model``, and one embedding for input and
    output, which starts at deviation 1. The logits are divided by sqrt(d_model) to make
    up for that.

    Args:
        vocab_size: number of distinct tokens.
        d_model: width of the residual stream.
        num_heads: query heads in a layer.
        num_layers: number of blocks.
        max_seq_len: the longest text in training.
        d_ff: ``4 * d_model`` by default.
        d_k: width of a head.
        rope_base: base of the rotary angles.
        norm_eps: what layer norm adds to the variance.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = PRESETS

    def __init__(
        self,
        vocab_size: int = 256000,
        d_model: int = 4096,
        num_heads: int = 16,
        num_layers: int = 32,
        max_seq_len: int = 2048,
        *,
        d_ff: int | None = None,
        d_k: int = 256,
        rope_base: float = 10000.0,
        norm_eps: float = 1e-5,
    ) -> None:
        nn.Module.__init__(self)
        self.max_seq_len = max_seq_len
        self.token_embedding = nn.Embedding(vocab_size, d_model)
        d_ff = 4 * d_model if d_ff is None else d_ff
        rotary = RotaryEmbedding(d_k, rope_base)
        self.layers = nn.ModuleList(
            PaLMBlock(d_model, num_heads, d_ff, rotary, norm_eps)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model, eps=norm_eps, bias=False)
        self.output_projection = nn.Linear(d_model, vocab_size, bias=False)
        self.output_projection.weight = self.token_embedding.weight
        for module in self.layers.modules():  # section 5: deviation 1 / sqrt(inputs)
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
        nn.init.normal_(self.token_embedding.weight)

    def logits(
        self, x: Float[Tensor, "batch length d_model"]
    ) -> Float[Tensor, "batch length vocab"]:
        """A score for each token, from the last hidden states, made smaller."""
        return super().logits(x) * self.token_embedding.embedding_dim**-0.5

    @classmethod
    def from_hf(cls, path_or_model: Any) -> PaLM:
        """There is nothing to load: raises ValueError."""
        raise ValueError("PaLM's weights were never published, and no class reads them")
