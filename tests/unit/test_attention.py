"""The formula, the fused path, and the single-head layers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from companion import (
    CausalSelfAttention,
    CrossAttention,
    MultiHeadAttention,
    QKVProjection,
    SelfAttention,
    causal_mask,
    fused_attention,
    scaled_dot_product_attention,
)


def draw(batch=2, heads=3, queries=5, keys=7, d_k=8, d_v=4, dtype=torch.float64):
    shape = (batch, heads)
    return (
        torch.randn(*shape, queries, d_k, dtype=dtype),
        torch.randn(*shape, keys, d_k, dtype=dtype),
        torch.randn(*shape, keys, d_v, dtype=dtype),
    )


def by_hand(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Equation 1 for one head, index by index, in Python's floats."""
    output = torch.zeros(len(q), v.shape[-1], dtype=torch.float64)
    for i in range(len(q)):
        seen = [j for j in range(len(k)) if mask[i, j]]
        scores = [
            scale
            * sum(a * b for a, b in zip(q[i].tolist(), k[j].tolist(), strict=True))
            for j in seen
        ]
        top = max(scores, default=0.0)
        powers = [math.exp(s - top) for s in scores]
        for j, power in zip(seen, powers, strict=True):
            for d in range(v.shape[-1]):
                output[i, d] += power / sum(powers) * v[j, d].item()
    return output


