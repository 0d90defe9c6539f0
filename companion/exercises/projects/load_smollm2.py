"""Project 6: SmolLM2's weights in a network of your own, proved module by module."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn

import companion
from companion.analysis.llama_mistakes import OUR_NAMES
from companion.analysis.module_parity import Names, compare_modules
from companion.data.assets import fetch
from companion.data.smollm2 import ChatTokenizer
from companion.data.texts import shakespeare
from companion.exercises.exercise import Exercise, Inputs, Misconception, Property
from companion.exercises.projects.grading import Criterion, Project
from companion.models.gguf import llama_from_gguf, read_gguf

# Rotary positions, by halves


def turn_by_halves(
    x: Float[Tensor, "batch heads length d_k"], base: float
) -> Float[Tensor, "batch heads length d_k"]:
    length, d_k = x.shape[-2:]
    exponent = torch.arange(0, d_k, 2, device=x.device) / d_k
    angle = torch.arange(length, device=x.device)[:, None] / base**exponent
    cos, sin = angle.cos(), angle.sin()
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def _turns_neighbors(x: Tensor, base: float) -> Tensor:
    halves = torch.cat([x[..., 0::2], x[..., 1::2]], dim=-1)
    turned = turn_by_halves(halves, base)
    return torch.stack(turned.chunk(2, dim=-1), dim=-1).flatten(-2)


def _base_of_the_paper(x: Tensor, base: float) -> Tensor:
    return turn_by_halves(x, 10000.0)


def _turns_backwards(x: Tensor, base: float) -> Tensor:
    length, d_k = x.shape[-2:]
    exponent = torch.arange(0, d_k, 2, device=x.device) / d_k
    angle = torch.arange(length, device=x.device)[:, None] / base**exponent
    cos, sin = angle.cos(), angle.sin()
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos + second * sin, second * cos - first * sin], dim=-1)


def _no_minus(x: Tensor, base: float) -> Tensor:
    length, d_k = x.shape[-2:]
    exponent = torch.arange(0, d_k, 2, device=x.device) / d_k
    angle = torch.arange(length, device=x.device)[:, None] / base**exponent
    cos, sin = angle.cos(), angle.sin()
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos + second * sin, second * cos + first * sin], dim=-1)


def _table_of_the_other_layout(x: Tensor, base: float) -> Tensor:
    length, d_k = x.shape[-2:]
    exponent = torch.arange(0, d_k, 2, device=x.device) / d_k
    angle = torch.arange(length, device=x.device)[:, None] / base**exponent
    angle = angle.repeat_interleave(2, dim=-1)
    first, second = x.chunk(2, dim=-1)
    return x * angle.cos() + torch.cat([-second, first], dim=-1) * angle.sin()


def _twice_the_exponent(x: Tensor, base: float) -> Tensor:
    return turn_by_halves(x, base**2)


def _counts_from_one(x: Tensor, base: float) -> Tensor:
    moved = torch.cat([torch.zeros_like(x[..., :1, :]), x], dim=-2)
    return turn_by_halves(moved, base)[..., 1:, :]


def _heads_for_positions(x: Tensor, base: float) -> Tensor:
    return turn_by_halves(x.transpose(1, 2), base).transpose(1, 2)


def _draw_turned(generator: Generator) -> list[Inputs]:
    return [
        (torch.randn(size, generator=generator), base)
        for size, base in (
            ((1, 1, 3, 4), 100.0),
            ((1, 2, 5, 8), 100000.0),
            ((2, 3, 4, 6), 500.0),
        )
    ]


def _lengths_are_kept(answer: Callable, inputs: Inputs) -> bool:
    x, base = inputs
    return torch.allclose(answer(x, base).norm(dim=-1), x.norm(dim=-1), atol=1e-4)


def _first_position_stays(answer: Callable, inputs: Inputs) -> bool:
    x, base = inputs
    return torch.allclose(answer(x, base)[..., 0, :], x[..., 0, :], atol=1e-6)


# Attention of grouped heads


def grouped_attention(
    q: Float[Tensor, "batch heads length d_k"],
    k: Float[Tensor, "batch kv_heads length d_k"],
    v: Float[Tensor, "batch kv_heads length d_k"],
) -> Float[Tensor, "batch length heads_times_d_k"]:
    group = q.shape[1] // k.shape[1]
    k = k.repeat_interleave(group, dim=1)
    v = v.repeat_interleave(group, dim=1)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5  # (B, H, L, L)
    later = torch.ones_like(scores[0, 0]).triu(1).bool()
    weights = scores.masked_fill(later, -torch.inf).softmax(dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def _tiled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    group = q.shape[1] // k.shape[1]
    k = k.repeat(1, group, 1, 1)
    v = v.repeat(1, group, 1, 1)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5  # (B, H, L, L)
    later = torch.ones_like(scores[0, 0]).triu(1).bool()
    weights = scores.masked_fill(later, -torch.inf).softmax(dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def _scaled_by_the_width(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    group = q.shape[1] // k.shape[1]
    k = k.repeat_interleave(group, dim=1)
    v = v.repeat_interleave(group, dim=1)
    scores = q @ k.transpose(-2, -1) / (q.shape[1] * q.shape[-1]) ** 0.5
    later = torch.ones_like(scores[0, 0]).triu(1).bool()
    weights = scores.masked_fill(later, -torch.inf).softmax(dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def _unscaled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    group = q.shape[1] // k.shape[1]
    k = k.repeat_interleave(group, dim=1)
    v = v.repeat_interleave(group, dim=1)
    scores = q @ k.transpose(-2, -1)  # (B, H, L, L)
    later = torch.ones_like(scores[0, 0]).triu(1).bool()
    weights = scores.masked_fill(later, -torch.inf).softmax(dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def _sees_the_future(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    group = q.shape[1] // k.shape[1]
    k = k.repeat_interleave(group, dim=1)
    v = v.repeat_interleave(group, dim=1)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5  # (B, H, L, L)
    weights = scores.softmax(dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def _hides_by_zeros(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    group = q.shape[1] // k.shape[1]
    k = k.repeat_interleave(group, dim=1)
    v = v.repeat_interleave(group, dim=1)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5  # (B, H, L, L)
    later = torch.ones_like(scores[0, 0]).triu(1).bool()
    weights = scores.masked_fill(later, 0.0).softmax(dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def _heads_not_moved_back(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    group = q.shape[1] // k.shape[1]
    k = k.repeat_interleave(group, dim=1)
    v = v.repeat_interleave(group, dim=1)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5  # (B, H, L, L)
    later = torch.ones_like(scores[0, 0]).triu(1).bool()
    weights = scores.masked_fill(later, -torch.inf).softmax(dim=-1)
    return (weights @ v).reshape(q.shape[0], q.shape[2], q.shape[1] * q.shape[3])


def _draw_grouped(generator: Generator) -> list[Inputs]:
    sizes = ((1, 4, 2, 3, 2), (2, 6, 2, 5, 4), (1, 9, 3, 4, 8), (1, 2, 2, 3, 4))
    return [
        (
            torch.randn(batch, heads, length, d_k, generator=generator),
            torch.randn(batch, kv_heads, length, d_k, generator=generator),
            torch.randn(batch, kv_heads, length, d_k, generator=generator),
        )
        for batch, heads, kv_heads, length, d_k in sizes
    ]


def _past_does_not_move(answer: Callable, inputs: Inputs) -> bool:
    before = answer(*inputs)
    changed = [t.clone() for t in inputs]
    for t in changed:
        t[:, :, -1] += 1
    return torch.allclose(answer(*changed)[:, :-1], before[:, :-1], atol=1e-5)


def _first_position_hears_its_value(answer: Callable, inputs: Inputs) -> bool:
    q, _, v = inputs
    own = v[:, :, 0].repeat_interleave(q.shape[1] // v.shape[1], dim=1).flatten(1)
    return torch.allclose(answer(*inputs)[:, 0], own, atol=1e-5)


# The tensors of the file, in their places


def place_tensors(file: Mapping[str, Tensor], d_k: int) -> dict[str, Tensor]:
    parts = {
        "token_embd": "embedding",
        "attn_norm": "norm1",
        "attn_q": "attention.W_q",
        "attn_k": "attention.W_k",
        "attn_v": "attention.W_v",
        "attn_output": "attention.W_o",
        "ffn_norm": "norm2",
        "ffn_gate": "feed_forward.W_gate",
        "ffn_up": "feed_forward.W_up",
        "ffn_down": "feed_forward.W_down",
        "output_norm": "norm",
    }
    placed = {}
    for name, tensor in file.items():
        *block, part, _ = name.split(".")
        if part in ("attn_q", "attn_k"):
            pairs = tensor.unflatten(0, (-1, d_k // 2, 2))  # (heads, pair, 2, d_model)
            tensor = pairs.transpose(1, 2).flatten(0, 2)
        where = f"blocks.{block[1]}." if block else ""
        placed[f"{where}{parts[part]}.weight"] = tensor
    return placed


def _changed_rows(
    file: Mapping[str, Tensor], d_k: int, change: Callable[[Tensor], Tensor], ends: str
) -> dict[str, Tensor]:
    """Placed with other rows in the tensors whose places end so."""
    placed = place_tensors(file, d_k)
    return {
        name: change(t) if name.removesuffix(".weight").endswith(tuple(ends.split()))
        else t
        for name, t in placed.items()
    }  # fmt: skip


def _halves(t: Tensor, d_k: int) -> Tensor:
    return t.unflatten(0, (-1, d_k // 2, 2)).transpose(1, 2).flatten(0, 2)


def _neighbors(t: Tensor, d_k: int) -> Tensor:
    return t.unflatten(0, (-1, 2, d_k // 2)).transpose(1, 2).flatten(0, 2)


def _rows_left(file: Mapping[str, Tensor], d_k: int) -> dict[str, Tensor]:
    return _changed_rows(file, d_k, lambda t: _neighbors(t, d_k), "W_q W_k")


def _keys_left(file: Mapping[str, Tensor], d_k: int) -> dict[str, Tensor]:
    return _changed_rows(file, d_k, lambda t: _neighbors(t, d_k), "W_k")


def _rows_the_wrong_way(file: Mapping[str, Tensor], d_k: int) -> dict[str, Tensor]:
    return _changed_rows(
        file, d_k, lambda t: _neighbors(_neighbors(t, d_k), d_k), "W_q W_k"
    )


def _rows_of_all_heads(file: Mapping[str, Tensor], d_k: int) -> dict[str, Tensor]:
    return _changed_rows(
        file, d_k, lambda t: _halves(_neighbors(t, d_k), len(t)), "W_q W_k"
    )


def _values_too(file: Mapping[str, Tensor], d_k: int) -> dict[str, Tensor]:
    return _changed_rows(file, d_k, lambda t: _halves(t, d_k), "W_v")


def _exchanged(placed: dict[str, Tensor], one: str, other: str) -> dict[str, Tensor]:
    def place(name: str) -> str:
        if f".{one}." in name:
            return name.replace(f".{one}.", f".{other}.")
        return name.replace(f".{other}.", f".{one}.")

    return {place(name): tensor for name, tensor in placed.items()}


def _gate_and_up(file: Mapping[str, Tensor], d_k: int) -> dict[str, Tensor]:
    return _exchanged(place_tensors(file, d_k), "W_gate", "W_up")


def _norms_exchanged(file: Mapping[str, Tensor], d_k: int) -> dict[str, Tensor]:
    return _exchanged(place_tensors(file, d_k), "norm1", "norm2")


def _turned_matrices(file: Mapping[str, Tensor], d_k: int) -> dict[str, Tensor]:
    placed = place_tensors(file, d_k)
    return {
        name: t.T if t.ndim > 1 and "W_" in name else t for name, t in placed.items()
    }


def _draw_files(generator: Generator) -> list[Inputs]:
    def draw(blocks: tuple[int, ...], heads: int, kv_heads: int, d_k: int) -> Inputs:
        width = heads * d_k
        shapes = {
            "attn_norm": (width,),
            "ffn_down": (width, 5),
            "ffn_gate": (5, width),
            "ffn_up": (5, width),
            "ffn_norm": (width,),
            "attn_k": (kv_heads * d_k, width),
            "attn_output": (width, width),
            "attn_q": (width, width),
            "attn_v": (kv_heads * d_k, width),
        }
        names = {"token_embd.weight": (3, width), "output_norm.weight": (width,)}
        names |= {
            f"blk.{i}.{part}.weight": shape
            for i in blocks
            for part, shape in shapes.items()
        }
        tensors = {n: torch.randn(s, generator=generator) for n, s in names.items()}
        return tensors, d_k

    return [draw((0,), 2, 1, 6), draw((0, 1), 4, 2, 8), draw((1, 10, 11), 3, 3, 6)]


def _gates_are_as_in_the_file(answer: Callable, inputs: Inputs) -> bool:
    file, d_k = inputs
    placed = answer(file, d_k)
    return all(
        torch.equal(placed[f"blocks.{n.split('.')[1]}.feed_forward.W_gate.weight"], t)
        for n, t in file.items()
        if "ffn_gate" in n
    )


def _values_are_as_in_the_file(answer: Callable, inputs: Inputs) -> bool:
    file, d_k = inputs
    placed = answer(file, d_k)
    return all(
        torch.equal(placed[f"blocks.{n.split('.')[1]}.attention.W_v.weight"], t)
        for n, t in file.items()
        if "attn_v" in n
    )


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="turn_by_halves",
        chapter="practice",
        title="Turn queries and keys as the checkpoint does",
        difficulty=3,
        minutes=15,
        trains="writes rotary positions in the layout of a given checkpoint",
        reference=turn_by_halves,
        inputs=_draw_turned,
        properties=(
            Property("turning keeps the length of every vector", _lengths_are_kept),
            Property(
                "the vectors of position 0 stay as they are", _first_position_stays
            ),
        ),
        misconceptions=(
            Misconception(
                "turns neighbors",
                _turns_neighbors,
                "Numbers 2i and 2i + 1 turn together. That is the layout of the first "
                "LLaMA and of the file; here number i turns with number i + d_k / 2.",
            ),
            Misconception(
                "takes the paper's base",
                _base_of_the_paper,
                "The angles are those of base 10,000, whatever base was given. Each "
                "checkpoint has its own.",
            ),
            Misconception(
                "turns backwards",
                _turns_backwards,
                "The vectors turn the other way: look at the sign of the sine. If "
                "queries and keys both turn backwards, each position takes what comes "
                "before it for what comes after it.",
            ),
            Misconception(
                "forgets the minus",
                _no_minus,
                "Both sines have the same sign, so this is no rotation: it stretches "
                "some vectors and shortens others.",
            ),
            Misconception(
                "takes the table of the other layout",
                _table_of_the_other_layout,
                "The halves are exchanged as they should be, but the table of angles "
                "holds each angle twice in a row, as for neighbors. For halves the whole "
                "row of angles is repeated.",
            ),
            Misconception(
                "doubles the exponent",
                _twice_the_exponent,
                "The frequencies fall twice as fast: pair i has base ** (-2i / d_k), "
                "so if i already counts 0, 2, 4, ... the 2 is in it.",
            ),
            Misconception(
                "counts from one",
                _counts_from_one,
                "The first position is turned by one step. Scores see differences only, "
                "so the network would not notice, but a cache and a reference would.",
            ),
            Misconception(
                "turns by the number of the head",
                _heads_for_positions,
                "The angle grows with the head and not with the position: which axis "
                "is the length?",
            ),
        ),
        hints=(
            "One table of angles: a row a position, a column a pair. Which axis of x "
            "are the positions?",
            "first, second = x.chunk(2, dim=-1) are the two numbers of all pairs.",
            "(first, second) becomes (first cos - second sin, second cos + first sin), "
            "put side by side again.",
        ),
        tolerance=1e-4,
    ),
    Exercise(
        name="grouped_attention",
        chapter="practice",
        title="Attention in which heads share keys and values",
        difficulty=3,
        minutes=15,
        trains="writes causal attention of grouped heads, with the axes in order",
        reference=grouped_attention,
        inputs=_draw_grouped,
        properties=(
            Property(
                "a change at the last position moves no position before it",
                _past_does_not_move,
            ),
            Property(
                "the first position hears its own values and nothing else",
                _first_position_hears_its_value,
            ),
        ),
        misconceptions=(
            Misconception(
                "tiles the key-value heads",
                _tiled,
                "Query heads 0 1 2 3 ... read key-value heads 0 1 0 1 ...; neighbors "
                "should share one: 0 0 1 1. Repeat each head, not the list of heads.",
            ),
            Misconception(
                "scales by the width of the stream",
                _scaled_by_the_width,
                "Scores are divided by the root of heads * d_k. They are sums of d_k "
                "products, so d_k it is.",
            ),
            Misconception(
                "forgets the scale",
                _unscaled,
                "Scores are not divided by the root of d_k.",
            ),
            Misconception(
                "sees the future",
                _sees_the_future,
                "There is no mask: each position hears those that come after it.",
            ),
            Misconception(
                "hides by zeros",
                _hides_by_zeros,
                "Hidden scores are 0 and the softmax makes a weight of that: e to the "
                "0 is 1. What must not be heard needs a score of minus infinity.",
            ),
            Misconception(
                "does not move the heads back",
                _heads_not_moved_back,
                "The shape is right and the numbers lie in the wrong places: before the "
                "heads are put side by side, the axis of positions must come before "
                "that of heads.",
            ),
        ),
        hints=(
            "First make k and v as many heads as q has. Which of repeat and "
            "repeat_interleave lets neighbors share?",
            "scores (B, H, L, L), divided by the root of d_k; minus infinity above the "
            "diagonal; softmax over the last axis.",
            "(weights @ v) is (B, H, L, d_k): transpose(1, 2), then flatten(2).",
        ),
        tolerance=1e-4,
    ),
    Exercise(
        name="place_tensors",
        chapter="practice",
        title="Each tensor of the file in its place",
        difficulty=4,
        minutes=20,
        trains="maps a checkpoint's names, and undoes what its converter has reordered",
        reference=place_tensors,
        inputs=_draw_files,
        properties=(
            Property(
                "the gates' matrices lie as they do in the file",
                _gates_are_as_in_the_file,
            ),
            Property(
                "the values' matrices lie as they do in the file",
                _values_are_as_in_the_file,
            ),
        ),
        misconceptions=(
            Misconception(
                "leaves the rows as they are",
                _rows_left,
                "The rows of W_q and W_k still lie in the file's order, in which the "
                "numbers that turn together are neighbors. Your rotation turns halves.",
            ),
            Misconception(
                "leaves the keys' rows",
                _keys_left,
                "The rows of W_q are put back and those of W_k are not: the two no "
                "longer speak of the same pairs.",
            ),
            Misconception(
                "reorders the wrong way",
                _rows_the_wrong_way,
                "The rows of W_q and W_k are reordered once more in the direction in "
                "which the file has them. In each head 0 1 2 3 4 5 is to become "
                "0 2 4 1 3 5.",
            ),
            Misconception(
                "reorders over all heads at once",
                _rows_of_all_heads,
                "Even rows come before odd ones over the whole matrix. Each head has "
                "its own d_k rows: give the heads an axis first.",
            ),
            Misconception(
                "reorders the values too",
                _values_too,
                "W_v is reordered. Values do not turn, so the converter left them as "
                "they were.",
            ),
            Misconception(
                "exchanges gate and up",
                _gate_and_up,
                "W_gate and W_up have each other's matrices. Their shapes are the same, "
                "so nothing will complain; the gate is the one that goes through SiLU.",
            ),
            Misconception(
                "exchanges the norms",
                _norms_exchanged,
                "norm1 and norm2 have each other's weights: attn_norm stands before "
                "attention, ffn_norm before the feed-forward network.",
            ),
            Misconception(
                "transposes the matrices",
                _turned_matrices,
                "The matrices are transposed. The file has (out, in), as nn.Linear has.",
            ),
        ),
        hints=(
            'Take a name apart: "blk.3.attn_q.weight".split("."). A dict says which part '
            "goes where.",
            "Only attn_q and attn_k want their rows put back: unflatten axis 0 into "
            "(heads, pair, 2).",
            "tensor.unflatten(0, (-1, d_k // 2, 2)).transpose(1, 2).flatten(0, 2)",
        ),
        tolerance=1e-6,
    ),
)

# The rubric

TEXT = "To-morrow, and to-morrow, and to-morrow"  # where in Macbeth the text begins
PROMPTS = (
    "The capital of France is",
    "Once upon a time, in a small village by the sea,",
    "Water is made of",
)
NEW_TOKENS = 12


class SmolLM2(NamedTuple):
    """The checkpoint as it lies in the file, and the network that it is to become.

    Attributes:
        file: the tensors, by the file's names.
        tokenizer: between texts and token ids.
        reference: ``LlamaForCausalLM`` of ``transformers`` with these weights.
        options: the sizes and constants that a network of its own needs.
    """

    file: dict[str, Tensor]
    tokenizer: ChatTokenizer
    reference: nn.Module
    options: dict[str, Any]

    def ids(self, text: str) -> Tensor:
        """The token ids of a text, ``(1, length)``, where the reference is."""
        ids = torch.tensor([self.tokenizer.encode(text)])
        return ids.to(next(self.reference.parameters()).device)


@functools.cache
def smollm2() -> SmolLM2:
    """SmolLM2-135M-Instruct, read once."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    whole = read_gguf(fetch("smollm2"))
    ours = llama_from_gguf(whole)
    options = {
        "vocab_size": len(whole.weights["token_embd.weight"]),
        "d_model": whole.metadata["llama.embedding_length"],
        "num_heads": whole.metadata["llama.attention.head_count"],
        "num_kv_heads": whole.metadata["llama.attention.head_count_kv"],
        "d_ff": whole.metadata["llama.feed_forward_length"],
        "num_blocks": whole.metadata["llama.block_count"],
        "base": whole.metadata["llama.rope.freq_base"],
        "eps": whole.metadata["llama.attention.layer_norm_rms_epsilon"],
    }
    config = transformers.LlamaConfig(
        vocab_size=options["vocab_size"],
        hidden_size=options["d_model"],
        intermediate_size=options["d_ff"],
        num_hidden_layers=options["num_blocks"],
        num_attention_heads=options["num_heads"],
        num_key_value_heads=options["num_kv_heads"],
        max_position_embeddings=whole.metadata["llama.context_length"],
        rms_norm_eps=options["eps"],
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": options["base"]},
        attn_implementation="eager",
    )
    reference = transformers.LlamaForCausalLM.from_pretrained(
        None, config=config, state_dict=ours.hf_weights()
    )
    return SmolLM2(
        whole.weights,
        ChatTokenizer(whole.metadata),
        reference.eval().to(companion.device()),
        options,
    )


