"""What efficient attentions cost, and how far they are from full attention.

Costs of one head of width 64 on one thread, for lengths from 256 to 16,384, are kept
beside this file, in ``efficiency.csv``. Made anew by

    python -m companion.analysis.efficiency

which takes about four minutes on one core and up to 2 GB of memory.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from companion.analysis.cost import best_time, log_log_slope, peak_memory
from companion.layers import (
    MultiHeadAttention,
    fused_attention,
    scaled_dot_product_attention,
)
from companion.layers.efficient import (
    BigBirdAttention,
    ChunkedAttention,
    EfficientAttention,
    LinearAttention,
    LinformerAttention,
    PerformerAttention,
    SlidingWindowAttention,
    bigbird_attention,
    chunked_attention,
    linear_attention,
    linformer_attention,
    online_softmax_attention,
    performer_attention,
    random_features,
    sliding_window_attention,
)
from companion.models.bert import BERT
from companion.runtime import device

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]

D_K = 64
LENGTHS = tuple(2**i for i in range(8, 15))  # 256 to 16,384
FORMULA_UP_TO = 8192  # its backward pass takes four n x n matrices
PASSES = ("forward", "step")  # a step is forward and backward

LINEAR = (
    "window",
    "window + global",
    "BigBird",
    "Linformer",
    "Performer",
    "linear",
)  # whose cost should grow as n


def attentions(
    length: int, d_k: int = D_K, *, slots: int = 256, seed: int = 0
) -> dict[str, Attention]:
    """Every attention at settings as in its paper, as a function of Q, K and V.

    A window of 128 on each side (257 keys a query), with 16 global tokens or without;
    blocks of 64 with 3 random ones (512 keys); 256 slots or random features; chunks of
    the root of the length.

    Args:
        length: of the sequences, which Linformer must know.
        d_k: width of queries and keys.
        slots: Linformer's slots, drawn as at its initialization, and Performer's
            features.
        seed: of what is drawn.
    """
    draw = torch.Generator().manual_seed(seed)
    projections = torch.randn(2, 1, slots, length, generator=draw) / slots**0.5
    E, F = projections.to(device())
    directions = random_features(d_k, slots, seed=seed).to(device())
    return {
        "formula": lambda q, k, v: scaled_dot_product_attention(q, k, v)[0],
        "fused": fused_attention,
        "online softmax": lambda q, k, v: online_softmax_attention(
            q, k, v, block_size=256
        ),
        "window": lambda q, k, v: sliding_window_attention(q, k, v, 128),
        "window + global": lambda q, k, v: sliding_window_attention(
            q, k, v, 128, num_global=16
        ),
        "BigBird": lambda q, k, v: bigbird_attention(
            q, k, v, 64, num_random=min(3, max(0, length // 64 - 5))
        ),
        "Linformer": lambda q, k, v: linformer_attention(q, k, v, E, F),
        "Performer": lambda q, k, v: performer_attention(q, k, v, directions),
        "linear": linear_attention,
        "chunked": chunked_attention,
    }


def draw_qkv(
    length: int, *, heads: int = 1, d_k: int = D_K, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of normal numbers, ``(1, heads, length, d_k)`` each."""
    draw = torch.Generator().manual_seed(seed)
    drawn = torch.randn(3, 1, heads, length, d_k, generator=draw)
    return tuple(drawn.to(device()))


def run(attention: Attention, qkv: Sequence[Tensor], pass_: str) -> Tensor:
    """One forward pass, or one forward and backward (``"step"``)."""
    if pass_ == "forward":
        with torch.no_grad():
            return attention(*qkv)
    leaves = [t.detach().requires_grad_() for t in qkv]
    output = attention(*leaves)
    output.sum().backward()
    return output


class Cost(NamedTuple):
    """What one pass costs."""

    seconds: float
    bytes: int


def measure_costs(
    names: Sequence[str],
    lengths: Sequence[int] = LENGTHS,
    pass_: str = "forward",
    *,
    rounds: int = 3,
    memory: bool = True,
) -> dict[str, dict[int, Cost]]:
    """The quickest time and the peak memory of each attention at each length.

    The attentions take turns, so that what else the machine does hits all alike.

    Args:
        names: keys of `attentions`. ``"formula"`` stops at `FORMULA_UP_TO`.
        lengths: of the sequences.
        pass_: ``"forward"`` or ``"step"``.
        rounds: how many turns each takes.
        memory: whether to measure memory too, which is as slow as a turn; else 0.
    """
    if pass_ not in PASSES:
        raise ValueError(f"pass_ must be 'forward' or 'step', but it is {pass_!r}")
    costs: dict[str, dict[int, Cost]] = {name: {} for name in names}
    for n in lengths:
        known, qkv = attentions(n), draw_qkv(n)
        here = [m for m in names if m != "formula" or n <= FORMULA_UP_TO]
        seconds = dict.fromkeys(here, math.inf)
        for _ in range(rounds):
            for name in here:
                spent = _quickest(known[name], qkv, pass_, 5 if n <= 1024 else 1)
                seconds[name] = min(seconds[name], spent)
        for name in here:
            held = peak_memory(run, known[name], qkv, pass_) if memory else 0
            costs[name][n] = Cost(seconds[name], held)
    return costs


