"""A small convolutional network, for Vision Transformers to be measured against.

Source: the plan of Simonyan and Zisserman (2015), "Very Deep Convolutional Networks for
Large-Scale Image Recognition", section 2.1, with the batch norm of Ioffe and Szegedy
(2015) and the global average pooling of Lin et al. (2014), section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


class ConvNet(nn.Module):
    """Stages of two 3 x 3 convolutions, each stage at half the resolution of the one before.

    Args:
        in_channels: of the images.
        num_classes: logits of the head.
        widths: channels of each stage.

    Raises:
        ValueError: there is no stage.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 10,
        widths: Sequence[int] = (22, 44, 88),
    ) -> None:
        super().__init__()
        if len(widths) < 1:
            raise ValueError("widths must name at least one stage, but it is empty")
        self.stages = nn.ModuleList(
            nn.Sequential(*_convolve(before, width), *_convolve(width, width))
            for before, width in zip((in_channels, *widths), widths, strict=False)
        )
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits of the classes."""
        return self.head(self.features(images))

    def features(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch width"]:
        """One vector an image: the mean over all places of the last stage."""
        x = images
        for number, stage in enumerate(self.stages):
            x = stage(F.max_pool2d(x, 2) if number else x)
        return x.mean(dim=(2, 3))  # (B, C, H, W) -> (B, C)

    def loss(
        self,
        images: Float[Tensor, "batch channels height width"],
        labels: Int[Tensor, "batch"],
    ) -> Float[Tensor, ""]:
        """The mean cross-entropy; a label of -100 is not counted."""
        return F.cross_entropy(self(images), labels)


def _convolve(before: int, after: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(after), nn.ReLU()
