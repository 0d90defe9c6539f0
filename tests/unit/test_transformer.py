"""The encoder-decoder: what must hold whatever its weights."""

from __future__ import annotations

import pytest
import torch

from companion import (
    KeyValueCache,
    Transformer,
    TransformerEncoder,
    padding_mask,
    record_attention,
)

SOURCE = torch.tensor([[3, 4, 5, 6, 7], [8, 9, 3, 0, 0]])
TARGET = torch.tensor([[1, 5, 6, 7], [1, 8, 9, 2]])


def small(**options) -> Transformer:
    torch.manual_seed(0)
    return (
        Transformer(11, 11, 16, 4, 32, 2, 2, max_seq_len=16, **options).double().eval()
    )


def close(a, b):
    torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


@pytest.mark.parametrize("norm_first", [False, True])
def test_the_future_of_the_target_is_hidden(norm_first):
    model = small(norm_first=norm_first)
    before = model(SOURCE, TARGET, padding_mask(SOURCE))
    changed = TARGET.clone()
    changed[:, 2:] = 10
    after = model(SOURCE, changed, padding_mask(SOURCE))
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.allclose(before[:, 2:], after[:, 2:])


def test_padding_of_the_source_changes_nothing():
    model = small()
    alone = model(SOURCE[1:, :3], TARGET[1:])
    in_a_batch = model(SOURCE, TARGET, padding_mask(SOURCE))
    close(in_a_batch[1:], alone)
    unmasked = model(SOURCE, TARGET)
    assert not torch.allclose(unmasked[1:], alone)


def test_every_source_token_reaches_every_logit():
    model = small()
    before = model(SOURCE, TARGET)
    for position in range(5):
        changed = SOURCE.clone()
        changed[:, position] = 10
        assert ((model(changed, TARGET) - before).abs().amax(-1) > 1e-9).all()


@pytest.mark.parametrize("steps", [[1, 1, 1, 1], [3, 1]])
def test_cached_decoding_equals_uncached_logit_by_logit(steps):
    model, mask = small(), padding_mask(SOURCE)
    expected = model(SOURCE, TARGET, mask)
    with torch.no_grad():
        memory, cache = model.encode(SOURCE, mask), KeyValueCache()
        logits = [
            model.decode(part, memory, mask, cache=cache)
            for part in TARGET.split(steps, dim=1)
        ]
    close(torch.cat(logits, dim=1), expected)
    assert cache.length == 4


@pytest.mark.parametrize(("name", "millions"), [("base", 65), ("big", 213)])
def test_presets_have_the_papers_size(name, millions):
    """Table 3 rounds; counted on the meta device, where nothing is allocated."""
    with torch.device("meta"):
        model = Transformer.preset(name)
    count = sum(p.numel() for p in model.parameters())
    assert abs(count / 1e6 - millions) < 0.05 * millions


def test_tied_embeddings_are_one_tensor_and_learn_as_one():
    tied = small(shared_vocabulary=True, tied_output=True)
    weight = tied.decoder.embedding.token.weight
    assert tied.encoder.embedding.token.weight is weight
    assert tied.output_projection.weight is weight
    loose = small()
    assert len(list(loose.parameters())) == len(list(tied.parameters())) + 2
    tied(SOURCE, TARGET).sum().backward()
    assert weight.grad[4].abs().sum() > 0  # a token of the source only


def test_every_map_is_recorded():
    model = small()
    with record_attention(model) as maps:
        model(SOURCE, TARGET)
    kinds = [name.rpartition(".")[2] for name in maps]
    assert kinds == ["self_attention"] * 2 + ["self_attention", "cross_attention"] * 2
    assert maps["decoder.layers.1.cross_attention"][0].shape == (2, 4, 4, 5)


def test_pre_norm_ends_in_a_norm_and_post_norm_need_not():
    for norm_first, expected in (
        (True, torch.nn.LayerNorm),
        (False, torch.nn.Identity),
    ):
        encoder = TransformerEncoder(11, 16, 4, 32, 2, norm_first=norm_first)
        assert isinstance(encoder.norm, expected)


def test_clear_errors():
    with pytest.raises(ValueError, match="one size.*11.*12"):
        Transformer(11, 12, 16, 4, 32, 1, 1, shared_vocabulary=True)
    with pytest.raises(ValueError, match="base, big.*'large'"):
        Transformer.preset("large")
    with pytest.raises(ValueError, match="num_heads must divide"):
        Transformer(11, 11, 16, 3, 32, 1, 1)
    with pytest.raises(ValueError, match="max_seq_len"):
        small()(torch.ones(1, 17, dtype=torch.long), TARGET[:1])
