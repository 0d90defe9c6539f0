"""The machinery of from_hf: what it reads, and that nothing gets through unseen."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from companion import BERT
from companion.models.hf import check_options, load_hf, read_hf

CONFIG = {
    "model_type": "bert",
    "vocab_size": 20,
    "hidden_size": 8,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "max_position_embeddings": 10,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "layer_norm_eps": 1e-12,
}


def bert_weights() -> dict[str, torch.Tensor]:
    """Weights under the names of Hugging Face, written out by hand."""
    shapes = {
        "embeddings.word_embeddings.weight": (20, 8),
        "embeddings.position_embeddings.weight": (10, 8),
        "embeddings.token_type_embeddings.weight": (2, 8),
        "embeddings.LayerNorm.weight": (8,),
        "embeddings.LayerNorm.bias": (8,),
    }
    for i in range(2):
        layer = f"encoder.layer.{i}"
        for linear, (rows, columns) in {
            "attention.self.query": (8, 8),
            "attention.self.key": (8, 8),
            "attention.self.value": (8, 8),
            "attention.output.dense": (8, 8),
            "intermediate.dense": (12, 8),
            "output.dense": (8, 12),
        }.items():
            shapes[f"{layer}.{linear}.weight"] = (rows, columns)
            shapes[f"{layer}.{linear}.bias"] = (rows,)
        for norm in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"{layer}.{norm}.weight"] = shapes[f"{layer}.{norm}.bias"] = (8,)
    torch.manual_seed(0)
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def write(folder, config=CONFIG, weights=None):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(
        bert_weights() if weights is None else weights, folder / "model.safetensors"
    )
    return folder


def test_a_folder_is_loaded_whole(tmp_path):
    weights = bert_weights()
    for folder in (write(tmp_path), str(tmp_path)):
        model = BERT.from_hf(folder)
        assert not model.training
        assert model.pooler is None
        for theirs, ours in {
            "embeddings.LayerNorm.bias": "embedding.norm.bias",
            "encoder.layer.1.attention.self.key.weight": "layers.1.self_attention.W_k.weight",
            "encoder.layer.0.output.LayerNorm.weight": "layers.0.norm2.weight",
        }.items():
            assert torch.equal(model.state_dict()[ours], weights[theirs])


def test_old_names_are_known(tmp_path):
    """As in checkpoints that were converted from the authors' TensorFlow ones."""
    old = {
        "bert."
        + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in bert_weights().items()
    }
    old |= {
        "bert.embeddings.position_ids": torch.arange(10)[None],
        "cls.predictions.bias": torch.zeros(20),
        "cls.predictions.transform.LayerNorm.gamma": torch.zeros(8),
        "cls.seq_relationship.weight": torch.zeros(2, 8),
    }
    new = BERT.from_hf(write(tmp_path / "new"))
    loaded = BERT.from_hf(write(tmp_path / "old", weights=old))
    for name, tensor in new.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_half_precision_is_read_into_our_dtype(tmp_path):
    half = {name: tensor.half() for name, tensor in bert_weights().items()}
    model = BERT.from_hf(write(tmp_path, weights=half))
    ours = model.embedding.token.weight
    assert ours.dtype == torch.float32
    assert torch.equal(ours, half["embeddings.word_embeddings.weight"].float())


# Weights that do not fit

QUERY = "encoder.layer.1.attention.self.query.weight"
OURS = "layers.1.self_attention.W_q.weight"


def test_a_renamed_key_is_left_over_and_missing(tmp_path):
    weights = bert_weights()
    weights["encoder.layer.1.attention.self.qurey.weight"] = weights.pop(QUERY)
    with pytest.raises(ValueError) as error:
        BERT.from_hf(write(tmp_path, weights=weights))
    message = str(error.value)
    assert (
        "left over, no rule takes them:\n    encoder.layer.1.attention.self.qurey"
        in message
    )
    assert f"missing:\n    {OURS}, from {QUERY}" in message


