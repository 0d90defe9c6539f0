"""Low-rank adapters: begin as the layer they wrap, train alone, merge and come apart exactly."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from companion import BERT, DecoderOnlyTransformer
from companion.layers.lora import (
    LoRALinear,
    add_lora,
    load_lora,
    lora_layers,
    merge_lora,
    remove_lora,
    save_lora,
)

IDS = torch.randint(1, 11, (2, 5), generator=torch.Generator().manual_seed(0))
ALL = ("W_q", "W_k", "W_v", "W_o", "W_1", "W_2")


def gpt() -> nn.Module:
    torch.manual_seed(0)
    return DecoderOnlyTransformer(11, 16, 4, 32, 2, max_seq_len=8).eval()


def bert() -> nn.Module:
    torch.manual_seed(0)
    return BERT(11, 16, 4, 32, 2, max_seq_len=8).eval()


def shake(model: nn.Module) -> None:
    """Give every adapter a correction, as training would."""
    torch.manual_seed(1)
    for _, layer in lora_layers(model):
        nn.init.normal_(layer.B)


@pytest.mark.parametrize("build", [gpt, bert])
@torch.no_grad()
def test_it_begins_as_the_model_it_adapts_and_can_be_merged_and_removed(build):
    model = build()
    before, names = model(IDS), list(model.state_dict())
    weights = {n: t.clone() for n, t in model.state_dict().items()}
    assert len(add_lora(model, 2, ALL)) == 12
    assert torch.equal(model(IDS), before)
    shake(model)
    adapted = model(IDS)
    assert not torch.allclose(adapted, before, atol=1e-2)

    for _, layer in lora_layers(model):
        layer.merge()
        layer.merge()  # once is enough
    torch.testing.assert_close(model(IDS), adapted, atol=1e-4, rtol=1e-4)
    for _, layer in lora_layers(model):
        layer.unmerge()
    assert torch.equal(model(IDS), adapted)

    merge_lora(model)
    torch.testing.assert_close(model(IDS), adapted, atol=1e-4, rtol=1e-4)
    assert list(model.state_dict()) == names and not dict(lora_layers(model))
    model.load_state_dict(weights)

    add_lora(model, 2, ALL)
    shake(model)
    for _, layer in lora_layers(model):
        layer.merge()
    remove_lora(model)
    assert all(torch.equal(t, weights[n]) for n, t in model.state_dict().items())


def test_only_adapters_are_trained():
    model = gpt()
    weights = {n: p.detach().clone() for n, p in model.named_parameters()}
    names = add_lora(model, 3)  # W_q and W_v of two layers
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert sorted(trained) == sorted(f"{n}.{part}" for n in names for part in "AB")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(2):  # A has no gradient while B is zero
        loss = model(IDS).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, layer in lora_layers(model):
        assert layer.A.grad.abs().sum() > 0 and layer.B.abs().sum() > 0, name
    remove_lora(model)
    assert all(torch.equal(p, weights[n]) for n, p in model.named_parameters())


def test_the_correction_is_alpha_over_rank_times_b_a():
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(6, 4), rank=2, alpha=8)
    nn.init.normal_(layer.B)
    x = torch.randn(3, 6)
    expected = layer.linear(x) + 4 * x @ (layer.B @ layer.A).T
    torch.testing.assert_close(layer(x), expected)
    assert torch.linalg.matrix_rank(layer.correction()) == 2


@torch.no_grad()
def test_saved_adapters_come_back_and_are_all_that_is_saved(tmp_path):
    model, path = gpt(), tmp_path / "adapters.safetensors"
    add_lora(model, 2, ("W_q", "layers.1.feed_forward.W_2"), alpha=5)
    shake(model)
    save_lora(model, path)
    assert {name.rpartition(".")[2] for name in load_file(path)} == {"A", "B"}
    other = gpt()
    assert sorted(load_lora(other, path)) == sorted(dict(lora_layers(model)))
    assert torch.equal(other(IDS), model(IDS))
    assert not any(
        p.requires_grad
        for n, p in other.named_parameters()
        if n[-2:] not in (".A", ".B")
    )


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'W_x' is the name of none"):
        add_lora(gpt(), 2, ("W_q", "W_x"))
    with pytest.raises(TypeError, match="targets must be several names"):
        add_lora(gpt(), 2, "W_q")
    for rank in (0, 17):
        with pytest.raises(ValueError, match="rank must be from 1 to 16"):
            add_lora(gpt(), rank)
    with pytest.raises(TypeError, match="must be an nn.Linear"):
        LoRALinear(nn.Embedding(3, 3), 1)
    path = tmp_path / "adapters.safetensors"
    with pytest.raises(ValueError, match="must have adapters"):
        save_lora(gpt(), path)
    model = gpt()
    add_lora(model, 2)
    save_lora(model, path)
    narrow = DecoderOnlyTransformer(11, 8, 2, 16, 2)
    with pytest.raises(ValueError, match=r"as a \(16, 16\) matrix"):
        load_lora(narrow, path)
    with pytest.raises(ValueError, match="no such linear layer"):
        load_lora(nn.Linear(2, 2), path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="must be a file of save_lora"):
        load_lora(gpt(), path)
    path.write_text("no safetensors")
    with pytest.raises(ValueError, match="not a readable safetensors"):
        load_lora(gpt(), path)
