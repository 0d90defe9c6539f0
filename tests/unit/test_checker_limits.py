"""Endless loops, huge tensors and floods of text get a report and leave the kernel be."""

from __future__ import annotations

import sys
import threading
import time

import pytest
import torch

from companion.exercises import Verdict, check, limits
from companion.exercises.limits import TookTooLong, within_limits
from companion.exercises.memory import TENSOR_NUMBERS, memory_limit


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch):
    monkeypatch.setattr(limits, "SECONDS", 0.3)
    monkeypatch.setattr(limits, "WALL_SECONDS", 5.0)


def endless(*_):
    while True:
        pass


def endless_and_deaf(*_):
    while True:
        try:
            time.sleep(0.001)
        except:  # noqa: E722 (that is the point)
            pass


@pytest.mark.parametrize("code", [endless, endless_and_deaf])
def test_an_endless_loop_is_stopped(code):
    tracing = sys.gettrace()
    with pytest.raises(TookTooLong):
        within_limits(code)
    assert sys.gettrace() is tracing
    assert within_limits(lambda: 5) == 5, "the next call is not stopped"
    time.sleep(0.25)  # nor does a late exception arrive


def test_an_endless_answer_gets_a_report_with_its_line():
    report = check(endless, "attend")
    assert report.verdict is Verdict.TOOK_TOO_LONG
    assert "in endless, line" in str(report)


def test_the_limit_works_in_other_threads():
    raised = []

    def run():
        try:
            within_limits(endless)
        except TookTooLong as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert len(raised) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(10**11),
        lambda: torch.ones(10**5, 1) * torch.ones(10**5),
        lambda: torch.ones(60_000, 2) @ torch.ones(2, 60_000),
        lambda: torch.ones(3).repeat(10**10),
        lambda: torch.eye(10**6),
        lambda: torch.arange(1e12),
        lambda: torch.nn.functional.one_hot(torch.tensor([10**10])),
        lambda: torch.randint(5, (10**6, 10**6)),
        lambda: torch.linspace(0, 1, 10**11),
        lambda: torch.ones(2).repeat_interleave(10**10),
        lambda: torch.outer(torch.ones(10**6), torch.ones(10**6)),
    ],
)
def test_a_huge_tensor_is_refused_before_it_is_made(make):
    with pytest.raises(MemoryError), memory_limit():
        make()


def test_what_is_no_memory_is_allowed():
    with memory_limit():
        assert torch.zeros(3, 1).expand(3, TENSOR_NUMBERS).shape[1] == TENSOR_NUMBERS
        assert torch.randint(10**12, (2, 3)).shape == (2, 3)
        assert torch.full((2,), 10**12).sum() == 2 * 10**12
        torch.manual_seed(0)
    with pytest.raises(RuntimeError, match="must match"), memory_limit():
        torch.ones(2) + torch.ones(3)


def test_a_greedy_answer_gets_a_report():
    report = check(lambda q, k, v: torch.zeros(10**6, 10**6), "attend")
    assert report.verdict is Verdict.TOO_MUCH_MEMORY
    assert "1,000,000,000,000 numbers" in " ".join(str(report).split())


@pytest.mark.skipif(sys.platform != "linux", reason="lists are limited on Linux alone")
@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA reserves addresses")
def test_a_huge_list_is_refused():
    with pytest.raises(MemoryError), memory_limit():
        [0] * 10**10


def test_a_flood_of_text_is_cut(capsys):
    def floods(query, key, value):
        for _ in range(3000):
            print("a line of some length")
        return query @ key.T @ value

    check(floods, "attend")
    assert "what it prints after this is not shown" in capsys.readouterr().out
