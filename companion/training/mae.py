"""How an MAE is trained: its recipe for the `Trainer`.

Source: He et al. (2022), appendix A.1 and its table 8. There the optimizer is AdamW.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader

from companion.models.mae import MAE
from companion.runtime import device
from companion.training.evaluation import Loss
from companion.training.loop import Row, Trainer
from companion.training.muon import MuonAndAdamW
from companion.training.schedules import CosineWithWarmup


def mae_loss(model: MAE, images: Tensor) -> tuple[Tensor, int]:
    """The sum of the loss over the hidden patches, drawn anew, and how many there are."""
    masking = model.draw_masking(images)
    hidden = masking.restore.numel() - masking.keep.numel()
    return model.loss(images, masking) * hidden, hidden


def train_mae(
    model: MAE,
    images: Float[Tensor, "images channels height width"],
    num_steps: int,
    *,
    loss: Loss = mae_loss,
    batch_size: int = 32,
    muon_lr: float = 0.02,
    adamw_lr: float = 3e-3,
    warmup: float = 0.1,
    weight_decay: float = 0.05,
    **options: Any,
) -> list[Row]:
    """Train without labels, and with another masking of an image each time it is seen.

    The paper trains for 800 epochs of ImageNet and more, in batches of 4,096, with AdamW
    (rate 2.4e-3, beta_2 0.95, weight decay 0.05), a warmup, a cosine down to 0, and images
    cropped at random. Here are no crops, and `MuonAndAdamW` takes the place of AdamW,
    since it makes more of the few hundred updates that one core has time for.

    Args:
        model: it is moved to `companion.device()` and left in evaluation mode.
        images: of a spread near 1, such as from -1 to 1.
        num_steps: number of updates.
        loss: `mae_loss`, or another of the same form.
        batch_size: images in a batch.
        muon_lr, adamw_lr: the highest learning rates, see `MuonAndAdamW`.
        warmup: the share of the updates until they are reached.
        weight_decay: of what is not Muon's.
        options: of `Trainer`.

    Returns:
        The history, a row for each update: see `Trainer`. What it calls tokens are
        hidden patches.

    Raises:
        TypeError, ValueError, TrainingError: as `Trainer` does.
    """
    model = model.to(device())
    optimizer = MuonAndAdamW(
        model, muon_lr, adamw_lr, betas=(0.9, 0.95), weight_decay=weight_decay
    )
    trainer = Trainer(
        model=model,
        optimizer=optimizer,
        batches=DataLoader(images, batch_size, shuffle=True),
        loss=loss,
        scheduler=CosineWithWarmup(
            optimizer, round(warmup * num_steps), num_steps, min_lr_ratio=0.0
        ),
        **options,
    )
    return trainer.run(num_steps=num_steps)
