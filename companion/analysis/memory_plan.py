"""Does it fit, and what has to be sent? Memory and traffic of training a GPT, counted.

Bytes on each device by what they are for, and bytes that each device sends in an update,
for the ways in which a model is shared out. The counts are exact up to what an allocator
rounds and keeps; tests hold them to what real runs use.

Sources: Rajbhandari et al. (2020), "ZeRO", sections 3 and 7, for states and for data-parallel
traffic; Shoeybi et al. (2019), "Megatron-LM", section 3, for tensor parallelism; Huang et
al. (2019), "GPipe", section 2.3, and Narayanan et al. (2021), section 2.2, for pipelines;
Korthikanti et al. (2022), "Reducing Activation Recomputation in Large Transformer Models",
section 4, for activations and sequence parallelism.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Strategy = Literal["single", "ddp", "fsdp"]
Precision = Literal["fp32", "bf16"]
STRATEGIES: tuple[Strategy, ...] = ("single", "ddp", "fsdp")


@dataclass(frozen=True)
class GPTShape:
    """The sizes of a `GPT` with a tied output, and the length that it is trained on."""

    num_layers: int
    d_model: int
    num_heads: int
    d_ff: int
    vocab_size: int
    length: int

    @property
    def layer_parameters(self) -> int:
        """Of one block: four maps, two of the feed-forward network, biases and norms."""
        d, f = self.d_model, self.d_ff
        return 4 * (d * d + d) + 2 * d * f + f + d + 4 * d

    @property
    def table_parameters(self) -> int:
        """Outside of the blocks: the two tables and the last norm.

        In FSDP they stay from the forward to the backward pass, since the output is one
        of the tables.
        """
        return (self.vocab_size + self.length + 2) * self.d_model

    @property
    def parameters(self) -> int:
        """Of the model."""
        return self.table_parameters + self.num_layers * self.layer_parameters


# GPT-2 and GPT-3: Radford et al. (2019), table 2; Brown et al. (2020), table 2.1.
SHAPES = {
    "GPT-2 124M": GPTShape(12, 768, 12, 3072, 50257, 1024),
    "GPT-2 355M": GPTShape(24, 1024, 16, 4096, 50257, 1024),
    "GPT-2 1.6B": GPTShape(48, 1600, 25, 6400, 50257, 1024),
    "GPT-3 6.7B": GPTShape(32, 4096, 32, 16384, 50257, 2048),
    "GPT-3 175B": GPTShape(96, 12288, 96, 49152, 50257, 2048),
}


class MemoryPlan(NamedTuple):
    """Bytes on one device while the gradients of an update are complete.

    Attributes:
        parameters: in float32, as the optimizer steps on them.
        gradients: in float32.
        optimizer: the two averages of Adam.
        activations: what the forward pass keeps for the backward pass.
        gathered: weights of other devices that are here for the moment, in FSDP, and
            the copies in 16 bits that mixed precision works with.
        logits: the gradient by the log-softmax and the one by the logits, in float32,
            with which the backward pass begins.

    Not all of them are largest at one moment, so that the sum is a little too high.
    """

    parameters: int
    gradients: int
    optimizer: int
    activations: int
    gathered: int
    logits: int

    @property
    def total(self) -> int:
        return sum(self)


def layer_activations(shape: GPTShape, tokens: int, precision: Precision) -> int:
    """Bytes that a pre-norm block with a fused attention keeps for ``tokens`` tokens.

    For each token: the inputs of its two norms, 2 d; their outputs, queries, keys, values
    and what attention gives, 6 d; the hidden units before and after the activation,
    2 d_ff; the logarithm of each head's softmax sum, and mean and deviation of each norm.
    In bf16 the products' inputs take two bytes, the rest four; and since autocast rounds
    the input of each product anew, queries, keys and values keep a copy each, 2 d more.
    No n x n scores are kept.
    """
    d = shape.d_model
    whole = 2 * d + shape.num_heads + 4
    if precision == "fp32":
        return tokens * 4 * (whole + 6 * d + 2 * shape.d_ff)
    return tokens * (4 * whole + 2 * (8 * d + 2 * shape.d_ff))


def plan(
    shape: GPTShape,
    batch: int,
    strategy: Strategy = "single",
    devices: int = 1,
    precision: Precision = "fp32",
    *,
    recompute: bool = False,
) -> MemoryPlan:
    """Bytes on each device, with AdamW and ``batch`` texts on each.

    Args:
        shape: of the model.
        batch: texts at once on one device.
        strategy: how the model is shared out.
        devices: that share it.
        precision: of products.
        recompute: whether each block keeps its input only, and runs once more backward.

    Raises:
        ValueError: the strategy is not known, or a number is below 1, or a single device
            is several.
    """
    if strategy not in STRATEGIES:
        raise ValueError(
            f"strategy must be one of {', '.join(STRATEGIES)}, but it is {strategy!r}"
        )
    if batch < 1 or devices < 1:
        raise ValueError(
            f"batch and devices must be at least 1, but they are {batch} and {devices}"
        )
    if strategy == "single" and devices > 1:
        raise ValueError(
            f"devices must be 1 with strategy 'single', but it is {devices}"
        )
    shares = devices if strategy == "fsdp" else 1
    P, tokens = shape.parameters, batch * shape.length
    product = 4 if precision == "fp32" else 2
    block = layer_activations(shape, tokens, precision)
    kept = shape.num_layers * block
    if recompute:
        kept = shape.num_layers * tokens * 4 * shape.d_model + block
    # Behind the blocks: the last norm's input, statistics and output, and the logits'
    # log-softmax, which is computed in float32. In 16 bits the logits were there first.
    d, V = shape.d_model, shape.vocab_size
    head = tokens * (4 * (d + 2) + product * d + 4 * V)
    if strategy == "fsdp":
        # Of the blocks, one is at work and one on its way.
        gathered = product * (shape.table_parameters + 2 * shape.layer_parameters)
    else:
        gathered = 0 if precision == "fp32" else 2 * P  # autocast's copies
    return MemoryPlan(
        parameters=4 * P // shares,
        gradients=4 * P // shares,
        optimizer=8 * P // shares,
        activations=kept + head,
        gathered=gathered,
        logits=2 * 4 * V * tokens,
    )


class Traffic(NamedTuple):
    """What one device sends in one update.

    Attributes:
        bytes: in all.
        messages: how many exchanges all devices have to take part in.
        overlaps: whether it can go on while the device computes.
        what: in words.
    """

    bytes: int
    messages: int
    overlaps: bool
    what: str


def all_reduce_bytes(size: int, devices: int) -> int:
    """What a device sends so that all have the sum: a ring sends each part around twice."""
    return 2 * size * (devices - 1) // devices


def all_gather_bytes(size: int, devices: int) -> int:
    """What a device sends so that all have all parts of ``size`` bytes: once around.

    A reduce-scatter, after which each has one part of the sum, costs the same.
    """
    return size * (devices - 1) // devices


def traffic(
    shape: GPTShape, batch: int, devices: int, precision: Precision = "fp32"
) -> dict[str, Traffic]:
    """What an update with ``batch`` texts costs to send, by the way of sharing.

    Args:
        shape: of the model.
        batch: texts in the update, on all devices together.
        devices: that share the work.
        precision: of activations, and of weights that are sent.

    Returns:
        By name: data parallel (DDP), fully sharded (FSDP), tensor, sequence and pipeline
        parallel. The first two share the batch, the last three give all devices the
        same texts.

    Raises:
        ValueError: a number is below 1.
    """
    if batch < 1 or devices < 1:
        raise ValueError(
            f"batch and devices must be at least 1, but they are {batch} and {devices}"
        )
    P, L, n = shape.parameters, shape.num_layers, devices
    product = 4 if precision == "fp32" else 2
    hidden = product * batch * shape.length * shape.d_model  # one layer's output
    tables = all_gather_bytes(product * shape.table_parameters, n)
    blocks = all_gather_bytes(product * L * shape.layer_parameters, n)
    gradients = all_gather_bytes(4 * P, n)
    return {
        "data parallel (DDP)": Traffic(
            all_reduce_bytes(4 * P, n), 1, True, "gradients, averaged"
        ),
        "fully sharded (FSDP)": Traffic(
            tables + 2 * blocks + gradients,
            3 * L + 2,
            True,
            "blocks twice, tables and gradients once",
        ),
        "tensor parallel": Traffic(
            4 * L * all_reduce_bytes(hidden, n),
            4 * L,
            False,
            "two sums of activations a block, forward and backward",
        ),
        "sequence parallel": Traffic(
            8 * L * all_gather_bytes(hidden, n),
            8 * L,
            False,
            "the same sums in two halves, with the norms shared out between them",
        ),
        "pipeline parallel": Traffic(
            2 * hidden if n > 1 else 0,
            2 * (n - 1),
            True,
            "activations to the next device, their gradients back",
        ),
    }


def bubble(devices: int, micro_batches: int) -> float:
    """The share of time in which a device of a pipeline waits (Huang et al., section 2.3).

    With ``p`` devices and ``m`` micro-batches, p - 1 of the m + p - 1 turns.

    Raises:
        ValueError: a number is below 1.
    """
    if devices < 1 or micro_batches < 1:
        raise ValueError(
            "devices and micro_batches must be at least 1, but they are "
            f"{devices} and {micro_batches}"
        )
    return (devices - 1) / (micro_batches + devices - 1)
