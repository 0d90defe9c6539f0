"""GPT-2's tokenizer, built from nothing but its list of tokens in the order of their making.

Source: Radford et al. (2019), "Language Models are Unsupervised Multitask Learners",
section 2.2, for byte-level BPE.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from companion.data.assets import fetch

END_OF_TEXT = "<|endoftext|>"


def gpt2_ranks() -> dict[bytes, int]:
    """Each of GPT-2's 50,256 tokens as bytes, with its rank: the lower, the earlier made.

    The first 256 are the single bytes. The asset is the file that OpenAI's Whisper
    carries, a line a token: its bytes in base64 and its rank.
    """
    lines = fetch("gpt2-ranks").read_text(encoding="ascii").split("\n")
    pairs = (line.split(" ") for line in lines if line)
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def merge_by_rank(
    word: bytes, ranks: Mapping[bytes, int], below: int | None = None
) -> list[bytes]:
    """Byte-pair encoding of one word: merge the neighbors whose union has the lowest rank.

    Args:
        word: to be cut into tokens.
        ranks: of the tokens; it holds every single byte of ``word``.
        below: merges of this rank and later are not made; None for all.

    Returns:
        The tokens, whose bytes together are ``word``.
    """
    parts = [word[i : i + 1] for i in range(len(word))]
    while len(parts) > 1:
        rank, i = min(
            (ranks.get(parts[i] + parts[i + 1], len(ranks)), i)
            for i in range(len(parts) - 1)
        )
        if rank == len(ranks) or (below is not None and rank >= below):
            break
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


def load_gpt2_tokenizer() -> Tokenizer:
    """GPT-2's tokenizer for the ``tokenizers`` library, with ``<|endoftext|>``.

    That library wants each merge as a pair. The pair of a token is what the merges
    before it make of its bytes.
    """
    ranks = gpt2_ranks()
    letters = byte_letters()
    name = {token: "".join(letters[byte] for byte in token) for token in ranks}
    merges = []
    for token, rank in ranks.items():
        if len(token) > 1:
            first, second = merge_by_rank(token, ranks, below=rank)
            merges.append((name[first], name[second]))
    vocabulary = {name[token]: rank for token, rank in ranks.items()}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True)])
    return tokenizer


def byte_letters() -> dict[int, str]:
    """A printable letter for each byte: itself if it has one, else one from 256 on.

    That is how GPT-2's vocabulary file writes bytes, and how "Ġ" came to mean a blank.
    """
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    other = [byte for byte in range(256) if byte not in own]
    return {byte: chr(byte) for byte in own} | {
        byte: chr(256 + i) for i, byte in enumerate(other)
    }
