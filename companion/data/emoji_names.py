"""The names of all emoji in 14 languages: a small real corpus for translation.

The German for "woman mechanic medium-dark skin tone" is "mechanikerin mitteldunkle
hautfarbe". There are 4,148 such pairs of German and English. The names are short, and
the language is real: compounds, inflection, word order, and names that are no
word-by-word translation.

Many emoji are variants of each other. A model that has seen three mechanics has a good
guess at the fourth, so how the names are split decides what a score means:

- `split_by_concept`: no variant of a held-out emoji is in training. This asks for words
  that were never seen, and mostly cannot be answered.
- `split_by_combination`: what is held out are combinations, of which the parts, but
  never the whole, are in training. This asks whether the model composes.

Which emoji are variants of each other is told from their code points (Unicode Technical
Standard 51): a skin tone, a hair style, a gender and a direction are code points of
their own.
"""

from __future__ import annotations

import functools
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from companion.data.assets import fetch
from companion.data.parallel import (
    Pair,
    Split,
    check_parts,
    group_pairs,
    in_order,
    normalize,
    split_pairs,
)

LANGUAGES = tuple("ar de en es fa fr id it ja ko pt ru tr zh".split())


def load_emoji_pairs(
    source: str = "de", target: str | Sequence[str] = "en"
) -> list[Pair]:
    """The names of all emoji in two languages, or in one and several others.

    Each distinct pair comes once. Where emoji differ in code points that cannot be
    seen, such as variation selectors, their names are often equal, so that 5,244 emoji
    give 4,148 pairs of German and English. A pair's ``language`` is its target's.

    Args:
        source, target: codes of languages, out of `LANGUAGES`.

    Raises:
        ValueError: an unknown language, no target, or one that is the source.
    """
    targets = [target] if isinstance(target, str) else list(target)
    if not targets:
        raise ValueError("target must hold at least one language, but it is empty")
    for language in targets:
        if language == source:
            raise ValueError(f"source and target must differ, but both are {source!r}")
    sources = _names(source)
    pairs: dict[tuple[str, str, str], Pair] = {}
    for language in targets:
        names = _names(language)
        for emoji, text in sources.items():
            pair = Pair(text, names[emoji], language, emoji)
            pairs.setdefault((pair.source, pair.target, language), pair)
    return list(pairs.values())


@functools.cache
def _names(language: str) -> dict[str, str]:
    """Emoji -> its name."""
    if language not in LANGUAGES:
        raise ValueError(
            f"a language must be one of {', '.join(LANGUAGES)}, but it is {language!r}"
        )
    folder = fetch("emoji-names")
    file = "emoji.json" if language == "en" else f"emoji_{language}.json"
    names = json.loads((folder / file).read_text(encoding="utf-8"))
    if language == "en":
        names = {emoji: entry["en"] for emoji, entry in names.items()}
    return {emoji: _as_text(name) for emoji, name in names.items()}


def _as_text(name: str) -> str:
    """``:flag_for_chad:`` as plain text, with a blank after each comma."""
    text = name.strip(":").replace("_", " ")
    return normalize(re.sub(r"\s*([,،、])\s*", r"\1 ", text))


# Variants: what an emoji is made of

_SELECTOR, _JOINER, _RIGHT = "\ufe0f", "\u200d", "➡"
_TONES = "🏻🏼🏽🏾🏿"
_HAIR = "🦰🦱🦲🦳"
# Several emoji have a code point of their own for some skin tones, and are a sequence
# for others.
_SEQUENCES = {
    "👨🤝👨": "👬",
    "👩🤝👩": "👭",
    "👩🤝👨": "👫",
    "🧑❤💋🧑": "💏",
    "🧑❤🧑": "💑",
    "🫱🫲": "🤝",
    "👨🐰👨": "👯♂",
    "👩🐰👩": "👯♀",
    "🧑🐰🧑": "👯",
    "👨🫯👨": "🤼♂",
    "👩🫯👩": "🤼♀",
    "🧑🫯🧑": "🤼",
}
# One thing as a man, as a woman and as a person.
_GENDERS = ("🧑👨👩", "🧒👦👧", "🧓👴👵", "🫅🤴👸", "💃🕺", "🫄🫃🤰")
_TO_PERSON = {form: forms[0] for forms in _GENDERS for form in forms}
_GROUPS = {
    "👫": "🧑🤝🧑",
    "👬": "🧑🤝🧑",
    "👭": "🧑🤝🧑",
    "🧑❤💋🧑": "💏",
    "🧑❤🧑": "💑",
    "🎅": "🧑🎄",
    "🤶": "🧑🎄",
}


def tones(emoji: str) -> tuple[str, ...]:
    """Its skin tones: none, one, or two for two people who differ."""
    return tuple(dict.fromkeys(c for c in emoji if c in _TONES))


