"""BERT: a stack of encoder layers, in which every token sees all others, and its two tasks.

Source: Devlin et al. (2019), "BERT: Pre-training of Deep Bidirectional Transformers for
Language Understanding", section 3 for the model, section 3.1 for the tasks of its
pre-training. Their inputs are made by `companion.training.masked_language`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from companion.layers import EncoderLayer
from companion.layers.feed_forward import ACTIVATIONS
from companion.models.hf import HFConfig, check_options, load_hf, read_hf

# Section 3, "Model Architecture".
PRESETS = {
    "base": {"d_model": 768, "num_heads": 12, "d_ff": 3072, "num_layers": 12},
    "large": {"d_model": 1024, "num_heads": 16, "d_ff": 4096, "num_layers": 24},
}


class PositionEmbedding(nn.Embedding):
    """A learned vector for each place: 0, 1, 2, ..."""

    def forward(
        self, token_ids: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "length d_model"]:
        return super().forward(
            torch.arange(token_ids.shape[1], device=token_ids.device)
        )


class BERTEmbedding(nn.Module):
    """Token, position and segment embeddings, added (figure 2) and normalized."""

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        max_seq_len: int,
        num_token_types: int,
        dropout: float,
        layer_norm_eps: float,
    ) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab_size, d_model)
        self.position = PositionEmbedding(max_seq_len, d_model)
        self.token_type = nn.Embedding(num_token_types, d_model)
        self.norm = nn.LayerNorm(d_model, eps=layer_norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        token_ids: Int[Tensor, "batch length"],
        token_types: Int[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        if token_types is None:
            token_types = torch.zeros_like(token_ids)
        x = self.token(token_ids) + self.token_type(token_types)
        x = x + self.position(token_ids)  # (B, L, D) + (L, D)
        return self.dropout(self.norm(x))


class BERT(nn.Module):
    """The encoder of BERT, post-norm, with learned positions.

    Args:
        vocab_size: number of distinct tokens.
        d_model: width of the hidden states.
        num_heads: attention heads in a layer; they divide ``d_model``.
        d_ff: inner width of the feed-forward networks.
        num_layers: number of encoder layers.
        max_seq_len: the longest sequence, for which there are position embeddings.
        dropout: in training, of the embeddings and of each sub-layer's output.
        activation: of the feed-forward networks, ``"gelu"`` (the paper) or another of
            ``companion.layers.feed_forward.ACTIVATIONS``.
        num_token_types: number of segments that ``token_types`` tells apart.
        layer_norm_eps: what layer norm adds to the variance.
        attention_dropout: of the attention weights; ``dropout`` by default.
        d_embedding: width of the embeddings; ``d_model``, except in ALBERT.
        pooler: whether to have the layer that `pooled` uses.

    Raises:
        ValueError: the heads don't divide ``d_model``, the dropout is not a probability,
            or the activation is not known.
    """

    def __init__(
        self,
        vocab_size: int = 30522,
        d_model: int = 768,
        num_heads: int = 12,
        d_ff: int = 3072,
        num_layers: int = 12,
        max_seq_len: int = 512,
        dropout: float = 0.1,
        *,
        activation: str = "gelu",
        num_token_types: int = 2,
        layer_norm_eps: float = 1e-12,
        attention_dropout: float | None = None,
        d_embedding: int | None = None,
        pooler: bool = False,
    ) -> None:
        super().__init__()
        self.max_seq_len = max_seq_len
        self.d_model = d_model
        self.activation = activation
        self.layer_norm_eps = layer_norm_eps
        self.embedding = BERTEmbedding(
            vocab_size,
            d_embedding or d_model,
            max_seq_len,
            num_token_types,
            dropout,
            layer_norm_eps,
        )
        self.layers = nn.ModuleList(
            EncoderLayer(
                d_model,
                num_heads,
                d_ff,
                dropout,
                activation=activation,
                layer_norm_eps=layer_norm_eps,
                attention_dropout=attention_dropout,
                hidden_dropout=0.0,
            )
            for _ in range(num_layers)
        )
        self.pooler = nn.Linear(d_model, d_model) if pooler else None
        self.apply(initialize)

    def forward(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
        token_types: Int[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        """The last hidden states.

        Args:
            token_ids: at most ``max_seq_len`` of them in a sequence.
            mask: True = may attend, broadcasts to ``(batch, heads, length, length)``;
                ``padding_mask(token_ids, pad_id)`` hides padding.
            token_types: the segment of each token: 0, the default, for the first
                sentence, 1 for the second.

        Raises:
            TypeError, ValueError: token ids, token types or mask of a wrong dtype or
                shape, or a sequence that is too long.
        """
        return self.hidden_states(token_ids, mask, token_types)[-1]

    def hidden_states(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
        token_types: Int[Tensor, "batch length"] | None = None,
    ) -> list[Float[Tensor, "batch length d_model"]]:
        """The embeddings, then the output of each layer: ``num_layers + 1`` tensors."""
        self._check(token_ids, token_types)
        states = [self.embed(token_ids, token_types)]
        for layer in self.stack():
            states.append(layer(states[-1], mask))
        return states

    def embed(
        self,
        token_ids: Int[Tensor, "batch length"],
        token_types: Int[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        """What the first layer reads."""
        return self.embedding(token_ids, token_types)

    def stack(self) -> Iterable[EncoderLayer]:
        """The layers in the order in which they run."""
        return self.layers

    def pooled(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
        token_types: Int[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch d_model"]:
        """One vector a sequence: tanh(W h + b), with h the last state of its first token, [CLS].

        Raises:
            ValueError: this model has no pooler.
        """
        return self.pool(self(token_ids, mask, token_types))

    def pool(
        self, states: Float[Tensor, "batch length d_model"]
    ) -> Float[Tensor, "batch d_model"]:
        """What `pooled` makes of the last hidden states."""
        if self.pooler is None:
            raise ValueError(
                f"this {type(self).__name__} has no pooler: it was made without pooler=True"
            )
        return self.pooler(states[:, 0]).tanh()

    @classmethod
    def from_hf(cls, path_or_model: str | Path | nn.Module) -> BERT:
        """A BERT with the weights of Hugging Face's, in evaluation mode.

        Args:
            path_or_model: a ``transformers`` ``BertModel`` or pre-training model, or a
                local folder with ``config.json`` and ``model.safetensors``. The
                pre-training heads are left out.

        Raises:
            TypeError, ValueError: not such a model or folder, an option that is not
                implemented, or weights that don't fit.
        """
        config, weights = read_hf(path_or_model)
        check_options(config, SUPPORTED, "BERT")
        pooler = any("pooler." in name for name in weights)
        model = cls(**bert_options(config), pooler=pooler)
        load_hf(model, weights, _RULES, _IGNORED)
        return model.eval()

    def _check(self, token_ids: Tensor, token_types: Tensor | None) -> None:
        shape = tuple(token_ids.shape)
        if token_ids.ndim != 2:
            raise ValueError(
                f"token_ids must have shape (batch, length), but it has shape {shape}"
            )
        if token_ids.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"token_ids must be integers, but it is {token_ids.dtype}")
        if shape[1] > self.max_seq_len:
            raise ValueError(
                f"token_ids may have at most max_seq_len = {self.max_seq_len} tokens in a "
                f"sequence, but it has {shape[1]}"
            )
        if token_types is not None and token_types.shape != token_ids.shape:
            raise ValueError(
                f"token_types must have the shape of token_ids, {shape}, but it has shape "
                f"{tuple(token_types.shape)}"
            )


class MaskedLanguageHead(nn.Module):
    """A logit for each token at each position: LayerNorm(activation(x W + b)) E^T + c.

    E is the token embedding, and no parameter of the head.

    Args:
        vocab_size: number of distinct tokens.
        d_model: width of the hidden states.
        d_embedding: width of the token embedding; ``d_model`` by default.
        activation: after the dense layer.
        layer_norm_eps: what layer norm adds to the variance.
    """

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        d_embedding: int | None = None,
        activation: str = "gelu",
        layer_norm_eps: float = 1e-12,
    ) -> None:
        super().__init__()
        d_embedding = d_embedding or d_model
        self.dense = nn.Linear(d_model, d_embedding)
        self.norm = nn.LayerNorm(d_embedding, eps=layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.activation = activation

    def forward(
        self,
        x: Float[Tensor, "*batch d_model"],
        token_embedding: Float[Tensor, "vocab d_embedding"],
    ) -> Float[Tensor, "*batch vocab"]:
        x = self.norm(ACTIVATIONS[self.activation](self.dense(x)))
        return F.linear(x, token_embedding, self.bias)


class BERTForPreTraining(nn.Module):
    """BERT with the heads of its two tasks (section 3.1): fill in tokens, and tell what follows.

    Args:
        encoder: a `BERT`; it has a pooler if ``next_sentence``.
        next_sentence: whether to have the head of next-sentence prediction.

    Raises:
        ValueError: next-sentence prediction with an encoder that has no pooler.
    """

    def __init__(self, encoder: BERT, *, next_sentence: bool = True) -> None:
        super().__init__()
        if next_sentence and encoder.pooler is None:
            raise ValueError(
                "next_sentence needs an encoder that was made with pooler=True; without "
                "it, pass next_sentence=False"
            )
        vocab_size, d_embedding = encoder.embedding.token.weight.shape
        d_model = encoder.d_model
        self.encoder = encoder
        self.masked_language = MaskedLanguageHead(
            vocab_size,
            d_model,
            d_embedding,
            encoder.activation,
            encoder.layer_norm_eps,
        )
        self.next_sentence = nn.Linear(d_model, 2) if next_sentence else None
        self.masked_language.apply(initialize)
        if next_sentence:
            self.next_sentence.apply(initialize)

    def forward(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
        token_types: Int[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length vocab"]:
        """The logits of the token that belongs at each position. Takes what `BERT` takes."""
        return self._fill_in(self.encoder(token_ids, mask, token_types))

    def hidden_states(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
        token_types: Int[Tensor, "batch length"] | None = None,
    ) -> list[Float[Tensor, "batch length width"]]:
        """Those of the encoder."""
        return self.encoder.hidden_states(token_ids, mask, token_types)

    def next_sentence_logits(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
        token_types: Int[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch 2"]:
        """Logits of "the second sentence follows the first" and of "it does not", in this order.

        Raises:
            ValueError: this model has no such head.
        """
        return self._follows(self.encoder(token_ids, mask, token_types))

    def loss(
        self,
        token_ids: Int[Tensor, "batch length"],
        labels: Int[Tensor, "batch length"],
        is_next: Bool[Tensor, "batch"] | None = None,
        mask: Bool[Tensor, "..."] | None = None,
        token_types: Int[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, ""]:
        """The mean loss of the masked tokens, plus that of the sentence pairs where given.

        Args:
            token_ids: the masked text.
            labels: the tokens that belong there; -100 where none is asked for. At least
                one must be: the mean of none is NaN.
            is_next: whether the second sentence follows the first.
            mask, token_types: as for the model.

        Raises:
            ValueError: ``is_next`` is given and there is no such head.
        """
        states = self.encoder(token_ids, mask, token_types)
        asked = labels != -100
        # Only where a token is asked for: elsewhere the largest product of the model is spared.
        loss = F.cross_entropy(self._fill_in(states[asked]), labels[asked])
        if is_next is not None:
            loss = loss + F.cross_entropy(self._follows(states), (~is_next).long())
        return loss

    @classmethod
    def from_hf(cls, path_or_model: str | Path | nn.Module) -> BERTForPreTraining:
        """A model with the weights of Hugging Face's, in evaluation mode.

        Args:
            path_or_model: a ``transformers`` ``BertForPreTraining`` or
                ``BertForMaskedLM``, or a local folder with such a checkpoint.

        Raises:
            TypeError, ValueError: as for `BERT.from_hf`.
        """
        config, weights = read_hf(path_or_model)
        check_options(config, SUPPORTED | TIED, "BERTForPreTraining")
        next_sentence = "cls.seq_relationship.weight" in weights
        encoder = BERT(**bert_options(config), pooler=next_sentence)
        model = cls(encoder, next_sentence=next_sentence)
        load_hf(model, weights, _HEAD_RULES, _HEAD_IGNORED)
        return model.eval()

    def _fill_in(self, states: Tensor) -> Tensor:
        return self.masked_language(states, self.encoder.embedding.token.weight)

    def _follows(self, states: Tensor) -> Tensor:
        if self.next_sentence is None:
            raise ValueError(
                f"this {type(self).__name__} has no head for sentence pairs: it was made "
                "with next_sentence=False"
            )
        return self.next_sentence(self.encoder.pool(states))


def initialize(module: nn.Module) -> None:
    """Normal weights with deviation 0.02, no biases (the authors' code cuts the normal's tails)."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def bert_options(config: HFConfig) -> dict[str, Any]:
    """What `BERT` must be given to be as the config of a checkpoint says."""
    return {
        "vocab_size": config["vocab_size"],
        "d_model": config["hidden_size"],
        "num_heads": config["num_attention_heads"],
        "d_ff": config["intermediate_size"],
        "num_layers": config["num_hidden_layers"],
        "max_seq_len": config["max_position_embeddings"],
        "dropout": config["hidden_dropout_prob"],
        "attention_dropout": config["attention_probs_dropout_prob"],
        "activation": config["hidden_act"],
        "num_token_types": config["type_vocab_size"],
        "layer_norm_eps": config["layer_norm_eps"],
    }


