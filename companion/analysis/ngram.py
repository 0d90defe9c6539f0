"""The baseline of every language model: counting which token follows which.

Interpolated Kneser-Ney smoothing of tokens from a small alphabet, such as characters.

Sources: Kneser and Ney (1995), "Improved Backing-off for M-gram Language Modeling"; Chen
and Goodman (1999), "An Empirical Study of Smoothing Techniques for Language Modeling",
section 3 and equation for interpolated Kneser-Ney, with its estimate of the discount.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor


class NGramModel:
    """p(token | the last n tokens) from counts, for each n from 0 to ``max_order``.

    A count of c is discounted to c - D, with 0 < D < 1, and what this frees goes to the
    next shorter context:

        p_n(w | h) = max(c(h w) - D, 0) / c(h) + D t(h) / c(h) * p_{n-1}(w | h')

    where t(h) is how many different tokens follow h and h' is h without its first token.
    Below order 0 all tokens are equally likely. In the shorter contexts, c(h w) is not
    how often h w occurs, but after how many different tokens.

    Args:
        token_ids: the text to count in.
        vocab_size: number of distinct tokens.
        max_order: tokens of context, at most.

    Raises:
        ValueError: the text is not longer than ``max_order``, has tokens outside of the
            vocabulary, or ``vocab_size ** (max_order + 1)`` does not fit 63 bits.
    """

    def __init__(
        self, token_ids: Int[Tensor, " tokens"], vocab_size: int, max_order: int
    ) -> None:
        if vocab_size ** (max_order + 2) >= 2**63:
            raise ValueError(
                f"max_order must be smaller for a vocabulary of {vocab_size}, since "
                f"{vocab_size} ** (max_order + 2) has to stay below 2 ** 63, but it is "
                f"{max_order}"
            )
        ids = token_ids.cpu().numpy().astype(np.int64)
        if len(ids) <= max_order or ids.min() < 0 or ids.max() >= vocab_size:
            raise ValueError(
                f"token_ids must be more than max_order = {max_order} ids from 0 to "
                f"{vocab_size - 1}, but it has {len(ids)}"
                + (f" from {ids.min()} to {ids.max()}" if len(ids) else "")
            )
        self.vocab_size, self.max_order = vocab_size, max_order
        counted = [
            np.unique(_codes(ids, n + 1, vocab_size), return_counts=True)
            for n in range(max_order + 1)
        ]
        self._by_count = [_Table(*grams, vocab_size) for grams in counted]
        # Each distinct (n+2)-gram adds one to the (n+1)-gram that it ends in.
        self._by_kind = [
            _Table(
                *np.unique(longer % vocab_size ** (n + 1), return_counts=True),
                vocab_size,
            )
            for n, (longer, _) in enumerate(counted[1:])
        ]

    def probabilities(
        self, token_ids: Int[Tensor, " tokens"], order: int
    ) -> Float[Tensor, " tokens_less_order"]:
        """p of each token but the first ``order``, given the ``order`` before it.

        Raises:
            ValueError: the order is not one of 0 to ``max_order``, or there are no more
                than ``order`` tokens.
        """
        self._check(order)
        ids = token_ids.cpu().numpy().astype(np.int64)
        if len(ids) <= order:
            raise ValueError(
                f"token_ids must be more than order = {order}, but it has {len(ids)}"
            )
        return torch.from_numpy(self._probabilities(ids, order))

    def bits(self, token_ids: Int[Tensor, " tokens"], order: int) -> float:
        """-log2 p, averaged over the tokens: bits per character."""
        return -self.probabilities(token_ids, order).log2().mean().item()

    def share_known(self, token_ids: Int[Tensor, " tokens"], order: int) -> float:
        """How many of the text's contexts of ``order`` tokens were counted before."""
        self._check(order)
        if order == 0:
            return 1.0
        ids = token_ids.cpu().numpy().astype(np.int64)
        codes = _codes(ids, order, self.vocab_size)
        return float(np.isin(codes, self._by_count[order].contexts).mean())

    def distribution(
        self, context: Int[Tensor, " order"], order: int | None = None
    ) -> Float[Tensor, " vocab"]:
        """p of every token after ``context``, of which the last ``order`` tokens count."""
        order = len(context) if order is None else order
        self._check(order)
        ids = context.cpu().numpy().astype(np.int64)[len(context) - order :]
        rows = np.empty((self.vocab_size, order + 1), dtype=np.int64)
        rows[:, :-1], rows[:, -1] = ids, np.arange(self.vocab_size)
        p = np.full(self.vocab_size, 1.0 / self.vocab_size)
        for n, table in enumerate(self._tables(order)):
            codes = _codes_of_rows(rows[:, order - n :], self.vocab_size)
            p = table.interpolate(codes, p)
        return torch.from_numpy(p)

    def sample(
        self,
        prompt: Int[Tensor, " length"],
        number: int,
        order: int,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, " longer"]:
        """``prompt`` and ``number`` more tokens, each drawn given the last ``order``."""
        ids = prompt.tolist()
        for _ in range(number):
            p = self.distribution(torch.tensor(ids[len(ids) - order :]), order)
            ids.append(int(torch.multinomial(p, 1, generator=generator)))
        return torch.tensor(ids)

    def _tables(self, order: int) -> list[_Table]:
        return [*self._by_kind[:order], self._by_count[order]]

    def _probabilities(self, ids: NDArray[np.int64], order: int) -> NDArray[np.float64]:
        p = np.full(len(ids) - order, 1.0 / self.vocab_size)
        for n, table in enumerate(self._tables(order)):
            codes = _codes(ids[order - n :], n + 1, self.vocab_size)
            p = table.interpolate(codes, p)
        return p

    def _check(self, order: int) -> None:
        if not 0 <= order <= self.max_order:
            raise ValueError(
                f"order must be from 0 to max_order = {self.max_order}, but it is {order}"
            )


class _Table:
    """Counts of the grams of one length, and of the contexts that they begin with."""

    def __init__(
        self, grams: NDArray[np.int64], counts: NDArray[np.int64], vocab_size: int
    ) -> None:
        self.grams, self.counts = grams, counts  # sorted by code
        self.vocab_size = vocab_size
        self.contexts, first, self.kinds = np.unique(
            grams // vocab_size, return_index=True, return_counts=True
        )
        self.totals = np.add.reduceat(counts, first)
        once, twice = (int((counts == n).sum()) for n in (1, 2))
        # Chen and Goodman (1999); 1/2 where the counts are too few to tell.
        self.discount = once / (once + 2 * twice) if once and twice else 0.5

    def interpolate(
        self, codes: NDArray[np.int64], shorter: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """p of each gram, from the p that the next shorter context gives."""
        count, _ = _look_up(codes, self.grams, self.counts)
        contexts = codes // self.vocab_size
        total, known = _look_up(contexts, self.contexts, self.totals)
        kinds, _ = _look_up(contexts, self.contexts, self.kinds)
        freed = self.discount * kinds
        with np.errstate(divide="ignore", invalid="ignore"):
            p = (np.maximum(count - self.discount, 0) + freed * shorter) / total
        return np.where(known, p, shorter)  # a context never seen says nothing


def _look_up(
    wanted: NDArray[np.int64], keys: NDArray[np.int64], values: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    known = keys[place] == wanted
    return np.where(known, values[place], 0), known


def _codes(ids: NDArray[np.int64], length: int, vocab_size: int) -> NDArray[np.int64]:
    """Each run of ``length`` tokens as one number, with the tokens as its digits."""
    codes = np.zeros(len(ids) - length + 1, dtype=np.int64)
    for i in range(length):
        codes = codes * vocab_size + ids[i : i + len(codes)]
    return codes


def _codes_of_rows(rows: NDArray[np.int64], vocab_size: int) -> NDArray[np.int64]:
    digits = vocab_size ** np.arange(rows.shape[1] - 1, -1, -1, dtype=np.int64)
    return rows @ digits
