"""What depth does to a stack of layers, and what residuals, norms and warm-up do about it.

`AblatedLayer` is an encoder layer from which parts can be left out. The training runs are
kept beside this file, in ``depth.csv``. Made anew by

    python -m companion.analysis.depth

which takes about three minutes on one core.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from companion.analysis import language_id
from companion.data.languages import LabelledText, language_texts
from companion.layers import (
    MultiHeadAttention,
    PositionwiseFeedForward,
    padding_mask,
)
from companion.runtime import device, seed_everything

Norm = Literal["none", "pre", "post"]


class AblatedLayer(nn.Module):
    """An `EncoderLayer` without dropout, from which parts can be left out.

    Args:
        d_model: width of the stream.
        num_heads: number of attention heads.
        residual: whether each sub-layer adds to its input, or else replaces it.
        norm: ``"post"``, ``"pre"``, or ``"none"`` for no norm.
        feed_forward: whether there is a feed-forward network after the attention.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        *,
        residual: bool = True,
        norm: Norm = "post",
        feed_forward: bool = True,
    ) -> None:
        super().__init__()
        self.residual, self.norm = residual, norm
        self.sublayers = nn.ModuleList([MultiHeadAttention(d_model, num_heads)])
        if feed_forward:
            self.sublayers.append(PositionwiseFeedForward(d_model, 4 * d_model))
        self.norms = nn.ModuleList(
            nn.Identity() if norm == "none" else nn.LayerNorm(d_model)
            for _ in self.sublayers
        )

    def forward(
        self, x: Float[Tensor, "batch length d_model"]
    ) -> Float[Tensor, "batch length d_model"]:
        for sublayer, norm in zip(self.sublayers, self.norms, strict=True):
            y = sublayer(norm(x) if self.norm == "pre" else x)
            y = y[0] if isinstance(y, tuple) else y  # attention returns weights too
            y = x + y if self.residual else y
            x = norm(y) if self.norm == "post" else y
        return x


def new_stack(
    depth: int, d_model: int = 32, num_heads: int = 4, *, seed: int = 0, **parts
) -> nn.Sequential:
    """``depth`` fresh layers in float64, with Xavier weights; parts as for `AblatedLayer`."""
    seed_everything(seed)
    layers = [AblatedLayer(d_model, num_heads, **parts) for _ in range(depth)]
    stack = nn.Sequential(*layers).double()
    for p in stack.parameters():
        if p.ndim > 1:
            nn.init.xavier_uniform_(p)
    return stack.to(device())


def distinctness(x: Float[Tensor, "batch length d_model"]) -> float:
    """How much of ``x`` tells its positions apart: 1 for unlike ones, 0 for equal ones.

    |x - mean over positions| / |x|: the distance from the nearest matrix of equal rows,
    in the Frobenius norm, which is Dong et al.'s (2021) res(X) but for its norm.
    """
    apart = x - x.mean(dim=1, keepdim=True)
    share = apart.norm(dim=(1, 2)) / x.norm(dim=(1, 2))
    return share.mean().item()


@torch.no_grad()
def distinctness_by_depth(
    stack: Iterable[nn.Module], x: Float[Tensor, "batch length d_model"]
) -> list[float]:
    """The `distinctness` of the input and of what each layer returns."""
    found = [distinctness(x)]
    for layer in stack:
        x = layer(x)
        found.append(distinctness(x))
    return found


def layer_gradients(loss: Tensor, layers: Iterable[nn.Module]) -> list[float]:
    """For each layer, the length of the gradient of ``loss`` in all its parameters."""
    groups = [list(layer.parameters()) for layer in layers]
    flat = [p for group in groups for p in group]
    gradients = iter(torch.autograd.grad(loss, flat, materialize_grads=True))
    lengths = []
    for group in groups:
        squares = [next(gradients).double().square().sum() for _ in group]
        lengths.append(torch.stack(squares).sum().sqrt().item())
    return lengths


def stack_gradients(depth: int, *, seed: int = 0, **parts) -> list[float]:
    """`layer_gradients` of a fresh stack whose outputs must tell random classes apart.

    16 random positions have one of 20 random classes each, and a linear map scores them. As
    in a real model, a pre-norm stack has a norm at its end.
    """
    stack = new_stack(depth, seed=seed, **parts)
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(4, 16, 32, dtype=torch.float64, generator=draw).to(device())
    classes = torch.randint(20, (4, 16), generator=draw).to(device())
    output = torch.randn(32, 20, dtype=torch.float64, generator=draw).to(device())
    x = stack(x)
    if parts.get("norm") == "pre":
        x = F.layer_norm(x, (32,))
    logits = x @ output / 32**0.5  # (B, L, classes)
    return layer_gradients(F.cross_entropy(logits.mT, classes), stack)


