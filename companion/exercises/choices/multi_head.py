"""Choice questions on chapter 2, multi-head attention."""

from __future__ import annotations

from companion.exercises.questions import Choice, Option

EXERCISES: tuple[Choice, ...] = (
    Choice(
        name="wider_head",
        chapter="multi-head",
        title="One head, four times as wide",
        difficulty=2,
        minutes=1,
        trains="knows why width is no second look",
        question="One head is asked for the meanings of two words and loses 44 % of their "
        "variance. What does a head of four times the width lose?",
        options={
            "A": Option(
                "A quarter of that: it has room for four words.",
                "The room is there, but it is filled with one average of the words. "
                "Width makes it no second one.",
            ),
            "B": Option(
                "Nothing, since it has as many weights as four heads.",
                "It has more weights than the layer with four heads, and fails all the"
                " same: what counts is how many averages get through.",
            ),
            "C": Option(
                "About as much as before.",
                "The weights of a row make one point between the words, and W_v and "
                "W_o come after that. Two points take two heads.",
            ),
            "D": Option(
                "More: the scale makes wide heads look everywhere.",
                "The root of d_k undoes what the width does to the scores. The spread "
                "of the weights stays as it was.",
            ),
        },
        right="C",
        hints=(
            "What of the words gets through a head?",
            "One row of weights gives one average.",
            "Does W_v act before or after the average?",
        ),
    ),
    Choice(
        name="cut_by_view",
        chapter="multi-head",
        title="A view in place of a transpose",
        difficulty=2,
        minutes=1,
        trains="tests a split of heads by what must not change",
        question="Someone splits heads by `x.view(batch, heads, length, d_k)` with no "
        "transpose. How does it show?",
        options={
            "A": Option(
                "In a causal model, tokens notice the future.",
                "The rows of a head then hold pieces of several tokens, so that the "
                "mask hides the wrong things. Shapes, loss and text look fine.",
            ),
            "B": Option(
                "An error at the first batch, as shapes do not fit.",
                "All shapes are those of the right code. That is why this bug lives so"
                " long.",
            ),
            "C": Option(
                "Not at all: heads may come in any order.",
                "Heads may be exchanged. But here each head is made of numbers of "
                "several tokens, which is no exchange of heads.",
            ),
            "D": Option(
                "The loss does not fall.",
                "It does: a network learns around a lot. You would see it only beside "
                "a right one.",
            ),
        },
        right="A",
        hints=(
            "A view never moves a number.",
            "Number the entries of two tokens and cut them.",
            "Which property is about the future?",
        ),
    ),
    Choice(
        name="mean_over_heads",
        chapter="multi-head",
        title="A picture of the mean",
        difficulty=1,
        minutes=1,
        trains="mistrusts an average over heads",
        question='Averaged over all 72 heads, "it" gives *cat* 0.08 and *mat* 0.06. What '
        "does that say of the heads?",
        options={
            "A": Option(
                "That each of them slightly prefers the cat.",
                "One gives the cat 0.68 and the mat 0.11, and most look at neither. No"
                " head does what the mean does.",
            ),
            "B": Option(
                "That none of them tells the two apart.",
                "Head 6-12 does, by a factor of six. In the mean it is one of 72.",
            ),
            "C": Option(
                "That the model can't decide.",
                "A decision may be put together by a few heads and the layers after "
                "them. The mean of maps is nothing that the model computes.",
            ),
            "D": Option(
                "Next to nothing.",
                "A mean of 72 rows looks nearly uniform whatever they do. Look at "
                "single heads, and over many sentences.",
            ),
        },
        right="D",
        hints=(
            "What do the single heads give?",
            "One of them gives 0.68 and 0.11.",
            "Does any part of the model compute that mean?",
        ),
    ),
    Choice(
        name="heads_not_missed",
        chapter="multi-head",
        title="Heads that nobody misses",
        difficulty=3,
        minutes=1,
        trains="reads an ablation as an answer about a task",
        question="41 of 72 heads can go, one at a time, and retrieval is no worse. Even "
        "with no attention at all it does about as well. What has been shown?",
        options={
            "A": Option(
                "Most heads do nothing.",
                "Six of them carry more than half of the sense of order. Measured by "
                "order, they are missed.",
            ),
            "B": Option(
                "This task can be done with a bag of words.",
                "An ablation answers the question that was measured. To find the other"
                " half of a verse the words are enough; to know their order they are "
                "not.",
            ),
            "C": Option(
                "Heads do the same work twice, so that others step in.",
                "That would explain that one at a time can go. It would not explain "
                "that all of them can.",
            ),
            "D": Option(
                "The model was made too large.",
                "For this measure, yes. But it is the measure that asks for little, "
                "and another one asks for more.",
            ),
        },
        right="B",
        hints=(
            "What happens with no attention at all?",
            "What does such a model still see of a sentence?",
            "The sense of order gave another answer.",
        ),
    ),
)
