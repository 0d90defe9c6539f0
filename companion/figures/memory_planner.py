"""The interactive memory planner: does a model fit, and what has to be sent?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import traitlets

from companion.analysis.memory_plan import (
    SHAPES,
    STRATEGIES,
    MemoryPlan,
    plan,
    traffic,
)
from companion.figures.widget import Figure, figure_module, figure_style

_HERE = Path(__file__).parent
_PRECISIONS = ("fp32", "bf16")
_BATCHES = tuple(2**k for k in range(9))
_DEVICES = tuple(2**k for k in range(11))
_SENT = {"ddp": "data parallel (DDP)", "fsdp": "fully sharded (FSDP)"}


class MemoryPlanner(Figure):
    """Bytes on one device by what they are for, against the sizes of cards.

    The numbers are those of `companion.analysis.memory_plan`: they are tabulated here for
    one text on each device, and the figure only multiplies what grows with the batch.
    The traits can be set and observed from Python.

    Args:
        shape: the name of a model in `SHAPES`.
        batch: texts at once on one device: 1, 2, 4, ... or 256.
        strategy: ``"single"``, ``"ddp"`` or ``"fsdp"``.
        devices: that share the model or the batch: 1, 2, 4, ... or 1,024. A single one
            is one, whatever this says.
        precision: ``"fp32"`` or ``"bf16"``.
        recompute: whether each block keeps its input only.
        cards: sizes of memory to compare with, in GB.

    Raises:
        ValueError: something is none of these.
    """

    _esm = figure_module(_HERE / "memory_planner.js")
    _css = figure_style(_HERE / "memory_planner.css")

    shape = traitlets.Unicode("GPT-2 124M").tag(sync=True)
    batch = traitlets.Int(1).tag(sync=True)
    strategy = traitlets.Unicode("single").tag(sync=True)
    devices = traitlets.Int(1).tag(sync=True)
    precision = traitlets.Unicode("fp32").tag(sync=True)
    recompute = traitlets.Bool(False).tag(sync=True)
    choices = traitlets.Dict(
        {
            "shape": list(SHAPES),
            "batch": _BATCHES,
            "strategy": STRATEGIES,
            "devices": _DEVICES,
            "precision": _PRECISIONS,
        },
        read_only=True,
    ).tag(sync=True)
    cards = traitlets.List(read_only=True).tag(sync=True)  # GB
    parts = traitlets.List(list(MemoryPlan._fields), read_only=True).tag(sync=True)
    # By name of model, precision, recomputation, strategy and place in choices["devices"]:
    # the parts with one text, and what a device sends in an update.
    plans = traitlets.Dict(read_only=True).tag(sync=True)

    def __init__(
        self,
        shape: str = "GPT-3 6.7B",
        batch: int = 1,
        strategy: str = "single",
        devices: int = 8,
        precision: str = "fp32",
        recompute: bool = False,
        *,
        cards: Sequence[float] = (24, 80),
    ) -> None:
        super().__init__()
        self.set_trait("plans", _tabulated())
        self.set_trait("cards", sorted(cards))
        self.shape, self.batch, self.strategy = shape, batch, strategy
        self.devices, self.precision, self.recompute = devices, precision, recompute

    @traitlets.validate("shape", "batch", "strategy", "devices", "precision")
    def _be_a_choice(self, proposal: Any) -> Any:
        name, value = proposal.trait.name, proposal.value
        known = self.choices[name]
        if value not in known:
            raise ValueError(
                f"{name} must be one of {', '.join(map(str, known))}, but it is {value!r}"
            )
        return value

    def plan(self) -> MemoryPlan:
        """What is shown."""
        return plan(
            SHAPES[self.shape],
            self.batch,
            self.strategy,
            1 if self.strategy == "single" else self.devices,
            self.precision,
            recompute=self.recompute,
        )

    def sent(self) -> int:
        """Bytes that each device sends in an update."""
        return _sent(self.shape, self.strategy, self.devices, self.precision)

    def describe(self) -> str:
        return f"memory of {len(SHAPES)} models on 1 to {_DEVICES[-1]:,} devices"

    def fallback(self) -> str:
        """The first state in a sentence."""
        held = ", ".join(
            f"{part} {size / 1e9:.1f}"
            for part, size in self.plan()._asdict().items()
            if size
        )
        return (
            f"<p>{self.shape} ({self.strategy}, {self.precision}, batch {self.batch}) holds "
            f"{self.plan().total / 1e9:.1f} GB on a device: {held}. With JavaScript model, "
            "batch, devices, strategy and precision can be chosen.</p>"
        )


def _sent(shape: str, strategy: str, devices: int, precision: str) -> int:
    if strategy == "single":
        return 0
    return traffic(SHAPES[shape], 1, devices, precision)[_SENT[strategy]].bytes


def _tabulated() -> dict[str, Any]:
    """For each model, precision, recomputation and strategy a list by number of devices."""
    return {
        name: {
            precision: {
                "again" if recompute else "kept": {
                    strategy: [
                        [
                            *plan(
                                shape, 1, strategy, n, precision, recompute=recompute
                            ),
                            _sent(name, strategy, n, precision),
                        ]
                        for n in (_DEVICES if strategy != "single" else (1,))
                    ]
                    for strategy in STRATEGIES
                }
                for recompute in (False, True)
            }
            for precision in _PRECISIONS
        }
        for name, shape in SHAPES.items()
    }
