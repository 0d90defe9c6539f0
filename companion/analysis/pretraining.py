"""What a small BERT learns from text without labels, and whether that helps with few labels.

A model of half a million weights is pre-trained on the King James Bible and Shakespeare with
BERT's two tasks, on one core in minutes. Then it has to tell from which part of the Bible a
verse comes, with 60 to 960 labels, against the same model without pre-training and a
logistic regression on words. A fifth of the Bible's chapters is held out of all of it:
vocabulary, pre-training and labels. Results are kept beside this file, in
``pretraining.csv``. Made anew by

    python -m companion.analysis.pretraining

which takes about five minutes on one core.
"""

from __future__ import annotations

import csv
import json
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import WordPieceTrainer
from torch import Tensor, nn

from companion.analysis.finetuning import (
    Inputs,
    Snippets,
    accuracy,
    bag_of_words_accuracy,
    class_scores,
    fine_tune,
    sentiment_batches,
)
from companion.data.bible import PARTS, Verse, all_verses
from companion.data.texts import plays, sentences, shakespeare
from companion.data.tokenizers import TextTokenizer
from companion.layers import padding_mask, sinusoidal_table
from companion.models.bert import BERT, BERTForPreTraining
from companion.models.bert_tasks import BERTForSequenceClassification
from companion.runtime import device, seed_everything
from companion.training import CosineWithWarmup, Trainer
from companion.training.errors import Row
from companion.training.masked_language import (
    SentencePairs,
    mask_tokens,
    sentence_pairs,
)

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD_ID, _, CLS_ID, SEP_ID, MASK_ID = range(5)
MAX_SEQ_LEN = 32
VOCAB_SIZE = 2048
MASKED = 0.2  # BERT has 0.15; a little more gives a small run more to learn from

_RESULTS = Path(__file__).with_suffix(".csv")
_SAMPLES = _RESULTS.with_name("pretraining_samples.json")

Document = list[list[int]]  # sentences, of token ids


class Split(NamedTuple):
    """The verses of the chapters to learn from, and of those that are held out."""

    train: list[Verse]
    test: list[Verse]


