"""What a LLaMA's modules give if they are written with one of the usual mistakes.

Each kind of module is one function with options. The defaults are right, and a mistake
is a change of options, so that two mistakes with different options make a third. The
weights and options are those of a reference model: what is computed here from the input
of its module is what someone who makes the mistake would get there.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from companion.layers import to_half_split, to_interleaved
from companion.models.hf import translate_name
from companion.models.llama import LLaMA


class Mistake(NamedTuple):
    """One mistake, or two at once, with what it makes of one input.

    Attributes:
        says: what was done, as sentences.
        wrong: computes what comes out.
        is_pair: whether it is two at once.
    """

    says: str
    wrong: Callable[[], Tensor]
    is_pair: bool = False


# Our names of the modules, and Hugging Face's, by which their kinds are known.
OUR_NAMES = {
    "token_embedding": "model.embed_tokens",
    "layers.*.norm1": "model.layers.*.input_layernorm",
    "layers.*.self_attention.W_q": "model.layers.*.self_attn.q_proj",
    "layers.*.self_attention.W_k": "model.layers.*.self_attn.k_proj",
    "layers.*.self_attention.W_v": "model.layers.*.self_attn.v_proj",
    "layers.*.self_attention.W_o": "model.layers.*.self_attn.o_proj",
    "layers.*.self_attention": "model.layers.*.self_attn",
    "layers.*.norm2": "model.layers.*.post_attention_layernorm",
    "layers.*.feed_forward.W_1": "model.layers.*.mlp.gate_proj",
    "layers.*.feed_forward.V": "model.layers.*.mlp.up_proj",
    "layers.*.feed_forward.W_2": "model.layers.*.mlp.down_proj",
    "layers.*.feed_forward": "model.layers.*.mlp",
    "layers.*": "model.layers.*",
    "norm": "model.norm",
    "output_projection": "lm_head",
}


class Facts(NamedTuple):
    """What the mistakes need to know of a reference: weights by the names of Hugging
    Face, and sizes."""

    weights: Mapping[str, Tensor]
    num_heads: int
    num_kv_heads: int
    d_k: int
    frequencies: Tensor  # of the pairs that turn, in radians a position
    eps: float

    @classmethod
    def of(cls, reference: nn.Module) -> Facts | None:
        """Those of a `LLaMA` or of ``transformers``' own; None for any other model."""
        if isinstance(reference, LLaMA):
            attention = reference.layers[0].self_attention
            return cls(
                reference.hf_weights(),
                attention.num_heads,
                attention.num_kv_heads,
                attention.d_k,
                attention.rotary.frequencies,
                reference.norm.eps,
            )
        config = getattr(reference, "config", None)
        if getattr(config, "model_type", None) != "llama":
            return None
        return cls(
            reference.state_dict(),
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
            reference.model.rotary_emb.inv_freq,
            config.rms_norm_eps,
        )


def mistakes(facts: Facts, name: str, x: Tensor) -> Iterator[Mistake]:
    """The mistakes that are known for one module, single ones before pairs.

    Args:
        facts: of the reference.
        name: the module, by its name in `transformers` or in our `LLaMA`.
        x: what it reads.
    """
    name = translate_name(name, OUR_NAMES) or name
    part = name.rpartition(".")[2]
    if part in _KINDS:
        yield from _KINDS[part](facts, name, x)
    elif part.isdigit():
        yield from _of_block(facts, name, x)


Options = dict[str, Any]


def _singles_and_pairs(
    compute: Callable[..., Tensor], changes: Mapping[str, Options]
) -> Iterator[Mistake]:
    for says, options in changes.items():
        yield Mistake(says, partial(compute, **options))
    for (one, a), (other, b) in itertools.combinations(changes.items(), 2):
        if not a.keys() & b.keys():
            both = f"Two mistakes at once. (1) {one} (2) {other}"
            yield Mistake(both, partial(compute, **a, **b), is_pair=True)


# RMS norm


def _norm(
    x: Tensor,
    weight: Tensor,
    inside: float,
    outside: float = 0.0,
    axis: int = -1,
    total: str = "mean",
    center: bool = False,
    power: float = 0.5,
    offset: float = 0.0,
    weighted: bool = True,
) -> Tensor:
    if center:
        x = x - x.mean(-1, keepdim=True)
    square = x.square().mean(axis, keepdim=True)
    if total == "sum":
        square = square * x.shape[axis]
    normed = x / ((square + inside) ** power + outside)
    return normed * (weight + offset) if weighted else normed


