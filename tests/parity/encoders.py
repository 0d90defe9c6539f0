"""What the parity tests of BERT, RoBERTa and ALBERT have in common."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from companion import BERTForPreTraining, padding_mask
from companion.models.hf import load_hf


def randomized(model: nn.Module) -> nn.Module:
    """``model`` with no parameter left at zero or one, so that none can be mixed up."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    return model.eval()


def inputs(model: nn.Module, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids padded to different lengths, their padding mask, token types."""
    config = model.config
    pad = config.pad_token_id
    token_ids = torch.randint(pad + 1, config.vocab_size, (3, length))
    token_ids[1, length // 2 :] = pad
    token_ids[2, 1:] = pad
    token_types = torch.randint(0, config.type_vocab_size, token_ids.shape)
    return token_ids, padding_mask(token_ids, pad), token_types


def difference(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).detach().abs().max())


def largest(differences: Iterable[float]) -> float:
    """Their maximum, which is NaN where one is NaN (Python's max would lose it)."""
    return float(torch.tensor(list(differences)).max())


def compare_states(ours: list[Tensor], theirs: list[Tensor], bound: float) -> float:
    """The largest difference of all hidden states. Fails at the first layer that is off."""
    assert len(ours) == len(theirs)
    differences = [difference(a, b) for a, b in zip(ours, theirs, strict=True)]
    for layer, off in enumerate(differences):
        if not off < bound:
            name = f"layer {layer}" if layer else "the embedding"
            pytest.fail(
                f"{name} is the first to differ: by {off:.2e}, bound {bound:.0e}"
            )
    return largest(differences)


def encoder_differs(
    ours: nn.Module, theirs: nn.Module, length: int, *, typed: bool, masked: bool
) -> float:
    """By how much all hidden states and the pooler differ."""
    token_ids, mask, token_types = inputs(theirs, length)
    mask = mask if masked else None
    token_types = token_types if typed else None
    output = theirs(
        token_ids,
        attention_mask=mask[:, 0, 0].long() if masked else None,
        token_type_ids=token_types,
        output_hidden_states=True,
    )
    states = ours.hidden_states(token_ids, mask, token_types)
    assert torch.equal(ours(token_ids, mask, token_types), states[-1])
    worst = compare_states(states, output.hidden_states, 1e-5)
    pooled = difference(ours.pooled(token_ids, mask, token_types), output.pooler_output)
    return largest([worst, pooled])


def _labels(token_ids: Tensor, mask: Tensor) -> Tensor:
    """Some of the real tokens, and one at least."""
    asked = (torch.rand(token_ids.shape) < 0.4) & mask[:, 0, 0]
    asked[0, 0] = True
    return torch.where(asked, token_ids, -100)


def _heads(
    ours: BERTForPreTraining, theirs: nn.Module, length: int, pair_labels: str | None
) -> tuple[Any, Tensor, list[float]]:
    """Their output, our loss, and by how much logits and loss differ."""
    token_ids, mask, token_types = inputs(theirs, length)
    labels, is_next, more = _labels(token_ids, mask), None, {}
    if pair_labels is not None:
        is_next = torch.tensor([True, False, False])
        more = {pair_labels: (~is_next).long()}
    output = theirs(
        token_ids,
        attention_mask=mask[:, 0, 0].long(),
        token_type_ids=token_types,
        labels=labels,
        **more,
    )
    paired = pair_labels is not None
    theirs_logits = output.prediction_logits if paired else output.logits
    loss = ours.loss(token_ids, labels, is_next, mask, token_types)
    differences = [
        difference(ours(token_ids, mask, token_types), theirs_logits),
        difference(loss, output.loss),
    ]
    if paired:
        pair_logits = output[2]  # after the loss and the logits of tokens
        ours_pair = ours.next_sentence_logits(token_ids, mask, token_types)
        differences.append(difference(ours_pair, pair_logits))
    return output, loss, differences


@torch.no_grad()
def heads_differ(
    ours: BERTForPreTraining, theirs: nn.Module, length: int, pair_labels: str | None
) -> float:
    """By how much the logits of both heads and the loss differ."""
    return largest(_heads(ours, theirs, length, pair_labels)[2])


def gradients_differ(
    ours: BERTForPreTraining,
    theirs: nn.Module,
    length: int,
    pair_labels: str | None,
    rules: dict[str, str],
) -> float:
    """By how much the gradients of the loss differ, over every parameter, in 64 bits."""
    ours, theirs = ours.double(), theirs.double()
    output, loss, _ = _heads(ours, theirs, length, pair_labels)
    output.loss.backward()
    loss.backward()
    # Their gradients under our names: as if they were the weights of our model.
    expected = copy.deepcopy(ours)
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    load_hf(expected, gradients, rules)
    assert max(p.grad.abs().max() for p in ours.parameters()) > 1e-3
    return largest(
        difference(p.grad, want)
        for p, want in zip(ours.parameters(), expected.parameters(), strict=True)
    )
