"""Choice questions on chapter 8.5, CLIP."""

from __future__ import annotations

from companion.exercises.questions import Choice, Option

EXERCISES: tuple[Choice, ...] = (
    Choice(
        name="shuffled_names",
        chapter="clip",
        title="Shuffled names",
        difficulty=2,
        minutes=1,
        trains="derives what a loss does not ask for",
        question="A name with its words shuffled is found as often as the name. Why has the"
        " text tower not learned order?",
        options={
            "A": Option(
                "It has no positions.",
                "It has, and exchanged words change its vector. What it has is not "
                "used for much.",
            ),
            "B": Option(
                "It is causal, and so sees half of each text.",
                "Its last token sees all, in order. GPT learns order with the same "
                "mask.",
            ),
            "C": Option(
                "The loss hardly ever needs it.",
                "To tell a caption from 63 others, its words are enough: no batch "
                "holds the same words in another order. Put such captions in, and some"
                " of it is learned.",
            ),
            "D": Option(
                "Its captions are too short to have an order.",
                '"cat with wry smile" has one. But no other caption needs to be told'
                " from it by that.",
            ),
        },
        right="C",
        hints=(
            "Among what does the loss choose?",
            "Which other caption has the same words?",
            "What is not needed is not learned.",
        ),
    ),
    Choice(
        name="class_nobody_says",
        chapter="clip",
        title='"animal" does not work',
        difficulty=1,
        minutes=1,
        trains="knows where zero-shot words come from",
        question='Zero-shot, "face" finds 23 of 25 and "animal" 2 of 19. What makes the'
        " difference?",
        options={
            "A": Option(
                "Animals look less alike than faces do.",
                "Perhaps. But food fails as well, and its word stands in three "
                "captions of more than a thousand.",
            ),
            "B": Option(
                'The word "animal" stands in no caption.',
                '"face" stands in 95. No cat is called "cat, an animal", so the '
                "text tower has no idea where that word belongs.",
            ),
            "C": Option(
                "There are fewer pictures of animals to learn from.",
                "After faces they are the largest kind. It is the word that is "
                "missing.",
            ),
            "D": Option(
                "The temperature was learned for faces.",
                "One temperature serves all classes, and does not change which is "
                "nearest.",
            ),
        },
        right="B",
        hints=(
            "How often is each word in a caption?",
            "What does the text tower do with a word that it has not read?",
            "CLIP can name what its captions name.",
        ),
    ),
    Choice(
        name="batch_of_256",
        chapter="clip",
        title="More wrong pairs",
        difficulty=2,
        minutes=1,
        trains="keeps the number of updates in mind",
        question="At equal pairs seen, batches of 256 are worse than batches of 64 here. "
        "Does that refute that CLIP needs large batches?",
        options={
            "A": Option(
                "Yes: more wrong pairs do not help.",
                "Batches of 16 are worse as well: too few wrong pairs. Both numbers "
                "count.",
            ),
            "B": Option(
                "No: it was measured with a wrong temperature.",
                "It was learned, in each of the runs.",
            ),
            "C": Option(
                "Yes, as the loss is higher in larger batches.",
                "It is, for every model: a blind guess costs the logarithm of the "
                "batch. Recall was compared, not losses.",
            ),
            "D": Option(
                "No: 256 make a quarter of the updates of 64.",
                "In a short run that costs more than wrong pairs bring. The paper "
                "could have both.",
            ),
        },
        right="D",
        hints=(
            "How many updates do 19,200 pairs make, in batches of 256?",
            "And of 64?",
            "What would a longer run show?",
        ),
    ),
    Choice(
        name="rows_only",
        chapter="clip",
        title="Why both sides?",
        difficulty=3,
        minutes=1,
        trains="finds what a softmax over rows can't see",
        question="Trained on rows only, each picture choosing among captions. Which fault "
        "goes unseen?",
        options={
            "A": Option(
                "A picture that is near to every caption.",
                "Its row rises as a whole, and the softmax over the row does not care."
                " Only the columns object: it would be found for each text.",
            ),
            "B": Option(
                "A caption that fits two pictures.",
                "Rows see it: for the second picture that caption stands beside the "
                "right one, and takes some of its share.",
            ),
            "C": Option(
                "A picture that is far from its own caption.",
                "If other captions are nearer, its row costs something. That is just "
                "what rows see.",
            ),
            "D": Option(
                "A temperature that is too low.",
                "The loss over rows has a gradient in it as well, and learns it.",
            ),
        },
        right="A",
        hints=(
            "Add a number to all of a row. What does its softmax do?",
            "And the softmaxes of the columns?",
            "Who would be found for every text?",
        ),
    ),
)
