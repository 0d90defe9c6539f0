"""Choice questions on chapter 7.1, BERT and its family."""

from __future__ import annotations

from companion.exercises.questions import Choice, Option

EXERCISES: tuple[Choice, ...] = (
    Choice(
        name="ten_percent_that_stay",
        chapter="bert",
        title="The 10 % that stay",
        difficulty=2,
        minutes=1,
        trains="knows why BERT asks for tokens that it shows",
        question="Of the tokens that BERT asks for, 10 % stay as they are. What would "
        "happen if all of them became `[MASK]`?",
        options={
            "A": Option(
                "Gaps would be filled much worse.",
                "They are filled about as well: 30 % against 35 % in the letter model."
                " What is lost is at the visible tokens.",
            ),
            "B": Option(
                "The model would copy its input.",
                "It copies when *nothing* is hidden. A masked token can't be copied: "
                "it is not in the input.",
            ),
            "C": Option(
                "States of visible tokens would not tell their own token.",
                "What the model makes of a visible token would have no influence on "
                "the loss. The letter model names 8 % of the letters that it sees, in "
                "place of 86 %.",
            ),
            "D": Option(
                "Training would stop at the frequencies of tokens.",
                "Masks alone teach the context as well. That stop is about how the "
                "head starts.",
            ),
        },
        right="C",
        hints=(
            "At which places does the loss look, if all are masks?",
            "What do we want to use after training?",
            "The states of visible words.",
        ),
    ),
    Choice(
        name="one_layer_twelve_times",
        chapter="bert",
        title="One layer, twelve times",
        difficulty=1,
        minutes=1,
        trains="tells weights from work",
        question="ALBERT runs one layer twelve times, where BERT has twelve layers. What "
        "does it save?",
        options={
            "A": Option(
                "Memory for weights, and no time.",
                "11 million weights instead of 109, and the same 22 GFLOP for 128 "
                "tokens: each pass through the layer is still made.",
            ),
            "B": Option(
                "Memory and time, both by about a factor of ten.",
                "Each of the twelve passes multiplies as much as before. Only what is "
                "multiplied with is stored once.",
            ),
            "C": Option(
                "Time, since its one layer stays in the fast memory.",
                "It may help a little on some chips, and the count of operations is "
                "the same. The weights are what shrinks.",
            ),
            "D": Option(
                "Nothing: the embeddings are most of the model anyway.",
                "They are a fifth of BERT-base. And ALBERT's are made narrow as well.",
            ),
        },
        right="A",
        hints=(
            "How many matrix products does a pass take?",
            "How many different matrices are in them?",
            "Compare the table's two columns.",
        ),
    ),
    Choice(
        name="coin_on_swapped_pairs",
        chapter="bert",
        title="Follows, or not?",
        difficulty=2,
        minutes=1,
        trains="looks for the shortcut in a task",
        question="Counting shared words tells in nearly two of three pairs whether B "
        "follows A or comes from another book, and is a coin when A and B are "
        "swapped. What does that say of next-sentence prediction?",
        options={
            "A": Option(
                "It can't be learned by a model as small as ours.",
                "A count of words solves a good part of it. It is the other part that "
                "may need more.",
            ),
            "B": Option(
                "Swapped pairs are labelled wrongly.",
                "They are right: B does not follow A there. But both have the same "
                "topic.",
            ),
            "C": Option(
                "It teaches the order of sentences.",
                "It would if order were needed. Where the wrong B comes from "
                "elsewhere, the topic gives it away.",
            ),
            "D": Option(
                "Much of it can be solved by the topic alone.",
                "So a model may learn the topic, which it knows anyway, and nothing of"
                " how sentences follow. ALBERT asks for swapped neighbors for this "
                "reason.",
            ),
        },
        right="D",
        hints=(
            "What do two texts of one book share?",
            "And what do A and B, swapped?",
            "A task teaches what is needed to solve it.",
        ),
    ),
    Choice(
        name="all_gaps_at_once",
        chapter="bert",
        title="Eight gaps at once",
        difficulty=2,
        minutes=1,
        trains="knows what independent guesses can't agree on",
        question="BERT gets a beginning and a row of masks, and fills them all at once. It "
        "writes commas. Why?",
        options={
            "A": Option(
                "It has never seen a row of masks.",
                "That does not help. But filled from left to right, the same model "
                "makes phrases.",
            ),
            "B": Option(
                "No gap knows what the others chose.",
                "Each takes the token that is likeliest by itself, and a comma is a "
                "good guess anywhere. From left to right, what is written is context "
                "like any other.",
            ),
            "C": Option(
                "Without a causal mask it can't give probabilities.",
                "It gives one for each gap, given the rest. What it lacks is one for "
                "the whole row.",
            ),
            "D": Option(
                "Its training text is full of commas.",
                "They are frequent, and in a single gap it still names other words. It"
                " is the row that makes the best guess a frequent one.",
            ),
        },
        right="B",
        hints=(
            "What does the third gap know of the second?",
            "Fill them one after the other: what changes?",
            "Which token is a good guess where nothing is known?",
        ),
    ),
)
