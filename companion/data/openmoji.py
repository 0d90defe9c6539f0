"""OpenMoji: 1,653 small pictures, each with its name, drawn from a font.

The pictures are the glyphs of a color font, and Pillow draws them. An emoji that is a
sequence of characters is one glyph too, by a ligature. Not every copy of Pillow can follow
ligatures, so fontTools first gives every glyph a character of its own. All of it takes
about two seconds, so the pictures are drawn anew in each process and not stored.

All emojis designed by OpenMoji, the open-source emoji and icon project. License: CC BY-SA
4.0. The names are those of the Unicode CLDR, from the asset ``emoji-names``.
"""

from __future__ import annotations

import functools
import io
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from companion.data.assets import fetch
from companion.data.emoji_names import base_concept, tones

_FONT_SIZE = 96  # pixels to the em; a glyph is then 124 wide, with an empty rim
_CANVAS = 128  # all fit but for the tips of two, which a test names
_PRIVATE = 0xF0000  # the first of the characters that mean what one likes

_SELECTOR = 0xFE0F  # "as a picture"
_FLAG_LETTERS = range(0x1F1E6, 0x1F200)
_TAGGED_FLAG = 0xE007F  # England, Scotland, Wales

# Kinds of pictures, by blocks of the Unicode code charts whose members belong together.
KINDS: dict[str, tuple[range, ...]] = {
    "face": (range(0x1F600, 0x1F645), range(0x1F910, 0x1F918), range(0x1F970, 0x1F977)),
    "animal": (range(0x1F400, 0x1F440), range(0x1F980, 0x1F9AF)),
    "food": (range(0x1F345, 0x1F380), range(0x1F950, 0x1F970)),
    "vehicle": (range(0x1F680, 0x1F6A5), range(0x1F6F3, 0x1F6FD)),
    "building": (range(0x1F3E0, 0x1F3E7), range(0x1F3E8, 0x1F3EE)),
    "clothes": (range(0x1F451, 0x1F463), range(0x1F97B, 0x1F980)),
    "clock": (range(0x1F550, 0x1F568),),
    "heart": (range(0x1F493, 0x1F4A0), range(0x1FA75, 0x1FA78)),
    "person": (range(0x1F9D1, 0x1F9D2), range(0x1F468, 0x1F46A)),
}


@dataclass(frozen=True)
class NamedPictures:
    """Pictures and their names.

    Attributes:
        images: from 0 to 1 on white, shape ``(pictures, 3, side, side)``.
        names: one for each, as "grinning face".
        captions: for each, the name and what else it is called.
        characters: the emojis themselves.
        concepts: what an emoji shows, whatever its gender, hair and direction (see
            `companion.data.emoji_names.base_concept`): where two are equal, the pictures
            are variants of each other.
    """

    images: Float[Tensor, "pictures 3 side side"]
    names: tuple[str, ...]
    captions: tuple[tuple[str, ...], ...]
    characters: tuple[str, ...]
    concepts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Sequence[int] | Tensor | slice) -> NamedPictures:
        places = range(len(self))[index] if isinstance(index, slice) else index
        where = [int(i) for i in places]
        return replace(
            self,
            images=self.images[where],
            **{
                field: tuple(getattr(self, field)[i] for i in where)
                for field in ("names", "captions", "characters", "concepts")
            },
        )

    def join(self, other: NamedPictures) -> NamedPictures:
        """These pictures, then those of ``other``."""
        return replace(
            self,
            images=torch.cat([self.images, other.images]),
            **{
                field: getattr(self, field) + getattr(other, field)
                for field in ("names", "captions", "characters", "concepts")
            },
        )

    @property
    def kinds(self) -> tuple[str | None, ...]:
        """The key of `KINDS` that each picture belongs to, or None."""
        firsts = [ord(character[0]) for character in self.characters]
        return tuple(
            next((k for k, blocks in KINDS.items() if _within(first, blocks)), None)
            for first in firsts
        )

    def find(self, name: str) -> int:
        """The place of the picture with that name.

        Raises:
            ValueError: there is none.
        """
        if name not in self.names:
            raise ValueError(f"name must be that of a picture, but it is {name!r}")
        return self.names.index(name)

    def split(
        self, held_out: int = 250, seed: int = 0
    ) -> tuple[NamedPictures, NamedPictures]:
        """Pictures to train on, and others whose concepts are not among these.

        A concept is held out with all its variants, of which one is kept: to know a woman
        who swims after a man who swims is no feat. A name that is held out is no caption
        in training either, where another picture is called by it as well.

        Args:
            held_out: how many concepts, and pictures, the second part has.
            seed: of the choice.

        Raises:
            ValueError: there are not as many concepts.
        """
        concepts = sorted(set(self.concepts))
        if not 0 < held_out < len(concepts):
            raise ValueError(
                f"held_out must be at least 1 and below {len(concepts)}, the number of "
                f"concepts, but it is {held_out}"
            )
        order = np.random.default_rng(seed).permutation(len(concepts))
        chosen = {concepts[i] for i in order[:held_out]}
        train = [i for i, concept in enumerate(self.concepts) if concept not in chosen]
        test = self[[self.concepts.index(concept) for concept in sorted(chosen)]]
        asked = {tuple(words(name)) for name in test.names}
        kept = tuple(
            tuple(text for text in self.captions[i] if tuple(words(text)) not in asked)
            for i in train
        )
        return replace(self[train], captions=kept), test


