"""Reading without padding gives what reading with a padding mask gives."""

from __future__ import annotations

import pytest
import torch

from companion import EncoderLayer, padding_mask
from companion.layers.packed import encode_without_padding


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"num_kv_heads": 2, "activation": "gelu"}, {"layer_scale": 0.3}]
)
def test_same_at_every_token_and_zero_at_padding(norm_first, options):
    torch.manual_seed(0)
    layers = [
        EncoderLayer(16, 4, 32, norm_first=norm_first, **options).double().eval()
        for _ in range(2)
    ]
    ids = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 0, 0, 0], [0, 0, 0, 0, 0]])
    mask = padding_mask(ids)
    x = torch.randn(3, 5, 16, dtype=torch.float64, requires_grad=True)
    expected = x
    for layer in layers:
        expected = layer(expected, mask)
    expected = expected * mask[:, 0, 0, :, None]
    output = encode_without_padding(layers, x, mask)
    torch.testing.assert_close(output, expected, atol=1e-12, rtol=0)
    gradients = [
        torch.autograd.grad(y.square().sum(), x)[0] for y in (output, expected)
    ]
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=0)


def test_another_mask_is_refused():
    with pytest.raises(ValueError, match=r"\(batch, 1, 1, length\) = \(2, 1, 1, 3\)"):
        encode_without_padding([], torch.randn(2, 3, 4), torch.ones(3, 3).bool())
