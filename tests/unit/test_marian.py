"""Marian: its file format, its recurrent decoder, its tokenizer, its translations."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch

from companion.analysis.alignment import group_words, word_alignment
from companion.data.assets import fetch
from companion.data.translation import MarianTokenizer, batch_sources
from companion.generation import translate
from companion.layers import KeyValueCache, padding_mask, record_attention
from companion.layers.ssru import SSRU
from companion.models.marian import Marian
from companion.models.marian_binary import read_marian

# The recurrence


def test_ssru_is_its_formula():
    torch.manual_seed(0)
    layer, x = SSRU(4).double(), torch.randn(2, 5, 4).double()
    W, W_f, b_f = layer.W.weight.T, layer.W_f.weight.T, layer.W_f.bias
    c = torch.zeros(2, 4).double()
    for t in range(5):
        f = torch.sigmoid(x[:, t] @ W_f + b_f)
        c = f * c + (1 - f) * (x[:, t] @ W)
        torch.testing.assert_close(layer(x)[:, t], c.relu(), atol=1e-12, rtol=0)


def test_ssru_in_pieces_and_after_taking_back():
    torch.manual_seed(0)
    layer, x = SSRU(4), torch.randn(2, 6, 4)
    whole, cache = layer(x), KeyValueCache()
    assert torch.equal(layer(x[:, :2], cache=cache), whole[:, :2])
    layer(torch.randn(2, 3, 4), cache=cache)  # a wrong draft
    cache.truncate(2)
    pieces = [layer(x[:, t : t + 1], cache=cache) for t in range(2, 6)]
    torch.testing.assert_close(torch.cat(pieces, 1), whole[:, 2:], atol=1e-6, rtol=0)
    assert cache.length == 6
    cache.select(torch.tensor([1, 1]))
    new = torch.randn(2, 1, 4)
    expected = layer(torch.cat([x[[1, 1]], new], 1))[:, -1:]
    torch.testing.assert_close(layer(new, cache=cache), expected, atol=1e-6, rtol=0)


# The model


def tiny(**options) -> Marian:
    torch.manual_seed(0)
    return Marian(11, 16, 4, 32, 2, 2, max_seq_len=12, **options).eval()


def test_shapes_and_maps():
    model = tiny()
    source = torch.randint(1, 11, (2, 5))
    target = torch.tensor([[11, 3, 4], [11, 5, 0]])
    with record_attention(model) as maps:
        logits = model(source, target)
    assert logits.shape == (2, 3, 11)  # the zero vector is never predicted
    assert maps["decoder.1.cross_attention"][0].shape == (2, 4, 3, 5)
    assert sum("cross" in name for name in maps) == 2
    assert not any("decoder" in name and "self" in name for name in maps)


def test_the_start_is_the_zero_vector_and_stays_so():
    model = tiny()
    assert model.start_id == model.pad_id == 11
    assert not model.embedding.weight[11].any()
    model.train()(torch.tensor([[3, 11]]), torch.tensor([[11, 2]])).sum().backward()
    assert not model.embedding.weight.grad[11].any()
    assert model.embedding.weight.grad[:11].any()


def test_future_and_padding_change_nothing():
    model = tiny()
    source, target = torch.tensor([[3, 4, 5, 0]]), torch.tensor([[11, 3, 4, 5]])
    with torch.no_grad():
        expected = model(source, target)
        later = model(source, torch.tensor([[11, 3, 9, 9]]))
        padded = torch.tensor([[3, 4, 5, 0, 11, 11]])
        hidden = model(padded, target, padding_mask(padded, 11))
        seen = model(padded, target)
    assert torch.equal(later[:, :2], expected[:, :2])
    assert not torch.allclose(later[:, 2], expected[:, 2])
    torch.testing.assert_close(hidden, expected, atol=1e-6, rtol=0)
    assert not torch.allclose(seen, expected, atol=1e-4)


def test_cached_is_uncached():
    model = tiny()
    source, target = torch.randint(1, 11, (2, 5)), torch.randint(1, 11, (2, 7))
    with torch.no_grad():
        memory, cache = model.encode(source), KeyValueCache()
        whole = model.decode(target, memory)
        steps = [
            model.decode(target[:, t : t + 1], memory, cache=cache) for t in range(7)
        ]
    torch.testing.assert_close(torch.cat(steps, 1), whole, atol=1e-5, rtol=0)


def test_no_target_mask():
    with pytest.raises(ValueError, match="target_mask must be None"):
        tiny()(
            torch.ones(1, 3).long(),
            torch.ones(1, 2).long(),
            None,
            torch.ones(1, 1, 1, 2) > 0,
        )


# The file


CONFIG = """\
dec-cell: ssru
dec-depth: 1
dim-emb: 4
dim-vocabs:
  - 6
