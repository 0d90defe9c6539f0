"""Parallel text: what is read, what is reported, and that no split leaks."""

from __future__ import annotations

import re
from itertools import chain

import pytest

from companion.data.emoji_names import (
    LANGUAGES,
    base_concept,
    concept,
    load_emoji_pairs,
    split_by_combination,
    split_by_concept,
    tones,
)
from companion.data.parallel import (
    BadLine,
    Pair,
    normalize,
    overlap,
    read_parallel,
    read_tsv,
    split_pairs,
)


def by_source(pairs: list[Pair]) -> dict[str, str]:
    return {pair.source: pair.target for pair in pairs}


# Files


def test_tsv_with_everything_that_can_be_wrong(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_bytes(
        "\ufeffein Haus\ta house\r\n"  # a byte order mark and Windows line ends
        "zwei  Häuser \ttwo\u00a0houses\n"  # blanks of several kinds
        "ohne Tab\n"
        "eins\tzwei\tdrei\n"
        "\tno source\n"
        "kein Ziel\t \n"
        "\t\n"
        "ein Haus\ta house\n"
        "ein\u2028Wort\ta\x0cword\n".encode()  # not ends of lines
        + b"kaputt \xff\tbroken\n"
        + "Cafe\u0301\tcoffee".encode()  # decomposed, and no line end
    )
    text = read_tsv(path)
    assert text.pairs == [
        Pair("ein Haus", "a house", line=1),
        Pair("zwei Häuser", "two houses", line=2),
        Pair("ein Wort", "a word", line=9),
        Pair("Caf\u00e9", "coffee", line=11),
    ]
    assert text.repeated == [8]
    assert text.bad_lines == [
        BadLine(3, "a source, one tab and a target are needed, but it has 0 tabs"),
        BadLine(4, "a source, one tab and a target are needed, but it has 2 tabs"),
        BadLine(5, "the source is empty"),
        BadLine(6, "the target is empty"),
        BadLine(7, "the source and target is empty"),
        BadLine(10, "it is not UTF-8 at byte 8"),
    ]
    assert text.report(show=2) == (
        "11 lines: 4 distinct pairs\n"
        "1 repeat an earlier pair: 8\n"
        "6 are not pairs and are left out:\n"
        "  line 3: a source, one tab and a target are needed, but it has 0 tabs\n"
        "  line 4: a source, one tab and a target are needed, but it has 2 tabs\n"
        "  and 4 more"
    )


def test_two_files(tmp_path):
    source, target = tmp_path / "a.de", tmp_path / "a.en"
    source.write_bytes(b"eins\nzwei\n\nvier\n\xff\n")
    target.write_bytes(b"one\ntwo\nthree\n\xfe\nfive\n")
    text = read_parallel(source, target)
    assert text.pairs == [Pair("eins", "one", line=1), Pair("zwei", "two", line=2)]
    assert text.bad_lines == [
        BadLine(3, "the source is empty"),
        BadLine(4, "the target is not UTF-8 at byte 1"),
        BadLine(5, "the source is not UTF-8 at byte 1"),
    ]


def test_two_files_that_do_not_run_in_step(tmp_path):
    source, target = tmp_path / "a.de", tmp_path / "a.en"
    source.write_text("eins\nzwei\n")
    target.write_text("one\ntwo\nthree\n")
    with pytest.raises(
        ValueError, match=r"same number of lines.*a\.de has 2.*en has 3"
    ):
        read_parallel(source, target)


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "has none$"), ("no tab\n", "has none, such as line 1: a source, one tab")],
)
def test_a_file_without_pairs(tmp_path, content, message):
    path = tmp_path / "pairs.tsv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_tsv(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_tsv(tmp_path / "none.tsv")


def test_normalize():
    assert normalize(" a\t b\u00a0\u3000c\n") == "a b c"
    assert normalize("e\u0301") == "\u00e9"


# Splits in general


