"""Byte-pair encoding: a vocabulary between characters and words.

`learn_merges` and `apply_merges` are the algorithm, written out to be read. `train_bpe`
does the same with the ``tokenizers`` library, for real corpora, and gives a tokenizer
with the special tokens that translation needs.

Sources: Sennrich et al. (2016), "Neural Machine Translation of Rare Words with
Subword Units", section 3.2 and algorithm 1; Johnson et al. (2017), "Google's
Multilingual Neural Machine Translation System", section 3, for language tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import tokenizers
from tokenizers.decoders import Metaspace as JoinWords
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Metaspace, Punctuation
from tokenizers.pre_tokenizers import Sequence as Steps
from tokenizers.trainers import BpeTrainer
from torch import Tensor

from companion.data.parallel import normalize

# The algorithm

WORD_START = "▁"  # U+2581, as in SentencePiece; the paper marks the ends of words

Merge = tuple[str, str]


def learn_merges(text: str, num_merges: int) -> list[Merge]:
    """Find the pairs of symbols to merge: each time the one that is most frequent.

    Words are split at white space and begin with `WORD_START`. Symbols never reach over
    the boundary of a word. Of pairs that are equally frequent, the one whose symbols
    are older is taken.

    Args:
        text: what to learn from.
        num_merges: how many merges to find; fewer are found when every word is one
            symbol before.

    Raises:
        ValueError: ``num_merges`` is negative.
    """
    if num_merges < 0:
        raise ValueError(f"num_merges must not be negative, but it is {num_merges}")
    words = Counter(tuple(WORD_START + word) for word in text.split())
    age = {symbol: i for i, symbol in enumerate(sorted({s for w in words for s in w}))}
    merges: list[Merge] = []
    while len(merges) < num_merges:
        counts: Counter[Merge] = Counter()
        for word, frequency in words.items():
            for pair in pairwise(word):
                counts[pair] += frequency
        if not counts:
            break
        best = min(counts, key=lambda p: (-counts[p], age[p[0]], age[p[1]]))
        merges.append(best)
        age.setdefault("".join(best), len(age))
        words = Counter({merge_pair(word, best): n for word, n in words.items()})
    return merges


def apply_merges(text: str, merges: Sequence[Merge]) -> list[str]:
    """Split ``text`` into symbols: each merge, in the order of their finding."""
    symbols: list[str] = []
    for word in text.split():
        parts = tuple(WORD_START + word)
        for merge in merges:
            parts = merge_pair(parts, merge)
        symbols.extend(parts)
    return symbols


def merge_pair(word: tuple[str, ...], pair: Merge) -> tuple[str, ...]:
    """``word`` with each ``pair``, from left to right, made one symbol."""
    merged: list[str] = []
    i = 0
    while i < len(word):
        if word[i : i + 2] == pair:
            merged.append(pair[0] + pair[1])
            i += 2
        else:
            merged.append(word[i])
            i += 1
    return tuple(merged)


# For the work

SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>")


class BPETokenizer:
    """Text to token ids and back, for translation.

    A source ends with ``</s>``. A target begins with ``<s>`` and ends with ``</s>``.
    When there are several target languages, the source begins with a token such as
    ``<2en>`` that says which one is wanted.

    Args:
        tokenizer: as `train_bpe` makes it.

    Attributes:
        pad_id, bos_id, eos_id, unk_id: 0, 1, 2 and 3: ``<pad>``, ``<s>``, ``</s>`` and
            ``<unk>``, which stands for a character that training did not hold.
        vocab_size: number of tokens, special ones included.
        languages: for which there is a language token.

    Raises:
        ValueError: the tokenizer lacks the special tokens.
    """

    pad_id, bos_id, eos_id, unk_id = range(len(SPECIAL_TOKENS))

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        found = tuple(tokenizer.id_to_token(i) for i in range(len(SPECIAL_TOKENS)))
        if found != SPECIAL_TOKENS:
            raise ValueError(
                f"the first tokens must be {', '.join(SPECIAL_TOKENS)}, as train_bpe "
                f"makes them, but they are {found}"
            )
        # Special tokens that stand in a text are text.
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self.vocab_size = tokenizer.get_vocab_size()
        self._special = {
            i: token.content
            for i, token in tokenizer.get_added_tokens_decoder().items()
        }
        self._language_ids = {
            token[2:-1]: i for i, token in self._special.items() if token[:2] == "<2"
        }
        self.languages = tuple(self._language_ids)

    def encode(self, text: str) -> list[int]:
        """The tokens of ``text`` alone."""
        if not isinstance(text, str):
            raise TypeError(f"text must be a string, but it is {text!r}")
        return self._tokenizer.encode(normalize(text), add_special_tokens=False).ids

    def encode_source(self, text: str, language: str | None = None) -> list[int]:
        """``text </s>``, or ``<2language> text </s>``.

        Raises:
            ValueError: there is no token for the language.
        """
        start = [] if language is None else [self.language_id(language)]
        return [*start, *self.encode(text), self.eos_id]

    def encode_target(self, text: str) -> list[int]:
        """``<s> text </s>``."""
        return [self.bos_id, *self.encode(text), self.eos_id]

    def language_id(self, language: str) -> int:
        """The token that asks for a translation into ``language``."""
        if language not in self._language_ids:
            known = (
                ", ".join(self.languages) or "none: it was trained without languages"
            )
            raise ValueError(f"language may be {known}, but it is {language!r}")
        return self._language_ids[language]

    def decode(self, token_ids: Sequence[int] | Tensor) -> str:
        """The text up to the first ``</s>``, without special tokens."""
        ids = [int(token) for token in token_ids]
        if self.eos_id in ids:
            ids = ids[: ids.index(self.eos_id)]
        return self._tokenizer.decode([i for i in ids if i not in self._special])

    def tokens(self, token_ids: Sequence[int] | Tensor) -> list[str]:
        """Each token as a string, special ones included."""
        return [self._tokenizer.id_to_token(int(token)) for token in token_ids]

    def to_json(self) -> str:
        """All of it as the ``tokenizers`` library writes it: vocabulary, merges and so on."""
        return self._tokenizer.to_str()

    def save(self, path: str | Path) -> None:
        """Write the tokenizer to a JSON file, for `load_bpe`."""
        self._tokenizer.save(str(path))


def train_bpe(
    lines: Iterable[str], vocab_size: int, languages: Sequence[str] = ()
) -> BPETokenizer:
    """Learn a byte-pair encoding from the lines of the *training* split.

    Words are split at white space, and punctuation is split off, so that a comma is
    learned once and not once for each word before it.

    Args:
        lines: texts; for a vocabulary that source and target share, those of both.
        vocab_size: tokens to have: special tokens, characters and merges. There are
            fewer when there is nothing left to merge.
        languages: codes to have a language token for.

    Raises:
        TypeError: ``lines`` is one string.
        ValueError: no text, or a ``vocab_size`` that the special tokens and the
            characters alone exceed.
    """
    if isinstance(lines, str):
        raise TypeError("lines must be a sequence of texts, but it is one string")
    texts = [text for line in lines if (text := normalize(line))]
    if not texts:
        raise ValueError("lines must hold at least one text, but it holds none")
    special = [*SPECIAL_TOKENS, *(f"<2{code}>" for code in languages)]
    least = len(special) + len({WORD_START, *"".join(texts)} - {" "})
    if vocab_size < least:
        raise ValueError(
            f"vocab_size must be at least {least}, the number of special tokens and "
            f"characters, but it is {vocab_size}"
        )
    tokenizer = tokenizers.Tokenizer(BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = Steps([Metaspace(), Punctuation()])
    tokenizer.decoder = JoinWords()
    trainer = BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return BPETokenizer(tokenizer)


def load_bpe(path: str | Path) -> BPETokenizer:
    """Read what `BPETokenizer.save` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not such a tokenizer.
    """
    return BPETokenizer(read_tokenizer(path))


def read_tokenizer(path: str | Path) -> tokenizers.Tokenizer:
    """Read a JSON file of the ``tokenizers`` library.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a tokenizer.
    """
    text = Path(path).expanduser().read_text(encoding="utf-8")
    try:
        return tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises a bare Exception
        raise ValueError(f"{path} is not a readable tokenizer: {error}") from error
