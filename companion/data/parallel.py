"""Parallel text: pairs of a source and its translation, read and split without leakage.

The pairs come from a user's files, or from `companion.data.emoji_names`. Two pairs with
the same source or the same target never end up in different parts of a split: a model
that has seen one of them has been told the answer of the other.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


@dataclass(frozen=True)
class Pair:
    """A text and its translation.

    Attributes:
        source, target: the texts.
        language: that of the target, where there are several.
        emoji: what the two texts name, in `companion.data.emoji_names`.
        line: where the pair stands in a user's file, counted from 1.
    """

    source: str
    target: str
    language: str | None = None
    emoji: str | None = None
    line: int | None = None


class Split(NamedTuple):
    """Pairs to learn from, to choose settings by, and to report on, once."""

    train: list[Pair]
    validation: list[Pair]
    test: list[Pair]


class BadLine(NamedTuple):
    """A line of a file that is not a pair, and why."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


class ParallelText(NamedTuple):
    """What a user's files hold.

    Attributes:
        pairs: each distinct pair once, in the order of the file.
        bad_lines: the lines that are left out because they are not pairs.
        repeated: the numbers of the lines that repeat an earlier pair.
    """

    pairs: list[Pair]
    bad_lines: list[BadLine]
    repeated: list[int]

    def report(self, show: int = 10) -> str:
        """How many lines were taken and which were not, with their numbers."""
        total = sum(map(len, self))
        lines = [f"{total:,} lines: {len(self.pairs):,} distinct pairs"]
        if self.repeated:
            first = _first(map(str, self.repeated), show)
            lines.append(f"{len(self.repeated):,} repeat an earlier pair: {first}")
        if self.bad_lines:
            lines.append(f"{len(self.bad_lines):,} are not pairs and are left out:")
            lines += [f"  {bad}" for bad in self.bad_lines[:show]]
            if len(self.bad_lines) > show:
                lines.append(f"  and {len(self.bad_lines) - show:,} more")
        return "\n".join(lines)


def normalize(text: str) -> str:
    """Composed characters (Unicode NFC), and each run of white space made one blank."""
    return " ".join(unicodedata.normalize("NFC", text).split())


# A user's files


def read_tsv(path: str | Path) -> ParallelText:
    """Read pairs from a UTF-8 file: a source, a tab, its translation on each line.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no line of the file is a pair.
    """
    rows: list[tuple[str, ...] | str] = []
    for line, problem in _lines(path):
        texts = tuple(line.split("\t"))
        if problem:
            rows.append(f"it {problem}")
        elif len(texts) != 2:
            rows.append(
                "a source, one tab and a target are needed, but it has "
                f"{len(texts) - 1} tabs"
            )
        else:
            rows.append(texts)
    return _collect(rows, str(path))


def read_parallel(source: str | Path, target: str | Path) -> ParallelText:
    """Read pairs from two UTF-8 files, line by line.

    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: the files differ in their number of lines, so that it is unknown
            what belongs together, or no two lines are a pair.
    """
    sources, targets = _lines(source), _lines(target)
    if len(sources) != len(targets):
        raise ValueError(
            f"source and target must have the same number of lines, but {source} has "
            f"{len(sources):,} and {target} has {len(targets):,}"
        )
    rows: list[tuple[str, ...] | str] = []
    for (text, problem), (translation, other) in zip(sources, targets, strict=True):
        if problem or other:
            rows.append(f"the source {problem}" if problem else f"the target {other}")
        else:
            rows.append((text, translation))
    return _collect(rows, f"{source} and {target}")


def _lines(path: str | Path) -> list[tuple[str, str]]:
    """The text of each line, and what is wrong with it, if anything."""
    content = Path(path).expanduser().read_bytes().removeprefix(b"\xef\xbb\xbf")
    # Not str.splitlines: it also splits at form feeds and at Unicode's line separators,
    # after which the two files would no longer run in step.
    lines = content.split(b"\n")
    if not lines[-1]:
        lines.pop()  # what follows the last line's end
    found = []
    for line in lines:  # each decoded alone, so that a broken one costs only itself
        try:
            found.append((line.removesuffix(b"\r").decode("utf-8"), ""))
        except UnicodeDecodeError as error:
            found.append(("", f"is not UTF-8 at byte {error.start + 1}"))
    return found