@cache
def bible_split() -> Split:
    """Four fifths of the chapters, and a fifth, at random. Always the same."""
    chapters = list(dict.fromkeys((v.book, v.chapter) for v in all_verses()))
    random.Random(0).shuffle(chapters)
    held_out = set(chapters[: len(chapters) // 5])
    train = [v for v in all_verses() if (v.book, v.chapter) not in held_out]
    return Split(train, [v for v in all_verses() if (v.book, v.chapter) in held_out])


def chapters_of(verses: Sequence[Verse]) -> list[list[str]]:
    """Verses as documents: the texts of each chapter."""
    documents: dict[tuple[str, int], list[str]] = defaultdict(list)
    for verse in verses:
        documents[verse.book, verse.chapter].append(verse.text)
    return list(documents.values())


@cache
def training_documents() -> list[list[str]]:
    """The Bible's training chapters, and Shakespeare in runs of forty sentences."""
    documents = chapters_of(bible_split().train)
    for play in plays():
        lines = sentences(shakespeare(play))
        documents += [lines[i : i + 40] for i in range(0, len(lines), 40)]
    return documents


@cache
def new_tokenizer() -> tuple[TextTokenizer, Tokenizer]:
    """A WordPiece vocabulary of 2,048, learned from the training documents.

    Returns:
        The tokenizer as models of this book take it, and the library's own.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = WordPieceTrainer(
        vocab_size=VOCAB_SIZE, special_tokens=list(SPECIAL), show_progress=False
    )
    texts = (text for document in training_documents() for text in document)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", SEP_ID), ("[CLS]", CLS_ID)
    )
    return TextTokenizer(tokenizer), tokenizer


def as_tokens(documents: Sequence[Sequence[str]]) -> list[Document]:
    """Documents as the token ids of their sentences, without special tokens."""
    _, tokenizer = new_tokenizer()
    found = []
    for document in documents:
        encoded = tokenizer.encode_batch(list(document), add_special_tokens=False)
        found.append([e.ids for e in encoded if e.ids])
    return [document for document in found if document]


def new_model(seed: int = 0) -> BERTForPreTraining:
    """An untrained BERT: one layer of width 128, 4 heads, with both heads of pre-training.

    On one core in minutes, one layer gets further than two, and many small updates
    further than few large ones. For the same reason there is no dropout, matrices start
    with a deviation of 0.1, about 1 / sqrt(128), in place of BERT's 0.02, and positions
    start as sinusoids.
    """
    seed_everything(seed)
    encoder = BERT(VOCAB_SIZE, 128, 4, 512, 1, MAX_SEQ_LEN, 0.0, pooler=True)
    model = BERTForPreTraining(encoder)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.1)
    positions = encoder.embedding.position.weight.data
    positions.copy_(0.2 * sinusoidal_table(*positions.shape))
    return model.to(device())


def tell_frequencies(
    model: BERTForPreTraining, documents: Sequence[Document]
) -> BERTForPreTraining:
    """Start the bias of the masked-language head at the log frequencies of the tokens.

    A model that has to find them itself does so by turning all embeddings one way, and
    takes a thousand updates and more to recover. In trial runs the loss of both tasks
    after 1,700 updates was 6.2 without, and 5.6 with it.
    """
    counts = torch.full((VOCAB_SIZE,), 0.5)
    for document in documents:
        for line in document:
            counts += torch.tensor(line).bincount(minlength=VOCAB_SIZE)
    bias = (counts / counts.sum()).log()
    model.masked_language.bias.data.copy_(bias)
    return model


def make_pairs(
    documents: Sequence[Document], seed: int, wrong: str = "random"
) -> SentencePairs:
    """`sentence_pairs` of the documents, with this model's length and special tokens."""
    return sentence_pairs(
        documents,
        MAX_SEQ_LEN,
        cls_id=CLS_ID,
        sep_id=SEP_ID,
        pad_id=PAD_ID,
        wrong=wrong,
        generator=torch.Generator().manual_seed(seed),
    )


class PreTrainingBatches:
    """Pairs of sentences, masked anew each time they are met.

    Args:
        pairs: what `make_pairs` made.
        size: pairs in a batch.
        seed: of the order and of the masks.
    """

    def __init__(self, pairs: SentencePairs, size: int = 24, seed: int = 0) -> None:
        self.pairs, self.size, self.seed, self.epoch = pairs, size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """The order and the masks depend on the seed and on the epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Inputs]:
        draw = torch.Generator().manual_seed(1000 * self.seed + self.epoch)
        order = torch.randperm(len(self.pairs.token_ids), generator=draw)
        for start in range(0, len(order) - self.size + 1, self.size):
            rows = order[start : start + self.size]
            token_ids, labels = mask_tokens(
                self.pairs.token_ids[rows],
                MASK_ID,
                VOCAB_SIZE,
                range(len(SPECIAL)),
                MASKED,
                generator=draw,
            )
            yield {
                "token_ids": token_ids,
                "labels": labels,
                "is_next": self.pairs.is_next[rows],
                "mask": padding_mask(token_ids, PAD_ID),
                "token_types": self.pairs.token_types[rows],
            }


def pretrain(
    model: BERTForPreTraining,
    pairs: SentencePairs,
    *,
    steps: int,
    seed: int = 0,
    peak_lr: float = 2e-3,
    progress: bool = True,
) -> list[Row]:
    """Train on both tasks, by AdamW with a warm-up and half a cosine; a row an update."""
    seed_everything(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak_lr, weight_decay=0.01)

    def loss(model: BERTForPreTraining, batch: Inputs) -> tuple[Tensor, int]:
        return model.loss(**batch), 1  # a mean already

    trainer = Trainer(
        model=model,
        optimizer=optimizer,
        batches=PreTrainingBatches(pairs, seed=seed),
        loss=loss,
        scheduler=CosineWithWarmup(optimizer, steps // 10, steps, min_lr_ratio=0.05),
        progress=progress,
    )
    return trainer.run(num_steps=steps)


@torch.no_grad()
def masked_accuracy(
    model: BERTForPreTraining, pairs: SentencePairs, seed: int = 0
) -> tuple[float, float]:
    """On masked tokens: the share that is told right, and the loss in nats."""
    model.eval()
    right = number = 0
    total = 0.0
    for batch in PreTrainingBatches(pairs, seed=seed):
        batch = {name: tensor.to(device()) for name, tensor in batch.items()}
        labels, asked = batch["labels"], batch["labels"] != -100
        logits = model(batch["token_ids"], batch["mask"], batch["token_types"])[asked]
        right += int((logits.argmax(dim=-1) == labels[asked]).sum())
        total += float(
            torch.nn.functional.cross_entropy(logits, labels[asked], reduction="sum")
        )
        number += int(asked.sum())
    return right / number, total / number


def most_frequent(
    documents: Sequence[Document], pairs: SentencePairs
) -> tuple[float, float]:
    """The same two numbers for a guess that knows frequencies and no context."""
    counts = Counter(t for document in documents for line in document for t in line)
    total = counts.total() + VOCAB_SIZE
    tokens = [t for t in pairs.token_ids.flatten().tolist() if t >= len(SPECIAL)]
    best = counts.most_common(1)[0][0]
    loss = -sum(math.log((counts[t] + 1) / total) for t in tokens) / len(tokens)
    return tokens.count(best) / len(tokens), loss


@torch.no_grad()
def next_sentence_accuracy(model: BERTForPreTraining, pairs: SentencePairs) -> float:
    """Balanced accuracy: the mean of the accuracies on true and on wrong pairs."""
    model.eval()
    says = []
    for rows in torch.arange(len(pairs.token_ids)).split(64):
        token_ids = pairs.token_ids[rows].to(device())
        logits = model.next_sentence_logits(
            token_ids,
            padding_mask(token_ids, PAD_ID),
            pairs.token_types[rows].to(device()),
        )
        says.append(logits.argmax(dim=-1).cpu() == 0)
    right = torch.cat(says) == pairs.is_next
    return (
        right[pairs.is_next].float().mean() + right[~pairs.is_next].float().mean()
    ).item() / 2


def shared_words_accuracy(pairs: SentencePairs) -> float:
    """Balanced accuracy of a rule: B follows A if the two share many rare tokens.

    "Many" is more than in the median pair, by the cosine of tf-idf vectors. Nothing is
    learned from pairs, and the order of A and B plays no part.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    parts: list[list[int]] = []
    for side in (0, 1):
        for ids, types in zip(pairs.token_ids, pairs.token_types, strict=True):
            ids = ids[types == side]
            parts.append(ids[ids >= len(SPECIAL)].tolist())
    vectors = TfidfVectorizer(analyzer=lambda ids: ids).fit_transform(parts)
    number = len(pairs.token_ids)
    scores = vectors[:number].multiply(vectors[number:]).sum(axis=1)
    scores = torch.as_tensor(scores).flatten()
    says = scores > scores.median()
    true, wrong = says[pairs.is_next], ~says[~pairs.is_next]
    return (true.float().mean() + wrong.float().mean()).item() / 2


def held_out_pairs(number: int = 500) -> dict[str, SentencePairs]:
    """Pairs of the held-out chapters that differ in how the wrong ones are wrong.

    ``"another book"``: the second part comes from anywhere in the Bible; ``"the same
    book"``: from another chapter of the book; ``"swapped"``: the two parts in the wrong
    order, as in ALBERT.
    """
    verses = bible_split().test
    documents = as_tokens(chapters_of(verses))
    books = [
        [v for v in verses if v.book == book] for book in {v.book: 0 for v in verses}
    ]
    by_book = [as_tokens(chapters_of(book)) for book in books]
    by_book = [chapters for chapters in by_book if len(chapters) > 1]
    pairs = {
        "another book": make_pairs(documents, 0),
        "the same book": _concatenate(
            [make_pairs(chapters, 0) for chapters in by_book]
        ),
        "swapped": make_pairs(documents, 0, "swapped"),
    }
    return {name: _some(some, number) for name, some in pairs.items()}


def _concatenate(parts: Sequence[SentencePairs]) -> SentencePairs:
    return SentencePairs(*map(torch.cat, zip(*parts, strict=True)))


def _some(pairs: SentencePairs, number: int) -> SentencePairs:
    draw = torch.Generator().manual_seed(0)
    rows = torch.randperm(len(pairs.token_ids), generator=draw)[:number]
    return SentencePairs(*(tensor[rows] for tensor in pairs))


def part_data(number: int, seed: int, num_test: int = 600) -> tuple[Snippets, Snippets]:
    """Verses labelled with the part of the Bible that they come from.

    Each of the six parts has the same number of verses in both sets.

    Args:
        number: verses to train on.
        seed: of the choice of these; the test set is always the same.
        num_test: verses to test on, of chapters that are held out.
    """
    return (
        _balanced(bible_split().train, number, seed),
        _balanced(bible_split().test, num_test, 0),
    )


def _balanced(verses: Sequence[Verse], number: int, seed: int) -> Snippets:
    piles: dict[str, list[str]] = {part: [] for part in PARTS}
    for verse in verses:
        piles[verse.part].append(verse.text)
    rng = random.Random(seed)
    for pile in piles.values():
        rng.shuffle(pile)
    rows = [(piles[PARTS[i % 6]].pop(), i % 6) for i in range(number)]
    return Snippets([text for text, _ in rows], torch.tensor([i for _, i in rows]))


def classifier(
    pretrained: BERTForPreTraining | None, seed: int
) -> BERTForSequenceClassification:
    """A classifier of parts over a copy of the pre-trained encoder, or over a fresh one."""
    encoder = new_model(seed).encoder
    if pretrained is not None:
        encoder.load_state_dict(pretrained.encoder.state_dict())
    seed_everything(seed)
    model = BERTForSequenceClassification(encoder, len(PARTS), pooling="mean")
    return model.to(device())


def part_accuracy(
    pretrained: BERTForPreTraining | None,
    number: int,
    seed: int,
    *,
    updates: int = 300,
    num_test: int = 600,
    progress: bool = False,
) -> float:
    """Train on ``number`` labels, for so many updates, and test.

    Both kinds of model get the same updates, at the same learning rate.
    """
    train, test = part_data(number, seed, num_test)
    tokenizer, _ = new_tokenizer()
    model = classifier(pretrained, seed)
    batches = sentiment_batches(tokenizer, _cut(train))
    epochs = max(1, updates // len(batches))
    fine_tune(model, batches, epochs=epochs, peak_lr=1e-3, seed=seed, progress=progress)
    scores = class_scores(model, tokenizer, _cut(test).texts)
    return accuracy(scores, test.labels)


def _cut(snippets: Snippets) -> Snippets:
    """Texts short enough for the model: whole words, while they fit."""
    tokenizer, _ = new_tokenizer()
    texts = []
    for text in snippets.texts:
        while len(tokenizer.encode(text)) > MAX_SEQ_LEN:
            text = text.rsplit(" ", 1)[0]
        texts.append(text)
    return Snippets(texts, snippets.labels)


class Guess(NamedTuple):
    """What a model puts in the place of one hidden word: its likeliest tokens."""

    position: int
    truth: str
    tokens: list[str]
    probabilities: list[float]


@torch.no_grad()
def guesses(model: BERTForPreTraining, text: str, number: int = 5) -> list[Guess]:
    """Hide each token of a text in turn, and ask for it."""
    model.eval()
    _, tokenizer = new_tokenizer()
    encoded = tokenizer.encode(text)
    ids = torch.tensor(encoded.ids)
    inside = torch.arange(1, len(ids) - 1)
    rows = ids.repeat(len(inside), 1)
    rows[torch.arange(len(inside)), inside] = MASK_ID  # row i hides token i + 1
    logits = model(rows.to(device()))[torch.arange(len(inside)), inside]
    top = logits.softmax(dim=-1).cpu().topk(number)
    return [
        Guess(
            position,
            encoded.tokens[position],
            [tokenizer.id_to_token(i) for i in best],
            [round(p, 4) for p in chances],
        )
        for position, best, chances in zip(
            inside.tolist(), top.indices.tolist(), top.values.tolist(), strict=True
        )
    ]


@torch.no_grad()
def write_on(
    model: BERTForPreTraining,
    prompt: str,
    length: int = 20,
    *,
    order: str = "left to right",
    seed: int = 0,
) -> str:
    """Let a model that fills gaps write: put ``length`` gaps behind a prompt, fill them.

    Args:
        model: a masked language model.
        prompt: the beginning.
        length: tokens to write.
        order: ``"at once"``, each gap with its likeliest token; ``"left to right"``, one
            after the other, drawn from the ten likeliest; ``"resampled"``, ten times
            over the text in random order, drawing each token anew (Wang and Cho, 2019).
        seed: of what is drawn.
    """
    model.eval()
    _, tokenizer = new_tokenizer()
    start = tokenizer.encode(prompt).ids[:-1]
    ids = torch.tensor([[*start, *[MASK_ID] * length, SEP_ID]]).to(device())
    gaps = torch.arange(len(start), len(start) + length)
    draw = torch.Generator().manual_seed(seed)

    def fill(place: int) -> None:
        best = model(ids)[0, place].cpu().topk(10)
        pick = torch.multinomial(best.values.softmax(dim=-1), 1, generator=draw)
        ids[0, place] = best.indices[pick]

    if order == "at once":
        ids[0, gaps] = model(ids)[0, gaps].argmax(dim=-1)
    else:
        for place in gaps.tolist():
            fill(place)
    for _ in range(10 if order == "resampled" else 0):
        for place in gaps[torch.randperm(length, generator=draw)].tolist():
            ids[0, place] = MASK_ID
            fill(place)
    return tokenizer.decode(ids[0, 1:-1].tolist(), skip_special_tokens=False)


LABELS = (60, 240, 960)
STEPS = 3600  # of pre-training, 768 tokens each: over the text about once
SEEDS = 2


def stored_results() -> dict[str, dict[tuple[str, int], list[float]]]:
    """Measure -> (model, number of labels) -> a value for each seed, from the table."""
    found: dict[str, dict[tuple[str, int], list[float]]] = {}
    with _RESULTS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            rows = found.setdefault(row["measure"], {})
            key = row["model"], int(row["labels"])
            rows.setdefault(key, []).append(float(row["value"]))
    return found


PROMPTS = ("And it came to pass", "Thou art")
ORDERS = ("at once", "left to right", "resampled")


def write_samples(model: BERTForPreTraining) -> None:
    """What the model says in some gaps, and how it writes, to ``pretraining_samples.json``."""
    held_out = {v.reference: v.text for v in bible_split().test}
    verses = [v for v in held_out.values() if 40 < len(v) < 75][:200:25]
    samples = {
        "guesses": {
            text: [g._asdict() for g in guesses(model, text)] for text in verses
        },
        "written": {
            order: [write_on(model, prompt, order=order) for prompt in PROMPTS]
            for order in ORDERS
        },
    }
    _SAMPLES.write_text(json.dumps(samples, indent=1) + "\n", encoding="utf-8")


def stored_samples() -> dict:
    """``"guesses"``: text -> a row a token; ``"written"``: order -> a text for each prompt."""
    return json.loads(_SAMPLES.read_text(encoding="utf-8"))


def main() -> None:
    """Pre-train and fine-tune with each seed, and write ``pretraining.csv``."""
    from datetime import date

    documents = as_tokens(training_documents())
    pairs = make_pairs(documents, 0)
    held_out = held_out_pairs()
    with _RESULTS.open("w", encoding="utf-8", newline="") as file:
        file.write(
            "# A small BERT on held-out chapters of the Bible. Made by\n"
            f"# python -m companion.analysis.pretraining: {STEPS} steps of 24 pairs, seeds\n"
            f"# 0-{SEEDS - 1}; then 300 updates with labels;\n"
            f"# {device().type}, one thread, torch {torch.__version__}, {date.today()}\n"
        )
        table = csv.writer(file)
        table.writerow(["measure", "model", "labels", "seed", "value"])

        def write(
            measure: str, model: str, seed: int, value: float, labels: int = 0
        ) -> None:
            table.writerow([measure, model, labels, seed, f"{value:.4f}"])
            file.flush()
            print(measure, model, labels, seed, f"{value:.4f}")

        right, loss = most_frequent(documents, held_out["another book"])
        write("masked accuracy", "frequencies", 0, right)
        write("masked loss", "frequencies", 0, loss)
        for seed in range(SEEDS):
            model = tell_frequencies(new_model(seed), documents)
            rows = pretrain(model, pairs, steps=STEPS, seed=seed)
            for start in range(0, STEPS, 400):
                mean = sum(row["loss"] for row in rows[start : start + 400]) / 400
                write(f"training loss to step {start + 400}", "pre-trained", seed, mean)
            right, loss = masked_accuracy(model, held_out["another book"])
            write("masked accuracy", "pre-trained", seed, right)
            if seed == 0:
                write_samples(model)
            write("masked loss", "pre-trained", seed, loss)
            for kind, some in held_out.items():
                follows = next_sentence_accuracy(model, some)
                write(f"next sentence, {kind}", "pre-trained", seed, follows)
            for number in LABELS:
                for name, start in (("pre-trained", model), ("from scratch", None)):
                    value = part_accuracy(start, number, seed)
                    write("part of the Bible", name, seed, value, number)
                train, test = map(_cut, part_data(number, seed))
                words = bag_of_words_accuracy(
                    train.texts, train.labels, test.texts, test.labels
                )
                write("part of the Bible", "bag of words", seed, words, number)


if __name__ == "__main__":
    main()
