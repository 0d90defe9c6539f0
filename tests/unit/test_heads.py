"""Scores of heads, on maps whose answer is known, and ablation, against weights set to zero."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from companion import BERT, MultiHeadAttention, record_attention
from companion.analysis import heads
from companion.data.tokenizers import TextTokenizer


def randn(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def small_bert(num_layers: int = 2) -> BERT:
    torch.manual_seed(0)
    return BERT(30, 16, 4, 32, num_layers, max_seq_len=24).eval()


@pytest.fixture
def tokenizer() -> TextTokenizer:
    """WordPiece with a few words; "walking" is two pieces."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "dog", "walk", "##ing", "is"]
    made = Tokenizer(
        models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]")
    )
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return TextTokenizer(made)


# Names


def test_heads_are_named_from_one():
    assert heads.head_name(5, 11) == "6-12"


def test_best_heads_come_best_first():
    scores = torch.tensor([[0.1, 0.9, 0.2], [0.8, 0.0, 0.5]])
    assert heads.best_heads(scores, 3) == [(0, 1), (1, 0), (1, 2)]


# From tokens to words


def test_to_words_sums_over_keys_and_averages_over_queries():
    weights = torch.tensor(
        [
            [0.1, 0.2, 0.3, 0.4],
            [0.4, 0.3, 0.2, 0.1],
            [0.0, 0.5, 0.5, 0.0],
            [0.7, 0.1, 0.1, 0.1],
        ]
    )
    words = heads.to_words(weights, [None, 0, 0, 1])
    # Word 0 is tokens 1 and 2: from it the mean of rows 1, 2; to it the sum of columns.
    expected = torch.tensor([[(0.5 + 1.0) / 2, (0.1 + 0.0) / 2], [0.2, 0.1]])
    torch.testing.assert_close(words, expected)


def test_to_words_leaves_whole_words_alone():
    weights = randn(2, 3, 5, 5).softmax(dim=-1)
    assert torch.equal(heads.to_words(weights, range(5)), weights)


def test_to_words_wants_an_entry_for_each_token():
    with pytest.raises(ValueError, match="each of the 4 tokens, but it has 3"):
        heads.to_words(torch.eye(4), [None, 0, 1])


def test_word_maps_are_those_of_each_sentence_alone(tokenizer):
    """Batching and padding change nothing, and the order of the sentences stays."""
    model = small_bert()
    sentences = [["the", "dog", "is", "walking"], ["dog"], ["The", "walking", "dog"]]
    together = heads.word_maps(model, tokenizer, sentences, batch_size=2)
    for words, found in zip(sentences, together, strict=True):
        assert found.shape == (2, 4, len(words), len(words))
        ids = torch.tensor([tokenizer.encode(" ".join(words))])
        with record_attention(model) as maps, torch.no_grad():
            model(ids)
        places = {"walking": 2}
        word_ids = [None]
        for i, word in enumerate(words):
            word_ids += [i] * places.get(word, 1)
        expected = heads.to_words(maps.stack()[:, 0], [*word_ids, None])
        torch.testing.assert_close(found, expected)


# Relations


def previous_word(words: int) -> torch.Tensor:
    """A map in which each word attends to the one before it, and the first to itself."""
    weights = torch.zeros(words, words)
    weights[torch.arange(1, words), torch.arange(words - 1)] = 0.9
    weights[0, 0] = 0.9
    return weights + 0.1 / words


def maps_of(*heads_: torch.Tensor) -> torch.Tensor:
    return torch.stack(heads_)[None]  # one layer


def test_relation_scores_count_the_right_words():
    maps = [
        maps_of(previous_word(4), torch.eye(4)),
        maps_of(previous_word(3), torch.eye(3)),
    ]
    pairs = [[(1, 0), (3, 2), (2, 2)], [(2, 0)]]
    torch.testing.assert_close(
        heads.relation_scores(maps, pairs), torch.tensor([[2 / 4, 1 / 4]])
    )


