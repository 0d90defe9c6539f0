"""What generation asks of a model, and how it feeds it.

A language model is whatever maps token ids to the logits of the token after each, and
may keep a key-value cache. An encoder-decoder that has read its source is one as well:
`GivenSource` makes it so, and everything here works with both.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from companion.generation.filters import check_count
from companion.layers import KeyValueCache

PromptIds = Int[Tensor, "batch length"] | Sequence[Sequence[int] | Tensor]


@runtime_checkable
class LanguageModel(Protocol):
    """``model(token_ids, cache=cache)``; with a cache, ``token_ids`` are only the new ones.

    It may have ``max_seq_len``, the longest text that it takes. And it may take
    ``last=n``, to give only the logits after the last ``n`` tokens.
    """

    def __call__(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "batch length vocab"]: ...


class GivenSource(nn.Module):
    """An encoder-decoder that has read its sources: a language model of their targets.

    >>> from companion.generation import generate
    >>> from companion.models.transformer import Transformer
    >>> model = Transformer(11, 11, 16, 4, 32, 1, 1)
    >>> german = torch.tensor([[5, 6, 7], [8, 9, 2]])
    >>> generate(GivenSource(model, german), [[1], [1]], max_new_tokens=4).shape
    torch.Size([2, 5])

    Args:
        model: has ``encode(source_ids, source_mask)`` and ``decode(target_ids, memory,
            source_mask, target_mask, *, cache)``, as `Transformer`.
        source_ids: one source for each row of the prompts.
        source_mask: hides tokens of the source; `padding_mask` builds it.
        memory: what ``model.encode`` has returned already; by default it is called here.
    """

    def __init__(
        self,
        model: nn.Module,
        source_ids: Int[Tensor, "batch source"],
        source_mask: Bool[Tensor, "batch 1 1 source"] | None = None,
        *,
        memory: Float[Tensor, "batch source d_model"] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        if memory is None:
            with evaluating(model), torch.no_grad():
                memory = model.encode(source_ids, source_mask)
        self.register_buffer("source_ids", source_ids, persistent=False)
        self.register_buffer("source_mask", source_mask, persistent=False)
        self.register_buffer("memory", memory, persistent=False)
        self.max_seq_len = getattr(model, "max_seq_len", None)

    def forward(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "batch length vocab"]:
        """Logits of the target token after each of ``token_ids``."""
        return self.model.decode(
            token_ids, self.memory, self.source_mask, mask, cache=cache
        )

    def select(self, rows: Int[Tensor, " new_batch"]) -> GivenSource:
        """The same model with these of the sources, in this order."""
        mask = None if self.source_mask is None else self.source_mask[rows]
        return GivenSource(
            self.model, self.source_ids[rows], mask, memory=self.memory[rows]
        )


class Reader:
    """Shows a model a growing text, and each token only once, if there is a cache.

    While the model runs, its dropout is off and no gradient is kept; afterwards it is
    in the mode that it was in.

    Args:
        model: the language model.
        use_cache: whether to keep keys and values; without, all is read at each step.
        crop: where the text outgrows ``max_seq_len``, show the model the end of it. All
            positions shift then, so that no cache helps.

    Raises:
        ValueError: ``crop`` for a model that names no ``max_seq_len``; or, at the first
            reading, ``use_cache`` for a model that takes a cache and does not fill it.
    """

    def __init__(
        self, model: LanguageModel, *, use_cache: bool = True, crop: bool = False
    ) -> None:
        self.model = model
        self.cache = KeyValueCache() if use_cache else None
        self.window = getattr(model, "max_seq_len", None) if crop else None
        self.length = 0  # tokens that the model has read
        self._takes_last = _takes_last(model)
        self._parts = _parts(model)
        if crop and self.window is None:
            raise ValueError(
                f"crop must be False, since {type(model).__name__} has no max_seq_len"
            )

    def read(
        self, token_ids: Int[Tensor, "batch length"], last: int | None = None
    ) -> Float[Tensor, "batch new vocab"]:
        """Logits of the token after each that is new since the last call.

        Args:
            token_ids: the whole text so far.
            last: give them only after this many of the last tokens, which is less work
                where the model takes ``last`` as well.
        """
        wanted = token_ids.shape[1] - self.length if last is None else last
        options = {"last": wanted} if self._takes_last else {}
        with _evaluating(self._parts), torch.no_grad():
            if self.window is not None and token_ids.shape[1] > self.window:
                self.cache = None
                logits = self.model(token_ids[:, -self.window :], **options)
            elif self.cache is None:
                logits = self.model(token_ids, **options)
            else:
                new = token_ids[:, self.length :]
                logits = self.model(new, cache=self.cache, **options)
        self.length = token_ids.shape[1]
        if self.cache is not None and self.cache.length != self.length:
            raise ValueError(
                f"use_cache must be False, since {type(self.model).__name__} does not "
                "keep the keys and values of what it has read"
            )
        # In half precision, many of a large vocabulary's probabilities would be equal.
        wide = torch.promote_types(logits.dtype, torch.float32)
        return logits[:, -wanted:].to(wide)

    def truncate(self, length: int) -> None:
        """Take back what was read after the first ``length`` tokens."""
        self.length = min(length, self.length)
        if self.cache is not None:
            self.cache.truncate(self.length)

    def select(self, rows: Int[Tensor, " new_batch"]) -> None:
        """Go on with these rows of the batch, in this order."""
        if isinstance(self.model, GivenSource):
            self.model = self.model.select(rows)
            self._parts = _parts(self.model)
        if self.cache is not None:
            self.cache.select(rows)


class Prompts(NamedTuple):
    """Texts to be continued, filled up at the end to the longest.

    The rows stay aligned at their start. A row whose prompt is longer than another's
    takes its next token from the prompt while the other one's is generated: so each
    token stands at its own position, and no model has to know of padding.
    """

    token_ids: Int[Tensor, "batch longest"]
    lengths: Int[Tensor, " batch"]

    @property
    def shortest(self) -> int:
        return int(self.lengths.min())

    @property
    def longest(self) -> int:
        return self.token_ids.shape[1]

    def at(self, position: int) -> tuple[Int[Tensor, " batch"], Bool[Tensor, " batch"]]:
        """The tokens at a position, and which rows' prompts reach it."""
        inside = self.lengths > position
        return self.token_ids[:, min(position, self.longest - 1)], inside


