"""Choice questions on chapter 7.7, which family for what."""

from __future__ import annotations

from companion.exercises.questions import Choice, Option

EXERCISES: tuple[Choice, ...] = (
    Choice(
        name="eight_blanks",
        chapter="comparison",
        title="Eight blanks at once",
        difficulty=2,
        minutes=1,
        trains="knows what independent blanks can't do, however large the model",
        question="An encoder fills eight blanks at once, and pays 4.1 bits from the third "
        "letter on. Would a much larger encoder do better?",
        options={
            "A": Option(
                "Yes, with more data as well.",
                "The price of independent blanks has no size in it. At the best they "
                "pay what the blanks tell about each other, on top.",
            ),
            "B": Option(
                "Yes: it would see further to the left.",
                "This one sees the whole beginning. What it does not see is what the "
                "other blanks were filled with.",
            ),
            "C": Option(
                "Little: the blanks do not know of each other.",
                '"red apple" or "green pear": two blanks say "red pear" a '
                "quarter of the time, in any model that fills them at once.",
            ),
            "D": Option(
                "No, as encoders can't generate at all.",
                "One blank at a time they can. The failure is filling several at once.",
            ),
        },
        right="C",
        hints=(
            "What does blank 5 know about blank 4?",
            "Follow the example of apple and pear.",
            "Mutual information has no size of a model in it.",
        ),
    ),
    Choice(
        name="understanding_by_shape",
        chapter="comparison",
        title="For understanding",
        difficulty=2,
        minutes=1,
        trains="tells a shape from a training",
        question="From scratch and at equal size, the three families name a language "
        'equally well. What follows for "encoders are for understanding"?',
        options={
            "A": Option(
                "It is about pre-trained BERT, not about the shape.",
                "The decoder reads the whole source before it answers. That its source"
                " positions do not see what comes later costs it nothing here.",
            ),
            "B": Option(
                "The task is too easy to tell them apart.",
                "67 % of eight languages are right. There is room above, and none of "
                "the three gets there.",
            ),
            "C": Option(
                "The decoder has learned to look ahead.",
                "Its mask forbids it. But its last position sees everything.",
            ),
            "D": Option(
                "It holds, as the encoder is as good with half the work.",
                "All three have the same number of parameters and updates. Nothing was"
                " halved.",
            ),
        },
        right="A",
        hints=(
            "What does a decoder see when it answers?",
            "What did BERT have besides its shape?",
            "Look at both tasks with a single token.",
        ),
    ),
    Choice(
        name="parallel_on_one_core",
        chapter="comparison",
        title="All positions at once",
        difficulty=2,
        minutes=1,
        trains="asks on which hardware a claim was measured",
        question="On one core, an LSTM's training step takes as long on texts of 1,024 as"
        " on texts of 32, for as many tokens. The Transformer's takes 2.5 times "
        'as long. How does that fit "trained faster, since all positions are '
        'computed at once"?',
        options={
            "A": Option(
                "It refutes it: LSTMs are faster.",
                "On one core they are. With thousands of units, most of them would "
                "wait for the LSTM's next step.",
            ),
            "B": Option(
                "The LSTM's steps must have been computed in parallel, too.",
                "Each waits for the one before. But all texts of a batch take a step "
                "as one product, and that fills one core.",
            ),
            "C": Option(
                "The Transformer was not written well.",
                "Its extra time is the attention over longer texts, which every "
                "implementation has.",
            ),
            "D": Option(
                "It is a statement about hardware with many units.",
                "What waits can't be spread over many workers, and one core has none "
                "to leave idle. There, attention's quadratic term is what one sees.",
            ),
        },
        right="D",
        hints=(
            "What does one core do while a step waits?",
            "What would 10,000 units do?",
            "Which of the two has a term that grows with the square?",
        ),
    ),
    Choice(
        name="sudden_or_never",
        chapter="comparison",
        title="One seed of three",
        difficulty=3,
        minutes=1,
        trains="knows what direct access is worth before it is learned",
        question="Dictation of 24 letters: two Transformers get nearly all, the third is "
        "worse than the LSTMs. Why can direct access to every position be worth "
        "less than a state?",
        options={
            "A": Option(
                "Its positions end before 24.",
                "The other two have the same positions, and get them all.",
            ),
            "B": Option(
                "A head must first learn where to look.",
                '"The letter after the one that I just wrote, up there" comes '
                "suddenly or not yet. An LSTM's state is there from the start, and "
                "too small.",
            ),
            "C": Option(
                "Attention spreads over 24 letters and so is blurred.",
                "In the other two seeds it is sharp enough at 24 as at 4.",
            ),
            "D": Option(
                "It is overfitted, and would need dropout.",
                "It has not fitted the task in the first place. What is missing is "
                "something to be learned.",
            ),
        },
        right="B",
        hints=(
            "Do all seeds see the same data?",
            "What do the two have that the third has not?",
            "Access is no use without knowing where to look.",
        ),
    ),
)
