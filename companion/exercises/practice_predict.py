"""Exercises that ask for a prediction: a shape or a number, before it is computed.

The true value is computed by the package's own code where it has that.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

import companion
from companion.exercises.questions import Prediction, WrongValue


def _parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def weights_shape() -> tuple[int, ...]:
    query, key, value = torch.ones(2, 5, 8), torch.ones(2, 7, 8), torch.ones(2, 7, 3)
    _, weights = companion.scaled_dot_product_attention(query, key, value)
    return tuple(weights.shape)


def heads_parameters() -> int:
    return _parameters(companion.MultiHeadAttention(512, 8, bias=False))


def rotary_angles() -> int:
    d_k = 64
    pairs = torch.arange(d_k // 2)
    return len((10000.0 ** (-2 * pairs / d_k)).unique())


def layer_parameters() -> int:
    return _parameters(companion.EncoderLayer(64, 4, 256))


def scores_with_cache() -> int:
    length = 100
    return sum(
        int(companion.causal_mask(1, known).sum()) for known in range(1, length + 1)
    )


def warmup_peak() -> float:
    d_model, warmup = 256, 1000
    rates = [
        d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)
        for step in range(1, 3 * warmup)
    ]
    return max(rates)


def mask_tokens() -> float:
    return 512 * 0.15 * 0.8


def first_loss() -> float:
    logits = torch.zeros(1, 50257)  # every token is as likely as any other
    return torch.nn.functional.cross_entropy(logits, torch.tensor([11])).item()


def image_tokens() -> int:
    patches: Tensor = torch.ones(3, 224, 224).unfold(1, 16, 16).unfold(2, 16, 16)
    return patches.shape[1] * patches.shape[2] + 1


EXERCISES: tuple[Prediction, ...] = (
    Prediction(
        name="weights_shape",
        chapter="attention",
        title="The shape of the weights",
        difficulty=1,
        minutes=2,
        trains="tells the axis of queries from the axis of keys",
        reference=weights_shape,
        wrong_values=(
            WrongValue(
                "queries and keys exchanged",
                lambda: (2, 7, 5),
                "That has a row for each key. It is a query that spreads its weight, so "
                "a row belongs to a query.",
            ),
            WrongValue(
                "the shape of the queries",
                lambda: (2, 5, 8),
                "That is the queries' own shape. d_k is summed over in the dot products "
                "and does not come out.",
            ),
            WrongValue(
                "the shape of the output",
                lambda: (2, 5, 3),
                "That is the output's shape, after the weights have met the values. The "
                "weights themselves say how much of each key a query takes.",
            ),
            WrongValue(
                "the batch is lost",
                lambda: (5, 7),
                "That is one sequence's matrix of weights. There are two sequences in "
                "the batch, and nothing is summed over them.",
            ),
        ),
        explanation="In each of the 2 sequences each of 5 queries has a weight for each "
        "of 7 keys; d_k is summed away, and d_v has not come in yet.",
        hints=(
            "Which axis is summed over in a dot product?",
            "A weight belongs to a query and a key.",
            "The batch stays in front: (batch, queries, keys).",
        ),
    ),
    Prediction(
        name="heads_parameters",
        chapter="multi-head",
        title="What more heads cost",
        difficulty=2,
        minutes=4,
        trains="knows that heads share the width of the model",
        reference=heads_parameters,
        wrong_values=(
            WrongValue(
                "each head as wide as the model",
                lambda: 8 * 3 * 512 * 512 + 512 * 512,
                "That gives each of the 8 heads projections of 512 to 512. Heads share "
                "the width: each has 64 of the 512.",
            ),
            WrongValue(
                "one head",
                lambda: 3 * 512 * 64 + 512 * 512,
                "That counts the queries, keys and values of one head. There are eight, "
                "side by side in each matrix.",
            ),
            WrongValue(
                "without the output projection",
                lambda: 3 * 512 * 512,
                "Three maps make queries, keys and values. A fourth mixes what the heads "
                "bring back.",
            ),
            WrongValue(
                "with biases",
                lambda: 4 * (512 * 512 + 512),
                "That counts biases, and this layer was made without.",
            ),
        ),
        explanation="Four maps of 512 to 512, however many heads share them.",
        hints=(
            "How wide is one head when 8 share 512?",
            "The queries of all heads come out of one matrix.",
            "W_q, W_k, W_v and W_o have the same size.",
        ),
    ),
    Prediction(
        name="rotary_angles",
        chapter="positions",
        title="How many speeds a rotary encoding has",
        difficulty=1,
        minutes=2,
        trains="sees that rotary encoding turns pairs",
        reference=rotary_angles,
        wrong_values=(
            WrongValue(
                "one for each number",
                lambda: 64,
                "A single number can't be turned: it takes two to make a plane.",
            ),
            WrongValue(
                "one for all",
                lambda: 1,
                "With one speed for all, a position comes around again after one turn. "
                "The pairs turn at different speeds.",
            ),
            WrongValue(
                "one for each pair of pairs",
                lambda: 16,
                "That is a quarter of the width. A pair is two numbers, not four.",
            ),
        ),
        explanation="64 numbers are 32 pairs, and each pair turns at a speed of its own.",
        hints=(
            "What is turned is a point of a plane.",
            "How many planes are there in 64 numbers?",
            "Each plane has its own speed.",
        ),
    ),
    Prediction(
        name="layer_parameters",
        chapter="encoder",
        title="The parameters of one encoder layer",
        difficulty=3,
        minutes=6,
        trains="counts a layer's parameters by heart",
        reference=layer_parameters,
        wrong_values=(
            WrongValue(
                "without biases",
                lambda: 4 * 64 * 64 + 2 * 64 * 256 + 4 * 64,
                "Each of the six linear maps has a bias as long as its output.",
            ),
            WrongValue(
                "without the norms",
                lambda: 4 * (64 * 64 + 64) + 64 * 256 + 256 + 256 * 64 + 64,
                "Each of the two norms has a gain and a shift of 64 numbers.",
            ),
            WrongValue(
                "one norm",
                lambda: 4 * (64 * 64 + 64) + 64 * 256 + 256 + 256 * 64 + 64 + 2 * 64,
                "A layer has two sub-layers, and each of them a norm.",
            ),
            WrongValue(
                "without the output projection",
                lambda: 3 * (64 * 64 + 64) + 64 * 256 + 256 + 256 * 64 + 64 + 4 * 64,
                "Attention has a fourth map, which mixes what the heads bring back.",
            ),
        ),
        explanation="Attention has 4 (64² + 64), the feed-forward network 64 · 256 + 256 + "
        "256 · 64 + 64, the two norms 2 · 64 each.",
        hints=(
            "Count attention, the feed-forward network and the norms one by one.",
            "A linear map of a to b with a bias has ab + b parameters.",
            "A norm has two vectors as long as d_model.",
        ),
    ),
    Prediction(
        name="scores_with_cache",
        chapter="decoder",
        title="Scores of one head while it writes 100 tokens with a cache",
        difficulty=2,
        minutes=4,
        trains="sees what a key-value cache saves",
        reference=scores_with_cache,
        wrong_values=(
            WrongValue(
                "the whole square",
                lambda: 100 * 100,
                "That lets each of 100 queries meet all 100 keys. When a token is "
                "written, later keys do not exist yet.",
            ),
            WrongValue(
                "one for each token",
                lambda: 100,
                "The newest query meets every key so far, not one.",
            ),
            WrongValue(
                "without a cache",
                lambda: sum(n * n for n in range(1, 101)),
                "That computes the whole matrix again at each step, as it is without a "
                "cache. With one, only the newest row is new.",
            ),
        ),
        explanation="The n-th token's query meets n keys, and 1 + 2 + ... + 100 = 5050.",
        hints=(
            "With a cache one query is new at each step.",
            "The n-th query meets n keys.",
            "Add up 1 to 100.",
        ),
    ),
    Prediction(
        name="warmup_peak",
        chapter="training",
        title="The highest learning rate",
        difficulty=2,
        minutes=5,
        trains="reads a schedule off its formula",
        reference=warmup_peak,
        wrong_values=(
            WrongValue(
                "forgets the width",
                lambda: 1000**-0.5,
                "That is the second factor alone. The rate is also divided by the root "
                "of d_model.",
            ),
            WrongValue(
                "forgets the warm-up",
                lambda: 256**-0.5,
                "That is the first factor alone. At the peak the second one is "
                "1 / sqrt(1000).",
            ),
            WrongValue(
                "the rate of the first step",
                lambda: 256**-0.5 * 1000**-1.5,
                "That is where the warm-up begins. The rate rises for 1000 steps.",
            ),
            WrongValue(
                "takes the paper's rate",
                lambda: (512 * 4000) ** -0.5,
                "That is the peak of the paper's model, twice as wide and with a warm-up "
                "four times as long.",
            ),
        ),
        explanation="The two branches meet at step 1000: 1 / sqrt(256 · 1000).",
        hints=(
            "Where does the rising line meet the falling curve?",
            "At step = warmup both terms of the min are equal.",
            "Put step = 1000 into d_model^-0.5 · step^-0.5.",
        ),
    ),
    Prediction(
        name="mask_tokens",
        chapter="bert",
        title="How many [MASK] tokens a text of 512 has on average",
        difficulty=1,
        minutes=2,
        trains="keeps chosen, masked and random tokens apart",
        reference=mask_tokens,
        wrong_values=(
            WrongValue(
                "all that are chosen",
                lambda: 512 * 0.15,
                "That many tokens are chosen to be predicted. Not all of them are shown "
                "as [MASK].",
            ),
            WrongValue(
                "the random ones",
                lambda: 512 * 0.15 * 0.1,
                "That many are replaced by a random token, and as many are left as they "
                "are.",
            ),
            WrongValue(
                "80% of the text",
                lambda: 512 * 0.8,
                "80% of the chosen tokens become [MASK], and 15% of the text is chosen.",
            ),
        ),
        explanation="15% of 512 are chosen, and 80% of those become [MASK].",
        hints=(
            "15% of the tokens are chosen.",
            "Of the chosen ones 80% become [MASK], 10% a random token.",
            "512 · 0.15 · 0.8",
        ),
    ),
    Prediction(
        name="first_loss",
        chapter="gpt",
        title="The loss of GPT-2 before its first update",
        difficulty=2,
        minutes=3,
        trains="knows what loss an untrained model has",
        reference=first_loss,
        wrong_values=(
            WrongValue(
                "in bits",
                lambda: math.log2(50257),
                "That is right in bits. The loss is in nats: PyTorch takes the natural "
                "logarithm.",
            ),
            WrongValue(
                "the probability",
                lambda: 1 / 50257,
                "That is the probability of the right token. The loss is its negative "
                "logarithm.",
            ),
            WrongValue(
                "the perplexity",
                lambda: 50257.0,
                "That is the perplexity, the exponential of the loss.",
            ),
        ),
        explanation="All 50 257 tokens are about as likely, and ln(50257) is 10.8.",
        hints=(
            "Before training every token is about as likely as any other.",
            "How likely is one of 50 257?",
            "The loss is the negative natural logarithm of that.",
        ),
    ),
    Prediction(
        name="image_tokens",
        chapter="vit",
        title="How many tokens ViT-B/16 sees",
        difficulty=1,
        minutes=2,
        trains="turns an image's size into a length",
        reference=image_tokens,
        wrong_values=(
            WrongValue(
                "without [CLS]",
                lambda: 196,
                "The patches are counted right. One more token stands in front of them.",
            ),
            WrongValue(
                "one row",
                lambda: 14,
                "That is how many patches lie in one row. There are as many rows.",
            ),
            WrongValue(
                "one for each pixel",
                lambda: 224 * 224 + 1,
                "A token is a patch of 16 by 16 pixels, not one of them.",
            ),
            WrongValue(
                "channels counted apart",
                lambda: 3 * 196 + 1,
                "The three colors of a patch go into one token.",
            ),
        ),
        explanation="224 / 16 = 14 patches a side, 14² = 196, and [CLS].",
        hints=(
            "How many patches of 16 pixels fit on 224?",
            "The patches form a square.",
            "One more token stands in front.",
        ),
    ),
)
