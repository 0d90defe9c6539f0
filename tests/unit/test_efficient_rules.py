"""What every efficient layer promises: it fits in, hides what is hidden, and is not n by n."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from companion import (
    BigBirdAttention,
    ChunkedAttention,
    EncoderLayer,
    KeyValueCache,
    LinearAttention,
    LinformerAttention,
    MultiHeadAttention,
    OnlineSoftmaxAttention,
    PerformerAttention,
    SlidingWindowAttention,
    padding_mask,
    record_attention,
)
from companion.analysis.cost import peak_memory
from companion.layers import EfficientAttention

Build = Callable[[], EfficientAttention]

LAYERS: dict[str, Build] = {
    "window": lambda: SlidingWindowAttention(16, 4, 3),
    "window, global": lambda: SlidingWindowAttention(16, 4, 3, num_global=2),
    "BigBird": lambda: BigBirdAttention(16, 4, 2, 1),
    "chunked": lambda: ChunkedAttention(16, 4),
    "online softmax": lambda: OnlineSoftmaxAttention(16, 4, 5),
    "Linformer": lambda: LinformerAttention(16, 4, 40, 6),
    "Performer": lambda: PerformerAttention(16, 4, 24),
    "linear": lambda: LinearAttention(16, 4),
}
ONLY_KEYS = ("chunked", "Linformer", "Performer", "linear")
NOT_CAUSAL = ("BigBird", "Linformer")


def built(name: str) -> EfficientAttention:
    torch.manual_seed(0)
    return LAYERS[name]().double().eval()


def text(length: int = 20) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(2, length, 16, dtype=torch.float64)


@pytest.mark.parametrize("name", LAYERS)
def test_it_takes_the_place_and_the_weights_of_multi_head_attention(name) -> None:
    full = MultiHeadAttention(16, 4).double()
    layer = built(name)
    own = layer.state_dict().keys() - full.state_dict().keys()
    assert own <= {"E", "F"}  # Linformer's
    missing, unexpected = layer.load_state_dict(full.state_dict(), strict=False)
    assert set(missing) == own and not unexpected
    block = EncoderLayer(16, 4, 32).double().eval()
    before = block(text())
    block.self_attention = layer
    after = block(text())
    assert after.shape == before.shape
    assert not torch.equal(after, before)


def test_the_exact_ones_equal_multi_head_attention() -> None:
    full = MultiHeadAttention(16, 4).double()
    for layer in (
        SlidingWindowAttention(16, 4, 20),
        OnlineSoftmaxAttention(16, 4, 6),
        ChunkedAttention(16, 4, 20),  # one block
        BigBirdAttention(16, 4, 4, 0),  # 5 blocks: too short for blocks
    ):
        layer.double().load_state_dict(full.state_dict())
        expected, _ = full(text())
        ours, weights = layer(text())
        assert weights is None
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("is_causal", [False, True], ids=["both sides", "causal"])
def test_a_hidden_key_has_no_influence(name, is_causal) -> None:
    if is_causal and name in NOT_CAUSAL:
        with pytest.raises(ValueError, match="is_causal must be False"):
            built(name)(text(), is_causal=True)
        return
    layer = built(name)
    real = torch.tensor([[1] * 20, [1] * 16 + [0] * 4])
    mask = padding_mask(real)
    changed = text()
    changed[1, 16:] += 100.0
    before, _ = layer(text(), mask=mask, is_causal=is_causal)
    after, _ = layer(changed, mask=mask, is_causal=is_causal)
    torch.testing.assert_close(after[1, :16], before[1, :16], atol=1e-9, rtol=0)
    if not is_causal:
        seen, _ = layer(changed)
        assert (seen[1, :16] - layer(text())[0][1, :16]).abs().max() > 1e-3


@pytest.mark.parametrize("name", [n for n in LAYERS if n not in NOT_CAUSAL])
def test_no_position_sees_a_later_one(name) -> None:
    layer = built(name)
    before, _ = layer(text(), is_causal=True)
    for t in (1, 7, 19):
        changed = text()
        changed[:, t:] += 1.0
        after, _ = layer(changed, is_causal=True)
        torch.testing.assert_close(after[:, :t], before[:, :t], atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", LAYERS)
def test_where_all_is_hidden_heads_give_zero_and_gradient_zero(name) -> None:
    layer, x = built(name), text().requires_grad_()
    heads = []
    layer.W_o.register_forward_pre_hook(lambda _, args: heads.append(args[0]))
    mask = torch.ones(2, 1, 1, 20, dtype=torch.bool)
    mask[1] = False
    with torch.autograd.detect_anomaly(check_nan=True):
        output, _ = layer(x, mask=mask)
        output.square().sum().backward()
    assert not heads[0][1].any()
    assert heads[0][0].abs().max() > 0.01
    assert not x.grad[1].any()
    for parameter in layer.parameters():
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize("name", ONLY_KEYS)
def test_masks_that_differ_between_queries_are_refused(name) -> None:
    layer = built(name)
    with pytest.raises(ValueError, match="cannot differ between queries"):
        layer(text(), mask=torch.ones(20, 20, dtype=torch.bool))
    with pytest.raises(TypeError, match="mask must be boolean"):
        layer(text(), mask=torch.ones(2, 1, 1, 20))
    with pytest.raises(ValueError, match="padding_mask builds it"):
        layer(text(), mask=torch.ones(2, 20, dtype=torch.bool))
    by_head = torch.rand(2, 4, 1, 20) > 0.3  # may differ between heads
    assert layer(text(), mask=by_head)[0].isfinite().all()


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(
    "options",
    [
        {"bias": torch.zeros(1, 1, 20, 20)},
        {"need_weights": True},
        {"cache": KeyValueCache()},
    ],
    ids=["bias", "need_weights", "cache"],
)
def test_what_only_multi_head_attention_takes(name, options) -> None:
    (option,) = options
    with pytest.raises(ValueError, match=f"takes no {option}: it never forms"):
        built(name)(text(), **options)


@pytest.mark.parametrize("name", LAYERS)
def test_recorded_weights_are_those_of_the_output(name) -> None:
    layer = built(name)
    mask = padding_mask(torch.tensor([[1] * 20, [1] * 16 + [0] * 4]))
    heads = []
    layer.W_o.register_forward_pre_hook(lambda _, args: heads.append(args[0]))
    with record_attention(layer) as maps:
        layer(text(), mask=mask)
    weights = maps.stack()[0]
    assert weights.shape == (2, 4, 20, 20)
    V = layer._split(layer.W_v(text()), 4)
    joined = (weights @ V).transpose(1, 2).flatten(2)
    torch.testing.assert_close(joined, heads[0])
    if name != "Linformer":  # whose weights are over slots
        total = weights.sum(-1)
        some = total > 0  # a window of padding only sees nothing
        assert some[0].all() and some[1, :, :16].all()
        torch.testing.assert_close(total[some], torch.ones_like(total[some]))
        assert (weights >= 0).all()
    heads.clear()
    layer(text(), mask=mask)  # no one listens
    assert len(maps[""]) == 1


@pytest.mark.parametrize("name", LAYERS)
def test_half_precision(name) -> None:
    layer, exact = built(name).bfloat16(), built(name)
    x = text().bfloat16()
    output, _ = layer(x, mask=torch.ones(2, 1, 1, 20, dtype=torch.bool))
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.double(), exact(text())[0], atol=0.05, rtol=0)


def test_dropout_is_for_training() -> None:
    for layer in (
        SlidingWindowAttention(16, 4, 3, num_global=1, dropout=0.5),
        BigBirdAttention(16, 4, 2, 1, dropout=0.5),
        ChunkedAttention(16, 4, dropout=0.5),
        LinformerAttention(16, 4, 40, 6, dropout=0.5),
    ):
        layer.double()
        x = text()
        assert not torch.equal(layer(x)[0], layer(x)[0])
        with record_attention(layer) as maps:  # the weights before dropout
            layer(x)
            layer(x)
        assert torch.equal(*maps[""])
        assert layer.training
        layer.eval()
        assert torch.equal(layer(x)[0], layer(x)[0])


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (lambda: SlidingWindowAttention(16, 4, -1), "window must be at least 0"),
        (lambda: BigBirdAttention(16, 4, 0), "block_size must be at least 1"),
        (lambda: BigBirdAttention(16, 4, 2, -1), "num_random must be at least 0"),
        (lambda: ChunkedAttention(16, 4, 0), "block_size must be at least 1"),
        (lambda: OnlineSoftmaxAttention(16, 4, 0), "block_size must be at least 1"),
        (lambda: LinformerAttention(16, 4, 0, 1), "max_seq_len must be at least 1"),
        (lambda: LinformerAttention(16, 4, 8, 0), "k must be at least 1"),
        (lambda: PerformerAttention(16, 4, 0), "num_features must be at least 1"),
        (lambda: LinearAttention(16, 4, chunk_size=0), "chunk_size must be at least"),
        (lambda: LinearAttention(16, 4, "softmax"), "feature_map must be"),
        (lambda: LinearAttention(16, 5), "num_heads must divide d_model"),
    ],
)
def test_sizes_that_are_refused(layer, says) -> None:
    with pytest.raises(ValueError, match=says):
        layer()


# Memory

LONG: dict[str, Callable[[int], nn.Module]] = {
    "window": lambda n: SlidingWindowAttention(16, 2, 16, num_global=2),
    "BigBird": lambda n: BigBirdAttention(16, 2, 8, 2),
    "chunked": lambda n: ChunkedAttention(16, 2),
    "online softmax": lambda n: OnlineSoftmaxAttention(16, 2, 256),
    "Linformer": lambda n: LinformerAttention(16, 2, n, 32),
    "Performer": lambda n: PerformerAttention(16, 2, 16),
    "linear": lambda n: LinearAttention(16, 2),
}


def memory(layer: nn.Module, length: int, is_causal: bool) -> int:
    """The most bytes held at one time, forward and backward."""
    x = torch.randn(1, length, 16)
    mask = torch.ones(1, 1, 1, length, dtype=torch.bool)

    def step() -> None:
        layer(x, mask=mask, is_causal=is_causal)[0].sum().backward()

    step()
    layer.zero_grad()
    return peak_memory(step)


@pytest.mark.parametrize("is_causal", [False, True], ids=["both sides", "causal"])
@pytest.mark.parametrize("name", LONG)
def test_nothing_of_n_by_n_is_held(name, is_causal) -> None:
    if is_causal and name in NOT_CAUSAL:
        pytest.skip("it is never causal")
    torch.manual_seed(0)
    short, long = (memory(LONG[name](n), n, is_causal) for n in (1024, 4096))
    # Not even one byte for each pair, as a boolean mask of one head would need.
    assert long < 4096**2
    power = 1.5 if name == "chunked" else 1.0
    assert long < 1.15 * 4**power * short


def test_full_attention_does_hold_n_by_n() -> None:
    """So that the measure above is known to see it."""
    full = MultiHeadAttention(16, 2)
    x = torch.randn(1, 2048, 16)
    assert peak_memory(lambda: full(x)) > 2 * 4 * 2048**2
