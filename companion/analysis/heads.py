"""What attention heads do: scores over many sentences, and what breaks without a head.

Sources: Clark et al. (2019), "What Does BERT Look At? An Analysis of BERT's Attention", for
the scores of relations; Voita et al. (2019), "Analyzing Multi-Head Self-Attention", section
5.3, for heads that point at rare tokens; Michel et al. (2019), "Are Sixteen Heads Really
Better than One?", sections 3 and 4, for ablation.

Every score is a tensor ``(layers, heads)``, counted from 0; `head_name` counts from 1, as
people and figures do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from companion.data.tokenizers import TextTokenizer
from companion.layers import MultiHeadAttention, padding_mask, record_attention

Pairs = Sequence[tuple[int, int]]  # (query word, key word) of one sentence


def head_name(layer: int, head: int) -> str:
    """The name of a head in texts and figures, counted from 1: ``(5, 11)`` is "6-12"."""
    return f"{layer + 1}-{head + 1}"


def best_heads(
    scores: Float[Tensor, "layers heads"], number: int = 1
) -> list[tuple[int, int]]:
    """The heads with the highest scores, best first, as ``(layer, head)`` from 0."""
    order = scores.flatten().argsort(descending=True, stable=True)[:number]
    return [divmod(int(i), scores.shape[1]) for i in order]


# From tokens to words


def to_words(
    weights: Float[Tensor, "*maps tokens tokens"], word_ids: Sequence[int | None]
) -> Float[Tensor, "*maps words words"]:
    """Attention between words, from attention between the pieces they are cut into.

    Attention *to* a word is the sum over its pieces, since its weight is shared out among
    them. Attention *from* a word is the mean over its pieces, since each of them has a whole
    row. Special tokens drop out, so a row sums to 1 less what they received.

    Args:
        weights: attention maps of one sequence.
        word_ids: for each token the index of its word, None for a special token.

    Raises:
        ValueError: ``word_ids`` doesn't have one entry for each token.
    """
    if len(word_ids) != weights.shape[-1]:
        raise ValueError(
            f"word_ids must have one entry for each of the {weights.shape[-1]} tokens, "
            f"but it has {len(word_ids)}"
        )
    words = 1 + max((w for w in word_ids if w is not None), default=-1)
    member = torch.tensor(
        [[w == word for w in word_ids] for word in range(words)], device=weights.device
    ).to(weights.dtype)  # (W, T)
    pieces = member.sum(dim=1, keepdim=True).clamp(min=1)  # (W, 1)
    return (member / pieces) @ weights @ member.T  # (..., W, W)


@torch.no_grad()
def word_maps(
    model: nn.Module,
    tokenizer: TextTokenizer,
    sentences: Sequence[Sequence[str]],
    batch_size: int = 32,
) -> list[Float[Tensor, "layers heads words words"]]:
    """The attention maps of every head on every sentence, between words.

    Args:
        model: takes ``(token_ids, mask)``; all its attention layers have the same number of
            heads.
        tokenizer: puts one special token before a text and one after it, as BERT's does,
            and cuts a word into the same pieces wherever it stands.
        sentences: each a list of words.
        batch_size: sentences read at once.

    Returns:
        On the CPU, in the order of the sentences.
    """
    device = next(model.parameters()).device
    start, end = tokenizer.encode("")
    pieces = {
        word: tokenizer.encode(word)[1:-1]
        for sentence in sentences
        for word in sentence
    }
    # Sentences of like length share a batch, so that little is spent on padding.
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    maps: dict[int, Tensor] = {}
    for batch in (order[i : i + batch_size] for i in range(0, len(order), batch_size)):
        rows, word_ids = [], []
        for i in batch:
            cut = [pieces[word] for word in sentences[i]]
            rows.append([start, *(t for word in cut for t in word), end])
            ids = [n for n, word in enumerate(cut) for _ in word]
            word_ids.append([None, *ids, None])
        token_ids = torch.full((len(batch), max(map(len, rows))), tokenizer.pad_id)
        for b, row in enumerate(rows):
            token_ids[b, : len(row)] = torch.tensor(row)
        token_ids = token_ids.to(device)
        with record_attention(model) as recorded:
            model(token_ids, padding_mask(token_ids, tokenizer.pad_id))
        weights = recorded.stack().cpu()  # (layers, B, H, T, T)
        for b, i in enumerate(batch):
            tokens = len(rows[b])
            maps[i] = to_words(weights[:, b, :, :tokens, :tokens], word_ids[b])
    return [maps[i] for i in range(len(sentences))]


# Relations between words


def relation_scores(
    maps: Sequence[Float[Tensor, "layers heads words words"]],
    pairs: Sequence[Pairs],
) -> Float[Tensor, "layers heads"]:
    """How often the word that a query attends to most is the right one.

    Args:
        maps: of each sentence, from `word_maps`.
        pairs: of each sentence, the ``(query, key)`` words that belong together.

    Raises:
        ValueError: there is no pair at all, or not one list of pairs for each map.
    """
    _check_pairs(maps, pairs)
    hits, total = torch.zeros(maps[0].shape[:2]), 0
    for weights, wanted in zip(maps, pairs, strict=True):
        for query, key in wanted:
            hits += weights[:, :, query].argmax(dim=-1) == key
        total += len(wanted)
    return hits / total


def choice_scores(
    maps: Sequence[Float[Tensor, "layers heads words words"]],
    choices: Sequence[tuple[int, int, int]],
) -> Bool[Tensor, "sentences layers heads"]:
    """Does the query attend to the right word more than to the wrong one? For each head.

    Args:
        maps: of each sentence, from `word_maps`.
        choices: of each sentence, the words ``(query, right, wrong)``.
    """
    return torch.stack(
        [
            weights[:, :, query, right] > weights[:, :, query, wrong]
            for weights, (query, right, wrong) in zip(maps, choices, strict=True)
        ]
    )


def offset_score(pairs: Sequence[Pairs], offset: int) -> float:
    """How often the right word is the one ``offset`` words after the query: a head with no eyes."""
    distances = [key - query for wanted in pairs for query, key in wanted]
    return sum(d == offset for d in distances) / len(distances)


def best_offset(pairs: Sequence[Pairs]) -> int:
    """The fixed offset that is right most often; Clark et al. take it as the baseline."""
    distances = [key - query for wanted in pairs for query, key in wanted]
    return max(sorted(set(distances)), key=distances.count)


@dataclass(frozen=True)
class FoundHead:
    """A head chosen on one half of the sentences and scored on the other.

    Attributes:
        layer, head: counted from 0.
        score: of the head, on the half that it was not chosen on.
        offset: the best fixed offset, chosen on the same half as the head.
        offset_score: its score on the other half.
        lead: how far the head was before the offset where they were chosen.
        number: pairs in the half that is scored.
    """

    layer: int
    head: int
    score: float
    offset: int
    offset_score: float
    lead: float
    number: int

    @property
    def name(self) -> str:
        """The head's name, counted from 1."""
        return head_name(self.layer, self.head)


