"""Positions against those of transformers: sinusoids, T5, ALiBi, rotary and its scalings."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from companion.layers import causal_mask, scaled_dot_product_attention
from companion.layers.positions import SinusoidalPositionalEncoding, sinusoidal_table
from companion.layers.relative import (
    ALiBi,
    T5RelativeBias,
    relative_positions,
    t5_buckets,
)
from companion.layers.rotary import RotaryEmbedding, to_interleaved
from companion.layers.rotary_scaling import (
    DynamicNTKScaling,
    LinearScaling,
    Llama3Scaling,
    RotaryScaling,
    YaRNScaling,
)

transformers = pytest.importorskip("transformers")
# After the line above, so that a machine without transformers skips this file.
from transformers.models.bloom import modeling_bloom  # noqa: E402
from transformers.models.gptj import modeling_gptj  # noqa: E402
from transformers.models.llama import modeling_llama  # noqa: E402
from transformers.models.marian import modeling_marian  # noqa: E402
from transformers.models.t5 import modeling_t5  # noqa: E402
from transformers.models.whisper import modeling_whisper  # noqa: E402


def difference(*pairs: tuple[Tensor, Tensor]) -> float:
    for ours, theirs in pairs:
        assert ours.shape == theirs.shape
    return max((ours - theirs).abs().max().item() for ours, theirs in pairs)


@pytest.mark.parametrize("d_model", [6, 64])
def test_sinusoids_in_halves(parity_record, d_model: int) -> None:
    theirs = modeling_marian.MarianSinusoidalPositionalEmbedding(40, d_model)
    theirs.weight.data.copy_(theirs.create_weight())
    ours = SinusoidalPositionalEncoding(d_model, 40, layout="halves")
    zero = torch.zeros(1, 9, d_model)
    parity_record(
        f"SinusoidalPositionalEncoding, halves, width {d_model}",
        "transformers.MarianSinusoidalPositionalEmbedding",
        difference(
            (ours.table, theirs.weight),
            (ours(zero, offset=31)[0], theirs((1, 9), past_key_values_length=31)),
        ),
        1e-7,
    )


def test_sinusoids_to_the_endpoint(parity_record) -> None:
    # Its angles are float32 numbers, ours float64.
    parity_record(
        "sinusoidal_table, halves, endpoint",
        "transformers Whisper sinusoids",
        difference(
            (
                sinusoidal_table(60, 32, "halves", endpoint=True),
                modeling_whisper.sinusoids(60, 32),
            )
        ),
        1e-5,
    )


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "reach"), [(32, 128), (8, 20), (20, 33)])
def test_t5_buckets_and_bias(parity_record, buckets, reach, bidirectional) -> None:
    config = transformers.T5Config(
        d_model=12,
        d_kv=4,
        num_heads=3,
        relative_attention_num_buckets=buckets,
        relative_attention_max_distance=reach,
        is_decoder=not bidirectional,
    )
    theirs = modeling_t5.T5Attention(
        config, has_relative_attention_bias=True, layer_idx=0
    )
    ours = T5RelativeBias(3, buckets, reach, bidirectional)
    ours.bias.load_state_dict(theirs.relative_attention_bias.state_dict())
    relative = torch.arange(-3 * reach, 3 * reach)
    expected = theirs._relative_position_bucket(relative, bidirectional, buckets, reach)
    assert torch.equal(t5_buckets(relative, buckets, reach, bidirectional), expected)
    parity_record(
        f"T5RelativeBias, {'both sides' if bidirectional else 'causal'}, "
        f"{buckets} buckets to {reach}",
        "transformers.T5Attention.compute_bias",
        difference(
            (ours(40), theirs.compute_bias(40, 40)),
            (ours(3, 40), theirs.compute_bias(3, 40, past_seen_tokens=37)),
        ),
        1e-9,
    )


@pytest.mark.parametrize("num_heads", [1, 2, 6, 8, 12])
def test_alibi(parity_record, num_heads: int) -> None:
    """Bloom adds slope times the key's position: another constant a row, the same softmax."""
    torch.manual_seed(0)
    length = 7
    theirs = modeling_bloom.build_alibi_tensor(
        torch.ones(1, length, dtype=torch.long), num_heads, torch.float32
    )[None]  # (1, H, 1, K)
    ours = ALiBi(num_heads)(length)
    seen = causal_mask(length)
    past = relative_positions(length).clamp(max=0)
    slopes = theirs[0, :, 0, 1]
    q, k, v = torch.randn(3, 2, num_heads, length, 4)
    _, our_weights = scaled_dot_product_attention(q, k, v, seen, bias=ours)
    _, their_weights = scaled_dot_product_attention(q, k, v, seen, bias=theirs)
    parity_record(
        f"ALiBi, {num_heads} heads",
        "transformers Bloom build_alibi_tensor",
        difference(
            ((ours * seen)[0], slopes[:, None, None] * past),
            (our_weights, their_weights),
        ),
        1e-6,
    )


