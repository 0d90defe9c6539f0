"""Finding the answer to a question in a passage, by fine-tuning a pre-trained encoder.

The questions are those of `companion.data.bible_questions`. Beside the model: rules that a
person would try first. Results are kept beside this file, in ``question_answering.csv``.
Made anew by

    python -m companion.analysis.question_answering

which takes about three minutes on one core.
"""

from __future__ import annotations

import csv
import random
import re
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from companion.analysis.finetuning import Inputs, by_length, fine_tune
from companion.analysis.semantic_search import load_minilm
from companion.data.bible_questions import (
    NUMBER,
    Question,
    test_questions,
    training_questions,
)
from companion.data.tokenizers import TextTokenizer
from companion.models.bert_tasks import BERTForQuestionAnswering, best_spans
from companion.runtime import device, seed_everything

FROZEN = 2  # lower layers that keep their weights
TESTS = ("new verses", "new relations", "by hand")

_RESULTS = Path(__file__).with_suffix(".csv")


def question_data(
    num_train: int = 600, num_test: int = 200
) -> tuple[list[Question], dict[str, list[Question]]]:
    """The questions to train on, and those of each of the ``TESTS``."""
    return training_questions(num_train), {
        name: test_questions(name, num_test) for name in TESTS
    }


def answer_tokens(tokenizer: TextTokenizer, question: Question) -> tuple[int, int]:
    """The first and the last token of the answer in [CLS] question [SEP] passage [SEP]."""
    offsets = tokenizer.offsets(question.question, question.passage)
    begin = passage_start(tokenizer, question)
    inside = [
        i
        for i, (start, end) in enumerate(offsets)
        if i >= begin and end > question.start and start < question.end
    ]
    return inside[0], inside[-1]


def passage_start(tokenizer: TextTokenizer, question: Question) -> int:
    """The first token of the passage: [CLS], the question and [SEP] stand before it."""
    return len(tokenizer.encode(question.question))


def question_batches(
    tokenizer: TextTokenizer, questions: Sequence[Question], size: int = 16
) -> list[Inputs]:
    """Batches as `fine_tune` takes them."""
    batches = []
    for rows in by_length([q.question + q.passage for q in questions], size):
        some = [questions[i] for i in rows]
        tokens = tokenizer.batch([(q.question, q.passage) for q in some])
        batches.append(
            {
                "token_ids": tokens.token_ids,
                "mask": tokens.mask,
                "token_types": tokens.token_types,
                "spans": torch.tensor([answer_tokens(tokenizer, q) for q in some]),
            }
        )
    return batches


def answering_model(seed: int = 0) -> BERTForQuestionAnswering:
    """MiniLM under a fresh layer that scores starts and ends, on the book's device."""
    encoder, _ = load_minilm()
    seed_everything(seed)
    return BERTForQuestionAnswering(encoder).to(device())


@torch.no_grad()
def answers(
    model: nn.Module, tokenizer: TextTokenizer, questions: Sequence[Question]
) -> list[str]:
    """The span of the passage that a model scores highest, for each question."""
    model.eval()
    found = [""] * len(questions)
    for rows in by_length([q.question + q.passage for q in questions], 32):
        some = [questions[i] for i in rows]
        tokens = tokenizer.batch([(q.question, q.passage) for q in some]).to(device())
        logits = model(tokens.token_ids, tokens.mask, tokens.token_types)
        allowed = tokens.token_types.bool()
        allowed &= tokens.token_ids != tokens.token_ids[:, :1].new_tensor(
            tokenizer.encode("")[-1]
        )  # the last [SEP] belongs to the second segment, but to no answer
        spans = best_spans(logits, allowed).tolist()
        for i, (first, last) in zip(rows, spans, strict=True):
            q = questions[i]
            offsets = tokenizer.offsets(q.question, q.passage)
            found[i] = q.passage[offsets[first][0] : offsets[last][1]]
    return found


_NAMES = re.compile(r"(?<=\w )[A-Z]\w+(?:-\w+)*")
_NUMBERS = re.compile(rf"{NUMBER}(?:years?|days|cubits|pieces)")


