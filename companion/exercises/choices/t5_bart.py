"""Choice questions on chapter 7.5, T5 and BART."""

from __future__ import annotations

from companion.exercises.questions import Choice, Option

EXERCISES: tuple[Choice, ...] = (
    Choice(
        name="two_answers_to_one_question",
        chapter="t5-bart",
        title="Without the prefix",
        difficulty=3,
        minutes=1,
        trains="reasons about the best answer to an unclear question",
        question='Without a prefix, the same source is to be answered by "German" in half'
        " of the pairs and by its translation in the others. What does the model"
        " write?",
        options={
            "A": Option(
                "Each of the two for half of the sources.",
                "It would have to tell the sources apart, and each of them is in both "
                "tasks.",
            ),
            "B": Option(
                "Both answers, one after the other.",
                "No target has both. What is never asked for is not learned.",
            ),
            "C": Option(
                '"German", for all of them.',
                "Its probability is best at 0.79, as a mean over tokens counts the "
                "first token of a short answer more. Whoever takes the likeliest then "
                "always writes it.",
            ),
            "D": Option(
                "The translation, since it has more tokens.",
                "More tokens make each of them count less in the mean. The short "
                "answer shouts.",
            ),
        },
        right="C",
        hints=(
            'What is the best probability of "German" at the first token?',
            "By what is a token's loss divided?",
            "Greedy decoding takes whatever is above one half.",
        ),
    ),
    Choice(
        name="length_of_a_span",
        chapter="t5-bart",
        title="What a sentinel hides",
        difficulty=1,
        minutes=1,
        trains="knows what span corruption leaves open",
        question="What must T5 find out at a sentinel that BERT need not at its masks?",
        options={
            "A": Option(
                "Which words are missing there.",
                "Both must find that out.",
            ),
            "B": Option(
                "Where the gap is.",
                "The sentinel stands there, as the mask does.",
            ),
            "C": Option(
                "What comes after the gap.",
                "Both see the text on both sides.",
            ),
            "D": Option(
                "How many tokens are missing.",
                "BERT has one mask for each token, and so gives the number away. T5 "
                "has one sentinel for a whole span, and decides itself when to go on "
                "to the next.",
            ),
        },
        right="D",
        hints=(
            "How many masks does BERT set for three tokens?",
            "How many sentinels does T5?",
            "What is left to be found out?",
        ),
    ),
    Choice(
        name="copying_pays",
        chapter="t5-bart",
        title="Which damage helps to write?",
        difficulty=2,
        minutes=1,
        trains="ties what is learned to what is practiced",
        question="After pre-training on bare text, translation gained from text infilling "
        "and lost twenty points from span corruption. What fits that?",
        options={
            "A": Option(
                "Who infills writes the whole text, and so learns to copy.",
                "A target of span corruption never holds a word of its source. The "
                "tasks that write need copying; the classes gained from neither.",
            ),
            "B": Option(
                "Span corruption hides more of the text.",
                "It hides less: 15 % against 30 %. What differs as well is what is to "
                "be written.",
            ),
            "C": Option(
                "The model that infills was trained for more steps before.",
                "Both had 400. The targets were of different lengths.",
            ),
            "D": Option(
                "Span corruption is made for encoders only.",
                "Its decoder writes the spans. T5 was trained so, a thousand times as "
                "long.",
            ),
        },
        right="A",
        hints=(
            "What is the target of each?",
            "Which words of the source does it hold?",
            "And what does translation of names ask for?",
        ),
    ),
    Choice(
        name="the_missing_scale",
        chapter="t5-bart",
        title="No root of d_k",
        difficulty=2,
        minutes=1,
        trains="finds a scale where it has gone",
        question="T5 has no division by the root of d_k. Why does its softmax not saturate "
        "at the start?",
        options={
            "A": Option(
                "RMS norm makes queries and keys short.",
                "It norms what goes in, to variance 1. In the Transformer of 2017 that"
                " is so as well.",
            ),
            "B": Option(
                "`W_q` starts smaller by that factor.",
                "So the scores have variance 1 without a division. From there on, "
                "training may move it where it likes.",
            ),
            "C": Option(
                "Its heads are too narrow for that.",
                "They have 64 to 128 numbers, as others' have. At 64, unscaled scores "
                "differ by 8.",
            ),
            "D": Option(
                "The biases of the distances keep the scores small.",
                "They are added, and add to the spread. They know nothing of d_k.",
            ),
        },
        right="B",
        hints=(
            "What is the variance of a score?",
            "Of which numbers is it a sum?",
            "A factor may stand in a weight as well as in a formula.",
        ),
    ),
)