def concept(emoji: str) -> str:
    """The emoji without skin tones: a woman mechanic of whatever skin."""
    plain = "".join(c for c in emoji if c not in _TONES + _SELECTOR + _JOINER)
    return _SEQUENCES.get(plain, plain)


def base_concept(emoji: str) -> str:
    """The emoji without skin tone, gender, hair and direction: a mechanic."""
    plain = "".join(
        _TO_PERSON.get(c, c) for c in concept(emoji) if c not in _HAIR + "♂♀"
    )
    if len(plain) > 1:  # the arrow itself is an emoji too
        plain = plain.removesuffix(_RIGHT)
    if len(plain) > 1 and set(plain) <= {"🧑", "🧒"}:
        return "👪"
    return _GROUPS.get(plain, plain) or concept(emoji)  # ♀ alone is an emoji too


# Splits

Combination = tuple[str, tuple[str, ...]]  # a concept and skin tones


def split_by_concept(
    pairs: Sequence[Pair],
    validation: float = 0.1,
    test: float = 0.1,
    *,
    seed: int = 0,
) -> Split:
    """Hold out emoji with all their variants: skin tones, genders, hair, directions.

    No held-out pair shares its source, its target or its `base_concept` with a training
    pair.

    Args, Raises: as `companion.data.parallel.split_pairs`.
    """
    return split_pairs(
        pairs, validation, test, seed=seed, group=lambda p: base_concept(p.emoji)
    )


def split_by_combination(
    pairs: Sequence[Pair],
    validation: float = 0.05,
    test: float = 0.2,
    *,
    seen: int = 1,
    seed: int = 0,
) -> Split:
    """Hold out combinations of a concept and skin tones whose parts are in training.

    Of the concepts that come in several skin tones, some are chosen. Of each, ``seen``
    combinations with skin tones stay in training, beside the name without any; the
    others are held out. So for each held-out pair

    - its own source and target are not in training, nor is its combination;
    - its concept is, in at most ``seen`` other skin tones;
    - its skin tones are, with other concepts.

    Other genders of a chosen concept may be in training with all their skin tones. With
    the defaults, German and English names give 3,732 pairs to train on, 72 to validate
    and 344 to test, of 67 concepts.

    Args:
        pairs: of `load_emoji_pairs`.
        validation, test: how many of the concepts with skin tones to choose.
        seen: how many combinations of a chosen concept stay in training; with 0 its
            name was never seen with a skin tone at all.
        seed: of the random choice.

    Raises:
        ValueError: no pairs, parts that are negative or leave nothing to learn from, or
            a negative ``seen``.
    """
    check_parts(pairs, validation, test)
    if seen < 0:
        raise ValueError(f"seen must not be negative, but it is {seen}")
    part_of = _choose(_toned(pairs), validation, test, seen, random.Random(seed))
    # Names that are equal, or that belong to one combination, stay together.
    groups = []
    for members in group_pairs(pairs, _combination).values():
        parts = {part_of.get(_combination(pair), "train") for pair in members}
        groups.append((parts.pop() if len(parts) == 1 else "train", members))
    train = [p for part, members in groups if part == "train" for p in members]
    concepts = {concept(pair.emoji) for pair in train}
    known_tones = {tones(pair.emoji) for pair in train}
    split = Split([], [], [])
    for part, members in groups:
        has_parts_in_training = all(
            concept(pair.emoji) in concepts and tones(pair.emoji) in known_tones
            for pair in members
        )
        getattr(split, part if has_parts_in_training else "train").extend(members)
    return in_order(split, pairs)


def _combination(pair: Pair) -> Combination:
    return concept(pair.emoji), tones(pair.emoji)


def _toned(pairs: Iterable[Pair]) -> dict[str, list[Combination]]:
    """Concept -> its combinations with skin tones."""
    combinations: dict[str, dict[Combination, None]] = defaultdict(dict)
    for pair in pairs:
        if tones(pair.emoji):
            combinations[concept(pair.emoji)][_combination(pair)] = None
    return {name: list(found) for name, found in combinations.items()}


def _choose(
    toned: dict[str, list[Combination]],
    validation: float,
    test: float,
    seen: int,
    rng: random.Random,
) -> dict[Combination, str]:
    """The combinations to hold out, and in which part."""
    names = list(toned)
    rng.shuffle(names)
    num_test, num_validation = (round(part * len(names)) for part in (test, validation))
    part_of = {}
    for i, name in enumerate(names[: num_test + num_validation]):
        for combination in rng.sample(toned[name], len(toned[name]))[seen:]:
            part_of[combination] = "test" if i < num_test else "validation"
    return part_of
