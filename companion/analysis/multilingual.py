"""One model for several target languages: a token before the source says which one.

From German to English, Spanish and French, on the names of emoji. The result is kept
beside this file, in ``multilingual.csv``. Made anew by

    python -m companion.analysis.multilingual

which takes about two minutes on one core of a laptop.

Source: Johnson et al. (2017), "Google's Multilingual Neural Machine Translation System".
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from companion.analysis.ablations import Task
from companion.data.bpe import train_bpe
from companion.data.emoji_names import load_emoji_pairs, split_by_combination
from companion.data.parallel import Pair
from companion.data.translation import encode_pairs
from companion.models.transformer import Transformer
from companion.runtime import device, seed_everything
from companion.training import TokenBatches, train_transformer
from companion.training.translate import Scores, score, translate_pairs

LANGUAGES = ("en", "es", "fr")
STEPS = 1000
MAX_TOKENS = 1024

_RESULTS = Path(__file__).with_suffix(".csv")


@functools.cache
def multilingual_task(vocab_size: int = 2500) -> Task:
    """German names with their translations; a held-out combination is so in all languages."""
    split = split_by_combination(load_emoji_pairs("de", LANGUAGES), test=0.2)
    texts = [text for pair in split.train for text in (pair.source, pair.target)]
    return Task(split, train_bpe(texts, vocab_size, LANGUAGES))


def train(steps: int = STEPS, seed: int = 0, *, progress: bool = False) -> Transformer:
    """One model that writes all languages."""
    split, tokenizer = multilingual_task()
    size = tokenizer.vocab_size
    seed_everything(seed)
    model = Transformer(
        size,
        size,
        d_model=96,
        num_heads=4,
        d_ff=384,
        num_encoder_layers=2,
        num_decoder_layers=2,
        max_seq_len=64,
        dropout=0.0,
        shared_vocabulary=True,
        tied_output=True,
    ).to(device())
    batches = TokenBatches(encode_pairs(split.train, tokenizer), MAX_TOKENS, seed=seed)
    train_transformer(
        model,
        batches,
        num_steps=steps,
        warmup_steps=200,
        lr_factor=0.4,
        progress=progress,
    )
    return model


def measure(model: Transformer) -> dict[str, Scores]:
    """The scores of each language on its test pairs."""
    split, tokenizer = multilingual_task()
    scores = {}
    for language in LANGUAGES:
        pairs = [pair for pair in split.test if pair.language == language]
        written = translate_pairs(model, tokenizer, pairs, batch=200)
        scores[language] = score(written, [pair.target for pair in pairs])
    return scores


def translate_into(
    model: Transformer, sources: Sequence[str], language: str
) -> list[str]:
    """The same German in the language that is asked for."""
    _, tokenizer = multilingual_task()
    wanted = Pair("", "", language)
    asked = [replace(wanted, source=source) for source in sources]
    return translate_pairs(model, tokenizer, asked, batch=200)


def stored_results() -> dict[str, Scores]:
    """Language -> scores, from ``multilingual.csv``."""
    with _RESULTS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    return {
        row["language"]: Scores(*(float(row[name]) for name in Scores._fields))
        for row in rows
    }


def main() -> None:
    """Train the model and write ``multilingual.csv``."""
    from datetime import date

    scores = measure(train(progress=True))
    with _RESULTS.open("w", encoding="utf-8", newline="") as file:
        file.write(
            "# Scores on held-out combinations, one model for all languages. Made by\n"
            f"# python -m companion.analysis.multilingual: {STEPS} steps of up to "
            f"{MAX_TOKENS} tokens, seed 0,\n"
            f"# {device().type}, torch {torch.__version__}, {date.today()}\n"
        )
        table = csv.writer(file)
        table.writerow(["language", *Scores._fields])
        for language, (exact, bleu, chrf) in scores.items():
            table.writerow([language, f"{exact:.4f}", f"{bleu:.2f}", f"{chrf:.2f}"])
            print(language, Scores(exact, bleu, chrf))


if __name__ == "__main__":
    main()
