"""BART: sizes, positions, causality, the cache, and what from_hf refuses."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from companion import BART, KeyValueCache, padding_mask

SOURCE = torch.tensor([[5, 6, 7, 2], [9, 2, 1, 1]])
TARGET = torch.tensor([[2, 5, 6, 7, 8], [2, 9, 8, 7, 6]])


@pytest.fixture
def model() -> BART:
    torch.manual_seed(0)
    model = BART(11, 16, 4, 32, 2, 2, max_seq_len=8).eval()
    for p in model.parameters():  # far from zero, so that it shows
        nn.init.normal_(p, std=0.3)
    return model


@pytest.mark.parametrize(("name", "millions"), [("base", 139.4), ("large", 406.3)])
def test_presets_have_the_published_sizes(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = BART.preset(name)
    found = sum(p.numel() for p in model.parameters()) / 1e6
    assert found == pytest.approx(millions, abs=0.06)


def test_unknown_preset() -> None:
    with pytest.raises(ValueError, match=r"base, large, but it is 'huge'"):
        BART.preset("huge")


@torch.no_grad()
def test_positions_begin_at_the_third_row(model: BART) -> None:
    states = model.encoder_states(SOURCE)[0]
    table = model.encoder.positions.position_embeddings.weight
    expected = model.encoder.norm(model.embedding(SOURCE) + table[2:6])
    torch.testing.assert_close(states, expected)
    assert len(table) == 10


def test_too_long_a_text_is_refused(model: BART) -> None:
    model(torch.full((1, 8), 5), torch.full((1, 8), 5))
    with pytest.raises(ValueError, match="positions 2 to 10 don't all exist"):
        model.encode(torch.full((1, 9), 5))


@torch.no_grad()
def test_the_decoder_does_not_see_the_future(model: BART) -> None:
    changed = TARGET.clone()
    changed[:, 3] = 10
    memory = model.encode(SOURCE)
    before, after = (model.decode(t, memory) for t in (TARGET, changed))
    assert torch.equal(before[:, :3], after[:, :3])
    assert (before[:, 3:] - after[:, 3:]).abs().amin(dim=(0, 2)).min() > 1e-4


@torch.no_grad()
def test_padding_changes_nothing(model: BART) -> None:
    alone = model(SOURCE[1:, :2], TARGET[1:])
    padded = model(SOURCE, TARGET, padding_mask(SOURCE, model.pad_id))[1:]
    torch.testing.assert_close(padded, alone, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("pieces", [(1, 1, 1, 1, 1), (2, 3)])
def test_with_a_cache_the_same_logits(model: BART, pieces: tuple[int, ...]) -> None:
    memory = model.encode(SOURCE)
    cache = KeyValueCache()
    parts = [
        model.decode(part, memory, cache=cache) for part in TARGET.split(pieces, dim=1)
    ]
    expected = model.decode(TARGET, memory)
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_bias_forbids_a_token(model: BART) -> None:
    before = model(SOURCE, TARGET)
    model.logits_bias[0, 4] = -torch.inf
    after = model(SOURCE, TARGET)
    assert (after[..., 4] == -torch.inf).all()
    assert torch.equal(after[..., :4], before[..., :4])
    assert "logits_bias" in model.state_dict()


def test_padding_has_no_vector_and_learns_none_as_input() -> None:
    model = BART(11, 16, 4, 32, 1, 1, max_seq_len=8)
    assert (model.embedding.weight[model.pad_id] == 0).all()


def test_dropouts_go_where_they_belong() -> None:
    model = BART(
        11, 16, 4, 32, 1, 1, dropout=0.1, attention_dropout=0.2, hidden_dropout=0.3
    )
    layer = model.decoder.layers[0]
    assert layer.self_attention.dropout == layer.cross_attention.dropout == 0.2
    assert layer.feed_forward.dropout.p == 0.3
    assert layer.dropout.p == model.encoder.dropout.p == 0.1


# Reading checkpoints


@pytest.fixture
def theirs() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.BartConfig(
        vocab_size=11,
        d_model=8,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_layers=1,
        decoder_layers=1,
        max_position_embeddings=7,
        attention_dropout=0.4,
    )
    return transformers.BartForConditionalGeneration(config)


def with_option(theirs: nn.Module, option: str, value: object) -> nn.Module:
    config = copy.deepcopy(theirs.config).to_dict() | {option: value}
    theirs.config = type("Config", (), {"to_dict": lambda self: config})()
    return theirs


def test_from_hf_reads_what_does_not_show_in_a_forward_pass(theirs) -> None:
    model = BART.from_hf(theirs)
    assert not model.training
    assert (model.pad_id, model.start_id, model.eos_id) == (1, 2, 2)
    assert model.max_seq_len == 7
    assert model.encoder.layers[0].self_attention.dropout == 0.4


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("model_type", "mbart"),
        ("activation_function", "tanh"),
        ("encoder_layerdrop", 0.1),
        ("normalize_before", True),
        ("tie_word_embeddings", False),
        ("static_position_embeddings", True),
    ],
)
def test_from_hf_refuses_what_is_not_implemented(theirs, option, value) -> None:
    with pytest.raises(ValueError, match=f"{option} is "):
        BART.from_hf(with_option(theirs, option, value))


def test_from_hf_wants_the_same_heads_in_both_stacks(theirs) -> None:
    with pytest.raises(ValueError, match="encoder_attention_heads is 2"):
        BART.from_hf(with_option(theirs, "decoder_attention_heads", 4))


def test_from_hf_names_left_over_and_missing_weights(theirs) -> None:
    theirs.extra = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"left over[\s\S]*extra\.weight"):
        BART.from_hf(theirs)
    del theirs.extra
    del theirs.model.encoder.layers[0].fc1
    with pytest.raises(ValueError, match=r"missing[\s\S]*W_1\.weight"):
        BART.from_hf(theirs)
