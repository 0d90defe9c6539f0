"""CLIP against transformers: both towers layer by layer, logits, loss, gradients; its tokenizer."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from companion import CLIP, CLIPText, CLIPVision
from companion.models.clip import _RULES, _reshaped
from companion.models.hf import load_hf
from tests.parity.encoders import compare_states, difference, largest, randomized

transformers = pytest.importorskip("transformers")

REFERENCE = "transformers.CLIPModel"
VISION, TEXT = "transformers.CLIPVisionModel", "transformers.CLIPTextModel"

# (vision, text, of the whole)
CONFIGS = {
    "small, new rule": (
        {
            "hidden_size": 32,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "image_size": 16,
            "patch_size": 4,
        },
        {
            "vocab_size": 50,
            "hidden_size": 24,
            "num_attention_heads": 4,
            "intermediate_size": 40,
            "num_hidden_layers": 2,
            "max_position_embeddings": 12,
            "eos_token_id": 7,
        },
        {"projection_dim": 16},
    ),
    "legacy rule, gelu": (
        {
            "hidden_size": 24,
            "num_attention_heads": 2,
            "intermediate_size": 24,
            "num_hidden_layers": 4,
            "image_size": 12,
            "patch_size": 6,
            "num_channels": 1,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-3,
        },
        {
            "vocab_size": 33,
            "hidden_size": 32,
            "num_attention_heads": 8,
            "intermediate_size": 100,
            "num_hidden_layers": 4,
            "max_position_embeddings": 9,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-3,
            "eos_token_id": 2,
        },
        {"projection_dim": 5, "logit_scale_init_value": 3.2},
    ),
    "one head, one patch": (
        {
            "hidden_size": 10,
            "num_attention_heads": 1,
            "intermediate_size": 7,
            "num_hidden_layers": 1,
            "image_size": 8,
            "patch_size": 8,
            "num_channels": 5,
            "attention_dropout": 0.5,
        },
        {
            "vocab_size": 20,
            "hidden_size": 6,
            "num_attention_heads": 1,
            "intermediate_size": 9,
            "num_hidden_layers": 1,
            "max_position_embeddings": 30,
            "eos_token_id": 19,
            "attention_dropout": 0.5,
        },
        {"projection_dim": 40, "logit_scale_init_value": 0.0},
    ),
    "towers that differ": (
        {
            "hidden_size": 36,
            "num_attention_heads": 12,
            "intermediate_size": 50,
            "num_hidden_layers": 3,
            "image_size": 15,
            "patch_size": 5,
            "hidden_act": "relu",
        },
        {
            "vocab_size": 41,
            "hidden_size": 16,
            "num_attention_heads": 2,
            "intermediate_size": 30,
            "num_hidden_layers": 5,
            "max_position_embeddings": 17,
            "eos_token_id": 3,
            "layer_norm_eps": 1e-2,
        },
        {"projection_dim": 12},
    ),
}


def reference(name: str, attention: str = "eager") -> nn.Module:
    torch.manual_seed(len(name))
    vision, text, more = CONFIGS[name]
    text = {"bos_token_id": 0, **text}
    config = transformers.CLIPConfig(
        vision_config=vision, text_config=text, attn_implementation=attention, **more
    )
    return randomized(transformers.CLIPModel(config))


def inputs(theirs: nn.Module) -> dict[str, torch.Tensor]:
    """Three images, and four texts that end at different places."""
    vision, text = theirs.config.vision_config, theirs.config.text_config
    sides = (vision.image_size, vision.image_size)
    images = torch.randn(3, vision.num_channels, *sides)
    legacy = text.eos_token_id == 2
    eos = text.vocab_size - 1 if legacy else text.eos_token_id
    length = text.max_position_embeddings
    token_ids = torch.randint(0, text.vocab_size - 1, (4, length))
    token_ids[token_ids == eos] = 1
    for row, end in enumerate((length - 1, 3, length // 2, 1)):
        token_ids[row, end] = eos
        token_ids[row, end + 1 :] = 0 if legacy else eos
    return {"pixel_values": images, "input_ids": token_ids}


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_every_hidden_state_of_both_towers(name, parity_record):
    theirs = reference(name)
    given = inputs(theirs)
    for tower, key, kind, ref in (
        ("vision", "pixel_values", CLIPVision, VISION),
        ("text", "input_ids", CLIPText, TEXT),
    ):
        part = getattr(theirs, f"{tower}_model")
        ours = kind.from_hf(part)
        output = part(given[key], output_hidden_states=True)
        # Theirs holds the last state before the text tower's last norm as well.
        states = [*output.hidden_states[:-1], output.last_hidden_state]
        worst = compare_states(ours.hidden_states(given[key]), states, 1e-4)
        pooled = difference(ours.features(given[key]), output.pooler_output)
        parity_record(f"CLIP {name}: {tower}", ref, largest([worst, pooled]), 1e-4)
        assert torch.equal(ours(given[key]), ours.hidden_states(given[key])[-1])


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_logits(name, parity_record):
    theirs = reference(name)
    ours = CLIP.from_hf(theirs)
    given = inputs(theirs)
    output = theirs(**given)
    logits = ours(given["pixel_values"], given["input_ids"])
    assert logits.shape == (3, 4)
    worst = largest(
        [
            difference(logits, output.logits_per_image),
            difference(ours.encode_image(given["pixel_values"]), output.image_embeds),
            difference(ours.encode_text(given["input_ids"]), output.text_embeds),
        ]
    )
    parity_record(f"CLIP {name}: logits", REFERENCE, worst, 1e-4)


@torch.no_grad()
def test_padding_mask(parity_record):
    """A mask hides what comes before the end, too."""
    theirs = reference("small, new rule")
    ours = CLIP.from_hf(theirs)
    given = inputs(theirs)
    seen = torch.rand(given["input_ids"].shape) < 0.6
    seen[:, 0] = True
    output = theirs(**given, attention_mask=seen.long())
    logits = ours(*given.values(), seen[:, None, None])
    worst = difference(logits, output.logits_per_image)
    assert difference(ours(*given.values()), output.logits_per_image) > 1e-2
    parity_record("CLIP small, masked", REFERENCE, worst, 1e-4)


@torch.no_grad()
def test_other_resolutions(parity_record):
    theirs = reference("small, new rule")
    ours = CLIPVision.from_hf(theirs.vision_model)
    worst = []
    for size in ((24, 24), (8, 20), (16, 32)):
        images = torch.randn(2, 3, *size)
        output = theirs.vision_model(images, interpolate_pos_encoding=True)
        worst.append(difference(ours(images), output.last_hidden_state))
    parity_record("CLIP small, other grids", VISION, largest(worst), 1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_loss_and_every_gradient(name, parity_record):
    theirs = reference(name, "sdpa")  # the other one rounds weights to 32 bits
    ours, theirs = CLIP.from_hf(theirs).double(), theirs.double()
    given = inputs(theirs)
    given["pixel_values"] = given["pixel_values"].double()
    given["input_ids"] = given["input_ids"][:3]
    output = theirs(**given, return_loss=True)
    loss = ours.loss(*given.values())
    parity_record(f"CLIP {name}: loss", REFERENCE, difference(loss, output.loss), 1e-8)
    output.loss.backward()
    loss.backward()
    # Their gradients under our names: as if they were the weights of our model.
    expected = copy.deepcopy(ours)
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    load_hf(expected, _reshaped(gradients), _RULES)
    assert max(p.grad.abs().max() for p in ours.parameters()) > 1e-3
    worst = largest(
        difference(p.grad, want)
        for p, want in zip(ours.parameters(), expected.parameters(), strict=True)
    )
    parity_record(f"CLIP {name}: gradients", REFERENCE, worst, 1e-8)


def test_every_option_is_varied():
    pairs = [(vision, text) for vision, text, _ in CONFIGS.values()]
    for config, place, options in (
        (
            transformers.CLIPVisionConfig,
            0,
            "hidden_size num_attention_heads intermediate_size num_hidden_layers "
            "image_size patch_size num_channels hidden_act layer_norm_eps "
            "attention_dropout",
        ),
        (
            transformers.CLIPTextConfig,
            1,
            "vocab_size hidden_size num_attention_heads intermediate_size "
            "num_hidden_layers max_position_embeddings hidden_act layer_norm_eps "
            "attention_dropout eos_token_id",
        ),
    ):
        full = [config(**pair[place]) for pair in pairs]
        for option in options.split():
            assert len({getattr(c, option) for c in full}) > 1, option


@torch.no_grad()
@pytest.mark.parametrize("name", ["small, new rule", "legacy rule, gelu"])
def test_from_a_folder(name, tmp_path, parity_record):
    theirs = reference(name)
    theirs.save_pretrained(tmp_path)
    given = inputs(theirs)
    ours = CLIP.from_hf(tmp_path)
    worst = difference(ours(*given.values()), theirs(**given).logits_per_image)
    parity_record(f"CLIP {name}: folder", REFERENCE, worst, 1e-4)
    # A tower takes its part out of it.
    assert torch.equal(
        CLIPVision.from_hf(tmp_path)(given["pixel_values"]),
        ours.vision(given["pixel_values"]),
    )
    assert torch.equal(
        CLIPText.from_hf(tmp_path)(given["input_ids"]), ours.text(given["input_ids"])
    )


@torch.no_grad()
def test_towers_from_folders_of_their_own(tmp_path, parity_record):
    theirs = reference("towers that differ")
    given = inputs(theirs)
    for tower, key, kind, ref in (
        ("vision", "pixel_values", CLIPVision, VISION),
        ("text", "input_ids", CLIPText, TEXT),
    ):
        part = getattr(theirs, f"{tower}_model")
        part.save_pretrained(tmp_path / tower)
        ours = kind.from_hf(tmp_path / tower)
        worst = difference(ours.features(given[key]), part(given[key]).pooler_output)
        parity_record(f"CLIP {tower}, from a folder", ref, worst, 1e-5)


@torch.no_grad()
@pytest.mark.parametrize("tower", ["Vision", "Text"])
def test_towers_with_a_projection(tower, parity_record):
    """The projection is left out."""
    whole = reference("small, new rule")
    kind = getattr(transformers, f"CLIP{tower}ModelWithProjection")
    config = getattr(whole.config, f"{tower.lower()}_config")
    theirs = randomized(kind(config))
    ours = {"Vision": CLIPVision, "Text": CLIPText}[tower].from_hf(theirs)
    given = inputs(whole)["pixel_values" if tower == "Vision" else "input_ids"]
    body = getattr(theirs, f"{tower.lower()}_model")
    worst = difference(ours.features(given), body(given).pooler_output)
    parity_record(f"CLIP {tower} with projection", kind.__name__, worst, 1e-5)


@torch.no_grad()
def test_a_checkpoint_as_the_hub_has_it(tmp_path, parity_record):
    """An old one: numbers of positions among the weights, options that are said twice."""
    theirs = reference("legacy rule, gelu")
    theirs.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    for tower, length in (("text", 9), ("vision", 5)):
        name = f"{tower}_model.embeddings.position_ids"
        weights[name] = torch.arange(length)[None]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    for tower in ("text", "vision"):
        whole = config[f"{tower}_config"]
        config[f"{tower}_config_dict"] = whole
        default = {
            "text": transformers.CLIPTextConfig,
            "vision": transformers.CLIPVisionConfig,
        }
        left_out = default[tower]().to_dict()
        config[f"{tower}_config"] = {
            key: value for key, value in whole.items() if left_out.get(key) != value
        }
    (tmp_path / "config.json").write_text(json.dumps(config))
    given = inputs(theirs)
    worst = difference(
        CLIP.from_hf(tmp_path)(*given.values()), theirs(**given).logits_per_image
    )
    parity_record("CLIP, an old checkpoint", REFERENCE, worst, 1e-4)


def test_the_tokenizer_is_transformers_own():
    from companion.data.clip_bpe import VOCAB_SIZE, clip_merges, load_clip_tokenizer
    from companion.data.texts import shakespeare

    ours = load_clip_tokenizer()
    assert ours.get_vocab_size() == VOCAB_SIZE
    theirs = transformers.CLIPTokenizer(
        vocab=ours.get_vocab(with_added_tokens=True), merges=clip_merges()
    )
    # As everyone who has used the original knows it.
    assert ours.encode("a photo of a cat").ids == [
        49406,
        320,
        1125,
        539,
        320,
        2368,
        49407,
    ]
    texts = shakespeare()[:200_000].split("\n")
    texts += [
        "",
        " two  blanks ",
        "It’s 2026, isn't it?",
        "naïve café",
        "猫と犬",
        "😀 👩‍🚀",
    ]
    assert [e.ids for e in ours.encode_batch(texts)] == theirs(texts)["input_ids"]
