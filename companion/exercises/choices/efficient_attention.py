"""Choice questions on chapter 7.6, efficient attention."""

from __future__ import annotations

from companion.exercises.questions import Choice, Option

EXERCISES: tuple[Choice, ...] = (
    Choice(
        name="faster_with_equal_work",
        chapter="efficient-attention",
        title="What a tile saves",
        difficulty=2,
        minutes=1,
        trains="tells arithmetic from traffic",
        question="FlashAttention gives the formula's numbers, quicker. What does it do less"
        " of?",
        options={
            "A": Option(
                "Multiplications: it skips small weights.",
                "It computes every score, and in the backward pass computes them "
                "again. Its result is exact.",
            ),
            "B": Option(
                "Exponentials: one a row is enough.",
                "It takes more of them, as old sums are brought to a new maximum.",
            ),
            "C": Option(
                "Writing and reading of memory.",
                "Scores and weights of a tile never leave the fast memory of the chip."
                " The arithmetic is not less.",
            ),
            "D": Option(
                "Rounding: it computes in 16 bits.",
                "It does so if its inputs are in 16 bits, as the formula would. In 64 "
                "bits both agree to 1e-11.",
            ),
        },
        right="C",
        hints=(
            "Is the result exact?",
            "What does the formula write to memory, and read again?",
            "A weight that is used at once need not be stored.",
        ),
    ),
    Choice(
        name="window_as_a_mask",
        chapter="efficient-attention",
        title="A window as a mask",
        difficulty=1,
        minutes=1,
        trains="knows that a mask saves nothing",
        question="Each query may see 256 keys to each side, by a mask on full attention. "
        "What is saved?",
        options={
            "A": Option(
                "Nothing.",
                "All scores are computed, and most are thrown away. To save work, the "
                "hidden pairs must not be computed: by chunks of queries with the "
                "chunks of keys beside them.",
            ),
            "B": Option(
                "Time, and no memory.",
                "The products are those of full attention. Masks come after them.",
            ),
            "C": Option(
                "Memory, and no time.",
                "The scores are all there, and the mask besides.",
            ),
            "D": Option(
                "Both, but only for texts longer than the window.",
                "That is true of chunks. A mask has the same price at every length.",
            ),
        },
        right="A",
        hints=(
            "When is a mask applied?",
            "Which products were made by then?",
            "See how chunks do it.",
        ),
    ),
    Choice(
        name="sees_everything_finds_nothing",
        chapter="efficient-attention",
        title="Everything through one token",
        difficulty=3,
        minutes=1,
        trains="knows why reach is not memory",
        question="With one global token, two layers of windows reach every position. Why "
        "did that not help to find far facts?",
        options={
            "A": Option(
                "A global token sees only its window.",
                "It sees all, and is seen by all. The path is there.",
            ),
            "B": Option(
                "All facts would have to fit into its one vector.",
                "And it does not know which will be asked for. Made global, the "
                "*questions* look themselves, and all is found.",
            ),
            "C": Option(
                "Its gradients vanish over 512 tokens.",
                "The path is two steps long. Distance does not come into it.",
            ),
            "D": Option(
                "Global tokens must be trained for longer than others.",
                "More steps might help a little. But someone has to carry four facts "
                "for whoever may ask.",
            ),
        },
        right="B",
        hints=(
            "Who stands between a fact and its question?",
            "How many numbers does it have?",
            "Make the questions global instead.",
        ),
    ),
    Choice(
        name="small_error_in_one_layer",
        chapter="efficient-attention",
        title="A spare part",
        difficulty=2,
        minutes=1,
        trains="doubts an error that was measured in one layer",
        question="Chunked attention has the smallest error in a single layer of MiniLM. Put"
        " into all six, what becomes of the embedding?",
        options={
            "A": Option(
                "It is nearer to the real one than with any other method.",
                "So one would bet, and it is the window with a global token that is "
                "nearest. Errors of one layer say little about six.",
            ),
            "B": Option(
                "It is the same up to rounding.",
                "An error of some tenths is no rounding.",
            ),
            "C": Option(
                "It depends on the text alone.",
                "It was measured on one passage, for all methods. They differ on it.",
            ),
            "D": Option(
                "It is no nearer to it than another passage's.",
                "0.78, where two different passages have 0.79. None of these is a "
                "spare part for a trained model: they are other architectures, to be "
                "trained as such.",
            ),
        },
        right="D",
        hints=(
            "What is the cosine of two passages' embeddings?",
            "Compare with it.",
            "Errors pass through the layers above.",
        ),
    ),
)
