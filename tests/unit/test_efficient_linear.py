"""Linear attention, the Performer and Linformer: what each computes, and how well."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from companion import (
    LinformerAttention,
    PerformerAttention,
    linear_attention,
    linear_attention_recurrent,
    linear_attention_step,
    linformer_attention,
    padding_mask,
    performer_attention,
    positive_features,
    random_features,
    scaled_dot_product_attention,
    trigonometric_features,
)

BATCH, HEADS, D = 2, 3, 4
PADDING = padding_mask(torch.tensor([[5] * 20, [5] * 11 + [0] * 9]))


def qkv(length: int = 20) -> list[Tensor]:
    torch.manual_seed(length)
    shape = (BATCH, HEADS, length, D)
    return [
        torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in range(3)
    ]


def explicit(q, k, v, mask, is_causal, phi) -> Tensor:
    """The weights of linear attention, written out."""
    weights = phi(q) @ phi(k).transpose(-2, -1)  # (B, H, Q, K)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0.0)
    if is_causal:
        weights = weights.tril()
    total = weights.sum(-1, keepdim=True)
    return weights / torch.where(total > 0, total, 1.0) @ v


def assert_same(ours: Tensor, expected: Tensor, inputs: list[Tensor]) -> None:
    torch.testing.assert_close(ours, expected, atol=1e-10, rtol=0)
    pairs = [
        torch.autograd.grad(out.square().sum(), inputs, retain_graph=True)
        for out in (ours, expected)
    ]
    for a, b in zip(*pairs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=0)


@pytest.mark.parametrize("chunk_size", [1, 3, 8, 64])
@pytest.mark.parametrize("is_causal", [False, True], ids=["both sides", "causal"])
@pytest.mark.parametrize("mask", [None, PADDING], ids=["no mask", "padding"])
def test_linear_attention_is_its_formula(mask, is_causal, chunk_size) -> None:
    x = qkv()
    ours = linear_attention(*x, mask, is_causal=is_causal, chunk_size=chunk_size)
    expected = explicit(*x, mask, is_causal, lambda y: F.elu(y) + 1)
    assert_same(ours, expected, x)


@pytest.mark.parametrize("mask", [None, PADDING], ids=["no mask", "padding"])
@pytest.mark.parametrize("feature_map", ["elu+1", "relu", "exp", torch.sigmoid])
def test_recurrent_is_parallel(feature_map, mask) -> None:
    x = qkv()
    parallel = linear_attention(
        *x, mask, feature_map=feature_map, is_causal=True, chunk_size=7
    )
    recurrent = linear_attention_recurrent(*x, mask, feature_map=feature_map)
    assert_same(recurrent, parallel, x)


def test_the_state_does_not_grow() -> None:
    q, k, v = qkv()
    state, sizes = None, set()
    for t in range(20):
        _, state = linear_attention_step(q[:, :, t], k[:, :, t], v[:, :, t], state)
        sizes.add(tuple(state.shape))
    assert sizes == {(BATCH, HEADS, D, D + 1)}
    torch.testing.assert_close(state[..., -1], (F.elu(k) + 1).sum(2))


def test_a_sequence_may_ask_another() -> None:
    q, k, v = qkv()
    ours = linear_attention(q[:, :, :5], k, v)
    torch.testing.assert_close(ours, linear_attention(q, k, v)[:, :, :5])


def test_a_feature_map_must_be_known() -> None:
    with pytest.raises(ValueError, match=r"feature_map must be .* one of elu\+1, relu"):
        linear_attention(*qkv(), feature_map="softmax")


# The Performer


def estimates(features, q: Tensor, k: Tensor, m: int, orthogonal: bool) -> Tensor:
    """Of exp(q . k / sqrt(d)), one for each of 4000 draws of the directions."""
    drawn = []
    for seed in range(4000):
        W = random_features(
            len(q), m, orthogonal=orthogonal, seed=seed, dtype=torch.float64
        )
        drawn.append(features(q, W) @ features(k, W))
    return torch.stack(drawn)


def pair() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return tuple(torch.randn(2, 8, dtype=torch.float64) / 3)


@pytest.mark.parametrize("orthogonal", [False, True])
@pytest.mark.parametrize("features", [positive_features, trigonometric_features])
def test_the_kernel_estimate_is_unbiased(features, orthogonal) -> None:
    q, k = pair()
    drawn = estimates(features, q, k, 16, orthogonal)
    exact = (q @ k / 8**0.5).exp()
    assert (drawn.mean() - exact).abs() < 3 * drawn.std() / len(drawn) ** 0.5
    assert drawn.std() > 0.01 * exact  # it is an estimate, not the number itself


@pytest.mark.parametrize("m", [8, 32])
def test_its_variance_is_that_of_the_paper(m) -> None:
    """Lemma 2, for independent directions."""
    q, k = pair()
    kernel = (q @ k / 8**0.5).exp()
    total = ((q + k).square().sum() / 8**0.5).exp()  # exp |q' + k'|^2
    apart = (-(q - k).square().sum() / 8**0.5).exp()
    for features, expected in (
        (positive_features, total * kernel**2 * (1 - 1 / total) / m),
        (trigonometric_features, total / kernel**2 * (1 - apart) ** 2 / (2 * m)),
    ):
        drawn = estimates(features, q, k, m, orthogonal=False)
        assert drawn.var().item() == pytest.approx(expected.item(), rel=0.15)


def test_right_angles_lower_the_variance() -> None:
    q, k = pair()
    for features, factor in ((positive_features, 1.0), (trigonometric_features, 0.5)):
        free, orthogonal = (
            estimates(features, q, k, 8, choice).var() for choice in (False, True)
        )
        assert orthogonal < factor * free


def test_directions_are_orthogonal_and_as_long_as_normal_ones() -> None:
    W = random_features(16, 40, seed=3)
    for block in (W[:16], W[16:32], W[32:]):
        products = block @ block.T
        off = products - products.diag().diag()
        assert off.abs().max() < 1e-4
    many = random_features(16, 16 * 500)
    assert many.square().sum(1).mean().item() == pytest.approx(16, rel=0.02)
    assert many.square().sum(1).var().item() == pytest.approx(32, rel=0.1)
    # They favor no side, the first of each block neither (QR by itself does).
    for rows in (many, many[::16]):
        assert rows.mean(0).abs().max() < 4 / len(rows) ** 0.5
    assert torch.equal(W, random_features(16, 40, seed=3))
    assert not torch.equal(W, random_features(16, 40, seed=4))


@pytest.mark.parametrize("is_causal", [False, True], ids=["both sides", "causal"])
def test_the_error_falls_with_the_features(is_causal) -> None:
    q, k, v = (y.detach() for y in qkv())
    x = [q / 3, k / 3, v]
    full, _ = scaled_dot_product_attention(*x, is_causal=is_causal)

    def error(m: int) -> float:
        offs = []
        for seed in range(10):
            W = random_features(D, m, seed=seed, dtype=torch.float64)
            ours = performer_attention(*x, W, is_causal=is_causal)
            offs.append((ours - full).square().mean())
        return torch.stack(offs).mean().sqrt().item()

    errors = [error(m) for m in (16, 256, 4096)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.05


@pytest.mark.parametrize("mask", [None, PADDING], ids=["no mask", "padding"])
@pytest.mark.parametrize("is_causal", [False, True], ids=["both sides", "causal"])
def test_what_is_taken_off_for_stability_cancels(is_causal, mask) -> None:
    x = qkv()
    W = random_features(D, 10, dtype=torch.float64)
    ours = performer_attention(*x, W, mask, is_causal=is_causal, chunk_size=6)
    expected = explicit(*x, mask, is_causal, lambda y: positive_features(y, W))
    assert_same(ours, expected, x)


def test_large_inputs_do_not_overflow() -> None:
    q, k, v = (x.detach().float() * 30 for x in qkv())
    W = random_features(D, 32)
    naive = positive_features(q, W) @ positive_features(k, W).transpose(-2, -1)
    assert (naive.sum(-1) == 0).any()  # all weights of a query vanish, uncorrected
    for is_causal in (False, True):
        assert performer_attention(q, k, v, W, is_causal=is_causal).isfinite().all()


def test_directions_must_fit() -> None:
    with pytest.raises(ValueError, match=r"directions must be \(features, d_k\)"):
        performer_attention(*qkv(), torch.randn(8, 5, dtype=torch.float64))


def test_redraw_changes_the_directions_and_a_checkpoint_lacks_them() -> None:
    layer = PerformerAttention(16, 4, 8)
    x = torch.randn(1, 6, 16)
    before, _ = layer(x)
    assert "directions" not in layer.state_dict()
    layer.redraw(5)
    assert layer.directions.shape == (8, 4)
    assert not torch.equal(layer(x)[0], before)
    layer.redraw(0)
    assert torch.equal(layer(x)[0], before)


# Linformer


def test_with_identities_it_is_full_attention() -> None:
    x = qkv()
    eye = torch.eye(20, dtype=torch.float64)[None]
    full, _ = scaled_dot_product_attention(*x)
    assert_same(linformer_attention(*x, eye, eye), full, x)


def test_it_is_its_formula() -> None:
    q, k, v = qkv()
    E, F_ = torch.randn(2, HEADS, 5, 24, dtype=torch.float64)
    full, _ = scaled_dot_product_attention(q, E[..., :20] @ k, F_[..., :20] @ v)
    torch.testing.assert_close(linformer_attention(q, k, v, E, F_), full)
    k0, v0 = k.masked_fill(~PADDING.mT, 0), v.masked_fill(~PADDING.mT, 0)
    full, _ = scaled_dot_product_attention(q, E[..., :20] @ k0, F_[..., :20] @ v0)
    ours = linformer_attention(q, k, v, E, F_, PADDING)
    torch.testing.assert_close(ours, full)


@pytest.mark.parametrize(
    ("share", "matrices"), [("none", 8), ("heads", 2), ("key-value", 1)]
)
def test_what_is_shared(share, matrices) -> None:
    layer = LinformerAttention(16, 4, 10, 3, share)
    extra = sum(p.numel() for n, p in layer.named_parameters() if n in "EF")
    assert extra == matrices * 3 * 10
    assert layer(torch.randn(2, 7, 16))[0].shape == (2, 7, 16)
    assert (layer.E is layer.F) == (share == "key-value")


def test_it_cannot_be_causal_and_not_longer() -> None:
    layer = LinformerAttention(16, 4, 10, 3)
    with pytest.raises(ValueError, match="each of Linformer's slots mixes all"):
        layer(torch.randn(1, 5, 16), is_causal=True)
    with pytest.raises(ValueError, match="11 positions, but .* max_seq_len = 10"):
        layer(torch.randn(1, 11, 16))
    with pytest.raises(ValueError, match="share must be 'none', 'heads' or"):
        LinformerAttention(16, 4, 10, 3, "all")


def test_a_slot_looks_ahead() -> None:
    """The reason why it cannot be causal: a later key changes an earlier output."""
    q, k, v = qkv()
    E = torch.randn(1, 5, 20, dtype=torch.float64)
    changed = v.detach().clone()
    changed[:, :, -1] += 1
    off = linformer_attention(q, k, changed, E, E) - linformer_attention(q, k, v, E, E)
    assert off[:, :, 0].abs().min() > 0
