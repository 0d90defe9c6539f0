"""Choice questions on chapter 7.3, LLaMA, Mistral, PaLM."""

from __future__ import annotations

from companion.exercises.questions import Choice, Option

EXERCISES: tuple[Choice, ...] = (
    Choice(
        name="a_matter_of_cache",
        chapter="llama",
        title="Shared keys and values",
        difficulty=1,
        minutes=1,
        trains="knows what grouped queries are for",
        question="LLaMA 2 70B has 64 query heads on 8 key-value heads. What is it that "
        "shrinks to an eighth?",
        options={
            "A": Option(
                "The number of attention maps.",
                "There is one for each query head, as before: queries still differ.",
            ),
            "B": Option(
                "The work of scoring.",
                "Each of the 64 query heads scores all keys, its own or shared ones.",
            ),
            "C": Option(
                "The parameters of the model.",
                "Only `W_k` and `W_v` shrink, and most parameters are in the feed-"
                "forward network.",
            ),
            "D": Option(
                "The cache of keys and values.",
                "For a text of 128,000 tokens, 42 GB instead of 336. Queries are used "
                "once and not kept.",
            ),
        },
        right="D",
        hints=(
            "Which heads does the cache hold?",
            "Do queries wait for later tokens?",
            "64 / 8 = 8.",
        ),
    ),
    Choice(
        name="most_of_the_gain",
        chapter="llama",
        title="From GPT to LLaMA",
        difficulty=2,
        minutes=1,
        trains="reads a ladder of ablations",
        question="From GPT's block to LLaMA's, one part at a time, at equal parameters. "
        "Which step brought nearly all of the gain here, and how far does that "
        "carry?",
        options={
            "A": Option(
                "RMS norm, since it is in every model since.",
                "It changed nothing that three seeds could show. It is simpler for the"
                " same loss.",
            ),
            "B": Option(
                "Rotary positions, for small models and short training.",
                "0.26 of 0.29 nats. A learned table has to learn each position by "
                "itself, and here had little time for it. At 100 billion parameters, "
                "nobody has shown that.",
            ),
            "C": Option(
                "SwiGLU at any size, since it has three matrices for two.",
                "At equal parameters it brought 0.03 nats, in every seed. It has three"
                " matrices, and they are narrower.",
            ),
            "D": Option(
                "Grouped queries, since they speed it up.",
                "They cost a little of the loss. What they buy is cache.",
            ),
        },
        right="B",
        hints=(
            "Look at the differences between the lines.",
            "Which of the parts was not there to learn, but given?",
            "Compare with how long these models are trained.",
        ),
    ),
    Choice(
        name="paris_all_the_same",
        chapter="llama",
        title="Still Paris",
        difficulty=2,
        minutes=1,
        trains="does not test a port by one prompt",
        question="Without reordering `W_q` and `W_k`, SmolLM2 still says that the capital "
        "of France is Paris. Why?",
        options={
            "A": Option(
                "The reordering is a matter of speed.",
                "It decides which numbers are turned together. Hamlet's soliloquy "
                "costs two nats a token more without.",
            ),
            "B": Option(
                "Hugging Face's format reorders again while loading.",
                "Nothing puts it back. The logits are wrong ones, as a longer text "
                "shows.",
            ),
            "C": Option(
                "In a short prompt the slow pairs have hardly turned.",
                "And what contents say to each other is a sum over numbers in any "
                "order. A known fact passes; a loss on a real text does not.",
            ),
            "D": Option(
                "The answer comes from the feed-forward networks alone.",
                'Attention brings them "capital" and "France". It still works over'
                " a few tokens, and ever less over more.",
            ),
        },
        right="C",
        hints=(
            "What does a rotary layer do at small distances?",
            "How long is the prompt?",
            "Measure the loss on a long text.",
        ),
    ),
    Choice(
        name="window_and_reach",
        chapter="llama",
        title="Thirty-two windows",
        difficulty=2,
        minutes=1,
        trains="takes a bound on paths for a bound",
        question='Mistral 7B has windows of 4,096 tokens and 32 layers, "an attention '
        'span of 131,000 tokens". What does that number promise?',
        options={
            "A": Option(
                "That no path is longer, and nothing more.",
                "Each layer can hand on by 4,095 tokens. Whether anything survives 32 "
                "hand-overs is for training to decide; in the chapter on efficient "
                "attention it did not survive one.",
            ),
            "B": Option(
                "That a fact can be found 131,000 tokens back.",
                "There is a path to it. That a token on the way picks it up, without "
                "knowing whether anyone will ask, is another matter.",
            ),
            "C": Option(
                "That the cache holds 131,000 tokens.",
                "The cache stops growing at the window. That is what the window is "
                "for.",
            ),
            "D": Option(
                "That it was trained on texts of that length.",
                "It is arithmetic on layers and windows, and says nothing of the "
                "training.",
            ),
        },
        right="A",
        hints=(
            "How far does one layer hand on?",
            "What would a token halfway have to do?",
            "A path is there, or a path is used.",
        ),
    ),
)
