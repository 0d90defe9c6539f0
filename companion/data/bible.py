"""The King James Bible as verses that know where they stand."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from companion.data.texts import numbered_kjv_verses

OLD_TESTAMENT = (
    "Genesis", "Exodus", "Leviticus", "Numbers", "Deuteronomy", "Joshua", "Judges",
    "Ruth", "1 Samuel", "2 Samuel", "1 Kings", "2 Kings", "1 Chronicles",
    "2 Chronicles", "Ezra", "Nehemiah", "Esther", "Job", "Psalms", "Proverbs",
    "Ecclesiastes", "Song of Solomon", "Isaiah", "Jeremiah", "Lamentations", "Ezekiel",
    "Daniel", "Hosea", "Joel", "Amos", "Obadiah", "Jonah", "Micah", "Nahum", "Habakkuk",
    "Zephaniah", "Haggai", "Zechariah", "Malachi",
)  # fmt: skip
NEW_TESTAMENT = (
    "Matthew", "Mark", "Luke", "John", "Acts", "Romans", "1 Corinthians",
    "2 Corinthians", "Galatians", "Ephesians", "Philippians", "Colossians",
    "1 Thessalonians", "2 Thessalonians", "1 Timothy", "2 Timothy", "Titus", "Philemon",
    "Hebrews", "James", "1 Peter", "2 Peter", "1 John", "2 John", "3 John", "Jude",
    "Revelation",
)  # fmt: skip
BOOKS = OLD_TESTAMENT + NEW_TESTAMENT

# The customary parts of the Bible, each with its last book.
_PARTS = {
    "law": "Deuteronomy",
    "history": "Esther",
    "poetry": "Song of Solomon",
    "prophets": "Malachi",
    "gospels and Acts": "Acts",
    "letters": "Revelation",
}
PARTS = tuple(_PARTS)


class Verse(NamedTuple):
    """A verse and its place; ``reference`` is the customary way to name it."""

    book: str
    chapter: int
    number: int
    text: str

    @property
    def reference(self) -> str:
        return f"{self.book} {self.chapter}:{self.number}"

    @property
    def part(self) -> str:
        """Which of ``PARTS`` the book belongs to (Revelation is counted as a letter)."""
        place = BOOKS.index(self.book)
        return next(p for p, last in _PARTS.items() if place <= BOOKS.index(last))


@cache
def all_verses() -> tuple[Verse, ...]:
    """The 31,102 verses in order."""
    return tuple(
        Verse(BOOKS[key // 1_000_000 - 1], key // 1000 % 1000, key % 1000, text)
        for key, text in numbered_kjv_verses().items()
    )


def verses_of(
    books: Iterable[str], chapters: Iterable[int] | None = None
) -> list[Verse]:
    """The verses of some books, or of some chapters of each, in order.

    Raises:
        ValueError: there is no such book.
    """
    books = {books} if isinstance(books, str) else set(books)
    if unknown := sorted(books - set(BOOKS)):
        raise ValueError(
            f"books names {unknown}, but a book may be one of {', '.join(BOOKS)}"
        )
    wanted = None if chapters is None else set(chapters)
    return [
        verse
        for verse in all_verses()
        if verse.book in books and (wanted is None or verse.chapter in wanted)
    ]


def find_verse(reference: str) -> Verse:
    """The verse with a reference such as ``"John 11:35"``.

    Raises:
        ValueError: there is no such verse.
    """
    try:
        return _by_reference()[reference]
    except KeyError:
        raise ValueError(
            f'reference is {reference!r}, but it must be like "John 11:35" and exist'
        ) from None


@cache
def _by_reference() -> dict[str, Verse]:
    return {verse.reference: verse for verse in all_verses()}