def test_everything_wrong_is_listed_at_once(tmp_path):
    weights = bert_weights()
    del weights[QUERY]
    del weights["embeddings.LayerNorm.bias"]
    weights["embeddings.word_embeddings.weight"] = torch.zeros(21, 8)
    weights["classifier.weight"] = torch.zeros(2, 8)
    weights["encoder.layer.7.output.dense.bias"] = torch.zeros(8)
    with pytest.raises(ValueError) as error:
        BERT.from_hf(write(tmp_path, weights=weights))
    for line in (
        "these weights do not fit BERT:",
        f"    {OURS}, from {QUERY}",
        "    embedding.norm.bias, from embeddings.LayerNorm.bias",
        "    embeddings.word_embeddings.weight is (21, 8), but embedding.token.weight is "
        "(20, 8)",
        "    classifier.weight",
        "    encoder.layer.7.output.dense.bias -> layers.7.feed_forward.W_2.bias",
    ):
        assert line in str(error.value).splitlines(), line


def test_the_same_weight_twice(tmp_path):
    weights = bert_weights()
    weights["embeddings.LayerNorm.gamma"] = torch.zeros(8)
    with pytest.raises(ValueError, match="given twice"):
        BERT.from_hf(write(tmp_path, weights=weights))


def test_half_a_pooler(tmp_path):
    weights = bert_weights() | {"pooler.dense.bias": torch.zeros(8)}
    with pytest.raises(ValueError, match=r"pooler.weight, from pooler.dense.weight"):
        BERT.from_hf(write(tmp_path, weights=weights))


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(2, 3), nn.Linear(2, 3)])


PAIR_WEIGHTS = {
    "h.0.c.weight": torch.ones(3, 2),
    "h.0.c.bias": torch.ones(3),
    "h.1.c.weight": torch.full((3, 2), 2.0),
    "h.1.c.bias": torch.full((3,), 2.0),
}


def test_rules_ignored_names_and_literal_dots():
    model = Pair()
    load_hf(model, PAIR_WEIGHTS, {"h.*.c.*": "blocks.*.*"})
    assert model.blocks[1].bias.tolist() == [2.0, 2.0, 2.0]

    extra = PAIR_WEIGHTS | {"h.0.mask": torch.ones(1)}
    with pytest.raises(ValueError, match=r"no rule takes them:\n    h.0.mask"):
        load_hf(Pair(), extra, {"h.*.c.*": "blocks.*.*"})
    load_hf(Pair(), extra, {"h.*.c.*": "blocks.*.*"}, ignored=["h.*.mask"])

    dotless = PAIR_WEIGHTS | {"h.0xmask": torch.ones(1)}
    # A dot is a dot, not any character.
    with pytest.raises(ValueError, match=r"h\.0xmask"):
        load_hf(Pair(), dotless, {"h.*.c.*": "blocks.*.*"}, ignored=["h.0.mask"])


def test_nothing_is_loaded_when_something_does_not_fit():
    model = Pair()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wrong = PAIR_WEIGHTS | {"h.1.c.bias": torch.ones(4)}
    with pytest.raises(
        ValueError, match=r"h.1.c.bias is \(4,\), but blocks.1.bias is \(3,\)"
    ):
        load_hf(model, wrong, {"h.*.c.*": "blocks.*.*"})
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


# Options that are not implemented


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("model_type", "roberta"),
        ("hidden_act", "swish"),
        ("hidden_act", "tanh"),
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("add_cross_attention", True),
        ("pruned_heads", {"0": [1]}),
        ("quantization_config", {"bits": 8}),
    ],
)
def test_unsupported_options_are_refused(tmp_path, option, value):
    folder = write(tmp_path, config=CONFIG | {option: value})
    with pytest.raises(ValueError, match=f"{option} is .*, but it may be"):
        BERT.from_hf(folder)


