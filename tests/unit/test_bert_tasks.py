"""The three heads on top of an encoder: masks, losses, spans, errors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from companion import BERT, padding_mask
from companion.models.bert_tasks import (
    BERTForQuestionAnswering,
    BERTForSequenceClassification,
    BERTForTokenClassification,
    best_spans,
    mean_over_tokens,
)


def encoder(**options):
    torch.manual_seed(0)
    return BERT(20, 16, 4, 32, 2, 12, **options)


@pytest.fixture
def tokens():
    torch.manual_seed(1)
    ids = torch.randint(1, 20, (3, 9))
    ids[1, 6:] = 0
    return ids


class TestMeanOverTokens:
    def test_ignores_padding(self):
        states = torch.randn(2, 4, 3)
        mask = padding_mask(torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]))
        mean = mean_over_tokens(states, mask)
        assert torch.allclose(mean[0], states[0].mean(dim=0))
        assert torch.allclose(mean[1], states[1, :2].mean(dim=0))

    def test_no_mask_is_no_padding(self):
        states = torch.randn(2, 4, 3)
        assert torch.equal(mean_over_tokens(states), states.mean(dim=1))

    def test_nothing_but_padding_is_zero(self):
        mask = torch.zeros(1, 1, 1, 4, dtype=torch.bool)
        assert mean_over_tokens(torch.randn(1, 4, 3), mask).eq(0).all()

    def test_a_mask_of_another_shape(self):
        with pytest.raises(ValueError, match=r"shape \(2, 1, 1, 4\).*shape \(2, 4\)"):
            mean_over_tokens(torch.randn(2, 4, 3), torch.ones(2, 4, dtype=torch.bool))


@pytest.mark.parametrize("pooling", ["pooler", "mean"])
def test_padding_does_not_change_a_class(tokens, pooling):
    model = BERTForSequenceClassification(encoder(pooler=True), 3, pooling=pooling)
    model.eval()
    together = model(tokens, padding_mask(tokens))
    alone = model(tokens[1:2, :6], padding_mask(tokens[1:2, :6]))
    assert torch.allclose(together[1], alone[0], atol=1e-6)


def test_the_poolings_differ(tokens):
    models = (
        BERTForSequenceClassification(encoder(pooler=True), 3, pooling=pooling).eval()
        for pooling in ("pooler", "mean")
    )
    first, second = (model(tokens) for model in models)
    assert not torch.allclose(first, second)


def test_losses_leave_out_minus_100(tokens):
    mask = padding_mask(tokens)
    model = BERTForTokenClassification(encoder(), 2).eval()
    labels = torch.full_like(tokens, -100)
    labels[0, 2], labels[2, 5] = 1, 0
    log_p = model(tokens, mask).log_softmax(dim=-1)
    expected = -(log_p[0, 2, 1] + log_p[2, 5, 0]) / 2
    assert torch.allclose(model.loss(tokens, labels, mask), expected)

    model = BERTForSequenceClassification(encoder(pooler=True), 3).eval()
    classes = torch.tensor([2, -100, 0])
    expected = F.cross_entropy(model(tokens, mask)[[0, 2]], torch.tensor([2, 0]))
    assert torch.allclose(model.loss(tokens, classes, mask), expected)


def test_loss_of_spans_is_the_mean_of_start_and_end(tokens):
    model = BERTForQuestionAnswering(encoder()).eval()
    log_p = model(tokens).log_softmax(dim=1)  # over the tokens
    spans = torch.tensor([[1, 2], [3, 3], [0, 8]])
    rows = torch.arange(3)
    expected = -(log_p[rows, spans[:, 0], 0] + log_p[rows, spans[:, 1], 1]).mean() / 2
    assert torch.allclose(model.loss(tokens, spans), expected)


def test_gradients_reach_the_embeddings(tokens):
    model = BERTForQuestionAnswering(encoder())
    model.loss(tokens, torch.tensor([[1, 2], [3, 3], [0, 8]])).backward()
    assert model.encoder.embedding.token.weight.grad.abs().sum() > 0


class TestBestSpans:
    def test_equals_a_search_over_all_spans(self):
        torch.manual_seed(3)
        for max_length in (1, 3, 20):
            logits = torch.randn(5, 10, 2)
            allowed = torch.rand(5, 10) < 0.6
            allowed[:, 4] = True
            found = best_spans(logits, allowed, max_length)
            for row in range(5):
                spans = [
                    (float(logits[row, i, 0] + logits[row, j, 1]), i, j)
                    for i in range(10)
                    for j in range(i, min(10, i + max_length))
                    if allowed[row, i] and allowed[row, j]
                ]
                assert tuple(found[row].tolist()) == max(spans)[1:]

    def test_errors(self):
        logits, allowed = torch.randn(2, 4, 2), torch.ones(2, 4, dtype=torch.bool)
        with pytest.raises(ValueError, match="max_length must be at least 1"):
            best_spans(logits, allowed, 0)
        allowed[1] = False
        with pytest.raises(ValueError, match="a token in each row"):
            best_spans(logits, allowed)


def test_errors():
    with pytest.raises(ValueError, match="pooling must be 'pooler' or 'mean'"):
        BERTForSequenceClassification(encoder(), 2, pooling="max")
    with pytest.raises(ValueError, match="needs an encoder that was made with pooler"):
        BERTForSequenceClassification(encoder(), 2)
    with pytest.raises(ValueError, match="num_outputs must be 2"):
        BERTForQuestionAnswering(encoder(), 3)


def test_a_checkpoint_without_the_head():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=16, num_attention_heads=4, num_hidden_layers=1
    )
    with pytest.raises(ValueError, match="needs a checkpoint with classifier.weight"):
        BERTForTokenClassification.from_hf(transformers.BertModel(config))
