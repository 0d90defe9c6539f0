"""BigBird alone: blocks, chance, sizes, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from companion import (
    BERT,
    BigBird,
    BigBirdForPreTraining,
    bigbird_mask,
    padding_mask,
    record_attention,
)
from companion.analysis.cost import peak_memory
from companion.models.bigbird import PRESETS


def tiny(**options) -> BigBird:
    torch.manual_seed(0)
    options = {"block_size": 2, "num_random_blocks": 1} | options
    return BigBird(20, 16, 4, 32, 3, 40, **options).eval()


def tokens(length: int = 24, batch: int = 2) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randint(1, 20, (batch, length))


def test_shapes():
    model = tiny(pooler=True)
    states = model.hidden_states(tokens())
    assert [tuple(state.shape) for state in states] == [(2, 24, 16)] * 4
    assert torch.equal(states[-1], model(tokens()))
    assert model.pooled(tokens()).shape == (2, 16)


@pytest.mark.parametrize(("preset", "millions"), [("base", 127.47), ("large", 359.12)])
def test_sizes(preset, millions):
    """BERT's, with a longer table of positions and a larger vocabulary."""
    with torch.device("meta"):
        model = BigBird(**PRESETS[preset], pooler=True)
    count = sum(p.numel() for p in model.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.005)


@torch.no_grad()
def test_each_layer_and_head_has_its_own_blocks():
    model = tiny()
    with record_attention(model) as maps:
        model(tokens())
    seen = (maps.stack()[:, 0] > 0).float()  # (layers, heads, 24, 24)
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0, 0], seen[0, 1])
    for layer in range(3):
        plan = model.layers[layer].self_attention.random_blocks(12)
        assert torch.equal(seen[layer], bigbird_mask(24, 2, plan)[0].float())


@torch.no_grad()
def test_in_evaluation_chance_may_be_left_out():
    model = tiny(random_in_evaluation=False)
    attention = model.layers[0].self_attention
    assert not attention.random_blocks(12).any()
    attention.train()
    assert attention.random_blocks(12).any()
    assert not torch.equal(model.eval()(tokens()), tiny()(tokens()))


@torch.no_grad()
def test_full_attention_is_bert():
    model = tiny(attention_type="original_full", activation="gelu")
    bert = BERT(20, 16, 4, 32, 3, 40).eval()
    bert.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(tokens()), bert(tokens()))
    short = tiny(activation="gelu")  # 7 blocks are too few for chance
    bert.load_state_dict(short.state_dict())
    torch.testing.assert_close(short(tokens(14)), bert(tokens(14)))
    assert (short(tokens(15)) - bert(tokens(15))).abs().max() > 1e-4


@torch.no_grad()
def test_embeddings_may_be_scaled():
    plain, scaled = tiny(), tiny(scale_embeddings=True)
    scaled.load_state_dict(plain.state_dict())
    before = plain.embedding(tokens())
    plain.embedding.token.weight *= 4  # sqrt(16)
    torch.testing.assert_close(scaled.embedding(tokens()), plain.embedding(tokens()))
    assert not torch.allclose(before, plain.embedding(tokens()))


def test_queries_keys_and_values_may_lack_a_bias():
    attention = tiny(qkv_bias=False).layers[0].self_attention
    assert attention.W_q.bias is attention.W_k.bias is attention.W_v.bias is None
    assert attention.W_o.bias is not None


@torch.no_grad()
def test_padding_does_not_change_a_text():
    """Within one number of blocks: with more, other blocks would be last, and drawn."""
    model = tiny()
    ids = tokens(23, 1)
    padded = torch.cat([ids, torch.zeros(1, 1, dtype=torch.long)], dim=1)
    ours = model(padded, padding_mask(padded))[:, :23]
    torch.testing.assert_close(ours, model(ids), atol=1e-6, rtol=0)
    assert (model(padded)[:, :23] - model(ids)).abs().max() > 1e-4


def test_memory_grows_as_the_length():
    model = BigBird(20, 16, 2, 32, 1, 4096, block_size=8, num_random_blocks=2).eval()

    @torch.no_grad()
    def run(length: int) -> None:
        model(tokens(length, 1))

    run(64)
    short, long = (peak_memory(run, length) for length in (1024, 4096))
    assert long < 4096**2 and long < 1.15 * 4 * short


def test_it_learns_to_fill_in_and_to_tell_pairs():
    model = BigBirdForPreTraining(tiny(dropout=0.0, pooler=True)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    ids = tokens()
    labels = torch.where(torch.arange(24) % 3 == 0, ids, -100)
    is_next = torch.tensor([True, False])
    losses = []
    for _ in range(40):
        loss = model.loss(ids, labels, is_next)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    assert model(ids).shape == (2, 24, 20)


def test_bad_options():
    with pytest.raises(ValueError, match="attention_type must be 'block_sparse' or"):
        tiny(attention_type="sparse")
    with pytest.raises(ValueError, match="block_size must be at least 1"):
        tiny(block_size=0)
    with pytest.raises(ValueError, match="max_seq_len = 40 tokens"):
        tiny()(torch.ones(1, 41, dtype=torch.long))


def test_what_from_hf_refuses():
    transformers = pytest.importorskip("transformers")
    sizes = {
        "vocab_size": 20,
        "hidden_size": 8,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "num_hidden_layers": 1,
        "max_position_embeddings": 20,
        "block_size": 1,
        "num_random_blocks": 1,
    }

    def config(**more):
        return transformers.BigBirdConfig(**sizes, **more)

    with pytest.raises(ValueError, match="hidden_act is 'gelu_fast'"):
        BigBird.from_hf(transformers.BigBirdModel(config(hidden_act="gelu_fast")))
    with pytest.raises(ValueError, match="is_decoder is True"):
        BigBird.from_hf(
            transformers.BigBirdModel(
                config(is_decoder=True, attention_type="original_full")
            )
        )
    with pytest.raises(ValueError, match=r"left over.*\n    classifier\."):
        BigBird.from_hf(transformers.BigBirdForSequenceClassification(config()))
    with pytest.raises(ValueError, match="tie_word_embeddings is False"):
        BigBirdForPreTraining.from_hf(
            transformers.BigBirdForMaskedLM(config(tie_word_embeddings=False))
        )
    with pytest.raises(ValueError, match="masked_language.bias, from cls.predictions"):
        BigBirdForPreTraining.from_hf(transformers.BigBirdModel(config()))
