"""BERT put to work: one linear layer on top, and everything is trained on.

Sources: Devlin et al. (2019), section 4 and figure 4, for the three heads; Reimers and
Gurevych (2019), "Sentence-BERT", section 3, for the mean over tokens in the place of
[CLS].
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from companion.models.bert import (
    BERT,
    ENCODER_RULES,
    SUPPORTED,
    bert_options,
    initialize,
)
from companion.models.hf import HFConfig, check_options, load_hf, read_hf


def mean_over_tokens(
    states: Float[Tensor, "batch length d_model"],
    mask: Bool[Tensor, "batch 1 1 length"] | None = None,
) -> Float[Tensor, "batch d_model"]:
    """The mean of the states of all tokens that are not padding.

    Args:
        states: of an encoder.
        mask: as ``padding_mask`` makes it, True where there is a token; None is no
            padding.

    Raises:
        ValueError: a mask of another shape.
    """
    if mask is None:
        return states.mean(dim=1)
    batch, length, _ = states.shape
    if tuple(mask.shape) != (batch, 1, 1, length):
        raise ValueError(
            f"mask must have shape {(batch, 1, 1, length)}, as padding_mask makes it, "
            f"but it has shape {tuple(mask.shape)}"
        )
    real = mask[:, 0, 0, :, None].to(states.dtype)  # (B, L, 1)
    return (states * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)


class _Task(nn.Module):
    """An encoder, dropout, and one linear layer.

    Args:
        encoder: a `BERT`, or another model that is called the same way.
        num_outputs: of the linear layer.
        dropout: in training, before it.
    """

    _HF_NAME = "classifier"  # of the linear layer in Hugging Face's model
    _HF_POOLER = False

    def __init__(self, encoder: BERT, num_outputs: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(encoder.d_model, num_outputs)
        initialize(self.output)

    def hidden_states(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
        token_types: Int[Tensor, "batch length"] | None = None,
    ) -> list[Float[Tensor, "batch length d_model"]]:
        """Those of the encoder."""
        return self.encoder.hidden_states(token_ids, mask, token_types)

    @classmethod
    def from_hf(cls, path_or_model: str | Path | nn.Module) -> _Task:
        """A model with the weights of Hugging Face's of the same name, in evaluation mode.

        Args:
            path_or_model: the ``transformers`` model, or a local folder with such a
                checkpoint.

        Raises:
            TypeError, ValueError: as for `BERT.from_hf`.
        """
        config, weights = read_hf(path_or_model)
        check_options(config, SUPPORTED, cls.__name__)
        encoder = BERT(**bert_options(config), pooler=cls._HF_POOLER)
        head = weights.get(f"{cls._HF_NAME}.weight")
        if head is None:
            raise ValueError(
                f"{cls.__name__} needs a checkpoint with {cls._HF_NAME}.weight; for the "
                "encoder alone there is BERT.from_hf"
            )
        model = cls(encoder, len(head), cls._hf_dropout(config))
        rules = {
            f"bert.{theirs}": f"encoder.{ours}"
            for theirs, ours in ENCODER_RULES.items()
        }
        rules[f"{cls._HF_NAME}.*"] = "output.*"
        load_hf(model, weights, rules, ("bert.embeddings.position_ids",))
        return model.eval()

    @staticmethod
    def _hf_dropout(config: HFConfig) -> float:
        dropout = config.get("classifier_dropout")
        return config["hidden_dropout_prob"] if dropout is None else dropout


class BERTForSequenceClassification(_Task):
    """One score a class for a text, or for a pair of texts (figure 4, a and b).

    Args:
        encoder: a `BERT`; it has a pooler if ``pooling`` is ``"pooler"``.
        num_classes: how many there are.
        dropout: in training, before the last layer.
        pooling: ``"pooler"``, as in the paper: tanh of a dense layer on [CLS]; or
            ``"mean"``, over the tokens, as models that embed sentences are trained.

    Raises:
        ValueError: an unknown pooling, or an encoder without the pooler that it needs.
    """

    _HF_POOLER = True

    def __init__(
        self,
        encoder: BERT,
        num_classes: int,
        dropout: float = 0.1,
        *,
        pooling: Literal["pooler", "mean"] = "pooler",
    ) -> None:
        if pooling not in ("pooler", "mean"):
            raise ValueError(
                f"pooling must be 'pooler' or 'mean', but it is {pooling!r}"
            )
        if pooling == "pooler" and encoder.pooler is None:
            raise ValueError(
                "pooling='pooler' needs an encoder that was made with pooler=True"
            )
        super().__init__(encoder, num_classes, dropout)
        self.pooling = pooling

    def forward(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
        token_types: Int[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch classes"]:
        """The logits. Takes what `BERT` takes; the mean wants a padding mask's shape."""
        states = self.encoder(token_ids, mask, token_types)
        mean = self.pooling == "mean"
        text = mean_over_tokens(states, mask) if mean else self.encoder.pool(states)
        return self.output(self.dropout(text))

    def loss(
        self,
        token_ids: Int[Tensor, "batch length"],
        labels: Int[Tensor, "batch"],
        mask: Bool[Tensor, "..."] | None = None,
        token_types: Int[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, ""]:
        """Mean cross-entropy of the classes ``labels``; -100 is left out."""
        return F.cross_entropy(self(token_ids, mask, token_types), labels)


class BERTForTokenClassification(_Task):
    """One score a class for each token (figure 4, d), such as "part of a name"."""

    def forward(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
        token_types: Int[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length classes"]:
        """The logits. Takes what `BERT` takes."""
        return self.output(self.dropout(self.encoder(token_ids, mask, token_types)))

    def loss(
        self,
        token_ids: Int[Tensor, "batch length"],
        labels: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
        token_types: Int[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, ""]:
        """Mean cross-entropy of the tokens; -100 where none is asked for."""
        logits = self(token_ids, mask, token_types)
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


class BERTForQuestionAnswering(_Task):
    """Where in a passage the answer starts and where it ends (section 4.2, figure 4, c).

    The text is the pair [CLS] question [SEP] passage [SEP].

    Args:
        encoder: a `BERT`.
        num_outputs: 2, a score for the start and one for the end.
        dropout: not in Hugging Face's model; 0 by default.
    """

    _HF_NAME = "qa_outputs"

    @staticmethod
    def _hf_dropout(config: HFConfig) -> float:
        return 0.0

    def __init__(
        self, encoder: BERT, num_outputs: int = 2, dropout: float = 0.0
    ) -> None:
        if num_outputs != 2:
            raise ValueError(
                f"num_outputs must be 2, start and end, but it is {num_outputs}"
            )
        super().__init__(encoder, num_outputs, dropout)

    def forward(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
        token_types: Int[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length 2"]:
        """Logits of "starts here" and of "ends here". Takes what `BERT` takes."""
        return self.output(self.dropout(self.encoder(token_ids, mask, token_types)))

    def loss(
        self,
        token_ids: Int[Tensor, "batch length"],
        spans: Int[Tensor, "batch 2"],
        mask: Bool[Tensor, "..."] | None = None,
        token_types: Int[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, ""]:
        """Mean cross-entropy of the first and of the last token of the answer."""
        logits = self(token_ids, mask, token_types)  # (B, L, 2)
        start, end = (F.cross_entropy(logits[..., i], spans[:, i]) for i in (0, 1))
        return (start + end) / 2


def best_spans(
    logits: Float[Tensor, "batch length 2"],
    allowed: Bool[Tensor, "batch length"],
    max_length: int = 16,
) -> Int[Tensor, "batch 2"]:
    """The span with the highest start + end score, its first and its last token.

    Args:
        logits: of `BERTForQuestionAnswering`.
        allowed: the tokens of the passage; a span has no others at its ends.
        max_length: tokens that a span may have.

    Raises:
        ValueError: ``max_length`` below 1, or a row in which no token is allowed.
    """
    if max_length < 1:
        raise ValueError(f"max_length must be at least 1, but it is {max_length}")
    if not allowed.any(dim=1).all():
        raise ValueError("allowed must allow a token in each row")
    length = logits.shape[1]
    start, end = logits.masked_fill(~allowed[..., None], -torch.inf).unbind(dim=-1)
    scores = start[:, :, None] + end[:, None, :]  # (B, starts, ends)
    fits = torch.ones(length, length, dtype=torch.bool, device=logits.device)
    fits = fits.triu() & ~fits.triu(max_length)  # 0 <= end - start < max_length
    flat = scores.masked_fill(~fits, -torch.inf).flatten(1).argmax(dim=1)
    return torch.stack([flat // length, flat % length], dim=1)
