"""Filling holes in an image without learning how: the baselines of a masked autoencoder."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor


def interpolate_hidden(
    images: Float[Tensor, "batch channels height width"],
    hidden: Bool[Tensor, "batch height width"],
    method: str = "linear",
) -> Float[Tensor, "batch channels height width"]:
    """Fill hidden pixels in from the visible ones around them.

    Args:
        images: what stands in hidden pixels does not matter.
        hidden: which pixels are hidden; some must be visible in each image.
        method: ``"nearest"`` copies the nearest visible pixel. ``"linear"`` and
            ``"cubic"`` lay a surface of triangles through the visible pixels, as
            scipy's ``griddata`` does; outside of them, the nearest is copied.

    Raises:
        ValueError: an unknown method, or an image without visible pixels.
    """
    from scipy.interpolate import griddata

    if method not in ("nearest", "linear", "cubic"):
        raise ValueError(
            f"method must be 'nearest', 'linear' or 'cubic', but it is {method!r}"
        )
    if hidden.flatten(1).all(dim=1).any():
        raise ValueError("hidden must leave some pixels of each image visible")
    filled = images.cpu().numpy().copy()
    for picture, gone in zip(filled, hidden.cpu().numpy(), strict=True):
        if not gone.any():
            continue
        known, asked = np.argwhere(~gone), np.argwhere(gone)
        values = picture[:, ~gone].T  # (visible, channels)
        guess = griddata(known, values, asked, method=method)
        outside = np.isnan(guess).any(axis=1)
        if outside.any():
            guess[outside] = griddata(known, values, asked[outside], method="nearest")
        picture[:, gone] = guess.T
    return torch.from_numpy(filled).to(images)


def most_similar(
    images: Float[Tensor, "batch channels height width"],
    hidden: Bool[Tensor, "batch height width"],
    known: Float[Tensor, "known channels height width"],
    k: int = 10,
) -> Float[Tensor, "batch channels height width"]:
    """Fill hidden pixels in with the mean of the ``k`` images that are most alike elsewhere.

    Args:
        images, hidden: as for `interpolate_hidden`.
        known: images to look among, such as those that a model was trained on.
        k: how many are averaged.

    Raises:
        ValueError: ``k`` is not from 1 to the number of known images.
    """
    if not 1 <= k <= len(known):
        raise ValueError(
            f"k must be from 1 to the {len(known)} known images, but it is {k}"
        )
    visible = (~hidden)[:, None].expand_as(images).flatten(1).to(images.dtype)
    seen, all_known = images.flatten(1) * visible, known.flatten(1)
    # |v (x - y)|^2 = |v x|^2 - 2 (v x) y + v y^2: no triple of image, known and pixel.
    distance = visible @ all_known.square().T - 2 * seen @ all_known.T
    nearest = distance.topk(k, dim=1, largest=False).indices  # (B, k)
    guess = torch.stack([known[row].mean(dim=0) for row in nearest])
    return torch.where(hidden[:, None], guess, images)
