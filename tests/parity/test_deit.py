"""DeiT against transformers: hidden states, both heads, loss, gradients, other resolutions."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from companion import DeiT
from companion.models.deit import _RULES
from companion.models.hf import load_hf
from companion.models.vit import join_tokens
from tests.parity.encoders import compare_states, difference, largest, randomized
from tests.parity.test_vit import CONFIGS, images_for

transformers = pytest.importorskip("transformers")

HEADS = ("DeiTForImageClassificationWithTeacher", "DeiTForImageClassification")


def reference(name: str, head: str = HEADS[0]) -> nn.Module:
    torch.manual_seed(len(name))
    config = transformers.DeiTConfig(**CONFIGS[name], attn_implementation="eager")
    return randomized(getattr(transformers, head)(config))


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_every_hidden_state(name, parity_record):
    theirs = reference(name, "DeiTModel")
    ours = DeiT.from_hf(theirs)
    images = images_for(theirs)
    output = theirs(images, output_hidden_states=True)
    expected = [*output.hidden_states[:-1], output.last_hidden_state]
    worst = compare_states(ours.hidden_states(images), expected, 5e-5)
    assert torch.equal(ours(images), ours.hidden_states(images)[-1])
    parity_record(f"DeiT {name}", "transformers.DeiTModel", worst, 5e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_both_heads_and_their_mean(name, parity_record):
    theirs = reference(name)
    ours = DeiT.from_hf(theirs)
    images = images_for(theirs)
    output = theirs(images)
    of_class, of_teacher = ours.both_logits(images)
    pairs = (
        (ours(images), output.logits),
        (of_class, output.cls_logits),
        (of_teacher, output.distillation_logits),
    )
    worst = largest(difference(*pair) for pair in pairs)
    parity_record(f"DeiT {name}: logits", f"transformers.{HEADS[0]}", worst, 1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_one_head_and_its_loss(name, parity_record):
    theirs = reference(name, HEADS[1])
    ours = DeiT.from_hf(theirs)
    assert ours.distillation_head is None
    images, labels = images_for(theirs), torch.tensor([1, -100, 0])
    output = theirs(images, labels=labels)
    pairs = [(ours(images), output.logits), (ours.loss(images, labels), output.loss)]
    worst = largest(difference(*pair) for pair in pairs)
    parity_record(f"DeiT {name}: logits, loss", f"transformers.{HEADS[1]}", worst, 1e-4)


def test_every_gradient(parity_record):
    """Of a loss upon both heads, computed by hand from theirs."""
    theirs = reference("small")
    theirs.set_attn_implementation("sdpa")  # their formula rounds to 32 bits
    ours, theirs = DeiT.from_hf(theirs).double(), theirs.double()
    images, labels = images_for(theirs).double(), torch.tensor([1, 2, 0])
    teacher = torch.randn(3, 7).double()
    output = theirs(images)
    by_hand = F.cross_entropy(output.cls_logits, labels) / 2
    by_hand += F.cross_entropy(output.distillation_logits, teacher.argmax(1)) / 2
    by_hand.backward()
    loss = ours.distillation_loss(images, labels, teacher)
    loss.backward()
    expected = copy.deepcopy(ours)
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    tokens = ("cls_token", "distillation_token")
    load_hf(expected, join_tokens(gradients, tokens), _RULES)
    worst = largest(
        difference(p.grad, want)
        for p, want in zip(ours.parameters(), expected.parameters(), strict=True)
    )
    worst = largest([worst, difference(loss, by_hand)])
    parity_record("DeiT small: gradients", f"transformers.{HEADS[0]}", worst, 1e-8)


@torch.no_grad()
@pytest.mark.parametrize("grow", [(2, 2), (0, 3)])
def test_other_resolutions(grow, parity_record):
    theirs = reference("small")
    ours = DeiT.from_hf(theirs)
    images = images_for(theirs, grow)
    expected = theirs(images, interpolate_pos_encoding=True).logits
    case = f"DeiT small, positions resized by {grow} patches"
    worst = difference(ours(images), expected)
    parity_record(case, f"transformers.{HEADS[0]}", worst, 1e-5)


@torch.no_grad()
@pytest.mark.parametrize("head", [*HEADS, "DeiTModel"])
def test_from_a_folder(head, tmp_path, parity_record):
    theirs = reference("small", head)
    theirs.save_pretrained(tmp_path)
    ours = DeiT.from_hf(tmp_path)
    images = images_for(theirs)
    output = theirs(images)
    expected = output.last_hidden_state if head == "DeiTModel" else output.logits
    worst = difference(ours(images), expected)
    parity_record("DeiT small, from a folder", f"transformers.{head}", worst, 1e-5)