def test_two_dropouts(tmp_path):
    model = BERT.from_hf(
        write(tmp_path, CONFIG | {"attention_probs_dropout_prob": 0.3})
    )
    layer = model.layers[0]
    assert layer.self_attention.dropout == 0.3
    assert layer.dropout.p == model.embedding.dropout.p == 0.1
    assert layer.feed_forward.dropout.p == 0.0  # BERT has none there


def test_a_config_without_a_needed_option(tmp_path):
    config = {name: value for name, value in CONFIG.items() if name != "hidden_size"}
    with pytest.raises(ValueError, match="no option 'hidden_size'"):
        BERT.from_hf(write(tmp_path, config=config))


def test_all_refused_options_are_listed():
    with pytest.raises(ValueError, match=r"a is 3, but it may be 1 or 2\n.*b is True"):
        check_options({"a": 3, "b": True, "c": 1}, {"a": (1, 2), "b": (False,)}, "GPT")
    check_options({}, {"a": (1, 2)}, "GPT")


# Folders that cannot be read


@pytest.mark.parametrize("name", ["bert-base-uncased", "google-bert/bert-base-uncased"])
def test_hub_names_are_not_looked_up(name):
    with pytest.raises(ValueError, match=f"local folder.*{name}.*not looked up"):
        BERT.from_hf(name)


def test_a_file_is_not_a_folder(tmp_path):
    with pytest.raises(ValueError, match="is not a folder"):
        read_hf(write(tmp_path) / "model.safetensors")


@pytest.mark.parametrize("thing", [None, 3, {"weights": 1}, nn.Linear(1, 1)])
def test_neither_path_nor_model(thing):
    with pytest.raises(TypeError, match="path_or_model must be a transformers model"):
        read_hf(thing)


def test_no_config(tmp_path):
    (write(tmp_path) / "config.json").unlink()
    with pytest.raises(ValueError, match=r"holds no config.json"):
        read_hf(tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_damaged_config(tmp_path, text):
    (write(tmp_path) / "config.json").write_text(text)
    with pytest.raises(
        ValueError, match=r"config.json (is not readable as|must hold a) JSON"
    ):
        read_hf(tmp_path)


def test_no_weights(tmp_path):
    (write(tmp_path) / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"neither model.safetensors nor"):
        read_hf(tmp_path)


def test_pickled_weights_are_refused_and_not_opened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "opened"), "w"))

    (write(tmp_path) / "model.safetensors").unlink()
    torch.save({"weight": Bomb()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(
        ValueError, match=r"only as pytorch_model.bin.*pickle.*save_pretrained"
    ):
        read_hf(tmp_path)
    assert not (tmp_path / "opened").exists()


def test_damaged_weights(tmp_path):
    path = write(tmp_path) / "model.safetensors"
    whole = path.read_bytes()
    for damaged in (whole[:-100], b"version https://git-lfs.github.com/spec/v1\n", b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="not a readable safetensors file"):
            read_hf(tmp_path)


def shard(folder):
    """The checkpoint in two files and an index."""
    weights = bert_weights()
    (write(folder) / "model.safetensors").unlink()
    parts = {"a.safetensors": {}, "b.safetensors": {}}
    place = {}
    for i, (name, tensor) in enumerate(weights.items()):
        place[name] = ("a.safetensors", "b.safetensors")[i % 2]
        parts[place[name]][name] = tensor
    for file, part in parts.items():
        save_file(part, folder / file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": place}))
    return index


def test_shards(tmp_path):
    shard(tmp_path)
    _, weights = read_hf(tmp_path)
    expected = bert_weights()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_a_missing_shard(tmp_path):
    shard(tmp_path)
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(ValueError, match=r"b.safetensors is missing"):
        read_hf(tmp_path)


def test_a_shard_without_its_weight(tmp_path):
    index = shard(tmp_path)
    listed = json.loads(index.read_text())
    listed["weight_map"]["lost.weight"] = "a.safetensors"
    index.write_text(json.dumps(listed))
    with pytest.raises(ValueError, match=r"don't hold: lost.weight"):
        read_hf(tmp_path)
