"""Train a GPT on any text, with one command:

    python -m companion.training.lm --text FILE_OR_FOLDER --preset tiny --out RUN

The text is tokenized once, into a file from which training reads. The folder ``RUN`` gets
that file, checkpoints, the history, and at the end ``model``: a checkpoint that
``companion.generation`` and Hugging Face's ``transformers`` load. Killed at any moment, the
same command with ``--resume`` goes on. On several devices:

    torchrun --standalone --nproc-per-node 2 -m companion.training.lm --strategy fsdp ...
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn
from torch.optim import AdamW

from companion.data.byte_tokenizer import byte_level_tokenizer
from companion.data.token_file import (
    ShuffledWindows,
    TokenFile,
    text_files,
    tokenize,
)
from companion.generation import Sampling, stream
from companion.models.export import save_hf
from companion.models.gpt import GPT
from companion.runtime import device, seed_everything
from companion.training.checkpoints import CheckpointError
from companion.training.errors import Row, TrainingError
from companion.training.evaluation import Precision, evaluate
from companion.training.language_modeling import next_token_loss
from companion.training.loop import Trainer
from companion.training.parallel import STRATEGIES, OneProcess, start
from companion.training.schedules import CosineWithWarmup


@dataclass(frozen=True)
class Preset:
    """A model, and how it is trained unless options say otherwise.

    Attributes:
        d_model, num_heads, num_layers: of the GPT.
        length: tokens that it reads at once.
        batch_size: windows in a batch, which the processes share among them.
        accumulate: batches in an update.
        lr: peak of the learning rate.
        steps: updates.
        tokenizer: ``"gpt2"``, ``"bytes"``, or ``"bpe:N"`` for N tokens learned from the text.
    """

    d_model: int
    num_heads: int
    num_layers: int
    length: int
    batch_size: int
    accumulate: int
    lr: float
    steps: int
    tokenizer: str


PRESETS = {
    "tiny": Preset(128, 4, 4, 128, 16, 1, 2e-3, 2_000, "bpe:1024"),
    "small": Preset(384, 6, 6, 256, 32, 1, 1e-3, 10_000, "bpe:8192"),
    # Half a million tokens an update: Brown et al. (2020), table 2.1, "Small".
    "gpt2": Preset(768, 12, 12, 1024, 16, 32, 6e-4, 20_000, "gpt2"),
}


def new_optimizer(model: nn.Module, lr: float, weight_decay: float = 0.1) -> AdamW:
    """AdamW as Brown et al. (2020), appendix B; only matrices decay."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return AdamW(groups, lr, betas=(0.9, 0.95), fused=device().type == "cuda")


