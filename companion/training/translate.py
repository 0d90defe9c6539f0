"""Train a translator on any parallel text, with one command:

    python -m companion.training.translate --pairs FILE.tsv --out RUN
    python -m companion.training.translate --source FILE.de --target FILE.en --out RUN

It splits the pairs, learns a vocabulary from the training part, trains a `Transformer`,
and scores it on the test part, which nothing else has seen. The folder ``RUN`` gets the
tokenizer, checkpoints, the translations of the test part and the scores. Killed at any
moment, the same command with ``--resume`` goes on and ends with the same weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from companion.data.bpe import BPETokenizer, load_bpe, train_bpe
from companion.data.parallel import (
    Pair,
    ParallelText,
    Split,
    read_parallel,
    read_tsv,
    split_pairs,
)
from companion.data.translation import (
    TranslationTokenizer,
    batch_sources,
    encode_pairs,
)
from companion.generation import translate
from companion.models.transformer import Transformer
from companion.runtime import seed_everything
from companion.training.batching import TokenBatches
from companion.training.checkpoints import (
    Checkpoints,
    load_weights,
)
from companion.training.command import exit_status
from companion.training.recipes import train_transformer

# Translating and scoring


class Scores(NamedTuple):
    """How good translations are, as the field counts.

    Attributes:
        exact: the share that equals its reference, in [0, 1].
        bleu: BLEU of the whole set (Papineni et al., 2002), in [0, 100].
        chrf: chrF of the whole set (Popović, 2015), in [0, 100].
    """

    exact: float
    bleu: float
    chrf: float

    def __str__(self) -> str:
        return (
            f"exact match {self.exact:.1%}, BLEU {self.bleu:.1f}, chrF {self.chrf:.1f}"
        )


def score(translations: Sequence[str], references: Sequence[str]) -> Scores:
    """Exact match here, BLEU and chrF by sacrebleu with its defaults.

    Raises:
        ValueError: there are none, or not as many references as translations.
    """
    import sacrebleu

    if not translations or len(translations) != len(references):
        raise ValueError(
            "translations and references must be equally many and at least one, but "
            f"they are {len(translations)} and {len(references)}"
        )
    hits = sum(a == b for a, b in zip(translations, references, strict=True))
    references = [list(references)]
    return Scores(
        hits / len(translations),
        sacrebleu.corpus_bleu(translations, references).score,
        sacrebleu.corpus_chrf(translations, references).score,
    )


def translate_pairs(
    model: nn.Module,
    tokenizer: TranslationTokenizer,
    pairs: Sequence[Pair],
    *,
    num_beams: int = 1,
    batch: int = 64,
    use_cache: bool = True,
) -> list[str]:
    """A translation of the source of each pair, on the device that the model is on.

    Args:
        model: an encoder-decoder; see `companion.generation.translate`.
        tokenizer: of both languages.
        pairs: what to translate; their targets are not looked at.
        num_beams: 1 is greedy.
        batch: how many to translate at a time.
        use_cache: whether the model's decoder takes a key-value cache.
    """
    where = next(model.parameters()).device
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i].source))
    texts = [""] * len(pairs)
    for start in range(0, len(pairs), batch):
        chosen = order[start : start + batch]
        sources, mask = batch_sources(
            [pairs[i].source for i in chosen],
            tokenizer,
            [pairs[i].language for i in chosen] if tokenizer.languages else None,
        )
        # What is more than twice as long as its source, and then some, has gone astray.
        longest = 2 * sources.shape[1] + 10
        written = translate(
            model,
            sources.to(where),
            min(longest, getattr(model, "max_seq_len", longest)),
            start_id=tokenizer.bos_id,
            source_mask=mask.to(where),
            num_beams=num_beams,
            stop_ids=[tokenizer.eos_id],
            pad_id=tokenizer.pad_id,
            use_cache=use_cache,
        )
        for i, ids in zip(chosen, written, strict=True):
            texts[i] = tokenizer.decode(ids)
    return texts


# The command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Exit status: 0 fine, 1 training failed, 2 bad input, 130 stopped."""
    return exit_status(run, _parser().parse_args(arguments))


