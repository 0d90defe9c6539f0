"""One small instance of every public module, for the tests that run over all of them.

A module that `companion` exports and that is missing here fails `test_public_api.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import companion


def _sequence(length: int = 5, d_model: int = 16, batch: int = 2) -> Tensor:
    return torch.randn(batch, length, d_model)


def _tokens(length: int = 5, vocab_size: int = 11, batch: int = 2) -> Tensor:
    return torch.randint(1, vocab_size, (batch, length))


@dataclass(frozen=True)
class Case:
    """How to build a module and call it.

    Attributes:
        build: makes the module, on the CPU.
        inputs: draws its positional arguments, on the CPU.
        attends: whether it is an attention layer that takes ``mask=``, to which the mask
            rule applies; its first argument holds the queries, its last the keys.
        kwargs: further arguments of the call.
    """

    build: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Tensor, ...]]
    attends: bool = False
    kwargs: dict[str, Any] | None = None

    def call(self, module: nn.Module, *inputs: Tensor, **more: Any) -> Any:
        return module(*inputs, **(self.kwargs or {}), **more)


CASES: dict[str, Case] = {
    "QKVProjection": Case(
        lambda: companion.QKVProjection(16, 8, 4),
        lambda: (_sequence(), _sequence(7), _sequence(7)),
    ),
    "SelfAttention": Case(
        lambda: companion.SelfAttention(16, 8, 4), lambda: (_sequence(),), attends=True
    ),
    "CausalSelfAttention": Case(
        lambda: companion.CausalSelfAttention(16, 8, 4),
        lambda: (_sequence(),),
        attends=True,
    ),
    "CrossAttention": Case(
        lambda: companion.CrossAttention(16, 8, 4, d_memory=12),
        lambda: (_sequence(), _sequence(7, 12)),
        attends=True,
    ),
    "MultiHeadAttention": Case(
        lambda: companion.MultiHeadAttention(16, 4),
        lambda: (_sequence(),),
        attends=True,
    ),
    "MultiHeadAttention, fused": Case(
        lambda: companion.MultiHeadAttention(16, 4),
        lambda: (_sequence(),),
        attends=True,
        kwargs={"need_weights": False},
    ),
    "MultiHeadAttention, causal": Case(
        lambda: companion.MultiHeadAttention(16, 4),
        lambda: (_sequence(),),
        attends=True,
        kwargs={"is_causal": True},
    ),
    "MultiHeadAttention, causal and fused": Case(
        lambda: companion.MultiHeadAttention(16, 4),
        lambda: (_sequence(),),
        attends=True,
        kwargs={"is_causal": True, "need_weights": False},
    ),
    "MultiHeadAttention, grouped queries, fused": Case(
        lambda: companion.MultiHeadAttention(16, 4, 2),
        lambda: (_sequence(), _sequence(7)),
        attends=True,
        kwargs={"need_weights": False},
    ),
    "MultiHeadAttention, multi-query": Case(
        lambda: companion.MultiHeadAttention(16, 4, 1),
        lambda: (_sequence(), _sequence(7)),
        attends=True,
    ),
    "MultiHeadAttention, rotary": Case(
        lambda: companion.MultiHeadAttention(
            16, 4, rotary=companion.RotaryEmbedding(4)
        ),
        lambda: (_sequence(),),
        attends=True,
    ),
    "MultiHeadAttention, with a bias, fused": Case(
        lambda: companion.MultiHeadAttention(16, 4),
        lambda: (_sequence(),),
        attends=True,
        kwargs={"need_weights": False, "bias": torch.randn(1, 4, 5, 5)},
    ),
    "PositionwiseFeedForward": Case(
        lambda: companion.PositionwiseFeedForward(16, 32, activation="gelu"),
        lambda: (_sequence(),),
    ),
    "GatedFeedForward": Case(
        lambda: companion.GatedFeedForward(16, 32), lambda: (_sequence(),)
    ),
    "LayerNorm": Case(lambda: companion.LayerNorm(16), lambda: (_sequence(),)),
    "RMSNorm": Case(lambda: companion.RMSNorm(16), lambda: (_sequence(),)),
    "EncoderLayer": Case(
        lambda: companion.EncoderLayer(16, 4, 32), lambda: (_sequence(),)
    ),
    "EncoderLayer, pre-norm": Case(
        lambda: companion.EncoderLayer(16, 4, 32, norm_first=True),
        lambda: (_sequence(),),
    ),
    "DecoderLayer": Case(
        lambda: companion.DecoderLayer(16, 4, 32),
        lambda: (_sequence(), _sequence(7)),
    ),
    "TransformerBlock": Case(
        lambda: companion.TransformerBlock(16, 4, 32), lambda: (_sequence(),)
    ),
    "TransformerBlock, grouped queries": Case(
        lambda: companion.TransformerBlock(16, 4, 32, num_kv_heads=2),
        lambda: (_sequence(),),
    ),
    "DecoderOnlyTransformer": Case(
        lambda: companion.DecoderOnlyTransformer(11, 16, 4, 32, 2, max_seq_len=8),
        lambda: (_tokens(),),
    ),
    "GivenSource": Case(
        lambda: companion.GivenSource(
            companion.Transformer(11, 13, 16, 4, 32, 2, 2), _tokens(7)
        ),
        lambda: (_tokens(),),
    ),
    "SSRU": Case(lambda: companion.SSRU(16), lambda: (_sequence(),)),
    "Marian": Case(
        lambda: companion.Marian(11, 16, 4, 32, 2, 2), lambda: (_tokens(7), _tokens())
    ),
    "BERT": Case(
        lambda: companion.BERT(11, 16, 4, 32, 2, max_seq_len=8),
        lambda: (_tokens(),),
    ),
    "SinusoidalPositionalEncoding": Case(
        lambda: companion.SinusoidalPositionalEncoding(16), lambda: (_sequence(),)
    ),
    "T5RelativeBias": Case(
        lambda: companion.T5RelativeBias(4),
        lambda: (),
        kwargs={"queries": 3, "keys": 5},
    ),
    "ALiBi": Case(
        lambda: companion.ALiBi(6), lambda: (), kwargs={"queries": 3, "keys": 5}
    ),
    "RotaryEmbedding": Case(
        lambda: companion.RotaryEmbedding(8),
        lambda: (torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8)),
    ),
    "RotaryEmbedding, halves, dynamic": Case(
        lambda: companion.RotaryEmbedding(
            8, layout="halves", scaling=companion.DynamicNTKScaling(2.0, 4)
        ),
        lambda: (torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8)),
    ),
    "LearnedPositionalEmbedding": Case(
        lambda: companion.LearnedPositionalEmbedding(16), lambda: (_sequence(),)
    ),
    "TransformerEncoder": Case(
        lambda: companion.TransformerEncoder(11, 16, 4, 32, 2), lambda: (_tokens(),)
    ),
    "TransformerDecoder": Case(
        lambda: companion.TransformerDecoder(11, 16, 4, 32, 2),
        lambda: (_tokens(), _sequence(7)),
    ),
    "Transformer": Case(
        lambda: companion.Transformer(11, 13, 16, 4, 32, 2, 2),
        lambda: (_tokens(7), _tokens()),
    ),
    "Transformer, tied and pre-norm": Case(
        lambda: companion.Transformer(
            11,
            11,
            16,
            4,
            32,
            2,
            2,
            shared_vocabulary=True,
            tied_output=True,
            norm_first=True,
        ),
        lambda: (_tokens(7), _tokens()),
    ),
    "RecurrentTranslator": Case(
        lambda: companion.RecurrentTranslator(11, 11, 16, attention=True),
        lambda: (_tokens(7), _tokens()),
    ),
}

ATTENTION = {name: case for name, case in CASES.items() if case.attends}
