"""Search by meaning: one vector a verse, against the overlap of words.

A query is a thought in today's words, and the answer is the verse of the King James
Bible that says it. The results over three whole books are kept beside this file, in
``semantic_search.csv``. Made anew by

    python -m companion.analysis.semantic_search

which takes about a minute on one core.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from companion.data.assets import fetch
from companion.data.bible import Verse, verses_of
from companion.data.bible_queries import BOOKS, QUERIES
from companion.data.tokenizers import TextTokenizer, load_tokenizer
from companion.models.bert import BERT
from companion.models.bert_tasks import mean_over_tokens
from companion.runtime import device

CUTS = (1, 5, 10)

_RESULTS = Path(__file__).with_suffix(".csv")


def load_minilm() -> tuple[BERT, TextTokenizer]:
    """MiniLM with its real weights, on the book's device, and its tokenizer."""
    folder = fetch("minilm")
    return BERT.from_hf(folder).to(device()), load_tokenizer(folder)


@torch.no_grad()
def embed(
    model: nn.Module, tokenizer: TextTokenizer, texts: Sequence[str], batch: int = 32
) -> Float[Tensor, "texts d_model"]:
    """One vector of length 1 for each text: the mean over its tokens, scaled (on the CPU).

    Texts of like length go through the model together, so that little is padding.
    """
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found: list[Tensor] = [torch.empty(0)] * len(texts)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        tokens = tokenizer.batch([texts[i] for i in rows]).to(device())
        states = model(tokens.token_ids, tokens.mask)
        vectors = F.normalize(mean_over_tokens(states, tokens.mask), dim=-1).cpu()
        for i, vector in zip(rows, vectors, strict=True):
            found[i] = vector
    return torch.stack(found)


def word_overlap(
    queries: Sequence[str], texts: Sequence[str], k1: float = 1.2, b: float = 0.75
) -> Float[Tensor, "queries texts"]:
    """BM25, the score of search engines that match words.

    A shared word counts more the rarer it is, less with each repetition, and less in a
    long text. Words are cut to stems by taking off a few endings, so that "loveth" meets
    "loves".
    """
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(tokenizer=_stems, token_pattern=None)
    counts = vectorizer.fit_transform(texts).toarray().astype(float)  # (texts, words)
    asked = vectorizer.transform(queries).toarray() > 0  # (queries, words)
    having = (counts > 0).sum(axis=0)
    rarity = np.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
    length = counts.sum(axis=1, keepdims=True)
    saturated = counts * (k1 + 1) / (counts + k1 * (1 - b + b * length / length.mean()))
    return torch.from_numpy(asked @ (saturated * rarity).T).float()


def _stems(text: str) -> list[str]:
    words = re.findall("[a-z]+", text.lower())
    return [re.sub(r"(?<=..[a-z])(eth|est|ing|ed|es|s)$", "", word) for word in words]


def ranks(scores: Float[Tensor, "queries texts"], answers: Sequence[int]) -> list[int]:
    """The place of each query's answer, from 1. Texts with an equal score share the worst.

    So a query that shares no word with its answer is not found by luck.
    """
    right = scores[torch.arange(len(answers)), torch.tensor(answers)]
    return (scores >= right[:, None]).sum(dim=1).tolist()


def recall(places: Sequence[int], cut: int) -> float:
    """The share of queries whose answer is among the first ``cut``."""
    return sum(place <= cut for place in places) / len(places)


def questions_on(verses: Sequence[Verse]) -> tuple[list[str], list[int]]:
    """The queries whose answer is one of the verses, and where it stands among them."""
    place = {verse.reference: i for i, verse in enumerate(verses)}
    pairs = [
        (q, place[reference]) for q, reference in QUERIES.items() if reference in place
    ]
    return [query for query, _ in pairs], [answer for _, answer in pairs]


def stored_ranks() -> dict[str, list[int]]:
    """Method -> the rank of each query's verse in three books, from the table."""
    with _RESULTS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    return {
        method: [int(row[method]) for row in rows]
        for method in rows[0]
        if method not in ("query", "verse")
    }


def main() -> None:
    """Search the three books and write ``semantic_search.csv``."""
    from datetime import date

    verses = verses_of(BOOKS)
    texts = [verse.text for verse in verses]
    queries, answers = questions_on(verses)
    model, tokenizer = load_minilm()
    torch.manual_seed(0)
    untrained = BERT(tokenizer.vocab_size, 384, 12, 1536, 6).to(device()).eval()
    scores = {
        "MiniLM": embed(model, tokenizer, queries) @ embed(model, tokenizer, texts).T,
        "untrained": embed(untrained, tokenizer, queries)
        @ embed(untrained, tokenizer, texts).T,
        "BM25": word_overlap(queries, texts),
    }
    found = {name: ranks(score, answers) for name, score in scores.items()}
    with _RESULTS.open("w", encoding="utf-8", newline="") as file:
        file.write(
            f"# Rank of the right verse among the {len(verses):,} of {', '.join(BOOKS)}.\n"
            "# Made by python -m companion.analysis.semantic_search; the untrained model\n"
            f"# has seed 0; {device().type}, torch {torch.__version__}, {date.today()}\n"
        )
        table = csv.writer(file)
        table.writerow(["query", "verse", *found])
        for i, query in enumerate(queries):
            table.writerow(
                [query, verses[answers[i]].reference]
                + [places[i] for places in found.values()]
            )
    for name, places in found.items():
        print(name, {cut: round(recall(places, cut), 2) for cut in CUTS})


if __name__ == "__main__":
    main()