def test_pairs_that_share_a_text_stay_together():
    """a-x, a-y, b-y is a chain: its ends share nothing, but the middle shares both."""
    linked = [Pair("a", "x"), Pair("A!", "y"), Pair("b", "Y")]
    others = [Pair(f"s{i}", f"t{i}") for i in range(7)]
    for seed in range(20):
        split = split_pairs([*linked, *others], 0.3, 0.3, seed=seed)
        assert sorted(map(len, split)) == [3, 3, 4]
        assert any(set(linked) <= set(part) for part in split)


def test_the_same_target_in_two_languages_is_not_the_same():
    pairs = [Pair("eins", "hotel", "fr"), Pair("zwei", "hotel", "es"), Pair("a", "b")]
    assert all(len(part) == 1 for part in split_pairs(pairs, 0.34, 0.34))


def test_split_is_complete_ordered_and_the_same_each_time():
    pairs = [Pair(f"s{i}", f"t{i}") for i in range(100)]
    split = split_pairs(pairs, 0.1, 0.2)
    assert list(map(len, split)) == [70, 10, 20]
    assert sorted(chain(*split), key=pairs.index) == pairs
    assert all(part == sorted(part, key=pairs.index) for part in split)
    assert split_pairs(pairs, 0.1, 0.2) == split
    assert split_pairs(pairs, 0.1, 0.2, seed=1) != split


def test_a_group_that_is_too_large_is_trained_on():
    pairs = [Pair("same", f"t{i}") for i in range(50)]
    pairs += [Pair(f"s{i}", f"u{i}") for i in range(50)]
    split = split_pairs(pairs, 0.1, 0.1)
    assert list(map(len, split)) == [80, 10, 10]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((-0.1, 0.1), "not be negative"),
        ((0.5, 0.5), "together less than 1.* 0.5 and 0.5"),
    ],
)
def test_bad_parts(parts, message):
    with pytest.raises(ValueError, match=message):
        split_pairs([Pair("a", "b")], *parts)
    with pytest.raises(ValueError, match=message):
        split_by_combination([Pair("a", "b", emoji="👋")], *parts)


def test_no_pairs_and_bad_seen():
    with pytest.raises(ValueError, match="at least one pair"):
        split_pairs([])
    with pytest.raises(ValueError, match="seen must not be negative, but it is -1"):
        split_by_combination([Pair("a", "b", emoji="👋")], seen=-1)


def test_overlap_counts():
    train = [Pair("a", "x", "en"), Pair("b", "y", "en")]
    held_out = [Pair("A", "z", "en"), Pair("c", "y", "fr"), Pair("d", "Y.", "en")]
    counts = overlap(train, held_out, first=lambda pair: pair.source[0])
    assert counts == {"source": 1, "target": 1, "first": 0}


# Emoji names


def test_german_and_english():
    pairs = load_emoji_pairs()
    assert len(pairs) == 4148
    assert len({(pair.source, pair.target) for pair in pairs}) == 4148
    names = by_source(pairs)
    assert names["mechanikerin mitteldunkle hautfarbe"] == (
        "woman mechanic medium-dark skin tone"
    )
    assert names["flagge tschad"] == "Chad"
    assert names["liebespaar mann mann dunkle hautfarbe, helle hautfarbe"] == (
        "couple with heart man man dark skin tone light skin tone"
    )
    assert not any(
        re.search(r"[:_]|\s\s|^\s|\s$|,\S", text)
        for pair in pairs
        for text in (pair.source, pair.target)
    )


def test_no_german_name_has_two_english_ones():
    """So exact match is a fair measure: there is one right answer."""
    pairs = load_emoji_pairs()
    assert len({pair.source for pair in pairs}) == len(pairs)


@pytest.mark.parametrize("source", LANGUAGES)
def test_every_language(source):
    target = "de" if source == "en" else "en"
    pairs = load_emoji_pairs(source, target)
    assert 4000 < len(pairs) < 5000
    assert all(pair.source and pair.target for pair in pairs)