def _of_norm(facts: Facts, name: str, x: Tensor) -> Iterator[Mistake]:
    weight = facts.weights[f"{name}.weight"]
    changes: dict[str, Options] = {
        "eps is left out.": {"inside": 0.0},
        "eps is added to the root, not under it.": {
            "inside": 0.0,
            "outside": facts.eps,
        },
        "1 is added to the weight, as in Gemma.": {"offset": 1.0},
        "The weight is left out.": {"weighted": False},
        "The mean is subtracted first: that is layer norm.": {"center": True},
        "The sum of the squares is taken, not their mean.": {"total": "sum"},
        "The mean runs over the positions, not over the features.": {"axis": -2},
        "The root is left out: x is divided by the mean square.": {"power": 1.0},
    }
    for eps in (1e-6, 1e-5, 1e-3):
        if not 0.5 < eps / facts.eps < 2:
            says = f"eps is {eps:.0e}; the checkpoint's is {facts.eps:.0e}."
            changes[says] = {"inside": eps}
    for other, weight_there in _others(facts, name):
        says = f"The weight is that of {other}."
        changes[says] = {"weight": weight_there}
    compute = partial(_norm, x)
    yield from _singles_and_pairs(
        lambda **options: compute(**{"weight": weight, "inside": facts.eps} | options),
        changes,
    )


# Matrices


def _of_linear(facts: Facts, name: str, x: Tensor) -> Iterator[Mistake]:
    weight = facts.weights[f"{name}.weight"]
    if weight.shape[0] == weight.shape[1]:
        yield Mistake("The matrix is transposed.", lambda: x @ weight)
    if name.endswith(("q_proj", "k_proj")):
        for says, reorder in (
            (
                "The rows still lie in the order of the file, in which the numbers that "
                "turn together are neighbors.",
                to_interleaved,
            ),
            (
                "The rows are reordered the wrong way round, or twice.",
                to_half_split,
            ),
        ):
            yield Mistake(says, lambda r=reorder: F.linear(x, r(weight, facts.d_k)))
        whole = to_interleaved(weight, facts.d_k)
        yield Mistake(
            "The rows are reordered over all heads at once, not in each head.",
            lambda: F.linear(x, to_half_split(whole, len(whole))),
        )
    for other, weight_there in _others(facts, name):
        yield Mistake(
            f"The matrix is that of {other}.",
            lambda w=weight_there: F.linear(x, w),
        )


def _others(facts: Facts, name: str) -> Iterator[tuple[str, Tensor]]:
    """Weights of the same shape: those of the same block, then those of other layers."""
    weight = facts.weights[f"{name}.weight"]
    block = ".".join(name.split(".")[:3])
    in_block, elsewhere = [], []
    for other, there in facts.weights.items():
        module, _, kind = other.rpartition(".")
        if kind != "weight" or there.shape != weight.shape or module == name:
            continue
        if module.startswith(f"{block}."):
            in_block.append((module, there))
        elif module.rpartition(".")[2] == name.rpartition(".")[2]:
            elsewhere.append((module, there))
    yield from in_block + elsewhere


def _of_embedding(facts: Facts, name: str, x: Tensor) -> Iterator[Mistake]:
    table = facts.weights[f"{name}.weight"]
    d_model = table.shape[1]
    for says, compute in {
        "The embeddings are multiplied by the root of d_model, as in the first "
        "Transformer and in Gemma.": lambda: table[x] * d_model**0.5,
        "Each token gets the row of the next one.": lambda: table[
            (x + 1).clamp(max=len(table) - 1)
        ],
        "The embeddings are normed to length 1.": lambda: F.normalize(table[x], dim=-1),
    }.items():
        yield Mistake(says, compute)


def _of_output(facts: Facts, name: str, x: Tensor) -> Iterator[Mistake]:
    weight = facts.weights.get(f"{name}.weight")
    table = facts.weights["model.embed_tokens.weight"]
    weight = table if weight is None else weight
    root = weight.shape[1] ** 0.5
    yield Mistake(
        "The logits are divided by the root of d_model.",
        lambda: F.linear(x, weight) / root,
    )
    yield Mistake(
        "The output is tied to the embedding, and the checkpoint's is a matrix of its "
        "own.",
        lambda: F.linear(x, table),
    )
    norm = facts.weights["model.norm.weight"]
    yield Mistake(
        "The last norm is applied here once more.",
        lambda: F.linear(F.rms_norm(x, x.shape[-1:], norm, facts.eps), weight),
    )


# Attention


