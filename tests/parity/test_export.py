"""Our models written as folders: transformers and our from_hf read the same model back."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from companion import BERT, GPT, DecoderOnlyTransformer, LLaMA, padding_mask
from companion.layers import LinearScaling
from companion.models.bert_tasks import (
    BERTForQuestionAnswering,
    BERTForSequenceClassification,
    BERTForTokenClassification,
)
from companion.models.export import save_hf

transformers = pytest.importorskip("transformers")

IDS = torch.tensor([[5, 3, 8, 2, 9, 7], [4, 6, 1, 0, 0, 0]])


def bert(**options) -> BERT:
    sizes = {"d_model": 24, "num_heads": 4, "d_ff": 40, "num_layers": 2}
    return BERT(13, max_seq_len=9, **(sizes | options))


def llama(**options) -> LLaMA:
    return LLaMA(13, 24, 4, 40, 2, 16, **options)


MODELS = {
    "BERT": bert,
    "BERT, pooler, relu": lambda: bert(
        pooler=True, activation="relu", dropout=0.2, attention_dropout=0.3
    ),
    "BERT, three segments": lambda: bert(num_token_types=3, layer_norm_eps=1e-3),
    "BERTForSequenceClassification": lambda: BERTForSequenceClassification(
        bert(pooler=True), 3, dropout=0.4
    ),
    "BERTForTokenClassification": lambda: BERTForTokenClassification(bert(), 5),
    "GPT": lambda: GPT(13, 24, 4, None, 2, 8),
    "GPT, untied, relu": lambda: GPT(
        13, 24, 3, 50, 3, 8, 0.2, activation="relu", tied_output=False
    ),
    "GPT, large eps": lambda: GPT(13, 24, 2, 24, 1, 6, layer_norm_eps=1e-2),
    "LLaMA": llama,
    "LLaMA, tied, grouped": lambda: llama(num_kv_heads=2, tied_output=True),
    "LLaMA, biases": lambda: llama(
        attention_bias=True, mlp_bias=True, rope_base=500.0, d_k=8, norm_eps=1e-3
    ),
}


def shaken(name: str) -> nn.Module:
    """A model in which no parameter is left at zero or one."""
    torch.manual_seed(len(name))
    model = MODELS[name]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    return model


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_round_trip(name, tmp_path, parity_record):
    ours = shaken(name)
    save_hf(ours, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    architecture = getattr(transformers, config["architectures"][0])
    theirs, info = architecture.from_pretrained(
        tmp_path,
        local_files_only=True,
        output_loading_info=True,
        attn_implementation="eager",
    )
    theirs.eval()
    unused = (
        {"pooler.dense.weight", "pooler.dense.bias"} if name[:4] == "BERT" else set()
    )
    assert set(info["missing_keys"]) <= unused and not info["unexpected_keys"]

    encoder = name.startswith("BERT")
    mask = padding_mask(IDS) if encoder else None
    attended = (IDS != 0).long() if encoder else torch.ones_like(IDS)
    output = theirs(IDS, attention_mask=attended)
    expected = output.logits if "logits" in output else output.last_hidden_state
    found = ours(IDS, mask)
    reference = f"transformers.{config['architectures'][0]}"
    worst = (found - expected).abs().max().item()
    parity_record(f"{name}, written by save_hf", reference, worst, 1e-4)

    back = type(ours).from_hf(tmp_path)
    assert torch.equal(back(IDS, mask), found)
    assert all(
        torch.equal(a, b)
        for a, b in zip(back.parameters(), ours.parameters(), strict=True)
    )
    again = type(ours).from_hf(theirs)
    assert torch.equal(again(IDS, mask), found)


@pytest.mark.parametrize("name", MODELS)
def test_every_option_comes_back(name, tmp_path):
    ours = MODELS[name]().eval()
    back = type(ours).from_hf(save_hf(ours, tmp_path))
    assert str(back) == str(ours)
    dropouts = [m.p for m in ours.modules() if isinstance(m, nn.Dropout)]
    assert dropouts == [m.p for m in back.modules() if isinstance(m, nn.Dropout)]


def test_a_pooler_that_tags_nothing_is_left_out(tmp_path):
    model = BERTForTokenClassification(bert(pooler=True), 3).eval()
    back = BERTForTokenClassification.from_hf(save_hf(model, tmp_path))
    assert back.encoder.pooler is None
    assert torch.equal(back(IDS), model(IDS))


def test_labels_are_written(tmp_path):
    model = MODELS["BERTForTokenClassification"]()
    names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    save_hf(model, tmp_path, names)
    config = transformers.AutoConfig.from_pretrained(tmp_path, local_files_only=True)
    assert [config.id2label[i] for i in range(5)] == names
    with pytest.raises(ValueError, match="labels must have 5 names"):
        save_hf(model, tmp_path, names[:4])
    with pytest.raises(ValueError, match="labels must be None for a BERT"):
        save_hf(bert(), tmp_path, names)


def test_what_has_no_counterpart_is_refused(tmp_path):
    for model in (DecoderOnlyTransformer(11, 8, 2, 16, 1), nn.Linear(2, 2)):
        with pytest.raises(TypeError, match="model may be BERT, "):
            save_hf(model, tmp_path)
    with pytest.raises(TypeError, match="BERTForQuestionAnswering"):
        save_hf(BERTForQuestionAnswering(bert()), tmp_path)
    for model, words in (
        (BERTForSequenceClassification(bert(), 2, pooling="mean"), "pooling='mean'"),
        (GPT(11, 8, 2, 16, 1, norm_first=False), "norm_first=True"),
        (llama(rope_scaling=LinearScaling(2.0)), "scaling"),
        (llama(rope_layout="interleaved"), "interleaved"),
        (llama(window=4), "window"),
    ):
        with pytest.raises(ValueError, match=words):
            save_hf(model, tmp_path)
    assert not list(tmp_path.iterdir())  # nothing is half written
