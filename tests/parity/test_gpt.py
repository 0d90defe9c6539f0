"""GPT against transformers' GPT-2 and GPT: states, logits, loss, gradients, cached writing."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from companion import GPT, KeyValueCache, generate, padding_mask, record_attention
from companion.models.gpt import _IGNORED, _RULES, _as_linear
from companion.models.hf import load_hf
from tests.parity.test_bert import compare_states, difference, largest

transformers = pytest.importorskip("transformers")

GPT2 = "transformers.GPT2LMHeadModel"
GPT1 = "transformers.OpenAIGPTLMHeadModel"

# No two agree in more options than they must.
CONFIGS = {
    "gpt2, small": {
        "vocab_size": 50,
        "n_embd": 24,
        "n_head": 4,
        "n_layer": 2,
        "n_positions": 16,
    },
    "gpt2, own head, relu, narrow": {
        "vocab_size": 33,
        "n_embd": 32,
        "n_head": 2,
        "n_layer": 4,
        "n_inner": 40,
        "n_positions": 11,
        "activation_function": "relu",
        "tie_word_embeddings": False,
    },
    "gpt2, one head, large eps": {
        "vocab_size": 20,
        "n_embd": 10,
        "n_head": 1,
        "n_layer": 1,
        "n_inner": 7,
        "n_positions": 9,
        "activation_function": "gelu",
        "layer_norm_epsilon": 1e-2,
        "resid_pdrop": 0.3,
        "embd_pdrop": 0.2,
    },
    "gpt2, heads of width 1, no dropout": {
        "vocab_size": 41,
        "n_embd": 12,
        "n_head": 12,
        "n_layer": 3,
        "n_inner": 60,
        "n_positions": 40,
        "activation_function": "silu",
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    },
    "gpt, post-norm": {
        "model_type": "openai-gpt",
        "vocab_size": 29,
        "n_embd": 16,
        "n_head": 4,
        "n_layer": 3,
        "n_positions": 12,
        "layer_norm_epsilon": 1e-3,
    },
    "gpt, silu": {
        "model_type": "openai-gpt",
        "vocab_size": 31,
        "n_embd": 20,
        "n_head": 5,
        "n_layer": 2,
        "n_positions": 10,
        "afn": "silu",
        "attn_pdrop": 0.0,
    },
}
FIRST = {name for name, options in CONFIGS.items() if "model_type" in options}


def reference(name: str) -> nn.Module:
    """A model in which no parameter is left at zero or one, so that none can be mixed up.

    It attends by its own formula, so that both don't run the same kernel.
    """
    torch.manual_seed(len(name))
    options = {k: v for k, v in CONFIGS[name].items() if k != "model_type"}
    if name in FIRST:
        config = transformers.OpenAIGPTConfig(**options)
        model = transformers.OpenAIGPTLMHeadModel(config)
    else:
        config = transformers.GPT2Config(**options, attn_implementation="eager")
        model = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    return model.eval()


def source(name: str) -> str:
    return GPT1 if name in FIRST else GPT2


def inputs(model: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids of different lengths, the mask of their padding, and labels."""
    config = model.config
    token_ids = torch.randint(1, config.vocab_size, (3, config.n_positions))
    token_ids[1, config.n_positions // 2 :] = 0
    token_ids[2, 2:] = 0
    labels = token_ids.masked_fill(token_ids == 0, -100)
    return token_ids, padding_mask(token_ids), labels


@torch.no_grad()
@pytest.mark.parametrize("masked", [False, True], ids=["no mask", "padding"])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_hidden_state_the_logits_and_the_loss(name, masked, parity_record):
    theirs = reference(name)
    ours = GPT.from_hf(theirs)
    token_ids, mask, labels = inputs(theirs)
    if not masked:
        mask, labels = None, token_ids
    output = theirs(
        token_ids,
        attention_mask=mask[:, 0, 0].long() if masked else None,
        labels=labels,
        output_hidden_states=True,
    )
    states = ours.hidden_states(token_ids, mask)
    worst = compare_states(states, output.hidden_states, 1e-5)
    case = f"GPT {name}" + ", padding" * masked
    parity_record(f"{case}: hidden states", source(name), worst, 1e-5)
    logits = difference(ours(token_ids, mask), output.logits)
    parity_record(f"{case}: logits", source(name), logits, 1e-4)
    loss = difference(ours.loss(token_ids, labels, mask), output.loss)
    parity_record(f"{case}: loss", source(name), loss, 1e-5)


def test_every_option_is_varied():
    """The configs above reach each option that from_hf reads, with at least two values."""
    configs = [reference(name).config for name in CONFIGS]
    for option in (
        "model_type vocab_size n_embd n_head n_layer n_inner n_positions "
        "activation_function afn layer_norm_epsilon resid_pdrop embd_pdrop attn_pdrop "
        "tie_word_embeddings"
    ).split():
        values = {getattr(c, option) for c in configs if hasattr(c, option)}
        assert len(values) > 1, option


def test_the_three_dropouts_arrive():
    name = "gpt2, one head, large eps"
    ours = GPT.from_hf(reference(name))
    assert ours.positions.dropout.p == 0.2
    assert ours.layers[0].dropout.p == 0.3
    assert ours.layers[0].self_attention.dropout == 0.1
    hidden = [m.p for m in ours.layers[0].feed_forward.modules() if hasattr(m, "p")]
    assert hidden in ([], [0.0])


@torch.no_grad()
@pytest.mark.parametrize("name", ["gpt2, small", "gpt, post-norm"])
def test_every_attention_map(name, parity_record):
    theirs = reference(name)
    ours = GPT.from_hf(theirs)
    token_ids, _, _ = inputs(theirs)
    with record_attention(ours) as maps:
        ours(token_ids)
    output = theirs(token_ids, output_attentions=True)
    worst = difference(maps.stack(), torch.stack(output.attentions))
    parity_record(f"GPT {name}: attention maps", source(name), worst, 1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_gradient(name, parity_record):
    theirs = reference(name)
    ours = GPT.from_hf(theirs)
    token_ids, mask, labels = inputs(theirs)
    theirs(
        token_ids, attention_mask=mask[:, 0, 0].long(), labels=labels
    ).loss.backward()
    ours.loss(token_ids, labels, mask).backward()

    # Their gradients under our names: as if they were the weights of a GPT.
    expected = copy.deepcopy(ours)
    tied = theirs.config.tie_word_embeddings
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    load_hf(expected, _as_linear(gradients, tied), _RULES, _IGNORED)
    worst = largest(
        difference(p.grad, want)
        for p, want in zip(ours.parameters(), expected.parameters(), strict=True)
    )
    assert max(p.grad.abs().max() for p in ours.parameters()) > 1e-3
    parity_record(f"GPT {name}: gradients", source(name), worst, 1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", sorted(set(CONFIGS) - FIRST))
def test_cached_logits_are_theirs_token_by_token(name, parity_record):
    theirs = reference(name)
    ours = GPT.from_hf(theirs)
    token_ids = torch.randint(1, theirs.config.vocab_size, (2, 9))
    cache, past, worst = KeyValueCache(), None, []
    for piece in token_ids.split([3, 1, 1, 4], dim=1):
        output = theirs(piece, past_key_values=past, use_cache=True)
        past = output.past_key_values
        worst.append(difference(ours(piece, cache=cache), output.logits))
    parity_record(f"GPT {name}: cached logits", GPT2, largest(worst), 1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_writing_is_theirs(name):
    theirs = reference(name)
    ours = GPT.from_hf(theirs)
    prompt = torch.randint(1, theirs.config.vocab_size, (2, 3))
    options = {} if name in FIRST else {"use_cache": True}
    expected = theirs.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=6,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=None,
        **options,
    )
    assert torch.equal(generate(ours, prompt, 6), expected)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["GPT2Model", "OpenAIGPTModel"])
def test_a_model_without_a_head(kind, parity_record):
    torch.manual_seed(0)
    config = kind.replace("Model", "Config")
    config = getattr(transformers, config)(
        vocab_size=30, n_embd=16, n_head=2, n_layer=2, n_positions=8
    )
    theirs = getattr(transformers, kind)(config).eval()
    token_ids = torch.randint(0, 30, (2, 8))
    ours = GPT.from_hf(theirs).hidden_states(token_ids)[-1]
    worst = difference(ours, theirs(token_ids).last_hidden_state)
    parity_record("GPT without a head", f"transformers.{kind}", worst, 1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_a_checkpoint_folder(name, tmp_path, parity_record):
    theirs = reference(name)
    theirs.save_pretrained(tmp_path)
    token_ids, _, _ = inputs(theirs)
    worst = difference(GPT.from_hf(tmp_path)(token_ids), theirs(token_ids).logits)
    parity_record(f"GPT {name}, from a folder", source(name), worst, 1e-4)


@torch.no_grad()
def test_a_square_matrix_that_is_not_turned_loads_and_is_wrong():
    """Why `_as_linear` goes by the names: the shapes would not tell."""
    theirs = reference("gpt2, small")
    ours = GPT.from_hf(theirs)
    token_ids, _, _ = inputs(theirs)
    right = ours(token_ids)
    weight = ours.layers[0].self_attention.W_o.weight
    weight.copy_(weight.T.clone())
    assert difference(right, theirs(token_ids).logits) < 1e-4
    assert difference(ours(token_ids), right) > 0.1


@torch.no_grad()
def test_initial_weights_are_spread_as_theirs():
    """The outputs of sub-layers begin smaller by sqrt(2 * num_layers), all else at 0.02."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 300, "n_embd": 128, "n_head": 4, "n_layer": 8}
    config = transformers.GPT2Config(
        **sizes, n_positions=64, bos_token_id=None, eos_token_id=None
    )
    theirs = transformers.GPT2LMHeadModel(config)
    ours = GPT(300, 128, 4, num_layers=8, max_seq_len=64)
    expected = copy.deepcopy(ours)
    load_hf(expected, _as_linear(theirs.state_dict(), True), _RULES, _IGNORED)
    for (name, a), b in zip(
        ours.named_parameters(), expected.parameters(), strict=True
    ):
        if a.ndim > 1:
            assert a.std() / b.std() == pytest.approx(1, abs=0.05), name
        else:
            assert torch.equal(a, b), name
