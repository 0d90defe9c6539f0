"""The whole encoder-decoder against PyTorch's, with its weights copied into ours."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from companion import DecoderLayer, EncoderLayer, Transformer, padding_mask
from tests.parity.test_attention import copy_attention

SOURCE = torch.tensor([[3, 4, 5, 6, 7], [8, 9, 3, 0, 0]])
TARGET = torch.tensor([[1, 5, 6, 7], [1, 8, 0, 0]])


def copy_layer(ours: EncoderLayer | DecoderLayer, theirs: nn.Module) -> None:
    copy_attention(ours.self_attention, theirs.self_attn)
    if isinstance(ours, DecoderLayer):
        copy_attention(ours.cross_attention, theirs.multihead_attn)
        ours.norm3.load_state_dict(theirs.norm3.state_dict())
    ours.feed_forward.W_1.load_state_dict(theirs.linear1.state_dict())
    ours.feed_forward.W_2.load_state_dict(theirs.linear2.state_dict())
    ours.norm1.load_state_dict(theirs.norm1.state_dict())
    ours.norm2.load_state_dict(theirs.norm2.state_dict())


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)]
)
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_encoder_and_decoder(parity_record, dtype, bound, norm_first, activation):
    """Outputs, and gradients in every weight, with padding on both sides."""
    torch.manual_seed(0)
    theirs = nn.Transformer(
        16,
        4,
        num_encoder_layers=2,
        num_decoder_layers=3,
        dim_feedforward=32,
        dropout=0.0,
        activation=activation,
        norm_first=norm_first,
        batch_first=True,
        dtype=dtype,
    )
    for p in theirs.parameters():
        nn.init.normal_(p, std=0.3)
    ours = Transformer(
        11,
        11,
        16,
        4,
        32,
        2,
        3,
        dropout=0.0,
        activation=activation,
        norm_first=norm_first,
        final_norm=True,  # nn.Transformer always has one
    ).to(dtype)
    for stack in ("encoder", "decoder"):
        pair = getattr(ours, stack), getattr(theirs, stack)
        for our_layer, their_layer in zip(*(s.layers for s in pair), strict=True):
            copy_layer(our_layer, their_layer)
        pair[0].norm.load_state_dict(pair[1].norm.state_dict())

    expected = theirs(
        ours.encoder.embedding(SOURCE),
        ours.decoder.embedding(TARGET),
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(4, dtype=dtype),
        src_key_padding_mask=SOURCE == 0,
        memory_key_padding_mask=SOURCE == 0,
        tgt_key_padding_mask=torch.where(TARGET == 0, -torch.inf, 0.0).to(dtype),
    )
    memory = ours.encode(SOURCE, padding_mask(SOURCE))
    output = ours.decoder(TARGET, memory, padding_mask(SOURCE), padding_mask(TARGET))
    differences = [(output - expected).abs().max()]

    weights = [
        (
            ours.encoder.layers[0].feed_forward.W_1.weight,
            theirs.encoder.layers[0].linear1.weight,
        ),
        (
            ours.decoder.layers[0].cross_attention.W_o.weight,
            theirs.decoder.layers[0].multihead_attn.out_proj.weight,
        ),
        (ours.decoder.layers[2].norm3.weight, theirs.decoder.layers[2].norm3.weight),
    ]
    gradients = (
        torch.autograd.grad(y.square().mean(), w, retain_graph=True)
        for y, w in zip((output, expected), zip(*weights, strict=True), strict=True)
    )
    differences += [(a - b).abs().max() for a, b in zip(*gradients, strict=True)]
    parity_record(
        f"Transformer, {'pre' if norm_first else 'post'}-norm, {activation}, {dtype}",
        "torch.nn.Transformer",
        max(differences).item(),
        bound,
    )
