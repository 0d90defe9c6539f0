"""Tiny models with sharp opinions, for the tests of generation.

With weights as small as at the start of training, all tokens are nearly as likely and a
test would see little. In float64, so that two ways to one answer agree to the last token.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from companion import Transformer
from companion.layers import KeyValueCache
from companion.models.decoder_only import DecoderOnlyTransformer

VOCAB = 11
PROMPTS = [[1, 5, 6], [3], [8, 9, 3, 10, 4, 2]]
SOURCE = torch.tensor([[3, 4, 5, 6, 7], [8, 9, 3, 0, 0], [5, 5, 2, 1, 0]])


def opinionated(model: nn.Module, std: float = 0.6) -> nn.Module:
    """The model with larger weights, in float64, and in training mode, as a trap."""
    for parameter in model.parameters():
        if parameter.ndim > 1:  # random norms would drown what the text says
            nn.init.normal_(parameter, std=std)
    return model.double().train()


def language_model(seed: int = 1, vocab_size: int = VOCAB, **options) -> nn.Module:
    torch.manual_seed(seed)
    sizes = {"num_layers": 2, "max_seq_len": 24} | options
    return opinionated(DecoderOnlyTransformer(vocab_size, 16, 4, 32, **sizes))


def encoder_decoder(seed: int = 1, **options) -> nn.Module:
    torch.manual_seed(seed)
    model = Transformer(VOCAB, VOCAB, 16, 4, 32, 2, 2, max_seq_len=16, **options)
    return opinionated(model)


class Table(nn.Module):
    """A bigram model: the logits after a token are a row of a table."""

    def __init__(self, logits: Tensor, max_seq_len: int | None = None) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)
        self.max_seq_len = max_seq_len

    def forward(
        self,
        token_ids: Tensor,
        mask: Tensor | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        if cache is not None:
            kept = token_ids[:, None, :, None].float()  # (B, 1, L, 1); nothing needs it
            cache.extend(self, kept, kept)
        return self.logits[token_ids]


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-10, rtol=0)
