"""Images as sequences: cut into patches, each patch a token, each token with its place.

Source: Dosovitskiy et al. (2021), "An Image is Worth 16x16 Words: Transformers for Image
Recognition at Scale", section 3.1, equation 1, and section 3.2 for other resolutions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def patchify(
    images: Float[Tensor, "batch channels height width"], patch_size: int
) -> Float[Tensor, "batch patches values"]:
    """Cut images into squares, row by row, and lay out each as one vector.

    The ``patch_size ** 2 * channels`` values of a patch are in the order of its pixels,
    row by row, all channels of a pixel side by side.

    Raises:
        ValueError: the images don't have four axes, or ``patch_size`` does not divide
            their height and width.
    """
    height, width = grid_of(images, patch_size)
    batch, channels = images.shape[:2]
    P = patch_size
    x = images.reshape(batch, channels, height, P, width, P)
    x = x.permute(0, 2, 4, 3, 5, 1)  # (B, H/P, W/P, P, P, C)
    return x.reshape(batch, height * width, P * P * channels)


def unpatchify(
    patches: Float[Tensor, "batch patches values"], grid: tuple[int, int], channels: int
) -> Float[Tensor, "batch channels height width"]:
    """Put the patches of `patchify` back in their places: its inverse.

    Args:
        patches: as `patchify` gives them.
        grid: how many patches there are from top to bottom and from left to right.
        channels: of the images.

    Raises:
        ValueError: the patches don't fill the grid, or are no squares of so many channels.
    """
    height, width = grid
    batch, count, values = patches.shape
    P = round((values / channels) ** 0.5)
    if count != height * width or values != P * P * channels:
        raise ValueError(
            f"patches must have shape (batch, {height} * {width}, side ** 2 * {channels}), "
            f"but it has shape {tuple(patches.shape)}"
        )
    x = patches.reshape(batch, height, width, P, P, channels)
    x = x.permute(0, 5, 1, 3, 2, 4)  # (B, C, H/P, P, W/P, P)
    return x.reshape(batch, channels, height * P, width * P)


def grid_of(images: Tensor, patch_size: int) -> tuple[int, int]:
    """How many patches there are from top to bottom and from left to right.

    Raises:
        ValueError: as `patchify`.
    """
    if images.ndim != 4:
        raise ValueError(
            "images must have shape (batch, channels, height, width), but it has shape "
            f"{tuple(images.shape)}"
        )
    height, width = images.shape[2:]
    if height < 1 or width < 1 or height % patch_size or width % patch_size:
        raise ValueError(
            f"patch_size must divide the height and the width of images, but it is "
            f"{patch_size} and they are {height} by {width} pixels"
        )
    return height // patch_size, width // patch_size


class PatchEmbedding(nn.Module):
    """Patches, each mapped by one matrix to a token (equation 1, the E in x_p E).

    To cut, to flatten and to multiply is what a convolution does whose stride is as long
    as its kernel, and that is how it is computed.

    Args:
        patch_size: side of a patch, in pixels.
        in_channels: of the images.
        d_model: width of a token.
        bias: whether a bias is added. CLIP has none.
    """

    def __init__(
        self, patch_size: int, in_channels: int, d_model: int, *, bias: bool = True
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.in_channels = in_channels
        self.projection = nn.Conv2d(
            in_channels, d_model, patch_size, stride=patch_size, bias=bias
        )

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch patches d_model"]:
        """The tokens, row by row.

        Raises:
            TypeError: the images are not floating-point numbers.
            ValueError: they have no four axes, other channels, or sides that
                ``patch_size`` does not divide.
        """
        grid_of(images, self.patch_size)
        if images.shape[1] != self.in_channels:
            raise ValueError(
                f"images must have in_channels = {self.in_channels} channels, but it has "
                f"shape {tuple(images.shape)}"
            )
        if not images.is_floating_point():
            raise TypeError(
                f"images must be floating-point numbers, but it is {images.dtype}; pixels "
                "from 0 to 255 are divided by 255 first"
            )
        return self.projection(images).flatten(2).transpose(1, 2)  # (B, N, D)


class PatchPositions(nn.Module):
    """x + E, with one learned vector for each place of a grid, and for each token before it.

    Where an image has another grid than the one of training, the vectors of the grid are
    resized to it as if they were pixels (section 3.2, "Fine-tuning and higher
    resolution"): by bicubic interpolation, as the authors and Hugging Face do.

    Args:
        grid: how many patches there are from top to bottom and from left to right.
        d_model: width of a token.
        num_prefix: how many tokens, such as [CLS], stand before the patches.
        antialias: whether a smaller grid gets averages of what lies between its places.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        d_model: int,
        num_prefix: int = 1,
        *,
        antialias: bool = False,
    ) -> None:
        super().__init__()
        self.antialias = antialias
        self.grid = tuple(grid)
        self.num_prefix = num_prefix
        rows, columns = grid
        self.table = nn.Parameter(torch.empty(num_prefix + rows * columns, d_model))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(
        self,
        x: Float[Tensor, "batch length d_model"],
        grid: tuple[int, int] | None = None,
    ) -> Float[Tensor, "batch length d_model"]:
        """Add the positions to the tokens of images whose patches form ``grid``."""
        return x + self.resized(self.grid if grid is None else grid)

    def resized(self, grid: tuple[int, int]) -> Float[Tensor, "length d_model"]:
        """The vectors for a grid: those learned, or resized ones."""
        if tuple(grid) == self.grid:
            return self.table
        prefix, patches = self.table[: self.num_prefix], self.table[self.num_prefix :]
        picture = patches.T.unflatten(1, self.grid)[None]  # (1, D, rows, columns)
        picture = F.interpolate(
            picture, tuple(grid), mode="bicubic", antialias=self.antialias
        )
        return torch.cat([prefix, picture[0].flatten(1).T])