@functools.cache
def openmoji(side: int = 32, *, progress: bool = True) -> NamedPictures:
    """All emojis that have a name and a glyph, but for skin tones and flags of countries.

    The name of a flag is that of its country, which no other picture can teach.

    Args:
        side: height and width in pixels, 8 to 128.
        progress: whether to show a progress bar.

    Raises:
        ValueError: the side is out of range.
    """
    if not 8 <= side <= _CANVAS:
        raise ValueError(f"side must be from 8 to {_CANVAS}, but it is {side}")
    font, glyphs = _font_and_glyphs()
    table = json.loads((fetch("emoji-names") / "emoji.json").read_text("utf-8"))
    chosen = {
        character: entry
        for character, entry in table.items()
        if entry["status"] == 2  # written in full, as people see it
        and code_points(character) in glyphs
        and not _is_left_out(character)
    }
    # Neutral forms come first, in the order of code points.
    characters = sorted(chosen, key=lambda c: (len(code_points(c)), code_points(c)))
    bar = tqdm(characters, desc="drawing", unit="picture", disable=not progress)
    pixels = _draw(font, [glyphs[code_points(c)] for c in bar], side)
    captions = tuple(_captions(chosen[character]) for character in characters)
    return NamedPictures(
        images=torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255,
        names=tuple(caption[0] for caption in captions),
        captions=captions,
        characters=tuple(characters),
        concepts=tuple(base_concept(character) for character in characters),
    )


def code_points(character: str) -> tuple[int, ...]:
    """The numbers of an emoji's characters, without the selectors that change nothing."""
    return tuple(ord(c) for c in character if ord(c) != _SELECTOR)


def words(text: str) -> list[str]:
    """The words of a name, in lower case, without marks: what a model is given."""
    text = unicodedata.normalize("NFC", text).lower().replace("'", "’")
    return re.findall(r"[^\W_]+(?:’[^\W_]+)*|[#*]", text)


def _is_left_out(character: str) -> bool:
    points = code_points(character)
    is_flag = any(p in _FLAG_LETTERS or p == _TAGGED_FLAG for p in points)
    return is_flag or bool(tones(character))


def _captions(entry: dict[str, Any]) -> tuple[str, ...]:
    """The name, then other names that are not the same words, without repetitions."""
    found: dict[str, str] = {}
    for name in (entry["en"], *entry.get("alias", ())):
        text = name.strip(":").replace("_", " ")
        found.setdefault(" ".join(words(text)), text)
    return tuple(found.values())


def _within(point: int, blocks: tuple[range, ...]) -> bool:
    return any(point in block for block in blocks)


def _font_and_glyphs() -> tuple[bytes, dict[tuple[int, ...], str]]:
    """The font, in which each glyph has a character of its own, and who has which.

    The glyph of code points ``points`` is drawn by the character ``glyphs[points]``.
    """
    from fontTools.ttLib import TTFont

    font = TTFont(fetch("openmoji"))
    by_point = font.getBestCmap()
    points_of = {name: point for point, name in by_point.items()}
    names = {(point,): name for point, name in by_point.items()}
    for lookup in font["GSUB"].table.LookupList.Lookup:
        for table in lookup.SubTable:
            for first, ligatures in table.ligatures.items():
                for ligature in ligatures:
                    parts = (first, *ligature.Component)
                    sequence = "".join(chr(points_of[part]) for part in parts)
                    names[code_points(sequence)] = ligature.LigGlyph
    glyphs = {points: chr(_PRIVATE + i) for i, points in enumerate(names)}
    for table in font["cmap"].tables:
        if table.format == 12:  # the one that holds more than 16 bits
            table.cmap.update(
                {ord(glyphs[points]): name for points, name in names.items()}
            )
    del font["GSUB"]
    stored = io.BytesIO()
    font.save(stored)
    return stored.getvalue(), glyphs


def _draw(font: bytes, glyphs: Sequence[str], side: int) -> np.ndarray:
    """Pictures of characters, ``(pictures, side, side, 3)`` in 8 bits."""
    from PIL import Image, ImageDraw, ImageFont

    face = ImageFont.truetype(
        io.BytesIO(font), _FONT_SIZE, layout_engine=ImageFont.Layout.BASIC
    )
    pictures = []
    for glyph in glyphs:
        image = Image.new("RGB", (_CANVAS, _CANVAS), "white")
        middle = (_CANVAS / 2, _CANVAS / 2)
        pen = ImageDraw.Draw(image)
        pen.text(middle, glyph, "black", font=face, embedded_color=True, anchor="mm")
        pictures.append(image.resize((side, side), Image.Resampling.LANCZOS))
    return np.stack([np.asarray(picture) for picture in pictures])
