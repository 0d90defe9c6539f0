"""Project 7: find an induction head in a model that you trained, and explain it.

Sources: Elhage et al. (2021), "A Mathematical Framework for Transformer Circuits"
(attention-only models, the composition of heads); Olsson et al. (2022), "In-context
Learning and Induction Heads" (the phase change, the scores).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from companion.analysis.heads import ablate_heads
from companion.exercises.exercise import Exercise, Inputs, Misconception, Property
from companion.exercises.projects.grading import Criterion, Project
from companion.layers import MultiHeadAttention, record_attention
from companion.runtime import device, seed_everything
from companion.training.muon import MuonAndAdamW

# Texts that repeat themselves

TOKENS = 64
LENGTH = 64
PERIODS = (6, 24)
LONGER = (25, 32)  # than any in training; twice 32 is all that fits


def repeating_texts(
    number: int, generator: Generator, periods: tuple[int, int] = PERIODS
) -> tuple[Int[Tensor, "number length"], Int[Tensor, "number length"]]:
    """Random tokens that, from a random place on, go round and round.

    Tokens, place and period are drawn anew for each text, and at least two rounds fit.

    Returns:
        Texts, and labels: -100 where the token has not come again yet. The first that
        comes again is a surprise too; from the second on, the past tells each.
    """
    low, high = periods
    period = torch.randint(low, high + 1, (number, 1), generator=generator)
    room = LENGTH + 1 - 2 * period
    start = (torch.rand(number, 1, generator=generator) * room).long()
    drawn = torch.randint(TOKENS, (number, LENGTH), generator=generator)
    place = torch.arange(LENGTH)
    rounds = torch.where(place < start, place, start + (place - start) % period)
    texts = drawn.gather(1, rounds)
    return texts, texts.masked_fill(place <= start + period, -100)


# A model with nothing but attention


class AttentionLayer(nn.Module):
    """``x + attention(norm(x))``; queries and keys are told their positions."""

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model, elementwise_affine=False)
        self.self_attention = MultiHeadAttention(d_model, num_heads, bias=False)

    def forward(
        self,
        x: Float[Tensor, "batch length d_model"],
        positions: Float[Tensor, "length d_model"],
    ) -> Float[Tensor, "batch length d_model"]:
        """Each position adds what its heads found at and before it."""
        value = self.norm(x)
        key = value + positions
        added, _ = self.self_attention(
            key, key, value, is_causal=True, need_weights=False
        )
        return x + added


class AttentionOnly(nn.Module):
    """A language model of attention layers alone, as in Elhage et al. (2021).

    What a layer adds to the residual stream is a sum over its heads, and positions are
    seen by queries and keys only. So all that a later head can read of an earlier one
    is what that head's values carried.

    Args:
        num_layers: attention layers.
        d_model: width of the residual stream.
        num_heads: in each layer.
    """

    def __init__(
        self, num_layers: int = 2, d_model: int = 64, num_heads: int = 2
    ) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(TOKENS, d_model)
        self.positions = nn.Parameter(torch.empty(LENGTH, d_model))
        for table in (self.token_embedding.weight, self.positions):
            nn.init.normal_(table, std=0.3)
        self.layers = nn.ModuleList(
            AttentionLayer(d_model, num_heads) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model, elementwise_affine=False)
        self.output_projection = nn.Linear(d_model, TOKENS, bias=False)

    def forward(
        self, token_ids: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length vocab"]:
        """Logits of the token after each of ``token_ids``."""
        x = self.token_embedding(token_ids)
        for layer in self.layers:
            x = layer(x, self.positions[: token_ids.shape[1]])
        return self.output_projection(self.norm(x))


def new_model(num_layers: int, seed: int = 0) -> AttentionOnly:
    """An `AttentionOnly` with fresh weights, on the device."""
    seed_everything(seed)
    return AttentionOnly(num_layers).to(device())


def train(
    model: nn.Module,
    steps: int = 500,
    *,
    seed: int = 0,
    every: int = 20,
    watch: Callable[[nn.Module], Any] = lambda model: None,
) -> list[tuple[int, float, Any]]:
    """Train on `repeating_texts`, 32 at a time.

    Returns:
        Every so many steps: steps done, loss in nats a token, what ``watch`` found.
    """
    draw = Generator().manual_seed(seed)
    optimizer = MuonAndAdamW(model, weight_decay=0.0)
    log = []
    for step in range(steps + 1):
        texts, labels = (t.to(device()) for t in repeating_texts(32, draw))
        logits = model(texts[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
        if step % every == 0:
            log.append((step, loss.item(), watch(model)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return log


@torch.no_grad()
def accuracy(model: nn.Module, periods: tuple[int, int] = PERIODS) -> float:
    """Share of tokens foretold right once the text repeats itself, on fixed new texts."""
    texts, labels = _fresh(256, periods)
    guessed = model(texts.to(_home(model)))[:, :-1].argmax(dim=-1).cpu()
    return (guessed == labels[:, 1:])[labels[:, 1:] != -100].float().mean().item()


@torch.no_grad()
def run_without(
    model: AttentionOnly, token_ids: Int[Tensor, "batch length"], head: int, path: str
) -> tuple[Float[Tensor, "batch length vocab"], Float[Tensor, "batch heads q k"]]:
    """Two layers, where one input of the second lacks what a head of the first wrote.

    Args:
        model: of two layers.
        token_ids: the texts.
        head: of the first layer, from 0.
        path: which input of the second layer lacks it: "query", "key" or "value".

    Returns:
        Logits, and the second layer's attention.
    """
    first, second = model.layers
    positions = model.positions[: token_ids.shape[1]]
    x = model.token_embedding(token_ids)
    whole = first(x, positions)
    with ablate_heads(first, {0: [head]}):
        lacking = first(x, positions)
    reads = dict.fromkeys(("query", "key", "value"), whole) | {path: lacking}
    query, key, value = map(second.norm, reads.values())
    query, key = query + positions, key + positions
    added, weights = second.self_attention(query, key, value, is_causal=True)
    return model.output_projection(model.norm(whole + added)), weights


# Stage 1: who looks at the token before?


def previous_token_score(
    weights: Float[Tensor, "heads length length"],
) -> Float[Tensor, " heads"]:
    return weights.diagonal(-1, dim1=-2, dim2=-1).mean(dim=-1)


def _the_next_token(weights: Tensor) -> Tensor:
    return weights.diagonal(1, dim1=-2, dim2=-1).mean(dim=-1)


def _the_token_itself(weights: Tensor) -> Tensor:
    return weights.diagonal(0, dim1=-2, dim2=-1).mean(dim=-1)


def _first_query_counted(weights: Tensor) -> Tensor:
    return weights.diagonal(-1, dim1=-2, dim2=-1).sum(dim=-1) / weights.shape[-1]


def _summed_over_queries(weights: Tensor) -> Tensor:
    return weights.diagonal(-1, dim1=-2, dim2=-1).sum(dim=-1)


def _how_often_the_most(weights: Tensor) -> Tensor:
    place = torch.arange(weights.shape[-1] - 1, device=weights.device)
    return (weights[:, 1:].argmax(dim=-1) == place).to(weights.dtype).mean(dim=-1)


def _heads_averaged_away(weights: Tensor) -> Tensor:
    return weights.diagonal(-1, dim1=-2, dim2=-1).mean(dim=0)


def _causal_maps(heads: int, length: int, generator: Generator) -> Tensor:
    scores = 2 * torch.randn(heads, length, length, generator=generator)
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    return scores.masked_fill(future, float("-inf")).softmax(dim=-1)


def _draw_maps(generator: Generator) -> list[Inputs]:
    return [(_causal_maps(*s, generator),) for s in ((1, 3), (2, 5), (3, 8))]


def _perfect_previous_head_scores_1(answer, inputs: Inputs) -> bool:
    (weights,) = inputs
    perfect = torch.zeros_like(weights)
    perfect[:, 0, 0] = 1
    perfect.diagonal(-1, dim1=-2, dim2=-1).fill_(1)
    found = answer(perfect)
    return torch.allclose(found, torch.ones_like(found), atol=1e-5)


# Stage 2: who looks at the token after an earlier copy?


def induction_score(
    weights: Float[Tensor, "heads length length"], token_ids: Int[Tensor, " length"]
) -> Float[Tensor, " heads"]:
    copy = (token_ids[:, None] == token_ids).tril(-1)  # (query, key)
    target = copy.roll(1, dims=1)  # the last key is no one's copy: nothing comes round
    wanted = target.any(dim=-1)
    return (weights * target).sum(dim=-1)[:, wanted].mean(dim=-1)


def _at_the_copy(weights: Tensor, token_ids: Tensor) -> Tensor:
    copy = (token_ids[:, None] == token_ids).tril(-1)
    target = copy
    wanted = target.any(dim=-1)
    return (weights * target).sum(dim=-1)[:, wanted].mean(dim=-1)


def _before_the_copy(weights: Tensor, token_ids: Tensor) -> Tensor:
    copy = (token_ids[:, None] == token_ids).tril(-1)
    target = F.pad(copy[:, 1:], (0, 1))
    wanted = copy.any(dim=-1)
    return (weights * target).sum(dim=-1)[:, wanted].mean(dim=-1)


def _all_queries_counted(weights: Tensor, token_ids: Tensor) -> Tensor:
    copy = (token_ids[:, None] == token_ids).tril(-1)
    target = copy.roll(1, dims=1)
    return (weights * target).sum(dim=-1).mean(dim=-1)


def _copies_averaged(weights: Tensor, token_ids: Tensor) -> Tensor:
    copy = (token_ids[:, None] == token_ids).tril(-1)
    target = copy.roll(1, dims=1)
    return (weights * target).sum(dim=(1, 2)) / target.sum()


def _latest_copy_alone(weights: Tensor, token_ids: Tensor) -> Tensor:
    copy = (token_ids[:, None] == token_ids).tril(-1)
    target = copy.roll(1, dims=1)
    wanted = target.any(dim=-1)
    later = target.flip(-1).cumsum(dim=-1).flip(-1)
    return (weights * (target & (later == 1))).sum(dim=-1)[:, wanted].mean(dim=-1)


def _query_and_key_swapped(weights: Tensor, token_ids: Tensor) -> Tensor:
    return induction_score(weights.mT, token_ids)


def _takes_itself_for_a_copy(weights: Tensor, token_ids: Tensor) -> Tensor:
    copy = (token_ids[:, None] == token_ids).tril(0)
    target = F.pad(copy[:, :-1], (1, 0)) | copy
    wanted = target.any(dim=-1)
    return (weights * target).sum(dim=-1)[:, wanted].mean(dim=-1)


def _draw_maps_and_tokens(generator: Generator) -> list[Inputs]:
    tokens = [
        torch.tensor([3, 1, 4, 3, 1, 4]),
        torch.tensor([5, 2, 5, 5, 9, 2, 5]),
        *(torch.randint(4, (n,), generator=generator) for n in (9, 12)),
    ]
    return [
        (_causal_maps(heads, len(ids), generator), ids)
        for heads, ids in zip((1, 2, 3, 2), tokens, strict=True)
    ]


def _other_names_same_score(answer, inputs: Inputs) -> bool:
    weights, token_ids = inputs
    return torch.allclose(
        answer(weights, 100 - token_ids), answer(weights, token_ids), atol=1e-5
    )


def _perfect_induction_head_scores_1(answer, inputs: Inputs) -> bool:
    weights, token_ids = inputs
    perfect = torch.zeros_like(weights)
    for query, token in enumerate(token_ids.tolist()):
        copies = [k for k in range(query) if token_ids[k] == token]
        perfect[:, query, copies[-1] + 1 if copies else 0] = 1
    found = answer(perfect, token_ids)
    return torch.allclose(found, torch.ones_like(found), atol=1e-5)


# Stage 3: is one head built on the other?


def k_composition(
    W_v: Float[Tensor, "heads*d_k d_model"],
    W_o: Float[Tensor, "d_model heads*d_k"],
    W_q: Float[Tensor, "heads*d_k d_model"],
    W_k: Float[Tensor, "heads*d_k d_model"],
    num_heads: int,
) -> Float[Tensor, "writers readers"]:
    W_v, W_q, W_k = (W.unflatten(0, (num_heads, -1)) for W in (W_v, W_q, W_k))
    W_o = W_o.unflatten(1, (num_heads, -1)).transpose(0, 1)  # (H, d_model, d_k)
    OV = W_o @ W_v  # (writers, d_model, d_model)
    QK = W_q.mT @ W_k  # (readers, d_model, d_model): score = query QK key
    both = QK @ OV[:, None]  # (writers, readers, d_model, d_model)
    size = OV.norm(dim=(1, 2))[:, None] * QK.norm(dim=(1, 2))
    return both.norm(dim=(2, 3)) / size


def _through_the_query(
    W_v: Tensor, W_o: Tensor, W_q: Tensor, W_k: Tensor, num_heads: int
) -> Tensor:
    return k_composition(W_v, W_o, W_k, W_q, num_heads)


def _rows_of_W_o(
    W_v: Tensor, W_o: Tensor, W_q: Tensor, W_k: Tensor, num_heads: int
) -> Tensor:
    return k_composition(W_v, W_o.T, W_q, W_k, num_heads)


def _not_normalized(
    W_v: Tensor, W_o: Tensor, W_q: Tensor, W_k: Tensor, num_heads: int
) -> Tensor:
    W_v, W_q, W_k = (W.unflatten(0, (num_heads, -1)) for W in (W_v, W_q, W_k))
    W_o = W_o.unflatten(1, (num_heads, -1)).transpose(0, 1)  # (H, d_model, d_k)
    OV = W_o @ W_v  # (writers, d_model, d_model)
    QK = W_q.mT @ W_k  # (readers, d_model, d_model): score = query QK key
    both = QK @ OV[:, None]  # (writers, readers, d_model, d_model)
    return both.norm(dim=(2, 3))


def _every_nth_row(
    W_v: Tensor, W_o: Tensor, W_q: Tensor, W_k: Tensor, num_heads: int
) -> Tensor:
    W_v, W_q, W_k = (
        W.unflatten(0, (-1, num_heads)).transpose(0, 1) for W in (W_v, W_q, W_k)
    )
    W_o = W_o.unflatten(1, (-1, num_heads)).permute(2, 0, 1)
    OV = W_o @ W_v
    QK = W_q.mT @ W_k
    both = QK @ OV[:, None]
    size = OV.norm(dim=(1, 2))[:, None] * QK.norm(dim=(1, 2))
    return both.norm(dim=(2, 3)) / size


def _writer_after_reader(
    W_v: Tensor, W_o: Tensor, W_q: Tensor, W_k: Tensor, num_heads: int
) -> Tensor:
    W_v, W_q, W_k = (W.unflatten(0, (num_heads, -1)) for W in (W_v, W_q, W_k))
    W_o = W_o.unflatten(1, (num_heads, -1)).transpose(0, 1)  # (H, d_model, d_k)
    OV = W_o @ W_v  # (writers, d_model, d_model)
    QK = W_q.mT @ W_k  # (readers, d_model, d_model): score = query QK key
    both = OV[:, None] @ QK  # (writers, readers, d_model, d_model)
    size = OV.norm(dim=(1, 2))[:, None] * QK.norm(dim=(1, 2))
    return both.norm(dim=(2, 3)) / size


def _readers_by_writers(
    W_v: Tensor, W_o: Tensor, W_q: Tensor, W_k: Tensor, num_heads: int
) -> Tensor:
    return k_composition(W_v, W_o, W_q, W_k, num_heads).T


def _draw_weights(generator: Generator) -> list[Inputs]:
    # Of W_o a turned one fits as well where the heads are as wide as the model.
    sizes = ((2, 2), (2, 3), (3, 2))
    return [
        (
            *(
                torch.randn(heads * d_k, heads * d_k, generator=generator)
                for _ in range(4)
            ),
            heads,
        )
        for heads, d_k in sizes
    ]


def _sizes_do_not_matter(answer, inputs: Inputs) -> bool:
    *weights, heads = inputs
    found = answer(*weights, heads)
    return torch.allclose(answer(*(3 * W for W in weights), heads), found, atol=1e-4)


def _at_most_1(answer, inputs: Inputs) -> bool:
    return bool((answer(*inputs) <= 1 + 1e-5).all())


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        name="previous_token_score",
        chapter="practice",
        title="Who looks at the token before?",
        difficulty=1,
        minutes=5,
        reference=previous_token_score,
        inputs=_draw_maps,
        properties=(
            Property(
                "a head that puts all weight on the token before scores 1",
                _perfect_previous_head_scores_1,
            ),
        ),
        misconceptions=(
            Misconception(
                "looks at the next token",
                _the_next_token,
                "You read off the attention to the token after the query, which a "
                "causal map never gives. Rows are queries, columns keys: on which "
                "side of the diagonal is the past?",
            ),
            Misconception(
                "looks at the token itself",
                _the_token_itself,
                "You read off the main diagonal, where a token attends to itself. The "
                "token before it is one column to the left.",
            ),
            Misconception(
                "counts the first query",
                _first_query_counted,
                "You divide by all queries. The first has no token before it, so even "
                "a perfect head could not reach 1.",
            ),
            Misconception(
                "adds up over queries",
                _summed_over_queries,
                "You add up over the queries, so the score grows with the length of "
                "the text. A score that can be compared is a mean.",
            ),
            Misconception(
                "counts winners",
                _how_often_the_most,
                "You count how often the token before gets the *most* weight. That is a "
                "score too, but it does not tell 0.4 from 0.9. Asked is the weight.",
            ),
            Misconception(
                "averages the heads away",
                _heads_averaged_away,
                "You average over the heads, and keep a number a query. Asked is a "
                "number a head: which axis of the map is the queries'?",
            ),
        ),
        hints=(
            "In which column of row i does the weight on token i - 1 stand?",
            "These entries lie on a line: Tensor.diagonal takes an offset and the two "
            "axes.",
            "weights.diagonal(-1, dim1=-2, dim2=-1) is (heads, length - 1). Take its "
            "mean over the last axis.",
        ),
        trains="reads one diagonal of an attention map as a statement about a head",
    ),
    Exercise(
        name="induction_score",
        chapter="practice",
        title="Who looks at what came next last time?",
        difficulty=3,
        minutes=15,
        reference=induction_score,
        inputs=_draw_maps_and_tokens,
        properties=(
            Property(
                "the score stays the same if all tokens get other names",
                _other_names_same_score,
            ),
            Property(
                "a head that puts all weight behind the latest copy scores 1",
                _perfect_induction_head_scores_1,
            ),
        ),
        misconceptions=(
            Misconception(
                "looks at the copy itself",
                _at_the_copy,
                "You score attention to the earlier copy. That finds heads that "
                "recognize a token; an induction head looks one further, at what came "
                "after it.",
            ),
            Misconception(
                "looks before the copy",
                _before_the_copy,
                "You moved the copies one key to the left: that is the token before the "
                "copy. What came after it has the larger index.",
            ),
            Misconception(
                "counts queries that have no copy",
                _all_queries_counted,
                "You average over all queries. A token that has not been seen before "
                "has nothing to look up, and pulls every head's score to 0.",
            ),
            Misconception(
                "averages over copies",
                _copies_averaged,
                "You divide by the number of all targets. A query with three earlier "
                "copies may split its weight among them: add up over its targets, "
                "then average over queries.",
            ),
            Misconception(
                "takes the latest copy alone",
                _latest_copy_alone,
                "You look behind the latest copy only. The token may have stood at "
                "several places, and looking behind any of them is induction.",
            ),
            Misconception(
                "swaps query and key",
                _query_and_key_swapped,
                "You read the map turned round: rows are queries, which look, and "
                "columns are keys, which are looked at.",
            ),
            Misconception(
                "takes a token for its own copy",
                _takes_itself_for_a_copy,
                "Among the targets is the query's own place, for a token equals "
                "itself. Only earlier places are copies.",
            ),
        ),
        hints=(
            "Make a table (query, key) that says where the key is the right place to "
            "look. Begin with: key token equals query token, and stands earlier.",
            "copy = (token_ids[:, None] == token_ids).tril(-1). The place after a copy "
            "is the same table, moved one column to the right.",
            "Sum weights * target over keys, keep the queries that have a target at "
            "all (target.any(-1)), and take the mean over them.",
        ),
        trains="turns a claim about what a head looks for into a score",
    ),
    Exercise(
        name="k_composition",
        chapter="practice",
        title="Does one head's key read what another head wrote?",
        difficulty=4,
        minutes=20,
        reference=k_composition,
        inputs=_draw_weights,
        tolerance=1e-4,
        properties=(
            Property(
                "three times as large weights leave the score as it is",
                _sizes_do_not_matter,
            ),
            Property("no score is above 1", _at_most_1),
        ),
        misconceptions=(
            Misconception(
                "goes through the query",
                _through_the_query,
                "What you measure is Q-composition: the writer's output meets the query "
                "side of the reader. In query QK key, which side of QK does the key "
                "stand on?",
            ),
            Misconception(
                "cuts W_o by rows",
                _rows_of_W_o,
                "You cut W_o as you cut W_v. But its *input* is the heads side by side, "
                "so a head owns columns of it.",
            ),
            Misconception(
                "does not normalize",
                _not_normalized,
                "You give the norm of the product. Large weights make it large whether "
                "the two heads fit or not: divide by the norms of both.",
            ),
            Misconception(
                "gives a head every n-th row",
                _every_nth_row,
                "You give each head every n-th row. The rows of a head are neighbors: "
                "the first d_k belong to head 0.",
            ),
            Misconception(
                "multiplies in the wrong order",
                _writer_after_reader,
                "You multiply OV QK. The key comes out of the writer, OV x, and is then "
                "read by QK: query QK (OV x).",
            ),
            Misconception(
                "has readers as rows",
                _readers_by_writers,
                "Your table is turned round: a row for each writer, a column for each "
                "reader.",
            ),
        ),
        hints=(
            "A head of the first layer adds OV x to the stream, OV = W_o W_v. A head of "
            "the second has scores query QK key with QK = W_q^T W_k. Put OV x for key.",
            "Cut the heads out first: W_v, W_q, W_k by rows (unflatten(0, (num_heads, "
            "-1))), W_o by columns.",
            "For all pairs: QK @ OV[:, None] is (writers, readers, d_model, d_model). "
            "Its Frobenius norm, over the product of the norms of QK and OV.",
        ),
        trains="reads from two heads' weights whether one is built on the other",
    ),
)


# The rubric

Score = Callable[[Tensor, Tensor], Tensor]


@torch.no_grad()
def head_scores(
    model: nn.Module,
    score: Score = induction_score,
    *,
    number: int = 64,
    without: tuple[int, int] | None = None,
) -> Float[Tensor, "layers heads"]:
    """The score of every head, averaged over fixed new texts.

    Args:
        model: any whose attention is `MultiHeadAttention`, on token ids.
        score: takes a text's maps ``(heads, length, length)`` and its tokens.
        number: of texts.
        without: layer and head, from 0, of a head that is switched off.
    """
    texts, _ = _fresh(number, PERIODS)
    off = {} if without is None else {without[0]: [without[1]]}
    with ablate_heads(model, off), record_attention(model) as maps:
        model(texts.to(_home(model)))
    of_layers = []
    for layer in maps.stack().cpu():
        found = [score(m, ids) for m, ids in zip(layer, texts, strict=True)]
        of_layers.append(torch.stack(found).mean(dim=0))
    return torch.stack(of_layers)


def _copies(model: nn.Module) -> float:
    return 100 * accuracy(model)


def _copies_longer(model: nn.Module) -> float:
    return 100 * accuracy(model, LONGER)


def _is_induction(model: nn.Module, induction_head: tuple[int, int]) -> float:
    return head_scores(model)[induction_head].item()


def _depends(
    model: nn.Module, induction_head: tuple[int, int], previous_head: tuple[int, int]
) -> float:
    layer, named = previous_head
    if layer >= induction_head[0]:
        raise ValueError("previous_head must be in a layer below induction_head's")
    whole = head_scores(model)
    costs = [
        (whole - head_scores(model, without=(layer, head)))[induction_head].item()
        for head in range(whole.shape[1])
    ]
    named_cost = costs.pop(named)
    return named_cost - max(costs, default=0.0)


@torch.no_grad()
def _explains(model: nn.Module, program: Callable[[Tensor], Tensor]) -> float:
    texts = torch.randint(
        TOKENS, (256, LENGTH), generator=Generator().manual_seed(97531)
    )
    guessed = model(texts.to(_home(model))).argmax(dim=-1).cpu()
    says = torch.stack([torch.as_tensor(program(ids)).cpu() for ids in texts])
    if says.shape != texts.shape:
        raise ValueError(
            f"program must give a token for each of {LENGTH} places, but what it gave "
            f"has shape {tuple(says.shape[1:])}"
        )
    seen = (texts[:, :, None] == texts[:, None]).tril(-1).any(dim=-1)
    return 100 * (guessed == says)[seen].float().mean().item()


PROJECT = Project(
    name="induction_head",
    title="Find and explain an induction head",
    stages=tuple(exercise.name for exercise in EXERCISES),
    minutes=120,
    criteria=(
        Criterion(
            name="copies",
            asks="tokens foretold right in new texts, once they repeat themselves",
            measure=_copies,
            levels=(40.0, 85.0, 95.0),
            advice=(
                "One layer gets 15 %. Train two until the loss has fallen off its "
                "plateau.",
                "The fall of the loss is over, but the heads still sharpen: go on.",
                "Twice the updates were enough here.",
            ),
            unit=" %",
            digits=0,
        ),
        Criterion(
            name="copies longer",
            asks="the same with periods of 25 to 32, longer than any in training",
            measure=_copies_longer,
            levels=(25.0, 65.0, 84.0),
            advice=(
                "A model that has learned distances fails here. Train until the "
                "induction head is there.",
                "Where does the token before get lost? Look at the first layer's map by "
                "position, and train on.",
                "Twice the updates, or texts in which the second round comes later.",
            ),
            unit=" %",
            digits=0,
        ),
        Criterion(
            name="induction head",
            asks="attention of the named head to what came after earlier copies",
            measure=_is_induction,
            levels=(0.3, 0.7, 0.9),
            advice=(
                "Even attention scores 0.06, and so does every head of the first layer. "
                "Name the head of the table's highest score.",
                "The head has begun to form: train longer.",
                "Train longer. What remains is spread over the tokens beside the copy.",
            ),
        ),
        Criterion(
            name="built on",
            asks=(
                "how much of that is lost without the named head of the layer below, "
                "beyond what is lost without another one"
            ),
            measure=_depends,
            levels=(0.2, 0.6, 0.85),
            advice=(
                "Switch off each head of the first layer in turn, and name the one that "
                "costs the most.",
                "Two heads share the work. Train longer, or from another seed, until one "
                "does it.",
                "Longer training sharpens the share of one head.",
            ),
        ),
        Criterion(
            name="explained",
            asks=(
                "random texts without a period: places with an earlier copy where your "
                "program says what the model says"
            ),
            measure=_explains,
            levels=(40.0, 60.0, 73.0),
            advice=(
                "Let the program say what came after an earlier copy of the token.",
                "If the token has stood in several places, which one does the model "
                "take? Compare.",
                "How far back does the model still find a copy, and at what distance "
                "best? Let the program prefer that.",
            ),
            unit=" %",
            digits=1,
        ),
    ),
)


def _fresh(number: int, periods: tuple[int, int]) -> tuple[Tensor, Tensor]:
    return repeating_texts(number, Generator().manual_seed(54321), periods)


def _home(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
