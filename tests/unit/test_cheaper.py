"""The experiments on adapters, bits and experts: their measures, and what their tables say."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from companion import DecoderOnlyTransformer
from companion.analysis import cheaper
from companion.data.assets import fetch
from companion.data.tokenizers import load_tokenizer


def test_models_have_equal_active_or_equal_total_parameters():
    experts, active, total = (
        cheaper.new_language_model(kind, 84, seed=0)
        for kind in ("experts", "active", "total")
    )
    router = cheaper.LAYERS * cheaper.WIDTH * cheaper.EXPERTS
    count = sum(p.numel() for p in experts.parameters())
    assert cheaper.active_parameters(experts) == router + sum(
        p.numel() for p in active.parameters()
    )
    assert count == router + sum(p.numel() for p in total.parameters())
    assert cheaper.active_parameters(total) == count - router


def test_used_experts_count_what_is_in_use():
    usage = torch.tensor([[0.25] * 4, [0.5, 0.5, 0, 0], [1.0, 0, 0, 0]])
    assert cheaper.used_experts(usage).tolist() == pytest.approx([4, 2, 1])


def test_training_lowers_the_loss_and_measures_usage():
    letters = cheaper.Letters.load()
    assert len(letters.alphabet) == 84 and len(letters.train) > 4e6
    model = cheaper.new_language_model("experts", 84, seed=0)
    before = cheaper.bits_per_letter(model, letters)
    losses = cheaper.train_language_model(model, letters, balance=0.01, steps=12)
    assert len(losses) == 12
    assert cheaper.bits_per_letter(model, letters) < before
    usage = cheaper.expert_usage(model, letters)
    torch.testing.assert_close(usage.sum(dim=1), torch.ones(2))


def test_rounding_changes_linear_layers_only_and_is_counted():
    torch.manual_seed(0)
    model = DecoderOnlyTransformer(11, 32, 4, 64, 1)
    sizes = {way: cheaper.linear_bytes(model, way) for way in cheaper.WAYS}
    numbers = 4 * 32 * 32 + 2 * 32 * 64
    assert sizes["as it is"] == 4 * numbers
    assert sizes["8 bits, a scale a row"] == numbers + 4 * (4 * 32 + 64 + 32)
    assert sizes["4 bits, blocks of 32"] == 5 / 8 * numbers
    embedding = model.token_embedding.weight.clone()
    W = model.layers[0].feed_forward.W_1.weight.clone()
    cheaper.round_to_blocks(model)
    assert torch.equal(model.token_embedding.weight, embedding)
    assert not torch.equal(model.layers[0].feed_forward.W_1.weight, W)


def test_the_largest_inputs_are_found():
    model = nn.Sequential(nn.Linear(3, 2))
    inputs = torch.tensor([[1.0, -5.0, 2.0], [0.0, 4.0, -3.0]])
    found = cheaper.input_maxima(model, lambda: [model(row[None]) for row in inputs])
    assert found["0"].tolist() == [1.0, 5.0, 3.0]
    assert not model[0]._forward_pre_hooks


def test_snippets_are_short_and_split():
    tokenizer = load_tokenizer(fetch("minilm"))
    train, test = cheaper.sentiment_data(tokenizer, train=30, test=20)
    assert (len(train), len(test)) == (30, 20)
    texts = [text for text, _ in train + test]
    assert len(set(texts)) == 50
    assert max(len(tokenizer.encode(text)) for text in texts) <= cheaper.LONGEST
    again, _ = cheaper.sentiment_data(tokenizer, train=10, test=20)
    assert again == train[:10]


def test_an_adapted_model_trains_its_adapters_and_head():
    model = cheaper.new_sentiment_model()
    cheaper.prepare(model, "2", seed=0)
    sides = 4 * (384 + 384) + 2 * (384 + 1536)
    assert cheaper.trained_parameters(model) == 6 * 2 * sides + 2 * 384 + 2
    tokenizer = load_tokenizer(fetch("minilm"))
    data = [("good", 1), ("bad", 0)] * 4
    losses = cheaper.train_sentiment(
        model, tokenizer, data, rate=1e-3, epochs=3, batch=4
    )
    assert len(losses) == 6 and losses[-1] < losses[0]
    assert cheaper.sentiment_accuracy(model, tokenizer, data) == 1.0


def test_the_head_alone_separates_what_can_be_separated():
    model = cheaper.SentimentModel(nn.Identity(), d_model=4)
    torch.manual_seed(0)
    features = torch.randn(40, 4)
    labels = (features[:, 2] > 0).long()
    cheaper.fit_head(model, features, labels, penalty=1e-4)
    assert (model.head(features).argmax(dim=1) == labels).float().mean() > 0.95


def test_the_tables_hold_every_run():
    lora = cheaper.lora_table()
    assert [row["method"] for row in lora] == ["frozen", *cheaper.METHODS * 2]
    moe = cheaper.moe_table()
    assert [row["model"] for row in moe] == [*cheaper.MODELS] * 2
    bits = cheaper.bits_table()
    assert [row["way"] for row in bits] == [*cheaper.WAYS]
    loss = {row["way"]: float(row["loss"]) for row in bits}
    assert loss["8 bits, a scale a row"] < loss["8 bits, one scale"]
