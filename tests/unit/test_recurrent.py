"""RecurrentTranslator: the encoder-decoder with and without attention."""

import pytest
import torch
from torch import nn

from companion import (
    RecurrentLanguageModel,
    RecurrentTranslator,
    padding_mask,
    record_attention,
)
from companion.runtime import device


def make(attention: bool, seed: int = 0) -> RecurrentTranslator:
    torch.manual_seed(seed)
    return RecurrentTranslator(11, 13, 16, attention=attention).double().to(device())


def draw(batch: int, length: int, vocabulary: int) -> torch.Tensor:
    return torch.randint(1, vocabulary, (batch, length)).to(device())


@pytest.mark.parametrize("attention", [False, True])
def test_shapes_and_gradients(attention):
    model = make(attention)
    logits = model(draw(3, 7, 11), draw(3, 5, 13))
    assert logits.shape == (3, 5, 13)
    logits.square().sum().backward()
    assert all(p.grad.count_nonzero() > 0 for p in model.parameters())


@pytest.mark.parametrize("attention", [False, True])
def test_agrees_with_the_equations_written_out_step_by_step(attention):
    model = make(attention)
    source, target = draw(1, 6, 11), draw(1, 4, 13)

    def step(gru: nn.GRU, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        # The equations of Cho et al. (2014) in the form that PyTorch documents.
        i_r, i_z, i_n = (gru.weight_ih_l0 @ x + gru.bias_ih_l0).chunk(3)
        h_r, h_z, h_n = (gru.weight_hh_l0 @ h + gru.bias_hh_l0).chunk(3)
        r, z = torch.sigmoid(i_r + h_r), torch.sigmoid(i_z + h_z)
        return (1 - z) * torch.tanh(i_n + r * h_n) + z * h

    h = torch.zeros(16, dtype=torch.float64, device=device())
    states = []
    for token in source[0]:
        h = step(model.encoder, model.source_embedding.weight[token], h)
        states.append(h)
    states = torch.stack(states)
    expected = []
    for token in target[0]:
        h = step(model.decoder, model.target_embedding.weight[token], h)
        seen = h
        if attention:
            qkv = model.attention.qkv
            scores = qkv.W_k(states) @ qkv.W_q(h) / 4  # sqrt(16)
            context = scores.softmax(dim=0) @ qkv.W_v(states)
            seen = torch.cat([context, h])
        expected.append(model.output(torch.tanh(model.combine(seen))))
    torch.testing.assert_close(model(source, target)[0], torch.stack(expected))


def test_without_attention_the_last_state_is_all_there_is():
    """Two sources with the same last state cannot be told apart; with attention they can."""
    for attention in (False, True):
        model = make(attention)
        memory, state = model.encode(draw(2, 6, 11))
        state = state[:1].expand(2, -1)[None].contiguous()  # one state for both
        target = draw(1, 4, 13).expand(2, -1)
        one, other = model._decode(target, memory, state, None)[0]
        assert torch.allclose(one, other) is not attention


@pytest.mark.parametrize("attention", [False, True])
def test_padding_changes_nothing(attention):
    model = make(attention)
    source, target = draw(2, 5, 11), draw(2, 4, 13)
    padded = torch.cat([source, torch.zeros_like(source)], dim=1)
    mask = padding_mask(padded)
    torch.testing.assert_close(model(padded, target, mask), model(source, target))
    assert torch.equal(model.generate(padded, 6, 0, mask), model.generate(source, 6, 0))
    assert not torch.allclose(model(padded, target), model(source, target))


@pytest.mark.parametrize("attention", [False, True])
def test_generate_takes_the_likeliest_token_given_its_own_output(attention):
    model = make(attention)
    source = draw(3, 6, 11)
    tokens = model.generate(source, 8, start_id=12)
    assert tokens.shape == (3, 8)
    shifted = torch.cat([torch.full_like(tokens[:, :1], 12), tokens[:, :-1]], dim=1)
    assert torch.equal(model(source, shifted).argmax(dim=-1), tokens)


def test_maps_are_recorded():
    model = make(True)
    with record_attention(model) as maps:
        model(draw(2, 7, 11), draw(2, 5, 13))
    (weights,) = maps["attention"]
    assert weights.shape == (2, 1, 5, 7)
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    with pytest.raises(ValueError, match="no attention layer"):
        with record_attention(make(False)):
            pass


def test_the_language_model_foretells_from_what_came_before() -> None:
    torch.manual_seed(0)
    model = RecurrentLanguageModel(11, 16, 2)
    assert model.output_projection.weight is model.token_embedding.weight
    ids = torch.randint(11, (2, 9))
    changed = ids.clone()
    changed[:, 5] = (ids[:, 5] + 1) % 11
    moved = (model(ids) - model(changed)).abs().amax(dim=(0, 2))
    assert moved[:5].max() == 0 and moved[5:].min() > 0
