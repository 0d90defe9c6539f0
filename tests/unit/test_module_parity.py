"""The parity report: each usual mistake is planted in a tiny LLaMA and has to be named."""

import math
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import companion
from companion import LLaMA
from companion.analysis import llama_mistakes
from companion.analysis.module_parity import (
    compare_modules,
    default_names,
    recorded,
)
from companion.layers import to_interleaved

transformers = pytest.importorskip("transformers")

# Three query heads on each of two key-value heads, and weights that say something.
OPTIONS = {
    "vocab_size": 40,
    "hidden_size": 48,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
    "initializer_range": 0.1,
    "tie_word_embeddings": True,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**OPTIONS, attn_implementation="eager")
    ).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            nn.init.normal_(parameter, 1.0, 0.3)
    return model


@pytest.fixture(scope="module")
def ids():
    return torch.randint(40, (2, 9), generator=torch.Generator().manual_seed(1))


def step_of(theirs, place, ids):
    (step,), _ = recorded(theirs, ids, [place])
    return step


@torch.no_grad()
def test_a_right_network_agrees_everywhere(theirs, ids):
    ours = LLaMA.from_hf(theirs)
    for reference in (theirs, LLaMA.from_hf(theirs)):
        report = compare_modules(ours, reference, ids)
        assert len(report.lines) == 3 * 12 + 3 == report.exact
        assert report.first is None and report.first_in_chain is None
        assert report.logits < 1e-5
        assert str(report).startswith("All 39 modules agree")
        assert "✓ 3 of 3" in report._repr_mimebundle_()["text/html"]


PLACES = (
    "model.embed_tokens",
    "model.layers.0.input_layernorm",
    "model.layers.1.self_attn.q_proj",
    "model.layers.1.self_attn.v_proj",
    "model.layers.1.self_attn.o_proj",
    "model.layers.1.self_attn",
    "model.layers.1.mlp.gate_proj",
    "model.layers.1.mlp",
    "model.layers.1",
    "model.norm",
    "lm_head",
)


@torch.no_grad()
@pytest.mark.parametrize("place", PLACES)
def test_every_known_mistake_is_named_at_its_module(theirs, ids, place):
    facts = llama_mistakes.Facts.of(theirs)
    step = step_of(theirs, place, ids)
    known = list(llama_mistakes.mistakes(facts, place, step.read))
    singles = [mistake for mistake in known if not mistake.is_pair]
    unseen = []
    for mistake in singles:
        wrong = mistake.wrong()
        report = compare_modules({place: lambda _, wrong=wrong: wrong}, theirs, ids)
        if report.first is None:
            unseen.append(mistake.says)
            continue
        assert report.first.name == place
        assert report.first.known == (mistake.says,)
    # An output that is tied can't be tied by mistake, and where the stream is large, eps
    # is rounding.
    assert len(unseen) == {"lm_head": 1, "model.norm": 3}.get(place, 0), unseen
    assert len(singles) - len(unseen) >= 2


@torch.no_grad()
def test_two_mistakes_at_once_are_named_as_two(theirs, ids):
    place = "model.layers.0.self_attn"
    facts = llama_mistakes.Facts.of(theirs)
    known = llama_mistakes.mistakes(facts, place, step_of(theirs, place, ids).read)
    pairs = [m for m in known if m.is_pair and "tile" in m.says and "base" in m.says]
    assert pairs
    wrong = pairs[0].wrong()
    report = compare_modules({place: lambda _: wrong}, theirs, ids)
    assert report.first.known == (pairs[0].says,)
    assert "Two mistakes at once. (1) Key-value heads" in str(report)


# The same in real networks, without the table of mistakes


def _interleaved(ours):
    for layer in ours.layers:
        layer.self_attention.rotary = companion.RotaryEmbedding(
            8, 100000.0, "interleaved"
        )


def _base(ours):
    for layer in ours.layers:
        layer.self_attention.rotary = companion.RotaryEmbedding(8, 10000.0, "halves")


def _eps(ours):
    ours.layers[0].norm1.eps = 1e-6


def _transposed(ours):
    W_o = ours.layers[1].self_attention.W_o.weight
    W_o.data = W_o.data.T.clone()


def _gate_and_up(ours):
    network = ours.layers[2].feed_forward
    network.W_1, network.V = network.V, network.W_1


def _rows(ours):
    W_k = ours.layers[1].self_attention.W_k.weight
    W_k.data = to_interleaved(W_k.data, 8)


def _no_last_norm(ours):
    ours.norm.weight.data = torch.ones(48)


@torch.no_grad()
@pytest.mark.parametrize(
    ("plant", "first", "reason"),
    [
        (_interleaved, "model.layers.0.self_attn", "pairs that turn are neighbors"),
        (_base, "model.layers.0.self_attn", "base of the angles is 10,000"),
        (_eps, "model.layers.0.input_layernorm", "eps is 1e-06"),
        (_transposed, "model.layers.1.self_attn.o_proj", "is transposed"),
        (_gate_and_up, "model.layers.2.mlp.gate_proj", "of model.layers.2.mlp.up_proj"),
        (_rows, "model.layers.1.self_attn.k_proj", "order of the file"),
        (_no_last_norm, "model.norm", "The weight is left out"),
    ],
)
def test_a_mistake_in_a_network_is_found_where_it_is(theirs, ids, plant, first, reason):
    ours = LLaMA.from_hf(theirs)
    plant(ours)
    report = compare_modules(ours, theirs, ids)
    assert report.first.name == first, report
    assert reason in report.first.reason
    assert len(report.first.known) == 1
    # A fault early in the network does not hide that all other parts are right.
    wrong = {line.part for line in report.lines if not report.agrees(line)}
    assert all(
        part.startswith(report.first.part.rpartition(".")[0][:12]) for part in wrong
    )
    if plant is not _eps:
        inner = f"{re.escape(report.first.name)}(\\..*)?$"
        assert re.match(inner, report.first_in_chain.name)
        assert report.logits > 0.01