def _quickest(
    attention: Attention, qkv: Sequence[Tensor], pass_: str, repeats: int
) -> float:
    """Seconds of one pass; on a CPU those of this process, so that others don't count."""
    if device().type != "cpu":
        return best_time(run, attention, qkv, pass_, repeats=repeats)
    run(attention, qkv, pass_)  # to warm up
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        run(attention, qkv, pass_)
        spent.append(time.process_time() - start)
    return min(spent)


def exponent(by_length: Mapping[int, float], last: int = 4) -> float:
    """The p of n^p that fits the ``last`` lengths best: how the cost grows at the end."""
    lengths = sorted(by_length)[-last:]
    return log_log_slope(lengths, [by_length[n] for n in lengths])


def crossover(mine: Mapping[int, float], other: Mapping[int, float]) -> float:
    """The length from which on ``mine`` is below ``other``, at the lengths both have.

    Between two lengths the lines are straight in log-log axes. Infinity if it never is;
    the smallest length if it always is.
    """
    lengths = sorted(mine.keys() & other.keys())
    ratio = {n: math.log(mine[n] / other[n]) for n in lengths}
    above = [n for n in lengths if ratio[n] >= 0]
    if not above:
        return float(lengths[0])
    n = above[-1]
    if n == lengths[-1]:
        return math.inf
    after = lengths[lengths.index(n) + 1]
    share = ratio[n] / (ratio[n] - ratio[after])
    return n * (after / n) ** share


# How far from full attention


def relative_error(
    output: Float[Tensor, "batch heads length d"],
    full: Float[Tensor, "batch heads length d"],
) -> Float[Tensor, "heads"]:
    """|output - full| / |full| for each head: 0 is equal, 1 is as wrong as no output."""
    gap, whole = (t.square().sum(dim=(0, 2, 3)).sqrt() for t in (output - full, full))
    return gap / whole


