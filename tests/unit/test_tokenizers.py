"""The cover over the tokenizers library, on a word-level tokenizer made here."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from companion.data.tokenizers import load_tokenizer

WORDS = "<pad> [CLS] [SEP] [UNK] the cat sat on mat".split()


def write(folder, words=WORDS):
    """A tokenizer.json that asks for padding to 9 and for truncation to 4, as some do."""
    ids = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    tokenizer.add_special_tokens(["[CLS]", "[SEP]", "[UNK]"])
    tokenizer.enable_padding(length=9)
    tokenizer.enable_truncation(4)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def tokenizer(tmp_path):
    return load_tokenizer(write(tmp_path), pad_token="<pad>")


def test_stored_padding_and_truncation_are_off(tokenizer):
    assert tokenizer.encode("cat") == [1, 5, 2]
    assert tokenizer.encode("the cat sat on the mat") == [1, 4, 5, 6, 7, 4, 8, 2]


def test_tokens_and_back(tokenizer):
    assert tokenizer.tokens("the dog sat") == ["[CLS]", "the", "[UNK]", "sat", "[SEP]"]
    assert tokenizer.tokens("cat", "mat") == ["[CLS]", "cat", "[SEP]", "mat", "[SEP]"]
    assert tokenizer.decode(torch.tensor([1, 4, 5, 2])) == "the cat"
    assert tokenizer.vocab_size == len(WORDS)


def test_batch(tokenizer):
    batch = tokenizer.batch(["the cat sat", "cat", ("the cat", "mat")])
    assert batch.token_ids.tolist() == [
        [1, 4, 5, 6, 2, 0],
        [1, 5, 2, 0, 0, 0],
        [1, 4, 5, 2, 8, 2],
    ]
    assert batch.token_ids.dtype == torch.int64
    assert batch.mask.shape == (3, 1, 1, 6)
    assert batch.mask[:, 0, 0].sum(-1).tolist() == [5, 3, 6]
    assert batch.token_types.tolist() == [[0] * 6, [0] * 6, [0, 0, 0, 0, 1, 1]]
    assert batch.tokens[1] == ["[CLS]", "cat", "[SEP]"]
    moved = batch.to("meta")
    assert {
        t.device.type for t in (moved.token_ids, moved.mask, moved.token_types)
    } == {"meta"}
    assert moved.tokens == batch.tokens


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        ("the cat", TypeError, "put it in a list"),
        ([], ValueError, "texts .* is empty"),
        ([3], TypeError, "each of texts must be a string or a pair .* 3"),
        ([("a", "b", "c")], TypeError, "each of texts must be"),
        ([("a", None)], TypeError, "each of texts must be"),
    ],
)
def test_bad_batches(tokenizer, texts, error, message):
    with pytest.raises(error, match=message):
        tokenizer.batch(texts)


@pytest.mark.parametrize("arguments", [(3,), (None,), ("a", 3), (["a"],)])
def test_not_a_text(tokenizer, arguments):
    with pytest.raises(TypeError, match=r"(text|pair) must be a string"):
        tokenizer.encode(*arguments)


def test_no_padding_token(tmp_path):
    tokenizer = load_tokenizer(write(tmp_path))  # asks for [PAD]
    assert tokenizer.encode("cat") == [1, 5, 2]
    with pytest.raises(ValueError, match="no padding token"):
        tokenizer.batch(["cat", "the cat"])


def test_no_tokenizer_file(tmp_path):
    with pytest.raises(ValueError, match=r"must hold tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_damaged_tokenizer_file(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="not a readable tokenizer"):
        load_tokenizer(tmp_path)


def test_offsets_say_where_each_token_stands(tokenizer):
    text, pair = "the cat sat", "on the mat"
    tokens, offsets = tokenizer.tokens(text, pair), tokenizer.offsets(text, pair)
    assert len(tokens) == len(offsets)
    assert [offsets[i] for i in (0, 4, 8)] == [(0, 0)] * 3  # [CLS], [SEP], [SEP]
    assert [text[a:b] for a, b in offsets[1:4]] == tokens[1:4]
    assert [pair[a:b] for a, b in offsets[5:8]] == tokens[5:8]
