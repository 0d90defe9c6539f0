"""GPT alone: sizes, initial weights, the loss, and what from_hf refuses."""

from __future__ import annotations

import math

import pytest
import torch

from companion import GPT, KeyValueCache, generate, padding_mask
from companion.models.gpt import GPT3_SIZES

transformers = pytest.importorskip("transformers")


def tiny(**options) -> GPT:
    torch.manual_seed(0)
    sizes = {"num_layers": 3, "max_seq_len": 12} | options
    return GPT(20, 16, 4, **sizes).eval()


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("preset", "number"),
    [
        ("gpt1", 116_534_784),
        ("gpt2", 124_439_808),
        ("gpt2-medium", 354_823_168),
        ("gpt2-large", 774_030_080),
        ("gpt2-xl", 1_557_611_200),
    ],
)
def test_presets_have_the_size_of_the_released_models(preset, number):
    with torch.device("meta"):
        model = GPT.preset(preset)
        name = "OpenAIGPT" if preset == "gpt1" else "GPT2"
        assert count(model) == number
        sizes = {
            "n_embd": model.token_embedding.embedding_dim,
            "n_layer": len(model.layers),
            "n_head": model.layers[0].self_attention.num_heads,
        }
        config = getattr(transformers, f"{name}Config")(**sizes)
        theirs = getattr(transformers, f"{name}LMHeadModel")(config)
    assert count(theirs) == number


def test_gpt3_sizes():
    """All within 3 % of what the table says; two rows contradict themselves."""
    for size in GPT3_SIZES:
        d, layers = size.d_model, size.num_layers
        number = 12 * layers * d**2 + 13 * layers * d + (50257 + 2048) * d + 2 * d
        unit = 1e9 if size.parameters.endswith("B") else 1e6
        published = float(size.parameters[:-1]) * unit
        assert number / published == pytest.approx(1, abs=0.03), size.name
    odd = [s.name for s in GPT3_SIZES if s.num_heads * s.d_head != s.d_model]
    assert odd == ["XL", "13B"]
    small = GPT3_SIZES[0]
    with torch.device("meta"):
        model = GPT(50257, 768, 12, num_layers=12, max_seq_len=2048)
    d, layers = small.d_model, small.num_layers
    formula = 12 * layers * d**2 + 13 * layers * d + (50257 + 2048) * d + 2 * d
    assert count(model) == formula


@torch.no_grad()
def test_what_is_added_begins_small():
    wide = GPT(50, 128, 4, num_layers=8, max_seq_len=64)
    for layer in wide.layers:
        for last in (layer.self_attention.W_o, layer.feed_forward.W_2):
            assert last.weight.std() == pytest.approx(0.02 / 4, rel=0.05)
        assert layer.feed_forward.W_1.weight.std() == pytest.approx(0.02, rel=0.05)
    for name, parameter in wide.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name


def test_the_loss_shifts_by_one():
    model = tiny()
    ids = torch.randint(0, 20, (2, 6))
    log_p = model(ids).log_softmax(-1)
    by_hand = [-log_p[b, t, ids[b, t + 1]] for b in range(2) for t in range(5)]
    torch.testing.assert_close(model.loss(ids), torch.stack(by_hand).mean())


def test_the_loss_leaves_out_what_does_not_count():
    model = tiny()
    ids = torch.tensor([[3, 4, 5, 6, 0, 0], [7, 8, 9, 1, 2, 3]])
    labels = ids.masked_fill(ids == 0, -100)
    rows = [model.loss(ids[:1, :4]) * 3, model.loss(ids[1:]) * 5]
    loss = model.loss(ids, labels, padding_mask(ids))
    torch.testing.assert_close(loss, sum(rows) / 8)
    with pytest.raises(ValueError, match=r"labels must have the shape.*\(2, 6\)"):
        model.loss(ids, labels[:, :3])


def test_hidden_units_are_not_dropped_and_the_rest_is():
    model = GPT(20, 16, 4, num_layers=1, dropout=0.5).train()
    torch.manual_seed(0)
    x = torch.randn(1, 5, 16)
    feed_forward = model.layers[0].feed_forward
    assert torch.equal(feed_forward(x), feed_forward(x))
    assert not torch.equal(model.layers[0](x), model.layers[0](x))
    ids = torch.randint(0, 20, (1, 5))
    assert not torch.equal(*(model.hidden_states(ids)[0] for _ in range(2)))


@pytest.mark.parametrize("norm_first", [True, False])
def test_writing_with_and_without_cache_is_the_same(norm_first):
    model = tiny(norm_first=norm_first).double()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(20)
    prompt = torch.randint(0, 20, (2, 3))
    cached = generate(model, prompt, 9)
    assert torch.equal(cached, generate(model, prompt, 9, use_cache=False))
    cache = KeyValueCache()
    with torch.no_grad():
        parts = [model(x, cache=cache) for x in cached.split(1, dim=1)]
        torch.testing.assert_close(torch.cat(parts, 1), model(cached))


def test_a_fresh_model_is_undecided():
    torch.manual_seed(0)
    model = GPT(50, 64, 4, num_layers=2, max_seq_len=32).eval()
    loss = model.loss(torch.randint(0, 50, (8, 32)))
    assert loss.item() == pytest.approx(math.log(50), abs=0.1)


def hf(**options):
    sizes = {"vocab_size": 20, "n_embd": 8, "n_head": 2, "n_layer": 1, "n_positions": 6}
    ends = {"bos_token_id": None, "eos_token_id": None}
    return transformers.GPT2Config(**(sizes | ends | options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ({"scale_attn_weights": False}, "scale_attn_weights is False"),
        ({"reorder_and_upcast_attn": True}, "reorder_and_upcast_attn is True"),
        ({"add_cross_attention": True}, "add_cross_attention is True"),
        ({"activation_function": "gelu_fast"}, "activation_function is 'gelu_fast'"),
    ],
)
def test_options_that_are_not_implemented(options, message):
    model = transformers.GPT2LMHeadModel(hf(**options))
    with pytest.raises(ValueError, match=f"GPT does not implement.*\n.*{message}"):
        GPT.from_hf(model)


def test_weights_that_are_left_over():
    model = transformers.GPT2DoubleHeadsModel(hf())
    with pytest.raises(ValueError, match=r"(?s)left over.*multiple_choice_head"):
        GPT.from_hf(model)


def test_a_missing_head():
    model = transformers.GPT2Model(hf(tie_word_embeddings=False))
    with pytest.raises(ValueError, match=r"missing:\n.*output_projection.weight"):
        GPT.from_hf(model)


def test_a_tied_head_that_is_not():
    model = transformers.GPT2LMHeadModel(hf(tie_word_embeddings=False))
    model.config.tie_word_embeddings = True
    with pytest.raises(ValueError, match="is not the token embedding"):
        GPT.from_hf(model)


def test_an_old_checkpoint_with_stored_masks(tmp_path):
    from safetensors.torch import load_file, save_file

    model = transformers.GPT2LMHeadModel(hf())
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights = {name.removeprefix("transformer."): w for name, w in weights.items()}
    weights["h.0.attn.bias"] = torch.ones(1, 1, 6, 6)
    weights["h.0.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(weights, tmp_path / "model.safetensors")
    ids = torch.randint(0, 20, (1, 6))
    with torch.no_grad():
        expected = model.eval()(ids).logits
        torch.testing.assert_close(GPT.from_hf(tmp_path)(ids), expected)


def test_no_such_preset():
    with pytest.raises(ValueError, match="gpt2-xl, but it is 'gpt4'"):
        GPT.preset("gpt4")
