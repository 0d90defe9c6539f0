"""The benchmarks compare like with like, and their table says what it holds; no clock decides."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from companion import LLaMA
from companion.analysis import bench
from companion.training.lm import PRESETS
from tests.benchmarks import (
    __main__,
    attention,
    efficient,
    encoder,
    importing,
    language_models,
    machine,
    side_by_side,
    tokenization,
    translation,
)
from tests.benchmarks.language_models import FIRST, NEXT
from tests.benchmarks.side_by_side import Pair, Timed, compare

TINY = {"tiny": replace(PRESETS["tiny"], d_model=32, num_heads=4, num_layers=2)}
SIZES = {"tiny": (40, 2, 12)}


def results(pair: Pair) -> tuple[object, object]:
    """What the two ways give."""
    torch.manual_seed(0)
    ours = pair.ours[1]()
    torch.manual_seed(0)
    return ours, pair.reference[1]()


def tiny_llama() -> LLaMA:
    torch.manual_seed(0)
    model = LLaMA(50, 24, 6, 40, 2, 64, num_kv_heads=2, norm_eps=1e-5, tied_output=True)
    return model.eval()


def test_both_train_to_the_same_loss_and_gradients():
    (pair,) = language_models.training_pairs(TINY, SIZES)
    for _ in range(2):
        torch.testing.assert_close(*results(pair), atol=1e-5, rtol=0)
    assert pair.reference[0].startswith("GPT2LMHeadModel (")


def test_both_write_the_same_tokens():
    pairs = list(language_models.generation_pairs(TINY, SIZES, new_tokens=9))
    assert [pair.ours[0] for pair in pairs] == ["generate", "generate, unrolled"]
    for pair in pairs:
        ours, theirs = results(pair)
        assert ours.shape == (1, 25) and torch.equal(ours, theirs)


def test_both_llamas_write_the_same_tokens_and_time_the_same_parts():
    pairs = list(
        language_models.smollm2_pairs(tiny_llama(), (1, 3), (4, 11), new_tokens=5)
    )
    assert len(pairs) == 8  # two ways, one prompt and three, two lengths
    for pair in pairs:
        ours, theirs = results(pair)
        assert torch.equal(ours.result, theirs.result)
        assert set(ours.seconds) == set(theirs.seconds) == {FIRST, NEXT}
        assert pair.flops.keys() | pair.bytes.keys() == {FIRST, NEXT}


def test_the_clock_is_read_once_a_token():
    model, prompt = tiny_llama(), torch.tensor([[3, 4, 5]])
    for way in (
        language_models.our_way(model),
        language_models.their_way(language_models.as_transformers(model)),
    ):
        ticks: list[float] = []
        way(prompt, 6, ticks)
        assert len(ticks) == 6 and ticks == sorted(ticks)


def test_the_weights_of_smollm2_are_the_same_on_both_sides():
    model = tiny_llama()
    theirs = language_models.as_transformers(model)
    ids = torch.randint(50, (2, 9))
    with torch.no_grad():
        torch.testing.assert_close(model(ids), theirs(ids).logits, atol=1e-5, rtol=0)
    assert language_models.weight_bytes(model) == 4 * sum(
        p.numel() for p in model.parameters()
    )


def test_both_encoders_read_the_same():
    pairs = list(encoder.pairs(((4, 12, 16, 4, 2),)))
    assert len(pairs) == 2
    for pair in pairs:
        torch.testing.assert_close(*results(pair), atol=1e-5, rtol=0)


def test_both_translators_have_the_same_loss_and_stay_together():
    (pair,) = translation.pairs(((30, 16, 4, 2, 6, 8),), dropout=0.0)
    for _ in range(3):
        torch.testing.assert_close(*results(pair), atol=1e-4, rtol=0)


def test_attentions_agree():
    pairs = list(attention.pairs((16,)))
    assert len(pairs) == 8
    for pair in pairs:
        torch.testing.assert_close(*results(pair), atol=1e-5, rtol=0)


def test_efficient_attentions_have_the_shape_of_full_attention():
    pairs = list(efficient.pairs((128,)))
    assert [pair.ours[0] for pair in pairs] == 2 * list(efficient.NAMES)
    for pair in pairs:
        ours, full = (x.detach() for x in results(pair))
        assert ours.shape == full.shape and ours.isfinite().all()
        if pair.ours[0].startswith("window"):  # as wide as the text
            torch.testing.assert_close(ours, full, atol=1e-5, rtol=0)


def test_tokenizers_agree():
    pairs = list(tokenization.pairs(2_000))
    assert len(pairs) == 2
    for pair in pairs:
        ours, theirs = results(pair)
        assert len(ours) > 300 and ours == theirs


def test_only_what_is_taken_from_the_package_loads_pytorch():
    alone, taken = importing.pairs()
    assert alone.ours[1]() is False
    assert taken.ours[1]() is True and taken.reference[1]() is True


def test_without_a_gpu_there_is_no_gpu_row():
    assert torch.cuda.is_available() or list(language_models.gpu_pairs()) == []


def counted(name: str, calls: list[str]) -> tuple[str, object]:
    return name, lambda: calls.append(name)


def test_the_two_take_turns_and_the_order_changes():
    calls: list[str] = []
    pair = Pair(
        work="work", ours=counted("a", calls), reference=counted("b", calls), rounds=4
    )
    (row,) = compare("section", pair)
    assert "".join(calls) == "ab" + "ba" + "ab" + "ba" + "ab"
    assert (row.section, row.work, row.ours, row.reference) == (
        "section",
        "work",
        "a",
        "b",
    )
    assert row.fraction is None and row.limit == ""


def test_ratios_and_fractions_are_of_the_right_parts(monkeypatch):
    """With times that are made up: ours 2 s, theirs 6 s, the machine 100 bytes in 1 s."""
    monkeypatch.setitem(machine.AMOUNT, machine.READING, lambda: 100)
    monkeypatch.setattr(machine, "read", lambda: Timed(None, {side_by_side.WHOLE: 1.0}))
    pair = Pair(
        work="work",
        ours=("a", lambda: Timed(None, {"first": 3.0, "next": 2.0})),
        reference=("b", lambda: Timed(None, {"first": 3.0, "next": 6.0})),
        bytes={"next": 150},
        rounds=3,
    )
    first, following = compare("section", pair)
    assert (first.work, following.work) == ("work, first", "work, next")
    assert (first.ratio, first.fraction, first.limit) == (1.0, None, "")
    assert (following.ratio, following.low, following.high) == (3.0, 3.0, 3.0)
    assert following.milliseconds == 2000 and following.limit == machine.READING
    assert following.fraction == pytest.approx(0.75)
    assert following.reference_fraction == pytest.approx(0.25)
    assert following.reference_milliseconds == 6000


def test_the_table_is_printed_and_kept(tmp_path, monkeypatch, capsys):
    def pairs():
        yield Pair(work="w", ours=("a", list), reference=("b", list), rounds=2)

    monkeypatch.setattr(__main__, "SECTIONS", {"one": pairs, "two": pairs})
    to_json, to_csv = tmp_path / "deep" / "bench.json", tmp_path / "bench.csv"
    __main__.main(["two", "one", "--json", str(to_json), "--csv", str(to_csv)])
    printed = capsys.readouterr().out
    assert printed.index("\ntwo\n") < printed.index("\none\n")
    assert printed.count("w: a / b") == 2
    kept = json.loads(to_json.read_text())
    assert [row["section"] for row in kept["rows"]] == ["two", "one"]
    assert any("python -m tests.benchmarks two one" in line for line in kept["about"])
    rows = bench.stored_rows(to_csv)
    assert [(row.section, row.work, row.fraction) for row in rows] == [
        ("two", "w", None),
        ("one", "w", None),
    ]
    for row, line in zip(rows, kept["rows"], strict=True):
        assert row.ratio == pytest.approx(line["ratio"], rel=1e-3)


def test_an_unknown_section_is_refused(capsys):
    with pytest.raises(SystemExit):
        __main__.main(["speed"])
    assert "training, generation, smollm2" in capsys.readouterr().err


def test_the_probes_of_the_machine_do_what_they_count():
    product, side = machine.multiply(), len(machine.multiply())
    assert machine.AMOUNT[machine.PRODUCT]() == 2 * side**3 and product.ndim == 2
    assert machine.AMOUNT[machine.READING]() == 4 * machine._large().numel()
    assert machine.read() == machine._large().max()
