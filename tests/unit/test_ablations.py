"""The ablations: what a setting changes, and that the stored table is whole."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
import torch

from companion import Transformer, padding_mask
from companion.analysis import ablations, multilingual
from companion.analysis.ablations import ABLATIONS, BASE, PEAK, SEEDS, Setting
from companion.analysis.torch_translator import TorchTranslator


def test_each_ablation_varies_one_thing() -> None:
    for varied, variants in ABLATIONS.items():
        settings = list(variants.values())
        assert len(set(settings)) == len(settings) > 1
        differing = [
            field.name
            for field in fields(Setting)
            if len({getattr(setting, field.name) for setting in settings}) > 1
        ]
        assert len(differing) == 1, varied


def test_the_stored_table_has_every_variant_and_seed() -> None:
    stored = ablations.stored_results()
    assert stored.keys() == ABLATIONS.keys()
    for varied, runs in stored.items():
        assert runs.keys() == ABLATIONS[varied].keys()
        for results in runs.values():
            assert len(results) == len(SEEDS)
            assert all(0 <= r.exact <= 1 and 0 < r.loss < 10 for r in results)


def test_the_schedules_differ_only_during_warm_up() -> None:
    steps = ablations.WARMUP_STEPS + 3
    rates = {}
    for warm_up in (True, False):
        setting = replace(BASE, warm_up=warm_up)
        rates[warm_up] = [ablations.rate(setting, n) for n in range(steps)]
    assert rates[True][0] == pytest.approx(PEAK / ablations.WARMUP_STEPS)
    assert rates[False][0] == pytest.approx(PEAK)
    assert max(rates[True]) == pytest.approx(PEAK) == max(rates[False])
    assert rates[True][-4:] == pytest.approx(rates[False][-4:])


@pytest.mark.parametrize("tied", [True, False])
def test_a_setting_is_what_is_trained(tied: bool) -> None:
    setting = Setting(num_heads=2, dropout=0.3, tied=tied, label_smoothing=0.0)
    model, history = ablations.train(setting, seed=0, steps=1)
    assert len(history) == 1
    attention = model.encoder.layers[0].self_attention
    assert attention.num_heads == 2
    assert model.encoder.embedding.positions.dropout.p == 0.3
    source, target = model.encoder.embedding.token, model.decoder.embedding.token
    assert (source.weight is target.weight) is tied
    assert (model.output_projection.weight is target.weight) is tied


def test_an_untrained_model_is_measured() -> None:
    model, _ = ablations.train(BASE, seed=0, steps=1)
    result = ablations.measure(model)
    assert result.exact == 0
    split, tokenizer = ablations.emoji_task()
    assert len(split.test) == 344
    assert result.loss > math.log(tokenizer.vocab_size) / 2


def test_the_multilingual_table_and_task() -> None:
    assert tuple(multilingual.stored_results()) == multilingual.LANGUAGES
    split, tokenizer = multilingual.multilingual_task()
    assert tokenizer.languages == multilingual.LANGUAGES
    held_out = {pair.emoji for pair in split.test}
    assert not held_out & {pair.emoji for pair in split.train}


def test_the_baseline_hides_padding_and_the_future() -> None:
    torch.manual_seed(0)
    model = TorchTranslator(20, 16, 2, 32, 1, max_seq_len=16).eval()
    source, target = torch.randint(1, 20, (2, 5)), torch.randint(1, 20, (2, 6))
    source[1, 3:] = 0
    logits = model(source, target, padding_mask(source))
    assert logits.shape == (2, 6, 20)
    alone = model(source[1:, :3], target[1:], padding_mask(source[1:, :3]))
    torch.testing.assert_close(logits[1:], alone)
    changed = target.clone()
    changed[:, 4:] = 7
    again = model(source, changed, padding_mask(source))
    torch.testing.assert_close(logits[:, :4], again[:, :4])
    assert (logits[:, 5] - again[:, 5]).abs().max() > 1e-3
    memory = model.encode(source)
    with pytest.raises(ValueError, match="target_mask and cache must be None"):
        model.decode(target, memory, target_mask=padding_mask(target))


@pytest.mark.parametrize("norm_first", [False, True])
def test_the_baseline_takes_our_weights(norm_first: bool) -> None:
    """Logits and the gradients of the first update agree; then training is a fair match."""
    torch.manual_seed(0)
    sizes = (16, 2, 32, 2)
    ours = Transformer(
        20,
        20,
        *sizes,
        2,
        max_seq_len=16,
        dropout=0.0,
        shared_vocabulary=True,
        tied_output=True,
        norm_first=norm_first,
        final_norm=True,
    )
    for p in ours.parameters():
        torch.nn.init.normal_(p, std=0.3)
    theirs = TorchTranslator(
        20, *sizes, max_seq_len=16, dropout=0.0, norm_first=norm_first
    )
    theirs.load_ours(ours)
    source, target = torch.randint(1, 20, (2, 5)), torch.randint(1, 20, (2, 6))
    source[1, 3:] = 0
    outputs = [m(source, target, padding_mask(source)) for m in (ours, theirs)]
    torch.testing.assert_close(*outputs)
    weights = (
        ours.decoder.embedding.token.weight,
        theirs.embedding.token.weight,
    )
    gradients = [
        torch.autograd.grad(output.square().mean(), weight)[0]
        for output, weight in zip(outputs, weights, strict=True)
    ]
    torch.testing.assert_close(*gradients)
