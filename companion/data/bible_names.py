"""A set of texts in which every name is marked, made from capital letters.

English writes names with capitals. Take a text that does so carefully, the King James
Bible, keep the capitals as labels, and give the text to the model without them: it has to
find the names by what they are and where they stand.

What counts as a name: a run of words with a capital and nothing but a blank between them.
So it is the names of persons, places and peoples, and those of God ("the LORD", "the Holy
Ghost", "Jesus Christ"). What the capitals don't tell, and where the labels are a guess:

- The first word of a sentence or of a speech has a capital too. There, and after every
  other sign, a word counts as a name if the Bible writes it with a capital inside a phrase
  more often than it writes it small, or never writes it small. So "Mark" or "Lot" at the
  start is missed. The few words that would be taken for names by this rule were read and
  are listed in ``_NEVER``.
- Verses with words in capitals throughout, inscriptions such as "THE KING OF THE JEWS",
  are left out.

We read fifty random verses of the test books, with 91 names. One label was doubtful,
"Nazarite", which is a vow and no people; none was missing. In another fifty, two names that
touch ("the Gershonite Laadan") were one span.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

from companion.data.bible import BOOKS, all_verses, verses_of

# Held out: books of each kind, history and lists, law, prophecy, a gospel's sequel, letters.
TEST_BOOKS = (
    "Numbers", "1 Chronicles", "Ezra", "Nehemiah", "Jeremiah", "Acts", "Romans",
    "2 Timothy",
)  # fmt: skip
TRAINING_BOOKS = tuple(book for book in BOOKS if book not in TEST_BOOKS)

_WORD = re.compile("[A-Za-z]+(?:-[A-Za-z]+)*")
_NEVER = frozenset(
    "I O A Abba Accounting Acquaint Alleluia Amen Associate Backbiters Blotting Choosing "
    "Distributing Eloi Endeavouring Enflaming Enviest Ephphatha Esteeming Finally Higgaion "
    "Hosanna Launch Listen Owe Produce Providing Rabbi Rabboni Raca Remembering Revilest "
    "Selah Submitting Talitha Traitors Wherewithal Yes".split()
)
_ALL_CAPITALS = {"LORD", "GOD", "JEHOVAH", "JAH", "I", "O", "A"}


class NamedText(NamedTuple):
    """A text without capitals, and the names in it.

    Attributes:
        text: in small letters.
        words: where each word starts and ends in ``text``.
        is_name: for each word, whether it belongs to a name.
        spans: the names, each as the numbers of its first and its last word.
        source: where it stands.
    """

    text: str
    words: tuple[tuple[int, int], ...]
    is_name: tuple[bool, ...]
    spans: tuple[tuple[int, int], ...]
    source: str

    def span_text(self, span: tuple[int, int]) -> str:
        """The words of a span."""
        return self.text[self.words[span[0]][0] : self.words[span[1]][1]]


def named_texts(books: Iterable[str]) -> list[NamedText]:
    """The verses of some books, in order, with their names marked."""
    texts = (mark_names(v.text, v.reference) for v in verses_of(books))
    return [text for text in texts if text is not None]


def mark_names(text: str, source: str = "") -> NamedText | None:
    """A text of the Bible with its names marked; None if it has words all in capitals."""
    matches = list(_WORD.finditer(text))
    words = [match.group() for match in matches]
    if any(len(w) > 1 and w.isupper() and w not in _ALL_CAPITALS for w in words):
        return None
    is_name = [
        word[0].isupper()
        and word not in _NEVER
        and (_inside_phrase(text, match.start()) or word in _usual_names())
        for word, match in zip(words, matches, strict=True)
    ]
    places = tuple(match.span() for match in matches)
    return NamedText(
        text.lower(), places, tuple(is_name), name_spans(text, places, is_name), source
    )


def name_spans(
    text: str, words: Sequence[tuple[int, int]], is_name: Sequence[bool]
) -> tuple[tuple[int, int], ...]:
    """Runs of words that belong to names, with nothing but a blank between them."""
    spans: list[tuple[int, int]] = []
    for i, name in enumerate(is_name):
        if not name:
            continue
        between = text[words[i - 1][1] : words[i][0]] if i else ""
        if spans and spans[-1][1] == i - 1 and between == " ":
            spans[-1] = (spans[-1][0], i)
        else:
            spans.append((i, i))
    return tuple(spans)


def _inside_phrase(text: str, start: int) -> bool:
    """Whether a word comes right after another, with no sign between them."""
    return start >= 2 and text[start - 1] == " " and text[start - 2].isalpha()


@cache
def _usual_names() -> frozenset[str]:
    """Words with a capital inside phrases more often than small, or with a capital only."""
    capital: Counter[str] = Counter()
    anywhere: set[str] = set()
    small: Counter[str] = Counter()
    for verse in all_verses():
        for match in _WORD.finditer(verse.text):
            word = match.group()
            if word[0].islower():
                small[word] += 1
            else:
                anywhere.add(word)
                capital[word] += _inside_phrase(verse.text, match.start())
    return frozenset(
        word
        for word in anywhere
        if capital[word] > small[word.lower()] or not small[word.lower()]
    )
