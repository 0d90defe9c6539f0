"""Window, block-sparse, chunked and tiled attention, each equal to full attention."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
import torch
from torch import Tensor

from companion import (
    bigbird_attention,
    bigbird_mask,
    bigbird_random_blocks,
    chunked_attention,
    longformer_mask,
    online_softmax_attention,
    scaled_dot_product_attention,
    sliding_window_attention,
)

BATCH, HEADS, D = 2, 3, 4


def qkv(length: int, keys: int | None = None) -> list[Tensor]:
    torch.manual_seed(length)
    lengths = (length, keys or length, keys or length)
    return [
        torch.randn(BATCH, HEADS, n, D, dtype=torch.float64, requires_grad=True)
        for n in lengths
    ]


def masks(length: int, keys: int | None = None) -> Iterator[Tensor | None]:
    """None, and masks of every form that the mask rule allows."""
    keys = keys or length
    real = torch.tensor([keys, keys // 2 + 1])[:, None]
    yield None
    yield (torch.arange(keys) < real)[:, None, None, :]
    for shape in (
        (length, keys),
        (BATCH, HEADS, length, keys),
        (BATCH, 1, length, 1),
        (1, HEADS, 1, keys),
    ):
        yield torch.rand(shape) > 0.4


def assert_same(ours: Tensor, full: Tensor, inputs: list[Tensor]) -> None:
    """Outputs and gradients."""
    torch.testing.assert_close(ours, full, atol=1e-10, rtol=0)
    weight = torch.randn(full.shape, dtype=full.dtype)
    of_ours, of_full = (
        torch.autograd.grad((out * weight).sum(), inputs, retain_graph=True)
        for out in (ours, full)
    )
    for a, b in zip(of_ours, of_full, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


@pytest.mark.parametrize("is_causal", [False, True], ids=["both sides", "causal"])
@pytest.mark.parametrize("globals_", ["none", "first", "scattered"])
@pytest.mark.parametrize(
    ("length", "window"), [(1, 0), (2, 5), (7, 1), (40, 0), (40, 5), (50, 20), (33, 90)]
)
def test_a_window_is_full_attention_under_its_mask(
    length, window, globals_, is_causal
) -> None:
    for mask in masks(length):
        if globals_ == "scattered":  # a different number in each sequence
            options = {"global_mask": torch.rand(BATCH, length) > 0.7}
        else:
            options = {"num_global": min(2, length) if globals_ == "first" else 0}
        x = qkv(length)
        options["is_causal"] = is_causal
        seen = longformer_mask(length, window, **options)
        seen = seen if mask is None else seen & mask
        full, _ = scaled_dot_product_attention(*x, seen)
        assert_same(sliding_window_attention(*x, window, mask, **options), full, x)


def test_the_mask_of_a_window() -> None:
    mask = longformer_mask(6, 1, num_global=1)
    assert mask[0].all() and mask[:, 0].all()
    assert mask[3].tolist() == [True, False, True, True, True, False]
    assert longformer_mask(6, 2, is_causal=True)[4].tolist() == [False] * 2 + [
        True
    ] * 3 + [False]


def test_global_positions_may_have_projections_of_their_own() -> None:
    x, far = qkv(30), qkv(30)
    far = [y + 1 for y in far]
    is_global = torch.zeros(BATCH, 30, dtype=torch.bool)
    is_global[0, [3, 17]] = is_global[1, 5] = True
    output = sliding_window_attention(
        *x, 4, global_mask=is_global, global_qkv=tuple(far)
    )
    seen = longformer_mask(30, 4, global_mask=is_global)
    near, _ = scaled_dot_product_attention(*x, seen)
    wide, _ = scaled_dot_product_attention(*far)
    expected = torch.where(is_global[:, None, :, None], wide, near)
    torch.testing.assert_close(output, expected, atol=1e-10, rtol=0)


def test_there_may_be_no_global_position() -> None:
    x = qkv(20)
    none = torch.zeros(BATCH, 20, dtype=torch.bool)
    ours = sliding_window_attention(*x, 3, global_mask=none)
    torch.testing.assert_close(ours, sliding_window_attention(*x, 3))


@pytest.mark.parametrize(
    ("length", "block_size", "num_random"),
    [(5, 1, 0), (13, 1, 2), (24, 3, 1), (25, 3, 3), (61, 4, 2), (6, 3, 0), (2, 3, 0)],
)
def test_bigbird_is_full_attention_under_its_mask(
    length, block_size, num_random
) -> None:
    blocks = -(-length // block_size)
    for mask in masks(length):
        x = qkv(length)
        plan = bigbird_random_blocks(blocks, HEADS, num_random, seed=7)
        seen = bigbird_mask(length, block_size, plan)
        full, _ = scaled_dot_product_attention(
            *x, seen if mask is None else seen & mask
        )
        ours = bigbird_attention(*x, block_size, num_random, mask, seed=7)
        assert_same(ours, full, x)


def test_random_blocks_are_new_to_their_row() -> None:
    blocks, heads, random = 20, 4, 3
    plan = bigbird_random_blocks(blocks, heads, random, seed=3)
    assert plan.shape == (heads, blocks, random)
    for head, row in product(range(heads), range(1, blocks - 1)):
        chosen = set(plan[head, row].tolist())
        assert len(chosen) == random
        assert not chosen & {0, row - 1, row, row + 1, blocks - 1}
    assert torch.equal(plan, bigbird_random_blocks(blocks, heads, random, seed=3))
    assert not torch.equal(plan, bigbird_random_blocks(blocks, heads, random, seed=4))
    assert not torch.equal(plan[0], plan[1])  # each head draws its own
    # All that can be drawn are drawn, so that nothing is left out by construction.
    many = bigbird_random_blocks(12, 200, 2)[:, 5]
    assert set(many.flatten().tolist()) == {1, 2, 3, 7, 8, 9, 10}


def test_a_block_that_is_listed_twice_counts_twice() -> None:
    x = qkv(8)
    plan = torch.zeros(HEADS, 8, 2, dtype=torch.long)  # block 0, which is seen anyway
    ours = bigbird_attention(*x, 1, random_blocks=plan)
    seen = bigbird_mask(8, 1, plan)
    bias = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    bias[..., 1:-1, 0] = torch.tensor(3.0).double().log()
    full, _ = scaled_dot_product_attention(*x, seen, bias=bias)
    torch.testing.assert_close(ours, full, atol=1e-10, rtol=0)


@pytest.mark.parametrize("is_causal", [False, True], ids=["both sides", "causal"])
@pytest.mark.parametrize("block_size", [None, 1, 4, 50])
@pytest.mark.parametrize("length", [1, 9, 10, 37])
def test_chunked_is_exact_where_blocks_are_constant(
    length, block_size, is_causal
) -> None:
    block = block_size or int((length - 1) ** 0.5) + 1
    for mask in list(masks(length))[:2]:
        q, k, v = qkv(length)
        k, v = (
            x[:, :, ::block].repeat_interleave(block, dim=2)[:, :, :length]
            for x in (k, v)
        )
        full, _ = scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal)
        ours = chunked_attention(q, k, v, block_size, mask, is_causal=is_causal)
        assert_same(ours, full, [q])


def test_chunked_by_hand() -> None:
    """Four positions in blocks of two: the own two keys, and the mean of the others."""
    q, k, v = qkv(4)
    ours = chunked_attention(q, k, v, 2)
    keys = torch.cat([k[:, :, :2], k[:, :, 2:].mean(2, keepdim=True)], dim=2)
    values = torch.cat([v[:, :, :2], v[:, :, 2:].mean(2, keepdim=True)], dim=2)
    scores = q[:, :, :2] @ keys.transpose(-2, -1) / D**0.5
    scores = scores + torch.tensor([1.0, 1.0, 2.0]).double().log()
    expected = scores.softmax(-1) @ values
    torch.testing.assert_close(ours[:, :, :2], expected, atol=1e-10, rtol=0)


def test_chunked_is_causal() -> None:
    q, k, v = qkv(20)
    before = chunked_attention(q, k, v, 4, is_causal=True)
    for t in range(1, 20):
        changed = [x.detach().clone() for x in (k, v)]
        for x in changed:
            x[:, :, t:] += 5.0
        after = chunked_attention(q, *changed, 4, is_causal=True)
        torch.testing.assert_close(after[:, :, :t], before[:, :, :t])
        assert (after[:, :, t] - before[:, :, t]).abs().max() > 1e-3


@pytest.mark.parametrize("is_causal", [False, True], ids=["all", "causal"])
@pytest.mark.parametrize("block_size", [1, 3, 16, 64])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (7, 7), (20, 20), (5, 33)])
def test_tiles_are_full_attention(queries, keys, block_size, is_causal) -> None:
    for mask in masks(queries, keys):
        x = qkv(queries, keys)
        full, _ = scaled_dot_product_attention(*x, mask, is_causal=is_causal)
        ours = online_softmax_attention(
            *x, mask, block_size=block_size, is_causal=is_causal
        )
        assert_same(ours, full, x)


def test_tiles_pass_the_numerical_gradient() -> None:
    x = [y.detach()[:1, :1].requires_grad_() for y in qkv(5)]
    mask = torch.rand(5, 5) > 0.3
    mask[2] = False
    torch.autograd.gradcheck(
        lambda *x: online_softmax_attention(*x, mask, block_size=2, scale=0.7), x
    )


def test_tiles_do_not_overflow() -> None:
    q, k, v = (x.detach().float() for x in qkv(30))
    q = q * 1e4  # exp of these scores is infinite, unless the maximum is taken off
    full, _ = scaled_dot_product_attention(q, k, v)
    ours = online_softmax_attention(q, k, v, block_size=7)
    assert ours.isfinite().all()
    torch.testing.assert_close(ours, full, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x: sliding_window_attention(*x, -1), "window must be at least 0"),
        (
            lambda x: sliding_window_attention(*x, 1, num_global=-1),
            "num_global must be at least 0",
        ),
        (
            lambda x: sliding_window_attention(*x, 1, num_global=9),
            "num_global is 9, more than the 8",
        ),
        (
            lambda x: sliding_window_attention(
                *x, 1, num_global=1, global_mask=torch.ones(2, 8, dtype=torch.bool)
            ),
            "not both",
        ),
        (
            lambda x: sliding_window_attention(
                *x, 1, global_mask=torch.ones(2, 7, dtype=torch.bool)
            ),
            "global_mask must have the length of the sequence, 8",
        ),
        (lambda x: bigbird_attention(*x, 0), "block_size must be at least 1"),
        (
            lambda x: bigbird_attention(*x, 1, 4),
            "num_random is 4, but of 8 blocks, block 2 has only",
        ),
        (
            lambda x: bigbird_attention(
                *x, 2, random_blocks=torch.zeros(3, 5, 1, dtype=torch.long)
            ),
            "random_blocks must have shape",
        ),
        (lambda x: chunked_attention(*x, 0), "block_size must be at least 1"),
        (
            lambda x: chunked_attention(*x, 2, mask=torch.ones(8, 8, dtype=torch.bool)),
            "mask may hide keys from all queries",
        ),
        (
            lambda x: online_softmax_attention(*x, block_size=0),
            "block_size must be at least 1",
        ),
        (
            lambda x: online_softmax_attention(
                x[0], x[1][:, :, :4], x[2][:, :, :4], is_causal=True
            ),
            "8 queries and 4 keys",
        ),
        (
            lambda x: sliding_window_attention(x[0], x[1][:, :, :4], x[2][:, :, :4], 1),
            "query and key must have the same length",
        ),
        (
            lambda x: bigbird_attention(*(y[0] for y in x), 2),
            r"must be \(batch, heads, length, d\)",
        ),
    ],
)
def test_what_is_refused(call, says) -> None:
    with pytest.raises(ValueError, match=says):
        call(qkv(8))


def test_a_global_mask_is_boolean() -> None:
    with pytest.raises(TypeError, match="global_mask must be a boolean"):
        sliding_window_attention(*qkv(8), 1, global_mask=torch.ones(2, 8))
