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


def _images(height: int = 8, width: int = 12, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, height, width)


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
    "SlidingWindowAttention": Case(
        lambda: companion.SlidingWindowAttention(16, 4, 4),
        lambda: (_sequence(),),
        attends=True,
    ),
    "SlidingWindowAttention, causal": Case(
        lambda: companion.SlidingWindowAttention(16, 4, 2),
        lambda: (_sequence(),),
        attends=True,
        kwargs={"is_causal": True},
    ),
    "SlidingWindowAttention, global": Case(
        lambda: companion.SlidingWindowAttention(16, 4, 1, num_global=2),
        lambda: (_sequence(),),
        attends=True,
    ),
    "BigBirdAttention": Case(
        lambda: companion.BigBirdAttention(16, 4, 1, 1),
        lambda: (_sequence(8),),
        attends=True,
    ),
    "BigBirdAttention, blocks of two": Case(
        lambda: companion.BigBirdAttention(16, 4, 2, 1), lambda: (_sequence(17),)
    ),
    "OnlineSoftmaxAttention": Case(
        lambda: companion.OnlineSoftmaxAttention(16, 4, 2),
        lambda: (_sequence(),),
        attends=True,
    ),
    "OnlineSoftmaxAttention, causal": Case(
        lambda: companion.OnlineSoftmaxAttention(16, 4, 3),
        lambda: (_sequence(),),
        attends=True,
        kwargs={"is_causal": True},
    ),
    # Their masks hide keys from all queries only: see test_efficient_rules.py.
    "ChunkedAttention": Case(
        lambda: companion.ChunkedAttention(16, 4), lambda: (_sequence(),)
    ),
    "LinformerAttention": Case(
        lambda: companion.LinformerAttention(16, 4, 8, 3), lambda: (_sequence(),)
    ),
    "PerformerAttention": Case(
        lambda: companion.PerformerAttention(16, 4, 8), lambda: (_sequence(),)
    ),
    "LinearAttention": Case(
        lambda: companion.LinearAttention(16, 4), lambda: (_sequence(),)
    ),
    "LinearAttention, causal": Case(
        lambda: companion.LinearAttention(16, 4, chunk_size=2),
        lambda: (_sequence(),),
        kwargs={"is_causal": True},
    ),
    "MultiHeadAttention, window": Case(
        lambda: companion.MultiHeadAttention(16, 4, 2, window=3),
        lambda: (_sequence(),),
        attends=True,
    ),
    "MultiHeadAttention, window and fused": Case(
        lambda: companion.MultiHeadAttention(16, 4, window=3),
        lambda: (_sequence(),),
        attends=True,
        kwargs={"need_weights": False},
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
    "LoRALinear": Case(
        lambda: companion.LoRALinear(torch.nn.Linear(16, 12), rank=2),
        lambda: (_sequence(),),
    ),
    "QuantizedLinear": Case(
        lambda: companion.QuantizedLinear(torch.nn.Linear(16, 12)),
        lambda: (_sequence(),),
    ),
    "Int8Linear": Case(
        lambda: companion.Int8Linear(torch.nn.Linear(16, 12)),
        lambda: (_sequence(),),
    ),
    "MixtureOfExperts": Case(
        lambda: companion.MixtureOfExperts(16, 8, num_experts=4),
        lambda: (_sequence(),),
    ),
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
    "GPT": Case(
        lambda: companion.GPT(11, 16, 4, 32, 2, max_seq_len=8), lambda: (_tokens(),)
    ),
    "GPT, post-norm": Case(
        lambda: companion.GPT(11, 16, 4, num_layers=2, norm_first=False),
        lambda: (_tokens(),),
    ),
    "LLaMA": Case(
        lambda: companion.LLaMA(11, 16, 4, 24, 2, num_kv_heads=2),
        lambda: (_tokens(),),
    ),
    "Mistral": Case(
        lambda: companion.Mistral(11, 16, 4, 24, 2, num_kv_heads=2, window=3),
        lambda: (_tokens(),),
    ),
    "PaLM": Case(
        lambda: companion.PaLM(11, 16, 4, 2, d_k=8),
        lambda: (_tokens(),),
    ),
    "GivenSource": Case(
        lambda: companion.GivenSource(
            companion.Transformer(11, 13, 16, 4, 32, 2, 2), _tokens(7)
        ),
        lambda: (_tokens(),),
    ),
    "MultiHeadAttention, unscaled, fused": Case(
        lambda: companion.MultiHeadAttention(16, 4, scale=1.0),
        lambda: (_sequence(),),
        attends=True,
        kwargs={"need_weights": False},
    ),
    "T5": Case(
        lambda: companion.T5(11, 16, 4, 8, 32, 2, 2),
        lambda: (_tokens(7), _tokens()),
    ),
    "T5, gated, with a head of its own": Case(
        lambda: companion.T5(
            11, 16, 4, 8, 32, 2, 2, activation="gelu_new", gated=True, tied_output=False
        ),
        lambda: (_tokens(7), _tokens()),
    ),
    "BART": Case(
        lambda: companion.BART(11, 16, 4, 32, 2, 2, max_seq_len=8),
        lambda: (_tokens(7), _tokens()),
    ),
    "RecurrentLanguageModel": Case(
        lambda: companion.RecurrentLanguageModel(11, 16, 2), lambda: (_tokens(),)
    ),
    "SSRU": Case(lambda: companion.SSRU(16), lambda: (_sequence(),)),
    "Marian": Case(
        lambda: companion.Marian(11, 16, 4, 32, 2, 2), lambda: (_tokens(7), _tokens())
    ),
    "DropPath": Case(lambda: companion.DropPath(0.3), lambda: (_sequence(),)),
    "LayerScale": Case(lambda: companion.LayerScale(16), lambda: (_sequence(),)),
    "PatchEmbedding": Case(
        lambda: companion.PatchEmbedding(4, 3, 16), lambda: (_images(),)
    ),
    "PatchPositions": Case(
        lambda: companion.PatchPositions((2, 3), 16), lambda: (_sequence(7),)
    ),
    "PatchPositions, another grid": Case(
        lambda: companion.PatchPositions((2, 2), 16),
        lambda: (_sequence(7),),
        kwargs={"grid": (2, 3)},
    ),
    "ViT": Case(lambda: companion.ViT(8, 4, 3, 5, 16, 4, 32, 2), lambda: (_images(),)),
    "ViT, mean, no head, layer scale": Case(
        lambda: companion.ViT(
            (8, 12),
            4,
            3,
            None,
            16,
            4,
            32,
            2,
            pooling="mean",
            layer_scale=0.1,
            drop_path=0.2,
        ),
        lambda: (_images(),),
    ),
    "DINO": Case(
        lambda: companion.DINO(
            companion.ViT(8, 4, 1, None, 16, 4, 32, 2),
            12,
            d_hidden=16,
            d_bottleneck=8,
        ),
        lambda: (torch.randn(2, 1, 8, 8),),
    ),
    "DINOHead": Case(
        lambda: companion.DINOHead(16, 12, 16, 8), lambda: (torch.randn(2, 16),)
    ),
    "DINOv2": Case(
        lambda: companion.DINOv2(
            8, 4, 1, None, 16, 4, 2, num_registers=2, gated=True, layer_scale=1.0
        ),
        lambda: (torch.randn(2, 1, 8, 8),),
    ),
    "DeiT": Case(
        lambda: companion.DeiT(
            8, 4, 3, 5, d_model=16, num_heads=4, d_ff=32, num_layers=2
        ),
        lambda: (_images(),),
    ),
    "BERT": Case(
        lambda: companion.BERT(11, 16, 4, 32, 2, max_seq_len=8),
        lambda: (_tokens(),),
    ),
    "BERTForSequenceClassification": Case(
        lambda: companion.BERTForSequenceClassification(
            companion.BERT(11, 16, 4, 32, 2, max_seq_len=8, pooler=True), 3
        ),
        lambda: (_tokens(),),
    ),
    "BERTForTokenClassification": Case(
        lambda: companion.BERTForTokenClassification(
            companion.BERT(11, 16, 4, 32, 2, max_seq_len=8), 3
        ),
        lambda: (_tokens(),),
    ),
    "BERTForQuestionAnswering": Case(
        lambda: companion.BERTForQuestionAnswering(
            companion.BERT(11, 16, 4, 32, 2, max_seq_len=8)
        ),
        lambda: (_tokens(),),
    ),
    "BERTForPreTraining": Case(
        lambda: companion.BERTForPreTraining(
            companion.BERT(11, 16, 4, 32, 2, max_seq_len=8, pooler=True)
        ),
        lambda: (_tokens(),),
    ),
    "RoBERTa": Case(
        lambda: companion.RoBERTa(11, 16, 4, 32, 2, max_seq_len=8),
        lambda: (_tokens(),),
    ),
    "RoBERTaForMaskedLM": Case(
        lambda: companion.RoBERTaForMaskedLM(
            companion.RoBERTa(11, 16, 4, 32, 2, max_seq_len=8)
        ),
        lambda: (_tokens(),),
    ),
    "ALBERT": Case(
        lambda: companion.ALBERT(
            11, 16, 4, 32, 3, max_seq_len=8, d_embedding=6, num_groups=2
        ),
        lambda: (_tokens(),),
    ),
    "ALBERTForPreTraining": Case(
        lambda: companion.ALBERTForPreTraining(
            companion.ALBERT(11, 16, 4, 32, 2, max_seq_len=8, pooler=True)
        ),
        lambda: (_tokens(),),
    ),
    "EncoderOnlyTransformer": Case(
        lambda: companion.EncoderOnlyTransformer(11, 16, 4, 32, 2, 3),
        lambda: (_tokens(),),
    ),
    "EncoderOnlyTransformer, pre-norm, mean": Case(
        lambda: companion.EncoderOnlyTransformer(
            11, 16, 4, 32, 2, 3, norm_first=True, pooling="mean"
        ),
        lambda: (_tokens(),),
        kwargs={"mask": torch.ones(2, 1, 1, 5, dtype=torch.bool)},
    ),
    "Longformer": Case(
        lambda: companion.Longformer(
            11, 16, 4, 32, 2, max_seq_len=8, attention_window=2
        ),
        lambda: (_tokens(),),
    ),
    "LongformerForMaskedLM": Case(
        lambda: companion.LongformerForMaskedLM(
            companion.Longformer(11, 16, 4, 32, 2, max_seq_len=8, attention_window=2)
        ),
        lambda: (_tokens(),),
    ),
    "BigBird": Case(
        lambda: companion.BigBird(
            11, 16, 4, 32, 2, max_seq_len=20, block_size=2, num_random_blocks=1
        ),
        lambda: (_tokens(17),),
    ),
    "BigBirdForPreTraining": Case(
        lambda: companion.BigBirdForPreTraining(
            companion.BigBird(11, 16, 4, 32, 2, max_seq_len=8, pooler=True)
        ),
        lambda: (_tokens(),),
    ),
    "Swin": Case(
        lambda: companion.Swin(
            16, 2, 1, 3, 8, (2, 4), (2, 2), window=4, absolute_positions=True
        ),
        lambda: (torch.randn(2, 1, 16, 14),),
    ),
    "WindowRelativeBias": Case(lambda: companion.WindowRelativeBias(2, 3), lambda: ()),
    "MAE": Case(
        lambda: companion.MAE(8, 4, 2, 16, 2, 24, 1, 12, 2, 20, 1),
        lambda: (torch.randn(2, 2, 8, 8),),
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
    "CLIPVision": Case(
        lambda: companion.CLIPVision(8, 4, 3, 16, 4, 2),
        lambda: (torch.randn(2, 3, 8, 8),),
    ),
    "CLIPText": Case(lambda: companion.CLIPText(11, 16, 4, 2, 8), lambda: (_tokens(),)),
    "CLIP": Case(
        lambda: companion.CLIP(
            companion.CLIPVision(8, 4, 3, 16, 4, 2),
            companion.CLIPText(11, 12, 4, 2, 8),
            10,
        ),
        lambda: (torch.randn(2, 3, 8, 8), _tokens(batch=3)),
    ),
}

ATTENTION = {name: case for name, case in CASES.items() if case.attends}
