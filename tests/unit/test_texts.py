"""Text corpora: the facts that the chapters rely on, and the sentence splitter."""

from __future__ import annotations

import pytest

from companion.data import texts


def test_shakespeare_is_42_clean_texts():
    assert len(texts.plays()) == 42
    everything = texts.shakespeare()
    assert len(set(everything)) == 84
    assert 5_000_000 < len(everything) < 5_060_000
    assert "gutenberg" not in everything.lower()
    assert all(line == line.rstrip() for line in everything.splitlines())
    assert all(texts.shakespeare(play).strip() in everything for play in texts.plays())


def test_one_play():
    hamlet = texts.shakespeare("hamlet")
    assert hamlet.startswith("HAMLET, PRINCE OF DENMARK\n\nby William Shakespeare\n")
    assert "To be, or not to be,--that is the question:--" in hamlet
    assert "Macduff" not in hamlet


def test_unknown_play():
    with pytest.raises(
        ValueError, match=r"play is 'hamlett'\. Did you mean 'hamlet'"
    ) as error:
        texts.shakespeare("hamlett")
    assert "macbeth" in str(error.value)


def test_kjv_verses():
    verses = texts.kjv_verses()
    assert len(verses) == 31_102
    assert verses[0] == "In the beginning God created the heaven and the earth."
    assert verses[-1] == "The grace of our Lord Jesus Christ be with you all. Amen."
    assert "darkness was upon the face of the deep" in verses[1]
    assert "Jesus wept." in verses
    assert all(verse and verse == verse.strip() for verse in verses)
    assert not any(mark in verse for verse in verses for mark in "[]\n")


def test_movie_snippets():
    snippets = texts.movie_snippets()
    assert len(snippets) == 10_605
    scores = [score for _, score in snippets]
    assert (min(scores), max(scores)) == (-3.875, pytest.approx(3.941176))
    assert sum(score > 0 for score in scores) == 5242
    assert sum(score == 0 for score in scores) == 37
    assert all(text and text == text.strip() for text, _ in snippets)
    assert not any("&amp;" in text or "''" in text for text, _ in snippets)
    assert snippets[2] == ("Effective but too tepid biopic", -0.6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  \n ", []),
        ("no end", ["no end"]),
        ("One  line.\nAnother line!", ["One line.", "Another line!"]),
        ('"Go!" she said. He went.', ['"Go!" she said.', "He went."]),
        ('He said "Go." Then he left.', ['He said "Go."', "Then he left."]),
        ("It rained (all day.) We slept.", ["It rained (all day.)", "We slept."]),
        ("Mr. Smith met J. R. Tolkien. So did I. Why?", None),
        ("It is 3.5 m long. 4 are left.", ["It is 3.5 m long.", "4 are left."]),
        ("Really?! Yes...", ["Really?!", "Yes..."]),
        ("He came at 5 p.m. with a dog.", ["He came at 5 p.m. with a dog."]),
    ],
)
def test_sentences(text, expected):
    if expected is None:
        expected = ["Mr. Smith met J. R. Tolkien.", "So did I.", "Why?"]
    assert texts.sentences(text) == expected


def test_sentences_loses_no_word():
    text = texts.shakespeare("macbeth")
    found = texts.sentences(text)
    assert " ".join(found) == " ".join(text.split())
    assert 1500 < len(found) < 4000


def test_sentences_takes_a_string():
    with pytest.raises(TypeError, match="text is a list"):
        texts.sentences(["a"])