def test_relation_scores_refuse_what_cannot_be_scored():
    with pytest.raises(ValueError, match="nothing to score"):
        heads.relation_scores([maps_of(torch.eye(3))], [[]])
    with pytest.raises(ValueError, match="one list for each of the 1 maps"):
        heads.relation_scores([maps_of(torch.eye(3))], [])


def test_choice_scores_compare_two_words():
    maps = [maps_of(previous_word(4), torch.eye(4))]
    assert heads.choice_scores(maps, [(2, 1, 0)]).tolist() == [[[True, False]]]
    assert heads.choice_scores(maps, [(2, 0, 2)]).tolist() == [[[False, False]]]


def test_the_best_offset_is_the_most_common_one():
    pairs = [[(1, 0), (3, 2)], [(0, 2)], []]
    assert heads.best_offset(pairs) == -1
    assert heads.offset_score(pairs, -1) == pytest.approx(2 / 3)
    assert heads.offset_score(pairs, 5) == 0


def test_find_head_scores_where_it_did_not_choose():
    """Head 0 is right on the half for choosing and wrong on the other; head 1 the reverse."""
    maps = [maps_of(previous_word(3), torch.eye(3))] * 4
    pairs = [[(1, 0)], [(1, 1)], [(2, 1)], [(2, 2)]]
    found = heads.find_head(maps, pairs)
    assert (found.layer, found.head, found.name) == (0, 0, "1-1")
    assert found.score == 0 and found.number == 2
    assert found.offset == -1 and found.offset_score == 0
    assert found.lead == 0


# Patterns


def pattern_maps(length: int = 6) -> torch.Tensor:
    """(1 layer, 2 texts, 3 heads): previous token, uniform, always the first token."""
    previous = torch.zeros(length, length)
    previous[torch.arange(1, length), torch.arange(length - 1)] = 1
    previous[0, 0] = 1
    first = torch.zeros(length, length)
    first[:, 0] = 1
    one = torch.stack([previous, torch.full((length, length), 1 / length), first])
    return one[None, None].repeat(1, 2, 1, 1, 1)


ORDINARY = torch.tensor([[0, 1, 1, 1, 1, 0], [0, 1, 1, 0, 0, 0]]).bool()


def test_offset_attention_finds_the_previous_token_head():
    found = heads.offset_attention(pattern_maps(), ORDINARY, -1)
    torch.testing.assert_close(found, torch.tensor([[1.0, 1 / 6, 0.0]]))
    assert heads.offset_attention(pattern_maps(), ORDINARY, 1)[0, 0] == 0
    torch.testing.assert_close(
        heads.offset_attention(pattern_maps(), ORDINARY, 0)[0, 1], torch.tensor(1 / 6)
    )


def test_offset_attention_ignores_padding_and_special_tokens():
    spoiled = pattern_maps()
    outside = ~(ORDINARY[:, :, None] & ORDINARY[:, None, :])  # (B, T, T)
    spoiled[0] = torch.where(outside[:, None], 99.0, spoiled[0])
    torch.testing.assert_close(
        heads.offset_attention(spoiled, ORDINARY, -1),
        heads.offset_attention(pattern_maps(), ORDINARY, -1),
    )


def test_key_attention_sums_over_keys():
    keys = torch.zeros(2, 6, dtype=torch.bool)
    keys[:, [0, 5]] = True
    found = heads.key_attention(pattern_maps(), ORDINARY, keys)
    # One ordinary token of six in all stands right behind the first, in each text.
    torch.testing.assert_close(found, torch.tensor([[2 / 6, 2 / 6, 1.0]]))