@torch.no_grad()
def test_it_says_where(theirs, ids):
    ours = LLaMA.from_hf(theirs)
    names = default_names(ours, theirs)
    attention = ours.layers[1].self_attention
    rotary = attention.rotary
    attention.rotary = companion.RotaryEmbedding(8, 100000.0, "interleaved")
    report = compare_modules(ours, theirs, ids, names)
    assert report.first.where == "all positions but the first; all features; all heads"
    attention.rotary = rotary
    # Heads 0 1 2 read key-value head 0, and 3 4 5 read 1; a tile gives 0 1 0 1 0 1.
    place = "model.layers.1.self_attn"

    def tiled(x):
        q, k, v = attention.W_q(x), attention.W_k(x), attention.W_v(x)
        q, k, v = (t.unflatten(-1, (-1, 8)).transpose(1, 2) for t in (q, k, v))
        q, k = rotary(q, k)
        k, v = k.repeat(1, 3, 1, 1), v.repeat(1, 3, 1, 1)
        heard = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return attention.W_o(heard.transpose(1, 2).flatten(2))

    names[place] = tiled
    line = compare_modules(ours, theirs, ids, names).first
    assert line.where.endswith("heads 1 and 4")
    assert "as a tile" in line.reason
    only = names | {
        place: lambda x: _plus_one_at(default_names(ours, theirs)[place](x), 3)
    }
    line = compare_modules(ours, theirs, ids, only).first
    assert line.where.startswith("position 3 alone; 1 of 48 features")
    assert line.reason == "It is none of the mistakes that are known here."


def _plus_one_at(x, position):
    x[:, position, 0] += 1
    return x


@torch.no_grad()
def test_a_factor_is_named_as_such(theirs, ids):
    norm = LLaMA.from_hf(theirs).layers[0].norm1
    place = "model.layers.0.input_layernorm"
    report = compare_modules({place: lambda x: 3 * norm(x)}, theirs, ids)
    assert report.first.reason == "All numbers are 3 times as large as they should be."


@torch.no_grad()
def test_what_gives_no_result_says_why(theirs, ids):
    def stub(x):
        raise NotImplementedError

    def broken(x):
        return x[..., :3] @ x

    parts = {
        "model.norm": stub,
        "model.layers.*.mlp": broken,
        "model.layers.0.self_attn": lambda x: x[:, 0],
        "model.layers.1.self_attn": lambda x: (x, None),
        "model.layers.2.self_attn": lambda x: x / 0,
    }
    report = compare_modules(parts, theirs, ids)
    assert report.exact == 0 and report.logits is None
    reasons = {line.name: line.reason for line in report.lines}
    assert reasons["model.norm"] == "It is not implemented yet."
    assert reasons["model.layers.0.mlp"].startswith("It raises RuntimeError")
    assert "the shape" not in reasons["model.norm"]
    assert (
        "(2, 48), and the reference (2, 9, 48)" in reasons["model.layers.0.self_attn"]
    )
    assert "returns a tuple" in reasons["model.layers.1.self_attn"]
    assert report.first.name == "model.layers.0.self_attn"
    alone = compare_modules({"model.layers.2.self_attn": lambda x: x / 0}, theirs, ids)
    assert alone.first.reason == "It gives NaN or infinity."
    assert math.isinf(alone.first.off)


@torch.no_grad()
def test_a_whole_that_fails_is_told(theirs, ids):
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = theirs.model.embed_tokens

        def forward(self, ids):
            return self.embedding(ids) if ids.sum() < 0 else ids @ ids

    report = compare_modules(Whole(), theirs, ids, {"model.embed_tokens": "embedding"})
    assert report.first is None and report.logits is None
    assert "The whole network raises RuntimeError" in str(report)


def test_names_that_do_not_fit(theirs, ids):
    ours = LLaMA.from_hf(theirs)
    with pytest.raises(ValueError, match="reference has no module 'model.nrom'"):
        compare_modules({"model.nrom": torch.relu}, theirs, ids)
    with pytest.raises(ValueError, match="network has no module 'blocks.0' for"):
        compare_modules(ours, theirs, ids, {"model.layers.*": "blocks.*"})
    with pytest.raises(TypeError, match="mine must be a network or a mapping"):
        compare_modules(torch.relu, theirs, ids)


@torch.no_grad()
def test_networks_of_another_kind_are_compared_without_names_of_mistakes(ids):
    torch.manual_seed(0)
    one = nn.Sequential(nn.Embedding(40, 8), nn.Linear(8, 8), nn.LayerNorm(8))
    other = nn.Sequential(nn.Embedding(40, 8), nn.Linear(8, 8), nn.LayerNorm(8))
    other.load_state_dict(one.state_dict())
    other[1].bias.data += 1
    report = compare_modules(other, one, ids)
    assert [report.agrees(line) for line in report.lines] == [True, False, True]
    assert report.first.name == "1" and report.first_in_chain.name == "1"
    assert report.first.known == ()
