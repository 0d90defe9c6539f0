"""Exercises that ask for an order: the steps are there, shuffled."""

from __future__ import annotations

from companion.exercises.questions import Before, Ordering

EXERCISES: tuple[Ordering, ...] = (
    Ordering(
        name="order_of_attention",
        chapter="attention",
        title="The steps of masked attention",
        difficulty=1,
        minutes=3,
        trains="knows where the mask and the scale belong",
        steps={
            "A": "average the values with the weights",
            "B": "take the dot product of each query with each key",
            "C": "softmax over the keys",
            "D": "set the scores of hidden keys to minus infinity",
            "E": "divide by the root of d_k",
            "F": "multiply the weights of hidden keys by zero",
        },
        rules=(
            Before("B", "E", "There is nothing to scale before the dot products."),
            Before("B", "D", "The scores have to exist before some are hidden."),
            Before(
                "E",
                "C",
                "The scale keeps the softmax out of saturation; after it, it only makes "
                "all weights smaller, and they no longer sum to 1.",
            ),
            Before(
                "D",
                "C",
                "A key that is hidden after the softmax has already taken its share, and "
                "the row no longer sums to 1.",
            ),
            Before("C", "A", "Scores are not weights before the softmax."),
        ),
        strangers=(
            (
                "F",
                "With the scores at minus infinity hidden weights are zero already. "
                "Zeroing weights in place of that leaves rows that do not sum to 1.",
            ),
        ),
        hints=(
            "One of the six does not belong.",
            "Hiding happens before the softmax, on scores.",
            "It begins with the dot products and ends with the average.",
        ),
    ),
    Ordering(
        name="order_of_a_layer",
        chapter="encoder",
        title="A layer that normalizes first",
        difficulty=2,
        minutes=4,
        trains="keeps the residual stream free of norms",
        steps={
            "A": "feed-forward network",
            "B": "normalize a copy of x, the first time",
            "C": "add what attention gave to x",
            "D": "attention",
            "E": "normalize a copy of x, the second time",
            "F": "add what the feed-forward network gave to x",
        },
        rules=(
            Before("B", "D", "Attention reads the normalized copy."),
            Before("D", "C", "Attention has given nothing yet."),
            Before(
                "C",
                "E",
                "The second sub-layer starts from the stream with attention's part in it.",
            ),
            Before("E", "A", "The feed-forward network reads a normalized copy, too."),
            Before("A", "F", "The feed-forward network has given nothing yet."),
        ),
        hints=(
            "Two sub-layers of one form: normalize, compute, add.",
            "Attention comes first.",
            "What is added goes to x itself, not to its normalized copy.",
        ),
    ),
    Ordering(
        name="order_of_writing",
        chapter="decoder",
        title="Writing one token with temperature and top-k",
        difficulty=2,
        minutes=4,
        trains="knows which filters work on logits",
        steps={
            "A": "draw a token",
            "B": "set all but the k largest logits to minus infinity",
            "C": "append the token to the text",
            "D": "softmax",
            "E": "run the model on the text so far",
            "F": "take the logits of the last position",
        },
        rules=(
            Before("E", "F", "There are no logits before the model has run."),
            Before("F", "B", "Which logits are cut is a matter of the last position."),
            Before(
                "B",
                "D",
                "Cut after the softmax, what is left does not sum to 1 and can't be drawn "
                "from.",
            ),
            Before("D", "A", "One draws from probabilities, not from logits."),
            Before("A", "C", "The token has to be drawn first."),
        ),
        hints=(
            "It begins with the model and ends with a longer text.",
            "Logits, then probabilities, then a token.",
            "The filter works on logits.",
        ),
    ),
    Ordering(
        name="order_of_an_update",
        chapter="training",
        title="One update with accumulated gradients",
        difficulty=2,
        minutes=4,
        trains="knows when gradients are cleared, clipped and used",
        steps={
            "A": "clip the norm of the gradients",
            "B": "set the gradients to zero",
            "C": "forward pass and loss of each micro-batch, and its backward pass",
            "D": "the optimizer's step",
            "E": "set the learning rate of this step",
        },
        rules=(
            Before(
                "B",
                "C",
                "Gradients add up: what the last update left would count once more, or, "
                "cleared after the backward pass, nothing would be left to use.",
            ),
            Before("C", "A", "There is nothing to clip before the backward passes."),
            Before(
                "A", "D", "Clipped after the step, a huge gradient has done its harm."
            ),
            Before("C", "D", "A step without gradients changes nothing."),
            Before("E", "D", "The rate has to be set before it is used."),
        ),
        hints=(
            "Gradients add up until they are cleared.",
            "Clipping looks at the sum over all micro-batches.",
            "Where the learning rate is set is free, as long as it is before its use.",
        ),
    ),
)
