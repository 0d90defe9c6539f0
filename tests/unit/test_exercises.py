"""Every exercise of the book, held to its rules."""

from __future__ import annotations

import inspect
from collections import Counter

import pytest
import torch
from torch import Tensor, nn

import companion
from companion.exercises import Exercise, Verdict, check, solution
from companion.exercises.checker import draw_fresh_inputs, draw_inputs
from companion.exercises.compare import agree
from companion.exercises.diagnosis import diagnose
from companion.exercises.outcome import holds, mapped, observe
from companion.exercises.registry import all_exercises, find_exercise


def stub(*_):
    raise NotImplementedError("your turn")


BOOK = sorted(
    (task for task in all_exercises().values() if isinstance(task, Exercise)),
    key=lambda exercise: (exercise.chapter, exercise.name),
)
MISTAKES = [(e, m) for e in BOOK for m in e.misconceptions]
SEEDS = range(2)  # 0 is what readers get

every_exercise = pytest.mark.parametrize("exercise", BOOK, ids=lambda e: e.name)


def test_each_chapter_has_at_least_five_exercises():
    chapters = Counter(exercise.chapter for exercise in BOOK)
    assert len(chapters) >= 2
    assert min(chapters.values()) >= 5, chapters


@every_exercise
def test_declaration(exercise):
    assert exercise.name.isidentifier()
    assert 1 <= exercise.difficulty <= 5
    assert exercise.minutes > 0
    assert len(exercise.hints) >= 3 and all(exercise.hints)
    assert exercise.properties
    assert len(exercise.misconceptions) >= 3
    names = [m.name for m in exercise.misconceptions]
    assert len(set(names)) == len(names)
    assert all(m.says.strip()[-1] in ".?!" for m in exercise.misconceptions)
    assert not any(p.says.endswith(".") for p in exercise.properties)
    assert find_exercise(f"{exercise.chapter}.{exercise.name}") is exercise
    source = solution(exercise.name)
    assert source.startswith(("def ", "class ", "@"))
    compile(source, exercise.name, "exec")
    assert len(draw_inputs(exercise)) >= 2


def test_every_task_says_what_it_trains():
    trained = {task.name: task.trains for task in all_exercises().values()}
    assert not [name for name, trains in trained.items() if not trains]
    for name, trains in trained.items():
        assert 3 <= len(trains.split()) <= 14, name
        assert trains[0].islower() and trains[-1] not in ".!?", name
        assert "|" not in trains, "it stands in a table"
    twice = [trains for trains, n in Counter(trained.values()).items() if n > 1]
    assert not twice


@every_exercise
def test_the_reference_passes(exercise):
    for seed in SEEDS:
        found = diagnose(
            exercise,
            exercise.reference,
            draw_inputs(exercise, seed),
            draw_fresh_inputs(exercise),
        )
        assert found.passed, found
    assert str(check(exercise.reference, exercise)) == str(
        check(exercise.reference, exercise.name)
    )


@every_exercise
def test_the_stub_is_not_implemented_yet(exercise):
    assert check(stub, exercise).verdict is Verdict.NOT_IMPLEMENTED


def _lookup_in_a_loop(queries, keys, values, width):
    rows = [torch.exp(-((q - keys) ** 2) / 2 / width**2) for q in queries]
    return torch.stack([(row * values).sum() / row.sum() for row in rows])


def _fused(query, key, value, *_):
    heads = query[None, None], key[None, None], value[None, None]
    return nn.functional.scaled_dot_product_attention(*heads)[0, 0]


def _einsum(query, key, value, *_):
    scores = torch.einsum("qd,kd->qk", query, key) * key.shape[1] ** -0.5
    return torch.einsum("qk,kv->qv", nn.functional.softmax(scores, 1), value)


def _triangle(scores):
    seen = (scores - scores.amax(-1, keepdim=True)).exp().tril()
    return seen / seen.sum(-1, keepdim=True)


