"""Where the package computes in a quicker way, it gives what the readable way gives."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F

from companion import (
    GPT,
    DecoderOnlyTransformer,
    KeyValueCache,
    LLaMA,
    PaLM,
    PositionwiseFeedForward,
    RotaryEmbedding,
    add_lora,
    causal_mask,
    fused_attention,
    generate,
    record_attention,
    scaled_dot_product_attention,
)
from companion.generation import Reader, unrolled


@pytest.mark.parametrize("layout", ["interleaved", "halves"])
@pytest.mark.parametrize("rotary_dim", [None, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rotary_positions_in_half_the_operations(layout, rotary_dim, dtype):
    torch.manual_seed(0)
    rope = RotaryEmbedding(8, layout=layout, rotary_dim=rotary_dim)
    q, k = torch.randn(2, 4, 5, 8, dtype=dtype), torch.randn(2, 2, 5, 8, dtype=dtype)
    for offset in (0, 7, 7, 0):  # the second 7 is answered from what is kept
        positions = torch.arange(offset, offset + 5)
        for turned, x in zip(rope(q, k, offset), (q, k), strict=True):
            assert torch.equal(turned, rope.rotate(x, positions))


def test_rotary_angles_are_not_kept_beyond_their_use():
    q = torch.randn(1, 1, 3, 8)
    rope = RotaryEmbedding(8)
    with torch.inference_mode():
        rope(q, q)
    learned = q.clone().requires_grad_()
    rope(learned, learned)[0].sum().backward()  # numbers of inference mode would raise
    assert learned.grad is not None
    before, _ = rope(q, q)
    rope.frequencies = rope.frequencies / 2
    after, _ = rope(q, q)
    assert not torch.equal(before, after)
    assert torch.equal(after, rope.rotate(q, torch.arange(3)))


@pytest.mark.parametrize("kind", ["none", "causal", "padding", "both", "bias"])
@pytest.mark.parametrize("kv_heads", [1, 2])
@pytest.mark.parametrize("queries", [1, 6])
def test_fused_attention_of_groups_repeats_nothing(kind, kv_heads, queries):
    torch.manual_seed(0)
    options = {"dtype": torch.float64, "requires_grad": True}
    q = torch.randn(2, 4, queries, 8, **options)
    k, v = (torch.randn(2, kv_heads, 6, 8, **options) for _ in "kv")
    padding = torch.ones(2, 1, 1, 6, dtype=torch.bool)
    padding[0, ..., 4:], padding[1] = False, False  # the second sees nothing at all
    given = {
        "is_causal": kind in ("causal", "both"),
        "mask": padding if kind in ("padding", "both") else None,
        "bias": torch.randn(1, 4, queries, 6, dtype=torch.float64)
        if kind == "bias"
        else None,
    }
    wide = (x.repeat_interleave(4 // kv_heads, dim=1) for x in (k, v))
    expected, _ = scaled_dot_product_attention(q, *wide, **given)
    output = fused_attention(q, k, v, **given)
    torch.testing.assert_close(output, expected, atol=1e-12, rtol=0)
    for ours, theirs in zip(
        torch.autograd.grad(output.square().sum(), (q, k, v)),
        torch.autograd.grad(expected.square().sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


def test_heads_that_make_no_groups_are_refused():
    q, k = torch.randn(1, 4, 2, 8), torch.randn(1, 3, 2, 8)
    with pytest.raises(ValueError, match="must agree in batch and heads"):
        fused_attention(q, k, k)
    with pytest.raises(ValueError, match="must agree in batch and heads"):
        scaled_dot_product_attention(q, k[:, :2], k[:, :2])


def test_the_last_query_sees_all_with_the_mask_and_without():
    torch.manual_seed(0)
    q, k = torch.randn(1, 2, 1, 8), torch.randn(1, 2, 5, 8)
    alone = fused_attention(q, k, k, is_causal=True)
    masked = fused_attention(q, k, k, causal_mask(1, 5))
    torch.testing.assert_close(alone, masked)


def language_models() -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    return {
        "GPT": GPT(20, 16, 2, num_layers=2, max_seq_len=16).eval(),
        "LLaMA": LLaMA(20, 16, 4, 24, 2, 16, num_kv_heads=2).eval(),
        "PaLM": PaLM(20, 16, 2, 2, 16, d_k=8).eval(),
    }


@pytest.mark.parametrize("name", ["GPT", "LLaMA", "PaLM"])
def test_logits_that_nobody_asks_for_are_not_computed(name):
    model, ids = language_models()[name], torch.randint(20, (2, 7))
    rows = []
    model.output_projection.register_forward_hook(
        lambda module, inputs, output: rows.append(output.shape[1])
    )
    with torch.no_grad():
        whole = model(ids)
        torch.testing.assert_close(model(ids, last=2), whole[:, -2:])
        torch.testing.assert_close(Reader(model).read(ids, last=1), whole[:, -1:])
        cache = KeyValueCache()
        model(ids[:, :4], cache=cache, last=1)
        torch.testing.assert_close(model(ids[:, 4:], cache=cache), whole[:, 4:])
    assert rows == [7, 2, 1, 1, 3]
    expected = F.cross_entropy(whole[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    torch.testing.assert_close(model.loss(ids).detach(), expected)
    assert rows[-1] == 6


def test_a_model_that_does_not_know_last_is_read_as_before():
    class Other(GPT):
        def forward(self, token_ids, mask=None, *, cache=None):
            return super().forward(token_ids, mask, cache=cache)

    torch.manual_seed(0)
    model, ids = Other(20, 16, 2, num_layers=1).eval(), torch.randint(20, (1, 5))
    logits = Reader(model).read(ids, last=2)
    torch.testing.assert_close(logits, model(ids)[:, -2:].detach())


def test_the_maximum_in_place_is_seen_by_nobody():
    torch.manual_seed(0)
    layer = PositionwiseFeedForward(8, 16).eval()
    x = torch.randn(3, 8)
    expected = layer(x)  # with gradients, so not in place
    kept = []
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected.detach())
        layer.W_1.register_forward_hook(lambda *call: kept.append(call[2]))
        torch.testing.assert_close(layer(x), expected.detach())
        assert (kept[0] < 0).any()


def models_to_unroll() -> dict[str, torch.nn.Module]:
    sizes = {"num_layers": 2, "max_seq_len": 40}
    return {
        "GPT": GPT(30, 16, 2, **sizes),
        "GPT, post-norm": GPT(30, 16, 2, norm_first=False, **sizes),
        "groups and biases": DecoderOnlyTransformer(
            30, 16, 4, 32, 2, 40, num_kv_heads=2, activation="relu"
        ),
        "LLaMA": LLaMA(30, 16, 4, 24, 2, 40, num_kv_heads=2, tied_output=True),
        "biases, interleaved": LLaMA(
            30, 16, 2, 24, 2, 40, attention_bias=True, mlp_bias=True,
            rope_layout="interleaved",
        ),
        "wide heads": LLaMA(30, 16, 2, 24, 2, 40, d_k=16),
        "Mistral": LLaMA(30, 16, 2, 24, 2, 40, window=5),
    }  # fmt: skip


@pytest.mark.parametrize(("texts", "cores"), [(1, 1), (1, 2), (3, 1), (3, 4)])
@pytest.mark.parametrize("name", models_to_unroll())
def test_unrolled_model_writes_and_scores_as_the_model(name, texts, cores, monkeypatch):
    torch.manual_seed(0)
    model = models_to_unroll()[name].double().eval()
    for parameter in model.parameters():  # so that biases and norms matter
        torch.nn.init.normal_(parameter, std=0.3)
    module = sys.modules["companion.generation.unrolled"]
    monkeypatch.setattr(module, "_WORTH_SHARING", 0)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: cores)
        quick = unrolled(model)
    ids = torch.randint(30, (texts, 30))
    with torch.no_grad():
        expected, cache = model(ids), KeyValueCache()
        parts = [quick(part, cache=cache) for part in ids.split([4] + 26 * [1], dim=1)]
        torch.testing.assert_close(torch.cat(parts, 1), expected, atol=1e-9, rtol=0)
    for prompts in ([[1, 2, 3]], [[1, 2], [3, 4, 5]]):
        assert torch.equal(generate(quick, prompts, 20), generate(model, prompts, 20))


def test_unrolled_model_leaves_to_the_model_what_is_not_its_work():
    torch.manual_seed(0)
    model = LLaMA(30, 16, 2, 24, 2, 40).eval()
    quick, ids = unrolled(model), torch.randint(30, (1, 3))
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    cache = KeyValueCache()
    with torch.no_grad():
        quick(ids, cache=cache)
        quick(ids[:, :1], cache=cache)
        assert len(calls) == 1
        with record_attention(quick) as maps:
            quick(ids[:, :1], cache=cache)
        assert len(calls) == 2 and len(maps) == 2
    quick(ids[:, :1], cache=cache).sum().backward()  # gradients
    assert len(calls) == 3 and model.norm.weight.grad is not None
    gpt = GPT(30, 16, 2, num_layers=1, max_seq_len=4).eval()
    with pytest.raises(ValueError, match="max_seq_len"), torch.no_grad():
        quick, cache = unrolled(gpt), KeyValueCache()
        for _ in range(5):
            quick(ids[:, :1], cache=cache)


def test_what_cannot_be_unrolled_is_refused():
    with pytest.raises(TypeError, match="one is a PaLMBlock"):
        unrolled(PaLM(20, 16, 2, 2, 16, d_k=8))
    model = LLaMA(30, 16, 2, 24, 1, 40)
    add_lora(model, rank=2)
    with pytest.raises(TypeError, match="one is a LoRALinear"):
        unrolled(model)
    with pytest.raises(TypeError, match="but it is a Linear"):
        unrolled(torch.nn.Linear(2, 2))
