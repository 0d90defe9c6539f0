"""Choice questions on chapter 3, positional encoding."""

from __future__ import annotations

from companion.exercises.questions import Choice, Option

EXERCISES: tuple[Choice, ...] = (
    Choice(
        name="order_from_the_mask",
        chapter="positions",
        title="No positions, and a causal mask",
        difficulty=2,
        minutes=1,
        trains="knows what a causal mask tells about order",
        question="A causal language model gets no encoding of positions at all. What can it"
        " know of the order of its tokens?",
        options={
            "A": Option(
                "Nothing: to attention, a sentence is a bag of words.",
                "So it is without a mask. The proof needs all tokens to be treated "
                "alike, and a causal mask does not do that.",
            ),
            "B": Option(
                "Something: each token sees another number of tokens.",
                "The third sees three and the first sees one, and later layers can "
                "build on that. In the race it finds the letter five back at 2.6 nats,"
                " where guessing costs 3.3.",
            ),
            "C": Option(
                "All of it, as the mask is a triangle.",
                "The triangle says who may look at whom, and no score contains it. "
                "Five back is told much worse than with positions.",
            ),
            "D": Option(
                "Something, if it has several heads.",
                "Heads of one layer all see the same bag. One head or many, it is the "
                "mask that makes the difference.",
            ),
        },
        right="B",
        hints=(
            "Which step of the proof fails with a mask?",
            "What differs between the first token and the third?",
            'See "none" in the race.',
        ),
    ),
    Choice(
        name="past_the_end",
        chapter="positions",
        title="Sinusoids past the end",
        difficulty=2,
        minutes=1,
        trains="tells a formula that goes on from a network that does",
        question="Sinusoids have a value for every position. Trained on 64 characters and "
        "read on 256, what became of the loss?",
        options={
            "A": Option(
                "It stays, since the formula has no end.",
                "The formula goes on. The network behind it has met vectors that it "
                "was never trained on.",
            ),
            "B": Option(
                "It ends in an error at position 64.",
                "That is a learned table, which has no more rows. A formula gives a "
                "vector everywhere, and no error.",
            ),
            "C": Option(
                "It rises a little with each further position.",
                "That is what T5's biases do. With sinusoids it jumps a few characters"
                " past the end.",
            ),
            "D": Option(
                "It is worse than with no positions at all.",
                "2.50 nats at twice the length, where the model without positions "
                "stays at 2.3. New vectors do not only fail to help, they lead astray.",
            ),
        },
        right="D",
        hints=(
            "Who has seen position 200, the formula or the network?",
            'Compare with the model called "none".',
            "A wrong clue is worse than none.",
        ),
    ),
    Choice(
        name="relative_and_far",
        chapter="positions",
        title="Relative, and still lost",
        difficulty=3,
        minutes=1,
        trains="knows that relative does not mean extrapolating",
        question="A rotary score depends on the distance of two tokens only. Why does a "
        "rotary model that was trained on 64 tokens fail at 256?",
        options={
            "A": Option(
                "At large distances slow pairs stand at angles never trained.",
                "A pair that never came round in training enters new angles, and no "
                "weight was made for them. That is what YaRN repairs, by slowing these"
                " pairs down.",
            ),
            "B": Option(
                "At late positions the angles get too large to compute.",
                "They are computed well enough: moved along together, query and key "
                "have one score wherever they stand. It is distances that are new.",
            ),
            "C": Option(
                "Because values are not turned, and so lose their place.",
                "A value needs no place: the weight has said how far it is. At the "
                "trained length it works without.",
            ),
            "D": Option(
                "Its queries and keys get longer with the position.",
                "A turn keeps the length. Longer vectors are what one gets from "
                "writing the position down as a number.",
            ),
        },
        right="A",
        hints=(
            "What is new at 256 tokens: positions, distances, or both?",
            "How many turns does the slowest pair make in 64 tokens?",
            "Only what was seen in training can be relied on.",
        ),
    ),
    Choice(
        name="other_layout",
        chapter="positions",
        title="The other layout",
        difficulty=2,
        minutes=1,
        trains="recognizes a rotary layout that was mixed up",
        question="A checkpoint was trained with pairs (i, i + d/2), and the code turns "
        "pairs (2i, 2i + 1). What do you see first?",
        options={
            "A": Option(
                "An error while loading.",
                "All shapes fit. It would be an error if the layouts had different "
                "shapes.",
            ),
            "B": Option(
                "No difference: any pairing is relative.",
                "Both are relative, and each works for who was trained in it. The "
                "weights know one of them.",
            ),
            "C": Option(
                "It loads, runs, and writes nonsense.",
                "At distance 0 even the scores are right, and with each step they "
                "agree less. On the model of this page it costs about a nat.",
            ),
            "D": Option(
                "Scores are wrong by one factor everywhere.",
                "A factor would be a mistake in the scale. Here the error grows with "
                "the distance, and is zero at distance 0.",
            ),
        },
        right="C",
        hints=(
            "Which shapes differ?",
            "What does a turn do at distance 0?",
            "And at distance 48?",
        ),
    ),
)
