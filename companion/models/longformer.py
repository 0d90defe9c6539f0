"""Longformer: RoBERTa that reads documents, through a sliding window and a few global tokens.

Source: Beltagy, Peters & Cohan (2020), "Longformer: The Long-Document Transformer",
section 3 for the attention, section 5 for the sizes. The dilated windows of section 3.1
are not in the authors' pretrained models, nor here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from companion.layers import EncoderLayer, SlidingWindowAttention
from companion.models import bert, roberta
from companion.models.bert import ENCODER_RULES, SUPPORTED, TIED, initialize
from companion.models.hf import check_options, load_hf, read_hf

# Section 5: RoBERTa's sizes, windows of 512 in all layers, documents of 4096 tokens.
PRESETS = {
    name: sizes | {"max_seq_len": 4096, "attention_window": 512}
    for name, sizes in bert.PRESETS.items()
}


class LongformerAttention(SlidingWindowAttention):
    """Window attention in which global tokens have projections of their own (section 3.1).

    Args:
        d_model, num_heads, window, dropout: as for `SlidingWindowAttention`.
    """

    def __init__(
        self, d_model: int, num_heads: int, window: int, *, dropout: float = 0.0
    ) -> None:
        super().__init__(d_model, num_heads, window, dropout=dropout)
        self.W_q_global = nn.Linear(d_model, d_model)
        self.W_k_global = nn.Linear(d_model, d_model)
        self.W_v_global = nn.Linear(d_model, d_model)

    def forward(
        self,
        query: Float[Tensor, "batch length d_model"],
        key: None = None,
        value: None = None,
        mask: Bool[Tensor, "..."] | None = None,
        *,
        global_mask: Bool[Tensor, "batch length"] | None = None,
        **options: Any,
    ) -> tuple[Float[Tensor, "batch length d_model"], None]:
        """Self-attention. ``global_mask`` is True at the global tokens."""
        if global_mask is not None:
            maps = (self.W_q_global, self.W_k_global, self.W_v_global)
            options["global_qkv"] = tuple(
                self._split(W(query), self.num_heads)  # (B, H, L, d_k)
                for W in maps
            )
        return super().forward(query, mask=mask, global_mask=global_mask, **options)

    def weights(self, query, key, mask=None, *, global_qkv=None, **options) -> Tensor:
        if global_qkv is not None:
            global_qkv = (*global_qkv[:2], self.units(key))
        return super().weights(query, key, mask, global_qkv=global_qkv, **options)

    def start_global_as_local(self) -> None:
        """Give the projections of global tokens the weights of the others (section 3.1)."""
        for name in ("W_q", "W_k", "W_v"):
            local = getattr(self, name).state_dict()
            getattr(self, f"{name}_global").load_state_dict(local)


class LongformerLayer(EncoderLayer):
    """A post-norm encoder layer with `LongformerAttention`."""

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ff: int,
        window: int,
        *,
        attention_dropout: float,
        **options: Any,
    ) -> None:
        super().__init__(d_model, num_heads, d_ff, **options)
        self.self_attention = LongformerAttention(
            d_model, num_heads, window, dropout=attention_dropout
        )

    def forward(
        self,
        x: Float[Tensor, "batch length d_model"],
        mask: Bool[Tensor, "..."] | None = None,
        global_mask: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        attended, _ = self.self_attention(x, mask=mask, global_mask=global_mask)
        x = self.norm1(x + self.dropout(attended))
        return self.norm2(x + self.dropout(self.feed_forward(x)))


class Longformer(roberta.RoBERTa):
    """The encoder of Longformer. Time and memory grow as the length.

    Args:
        vocab_size, d_model, num_heads, d_ff, num_layers, dropout: as for `RoBERTa`.
        max_seq_len: the longest sequence, for which there are position embeddings.
        attention_window: how many tokens a token sees, half of them on each side: an
            even number, or one for each layer.
        **options: further arguments of `RoBERTa`.

    Raises:
        ValueError: a window that is odd or not positive, a number of windows that is
            not the number of layers, or what `RoBERTa` refuses.
    """

    def __init__(
        self,
        vocab_size: int = 50265,
        d_model: int = 768,
        num_heads: int = 12,
        d_ff: int = 3072,
        num_layers: int = 12,
        max_seq_len: int = 4096,
        dropout: float = 0.1,
        *,
        attention_window: int | Sequence[int] = 512,
        attention_dropout: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            vocab_size, d_model, num_heads, d_ff, 0, max_seq_len, dropout, **options
        )
        windows = _windows(attention_window, num_layers)
        self.layers = nn.ModuleList(
            LongformerLayer(
                d_model,
                num_heads,
                d_ff,
                window // 2,
                dropout=dropout,
                attention_dropout=(
                    dropout if attention_dropout is None else attention_dropout
                ),
                hidden_dropout=0.0,
                activation=self.activation,
                layer_norm_eps=self.layer_norm_eps,
            )
            for window in windows
        ).apply(initialize)
        for layer in self.layers:
            layer.self_attention.start_global_as_local()

    def forward(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
        token_types: Int[Tensor, "batch length"] | None = None,
        global_mask: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        """The last hidden states.

        Args:
            token_ids, mask, token_types: as for `BERT`.
            global_mask: True at the tokens that see all and are seen by all: the first
                one to classify, those of a question to answer it (section 3.1). None by
                default.
        """
        return self.hidden_states(token_ids, mask, token_types, global_mask)[-1]

    def hidden_states(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
        token_types: Int[Tensor, "batch length"] | None = None,
        global_mask: Bool[Tensor, "batch length"] | None = None,
    ) -> list[Float[Tensor, "batch length d_model"]]:
        """The embeddings, then the output of each layer: ``num_layers + 1`` tensors."""
        self._check(token_ids, token_types)
        states = [self.embed(token_ids, token_types)]
        for layer in self.layers:
            states.append(layer(states[-1], mask, global_mask))
        return states

    def pooled(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
        token_types: Int[Tensor, "batch length"] | None = None,
        global_mask: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch d_model"]:
        """One vector a sequence, as `BERT.pooled`."""
        return self.pool(self(token_ids, mask, token_types, global_mask))

    @classmethod
    def from_hf(cls, path_or_model: str | Path | nn.Module) -> Longformer:
        """A Longformer with the weights of Hugging Face's, in evaluation mode.

        Args:
            path_or_model: a ``transformers`` ``LongformerModel`` or
                ``LongformerForMaskedLM``, or a local folder with such a checkpoint. The
                head is left out.

        Raises:
            TypeError, ValueError: as for `BERT.from_hf`.
        """
        config, weights = read_hf(path_or_model)
        check_options(config, _SUPPORTED, "Longformer")
        pooler = any("pooler." in name for name in weights)
        model = cls(**_options(config), pooler=pooler)
        load_hf(model, weights, _RULES, roberta._IGNORED + _IGNORED)
        return model.eval()


class LongformerForMaskedLM(roberta.RoBERTaForMaskedLM):
    """Longformer with the head that fills in tokens.

    Args:
        encoder: a `Longformer`.
    """

    def forward(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
        token_types: Int[Tensor, "batch length"] | None = None,
        global_mask: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length vocab"]:
        """The logits of the token that belongs at each position. Takes what `Longformer` takes."""
        return self._fill_in(self.encoder(token_ids, mask, token_types, global_mask))

    def hidden_states(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
        token_types: Int[Tensor, "batch length"] | None = None,
        global_mask: Bool[Tensor, "batch length"] | None = None,
    ) -> list[Float[Tensor, "batch length d_model"]]:
        """Those of the encoder."""
        return self.encoder.hidden_states(token_ids, mask, token_types, global_mask)

    def loss(
        self,
        token_ids: Int[Tensor, "batch length"],
        labels: Int[Tensor, "batch length"],
        is_next: None = None,
        mask: Bool[Tensor, "..."] | None = None,
        token_types: Int[Tensor, "batch length"] | None = None,
        global_mask: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, ""]:
        """The mean loss of the masked tokens: those whose label is not -100.

        Raises:
            ValueError: ``is_next`` is given; there is no head for sentence pairs.
        """
        states = self.encoder(token_ids, mask, token_types, global_mask)
        if is_next is not None:
            self._follows(states)  # which says that there is none
        asked = labels != -100
        return F.cross_entropy(self._fill_in(states[asked]), labels[asked])

    @classmethod
    def from_hf(cls, path_or_model: str | Path | nn.Module) -> LongformerForMaskedLM:
        """A model with the weights of a ``LongformerForMaskedLM``, in evaluation mode.

        Args:
            path_or_model: the ``transformers`` model, or a local folder with one.

        Raises:
            TypeError, ValueError: as for `BERT.from_hf`.
        """
        config, weights = read_hf(path_or_model)
        check_options(config, _SUPPORTED | TIED, "LongformerForMaskedLM")
        model = cls(Longformer(**_options(config)))
        load_hf(model, weights, _HEAD_RULES, _HEAD_IGNORED)
        return model.eval()


def _windows(attention_window: int | Sequence[int], num_layers: int) -> list[int]:
    single = isinstance(attention_window, int)
    windows = [attention_window] * num_layers if single else list(attention_window)
    if len(windows) != num_layers:
        raise ValueError(
            f"attention_window must be one number or {num_layers}, one for each layer, but "
            f"it has {len(windows)}"
        )
    if any(window < 2 or window % 2 for window in windows):
        raise ValueError(
            "attention_window must be even and at least 2, half of it on each side, but "
            f"it is {attention_window}"
        )
    return windows


def _options(config: dict) -> dict:
    window = config["attention_window"]
    return roberta._options(config) | {"attention_window": window}


# Hugging Face's names and ours.
_LAYER_RULES = ENCODER_RULES | {
    f"encoder.layer.*.attention.self.{theirs}_global.*": (
        f"layers.*.self_attention.{ours}_global.*"
    )
    for theirs, ours in (("query", "W_q"), ("key", "W_k"), ("value", "W_v"))
}
_RULES = _LAYER_RULES | {
    f"longformer.{name}": ours for name, ours in _LAYER_RULES.items()
}
_HEAD_RULES = roberta._HEAD_RULES | {
    f"longformer.{name}": f"encoder.{ours}" for name, ours in _LAYER_RULES.items()
}
_IGNORED = ("longformer.embeddings.position_ids",)
_HEAD_IGNORED = (*_IGNORED, "lm_head.decoder.*")
_SUPPORTED = SUPPORTED | {"model_type": ("longformer",), "onnx_export": (False,)}
