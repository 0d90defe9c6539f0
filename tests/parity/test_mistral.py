"""Mistral against transformers.MistralForCausalLM: windows shorter than the text."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from companion import Greedy, KeyValueCache, Mistral, generate, padding_mask
from tests.parity.test_bert import compare_states, difference

transformers = pytest.importorskip("transformers")

REFERENCE = "transformers.MistralForCausalLM"

SIZES = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
CONFIGS = {
    "window 4": {"sliding_window": 4},
    "window 2, tied": {"sliding_window": 2, "tie_word_embeddings": True},
    "no window, head_dim": {"sliding_window": None, "head_dim": 12},
    "window 5, deeper, multi-query": {
        "sliding_window": 5,
        "num_hidden_layers": 4,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-3,
        "rope_parameters": {"rope_type": "default", "rope_theta": 300.0},
    },
    "window as long as the text": {"sliding_window": 14, "hidden_act": "gelu"},
}
LENGTH = 14


def reference(name: str) -> nn.Module:
    torch.manual_seed(len(name))
    options = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": None}
    config = transformers.MistralConfig(
        **(SIZES | options | CONFIGS[name]), attn_implementation="eager"
    )
    model = transformers.MistralForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    return model


def texts() -> Tensor:
    token_ids = torch.randint(1, 40, (3, LENGTH))
    token_ids[1, 9:] = 0
    token_ids[2, 2:] = 0
    return token_ids


@torch.no_grad()
@pytest.mark.parametrize("masked", [False, True], ids=["no mask", "padding"])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_hidden_state_and_logit(name, masked, parity_record):
    theirs = reference(name)
    ours = Mistral.from_hf(theirs)
    token_ids = texts()
    mask = padding_mask(token_ids) if masked else None
    output = theirs(
        token_ids,
        attention_mask=mask[:, 0, 0].long() if masked else None,
        output_hidden_states=True,
    )
    states = ours.hidden_states(token_ids, mask)
    if masked:
        # Of a padding token whose window holds nothing but padding, ours hears nothing
        # and theirs an average of everything: neither is looked at.
        real = token_ids != 0
        states = [state[real] for state in states]
        output.hidden_states = [state[real] for state in output.hidden_states]
        output.logits = output.logits[real]
        logits = ours(token_ids, mask)[real]
    else:
        logits = ours(token_ids)
    case = f"Mistral {name}" + ", padding" * masked
    worst = compare_states(states, output.hidden_states, 1e-5)
    parity_record(f"{case}: hidden states", REFERENCE, worst, 1e-5)
    parity_record(f"{case}: logits", REFERENCE, difference(logits, output.logits), 1e-4)


def test_loss_and_gradient(parity_record):
    theirs = reference("window 4")
    ours = Mistral.from_hf(theirs)
    token_ids = texts()
    labels = token_ids.masked_fill(token_ids == 0, -100)
    mask = padding_mask(token_ids)
    their_loss = theirs(token_ids, mask[:, 0, 0].long(), labels=labels).loss
    our_loss = ours.loss(token_ids, labels, mask)
    off = difference(our_loss, their_loss)
    parity_record("Mistral window 4: loss", REFERENCE, off, 1e-5)
    their_loss.backward()
    our_loss.backward()
    ours_grad = {name: p.grad for name, p in ours.named_parameters()}
    their_grad = theirs.model.layers[0].self_attn.k_proj.weight.grad
    off = difference(ours_grad["layers.0.self_attention.W_k.weight"], their_grad)
    assert their_grad.abs().max() > 1e-4
    parity_record("Mistral window 4: gradient of W_k", REFERENCE, off, 1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_generation_far_past_the_window(name, parity_record):
    """Far enough for our cache to have thrown keys away."""
    theirs = reference(name)
    ours = Mistral.from_hf(theirs)
    prompt = torch.randint(1, 40, (2, 7))
    expected = theirs.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=180,
        do_sample=False,
        cache_implementation=None,
    )
    assert torch.equal(generate(ours, prompt, 180, Greedy()), expected)

    cache = KeyValueCache()
    parts = expected.split([7, 1, 1, 90, 1, 86, 1], dim=1)
    logits = torch.cat([ours(part, cache=cache) for part in parts], dim=1)
    off = difference(logits, theirs(expected).logits)
    parity_record(f"Mistral {name}: cached, 187 tokens", REFERENCE, off, 1e-4)
    if (theirs.config.sliding_window or 999) < 20:
        whole = (
            2 * 2 * 187 * ours.layers[0].self_attention.d_k * 4
        )  # of one layer and head
        kv_heads = ours.layers[0].self_attention.num_kv_heads
        assert cache.num_bytes < whole * kv_heads * len(ours.layers)