@settings(max_examples=25, deadline=None)
@given(
    queries=st.integers(1, 6),
    keys=st.integers(1, 6),
    d_k=st.integers(1, 9),
    d_v=st.integers(1, 5),
    seed=st.integers(0, 2**16),
    scale=st.sampled_from([None, 1.0, 0.3]),
)
def test_both_paths_equal_the_loop(queries, keys, d_k, d_v, seed, scale) -> None:
    torch.manual_seed(seed)
    q, k, v = draw(1, 1, queries, keys, d_k, d_v)
    mask = torch.rand(queries, keys) > 0.4  # some rows come out empty
    expected = by_hand(q[0, 0], k[0, 0], v[0, 0], mask, scale or 1 / math.sqrt(d_k))
    output, weights = scaled_dot_product_attention(q, k, v, mask, scale=scale)
    fused = fused_attention(q, k, v, mask, scale=scale)
    torch.testing.assert_close(output[0, 0], expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(fused[0, 0], expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(weights.sum(-1)[0, 0], mask.any(-1).double())


@pytest.mark.parametrize(
    ("dtype", "bound"),
    [(torch.float64, 1e-12), (torch.float32, 2e-5), (torch.bfloat16, 0.1)],
)
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_two_paths_one_answer(dtype, bound, is_causal, masked) -> None:
    """Output and gradients, where some queries see nothing."""
    torch.manual_seed(0)
    inputs = [x.requires_grad_() for x in draw(dtype=dtype)]
    mask = (torch.rand(2, 1, 5, 7) > 0.5) if masked else None
    if masked:
        mask[0, :, 1] = False
    causal = causal_mask(5, 7) if is_causal else None
    both = causal if mask is None else mask if causal is None else causal & mask
    explicit, _ = scaled_dot_product_attention(*inputs, both)
    fused = fused_attention(*inputs, mask, is_causal=is_causal)
    assert (explicit - fused).abs().max() <= bound
    probe = torch.randn_like(explicit)
    for a, b in zip(
        torch.autograd.grad(explicit, inputs, probe),
        torch.autograd.grad(fused, inputs, probe),
        strict=True,
    ):
        assert a.isfinite().all()
        assert (a - b).abs().max() <= bound * 10


def test_gradients_are_those_of_the_function() -> None:
    torch.manual_seed(0)
    inputs = [x.requires_grad_() for x in draw(1, 1, 3, 4, 2, 2)]
    mask = torch.tensor([[1, 1, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]]).bool()
    for function in (lambda *x: scaled_dot_product_attention(*x)[0], fused_attention):
        assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradcheck(
        lambda *x: scaled_dot_product_attention(*x, mask)[0], inputs
    )
    assert torch.autograd.gradcheck(lambda *x: fused_attention(*x, mask), inputs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_masks_hold_in_half_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    q, k, v = (30 * x for x in draw(dtype=dtype))
    _, weights = scaled_dot_product_attention(q, k, v, causal_mask(5, 7))
    assert weights.isfinite().all()
    assert (weights.masked_select(~causal_mask(5, 7)) == 0).all()


def test_dropout_drops_weights_in_both_paths() -> None:
    torch.manual_seed(0)
    q, k, v = draw(1, 1, 200, 50, 8, 4)
    ones = torch.ones_like(v)
    for output in (
        scaled_dot_product_attention(q, k, ones, dropout=0.5)[0],
        fused_attention(q, k, ones, dropout=0.5),
    ):
        assert output.std() > 0.01  # without dropout each row would be exactly 1
        assert abs(output.mean().item() - 1) < 0.05  # and on average it still is
    _, weights = scaled_dot_product_attention(q, k, v, dropout=0.5)
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))


@pytest.mark.parametrize("function", [scaled_dot_product_attention, fused_attention])
@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        (((5, 8), (7, 6), (7, 4)), "same width"),
        (((5, 8), (7, 8), (6, 4)), "same length"),
        (((2, 5, 8), (3, 7, 8), (3, 7, 4)), "batch"),
        (((2, 5, 8), (7, 8), (7, 4)), r"\(length, d\)"),
        (((8,), (8,), (8,)), r"\(length, d\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(function, shapes, says) -> None:
    with pytest.raises(ValueError, match=says) as raised:
        function(*(torch.randn(*shape) for shape in shapes))
    assert str(shapes[0]) in str(raised.value)


def test_causality_changing_the_future_leaves_the_past() -> None:
    torch.manual_seed(0)
    layer = CausalSelfAttention(16).double()
    x = torch.randn(2, 9, 16, dtype=torch.float64)
    before, weights = layer(x)
    assert (weights.triu(1) == 0).all()
    changed = x.clone()
    changed[:, 5:] = torch.randn(2, 4, 16, dtype=torch.float64)
    after, _ = layer(changed)
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


def test_self_attention_is_permutation_equivariant() -> None:
    torch.manual_seed(0)
    x, order = torch.randn(2, 9, 16, dtype=torch.float64), torch.randperm(9)
    for layer in (SelfAttention(16).double(), MultiHeadAttention(16, 4, 2).double()):
        torch.testing.assert_close(layer(x[:, order])[0], layer(x)[0][:, order])


def test_cross_attention_reads_its_memory() -> None:
    torch.manual_seed(0)
    layer = CrossAttention(16, d_k=8, d_v=4, d_memory=12)
    x, memory = torch.randn(2, 5, 16), torch.randn(2, 7, 12)
    output, weights = layer(x, memory)
    assert output.shape == (2, 5, 4)
    assert weights.shape == (2, 5, 7)
    expected, _ = scaled_dot_product_attention(
        layer.qkv.W_q(x), layer.qkv.W_k(memory), layer.qkv.W_v(memory)
    )
    torch.testing.assert_close(output, expected)


def test_qkv_projection_defaults_to_self_attention() -> None:
    torch.manual_seed(0)
    project = QKVProjection(16, d_k=8, d_v=4)
    x, other = torch.randn(2, 5, 16), torch.randn(2, 7, 16)
    for a, b in zip(project(x), project(x, x, x), strict=True):
        assert torch.equal(a, b)
    q, k, v = project(x, other)
    assert torch.equal(q, project.W_q(x))
    assert torch.equal(k, project.W_k(other))
    assert torch.equal(v, project.W_v(other))
    assert QKVProjection(16, 8, 4, bias=False).W_q.bias is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_bias_is_added_to_the_scores_in_both_paths(dtype: torch.dtype) -> None:
    """As relative positions do; kept in float32, as a parameter is under autocast."""
    torch.manual_seed(0)
    q, k, v = draw(dtype=dtype)
    bias = torch.randn(1, 3, 5, 7)
    mask = torch.rand(5, 7) > 0.4
    mask[1] = False
    output, weights = scaled_dot_product_attention(q, k, v, mask, bias=bias)
    fused = fused_attention(q, k, v, mask, bias=bias)
    scores = q.double() @ k.double().mT / math.sqrt(8) + bias
    expected = scores.masked_fill(~mask, -math.inf).softmax(-1).nan_to_num()
    bound = 1e-12 if dtype == torch.float64 else 0.05
    assert (weights - expected).abs().max() < bound
    assert (output - expected @ v.double()).abs().max() < bound
    assert (fused - output).abs().max() < bound
    assert (output[:, :, 1] == 0).all() and (fused[:, :, 1] == 0).all()


@pytest.mark.parametrize("function", [scaled_dot_product_attention, fused_attention])
def test_a_bias_that_does_not_fit_is_refused(function) -> None:
    q, k, v = draw()
    with pytest.raises(TypeError, match="bias must be floating point"):
        function(q, k, v, bias=torch.ones(2, 3, 5, 7, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"bias has shape \(5, 7\)"):
        function(q, k, v, bias=torch.ones(5, 7))
