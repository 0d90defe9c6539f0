"""Choice questions on chapter 7.4, cheaper models."""

from __future__ import annotations

from companion.exercises.questions import Choice, Option

EXERCISES: tuple[Choice, ...] = (
    Choice(
        name="both_at_zero",
        chapter="cheaper-models",
        title="How an adapter begins",
        difficulty=2,
        minutes=1,
        trains="follows the first gradient of a product",
        question="LoRA adds B·A to a frozen weight. B begins at zero and A at random "
        "numbers. What if both began at zero?",
        options={
            "A": Option(
                "The model would begin as it was, and train as well.",
                "It would begin as it was. But look at the gradients of both: each has"
                " the other as a factor.",
            ),
            "B": Option(
                "A would learn first, then B.",
                "With B at zero it is the other way round: B learns first. With both "
                "at zero neither does.",
            ),
            "C": Option(
                "Nothing would ever move.",
                "The gradient of B has A as a factor, and that of A has B. One of them"
                " must not be zero.",
            ),
            "D": Option(
                "The first step would be too large.",
                "It would be no step at all. B at zero is what makes the beginning "
                "gentle.",
            ),
        },
        right="C",
        hints=(
            "Write down the gradient of B.",
            "And that of A.",
            "Put in zero for both.",
        ),
    ),
    Choice(
        name="no_third_saved",
        chapter="cheaper-models",
        title="What adapters save",
        difficulty=2,
        minutes=1,
        trains="knows which product of the backward pass goes",
        question="With adapters, 0.7 % of the parameters are trained. Why does a step take "
        "96 % of the time?",
        options={
            "A": Option(
                "The optimizer takes most of the time.",
                "It is what adapters save nearly all of, and the time is still there. "
                "The products are what takes it.",
            ),
            "B": Option(
                "Forward and backward, every frozen weight is multiplied.",
                "Only the product for the gradient of the weights falls away, one of "
                "three, and the thin products take some of it back. Memory of "
                "gradients and optimizer is what is saved.",
            ),
            "C": Option(
                "The thin matrices are slow on a CPU.",
                "They cost something, and not a second step. Without them a third "
                "could be saved at most.",
            ),
            "D": Option(
                "PyTorch computes the gradients of frozen weights anyway.",
                "It does not: `requires_grad` is False there. But the gradient must "
                "pass through these layers to reach the adapters below.",
            ),
        },
        right="B",
        hints=(
            "Which three products has a linear layer in a step?",
            "Which of them does a frozen weight not need?",
            "What has the gradient to pass on its way down?",
        ),
    ),
    Choice(
        name="one_large_weight",
        chapter="cheaper-models",
        title="One weight of 175 deviations",
        difficulty=1,
        minutes=1,
        trains="knows what sets the unit of a scale",
        question="Rounded to 8 bits with one scale, one of MiniLM's matrices is 40 % off, "
        "the others far less. What is special about it?",
        options={
            "A": Option(
                "A single weight in it is very large.",
                "It sets the unit, and the others are rounded to a few of 255 levels. "
                "With a scale for each row only its own row pays.",
            ),
            "B": Option(
                "It is larger than the other matrices.",
                "The number of weights hardly matters: the error depends on the "
                "largest weight against their spread.",
            ),
            "C": Option(
                "Its weights are smaller than the others'.",
                "A scale makes up for that: small weights get a small unit.",
            ),
            "D": Option(
                "It needs more than 8 bits, as it matters more.",
                "With four bits and a scale for each row it is 18 % off. It is the "
                "scale, not the bits.",
            ),
        },
        right="A",
        hints=(
            "What sets the unit?",
            "How many levels are left for an ordinary weight?",
            "Look at the largest weight in standard deviations.",
        ),
    ),
    Choice(
        name="top_1_renormalized",
        chapter="cheaper-models",
        title="One expert a token",
        difficulty=3,
        minutes=1,
        trains="sees where a router gets its gradient",
        question="A router sends each token to its best expert and divides the shares of "
        "the chosen by their sum. With one chosen expert, what goes wrong?",
        options={
            "A": Option(
                "All tokens go to the same expert.",
                "They may crowd, with one expert or with two. Here the router can't "
                "even learn to.",
            ),
            "B": Option(
                "The output is smaller, by the share.",
                "That is so *without* the division, and there the router learns.",
            ),
            "C": Option(
                "Its gradients are too large.",
                "It has none. A share that is always 1 has no slope.",
            ),
            "D": Option(
                "The router does not learn.",
                "p / p is 1 whatever the router says, and the choice itself has no "
                "slope. The Switch Transformer keeps p as it is.",
            ),
        },
        right="D",
        hints=(
            "What is the share of the only chosen one?",
            "How does it depend on the router?",
            "A constant has no gradient.",
        ),
    ),
)
