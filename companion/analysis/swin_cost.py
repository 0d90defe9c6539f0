"""What an image costs a Swin and a ViT of as many parameters, against its pixels.

Times and memory of one image on one thread, from 56 to 896 pixels a side, are kept beside
this file, in ``swin_cost.csv``. Made anew by

    python -m companion.analysis.swin_cost

which takes about four minutes on one core and up to 2 GB of memory.
"""

from __future__ import annotations

import csv
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from companion.analysis.cost import best_time, log_log_slope, peak_memory
from companion.models.swin import Swin
from companion.models.vit import ViT
from companion.runtime import device

PATCH = 4
WINDOW = 7
SIDES = (56, 112, 168, 224, 336, 448, 672, 896)  # in pixels; windows fit all of them
PASSES = ("forward", "step")  # a step is forward and backward
# The largest side of each model: a ViT's step takes half a minute at 448.
LAST = {
    ("Swin", "forward"): 896,
    ("Swin", "step"): 672,
    ("ViT", "forward"): 448,
    ("ViT", "step"): 336,
}
FIT_FROM = 112  # pixels a side: below, a call's overhead weighs more than its work


def msa_multiply_adds(height: int, width: int, d_model: int) -> int:
    """Equation 1: 4 h w C^2 + 2 (h w)^2 C, multiply-adds of attention among all tokens."""
    tokens = height * width
    return 4 * tokens * d_model**2 + 2 * tokens**2 * d_model


def window_msa_multiply_adds(
    height: int, width: int, d_model: int, window: int = WINDOW
) -> int:
    """Equation 2: 4 h w C^2 + 2 M^2 h w C, the same within windows of M by M tokens."""
    tokens = height * width
    return 4 * tokens * d_model**2 + 2 * window**2 * tokens * d_model


def models(side: int, seed: int = 0) -> dict[str, nn.Module]:
    """A Swin and a ViT of four layers and 0.3 million parameters, for images of that side.

    The ViT's positions, which grow with the image, are not in that count.
    """
    torch.manual_seed(seed)
    swin = Swin(side, PATCH, 3, None, 48, (2, 4), (2, 2), WINDOW)
    vit = ViT(side, PATCH, 3, None, 80, 4, 320, 4, pooling="mean", num_prefix=0)
    return {"Swin": swin.to(device()), "ViT": vit.to(device())}


def run(model: nn.Module, images: Tensor, pass_: str) -> None:
    """One forward pass, or one forward and backward (``"step"``)."""
    if pass_ == "forward":
        with torch.no_grad():
            model(images)
        return
    model.zero_grad()
    model(images).sum().backward()


class Cost(NamedTuple):
    """What one image costs."""

    seconds: float
    bytes: int


def measure_costs(
    sides: Sequence[int] = SIDES,
    pass_: str = "forward",
    *,
    rounds: int = 5,
    memory: bool = True,
    last: Mapping[tuple[str, str], int] = LAST,
) -> dict[str, dict[int, Cost]]:
    """The median time and the peak memory of each model, for one image of each side.

    In every round each model and each side has its turn, so that what else the machine
    does hits all alike.

    Args:
        sides: of the images, in pixels.
        pass_: ``"forward"`` or ``"step"``.
        rounds: how many turns each takes.
        memory: whether to measure memory too; else 0.
        last: the largest side for a model and a pass.
    """
    if pass_ not in PASSES:
        raise ValueError(f"pass_ must be 'forward' or 'step', but it is {pass_!r}")
    seconds: dict[tuple[str, int], list[float]] = {}
    held: dict[tuple[str, int], int] = {}
    for turn in range(rounds):
        for side in sides:
            images = torch.randn(
                1, 3, side, side, generator=torch.Generator().manual_seed(0)
            ).to(device())
            for name, model in models(side).items():
                if side > last[name, pass_]:
                    continue
                spent = _seconds(model, images, pass_, 5 if side <= 168 else 1)
                seconds.setdefault((name, side), []).append(spent)
                if turn == 0:
                    found = peak_memory(run, model, images, pass_) if memory else 0
                    held[name, side] = found
    costs: dict[str, dict[int, Cost]] = {}
    for (name, side), spent in seconds.items():
        cost = Cost(statistics.median(spent), held[name, side])
        costs.setdefault(name, {})[side] = cost
    return costs


def _seconds(model: nn.Module, images: Tensor, pass_: str, repeats: int) -> float:
    """The median seconds of a pass; on a CPU those of this process, so others don't count."""
    if device().type != "cpu":
        return best_time(run, model, images, pass_, repeats=repeats)
    run(model, images, pass_)  # to warm up
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        run(model, images, pass_)
        spent.append(time.process_time() - start)
    return statistics.median(spent)


def exponent(by_side: Mapping[int, float], start: int = FIT_FROM) -> float:
    """The p of pixels^p that fits the sides from ``start`` on best."""
    sides = sorted(side for side in by_side if side >= start)
    return log_log_slope([side**2 for side in sides], [by_side[s] for s in sides])


def seconds(costs: Mapping[int, Cost]) -> dict[int, float]:
    """Side -> seconds."""
    return {side: cost.seconds for side, cost in costs.items()}


def megabytes(costs: Mapping[int, Cost]) -> dict[int, float]:
    """Side -> MiB."""
    return {side: cost.bytes / 2**20 for side, cost in costs.items()}


# The table

_RESULTS = Path(__file__).with_suffix(".csv")


def stored_results() -> dict[str, dict[str, dict[int, Cost]]]:
    """Pass -> model -> side -> cost, from ``swin_cost.csv``."""
    costs: dict[str, dict[str, dict[int, Cost]]] = {}
    with _RESULTS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            of_model = costs.setdefault(row["pass"], {}).setdefault(row["model"], {})
            of_model[int(row["side"])] = Cost(
                float(row["milliseconds"]) / 1e3, int(float(row["MiB"]) * 2**20)
            )
    return costs


def main() -> None:
    """Measure everything on one thread and write ``swin_cost.csv``."""
    from datetime import date

    torch.set_num_threads(1)
    found = {pass_: measure_costs(pass_=pass_) for pass_ in PASSES}
    with _RESULTS.open("w", encoding="utf-8", newline="") as file:
        file.write(
            "# Cost of one image: the median of five turns (time of the process, on a CPU),\n"
            "# and the peak memory beyond weights and image. A step is forward and backward.\n"
            "# Weights and image are drawn with seed 0. Made by\n"
            "# python -m companion.analysis.swin_cost: one thread,\n"
            f"# {device().type}, torch {torch.__version__}, {date.today()}\n"
        )
        table = csv.writer(file)
        table.writerow(["pass", "model", "side", "milliseconds", "MiB"])
        for pass_, by_model in found.items():
            for name, costs in by_model.items():
                for side, cost in sorted(costs.items()):
                    spent, held = 1e3 * cost.seconds, cost.bytes / 2**20
                    row = [pass_, name, side, f"{spent:.4g}", f"{held:.4g}"]
                    table.writerow(row)
    for pass_, by_model in found.items():
        for name, costs in by_model.items():
            time_, memory = exponent(seconds(costs)), exponent(megabytes(costs))
            print(f"{pass_} {name}: time p^{time_:.2f}, memory p^{memory:.2f}")


if __name__ == "__main__":
    main()
