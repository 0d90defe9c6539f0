"""Fine-tuning a pre-trained encoder: sentiment of sentences from movie reviews.

The encoder is MiniLM. Beside it: the same encoder with its weights kept as they are
("frozen"), under a logistic regression, and a logistic regression on the words. Results
by the number of labels are kept beside this file, in ``finetuning.csv``. Made anew by

    python -m companion.analysis.finetuning

which takes about five minutes on one core. `fine_tune` serves the other tasks too.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.data import DataLoader

from companion.analysis.semantic_search import embed, load_minilm
from companion.data.texts import movie_snippets
from companion.data.tokenizers import TextTokenizer
from companion.models.bert_tasks import BERTForSequenceClassification
from companion.runtime import device, seed_everything
from companion.training import CosineWithWarmup, Trainer
from companion.training.errors import Row

Inputs = dict[str, Tensor]  # what a model's ``loss`` takes, by name

_RESULTS = Path(__file__).with_suffix(".csv")


def fine_tune(
    model: nn.Module,
    batches: Sequence[Inputs],
    *,
    epochs: int,
    peak_lr: float = 3e-4,
    frozen_layers: int = 0,
    seed: int = 0,
    progress: bool = True,
) -> list[Row]:
    """Train ``model.loss`` by AdamW, with a warm-up over a tenth of the updates.

    Args:
        model: with an ``encoder``; left in evaluation mode.
        batches: of one epoch, met in a new order in each. Labels are called ``labels``
            or ``spans``, and -100 is none.
        epochs: how often to go over them.
        peak_lr: the highest learning rate. It is small: large steps would wipe out what
            was learned before.
        frozen_layers: the embeddings and so many layers keep their weights, which saves
            the backward pass through them; 0 trains everything.
        seed: of the order and of dropout.
        progress: whether to show a progress bar.

    Returns:
        A row for each update.
    """
    seed_everything(seed)
    if frozen_layers:
        lower = [model.encoder.embedding, *model.encoder.layers[:frozen_layers]]
        for part in lower:
            part.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    steps = epochs * len(batches)
    optimizer = torch.optim.AdamW(trained, lr=peak_lr, weight_decay=0.01)
    trainer = Trainer(
        model=model,
        optimizer=optimizer,
        batches=DataLoader(batches, batch_size=None, shuffle=True),
        loss=_summed_loss,
        scheduler=CosineWithWarmup(optimizer, steps // 10, steps, min_lr_ratio=0.0),
        progress=progress,
    )
    return trainer.run(num_epochs=epochs)


def _summed_loss(model: nn.Module, batch: Inputs) -> tuple[Tensor, Tensor]:
    target = batch["labels"] if "labels" in batch else batch["spans"]
    number = (target != -100).sum()
    return model.loss(**batch) * number, number


def by_length(texts: Sequence[str], size: int) -> list[list[int]]:
    """Which texts go into a batch together: those of like length, so that little is padding."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    return [order[start : start + size] for start in range(0, len(order), size)]


class Snippets(NamedTuple):
    """Sentences, and whether each is positive (1) or negative (0)."""

    texts: list[str]
    labels: Int[Tensor, "texts"]

    def first(self, number: int) -> Snippets:
        """The first so many of them."""
        return Snippets(self.texts[:number], self.labels[:number])


def sentiment_data(
    num_train: int = 4000, num_test: int = 800
) -> tuple[Snippets, Snippets]:
    """Two disjoint random parts of the movie snippets, those with a score of 0 left out.

    The parts are always the same, and a smaller one is the beginning of a larger one.
    """
    rated = [(text, score) for text, score in movie_snippets() if score]
    order = torch.randperm(len(rated), generator=torch.Generator().manual_seed(0))
    rated = [rated[i] for i in order.tolist()]

    def part(rows: list[tuple[str, float]]) -> Snippets:
        labels = torch.tensor([int(score > 0) for _, score in rows])
        return Snippets([text for text, _ in rows], labels)

    return part(rated[num_test : num_test + num_train]), part(rated[:num_test])


def sentiment_batches(
    tokenizer: TextTokenizer, snippets: Snippets, size: int = 16
) -> list[Inputs]:
    """Batches as `fine_tune` takes them."""
    batches = []
    for rows in by_length(snippets.texts, size):
        tokens = tokenizer.batch([snippets.texts[i] for i in rows])
        batches.append(
            {
                "token_ids": tokens.token_ids,
                "mask": tokens.mask,
                "labels": snippets.labels[rows],
            }
        )
    return batches


