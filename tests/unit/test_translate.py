"""The command that trains a translator on a user's text."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from companion.data.bpe import load_bpe, train_bpe
from companion.data.parallel import Pair
from companion.models.transformer import Transformer
from companion.training import load_checkpoint
from companion.training.translate import main, score, translate_pairs

ROOT = Path(__file__).parents[2]
COLORS = {"rot": "red", "blau": "blue", "grün": "green", "gelb": "yellow"}
THINGS = {
    "haus": "house", "ball": "ball", "hund": "dog", "auto": "car", "tisch": "table",
    "stuhl": "chair", "baum": "tree", "buch": "book", "vogel": "bird", "schiff": "ship",
}  # fmt: skip


def lines() -> list[str]:
    """ "rot haus" is "red house", for all colors and things."""
    return [
        f"{color} {thing}\t{COLORS[color]} {THINGS[thing]}"
        for color in COLORS
        for thing in THINGS
    ]


TINY = (
    "--d-model 16 --heads 2 --layers 1 --vocab-size 60 --max-tokens 64 --warmup-steps 10 "
    "--evaluate-every 10 --checkpoint-every 10 --test 0.2 --quiet"
).split()


def write(path: Path, texts: list[str]) -> str:
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return str(path)


def train(tmp_path: Path, *more: str, texts: list[str] | None = None) -> int:
    pairs = write(tmp_path / "pairs.tsv", lines() if texts is None else texts)
    out = [] if "--out" in more else ["--out", str(tmp_path / "run")]
    return main(["--pairs", pairs, *out, *TINY, *more])


def weights(run: Path) -> dict[str, torch.Tensor]:
    newest = sorted((run / "checkpoints").glob("step-*.pt"))[-1]
    return load_checkpoint(newest)["model"]


def test_it_trains_scores_and_shows(tmp_path, capsys) -> None:
    assert train(tmp_path, "--steps", "30", "--samples", "3") == 0
    printed = capsys.readouterr().out
    assert "40 lines: 40 distinct pairs" in printed
    assert re.search(r"pairs: 28 training, 4 validation, 8 test", printed)
    assert re.search(r"30 steps, lowest validation loss \d\.\d+", printed)
    assert re.search(
        r"test, 4 beams: exact match [\d.]+%, BLEU [\d.]+, chrF [\d.]+", printed
    )
    assert len(re.findall(r"^  [=≠] \w+ \w+$", printed, flags=re.M)) == 3
    run = tmp_path / "run"
    rows = (run / "test.tsv").read_text(encoding="utf-8").splitlines()
    assert rows[0] == "source\treference\ttranslation" and len(rows) == 9
    scores = json.loads((run / "scores.json").read_text())
    assert set(scores) == {"exact", "bleu", "chrf"}
    # The vocabulary is that of the training part alone.
    held_out = {row.split("\t")[0] for row in rows[1:]}
    training = [text for line in lines() for text in [line.split("\t")[0]]]
    assert held_out < set(training)
    assert load_bpe(run / "bpe.json").vocab_size <= 60


@pytest.mark.slow
def test_it_learns(tmp_path) -> None:
    numbers = {"null": "zero", "eins": "one", "zwei": "two", "drei": "three"}
    numbers["vier"] = "four"
    texts = [
        f"{' '.join(triple)}\t{' '.join(numbers[word] for word in triple)}"
        for triple in itertools.product(numbers, repeat=3)
    ]
    options = "--steps 400 --d-model 32 --dropout 0 --patience 99 --max-tokens 256"
    options += " --warmup-steps 50 --lr-factor 0.3 --vocab-size 100"
    assert train(tmp_path, *options.split(), texts=texts) == 0
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores["exact"] >= 0.5  # triples that it has never seen


def test_bad_lines_are_named(tmp_path, capsys) -> None:
    texts = lines()
    texts.insert(4, "no tab in here")
    texts.insert(9, "a\tb\tc")
    texts.insert(14, "leer\t ")
    texts.append(texts[0])
    assert train(tmp_path, "--steps", "2", texts=texts) == 0
    printed = capsys.readouterr().out
    assert "44 lines: 40 distinct pairs" in printed
    assert "repeat an earlier pair: 44" in printed
    for line in (5, 10, 15):
        assert f"line {line}: " in printed
    left_out = (tmp_path / "run" / "left_out.txt").read_text(encoding="utf-8")
    assert [row.split(":")[0] for row in left_out.splitlines()] == [
        "line 5",
        "line 10",
        "line 15",
    ]


def test_pairs_that_are_too_long_are_named(tmp_path, capsys) -> None:
    texts = lines()
    texts.insert(2, f"{'rot ' * 40}haus\t{'red ' * 40}house")
    assert train(tmp_path, "--steps", "2", "--max-length", "30", texts=texts) == 0
    printed = capsys.readouterr().out
    # Where the split puts it in the test, it is translated as far as the model goes.
    assert re.search(r"1 pairs longer than 30 tokens .* lines 3", printed) or (
        "rot rot" in (tmp_path / "run" / "test.tsv").read_text(encoding="utf-8")
    )


def test_two_files(tmp_path, capsys) -> None:
    sides = [line.split("\t") for line in lines()]
    source = write(tmp_path / "a.de", [a for a, _ in sides])
    target = write(tmp_path / "a.en", [b for _, b in sides])
    out = str(tmp_path / "run")
    call = ["--source", source, "--target", target, "--out", out, "--steps", "2", *TINY]
    assert main(call) == 0
    write(tmp_path / "a.en", [b for _, b in sides][1:])
    assert main([*call[:4], "--out", out + "2", *TINY]) == 2
    assert re.search(r"40 .*39|39 .*40", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give --pairs FILE.tsv, or --source FILE and --target FILE"),
        (["--pairs", "p.tsv", "--source", "s.de"], "give either --pairs or"),
        (["--source", "s.de"], "--source FILE and --target FILE"),
        (["--pairs", "missing.tsv"], "missing.tsv"),
    ],
)
def test_bad_arguments(arguments, says, capsys) -> None:
    assert main(arguments) == 2
    assert says in capsys.readouterr().err


def test_too_few_pairs(tmp_path, capsys) -> None:
    assert train(tmp_path, texts=lines()[:3]) == 2
    assert "part of 3 pairs is empty; give more pairs" in capsys.readouterr().err


def test_another_run_is_not_touched(tmp_path, capsys) -> None:
    assert train(tmp_path, "--steps", "2") == 0
    assert train(tmp_path, "--steps", "2") == 2
    assert "go on with --resume" in capsys.readouterr().err
    assert train(tmp_path, "--steps", "4", "--resume", "--dropout", "0.3") == 2
    assert "dropout was 0.1 and is 0.3" in capsys.readouterr().err
    assert train(tmp_path, "--resume", texts=lines()[1:]) == 2
    assert "holds another run: text was" in capsys.readouterr().err


def test_a_longer_run_goes_on_from_a_shorter_one(tmp_path) -> None:
    assert train(tmp_path, "--steps", "20") == 0
    assert train(tmp_path, "--steps", "34", "--resume") == 0
    whole = tmp_path / "whole"
    assert train(tmp_path, "--steps", "34", "--out", str(whole)) == 0
    ours, theirs = weights(tmp_path / "run"), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_killed_and_resumed_it_ends_with_the_same_weights(tmp_path) -> None:
    pairs = write(tmp_path / "pairs.tsv", lines())
    call = [sys.executable, "-m", "companion.training.translate", "--pairs", pairs]
    options = {"cwd": ROOT, "env": {**os.environ, "OMP_NUM_THREADS": "1"}}
    steps = ["--steps", "60", *TINY]

    killed = tmp_path / "killed"
    process = subprocess.Popen([*call, "--out", str(killed), *steps], **options)
    deadline = time.monotonic() + 120
    while not list(killed.glob("checkpoints/step-*.pt")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    if os.name == "posix":
        assert process.returncode == -signal.SIGKILL
    assert not (killed / "scores.json").exists()

    for out in (killed, tmp_path / "whole"):
        again = [*call, "--out", str(out), *steps, "--resume"]
        subprocess.run(again, check=True, **options)
    ours, theirs = weights(killed), weights(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    results = [(tmp_path / run / "test.tsv").read_text() for run in ("killed", "whole")]
    assert results[0] == results[1]


def test_scores() -> None:
    right = ["a red house on the hill", "the dog"]
    assert score(right, right) == pytest.approx((1.0, 100.0, 100.0))
    half = score(["a red house on the hill", "a cat"], right)
    assert half.exact == 0.5 and 0 < half.bleu < 100 and 0 < half.chrf < 100
    with pytest.raises(ValueError, match="equally many and at least one"):
        score([], [])
    with pytest.raises(ValueError, match="but they are 1 and 2"):
        score(["a"], right)


def test_translations_come_in_order_and_do_not_depend_on_the_batch() -> None:
    pairs = [Pair(*line.split("\t")) for line in lines()]
    tokenizer = train_bpe([t for p in pairs for t in (p.source, p.target)], 60)
    torch.manual_seed(0)
    model = Transformer(
        tokenizer.vocab_size, tokenizer.vocab_size, 16, 2, 32, 1, 1, 64
    ).double()
    mixed = [pairs[i] for i in (7, 0, 31, 12, 22, 5)]
    together = translate_pairs(model, tokenizer, mixed)
    alone = [translate_pairs(model, tokenizer, [pair])[0] for pair in mixed]
    # One that never ends is cut by the longest source of its batch.
    for one, other in zip(together, alone, strict=True):
        assert one.startswith(other) or other.startswith(one)
    assert translate_pairs(model, tokenizer, mixed, batch=1) == alone
    uncached = translate_pairs(model, tokenizer, mixed, use_cache=False)
    assert uncached == together