def test_rare_scores_find_a_head_that_looks_at_rare_tokens():
    rarity = randn(2, 6)
    to_rare = (5 * rarity).softmax(dim=-1)[:, None, None].expand(2, 1, 6, 6)
    to_common = (-5 * rarity).softmax(dim=-1)[:, None, None].expand(2, 1, 6, 6)
    weights = torch.cat([to_rare, to_common], dim=1)[None]
    everywhere = torch.ones(2, 6, dtype=torch.bool)
    pointed, correlation = heads.rare_scores(weights, everywhere, rarity)
    torch.testing.assert_close(pointed, torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(correlation, torch.tensor([[1.0, -1.0]]))


def test_rare_scores_ignore_padding():
    rarity = randn(1, 6)
    weights = randn(1, 1, 2, 6, 6).softmax(dim=-1)
    ordinary = torch.tensor([[0, 1, 1, 1, 1, 0]]).bool()
    spoiled = rarity.clone()
    spoiled[0, [0, 5]] = 1e6
    for a, b in zip(
        heads.rare_scores(weights, ordinary, rarity),
        heads.rare_scores(weights, ordinary, spoiled),
        strict=True,
    ):
        assert torch.equal(a, b)


# Ablation


def test_an_ablated_head_is_a_head_whose_output_weights_are_zero():
    model = small_bert()
    ids = torch.randint(1, 30, (2, 7), generator=torch.Generator().manual_seed(0))
    edited = copy.deepcopy(model)
    with torch.no_grad():
        for layer, head in ((0, 2), (1, 0), (1, 3)):
            columns = slice(4 * head, 4 * (head + 1))
            edited.layers[layer].self_attention.W_o.weight[:, columns] = 0
        with heads.ablate_heads(model, {0: [2], 1: [0, 3]}):
            ablated = model(ids)
        torch.testing.assert_close(ablated, edited(ids), rtol=0, atol=1e-6)
        assert (ablated - model(ids)).abs().max() > 1e-3


def test_the_model_is_whole_again_after_the_block():
    model = small_bert()
    ids = torch.tensor([[1, 2, 3]])
    before = model(ids)
    with pytest.raises(RuntimeError), heads.ablate_heads(model, {0: [0]}):
        raise RuntimeError
    assert torch.equal(model(ids), before)
    with heads.ablate_heads(model, {}):
        assert torch.equal(model(ids), before)


def test_both_paths_lose_the_head():
    layer = MultiHeadAttention(16, 4, num_kv_heads=2)
    x = randn(1, 5, 16)
    with heads.ablate_heads(layer, {0: [1]}):
        explicit, _ = layer(x)
        fused, _ = layer(x, need_weights=False)
    torch.testing.assert_close(explicit, fused)


def test_the_gradient_of_a_gate_is_the_slope_of_the_loss():
    model = small_bert().double()
    ids = torch.tensor([[1, 2, 3, 4]])

    def loss(gates: torch.Tensor) -> torch.Tensor:
        with heads.gate_heads(model, gates):
            return model(ids)[0, 0, 0]

    gates = torch.ones(2, 4, dtype=torch.float64, requires_grad=True)
    loss(gates).backward()
    moved = torch.ones(2, 4, dtype=torch.float64)
    moved[1, 2] += 1e-5
    with torch.no_grad():
        slope = (loss(moved) - loss(torch.ones_like(moved))) / 1e-5
    assert math.isclose(slope, gates.grad[1, 2], rel_tol=1e-3)


def test_unknown_heads_and_layers_are_refused():
    model = small_bert()
    for wrong in ({2: [0]}, {0: [4]}, {-1: [0]}):
        with (
            pytest.raises(ValueError, match="layers are 0 to 1 and the heads 0 to 3"),
            heads.ablate_heads(model, wrong),
        ):
            pass
    with (
        pytest.raises(ValueError, match=r"shape \(layers, heads\)"),
        heads.gate_heads(model, torch.ones(4, 2)),
    ):
        pass
    with pytest.raises(ValueError, match="has no MultiHeadAttention"):
        heads.attention_layers(torch.nn.Linear(2, 2))


# The cache


def test_cache_bytes_agree_with_the_keys_and_values_of_a_layer():
    layer = MultiHeadAttention(64, 8, num_kv_heads=2).half()
    x = torch.zeros(1, 1, 64, dtype=torch.float16)
    kept = [projection(x) for projection in (layer.W_k, layer.W_v)]
    measured = sum(t.numel() * t.element_size() for t in kept)
    assert heads.kv_cache_bytes(3, 2, layer.d_k) == 3 * measured
    assert heads.kv_cache_bytes(32, 32, 128) == 512 * 1024  # LLaMA 2 7B
