"""Choice questions on chapter 8.4, MAE."""

from __future__ import annotations

from companion.exercises.questions import Choice, Option

EXERCISES: tuple[Choice, ...] = (
    Choice(
        name="why_so_dark",
        chapter="mae",
        title="Why so dark?",
        difficulty=1,
        minutes=1,
        trains="knows what a picture's neighbors give away",
        question="BERT hides 15 % of the words. Why does MAE hide 75 % of a picture?",
        options={
            "A": Option(
                "Because pictures have more tokens than sentences.",
                "A ViT-B sees 196, about as many as a paragraph. The number is not the"
                " reason.",
            ),
            "B": Option(
                "Because neighbors nearly determine a pixel.",
                "With few small holes, interpolation removes over two thirds of the "
                "error without learning anything. A network trained on that becomes a "
                "good interpolator.",
            ),
            "C": Option(
                "Because the encoder is quicker with a quarter of the tokens.",
                "It is, and that is welcome. But at 90 % it would be quicker still, "
                "and its features are worse.",
            ),
            "D": Option(
                "Because the decoder is too small for more.",
                "The decoder gets all places at every share. It can be small since it "
                "is thrown away.",
            ),
        },
        right="B",
        hints=(
            "What can be filled in with no model at all?",
            "At which share does that fail?",
            "A task teaches what is needed to solve it.",
        ),
    ),
    Choice(
        name="loss_on_visible_patches",
        chapter="mae",
        title="Nonsense where it could see",
        difficulty=2,
        minutes=1,
        trains="follows a loss to what is never asked",
        question="MAE's prediction for the *visible* patches is worse than for hidden ones,"
        " though it has seen them. Why?",
        options={
            "A": Option(
                "They lose their pixels in the encoder.",
                "They might be kept, if anyone asked. Nothing in the encoder throws "
                "them away by design.",
            ),
            "B": Option(
                "The decoder gets a mask token there.",
                "It gets the encoder's output there. Mask tokens stand at the hidden "
                "places.",
            ),
            "C": Option(
                "Visible patches are harder, as they hold the strokes.",
                "They are chosen at random, like the hidden ones.",
            ),
            "D": Option(
                "The loss never looks at them.",
                "What is predicted there gets no gradient, so that anything may come "
                "out. If it were asked for, the encoder would have to carry pixels "
                "through all its layers.",
            ),
        },
        right="D",
        hints=(
            "Over which patches is the loss a mean?",
            "What does a prediction learn that gets no gradient?",
            "What would it cost to ask for a copy?",
        ),
    ),
    Choice(
        name="pale_strokes",
        chapter="mae",
        title="Pale strokes",
        difficulty=2,
        minutes=1,
        trains="reads a loss off a picture",
        question="From a quarter of the patches the model paints pale, blurred strokes. "
        "What is the reason?",
        options={
            "A": Option(
                "The mean of two possible strokes has the least squared error.",
                "Where two continuations are equally likely, their mean is two pale "
                "ones. A model that must be sharp needs another loss, or has to "
                "sample.",
            ),
            "B": Option(
                "It was trained for too short.",
                "Longer training helps the error, and where two digits remain possible"
                " it stays pale.",
            ),
            "C": Option(
                "Its patches are painted one by one, without knowing each other.",
                "They come from one decoder, in which all places see each other. Each "
                "is still its own mean.",
            ),
            "D": Option(
                "The positions of the patches are imprecise.",
                "They are fixed, and each place has its own. Strokes are where they "
                "belong.",
            ),
        },
        right="A",
        hints=(
            "Two digits are equally likely. What should a pixel be?",
            "For which answer is the squared error least?",
            "Draw the mean of a 3 and an 8.",
        ),
    ),
    Choice(
        name="pixels_in_the_first_row",
        chapter="mae",
        title="86 % with a linear probe",
        difficulty=2,
        minutes=1,
        trains="asks for the baseline",
        question="A linear probe on MAE's features gets 86 %. What has to stand beside that"
        " number before it says anything?",
        options={
            "A": Option(
                "The loss of the pre-training.",
                "It says how well it paints. With 25 % hidden it paints almost "
                "perfectly, and its features are worse.",
            ),
            "B": Option(
                "The accuracy of the paper's model on ImageNet.",
                "Another model on other pictures. It says nothing of these digits.",
            ),
            "C": Option(
                "The same probe on raw pixels and on an untrained encoder.",
                "90 % and 79 %. Random features are features too, and digits in the "
                "middle of a black field are told well by pixels.",
            ),
            "D": Option(
                "The number of parameters of the encoder.",
                "It helps to compare two encoders. But first: what does one get "
                "without any training?",
            ),
        },
        right="C",
        hints=(
            "What would you get with no training at all?",
            "And with no network?",
            "Look at the first rows of the table.",
        ),
    ),
)
