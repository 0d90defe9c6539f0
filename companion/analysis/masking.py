"""What a model that looks both ways learns from each way of hiding its input, on letters.

The smallest BERT that shows it: one layer, 28 tokens (the letters, the blank and a mask),
sixteen letters of Shakespeare at a time.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from companion.analysis.bottleneck import LETTERS, sample_snippets
from companion.models.bert import BERT, BERTForPreTraining
from companion.runtime import device, seed_everything
from companion.training.masked_language import NOT_ASKED, mask_tokens

MASK_ID = len(LETTERS)
LENGTH = 16

Hiding = Literal["nothing hidden", "all hidden", "80/10/10"]


def hide(
    ids: Int[Tensor, "batch length"], hiding: Hiding, generator: torch.Generator
) -> tuple[Int[Tensor, "batch length"], Int[Tensor, "batch length"]]:
    """What the model sees, and the letters that it must tell (-100 where none).

    ``"nothing hidden"`` asks for all letters and shows them; ``"all hidden"`` masks each
    of the 15 % that are asked for; ``"80/10/10"`` is `mask_tokens`.
    """
    if hiding == "nothing hidden":
        return ids, ids
    inputs, labels = mask_tokens(ids, MASK_ID, MASK_ID + 1, generator=generator)
    if hiding == "all hidden":
        inputs = ids.masked_fill(labels != NOT_ASKED, MASK_ID)
    return inputs, labels


def train_on_letters(
    ids: Int[Tensor, "characters"], hiding: Hiding, *, steps: int = 300, seed: int = 0
) -> BERTForPreTraining:
    """A model of one layer and width 64, trained on snippets of the text."""
    seed_everything(seed)
    encoder = BERT(MASK_ID + 1, 64, 4, 128, 1, LENGTH, 0.0)
    model = BERTForPreTraining(encoder, next_sentence=False)
    for parameter in model.parameters():
        if parameter.ndim > 1:  # BERT's own 0.02 is for widths of many hundreds
            nn.init.normal_(parameter, std=0.12)
    model = model.to(device())
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    for _ in tqdm(range(steps), leave=False):
        inputs, labels = hide(sample_snippets(ids, 64, LENGTH, draw), hiding, draw)
        loss = model.loss(inputs, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def letters_told(
    model: BERTForPreTraining, ids: Int[Tensor, "characters"]
) -> dict[str, float]:
    """The share of letters that are told right: of hidden ones, and of visible ones."""
    draw = torch.Generator().manual_seed(1)
    text = sample_snippets(ids, 500, LENGTH, draw)
    inputs, labels = hide(text, "all hidden", draw)
    right = model(inputs).argmax(dim=-1) == text
    asked = labels != NOT_ASKED
    return {
        "hidden": right[asked].float().mean().item(),
        "visible": right[~asked].float().mean().item(),
    }
