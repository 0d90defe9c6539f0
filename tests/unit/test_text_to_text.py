"""Four tasks as text, and the experiment on them: splits, batches, scores, stored results."""

from __future__ import annotations

import random

import pytest
import torch

from companion.analysis import text_to_text as t2t
from companion.analysis.text_to_text import (
    KINDS,
    Batches,
    Setup,
    damaged,
    labeled,
    mean_loss,
    nearest_answers,
    new_model,
    score,
    stored_results,
    train,
)
from companion.data.parallel import Pair
from companion.data.text_tasks import (
    TextTask,
    add_prefix,
    bare,
    load_text_tasks,
    train_task_tokenizer,
    unlabeled_texts,
)
from companion.training import collate_pairs
from companion.training.denoising import restore_spans


@pytest.fixture(scope="module")
def tasks() -> dict[str, TextTask]:
    return load_text_tasks()


@pytest.fixture(scope="module")
def setup(tasks) -> Setup:
    return Setup(tasks, train_task_tokenizer(tasks), unlabeled_texts(tasks)[:500])


def test_every_source_has_its_prefix_and_no_test_source_is_in_training(tasks):
    assert list(tasks) == ["translate", "language", "restore", "sentiment"]
    for name, task in tasks.items():
        assert 190 < len(task.test) <= 300 and len(task.train) > 1700
        assert all(p.source.startswith(f"{name}: ") for p in task.train + task.test)
        assert not {p.source for p in task.test} & {p.source for p in task.train}


def test_what_the_answers_are(tasks):
    targets = {name: {p.target for p in task.test} for name, task in tasks.items()}
    assert targets["sentiment"] == {"positive", "negative"}
    assert targets["language"] == set(
        "French Indonesian Italian Portuguese Spanish Turkish".split()
    )
    for pair in tasks["restore"].test:
        assert bare(pair.target) == pair.source.removeprefix("restore: ")


def test_the_tasks_can_be_drawn_again(tasks):
    assert load_text_tasks() == tasks
    other = load_text_tasks(1, test_size=50)
    assert len(other["language"].test) == 50
    assert other["restore"].train != tasks["restore"].train


def test_no_test_text_is_learned_from_before(tasks):
    texts = {bare(text) for text in unlabeled_texts(tasks)}
    assert len(texts) > 40_000
    for task in tasks.values():
        for pair in task.test:
            assert bare(pair.source.partition(": ")[2]) not in texts
    for pair in tasks["restore"].test:
        start = bare(pair.target)
        assert not any(t == start for t in texts)


def test_bare_and_prefix():
    assert bare("And Job's sons said, Let there be light:") == (
        "and job's sons said let there be light"
    )
    assert add_prefix("restore", "a: b") == "restore: a: b"
    for bad in ("", "a: b"):
        with pytest.raises(ValueError, match="task must be a name without a colon"):
            add_prefix(bad, "text")
    with pytest.raises(ValueError, match="test_size must be at least 1"):
        load_text_tasks(test_size=0)


def test_batches_go_round_the_tasks():
    makers = [lambda draw: ([draw.randrange(9) + 1], [1]), lambda _: ([50, 50], [2])]
    batches = Batches(makers, steps=3, batch=4, seed=1)
    found = list(batches)
    assert len(found) == 6
    assert all(b.source_ids.shape == (4, 1 + i % 2) for i, b in enumerate(found))
    assert torch.equal(found[0].source_ids, next(iter(batches)).source_ids)
    other = next(iter(Batches(makers, 3, batch=4, seed=2)))
    assert not torch.equal(found[0].source_ids, other.source_ids)


def test_damaged_text_can_be_restored(setup):
    tokenizer, eos = setup.tokenizer, setup.tokenizer.eos_id
    texts = [tokenizer.encode(text) for text in setup.texts]
    draw = random.Random(0)
    for _ in range(20):
        source, target = damaged(setup, "span corruption")(draw)
        assert source[-1] == target[-1] == eos and target[0] == tokenizer.bos_id
        parts = torch.tensor(source[:-1]), torch.tensor(target[1:-1])
        text = restore_spans(*parts, setup.sentinel_ids).tolist()
        assert any(text == t[i : i + len(text)] for t in texts for i in range(len(t)))
    source, target = damaged(setup, "text infilling")(draw)
    text = target[1:-1]
    assert any(text == t[i : i + len(text)] for t in texts for i in range(len(t)))
    mask = setup.sentinel_ids[0]
    assert mask in source and mask not in target
    assert set(source) - {mask} <= set(target)


def test_each_task_weighs_the_same(setup):
    """A long target counts as much as a short one: the mean over a batch is one unit."""
    model = new_model(setup).eval()
    tokenizer = setup.tokenizer
    make = labeled([Pair("translate: ja", "yes yes yes")], tokenizer)
    batch = collate_pairs([make(random.Random(0))] * 2)
    loss, count = mean_loss(model, batch)
    assert count == 1
    source, target = batch
    logits = model(source, target[:, :-1]).flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(logits, target[:, 1:].flatten())
    torch.testing.assert_close(loss, expected)


def test_the_model_has_half_a_million_parameters_and_learns(setup):
    model = new_model(setup)
    assert sum(p.numel() for p in model.parameters()) == 589_312
    pairs = [Pair("language: maison", "French"), Pair("language: casa", "Spanish")]
    losses = train(model, [labeled(pairs, setup.tokenizer)], 30, batch=4)
    assert losses[-1] < 0.3 < 3 < losses[0]
    found = t2t.answers(model, [p.source for p in pairs], setup.tokenizer)
    assert found == ["French", "Spanish"]


def test_scores():
    exact = score(["a b", "c"], ["a b", "d"])
    assert exact == (0.5, 0.5)
    partly = score(["a x c"], ["a b c d"])
    assert partly == (0.0, 0.5)
    assert score([""], ["a"]) == (0.0, 0.0)


def test_the_nearest_training_pair_answers():
    task = TextTask(
        train=[Pair("t: red hat", "A"), Pair("t: blue hat", "B")],
        test=[Pair("t: blue coat", "?"), Pair("t: hat", "?")],
    )
    assert nearest_answers(task) == ["B", "A"]


def test_stored_results_are_complete():
    stored = stored_results()
    assert list(stored) == ["nearest training pair", *KINDS]
    seeds = {len(s) for kind in KINDS for s in stored[kind].values()}
    assert len(seeds) == 1
    for kind, scores in stored.items():
        assert list(scores) == ["translate", "language", "restore", "sentiment"], kind
        assert all(0 <= x.exact <= x.words <= 1 for s in scores.values() for x in s)
