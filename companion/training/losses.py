"""The loss of a translation model: cross-entropy with label smoothing.

Sources: Vaswani et al. (2017), section 5.4; Szegedy et al. (2016), "Rethinking the
Inception Architecture for Computer Vision", section 7, for label smoothing.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from companion.layers import padding_mask


def label_smoothed_cross_entropy(
    logits: Float[Tensor, "*batch vocab"],
    target_ids: Int[Tensor, "*batch"],
    smoothing: float = 0.1,
    *,
    pad_id: int = 0,
    reduction: Literal["none", "sum", "mean"] = "mean",
) -> Float[Tensor, "..."]:
    """Cross-entropy with a target that gives a part of its probability to every token.

    The target distribution over the ``K`` tokens of the vocabulary is

        q(k) = (1 - smoothing) * [k == target] + smoothing / K

    so that the loss of a token is ``-sum_k q(k) log p(k)``, in nats. Positions where
    the target is ``pad_id`` count for nothing. Equal to ``F.cross_entropy`` with
    ``label_smoothing=smoothing, ignore_index=pad_id``, except that a batch of padding
    alone has the loss 0, not NaN.

    Args:
        logits: one score a token of the vocabulary.
        target_ids: the token that is right.
        smoothing: the probability that is spread evenly, in [0, 1).
        pad_id: the target that is not counted; it may lie outside the vocabulary.
        reduction: ``"none"`` gives one loss a position, zero at padding; ``"sum"``
            their sum; ``"mean"`` their sum over the number of real tokens.

    Raises:
        ValueError: shapes that do not fit, or an option out of range.
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing must be in [0, 1), but it is {smoothing}")
    if logits.shape[:-1] != target_ids.shape:
        raise ValueError(
            f"target_ids must have the shape of logits without its last axis, "
            f"{tuple(logits.shape[:-1])}, but it has shape {tuple(target_ids.shape)}"
        )
    if reduction not in ("none", "sum", "mean"):
        raise ValueError(
            f"reduction must be 'none', 'sum' or 'mean', but it is {reduction!r}"
        )
    real = target_ids != pad_id
    # In half precision a sum over a whole vocabulary would lose what is learned from.
    dtype = torch.promote_types(logits.dtype, torch.float32)
    log_p = logits.log_softmax(dim=-1, dtype=dtype)  # (..., K)
    # A pad_id outside the vocabulary would be no index, so padding looks up token 0.
    target = target_ids.masked_fill(~real, 0)[..., None]  # (..., 1)
    nll = -log_p.gather(-1, target)[..., 0]  # -log p(target)
    uniform = -log_p.mean(dim=-1)  # -sum_k (1 / K) log p(k)
    losses = ((1 - smoothing) * nll + smoothing * uniform).masked_fill(~real, 0.0)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    return losses.sum() / real.sum().clamp(min=1)


def translation_loss(
    model: nn.Module,
    batch: tuple[Int[Tensor, "batch source"], Int[Tensor, "batch target"]],
    *,
    smoothing: float = 0.0,
    pad_id: int = 0,
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """The loss of a sequence-to-sequence model under teacher forcing.

    The model reads the target without its last token and is asked, at each position,
    for the token that comes next:

        target   <s>  the  cat  </s>
        reads    <s>  the  cat
        wants    the  cat  </s>

    Padding comes last in both sequences. The source's padding is masked. The target's
    needs no mask: under the causal mask a real token sees no later position.

    Args:
        model: called as ``model(source_ids, target_ids, source_mask=...)``, gives
            logits ``(batch, target, vocab)``.
        batch: source and target tokens; targets begin with a start token.
        smoothing: of `label_smoothed_cross_entropy`.
        pad_id: the token that fills up the sequences.

    Returns:
        The *sum* of the loss over the real target tokens, and their number. Sums, not
        means, can be added over batches of unequal size.
    """
    source_ids, target_ids = batch
    reads, wants = target_ids[:, :-1], target_ids[:, 1:]
    logits = model(source_ids, reads, source_mask=padding_mask(source_ids, pad_id))
    loss = label_smoothed_cross_entropy(
        logits, wants, smoothing, pad_id=pad_id, reduction="sum"
    )
    return loss, (wants != pad_id).sum()


def perplexity(loss: float | Tensor) -> float:
    """``exp(loss)`` of a mean cross-entropy per token, in nats; inf where it overflows.

    With label smoothing in the loss the number is not a perplexity: take the loss at
    ``smoothing=0``.
    """
    loss = loss.item() if isinstance(loss, torch.Tensor) else loss
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
