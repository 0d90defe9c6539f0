"""RoBERTa alone: its positions, sizes, and what from_hf refuses."""

from __future__ import annotations

import pytest
import torch

from companion import BERT, RoBERTa, RoBERTaForMaskedLM, padding_mask
from companion.models.roberta import PRESETS, CountedPositionEmbedding


def tiny(**options) -> RoBERTa:
    torch.manual_seed(0)
    return RoBERTa(20, 16, 4, 32, 3, 12, **options).eval()


def test_positions_count_tokens_and_not_padding():
    table = CountedPositionEmbedding(4, 1, pad_id=1)
    table.weight.data = torch.arange(6.0)[:, None]
    places = table(torch.tensor([[7, 8, 1, 9], [1, 1, 5, 6]]))[..., 0]
    assert places.tolist() == [[2, 3, 1, 4], [1, 1, 2, 3]]


def test_padding_may_stand_in_front():
    """A sentence has the same states wherever its padding is; BERT's positions move."""
    first = torch.tensor([[5, 6, 7, 1, 1]])
    last = torch.tensor([[1, 1, 5, 6, 7]])
    model = tiny()
    with torch.no_grad():
        front = model(first, padding_mask(first, 1))[0, :3]
        back = model(last, padding_mask(last, 1))[0, 2:]
        torch.testing.assert_close(front, back, atol=1e-6, rtol=0)
        bert = BERT(20, 16, 4, 32, 3, 12).eval()
        moved = bert(last, padding_mask(last, 1))[0, 2:]
        still = bert(first, padding_mask(first, 1))[0, :3]
    assert (moved - still).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("preset", "millions"), [("base", 124.65), ("large", 355.36)], ids=["base", "large"]
)
def test_presets_have_the_size_of_the_paper(preset, millions):
    """Section 5: 355 M for the large model."""
    with torch.device("meta"):
        model = RoBERTa(**PRESETS[preset], pooler=True)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.005)


def test_longest_sequence():
    model = tiny()
    assert model(torch.full((1, 12), 5)).shape == (1, 12, 16)
    with pytest.raises(ValueError, match="max_seq_len = 12"):
        model(torch.full((1, 13), 5))


def test_the_head():
    model = RoBERTaForMaskedLM(tiny()).eval()
    token_ids = torch.randint(2, 20, (2, 5))
    assert model(token_ids).shape == (2, 5, 20)
    with pytest.raises(ValueError, match="no head for sentence pairs"):
        model.next_sentence_logits(token_ids)


def test_what_from_hf_refuses():
    transformers = pytest.importorskip("transformers")
    sizes = {
        "vocab_size": 20,
        "hidden_size": 8,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "num_hidden_layers": 1,
        "max_position_embeddings": 9,
    }
    bert = transformers.BertModel(transformers.BertConfig(**sizes))
    with pytest.raises(ValueError, match="model_type is 'bert', but .* 'roberta'"):
        RoBERTa.from_hf(bert)
    decoder = transformers.RobertaConfig(**sizes, is_decoder=True)
    with pytest.raises(ValueError, match="is_decoder is True"):
        RoBERTa.from_hf(transformers.RobertaModel(decoder))
    untied = transformers.RobertaConfig(**sizes, tie_word_embeddings=False)
    with pytest.raises(ValueError, match="tie_word_embeddings is False"):
        RoBERTaForMaskedLM.from_hf(transformers.RobertaForMaskedLM(untied))
    config = transformers.RobertaConfig(**sizes)
    with pytest.raises(ValueError, match=r"left over.*\n    classifier\.") as error:
        RoBERTa.from_hf(transformers.RobertaForSequenceClassification(config))
    assert "missing" not in str(error.value)
    with pytest.raises(ValueError, match="masked_language.bias, from lm_head"):
        RoBERTaForMaskedLM.from_hf(transformers.RobertaModel(config))
