"""BERT alone: shapes, sizes, masks, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from companion import BERT, BERTForPreTraining, padding_mask, record_attention
from companion.models.bert import PRESETS


def tiny(**options) -> BERT:
    torch.manual_seed(0)
    return BERT(20, 16, 4, 32, 3, 12, **options).eval()


def test_shapes():
    model = tiny(pooler=True)
    token_ids = torch.randint(0, 20, (2, 7))
    assert model(token_ids).shape == (2, 7, 16)
    states = model.hidden_states(token_ids)
    assert [tuple(state.shape) for state in states] == [(2, 7, 16)] * 4
    assert torch.equal(states[-1], model(token_ids))
    assert model.pooled(token_ids).shape == (2, 16)
    with record_attention(model) as maps:
        model(token_ids)
    assert maps.stack().shape == (3, 2, 4, 7, 7)


@pytest.mark.parametrize(
    ("preset", "millions"), [("base", 109.48), ("large", 335.14)], ids=["base", "large"]
)
def test_presets_have_the_size_of_the_paper(preset, millions):
    """Section 3: 110 M and 340 M, rounded."""
    with torch.device("meta"):
        model = BERT(**PRESETS[preset], pooler=True)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.005)


def test_initial_weights_are_small():
    model = tiny(pooler=True)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            assert 0.015 < parameter.std() < 0.025, name
        elif name.endswith("bias"):
            assert not parameter.any(), name


def test_padding_does_not_change_a_sentence():
    model = tiny()
    alone = torch.tensor([[5, 6, 7, 8]])
    padded = torch.tensor([[5, 6, 7, 8, 0, 0, 0], [5, 6, 7, 8, 9, 10, 11]])
    with torch.no_grad():
        expected = model(alone)[0]
        with_mask = model(padded, padding_mask(padded))[0, :4]
        without = model(padded)[0, :4]
    torch.testing.assert_close(with_mask, expected, atol=1e-6, rtol=0)
    assert (without - expected).abs().max() > 1e-4


def test_position_and_segment_matter():
    model = tiny()
    token_ids = torch.full((1, 4), 5)
    with torch.no_grad():
        plain = model(token_ids)
        zeros = model(token_ids, token_types=torch.zeros_like(token_ids))
        second = model(token_ids, token_types=torch.ones_like(token_ids))
    assert torch.equal(plain, zeros)
    assert (plain - second).abs().max() > 1e-3
    assert (plain[0, 0] - plain[0, 1]).abs().max() > 1e-3


def test_dropout_is_for_training():
    model = tiny(dropout=0.5)
    token_ids = torch.randint(0, 20, (1, 5))
    assert torch.equal(model(token_ids), model(token_ids))
    model.train()
    assert not torch.equal(model(token_ids), model(token_ids))


def test_longest_sequence_is_accepted_and_a_longer_one_is_not():
    model = tiny()
    assert model(torch.ones(1, 12, dtype=torch.long)).shape == (1, 12, 16)
    with pytest.raises(ValueError, match=r"token_ids .*max_seq_len = 12 .* has 13"):
        model(torch.ones(1, 13, dtype=torch.long))


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ((torch.ones(4, dtype=torch.long),), ValueError, r"\(batch, length\).*\(4,\)"),
        ((torch.ones(1, 4),), TypeError, "token_ids must be integers.*float32"),
        (
            (torch.ones(2, 4, dtype=torch.long), torch.ones(2, 4, dtype=torch.bool)),
            ValueError,
            "padding_mask builds it",
        ),
        (
            (torch.ones(2, 4, dtype=torch.long), torch.ones(2, 1, 1, 4)),
            TypeError,
            "mask must be boolean",
        ),
        (
            (
                torch.ones(2, 4, dtype=torch.long),
                None,
                torch.zeros(1, 4, dtype=torch.long),
            ),
            ValueError,
            r"token_types .*\(2, 4\).*\(1, 4\)",
        ),
    ],
    ids=["one axis", "float ids", "2-D padding mask", "float mask", "token types"],
)
def test_bad_inputs(inputs, error, message):
    with pytest.raises(error, match=message):
        tiny()(*inputs)


def test_no_pooler():
    with pytest.raises(ValueError, match="no pooler"):
        tiny().pooled(torch.ones(1, 4, dtype=torch.long))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 5, "d_model": 16}, "num_heads must divide d_model"),
        ({"activation": "swish"}, "activation must be one of"),
        ({"dropout": 1.5}, "dropout"),
    ],
)
def test_bad_options(options, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        BERT(**options)


# The tasks of pre-training


def test_pretraining_shapes_and_the_tied_embedding():
    model = BERTForPreTraining(tiny(pooler=True)).eval()
    token_ids = torch.randint(0, 20, (2, 7))
    assert model(token_ids).shape == (2, 7, 20)
    assert model.next_sentence_logits(token_ids).shape == (2, 2)
    assert len(model.hidden_states(token_ids)) == 4
    before = model(token_ids)
    with torch.no_grad():
        model.encoder.embedding.token.weight[3] += 1.0  # a token that moves its logit
    after = model(torch.full((1, 1), 5))
    assert (before[..., 3] - after[..., 3]).abs().max() > 0.01
    names = [name for name, _ in model.named_parameters() if "masked" in name]
    assert len(names) == 5, "the head has a dense layer, a norm and a bias of its own"


def test_the_presets_with_their_heads():
    """The heads add a dense layer, a norm, a bias for each token, and two logits."""
    with torch.device("meta"):
        encoder = BERT(**PRESETS["base"], pooler=True)
        model = BERTForPreTraining(encoder)
    heads = sum(p.numel() for p in model.parameters()) - sum(
        p.numel() for p in encoder.parameters()
    )
    assert heads == 768 * 768 + 768 + 2 * 768 + 30522 + 2 * 768 + 2


def test_the_loss_sees_only_what_is_asked():
    model = BERTForPreTraining(tiny(pooler=True)).eval()
    token_ids = torch.randint(0, 20, (2, 6))
    labels = torch.full((2, 6), -100)
    labels[0, 2], labels[1, 4] = 7, 9
    log_p = model(token_ids).log_softmax(-1)
    expected = -(log_p[0, 2, 7] + log_p[1, 4, 9]) / 2
    torch.testing.assert_close(model.loss(token_ids, labels), expected)
    pair = model.next_sentence_logits(token_ids).log_softmax(-1)
    expected = expected - (pair[0, 0] + pair[1, 1]) / 2  # the first follows
    is_next = torch.tensor([True, False])
    torch.testing.assert_close(model.loss(token_ids, labels, is_next), expected)


def test_pretraining_without_a_pooler():
    with pytest.raises(ValueError, match="pooler=True"):
        BERTForPreTraining(tiny())
    model = BERTForPreTraining(tiny(), next_sentence=False)
    token_ids = torch.ones(1, 4, dtype=torch.long)
    with pytest.raises(ValueError, match="no head for sentence pairs"):
        model.loss(token_ids, token_ids, torch.tensor([True]))


def test_a_checkpoint_with_an_untied_head_is_refused():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_attention_heads=2,
        intermediate_size=12,
        num_hidden_layers=1,
        tie_word_embeddings=False,
    )
    theirs = transformers.BertForMaskedLM(config)
    with pytest.raises(ValueError, match="tie_word_embeddings is False"):
        BERTForPreTraining.from_hf(theirs)
    assert BERT.from_hf(theirs)  # the encoder has no part in it


def test_an_encoder_has_no_heads_to_load():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_attention_heads=2,
        intermediate_size=12,
        num_hidden_layers=1,
    )
    with pytest.raises(ValueError, match="masked_language.bias, from cls.predictions"):
        BERTForPreTraining.from_hf(transformers.BertModel(config))