def run(options: argparse.Namespace) -> Scores:
    """Read, split, train, translate, score; see the module.

    Raises:
        ValueError, OSError: the files, the options, or a folder that holds another run.
        TrainingError, CheckpointError: training failed, or cannot go on.
    """
    text = _read(options)
    print(text.report())
    split = split_pairs(text.pairs, options.validation, options.test, seed=options.seed)
    print("pairs:", ", ".join(f"{len(p):,} {name}" for name, p in _named(split)))
    for name, pairs in _named(split):
        if not pairs:
            raise ValueError(
                f"the {name} part of {len(text.pairs)} pairs is empty; give more pairs "
                f"or a larger --{name}"
            )
    out = Path(options.out)
    tokenizer = _start(out, options, text, split)
    (out / "left_out.txt").write_text(
        "".join(f"{bad}\n" for bad in text.bad_lines), encoding="utf-8"
    )
    seed_everything(options.seed)
    model = _new_model(options, tokenizer)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{tokenizer.vocab_size:,} tokens, {parameters:,} parameters")

    batches = _batches(split.train, tokenizer, options)
    validation = _batches(split.validation, tokenizer, options, shuffle=False)
    checkpoints = Checkpoints(out / "checkpoints")
    history = train_transformer(
        model,
        batches,
        num_steps=options.steps,
        warmup_steps=options.warmup_steps,
        label_smoothing=options.label_smoothing,
        lr_factor=options.lr_factor,
        validation=validation,
        evaluate_every=options.evaluate_every,
        patience=options.patience,
        precision=options.precision,
        checkpoints=checkpoints,
        checkpoint_every=options.checkpoint_every,
        resume=options.resume,
        progress=not options.quiet,
    )
    if checkpoints.best.exists():
        load_weights(model, checkpoints.best)
    losses = [row["validation_loss"] for row in history if "validation_loss" in row]
    best = f", lowest validation loss {min(losses):.3f}" if losses else ""
    print(f"{history[-1]['step']:,} steps{best}")

    written = translate_pairs(model, tokenizer, split.test, num_beams=options.beams)
    scores = score(written, [pair.target for pair in split.test])
    _write_results(out, split.test, written, scores)
    _show_samples(split.test, written, options.samples)
    print(f"test, {options.beams} beams: {scores}")
    return scores


def _read(options: argparse.Namespace) -> ParallelText:
    if options.pairs is not None:
        if options.source or options.target:
            raise ValueError("give either --pairs or --source and --target")
        return read_tsv(options.pairs)
    if options.source is None or options.target is None:
        raise ValueError("give --pairs FILE.tsv, or --source FILE and --target FILE")
    return read_parallel(options.source, options.target)


def _named(split: Split) -> Iterable[tuple[str, list[Pair]]]:
    return zip(("training", "validation", "test"), split, strict=True)


# What a run that goes on may change: how long it lasts, and what it shows.
_MAY_CHANGE = {"pairs", "source", "target", "out", "resume", "quiet", "samples"}
_MAY_CHANGE |= {"steps", "patience", "beams", "checkpoint_every"}


def _start(
    out: Path, options: argparse.Namespace, text: ParallelText, split: Split
) -> BPETokenizer:
    """Begin a run in ``out``, or make sure that the one there is the same; its tokenizer.

    Raises:
        ValueError: ``out`` holds another run, or one that is not to be resumed.
    """
    settings = {k: v for k, v in vars(options).items() if k not in _MAY_CHANGE}
    pairs = "\n".join(f"{pair.source}\t{pair.target}" for pair in text.pairs)
    settings["text"] = hashlib.sha256(pairs.encode()).hexdigest()
    path = out / "settings.json"
    if path.exists():
        if not options.resume:
            raise ValueError(f"{out} holds a run; go on with --resume, or take another")
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = [
            f"{name} was {before.get(name)} and is {settings.get(name)}"
            for name in sorted(before.keys() | settings)
            if before.get(name) != settings.get(name)
        ]
        if changed:
            raise ValueError(f"{out} holds another run: {'; '.join(changed)}")
        return load_bpe(out / "bpe.json")
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = train_bpe(_texts(split.train), options.vocab_size)
    tokenizer.save(out / "bpe.json")
    # Last, and in one go: a run that has its settings has its tokenizer.
    temporary = path.with_name("settings.json.tmp")
    temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)
    return tokenizer


def _texts(pairs: Iterable[Pair]) -> list[str]:
    return [text for pair in pairs for text in (pair.source, pair.target)]


