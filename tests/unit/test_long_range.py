"""The look-up task over long distances, its models and the stored table."""

from __future__ import annotations

import pytest
import torch

from companion import EncoderLayer, device
from companion.analysis import long_range
from companion.analysis.long_range import METHODS, Reader, draw_recall, questions_at


def test_every_question_has_its_answer_in_the_text() -> None:
    recall = draw_recall(16, 200, torch.Generator().manual_seed(0))
    asked = questions_at(200)
    for b in range(16):
        facts = {
            k: v
            for k, v in zip(
                recall.key[b].tolist(), recall.value[b].tolist(), strict=True
            )
            if v < long_range.VALUES
        }
        assert len(facts) == long_range.FACTS
        keys = recall.key[b, asked].tolist()
        assert [facts[k] for k in keys] == recall.answers[b].tolist()
        assert len(set(keys)) == long_range.QUESTIONS
        assert (recall.value[b, asked] == long_range.VALUES + 1).all()
        for question, key in enumerate(keys):
            where = (recall.key[b] == key).nonzero().flatten().tolist()
            other = next(w for w in where if not asked.start <= w < asked.stop)
            away = abs(other - asked.start - question)
            assert away == recall.distance[b, question].item() > 0
    has_noise = recall.noise < long_range.NOISE
    assert torch.equal(has_noise, recall.key == long_range.KEYS)


def test_near_and_far_are_about_as_frequent() -> None:
    draw = torch.Generator().manual_seed(0)
    distance = draw_recall(2000, long_range.LENGTH, draw).distance
    shares = [
        ((distance >= d) & (distance < 2 * d)).float().mean() for d in (8, 32, 64)
    ]
    assert max(shares) < 1.4 * min(shares)


@pytest.mark.parametrize("method", METHODS)
def test_reader_gives_logits_at_the_questions_and_learns(method: str) -> None:
    torch.manual_seed(0)
    reader = Reader(method, layers=1).to(device())
    assert isinstance(reader.layers[0], EncoderLayer)
    recall = draw_recall(2, long_range.LENGTH, torch.Generator().manual_seed(0))
    logits = reader(recall)
    assert logits.shape == (2, long_range.QUESTIONS, long_range.VALUES)
    logits.square().mean().backward()
    attention = reader.layers[0].self_attention
    assert attention.W_q.weight.grad.abs().sum() > 0
    assert torch.equal(attention.W_q.weight, attention.W_k.weight)


def test_the_questions_are_global_where_they_should_be() -> None:
    seen = {}
    for method in ("window", "window, questions global"):
        torch.manual_seed(0)
        reader = Reader(method, layers=1).to(device())
        draw = torch.Generator().manual_seed(0)
        recall = draw_recall(1, long_range.LENGTH, draw)
        before = reader(recall)
        recall.noise[0, 0] = (recall.noise[0, 0] + 1) % long_range.NOISE  # far away
        seen[method] = not torch.equal(reader(recall), before)
    assert seen == {"window": False, "window, questions global": True}


def test_training_repeats_and_an_unknown_method_is_refused() -> None:
    runs = [
        long_range.train_reader("linear", 3, steps=3, length=64)[1] for _ in range(2)
    ]
    assert runs[0] == runs[1] and len(runs[0]) == 3
    with pytest.raises(ValueError, match="method must be one of full, window"):
        Reader("sliding")


def test_recall_by_distance_counts_right_answers() -> None:
    class Knows(torch.nn.Module):
        def forward(self, recall):
            near = recall.distance < 16
            answers = torch.where(near, recall.answers, 0)
            return torch.nn.functional.one_hot(answers, long_range.VALUES).float()

    found = long_range.recall_by_distance(Knows(), batches=4)
    assert found["4"] == found["8"] == 1.0
    assert found["32"] < 0.3 and found["8"] > found["all"] > found["32"]
    assert "512" not in found


def test_the_stored_table_holds_every_method() -> None:
    table = long_range.stored_results()
    assert {method for method, _ in table} == set(METHODS)
    assert ("Linformer", long_range.LONG) not in table
    for runs in table.values():
        assert all(0 <= share <= 1 for run in runs for share in run.values())

    def mean(method: str, distance: str) -> float:
        runs = table[method, long_range.LENGTH]
        return sum(run[distance] for run in runs) / len(runs)

    assert mean("full", "128") > 0.9
    assert mean("window", "8") > 0.9 > 0.3 > mean("window", "64")
