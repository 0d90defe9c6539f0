"""BigBird: BERT that reads documents, through blocks: near ones, global ones and random ones.

Source: Zaheer et al. (2020), "Big Bird: Transformers for Longer Sequences", section 2 for
the attention, section 4 and appendix E for the sizes. Here are the encoders with
"internal" global tokens (BigBird-ITC), as in the authors' pretrained models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from companion.layers import BigBirdAttention, MultiHeadAttention
from companion.models import bert
from companion.models.bert import (
    BERT,
    ENCODER_RULES,
    SUPPORTED,
    TIED,
    BERTEmbedding,
    BERTForPreTraining,
    bert_options,
    initialize,
)
from companion.models.hf import check_options, load_hf, read_hf

AttentionType = Literal["block_sparse", "original_full"]

# Table 8: BERT's sizes, blocks of 64, documents of 4096 tokens.
PRESETS = {
    name: sizes | {"max_seq_len": 4096, "block_size": 64, "num_random_blocks": 3}
    for name, sizes in bert.PRESETS.items()
}


class BigBirdEmbedding(BERTEmbedding):
    """BERT's embedding, but with dropout before the norm, and tokens scaled if so wished."""

    scale: float = 1.0

    def forward(
        self,
        token_ids: Int[Tensor, "batch length"],
        token_types: Int[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        if token_types is None:
            token_types = torch.zeros_like(token_ids)
        x = self.scale * self.token(token_ids) + self.token_type(token_types)
        return self.norm(self.dropout(x + self.position(token_ids)))


class FixedInEvaluation(BigBirdAttention):
    """Random blocks in training only, as in Hugging Face's code.

    In evaluation that code lists block 0 in the place of each random block. It is a
    global block and seen anyway, so that it then counts ``1 + num_random`` times.
    """

    def random_blocks(self, num_blocks: int) -> Int[Tensor, "heads blocks random"]:
        if self.training:
            return super().random_blocks(num_blocks)
        return torch.zeros(
            self.num_heads, num_blocks, self.num_random, dtype=torch.long, device="cpu"
        )


class BigBird(BERT):
    """The encoder of BigBird. Time and memory grow as the length.

    Sequences of at most ``5 + 2 * num_random_blocks`` blocks attend fully.

    Args:
        vocab_size, d_model, num_heads, d_ff, num_layers, dropout: as for `BERT`.
        max_seq_len: the longest sequence, for which there are position embeddings.
        attention_type: ``"block_sparse"``, or ``"original_full"`` for BERT's attention.
        block_size: tokens in a block.
        num_random_blocks: random blocks that a block sees. They are drawn once for each
            layer and head, layer i by the seed i.
        random_in_evaluation: False replaces them in evaluation as `FixedInEvaluation`
            does.
        activation: of the feed-forward networks.
        attention_dropout, num_token_types, layer_norm_eps, pooler: as for `BERT`.
        qkv_bias: whether queries, keys and values have a bias.
        scale_embeddings: whether token embeddings are multiplied by sqrt(d_model).
    """

    def __init__(
        self,
        vocab_size: int = 50358,
        d_model: int = 768,
        num_heads: int = 12,
        d_ff: int = 3072,
        num_layers: int = 12,
        max_seq_len: int = 4096,
        dropout: float = 0.1,
        *,
        attention_type: AttentionType = "block_sparse",
        block_size: int = 64,
        num_random_blocks: int = 3,
        random_in_evaluation: bool = True,
        activation: str = "gelu_new",
        attention_dropout: float | None = None,
        num_token_types: int = 2,
        layer_norm_eps: float = 1e-12,
        pooler: bool = False,
        qkv_bias: bool = True,
        scale_embeddings: bool = False,
    ) -> None:
        super().__init__(
            vocab_size,
            d_model,
            num_heads,
            d_ff,
            num_layers,
            max_seq_len,
            dropout,
            activation=activation,
            num_token_types=num_token_types,
            layer_norm_eps=layer_norm_eps,
            attention_dropout=attention_dropout,
            pooler=pooler,
        )
        if attention_type not in ("block_sparse", "original_full"):
            raise ValueError(
                "attention_type must be 'block_sparse' or 'original_full', but it is "
                f"{attention_type!r}"
            )
        self.embedding = BigBirdEmbedding(
            vocab_size, d_model, max_seq_len, num_token_types, dropout, layer_norm_eps
        ).apply(initialize)
        self.embedding.scale = d_model**0.5 if scale_embeddings else 1.0
        options: dict[str, Any] = {
            "dropout": dropout if attention_dropout is None else attention_dropout,
            "bias": qkv_bias,
        }
        sparse = BigBirdAttention if random_in_evaluation else FixedInEvaluation
        for index, layer in enumerate(self.layers):
            if attention_type == "original_full":
                attention = MultiHeadAttention(d_model, num_heads, **options)
            else:
                sizes = (d_model, num_heads, block_size, num_random_blocks)
                attention = sparse(*sizes, seed=index, **options)
            if not qkv_bias:  # W_o has one all the same
                attention.W_o = nn.Linear(d_model, d_model)
            layer.self_attention = attention.apply(_initialize)

    @classmethod
    def from_hf(cls, path_or_model: str | Path | nn.Module) -> BigBird:
        """A BigBird with the weights of Hugging Face's, in evaluation mode.

        It gives what Hugging Face's gives in evaluation, where no block is random: see
        `FixedInEvaluation`. In training its random blocks are drawn in another way.

        Args:
            path_or_model: a ``transformers`` ``BigBirdModel`` or a model with
                pre-training heads, or a local folder with such a checkpoint. The heads
                are left out.

        Raises:
            TypeError, ValueError: as for `BERT.from_hf`.
        """
        config, weights = read_hf(path_or_model)
        check_options(config, _SUPPORTED, "BigBird")
        pooler = any("pooler." in name for name in weights)
        model = cls(**_options(config), pooler=pooler)
        load_hf(model, weights, _RULES, bert._IGNORED)
        return model.eval()


class BigBirdForPreTraining(BERTForPreTraining):
    """BigBird with BERT's heads.

    Args:
        encoder: a `BigBird`.
        next_sentence: as for `BERTForPreTraining`.
    """

    @classmethod
    def from_hf(cls, path_or_model: str | Path | nn.Module) -> BigBirdForPreTraining:
        """A model with the weights of Hugging Face's, in evaluation mode.

        Args:
            path_or_model: a ``transformers`` ``BigBirdForPreTraining`` or
                ``BigBirdForMaskedLM``, or a local folder with such a checkpoint.

        Raises:
            TypeError, ValueError: as for `BERT.from_hf`.
        """
        config, weights = read_hf(path_or_model)
        check_options(config, _SUPPORTED | TIED, "BigBirdForPreTraining")
        pooler = any("pooler." in name for name in weights)
        encoder = BigBird(**_options(config), pooler=pooler)
        next_sentence = "cls.seq_relationship.weight" in weights
        model = cls(encoder, next_sentence=next_sentence)
        load_hf(model, weights, _HEAD_RULES, bert._HEAD_IGNORED)
        return model.eval()


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _options(config: dict) -> dict:
    return bert_options(config) | {
        "attention_type": config["attention_type"],
        "block_size": config["block_size"],
        "num_random_blocks": config["num_random_blocks"],
        "random_in_evaluation": False,
        "qkv_bias": config["use_bias"],
        "scale_embeddings": config["rescale_embeddings"],
    }


# Hugging Face's names and ours: BERT's, but for the pooler.
_RULES = (
    ENCODER_RULES
    | {f"bert.{name}": ours for name, ours in ENCODER_RULES.items()}
    | {"pooler.*": "pooler.*", "bert.pooler.*": "pooler.*"}
)
_HEAD_RULES = bert._HEAD_RULES | {"bert.pooler.*": "encoder.pooler.*"}
_SUPPORTED = SUPPORTED | {
    "model_type": ("big_bird",),
    "attention_type": ("block_sparse", "original_full"),
}