def sentiment_model(seed: int = 0) -> BERTForSequenceClassification:
    """MiniLM under a fresh layer with two classes, on the book's device.

    It reads the mean over the tokens, which is what MiniLM was trained to put meaning in.
    """
    encoder, _ = load_minilm()
    seed_everything(seed)
    return BERTForSequenceClassification(encoder, 2, pooling="mean").to(device())


@torch.no_grad()
def class_scores(
    model: nn.Module, tokenizer: TextTokenizer, texts: Sequence[str], batch: int = 32
) -> Float[Tensor, "texts classes"]:
    """The probability of each class, for each text (on the CPU)."""
    model.eval()
    found: dict[int, Tensor] = {}
    for rows in by_length(texts, batch):
        tokens = tokenizer.batch([texts[i] for i in rows]).to(device())
        scores = model(tokens.token_ids, tokens.mask).softmax(dim=-1).cpu()
        found.update(zip(rows, scores, strict=True))
    return torch.stack([found[i] for i in range(len(texts))])


def accuracy(scores: Float[Tensor, "texts classes"], labels: Tensor) -> float:
    """The share of texts whose own class has the highest score."""
    return (scores.argmax(dim=-1) == labels).float().mean().item()


def frozen_accuracy(
    train_vectors: Tensor, train_labels: Tensor, test_vectors: Tensor, labels: Tensor
) -> float:
    """Of a logistic regression on vectors that no training has changed."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=10.0, max_iter=2000)
    model.fit(train_vectors.numpy(), train_labels.numpy())
    return float(model.score(test_vectors.numpy(), labels.numpy()))


def bag_of_words_accuracy(
    train: Sequence[str], train_labels: Tensor, test: Sequence[str], labels: Tensor
) -> float:
    """Of a logistic regression on words and pairs of words, weighted by tf-idf."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(C=10.0, max_iter=2000),
    )
    model.fit(train, train_labels.numpy())
    return float(model.score(test, labels.numpy()))


def stored_accuracy() -> dict[str, dict[int, list[float]]]:
    """Method -> number of labels -> the accuracy of each seed, from ``finetuning.csv``."""
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    with _RESULTS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            found[row["method"]][int(row["labels"])].append(float(row["accuracy"]))
    return {method: dict(rows) for method, rows in found.items()}


# Number of labels -> epochs, seeds. The embeddings and the lower half are kept: it takes
# half the time, and the upper layers are the ones that change most.
_RUNS = {250: (2, 1), 1000: (1, 1), 4000: (1, 1)}
_FROZEN = 3


def main() -> None:
    """Train with few and with many labels, and write ``finetuning.csv``."""
    from datetime import date

    train, test = sentiment_data()
    encoder, tokenizer = load_minilm()
    vectors = embed(encoder, tokenizer, train.texts)
    test_vectors = embed(encoder, tokenizer, test.texts)
    with _RESULTS.open("w", encoding="utf-8", newline="") as file:
        file.write(
            f"# Accuracy on {len(test.texts):,} movie snippets by number of labels. Made by\n"
            "# python -m companion.analysis.finetuning: batch 16, peak rate 3e-4,\n"
            f"# lowest {_FROZEN} layers frozen, labels and epochs "
            f"{', '.join(f'{n}: {e}' for n, (e, _) in _RUNS.items())};\n"
            f"# {device().type}, one thread, torch {torch.__version__}, {date.today()}\n"
        )
        table = csv.writer(file)
        table.writerow(["method", "labels", "seed", "accuracy"])

        def write(method: str, labels: int, seed: int, value: float) -> None:
            table.writerow([method, labels, seed, f"{value:.4f}"])
            file.flush()
            print(method, labels, seed, f"{value:.4f}")

        for number, (epochs, seeds) in _RUNS.items():
            some = train.first(number)
            words = bag_of_words_accuracy(
                some.texts, some.labels, test.texts, test.labels
            )
            write("bag of words", number, 0, words)
            kept = frozen_accuracy(
                vectors[:number], some.labels, test_vectors, test.labels
            )
            write("frozen", number, 0, kept)
            for seed in range(seeds):
                model = sentiment_model(seed)
                fine_tune(
                    model,
                    sentiment_batches(tokenizer, some),
                    epochs=epochs,
                    frozen_layers=_FROZEN,
                    seed=seed,
                )
                scores = class_scores(model, tokenizer, test.texts)
                write("fine-tuned", number, seed, accuracy(scores, test.labels))


if __name__ == "__main__":
    main()