ROTARY: dict[str, tuple[dict, RotaryScaling | None]] = {
    "plain": ({"rope_type": "default", "rope_theta": 10000.0}, None),
    "base 500000": ({"rope_type": "default", "rope_theta": 500000.0}, None),
    "linear": (
        {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5},
        LinearScaling(2.5),
    ),
    "dynamic NTK": (
        {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 3.0},
        DynamicNTKScaling(3.0, original_max_seq_len=64),
    ),
    "YaRN": (
        {
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 64,
        },
        YaRNScaling(4.0, 64),
    ),
    "YaRN, other turns, no truncation": (
        {
            "rope_type": "yarn",
            "rope_theta": 5000.0,
            "factor": 8.0,
            "original_max_position_embeddings": 256,
            "beta_fast": 16.0,
            "beta_slow": 2.0,
            "truncate": False,
        },
        YaRNScaling(8.0, 256, beta_fast=16.0, beta_slow=2.0, truncate=False),
    ),
    "YaRN, mscale": (
        {
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 40.0,
            "original_max_position_embeddings": 4096,
            "mscale": 1.0,
            "mscale_all_dim": 0.7,
        },
        YaRNScaling(40.0, 4096, mscale=1.0, mscale_all_dim=0.7),
    ),
    "YaRN, attention factor": (
        {
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 2.0,
            "original_max_position_embeddings": 64,
            "attention_factor": 1.3,
        },
        YaRNScaling(2.0, 64, attention_factor=1.3),
    ),
    "LLaMA 3": (
        {
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 8.0,
            "original_max_position_embeddings": 48,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
        },
        Llama3Scaling(8.0, 48),
    ),
}


@pytest.mark.parametrize("length", [20, 100])
@pytest.mark.parametrize("name", ROTARY)
def test_rotary_in_halves(parity_record, name: str, length: int) -> None:
    """Angles and turned vectors, below and above the length of training."""
    torch.manual_seed(0)
    parameters, scaling = ROTARY[name]
    config = transformers.LlamaConfig(
        hidden_size=96,
        num_attention_heads=4,
        max_position_embeddings=64,
        rope_parameters=dict(parameters),
    )
    theirs = modeling_llama.LlamaRotaryEmbedding(config)
    ours = RotaryEmbedding(24, parameters["rope_theta"], "halves", scaling=scaling)
    q, k = torch.randn(2, 4, length, 24), torch.randn(2, 2, length, 24)
    positions = torch.arange(length)
    cos, sin = theirs(q, positions[None])
    our_cos, our_sin = ours.cos_sin(positions)
    expected = modeling_llama.apply_rotary_pos_emb(q, k, cos, sin)
    parity_record(
        f"RotaryEmbedding, halves, {name}, {length} positions",
        f"transformers.LlamaRotaryEmbedding, {parameters['rope_type']}",
        difference(
            (our_cos, cos[0, :, :12]),
            (our_sin, sin[0, :, :12]),
            *zip(ours(q, k), expected, strict=True),
        ),
        2e-5,
    )


@pytest.mark.parametrize("rotary_dim", [8, 4])
def test_rotary_interleaved(parity_record, rotary_dim: int) -> None:
    """GPT-J turns neighbors, and only the first ``rotary_dim`` of each head."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 11, 8)
    table = modeling_gptj.create_sinusoidal_positions(11, rotary_dim)[None]
    sin, cos = table.chunk(2, dim=-1)
    turned = modeling_gptj.apply_rotary_pos_emb(
        x.transpose(1, 2)[..., :rotary_dim], sin, cos
    )
    expected = torch.cat([turned.transpose(1, 2), x[..., rotary_dim:]], dim=-1)
    ours = RotaryEmbedding(8, rotary_dim=rotary_dim)
    parity_record(
        f"RotaryEmbedding, interleaved, {rotary_dim} of 8",
        "transformers GPT-J apply_rotary_pos_emb",
        difference((ours.rotate(x, torch.arange(11)), expected)),
        1e-6,
    )


def test_a_llama_checkpoint_in_the_interleaved_layout(parity_record) -> None:
    """The permutation, on the weights of a LLaMA attention layer."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=32, num_attention_heads=4, num_key_value_heads=2
    )
    theirs = modeling_llama.LlamaAttention(config, layer_idx=0)
    x = torch.randn(2, 9, 32)
    cos, sin = modeling_llama.LlamaRotaryEmbedding(config)(x, torch.arange(9)[None])

    def heads(weight: Tensor) -> Tensor:
        return (x @ weight.T).unflatten(-1, (-1, 8)).transpose(1, 2)

    W_q, W_k = theirs.q_proj.weight.detach(), theirs.k_proj.weight.detach()
    q, k = modeling_llama.apply_rotary_pos_emb(heads(W_q), heads(W_k), cos, sin)
    expected = q @ k.repeat_interleave(2, dim=1).transpose(-2, -1)
    q, k = RotaryEmbedding(8)(
        heads(to_interleaved(W_q, 8)), heads(to_interleaved(W_k, 8))
    )
    parity_record(
        "RotaryEmbedding, interleaved, weights by to_interleaved",
        "transformers.LlamaAttention scores",
        difference((q @ k.repeat_interleave(2, dim=1).transpose(-2, -1), expected)),
        1e-5,
    )
