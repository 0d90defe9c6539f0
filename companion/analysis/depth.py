"""What depth does to a stack of layers, and what residuals, norms and warm-up do about it.

`AblatedLayer` is an encoder layer from which parts can be left out. The training runs are
kept beside this file, in ``depth.csv``. Made anew by

    python -m companion.analysis.depth

which takes about five minutes on one core of a laptop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from companion.analysis import language_id
from companion.data.languages import LabelledText
from companion.layers import MultiHeadAttention, PositionwiseFeedForward
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


# Training with and without warm-up

DEPTH = 12
RATES = (3e-4, 1e-3, 3e-3)
STEPS = 200
_RESULTS = Path(__file__).with_suffix(".csv")
_FIELDS = ("norm", "warmup", "rate", "seed", "loss")


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
