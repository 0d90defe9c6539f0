"""Write on with a language model, a token at a time:

    python -m companion.generation --checkpoint DIR --prompt "To be, or"

``DIR`` is a folder of ``companion.training.lm``, or any local checkpoint folder of GPT-2 or
LLaMA in Hugging Face's form with a ``tokenizer.json``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn

from companion.generation import Greedy, Sampling, stream
from companion.models.hf import CONFIG, read_hf
from companion.runtime import device


def load_language_model(folder: str | Path) -> tuple[nn.Module, Tokenizer]:
    """The model and the tokenizer of a checkpoint folder.

    Raises:
        ValueError: not such a folder, a model that is neither GPT-2 nor LLaMA, or no
            ``tokenizer.json``.
    """
    from companion.models.gpt import GPT
    from companion.models.llama import LLaMA

    folder = Path(folder).expanduser()
    if not (folder / CONFIG).is_file() and (folder / "model" / CONFIG).is_file():
        folder = folder / "model"
    config, _ = read_hf(folder)
    kinds: dict[str, Callable[[Path], nn.Module]] = {
        "gpt2": GPT.from_hf,
        "llama": LLaMA.from_hf,
    }
    kind = config["model_type"]
    if kind not in kinds:
        raise ValueError(
            f"checkpoint must hold a model of type {' or '.join(kinds)}, but {folder} "
            f"holds one of type {kind!r}"
        )
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise ValueError(
            f"checkpoint must hold a tokenizer.json, but {folder} has none"
        )
    return kinds[kind](folder).to(device()), Tokenizer.from_file(str(file))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 1 with a message where it cannot."""
    options = _parser().parse_args(arguments)
    try:
        model, tokenizer = load_language_model(options.checkpoint)
        prompt = tokenizer.encode(options.prompt).ids
        if not prompt:
            raise ValueError("prompt must hold at least one token, but it is empty")
        strategy = (
            Greedy()
            if options.temperature == 0
            else Sampling(
                temperature=options.temperature,
                top_k=options.top_k,
                top_p=options.top_p,
            )
        )
        draw = torch.Generator().manual_seed(options.seed)
        end = tokenizer.token_to_id("<|endoftext|>")
        tokens = stream(
            model,
            prompt,
            options.tokens,
            strategy,
            stop_ids=() if end is None else (end,),
            crop=True,
            generator=draw,
        )
        _write(tokenizer, prompt, tokens)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _write(tokenizer: Tokenizer, prompt: Sequence[int], tokens: Iterator[int]) -> None:
    """Print what is new of the text after each token, and at the end the speed.

    A character may be made of several tokens: it is printed when it is whole.
    """
    ids, shown = list(prompt), ""

    def show() -> None:
        nonlocal shown
        text = tokenizer.decode(ids).rstrip("\ufffd")
        print(text[len(shown) :], end="", flush=True)
        shown = text

    show()
    started = time.perf_counter()
    for token in tokens:
        ids.append(token)
        show()
    number, seconds = len(ids) - len(prompt), time.perf_counter() - started
    print(f"\n\n{number} tokens, {number / seconds:,.0f} a second", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m companion.generation",
        description="Write on with a language model, a token at a time.",
    )
    add = parser.add_argument
    add("--checkpoint", required=True, help="folder of the model")
    add("--prompt", default="\n", help="what to go on from")
    add("--tokens", type=int, default=200, help="how many to write (200)")
    add("--temperature", type=float, default=0.8, help="0 takes the likeliest (0.8)")
    add("--top-k", type=int, help="draw from so many of the likeliest")
    add("--top-p", type=float, help="draw from the likeliest with this probability")
    add("--seed", type=int, default=0, help="of what is drawn (0)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