def _collect(rows: Sequence[tuple[str, ...] | str], where: str) -> ParallelText:
    """Each row is a source and a target, or what is wrong with that line."""
    pairs: dict[tuple[str, str], Pair] = {}
    bad_lines, repeated = [], []
    for number, texts in enumerate(rows, 1):
        if isinstance(texts, str):
            bad_lines.append(BadLine(number, texts))
            continue
        source, target = map(normalize, texts)
        if not (source and target):
            empty = "source" if target else "target" if source else "source and target"
            bad_lines.append(BadLine(number, f"the {empty} is empty"))
        elif (source, target) in pairs:
            repeated.append(number)
        else:
            pairs[source, target] = Pair(source, target, line=number)
    if not pairs:
        example = f", such as {bad_lines[0]}" if bad_lines else ""
        raise ValueError(f"{where} must hold at least one pair, but has none{example}")
    return ParallelText(list(pairs.values()), bad_lines, repeated)


def _first(items: Iterable[str], show: int) -> str:
    items = list(items)
    more = f" and {len(items) - show:,} more" if len(items) > show else ""
    return ", ".join(items[:show]) + more


# Splits


def split_pairs(
    pairs: Sequence[Pair],
    validation: float = 0.1,
    test: float = 0.1,
    *,
    seed: int = 0,
    group: Callable[[Pair], Hashable] | None = None,
) -> Split:
    """Split into training, validation and test pairs that share no text and no group.

    Pairs stay together when they have the same source, the same target (of one
    language), or the same ``group``; and so do pairs that are linked through others.
    What counts as the same text ignores case, punctuation and white space.

    Args:
        pairs: all pairs.
        validation, test: about which part of the pairs to hold out; each is at most
            this large, and smaller only where the groups are large.
        seed: of the random choice.
        group: what else must stay together, such as the thing that a pair names; None
            is no group.

    Raises:
        ValueError: no pairs, or parts that are negative or leave nothing to learn from.
    """
    check_parts(pairs, validation, test)
    together = list(group_pairs(pairs, group).values())
    random.Random(seed).shuffle(together)
    split = Split([], [], [])
    room = {"validation": validation * len(pairs), "test": test * len(pairs)}
    for members in together:
        for part in ("test", "validation"):
            if len(members) <= room[part]:
                room[part] -= len(members)
                getattr(split, part).extend(members)
                break
        else:
            split.train.extend(members)
    return in_order(split, pairs)


def group_pairs(
    pairs: Sequence[Pair], group: Callable[[Pair], Hashable] | None = None
) -> dict[int, list[Pair]]:
    """Pairs that share a source, a target or a group, directly or through others."""
    parent = list(range(len(pairs)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[Hashable, int] = {}
    for i, pair in enumerate(pairs):
        keys = [("source", fold(pair.source))]
        keys.append(("target", pair.language, fold(pair.target)))
        if group is not None and (key := group(pair)) is not None:
            keys.append(("group", key))
        for key in keys:
            parent[root(i)] = root(first.setdefault(key, i))
    groups: dict[int, list[Pair]] = defaultdict(list)
    for i, pair in enumerate(pairs):
        groups[root(i)].append(pair)
    return groups


def fold(text: str) -> str:
    """A text without case, punctuation and white space, if something is left then.

    Brackets stay: the German "polizist(in)" is another word than "polizistin".
    """
    return re.sub(r"[^\w()]|_", "", text).casefold() or text


def overlap(
    train: Sequence[Pair],
    held_out: Sequence[Pair],
    **of: Callable[[Pair], Hashable],
) -> dict[str, int]:
    """How many of the held-out pairs have something in common with a training pair.

    Counts equal sources, equal targets, and what the functions ``of`` give: for
    instance ``overlap(train, test, concept=lambda pair: concept(pair.emoji))``.
    """
    keys: dict[str, Callable[[Pair], Hashable]] = {
        "source": lambda pair: fold(pair.source),
        "target": lambda pair: (pair.language, fold(pair.target)),
        **of,
    }
    counts = {}
    for name, key in keys.items():
        seen = {key(pair) for pair in train}
        counts[name] = sum(key(pair) in seen for pair in held_out)
    return counts


def check_parts(pairs: Sequence[Pair], validation: float, test: float) -> None:
    if not pairs:
        raise ValueError("pairs must hold at least one pair, but it is empty")
    if validation < 0 or test < 0 or validation + test >= 1:
        raise ValueError(
            "validation and test must not be negative and together less than 1, but "
            f"they are {validation} and {test}"
        )


def in_order(split: Split, pairs: Sequence[Pair]) -> Split:
    """The same split, each part in the order of ``pairs``."""
    place = {pair: i for i, pair in enumerate(pairs)}
    return Split(*(sorted(part, key=place.__getitem__) for part in split))
