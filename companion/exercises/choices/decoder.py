"""Choice questions on chapter 5, the decoder."""

from __future__ import annotations

from companion.exercises.questions import Choice, Option

EXERCISES: tuple[Choice, ...] = (
    Choice(
        name="last_place",
        chapter="decoder",
        title="A cheat that does not reach zero",
        difficulty=2,
        minutes=1,
        trains="explains a loss that is too good",
        question="The model without a mask copies the next letter from one place to the "
        "right. Why does its loss stay near 0.1 nats, however long it trains?",
        options={
            "A": Option(
                "A softmax never gives its full weight to a single key.",
                "It comes as close as training wants: at the first 23 places the loss "
                "is 0.0.",
            ),
            "B": Option(
                "The last letter has no neighbor to copy from.",
                "There it must guess like an honest model, at 2.4 nats, and 2.4 / 24 "
                "is 0.1.",
            ),
            "C": Option(
                "It has learned a little of the language, too.",
                "Where it can copy, there is nothing to learn. Its texts show that it "
                "knows no word.",
            ),
            "D": Option(
                "The learning rate was too high to go on.",
                "The same rate brings the model without a shift to 0.001. Look at "
                "where the loss is lost.",
            ),
        },
        right="B",
        hints=(
            "Look at the loss by place.",
            "Which place has nothing at its right?",
            "2.4 divided by 24.",
        ),
    ),
    Choice(
        name="truth_or_own_words",
        chapter="decoder",
        title="Fed the truth, or left alone",
        difficulty=3,
        minutes=1,
        trains="knows what teacher forcing hides, and what not",
        question="Greedy decoding. Is the share of answers that are *wholly* right higher "
        "when the decoder is fed the truth than when it reads its own words?",
        options={
            "A": Option(
                "Yes: with the truth, errors do not pile up.",
                "That raises the share of right *words*. An answer with one wrong word"
                " is lost either way.",
            ),
            "B": Option(
                "Yes, as long as the model is hasty.",
                "The hasty model's two shares are equal as well. Its words after a "
                "mistake are what differs.",
            ),
            "C": Option(
                "No, it is lower: it was not trained on that.",
                "It was trained on just that. And the truth is what it reads wherever "
                "it has made no mistake.",
            ),
            "D": Option(
                "No: they are the same answers.",
                "If each word is right when the truth is fed, the model alone writes "
                "the first one right, reads the truth at the second step, and so on.",
            ),
        },
        right="D",
        hints=(
            "Follow an answer that is right from the first word to the last.",
            "What does the model read at step 2, if step 1 was right?",
            "Now ask what changes after a first mistake.",
        ),
    ),
    Choice(
        name="why_keys_may_stay",
        chapter="decoder",
        title="Why keys may be kept",
        difficulty=2,
        minutes=1,
        trains="ties the cache to the mask",
        question="Why may a decoder keep keys and values of earlier tokens while it writes?",
        options={
            "A": Option(
                "The mask keeps them from depending on later tokens.",
                "So nothing that is written later can change them. In an encoder each "
                "new token would change all hidden states from the second layer on.",
            ),
            "B": Option(
                "The weights do not change while it writes.",
                "They don't in an encoder either, and there nothing could be kept: "
                "hidden states depend on the whole text.",
            ),
            "C": Option(
                "They change so little that nobody notices.",
                "They do not change at all: cached and uncached agree to rounding, and"
                " the texts are the same.",
            ),
            "D": Option(
                "The softmax over the keys is computed anew for each query.",
                "It is, but over what? Keys that depended on later tokens would still "
                "be wrong ones.",
            ),
        },
        right="A",
        hints=(
            "On which tokens does a key of layer 2 depend?",
            "Take the mask away: what changes when a token is added?",
            "Earlier positions do not see the new token.",
        ),
    ),
    Choice(
        name="likelier_and_worse",
        chapter="decoder",
        title="Likelier, and worse",
        difficulty=2,
        minutes=1,
        trains="knows when to search and when to sample",
        question="With 16 beams the letter model finds texts that are more probable than "
        "greedy's, and far more probable than Shakespeare. How do they read?",
        options={
            "A": Option(
                "Better, as probability is what it was trained on.",
                "It was trained to give real texts their probability, not to write the"
                " text that has most of it.",
            ),
            "B": Option(
                "Like Shakespeare, as he is the training text.",
                "The likeliest text is far likelier than any of his. People do not "
                "write the likeliest text.",
            ),
            "C": Option(
                'They repeat "the" and "and" without end.',
                "The search succeeds and the text fails: this is what the model finds "
                "most probable. Search where there is one answer, sample where there "
                "are many.",
            ),
            "D": Option(
                "Like random letters, as the search has failed.",
                "It has not failed: it found what it looked for. Random letters would "
                "be improbable.",
            ),
        },
        right="C",
        hints=(
            "What does the search look for?",
            'What is the likeliest thing to follow "the "?',
            "Sampled text is about as surprising as real text.",
        ),
    ),
    Choice(
        name="price_of_a_bad_draft",
        chapter="decoder",
        title="The price of a bad draft",
        difficulty=2,
        minutes=1,
        trains="knows that speculative decoding is exact",
        question="In speculative decoding the draft model is bad. What is the price?",
        options={
            "A": Option(
                "The text drifts towards the draft's style.",
                "It would, if accepted tokens were not balanced by the others. A "
                "refused token is replaced from what is missing to the target's "
                "distribution.",
            ),
            "B": Option(
                "A few wrong tokens, where the draft was sure.",
                "A token is accepted with probability min(1, p/q). Where the draft is "
                "surer than the target, it is refused as often as needed.",
            ),
            "C": Option(
                "A small error, as the method approximates the target.",
                "It is exact: counted over 200,000 tokens, no difference was found "
                "that chance would not make.",
            ),
            "D": Option(
                "Time only.",
                "Fewer drafts are accepted, so fewer tokens come from each call of the"
                " target. The distribution is the target's, whatever the draft.",
            ),
        },
        right="D",
        hints=(
            "Add up the two ways in which a token can come out.",
            "min(q, p) and max(0, p - q): what is their sum?",
            "The draft q is gone from it.",
        ),
    ),
)
