"""Which word of the source stands behind which of the target: cross-attention by words.

Attention is between tokens, and tokens are pieces of words. Here the pieces are put
together again: what a source word's pieces receive is added up, and over a target
word's pieces the average is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

WORD_START = "▁"


def group_words(tokens: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Words of a text with the indices of their tokens.

    A word begins at a token that begins with ``▁``, or at one that holds no letter or
    digit, such as a comma or ``</s>``.
    """
    words: list[tuple[str, list[int]]] = []
    after_mark = False
    for i, token in enumerate(tokens):
        is_mark = not any(c.isalnum() for c in token) or token == "</s>"
        if not words or token.startswith(WORD_START) or is_mark or after_mark:
            words.append(("", []))
        text, indices = words[-1]
        words[-1] = (text + token.removeprefix(WORD_START), [*indices, i])
        # A bare ▁ is the beginning of the word that follows.
        after_mark = is_mark and token != WORD_START
    return words


def word_alignment(
    weights: Float[Tensor, "target source"],
    source_tokens: Sequence[str],
    target_tokens: Sequence[str],
) -> tuple[Float[Tensor, "target_words source_words"], list[str], list[str]]:
    """The weights between words, and the words of the rows and of the columns.

    Rows are the target's, and still sum to 1.

    Args:
        weights: of one head of cross-attention, or an average; row ``i`` is the query
            that *predicts* target token ``i``, so it stands at the position before.
        source_tokens, target_tokens: one string for each column and row.

    Raises:
        ValueError: the weights don't have a row and a column for each token.
    """
    expected = (len(target_tokens), len(source_tokens))
    if tuple(weights.shape) != expected:
        raise ValueError(
            f"weights must have shape {expected}, a row for each target token and a "
            f"column for each source token, but it has shape {tuple(weights.shape)}"
        )
    sources, targets = group_words(source_tokens), group_words(target_tokens)
    to_words = torch.stack([weights[:, i].sum(dim=1) for _, i in sources], dim=1)
    rows = torch.stack([to_words[i].mean(dim=0) for _, i in targets])
    return rows, [word for word, _ in targets], [word for word, _ in sources]
