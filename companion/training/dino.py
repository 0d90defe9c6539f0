"""Self-distillation: the views, and the schedules of the teacher, for the training loop.

Source: Caron et al. (2021), "Emerging Properties in Self-Supervised Vision Transformers",
section 3.1 (multi-crop), section 3.2 (schedules), algorithm 1; its views of photographs
are those of Grill et al. (2020), "Bootstrap Your Own Latent", appendix B.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import AdamW

from companion.models.dino import DINO
from companion.runtime import device
from companion.training.evaluation import Loss
from companion.training.loop import Row, Trainer
from companion.training.schedules import CosineWithWarmup

Images = Float[Tensor, "batch channels height width"]
Crop = Callable[[Images], Images]


class MultiCrop:
    """Views of images: two that show most of them, and some small ones that show a part.

    Args:
        first, second: draw the two global views of a batch of images.
        local: draws a local view.
        num_local: how many local views there are.
    """

    def __init__(self, first: Crop, second: Crop, local: Crop, num_local: int) -> None:
        self.crops = [first, second] + [local] * num_local

    def __call__(self, images: Images) -> list[Images]:
        """The views, the two global ones first. Each image is cut at a place of its own."""
        return [crop(images) for crop in self.crops]


def digit_crops(
    size: int = 28,
    local_size: int = 14,
    num_local: int = 2,
    *,
    global_scale: tuple[float, float] = (0.6, 1.0),
    local_scale: tuple[float, float] = (0.2, 0.5),
    degrees: float = 15.0,
) -> MultiCrop:
    """Views of handwriting: turned, slanted, cut, blurred, with thicker or thinner ink.

    Never mirrored: a mirrored 2 is no 2. What views have in common is what the features
    will know, and what they differ in is what the features will forget.

    Args:
        size, local_size: sides of the views in pixels.
        num_local: how many local views there are.
        global_scale, local_scale: the least and the greatest share of the area in a view.
        degrees: by how much an image is turned and slanted at most.
    """
    import kornia.augmentation as K

    def crop(side: int, scale: tuple[float, float]) -> Crop:
        return K.AugmentationSequential(
            K.RandomAffine(degrees, shear=degrees, p=1.0),
            K.RandomResizedCrop((side, side), scale=scale, ratio=(0.8, 1.25)),
            K.RandomGaussianBlur((3, 3), (0.1, 1.0), p=0.5),
            K.RandomGamma((0.2, 2.5), (0.6, 1.2), p=1.0),
        )

    whole = crop(size, global_scale)
    return MultiCrop(whole, whole, crop(local_size, local_scale), num_local)


def photo_crops(
    size: int = 224,
    local_size: int = 96,
    num_local: int = 8,
    *,
    global_scale: tuple[float, float] = (0.4, 1.0),
    local_scale: tuple[float, float] = (0.05, 0.4),
) -> MultiCrop:
    """Views of photographs in color, as in the paper: mirrored, recolored, blurred, solarized.

    Args:
        size, local_size: sides of the views in pixels.
        num_local: how many local views there are.
        global_scale, local_scale: the least and the greatest share of the area in a view.
    """
    import kornia.augmentation as K

    def crop(
        side: int, scale: tuple[float, float], blur: float, solarize: float
    ) -> Crop:
        kernel = max(3, side // 10 | 1)  # odd
        return K.AugmentationSequential(
            K.RandomResizedCrop((side, side), scale=scale),
            K.RandomHorizontalFlip(p=0.5),
            K.ColorJitter(0.4, 0.4, 0.2, 0.1, p=0.8),
            K.RandomGrayscale(p=0.2),
            K.RandomGaussianBlur((kernel, kernel), (0.1, 2.0), p=blur),
            K.RandomSolarize(thresholds=(0.5, 0.5), additions=0.0, p=solarize),
        )

    return MultiCrop(
        crop(size, global_scale, 1.0, 0.0),
        crop(size, global_scale, 0.1, 0.2),
        crop(local_size, local_scale, 0.5, 0.0),
        num_local,
    )


class ViewBatches:
    """Batches for the loop: views of images that are drawn anew in each epoch.

    Args:
        images: from 0 to 1, ``(images, channels, height, width)``. No labels.
        batch_size: images in a batch; what is left at the end of an epoch is left out.
        crops: makes the list of views of a batch, such as `MultiCrop`.

    Raises:
        ValueError: there are fewer images than ``batch_size``, or it is below 1.
    """

    def __init__(
        self, images: Images, batch_size: int, crops: Callable[[Images], list[Images]]
    ) -> None:
        if not 1 <= batch_size <= len(images):
            raise ValueError(
                f"batch_size must be from 1 to the {len(images)} images, but it is "
                f"{batch_size}"
            )
        self.images = images
        self.batch_size = batch_size
        self.crops = crops

    def __len__(self) -> int:
        return len(self.images) // self.batch_size

    def __iter__(self) -> Iterator[list[Images]]:
        order = torch.randperm(len(self.images)).split(self.batch_size)
        for part in order[: len(self)]:
            yield self.crops(self.images[part])


def momentum_at(step: int, total_steps: int, start: float = 0.996) -> float:
    """The teacher's momentum at an update: from ``start`` to 1, along half a cosine."""
    progress = min(1.0, step / total_steps)
    return 1 - (1 - start) * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(kw_only=True, eq=False)
