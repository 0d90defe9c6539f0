"""Choice questions on chapter 1, attention."""

from __future__ import annotations

from companion.exercises.questions import Choice, Option

EXERCISES: tuple[Choice, ...] = (
    Choice(
        name="room_in_the_state",
        chapter="attention",
        title="Room in the state",
        difficulty=2,
        minutes=1,
        trains="tells what a vector could hold from what training puts there",
        question="The state of 64 numbers has room for 24 characters many times over, and "
        "still the copier with one vector gets 27 % of them right. What does the "
        "experiment show?",
        options={
            "A": Option(
                "The state has too few numbers for 24 characters.",
                "24 characters are at most 114 bits and the state has 2,048. If room "
                "were the limit, a state twice as wide would have cured it; it moved "
                "27 % to 33 %.",
            ),
            "B": Option(
                "The slope to the first characters had vanished.",
                "That is so before training. Afterwards the last state depends on all "
                "40 characters about equally, and they still can't be read out of it.",
            ),
            "C": Option(
                "Gradient descent does not learn to use all the room.",
                "A count of bits says what a vector could hold. What a network learns "
                "to pack into it and to unpack again is another number, and a smaller "
                "one.",
            ),
            "D": Option(
                "A recurrent network is unable to copy anything.",
                "It copies 90 % at the shortest length. It is the length that breaks "
                "it, not the task.",
            ),
        },
        right="C",
        hints=(
            "Compare the bits of 24 characters with the bits of the state.",
            "A wider state helped by six points.",
            "Could and does are two things.",
        ),
    ),
    Choice(
        name="beyond_the_values",
        chapter="attention",
        title="Out of the triangle",
        difficulty=1,
        minutes=1,
        trains="knows that attention can only average",
        question="Can a coordinate of an attention output, before any output projection, be"
        " larger than that coordinate of every value?",
        options={
            "A": Option(
                "Yes, if the query is long enough.",
                "A long query makes the weights sharper, up to 1 on a single key. Then"
                " the output is that value, and no larger.",
            ),
            "B": Option(
                "Yes, if one of the scores is very large.",
                "A score acts only through the softmax, and a weight is never above 1,"
                " whatever the score.",
            ),
            "C": Option(
                "Only if a mask hides the other keys.",
                "Hidden keys get weight 0, and the rest still share a total of 1. An "
                "average of fewer values is still an average.",
            ),
            "D": Option(
                "No, whatever the weights are.",
                "The weights are positive and sum to 1, so the output lies among the "
                "values. Try it with the triangle above.",
            ),
        },
        right="D",
        hints=(
            "What do the weights of a row sum to?",
            "Is a weight ever negative?",
            "Where does an average lie?",
        ),
    ),
    Choice(
        name="leak_after_the_softmax",
        chapter="attention",
        title="Zeros after the softmax",
        difficulty=2,
        minutes=1,
        trains="knows why a mask belongs before the softmax",
        question="A causal mask sets the *weights* of future keys to zero, after the "
        "softmax. What of the future still gets through?",
        options={
            "A": Option(
                "How much weight the future keys took.",
                "Their scores stand in the denominator, so that the visible weights "
                "shrink by what the future took. Change the future, and the past "
                "moves.",
            ),
            "B": Option(
                "The values of the future keys.",
                "These are multiplied by zero. It would be so if the weights were left"
                " as they are.",
            ),
            "C": Option(
                "Nothing: what has weight zero is not there.",
                "The values are gone. But look at what the remaining weights sum to, "
                "and on what that depends.",
            ),
            "D": Option(
                "Only gradients, in the backward pass.",
                "The outputs themselves change with the future; no backward pass is "
                "needed to see it.",
            ),
        },
        right="A",
        hints=(
            "Add up a row of weights after the mask.",
            "What does the softmax divide by?",
            "All scores are in the denominator, those of the future too.",
        ),
    ),
    Choice(
        name="cat_because_tired",
        chapter="attention",
        title="Because it was tired",
        difficulty=3,
        minutes=1,
        trains="reads off the formula what one layer can't do",
        question='"The cat sat on the mat because it was tired." In *one* layer '
        'of self-attention, can "it" give "cat" more weight than "mat" '
        'because of the word "tired"?',
        options={
            "A": Option(
                "Yes: the softmax compares all words of the sentence with each other.",
                'It compares their scores with the query\'s. "tired" takes weight '
                "from cat and from mat alike, so that their ratio stays.",
            ),
            "B": Option(
                "No: the ratio of the two weights does not depend on it.",
                "The ratio is the exponential of a difference of two scores, and "
                "in these only it, cat and mat occur. It takes a second layer, "
                'whose "it" has looked at "tired".',
            ),
            "C": Option(
                "Yes, if one of several heads looks for adjectives.",
                'That head can bring "tired" to "it". But all heads of a layer '
                "work at once: no other head of this layer sees what it found.",
            ),
            "D": Option(
                'No: "tired" comes later in the sentence.',
                "That would be the reason under a causal mask. Here every word sees "
                "every other, and it still can't.",
            ),
        },
        right="B",
        hints=(
            "Write down the ratio of two weights of one query.",
            "Which words occur in it?",
            "What could a second layer see that the first could not?",
        ),
    ),
)