def _random_directions(length):
    generator = torch.Generator().manual_seed(0)
    key = torch.randn(length, 64, generator=generator)
    key = key / key.norm(dim=-1, keepdim=True)
    return 500 * key.roll(1, 0), key


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("soft_lookup", _lookup_in_a_loop),
        ("attend", _fused),
        ("attend", _einsum),
        ("stable_softmax", lambda scores: scores.softmax(-1)),
        ("stable_softmax", lambda s: (s - s.logsumexp(-1, keepdim=True)).exp()),
        ("causal_weights", _triangle),
        (
            "decoder_mask",
            lambda ids, pad: (
                companion.causal_mask(ids.shape[1], device=ids.device)
                & companion.padding_mask(ids, pad)
            ),
        ),
        ("previous_token_head", _random_directions),
        ("streaming_attention", _fused),
        ("streaming_attention", _einsum),
    ],
)
def test_right_answers_written_differently_pass(name, answer):
    found = check(answer, name)
    assert found.passed, found


@pytest.mark.parametrize(
    ("exercise", "misconception"),
    MISTAKES,
    ids=[f"{e.name}: {m.name}" for e, m in MISTAKES],
)
def test_a_misconception_is_told_its_own_name(exercise, misconception):
    """Two that no inputs tell apart fail here: both would be told."""
    for seed in SEEDS:
        found = diagnose(
            exercise,
            misconception.wrong,
            draw_inputs(exercise, seed),
            draw_inputs(exercise, seed + 10),
        )
        assert found.verdict is Verdict.MISCONCEPTION, found
        assert found.misconception == misconception.name
        assert misconception.says.split()[0] in str(found)
    assert str(check(misconception.wrong, exercise)) == str(
        check(misconception.wrong, exercise)
    )


def _corrupted(exercise, change):
    """The reference with ``change`` done to everything that it returns."""
    reference = exercise.reference
    if not inspect.isclass(reference):
        return lambda *args, **kw: mapped(change, reference(*args, **kw))

    class Corrupted(reference):
        def forward(self, *args, **kw):
            return mapped(change, super().forward(*args, **kw))

    return Corrupted


def _shifted(leaf):
    if isinstance(leaf, Tensor):
        if leaf.dtype == torch.bool:
            return ~leaf
        return leaf * 2 + torch.ones_like(leaf)
    if isinstance(leaf, bool):
        return not leaf
    return leaf * 2 + 1 if isinstance(leaf, int | float) else f"{leaf}?"


def _turned(leaf):
    return leaf.flip(tuple(range(leaf.ndim))) if isinstance(leaf, Tensor) else leaf


def _rolled(leaf):
    return leaf.roll(1, -1) if isinstance(leaf, Tensor) and leaf.ndim else leaf


def _emptied(leaf):
    return torch.zeros_like(leaf) if isinstance(leaf, Tensor) else leaf


def _noisy(leaf):
    floating = isinstance(leaf, Tensor) and leaf.is_floating_point()
    return leaf + torch.rand_like(leaf) if floating else leaf


def _retyped(leaf):
    if not isinstance(leaf, Tensor):
        return leaf
    return leaf.double() if leaf.is_floating_point() else leaf.float()


CHANGES = (_shifted, _turned, _rolled, _emptied, _noisy, _retyped)


@every_exercise
def test_a_corrupted_answer_fails(exercise):
    harmful = 0
    for change in CHANGES:
        corrupted = _corrupted(exercise, change)
        pairs = [
            (observe(exercise, corrupted, i), observe(exercise, exercise.reference, i))
            for i in draw_inputs(exercise)
        ]
        if not all(agree(*pair, exercise.tolerance) for pair in pairs):
            harmful += 1
            assert not check(corrupted, exercise).passed
    assert harmful


@every_exercise
def test_every_property_can_fail(exercise):
    wrong = [m.wrong for m in exercise.misconceptions]
    wrong += [_corrupted(exercise, change) for change in CHANGES]
    cases = draw_inputs(exercise)
    for rule in exercise.properties:
        assert any(
            not holds(rule, answer, inputs) for answer in wrong for inputs in cases
        ), f"nothing breaks the property: {rule.says}"
