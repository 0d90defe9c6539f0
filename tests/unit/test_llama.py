"""LLaMA, Mistral, PaLM: sizes, windows, the rolling cache, and errors of from_hf."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from companion import (
    GPT,
    KeyValueCache,
    LinearScaling,
    LLaMA,
    Llama3Scaling,
    Mistral,
    MultiHeadAttention,
    PaLM,
    RotaryEmbedding,
    Sampling,
    YaRNScaling,
    causal_mask,
    generate,
    record_attention,
    sliding_window_mask,
    speculative_generate,
)
from companion.models.hf import HFConfig
from companion.models.hf_rotary import rotary_from_hf

CONFIG = {
    "model_type": "llama",
    "vocab_size": 30,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def small(**options) -> LLaMA:
    return LLaMA(30, 16, 4, 24, 2, **({"num_kv_heads": 2} | options))


def folder_of(tmp_path, model, **changes):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | changes))
    weights = {k: w.clone() for k, w in model.hf_weights().items()}
    if changes.pop("tie_word_embeddings", False):
        del weights["lm_head.weight"]
    save_file(weights, tmp_path / "model.safetensors")
    return tmp_path


@pytest.mark.parametrize(
    ("model", "name", "parameters"),
    [
        (LLaMA, "llama-7b", 6_738_415_616),  # table 2 of the paper: 6.7B
        (LLaMA, "llama-13b", 13_015_864_320),  # 13.0B
        (LLaMA, "llama-33b", 32_528_943_616),  # 32.5B
        (LLaMA, "llama-65b", 65_285_660_672),  # 65.2B
        (LLaMA, "llama2-70b", 68_976_648_192),
        (LLaMA, "llama3-8b", 8_030_261_248),
        (LLaMA, "llama3.1-405b", 405_853_388_800),
        (LLaMA, "smollm2-135m", 134_515_008),
        (Mistral, "7b", 7_241_732_096),
        (PaLM, "8b", 8_632_012_800),  # table 1 of the paper: 8.63
        (PaLM, "62b", 62_495_662_080),  # 62.50
        (PaLM, "540b", 540_356_474_880),  # 540.35
    ],
)
def test_presets_have_the_published_sizes(model, name, parameters):
    with torch.device("meta"):
        made = model.preset(name)
    assert sum(p.numel() for p in made.parameters()) == parameters


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(
        ValueError, match="name must be one of 7b, but it is 'llama-7b'"
    ):
        Mistral.preset("llama-7b")


def test_no_bias_unless_asked_for():
    assert not any("bias" in name for name, _ in small().named_parameters())
    assert not any("bias" in n for n, _ in PaLM(9, 16, 2, 1, d_k=8).named_parameters())
    names = {n for n, _ in small(attention_bias=True).named_parameters() if "bias" in n}
    assert {n.split(".")[3] for n in names} == {"W_q", "W_k", "W_v", "W_o"}


def test_a_tied_output_is_one_parameter():
    tied, untied = small(tied_output=True), small()
    assert tied.output_projection.weight is tied.token_embedding.weight
    count = [sum(p.numel() for p in m.parameters()) for m in (tied, untied)]
    assert count[1] - count[0] == 30 * 16


def test_the_future_is_not_seen_and_positions_matter():
    model = small().eval()
    ids = torch.randint(0, 30, (1, 9))
    changed = ids.clone()
    changed[0, 6] = (ids[0, 6] + 1) % 30
    off = (model(ids) - model(changed)).abs().amax(dim=-1)[0]
    assert off[:6].max() == 0 and off[6:].min() > 0
    swapped = ids[:, [1, 0, *range(2, 9)]]
    assert (model(ids) - model(swapped)).abs()[0, -1].max() > 0


def test_both_layouts_are_one_model_with_rows_reordered():
    from companion import to_interleaved

    halves = small().eval()
    interleaved = small(rope_layout="interleaved").eval()
    weights = halves.state_dict()
    for name in weights:
        if "W_q" in name or "W_k" in name:
            weights[name] = to_interleaved(weights[name], 4)
    interleaved.load_state_dict(weights)
    ids = torch.randint(0, 30, (2, 9))
    torch.testing.assert_close(halves(ids), interleaved(ids), atol=1e-5, rtol=0)
    interleaved.load_state_dict(halves.state_dict())
    assert (halves(ids) - interleaved(ids)).abs().max() > 1e-4


# The window


def test_sliding_window_mask_says_who_sees_whom():
    mask = sliding_window_mask(3, 6, window=2)
    assert mask.int().tolist() == [
        [0, 0, 1, 1, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 1, 1],
    ]
    assert torch.equal(sliding_window_mask(4, 7, window=7), causal_mask(4, 7))
    assert sliding_window_mask(5, window=1).int().tolist() == torch.eye(5).tolist()


@pytest.mark.parametrize("window", [0, -1])
def test_a_window_must_hold_something(window):
    with pytest.raises(ValueError, match="window must be at least 1"):
        sliding_window_mask(3, window=window)
    with pytest.raises(ValueError, match="window must be at least 1"):
        MultiHeadAttention(8, 2, window=window)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("window", [1, 3, 9, 20])
def test_a_layer_with_a_window_is_one_with_the_mask(window, need_weights):
    layer = MultiHeadAttention(16, 4, window=window).double()
    plain = MultiHeadAttention(16, 4).double()
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(2, 9, 16, dtype=torch.float64)
    padding = torch.rand(2, 1, 1, 9) < 0.7
    for mask in (None, padding):
        seen = sliding_window_mask(9, window=window)
        expected, _ = plain(x, mask=seen if mask is None else seen & mask)
        output, _ = layer(x, mask=mask, need_weights=need_weights)
        torch.testing.assert_close(output, expected, atol=1e-12, rtol=0)


def test_a_window_is_for_self_attention():
    layer, x = MultiHeadAttention(16, 4, window=2), torch.randn(1, 3, 16)
    memory = torch.randn(1, 7, 16)
    moved = memory.clone()
    moved[:, 0] += 1
    assert (layer(x, memory)[0] - layer(x, moved)[0]).abs().min() > 0


def test_a_window_of_three_layers_reaches_three_times_as_far():
    model = Mistral(30, 16, 4, 24, 3, window=3).double().eval()
    ids = torch.randint(0, 30, (1, 16))
    changed = ids.clone()
    changed[0, 0] = (ids[0, 0] + 1) % 30
    off = (model(ids) - model(changed)).abs().amax(dim=-1)[0]
    assert off[: 3 * 2 + 1].min() > 0  # each layer hands on by window - 1
    assert off[3 * 2 + 1 :].max() == 0


@torch.no_grad()
@pytest.mark.parametrize("window", [1, 2, 5, 40])
@pytest.mark.parametrize("parts", [[1] * 300, [50, 1, 200, 49], [3] * 100])
def test_a_rolling_cache_gives_what_the_whole_text_gives(window, parts):
    model = Mistral(30, 16, 4, 24, 2, num_kv_heads=2, window=window).double().eval()
    ids = torch.randint(0, 30, (2, 300))
    cache = KeyValueCache()
    steps = [model(part, cache=cache) for part in ids.split(parts, dim=1)]
    torch.testing.assert_close(torch.cat(steps, 1), model(ids), atol=1e-11, rtol=0)
    assert cache.length == 300
    kept = cache.num_bytes / (
        2 * 2 * 2 * 2 * 4 * 8
    )  # layers, k and v, batch, heads, d_k
    assert window <= kept <= 2 * (window + 64) + max(parts)


@torch.no_grad()
def test_a_mask_may_count_the_keys_that_are_forgotten():
    model = Mistral(30, 16, 4, 24, 2, window=3).double().eval()
    ids = torch.randint(0, 30, (2, 200))
    mask = torch.rand(2, 1, 1, 200) < 0.8
    cache = KeyValueCache()
    steps = [
        model(ids[:, t : t + 1], mask[..., : t + 1], cache=cache) for t in range(200)
    ]
    expected = model(ids, mask)
    torch.testing.assert_close(torch.cat(steps, 1), expected, atol=1e-11, rtol=0)


@torch.no_grad()
def test_a_rolling_cache_can_be_truncated_and_selected():
    model = Mistral(30, 16, 4, 24, 2, window=3).double().eval()
    ids = torch.randint(0, 30, (2, 400))
    cache = KeyValueCache()
    for part in ids[:, :390].split(1, dim=1):
        model(part, cache=cache)
    cache.truncate(350)
    cache.select(torch.tensor([1, 1]))
    again = ids[1:, 350:].expand(2, -1)
    expected = model(ids[1:].expand(2, -1))[:, 350:]
    torch.testing.assert_close(model(again, cache=cache), expected, atol=1e-11, rtol=0)
    with pytest.raises(ValueError, match="length must be at least 336, but it is 100"):
        cache.truncate(100)


def test_speculation_with_a_window_writes_the_same():
    target = Mistral(30, 16, 4, 24, 2, window=3, max_seq_len=400).double()
    draft = Mistral(30, 16, 4, 24, 1, window=2, max_seq_len=400).double()
    spoken = speculative_generate(target, draft, [[1, 2, 3]], 200, num_drafts=6)
    assert torch.equal(spoken.token_ids, generate(target, [[1, 2, 3]], 200))


# With the rest of the package


@pytest.mark.parametrize("kind", [LLaMA, Mistral])
def test_generation_with_and_without_a_cache(kind):
    model = kind(30, 16, 4, 24, 2, num_kv_heads=1, **_window(kind)).double()
    for strategy in (Sampling(top_p=0.9), Sampling(temperature=0.5, top_k=5)):
        texts = [
            generate(
                model,
                [[1, 2], [3, 4, 5]],
                20,
                strategy,
                use_cache=use_cache,
                generator=torch.Generator().manual_seed(1),
            )
            for use_cache in (True, False)
        ]
        assert torch.equal(*texts)


def _window(kind):
    return {"window": 4} if kind is Mistral else {}


def test_texts_longer_than_in_training_are_not_generated():
    with pytest.raises(ValueError, match="max_seq_len of 8"):
        generate(small(max_seq_len=8), [[1, 2, 3]], 9)
    assert small(max_seq_len=8)(torch.ones(1, 20, dtype=torch.long)).shape[1] == 20


def test_attention_is_recorded():
    model = Mistral(30, 16, 4, 24, 2, num_kv_heads=2, window=2)
    with record_attention(model) as maps:
        model(torch.randint(0, 30, (1, 6)))
    weights = maps.stack()
    assert weights.shape == (2, 1, 4, 6, 6)
    assert torch.equal(weights[0, 0, 0] > 0, sliding_window_mask(6, window=2))


# from_hf


def test_a_checkpoint_of_before_version_five(tmp_path):
    model = small().eval()
    loaded = LLaMA.from_hf(folder_of(tmp_path, model))
    ids = torch.randint(0, 30, (1, 5))
    assert torch.equal(loaded(ids), model(ids))


def test_a_tied_checkpoint_leaves_the_head_out(tmp_path):
    model = small(tied_output=True).eval()
    loaded = LLaMA.from_hf(folder_of(tmp_path, model, tie_word_embeddings=True))
    ids = torch.randint(0, 30, (1, 5))
    assert torch.equal(loaded(ids), model(ids))


def test_a_tied_config_with_another_head_is_refused(tmp_path):
    folder = folder_of(tmp_path, small())
    (folder / "config.json").write_text(
        json.dumps(CONFIG | {"tie_word_embeddings": True})
    )
    with pytest.raises(ValueError, match="lm_head.weight is not the token embedding"):
        LLaMA.from_hf(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2"}, "model_type is 'gpt2'"),
        ({"hidden_act": "mish"}, "hidden_act is 'mish'"),
        ({"pretraining_tp": 2}, "pretraining_tp is 2"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is"),
        ({"rope_scaling": {"type": "longrope"}}, "rope_type is 'longrope'"),
        (
            {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
            "partial_rotary_factor is 0.5",
        ),
        ({"rope_scaling": {"type": "linear"}}, "no option 'factor'"),
        ({"attention_bias": True}, "missing"),
        ({"num_hidden_layers": 1}, "left over"),
        ({"num_key_value_heads": 4}, "wrong shape"),
    ],
)
def test_what_is_not_implemented_or_does_not_fit_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        LLaMA.from_hf(folder_of(tmp_path, small(), **changes))


def test_mistral_reads_its_own_kind_only(tmp_path):
    changes = {"model_type": "mistral", "sliding_window": 3}
    folder = folder_of(tmp_path, small(), **changes)
    assert Mistral.from_hf(folder).layers[0].self_attention.window == 3
    with pytest.raises(ValueError, match="LLaMA does not implement"):
        LLaMA.from_hf(folder)


def test_palm_has_no_weights_to_load(tmp_path):
    with pytest.raises(ValueError, match="never published"):
        PaLM.from_hf(tmp_path)


@pytest.mark.parametrize(
    ("options", "base", "scaling"),
    [
        ({}, 10000.0, None),
        ({"rope_theta": 5e5}, 5e5, None),
        ({"rope_theta": 7.0, "rope_scaling": {"type": "linear", "factor": 2.0}}, 7.0, LinearScaling(2.0)),
        (
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 9.0, "factor": 4.0, "beta_fast": 16}},
            9.0,
            YaRNScaling(4.0, 32, beta_fast=16),
        ),
        (
            {
                "rope_theta": 5e5,
                "rope_scaling": {
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 8192,
                },
            },
            5e5,
            Llama3Scaling(8.0, 8192),
        ),
    ],
)  # fmt: skip
def test_rotary_options_of_old_and_new_configs(options, base, scaling):
    config = HFConfig({"max_position_embeddings": 32} | options)
    assert rotary_from_hf(config, "LLaMA") == (base, scaling)


def test_half_precision_leaves_the_angles_alone():
    model = small().to(torch.bfloat16)
    rotary = model.layers[0].self_attention.rotary
    assert torch.equal(rotary.frequencies, RotaryEmbedding(4).frequencies)
    assert model(torch.randint(0, 30, (1, 5))).dtype == torch.bfloat16


def test_it_is_used_like_gpt():
    ids = torch.randint(0, 30, (2, 7))
    for model in (GPT(30, 16, 4, num_layers=2), small(), PaLM(30, 16, 2, 1, d_k=8)):
        states = model.hidden_states(ids)
        assert len(states) == len(model.layers) + 1
        assert model(ids).shape == (2, 7, 30)
        labels = ids.clone()
        labels[:, 3:] = -100
        assert model.loss(ids, labels) != model.loss(ids)
