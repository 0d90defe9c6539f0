"""The rubric of the project that loads SmolLM2, on a small LLaMA that is known."""

import pytest
import torch

from companion import LLaMA, generate
from companion.analysis.module_parity import default_names
from companion.exercises.projects import load_smollm2 as project

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=40,
        hidden_size=24,
        intermediate_size=30,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    return transformers.LlamaForCausalLM(config).eval()


@pytest.fixture
def ours(reference):
    return LLaMA.from_hf(reference)


@pytest.fixture(scope="module")
def ids():
    return torch.arange(12)[None] * 3 % 40


def uncached(network):
    @torch.no_grad()
    def write(ids, count):
        for _ in range(count):
            ids = torch.cat([ids, network(ids)[:, -1:].argmax(-1)], dim=1)
        return ids

    return write


def levels(reference, network, write, ids):
    """What the criteria say, by their names, with the small reference."""
    names = default_names(network, reference)
    file = {n: p.detach() for n, p in reference.named_parameters()}
    values = {
        "modules": project.shared_modules(network, reference, ids, names),
        "logits": project.largest_difference(network, reference, ids),
        "perplexity": project.perplexity_off(network, reference, ids),
        "greedy text": project.greedy_agreement(write, reference, [ids[:, :5]], 8),
        "left over": project.left_over(network, file),
        "thrift": project.reads_per_token(write, network, names, ids[:, :5], 8),
    }
    criteria = {c.name: c for c in project.PROJECT.criteria}
    assert values.keys() == criteria.keys()
    return {name: criteria[name].level(value) for name, value in values.items()}


def test_the_same_network_is_excellent_with_a_cache_and_solid_without(
    reference, ours, ids
):
    found = levels(reference, ours, lambda i, n: generate(ours, i, n), ids)
    assert set(found.values()) == {3}
    plain = levels(reference, ours, uncached(ours), ids)
    assert plain == found | {"thrift": 2}


def test_another_network_of_the_same_sizes_is_nothing(reference, ours, ids):
    torch.manual_seed(1)
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    found = levels(reference, ours, uncached(ours), ids)
    assert found.pop("thrift") == 2  # that it reads little is true
    file = {n: p.detach() for n, p in reference.named_parameters()}
    assert project.left_over(ours, file) == 2 * len(file)
    assert found.pop("left over") == 1  # so small a file has no more than 60 tensors
    assert set(found.values()) == {0}


def test_one_mistake_in_each_layer_costs_its_modules(reference, ours, ids):
    for layer in ours.layers:
        layer.norm1.eps = 0.5
    found = levels(reference, ours, uncached(ours), ids)
    assert found["left over"] == 3 and found["modules"] == 1
    assert found["logits"] < 2 and found["perplexity"] < 3


def test_modules_without_a_name_count_as_wrong(reference, ours, ids):
    names = default_names(ours, reference)
    few = {name: names[name] for name in list(names)[:9]}
    share = project.shared_modules(ours, reference, ids, few)
    assert share == pytest.approx(100 * 9 / 27)


def test_left_over_counts_on_both_sides(reference, ours):
    file = {n: p.detach() for n, p in reference.named_parameters()}
    file["more"] = torch.ones(7)
    assert project.left_over(ours, file) == 1
    file["model.norm.weight"] = file["model.norm.weight"] * 2
    # One that no parameter is, and one parameter that is none of the file's.
    assert project.left_over(ours, file) == 3
    # In another order the numbers are still those of the file.
    whole = dict(reference.named_parameters())
    name = "model.layers.0.self_attn.q_proj.weight"
    turned = {n: p.detach().flip(0) if n == name else p for n, p in whole.items()}
    assert project.left_over(ours, turned) == 0


def test_a_writer_that_does_not_run_the_network_is_no_proof(reference, ours, ids):
    names = default_names(ours, reference)
    with pytest.raises(ValueError, match="write does not run this network"):
        project.reads_per_token(lambda i, n: i, ours, names, ids, 3)


def test_logits_of_another_shape_are_told(reference, ids):
    network = torch.nn.Embedding(40, 7)
    with pytest.raises(ValueError, match=r"the logits' shape is \(1, 12, 7\)"):
        project.largest_difference(network, reference, ids)
