"""Choice questions on chapter 7.2, GPT."""

from __future__ import annotations

from companion.exercises.questions import Choice, Option

EXERCISES: tuple[Choice, ...] = (
    Choice(
        name="context_unused",
        chapter="gpt",
        title="128 characters, and six of them used",
        difficulty=2,
        minutes=1,
        trains="tells a path from a reason to take it",
        question="The window is 128 characters and the loss hardly falls after the sixth. "
        "Why does the model not use more?",
        options={
            "A": Option(
                "The next character hangs on the last few above all.",
                "So these are learned first, and the training ends there. To offer a "
                "path is one thing, to have a reason to take it another.",
            ),
            "B": Option(
                "Attention is too weak over such distances.",
                "Its paths are one step long for all distances. Two tiny layers find "
                "letters that came 4 to 12 places ago, once nothing else helps.",
            ),
            "C": Option(
                "Its positions are learned and end early.",
                "There is a vector for each of the 128. They would end in an error, "
                "not in a flat loss.",
            ),
            "D": Option(
                "Longer contexts are new to it, as they are in counting.",
                "For counts a new context says nothing. A network meets alike contexts"
                " in alike ways; that is the difference.",
            ),
        },
        right="A",
        hints=(
            "How much can be guessed from six characters?",
            "What is learned first?",
            "What did the model do that was trained on repeated letters only?",
        ),
    ),
    Choice(
        name="smoothed_counts",
        chapter="gpt",
        title="A longer context",
        difficulty=1,
        minutes=1,
        trains="knows why counting stops",
        question="With 7 characters of context, counting is better than with 5 on the text "
        "it has counted, and worse on new plays. Why?",
        options={
            "A": Option(
                "Seven characters are too much for a computer to count.",
                "They are counted in seconds. It is the new text that lacks them.",
            ),
            "B": Option(
                "Shakespeare's plays differ too much in their language.",
                "They do, and five characters bridge that. The longer the context, the"
                " less it does.",
            ),
            "C": Option(
                "Smoothing takes too much from long contexts.",
                "It takes so that new things get something. Without it a new context "
                "would cost infinitely many bits.",
            ),
            "D": Option(
                "More of them were never seen before, or only once.",
                "A quarter are new, and a new context says nothing to a table. It "
                'can\'t know that "my noble lord" and "my gracious lord" are alike;'
                " a network can.",
            ),
        },
        right="D",
        hints=(
            "How many contexts of seven characters are there?",
            "What does a table say of a row that it has not seen?",
            "Look at the share of known contexts.",
        ),
    ),
    Choice(
        name="unturned_matrix",
        chapter="gpt",
        title="A matrix that loads and is wrong",
        difficulty=2,
        minutes=1,
        trains="trusts no load without a comparison",
        question="Hugging Face's GPT-2 stores each matrix as (in, out), and you forget to "
        "turn `W_o`. What tells you?",
        options={
            "A": Option(
                "Loading fails: the shapes differ.",
                "For the feed-forward matrices, which are not square. `W_o` is as wide"
                " as it is high.",
            ),
            "B": Option(
                "The loss of the first update is infinite.",
                "The matrix has numbers of the usual size. The loss is a finite, wrong"
                " one.",
            ),
            "C": Option(
                "Only a comparison of logits with theirs.",
                "It loads and runs, and the logits are off by about ten. And only if "
                "the weights are random enough: with small ones the difference can be "
                "small, too.",
            ),
            "D": Option(
                "Generated text has the wrong length.",
                "Length depends on the loop. It is the tokens that are wrong.",
            ),
        },
        right="C",
        hints=(
            "What is the shape of `W_o`, turned and not?",
            "Which check looks at numbers, and not at shapes?",
            "Compare with another implementation.",
        ),
    ),
    Choice(
        name="bits_for_random_letters",
        chapter="gpt",
        title="Ten bits for a random letter",
        difficulty=3,
        minutes=1,
        trains="knows that being sure costs",
        question="26 random letters cost 4.7 bits each, if one knows that they are random. "
        "The model of Shakespeare pays 10. How can it be worse than a blind guess?",
        options={
            "A": Option(
                "Its vocabulary has 88 characters and not 26.",
                "An even guess among 88 costs 6.5 bits. That is still less than 10.",
            ),
            "B": Option(
                "It is sure that English will go on.",
                "It gives most of its probability to what would continue the word, and"
                " little to the rest. Who is sure and wrong pays more than who knows "
                "nothing.",
            ),
            "C": Option(
                "Random letters were not in its training text.",
                "A blind guess has not seen them either, and pays 4.7. It is what it "
                "*has* seen that costs.",
            ),
            "D": Option(
                "It pays for learning them, and less the second time.",
                "It pays 10 the second time as well: no weight changes, and it does "
                "not look back that far.",
            ),
        },
        right="B",
        hints=(
            "What does an even guess cost?",
            "What does a small probability cost?",
            'After "qx", what does a model of English expect?',
        ),
    ),
)
