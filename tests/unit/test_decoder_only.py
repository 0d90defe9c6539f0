"""The causal block and the language model that is made of it."""

from __future__ import annotations

import pytest
import torch

from companion import EncoderLayer, KeyValueCache, causal_mask, padding_mask
from companion.layers.block import TransformerBlock
from companion.models.decoder_only import DecoderOnlyTransformer
from tests.generation_cases import close, language_model

IDS = torch.tensor([[3, 4, 5, 6, 7, 1], [8, 9, 3, 2, 2, 5]])
OPTIONS = [
    {},
    {"norm_first": False},
    {"num_kv_heads": 2},
    {"num_kv_heads": 1, "tied_output": False, "activation": "relu"},
]


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_block_is_an_encoder_layer_under_a_causal_mask(norm_first):
    torch.manual_seed(0)
    options = {"norm_first": norm_first, "num_kv_heads": 2}
    block = TransformerBlock(16, 4, 32, **options).double().eval()
    layer = EncoderLayer(16, 4, 32, **options).double().eval()
    layer.load_state_dict(block.state_dict())
    x = torch.randn(2, 6, 16, dtype=torch.float64)
    close(block(x), layer(x, causal_mask(6)))
    assert not torch.allclose(block(x), layer(x))
    hidden = padding_mask(torch.tensor([[1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1]]))
    close(block(x, hidden), layer(x, causal_mask(6) & hidden))


def test_an_encoder_layer_still_sees_both_sides():
    layer = EncoderLayer(16, 4, 32).eval()
    x = torch.randn(1, 5, 16)
    changed = x.clone()
    changed[:, -1] += 1
    assert (layer(x) - layer(changed)).abs().amax(-1).min() > 1e-6


@pytest.mark.parametrize("options", OPTIONS)
def test_the_future_is_hidden_and_the_past_is_not(options):
    model = language_model(**options).eval()
    before = model(IDS)
    for position in range(6):
        changed = IDS.clone()
        changed[:, position] = 10
        difference = (model(changed) - before).abs().amax(-1)  # (B, L)
        assert (difference[:, :position] == 0).all()
        assert (difference[:, position:] > 1e-9).all()


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("steps", [[1] * 6, [3, 1, 2], [6]])
def test_cached_equals_uncached_logit_by_logit(options, steps):
    model = language_model(**options).eval()
    expected = model(IDS)
    cache = KeyValueCache()
    with torch.no_grad():
        logits = [model(part, cache=cache) for part in IDS.split(steps, dim=1)]
    close(torch.cat(logits, dim=1), expected)
    assert cache.length == 6


def test_padding_at_the_end_changes_nothing_before_it():
    model = language_model().eval()
    ids = torch.tensor([[3, 4, 5, 0, 0]])
    close(model(ids, padding_mask(ids))[:, :3], model(ids[:, :3]))


def test_tied_output_is_the_embedding_and_counts_once():
    tied = language_model()
    assert tied.output_projection.weight is tied.token_embedding.weight
    loose = language_model(tied_output=False)
    sizes = [sum(p.numel() for p in m.parameters()) for m in (tied, loose)]
    assert sizes[1] - sizes[0] == 11 * 16


def test_it_starts_out_undecided():
    """The first loss is that of guessing, log(vocab): no token is preferred yet."""
    torch.manual_seed(0)
    model = DecoderOnlyTransformer(50, 64, 4, 128, 2).eval()
    ids = torch.randint(0, 50, (8, 32))
    loss = torch.nn.functional.cross_entropy(
        model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
    )
    assert abs(loss - torch.tensor(50.0).log()) < 0.1


def test_too_long_a_text_is_a_clear_error():
    model = language_model(max_seq_len=5).eval()
    with pytest.raises(ValueError, match="max_seq_len is 5"):
        model(IDS)
    cache = KeyValueCache()
    model(IDS[:, :5], cache=cache)
    with pytest.raises(ValueError, match="positions 5 to 5.*max_seq_len is 5"):
        model(IDS[:, 5:], cache=cache)
    with pytest.raises(ValueError, match="num_kv_heads must divide"):
        DecoderOnlyTransformer(11, 16, 4, 32, 1, num_kv_heads=3)