def find_head(
    maps: Sequence[Float[Tensor, "layers heads words words"]], pairs: Sequence[Pairs]
) -> FoundHead:
    """The best head for a relation, chosen on every second sentence and scored on the rest.

    The best of many heads looks better than it is where it was chosen. Scored on sentences
    that had no part in the choice, it doesn't.
    """
    chosen_on = relation_scores(maps[::2], pairs[::2])
    ((layer, head),) = best_heads(chosen_on)
    offset = best_offset(pairs[::2])
    return FoundHead(
        layer=layer,
        head=head,
        score=relation_scores(maps[1::2], pairs[1::2])[layer, head].item(),
        offset=offset,
        offset_score=offset_score(pairs[1::2], offset),
        lead=chosen_on[layer, head].item() - offset_score(pairs[::2], offset),
        number=sum(map(len, pairs[1::2])),
    )


# Patterns on running text


def offset_attention(
    weights: Float[Tensor, "layers batch heads tokens tokens"],
    ordinary: Bool[Tensor, "batch tokens"],
    offset: int,
) -> Float[Tensor, "layers heads"]:
    """Mean attention to the token ``offset`` later: -1 is the previous, 1 the next.

    Averaged over the queries for which both tokens are ordinary (no special token, no
    padding).
    """
    diagonal = weights.diagonal(
        offset, dim1=-2, dim2=-1
    )  # (layers, B, H, T - |offset|)
    length = ordinary.shape[1]
    queries = ordinary[:, max(0, -offset) : length - max(0, offset)]
    keys = ordinary[:, max(0, offset) : length - max(0, -offset)]
    return _mean_over_queries(diagonal, queries & keys)


def key_attention(
    weights: Float[Tensor, "layers batch heads tokens tokens"],
    ordinary: Bool[Tensor, "batch tokens"],
    keys: Bool[Tensor, "batch tokens"],
) -> Float[Tensor, "layers heads"]:
    """Mean attention from an ordinary token to all of ``keys`` together, such as every [SEP]."""
    received = (weights * keys[:, None, None]).sum(dim=-1)  # (layers, B, H, T)
    return _mean_over_queries(received, ordinary)


def rare_scores(
    weights: Float[Tensor, "layers batch heads tokens tokens"],
    ordinary: Bool[Tensor, "batch tokens"],
    rarity: Float[Tensor, "batch tokens"],
    rarest: int = 2,
) -> tuple[Float[Tensor, "layers heads"], Float[Tensor, "layers heads"]]:
    """Does a head look at rare tokens? Two answers.

    The first is the share of queries whose most attended ordinary token is one of the
    ``rarest`` of its sequence, as Voita et al. count it. The second is the rank correlation,
    inside a sequence and then averaged, between a token's rarity and the attention that it
    receives.

    Args:
        weights: attention maps.
        ordinary: True for what is neither special nor padding.
        rarity: of each token, such as ``-log p``.
        rarest: how many tokens of a sequence count as its rarest.
    """
    pointed, correlations = [], []
    for row in range(ordinary.shape[0]):
        keep = ordinary[row].nonzero()[:, 0]
        one = weights[:, row][:, :, keep][..., keep]  # (layers, H, N, N)
        rare = rarity[row, keep]
        top = rare.topk(rarest).indices
        pointed.append(torch.isin(one.argmax(dim=-1), top).float())  # (layers, H, N)
        correlations.append(_rank_correlation(one.mean(dim=-2), rare))  # (layers, H)
    return torch.cat(pointed, dim=-1).mean(dim=-1), torch.stack(correlations).mean(0)


