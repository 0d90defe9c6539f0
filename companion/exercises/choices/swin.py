"""Choice questions on chapter 8.2, Swin."""

from __future__ import annotations

from companion.exercises.questions import Choice, Option

EXERCISES: tuple[Choice, ...] = (
    Choice(
        name="windows_that_never_move",
        chapter="swin",
        title="Twelve blocks of windows",
        difficulty=1,
        minutes=1,
        trains="follows information through windows",
        question="Windows of 4 by 4 patches that never move, twelve blocks deep. On how "
        "many patches does an output depend?",
        options={
            "A": Option(
                "16 x 12 = 192.",
                "It would grow like this, or faster, if each block saw other "
                "neighbors. They are the same ones each time.",
            ),
            "B": Option(
                "All 256, after four blocks.",
                "That needs windows that move: with the shift it takes five blocks.",
            ),
            "C": Option(
                "64, as two windows meet at each border.",
                "A window never meets another. Borders are where nothing passes.",
            ),
            "D": Option(
                "16.",
                "A window that never moves is a picture of its own. At any depth, it "
                "never hears of the others.",
            ),
        },
        right="D",
        hints=(
            "What does a patch see in block 1?",
            "And those that it has seen, what did they see?",
            "Does any patch ever see out of the window?",
        ),
    ),
    Choice(
        name="who_may_meet_after_the_roll",
        chapter="swin",
        title="After the roll",
        difficulty=2,
        minutes=1,
        trains="knows why rolled windows need a mask",
        question="Swin rolls the picture in place of moving the windows. Why is a mask "
        "needed then, and only in some windows?",
        options={
            "A": Option(
                "The roll leaves empty places, which are padding.",
                "A roll leaves no gap: what goes out on one side comes in on the "
                "other.",
            ),
            "B": Option(
                "To keep later patches from earlier ones.",
                "Nothing is causal in a picture. The mask has to do with edges.",
            ),
            "C": Option(
                "Windows at the edge hold patches that were no neighbors.",
                "What came around from the other side stands beside what was there. "
                "They must not look at each other; all other windows are whole.",
            ),
            "D": Option(
                "The relative bias does not know the new places.",
                "It depends on offsets within the window, which the roll keeps for "
                "true neighbors.",
            ),
        },
        right="C",
        hints=(
            "What stands in the last window after the roll?",
            "Were its patches neighbors before?",
            "In which windows is everything as it was?",
        ),
    ),
    Choice(
        name="no_bill_no_gain",
        chapter="swin",
        title="At 64 patches",
        difficulty=2,
        minutes=1,
        trains="knows what windows are an answer to",
        question="When each patch is to name its digit, the ViT is right for 85 % and Swin "
        "for 63 %. What should one conclude?",
        options={
            "A": Option(
                "At 64 patches windows have little to save.",
                "Each patch of the ViT sees all others in the first layer. Windows are"
                " an answer to a cost that grows with the square of the pixels, and "
                "here there is none.",
            ),
            "B": Option(
                "Swin's shift does not work.",
                "Without it, 41 %. It repairs a good part of what windows take away.",
            ),
            "C": Option(
                "Swin was trained for too short, and would catch up.",
                "Both had the same steps. It has to hear of the far side by way of a "
                "neighbor's neighbor.",
            ),
            "D": Option(
                "Windows are worse than attention among all.",
                "At this size they are. At 448 pixels a side, the ViT takes fifty "
                "times as long.",
            ),
        },
        right="A",
        hints=(
            "What are windows for?",
            "How many pairs are 64 patches?",
            "Compare with what the chapter's first table shows.",
        ),
    ),
)