def _turned(
    x: Tensor, frequencies: Tensor, layout: str, sign: float, stretched: bool
) -> Tensor:
    angle = torch.arange(x.shape[-2], device=x.device)[:, None] * frequencies.to(x)
    if layout == "mixed":  # the vectors of one layout, the table of the other
        angle = angle.repeat_interleave(2, dim=-1)
        first, second = x.chunk(2, dim=-1)
        return x * angle.cos() + torch.cat([-second, first], -1) * angle.sin() * sign
    cos, sin = angle.cos(), angle.sin() * sign
    neighbors = layout == "neighbors"
    pairs = x.unflatten(-1, (-1, 2)).unbind(-1) if neighbors else x.chunk(2, dim=-1)
    first = pairs[0] * cos + pairs[1] * sin * (1 if stretched else -1)
    second = pairs[0] * sin + pairs[1] * cos
    if neighbors:
        return torch.stack([first, second], dim=-1).flatten(-2)
    return torch.cat([first, second], dim=-1)


def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    output: Callable[[Tensor], Tensor],
    frequencies: Tensor,
    divisor: float,
    turned: str = "qk",
    layout: str = "halves",
    sign: float = 1.0,
    stretched: bool = False,
    shared: str = "neighbors",
    hidden: int | None = 1,
    filled: float = -torch.inf,
    over: int = -1,
    merged: bool = True,
) -> Tensor:
    turn = partial(
        _turned, frequencies=frequencies, layout=layout, sign=sign, stretched=stretched
    )
    q, k, v = (
        turn(t) if n in turned else t for n, t in zip("qkv", (q, k, v), strict=True)
    )
    group = q.shape[1] // k.shape[1]
    if shared == "neighbors":
        k, v = (t.repeat_interleave(group, dim=1) for t in (k, v))
    elif shared == "tile":
        k, v = (t.repeat(1, group, 1, 1) for t in (k, v))
    else:
        k, v = (t[:, :1].expand(q.shape) for t in (k, v))
    scores = q @ k.transpose(-2, -1) / divisor
    if hidden is not None:
        later = torch.ones_like(scores[0, 0]).triu(hidden).bool()
        scores = scores.masked_fill(later, filled)
    heard = scores.softmax(dim=over).nan_to_num(0.0) @ v  # (B, H, L, d_k)
    if merged:
        return output(heard.transpose(1, 2).flatten(2))
    batch, heads, length, d_k = heard.shape
    return output(heard.reshape(batch, length, heads * d_k))


def _attention_of(facts: Facts, name: str, x: Tensor) -> Callable[..., Tensor]:
    """What an attention module makes of x, still with options."""

    def linear(part: str, read: Tensor) -> Tensor:
        weights = (facts.weights.get(f"{name}.{part}.{k}") for k in ("weight", "bias"))
        return F.linear(read, *weights)

    def split(part: str) -> Tensor:
        return linear(part, x).unflatten(-1, (-1, facts.d_k)).transpose(1, 2)

    q, k, v = (split(part) for part in ("q_proj", "k_proj", "v_proj"))
    right = {"frequencies": facts.frequencies, "divisor": facts.d_k**0.5}
    output = partial(linear, "o_proj")
    return lambda **options: _attention(q, k, v, output, **right | options)


