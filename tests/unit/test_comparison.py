"""The families on their tasks, and the LSTM beside the Transformer."""

from __future__ import annotations

import math

import pytest
import torch

from companion.analysis import bottleneck, families, recurrence

TASK = families.TASKS["write on"]()


@pytest.mark.parametrize("name", list(families.TASKS))
def test_sources_and_targets_are_what_the_task_says(name: str) -> None:
    task = families.TASKS[name]()
    drawn = task.draw(5, torch.Generator().manual_seed(0))
    for source, target in (drawn, task.test):
        assert source.shape[1] <= task.max_source
        assert target.shape[1] <= task.max_target
        assert max(source.max(), target.max()) < task.vocab_size
        assert (target != families.BLANK).all()
    again = task.draw(5, torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(drawn, again, strict=True))


def test_the_gap_is_the_letter_that_is_missing() -> None:
    task = families.fill_the_gap()
    ids = bottleneck.training_and_test_text()[1]
    whole = bottleneck.sample_snippets(ids, 1000, 24, torch.Generator().manual_seed(0))
    filled = task.test.source.clone()
    filled[:, 11:12] = task.test.target
    assert torch.equal(filled, whole + families.FIRST)


@pytest.mark.parametrize("family", list(families.FAMILIES))
def test_no_family_reads_what_it_has_to_foretell(family: str) -> None:
    torch.manual_seed(0)
    model = families.FAMILIES[family](TASK).eval()
    source, target = (x[:3] for x in TASK.test)
    changed = target.clone()
    changed[:, 4] = families.FIRST + (changed[:, 4] - families.FIRST + 1) % 27
    moved = (model(source, target) - model(source, changed)).abs().amax(dim=(0, 2))
    assert moved[:5].max() < 1e-5  # nothing up to the changed token
    assert (moved[5:].max() > 1e-4) == (family != "encoder-only")
    short = source.clone()
    short[:, 20:] = families.PAD
    alone = model(short[:, :20], target)
    torch.testing.assert_close(model(short, target), alone, atol=1e-4, rtol=1e-4)


def test_an_untrained_model_knows_nothing_and_training_helps() -> None:
    before = families.train("decoder-only", TASK, steps=2, progress=False)
    after = families.train("decoder-only", TASK, steps=30, progress=False)
    bits = [families.measure(model, TASK).bits for model in (before, after)]
    assert bits[0] > math.log2(20) > bits[1] + 0.2


def test_labels_of_a_dictation_are_the_second_time() -> None:
    ids = bottleneck.training_and_test_text()[1]
    tokens, labels = recurrence.copy_out(ids, torch.Generator().manual_seed(0), 5)
    assert tokens.shape == labels.shape == (64, 10)
    assert (labels[:, :5] == -100).all()
    assert torch.equal(labels[:, 5:], tokens[:, :5])
    assert (tokens[:, 5] == recurrence.SEPARATOR).all()


@pytest.mark.parametrize("size", list(recurrence.SIZES))
def test_the_two_models_have_as_many_parameters(size: str) -> None:
    counts = [
        sum(p.numel() for p in recurrence.new_model(kind, size).parameters())
        for kind in recurrence.MODELS
    ]
    assert max(counts) < 1.08 * min(counts)


def test_an_unknown_kind_or_size_is_refused() -> None:
    with pytest.raises(ValueError, match="kind must be one of LSTM, Transformer"):
        recurrence.new_model("GRU")
    with pytest.raises(ValueError, match="size one of small"):
        recurrence.new_model(recurrence.LSTM, "huge")


def test_the_tables_hold_three_seeds_of_everything() -> None:
    for of_task in families.stored_results().values():
        assert list(of_task) == list(families.FAMILIES)
        assert all(len(runs) == len(families.SEEDS) for runs in of_task.values())
    stored = recurrence.stored_results()
    assert {"by updates", "copying", "by size", "transfer, fresh"} <= set(stored)
    for models in stored.values():
        assert set(models) == set(recurrence.MODELS)
        assert all(len(runs) == len(recurrence.SEEDS) for runs in models.values())
