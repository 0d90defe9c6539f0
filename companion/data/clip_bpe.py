"""CLIP's tokenizer, built from nothing but its list of merges.

Source: Radford et al. (2021), section 2.4: byte-pair encoding of lower-case text.
"""

from __future__ import annotations

import gzip

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers
from tokenizers import pre_tokenizers as before
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing

from companion.data.assets import fetch
from companion.data.gpt2_tokenizer import byte_letters

START, END = "<|startoftext|>", "<|endoftext|>"
VOCAB_SIZE = 49408
_WORD_END = "</w>"
_NUM_MERGES = 48894  # the file holds more than CLIP uses
# Words, single digits, and runs of other marks.
_PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def clip_merges() -> list[tuple[str, str]]:
    """The 48,894 pairs of symbols that CLIP merges, in their order.

    Bytes are written as letters, as in GPT-2's vocabulary; ``</w>`` ends a word.
    """
    text = gzip.decompress(fetch("clip-merges").read_bytes()).decode("utf-8")
    lines = text.split("\n")[1 : 1 + _NUM_MERGES]  # the first says what the file is
    return [tuple(line.split()) for line in lines]


def load_clip_tokenizer() -> Tokenizer:
    """CLIP's tokenizer for the ``tokenizers`` library: 49,408 tokens.

    A text comes out in lower case between ``<|startoftext|>`` (49406) and
    ``<|endoftext|>`` (49407), which has the largest id of all.
    """
    merges = clip_merges()
    letters = list(byte_letters().values())
    symbols = [
        *letters,
        *(letter + _WORD_END for letter in letters),
        *("".join(pair) for pair in merges),
    ]
    vocabulary = {symbol: i for i, symbol in enumerate([*symbols, START, END])}
    tokenizer = Tokenizer(
        BPE(
            vocab=vocabulary,
            merges=merges,
            end_of_word_suffix=_WORD_END,
            unk_token=END,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Lowercase(),
        ]
    )
    tokenizer.pre_tokenizer = before.Sequence(
        [
            before.Split(Regex(_PIECES), behavior="removed", invert=True),
            before.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteLevel(), decoders.Replace(_WORD_END, " ")]
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in (START, END)])
    tokenizer.post_processor = TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(t, vocabulary[t]) for t in (START, END)],
    )
    return tokenizer