def _of_attention(facts: Facts, name: str, x: Tensor) -> Iterator[Mistake]:
    d_k, d_model = facts.d_k, x.shape[-1]
    base = (facts.frequencies[1] ** (-d_k / 2)).item() if d_k > 2 else 1e4
    changes: dict[str, Options] = {
        "Queries and keys are not turned.": {"turned": ""},
        "Queries are turned and keys are not.": {"turned": "q"},
        "Keys are turned and queries are not.": {"turned": "k"},
        "The values are turned as well.": {"turned": "qkv"},
        "The pairs that turn are neighbors, and the checkpoint's are half a head "
        "apart.": {"layout": "neighbors"},
        "Queries and keys turn the wrong way: the sign of the sine.": {"sign": -1.0},
        "Both sines have one sign, so pairs are stretched and not turned.": {
            "stretched": True
        },
        "Halves turn, by a table of angles that is made for neighbors (each angle twice "
        "in a row).": {"layout": "mixed"},
        "Key-value heads are repeated one after the other as a tile (0 1 2 0 1 2), "
        "where neighbors share one (0 0 1 1 2 2): repeat for repeat_interleave.": {
            "shared": "tile"
        },
        "All query heads read the first key-value head.": {"shared": "first"},
        "Scores are divided by the root of d_model, not of d_k.": {
            "divisor": d_model**0.5
        },
        "Scores are divided by d_k, not by its root.": {"divisor": float(d_k)},
        "Scores are not divided by the root of d_k.": {"divisor": 1.0},
        "There is no mask: positions see what comes after them.": {"hidden": None},
        "The mask hides a position from itself.": {"hidden": 0},
        "Hidden scores are 0, which the softmax hears: they must be minus infinity.": {
            "filled": 0.0
        },
        "The softmax runs over the queries.": {"over": -2},
        "The heads are put side by side without moving their axis back first.": {
            "merged": False
        },
    }
    for other in (1e4, 1e5, 5e5):
        if not 0.9 < base / other < 1.1:
            exponents = torch.arange(d_k // 2, device=x.device) / (d_k // 2)
            says = f"The base of the angles is {other:,.0f}; it should be {base:,.0f}."
            changes[says] = {"frequencies": other**-exponents}
    if facts.num_heads == facts.num_kv_heads:
        changes = {s: o for s, o in changes.items() if o != {"shared": "tile"}}

    yield from _singles_and_pairs(_attention_of(facts, name, x), changes)


# The feed-forward network


def _of_mlp(facts: Facts, name: str, x: Tensor) -> Iterator[Mistake]:
    def linear(part: str, read: Tensor) -> Tensor:
        weights = (facts.weights.get(f"{name}.{part}.{k}") for k in ("weight", "bias"))
        return F.linear(read, *weights)

    gate, up = linear("gate_proj", x), linear("up_proj", x)
    for says, inner in {
        "The activation is on the wrong half: silu(up) * gate.": lambda: (
            gate * F.silu(up)
        ),
        "There is a GELU where the checkpoint has SiLU.": lambda: F.gelu(gate) * up,
        "There is a ReLU where the checkpoint has SiLU.": lambda: F.relu(gate) * up,
        "There is a sigmoid where the checkpoint has SiLU, x * sigmoid(x).": lambda: (
            gate.sigmoid() * up
        ),
        "The gate has no activation.": lambda: gate * up,
        "Both halves go through the activation.": lambda: F.silu(gate) * F.silu(up),
        "The product of gate and up goes through the activation.": lambda: F.silu(
            gate * up
        ),
        "The halves are added, not multiplied.": lambda: F.silu(gate) + up,
        "The second half is left out.": lambda: F.silu(gate),
        "The gate is left out.": lambda: up,
    }.items():
        yield Mistake(says, lambda inner=inner: linear("down_proj", inner()))


# The block


def _of_block(facts: Facts, name: str, x: Tensor) -> Iterator[Mistake]:
    def norm(part: str, read: Tensor) -> Tensor:
        weight = facts.weights[f"{name}.{part}.weight"]
        return F.rms_norm(read, weight.shape, weight, facts.eps)

    def attend(read: Tensor) -> Tensor:
        return _attention_of(facts, f"{name}.self_attn", read)()

    def feed(read: Tensor) -> Tensor:
        w = {
            part: facts.weights[f"{name}.mlp.{part}_proj.weight"]
            for part in ("gate", "up", "down")
        }
        inner = F.silu(F.linear(read, w["gate"])) * F.linear(read, w["up"])
        return F.linear(inner, w["down"])

    first, second = (
        partial(norm, part) for part in ("input_layernorm", "post_attention_layernorm")
    )
    heard = attend(first(x))
    after = x + heard

    def exchanged() -> Tensor:
        between = x + attend(second(x))
        return between + feed(first(between))

    def post_norm() -> Tensor:
        between = first(x + attend(x))
        return second(between + feed(between))

    for says, compute in {
        "Nothing is added to what comes in: both residuals are missing.": lambda: feed(
            second(heard)
        ),
        "The residual around attention is missing.": lambda: (
            heard + feed(second(heard))
        ),
        "The residual around the feed-forward network is missing.": lambda: feed(
            second(after)
        ),
        "The feed-forward network's residual is x, from before attention.": lambda: (
            x + feed(second(after))
        ),
        "Both parts read the same norm of x, side by side, as in PaLM.": lambda: (
            after + feed(first(x))
        ),
        "Both parts read x, side by side, each through its own norm.": lambda: (
            after + feed(second(x))
        ),
        "The feed-forward network reads the stream without its norm.": lambda: (
            after + feed(after)
        ),
        "Attention reads the stream without its norm.": lambda: (
            (between := x + attend(x)) + feed(second(between))
        ),
        "The normed stream is the residual.": lambda: (
            (between := first(x) + heard) + feed(second(between))
        ),
        "The two norms are exchanged.": exchanged,
        "The norms come after the sums, as in the first Transformer.": post_norm,
        "The feed-forward network is left out.": lambda: after,
        "Attention is left out.": lambda: x + feed(second(x)),
    }.items():
        yield Mistake(says, compute)


_KINDS: dict[str, Callable[[Facts, str, Tensor], Iterator[Mistake]]] = {
    "embed_tokens": _of_embedding,
    "lm_head": _of_output,
    "self_attn": _of_attention,
    "mlp": _of_mlp,
    **dict.fromkeys(("input_layernorm", "post_attention_layernorm", "norm"), _of_norm),
    **dict.fromkeys(
        (f"{part}_proj" for part in ("q", "k", "v", "o", "gate", "up", "down")),
        _of_linear,
    ),
}
