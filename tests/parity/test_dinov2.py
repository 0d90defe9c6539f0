"""DINOv2 against transformers: hidden states, logits, loss, gradients, resized positions."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from companion import DINOv2
from companion.models.dinov2 import _RULES, _split_gate
from companion.models.hf import load_hf
from companion.models.vit import join_tokens
from tests.parity.encoders import compare_states, difference, largest, randomized

transformers = pytest.importorskip("transformers")

SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 12,
    "patch_size": 4,
}
CONFIGS = {
    "small": ("Dinov2", SMALL),
    "gated, grey, relu": (
        "Dinov2",
        {
            "hidden_size": 20,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 10,
            "patch_size": 2,
            "num_channels": 1,
            "use_swiglu_ffn": True,
            "hidden_act": "relu",
            "layerscale_value": 0.3,
            "mlp_ratio": 2,
            "use_mask_token": False,
        },
    ),
    "no biases, wide norm": (
        "Dinov2",
        {
            **SMALL,
            "hidden_size": 16,
            "num_attention_heads": 1,
            "image_size": [9, 9],
            "patch_size": 3,
            "qkv_bias": False,
            "layer_norm_eps": 1e-2,
            "hidden_act": "relu",
            "drop_path_rate": 0.2,
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
        },
    ),
    "registers": ("Dinov2WithRegisters", SMALL),
    "two registers, gated": (
        "Dinov2WithRegisters",
        {
            **SMALL,
            "num_hidden_layers": 4,
            "image_size": 16,
            "num_register_tokens": 2,
            "use_swiglu_ffn": True,
            "layerscale_value": 1e-5,
            "qkv_bias": False,
        },
    ),
    "one register, relu": (
        "Dinov2WithRegisters",
        {
            **SMALL,
            "num_channels": 2,
            "num_attention_heads": 3,
            "num_register_tokens": 1,
            "hidden_act": "relu",
            "mlp_ratio": 3,
            "layer_norm_eps": 1e-3,
        },
    ),
}
OPTIONS = (
    "hidden_size num_hidden_layers num_attention_heads mlp_ratio hidden_act image_size "
    "hidden_dropout_prob attention_probs_dropout_prob layer_norm_eps patch_size "
    "num_channels qkv_bias layerscale_value drop_path_rate use_swiglu_ffn model_type"
)


def reference(name: str, head: str = "Model", **more: object) -> nn.Module:
    torch.manual_seed(len(name))
    kind, options = CONFIGS[name]
    config = getattr(transformers, f"{kind}Config")(
        **options, **more, attn_implementation="eager"
    )
    return randomized(getattr(transformers, kind + head)(config))


def images(model: nn.Module, height: int = 0, width: int = 0) -> Tensor:
    """Random images, of the size of training by default."""
    size = model.config.image_size
    rows, columns = (size, size) if isinstance(size, int) else size
    channels = model.config.num_channels
    return torch.randn(2, channels, height or rows, width or columns)


def states_differ(ours: DINOv2, theirs: nn.Module, x: Tensor) -> float:
    output = theirs(x, output_hidden_states=True)
    expected = [*output.hidden_states[:-1], output.last_hidden_state]
    worst = compare_states(ours.hidden_states(x), expected, 1e-4)
    assert torch.equal(ours(x), ours.hidden_states(x)[-1])
    return largest([worst, difference(ours.features(x), output.pooler_output)])


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_every_hidden_state(name, parity_record):
    theirs = reference(name)
    ours = DINOv2.from_hf(theirs)
    worst = states_differ(ours, theirs, images(theirs))
    kind = type(theirs).__name__
    parity_record(f"DINOv2 {name}", f"transformers.{kind}", worst, 1e-5)


def test_every_option_is_varied():
    full = [
        getattr(transformers, f"{kind}Config")(**options)
        for kind, options in CONFIGS.values()
    ]
    for option in OPTIONS.split():
        assert len({str(getattr(config, option)) for config in full}) > 1, option
    registers = [c.num_register_tokens for c in full if "registers" in c.model_type]
    assert len(set(registers)) == 3


@torch.no_grad()
@pytest.mark.parametrize("name", ["small", "registers", "two registers, gated"])
@pytest.mark.parametrize("grid", [(5, 5), (2, 2), (2, 6)], ids=str)
def test_other_sizes_of_images(name, grid, parity_record):
    """Positions are resized: up, down, and to another shape."""
    theirs = reference(name)
    ours = DINOv2.from_hf(theirs)
    x = images(theirs, *(side * ours.patch_size for side in grid))
    worst = states_differ(ours, theirs, x)
    case = f"DINOv2 {name}, a grid of {grid[0]} by {grid[1]}"
    parity_record(case, f"transformers.{type(theirs).__name__}", worst, 1e-5)


def _gradients(theirs: nn.Module) -> dict[str, Tensor]:
    """Their gradients by their names, without the mask token's, which has none."""
    return {n: p.grad for n, p in theirs.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["small", "gated, grey, relu", "two registers, gated"])
def test_logits_loss_and_every_gradient(name, parity_record):
    theirs = reference(name, "ForImageClassification", num_labels=5).double()
    ours = DINOv2.from_hf(theirs).double()
    x, labels = images(theirs).double(), torch.tensor([3, 0])
    output, loss = theirs(x, labels=labels), ours.loss(x, labels)
    kind = f"transformers.{type(theirs).__name__}"
    worst = largest([difference(ours(x), output.logits), difference(loss, output.loss)])
    parity_record(f"DINOv2 {name}: logits, loss", kind, worst, 1e-6)
    output.loss.backward()
    loss.backward()
    expected = copy.deepcopy(ours)  # their gradients, as if they were weights of ours
    load_hf(expected, _split_gate(join_tokens(_gradients(theirs))), _RULES)
    assert max(p.grad.abs().max() for p in ours.parameters()) > 1e-3
    pairs = zip(ours.parameters(), expected.parameters(), strict=True)
    worst = largest(difference(p.grad, want) for p, want in pairs)
    parity_record(f"DINOv2 {name}: gradients", kind, worst, 1e-8)


@torch.no_grad()
@pytest.mark.parametrize("name", ["small", "gated, grey, relu", "two registers, gated"])
def test_from_a_folder(name, tmp_path, parity_record):
    theirs = reference(name)
    theirs.save_pretrained(tmp_path)
    names = load_file(tmp_path / "model.safetensors")
    # What is written has the names of the hub, which are not those of the live model.
    assert any("attention.attention.query" in name for name in names)
    worst = states_differ(DINOv2.from_hf(tmp_path), theirs, images(theirs))
    kind = f"transformers.{type(theirs).__name__}"
    parity_record(f"DINOv2 {name}, from a folder", kind, worst, 1e-5)
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")  # names of the live
    worst = states_differ(DINOv2.from_hf(tmp_path), theirs, images(theirs))
    parity_record(f"DINOv2 {name}, from a folder, new names", kind, worst, 1e-5)


@torch.no_grad()
def test_from_a_folder_with_a_head(tmp_path, parity_record):
    theirs = reference("registers", "ForImageClassification", num_labels=3)
    theirs.save_pretrained(tmp_path)
    x = images(theirs)
    worst = difference(DINOv2.from_hf(tmp_path)(x), theirs(x).logits)
    kind = f"transformers.{type(theirs).__name__}"
    parity_record("DINOv2 registers, head, from a folder", kind, worst, 1e-5)
