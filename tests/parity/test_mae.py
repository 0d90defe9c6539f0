"""MAE against transformers: masks, hidden states of both halves, pixels, loss, gradients."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from companion import MAE, Masking, sinusoidal_grid
from companion.models.hf import load_hf
from companion.models.mae import _RULES, _squeezed
from tests.parity.encoders import compare_states, difference, largest, randomized

transformers = pytest.importorskip("transformers")

REFERENCE = "transformers.ViTMAEForPreTraining"
ENCODER = "transformers.ViTMAEModel"

CONFIGS = {
    "small": {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "image_size": 12,
        "patch_size": 3,
        "num_channels": 1,
        "decoder_hidden_size": 16,
        "decoder_num_attention_heads": 2,
        "decoder_num_hidden_layers": 1,
        "decoder_intermediate_size": 20,
    },
    "normalized, colors, half hidden": {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 40,
        "image_size": 20,
        "patch_size": 4,
        "num_channels": 3,
        "decoder_hidden_size": 36,
        "decoder_num_attention_heads": 3,
        "decoder_num_hidden_layers": 2,
        "decoder_intermediate_size": 30,
        "mask_ratio": 0.5,
        "norm_pix_loss": True,
        "layer_norm_eps": 1e-6,
    },
    "no query biases, relu, 90 % hidden": {
        "hidden_size": 20,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 24,
        "image_size": 14,
        "patch_size": 2,
        "num_channels": 2,
        "qkv_bias": False,
        "hidden_act": "relu",
        "layer_norm_eps": 1e-2,
        "decoder_hidden_size": 12,
        "decoder_num_attention_heads": 1,
        "decoder_num_hidden_layers": 3,
        "decoder_intermediate_size": 50,
        "mask_ratio": 0.9,
        "hidden_dropout_prob": 0.1,
    },
    "deeper, normalized, dropout": {
        "hidden_size": 16,
        "num_hidden_layers": 4,
        "num_attention_heads": 16,
        "intermediate_size": 16,
        "image_size": 18,
        "patch_size": 6,
        "num_channels": 1,
        "hidden_act": "gelu_new",
        "decoder_hidden_size": 8,
        "decoder_num_attention_heads": 4,
        "decoder_num_hidden_layers": 4,
        "decoder_intermediate_size": 8,
        "mask_ratio": 0.3,
        "norm_pix_loss": True,
        "attention_probs_dropout_prob": 0.1,
    },
}


def reference(
    name: str, kind: str = "ViTMAEForPreTraining", attention: str = "eager"
) -> nn.Module:
    torch.manual_seed(len(name))
    config = transformers.ViTMAEConfig(**CONFIGS[name], attn_implementation=attention)
    return randomized(getattr(transformers, kind)(config))


def inputs(theirs: nn.Module) -> tuple[Tensor, Tensor]:
    """Images and the noise that decides what is hidden."""
    config = theirs.config
    side = config.image_size
    patches = (side // config.patch_size) ** 2
    images = torch.randn(3, config.num_channels, side, side)
    return images, torch.rand(3, patches)


def states_of(
    layers: nn.ModuleList, norm: nn.Module, run
) -> tuple[list[Tensor], object]:
    """What the first layer reads and what each gives, the last one after the norm."""
    seen: list[Tensor] = []
    hooks = [layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))]
    for layer in [*layers[:-1], norm]:
        hooks.append(layer.register_forward_hook(lambda _m, _a, out: seen.append(out)))
    output = run()
    for hook in hooks:
        hook.remove()
    return seen, output


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_masks_states_pixels_and_loss(name: str, parity_record) -> None:
    theirs = reference(name)
    ours = MAE.from_hf(theirs)
    images, noise = inputs(theirs)
    masking = ours.draw_masking(images, noise)
    decoder = theirs.decoder
    painted, output = states_of(
        decoder.decoder_layers,
        decoder.decoder_norm,
        lambda: theirs(images, noise=noise, output_hidden_states=True),
    )
    assert torch.equal(masking.restore, output.ids_restore)
    assert torch.equal(masking.hidden, output.mask.bool())
    encoded, _ = states_of(
        theirs.vit.layers, theirs.vit.layernorm, lambda: theirs(images, noise=noise)
    )
    states = ours.hidden_states(images, masking)
    worst = [compare_states(states, encoded, 1e-4)]
    grid = ours.encoder.positions.grid
    ours_painted = ours.decoder.hidden_states(states[-1], masking, grid)
    worst.append(compare_states(ours_painted, painted, 1e-4))
    worst.append(difference(ours(images, masking), output.logits))
    worst.append(difference(ours.loss(images, masking), output.loss))
    parity_record(
        f"MAE {name}: all states, pixels, loss", REFERENCE, largest(worst), 1e-4
    )


def test_every_option_is_varied() -> None:
    full = [transformers.ViTMAEConfig(**options) for options in CONFIGS.values()]
    for option in {name for options in CONFIGS.values() for name in options}:
        assert len({getattr(config, option) for config in full}) > 1, option


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_the_encoder_alone(name: str, tmp_path: Path, parity_record) -> None:
    theirs = reference(name, "ViTMAEModel")
    images, noise = inputs(theirs)
    output = theirs(images, noise=noise)
    theirs.save_pretrained(tmp_path)
    for ours in (MAE.from_hf(theirs), MAE.from_hf(tmp_path)):
        assert ours.decoder is None
        masking = ours.draw_masking(images, noise)
        worst = difference(ours(images, masking), output.last_hidden_state)
        parity_record(f"MAE {name}, encoder", ENCODER, worst, 1e-5)


@torch.no_grad()
def test_from_a_folder_and_with_the_hubs_names(tmp_path: Path, parity_record) -> None:
    """What is saved today, and what was uploaded in 2022, bear three kinds of names."""
    theirs = reference("normalized, colors, half hidden")
    images, noise = inputs(theirs)
    output = theirs(images, noise=noise)
    theirs.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert "decoder.decoder_encoder.layer.0.output.dense.bias" in saved
    old = {
        n.replace("decoder_encoder.layer", "decoder_layers"): w
        for n, w in saved.items()
    }
    for weights in (saved, old):
        save_file(weights, tmp_path / "model.safetensors")
        ours = MAE.from_hf(tmp_path)
        masking = ours.draw_masking(images, noise)
        worst = difference(ours(images, masking), output.logits)
        parity_record("MAE from a folder", REFERENCE, worst, 1e-5)


@pytest.mark.parametrize("name", ["small", "normalized, colors, half hidden"])
def test_every_gradient(name: str, parity_record) -> None:
    # Not "eager", whose softmax is in 32 bits whatever the weights are.
    theirs = reference(name, attention="sdpa")
    ours = MAE.from_hf(theirs).double()
    theirs = theirs.double()
    images, noise = (x.double() for x in inputs(theirs))
    theirs(images, noise=noise).loss.backward()
    ours.loss(images, ours.draw_masking(images, noise)).backward()
    expected = copy.deepcopy(ours)
    gradients = {
        n: torch.zeros_like(p) if p.grad is None else p.grad
        for n, p in theirs.named_parameters()
    }
    load_hf(expected, _squeezed(gradients), _RULES)
    worst = []
    for (place, p), want in zip(
        ours.named_parameters(), expected.parameters(), strict=True
    ):
        if "positions" in place:
            assert p.grad is None and not want.any()  # fixed, there as here
        else:
            worst.append(difference(p.grad, want))
    parity_record(f"MAE {name}: gradients", REFERENCE, largest(worst), 1e-8)


@torch.no_grad()
def test_another_resolution(parity_record) -> None:
    """The encoder's positions are resized as pictures. (The decoder's are not, in theirs.)"""
    theirs = reference("small", "ViTMAEModel")
    ours = MAE.from_hf(theirs)
    images, noise = torch.randn(2, 1, 18, 24), torch.rand(2, 48)
    output = theirs(images, noise=noise, interpolate_pos_encoding=True)
    worst = difference(
        ours.encode(images, ours.draw_masking(images, noise)), output.last_hidden_state
    )
    parity_record("MAE small, larger images", ENCODER, worst, 1e-5)


@pytest.mark.parametrize("grid", [(4, 4), (3, 5), (1, 7), (14, 14)])
def test_positions(grid: tuple[int, int], parity_record) -> None:
    from transformers.models.vit_mae import modeling_vit_mae as reference_module

    build = reference_module.build_2d_sinusoidal_position_embedding
    table = build(*grid, 24, cls_token=True)  # [rows | columns]
    swapped = torch.cat([table[:, 12:], table[:, :12]], dim=1)
    worst = difference(sinusoidal_grid(grid, 24, num_prefix=1), swapped)
    parity_record(f"positions of a {grid[0]} x {grid[1]} grid", REFERENCE, worst, 1e-7)


def test_presets_are_theirs() -> None:
    """Built without memory: the same numbers of weights."""
    sizes = {
        "B/16": {},
        "L/16": {
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
        },
        "H/14": {
            "hidden_size": 1280,
            "num_hidden_layers": 32,
            "num_attention_heads": 16,
            "intermediate_size": 5120,
            "patch_size": 14,
        },
    }
    for name, options in sizes.items():
        with torch.device("meta"):
            theirs = transformers.ViTMAEForPreTraining(
                transformers.ViTMAEConfig(**options)
            )
            ours = MAE.preset(name)
        assert ours.decoder.layers[0].self_attention.num_heads == 16
        assert count(ours) == count(theirs)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_ties_go_to_the_first() -> None:
    assert Masking.from_noise(torch.zeros(1, 8), 0.75).keep.tolist() == [[0, 1]]


def test_errors_name_what_does_not_fit(tmp_path: Path) -> None:
    theirs = reference("small")
    theirs.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(
        weights | {"decoder.extra": torch.ones(1)}, tmp_path / "model.safetensors"
    )
    with pytest.raises(ValueError, match=r"no rule takes them:\s+decoder\.extra"):
        MAE.from_hf(tmp_path)
    weights.pop("decoder.mask_token")
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"missing:\s+decoder\.mask_token"):
        MAE.from_hf(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for option, value in (
        ("model_type", "vit"),
        ("hidden_act", "mish"),
        ("image_size", [12, 12]),
    ):
        wrong = json.dumps(config | {option: value})
        (tmp_path / "config.json").write_text(wrong)
        with pytest.raises(ValueError, match=option):
            MAE.from_hf(tmp_path)
