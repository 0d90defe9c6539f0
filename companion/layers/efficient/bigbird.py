"""Block-sparse attention: a window, global blocks and random blocks, as BigBird does.

Source: Zaheer et al. (2020), "Big Bird: Transformers for Longer Sequences", section 2
and appendix D.
"""

from __future__ import annotations

import random
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from companion.layers.attention import fused_attention
from companion.layers.efficient.common import (
    EfficientAttention,
    check_at_least,
    check_heads,
    fit_mask,
    fold_heads,
    pad_end,
)


def bigbird_random_blocks(
    num_blocks: int, num_heads: int, num_random: int, seed: int = 0
) -> Int[Tensor, "heads blocks random"]:
    """For each head and block of queries, the blocks of keys that it sees by chance.

    Drawn without repetition from those that it does not see anyway. The first and the
    last block see everything, so that what stands in their rows is not used.

    Raises:
        ValueError: a block has fewer than ``num_random`` others to choose from.
    """
    # On the CPU: the draw must not depend on the device, and is a plain list.
    return torch.tensor(
        _draw(num_blocks, num_heads, num_random, seed), dtype=torch.long, device="cpu"
    ).view(num_heads, num_blocks, num_random)


def bigbird_mask(
    length: int, block_size: int, random_blocks: Int[Tensor, "heads blocks random"]
) -> Bool[Tensor, "1 heads length length"]:
    """The mask under which full attention is `bigbird_attention`."""
    blocks, counted = _seen_blocks(random_blocks)
    heads, num_blocks, _ = random_blocks.shape
    seen = torch.zeros(heads, num_blocks, num_blocks, dtype=torch.bool)
    seen = seen.to(blocks.device)
    # Blocks that don't count are written first, so that they can't erase one that does.
    for value in (False, True):
        head, row, slot = (counted == value).nonzero(as_tuple=True)
        seen[head, row, blocks[head, row, slot]] = value
    seen[:, 0] = seen[:, -1] = True
    seen = seen.repeat_interleave(block_size, 1).repeat_interleave(block_size, 2)
    return seen[None, :, :length, :length]


