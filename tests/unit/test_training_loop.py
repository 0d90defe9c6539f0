"""The loop: what it records, when it stops, and what it refuses."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import companion.training.recipes as recipes
from companion import seed_everything
from companion.models.transformer import Transformer
from companion.training import (
    Checkpoints,
    TokenBatches,
    Trainer,
    TrainingError,
    collate_pairs,
    evaluate,
    load_weights,
    train_transformer,
    transformer_lr,
    translation_loss,
)
from companion.training.checkpoints import rng_state
from tests.training_cases import VOCAB, SmallTranslator, reversals, small_trainer

VALIDATION = TokenBatches(reversals(10, seed=1), 40, shuffle=False)


def test_the_history_has_a_row_for_each_update() -> None:
    trainer = small_trainer(validation=VALIDATION, evaluate_every=4)
    history = trainer.run(num_steps=10)
    assert history is trainer.history
    assert [row["step"] for row in history] == list(range(1, 11))
    assert trainer.step == 10
    per_epoch = len(TokenBatches(reversals(40), 40))
    assert [row["epoch"] for row in history] == [i // per_epoch for i in range(10)]
    assert history[0]["lr"] == pytest.approx(0.01 / 5)
    assert all(row["grad_norm"] > 0 and row["tokens"] > 0 for row in history)
    assert [r["step"] for r in history if "validation_loss" in r] == [4, 8]
    assert not trainer.model.training


def test_it_learns() -> None:
    history = small_trainer().run(num_epochs=20)
    start, end = (
        sum(r["loss"] for r in history[s]) / 5 for s in (slice(5), slice(-5, None))
    )
    assert end < start - 0.4
    per_epoch = [sum(r["epoch"] == e for r in history) for e in range(20)]
    assert min(per_epoch) >= 5
    assert history[-1]["epoch"] == 19


def test_a_run_can_be_made_longer() -> None:
    at_once = small_trainer()
    at_once.run(num_steps=15)
    in_parts = small_trainer()
    for steps in (2, 9, 15, 15):
        in_parts.run(num_steps=steps)
    assert in_parts.history == at_once.history


def test_an_epoch_ends_with_a_smaller_update() -> None:
    pairs = reversals(10)
    loader = DataLoader(pairs, 2, collate_fn=collate_pairs)  # 5 batches
    history = small_trainer(batches=loader, accumulate=2).run(num_epochs=2)
    assert [row["epoch"] for row in history] == [0, 0, 0, 1, 1, 1]
    assert history[2]["tokens"] == sum(len(t) - 1 for _, t in pairs[8:])
    assert sum(r["tokens"] for r in history[:3]) == sum(len(t) - 1 for _, t in pairs)


def test_gradients_are_clipped() -> None:
    def norms_of_updates(max_grad_norm: float | None) -> tuple[float, float]:
        seed_trainer = small_trainer()
        optimizer = torch.optim.SGD(seed_trainer.model.parameters(), lr=1.0)
        before = [p.detach().clone() for p in seed_trainer.model.parameters()]
        trainer = Trainer(
            model=seed_trainer.model,
            optimizer=optimizer,
            batches=seed_trainer.batches,
            loss=translation_loss,
            max_grad_norm=max_grad_norm,
            progress=False,
        )
        (row,) = trainer.run(num_steps=1)
        after = trainer.model.parameters()
        moved = [(a - b).norm() for a, b in zip(after, before, strict=True)]
        return row["grad_norm"], torch.stack(moved).norm().item()

    norm, moved = norms_of_updates(None)
    assert moved == pytest.approx(norm, rel=1e-5)
    assert norm > 0.05
    same_norm, moved = norms_of_updates(0.05)
    assert same_norm == pytest.approx(norm, rel=1e-5)  # before clipping
    assert moved == pytest.approx(0.05, rel=1e-3)


def test_it_stops_early_and_the_best_is_kept(tmp_path) -> None:
    losses = iter([3.0, 2.0, 2.5, 2.0, 2.25, 1.0])
    measured = []

    def validation_loss(model: nn.Module, batch: Any) -> tuple[Tensor, int]:
        measured.append([p.detach().clone() for p in model.parameters()])
        return torch.tensor(next(losses)), 1

    trainer = small_trainer(
        validation=[torch.zeros(1)],
        validation_loss=validation_loss,
        evaluate_every=2,
        patience=3,
        checkpoints=Checkpoints(tmp_path),
    )
    history = trainer.run(num_steps=100)
    assert [r["validation_loss"] for r in history[1::2]] == [3.0, 2.0, 2.5, 2.0, 2.25]
    assert len(history) == 10
    assert trainer.run(num_steps=100) is history  # stays stopped
    best = SmallTranslator()
    load_weights(best, trainer.checkpoints.best)
    for p, expected in zip(best.parameters(), measured[1], strict=True):
        assert torch.equal(p, expected)


def test_measuring_changes_nothing() -> None:
    plain = small_trainer()
    plain.run(num_steps=8)
    loader = DataLoader(reversals(9), 2, shuffle=True, collate_fn=collate_pairs)
    measured = small_trainer(validation=loader, evaluate_every=1)
    history = measured.run(num_steps=8)
    assert all(row.pop("validation_loss") > 0 for row in history)
    assert history == plain.history


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_counts_every_token_alike(training: bool) -> None:
    model = SmallTranslator(dropout=0.5).train(training)
    pairs = reversals(20)
    one = evaluate(model, [collate_pairs(pairs)], translation_loss)
    before = rng_state()["torch"]
    unequal = [collate_pairs(pairs[:1]), collate_pairs(pairs[1:])]
    assert evaluate(model, unequal, translation_loss) == pytest.approx(one, rel=1e-5)
    assert model.training is training
    assert torch.equal(rng_state()["torch"], before)
    with pytest.raises(ValueError, match=r"at least one token"):
        evaluate(model, [], translation_loss)


def poisoned(at: int, what: str) -> Any:
    """`translation_loss` that goes wrong at batch number ``at``."""
    calls = 0

    def loss(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        nonlocal calls
        calls += 1
        value, tokens = translation_loss(model, batch)
        if calls == at and what == "gradient":
            value = value + (0 * model.output.bias.sum()).sqrt()  # 0, of slope inf * 0
        elif calls == at:
            value = value * float(what)
        return value, tokens

    return loss


@pytest.mark.parametrize("what", ["nan", "inf", "gradient"])
def test_what_is_not_finite_stops_the_run(what: str, tmp_path) -> None:
    trainer = small_trainer(
        loss=poisoned(7, what), checkpoints=Checkpoints(tmp_path), checkpoint_every=2
    )
    with pytest.raises(TrainingError) as caught:
        trainer.run(num_steps=20)
    message = str(caught.value)
    good = tmp_path / "step-00000006.pt"
    lr, before = trainer.optimizer.param_groups[0]["lr"], trainer.history[-1]
    assert "not a finite number at step 7: " in message
    assert f"learning rate {lr:.4g}, gradient norm nan" in message
    assert f"step before had loss {before['loss']:.4g}" in message
    assert f"last good checkpoint is {good}" in message
    assert caught.value.checkpoint == good
    assert caught.value.row["step"] == 7
    assert trainer.step == 6
    assert all(p.isfinite().all() for p in trainer.model.parameters())
    model = SmallTranslator()
    load_weights(model, good)
    for ours, saved in zip(trainer.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, saved)


def test_weights_that_are_not_finite_are_not_saved(tmp_path) -> None:
    """An update can spoil the weights; the loss would tell only a step later."""
    trainer = small_trainer(
        scheduler=None, checkpoints=Checkpoints(tmp_path), checkpoint_every=1
    )
    trainer.run(num_steps=3)
    trainer.optimizer.param_groups[0]["lr"] = math.inf
    with pytest.raises(TrainingError, match=r"a weight after .* step 4: .* rate inf"):
        trainer.run(num_steps=9)
    assert trainer.checkpoints.paths()[-1].name == "step-00000003.pt"


def test_a_validation_loss_that_is_not_finite_stops_the_run() -> None:
    trainer = small_trainer(
        validation=VALIDATION, validation_loss=poisoned(1, "nan"), evaluate_every=2
    )
    with pytest.raises(TrainingError, match=r"step 2: .*validation loss nan"):
        trainer.run(num_steps=9)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_precision(precision: str, dtype: torch.dtype) -> None:
    """The products are in ``dtype``, the weights stay in fp32, and it learns alike."""
    seen = set()

    def loss(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        with_hook = model.output.register_forward_hook(
            lambda module, inputs, output: seen.add(output.dtype)
        )
        result = translation_loss(model, batch)
        with_hook.remove()
        return result

    def run(precision: str) -> Trainer:
        torch.manual_seed(0)
        trainer = small_trainer(
            model=SmallTranslator(dropout=0.0),
            batches=[collate_pairs(reversals(40))],
            loss=loss,
            precision=precision,
            validation=VALIDATION,
            evaluate_every=20,
        )
        trainer.run(num_steps=20)
        return trainer

    exact = run("fp32")
    seen.clear()
    trainer = run(precision)
    assert seen == {dtype}
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
    assert exact.history[-1]["loss"] < exact.history[0]["loss"] - 0.2
    for name in ("loss", "tokens"):
        assert [row[name] for row in trainer.history] == pytest.approx(
            [row[name] for row in exact.history], abs=0.02
        )


def test_an_overflow_of_fp16_is_no_step() -> None:
    """The scale is halved until the gradients fit, and the schedule waits for it."""

    def loss(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        value, tokens = translation_loss(model, batch)
        return 100.0 * value, tokens

    trainer = small_trainer(loss=loss, precision="fp16")
    history = trainer.run(num_steps=5)
    per_epoch = len(trainer.batches)
    done = trainer._epoch * per_epoch + trainer._batch
    assert done > 5  # batches were passed over
    assert trainer._scaler.get_scale() == 65536.0 / 2 ** (done - 5)
    assert [row["step"] for row in history] == [1, 2, 3, 4, 5]
    assert trainer.scheduler.last_epoch == 5
    assert all(math.isfinite(row["grad_norm"]) for row in history)


def test_gradients_that_no_scale_can_save_stop_the_run() -> None:
    def loss(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        value, tokens = translation_loss(model, batch)
        return value + (0 * model.output.bias.sum()).sqrt(), tokens

    with pytest.raises(TrainingError, match=r"gradient is not a finite .* step 1"):
        small_trainer(loss=loss, precision="fp16").run(num_epochs=50)


def test_compile_is_a_switch(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """The compiled model runs; the plain one is what is saved, and what comes out."""
    real, compiled = torch.compile, []

    def with_quick_backend(model: nn.Module) -> nn.Module:
        compiled.append(real(model, backend="eager"))
        return compiled[-1]

    called = set()

    def loss(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        called.add(model)
        return translation_loss(model, batch)

    monkeypatch.setattr(torch, "compile", with_quick_backend)
    options = {"validation": VALIDATION, "evaluate_every": 2, "loss": loss}
    plain = small_trainer(**options)
    plain.run(num_steps=4)
    assert not compiled
    called.clear()
    checkpoints = Checkpoints(tmp_path)
    trainer = small_trainer(compile=True, checkpoints=checkpoints, **options)
    trainer.run(num_steps=4)
    assert called == {compiled[0]}
    assert not trainer.model.training
    load_weights(SmallTranslator(), checkpoints.paths()[-1])
    assert [r["loss"] for r in trainer.history] == pytest.approx(
        [r["loss"] for r in plain.history], abs=1e-5
    )


def test_the_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    small_trainer(progress=True).run(num_steps=6)
    shown = capsys.readouterr().err
    for part in ("6/6", "loss=", "lr=", "tokens/s"):
        assert part in shown
    small_trainer(progress=True, batches=[collate_pairs(reversals(4))] * 3).run(
        num_epochs=4
    )
    assert "12/12" in capsys.readouterr().err
    small_trainer(progress=False).run(num_steps=2)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"accumulate": 0}, ValueError, "accumulate must be at least 1"),
        ({"checkpoint_every": 0}, ValueError, "checkpoint_every must be at least 1"),
        ({"precision": "fp8"}, ValueError, "precision must be .* but it is 'fp8'"),
        ({"max_grad_norm": 0.0}, ValueError, "max_grad_norm must be positive or None"),
        ({"validation": VALIDATION}, ValueError, "need each other"),
        ({"evaluate_every": 3}, ValueError, "need each other"),
        ({"patience": 3}, ValueError, "patience needs validation"),
        ({"batches": iter([1])}, TypeError, "batches must be .* iterator, which ends"),
    ],
)
def test_options_that_make_no_sense(
    options: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        small_trainer(**options)


def test_runs_that_make_no_sense() -> None:
    trainer = small_trainer()
    for wrong in ({}, {"num_steps": 1, "num_epochs": 1}):
        with pytest.raises(ValueError, match=r"either num_steps or num_epochs"):
            trainer.run(**wrong)
    with pytest.raises(ValueError, match=r"no batch in epoch 0"):
        small_trainer(batches=[]).run(num_steps=1)
    mean = small_trainer(loss=lambda model, batch: translation_loss(model, batch)[0])
    with pytest.raises(TypeError, match=r"must give a tuple .* gives a Tensor"):
        mean.run(num_steps=1)


def test_train_transformer_has_the_hyper_parameters_of_the_paper(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainers = []

    class Watched(Trainer):
        def __post_init__(self) -> None:
            trainers.append(self)
            super().__post_init__()

    monkeypatch.setattr(recipes, "Trainer", Watched)
    model = SmallTranslator(dropout=0.0)
    before = model.output.weight.detach().clone()
    batches = TokenBatches(reversals(20, seed=3), 40)
    history = train_transformer(
        model, batches, num_steps=3, validation=VALIDATION, evaluate_every=1,
        progress=False,
    )  # fmt: skip
    (trainer,) = trainers
    group = trainer.optimizer.param_groups[0]
    assert isinstance(trainer.optimizer, torch.optim.Adam)
    assert (group["betas"], group["eps"]) == ((0.9, 0.98), 1e-9)
    assert trainer.max_grad_norm == 1.0
    assert [r["lr"] for r in history] == [transformer_lr(s, 8, 4000) for s in (1, 2, 3)]
    # No update is spent at the rate 0.
    assert not torch.equal(model.output.weight, before)

    batch = collate_pairs(reversals(5))
    smoothed, plain = (translation_loss(model, batch, smoothing=s)[0] for s in (0.1, 0))
    assert trainer.loss(model, batch)[0] == smoothed
    assert trainer.validation_loss(model, batch)[0] == plain


def test_train_transformer_teaches_a_transformer_to_reverse() -> None:
    """Guessing among the nine tokens would cost two nats a token."""
    seed_everything(0)
    model = Transformer(VOCAB, VOCAB, 32, 2, 64, 1, 1)
    history = train_transformer(
        model,
        TokenBatches(reversals(300), 400),
        num_steps=200,
        d_model=32,
        warmup_steps=80,
        validation=VALIDATION,
        evaluate_every=200,
        progress=False,
    )
    assert history[-1]["validation_loss"] < 1.2


def test_train_transformer_takes_padding_from_its_batches() -> None:
    def train(batches: Any, **options: Any) -> list[dict]:
        torch.manual_seed(0)
        model = SmallTranslator(dropout=0.0)
        return train_transformer(
            model, batches, 1, d_model=8, progress=False, **options
        )

    pairs = [p for p in reversals(30) if 11 not in p[0]]
    as_zero = train(TokenBatches(pairs, 40))
    as_eleven = train(TokenBatches(pairs, 40, pad_id=11))
    listed = train(list(TokenBatches(pairs, 40, pad_id=11)), pad_id=11)
    for history in (as_eleven, listed):
        assert [r["tokens"] for r in history] == [r["tokens"] for r in as_zero]
        assert [r["loss"] for r in history] == pytest.approx(
            [r["loss"] for r in as_zero], rel=1e-5
        )


def test_train_transformer_needs_a_width() -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"d_model must be given, because this Linear"):
        train_transformer(model, [], 1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_on_a_gpu(precision: str, tmp_path) -> None:
    """Batches follow the model there, and a resumed run draws the same dropout."""

    def trainer(**options: Any) -> Trainer:
        model = SmallTranslator().to("cuda")
        return small_trainer(
            model=model,
            precision=precision,
            checkpoints=Checkpoints(tmp_path / options.pop("folder")),
            loss=partial(translation_loss, smoothing=0.1),
            **options,
        )

    expected = [r["loss"] for r in trainer(folder="a").run(num_steps=20)]
    trainer(folder="b").run(num_steps=9)
    torch.cuda.manual_seed(99)
    resumed = trainer(folder="b", resume=True).run(num_steps=20)
    assert [r["loss"] for r in resumed] == pytest.approx(expected, abs=1e-4)
