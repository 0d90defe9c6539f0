"""LLaMA against transformers.LlamaForCausalLM, with every rotary scaling, and PaLM by formula."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from companion import Greedy, KeyValueCache, LLaMA, PaLM, generate, padding_mask
from companion.models.hf import load_hf
from companion.models.llama import _RULES
from tests.parity.test_bert import compare_states, difference, largest

transformers = pytest.importorskip("transformers")

REFERENCE = "transformers.LlamaForCausalLM"

# No two agree in more options than they must.
CONFIGS = {
    "plain": {
        "vocab_size": 50,
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 32,
    },
    "tied, grouped, linear": {
        "vocab_size": 41,
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "tie_word_embeddings": True,
        "rms_norm_eps": 1e-3,
        "rope_parameters": {
            "rope_type": "linear",
            "rope_theta": 5000.0,
            "factor": 2.5,
        },
    },
    "multi-query, biases, head_dim, dynamic": {
        "vocab_size": 37,
        "hidden_size": 24,
        "intermediate_size": 30,
        "num_hidden_layers": 1,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "head_dim": 10,
        "max_position_embeddings": 8,  # shorter than the texts: the scaling sets in
        "attention_bias": True,
        "mlp_bias": True,
        "rope_parameters": {
            "rope_type": "dynamic",
            "rope_theta": 10000.0,
            "factor": 4.0,
        },
    },
    "attention bias, yarn, gelu": {
        "vocab_size": 60,
        "hidden_size": 32,
        "intermediate_size": 33,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 32,
        "attention_bias": True,
        "hidden_act": "gelu",
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 100.0,
            "factor": 4.0,
            "original_max_position_embeddings": 8,
        },
    },
    "four layers, mlp bias, llama3": {
        "vocab_size": 33,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "max_position_embeddings": 64,
        "mlp_bias": True,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    },
}
LENGTH = 14


def reference(name: str) -> nn.Module:
    """A model in which no parameter is left at zero or one; it attends by its own formula."""
    torch.manual_seed(len(name))
    options = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": None}
    config = transformers.LlamaConfig(
        **options, **CONFIGS[name], attn_implementation="eager"
    )
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    return model


def texts(vocab_size: int) -> Tensor:
    """Three texts, two of them padded at the end."""
    token_ids = torch.randint(1, vocab_size, (3, LENGTH))
    token_ids[1, 9:] = 0
    token_ids[2, 2:] = 0
    return token_ids


@torch.no_grad()
@pytest.mark.parametrize("masked", [False, True], ids=["no mask", "padding"])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_hidden_state_and_logit(name, masked, parity_record):
    theirs = reference(name)
    ours = LLaMA.from_hf(theirs)
    token_ids = texts(theirs.config.vocab_size)
    mask = padding_mask(token_ids) if masked else None
    output = theirs(
        token_ids,
        attention_mask=mask[:, 0, 0].long() if masked else None,
        output_hidden_states=True,
    )
    states = ours.hidden_states(token_ids, mask)
    worst = compare_states(states, output.hidden_states, 1e-5)
    case = f"LLaMA {name}" + ", padding" * masked
    parity_record(f"{case}: hidden states", REFERENCE, worst, 1e-5)
    logits = difference(ours(token_ids, mask), output.logits)
    parity_record(f"{case}: logits", REFERENCE, logits, 1e-4)


def test_every_option_is_varied():
    full = [transformers.LlamaConfig(**options) for options in CONFIGS.values()]
    for option in (
        "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
        "num_key_value_heads head_dim hidden_act max_position_embeddings rms_norm_eps "
        "tie_word_embeddings attention_bias mlp_bias"
    ).split():
        assert len({getattr(config, option) for config in full}) > 1, option
    kinds = {config.rope_parameters["rope_type"] for config in full}
    assert kinds == {"default", "linear", "dynamic", "yarn", "llama3"}


@pytest.mark.parametrize("name", list(CONFIGS)[1:3])
def test_loss_and_every_gradient(name, parity_record):
    theirs = reference(name)
    ours = LLaMA.from_hf(theirs)
    token_ids = texts(theirs.config.vocab_size)
    labels = token_ids.masked_fill(token_ids == 0, -100)
    mask = padding_mask(token_ids)
    their_loss = theirs(token_ids, mask[:, 0, 0].long(), labels=labels).loss
    our_loss = ours.loss(token_ids, labels, mask)
    off = difference(our_loss, their_loss)
    parity_record(f"LLaMA {name}: loss", REFERENCE, off, 1e-5)

    their_loss.backward()
    our_loss.backward()
    expected = copy.deepcopy(ours)  # as if their gradients were weights
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    if theirs.config.tie_word_embeddings:
        gradients["lm_head.weight"] = gradients["model.embed_tokens.weight"]
    load_hf(expected, gradients, _RULES)
    worst = largest(
        difference(p.grad, want)
        for p, want in zip(ours.parameters(), expected.parameters(), strict=True)
    )
    assert max(p.grad.abs().max() for p in ours.parameters()) > 1e-3
    parity_record(f"LLaMA {name}: gradients", REFERENCE, worst, 1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_cached_generation(name, parity_record):
    theirs = reference(name)
    ours = LLaMA.from_hf(theirs)
    ours.max_seq_len = 64  # the one with dynamic angles is to be read beyond its length
    prompt = texts(theirs.config.vocab_size)[:, :2]
    expected = theirs.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=12,
        do_sample=False,
    )
    written = generate(ours, prompt, 12, Greedy())
    assert torch.equal(written, expected)

    cache, past, worst = KeyValueCache(), None, 0.0
    for t in range(LENGTH):  # both step by step, logits compared
        token = expected[:, t : t + 1]
        output = theirs(token, past_key_values=past, use_cache=True)
        past = output.past_key_values
        worst = max(worst, difference(ours(token, cache=cache), output.logits))
    parity_record(f"LLaMA {name}: cached steps", REFERENCE, worst, 1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", list(CONFIGS)[:2])
def test_a_folder_there_and_back(name, tmp_path, parity_record):
    theirs = reference(name)
    theirs.save_pretrained(tmp_path)
    ours = LLaMA.from_hf(tmp_path)
    token_ids = texts(theirs.config.vocab_size)
    worst = difference(ours(token_ids), theirs(token_ids).logits)
    parity_record(f"LLaMA {name}, from a folder", REFERENCE, worst, 1e-4)
    back = transformers.LlamaForCausalLM(theirs.config).eval()
    back.load_state_dict(ours.hf_weights())
    assert torch.equal(back(token_ids).logits, theirs(token_ids).logits)


def test_a_mismatch_names_its_layer():
    theirs = reference("tied, grouped, linear")
    ours = LLaMA.from_hf(theirs)
    token_ids = texts(theirs.config.vocab_size)
    with torch.no_grad():
        ours.layers[1].feed_forward.V.weight.add_(0.01)
        states = theirs(token_ids, output_hidden_states=True).hidden_states
        with pytest.raises(
            pytest.fail.Exception, match=r"^layer 2 is the first to differ"
        ):
            compare_states(ours.hidden_states(token_ids), states, 1e-5)


# PaLM has no published class: its formula, from PyTorch's functions alone


def palm_by_formula(model: PaLM, token_ids: Tensor) -> Tensor:
    """Section 2 of the paper, one text and one head at a time."""
    weights = model.state_dict()
    embedding = weights["token_embedding.weight"]
    d_model, logits = embedding.shape[1], []
    for ids in token_ids:
        x = embedding[ids]  # (L, d)
        for i in range(len(model.layers)):

            def w(name: str, i: int = i) -> Tensor:
                return weights[f"layers.{i}.{name}.weight"]

            normed = F.layer_norm(x, (d_model,), w("norm"), eps=1e-5)
            attention = "self_attention"
            key = turn(normed @ w(f"{attention}.W_k").T)  # (L, d_k): one for all
            value = normed @ w(f"{attention}.W_v").T
            heads = []
            for query in (normed @ w(f"{attention}.W_q").T).split(key.shape[1], dim=1):
                scores = turn(query) @ key.T / key.shape[1] ** 0.5
                later = torch.ones_like(scores).triu(1).bool()
                heads.append(scores.masked_fill(later, -torch.inf).softmax(1) @ value)
            heard = torch.cat(heads, dim=1) @ w(f"{attention}.W_o").T
            gate = normed @ w("feed_forward.W_1").T
            up = normed @ w("feed_forward.V").T
            fed = (gate * gate.sigmoid() * up) @ w("feed_forward.W_2").T
            x = x + heard + fed
        x = F.layer_norm(x, (d_model,), weights["norm.weight"], eps=1e-5)
        logits.append(x @ embedding.T / d_model**0.5)
    return torch.stack(logits)


def turn(x: Tensor) -> Tensor:
    """Each pair of neighbors as a complex number, times e^(i position angle)."""
    length, width = x.shape
    angle = 10000 ** (-torch.arange(0, width, 2) / width)
    turned = torch.view_as_complex(x.reshape(length, -1, 2)) * torch.polar(
        torch.ones(1), torch.arange(length)[:, None] * angle
    )
    return torch.view_as_real(turned).flatten(1)


@torch.no_grad()
@pytest.mark.parametrize(
    "options", [{}, {"num_heads": 5, "d_k": 6, "d_ff": 20}], ids=["small", "odd widths"]
)
def test_palm(options, parity_record):
    torch.manual_seed(0)
    model = PaLM(30, 16, **({"num_heads": 2, "num_layers": 3, "d_k": 8} | options))
    for parameter in model.parameters():  # norms too, so that none can be left out
        parameter.add_(torch.randn(parameter.shape) * 0.1)
    token_ids = torch.randint(0, 30, (2, 9))
    worst = difference(model(token_ids), palm_by_formula(model, token_ids))
    name = "odd widths" if options else "small"
    parity_record(f"PaLM {name}", "the paper's formula", worst, 1e-4)
    cache = KeyValueCache()
    steps = [model(token_ids[:, t : t + 1], cache=cache) for t in range(9)]
    parity_record(
        f"PaLM {name}: cached steps",
        "the paper's formula",
        difference(torch.cat(steps, 1), palm_by_formula(model, token_ids)),
        1e-4,
    )
