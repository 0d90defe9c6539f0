"""Our GPT and LLaMA against those of `transformers`, with the same weights."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

import companion
from companion import GPT, LLaMA, generate
from companion.analysis.flops import forward_flops
from companion.generation import unrolled
from companion.generation.strategies import GREEDY
from companion.training.lm import PRESETS, Preset
from tests.benchmarks.machine import half_on_cuda
from tests.benchmarks.side_by_side import WHOLE, Pair, Timed, Work, now

# As the training command has them, with the vocabulary of its tokenizer; and how many
# windows of how many tokens a step trains on, so that it takes a second or two at most.
SIZES: dict[str, tuple[int, int, int]] = {
    "tiny": (1024, 16, 128),
    "small": (8192, 4, 256),
    "gpt2": (50257, 1, 256),
}
NEW_TOKENS = 64
FIRST, NEXT = "until the first token", "each next token"

Write = Callable[[Tensor, int, list[float] | None], Tensor]


def training_pairs(
    presets: Mapping[str, Preset] = PRESETS,
    sizes: Mapping[str, tuple[int, int, int]] = SIZES,
) -> Iterator[Pair]:
    """Loss, gradients and AdamW's update. It learns at rate 0: all rounds are alike."""
    for name, (vocab_size, batch, length) in sizes.items():
        ours, theirs = gpts(presets[name], vocab_size)
        ids = torch.randint(vocab_size, (batch, length)).to(companion.device())
        our_step = _update(ours.train(), lambda m=ours, x=ids: m.loss(x))
        their_step = _update(
            theirs.train(),
            lambda m=theirs, x=ids: m(input_ids=x, labels=x, use_cache=False).loss,
        )
        yield Pair(
            work=f"update of GPT {name!r}, {batch} x {length} tokens",
            ours=("GPT", our_step),
            reference=(with_best_attention(theirs, their_step), their_step),
            flops={WHOLE: 3 * forward_flops(ours, ids).total},
            rounds=20 if name == "tiny" else 7,
        )


def generation_pairs(
    presets: Mapping[str, Preset] = PRESETS,
    sizes: Mapping[str, tuple[int, int, int]] = SIZES,
    new_tokens: int = NEW_TOKENS,
) -> Iterator[Pair]:
    """Greedy, one text at a time, whole calls: of the model, and of it `unrolled`."""
    for name, (vocab_size, _, _) in sizes.items():
        ours, theirs = gpts(presets[name], vocab_size)
        prompt = torch.randint(vocab_size, (1, 16)).to(companion.device())
        their_call = lambda m=theirs, x=prompt: their_way(m)(x, new_tokens, None)  # noqa: E731
        reference = with_best_attention(theirs, their_call), their_call
        for how, model in (("generate", ours), ("generate, unrolled", unrolled(ours))):
            yield Pair(
                work=f"{new_tokens} tokens of GPT {name!r} after 16",
                ours=(
                    how,
                    lambda m=model, x=prompt: our_way(m)(x, new_tokens, None),
                ),
                reference=reference,
                bytes={WHOLE: new_tokens * weight_bytes(ours)},
                rounds=15 if name == "tiny" else 5,
            )


def smollm2_pairs(
    model: LLaMA | None = None,
    batches: Sequence[int] = (1, 8),
    prompts: Sequence[int] = (16, 512),
    new_tokens: int = 24,
) -> Iterator[Pair]:
    """SmolLM2-135M in float32, out of its GGUF file; prompts of random tokens.

    The texts are written by the model, and by the model `unrolled`, which is for that.

    Args:
        model: in its place, for tests.
        batches, prompts: how many prompts at once, and of how many tokens.
        new_tokens: how many follow.
    """
    ours = smollm2() if model is None else model
    quick, theirs = unrolled(ours), as_transformers(ours)
    vocab_size = ours.token_embedding.num_embeddings
    kept = ours.layers[0].self_attention
    token_bytes = 2 * 4 * kept.num_kv_heads * kept.d_k * len(ours.layers)
    for prompt in prompts:
        for batch in batches:
            ids = torch.randint(vocab_size, (batch, prompt)).to(companion.device())
            their_call = clocked(their_way(theirs), ids, new_tokens)
            reference = with_best_attention(theirs, their_call), their_call
            read = batch * (prompt + new_tokens / 2) * token_bytes
            for how, way in (("generate", ours), ("generate, unrolled", quick)):
                yield Pair(
                    work=f"SmolLM2, {batch} x {prompt} tokens",
                    ours=(how, clocked(our_way(way), ids, new_tokens)),
                    reference=reference,
                    flops={FIRST: forward_flops(ours, ids, last=1).total},
                    bytes={NEXT: weight_bytes(ours) + read},
                    rounds=5 if batch * prompt < 4000 else 3,
                )