# Without a head


def attention_layers(model: nn.Module) -> list[MultiHeadAttention]:
    """The multi-head attention layers of a model, in order.

    Raises:
        ValueError: it has none.
    """
    layers = [m for m in model.modules() if isinstance(m, MultiHeadAttention)]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no MultiHeadAttention layer")
    return layers


@contextmanager
def gate_heads(
    model: nn.Module, gates: Float[Tensor, "layers heads"]
) -> Iterator[None]:
    """Multiply the output of every head by its gate, before ``W_o`` mixes the heads.

    A gate of 0 removes a head, 1 leaves it alone. The gradient of a loss with respect to the
    gates says, to first order, what each head is worth (Michel et al., section 4.1).

    Raises:
        ValueError: ``gates`` doesn't have one entry for each head.
    """
    layers = attention_layers(model)
    shapes = {(len(layers), layer.num_heads) for layer in layers}
    if shapes != {tuple(gates.shape)}:
        raise ValueError(
            f"gates must have shape (layers, heads), here {sorted(shapes)}, "
            f"but it has shape {tuple(gates.shape)}"
        )

    def gate(layer: MultiHeadAttention, gates: Tensor):
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
            heads = inputs[0].unflatten(-1, (layer.num_heads, layer.d_k))
            return (heads * gates[:, None]).flatten(-2)  # (B, L, H * d_k)

        return layer.W_o.register_forward_pre_hook(hook)

    hooks = [gate(layer, gates[i]) for i, layer in enumerate(layers)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def ablate_heads(
    model: nn.Module, heads: Mapping[int, Sequence[int]]
) -> Iterator[None]:
    """Run a model without some heads: inside the block their output is zero.

    >>> from companion.layers import MultiHeadAttention
    >>> layer = MultiHeadAttention(d_model=8, num_heads=2)
    >>> with ablate_heads(layer, {0: [1]}):
    ...     output, weights = layer(torch.randn(1, 5, 8))

    Args:
        model: any model whose attention is `MultiHeadAttention`.
        heads: layer -> heads to remove, both from 0.

    Raises:
        ValueError: there is no such layer or head.
    """
    layers = attention_layers(model)
    parameter = next(model.parameters())
    gates = torch.ones(len(layers), layers[0].num_heads).to(parameter)
    for layer, removed in heads.items():
        for head in removed:
            if not (0 <= layer < gates.shape[0] and 0 <= head < gates.shape[1]):
                raise ValueError(
                    f"heads names layer {layer}, head {head}, but the layers are 0 to "
                    f"{gates.shape[0] - 1} and the heads 0 to {gates.shape[1] - 1}"
                )
            gates[layer, head] = 0.0
    with gate_heads(model, gates):
        yield


# What a cache costs


def kv_cache_bytes(
    num_layers: int, num_kv_heads: int, d_k: int, bytes_per_number: int = 2
) -> int:
    """Bytes that one token adds to the key-value cache of a decoder.

    Each layer keeps a key and a value of width ``d_k`` for every key-value head.
    """
    return num_layers * 2 * num_kv_heads * d_k * bytes_per_number


# Helpers


def _check_pairs(maps: Sequence[Tensor], pairs: Sequence[Pairs]) -> None:
    if len(maps) != len(pairs):
        raise ValueError(
            f"pairs must have one list for each of the {len(maps)} maps, but it has "
            f"{len(pairs)}"
        )
    if not any(pairs):
        raise ValueError("pairs holds no pair: there is nothing to score")


def _mean_over_queries(
    values: Float[Tensor, "layers batch heads queries"],
    counted: Bool[Tensor, "batch queries"],
) -> Float[Tensor, "layers heads"]:
    summed = (values * counted[:, None]).sum(dim=(1, 3))
    return summed / counted.sum()


def _rank_correlation(
    x: Float[Tensor, "*batch items"], y: Float[Tensor, "items"]
) -> Float[Tensor, "*batch"]:
    """Spearman's, with ties broken by order."""
    ranks = [t.argsort(dim=-1, stable=True).argsort(dim=-1).float() for t in (x, y)]
    x, y = (r - r.mean(dim=-1, keepdim=True) for r in ranks)
    return (x * y).sum(dim=-1) / (x.norm(dim=-1) * y.norm(dim=-1))