def load_tokenizer(choice: str, files: Sequence[Path]) -> Tokenizer:
    """The tokenizer that ``choice`` names.

    Args:
        choice: ``"gpt2"``, ``"bytes"``, ``"bpe:N"``, or the path of a ``tokenizer.json``.
        files: what ``"bpe:N"`` learns from.

    Raises:
        ValueError: none of these.
    """
    if choice == "gpt2":
        from companion.data.gpt2_tokenizer import load_gpt2_tokenizer

        return load_gpt2_tokenizer()
    if choice == "bytes":
        return byte_level_tokenizer(files)
    kind, _, number = choice.partition(":")
    if kind == "bpe" and number.isdigit():
        return byte_level_tokenizer(files, int(number))
    if Path(choice).expanduser().is_file():
        return Tokenizer.from_file(str(Path(choice).expanduser()))
    raise ValueError(
        "tokenizer must be 'gpt2', 'bytes', 'bpe:N' with the number of tokens, or the path "
        f"of a tokenizer.json, but it is {choice!r}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 1 with a message where it cannot."""
    options = _parser().parse_args(arguments)
    try:
        preset = _with_options(PRESETS[options.preset], options)
        parallel = start(options.strategy, options.precision)
        try:
            _run(preset, parallel, options)
        finally:
            parallel.close()
    except (ValueError, OSError, TrainingError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(preset: Preset, parallel: OneProcess, options: argparse.Namespace) -> None:
    out = Path(options.out).expanduser()
    out.mkdir(parents=True, exist_ok=True)

    def say(text: str) -> None:
        if parallel.rank == 0:
            print(text, flush=True)

    _check_same_run(out, preset, parallel, options)
    # Rank 0 tokenizes while the others wait; then all of them find the file.
    parallel.once(_tokenized, out, preset, options)
    tokenizer, tokens = _tokenized(out, preset, options)
    train, held_out = _split(tokens, options.validation)
    say(
        f"{tokens.num_bytes:,} bytes of text in {len(tokens):,} tokens "
        f"of {tokens.vocab_size:,} kinds; {len(held_out):,} are held out"
    )
    seed_everything(options.seed)
    model = GPT(
        tokens.vocab_size,
        preset.d_model,
        preset.num_heads,
        num_layers=preset.num_layers,
        max_seq_len=preset.length,
        dropout=options.dropout,
    )
    model = parallel.shard(model)
    number = sum(p.numel() for p in model.parameters())
    per_update = preset.length * preset.batch_size * preset.accumulate
    say(f"{number:,} parameters, {per_update:,} tokens an update")
    seed_everything(options.seed + parallel.rank)  # dropout differs between ranks
    optimizer = new_optimizer(model, preset.lr, options.weight_decay)
    shards = {"rank": parallel.rank, "world_size": parallel.world_size}
    batches = ShuffledWindows(
        train, preset.length, preset.batch_size, seed=options.seed, **shards
    )
    validation = _in_order(held_out, preset.length, preset.batch_size)
    trainer = Trainer(
        model=model,
        optimizer=optimizer,
        batches=batches,
        loss=next_token_loss,
        scheduler=CosineWithWarmup(optimizer, max(1, preset.steps // 50), preset.steps),
        accumulate=preset.accumulate,
        precision=options.precision,
        compile=options.compile,
        validation=validation,
        evaluate_every=options.evaluate_every,
        checkpoints=parallel.checkpoints(out / "checkpoints", keep_last=2),
        checkpoint_every=options.checkpoint_every,
        resume=options.resume,
        progress=not options.quiet,
        parallel=parallel,
    )
    history = trainer.run(num_steps=options.stop_after or preset.steps)
    nats = evaluate(model, validation, next_token_loss, precision=options.precision)
    weights = parallel.weights(model)
    if parallel.rank == 0:
        _write_history(out / "history.csv", history)
        per_byte = nats / math.log(2) * len(tokens) / tokens.num_bytes
        say(f"held out: {nats:.3f} nats a token, {per_byte:.3f} bits a byte")
        whole = _whole_model(tokens.vocab_size, preset, options, weights)
        save_hf(whole, out / "model")
        tokenizer.save(str(out / "model" / "tokenizer.json"))
        say(f"the model is in {out / 'model'}")
        _show_sample(whole, tokenizer, options)


def _whole_model(
    vocab_size: int, preset: Preset, options: argparse.Namespace, weights: dict
) -> GPT:
    """On one device again, whatever the strategy has made of the model."""
    with torch.device("meta"):
        model = GPT(
            vocab_size,
            preset.d_model,
            preset.num_heads,
            num_layers=preset.num_layers,
            max_seq_len=preset.length,
            dropout=options.dropout,
        )
    model.load_state_dict(weights, assign=True)
    model.output_projection.weight = model.token_embedding.weight
    return model.to(device()).eval()


def _tokenized(
    out: Path, preset: Preset, options: argparse.Namespace
) -> tuple[Tokenizer, TokenFile]:
    files = text_files(options.text)
    kept = out / "tokenizer.json"
    if kept.is_file():
        tokenizer = Tokenizer.from_file(str(kept))
    else:
        tokenizer = load_tokenizer(preset.tokenizer, files)
        tokenizer.save(str(kept))
    name = hashlib.sha256(kept.read_bytes()).hexdigest()
    end = tokenizer.token_to_id("<|endoftext|>")
    tokens = tokenize(
        files,
        lambda text: tokenizer.encode(text).ids,
        tokenizer.get_vocab_size(),
        out / "tokens.bin",
        tokenizer=name,
        separator=() if end is None else (end,),
        progress=not options.quiet,
    )
    return tokenizer, tokens


def _split(tokens: TokenFile, share: float) -> tuple[Any, Any]:
    """The beginning to train on, and the end to measure on."""
    if not 0 < share < 1:
        raise ValueError(f"validation must be between 0 and 1, but it is {share}")
    ids = tokens.tokens()
    cut = int(len(ids) * (1 - share))
    return ids[:cut], ids[cut:]


def _in_order(ids: Any, length: int, batch_size: int, most: int = 64) -> list:
    """Up to ``most`` batches of windows of the held-out text, the same each time."""
    number = min((len(ids) - 1) // length, most * batch_size)
    if number < 1:
        raise ValueError(
            f"the held-out text has {len(ids)} tokens, fewer than one window of {length}; "
            "give more text, or a larger --validation"
        )
    windows = [
        torch.from_numpy(ids[i * length : (i + 1) * length + 1].astype("int64"))
        for i in range(number)
    ]
    return list(torch.stack(windows).split(batch_size))


def _check_same_run(
    out: Path, preset: Preset, parallel: OneProcess, options: argparse.Namespace
) -> None:
    """A run is resumed with the options that it was started with, or not at all."""
    file = out / "run.json"
    wanted = {
        "text": str(Path(options.text).expanduser().resolve()),
        "seed": options.seed,
        "strategy": options.strategy,
        "dropout": options.dropout,
        **{name: getattr(preset, name) for name in preset.__dataclass_fields__},
    }
    if file.is_file() and options.resume:
        known = json.loads(file.read_text(encoding="utf-8"))
        wrong = [
            f"  {name} was {known.get(name)!r} and is {value!r}"
            for name, value in wanted.items()
            if known.get(name) != value
        ]
        if wrong:
            raise ValueError(
                f"the run in {out} was started with other options:\n" + "\n".join(wrong)
            )
    elif parallel.rank == 0:
        file.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")


def _write_history(path: Path, history: Sequence[Row]) -> None:
    columns = ["step", "epoch", "loss", "lr", "grad_norm", "tokens", "validation_loss"]
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns, extrasaction="ignore")
        table.writeheader()
        table.writerows(history)


def _show_sample(model: GPT, tokenizer: Tokenizer, options: argparse.Namespace) -> None:
    if not options.sample:
        return
    prompt = tokenizer.encode(options.prompt).ids or [0]
    draw = torch.Generator().manual_seed(options.seed)
    ids = [*prompt]
    for token in stream(
        model,
        prompt,
        options.sample,
        Sampling(temperature=0.8, top_k=50),
        crop=True,
        generator=draw,
    ):
        ids.append(token)
    print(tokenizer.decode(ids, skip_special_tokens=False))


def _with_options(preset: Preset, options: argparse.Namespace) -> Preset:
    given = {
        name: getattr(options, name)
        for name in preset.__dataclass_fields__
        if getattr(options, name) is not None
    }
    for name, value in given.items():
        if not isinstance(value, str) and value <= 0:
            raise ValueError(f"{name} must be positive, but it is {value}")
    return replace(preset, **given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m companion.training.lm",
        description="Train a GPT on your own text.",
    )
    add = parser.add_argument
    add("--text", required=True, help="a UTF-8 file, or a folder of *.txt and *.md")
    add("--preset", default="tiny", choices=PRESETS, help="model and training")
    add("--out", default="language-model", help="folder of this run")
    add("--resume", action="store_true", help="go on with the run in --out, if any")
    add("--quiet", action="store_true", help="show no progress bar")
    add("--strategy", default="single", choices=STRATEGIES, help="under torchrun")
    precision: tuple[Precision, ...] = ("fp32", "bf16", "fp16")
    add("--precision", default="fp32", choices=precision, help="of products")
    add("--compile", action="store_true", help="run through torch.compile")
    for name in PRESETS["tiny"].__dataclass_fields__:
        kind = type(getattr(PRESETS["tiny"], name))
        add("--" + name.replace("_", "-"), type=kind, help="in place of the preset's")
    numbers: dict[str, tuple[Any, str]] = {
        "validation": (0.05, "share of the text, its end, that is held out"),
        "dropout": (0.0, "dropout; 0 where no text is seen twice"),
        "weight_decay": (0.1, "of matrices"),
        "evaluate_every": (200, "updates between two measurements"),
        "checkpoint_every": (200, "updates between two checkpoints"),
        "stop_after": (0, "stop after so many updates, to go on later; 0: at the end"),
        "sample": (100, "tokens to write at the end"),
        "seed": (0, "of weights and order"),
    }
    for name, (default, text) in numbers.items():
        flag = "--" + name.replace("_", "-")
        add(flag, type=type(default), default=default, help=f"{text} ({default})")
    add("--prompt", default="\n", help="what the sample begins with")
    return parser


if __name__ == "__main__":
    sys.exit(main())
