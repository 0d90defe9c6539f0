"""Short texts in several languages, each with its language: the names of emoji.

Unicode names every emoji in many languages, people wrote these names, and the asset
``emoji-names`` carries them. So texts are about the same things in each language, and it is
the language alone that tells them apart.
"""

from __future__ import annotations

import json
import random
import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass

from companion.data.assets import fetch

# Those of the asset that are written in the Latin alphabet: no single letter gives them away.
LANGUAGES = {
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "id": "Indonesian",
    "it": "Italian",
    "pt": "Portuguese",
    "tr": "Turkish",
}

_SKIN_TONES = re.compile("[\U0001f3fb-\U0001f3ff]")
_FLAG = re.compile("[\U0001f1e6-\U0001f1ff]{2}|\U0001f3f4[\U000e0000-\U000e007f]+")
# Man, woman and person are one family, as are the signs behind a runner or a swimmer.
_GENDERED = re.compile("[\U0001f468\U0001f469\U0001f9d1]")
_SIGNS = re.compile("\u200d[♀♂]|\ufe0f")


@dataclass(frozen=True)
class LabelledText:
    """A text and its language's code, a key of ``LANGUAGES``."""

    text: str
    language: str


def emoji_names(language: str) -> dict[str, str]:
    """Emoji -> its name in one language, in lower case, without skin tones and flags.

    A skin tone repeats a name with an ending that is always the same; nearly all names of
    flags begin with the word for flag.

    Raises:
        ValueError: the asset does not have the language.
    """
    folder = fetch("emoji-names")
    known = {"en"} | {path.stem[6:] for path in folder.glob("emoji_*.json")}
    if language not in known:
        raise ValueError(
            f"language must be one of {', '.join(sorted(known))}, but it is {language!r}"
        )
    english = json.loads((folder / "emoji.json").read_text(encoding="utf-8"))
    if language == "en":
        names = {emoji: entry["en"] for emoji, entry in english.items()}
    else:
        path = folder / f"emoji_{language}.json"
        names = json.loads(path.read_text(encoding="utf-8"))
    return {
        emoji: _plain(name)
        for emoji, name in names.items()
        if not _SKIN_TONES.search(emoji) and not _FLAG.fullmatch(emoji)
    }


def language_texts(
    languages: tuple[str, ...] = tuple(LANGUAGES),
    *,
    test_share: float = 0.2,
    seed: int = 0,
) -> tuple[list[LabelledText], list[LabelledText]]:
    """Texts to train on and to test on.

    All names of one emoji, and of its man's and its woman's form, are on the same side of
    the split: no text of the test has a translation or a near copy among those of training.
    A text that is a name in more than one language has no right answer and is left out.

    Args:
        languages: which, keys of ``LANGUAGES`` or others of the asset.
        test_share: share of the families of emoji that are kept for the test.
        seed: of the split and of the order.

    Raises:
        ValueError: an unknown language, fewer than two, or a share outside (0, 1).
    """
    if len(set(languages)) < 2:
        raise ValueError(f"languages must be at least two, but it is {languages!r}")
    if not 0 < test_share < 1:
        raise ValueError(f"test_share must be between 0 and 1, but it is {test_share}")
    names = {language: emoji_names(language) for language in languages}
    spoken = defaultdict(set)  # text -> the languages in which it is a name
    for language, table in names.items():
        for text in table.values():
            spoken[text].add(language)

    families = sorted({family(emoji) for table in names.values() for emoji in table})
    draw = random.Random(seed)
    draw.shuffle(families)
    tested = set(families[: round(test_share * len(families))])
    train, test = {}, {}  # dicts, which keep their order and drop what is there twice
    for language, table in names.items():
        for emoji, text in table.items():
            if len(spoken[text]) == 1:
                side = test if family(emoji) in tested else train
                side[LabelledText(text, language)] = None
    test = {item: None for item in test if item not in train}
    sides = list(train), list(test)
    for side in sides:
        draw.shuffle(side)
    return sides


def family(emoji: str) -> str:
    """The emoji without what sets its man's, woman's and person's forms apart."""
    return _GENDERED.sub("\U0001f9d1", _SIGNS.sub("", emoji))


def _plain(name: str) -> str:
    text = unicodedata.normalize("NFC", name.strip(":").replace("_", " "))
    return " ".join(text.lower().split())