# Hugging Face's names and ours, in BERT and RoBERTa.
ENCODER_RULES = {
    "embeddings.word_embeddings.weight": "embedding.token.weight",
    "embeddings.position_embeddings.weight": "embedding.position.weight",
    "embeddings.token_type_embeddings.weight": "embedding.token_type.weight",
    "encoder.layer.*.attention.self.query.*": "layers.*.self_attention.W_q.*",
    "encoder.layer.*.attention.self.key.*": "layers.*.self_attention.W_k.*",
    "encoder.layer.*.attention.self.value.*": "layers.*.self_attention.W_v.*",
    "encoder.layer.*.attention.output.dense.*": "layers.*.self_attention.W_o.*",
    "encoder.layer.*.intermediate.dense.*": "layers.*.feed_forward.W_1.*",
    "encoder.layer.*.output.dense.*": "layers.*.feed_forward.W_2.*",
    "pooler.dense.*": "pooler.*",
}


def _norm(theirs: str, ours: str) -> dict[str, str]:
    """Checkpoints converted from TensorFlow call the parameters of a norm gamma and beta."""
    names = {"gamma": "weight", "beta": "bias", "weight": "weight", "bias": "bias"}
    return {f"{theirs}.{name}": f"{ours}.{new}" for name, new in names.items()}


