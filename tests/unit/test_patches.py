"""Patches: cut, put back, embedded, and their positions, against references written out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from companion import PatchEmbedding, PatchPositions, patchify, unpatchify
from companion.layers.patches import grid_of


def test_patchify_is_the_loop_over_squares() -> None:
    images = torch.randn(2, 3, 6, 8)
    expected = [
        [
            image[:, r : r + 2, c : c + 2].permute(1, 2, 0).flatten()
            for r in range(0, 6, 2)
            for c in range(0, 8, 2)
        ]
        for image in images
    ]
    expected = torch.stack([torch.stack(rows) for rows in expected])
    assert torch.equal(patchify(images, 2), expected)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_unpatchify_is_the_inverse(size: int) -> None:
    images = torch.randn(2, 3, 8, 12)
    grid = grid_of(images, size)
    assert grid == (8 // size, 12 // size)
    assert torch.equal(unpatchify(patchify(images, size), grid, 3), images)


@pytest.mark.parametrize("bias", [True, False])
def test_embedding_is_a_matrix_on_patches(bias: bool) -> None:
    embed = PatchEmbedding(4, 3, 10, bias=bias).double()
    images = torch.randn(2, 3, 8, 12).double()
    E = embed.projection.weight.permute(2, 3, 1, 0).reshape(48, 10)
    expected = patchify(images, 4) @ E + (embed.projection.bias if bias else 0)
    torch.testing.assert_close(embed(images), expected, rtol=0, atol=1e-12)


def test_positions_are_added_and_resized_as_a_picture() -> None:
    positions = PatchPositions((2, 3), 5, num_prefix=2)
    x = torch.randn(2, 8, 5)
    assert torch.equal(positions(x), x + positions.table)
    assert torch.equal(positions(x, (2, 3)), positions(x))
    new = positions.resized((4, 4))
    assert torch.equal(new[:2], positions.table[:2])
    for feature in range(5):
        picture = positions.table[2:, feature].reshape(1, 1, 2, 3)
        expected = F.interpolate(picture, (4, 4), mode="bicubic").flatten()
        torch.testing.assert_close(new[2:, feature], expected)
    grown = positions(torch.zeros(1, 18, 5), (4, 4))
    assert torch.equal(grown[0], new)


def test_gradient_reaches_the_table_through_resizing() -> None:
    positions = PatchPositions((2, 2), 3)
    positions.resized((5, 5)).square().sum().backward()
    assert (positions.table.grad.abs().sum(dim=1) > 0).all()


def test_what_does_not_fit_is_refused() -> None:
    images = torch.randn(2, 3, 8, 12)
    with pytest.raises(ValueError, match="5 and they are 8 by 12 pixels"):
        patchify(images, 5)
    with pytest.raises(ValueError, match=r"\(batch, channels, height, width\)"):
        patchify(images[0], 4)
    with pytest.raises(ValueError, match=r"shape \(2, 6, 48\)"):
        unpatchify(patchify(images, 4), (2, 4), 3)
    with pytest.raises(ValueError, match="side"):
        unpatchify(patchify(images, 4), (2, 3), 1 + 3)
    embed = PatchEmbedding(4, 3, 10)
    with pytest.raises(ValueError, match="in_channels = 3"):
        embed(images[:, :1])
    with pytest.raises(TypeError, match="divided by 255"):
        embed((images * 255).to(torch.uint8))