def classifier_gradients(
    depth: int,
    norm_first: bool,
    letters: language_id.Letters,
    texts: Sequence[LabelledText],
    seed: int = 0,
) -> list[float]:
    """For each layer of an untrained classifier, the length of W_2's gradient.

    W_2 is the last matrix of the feed-forward network, for which Xiong et al. (2020) prove
    their theorem 1.
    """
    model = language_id.new_classifier(
        letters, seed, num_layers=depth, norm_first=norm_first, dropout=0.0
    )
    logits = model(letters.encode([item.text for item in texts]))
    loss = F.cross_entropy(logits, language_id.labels(texts))
    maps = [layer.feed_forward.W_2 for layer in model.encoder.layers]
    return layer_gradients(loss, maps)


def first_step_change(
    depth: int,
    norm_first: bool,
    letters: language_id.Letters,
    texts: Sequence[LabelledText],
    *,
    rate: float = 1e-4,
    seed: int = 0,
) -> float:
    """How far one step of Adam moves a fresh classifier's hidden states, relative to them.

    Adam's first step moves each weight by ``rate``, however long the gradient is. So this
    measures what depth makes of small steps (Liu et al., 2020, section 4).
    """
    model = language_id.new_classifier(
        letters, seed, num_layers=depth, norm_first=norm_first, d_model=32, dropout=0.0
    )
    ids = letters.encode([item.text for item in texts])
    mask = padding_mask(ids, language_id.PAD_ID)
    before = model.encoder(ids, mask).detach()
    F.cross_entropy(model(ids), language_id.labels(texts)).backward()
    torch.optim.Adam(model.parameters(), lr=rate).step()
    with torch.no_grad():
        after = model.encoder(ids, mask)
    real = ids != language_id.PAD_ID
    return ((after - before)[real].norm() / before[real].norm()).item()


# Training with and without warm-up

DEPTH = 6  # as the encoder of Vaswani et al. (2017)
RATES = (1e-3, 3e-3, 5e-3)
STEPS = 200
WARMUP = 0.3  # of the steps
RUNS = {  # name -> norm_first, warm-up
    "post-norm, no warm-up": (False, 0.0),
    "post-norm, warm-up": (False, WARMUP),
    "pre-norm, no warm-up": (True, 0.0),
    "pre-norm, warm-up": (True, WARMUP),
}
_RESULTS = Path(__file__).with_suffix(".csv")


def train_deep(
    norm_first: bool,
    warmup: float,
    rate: float,
    seed: int,
    letters: language_id.Letters,
    texts: Sequence[LabelledText],
    steps: int = STEPS,
) -> list[float]:
    """Train a deep language classifier and return the loss of each step."""
    model = language_id.new_classifier(
        letters, seed, num_layers=DEPTH, norm_first=norm_first, d_model=32, dropout=0.0
    )
    return language_id.train_classifier(
        model,
        letters,
        texts,
        steps=steps,
        batch=32,
        peak_lr=rate,
        warmup=warmup,
        seed=seed,
    )


def final_loss(losses: Sequence[float]) -> float:
    """The mean of the last 20 steps' losses."""
    return sum(losses[-20:]) / len(losses[-20:])


def stored_results() -> Mapping[str, list[list[float]]]:
    """Name of the run -> one row a seed -> final loss at each of ``RATES``."""
    rows: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with _RESULTS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            rows[row["run"]][row["seed"]].append(float(row["loss"]))
    return {run: list(seeds.values()) for run, seeds in rows.items()}


def main() -> None:
    """Train every kind with three seeds and write ``depth.csv``."""
    from datetime import date

    texts, _ = language_texts()
    letters = language_id.Letters(texts)
    with _RESULTS.open("w", encoding="utf-8", newline="") as file:
        file.write(
            f"# Loss at the end of training a language classifier of {DEPTH} layers,\n"
            "# mean of the last 20 steps, in nats. Made by\n"
            f"# python -m companion.analysis.depth: {STEPS} steps, batch 32, warm-up 0 or\n"
            f"# {WARMUP:.0%} of the steps, then linear decay, seeds 0-2,\n"
            f"# {device().type}, torch {torch.__version__}, {date.today()}\n"
        )
        table = csv.writer(file)
        table.writerow(["run", "seed", "rate", "loss"])
        for name, (norm_first, warmup) in RUNS.items():
            for seed in range(3):
                for rate in RATES:
                    losses = train_deep(norm_first, warmup, rate, seed, letters, texts)
                    table.writerow([name, seed, rate, f"{final_loss(losses):.3f}"])
                    file.flush()


if __name__ == "__main__":
    main()
