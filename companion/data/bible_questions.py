"""Questions whose answers stand in a verse, made from how the King James Bible puts things.

Where the text says "Hamor begat Shechem", one can ask who Shechem's father was, and knows
the answer and its place. Each `Relation` is one such turn of phrase, with questions in
wordings for training and in others for testing. Some relations are for testing only. So
there are three tests, each further from the training than the one before:

- ``"new verses"``: relations of the training, on books and in wordings that are not;
- ``"new relations"``: turns of phrase, and questions about them, that are not in it at all;
- ``"by hand"``: thirty questions that were written for passages read by a person, with no
  rule.

Questions made by rules are easier than a person's: the answer stands right beside the words
that the rule looked for. That is why the third test is there.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from typing import NamedTuple

from companion.data.bible import BOOKS, Verse, all_verses, find_verse

# Held out, for histories and lists of each kind.
TEST_BOOKS = ("Genesis", "2 Kings", "2 Chronicles", "Jeremiah", "Matthew", "Acts")
TRAINING_BOOKS = tuple(book for book in BOOKS if book not in TEST_BOOKS)

_NAME = r"[A-Z][a-z]+(?:-[a-z]+)*"
_X, _Y = (
    rf"(?P<x>(?!(?:And|Then|So|Now|But|For|The|He|She)\b){_NAME})",
    rf"(?P<y>{_NAME})",
)
NUMBER = (
    r"(?:an? )?(?:(?:hundred|thousand|threescore|fourscore|and|[a-z]+teen|twent[a-z]+|"
    r"thirt[a-z]+|fort[a-z]+|fift[a-z]+|one|two|three|four|five|six|seven|eight|nine|ten|"
    r"eleven|twelve|sixty|seventy|eighty|ninety) )+"
)


class Relation(NamedTuple):
    """A turn of phrase, and what can be asked about it.

    Attributes:
        pattern: a regular expression with the groups ``x`` and ``y``.
        answer: which of the two is the answer.
        questions: wordings, with ``{x}`` or ``{y}`` for the other one. The first two are
            for training, the others for testing.
    """

    pattern: str
    answer: str
    questions: tuple[str, ...]


class Question(NamedTuple):
    """A question on a passage; the answer is ``passage[start:end]``."""

    question: str
    passage: str
    start: int
    end: int
    relation: str
    source: str

    @property
    def answer(self) -> str:
        return self.passage[self.start : self.end]


RELATIONS = {
    "father": Relation(
        rf"{_X} begat {_Y}",
        "x",
        ("Who begat {y}?", "Who was the father of {y}?", "Name the man whose child was {y}."),
    ),
    "child": Relation(
        rf"{_X} begat {_Y}",
        "y",
        ("Whom did {x} beget?", "Who was the son of {x}?", "Of whom was {x} the father?"),
    ),
    "son of": Relation(
        rf"{_X} the son of {_Y}",
        "y",
        ("Whose son was {x}?", "Who was the father of {x}?", "From what man did {x} descend?"),
    ),
    "which son": Relation(
        rf"{_X} the son of {_Y}",
        "x",
        ("Who was the son of {y}?", "Which son of {y} is named?", "What was the child of {y} called?"),
    ),
    "king of": Relation(
        rf"{_X} king of {_Y}",
        "x",
        ("Who was king of {y}?", "Who ruled {y}?", "What was the name of the ruler of {y}?"),
    ),
    "land of": Relation(
        rf"{_X} king of {_Y}",
        "y",
        ("Of what land was {x} king?", "Where was {x} king?", "Which country did {x} govern?"),
    ),
    "speaker": Relation(
        rf"{_X} said unto {_Y}",
        "x",
        ("Who spoke to {y}?", "Who said it to {y}?", "From whom did {y} hear these words?"),
    ),
    "hearer": Relation(
        rf"{_X} said unto {_Y}",
        "y",
        ("To whom did {x} speak?", "Whom did {x} tell it?", "Who heard the words of {x}?"),
    ),
    "reign": Relation(
        rf"(?P<x>reigned) (?:[^.:;]{{0,40}}? )??(?P<y>{NUMBER}years?)",
        "y",
        ("How long did he reign?", "How many years did he reign?", "For what time was he king?"),
    ),
    "mother": Relation(
        rf"(?P<x>mother)’s name was {_Y}",
        "y",
        ("Who was his mother?", "What was his mother called?", "Which woman bore him?"),
    ),
    "name": Relation(
        rf"(?P<x>whose name was) {_Y}",
        "y",
        ("What was the name?", "What was the person called?", "Who is it that is spoken of?"),
    ),
    "given name": Relation(
        rf"(?P<x>called) (?:his|her) name {_Y}",
        "y",
        ("What was the child called?", "What name was given?", "How did they name the child?"),
    ),
}  # fmt: skip

# For testing only: neither these turns of phrase nor these questions are trained on.
NEW_RELATIONS = {
    "lived": Relation(
        rf"{_X} lived (?:after [^,]* )?(?P<y>{NUMBER}years)",
        "y",
        ("How long did {x} live?", "How many years did {x} live?"),
    ),
    "wife of": Relation(
        rf"{_X} the wife of {_Y}", "x", ("Who was the wife of {y}?", "To whom was {y} married?")
    ),
    "age": Relation(
        rf"{_X} was (?P<y>{NUMBER}years) old", "y", ("How old was {x}?", "At what age was {x}?")
    ),
    "dwelling": Relation(
        rf"{_X} (?:dwelt|abode) (?:in|at) (?:the land of )?{_Y}", "y",
        ("Where did {x} live?", "In which place did {x} stay?"),
    ),
    "burial": Relation(
        rf"(?P<x>buried) (?:him |her |them )?(?:in|at) {_Y}", "y",
        ("Where is the grave?", "In which place was the burial?"),
    ),
    "brother": Relation(
        rf"{_X} the brother of {_Y}", "x", ("Who was the brother of {y}?",)
    ),
    "daughter of": Relation(
        rf"{_X} the daughter of {_Y}", "x", ("Which daughter of {y} is named?",)
    ),
    "prophet or priest": Relation(
        rf"{_X} the (?P<y>priest|prophet|scribe|captain)\b", "x",
        ("Who was the {y}?", "What was the name of the {y}?"),
    ),
}  # fmt: skip


def training_questions(number: int, seed: int = 0) -> list[Question]:
    """Questions on the training books, the relations in turn, in random order.

    No question stands twice. Relations with few verses give what they have.
    """
    return _draw(RELATIONS, TRAINING_BOOKS, slice(0, 2), number, seed)


def test_questions(name: str, number: int = 200, seed: int = 0) -> list[Question]:
    """One of the three tests: ``"new verses"``, ``"new relations"`` or ``"by hand"``.

    Raises:
        ValueError: there is no such test.
    """
    if name == "new verses":
        return _draw(RELATIONS, TEST_BOOKS, slice(2, None), number, seed)
    if name == "new relations":
        return _draw(NEW_RELATIONS, TEST_BOOKS, slice(None), number, seed)
    if name == "by hand":
        return [_by_hand(*item) for item in _BY_HAND]
    raise ValueError(
        f"name is {name!r}, but it may be 'new verses', 'new relations' or 'by hand'"
    )


def _draw(
    relations: dict[str, Relation],
    books: Iterable[str],
    wordings: slice,
    number: int,
    seed: int,
) -> list[Question]:
    rng = random.Random(seed)
    wanted = set(books)
    verses = [
        verse
        for verse in all_verses()
        if verse.book in wanted and verse.reference not in _READ_BY_HAND
    ]
    piles = []
    for name, relation in relations.items():
        pattern = re.compile(relation.pattern)
        pile = [
            _ask(name, relation, wordings, verse, match, rng)
            for verse in verses
            for match in [pattern.search(verse.text)]
            if match and len(pattern.findall(verse.text)) < 3
        ]
        rng.shuffle(pile)
        piles.append(pile)
    drawn: list[Question] = []
    while len(drawn) < number and any(piles):
        for pile in piles:
            if pile and len(drawn) < number:
                drawn.append(pile.pop())
    rng.shuffle(drawn)
    return drawn


def _ask(
    name: str,
    relation: Relation,
    wordings: slice,
    verse: Verse,
    match: re.Match[str],
    rng: random.Random,
) -> Question:
    wording = rng.choice(relation.questions[wordings])
    question = wording.format(x=match["x"], y=match["y"])
    start, end = match.span(relation.answer)
    return Question(question, verse.text, start, end, name, verse.reference)


def _by_hand(reference: str, question: str, answer: str) -> Question:
    passage = find_verse(reference).text
    start = passage.index(answer)
    return Question(question, passage, start, start + len(answer), "by hand", reference)


# Passage, question, answer as the passage has it.
_BY_HAND = (
    ("Genesis 8:4", "On which mountains did the boat come to rest?", "Ararat"),
    (
        "Genesis 19:24",
        "What fell from the sky on the two cities?",
        "brimstone and fire",
    ),
    ("Genesis 37:28", "How much did they pay for Joseph?", "twenty pieces of silver"),
    ("Genesis 7:12", "How long did it rain?", "forty days and forty nights"),
    ("Exodus 2:21", "Which woman did Moses marry?", "Zipporah"),
    (
        "Exodus 12:40",
        "How many years did they spend in Egypt?",
        "four hundred and thirty years",
    ),
    ("Deuteronomy 34:6", "In which country is the grave?", "Moab"),
    ("Joshua 2:1", "Who gave lodging to the spies?", "Rahab"),
    ("Judges 4:21", "Which woman killed the sleeping man?", "Jael"),
    ("1 Samuel 17:4", "How tall was the giant?", "six cubits and a span"),
    ("1 Samuel 17:49", "What did David throw?", "a stone"),
    ("1 Samuel 16:13", "Who poured oil on David?", "Samuel"),
    ("2 Samuel 11:3", "Who was the husband of the woman?", "Uriah the Hittite"),
    ("2 Samuel 18:9", "What animal was Absalom riding?", "a mule"),
    ("1 Kings 17:4", "Which birds will bring food?", "ravens"),
    ("2 Kings 2:11", "Who was carried up to heaven?", "Elijah"),
    ("2 Kings 5:14", "In which river did he wash?", "Jordan"),
    ("1 Kings 18:4", "Who hid the prophets in caves?", "Obadiah"),
    ("Job 1:1", "In which country did Job live?", "Uz"),
    ("Jonah 1:3", "From which harbor did the ship sail?", "Joppa"),
    ("Jonah 1:17", "What swallowed Jonah?", "a great fish"),
    ("Daniel 6:16", "Into what place was Daniel thrown?", "the den of lions"),
    ("Matthew 2:1", "In which town was Jesus born?", "Bethlehem"),
    ("Matthew 3:4", "What did John eat?", "locusts and wild honey"),
    ("Matthew 14:20", "How much food was left over?", "twelve baskets full"),
    ("Matthew 27:57", "What was the rich man called?", "Joseph"),
    ("Luke 2:42", "How old was the boy?", "twelve years"),
    ("Acts 16:14", "From which town did Lydia come?", "Thyatira"),
    ("Acts 10:1", "What was the soldier called?", "Cornelius"),
    ("Revelation 1:9", "On which island was John?", "Patmos"),
)
_READ_BY_HAND = frozenset(reference for reference, *_ in _BY_HAND)
