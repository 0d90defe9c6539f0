"""CLIP's own rules: the loss, the end of a text, the temperature; and what from_hf refuses."""

from __future__ import annotations

import json
import math

import pytest
import torch
import torch.nn.functional as F

from companion import CLIP, CLIPText, CLIPVision, ViT
from companion.models.clip import PRESETS, contrastive_loss

transformers = pytest.importorskip("transformers")


def small(eos_id: int | None = 2) -> CLIP:
    torch.manual_seed(0)
    text = CLIPText(20, 12, 2, 2, max_seq_len=8, eos_id=eos_id)
    return CLIP(CLIPVision(8, 4, 3, 16, 4, 2), text, 10).eval()


def reference(**text) -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = {"num_attention_heads": 2, "intermediate_size": 12, "num_hidden_layers": 1}
    config = transformers.CLIPConfig(
        vision_config={"hidden_size": 8, "image_size": 8, "patch_size": 4} | sizes,
        text_config={"hidden_size": 6, "vocab_size": 20, "max_position_embeddings": 8}
        | {"bos_token_id": 0, "eos_token_id": 2}
        | sizes
        | text,
        projection_dim=5,
    )
    return transformers.CLIPModel(config)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("ViT-B/32", 151_277_313),
        ("ViT-B/16", 149_620_737),
        ("ViT-L/14", 427_616_513),
    ],
)
def test_presets_have_the_parameters_of_the_released_models(name, count):
    with torch.device("meta"):
        model = CLIP.preset(name)
    assert sum(p.numel() for p in model.parameters()) == count
    assert model.vision.image_size == (224, 224) and model.text.max_seq_len == 77
    assert set(PRESETS) == {"ViT-B/32", "ViT-B/16", "ViT-L/14"}


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="ViT-B/32.*'RN50'"):
        CLIP.preset("RN50")


def test_vectors_have_length_one_and_logits_are_scaled_cosines():
    model = small()
    images, ids = torch.randn(3, 3, 8, 8), torch.randint(3, 20, (4, 5))
    ids[:, -1] = 2
    a, b = model.encode_image(images), model.encode_text(ids)
    assert torch.allclose(a.norm(dim=1), torch.ones(3))
    assert torch.allclose(b.norm(dim=1), torch.ones(4))
    logits = model(images, ids)
    assert torch.allclose(logits, a @ b.T / 0.07, atol=1e-5)
    assert math.isclose(model.temperature, 0.07, rel_tol=1e-6)


def test_the_loss_is_symmetric_and_knows_its_pairs():
    logits = torch.randn(5, 5)
    assert torch.isclose(contrastive_loss(logits), contrastive_loss(logits.T))
    order = torch.randperm(5)
    moved = contrastive_loss(logits[order][:, order])
    assert torch.isclose(contrastive_loss(logits), moved)
    flat = contrastive_loss(torch.zeros(7, 7))
    assert math.isclose(flat.item(), math.log(7), rel_tol=1e-6)
    pairs = torch.arange(5)
    rows, columns = F.cross_entropy(logits, pairs), F.cross_entropy(logits.T, pairs)
    assert torch.isclose(contrastive_loss(logits), (rows + columns) / 2)
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        contrastive_loss(torch.zeros(2, 3))


def test_the_temperature_is_clamped_from_one_side_and_can_come_back():
    model = small()
    with torch.no_grad():
        model.logit_scale.fill_(9.0)
    model.clamp_temperature()
    assert math.isclose(math.exp(model.logit_scale.item()), 100, rel_tol=1e-5)
    # At the limit there is still a gradient, which may pull it back.
    images, ids = torch.randn(3, 3, 8, 8), torch.randint(3, 20, (3, 5))
    ids[:, -1] = 2
    model.loss(images, ids).backward()
    assert model.logit_scale.grad.abs() > 1e-3
    with torch.no_grad():
        model.logit_scale.fill_(-3.0)
    model.clamp_temperature()
    assert model.logit_scale.item() == -3.0
    with pytest.raises(ValueError, match="temperature must be positive"):
        CLIP(model.vision, model.text, temperature=0.0)


def test_the_first_end_of_text_counts_and_what_follows_does_not():
    text = small().text
    ids = torch.tensor([[5, 6, 2, 2, 9, 2], [7, 8, 9, 10, 2, 0]])
    assert text.ends(ids).tolist() == [2, 4]
    other = ids.clone()
    other[0, 3:], other[1, 5] = 11, 12
    assert torch.allclose(text.features(ids), text.features(other), atol=1e-6)
    assert torch.allclose(text.features(ids[:1]), text.features(ids[:1, :3]), atol=1e-6)
    states = text(ids)
    assert torch.equal(text.features(ids), states[[0, 1], [2, 4]])


def test_without_an_end_the_old_rule_reads_the_largest_id():
    text = small(eos_id=None).text
    ids = torch.tensor([[5, 19, 2, 0], [1, 2, 3, 18]])
    assert text.ends(ids).tolist() == [1, 3]
    with pytest.raises(ValueError, match="eos_id = 2, but text 1"):
        small().text.features(torch.tensor([[5, 2, 0], [5, 6, 7]]))


def test_a_word_does_not_see_what_comes_later():
    text = small().text
    ids = torch.randint(3, 20, (2, 6))
    changed = ids.clone()
    changed[:, 4] = (changed[:, 4] + 1) % 20
    moved = (text(ids) - text(changed)).abs().amax(dim=(0, 2))
    assert (moved[:4] == 0).all() and (moved[4:] > 1e-4).all()


def test_the_vision_tower_is_a_vit_with_another_norm_and_no_patch_bias():
    vision = small().vision
    assert isinstance(vision, ViT) and vision.patches.projection.bias is None
    images = torch.randn(2, 3, 8, 8)
    assert torch.allclose(
        vision.embed(images).mean(dim=-1), torch.zeros(2, 5), atol=1e-5
    )
    states = vision.hidden_states(images)
    assert len(states) == 3 and torch.equal(vision(images), states[-1])
    assert torch.equal(vision.features(images), vision.norm(states[-1][:, 0]))


@pytest.mark.parametrize(
    ("ids", "error", "words"),
    [
        (torch.zeros(3, dtype=torch.long), ValueError, r"\(batch, length\)"),
        (torch.zeros(1, 9, dtype=torch.long), ValueError, "max_seq_len = 8"),
        (torch.zeros(1, 4), TypeError, "integers"),
    ],
)
def test_bad_token_ids_are_refused(ids, error, words):
    with pytest.raises(error, match=words):
        small().text(ids)


def test_from_hf_refuses_what_it_does_not_implement():
    model = reference()
    model.config.text_config.hidden_act = "gelu_fast"
    with pytest.raises(ValueError, match="CLIPText.*\n.*hidden_act is 'gelu_fast'"):
        CLIP.from_hf(model)
    with pytest.raises(ValueError, match="model_type is 'clip_vision_model'"):
        CLIP.from_hf(reference().vision_model)
    with pytest.raises(ValueError, match="model_type is 'clip_text_model'"):
        CLIPVision.from_hf(reference().text_model)
    with pytest.raises(TypeError, match="no Hugging Face config"):
        CLIP.from_hf(torch.nn.Linear(2, 2))


def test_from_hf_names_what_is_left_over_or_missing(tmp_path):
    from safetensors.torch import load_file, save_file

    model = reference()
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["logit_scale"]
    weights["vision_model.extra"] = torch.zeros(1)
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError) as error:
        CLIP.from_hf(tmp_path)
    assert "vision_model.extra" in str(error.value)
    assert "missing:\n    logit_scale" in str(error.value)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "clip"