@functools.cache
def held_out_ids() -> Tensor:
    """Some twelve lines of Macbeth as token ids, ``(1, length)``."""
    play = shakespeare("macbeth")
    start = play.index(TEXT)
    return smollm2().ids(play[start : start + 400])


def shared_modules(
    network: nn.Module, reference: nn.Module, ids: Tensor, names: Names
) -> float:
    """How many percent of all modules of a reference a network has right."""
    total = _number_of_modules(reference)
    return 100 * compare_modules(network, reference, ids, names).exact / total


def _number_of_modules(reference: nn.Module) -> int:
    patterns = OUR_NAMES.values()
    depth = reference.config.num_hidden_layers
    return sum(depth if "*" in pattern else 1 for pattern in patterns)


@torch.no_grad()
def largest_difference(network: nn.Module, reference: nn.Module, ids: Tensor) -> float:
    """Of the logits on a text; those are ``(1, length, vocab_size)``."""
    logits = network(ids)
    expected = reference(ids).logits
    if logits.shape != expected.shape:
        raise ValueError(f"the logits' shape is {tuple(logits.shape)}")
    return (logits - expected).abs().max().item()


@torch.no_grad()
def perplexity_off(network: nn.Module, reference: nn.Module, ids: Tensor) -> float:
    """By how many percent the perplexity of a text is not that of the reference."""
    mine, theirs = (
        F.cross_entropy(logits[0, :-1], ids[0, 1:]).item()
        for logits in (network(ids), reference(ids).logits)
    )
    return 100 * abs(math.expm1(mine - theirs))


