"""T5: sizes, the shared table of positions, causality, the cache, and what from_hf refuses."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from companion import T5, KeyValueCache, padding_mask, record_attention
from companion.models.seq2seq import shift_right
from companion.models.t5 import PRESETS

SOURCE = torch.tensor([[5, 6, 7, 8], [9, 6, 0, 0]])
TARGET = torch.tensor([[0, 5, 6, 7, 8], [0, 9, 8, 7, 6]])


@pytest.fixture
def model() -> T5:
    torch.manual_seed(0)
    model = T5(11, 16, 4, 6, 32, 2, 2, num_buckets=8, max_distance=10).eval()
    for stack in (model.encoder, model.decoder):  # far from zero, so that it shows
        nn.init.normal_(stack.relative_bias.bias.weight)
    return model


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("small", 60.5),
        ("base", 222.9),
        ("large", 737.7),
        ("3B", 2851.6),
        ("11B", 11307.3),
        ("v1.1-small", 77.0),
        ("v1.1-base", 247.6),
        ("v1.1-large", 783.2),
        ("v1.1-xl", 2849.8),
        ("v1.1-xxl", 11135.3),
    ],
)
def test_presets_have_the_published_sizes(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = T5.preset(name)
    found = sum(p.numel() for p in model.parameters()) / 1e6
    assert found == pytest.approx(millions, abs=0.06)


def test_every_preset_is_counted_and_unknown_ones_are_refused() -> None:
    assert len(PRESETS) == 10
    with pytest.raises(ValueError, match=r"name must be one of small.*'tiny'"):
        T5.preset("tiny")


def test_one_table_of_positions_a_stack(model: T5) -> None:
    names = [name for name, _ in model.named_parameters() if "relative" in name]
    assert names == [
        "encoder.relative_bias.bias.weight",
        "decoder.relative_bias.bias.weight",
    ]
    assert not any("bias" in n for n, _ in model.named_parameters() if n not in names)


@torch.no_grad()
def test_scores_are_not_scaled(model: T5) -> None:
    x = torch.randn(1, 3, 16)
    attention = model.encoder.layers[0].self_attention
    Q, K = (w(x).unflatten(-1, (4, 6)) for w in (attention.W_q, attention.W_k))
    expected = torch.einsum("bqhd,bkhd->bhqk", Q, K).softmax(dim=-1)
    torch.testing.assert_close(attention(x)[1], expected)


@torch.no_grad()
def test_only_distances_count(model: T5) -> None:
    """The same text later in a row of hidden tokens gives the same states."""
    text = torch.tensor([[5, 6, 7, 8]])
    later = torch.tensor([[2, 2, 2, 5, 6, 7, 8]])
    hidden = torch.tensor([[False] * 3 + [True] * 4])[:, None, None]
    moved = model.encode(later, hidden)[:, 3:]
    torch.testing.assert_close(moved, model.encode(text), atol=1e-5, rtol=0)
    seen = model.encode(later)[:, 3:]
    assert (seen - moved).abs().max() > 0.01


@torch.no_grad()
def test_the_decoder_does_not_see_the_future_and_the_encoder_does(model: T5) -> None:
    changed = TARGET.clone()
    changed[:, 3] = 2
    memory = model.encode(SOURCE)
    before, after = (model.decode(t, memory) for t in (TARGET, changed))
    assert torch.equal(before[:, :3], after[:, :3])
    assert (before[:, 3:] - after[:, 3:]).abs().amin(dim=(0, 2)).min() > 1e-5
    changed = SOURCE.clone()
    changed[0, 3] = 2
    assert (model.encode(changed)[0, 0] - memory[0, 0]).abs().max() > 1e-4


@torch.no_grad()
def test_padding_changes_nothing(model: T5) -> None:
    alone = model(SOURCE[1:, :2], TARGET[1:])
    padded = model(SOURCE, TARGET, padding_mask(SOURCE))[1:]
    torch.testing.assert_close(padded, alone, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("pieces", [(1, 1, 1, 1, 1), (2, 3), (1, 4)])
def test_with_a_cache_the_same_logits(model: T5, pieces: tuple[int, ...]) -> None:
    mask = padding_mask(SOURCE)
    memory = model.encode(SOURCE, mask)
    cache = KeyValueCache()
    parts = [
        model.decode(part, memory, mask, cache=cache)
        for part in TARGET.split(pieces, dim=1)
    ]
    expected = model.decode(TARGET, memory, mask)
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_recording_sees_every_map(model: T5) -> None:
    with record_attention(model) as maps:
        model(SOURCE, TARGET)
    shapes = {name.split(".", 1)[0]: [] for name in maps}
    for name, found in maps.items():
        shapes[name.split(".", 1)[0]].append(tuple(found[0].shape[2:]))
    assert shapes == {
        "encoder": [(4, 4), (4, 4)],
        "decoder": [(5, 5), (5, 4), (5, 5), (5, 4)],
    }


def test_states_come_as_two_lists(model: T5) -> None:
    encoder, decoder = model.hidden_states(SOURCE, TARGET)
    assert len(encoder) == len(decoder) == 3
    assert torch.equal(encoder[-1], model.encode(SOURCE))
    torch.testing.assert_close(model.logits(decoder[-1]), model(SOURCE, TARGET))


def test_the_loss_counts_labels_only_and_reads_them_shifted(model: T5) -> None:
    labels = torch.tensor([[5, 6, 1, -100], [9, 1, -100, -100]])
    logits = model(SOURCE, shift_right(labels, 0, 0)).log_softmax(dim=-1)
    real = [(0, 0, 5), (0, 1, 6), (0, 2, 1), (1, 0, 9), (1, 1, 1)]
    expected = -sum(logits[place] for place in real) / 5
    torch.testing.assert_close(model.loss(SOURCE, labels), expected)


def test_scaled_output_follows_the_tied_head() -> None:
    sizes = (11, 16, 4, 6, 32, 1, 1)
    tied, untied = T5(*sizes), T5(*sizes, tied_output=False)
    assert tied.scaled_output and tied.output_projection is None
    assert not untied.scaled_output and untied.output_projection is not None
    x = torch.randn(1, 2, 16)
    expected = x @ tied.embedding.weight.T / 4
    torch.testing.assert_close(tied.logits(x), expected)
    with torch.no_grad():  # at the start, logits are of size 1
        assert 0.5 < T5(200, 64, 4, 16, 64, 1, 1).logits(torch.randn(9, 64)).std() < 2


def test_bad_sizes() -> None:
    with pytest.raises(ValueError, match=r"num_encoder_layers .* at least 1"):
        T5(11, 16, 4, 6, 32, 0, 1)
    with pytest.raises(ValueError, match="max_distance must be above 8"):
        T5(11, 16, 4, 6, 32, 1, 1, max_distance=3)


# Reading checkpoints


@pytest.fixture
def theirs() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.T5Config(
        vocab_size=11, d_model=8, num_heads=2, d_kv=4, d_ff=16, num_layers=1
    )
    return transformers.T5ForConditionalGeneration(config)


def test_from_hf_is_in_evaluation_mode_and_reads_the_special_tokens(theirs) -> None:
    theirs.config.decoder_start_token_id = 3
    model = T5.from_hf(theirs)
    assert not model.training
    assert (model.pad_id, model.start_id, model.eos_id) == (0, 3, 1)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("model_type", "bart"),
        ("feed_forward_proj", "gated-tanh"),
        ("is_encoder_decoder", False),
        ("quantization_config", {"bits": 8}),
    ],
)
def test_from_hf_refuses_what_is_not_implemented(theirs, option, value) -> None:
    config = copy.deepcopy(theirs.config).to_dict() | {option: value}
    theirs.config = type("Config", (), {"to_dict": lambda self: config})()
    with pytest.raises(ValueError, match=f"{option} is "):
        T5.from_hf(theirs)


def test_from_hf_names_left_over_and_missing_weights(theirs) -> None:
    theirs.extra = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"left over[\s\S]*extra\.weight"):
        T5.from_hf(theirs)
    del theirs.extra
    del theirs.encoder.block[0].layer[0].SelfAttention.q
    with pytest.raises(ValueError, match=r"missing[\s\S]*W_q\.weight, from .*\.q\."):
        T5.from_hf(theirs)


def test_from_hf_refuses_an_embedding_of_the_decoders_own(theirs) -> None:
    theirs.decoder.embed_tokens = nn.Embedding(11, 8)
    with pytest.raises(ValueError, match=r"no rule[\s\S]*decoder.embed_tokens.weight"):
        T5.from_hf(theirs)


def test_an_old_config_without_scale_decoder_outputs(theirs) -> None:
    config = theirs.config.to_dict()
    del config["scale_decoder_outputs"]
    for tied, scaled in ((True, True), (False, False)):
        config["tie_word_embeddings"] = tied
        theirs.config = type("Config", (), {"to_dict": lambda self: config})()
        assert T5.from_hf(theirs).scaled_output == scaled
