"""Choice questions on chapter 4, the encoder."""

from __future__ import annotations

from companion.exercises.questions import Choice, Option

EXERCISES: tuple[Choice, ...] = (
    Choice(
        name="what_a_residual_keeps",
        chapter="encoder",
        title="What only a residual does",
        difficulty=2,
        minutes=1,
        trains="gives residual and norm each its own job",
        question="What does a residual connection do in a deep stack that a norm does not?",
        options={
            "A": Option(
                "It keeps the gradient from vanishing.",
                "It does, and so does a norm: with a norm alone the gradient is level "
                "at depth 24. That is not what sets them apart.",
            ),
            "B": Option(
                "It keeps the numbers in size.",
                "That is the norm's job. With residuals alone the stream doubles from "
                "layer to layer, and the gradient explodes.",
            ),
            "C": Option(
                "It lets positions exchange what they know.",
                "Only attention does. A residual adds a position's own vector.",
            ),
            "D": Option(
                "It keeps the tokens apart.",
                "Averages of averages make all tokens equal after four layers, and no "
                "norm can undo that. With a residual the token itself is still there.",
            ),
        },
        right="D",
        hints=(
            "Look at stacks with one part taken away.",
            "With a norm and no residual, what is good and what is lost?",
            "Which token is which?",
        ),
    ),
    Choice(
        name="company_in_the_batch",
        chapter="encoder",
        title="The company a text is in",
        difficulty=2,
        minutes=1,
        trains="knows over which numbers a norm takes its mean",
        question="Batch norm is fine for images. What is its trouble with texts?",
        options={
            "A": Option(
                "A text's numbers depend on its neighbors.",
                "Mean and variance are taken over the whole batch. Another neighbor "
                "moved a text by 1.9 standard deviations, 20 paddings by 3.5.",
            ),
            "B": Option(
                "Words are discrete, and have no mean or variance.",
                "It norms hidden vectors, which are as continuous as an image's. They "
                "have a mean and a variance.",
            ),
            "C": Option(
                "It has far more parameters than layer norm.",
                "Both have a gain and a bias for each feature. What it has beside them"
                " is running averages.",
            ),
            "D": Option(
                "It can't be computed for a batch of one.",
                "In use it has running averages and can. The trouble is that these "
                "make it another function than the one that was trained.",
            ),
        },
        right="A",
        hints=(
            "Over what does each norm take its mean?",
            "Change the neighbor in the batch.",
            "Which norm looks at other positions?",
        ),
    ),
    Choice(
        name="why_warm_up",
        chapter="encoder",
        title="Why post-norm wants a warm-up",
        difficulty=3,
        minutes=1,
        trains="doubts a reason that the optimizer can't see",
        question="Near the output, post-norm's gradients are two to four times as large as "
        "pre-norm's. Why is that hardly the reason that post-norm wants a warm-up?",
        options={
            "A": Option(
                "Because clipping makes them equal.",
                "Gradients are clipped here, at a norm of 1, and post-norm without "
                "warm-up fails all the same. Something else must differ.",
            ),
            "B": Option(
                "Because in the first layers they are larger still.",
                "In the first layers it is pre-norm that has the larger gradient. A "
                "reason it would not be even so.",
            ),
            "C": Option(
                "Because Adam divides each gradient by its size.",
                "Its first step moves every weight by the learning rate, be the "
                "gradient long or short. What differs is how far such a step moves the"
                " output: 18 % against 5 % at depth 12.",
            ),
            "D": Option(
                "Because a warm-up makes gradients smaller.",
                "A warm-up makes steps smaller, and leaves gradients as they are.",
            ),
        },
        right="C",
        hints=(
            "Which optimizer takes the step?",
            "What does Adam do with a gradient that is twice as long?",
            "Look at how far one step moves the output.",
        ),
    ),
    Choice(
        name="who_moves_information",
        chapter="encoder",
        title="Who tells whom",
        difficulty=1,
        minutes=1,
        trains="knows which parts work at one position only",
        question="Which parts of an encoder layer carry something from one position to "
        "another?",
        options={
            "A": Option(
                "Attention and the feed-forward network.",
                "The network is large and holds two thirds of the parameters, but it "
                "works at each position by itself: one token alone gives what it gives"
                " in a text.",
            ),
            "B": Option(
                "Attention.",
                "All else works on one position at a time: what is equal at two "
                "positions before them is equal after.",
            ),
            "C": Option(
                "Attention and the norms.",
                "A layer norm takes its mean over the features of one position. A "
                "batch norm would carry something across.",
            ),
            "D": Option(
                "All of them, through the residual stream.",
                "The stream runs from layer to layer at each position. It has no way "
                "across.",
            ),
        },
        right="B",
        hints=(
            "Take one token out of a text. For which parts does it matter?",
            "Over what does a layer norm average?",
            "The feed-forward network is a convolution of width one.",
        ),
    ),
)