def nearest_name(question: Question) -> str:
    """The rule: "how ..." is answered by a number with its unit, else by a name.

    Of several, the one nearest to a word of the passage that the question names too. A
    name of the question is no answer.
    """
    q = question
    how = q.question.startswith(("How", "For what time", "At what age"))
    asked = set(re.findall(r"\w+(?:-\w+)*", q.question))
    candidates = [
        match
        for match in (_NUMBERS if how else _NAMES).finditer(q.passage)
        if match.group() not in asked
    ]
    if not candidates:
        return random_span(question)
    shared = [
        match.start()
        for match in re.finditer(r"\w+(?:-\w+)*", q.passage)
        if match.group() in asked and match.group()[0].isupper()
    ] or [0]
    nearest = min(
        candidates, key=lambda match: min(abs(match.start() - at) for at in shared)
    )
    return nearest.group()


def random_span(question: Question) -> str:
    """One to four words of the passage, from a random place."""
    words = question.passage.split()
    draw = random.Random(question.source + question.question)
    start = draw.randrange(len(words))
    return " ".join(words[start : start + draw.randint(1, 4)])


BASELINES: dict[str, Callable[[Question], str]] = {
    "random span": random_span,
    "nearest name": nearest_name,
}


def words_of(answer: str) -> list[str]:
    """The words that are compared: small letters, no signs, no articles."""
    plain = answer.lower().translate(str.maketrans("", "", string.punctuation + "’"))
    return [word for word in plain.split() if word not in ("a", "an", "the")]


def exact_match(answer: str, truth: str) -> float:
    """1 if the words are the same, else 0."""
    return float(words_of(answer) == words_of(truth))


def word_f1(answer: str, truth: str) -> float:
    """The harmonic mean of precision and recall of the words (Rajpurkar et al., 2016)."""
    said, true = Counter(words_of(answer)), Counter(words_of(truth))
    shared = (said & true).total()
    return 2 * shared / max(1, said.total() + true.total())


def grade(found: Sequence[str], questions: Sequence[Question]) -> tuple[float, float]:
    """The mean exact match and the mean F1."""
    pairs = [(a, q.answer) for a, q in zip(found, questions, strict=True)]
    exact = sum(exact_match(*pair) for pair in pairs) / len(pairs)
    return exact, sum(word_f1(*pair) for pair in pairs) / len(pairs)


def stored_grades() -> dict[str, dict[str, tuple[float, float]]]:
    """Method -> test -> exact match and F1, from ``question_answering.csv``; mean over seeds."""
    rows: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    with _RESULTS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            grades = float(row["exact match"]), float(row["f1"])
            rows[row["method"], row["test"]].append(grades)
    found: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    for (method, test), grades in rows.items():
        exact, f1 = (sum(column) / len(grades) for column in zip(*grades, strict=True))
        found[method][test] = exact, f1
    return dict(found)


def main() -> None:
    """Train on 600 questions and write ``question_answering.csv``."""
    from datetime import date

    train, tests = question_data()
    _, tokenizer = load_minilm()
    with _RESULTS.open("w", encoding="utf-8", newline="") as file:
        file.write(
            "# Answers to questions on verses. Made by\n"
            "# python -m companion.analysis.question_answering:\n"
            f"# {len(train)} questions, 2 epochs, batch 16, peak rate 3e-4,\n"
            f"# lowest {FROZEN} layers frozen, seed 0;\n"
            f"# {device().type}, one thread, torch {torch.__version__}, {date.today()}\n"
        )
        table = csv.writer(file)
        table.writerow(["method", "test", "questions", "seed", "exact match", "f1"])

        def write(
            method: str, seed: int, answer: Callable[[list[Question]], list[str]]
        ) -> None:
            for name, questions in tests.items():
                exact, f1 = grade(answer(questions), questions)
                table.writerow(
                    [method, name, len(questions), seed, f"{exact:.4f}", f"{f1:.4f}"]
                )
                file.flush()
                print(method, name, f"{exact:.3f} {f1:.3f}")

        for method, rule in BASELINES.items():
            write(method, 0, lambda questions, rule=rule: list(map(rule, questions)))
        model = answering_model(0)
        write("untrained head", 0, lambda qs: answers(model, tokenizer, qs))
        batches = question_batches(tokenizer, train)
        fine_tune(model, batches, epochs=2, frozen_layers=FROZEN)
        write("fine-tuned MiniLM", 0, lambda qs: answers(model, tokenizer, qs))


if __name__ == "__main__":
    main()