class DINOTrainer(Trainer):
    """A `Trainer` that also moves the teacher after each update of the student.

    The history's rows have two more numbers, both in nats: ``entropy``, the mean of the
    teacher's outputs, and ``kl``, from the student's to them. Their sum is the loss.

    Args:
        total_steps: at which the schedules end.
        momentum: of the teacher at the start; it rises to 1.
        teacher_temperature: of the teacher's softmax.
        warmup_temperature: the same at the start; by default the same.
        temperature_steps: updates until ``teacher_temperature`` is reached, on a line.
        frozen_steps: updates in which the head's last layer is not trained, which the
            paper found to help at the start (appendix C).
    """

    loss: Loss = field(init=False)
    total_steps: int
    momentum: float = 0.996
    teacher_temperature: float = 0.04
    warmup_temperature: float | None = None
    temperature_steps: int = 0
    frozen_steps: int = 0

    def __post_init__(self) -> None:
        self.loss = self._sum_over_images
        super().__post_init__()

    def temperature_at(self, step: int) -> float:
        """The teacher's temperature after ``step`` updates."""
        if self.warmup_temperature is None or step >= self.temperature_steps:
            return self.teacher_temperature
        done = step / self.temperature_steps
        rise = self.teacher_temperature - self.warmup_temperature
        return self.warmup_temperature + done * rise

    def _sum_over_images(self, model: DINO, views: list[Images]) -> tuple[Tensor, int]:
        loss = model.loss(views, self.temperature_at(self.step))
        return loss * len(views[0]), len(views[0])

    def _update(self, group: list[Any]) -> Row | None:
        directions = self.model.student_head.directions.weight
        directions.requires_grad_(self.step >= self.frozen_steps)
        row = super()._update(group)
        if row is not None:
            momentum = momentum_at(self.step, self.total_steps, self.momentum)
            self.model.update_teacher(momentum)
            row["entropy"] = self.model.teacher_entropy.item()
            row["kl"] = row["loss"] - row["entropy"]
        return row


def dino_trainer(
    model: DINO,
    images: Images,
    crops: Callable[[Images], list[Images]],
    num_steps: int,
    *,
    batch_size: int = 128,
    lr: float = 1e-3,
    warmup_steps: int = 0,
    weight_decay: float = 0.04,
    max_grad_norm: float | None = 3.0,
    **options: Any,
) -> DINOTrainer:
    """The paper's recipe for a model and some images: AdamW, warm-up, a cosine.

    Weights of matrices decay, biases, gains and tokens do not. (The paper lets the decay
    rise from 0.04 to 0.4 over hundreds of epochs; here it stays.)

    Args:
        model: moved to `companion.device()`.
        images: from 0 to 1, without labels.
        crops: makes the views of a batch.
        num_steps: updates, at which all schedules end.
        batch_size: images in a batch.
        lr: at its peak.
        warmup_steps: updates until the peak.
        weight_decay: of AdamW.
        max_grad_norm: the norm at which gradients are clipped.
        options: of `DINOTrainer` and `Trainer`.

    Returns:
        A trainer; ``trainer.run(num_steps=num_steps)`` trains.

    Raises:
        ValueError: an option is out of range.
    """
    model = model.to(device())
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = AdamW(
        [
            {"params": [p for p in trained if p.ndim > 1]},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=lr,
        weight_decay=weight_decay,
    )
    return DINOTrainer(
        model=model,
        optimizer=optimizer,
        batches=ViewBatches(images, batch_size, crops),
        scheduler=CosineWithWarmup(optimizer, warmup_steps, num_steps, 0.01),
        max_grad_norm=max_grad_norm,
        total_steps=num_steps,
        **options,
    )
