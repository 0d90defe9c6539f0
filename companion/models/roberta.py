"""RoBERTa: BERT trained better. Longer, on more text, masked anew each time, and on one task.

Source: Liu et al. (2019), "RoBERTa: A Robustly Optimized BERT Pretraining Approach". The
model is that of BERT without next-sentence prediction (section 4.2). To mask anew
(section 4.1), call `companion.training.masked_language.mask_tokens` on each batch. How
positions are counted is not in the paper, but in its code.
"""

from __future__ import annotations

from pathlib import Path

from jaxtyping import Float, Int
from torch import Tensor, nn

from companion.models.bert import (
    BERT,
    ENCODER_RULES,
    PRESETS,
    SUPPORTED,
    TIED,
    BERTForPreTraining,
    bert_options,
    initialize,
)
from companion.models.hf import check_options, load_hf, read_hf

__all__ = ["PRESETS", "RoBERTa", "RoBERTaForMaskedLM"]  # the sizes are BERT's


class CountedPositionEmbedding(nn.Embedding):
    """Positions counted over the tokens that are no padding, from ``pad_id + 1`` on.

    Padding has position ``pad_id``, so that padding in front moves no token.

    Args:
        max_seq_len: number of positions for tokens.
        d_model: width of the vectors.
        pad_id: the token that is padding.
    """

    def __init__(self, max_seq_len: int, d_model: int, pad_id: int) -> None:
        super().__init__(max_seq_len + pad_id + 1, d_model)
        self.pad_id = pad_id

    def forward(
        self, token_ids: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length d_model"]:
        real = token_ids != self.pad_id
        return super().forward(real.cumsum(dim=1) * real + self.pad_id)


class RoBERTa(BERT):
    """BERT with positions that skip padding, bytes as its alphabet, and no segments.

    Args:
        vocab_size: number of distinct tokens; the default is GPT-2's byte pairs with the
            special tokens of RoBERTa.
        d_model, num_heads, d_ff, num_layers, max_seq_len, dropout: as for `BERT`.
        pad_id: the token that is padding.
        num_token_types: 1, since there are no segments.
        layer_norm_eps: what layer norm adds to the variance.
        activation, attention_dropout, pooler: as for `BERT`.
    """

    def __init__(
        self,
        vocab_size: int = 50265,
        d_model: int = 768,
        num_heads: int = 12,
        d_ff: int = 3072,
        num_layers: int = 12,
        max_seq_len: int = 512,
        dropout: float = 0.1,
        *,
        pad_id: int = 1,
        num_token_types: int = 1,
        layer_norm_eps: float = 1e-5,
        activation: str = "gelu",
        attention_dropout: float | None = None,
        pooler: bool = False,
    ) -> None:
        super().__init__(
            vocab_size,
            d_model,
            num_heads,
            d_ff,
            num_layers,
            max_seq_len,
            dropout,
            num_token_types=num_token_types,
            layer_norm_eps=layer_norm_eps,
            activation=activation,
            attention_dropout=attention_dropout,
            pooler=pooler,
        )
        positions = CountedPositionEmbedding(max_seq_len, d_model, pad_id)
        self.embedding.position = positions.apply(initialize)

    @classmethod
    def from_hf(cls, path_or_model: str | Path | nn.Module) -> RoBERTa:
        """A RoBERTa with the weights of Hugging Face's, in evaluation mode.

        Args:
            path_or_model: a ``transformers`` ``RobertaModel`` or ``RobertaForMaskedLM``,
                or a local folder with such a checkpoint. The head is left out.

        Raises:
            TypeError, ValueError: as for `BERT.from_hf`.
        """
        config, weights = read_hf(path_or_model)
        check_options(config, _SUPPORTED, "RoBERTa")
        pooler = any("pooler." in name for name in weights)
        model = cls(**_options(config), pooler=pooler)
        load_hf(model, weights, _RULES, _IGNORED)
        return model.eval()


class RoBERTaForMaskedLM(BERTForPreTraining):
    """RoBERTa with its one task: fill in tokens.

    Args:
        encoder: a `RoBERTa`.
    """

    def __init__(self, encoder: RoBERTa) -> None:
        super().__init__(encoder, next_sentence=False)
        self.masked_language.activation = "gelu"  # whatever the layers have

    @classmethod
    def from_hf(cls, path_or_model: str | Path | nn.Module) -> RoBERTaForMaskedLM:
        """A model with the weights of a ``RobertaForMaskedLM``, in evaluation mode.

        Args:
            path_or_model: the ``transformers`` model, or a local folder with one.

        Raises:
            TypeError, ValueError: as for `BERT.from_hf`.
        """
        config, weights = read_hf(path_or_model)
        check_options(config, _SUPPORTED | TIED, "RoBERTaForMaskedLM")
        model = cls(RoBERTa(**_options(config)))
        load_hf(model, weights, _HEAD_RULES, _HEAD_IGNORED)
        return model.eval()


def _options(config: dict) -> dict:
    pad_id = config["pad_token_id"]
    places = config["max_position_embeddings"]  # of which pad_id + 1 are no token's
    return bert_options(config) | {
        "pad_id": pad_id,
        "max_seq_len": places - pad_id - 1,
    }


# Hugging Face's names and ours.
_RULES = ENCODER_RULES | {
    f"roberta.{name}": ours for name, ours in ENCODER_RULES.items()
}
_HEAD_RULES = {
    f"roberta.{name}": f"encoder.{ours}" for name, ours in ENCODER_RULES.items()
} | {
    "lm_head.dense.*": "masked_language.dense.*",
    "lm_head.layer_norm.*": "masked_language.norm.*",
    "lm_head.bias": "masked_language.bias",
}
_IGNORED = (
    "embeddings.position_ids",
    "roberta.embeddings.position_ids",
    "lm_head.*",
    "lm_head.*.*",
)
_HEAD_IGNORED = (
    "roberta.embeddings.position_ids",
    # The token embedding and the bias once more.
    "lm_head.decoder.*",
)
_SUPPORTED = SUPPORTED | {"model_type": ("roberta",)}