enc-depth: 1
output-omit-bias: false
tied-embeddings-all: true
transformer-decoder-autoreg: rnn
transformer-dim-ffn: 8
transformer-ffn-activation: relu
transformer-ffn-depth: 2
transformer-heads: 2
transformer-no-projection: false
transformer-pool: false
transformer-postprocess: dan
transformer-postprocess-emb: d
transformer-postprocess-top: ""
transformer-preprocess: ""
transformer-train-position-embeddings: false
type: transformer
"""


def arrays() -> dict[str, np.ndarray]:
    """The tensors of a model with one layer on each side, as Marian names them."""
    rng = np.random.default_rng(0)
    shapes = {"Wemb": (6, 4), "decoder_ff_logit_out_b": (1, 6)}
    for layer, attention in (("encoder_l1", "self"), ("decoder_l1", "context")):
        for x in "qkvo":
            shapes[f"{layer}_{attention}_W{x}"] = (4, 4)
            shapes[f"{layer}_{attention}_b{x}"] = (1, 4)
        shapes |= {f"{layer}_ffn_W1": (4, 8), f"{layer}_ffn_W2": (8, 4)}
        shapes |= {f"{layer}_ffn_b1": (1, 8), f"{layer}_ffn_b2": (1, 4)}
        for norm in (f"{attention}_Wo", "ffn_ffn"):
            shapes |= {f"{layer}_{norm}_ln_{p}": (1, 4) for p in ("scale", "bias")}
    shapes |= {f"decoder_l1_rnn_{name}": (4, 4) for name in ("W", "Wf")}
    shapes |= {"decoder_l1_rnn_bf": (1, 4)}
    shapes |= {f"decoder_l1_rnn_ffn_ln_{p}": (1, 4) for p in ("scale", "bias")}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def marian_bytes(
    tensors: dict[str, np.ndarray],
    config: str = CONFIG,
    *,
    quantize: bool = False,
    version: int = 1,
) -> bytes:
    """A Marian file, written from the description of the format."""
    items = []
    for name, array in tensors.items():
        if quantize and array.shape[0] > 1:
            scale = np.float32(127 / np.abs(array).max())
            integers = np.rint(array * scale).astype(np.int8)
            data = (integers if name == "Wemb" else integers.T).tobytes()
            items.append((name, 0x4101, array.shape, data + scale.tobytes() + bytes(9)))
        else:
            items.append((name, 0x404, array.shape, array.astype("<f4").tobytes()))
    text = config.encode() + b"\0"
    items.append(("special:model.yml", 0x101, (len(text),), text))
    out = struct.pack("<QQ", version, len(items))
    for name, kind, shape, data in items:
        out += struct.pack("<4Q", len(name) + 1, kind, len(shape), len(data))
    out += b"".join(name.encode() + b"\0" for name, *_ in items)
    out += b"".join(struct.pack(f"<{len(s)}i", *s) for _, _, s, _ in items)
    return out + struct.pack("<Q", 5) + bytes(5) + b"".join(data for *_, data in items)


@pytest.mark.parametrize("quantize", [False, True])
def test_a_file_is_read_back(tmp_path, quantize):
    path = tmp_path / "model.tiny.bin"
    path.write_bytes(marian_bytes(arrays(), quantize=quantize))
    config, weights = read_marian(path)
    assert config["type"] == "transformer" and config["transformer-preprocess"] == ""
    for name, array in arrays().items():
        largest = np.abs(array).max()
        bound = largest / 254 if quantize and array.shape[0] > 1 else 1e-6
        assert np.abs(weights[name].numpy() - array).max() < bound * 1.001, name
    model = Marian.from_marian(tmp_path)
    assert not model.training
    expected = torch.from_numpy(arrays()["encoder_l1_ffn_W1"].T).float()
    bound = 0.02 if quantize else 1e-6
    found = model.encoder[0].feed_forward.W_1.weight
    torch.testing.assert_close(found.data, expected, atol=bound, rtol=0)
    assert not model.embedding.weight[6].any()


def test_a_file_cut_short_anywhere_is_refused(tmp_path):
    path, content = tmp_path / "model.bin", marian_bytes(arrays())
    for length in [*range(0, 3000, 97), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"model\.bin"):
            read_marian(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (marian_bytes(arrays(), version=2), "version 1 .* has 2"),
        (b"PK\x03\x04" + bytes(40), "version 1"),
        (
            marian_bytes({"x": np.zeros((1, 2))}).replace(b"\x04\x04", b"\x08\x04"),
            "0x408",
        ),
        (marian_bytes(arrays(), CONFIG.replace("ssru", "gru")), "dec-cell is 'gru'"),
        (marian_bytes(arrays(), CONFIG.replace("enc-depth: 1", "")), "enc-depth is"),
        (marian_bytes(arrays(), "a: b"), "lacks the options dec-cell, output-omit"),
    ],
    ids=["version", "zip", "type", "gru", "no depth", "no options"],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "model.tiny.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Marian.from_marian(path)


def test_every_weight_counts(tmp_path):
    path = tmp_path / "model.tiny.bin"
    for name in ("decoder_l1_rnn_bf", "Wemb", "encoder_l1_self_Wo_ln_scale"):
        left_out = {k: v for k, v in arrays().items() if k != name}
        path.write_bytes(marian_bytes(left_out))
        with pytest.raises(ValueError, match=f"missing:?(.|\n)*{name}|has no {name}"):
            Marian.from_marian(path)
    path.write_bytes(marian_bytes(arrays() | {"encoder_l2_ffn_b1": np.zeros((1, 8))}))
    with pytest.raises(ValueError, match="no rule takes them:\n +encoder_l2_ffn_b1"):
        Marian.from_marian(path)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(ValueError, match=r"one model\.\*\.bin, but .* has 0"):
        Marian.from_marian(tmp_path)
    with pytest.raises(FileNotFoundError):
        Marian.from_marian(tmp_path / "model.bin")


# Real weights, real sentences


@pytest.fixture(scope="module")
def load():
    loaded = {}

    def once(direction: str) -> tuple[Marian, MarianTokenizer]:
        if direction not in loaded:
            folder = fetch(f"marian-{direction}")
            loaded[direction] = Marian.from_marian(folder), MarianTokenizer(folder)
        return loaded[direction]

    return once


SENTENCES = {
    "en-pt": {
        "The cat sat on the mat because it was tired.": (
            "O gato sentou-se no tapete porque estava cansado."
        ),
        "Attention is all you need.": "Atenção é tudo que você precisa.",
        "My brother bought a new car last week.": (
            "Meu irmão comprou um carro novo na semana passada."
        ),
        "There is no milk in the fridge.": "Não há leite na geladeira.",
        "The green house at the end of the street belongs to my grandmother.": (
            "A casa verde no final da rua pertence à minha avó."
        ),
    },
    "pt-en": {
        "A velha ponte foi destruída durante a guerra.": (
            "The old bridge was destroyed during the war."
        ),
        "Os pássaros voam para o sul no inverno.": "The birds fly south in winter.",
        "Não sei do que você está falando.": "I don't know what you're talking about.",
        "Onde fica a estação de trem mais próxima?": (
            "Where is the nearest train station?"
        ),
        "Ela esqueceu as chaves na mesa da cozinha.": (
            "She forgot the keys on the kitchen table."
        ),
    },
}


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("direction", SENTENCES)
def test_real_sentences(load, direction, num_beams):
    model, tokenizer = load(direction)
    assert sum(p.numel() for p in model.parameters()) == 16_907_264
    assert (tokenizer.bos_id, tokenizer.eos_id) == (model.start_id, model.eos_id)
    sources = batch_sources(list(SENTENCES[direction]), tokenizer)
    written = translate(
        model,
        sources.token_ids,
        40,
        start_id=model.start_id,
        source_mask=sources.mask,
        stop_ids=[model.eos_id],
        pad_id=model.pad_id,
        num_beams=num_beams,
    )
    found = [tokenizer.decode(row) for row in written]
    right = sum(
        a == b for a, b in zip(found, SENTENCES[direction].values(), strict=True)
    )
    # Greedily, every one is as above; with beams, some may be better.
    assert right == 5 if num_beams == 1 else right >= 3


def test_alignment_of_a_real_sentence(load):
    """The first head of the last layer aligns, noun and adjective crosswise too."""
    model, tokenizer = load("en-pt")
    source = tokenizer.encode_source("The green house belongs to my grandmother.")
    target = tokenizer.encode_target("A casa verde pertence à minha avó.")
    with torch.no_grad(), record_attention(model) as maps:
        model(torch.tensor([source]), torch.tensor([target[:-1]]))
    last = maps["decoder.1.cross_attention"][0][0]
    weights, rows, columns = word_alignment(
        last[0], tokenizer.tokens(source), tokenizer.tokens(target[1:])
    )
    torch.testing.assert_close(weights.sum(1), torch.ones(len(rows)))
    best = dict(zip(rows, (columns[i] for i in weights.argmax(1)), strict=True))
    assert best["casa"] == "house" and best["verde"] == "green"
    assert best["pertence"] == "belongs" and best["avó"] == "grandmother"
    assert best["A"] == "The" and best["minha"] == "my"


def test_tokenizer(load):
    _, tokenizer = load("en-pt")
    ids = tokenizer.encode_source("The grandmother.")
    assert tokenizer.tokens(ids) == ["▁The", "▁grand", "m", "other", ".", "</s>"]
    assert tokenizer.encode_target("The grandmother.") == [32000, *ids]
    assert tokenizer.decode([32000, *ids, 5, 6]) == "The grandmother."
    assert tokenizer.tokens([32000]) == ["<pad>"]
    with pytest.raises(ValueError, match="language must be None"):
        tokenizer.encode_source("The", "pt")
    with pytest.raises(FileNotFoundError):
        MarianTokenizer("/nowhere")


# Alignment by words


def test_words_of_tokens():
    tokens = ["<2de>", "▁grand", "m", "other", ",", "▁it", "▁", "X", "-", "se", "</s>"]
    words = group_words(tokens)
    assert [word for word, _ in words] == [
        "<2de>",
        "grandmother",
        ",",
        "it",
        "X",
        "-",
        "se",
        "</s>",
    ]
    assert [i for _, indices in words for i in indices] == list(range(len(tokens)))


def test_word_alignment_adds_up_sources_and_averages_targets():
    weights = torch.tensor([[0.1, 0.2, 0.7], [0.3, 0.4, 0.3]])
    found, rows, columns = word_alignment(weights, ["▁ab", "c", "▁d"], ["▁x", "y"])
    assert (rows, columns) == (["xy"], ["abc", "d"])
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.5]]))
    with pytest.raises(ValueError, match=r"shape \(2, 2\).*has shape \(2, 3\)"):
        word_alignment(weights, ["▁ab", "c"], ["▁x", "y"])
