"""The command that trains a language model on a user's text, and the one that writes with it."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from companion.generation.__main__ import load_language_model
from companion.generation.__main__ import main as write_on
from companion.models.gpt import GPT
from companion.training.lm import PRESETS, load_tokenizer, main, new_optimizer

ROOT = Path(__file__).parents[2]
TINY = (
    "--d-model 16 --num-heads 2 --num-layers 2 --length 16 --batch-size 4 --steps 12 "
    "--evaluate-every 4 --checkpoint-every 4 --tokenizer bpe:300 --quiet --sample 5"
).split()
# DDP and FSDP end in an average of two halves, which rounds otherwise than a sum of all.
CLOSE = {"rtol": 2e-5, "atol": 2e-6}


def text(tmp_path: Path) -> str:
    file = tmp_path / "text.txt"
    if not file.exists():
        words = "the cat sat on a mat and saw the dog that ran".split()
        draw = torch.Generator().manual_seed(0)
        picked = torch.randint(len(words), (3000,), generator=draw).tolist()
        lines = [
            " ".join(words[i] for i in picked[n : n + 8]) for n in range(0, 3000, 8)
        ]
        file.write_text("\n".join(lines), encoding="utf-8")
    return str(file)


def train(tmp_path: Path, out: str, *more: str) -> int:
    return main(["--text", text(tmp_path), "--out", str(tmp_path / out), *TINY, *more])


def torchrun(
    tmp_path: Path, out: str, processes: int, strategy: str, *more: str
) -> subprocess.Popen:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", str(processes), "-m", "companion.training.lm"),
        *("--text", text(tmp_path), "--out", str(tmp_path / out)),
        *("--strategy", strategy, *TINY, *more),
    ]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COMPANION_DEVICE": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def history(tmp_path: Path, out: str) -> list[dict[str, str]]:
    with (tmp_path / out / "history.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def losses(tmp_path: Path, out: str) -> torch.Tensor:
    return torch.tensor([float(row["loss"]) for row in history(tmp_path, out)])


def weights(tmp_path: Path, out: str) -> dict[str, torch.Tensor]:
    return load_file(tmp_path / out / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """A finished run of one process, in ``alone/``."""
    tmp_path = tmp_path_factory.mktemp("lm")
    assert train(tmp_path, "alone") == 0
    return tmp_path


def test_it_trains_and_leaves_all_that_it_promises(tmp_path, capsys):
    assert train(tmp_path, "run", "--steps", "60", "--lr", "0.01") == 0
    output = capsys.readouterr().out
    bits = float(re.search(r"([\d.]+) bits a byte", output)[1])
    assert 0.5 < bits < 3  # 11 words in random order: about log2(11) bits a word
    loss = losses(tmp_path, "run")
    assert len(loss) == 60 and loss[-10:].mean() < 0.75 * loss[:5].mean()
    measured = [row for row in history(tmp_path, "run") if row["validation_loss"]]
    assert [int(row["step"]) for row in measured] == list(range(4, 61, 4))
    model, tokenizer = load_language_model(tmp_path / "run")
    assert isinstance(model, GPT) and not model.training
    assert tokenizer.get_vocab_size() == model.token_embedding.num_embeddings
    assert tokenizer.decode(tokenizer.encode("the cat").ids) == "the cat"


def test_transformers_reads_the_checkpoint(alone):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.GPT2LMHeadModel.from_pretrained(alone / "alone" / "model")
    ours, tokenizer = load_language_model(alone / "alone")
    ids = torch.tensor([tokenizer.encode("the cat sat on").ids])
    with torch.no_grad():
        torch.testing.assert_close(
            ours.cpu()(ids), theirs(ids).logits, atol=1e-5, rtol=0
        )


def test_a_stopped_run_goes_on_to_the_same_weights(alone):
    assert train(alone, "halves", "--stop-after", "6") == 0
    assert len(history(alone, "halves")) == 6
    assert train(alone, "halves", "--resume") == 0
    assert torch.equal(losses(alone, "halves"), losses(alone, "alone"))
    for name, weight in weights(alone, "alone").items():
        assert torch.equal(weight, weights(alone, "halves")[name]), name


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_learn_what_one_does(alone, strategy):
    """In half batches, two to an update, so that averaging waits for the second."""
    halves = ("--batch-size", "2", "--accumulate", "2")
    output = finish(torchrun(alone, strategy, 2, strategy, *halves))
    assert output.count("parameters") == 1  # only one of them speaks
    torch.testing.assert_close(losses(alone, strategy), losses(alone, "alone"), **CLOSE)
    for name, weight in weights(alone, "alone").items():
        torch.testing.assert_close(weights(alone, strategy)[name], weight, **CLOSE)
    for row, expected in zip(
        history(alone, strategy), history(alone, "alone"), strict=True
    ):
        assert row["tokens"] == expected["tokens"]
        assert float(row["grad_norm"]) == pytest.approx(
            float(expected["grad_norm"]), rel=1e-4
        )


def test_a_sharded_checkpoint_resumes_on_another_number_of_processes(alone):
    finish(torchrun(alone, "two", 2, "fsdp", "--stop-after", "4"))
    saved = sorted((alone / "two" / "checkpoints" / "step-00000004").iterdir())
    assert sum(file.suffix == ".safetensors" for file in saved) == 2
    finish(torchrun(alone, "two", 1, "fsdp", "--resume"))
    torch.testing.assert_close(losses(alone, "two"), losses(alone, "alone"), **CLOSE)


def test_a_killed_process_ends_the_run_which_then_goes_on(alone):
    """The whole job stops and says which process died; the last checkpoint is good."""
    process = torchrun(alone, "killed", 2, "ddp", "--steps", "5000", "--lr", "0.001")
    checkpoints = alone / "killed" / "checkpoints"
    deadline = time.monotonic() + 240
    while not list(checkpoints.glob("step-*.pt")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(_worker(process.pid, rank=1), signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert re.search(r"rank\s*: 1 .*\n.*exitcode\s*: -9", output), output
    last = int(sorted(checkpoints.glob("step-*.pt"))[-1].stem[5:])
    options = ("--steps", "5000", "--lr", "0.001", "--stop-after", str(last + 4))
    finish(torchrun(alone, "killed", 2, "ddp", *options, "--resume"))
    assert len(history(alone, "killed")) == last + 4


def _worker(launcher: int, rank: int) -> int:
    """The process of ``rank`` among the children of torchrun."""
    import psutil

    for child in psutil.Process(launcher).children(recursive=True):
        if child.environ().get("RANK") == str(rank):
            return child.pid
    raise AssertionError("torchrun has no such child")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--strategy", "ddp"), "start them with torchrun"),
        (("--steps", "0"), "steps must be positive, but it is 0"),
        (("--tokenizer", "words"), "tokenizer must be 'gpt2', 'bytes', 'bpe:N'"),
        (("--tokenizer", "bpe:99"), "at least 257"),
        (("--length", "5000"), "must hold at least 25001 ids"),
        (("--length", "400", "--batch-size", "1"), "fewer than one window of 400"),
        (("--validation", "1"), "validation must be between 0 and 1"),
    ],
)
def test_errors_say_what_may_be(tmp_path, capsys, options, message):
    assert train(tmp_path, "run", *options) == 1
    assert message in capsys.readouterr().err


def test_missing_text(tmp_path, capsys):
    assert main(["--text", str(tmp_path / "none"), "--out", str(tmp_path / "o")]) == 1
    assert "there is no" in capsys.readouterr().err


def test_another_run_is_neither_written_over_nor_mixed_up(alone, capsys):
    before = weights(alone, "alone")
    assert train(alone, "alone") == 1
    assert "earlier run" in capsys.readouterr().err
    assert train(alone, "alone", "--resume", "--lr", "0.5") == 1
    assert "lr was 0.002 and is 0.5" in capsys.readouterr().err
    for name, weight in weights(alone, "alone").items():
        assert torch.equal(weight, before[name])


def test_only_matrices_decay():
    model = GPT(50, 16, 2, num_layers=1, max_seq_len=8)
    decaying, others = new_optimizer(model, 1e-3).param_groups
    assert decaying["weight_decay"] == 0.1 and others["weight_decay"] == 0
    assert min(p.ndim for p in decaying["params"]) == 2
    assert {p.ndim for p in others["params"]} == {1}
    number = len(decaying["params"]) + len(others["params"])
    assert number == len(list(model.parameters()))


def test_tokenizers_write_any_text(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("abc abc")
    for choice, size in (("bytes", 257), ("bpe:259", 259), ("gpt2", 50257)):
        tokenizer = load_tokenizer(choice, [file])
        assert tokenizer.get_vocab_size() == size
        strange = "Ωß 你\n\t🙂"
        assert tokenizer.decode(tokenizer.encode(strange).ids) == strange
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    again = load_tokenizer(str(tmp_path / "tokenizer.json"), [])
    assert again.encode("hello world").ids == tokenizer.encode("hello world").ids


def test_presets():
    with torch.device("meta"):
        preset = PRESETS["gpt2"]
        model = GPT(
            50257, preset.d_model, preset.num_heads, num_layers=preset.num_layers
        )
    assert sum(p.numel() for p in model.parameters()) == 124_439_808
    assert preset.length * preset.batch_size * preset.accumulate == 524_288


def test_writing_on(alone, capsys):
    options = ["--checkpoint", str(alone / "alone"), "--prompt", "the cat"]
    assert write_on([*options, "--tokens", "9", "--temperature", "0"]) == 0
    first = capsys.readouterr()
    assert first.out.startswith("the cat") and re.search(r"\d+ tokens, ", first.err)
    assert write_on([*options, "--tokens", "9", "--temperature", "0"]) == 0
    assert capsys.readouterr().out == first.out
    assert write_on([*options, "--tokens", "40", "--top-k", "5", "--seed", "3"]) == 0
    assert len(capsys.readouterr().out) > 20  # longer than the model's window


def test_writing_with_what_is_no_model(tmp_path, alone, capsys):
    assert write_on(["--checkpoint", str(tmp_path)]) == 1
    assert "config.json" in capsys.readouterr().err
    assert write_on(["--checkpoint", str(alone / "alone"), "--prompt", ""]) == 1
    assert "prompt must hold at least one token" in capsys.readouterr().err