def gpu_pairs() -> Iterator[Pair]:
    """GPT-2 124M in bfloat16 on a GPU: compiled training, and decoding; else nothing."""
    if companion.device().type != "cuda":
        return
    ours, theirs = gpts(PRESETS["gpt2"], 50257)
    ids = torch.randint(50257, (16, 1024)).to(companion.device())
    flops = 3 * forward_flops(ours, ids).total
    compiled = torch.compile(ours), torch.compile(theirs)
    yield Pair(
        work="compiled bfloat16 update of GPT 'gpt2', 16 x 1024 tokens",
        ours=(
            "GPT",
            _update(ours.train(), lambda: _next_token_loss(compiled[0](ids), ids)),
        ),
        reference=(
            "GPT2LMHeadModel (sdpa)",
            _update(
                theirs.train(),
                lambda: _next_token_loss(
                    compiled[1](input_ids=ids, use_cache=False).logits, ids
                ),
            ),
        ),
        flops={WHOLE: flops},
    )
    ours, theirs = (model.to(torch.bfloat16).eval() for model in (ours, theirs))
    prompt = ids[:1, :16]
    static = {
        "cache_implementation": "static"
    }  # by which it compiles and records graphs
    yield Pair(
        work="256 bfloat16 tokens of GPT 'gpt2' after 16",
        ours=("generate", lambda: our_way(ours)(prompt, 256, None)),
        reference=(
            "GPT2LMHeadModel (static cache)",
            lambda: their_way(theirs, static)(prompt, 256, None),
        ),
        bytes={WHOLE: 256 * weight_bytes(ours)},
    )


# The two models


def gpts(preset: Preset, vocab_size: int) -> tuple[GPT, nn.Module]:
    """A GPT and `transformers`' GPT-2 with the same weights and no dropout."""
    from transformers import GPT2Config, GPT2LMHeadModel

    dropouts = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    config = GPT2Config(
        vocab_size=vocab_size,
        n_positions=max(preset.length, 128),
        n_embd=preset.d_model,
        n_head=preset.num_heads,
        n_layer=preset.num_layers,
        **dropouts,
        **_NO_SPECIAL_TOKENS,
    )
    theirs = GPT2LMHeadModel(config).to(companion.device()).eval()
    return GPT.from_hf(theirs).to(companion.device()), theirs


def smollm2() -> LLaMA:
    """SmolLM2-135M from the assets."""
    from companion.data.assets import fetch
    from companion.models.gguf import llama_from_gguf

    return llama_from_gguf(fetch("smollm2")).to(companion.device())


def as_transformers(model: LLaMA) -> nn.Module:
    """`transformers`' LLaMA with the weights of ours, whose output is tied."""
    from transformers import LlamaConfig, LlamaForCausalLM

    layer = model.layers[0]
    rotary = layer.self_attention.rotary
    config = LlamaConfig(
        vocab_size=model.token_embedding.num_embeddings,
        hidden_size=layer.self_attention.d_model,
        intermediate_size=layer.feed_forward.W_1.out_features,
        num_hidden_layers=len(model.layers),
        num_attention_heads=layer.self_attention.num_heads,
        num_key_value_heads=layer.self_attention.num_kv_heads,
        max_position_embeddings=model.max_seq_len,
        rms_norm_eps=layer.norm1.eps,
        rope_parameters={"rope_type": "default", "rope_theta": rotary.base},
        tie_word_embeddings=True,
        **_NO_SPECIAL_TOKENS,
    )
    theirs = LlamaForCausalLM(config).to(companion.device()).eval()
    theirs.load_state_dict(model.hf_weights())
    return theirs


_NO_SPECIAL_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


def weight_bytes(model: nn.Module) -> int:
    """What writing a token has to read at least."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


# The two ways of using them


def _update(model: nn.Module, loss: Callable[[], Tensor]) -> Work:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)
    kind = companion.device().type
    half = torch.autocast(kind, half_on_cuda(), enabled=kind == "cuda")

    def step() -> Tensor:
        optimizer.zero_grad()
        with half:
            value = loss()
        value.backward()
        optimizer.step()
        return value.detach()

    return step


def _next_token_loss(logits: Tensor, ids: Tensor) -> Tensor:
    return nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
    )


def our_way(model: nn.Module) -> Write:
    """Write with `generate`."""

    def write(prompt: Tensor, new_tokens: int, ticks: list[float] | None) -> Tensor:
        strategy = GREEDY if ticks is None else _Ticking(ticks)
        return generate(model, prompt, new_tokens, strategy)

    return write


class _Ticking:
    """Greedy, with a look at the clock before each token."""

    def __init__(self, ticks: list[float]) -> None:
        self.ticks = ticks

    def choose(self, logits: Tensor, token_ids: Tensor, generator: None) -> Tensor:
        self.ticks.append(now())
        return GREEDY.choose(logits, token_ids)


def their_way(model: nn.Module, options: Mapping[str, Any] | None = None) -> Write:
    """Write with the ``generate`` of `transformers`, which keeps a cache too."""

    def write(prompt: Tensor, new_tokens: int, ticks: list[float] | None) -> Tensor:
        def look(token_ids: Tensor, scores: Tensor) -> Tensor:
            ticks.append(now())
            return scores

        return model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=new_tokens,
            do_sample=False,
            logits_processor=[] if ticks is None else [look],
            **(options or {}),
        )

    return write


def clocked(write: Write, prompt: Tensor, new_tokens: int) -> Work:
    """Time the first token, for which the prompt is read, apart from those after it."""

    def work() -> Timed:
        ticks = [now()]
        tokens = write(prompt, new_tokens, ticks)
        first, *others = (b - a for a, b in pairwise(ticks))
        return Timed(tokens, {FIRST: first, NEXT: statistics.median(others)})

    return work


def with_best_attention(model: nn.Module, work: Work) -> str:
    """Give ``model`` the quicker of its attentions for the work; return its full name."""
    spent = {}
    for name in ("sdpa", "eager"):
        model.set_attn_implementation(name)
        work()
        start = now()
        work()
        spent[name] = now() - start
    best = min(spent, key=spent.__getitem__)
    model.set_attn_implementation(best)
    return f"{type(model).__name__} ({best})"
