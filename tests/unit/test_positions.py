"""Positions: sinusoidal, learned, relative and rotary, and what each promises."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from companion.layers import (
    causal_mask,
    fused_attention,
    scaled_dot_product_attention,
)
from companion.layers.positions import (
    LearnedPositionalEmbedding,
    SinusoidalPositionalEncoding,
    inverse_frequencies,
    shift_matrix,
    sinusoidal_table,
)
from companion.layers.relative import (
    ALiBi,
    T5RelativeBias,
    alibi_slopes,
    relative_positions,
    t5_buckets,
)
from companion.layers.rotary import RotaryEmbedding, to_half_split, to_interleaved
from companion.layers.rotary_scaling import (
    DynamicNTKScaling,
    LinearScaling,
    Llama3Scaling,
    NTKScaling,
    RotaryScaling,
    YaRNScaling,
)

LAYOUTS = ["interleaved", "halves"]
SCALINGS: dict[str, RotaryScaling | None] = {
    "none": None,
    "linear": LinearScaling(4.0),
    "NTK": NTKScaling(4.0),
    "dynamic NTK": DynamicNTKScaling(4.0, original_max_seq_len=8),
    "YaRN": YaRNScaling(4.0, original_max_seq_len=64),
    "LLaMA 3": Llama3Scaling(4.0, original_max_seq_len=64),
}


# Sinusoidal and learned


def test_the_table_is_the_formula_of_the_paper() -> None:
    table = sinusoidal_table(7, 6, dtype=torch.float64)
    for pos in range(7):
        for i in range(3):
            angle = pos / 10000 ** (2 * i / 6)
            assert table[pos, 2 * i].item() == pytest.approx(math.sin(angle))
            assert table[pos, 2 * i + 1].item() == pytest.approx(math.cos(angle))


def test_the_halves_hold_the_same_numbers() -> None:
    interleaved, halves = (sinusoidal_table(7, 6, layout) for layout in LAYOUTS)
    assert torch.equal(to_half_split(interleaved, 6, axis=-1), halves)
    assert not torch.equal(interleaved, halves)


def test_the_last_wavelength_is_10000_times_the_first_only_with_endpoint() -> None:
    ends = inverse_frequencies(512, endpoint=True, dtype=torch.float64)
    stops_before = inverse_frequencies(512, dtype=torch.float64)
    assert (ends[0] / ends[-1]).item() == pytest.approx(10000)
    ratio = (stops_before[0] / stops_before[-1]).item()
    assert ratio == pytest.approx(10000 ** (510 / 512))
    assert ratio < 9700


def test_the_table_is_exact_far_out() -> None:
    """A float32 angle would be wrong in the fourth digit there."""
    row = sinusoidal_table(4001, 4)[4000]
    exact = [math.sin(4000), math.cos(4000), math.sin(40), math.cos(40)]
    assert (row.double() - torch.tensor(exact, dtype=torch.float64)).abs().max() < 1e-7


@pytest.mark.parametrize("endpoint", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("k", [-3, 0, 1, 20])
def test_the_shift_matrix_shifts_every_position(k, layout, endpoint) -> None:
    kwargs = {"layout": layout, "endpoint": endpoint, "dtype": torch.float64}
    table = sinusoidal_table(40, 8, **kwargs)
    M = shift_matrix(k, 8, **kwargs)
    start = max(-k, 0)
    positions = torch.arange(start, 40 - max(k, 0))
    torch.testing.assert_close(table[positions] @ M.T, table[positions + k])
    torch.testing.assert_close(M @ M.T, torch.eye(8, dtype=torch.float64))
    torch.testing.assert_close(
        M @ shift_matrix(5, 8, **kwargs), shift_matrix(k + 5, 8, **kwargs)
    )


@pytest.mark.parametrize(
    "build", [SinusoidalPositionalEncoding, LearnedPositionalEmbedding]
)
def test_a_sequence_in_two_parts_gets_the_positions_of_the_whole(build) -> None:
    layer, x = build(8, max_seq_len=7), torch.randn(2, 7, 8)
    whole = layer(x)
    parts = [layer(x[:, :4]), layer(x[:, 4:], offset=4)]
    assert torch.equal(torch.cat(parts, dim=1), whole)
    assert not torch.equal(layer(x[:, 4:]), whole[:, 4:])


@pytest.mark.parametrize(
    "build", [SinusoidalPositionalEncoding, LearnedPositionalEmbedding]
)
def test_positions_past_the_last_are_refused(build) -> None:
    layer = build(8, max_seq_len=7)
    with pytest.raises(ValueError, match="max_seq_len is 7"):
        layer(torch.randn(1, 8, 8))
    with pytest.raises(ValueError, match="positions 5 to 7"):
        layer(torch.randn(1, 3, 8), offset=5)
    with pytest.raises(ValueError, match="positions -1"):
        layer(torch.randn(1, 3, 8), offset=-1)
    with pytest.raises(ValueError, match="width d_model = 8"):
        layer(torch.randn(1, 3, 1))


@pytest.mark.parametrize(
    "build", [SinusoidalPositionalEncoding, LearnedPositionalEmbedding]
)
def test_positions_take_the_dtype_of_the_embeddings(build) -> None:
    x = torch.randn(1, 3, 8, dtype=torch.bfloat16)
    assert build(8)(x).dtype == torch.bfloat16


def test_dropout_falls_on_the_sum_and_only_in_training() -> None:
    torch.manual_seed(0)
    layer, x = SinusoidalPositionalEncoding(8, dropout=0.5), torch.ones(4, 9, 8)
    kept = layer.eval()(x)
    dropped = layer.train()(x)
    zero = dropped == 0
    assert 0.3 < zero.float().mean() < 0.7
    torch.testing.assert_close(dropped[~zero], 2 * kept[~zero])


def test_the_learned_table_starts_small_and_learns_only_where_it_was_used() -> None:
    torch.manual_seed(0)
    layer = LearnedPositionalEmbedding(64, max_seq_len=100)
    weight = layer.position_embeddings.weight
    assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    layer(torch.randn(2, 3, 64), offset=10).square().sum().backward()
    touched = weight.grad.abs().sum(dim=1).nonzero().flatten().tolist()
    assert touched == [10, 11, 12]


def test_what_is_fixed_stays_out_of_a_checkpoint() -> None:
    for layer in (SinusoidalPositionalEncoding(8), ALiBi(4), RotaryEmbedding(8)):
        assert not layer.state_dict()
        assert len(list(layer.buffers())) == 1
        assert not list(layer.parameters())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: SinusoidalPositionalEncoding(7), "d_model must be even.*7"),
        (lambda: SinusoidalPositionalEncoding(8, max_seq_len=0), "length"),
        (lambda: sinusoidal_table(4, 8, "half"), "'interleaved' or 'halves'.*'half'"),
        (lambda: shift_matrix(1, 5), "d_model must be even"),
        (lambda: inverse_frequencies(0), "dim must be even"),
        (lambda: T5RelativeBias(2, num_buckets=7), "num_buckets.*even.*7"),
        (lambda: T5RelativeBias(2, num_buckets=2), "at least 4"),
        (lambda: T5RelativeBias(2, 1, bidirectional=False), "at least 2"),
        (lambda: T5RelativeBias(2, 32, max_distance=8), "max_distance.*above 8"),
        (lambda: T5RelativeBias(2)(3, 2), "num_queries.*3 and 2"),
        (lambda: ALiBi(4)(0), "num_queries"),
        (lambda: ALiBi(0), "num_heads"),
        (lambda: RotaryEmbedding(7), "d_k must be even.*7"),
        (lambda: RotaryEmbedding(8, rotary_dim=3), "rotary_dim must be even.*3"),
        (lambda: RotaryEmbedding(8, rotary_dim=10), "rotary_dim.*at most d_k = 8"),
        (lambda: RotaryEmbedding(8, layout="neox"), "layout.*'neox'"),
        (lambda: RotaryEmbedding(8, base=1.0), "base must be above 1"),
        (lambda: RotaryEmbedding(2, scaling=NTKScaling(2.0)), "two pairs"),
        (lambda: LinearScaling(0.5), "factor must be at least 1.*0.5"),
        (lambda: to_half_split(torch.ones(12), 8), r"d_k = 8.*\(12,\)"),
    ],
)
def test_bad_settings_are_refused(wrong, says) -> None:
    with pytest.raises(ValueError, match=says):
        wrong()


# Relative: T5 and ALiBi


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (4, 4), (1, 5), (3, 5)])
def test_relative_positions_agree_with_the_causal_mask(queries, keys) -> None:
    relative = relative_positions(queries, keys)
    assert torch.equal(relative <= 0, causal_mask(queries, keys))
    for i in range(queries):
        for j in range(keys):
            assert relative[i, j].item() == j - (keys - queries + i)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "reach"), [(32, 128), (8, 20), (4, 3)])
def test_buckets_grow_with_distance_and_end(buckets, reach, bidirectional) -> None:
    def bucket(relative: Tensor) -> Tensor:
        return t5_buckets(relative, buckets, reach, bidirectional)

    distance = torch.arange(reach * 3)
    side = buckets // 2 if bidirectional else buckets
    before, after = bucket(-distance), bucket(distance)
    steps = before.diff()
    assert (steps >= 0).all() and before.max() == side - 1
    assert torch.equal(before[: side // 2], distance[: side // 2])  # one a distance
    assert (before[reach:] == side - 1).all()
    assert before.unique().numel() == side  # none is left empty
    if bidirectional:
        assert torch.equal(after[1:], before[1:] + side)
    else:
        assert (after == 0).all()


@pytest.mark.parametrize("build", [T5RelativeBias, ALiBi])
def test_a_bias_depends_on_the_distance_only(build) -> None:
    layer = build(6)
    bias = layer(9)
    assert bias.shape == (1, 6, 9, 9)
    for distance in range(-8, 9):
        diagonal = bias.diagonal(distance, dim1=-2, dim2=-1)  # (1, H, n)
        assert (diagonal == diagonal[..., :1]).all()
    assert torch.equal(layer(2, 9), bias[:, :, -2:])  # with a cache


@pytest.mark.parametrize("build", [T5RelativeBias, ALiBi])
def test_a_bias_is_what_attention_adds_to_its_scores(build) -> None:
    torch.manual_seed(0)
    bias = build(3)(4, 6)
    q, k, v = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 6, 8), torch.randn(2, 3, 6, 8)
    output, weights = scaled_dot_product_attention(q, k, v, bias=bias, is_causal=True)
    scores = q @ k.transpose(-2, -1) / math.sqrt(8) + bias
    expected = scores.masked_fill(~causal_mask(4, 6), -math.inf).softmax(dim=-1)
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(
        fused_attention(q, k, v, bias=bias, is_causal=True), output
    )


def test_alibi_falls_linearly_and_the_same_on_both_sides() -> None:
    layer = ALiBi(8)
    bias = layer(6)[0]
    distance = relative_positions(6).abs()
    for head in range(8):
        torch.testing.assert_close(bias[head], -(2.0 ** -(head + 1)) * distance)
    assert torch.equal(bias, bias.transpose(-2, -1))


@pytest.mark.parametrize("num_heads", range(1, 21))
def test_alibi_has_a_slope_for_any_number_of_heads(num_heads: int) -> None:
    slopes = alibi_slopes(num_heads)
    assert slopes.shape == (num_heads,)
    assert slopes.unique().numel() == num_heads
    assert (slopes > 0).all() and (slopes < 1).all()


def test_alibi_multiplies_in_float32_when_the_module_is_in_half_precision() -> None:
    bias = ALiBi(12).to(torch.bfloat16)(600)
    exact = -ALiBi(12).slopes.bfloat16().float()[:, None, None] * (
        relative_positions(600).abs()
    )
    assert torch.equal(bias[0], exact.bfloat16())


def test_t5_learns_each_bucket_that_is_in_reach() -> None:
    layer = T5RelativeBias(2, num_buckets=8, max_distance=20, bidirectional=False)
    layer(4).sum().backward()
    counts = layer.bias.weight.grad[:, 0]
    # 4 positions: 6 pairs ahead and 4 equal share bucket 0; 3, 2 and 1 pairs are behind.
    assert counts.tolist() == [10, 3, 2, 1, 0, 0, 0, 0]


# Rotary


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_pair_turns_by_its_position_times_its_frequency(layout: str) -> None:
    rope = RotaryEmbedding(6, layout=layout).double()
    x = torch.randn(1, 1, 5, 6, dtype=torch.float64)
    turned = rope.rotate(x, torch.arange(5))
    for i in range(3):
        a, b = (2 * i, 2 * i + 1) if layout == "interleaved" else (i, i + 3)
        angle = torch.arange(5) * rope.frequencies[i].double()
        z = torch.complex(x[0, 0, :, a], x[0, 0, :, b]) * torch.exp(1j * angle)
        torch.testing.assert_close(turned[0, 0, :, a], z.real)
        torch.testing.assert_close(turned[0, 0, :, b], z.imag)


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("rotary_dim", [None, 4])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_scores_depend_on_the_distance_only(layout, rotary_dim, scaling) -> None:
    torch.manual_seed(0)
    rope = RotaryEmbedding(
        8, layout=layout, rotary_dim=rotary_dim, scaling=SCALINGS[scaling]
    ).double()
    q, k = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64)
    q, k = q.expand(1, 1, 12, 8), k.expand(1, 1, 12, 8)  # one vector, at 12 positions
    q, k = rope(q, k)
    scores = (q @ k.transpose(-2, -1))[0, 0]
    for distance in range(-11, 12):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))
    assert scores[0].std() > 0.01  # and it does depend on the distance


@pytest.mark.parametrize("scaling", SCALINGS)
def test_a_turn_keeps_the_length_of_a_vector(scaling: str) -> None:
    rope = RotaryEmbedding(16, scaling=SCALINGS[scaling]).double()
    x = torch.randn(2, 3, 20, 16, dtype=torch.float64)
    amplitude = 1.0 if rope.scaling is None else rope.scaling.amplitude
    turned = rope.rotate(x, torch.arange(20))
    torch.testing.assert_close(turned.norm(dim=-1), amplitude * x.norm(dim=-1))
    torch.testing.assert_close(turned[:, :, 0], amplitude * x[:, :, 0])


@pytest.mark.parametrize("rotary_dim", [None, 4])
def test_layouts_agree_after_the_permutation_and_only_then(rotary_dim) -> None:
    torch.manual_seed(0)
    d_k, heads = 8, 3
    interleaved, halves = (
        RotaryEmbedding(d_k, layout=layout, rotary_dim=rotary_dim).double()
        for layout in LAYOUTS
    )
    W_q, W_k = (nn.Linear(10, heads * d_k).double() for _ in range(2))
    x = torch.randn(2, 5, 10, dtype=torch.float64)

    def scores(rope: RotaryEmbedding, reorder=lambda weight: weight) -> Tensor:
        q, k = (
            nn.functional.linear(x, reorder(W.weight), reorder(W.bias))
            .unflatten(-1, (heads, d_k))
            .transpose(1, 2)
            for W in (W_q, W_k)
        )
        q, k = rope(q, k)
        return q @ k.transpose(-2, -1)

    def split(weight: Tensor) -> Tensor:
        return to_half_split(weight, d_k, rotary_dim=rotary_dim)

    def back(weight: Tensor) -> Tensor:
        return to_interleaved(split(weight), d_k, rotary_dim=rotary_dim)

    expected = scores(interleaved)
    torch.testing.assert_close(scores(halves, split), expected)
    assert torch.equal(scores(interleaved, back), expected)
    assert (scores(halves) - expected).abs().max() > 0.1


def test_the_permutations_in_numbers() -> None:
    x = torch.arange(16)
    split = [0, 2, 4, 6, 1, 3, 5, 7]
    assert to_half_split(x, 8).tolist() == split + [8 + i for i in split]
    assert to_half_split(x, 8, rotary_dim=4).tolist()[:8] == [0, 2, 1, 3, 4, 5, 6, 7]
    assert to_interleaved(x, 8).tolist()[:8] == [0, 4, 1, 5, 2, 6, 3, 7]
    q = torch.randn(2, 3, 5, 8)
    assert torch.equal(to_half_split(q, 8, axis=-1), q[..., split])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_part_of_a_head_may_carry_no_position(layout: str) -> None:
    rope = RotaryEmbedding(8, layout=layout, rotary_dim=4)
    x = torch.randn(1, 2, 5, 8)
    turned = rope.rotate(x, torch.arange(5))
    assert torch.equal(turned[..., 4:], x[..., 4:])
    small = RotaryEmbedding(4, layout=layout).rotate(x[..., :4], torch.arange(5))
    assert torch.equal(turned[..., :4], small)


def test_a_cache_continues_where_it_stopped_with_grouped_heads() -> None:
    rope = RotaryEmbedding(8)
    q, k = torch.randn(2, 4, 7, 8), torch.randn(2, 2, 7, 8)
    whole_q, whole_k = rope(q, k)
    q1, k1 = rope(q[:, :, :5], k[:, :, :5])
    q2, k2 = rope(q[:, :, 5:], k[:, :, 5:], offset=5)
    assert torch.equal(torch.cat([q1, q2], dim=2), whole_q)
    assert torch.equal(torch.cat([k1, k2], dim=2), whole_k)


def test_each_sequence_may_have_positions_of_its_own() -> None:
    rope = RotaryEmbedding(8)
    x = torch.randn(2, 3, 4, 8)
    positions = torch.tensor([[0, 1, 2, 3], [0, 0, 0, 1]])
    turned = rope.rotate(x, positions)
    for b in range(2):
        assert torch.equal(turned[b], rope.rotate(x[b : b + 1], positions[b])[0])
    assert torch.equal(rope.rotate(x[0, 0], positions[0]), turned[0, 0])  # (L, d_k)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda r, x: r(x, x[:, :, :3]), "same length"),
        (lambda r, x: r(x, x, offset=-1), "offset.*-1"),
        (lambda r, x: r.rotate(x[..., :4], torch.arange(5)), "width d_k = 8"),
        (lambda r, x: r.rotate(x, torch.arange(4)), r"\(4,\).*\(2, 3, 5, 8\)"),
        (lambda r, x: r.rotate(x, torch.ones(3, 5).long()), r"positions.*\(3, 5\)"),
        (lambda r, x: r.rotate(x[0], torch.ones(3, 5).long()), "positions"),
    ],
)
def test_what_cannot_be_turned_is_refused(wrong, says) -> None:
    with pytest.raises(ValueError, match=says):
        wrong(RotaryEmbedding(8), torch.randn(2, 3, 5, 8))


def test_a_scaling_is_an_object_not_a_name() -> None:
    with pytest.raises(TypeError, match=r"LinearScaling.*str"):
        RotaryEmbedding(8, scaling="linear")


@pytest.mark.parametrize("scaling", SCALINGS)
def test_angles_stay_in_float32_when_the_module_is_in_bfloat16(scaling: str) -> None:
    rope = RotaryEmbedding(8, scaling=SCALINGS[scaling])
    x = torch.randn(1, 2, 4, 8).bfloat16()
    positions = torch.tensor([997, 998, 999, 1001])  # the same number in bfloat16
    exact = rope.rotate(x.float(), positions)
    model = nn.Sequential(rope).to(torch.bfloat16)
    assert model[0].frequencies.dtype == torch.float32
    turned = model[0].rotate(x, positions)
    assert turned.dtype == torch.bfloat16
    assert torch.equal(turned, exact.bfloat16())


def test_a_module_made_without_memory_finds_its_angles_again() -> None:
    with torch.device("meta"):
        rope = RotaryEmbedding(8)
    assert rope.frequencies.is_meta
    rope = rope.to_empty(device="cpu")
    assert torch.equal(rope.frequencies, RotaryEmbedding(8).frequencies)
    assert not rope.state_dict()


def angles(scaling: RotaryScaling | None, **kwargs) -> Tensor:
    if scaling is None:
        return inverse_frequencies(64, **kwargs)
    return scaling.inverse_frequencies(64, 10000.0, **kwargs)


@pytest.mark.parametrize(
    "build",
    [
        LinearScaling,
        NTKScaling,
        lambda f: YaRNScaling(f, original_max_seq_len=1024),
        lambda f: Llama3Scaling(f, original_max_seq_len=1024),
    ],
)
def test_a_scaling_slows_the_slowest_pair_by_its_factor_and_1_changes_nothing(
    build,
) -> None:
    slower = angles(build(8.0)) / angles(None)
    assert slower[-1].item() == pytest.approx(1 / 8, rel=1e-5)
    assert (slower.diff() <= 1e-6).all()  # the slower a pair, the more
    torch.testing.assert_close(angles(build(1.0)), angles(None))
    assert build(1.0).amplitude == 1.0


@pytest.mark.parametrize(
    "scaling",
    [
        NTKScaling(8.0),
        YaRNScaling(8.0, original_max_seq_len=1024),
        Llama3Scaling(8.0, original_max_seq_len=1024),
    ],
)
def test_all_but_linear_leave_the_fastest_pair_alone(scaling: RotaryScaling) -> None:
    assert angles(scaling)[0].item() == pytest.approx(1.0)
    assert angles(LinearScaling(8.0))[0].item() == pytest.approx(1 / 8)


def test_linear_scaling_divides_positions() -> None:
    x = torch.randn(1, 1, 4, 8)
    scaled = RotaryEmbedding(8, scaling=LinearScaling(3.0))
    torch.testing.assert_close(
        scaled.rotate(x, 3 * torch.arange(4)),
        RotaryEmbedding(8).rotate(x, torch.arange(4)),
    )


def test_dynamic_scaling_starts_past_the_trained_length() -> None:
    scaling = DynamicNTKScaling(2.0, original_max_seq_len=8)
    assert torch.equal(angles(scaling, length=8), angles(None))
    torch.testing.assert_close(angles(scaling, length=16), angles(NTKScaling(3.0)))
    rope, plain = RotaryEmbedding(64, scaling=scaling), RotaryEmbedding(64)
    x = torch.randn(1, 1, 9, 64)
    short, long = torch.arange(8), torch.arange(9)
    assert torch.equal(
        rope.rotate(x[:, :, :8], short), plain.rotate(x[:, :, :8], short)
    )
    assert not torch.equal(
        rope.rotate(x, long)[:, :, :8], plain.rotate(x, long)[:, :, :8]
    )


def test_yarn_sharpens_attention_as_the_paper_says() -> None:
    scaling = YaRNScaling(8.0, original_max_seq_len=1024)
    assert scaling.amplitude == pytest.approx(0.1 * math.log(8) + 1)
    q, k = torch.randn(2, 1, 1, 1, 64)
    at_zero, _ = RotaryEmbedding(64, scaling=scaling)(q, k)
    torch.testing.assert_close(at_zero, scaling.amplitude * q)
    assert YaRNScaling(8.0, 1024, attention_factor=1.5).amplitude == 1.5
