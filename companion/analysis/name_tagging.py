"""Finding names in a text that has no capitals, by fine-tuning a pre-trained encoder.

The texts are those of `companion.data.bible_names`. Beside the model: a dictionary that
calls a name whatever was one in training. Results are kept beside this file, in
``name_tagging.csv``. Made anew by

    python -m companion.analysis.name_tagging

which takes about two minutes on one core.
"""

from __future__ import annotations

import csv
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from companion.analysis.finetuning import Inputs, by_length, fine_tune
from companion.analysis.semantic_search import load_minilm
from companion.data.bible_names import (
    TEST_BOOKS,
    TRAINING_BOOKS,
    NamedText,
    name_spans,
    named_texts,
)
from companion.data.tokenizers import TextTokenizer
from companion.models.bert_tasks import BERTForTokenClassification
from companion.runtime import device, seed_everything

FROZEN = 2  # lower layers that keep their weights
Spans = Sequence[tuple[int, int]]

_RESULTS = Path(__file__).with_suffix(".csv")


def name_data(
    num_train: int = 600, num_test: int = 500
) -> tuple[list[NamedText], list[NamedText]]:
    """Random verses of the training books, and of the books that are held out.

    They are always the same, and a smaller set is the beginning of a larger one.
    """
    train, test = named_texts(TRAINING_BOOKS), named_texts(TEST_BOOKS)
    random.Random(0).shuffle(train)
    random.Random(0).shuffle(test)
    return train[:num_train], test[:num_test]


def first_tokens(tokenizer: TextTokenizer, text: NamedText) -> list[int]:
    """The place of each word's first token. It is the one that is asked (section 5.3)."""
    starts = {
        start: i
        for i, (start, end) in enumerate(tokenizer.offsets(text.text))
        if end > start
    }
    return [starts[start] for start, _ in text.words]


def name_batches(
    tokenizer: TextTokenizer, texts: Sequence[NamedText], size: int = 16
) -> list[Inputs]:
    """Batches as `fine_tune` takes them: 1 for a word of a name, 0 for another, else -100."""
    batches = []
    for rows in by_length([text.text for text in texts], size):
        tokens = tokenizer.batch([texts[i].text for i in rows])
        labels = torch.full_like(tokens.token_ids, -100)
        for row, i in enumerate(rows):
            places = torch.tensor(first_tokens(tokenizer, texts[i]))
            labels[row, places] = torch.tensor(texts[i].is_name).long()
        batches.append(
            {"token_ids": tokens.token_ids, "mask": tokens.mask, "labels": labels}
        )
    return batches


def tagging_model(seed: int = 0) -> BERTForTokenClassification:
    """MiniLM under a fresh layer with two classes for each token, on the book's device."""
    encoder, _ = load_minilm()
    seed_everything(seed)
    return BERTForTokenClassification(encoder, 2).to(device())


@torch.no_grad()
def find_names(
    model: nn.Module, tokenizer: TextTokenizer, texts: Sequence[NamedText]
) -> list[Spans]:
    """The names that a model finds in each text."""
    model.eval()
    found: list[Spans] = [()] * len(texts)
    for rows in by_length([text.text for text in texts], 32):
        tokens = tokenizer.batch([texts[i].text for i in rows]).to(device())
        says: Tensor = model(tokens.token_ids, tokens.mask).argmax(dim=-1).cpu()
        for row, i in enumerate(rows):
            is_name = says[row, first_tokens(tokenizer, texts[i])].bool().tolist()
            found[i] = name_spans(texts[i].text, texts[i].words, is_name)
    return found


def find_known_names(
    train: Sequence[NamedText], texts: Sequence[NamedText]
) -> list[Spans]:
    """The baseline: a word is one of a name if, in training, it was so more often than not."""
    votes: Counter[str] = Counter()
    for text in train:
        for (start, end), name in zip(text.words, text.is_name, strict=True):
            votes[text.text[start:end]] += 1 if name else -1
    return [
        name_spans(
            text.text, text.words, [votes[text.text[a:b]] > 0 for a, b in text.words]
        )
        for text in texts
    ]


def scores(
    texts: Sequence[NamedText], found: Sequence[Spans], train: Sequence[NamedText]
) -> dict[str, float]:
    """How well the names were found. A name counts if both of its ends are right.

    Returns:
        ``precision``, ``recall`` and ``f1`` of all names, and ``unseen recall``: the
        share found of the names that stand nowhere in ``train``.
    """
    known = {text.span_text(span) for text in train for span in text.spans}
    right = wrong = missed = 0
    unseen: list[bool] = []
    for text, spans in zip(texts, found, strict=True):
        true = set(text.spans)
        right += len(true & set(spans))
        wrong += len(set(spans) - true)
        missed += len(true - set(spans))
        unseen += [s in set(spans) for s in true if text.span_text(s) not in known]
    return {
        "precision": right / max(1, right + wrong),
        "recall": right / max(1, right + missed),
        "f1": 2 * right / max(1, 2 * right + wrong + missed),
        "unseen recall": sum(unseen) / max(1, len(unseen)),
    }


def stored_scores() -> dict[str, dict[str, float]]:
    """Method -> score -> its value, from ``name_tagging.csv``; the mean over seeds."""
    with _RESULTS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    found: dict[str, dict[str, float]] = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        found[method] = {
            score: sum(float(row[score]) for row in mine) / len(mine)
            for score in ("precision", "recall", "f1", "unseen recall")
        }
    return found


def main() -> None:
    """Train on 600 verses and write ``name_tagging.csv``."""
    from datetime import date

    train, test = name_data()
    _, tokenizer = load_minilm()
    with _RESULTS.open("w", encoding="utf-8", newline="") as file:
        file.write(
            f"# Names found in {len(test)} verses of books that are held out, trained on\n"
            f"# {len(train)} verses. Made by python -m companion.analysis.name_tagging:\n"
            f"# 1 epoch, batch 16, peak rate 3e-4, lowest {FROZEN} layers frozen, seeds 0-1;\n"
            f"# {device().type}, one thread, torch {torch.__version__}, {date.today()}\n"
        )
        table = csv.writer(file)
        table.writerow(["method", "seed", "precision", "recall", "f1", "unseen recall"])

        def write(method: str, seed: int, found: Sequence[Spans]) -> None:
            result = scores(test, found, train)
            table.writerow([method, seed, *(f"{x:.4f}" for x in result.values())])
            file.flush()
            print(method, seed, result)

        write("dictionary", 0, find_known_names(train, test))
        for seed in range(2):
            model = tagging_model(seed)
            batches = name_batches(tokenizer, train)
            fine_tune(model, batches, epochs=1, frozen_layers=FROZEN, seed=seed)
            write("fine-tuned MiniLM", seed, find_names(model, tokenizer, test))


if __name__ == "__main__":
    main()