def as_prompts(
    model: LanguageModel,
    prompt_ids: PromptIds,
    max_new_tokens: int,
    *,
    crop: bool = False,
) -> Prompts:
    """Check what every function that generates is given.

    Raises:
        TypeError: the prompts are no integers, or the number of tokens is none.
        ValueError: there is no prompt, an empty one, or one that leaves no room in
            ``max_seq_len`` for ``max_new_tokens``.
    """
    check_count("max_new_tokens", max_new_tokens)
    if isinstance(prompt_ids, Tensor):
        if prompt_ids.ndim != 2:
            raise ValueError(
                "prompt_ids must have shape (batch, length), but it has shape "
                f"{tuple(prompt_ids.shape)}"
            )
        rows = list(prompt_ids)
    else:
        rows = [_as_row(model, row) for row in prompt_ids]
    if not rows or min(len(row) for row in rows) == 0:
        raise ValueError(
            "prompt_ids must hold at least one prompt of at least one token, such as a "
            f"start token, but {'one is empty' if rows else 'it holds none'}"
        )
    for row in rows:
        if row.is_floating_point() or row.is_complex() or row.dtype == torch.bool:
            raise TypeError(
                f"prompt_ids must be integers, but their dtype is {row.dtype}"
            )
    if isinstance(model, GivenSource) and len(model.memory) != len(rows):
        raise ValueError(
            f"prompt_ids must hold one prompt for each of the {len(model.memory)} "
            f"sources, but it holds {len(rows)}"
        )
    token_ids = pad_sequence([row.long() for row in rows], batch_first=True)
    lengths = torch.tensor([len(row) for row in rows], device=token_ids.device)

    limit = getattr(model, "max_seq_len", None)
    # The last token is written and not read again, so it needs no position.
    needed = token_ids.shape[1] + max_new_tokens - 1
    if not crop and limit is not None and needed > limit:
        room = limit + 1 - token_ids.shape[1]
        raise ValueError(
            f"prompt_ids of {token_ids.shape[1]} tokens and max_new_tokens = "
            f"{max_new_tokens} don't fit in the model's max_seq_len of {limit}: "
            + (
                f"max_new_tokens may be {room} at most"
                if room > 0
                else f"a prompt may have {limit} tokens at most"
            )
        )
    return Prompts(token_ids, lengths)


def as_stop_ids(
    stop_ids: Collection[int], device: torch.device
) -> Int[Tensor, "stops"]:
    """Check the tokens that end a text.

    Raises:
        TypeError: they are not a collection of integers.
    """
    if not isinstance(stop_ids, Collection) or not all(
        isinstance(token, Integral) and not isinstance(token, bool)
        for token in stop_ids
    ):
        raise TypeError(
            "stop_ids must be a collection of integers such as [2], but it is "
            f"{stop_ids!r}"
        )
    return torch.tensor(sorted(stop_ids), dtype=torch.long, device=device)


@contextmanager
def evaluating(model: object) -> Iterator[None]:
    """Turn dropout off inside, and leave each module in the mode that it was in."""
    with _evaluating(_parts(model)):
        yield


def _parts(model: object) -> tuple[nn.Module, ...]:
    return tuple(model.modules()) if isinstance(model, nn.Module) else ()


@contextmanager
def _evaluating(parts: Sequence[nn.Module]) -> Iterator[None]:
    training = [module for module in parts if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _takes_last(model: LanguageModel) -> bool:
    called = model.forward if isinstance(model, nn.Module) else model
    try:
        return "last" in inspect.signature(called).parameters
    except (TypeError, ValueError):  # something without a signature, written in C
        return False


def _as_row(model: LanguageModel, row: Sequence[int] | Tensor) -> Tensor:
    if isinstance(row, Tensor):
        return row
    if not isinstance(row, Sequence) or isinstance(row, str):
        raise TypeError(
            "prompt_ids must be a tensor of shape (batch, length) or a list with the "
            f"token ids of each prompt, but one item of it is {row!r}"
        )
    parameters = model.parameters() if isinstance(model, nn.Module) else iter(())
    first = next(parameters, None)
    if not row:
        return torch.empty(0, dtype=torch.long)
    return torch.tensor(row, device=None if first is None else first.device)
