"""BERT: a stack of encoder layers, in which every token sees all others.

Source: Devlin et al. (2019), "BERT: Pre-training of Deep Bidirectional Transformers for
Language Understanding", section 3 and appendix A.2.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from companion.layers import EncoderLayer
from companion.layers.feed_forward import ACTIVATIONS
from companion.models.hf import check_options, load_hf, read_hf

# Section 3, "Model Architecture".
PRESETS = {
    "base": {"d_model": 768, "num_heads": 12, "d_ff": 3072, "num_layers": 12},
    "large": {"d_model": 1024, "num_heads": 16, "d_ff": 4096, "num_layers": 24},
}


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
        self.position = nn.Embedding(max_seq_len, d_model)
        self.token_type = nn.Embedding(num_token_types, d_model)
        self.norm = nn.LayerNorm(d_model, eps=layer_norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        token_ids: Int[Tensor, "batch length"],
        token_types: Int[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        positions = torch.arange(token_ids.shape[1], device=token_ids.device)
        if token_types is None:
            token_types = torch.zeros_like(token_ids)
        x = self.token(token_ids) + self.token_type(token_types)
        x = x + self.position(positions)  # (B, L, D) + (L, D)
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
        dropout: in training, of the embeddings and inside each layer.
        activation: of the feed-forward networks, ``"gelu"`` (the paper) or ``"relu"``.
        num_token_types: number of segments that ``token_types`` tells apart.
        layer_norm_eps: what layer norm adds to the variance.
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
        pooler: bool = False,
    ) -> None:
        super().__init__()
        self.max_seq_len = max_seq_len
        self.embedding = BERTEmbedding(
            vocab_size, d_model, max_seq_len, num_token_types, dropout, layer_norm_eps
        )
        self.layers = nn.ModuleList(
            EncoderLayer(
                d_model,
                num_heads,
                d_ff,
                dropout,
                activation=activation,
                layer_norm_eps=layer_norm_eps,
            )
            for _ in range(num_layers)
        )
        self.pooler = nn.Linear(d_model, d_model) if pooler else None
        self.apply(_initialize)

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
        states = [self.embedding(token_ids, token_types)]
        for layer in self.layers:
            states.append(layer(states[-1], mask))
        return states

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
        if self.pooler is None:
            raise ValueError("this BERT has no pooler: it was made without pooler=True")
        return self.pooler(self(token_ids, mask, token_types)[:, 0]).tanh()

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
        check_options(config, _SUPPORTED, "BERT")
        hidden, attention = (
            config[f"{kind}_dropout_prob"] for kind in ("hidden", "attention_probs")
        )
        if hidden != attention:
            raise ValueError(
                f"BERT has one dropout, but hidden_dropout_prob is {hidden} and "
                f"attention_probs_dropout_prob is {attention}: set them equal"
            )
        model = cls(
            vocab_size=config["vocab_size"],
            d_model=config["hidden_size"],
            num_heads=config["num_attention_heads"],
            d_ff=config["intermediate_size"],
            num_layers=config["num_hidden_layers"],
            max_seq_len=config["max_position_embeddings"],
            dropout=hidden,
            activation=config["hidden_act"],
            num_token_types=config["type_vocab_size"],
            layer_norm_eps=config["layer_norm_eps"],
            pooler=any("pooler.dense." in name for name in weights),
        )
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


def _initialize(module: nn.Module) -> None:
    """Normal weights with deviation 0.02, no biases (the authors' code cuts the normal's tails)."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


# Hugging Face's names and ours.
_RULES = {
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
_NORMS = {
    "embeddings.LayerNorm": "embedding.norm",
    "encoder.layer.*.attention.output.LayerNorm": "layers.*.norm1",
    "encoder.layer.*.output.LayerNorm": "layers.*.norm2",
}
# Checkpoints converted from TensorFlow call the parameters of a norm gamma and beta.
_RULES |= {
    f"{theirs}.{old}": f"{ours}.{new}"
    for theirs, ours in _NORMS.items()
    for old, new in (
        ("gamma", "weight"),
        ("beta", "bias"),
        ("weight", "weight"),
        ("bias", "bias"),
    )
}
# Models that have a head put "bert." before the names of the encoder.
_RULES = {f"bert.{theirs}": ours for theirs, ours in _RULES.items()} | _RULES

_IGNORED = (
    # 0, 1, 2, ...: nothing learned, stored by old versions.
    "embeddings.position_ids",
    "bert.embeddings.position_ids",
    # The heads of pre-training; the decoder's weight is the token embedding once more.
    "cls.predictions.bias",
    "cls.predictions.transform.*.*",
    "cls.predictions.decoder.*",
    "cls.seq_relationship.*",
)

_SUPPORTED = {
    "model_type": ("bert",),
    "hidden_act": tuple(ACTIVATIONS),
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "pruned_heads": ({}, None),
    "quantization_config": (None,),
}