@torch.no_grad()
def greedy_agreement(
    write: Callable[[Tensor, int], Tensor],
    reference: nn.Module,
    prompts: list[Tensor],
    count: int,
) -> float:
    """How many percent of the tokens that are written are those of the reference."""
    same = 0
    for prompt in prompts:
        written = write(prompt, count)
        same += (written == reference_writes(reference, prompt, count)).sum().item()
        same -= prompt.shape[1]
    return 100 * same / (count * len(prompts))


def reference_writes(reference: nn.Module, prompt: Tensor, count: int) -> Tensor:
    """What the reference goes on with, prompt and all, ``(1, length + count)``."""
    return reference.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=count,
        min_new_tokens=count,
        do_sample=False,
        pad_token_id=0,
    )


@torch.no_grad()
def reads_per_token(
    write: Callable[[Tensor, int], Tensor],
    network: nn.Module,
    names: Names,
    prompt: Tensor,
    count: int,
) -> float:
    """How many positions the network reads for each token that it writes.

    Raises:
        ValueError: writing does not run the network's embedding.
    """
    read = 0

    def add(_module: nn.Module, args: tuple[Tensor]) -> None:
        nonlocal read
        read += args[0].numel()

    embedding = network.get_submodule(names["model.embed_tokens"])
    hook = embedding.register_forward_pre_hook(add)
    try:
        write(prompt, count)
    finally:
        hook.remove()
    if read == 0:
        raise ValueError("write does not run this network")
    return read / count


