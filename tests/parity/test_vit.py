"""ViT against transformers: hidden states, logits, loss, gradients, maps, other resolutions."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from companion import ViT, record_attention
from companion.models.hf import load_hf
from companion.models.vit import _RULES, join_tokens
from tests.parity.encoders import compare_states, difference, largest, randomized

transformers = pytest.importorskip("transformers")

REFERENCE = "transformers.ViTModel"
HEAD = "transformers.ViTForImageClassification"

# No two agree in more options than they must.
CONFIGS = {
    "small": {
        "image_size": 12,
        "patch_size": 4,
        "num_channels": 3,
        "hidden_size": 24,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_labels": 7,
    },
    "wide image, grey, relu, no qkv bias": {
        "image_size": [8, 20],
        "patch_size": [2, 2],
        "num_channels": 1,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "intermediate_size": 40,
        "num_hidden_layers": 4,
        "hidden_act": "relu",
        "qkv_bias": False,
        "num_labels": 3,
        "hidden_dropout_prob": 0.3,
    },
    "one head, one patch, large eps": {
        "image_size": 6,
        "patch_size": 6,
        "num_channels": 2,
        "hidden_size": 10,
        "num_attention_heads": 1,
        "intermediate_size": 7,
        "num_hidden_layers": 1,
        "layer_norm_eps": 1e-2,
        "hidden_act": "gelu_new",
        "num_labels": 2,
        "attention_probs_dropout_prob": 0.2,
    },
    "patches of a pixel, head of width 1": {
        "image_size": 5,
        "patch_size": 1,
        "num_channels": 4,
        "hidden_size": 12,
        "num_attention_heads": 12,
        "intermediate_size": 60,
        "num_hidden_layers": 3,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-6,
        "num_labels": 11,
    },
}


def reference(name: str, head: str = "ViTForImageClassification") -> nn.Module:
    """A model of random weights that attends by its own formula, not by the fused kernel."""
    torch.manual_seed(len(name))
    config = transformers.ViTConfig(**CONFIGS[name], attn_implementation="eager")
    return randomized(getattr(transformers, head)(config))


def images_for(model: nn.Module, grow: tuple[int, int] = (0, 0)) -> Tensor:
    """Three images of the model's size, larger by so many patches if asked."""
    size, patch = model.config.image_size, model.config.patch_size
    patch = patch[0] if isinstance(patch, list | tuple) else patch
    height, width = (size, size) if isinstance(size, int) else size
    shape = (height + patch * grow[0], width + patch * grow[1])
    return torch.randn(3, model.config.num_channels, *shape)


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_every_hidden_state(name, parity_record):
    theirs = reference(name, "ViTModel")
    ours = ViT.from_hf(theirs)
    images = images_for(theirs)
    output = theirs(images, output_hidden_states=True)
    # Theirs has the states of each layer as they are, and norms the last one besides.
    expected = [*output.hidden_states[:-1], output.last_hidden_state]
    states = ours.hidden_states(images)
    assert torch.equal(ours(images), states[-1])
    # They are sums over layers of random weights, and large.
    worst = compare_states(states, expected, 5e-5)
    parity_record(f"ViT {name}", REFERENCE, worst, 5e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_and_loss(name, parity_record):
    theirs = reference(name)
    ours = ViT.from_hf(theirs)
    images, labels = images_for(theirs), torch.tensor([1, -100, 0])
    output = theirs(images, labels=labels)
    pairs = [(ours(images), output.logits), (ours.loss(images, labels), output.loss)]
    worst = largest(difference(*pair) for pair in pairs)
    parity_record(f"ViT {name}: logits, loss", HEAD, worst, 1e-4)


@pytest.mark.parametrize("name", ["small", "wide image, grey, relu, no qkv bias"])
def test_every_gradient(name, parity_record):
    theirs = reference(name)
    theirs.set_attn_implementation("sdpa")  # their formula rounds to 32 bits
    ours, theirs = ViT.from_hf(theirs).double(), theirs.double()
    images, labels = images_for(theirs).double(), torch.tensor([1, 2, 0])
    theirs(images, labels=labels).loss.backward()
    ours.loss(images, labels).backward()
    # Their gradients under our names: as if they were the weights of our model.
    expected = copy.deepcopy(ours)
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    load_hf(expected, join_tokens(gradients), _RULES)
    assert max(p.grad.abs().max() for p in ours.parameters()) > 1e-3
    worst = largest(
        difference(p.grad, want)
        for p, want in zip(ours.parameters(), expected.parameters(), strict=True)
    )
    parity_record(f"ViT {name}: gradients", HEAD, worst, 1e-8)


@torch.no_grad()
@pytest.mark.parametrize("grow", [(2, 2), (0, 3), (4, 1), (-1, -1)])
def test_other_resolutions(grow, parity_record):
    theirs = reference("small")
    ours = ViT.from_hf(theirs)
    images = images_for(theirs, grow)
    expected = theirs(images, interpolate_pos_encoding=True).logits
    worst = difference(ours(images), expected)
    case = f"ViT small, positions resized by {grow} patches"
    parity_record(case, HEAD, worst, 1e-5)


@torch.no_grad()
def test_attention_maps(parity_record):
    theirs = reference("small")
    ours = ViT.from_hf(theirs)
    images = images_for(theirs)
    with record_attention(ours) as maps:
        ours(images)
    expected = torch.stack(theirs(images, output_attentions=True).attentions)
    worst = difference(maps.stack(), expected)
    parity_record("ViT small: attention maps", HEAD, worst, 1e-6)


@torch.no_grad()
@pytest.mark.parametrize("head", ["ViTForImageClassification", "ViTModel"])
def test_from_a_folder(head, tmp_path, parity_record):
    """A saved checkpoint has the names of the hub, not those of the live model."""
    theirs = reference("small", head)
    theirs.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors").keys()
    assert any("encoder.layer.0.attention.attention.query" in key for key in saved)
    assert not any("encoder.layer" in key for key in theirs.state_dict())
    ours = ViT.from_hf(tmp_path)
    images = images_for(theirs)
    worst = difference(ours(images), ViT.from_hf(theirs)(images))
    output = theirs(images)
    expected = output.logits if "Class" in head else output.last_hidden_state
    worst = largest([worst, difference(ours(images), expected)])
    parity_record("ViT small, from a folder", f"transformers.{head}", worst, 1e-5)


@torch.no_grad()
def test_a_model_without_classes_and_one_of_masked_images(parity_record):
    config = transformers.ViTConfig(**{**CONFIGS["small"], "num_labels": 0})
    theirs = randomized(transformers.ViTForImageClassification(config))
    ours = ViT.from_hf(theirs)
    assert ours.head is None
    images = images_for(theirs)
    worst = difference(ours(images)[:, 0], theirs(images).logits)
    parity_record("ViT small, no classes", HEAD, worst, 1e-5)
    masking = transformers.ViTModel(config, use_mask_token=True)
    ViT.from_hf(masking)  # the mask token has no place, and needs none


def test_every_option_is_varied():
    full = [transformers.ViTConfig(**options) for options in CONFIGS.values()]
    for option in (
        "image_size patch_size num_channels hidden_size num_attention_heads "
        "intermediate_size num_hidden_layers hidden_act layer_norm_eps qkv_bias "
        "num_labels hidden_dropout_prob attention_probs_dropout_prob"
    ).split():
        assert len({str(getattr(config, option)) for config in full}) > 1, option


@torch.no_grad()
def test_dropout_is_where_theirs_is(parity_record):
    """In training mode and from one seed, both zero the same numbers."""
    options = {**CONFIGS["small"], "hidden_dropout_prob": 0.4}
    torch.manual_seed(0)
    theirs = transformers.ViTForImageClassification(transformers.ViTConfig(**options))
    randomized(theirs)
    ours = ViT.from_hf(theirs).train()
    theirs.train()
    images = images_for(theirs)
    torch.manual_seed(1)
    logits = ours(images)
    torch.manual_seed(1)
    worst = difference(logits, theirs(images).logits)
    parity_record("ViT small, with dropout", HEAD, worst, 1e-5)
