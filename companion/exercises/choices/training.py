"""Choice questions on chapter 6, training."""

from __future__ import annotations

from companion.exercises.questions import Choice, Option

EXERCISES: tuple[Choice, ...] = (
    Choice(
        name="stuck_at_frequencies",
        chapter="training",
        title="Stuck at the frequencies",
        difficulty=2,
        minutes=1,
        trains="suspects the first updates",
        question="At the constant rate 0.01 the loss stays where knowing the frequency of "
        "each token would put it. Nothing is NaN, gradients flow. What helped?",
        options={
            "A": Option(
                "Training for longer.",
                "The run is not slow, it is stuck. From the same weights, another run "
                "was at 2.93 nats after as many updates.",
            ),
            "B": Option(
                "Smaller steps in the first 100 updates.",
                "At first Adam moves each weight by the full rate, in a direction that"
                " one batch has chosen. A warm-up makes the blindest steps the "
                "shortest, and 0.01 can be afforded afterwards.",
            ),
            "C": Option(
                "A larger model, with room for more than that.",
                "The same model learns, from the same weights and with the same data. "
                "Its size was not the trouble.",
            ),
            "D": Option(
                "Clipping the gradients.",
                "Adam divides by the size of the gradient, so a clipped one moves the "
                "weights as far. The rate is what counts.",
            ),
        },
        right="B",
        hints=(
            "Two runs differ in their first 100 updates.",
            "How long is Adam's first step?",
            "It is as long as the rate, for each weight.",
        ),
    ),
    Choice(
        name="smoothed_loss",
        chapter="training",
        title="The exponential of a smoothed loss",
        difficulty=3,
        minutes=1,
        trains="keeps the loss that trains apart from the one that is told",
        question="A model is trained with label smoothing of 0.1. Why is the exponential of"
        " its training loss no perplexity?",
        options={
            "A": Option(
                "Because the loss is measured with dropout on.",
                "That makes it a worse estimate. But even without dropout it is the "
                "wrong number.",
            ),
            "B": Option(
                "Because perplexity takes the base 2.",
                "It takes whatever base the loss has: 2 for bits, e for nats. Both "
                "give the same perplexity.",
            ),
            "C": Option(
                "Because a perfect model would not get 1.",
                "The lowest loss is the entropy of the smoothed target, which is not "
                "zero. At a vocabulary of 1,500 that makes 2.9 where a perfect model "
                "should have 1.",
            ),
            "D": Option(
                "Because it is a mean over tokens, not over texts.",
                "A perplexity is just that, a mean over tokens. It is the target that "
                "has changed.",
            ),
        },
        right="C",
        hints=(
            "What is the lowest smoothed loss?",
            "At its best the model equals the smoothed target.",
            "The entropy of that is above zero.",
        ),
    ),
    Choice(
        name="mean_of_means",
        chapter="training",
        title="Four batches, one update",
        difficulty=2,
        minutes=1,
        trains="divides once, at the end",
        question="Four batches of 16, 9, 43 and 61 tokens make one update, and each calls "
        "`(loss.mean() / 4).backward()`. What is wrong?",
        options={
            "A": Option(
                "Tokens of short batches count for more.",
                "Each batch gets a quarter of the update, so a token of the batch of 9"
                " counts almost seven times as much as one of the batch of 61. Add "
                "sums, and divide once by 129.",
            ),
            "B": Option(
                "Nothing: gradients add up.",
                "Gradients of sums do. These are means, each divided by another "
                "number.",
            ),
            "C": Option(
                "The gradient is four times too small.",
                "The mean of four means has the right size. It is the balance between "
                "batches that is off.",
            ),
            "D": Option(
                "Adam must take a step after each backward pass.",
                "Then it would be four updates. To wait is what accumulation means.",
            ),
        },
        right="A",
        hints=(
            "By what is each token's loss divided?",
            "Compare a token of the batch of 9 with one of the batch of 61.",
            "The two agree only if all batches hold equally many tokens.",
        ),
    ),
    Choice(
        name="harmful_dropout",
        chapter="training",
        title="Without dropout, 89 %",
        difficulty=2,
        minutes=1,
        trains="ties a trick to a budget",
        question="Without dropout 89 % of the held-out names come out right, with the "
        "paper's 0.1 it is 60 %. What should one conclude?",
        options={
            "A": Option(
                "That dropout is harmful to Transformers.",
                "In this table. With a thousand passes over the data it may be the "
                "other way round.",
            ),
            "B": Option(
                "That dropout was left on in the test.",
                "The test runs without it. The loss of a bug of that kind is shown in "
                "the chapter on the decoder.",
            ),
            "C": Option(
                "That chance decided: seeds differ by that much.",
                "Three runs of one setting differ by up to ten points. These are 29.",
            ),
            "D": Option(
                "That learning by heart was no danger here.",
                "Ten passes over the data are few, and half of this task is to "
                "remember. Dropout is an insurance, and it has a price.",
            ),
        },
        right="D",
        hints=(
            "What is dropout an insurance against?",
            "How often does the model see each name?",
            "Tricks belong to a budget.",
        ),
    ),
)