def _new_model(options: argparse.Namespace, tokenizer: BPETokenizer) -> Transformer:
    size = tokenizer.vocab_size
    return Transformer(
        size,
        size,
        options.d_model,
        options.heads,
        options.d_ff or 4 * options.d_model,
        options.layers,
        options.layers,
        # A translation may be longer than what was trained on.
        max_seq_len=2 * options.max_length + 10,
        dropout=options.dropout,
        shared_vocabulary=True,
        tied_output=True,
    )


def _batches(
    pairs: Sequence[Pair],
    tokenizer: BPETokenizer,
    options: argparse.Namespace,
    *,
    shuffle: bool = True,
) -> TokenBatches:
    limit = min(options.max_length, options.max_tokens)
    batches = TokenBatches(
        encode_pairs(pairs, tokenizer),
        options.max_tokens,
        max_length=limit,
        too_long="drop",
        pad_id=tokenizer.pad_id,
        shuffle=shuffle,
        seed=options.seed,
    )
    if batches.dropped:
        lines = ", ".join(str(pairs[i].line) for i in batches.dropped)
        print(
            f"{len(batches.dropped)} pairs longer than {limit} tokens are left out, "
            f"from lines {lines}"
        )
    return batches


def _write_results(
    out: Path, pairs: Sequence[Pair], written: Sequence[str], scores: Scores
) -> None:
    rows = ["source\treference\ttranslation"]
    for pair, text in zip(pairs, written, strict=True):
        rows.append(f"{pair.source}\t{pair.target}\t{text}")
    (out / "test.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (out / "scores.json").write_text(
        json.dumps(scores._asdict(), indent=1) + "\n", encoding="utf-8"
    )


def _show_samples(pairs: Sequence[Pair], written: Sequence[str], count: int) -> None:
    for pair, text in list(zip(pairs, written, strict=True))[:count]:
        mark = "=" if text == pair.target else "≠"
        print(f"  {pair.source}\n    {text}\n  {mark} {pair.target}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m companion.training.translate",
        description="Train a Transformer that translates, on your own parallel text.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    text = parser.add_argument_group("text")
    text.add_argument(
        "--pairs", help="a source, a tab and its translation on each line"
    )
    text.add_argument("--source", help="the sources, one on each line")
    text.add_argument(
        "--target", help="their translations, on lines of the same number"
    )
    run_ = parser.add_argument_group("run")
    run_.add_argument("--out", default="translator", help="folder of this run")
    run_.add_argument(
        "--resume", action="store_true", help="go on with the run in --out, if any"
    )
    run_.add_argument("--quiet", action="store_true", help="show no progress bar")
    numbers: dict[str, tuple[Any, str]] = {
        "validation": (0.1, "share of the pairs to choose the best checkpoint by"),
        "test": (0.1, "share of the pairs to score on"),
        "vocab_size": (2000, "tokens that source and target share"),
        "max_length": (128, "longest source or target, in tokens"),
        "d_model": (96, "width of the model"),
        "heads": (4, "attention heads in a layer"),
        "d_ff": (0, "inner width of the feed-forward networks; 0 is 4 d_model"),
        "layers": (2, "layers of the encoder, and of the decoder"),
        "dropout": (0.1, "dropout"),
        "steps": (2000, "updates of the weights"),
        "max_tokens": (1500, "tokens in a batch, padding included, on each side"),
        "warmup_steps": (400, "updates until the learning rate's peak"),
        "lr_factor": (1.0, "multiplies the learning rate of the paper's schedule"),
        "label_smoothing": (0.1, "label smoothing"),
        "evaluate_every": (100, "updates between two measurements on validation"),
        "patience": (10, "measurements without a new lowest loss until it stops"),
        "checkpoint_every": (100, "updates between two checkpoints"),
        "beams": (4, "beams to translate the test with"),
        "samples": (10, "translations to show"),
        "seed": (0, "of the split, the weights and the batches"),
    }
    for name, (default, help_) in numbers.items():
        flag = "--" + name.replace("_", "-")
        run_.add_argument(flag, type=type(default), default=default, help=help_)
    run_.add_argument(
        "--precision",
        default="fp32",
        choices=("fp32", "bf16", "fp16"),
        help="of products",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
