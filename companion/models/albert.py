"""ALBERT: BERT with one layer that runs many times, and with narrow embeddings.

Source: Lan et al. (2020), "ALBERT: A Lite BERT for Self-supervised Learning of Language
Representations", section 3.1 for the three changes: factorized embeddings, shared layers,
and a task about the order of sentences; table 1 for the sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jaxtyping import Float, Int
from torch import Tensor, nn

from companion.layers import EncoderLayer
from companion.models.bert import (
    BERT,
    SUPPORTED,
    TIED,
    BERTForPreTraining,
    bert_options,
    initialize,
)
from companion.models.hf import check_options, load_hf, read_hf

# Table 1; the heads and widths of feed-forward networks are those of section 3.1:
# d_model / 64 and 4 * d_model. The authors' code has 16 heads in "xlarge".
PRESETS = {
    "base": {"d_model": 768, "num_heads": 12, "d_ff": 3072, "num_layers": 12},
    "large": {"d_model": 1024, "num_heads": 16, "d_ff": 4096, "num_layers": 24},
    "xlarge": {"d_model": 2048, "num_heads": 32, "d_ff": 8192, "num_layers": 24},
    "xxlarge": {"d_model": 4096, "num_heads": 64, "d_ff": 16384, "num_layers": 12},
}


class ALBERT(BERT):
    """BERT whose embeddings have width E << d_model, and whose layers share their weights.

    Args:
        vocab_size: number of distinct tokens.
        d_model, num_heads, d_ff: as for `BERT`.
        num_layers: how many times a group of layers runs.
        max_seq_len, dropout: as for `BERT`. The largest models train best with none.
        d_embedding: width E of the embeddings. ``vocab_size * E + E * d_model``
            parameters stand for ``vocab_size * d_model``.
        num_groups: number of groups with weights of their own; each runs
            ``num_layers / num_groups`` times in a row.
        layers_per_group: number of layers in a group, which differ.
        activation, num_token_types, layer_norm_eps, attention_dropout, pooler: as for
            `BERT`.

    Raises:
        ValueError: more groups than layers, or what `BERT` refuses.
    """

    def __init__(
        self,
        vocab_size: int = 30000,
        d_model: int = 768,
        num_heads: int = 12,
        d_ff: int = 3072,
        num_layers: int = 12,
        max_seq_len: int = 512,
        dropout: float = 0.1,
        *,
        d_embedding: int = 128,
        num_groups: int = 1,
        layers_per_group: int = 1,
        activation: str = "gelu_new",
        num_token_types: int = 2,
        layer_norm_eps: float = 1e-12,
        attention_dropout: float | None = None,
        pooler: bool = False,
    ) -> None:
        if not 1 <= num_groups <= num_layers:
            raise ValueError(
                f"num_groups must be from 1 to num_layers = {num_layers}, but it is "
                f"{num_groups}"
            )
        super().__init__(
            vocab_size,
            d_model,
            num_heads,
            d_ff,
            num_groups * layers_per_group,
            max_seq_len,
            dropout,
            activation=activation,
            num_token_types=num_token_types,
            layer_norm_eps=layer_norm_eps,
            attention_dropout=attention_dropout,
            d_embedding=d_embedding,
            pooler=pooler,
        )
        self.num_layers = num_layers
        self.layers = nn.ModuleList(
            self.layers[start : start + layers_per_group]
            for start in range(0, len(self.layers), layers_per_group)
        )
        self.project = nn.Linear(d_embedding, d_model).apply(initialize)

    def embed(
        self,
        token_ids: Int[Tensor, "batch length"],
        token_types: Int[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        """The narrow embeddings, projected to ``d_model``."""
        return self.project(self.embedding(token_ids, token_types))

    def stack(self) -> Iterator[EncoderLayer]:
        """The layers in the order in which they run, each several times."""
        for index in range(self.num_layers):
            yield from self.layers[index * len(self.layers) // self.num_layers]

    @classmethod
    def from_hf(cls, path_or_model: str | Path | nn.Module) -> ALBERT:
        """An ALBERT with the weights of Hugging Face's, in evaluation mode.

        Args:
            path_or_model: a ``transformers`` ``AlbertModel`` or pre-training model, or a
                local folder with such a checkpoint. The heads are left out.

        Raises:
            TypeError, ValueError: as for `BERT.from_hf`.
        """
        config, weights = read_hf(path_or_model)
        check_options(config, _SUPPORTED, "ALBERT")
        pooler = any("pooler." in name for name in weights)
        model = cls(**_options(config), pooler=pooler)
        load_hf(model, weights, _RULES, _IGNORED)
        return model.eval()


class ALBERTForPreTraining(BERTForPreTraining):
    """ALBERT with the heads of its two tasks: fill in tokens, and tell the order of sentences.

    The second takes the place of next-sentence prediction: both sentences are of one
    text, and ``is_next`` of `loss` says whether they stand in the right order.

    Args:
        encoder: an `ALBERT`; it has a pooler if ``next_sentence``.
        next_sentence: whether to have the head for the order of sentences.
    """

    @classmethod
    def from_hf(cls, path_or_model: str | Path | nn.Module) -> ALBERTForPreTraining:
        """A model with the weights of Hugging Face's, in evaluation mode.

        Args:
            path_or_model: a ``transformers`` ``AlbertForPreTraining`` or
                ``AlbertForMaskedLM``, or a local folder with such a checkpoint.

        Raises:
            TypeError, ValueError: as for `BERT.from_hf`.
        """
        config, weights = read_hf(path_or_model)
        check_options(config, _SUPPORTED | TIED, "ALBERTForPreTraining")
        pooler = any("pooler." in name for name in weights)
        encoder = ALBERT(**_options(config), pooler=pooler)
        model = cls(
            encoder, next_sentence="sop_classifier.classifier.weight" in weights
        )
        load_hf(model, weights, _HEAD_RULES, _HEAD_IGNORED)
        return model.eval()


def _options(config: dict) -> dict:
    return bert_options(config) | {
        "d_embedding": config["embedding_size"],
        "num_groups": config["num_hidden_groups"],
        "layers_per_group": config["inner_group_num"],
    }


# Hugging Face's names and ours.
_LAYER = "encoder.albert_layer_groups.*.albert_layers.*"
_ENCODER = {
    "embeddings.word_embeddings.weight": "embedding.token.weight",
    "embeddings.position_embeddings.weight": "embedding.position.weight",
    "embeddings.token_type_embeddings.weight": "embedding.token_type.weight",
    "embeddings.LayerNorm.*": "embedding.norm.*",
    "encoder.embedding_hidden_mapping_in.*": "project.*",
    f"{_LAYER}.attention.query.*": "layers.*.*.self_attention.W_q.*",
    f"{_LAYER}.attention.key.*": "layers.*.*.self_attention.W_k.*",
    f"{_LAYER}.attention.value.*": "layers.*.*.self_attention.W_v.*",
    f"{_LAYER}.attention.dense.*": "layers.*.*.self_attention.W_o.*",
    f"{_LAYER}.attention.LayerNorm.*": "layers.*.*.norm1.*",
    f"{_LAYER}.ffn.*": "layers.*.*.feed_forward.W_1.*",
    f"{_LAYER}.ffn_output.*": "layers.*.*.feed_forward.W_2.*",
    f"{_LAYER}.full_layer_layer_norm.*": "layers.*.*.norm2.*",
    "pooler.*": "pooler.*",
}
_RULES = _ENCODER | {f"albert.{name}": ours for name, ours in _ENCODER.items()}
_HEAD_RULES = {
    f"albert.{name}": f"encoder.{ours}" for name, ours in _ENCODER.items()
} | {
    "predictions.dense.*": "masked_language.dense.*",
    "predictions.LayerNorm.*": "masked_language.norm.*",
    "predictions.bias": "masked_language.bias",
    "sop_classifier.classifier.*": "next_sentence.*",
}
_IGNORED = (
    "embeddings.position_ids",
    "albert.embeddings.position_ids",
    "predictions.*",
    "predictions.*.*",
    "sop_classifier.classifier.*",
)
_HEAD_IGNORED = (
    "albert.embeddings.position_ids",
    # The token embedding and the bias once more.
    "predictions.decoder.*",
)
_SUPPORTED = SUPPORTED | {"model_type": ("albert",)}