def bigbird_attention(
    query: Float[Tensor, "batch heads length d_k"],
    key: Float[Tensor, "batch heads length d_k"],
    value: Float[Tensor, "batch heads length d_v"],
    block_size: int,
    num_random: int = 3,
    mask: Bool[Tensor, "..."] | None = None,
    *,
    seed: int = 0,
    random_blocks: Int[Tensor, "heads blocks random"] | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "batch heads length d_v"]:
    """Each block attends to itself, its two neighbors, the first, the last and some random blocks.

    The first and the last block are global: they attend to all positions as well. Time
    and memory grow as ``length * block_size * (5 + num_random)``. Bidirectional only.

    Args:
        query, key, value: ``(batch, heads, length, d)``; the length need not be a
            multiple of ``block_size``.
        block_size: positions in a block.
        num_random: random blocks of keys that each block of queries sees.
        mask: boolean, True = may attend, broadcasts to ``(batch, heads, length,
            length)``.
        seed: of `bigbird_random_blocks`, which draws the random blocks.
        random_blocks: the random blocks themselves, in place of ``num_random`` and
            ``seed``. A block that is listed twice, or is seen anyway, counts twice in
            the softmax.
        scale: what the scores are multiplied by; ``1 / sqrt(d_k)`` by default.
        dropout: the probability with which a weight is dropped.

    Raises:
        TypeError, ValueError: shapes or sizes that don't fit, or a mask that breaks the
            mask rule.
    """
    check_heads(query, key, value)
    check_at_least("block_size", block_size, 1)
    batch, heads, length, _ = query.shape
    num_blocks = -(-length // block_size)
    mask = fit_mask(mask, query, key)
    if num_blocks <= 2:  # both are global
        return fused_attention(query, key, value, mask, scale=scale, dropout=dropout)
    if random_blocks is None:
        random_blocks = bigbird_random_blocks(num_blocks, heads, num_random, seed)
    elif random_blocks.shape[:2] != (heads, num_blocks):
        raise ValueError(
            f"random_blocks must have shape (heads, blocks, random), with {heads} heads "
            f"and {num_blocks} blocks, but it has shape {tuple(random_blocks.shape)}"
        )
    blocks, counted = _seen_blocks(random_blocks.to(query.device))  # (H, N, S) each
    head = torch.arange(heads, device=query.device)[:, None, None]

    def in_blocks(x: Tensor) -> Tensor:
        return pad_end(x, block_size, 2).unflatten(2, (num_blocks, block_size))

    Q = in_blocks(query)  # (B, H, N, C, d_k)
    K = in_blocks(key)[:, head, blocks].flatten(3, 4)  # (B, H, N, S * C, d_k)
    V = in_blocks(value)[:, head, blocks].flatten(3, 4)
    position = torch.arange(num_blocks * block_size, device=query.device)
    exists = (position < length).unflatten(0, (num_blocks, block_size))  # (N, C)
    seen = (exists[blocks] & counted[..., None]).flatten(-2)[None, :, :, None, :]
    if mask is not None:
        seen = seen & _mask_blocks(mask, blocks, block_size)
    middle = fused_attention(
        *(x.flatten(0, 1) for x in (Q, K, V)),  # (B * H, N, C or S * C, d)
        fold_heads(seen, batch, heads),
        scale=scale,
        dropout=dropout,
    )
    middle = middle.unflatten(0, (batch, heads)).flatten(2, 3)  # (B, H, N * C, d_v)

    last = (num_blocks - 1) * block_size
    ends = torch.cat([query[:, :, :block_size], query[:, :, last:]], dim=2)
    if mask is not None and mask.shape[2] > 1:
        mask = torch.cat([mask[:, :, :block_size], mask[:, :, last:]], dim=2)
    ends = fused_attention(ends, key, value, mask, scale=scale, dropout=dropout)
    first, end = ends[:, :, :block_size], ends[:, :, block_size:]
    return torch.cat([first, middle[:, :, block_size:last], end], dim=2)


class BigBirdAttention(EfficientAttention):
    """Multi-head `bigbird_attention`; takes any mask, is not causal.

    A sequence of at most ``5 + 2 * num_random`` blocks has no room for chance: it
    attends fully, as in the authors' code.

    Args:
        d_model, num_heads, d_k, dropout, bias: as for `MultiHeadAttention`.
        block_size: positions in a block.
        num_random: random blocks of keys that each block of queries sees.
        seed: of the random blocks; give each layer another.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        block_size: int = 64,
        num_random: int = 3,
        *,
        seed: int = 0,
        d_k: int | None = None,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__(d_model, num_heads, d_k=d_k, dropout=dropout, bias=bias)
        check_at_least("block_size", block_size, 1)
        check_at_least("num_random", num_random, 0)
        self.block_size = block_size
        self.num_random = num_random
        self.seed = seed

    def random_blocks(self, num_blocks: int) -> Int[Tensor, "heads blocks random"]:
        """The plan for a sequence of so many blocks."""
        return bigbird_random_blocks(
            num_blocks, self.num_heads, self.num_random, self.seed
        )

    def attend(self, query, key, value, mask=None, *, is_causal=False) -> Tensor:
        if is_causal:
            raise ValueError(
                "is_causal must be False: BigBird's global and random blocks look ahead"
            )
        num_blocks = -(-query.shape[2] // self.block_size)
        if num_blocks <= 5 + 2 * self.num_random:
            mask = fit_mask(mask, query, key)
            return fused_attention(query, key, value, mask, dropout=self.dropout_now)
        return bigbird_attention(
            query,
            key,
            value,
            self.block_size,
            mask=mask,
            random_blocks=self.random_blocks(num_blocks),
            dropout=self.dropout_now,
        )


@lru_cache(maxsize=64)
def _draw(
    num_blocks: int, num_heads: int, num_random: int, seed: int
) -> list[list[list[int]]]:
    # Python's own generator: the same numbers on every machine and version of PyTorch.
    draw = random.Random(seed)
    plan = []
    for _ in range(num_heads):
        plan.append([])
        for row in range(num_blocks):
            others = range(1, num_blocks - 1)
            chosen = []
            if 0 < row < num_blocks - 1:
                unseen = num_blocks - 2 - len({*others} & {row - 1, row, row + 1})
                if unseen < num_random:
                    raise ValueError(
                        f"num_random is {num_random}, but of {num_blocks} blocks, block "
                        f"{row} has only {unseen} left that it does not see already"
                    )
                # At most three of the sample are seen already.
                sample = draw.sample(others, min(num_random + 3, len(others)))
                chosen = [block for block in sample if abs(block - row) > 1]
            plan[-1].append((chosen + [0] * num_random)[:num_random])
    return plan


def _seen_blocks(random_blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Which blocks each block sees, (heads, blocks, 5 + random), and which of them count."""
    heads, num_blocks, _ = random_blocks.shape
    row = torch.arange(num_blocks, device=random_blocks.device)
    first, last = torch.zeros_like(row), torch.full_like(row, num_blocks - 1)
    # A neighbor that is the first or the last block, or none, counts once: as a global.
    near = torch.stack([row - 1, row, row + 1], dim=-1)
    inner = (near > 0) & (near < num_blocks - 1)
    ends = torch.ones_like(inner[:, :2])
    fixed = torch.cat([first[:, None], last[:, None], near], dim=-1)
    inner = torch.cat([ends, inner], dim=-1)
    counted = inner[None].expand(heads, -1, -1)
    blocks = fixed.clamp(0, num_blocks - 1)[None].expand(heads, -1, -1)
    everywhere = torch.ones_like(random_blocks, dtype=torch.bool)
    return (
        torch.cat([blocks, random_blocks], dim=-1),
        torch.cat([counted, everywhere], dim=-1),
    )


def _mask_blocks(
    mask: Tensor, blocks: Tensor, block_size: int
) -> Bool[Tensor, "batch heads blocks queries keys"]:
    """The part of a mask that the seen blocks cover; an axis of size 1 stays so."""
    heads, num_blocks, _ = blocks.shape
    by_query, by_key = mask.shape[2] > 1, mask.shape[3] > 1
    head = torch.arange(heads if mask.shape[1] > 1 else 1, device=mask.device)
    head, row = head[:, None, None], torch.arange(num_blocks, device=mask.device)
    if by_query:
        mask = pad_end(mask, block_size, 2).unflatten(2, (num_blocks, block_size))
    else:
        mask = mask[:, :, None]  # (b, h, N or 1, C or 1, keys)
    if not by_key:
        return mask
    mask = pad_end(mask, block_size, 4).unflatten(4, (num_blocks, block_size))
    row = row[None, :, None] if by_query else 0
    # The indexed axes come first: (H, N, S, b, C or 1, C)
    picked = mask[:, head, row, :, blocks]
    return picked.permute(3, 0, 1, 4, 2, 5).flatten(-2)
