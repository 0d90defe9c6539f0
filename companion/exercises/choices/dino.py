"""Choice questions on chapter 8.3, DINO."""

from __future__ import annotations

from companion.exercises.questions import Choice, Option

EXERCISES: tuple[Choice, ...] = (
    Choice(
        name="collapse_with_a_fine_accuracy",
        chapter="dino",
        title="Collapsed, and still 66 %",
        difficulty=3,
        minutes=1,
        trains="looks at the spread, not at the accuracy",
        question="The first attempt has a loss of nearly zero, and its features still reach"
        " 66 % in nearest neighbors. Have they collapsed?",
        options={
            "A": Option(
                "No: features that have collapsed would be at chance, 10 %.",
                "So one would think. But neighbors are found by order, and an order is"
                " there as long as there are digits behind the point.",
            ),
            "B": Option(
                "No: the loss is low, so views agree.",
                "They agree because all say the same. That is the cheapest way to a "
                "low loss.",
            ),
            "C": Option(
                "Yes: their spread is 0.01, and 65 % is where they began.",
                "Cosines of a collapsed network differ in the fourth digit only, and "
                "neighbors are still found. Look at the spread or the divergence.",
            ),
            "D": Option(
                "In part: 66 % of them have not.",
                "Collapse is not of single pictures. All features have moved together.",
            ),
        },
        right="C",
        hints=(
            "What was the accuracy before any training?",
            "What is the spread of the features?",
            "How are neighbors found?",
        ),
    ),
    Choice(
        name="opposite_forces",
        chapter="dino",
        title="Two forces",
        difficulty=2,
        minutes=1,
        trains="tells the two collapses apart",
        question="DINO without centering ends with one output that always wins, without "
        "sharpening with all equal. What does centering do?",
        options={
            "A": Option(
                "It takes away what all pictures have in common.",
                "The mean score is the most predictable thing of all, and would grow "
                "fastest. Without sharpening everything else dies out: each force "
                "forbids the other's collapse.",
            ),
            "B": Option(
                "It keeps features of different pictures apart, as negatives do.",
                "Nothing is pushed apart in DINO. That is what contrastive methods do,"
                " with large batches.",
            ),
            "C": Option(
                "It makes the teacher's outputs sharper.",
                "That is the low temperature. Centering drives the entropy up.",
            ),
            "D": Option(
                "It lets the gradient into the teacher.",
                "No gradient flows there, with or without it.",
            ),
        },
        right="A",
        hints=(
            "What is subtracted?",
            "What would grow fastest, if nothing were subtracted?",
            "Sharpening lowers entropy; and centering?",
        ),
    ),
    Choice(
        name="no_human_choice",
        chapter="dino",
        title="Without labels",
        difficulty=2,
        minutes=1,
        trains="sees what a person still chooses",
        question="DINO is trained without labels. What decides which things its features "
        "will know?",
        options={
            "A": Option(
                "The number of outputs of the head.",
                "It is 128 here and 65,536 in the paper. The outputs have no names, "
                "and no thing is theirs.",
            ),
            "B": Option(
                "Chance: nobody tells it what matters.",
                "The three seeds come out alike. Something tells it.",
            ),
            "C": Option(
                "The teacher, since it is the better model.",
                "The teacher is the student's own past. It knows nothing that the "
                "student had not found.",
            ),
            "D": Option(
                "The views that a person chose.",
                "What two views have in common is what the features will know, and "
                "what they differ in is forgotten. Mirror the digits, and other things"
                " are learned.",
            ),
        },
        right="D",
        hints=(
            "What are student and teacher to agree on?",
            "What do two views share, and what not?",
            "Who said that a digit may be turned, but not mirrored?",
        ),
    ),
)
