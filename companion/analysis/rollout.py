"""From which patches does the answer come? Attention rolled out over the layers, and a test of it.

Sources: Abnar and Zuidema (2020), "Quantifying Attention Flow in Transformers", section
3, for the rollout; Zeiler and Fergus (2014), "Visualizing and Understanding
Convolutional Networks", section 4.2, for the test: cover a patch and see what happens.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from companion.layers.patches import grid_of, patchify, unpatchify


def attention_rollout(
    maps: Float[Tensor, "layers batch heads tokens tokens"], *, residual: float = 0.5
) -> Float[Tensor, "batch tokens tokens"]:
    """How much of each input token is in each output token, if attention were all there is.

    Each layer mixes tokens by the mean of its heads, and keeps a part of what was there,
    for the residual connection (equation 1): A = (1 - residual) W + residual I. The
    layers' matrices are multiplied, the first one rightmost. Each row sums to 1.

    Args:
        maps: as ``record_attention``'s ``stack()`` gives them.
        residual: the part that is kept, from 0 to 1; the paper takes a half.

    Raises:
        ValueError: the maps have other axes, or ``residual`` is out of range.
    """
    if maps.ndim != 5 or maps.shape[3] != maps.shape[4]:
        raise ValueError(
            "maps must have shape (layers, batch, heads, tokens, tokens), but it has "
            f"shape {tuple(maps.shape)}"
        )
    if not 0.0 <= residual <= 1.0:
        raise ValueError(f"residual must be from 0 to 1, but it is {residual}")
    identity = torch.eye(maps.shape[-1], dtype=maps.dtype, device=maps.device)
    rollout = identity.expand(maps.shape[1], -1, -1)  # (B, T, T)
    for weights in maps.mean(dim=2):  # (B, T, T) for each layer
        rollout = ((1 - residual) * weights + residual * identity) @ rollout
    return rollout


@torch.no_grad()
def occlusion(
    model: nn.Module,
    images: Float[Tensor, "batch channels height width"],
    labels: Int[Tensor, "batch"],
    patch_size: int,
    fill: float,
) -> Float[Tensor, "batch patches"]:
    """By how much the logit of the label falls when a patch is covered, for each patch.

    Args:
        model: gives logits.
        images: as the model takes them.
        labels: the classes whose logits are looked at.
        patch_size: side of what is covered, in pixels.
        fill: the value that covers it, such as that of the background.
    """
    grid, channels = grid_of(images, patch_size), images.shape[1]
    patches = patchify(images, patch_size)
    before = model(images).gather(1, labels[:, None])[:, 0]
    falls = []
    for place in range(patches.shape[1]):
        covered = patches.clone()
        covered[:, place] = fill
        logits = model(unpatchify(covered, grid, channels))
        falls.append(before - logits.gather(1, labels[:, None])[:, 0])
    return torch.stack(falls, dim=1)


def rank_correlation(
    a: Float[Tensor, "batch patches"], b: Float[Tensor, "batch patches"]
) -> Float[Tensor, "batch"]:
    """Spearman's: how far two scores put the patches of an image in the same order.

    1 for the same order, -1 for the reverse, 0 for no relation. Equal scores share the
    mean of their ranks.
    """
    a, b = _ranks(a), _ranks(b)
    a, b = (x - x.mean(dim=1, keepdim=True) for x in (a, b))
    return (a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-12)


def _ranks(x: Tensor) -> Tensor:
    below = (x[:, None, :] < x[:, :, None]).sum(dim=2)
    equal = (x[:, None, :] == x[:, :, None]).sum(dim=2)
    return below + (equal - 1) / 2
