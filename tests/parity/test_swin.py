"""Swin against transformers: every block and stage, pooling, logits, loss, gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from companion import Swin
from companion.models.hf import load_hf
from companion.models.swin import _RULES, SwinBlock
from tests.parity.encoders import difference, largest, randomized

transformers = pytest.importorskip("transformers")

REFERENCE = "transformers.SwinModel"
HEAD = "transformers.SwinForImageClassification"

CONFIGS = {
    "two stages": {
        "image_size": 32,
        "patch_size": 2,
        "num_channels": 3,
        "embed_dim": 8,
        "depths": [2, 2],
        "num_heads": [2, 4],
        "window_size": 4,
        "num_labels": 5,
    },
    "three stages, positions, relu": {
        "image_size": 24,
        "patch_size": 1,
        "num_channels": 1,
        "embed_dim": 12,
        "depths": [2, 4, 1],
        "num_heads": [3, 6, 12],
        "window_size": 3,
        "mlp_ratio": 2.5,
        "hidden_act": "relu",
        "use_absolute_embeddings": True,
        "layer_norm_eps": 1e-3,
        "num_labels": 3,
    },
    "no query bias, padded windows": {
        "image_size": 36,
        "patch_size": 4,
        "num_channels": 2,
        "embed_dim": 10,
        "depths": [3, 2],
        "num_heads": [1, 2],
        "window_size": 5,
        "qkv_bias": False,
        "mlp_ratio": 1.0,
        "hidden_dropout_prob": 0.1,
        "num_labels": 7,
    },
    "one stage, one window at the end": {
        "image_size": 21,
        "patch_size": 3,
        "num_channels": 4,
        "embed_dim": 16,
        "depths": [2],
        "num_heads": [4],
        "window_size": 6,
        "hidden_act": "gelu_new",
        "attention_probs_dropout_prob": 0.1,
        "drop_path_rate": 0.0,
        "num_labels": 2,
    },
}
# Other images than the config's: patches, windows and merging all want padding there.
ODD = {
    "two stages": (31, 42),
    "no query bias, padded windows": (47, 38),
    "one stage, one window at the end": (40, 23),
}


def reference(
    name: str, head: str = "SwinForImageClassification", attention: str = "eager"
) -> nn.Module:
    torch.manual_seed(len(name))
    config = transformers.SwinConfig(**CONFIGS[name], attn_implementation=attention)
    return randomized(getattr(transformers, head)(config))


def images_for(name: str, size: tuple[int, int] | None = None) -> Tensor:
    options = CONFIGS[name]
    size = (options["image_size"],) * 2 if size is None else size
    return torch.randn(2, options["num_channels"], *size)


def blocks_of(model: nn.Module, kind: str, images: Tensor) -> list[Tensor]:
    """What each block gives, in order, as ``(batch, tokens, width)``."""
    states: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: Tensor | tuple) -> None:
        state = output[0] if isinstance(output, tuple) else output
        states.append(state if state.ndim == 3 else state.flatten(1, 2))

    hooks = [
        module.register_forward_hook(keep)
        for module in model.modules()
        if type(module).__name__ == kind
    ]
    model(images)
    for hook in hooks:
        hook.remove()
    return states


def bound_of(name: str) -> float:
    """Rounding adds up in the deep one, whose numbers reach 30."""
    return 1e-5 if sum(CONFIGS[name]["depths"]) < 6 else 1e-4


def compare(ours: list[Tensor], theirs: list[Tensor], what: str, bound: float) -> float:
    """The largest difference. Fails at the first place that is off."""
    assert len(ours) == len(theirs) > 0
    differences = [difference(a, b) for a, b in zip(ours, theirs, strict=True)]
    for number, off in enumerate(differences):
        if not off < bound:
            pytest.fail(f"{what} {number} is the first to differ: by {off:.2e}")
    return largest(differences)


def all_states_differ(
    ours: Swin, theirs: nn.Module, images: Tensor, bound: float
) -> float:
    """Block by block, then stage by stage, then the last norm and the pooling."""
    worst = [
        compare(
            blocks_of(ours, SwinBlock.__name__, images),
            blocks_of(theirs, "SwinLayer", images),
            "block",
            bound,
        )
    ]
    output = theirs(images, output_hidden_states=True)
    states = ours.hidden_states(images)
    # Theirs leaves the last norm out of its list.
    expected = [*output.hidden_states[:-1], output.last_hidden_state]
    worst.append(compare(states, expected, "stage", bound))
    worst.append(difference(ours.features(images), output.pooler_output))
    return largest(worst)


def test_every_option_is_varied():
    full = [transformers.SwinConfig(**options) for options in CONFIGS.values()]
    for option in (
        "image_size patch_size num_channels embed_dim depths num_heads window_size "
        "mlp_ratio qkv_bias hidden_dropout_prob attention_probs_dropout_prob "
        "drop_path_rate hidden_act use_absolute_embeddings layer_norm_eps num_labels"
    ).split():
        values = {str(getattr(config, option)) for config in full}
        assert len(values) > 1, option


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_every_block_and_stage(name, parity_record):
    theirs = reference(name, "SwinModel")
    ours = Swin.from_hf(theirs)
    assert ours.head is None
    worst = all_states_differ(ours, theirs, images_for(name), bound_of(name))
    parity_record(f"Swin {name}", REFERENCE, worst, bound_of(name))


@torch.no_grad()
@pytest.mark.parametrize("name", ODD)
def test_images_that_nothing_fits(name, parity_record):
    theirs = reference(name, "SwinModel")
    ours = Swin.from_hf(theirs)
    worst = all_states_differ(ours, theirs, images_for(name, ODD[name]), 1e-5)
    case = f"Swin {name}, {ODD[name][0]} x {ODD[name][1]} pixels"
    parity_record(case, REFERENCE, worst, 1e-5)


@torch.no_grad()
def test_resized_positions(parity_record):
    """Absolute positions at another size, which theirs resizes when asked to."""
    name = "three stages, positions, relu"
    theirs, images = reference(name), images_for(name, (36, 30))
    ours = Swin.from_hf(theirs)
    expected = theirs(images, interpolate_pos_encoding=True).logits
    worst = difference(ours(images), expected)
    parity_record("Swin, positions resized to 36 x 30", HEAD, worst, 1e-4)


@torch.no_grad()
def test_pyramid(parity_record):
    """The maps of each stage before merging, which theirs calls a backbone."""
    theirs = reference("two stages", "SwinModel")
    images = images_for("two stages")
    output = theirs(
        images, output_hidden_states=True, output_hidden_states_before_downsampling=True
    )
    ours = Swin.from_hf(theirs).feature_maps(images)
    pairs = zip(ours, output.reshaped_hidden_states[1:], strict=True)
    worst = largest(difference(a, b) for a, b in pairs)
    parity_record("Swin two stages, pyramid", REFERENCE, worst, 1e-5)


def heads_differ(ours: Swin, theirs: nn.Module, images: Tensor) -> tuple:
    """Both losses, and by how much logits and loss differ."""
    labels = torch.arange(len(images)) % theirs.config.num_labels
    output = theirs(images, labels=labels)
    loss = ours.loss(images, labels)
    off = largest(
        [difference(ours(images), output.logits), difference(loss, output.loss)]
    )
    return loss, output.loss, off


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_logits_and_loss(name, parity_record):
    theirs = reference(name)
    ours = Swin.from_hf(theirs)
    worst = heads_differ(ours, theirs, images_for(name))[-1]
    parity_record(f"Swin {name}: logits, loss", HEAD, worst, 1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_gradient(name, parity_record):
    # Their eager softmax rounds to 32 bits whatever it is given; this one does not.
    theirs = reference(name, attention="sdpa").double()
    ours = Swin.from_hf(theirs).double()
    images = images_for(name).double()
    loss, their_loss, _ = heads_differ(ours, theirs, images)
    loss.backward()
    their_loss.backward()
    # Their gradients under our names: as if they were the weights of our model.
    expected = copy.deepcopy(ours)
    gradients = {
        key: p.grad[0] if key.endswith("position_embeddings") else p.grad
        for key, p in theirs.named_parameters()
    }
    load_hf(expected, gradients, _RULES)
    assert max(p.grad.abs().max() for p in ours.parameters()) > 1e-3
    worst = largest(
        difference(p.grad, want)
        for p, want in zip(ours.parameters(), expected.parameters(), strict=True)
    )
    parity_record(f"Swin {name}: gradients", HEAD, worst, 1e-8)


@torch.no_grad()
@pytest.mark.parametrize("name", ["two stages", "three stages, positions, relu"])
def test_from_a_folder(name, tmp_path, parity_record):
    """The files of the hub have other names than the live model."""
    from safetensors.torch import load_file

    theirs = reference(name)
    theirs.save_pretrained(tmp_path)
    saved, live = load_file(tmp_path / "model.safetensors"), theirs.state_dict()
    assert any("attention.self.query" in key for key in saved)
    assert any("attention.q_proj" in key for key in live)
    ours = Swin.from_hf(tmp_path)
    worst = heads_differ(ours, theirs, images_for(name))[-1]
    parity_record(f"Swin {name}, from a folder", HEAD, worst, 1e-4)


@torch.no_grad()
def test_a_checkpoint_of_an_old_version(tmp_path):
    """It stores which row of the bias table belongs to which pair."""
    from safetensors.torch import load_file, save_file

    theirs = reference("two stages", "SwinModel")
    theirs.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    index = "encoder.layers.0.blocks.1.attention.self.relative_position_index"
    weights[index] = torch.zeros(16, 16, dtype=torch.long)
    save_file(weights, tmp_path / "model.safetensors")
    images = images_for("two stages")
    assert torch.equal(Swin.from_hf(tmp_path)(images), Swin.from_hf(theirs)(images))


@torch.no_grad()
def test_the_reference_remembers_a_small_image():
    """Their window, once shrunk, stays so; a fresh one of theirs agrees with ours always."""
    theirs = reference("two stages")
    ours = Swin.from_hf(theirs)
    large, small = images_for("two stages"), images_for("two stages", (16, 16))
    before, ours_before = theirs(large).logits, ours(large)
    assert difference(ours(small), reference("two stages")(small).logits) < 1e-4
    theirs(small)
    assert difference(theirs(large).logits, before) > 1e-3
    assert torch.equal(ours(large), ours_before)