def left_over(network: nn.Module, file: Mapping[str, Tensor]) -> int:
    """How many tensors of the file are no parameter of the network, or the other way.

    A tensor is known by its size and by sums over it, whatever the order of its numbers.
    """
    held = _fingerprints(network.parameters())
    wanted = _fingerprints(file.values())
    missing = 0
    for print_ in wanted:
        near = next((h for h in held if _same(h, print_)), None)
        if near is None:
            missing += 1
        else:
            held.remove(near)
    return missing + len(held)


def _fingerprints(tensors: Any) -> list[tuple[int, float, float]]:
    return [
        (t.numel(), t.sum().item(), t.square().sum().item())
        for t in (tensor.detach().cpu().double() for tensor in tensors)
    ]


def _same(one: tuple, other: tuple) -> bool:
    return one[0] == other[0] and all(
        math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-6)
        for a, b in zip(one[1:], other[1:], strict=True)
    )


def _needs_network(network: Any) -> None:
    if not isinstance(network, nn.Module):
        raise TypeError(f"network must be a module, but it is {network!r}")


def _needs_writer(write: Any) -> None:
    if not callable(write):
        raise TypeError(f"write must be a function, but it is {write!r}")


def _modules(network: nn.Module, names: Names) -> float:
    _needs_network(network)
    reference, ids = smollm2().reference, smollm2().ids(PROMPTS[1])
    return shared_modules(network, reference, ids, names)


