"""SmolLM2 as transformers reads it out of the same GGUF file, by its own converter."""

from __future__ import annotations

import pytest
import torch

from companion import Greedy, KeyValueCache, generate
from companion.data.assets import fetch
from companion.data.smollm2 import ChatTokenizer
from companion.models.gguf import llama_from_gguf, read_gguf
from tests.parity.test_bert import compare_states, difference

transformers = pytest.importorskip("transformers")

REFERENCE = "transformers.LlamaForCausalLM"

MESSAGES = [{"role": "user", "content": "What is gravity? Answer in one sentence."}]


@pytest.fixture(scope="module")
def ours():
    file = read_gguf(fetch("smollm2"))
    return llama_from_gguf(file), ChatTokenizer(file.metadata)


@pytest.fixture(scope="module")
def theirs():
    """It undoes the reordering of W_q and W_k in its own way."""
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    path = str(fetch("smollm2"))
    config = transformers.LlamaConfig(
        **load_gguf_checkpoint(path)["config"], attn_implementation="eager"
    )
    with torch.device("meta"):
        empty = transformers.LlamaForCausalLM(config)
    weights = load_gguf_checkpoint(path, return_tensors=True, model_to_load=empty)
    return transformers.LlamaForCausalLM.from_pretrained(
        None, config=config, state_dict=weights["tensors"]
    ).eval()


@torch.no_grad()
def test_every_hidden_state_and_logit(ours, theirs, parity_record):
    model, tokenizer = ours
    token_ids = torch.tensor([tokenizer.chat(MESSAGES)])
    output = theirs(token_ids, output_hidden_states=True)
    states = model.hidden_states(token_ids)
    assert len(states) == 31
    # The residual stream holds numbers in the thousands: the bound is relative to them.
    size = max(float(state.abs().max()) for state in output.hidden_states)
    worst = compare_states(states, output.hidden_states, 1e-5 * size) / size
    parity_record("SmolLM2: hidden states, relative", REFERENCE, worst, 1e-5)
    logits = difference(model(token_ids), output.logits)
    parity_record("SmolLM2: logits", REFERENCE, logits, 1e-3)


@torch.no_grad()
def test_cached_generation(ours, theirs, parity_record):
    model, tokenizer = ours
    prompt = torch.tensor([tokenizer.chat(MESSAGES)])
    written = generate(model, prompt, 12, Greedy())
    expected = theirs.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=12,
        do_sample=False,
    )
    assert torch.equal(written, expected)
    cache = KeyValueCache()
    steps = [model(written[:, t : t + 1], cache=cache) for t in range(written.shape[1])]
    off = difference(torch.cat(steps, 1), theirs(written).logits)
    parity_record("SmolLM2: cached steps", REFERENCE, off, 1e-3)


def test_token_ids_are_those_of_transformers(ours):
    """Its converter makes a tokenizer of its own from the same metadata."""
    from transformers.integrations.gguf import convert_gguf_tokenizer
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    _, tokenizer = ours
    parts = load_gguf_checkpoint(str(fetch("smollm2")))["tokenizer"]
    reference, _ = convert_gguf_tokenizer("llama", parts)
    for text in (
        "The capital of France is",
        "Two naïve cafés — 東京!\n\n  ok",
        " a  b",
    ):
        assert tokenizer.encode(text) == reference.encode(text).ids, text
