"""Choice questions on chapter 7.8, using Hugging Face."""

from __future__ import annotations

from companion.exercises.questions import Choice, Option

EXERCISES: tuple[Choice, ...] = (
    Choice(
        name="mean_with_padding",
        chapter="hugging-face",
        title="A mean with padding in it",
        difficulty=1,
        minutes=1,
        trains="keeps padding out of a mean",
        question="You embed a sentence in a batch, by the mean over all its positions, "
        "without the mask. On what does its vector depend then?",
        options={
            "A": Option(
                "On the sentence only: the encoder hides padding.",
                "The encoder hides it from attention. The states at padded places are "
                "there all the same, and enter the mean.",
            ),
            "B": Option(
                "On the order of the batch.",
                "Order does not matter. It is the longest text that decides how much "
                "padding there is.",
            ),
            "C": Option(
                "On the batch size.",
                "Not by itself: ten texts of equal length have no padding.",
            ),
            "D": Option(
                "On how long the longest text in the batch is.",
                "That says how many padded places enter the mean. A one-word text came"
                " out at a cosine of 0.59 to itself.",
            ),
        },
        right="D",
        hints=(
            "How many positions does a short text have in a batch?",
            "Which of them are padding?",
            "What are the states there?",
        ),
    ),
    Choice(
        name="ones_hide_a_norm",
        chapter="hugging-face",
        title="A test on fresh weights",
        difficulty=2,
        minutes=1,
        trains="draws weights that can show a mistake",
        question="A parity test on a freshly made model passes, though the port forgets its"
        " last norm's gain. How come?",
        options={
            "A": Option(
                "A fresh gain is all ones.",
                "So to leave it out changes nothing. Draw the weights large and at "
                "random, those of the norms too.",
            ),
            "B": Option(
                "The tolerance of the test is too wide.",
                "The difference is exactly zero. No tolerance would find it.",
            ),
            "C": Option(
                "Norms do not change what a model says.",
                "A trained gain does, feature by feature. Leave it out there and the "
                "logits move.",
            ),
            "D": Option(
                "The test should have compared the losses.",
                "They are equal as well, as all numbers are.",
            ),
        },
        right="A",
        hints=(
            "What does a norm's gain start at?",
            "What does multiplying by it do?",
            "Which weights would show it?",
        ),
    ),
    Choice(
        name="who_speaks_for_the_sentence",
        chapter="hugging-face",
        title="[CLS] of MiniLM",
        difficulty=2,
        minutes=1,
        trains="knows that a class of a library is a decision",
        question="A head on MiniLM's `[CLS]` gets 68 %, one on the mean of the same frozen "
        "states 78 %. Why?",
        options={
            "A": Option(
                "`[CLS]` sees less of the sentence.",
                "It attends to every token. It is not what it can see that differs.",
            ),
            "B": Option(
                "A mean has more numbers.",
                "Both have 384.",
            ),
            "C": Option(
                "MiniLM was trained through the mean.",
                "Nothing ever made its `[CLS]` speak for the sentence. "
                "`BertForSequenceClassification` reads it all the same, and has no "
                "option for anything else.",
            ),
            "D": Option(
                "The head on `[CLS]` was trained for too short.",
                "More training of the head finds no more than is in that state. It is "
                "the state that says little.",
            ),
        },
        right="C",
        hints=(
            "How is MiniLM's vector of a sentence made?",
            "Which states were trained to carry it?",
            "What did the class of the library choose for you?",
        ),
    ),
    Choice(
        name="short_and_lossy",
        chapter="hugging-face",
        title="Short in Russian",
        difficulty=2,
        minutes=1,
        trains="asks whether a text comes back",
        question="Marian's tokenizer needs 1.2 times as many tokens for Russian as for "
        "English, GPT-2's 4.5 times. Is Marian's the better choice for Russian?",
        options={
            "A": Option(
                "Yes: fewer tokens cost less and leave more context.",
                "That is so where they say the same. Look at what comes back from the "
                "tokens.",
            ),
            "B": Option(
                "No: it writes whole words as `<unk>`.",
                "Not one of the names comes back. GPT-2's bytes are long and lose "
                "nothing.",
            ),
            "C": Option(
                "Yes, since Unigram finds the likeliest pieces.",
                "Of its own vocabulary, and that was learned from English and "
                "Portuguese.",
            ),
            "D": Option(
                "No: Unigram is slower than BPE.",
                "Perhaps, but time is not what is lost here.",
            ),
        },
        right="B",
        hints=(
            "Turn the tokens back into text.",
            "Which languages did its vocabulary learn from?",
            "What stands for what it does not know?",
        ),
    ),
)