def _logits(network: nn.Module) -> float:
    _needs_network(network)
    return largest_difference(network, smollm2().reference, held_out_ids())


def _perplexity(network: nn.Module) -> float:
    _needs_network(network)
    return perplexity_off(network, smollm2().reference, held_out_ids())


def _greedy(write: Callable[[Tensor, int], Tensor]) -> float:
    _needs_writer(write)
    prompts = [smollm2().ids(text) for text in PROMPTS]
    return greedy_agreement(write, smollm2().reference, prompts, NEW_TOKENS)


def _reads(
    write: Callable[[Tensor, int], Tensor], network: nn.Module, names: Names
) -> float:
    _needs_writer(write)
    _needs_network(network)
    return reads_per_token(write, network, names, smollm2().ids(PROMPTS[0]), NEW_TOKENS)


def _left_over(network: nn.Module) -> float:
    _needs_network(network)
    return left_over(network, smollm2().file)


PROJECT = Project(
    name="load_smollm2",
    title="SmolLM2 in a network of your own",
    stages=("turn_by_halves", "grouped_attention", "place_tensors"),
    minutes=150,
    criteria=(
        Criterion(
            name="modules",
            asks="modules that give the reference's numbers on the reference's input",
            measure=_modules,
            levels=(75.0, 99.0, 100.0),
            unit=" %",
            digits=1,
            advice=(
                "Show compare_modules(network, reference, ids, names): it names the "
                "first module that is wrong.",
                "A mistake that is made in each layer is one mistake: begin with the "
                "first line of the report.",
                "The last ones are often norms (eps) and modules that names leaves out.",
            ),
        ),
        Criterion(
            name="logits",
            asks="largest difference from the reference's logits, on lines of Macbeth",
            measure=_logits,
            levels=(2.0, 0.02, 0.002),
            digits=5,
            advice=(
                "Is every module right by itself? Then look at the chain: residuals, "
                "the last norm, the tied output.",
                "A difference of this size is no rounding: eps, base and scale do it.",
                "Compute in float32 all the way, and the angles as well.",
            ),
        ),
        Criterion(
            name="perplexity",
            asks="how far the perplexity of these lines is from the reference's",
            measure=_perplexity,
            levels=(20.0, 0.1, 0.001),
            unit=" %",
            digits=4,
            advice=(
                "The text may look fluent: the report tells more than the text.",
                "Something small is wrong in every layer.",
                "Differences that remain here are rounding; float32 is enough.",
            ),
        ),
        Criterion(
            name="greedy text",
            asks="tokens written greedily that are the reference's",
            measure=_greedy,
            levels=(30.0, 90.0, 100.0),
            unit=" %",
            digits=0,
            advice=(
                "write(ids, count) takes (1, length) and gives (1, length + count).",
                "After the first other token all that follow may differ: mend the "
                "network first.",
                "Read the logits of the last position, and append the largest.",
            ),
        ),
        Criterion(
            name="left over",
            asks="tensors of the file without a parameter, and parameters without one",
            measure=_left_over,
            levels=(60, 2, 0),
            digits=0,
            advice=(
                "load_state_dict(placed, strict=True) says which names don't fit.",
                "The output is tied: the file has no matrix for it, so the network "
                "should have none.",
                "Tables of angles are no parameters: keep them as buffers.",
            ),
        ),
        Criterion(
            name="thrift",
            asks="positions read for each token written after a short prompt",
            measure=_reads,
            levels=(64.0, 16.0, 2.0),
            digits=1,
            advice=(
                "Read the whole text once for each new token, and not more often.",
                "Read the whole text once for each new token, and not more often.",
                "Keep keys and values of earlier positions: a cache, chapter 5.",
            ),
        ),
    ),
)
