"""Four tasks on real text, all of them text in, text out, told apart by a prefix::

    translate:  the name of an emoji, from German into English
    language:   the name of an emoji in one of six other languages -> "Turkish"
    restore:    the beginning of a verse of the King James Bible, in bare lower-case
                words -> as printed, with capitals, commas and apostrophes
    sentiment:  a sentence of a movie review -> "positive" or "negative"

Raffel et al. (2020), section 2.4, put translation, classification and the rest into this
form, each with a prefix of its own.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import NamedTuple

from companion.data.bpe import BPETokenizer, train_bpe
from companion.data.emoji_names import load_emoji_pairs, split_by_combination
from companion.data.languages import LANGUAGES, language_texts
from companion.data.parallel import Pair
from companion.data.texts import kjv_verses, movie_snippets

LONGEST_VERSE = 8  # words of a verse's first clause
LONGEST_OPINION = 10  # words
GUESSED = tuple(code for code in LANGUAGES if code not in ("de", "en"))


class TextTask(NamedTuple):
    """Pairs of texts; every source begins with the task's prefix."""

    train: list[Pair]
    test: list[Pair]


def add_prefix(task: str, text: str) -> str:
    """How a model is told what to do with ``text``: ``"restore: and god said"``.

    Raises:
        ValueError: the task's name is empty or holds a colon.
    """
    if not task or ":" in task:
        raise ValueError(f"task must be a name without a colon, but it is {task!r}")
    return f"{task}: {text}"


def bare(text: str) -> str:
    """Lower-case words without punctuation: what ``restore`` starts from."""
    return " ".join(re.findall(r"[\w'’-]+", text.lower()))


def load_text_tasks(seed: int = 0, *, test_size: int = 300) -> dict[str, TextTask]:
    """The four tasks, by the names that are their prefixes.

    No test source is among a task's training sources. Beyond that, ``translate`` holds
    out combinations of a concept and a skin tone (`split_by_combination`), and
    ``language`` whole families of emoji (`language_texts`). It asks for none of the
    languages of ``translate``, whose training names it could else meet again.

    Args:
        seed: of the splits and of the orders.
        test_size: the most test pairs that a task has.

    Raises:
        ValueError: ``test_size`` is below 1.
    """
    if test_size < 1:
        raise ValueError(f"test_size must be at least 1, but it is {test_size}")
    names = split_by_combination(load_emoji_pairs("de", "en"), seed=seed)
    named, named_test = language_texts(GUESSED, seed=seed)
    parts = {
        "translate": (names.train, names.test),
        "language": tuple(
            [Pair(item.text, LANGUAGES[item.language]) for item in side]
            for side in (named, named_test)
        ),
        "restore": _hold_out(_verses(), seed),
        "sentiment": _hold_out(_opinions(), seed),
    }
    tasks = {}
    for task, (train, test) in parts.items():
        draw = random.Random(seed)
        train, test = (draw.sample(side, len(side)) for side in (train, test))
        tasks[task] = TextTask(
            *(
                [Pair(add_prefix(task, pair.source), pair.target) for pair in side]
                for side in (train, test[:test_size])
            )
        )
    return tasks


def unlabeled_texts(tasks: dict[str, TextTask], seed: int = 0) -> list[str]:
    """Running text to learn from before the tasks: verses of any length, reviews, names.

    No text of a test is among them, and no verse that begins like one.
    """
    tested = {bare(p.source.partition(": ")[2]) for t in tasks.values() for p in t.test}
    texts = [v for v in kjv_verses() if bare(_first_clause(v)) not in tested]
    texts += [text for text, _ in movie_snippets()]
    for task in ("translate", "language"):
        texts += [pair.source.partition(": ")[2] for pair in tasks[task].train]
    texts = [text for text in dict.fromkeys(texts) if bare(text) not in tested]
    random.Random(seed).shuffle(texts)
    return texts


def train_task_tokenizer(
    tasks: dict[str, TextTask], vocab_size: int = 1500
) -> BPETokenizer:
    """One vocabulary for all tasks, learned from their training texts."""
    lines = [
        text
        for task in tasks.values()
        for pair in task.train
        for text in (pair.source, pair.target)
    ]
    return train_bpe(lines, vocab_size)


def _first_clause(verse: str) -> str:
    """The verse up to its first mark other than a comma, without that mark."""
    return re.split(r"[.:;?!()]", verse, maxsplit=1)[0].strip()


def _verses() -> list[Pair]:
    clauses = [_first_clause(verse) for verse in kjv_verses()]
    return [Pair(bare(c), c) for c in clauses if 2 <= len(c.split()) <= LONGEST_VERSE]


def _opinions() -> list[Pair]:
    return [
        Pair(text, "positive" if score > 0 else "negative")
        for text, score in movie_snippets()
        if score != 0 and len(text.split()) <= LONGEST_OPINION
    ]


def _hold_out(
    pairs: Sequence[Pair], seed: int, share: float = 0.1
) -> tuple[list[Pair], list[Pair]]:
    """Training and test pairs; a source that comes twice comes once, with its first target."""
    unique = list({pair.source: pair for pair in reversed(pairs)}.values())
    random.Random(seed).shuffle(unique)
    cut = round(share * len(unique))
    return unique[cut:], unique[:cut]
