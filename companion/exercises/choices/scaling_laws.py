"""Choice questions on chapter 9, scaling laws."""

from __future__ import annotations

from companion.exercises.questions import Choice, Option

EXERCISES: tuple[Choice, ...] = (
    Choice(
        name="line_and_law",
        chapter="scaling-laws",
        title="A line that was 43 % off",
        difficulty=2,
        minutes=1,
        trains="asks what a law was drawn from",
        question="A straight line through five sizes, all trained on 150,000 tokens, misses"
        " the largest run by 43 %. Why?",
        options={
            "A": Option(
                "Five points are too few for a line.",
                "They lie well on it. It is what they have in common that misleads.",
            ),
            "B": Option(
                "Losses do not fall on straight lines.",
                "In logarithms they nearly do, at each amount of text. But there is "
                "one line for each amount.",
            ),
            "C": Option(
                "It never saw what more text does.",
                "On little text a larger model gains little. A law of size *and* text,"
                " fitted to the other runs, was off by 3 % or less.",
            ),
            "D": Option(
                "The largest run was lucky.",
                "Its seeds differ by less than a dot of the figure.",
            ),
        },
        right="C",
        hints=(
            "What was held fixed in those five runs?",
            "What is different in the run that was asked for?",
            "Size and text need each other.",
        ),
    ),
    Choice(
        name="thrifty_with_text",
        chapter="scaling-laws",
        title="Thrifty with what?",
        difficulty=2,
        minutes=1,
        trains="tells tokens from operations",
        question="For a loss of 3.3, a model of twenty times the size needs a fifth of the "
        "text. Is it the better deal?",
        options={
            "A": Option(
                "Yes: a fifth of the text is a fifth of the work.",
                "Work is size times text. Each token costs twenty times as much.",
            ),
            "B": Option(
                "Only where text is short, not where compute is.",
                "A fifth of the tokens at twenty times the cost of each is four times "
                "the work.",
            ),
            "C": Option(
                "Yes, and it is also quicker in use.",
                "It is slower in use, by its size, for as long as it is used.",
            ),
            "D": Option(
                "No: larger models overfit.",
                "None of these runs sees a token twice, and larger was better at every"
                " amount.",
            ),
        },
        right="B",
        hints=(
            "What does a token cost in either model?",
            "Multiply.",
            "Which of the two is short for you?",
        ),
    ),
    Choice(
        name="without_the_tables",
        chapter="scaling-laws",
        title="A factor of ten apart",
        difficulty=3,
        minutes=1,
        trains="knows how counting can make an exponent",
        question="Kaplan et al. let the best size grow like C to the 0.73, Hoffmann et al. "
        "like C to the 0.5. What explains most of it?",
        options={
            "A": Option(
                "They used other kinds of models.",
                "Both trained GPTs, on the same kind of text.",
            ),
            "B": Option(
                "Kaplan's models were trained to the end, the others were not.",
                "The other way round: their losses were read off in the middle of "
                "longer runs. It is another, smaller part of it.",
            ),
            "C": Option(
                "The text of 2020 was worse.",
                "Text moves the constants. It does not explain a trade between size "
                "and text.",
            ),
            "D": Option(
                "Kaplan counted without the tables, on small models.",
                "A small model's tables are most of what it has. The refitted law, "
                "looked at so and at those sizes, gives 0.82 where with tables it "
                "gives 0.51.",
            ),
        },
        right="D",
        hints=(
            "What is most of a small model?",
            "What happens to an axis if that is left out?",
            "The page computes both ways.",
        ),
    ),
    Choice(
        name="eight_in_a_row",
        chapter="scaling-laws",
        title="An ability that jumps",
        difficulty=2,
        minutes=1,
        trains="plots the logarithm before it speaks of a jump",
        question="Eight tokens in a row: nothing down to a loss of 3.3, then ever more. "
        "What happens at 3.3?",
        options={
            "A": Option(
                "Nothing: a smooth share is multiplied with itself.",
                "If each token is right with share p, eight are with about p to the "
                "8th. In logarithms it is a line, from the first model to the last.",
            ),
            "B": Option(
                "The models learn to plan ahead.",
                "Each token is foretold from the true ones before it. There is nothing"
                " to plan.",
            ),
            "C": Option(
                "The heads that copy repeated text form at that point.",
                "Such changes exist, and are seen in the loss. Here nothing of the "
                "kind is needed to explain the curve.",
            ),
            "D": Option(
                "The test set gets too small to see it.",
                "It is what shows zero where the share is tiny. But at 3.3 nothing "
                "happens with the test set, either.",
            ),
        },
        right="A",
        hints=(
            "How does p to the 8th look?",
            "Draw it with a logarithmic axis.",
            "Is there a kink?",
        ),
    ),
    Choice(
        name="more_devices_same_memory",
        chapter="scaling-laws",
        title="Eight devices, and no room",
        difficulty=2,
        minutes=1,
        trains="knows what each way of sharing shares",
        question="A model's states need 100 GB. You have eight cards of 24 GB and start "
        "with DDP. What happens?",
        options={
            "A": Option(
                "It fits: 100 / 8 is 12.5 GB each.",
                "So it would be with FSDP. DDP shares out the data only.",
            ),
            "B": Option(
                "It fits, if the batch is small enough.",
                "A batch decides about activations. The states are there at any batch.",
            ),
            "C": Option(
                "It fits in 16 bits, which halve it.",
                "AdamW steps on 32-bit weights and autocast keeps a copy besides: the "
                "states do not shrink.",
            ),
            "D": Option(
                "It does not fit on any of them.",
                "Each holds all the states, and takes a part of the batch. Eight need "
                "what one needs; FSDP gives each an eighth of the states.",
            ),
        },
        right="D",
        hints=(
            "What does each device hold under DDP?",
            "What is shared out?",
            "Which way shares the states?",
        ),
    ),
)