def rivals(
    length: int, d_k: int, keys: int = 64, *, seed: int = 0
) -> dict[str, Attention]:
    """The attentions at one budget: about ``keys`` keys, slots or features for a query.

    Beside them two to compare with: the mean of all values, which looks at nothing, and
    the ``keys`` largest weights of full attention, which no method knows in advance.
    Linformer's projections would be trained; here they are as drawn at its start, and
    averages over stretches of positions, which its section 4 offers as well.
    """
    draw = torch.Generator().manual_seed(seed)
    projections = torch.randn(2, 1, keys, length, generator=draw) / keys**0.5
    E, F = projections.to(device())

    A = averages(length, keys).to(device())

    def performer(features: int) -> Attention:
        directions = random_features(d_k, features, seed=seed).to(device())
        return lambda q, k, v: performer_attention(q, k, v, directions)

    return {
        "mean of values": lambda q, k, v: v.mean(2, keepdim=True).expand_as(v),
        "largest weights": lambda q, k, v: _largest(q, k, v, keys),
        "window": lambda q, k, v: sliding_window_attention(q, k, v, keys // 2),
        "window + first token": lambda q, k, v: sliding_window_attention(
            q, k, v, keys // 2, num_global=1
        ),
        "BigBird": lambda q, k, v: bigbird_attention(q, k, v, keys // 8, 3, seed=seed),
        "chunked": lambda q, k, v: chunked_attention(q, k, v),
        "Linformer, drawn": lambda q, k, v: linformer_attention(q, k, v, E, F),
        "Linformer, averages": lambda q, k, v: linformer_attention(q, k, v, A, A),
        "Performer": performer(keys),
        "Performer, 16 x features": performer(16 * keys),
        "linear": linear_attention,
    }


def averages(length: int, slots: int) -> Float[Tensor, "1 slots length"]:
    """Linformer's projection by hand: each slot averages one stretch of positions."""
    slot = torch.arange(length) * slots // length
    E = (slot == torch.arange(slots)[:, None]).float()
    return (E / E.sum(dim=1, keepdim=True))[None]


def real_qkv(
    model: BERT, token_ids: Int[Tensor, "batch length"]
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Queries, keys and values in each layer of a trained encoder, for a real text."""
    found = []
    with torch.no_grad():
        for x, layer in zip(
            model.hidden_states(token_ids), model.layers, strict=False
        ):  # the last hidden states enter no layer
            attention = layer.self_attention
            maps = (attention.W_q, attention.W_k, attention.W_v)
            found.append(
                tuple(
                    W(x).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
                    for W in maps
                )
            )
    return found


def errors(
    qkv: Iterable[tuple[Tensor, Tensor, Tensor]], keys: int = 64
) -> dict[str, Float[Tensor, "layers heads"]]:
    """Name of the rival -> its `relative_error` in each layer and head."""
    rows: dict[str, list[Tensor]] = {}
    with torch.no_grad():
        for q, k, v in qkv:
            full = fused_attention(q, k, v)
            for name, attention in rivals(q.shape[2], q.shape[3], keys).items():
                error = relative_error(attention(q, k, v), full)
                rows.setdefault(name, []).append(error)
    return {name: torch.stack(found).cpu() for name, found in rows.items()}


def replacements(
    d_model: int, num_heads: int, length: int, keys: int = 64
) -> dict[str, Callable[[], EfficientAttention]]:
    """The layers that may take the place of a `MultiHeadAttention`, at the same budget."""
    sizes = (d_model, num_heads)
    return {
        "window": lambda: SlidingWindowAttention(*sizes, keys // 2),
        "window + first token": lambda: SlidingWindowAttention(
            *sizes, keys // 2, num_global=1
        ),
        "BigBird": lambda: BigBirdAttention(*sizes, keys // 8, 3),
        "chunked": lambda: ChunkedAttention(*sizes),
        "Linformer, drawn": lambda: LinformerAttention(*sizes, length, keys),
        "Linformer, averages": lambda: _pooled_linformer(*sizes, length, keys),
        "Performer": lambda: PerformerAttention(*sizes, keys),
        "Performer, 16 x features": lambda: PerformerAttention(*sizes, 16 * keys),
        "linear": lambda: LinearAttention(*sizes),
    }


def replace_attention(
    model: BERT, new: Callable[[], EfficientAttention]
) -> list[MultiHeadAttention]:
    """Give every layer another attention with the weights of the old; return the old ones."""
    old = [layer.self_attention for layer in model.layers]
    for layer, attention in zip(model.layers, old, strict=True):
        made = new().to(device()).eval()
        # Linformer's E and F have no counterpart and stay as they were drawn.
        made.load_state_dict(made.state_dict() | attention.state_dict())
        layer.self_attention = made
    return old


def _pooled_linformer(
    d_model: int, num_heads: int, length: int, keys: int
) -> LinformerAttention:
    attention = LinformerAttention(d_model, num_heads, length, keys)
    with torch.no_grad():
        for projection in (attention.E, attention.F):
            projection.copy_(averages(length, keys))
    return attention


def _largest(query: Tensor, key: Tensor, value: Tensor, keys: int) -> Tensor:
    """Full attention of which each query keeps its largest weights, summing to 1 again."""
    _, weights = scaled_dot_product_attention(query, key, value)
    least = weights.topk(keys, dim=-1).values[..., -1:]
    weights = weights.masked_fill(weights < least, 0.0)
    return weights / weights.sum(dim=-1, keepdim=True) @ value


# The table

_RESULTS = Path(__file__).with_suffix(".csv")


def stored_results() -> dict[str, dict[str, dict[int, Cost]]]:
    """Pass -> name -> length -> cost, from ``efficiency.csv``."""
    costs: dict[str, dict[str, dict[int, Cost]]] = {}
    with _RESULTS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            of_name = costs.setdefault(row["pass"], {}).setdefault(row["method"], {})
            of_name[int(row["length"])] = Cost(
                float(row["milliseconds"]) / 1e3, int(float(row["MiB"]) * 2**20)
            )
    return costs


def seconds(costs: Mapping[int, Cost]) -> dict[int, float]:
    """Length -> seconds."""
    return {n: cost.seconds for n, cost in costs.items()}


def megabytes(costs: Mapping[int, Cost]) -> dict[int, float]:
    """Length -> MiB."""
    return {n: cost.bytes / 2**20 for n, cost in costs.items()}


def main() -> None:
    """Measure everything on one thread and write ``efficiency.csv``."""
    from datetime import date

    torch.set_num_threads(1)
    with _RESULTS.open("w", encoding="utf-8", newline="") as file:
        file.write(
            f"# Cost of one head of width {D_K}: the quickest of three turns (time of the\n"
            "# process, on a CPU), and the peak\n"
            "# memory beyond Q, K and V. A step is forward and backward. Made by\n"
            "# python -m companion.analysis.efficiency: one thread,\n"
            f"# {device().type}, torch {torch.__version__}, {date.today()}\n"
        )
        table = csv.writer(file)
        table.writerow(["pass", "method", "length", "milliseconds", "MiB"])
        for pass_ in PASSES:
            for n in LENGTHS:
                found = measure_costs(list(attentions(n)), [n], pass_)
                for name, costs in found.items():
                    for cost in costs.values():
                        spent, held = 1e3 * cost.seconds, cost.bytes / 2**20
                        row = [pass_, name, n, f"{spent:.4g}", f"{held:.4g}"]
                        table.writerow(row)
                file.flush()


if __name__ == "__main__":
    main()
