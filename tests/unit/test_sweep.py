"""The sweep: which runs there are, what each does, and that it goes on where it stopped."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

from companion.analysis import sweep
from companion.analysis.flops import count_parameters
from companion.analysis.sweep import Setting, Text

TINY = Setting("grid", 16, 1, 2, 2048)


@pytest.fixture
def text():
    ids = np.random.default_rng(0).integers(0, 40, 5000).astype(np.uint16)
    return Text(ids[:4000], ids[4000:])


def test_the_grid_is_wide_enough():
    grid = [s for s in sweep.settings() if s.kind == "grid"]
    assert len({(s.d_model, s.tokens) for s in grid}) >= 24
    sizes = [count_parameters(sweep.new_model(s)).non_embedding for s in grid]
    assert max(sizes) / min(sizes) > 30
    assert max(sweep.TOKENS) / min(sweep.TOKENS) >= 20
    assert Counter(s.seed for s in grid) == {0: 25, 1: 4, 2: 4}
    assert {s.rate for s in grid} == {sweep.BASE_RATE}


def test_shapes_have_about_the_same_number_of_parameters():
    sizes = [
        count_parameters(sweep.new_model(Setting("shape", *shape, 1000))).non_embedding
        for shape in sweep.SHAPES
    ]
    assert max(sizes) / min(sizes) < 1.06


def test_every_setting_has_its_row():
    assert sweep.missing(sweep.settings()) == []
    rows = sweep.stored_rows()
    assert len(rows) == len(sweep.settings())
    for row in rows:
        assert 0 < row["loss"] < math.log(sweep.VOCAB_SIZE)
        shares = [row[f"right_{span}"] for span in sweep.SPANS]
        assert shares == sorted(shares, reverse=True)


def test_the_base_rate_was_best_at_the_base_width():
    losses: dict[float, list[float]] = {}
    for row in sweep.stored_rows("rate"):
        if row["d_model"] == sweep.BASE_WIDTH:
            losses.setdefault(row["rate"], []).append(row["loss"])
    assert set(map(len, losses.values())) == {3}
    assert min(losses, key=lambda rate: np.mean(losses[rate])) == sweep.BASE_RATE


def test_runs_count_embeddings_or_not():
    without = sweep.stored_runs("grid", embeddings=False)
    for run, counted in zip(without, sweep.stored_runs("grid"), strict=True):
        assert counted.parameters > run.parameters
        assert counted[1:] == run[1:]
    first = sweep.new_model(sweep.settings()[0])
    parts = count_parameters(first)
    assert parts.embedding == sweep.embedding_parameters(sweep.BASE_WIDTH)


def test_held_out_text_is_not_trained_on():
    text = sweep.load_text()
    assert len(text.train) > sweep.TOKENS[-1] + 2 * sweep.LENGTH
    train = text.train.tobytes()
    starts = np.linspace(0, len(text.held_out) - 65, 50).astype(int)
    assert not any(text.held_out[s : s + 65].tobytes() in train for s in starts)


def test_the_rate_falls_with_the_width_in_hidden_matrices_only():
    model = sweep.new_model(Setting("rate", 128, 2, 8, 1000))
    hidden, others = sweep.new_optimizer(model, 0.01).param_groups
    assert hidden["lr"] == pytest.approx(0.01 * 32 / 128)
    assert others["lr"] == 0.01
    assert all(p.ndim == 2 for p in hidden["params"])
    assert len(hidden["params"]) == 2 * 6
    tables = {
        id(model.token_embedding.weight),
        id(model.positions.position_embeddings.weight),
    }
    assert tables <= {id(p) for p in others["params"]}
    flat = sweep.new_optimizer(model, 0.01, carried=False).param_groups
    assert [group["lr"] for group in flat] == [0.01, 0.01]


def test_training_lowers_the_loss_and_is_repeatable(text):
    before = sweep.score(sweep.new_model(TINY), text, windows=10).loss
    first = sweep.score(sweep.train(TINY, text), text, windows=10)
    again = sweep.score(sweep.train(TINY, text), text, windows=10)
    assert first == again
    assert first.loss < before


def test_the_course_of_a_run_ends_where_the_run_does(text):
    losses = sweep.course(TINY, text, at=(1024, 2048))
    assert list(losses) == [1024, 2048]
    assert losses[2048] == sweep.score(sweep.train(TINY, text), text).loss
    assert losses[1024] != losses[2048]


def test_more_tokens_than_text(text):
    with pytest.raises(
        ValueError, match=r"tokens must be at most 3,872, .* it is 4,000"
    ):
        sweep.train(Setting("grid", 16, 1, 2, 4000), text)


def test_a_span_is_right_if_all_of_it_is():
    right = torch.tensor([[1, 1, 0, 1, 1, 1]], dtype=torch.bool)
    shares = [sweep._share_of_spans(right, span) for span in (1, 2, 3)]
    assert shares == pytest.approx([5 / 6, 3 / 5, 1 / 4])


def test_it_goes_on_where_it_stopped(monkeypatch, tmp_path, text):
    monkeypatch.setattr(sweep, "load_text", lambda: text)
    runs = [TINY, Setting("grid", 16, 1, 2, 3072), Setting("rate", 16, 1, 2, 3072)]
    monkeypatch.setattr(sweep, "settings", lambda: runs)
    table = tmp_path / "sweep.csv"
    sweep.main(["--out", str(table), "--kinds", "rate"])
    (only,) = sweep.stored_rows(path=table)
    assert only["tokens"] == 3072
    assert sweep.missing(runs, table) == runs[:2]
    sweep.main(["--out", str(table)])
    before = table.read_text(encoding="utf-8")
    assert sweep.missing(runs, table) == []
    assert [row["tokens"] for row in sweep.stored_rows("grid", table)] == [2048, 3072]
    sweep.main(["--out", str(table)])
    assert table.read_text(encoding="utf-8") == before
