"""The memory planner's numbers, from Python; what the page makes of them is tested in a browser."""

from __future__ import annotations

import pytest

from companion.analysis.memory_plan import SHAPES, plan, traffic
from companion.figures import MemoryPlanner

NAME = "GPT-3 6.7B"


def test_the_first_state_does_not_fit_and_two_changes_make_it_fit():
    figure = MemoryPlanner(NAME)
    assert figure.plan() == plan(SHAPES[NAME], 1)
    assert figure.plan().total > 80e9 and figure.sent() == 0
    figure.strategy = "fsdp"
    assert 24e9 < figure.plan().total < 80e9
    figure.recompute = True
    assert figure.plan().total < 24e9
    costs = traffic(SHAPES[NAME], 1, 8)
    assert figure.sent() == costs["fully sharded (FSDP)"].bytes
    figure.strategy = "ddp"
    assert figure.sent() == costs["data parallel (DDP)"].bytes


@pytest.mark.parametrize("batch", [4, 64])
@pytest.mark.parametrize("strategy", ["single", "ddp", "fsdp"])
@pytest.mark.parametrize("recompute", [False, True])
def test_only_the_parts_that_the_page_multiplies_grow_with_the_batch(
    strategy, batch, recompute
):
    """And in proportion, for all models: so one table for one text is enough."""
    devices = 1 if strategy == "single" else 8
    for shape in SHAPES.values():
        for precision in ("fp32", "bf16"):
            one, more = (
                plan(shape, n, strategy, devices, precision, recompute=recompute)
                for n in (1, batch)
            )
            assert more == one._replace(
                activations=batch * one.activations, logits=batch * one.logits
            )


def test_the_table_is_complete():
    figure = MemoryPlanner()
    for name in SHAPES:
        for precision in figure.choices["precision"]:
            for kept in ("kept", "again"):
                rows = figure.plans[name][precision][kept]
                assert len(rows["single"]) == 1
                assert len(rows["ddp"]) == len(rows["fsdp"]) == 11
    figure.shape, figure.strategy, figure.devices = "GPT-2 1.6B", "fsdp", 64
    row = figure.plans["GPT-2 1.6B"]["fp32"]["kept"]["fsdp"][6]
    assert row == [*figure.plan(), figure.sent()]


def test_what_cannot_be_chosen_is_refused():
    with pytest.raises(ValueError, match=r"shape must be one of GPT-2 124M, .*'GPT-5'"):
        MemoryPlanner("GPT-5")
    with pytest.raises(ValueError, match=r"batch must be one of 1, 2, .* it is 3"):
        MemoryPlanner(batch=3)
    with pytest.raises(ValueError, match="strategy must be one of single, ddp, fsdp"):
        MemoryPlanner(strategy="tensor")
    with pytest.raises(ValueError, match=r"devices must be one of .* it is 0"):
        MemoryPlanner(devices=0)


def test_page_holds_the_state_and_is_the_same_each_time():
    assert MemoryPlanner().to_html() == MemoryPlanner().to_html()
    assert MemoryPlanner().to_html() != MemoryPlanner(batch=2).to_html()
    assert len(MemoryPlanner().to_html()) < 120_000
    assert (
        "holds 125.0 GB on a device: parameters 26.6" in MemoryPlanner(NAME).fallback()
    )
    text = "<interactive figure: memory of 5 models on 1 to 1,024 devices>"
    assert repr(MemoryPlanner()) == text