ENCODER_RULES |= _norm("embeddings.LayerNorm", "embedding.norm")
ENCODER_RULES |= _norm("encoder.layer.*.attention.output.LayerNorm", "layers.*.norm1")
ENCODER_RULES |= _norm("encoder.layer.*.output.LayerNorm", "layers.*.norm2")

# Models that have a head put "bert." before the names of the encoder.
_RULES = {f"bert.{name}": ours for name, ours in ENCODER_RULES.items()} | ENCODER_RULES
_HEAD_RULES = (
    {f"bert.{name}": f"encoder.{ours}" for name, ours in ENCODER_RULES.items()}
    | {
        "cls.predictions.transform.dense.*": "masked_language.dense.*",
        "cls.predictions.bias": "masked_language.bias",
        "cls.seq_relationship.*": "next_sentence.*",
    }
    | _norm("cls.predictions.transform.LayerNorm", "masked_language.norm")
)

_IGNORED = (
    # 0, 1, 2, ...: nothing learned, stored by old versions.
    "embeddings.position_ids",
    "bert.embeddings.position_ids",
    # The heads of pre-training.
    "cls.predictions.bias",
    "cls.predictions.transform.*.*",
    "cls.predictions.decoder.*",
    "cls.seq_relationship.*",
)
_HEAD_IGNORED = (
    "bert.embeddings.position_ids",
    # The token embedding and the bias once more.
    "cls.predictions.decoder.*",
)

# What `from_hf` implements, and RoBERTa and ALBERT with it.
SUPPORTED = {
    "model_type": ("bert",),
    "hidden_act": tuple(ACTIVATIONS),
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "pruned_heads": ({}, None),
    "quantization_config": (None,),
}
# A masked-language head has the token embedding for its last layer.
TIED = {"tie_word_embeddings": (True,)}