def test_several_targets():
    pairs = load_emoji_pairs("de", ["en", "fr"])
    assert {pair.language for pair in pairs} == {"en", "fr"}
    assert [p for p in pairs if p.language == "en"] == load_emoji_pairs("de", "en")
    assert [p for p in pairs if p.language == "fr"] == load_emoji_pairs("de", "fr")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("de", "xx"), "language must be one of ar, de, .*'xx'"),
        (("de", "de"), "must differ, but both are 'de'"),
        (("de", []), "at least one language"),
    ],
)
def test_bad_languages(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_emoji_pairs(*arguments)


@pytest.mark.parametrize(
    ("emoji", "of_tones", "without_tones", "base"),
    [
        ("👩🏾\u200d🔧", ("🏾",), "👩🔧", "🧑🔧"),
        ("🧑\u200d🔧", (), "🧑🔧", "🧑🔧"),
        ("🏃🏽\u200d♀\ufe0f\u200d➡\ufe0f", ("🏽",), "🏃♀➡", "🏃"),
        ("👩🏻\u200d🦰", ("🏻",), "👩🦰", "🧑"),
        ("👨🏿\u200d❤\ufe0f\u200d👨🏿", ("🏿",), "👨❤👨", "💑"),
        ("💑🏼", ("🏼",), "💑", "💑"),
        ("👩🏻\u200d🤝\u200d👨🏿", ("🏻", "🏿"), "👫", "🧑🤝🧑"),
        ("👫🏿", ("🏿",), "👫", "🧑🤝🧑"),
        ("👨\u200d👩\u200d👧\u200d👦", (), "👨👩👧👦", "👪"),
        ("🤶🏼", ("🏼",), "🤶", "🧑🎄"),
        ("🫱🏻\u200d🫲🏿", ("🏻", "🏿"), "🤝", "🤝"),
        ("🇹🇩", (), "🇹🇩", "🇹🇩"),
        ("➡\ufe0f", (), "➡", "➡"),
        ("♀\ufe0f", (), "♀", "♀"),
    ],
)
def test_what_an_emoji_is_made_of(emoji, of_tones, without_tones, base):
    assert tones(emoji) == of_tones
    assert concept(emoji) == without_tones
    assert base_concept(emoji) == base


KEYS = {
    "base": lambda pair: base_concept(pair.emoji),
    "concept": lambda pair: concept(pair.emoji),
    "combination": lambda pair: (concept(pair.emoji), tones(pair.emoji)),
    # Independent of code points: the English name without the words for skin tones.
    "words": lambda pair: (
        re.sub(r" ?\S+ skin tone", "", pair.target)
        if pair.language == "en"
        else id(pair)
    ),
}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("target", ["en", ["en", "fr", "ja"]])
def test_split_by_concept_does_not_leak(target, seed):
    pairs = load_emoji_pairs("de", target)
    split = split_by_concept(pairs, seed=seed)
    assert sum(map(len, split)) == len(pairs) and set(chain(*split)) == set(pairs)
    assert 0.09 * len(pairs) < len(split.test) <= 0.1 * len(pairs)
    for part in (split.validation, split.test):
        assert set(overlap(split.train, part, **KEYS).values()) <= {0}
    assert set(overlap(split.validation, split.test, **KEYS).values()) <= {0}


@pytest.mark.parametrize("seen", [0, 1])
@pytest.mark.parametrize("target", ["en", ["en", "fr", "ja"]])
def test_split_by_combination_holds_out_wholes_and_no_parts(target, seen):
    pairs = load_emoji_pairs("de", target)
    split = split_by_combination(pairs, seen=seen)
    assert sum(map(len, split)) == len(pairs)
    if (seen, target) == (1, "en"):  # as the documentation says
        assert list(map(len, split)) == [3732, 72, 344]
        assert len({concept(pair.emoji) for pair in split.test}) == 67
    for part in (split.validation, split.test):
        counts = overlap(split.train, part, tones=lambda p: tones(p.emoji), **KEYS)
        assert counts["source"] == counts["target"] == counts["combination"] == 0
        assert counts["concept"] == counts["tones"] == len(part) > 0
        siblings: dict[str, set[tuple[str, ...]]] = {}
        for pair in split.train:
            if tones(pair.emoji):
                siblings.setdefault(concept(pair.emoji), set()).add(tones(pair.emoji))
        in_training = [len(siblings.get(concept(p.emoji), ())) for p in part]
        assert max(in_training) == seen
