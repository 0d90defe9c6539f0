"""Choice questions on chapter 8.1, the Vision Transformer."""

from __future__ import annotations

from companion.exercises.questions import Choice, Option

EXERCISES: tuple[Choice, ...] = (
    Choice(
        name="shuffled_patches",
        chapter="vit",
        title="Shuffled before training",
        difficulty=3,
        minutes=1,
        trains="finds what a network knows by taking it away",
        question="All images are shuffled in the same way, patch by patch, before training."
        " The CNN falls from 96 % to 91 %, and the ViT stays at 90 %. Why does the"
        " ViT not notice?",
        options={
            "A": Option(
                "Attention looks at every patch in any case, wherever it lies.",
                "It does, but what it is told of their places counts, too. Shuffle "
                "them in *use*, and its logits move.",
            ),
            "B": Option(
                "It has enough data to learn the shuffle.",
                "It need not learn anything more than before: to it, the shuffled "
                "order is as good as the other.",
            ),
            "C": Option(
                "Its patches are too small to matter.",
                "Shuffle the pixels, which breaks the patches up, and it loses two "
                "points.",
            ),
            "D": Option(
                "Its positions start at random: any order is the same to it.",
                "Nothing says at the start which places are neighbors. The convolution"
                " knows it, and with its neighbors taken away it falls onto the ViT's "
                "level.",
            ),
        },
        right="D",
        hints=(
            "What does the ViT know about places before training?",
            "What does the CNN know?",
            "Which of the two loses something by a shuffle?",
        ),
    ),
    Choice(
        name="ink_beats_rollout",
        chapter="vit",
        title="A heat map on the object",
        difficulty=2,
        minutes=1,
        trains="compares an explanation with a baseline",
        question="Rollout lights up the strokes of a digit, and covering the patches agrees"
        " with it by 0.40. Why is that no proof that the model looks there?",
        options={
            "A": Option(
                "The ink of a patch agrees better, and knows nothing of the model.",
                "0.61. A heat map on top of the object is easily had; compare it with "
                "a baseline.",
            ),
            "B": Option(
                "0.40 is not significant with few images.",
                "It may well be significant. It is another question whether it says "
                "anything of *this* model.",
            ),
            "C": Option(
                "Rollout leaves out the last layer.",
                "It goes through all of them. What it leaves out are values, feed-"
                "forward networks and signs.",
            ),
            "D": Option(
                "To cover patches is no good test of a model.",
                "It asks the model itself, which no map does. What is missing is "
                "another map to compare with.",
            ),
        },
        right="A",
        hints=(
            "Which map would somebody draw who has never seen the model?",
            "How well does that one agree?",
            "What would the model have to add to it?",
        ),
    ),
    Choice(
        name="another_resolution",
        chapter="vit",
        title="A larger picture",
        difficulty=1,
        minutes=1,
        trains="treats positions of an image as a picture",
        question="A ViT that was trained on 6 x 6 patches is to read 8 x 8. It has 36 "
        "position vectors. What works best without training?",
        options={
            "A": Option(
                "The 36 as they are, and new random ones behind.",
                "In the order of the list, the second row of the image is told that it"
                " is the end of the first. That is near chance.",
            ),
            "B": Option(
                "Zeros for all places.",
                "Then it reads a bag of patches.",
            ),
            "C": Option(
                "The 6 x 6 picture of vectors, resized to 8 x 8.",
                "Each new place gets a mixture of its old neighbors. A tenth to a "
                "fifth of the answers is lost, and in practice one trains on for a "
                "while.",
            ),
            "D": Option(
                "Repeat each vector until there are 64.",
                "In which order? A list does not know rows. The table has to be seen "
                "as a picture.",
            ),
        },
        right="C",
        hints=(
            "What do 36 vectors stand for?",
            "Where is the second row in the list?",
            "Pictures can be resized.",
        ),
    ),
    Choice(
        name="worth_ten_times_the_data",
        chapter="vit",
        title="As the data grows",
        difficulty=2,
        minutes=1,
        trains="reads two curves sideways",
        question="From 100 to 4,000 digits, the CNN's lead over the ViT shrinks from 38 "
        "points to 4. What does the figure show?",
        options={
            "A": Option(
                "With enough data the ViT wins.",
                "It may; the paper saw it with 303 million images. This figure ends "
                "with the CNN ahead.",
            ),
            "B": Option(
                "The CNN's bias is worth five to ten times the data here.",
                "What it knows after 250 digits, the ViT knows after about 2,500. That"
                " the lead is gone further right, the figure does not show.",
            ),
            "C": Option(
                "The ViT has no bias toward what is near.",
                "It has one: a patch is made of neighbors, and shuffled pixels hurt "
                "it.",
            ),
            "D": Option(
                "The ViT was trained for too few steps to show what it can do.",
                "It had more of them than the CNN, 300 to 1,600, about as many as it "
                "takes to fit its images.",
            ),
        },
        right="B",
        hints=(
            "Do the curves meet?",
            "At how many digits does the ViT reach what the CNN had at 250?",
            "Read the figure sideways.",
        ),
    ),
)
