"""Verses, names and questions made from the King James Bible."""

from __future__ import annotations

import pytest

from companion.data import bible, bible_names, bible_questions
from companion.data.bible_queries import BOOKS, QUERIES


class TestVerses:
    def test_places(self):
        verses = bible.all_verses()
        assert len(verses) == 31_102 and len(bible.BOOKS) == 66
        assert bible.find_verse("John 11:35").text == "Jesus wept."
        assert verses[-1].reference == "Revelation 22:21"
        assert list(dict.fromkeys(v.book for v in verses)) == list(bible.BOOKS)

    def test_parts(self):
        for reference, part in (
            ("Genesis 1:1", "law"),
            ("Joshua 1:1", "history"),
            ("Psalms 23:1", "poetry"),
            ("Malachi 1:1", "prophets"),
            ("Acts 1:1", "gospels and Acts"),
            ("Romans 1:1", "letters"),
        ):
            assert bible.find_verse(reference).part == part

    def test_verses_of(self):
        jude = bible.verses_of(["Jude"])
        assert len(jude) == 25 and jude == bible.verses_of("Jude")
        sermon = bible.verses_of(["Matthew"], chapters=(5, 6, 7))
        assert {v.chapter for v in sermon} == {5, 6, 7} and len(sermon) == 111

    def test_errors(self):
        with pytest.raises(ValueError, match=r"books names \['Enoch'\]"):
            bible.verses_of(["Enoch"])
        with pytest.raises(ValueError, match="reference is 'John 99:1'"):
            bible.find_verse("John 99:1")

    def test_queries_have_their_verses(self):
        assert len(QUERIES) == 36 == len(set(QUERIES.values()))
        for query, reference in QUERIES.items():
            verse = bible.find_verse(reference)
            assert verse.book in BOOKS and query.lower() != verse.text.lower()


class TestNames:
    def names(self, text):
        marked = bible_names.mark_names(text)
        return [marked.span_text(span) for span in marked.spans]

    def test_names_inside_a_phrase(self):
        text = "And Moses went up unto the LORD God, and Aaron with him."
        assert self.names(text) == ["moses", "lord god", "aaron"]

    def test_the_first_word_and_the_first_word_of_a_speech(self):
        assert self.names("Then Joshua said, Let us go.") == ["joshua"]
        assert self.names("Adam, Sheth, Enosh,") == ["adam", "sheth", "enosh"]
        assert self.names("And he cried, Hosanna; I come, O David.") == ["david"]

    def test_a_name_that_is_a_word_too_is_missed_at_the_start(self):
        assert self.names("And Lot went.") == ["lot"]
        assert self.names("Lot went.") == []  # the price of the rule

    def test_a_sign_parts_two_names(self):
        assert self.names("of Shem, Ham, and of Simon Peter") == [
            "shem",
            "ham",
            "simon peter",
        ]

    def test_possessives(self):
        assert self.names("and Jesse’s son") == ["jesse"]

    def test_inscriptions_are_left_out(self):
        assert bible_names.mark_names("And THE KING came unto David") is None

    def test_text_has_no_capitals_and_words_fit(self):
        for text in bible_names.named_texts(["Ezra"])[:50]:
            assert text.text == text.text.lower()
            assert len(text.words) == len(text.is_name)
            inside = {i for first, last in text.spans for i in range(first, last + 1)}
            assert inside == {i for i, name in enumerate(text.is_name) if name}

    def test_books_are_apart(self):
        assert not set(bible_names.TEST_BOOKS) & set(bible_names.TRAINING_BOOKS)
        assert set(bible_names.TEST_BOOKS) | set(bible_names.TRAINING_BOOKS) == set(
            bible.BOOKS
        )


@pytest.fixture(scope="module")
def training():
    return bible_questions.training_questions(600)


class TestQuestions:
    def test_the_answer_stands_in_the_passage(self, training):
        for q in training:
            assert q.passage[q.start : q.end] == q.answer
            assert q.answer[0].isalnum() and q.passage in bible.find_verse(q.source)

    def test_drawn_once_and_always_the_same(self, training):
        keys = [(q.source, q.relation) for q in training]
        assert len(set(keys)) == len(keys) == 600
        assert bible_questions.training_questions(600) == training
        assert bible_questions.training_questions(600, seed=1) != training

    def test_tests_share_no_verse_no_wording_and_no_relation(self, training):
        new = bible_questions.test_questions("new verses", 200)
        other = bible_questions.test_questions("new relations", 200)
        hand = bible_questions.test_questions("by hand")
        assert (len(new), len(other), len(hand)) == (200, 200, 30)
        sources = {q.source for q in training}
        for test in (new, other, hand):
            assert not sources & {q.source for q in test}
        known = set(bible_questions.RELATIONS)
        assert {q.relation for q in new} <= known
        assert not {q.relation for q in other} & known
        for relation in bible_questions.RELATIONS.values():
            assert not set(relation.questions[:2]) & set(relation.questions[2:])

    def test_some_questions(self):
        pool = bible_questions.test_questions("new verses", 2000)
        q = next(
            q for q in pool if "Shechem" in q.question or "Isaac begat" in q.passage
        )
        assert q.answer in q.passage
        ages = [
            q
            for q in bible_questions.test_questions("new relations", 500)
            if q.source == "2 Kings 21:1" and q.relation == "age"
        ]
        assert [q.answer for q in ages] == ["twelve years"]

    def test_unknown_test(self):
        with pytest.raises(ValueError, match="name is 'hard'"):
            bible_questions.test_questions("hard")
