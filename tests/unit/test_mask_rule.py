"""The one mask rule, over every attention in the package."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from companion import causal_mask, padding_mask, scaled_dot_product_attention
from companion.layers import as_attention_mask
from tests.cases import ATTENTION, Case


def built(name: str) -> tuple[Case, torch.nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    case = ATTENTION[name]
    return case, case.build().double().eval(), tuple(x.double() for x in case.inputs())


def output_of(
    case: Case, module: torch.nn.Module, inputs: tuple, mask: Tensor
) -> Tensor:
    return case.call(module, *inputs, mask=mask)[0]


@pytest.mark.parametrize("name", ATTENTION)
def test_a_hidden_key_has_no_influence(name: str) -> None:
    case, module, inputs = built(name)
    batch, queries, keys = len(inputs[0]), inputs[0].shape[1], inputs[-1].shape[1]
    mask = torch.ones(batch, 1, queries, keys, dtype=torch.bool)
    mask[1, :, :, -2:] = False  # the last two keys of the second sequence
    mask[1, :, -2:, :] = False  # ... and, in self-attention, their own queries
    before = output_of(case, module, inputs, mask)
    changed = inputs[-1].clone()
    changed[1, -2:] += 10.0
    after = output_of(case, module, (*inputs[:-1], changed), mask)
    assert torch.equal(before[1, :-2], after[1, :-2])
    everything = torch.ones_like(mask)
    moved = output_of(case, module, inputs, everything) - output_of(
        case, module, (*inputs[:-1], changed), everything
    )
    assert moved[1].abs().max() > 0.01  # without the mask the same change is seen


@pytest.mark.parametrize("name", ATTENTION)
def test_a_query_that_sees_nothing_gets_zero_and_gradient_zero(name: str) -> None:
    case, module, inputs = built(name)
    for x in inputs:
        x.requires_grad_()
    batch, queries, keys = len(inputs[0]), inputs[0].shape[1], inputs[-1].shape[1]
    mask = torch.rand(batch, 1, queries, keys) > 0.3
    mask[..., 0] = True
    mask[0, :, 2] = False  # one query
    mask[1] = False  # a whole sequence
    heads = []
    hook = getattr(module, "W_o", None)
    if hook is not None:  # the zero is what the heads give, before W_o adds its bias
        hook.register_forward_pre_hook(lambda _, args: heads.append(args[0]))
    with torch.autograd.detect_anomaly(check_nan=True):
        output = output_of(case, module, inputs, mask)
        zero = heads[0] if heads else output
        assert torch.equal(zero[0, 2], torch.zeros_like(zero[0, 2]))
        assert torch.equal(zero[1], torch.zeros_like(zero[1]))
        assert not torch.equal(zero[0, 1], torch.zeros_like(zero[0, 1]))
        output.square().sum().backward()
    for x in inputs:
        assert x.grad is not None and x.grad.isfinite().all()
        assert torch.equal(x.grad[1], torch.zeros_like(x.grad[1]))
    for parameter in module.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


@pytest.mark.parametrize("name", ATTENTION)
@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (lambda q, k: torch.ones(q, k), TypeError, "mask must be boolean"),
        (lambda q, k: torch.ones(q, k, dtype=torch.long), TypeError, "mask.bool()"),
        (lambda q, k: [[True] * k] * q, TypeError, "boolean tensor"),
        (lambda q, k: torch.ones(2, k, dtype=torch.bool), ValueError, "padding_mask"),
        (lambda q, k: torch.ones(q, k + 1, dtype=torch.bool), ValueError, "broadcast"),
        (
            lambda q, k: torch.ones(2, q, k, dtype=torch.bool),
            ValueError,
            "mask[:, None]",
        ),
        (lambda q, k: torch.ones(k, dtype=torch.bool), ValueError, "may have shape"),
        (
            lambda q, k: torch.ones(3, 1, q, k, dtype=torch.bool),
            ValueError,
            "broadcast",
        ),
    ],
)
def test_a_mask_that_cannot_mean_it_is_refused(name, wrong, error, says) -> None:
    case, module, inputs = built(name)
    mask = wrong(inputs[0].shape[1], inputs[-1].shape[1])
    with pytest.raises(error) as raised:
        case.call(module, *inputs, mask=mask)
    assert says in str(raised.value)


def test_masks_combine_with_and() -> None:
    ids = torch.tensor([[5, 6, 0], [7, 8, 9]])
    both = causal_mask(3) & padding_mask(ids)
    assert both.shape == (2, 1, 3, 3)
    for b in range(2):
        for q in range(3):
            for k in range(3):
                assert both[b, 0, q, k].item() == (k <= q and ids[b, k].item() != 0)


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (4, 4), (1, 5), (3, 5)])
def test_causal_mask_is_aligned_to_the_last_key(queries: int, keys: int) -> None:
    mask = causal_mask(queries, keys)
    for i in range(queries):
        for j in range(keys):
            assert mask[i, j].item() == (j <= keys - queries + i)


@pytest.mark.parametrize(("queries", "keys"), [(0, 3), (-1, None), (4, 3)])
def test_causal_mask_refuses_impossible_sizes(queries: int, keys: int | None) -> None:
    with pytest.raises(ValueError, match="num_"):
        causal_mask(queries, keys)


def test_padding_mask_wants_a_batch() -> None:
    with pytest.raises(ValueError, match=r"token_ids .*\(3,\)"):
        padding_mask(torch.tensor([1, 2, 3]))
    assert padding_mask(torch.tensor([[9, 1]]), pad_id=9).flatten().tolist() == [
        False,
        True,
    ]


def test_the_hint_names_the_likely_repair() -> None:
    for shape, repair in [
        ((2, 7), "[:, None, None, :]"),
        ((2, 5, 7), "[:, None]"),
        ((4, 5, 7), "[None]"),
    ]:
        with pytest.raises(ValueError) as raised:
            as_attention_mask(torch.ones(shape, dtype=torch.bool), 2, 4, 5, 7)
        assert repair in str(raised.value)


@pytest.mark.parametrize("ndim", [2, 3, 4])
def test_the_formula_takes_two_to_four_axes(ndim: int) -> None:
    torch.manual_seed(0)
    leading = (2, 3)[: ndim - 2]
    q, k, v = (
        torch.randn(*leading, 5, 8),
        torch.randn(*leading, 7, 8),
        torch.randn(*leading, 7, 4),
    )
    mask = torch.rand(5, 7) > 0.5
    output, weights = scaled_dot_product_attention(q, k, v, mask)
    assert output.shape == (*leading, 5, 4)
    assert weights.shape == (*leading, 5, 7)
    assert (weights.masked_select(~mask) == 0).all()
