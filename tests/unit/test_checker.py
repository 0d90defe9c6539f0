"""The checker on an invented exercise: verdicts, reports, mistakes and symptoms."""

from __future__ import annotations

import inspect
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from companion.exercises import (
    Exercise,
    Misconception,
    Property,
    Verdict,
    check,
    hint,
    registry,
    solution,
)
from companion.exercises.checker import draw_inputs
from companion.exercises.compare import compare
from companion.exercises.composition import pairs
from companion.exercises.diagnosis import diagnose
from companion.exercises.registry import find_exercise

# An invented exercise


def weigh(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax of the visible scores; a row that sees nothing is all zero."""
    lowest = torch.finfo(scores.dtype).min
    weights = scores.masked_fill(~mask, lowest).softmax(dim=-1)
    return weights.masked_fill(~mask, 0.0)


def down_the_columns(scores, mask):
    return weigh(scores.mT, mask.mT).mT


def nan_for_empty_rows(scores, mask):
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)


def multiplies_by_the_mask(scores, mask):
    return (scores * mask).softmax(dim=-1)


def only_square(scores, mask):
    return weigh(scores + scores.mT, mask)


def draw(generator):
    masks = (
        [[1, 0], [1, 1]],
        [[0, 0, 0], [1, 1, 0], [1, 1, 1]],
        [[1, 0, 1], [1, 1, 0]],
    )
    masks = [torch.tensor(mask, dtype=torch.bool) for mask in masks]
    return [(torch.randn(m.shape, generator=generator), m) for m in masks]


def hides(answer, inputs):
    return not answer(*inputs)[~inputs[1]].any()


WEIGH = Exercise(
    name="weigh",
    chapter="invented",
    title="Turn scores into weights",
    difficulty=2,
    minutes=5,
    reference=weigh,
    inputs=draw,
    properties=(Property("hidden keys get no weight", hides),),
    misconceptions=(
        Misconception("normalizes columns", down_the_columns, "Columns sum to 1."),
        Misconception("NaN in empty rows", nan_for_empty_rows, "0 / 0."),
        Misconception("a score of 0", multiplies_by_the_mask, "exp(0) is 1."),
        Misconception("adds the transpose", only_square, "Scores are not symmetric."),
    ),
    hints=("Which axis holds the keys?", "Fill before the softmax."),
)


def on_weights(change):
    """An answer that does something to the right weights."""
    return lambda scores, mask: change(weigh(scores, mask))


def report(answer):
    return check(answer, WEIGH)


def in_place(scores, mask):
    return weigh(scores, mask) + scores.zero_()


def refuses_gradients(scores, mask):
    return torch.from_numpy(weigh(scores, mask).numpy())


def nan_gradient(scores, mask):
    return weigh(scores, mask) + (scores - scores).sqrt()


def stub(*_):
    raise NotImplementedError("your turn")


def not_by_pytorch(scores, mask):
    raise NotImplementedError("\"frac\" not implemented for 'Long'")


def leaves(scores, mask):
    raise SystemExit(1)


def endless(scores, mask):
    return endless(scores, mask)


@pytest.mark.parametrize(
    ("answer", "verdict", "words"),
    [
        (weigh, Verdict.PASSED, "3 sets of inputs"),
        (
            lambda s, m: torch.where(m, s, -1e30).softmax(-1) * m,
            Verdict.PASSED,
            "lets gradients through",
        ),
        (stub, Verdict.NOT_IMPLEMENTED, "Difficulty 2 of 5, about 5 minutes, 2 hints"),
        (not_by_pytorch, Verdict.RAISED, "not implemented for 'Long'"),
        (leaves, Verdict.RAISED, "leaves, line 2: raise SystemExit(1)"),
        (endless, Verdict.RAISED, "calls itself without end"),
        (lambda s, m: s @ m, Verdict.RAISED, "on scores (2, 2), mask (2, 2) bool"),
        (lambda s: s, Verdict.RAISED, "cannot be called with these arguments"),
        (lambda s, m: None, Verdict.WRONG_TYPE, "Is a return missing?"),
        (on_weights(lambda w: w.tolist()), Verdict.WRONG_TYPE, "a list of 2"),
        (lambda s, m: 1.5, Verdict.WRONG_TYPE, "a float; a tensor is expected"),
        (refuses_gradients, Verdict.NO_GRADIENT, "no gradient flows back to scores"),
        (on_weights(lambda w: w.detach().numpy()), Verdict.WRONG_TYPE, "NumPy"),
        (on_weights(lambda w: (w, w)), Verdict.WRONG_TYPE, "Its part 1 is right"),
        (on_weights(lambda w: w.sum()), Verdict.WRONG_SHAPE, "a single number"),
        (on_weights(lambda w: w[None]), Verdict.WRONG_SHAPE, "axes of size 1"),
        (on_weights(lambda w: w[:, :1]), Verdict.WRONG_SHAPE, "Axis 1 is 1"),
        (on_weights(torch.Tensor.double), Verdict.WRONG_DTYPE, "float64"),
        (on_weights(lambda w: w.to("meta")), Verdict.WRONG_DEVICE, "device meta"),
        (
            on_weights(lambda w: w.masked_fill(w == 1, torch.nan)),
            Verdict.NOT_FINITE,
            "NaN in 1 of 4 numbers, the first at [0, 0]",
        ),
        (in_place, Verdict.CHANGED_INPUTS, "scores is not what it was before"),
        (on_weights(torch.Tensor.detach), Verdict.NO_GRADIENT, ".detach()"),
        (nan_gradient, Verdict.NO_GRADIENT, "the gradient of scores is NaN"),
        (
            on_weights(lambda w: nn.functional.dropout(w, 0.5)),
            Verdict.NOT_REPEATABLE,
            "two answers",
        ),
        (lambda s, m: s.softmax(-1), Verdict.PROPERTY_BROKEN, "depend on mask"),
        (on_weights(lambda w: w * 8), Verdict.WRONG_VALUES, "one times 8."),
        (on_weights(lambda w: -w), Verdict.WRONG_VALUES, "opposite sign"),
        (on_weights(lambda w: w + 0.5), Verdict.PROPERTY_BROKEN, "plus 0.5"),
        (on_weights(lambda w: w.flip(-1)), Verdict.PROPERTY_BROKEN, "along axis -1"),
        (on_weights(lambda w: w.clamp(max=0.9)), Verdict.WRONG_VALUES, "Found"),
        (on_weights(lambda w: w * 1.001), Verdict.WRONG_VALUES, "times 1.001"),
        (lambda s, m: s * m, Verdict.WRONG_VALUES, "numbers should sum"),
        (lambda s, m: weigh(s * 1.001, m), Verdict.WRONG_VALUES, "are close"),
        (lambda s, m: weigh(s, m) + s * ~m, Verdict.PROPERTY_BROKEN, "mask is False"),
    ],
)
def test_each_verdict(answer, verdict, words):
    found = report(answer)
    assert found.verdict is verdict
    assert found.passed is (verdict is Verdict.PASSED)
    assert words in " ".join(str(found).split())
    assert str(report(answer)) == repr(found) == found.text
    assert max(map(len, found.text.splitlines())) <= 88


def test_whole_report_of_a_misconception():
    by_another_way = on_weights(lambda w: w)  # same mistake, written differently
    assert report(by_another_way).passed

    def learners(scores, mask):
        big = torch.where(mask, scores, -torch.inf).exp()
        return big / big.sum(-1, keepdim=True)

    found = report(learners)
    assert (found.verdict, found.misconception) == (
        Verdict.MISCONCEPTION,
        "NaN in empty rows",
    )
    assert str(found) == (
        "✗ weigh (Turn scores into weights): NaN in empty rows\n"
        "  What      0 / 0.\n"
        "  Tested    3 sets of inputs, 1 of them wrong:\n"
        "  Where     on scores (3, 3), mask (3, 3) bool\n"
        "  Found     Your answer is NaN in the whole row [0]. NaN comes from 0 / 0, from\n"
        "            inf - inf, or from 0 * inf; a softmax over nothing but -inf is such\n"
        "            a 0 / 0.\n"
        '  Next      Change it and check again. hint("weigh") helps.'
    )


def test_a_misconception_may_raise_on_some_inputs():
    found = report(lambda s, m: weigh(s.mT + s, m))
    assert found.misconception == "adds the transpose"
    # The same error alone is no evidence of the same mistake.
    other = report(lambda s, m: weigh(s + s[:, :1].expand(-1, 7), m))
    assert (other.verdict, other.misconception) == (Verdict.RAISED, None)


def test_an_error_names_the_learners_line_not_the_librarys():
    def answer(scores, mask):
        weights = scores.softmax(-1)
        return torch.nn.functional.linear(weights, torch.ones(5, 5))

    found = str(report(answer))
    assert "answer, line 3: return torch.nn.functional.linear" in found


def test_an_answer_that_remembers_is_not_repeatable():
    calls = []

    def counts(scores, mask):
        calls.append(None)
        return weigh(scores, mask) * len(calls)

    assert "from one call to the next" in " ".join(str(report(counts)).split())


class Odd:
    """Compares with nothing and copies with nothing."""

    __hash__ = None

    def __eq__(self, other):
        raise ArithmeticError

    def __deepcopy__(self, memo):
        raise ArithmeticError


def nested():
    inner = []
    inner.append(inner)
    return inner


@pytest.mark.parametrize(
    "odd",
    [
        Odd(),
        nested(),
        {"a": Odd()},
        (i for i in range(3)),
        1j,
        "text",
        weigh,
        nn.Linear(2, 2),
        torch.ones(2, 2).to_sparse(),
        torch.ones(2, 2, dtype=torch.complex64),
        torch.ones(0),
        torch.ones(1, 1, 1, 1, 1),
        nn.Parameter(torch.ones(2, 2)),
        torch.ones(2, 2, dtype=torch.float16),
        np.ones((2, 2)),
        np.float32(3),
    ],
    ids=lambda odd: type(odd).__name__,
)
def test_odd_answers_get_a_report(odd):
    assert not report(lambda s, m: odd).passed
    numeric = replace(
        WEIGH,
        reference=lambda s, m: s.shape[0] * 0.5,
        properties=(Property("is small", lambda a, i: a(*i) < 2),),
        misconceptions=(),
    )
    assert not check(lambda s, m: odd, numeric).passed


def test_a_keyboard_interrupt_passes_through():
    def stopped(scores, mask):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        report(stopped)


def test_the_reference_is_safe_from_the_candidate():
    def cheats(scores, mask):
        mask.fill_(True)
        return scores.zero_()

    assert report(cheats).verdict is Verdict.CHANGED_INPUTS
    inputs = draw_inputs(WEIGH)
    before = [(s.clone(), m.clone()) for s, m in inputs]
    diagnose(WEIGH, cheats, inputs, [])
    assert compare(inputs, before, 0.0) is None


def test_checking_leaves_the_random_numbers_and_grad_mode_alone():
    def draws(scores, mask):
        torch.manual_seed(5), np.random.seed(5), random.seed(5)
        torch.set_grad_enabled(False)
        return weigh(scores, mask)

    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    states = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
    report(draws)
    assert torch.equal(states[0], torch.get_rng_state())
    assert (states[1] == np.random.get_state()[1]).all()
    assert states[2] == random.getstate()
    assert torch.is_grad_enabled()


def test_only_the_first_call_prints(capsys):
    def prints(scores, mask):
        print(tuple(scores.shape))
        return weigh(scores, mask)

    report(prints)
    assert capsys.readouterr().out == "(2, 2)\n"


def test_a_property_catches_what_the_inputs_do_not():
    never = Property("the future is hidden", lambda answer, inputs: False)
    found = check(weigh, replace(WEIGH, properties=(never,)))
    assert found.verdict is Verdict.PROPERTY_BROKEN
    assert found.broken == ("the future is hidden",)


def test_the_exercise_may_come_first_or_last(monkeypatch):
    monkeypatch.setattr(registry, "all_exercises", lambda: {"weigh": WEIGH})
    texts = {
        str(check(weigh)),
        str(check(weigh, "weigh")),
        str(check(weigh, exercise="invented.weigh")),
        str(check("invented.weigh", weigh)),
        str(check("weigh", weigh)),
        str(check(WEIGH, weigh)),
        str(check(weigh, WEIGH)),
    }
    assert len(texts) == 1 and texts.pop().startswith("✓ weigh")
    with pytest.raises(TypeError, match="candidate is missing"):
        check(WEIGH)
    with pytest.raises(ValueError, match="did you mean 'weigh'"):
        check("wiegh", weigh)


def test_an_alias_finds_its_exercise():
    assert find_exercise("attention.scaled_dot_product").name == "attend"


def test_a_module_class_in_place_of_a_function():
    class Weigh(nn.Module):
        def forward(self, scores, mask):
            return weigh(scores, mask)

    assert report(Weigh).passed
    assert report(Weigh()).passed


# Two mistakes, and mistakes that nothing tells apart


def soft(scores: Tensor) -> Tensor:
    """The exercise: one line."""
    weights = scores.softmax(dim=-1)
    return weights / 2


def soft_columns(scores):
    weights = scores.softmax(dim=-2)
    return weights / 2


def soft_doubled(scores):
    weights = scores.softmax(dim=-1)
    return weights * 2


def soft_shifted(scores):
    return soft(scores) + 1


SOFT = replace(
    WEIGH,
    name="soft",
    reference=soft,
    inputs=lambda g: [(torch.randn(s, generator=g),) for s in ((2, 3), (4, 3))],
    properties=(),
    misconceptions=(
        Misconception("columns", soft_columns, "Columns sum."),
        Misconception("doubles", soft_doubled, "It doubles."),
        Misconception("shifts", soft_shifted, "It shifts."),
    ),
)


def test_two_edits_of_the_reference_are_told_together():
    found = check(lambda s: s.softmax(0) * 2, SOFT)
    assert found.verdict is Verdict.MISCONCEPTION
    assert found.misconception == "columns and doubles"
    text = " ".join(str(found).split())
    assert "Two mistakes at once. First: Columns sum. Second: It doubles." in text


def test_a_mistake_around_another_is_told_with_it():
    found = check(lambda s: s.softmax(0) / 2 + 1, SOFT)
    assert found.misconception == "columns and shifts"
    assert check(lambda s: s.softmax(-1) * 2 + 1, SOFT).misconception == (
        "doubles and shifts"
    )


def test_which_pairs_there_are():
    names = {tuple(m.name for m in pair.mistakes) for pair in pairs(SOFT)}
    assert names == {
        ("columns", "doubles"),
        ("columns", "shifts"),
        ("doubles", "shifts"),
    }
    same_place = replace(
        SOFT,
        misconceptions=(
            Misconception("doubles", soft_doubled, "It doubles."),
            Misconception("halves more", lambda s: s.softmax(-1) / 4, "It halves."),
        ),
    )
    assert pairs(same_place) == ()


def test_mistakes_that_no_input_tells_apart_are_both_named():
    twins = replace(
        SOFT,
        misconceptions=(
            Misconception("doubles", soft_doubled, "It doubles."),
            Misconception("adds itself", lambda s: 2 * s.softmax(-1), "It adds."),
            SOFT.misconceptions[0],
        ),
    )
    found = check(soft_doubled, twins)
    assert found.misconception == "doubles or adds itself"
    assert "either doubles, or adds itself" in str(found)
    assert "No input tells these apart" in str(found)


def test_a_mistake_that_fits_the_shown_inputs_alone_is_not_named():
    shown = draw_inputs(SOFT)

    def looks_like_columns(scores):
        known = any(torch.equal(scores, inputs[0]) for inputs in shown)
        return soft_columns(scores) if known else soft(scores) * 3

    found = check(looks_like_columns, SOFT)
    assert found.verdict is not Verdict.MISCONCEPTION


def test_an_answer_that_is_right_on_the_shown_inputs_alone_fails():
    shown = draw_inputs(SOFT)

    def knows_them(scores):
        known = any(torch.equal(scores, inputs[0]) for inputs in shown)
        return soft(scores) * (1 if known else 3)

    found = check(knows_them, SOFT)
    assert not found.passed
    assert "2 sets of inputs, all right; of 4 sets more, 4 wrong" in " ".join(
        str(found).split()
    )


# What an answer looks at and should not


def causal(x: Tensor) -> Tensor:
    """Running mean over the length of (batch, length, width)."""
    length = torch.arange(1, x.shape[1] + 1, device=x.device)
    return x.cumsum(1) / length[:, None]


LEAKY = replace(
    WEIGH,
    reference=causal,
    inputs=lambda g: [(torch.randn(s, generator=g),) for s in ((2, 3, 2), (3, 4, 5))],
    properties=(),
    misconceptions=(),
)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x: causal(x) + x.sum(1, keepdim=True) / 7, "depends on the future"),
        (lambda x: causal(x) * x.mean(0, keepdim=True), "depends on the batch"),
        (
            lambda x: causal(x) * x.mean(2, keepdim=True),
            "mixes what is independent: when the last entry of x along axis 2",
        ),
    ],
)
def test_leaks(answer, words):
    assert words in " ".join(str(check(answer, LEAKY)).split())


def test_nan_of_a_query_that_sees_nothing():
    found = check(nan_for_empty_rows, replace(WEIGH, misconceptions=()))
    assert found.verdict is Verdict.NOT_FINITE
    assert "a query that may attend nowhere" in " ".join(str(found).split())


# As a page


def test_the_page_says_what_the_text_says():
    found = report(on_weights(lambda w: w * 8))
    bundle = found._repr_mimebundle_()
    assert bundle["text/plain"] == str(found)
    page = bundle["text/html"]
    assert page.count("<table") == 4 and "<caption" in page
    assert page.count("outline:2px") == int(found.grids[-1].wrong.sum())
    for words in ("wrong numbers", "times 8.", "3 sets of inputs", "<code>hint("):
        assert words in page, words
    assert "<script" not in page and "http" not in page
    assert report(weigh)._repr_mimebundle_()["text/html"].count("<table") == 0


def test_the_page_escapes_what_learners_write():
    def raises(scores, mask):
        raise ValueError("<b>x</b> & y")

    assert (
        "&lt;b&gt;x&lt;/b&gt; &amp; y"
        in report(raises)._repr_mimebundle_()["text/html"]
    )


def test_bad_use_is_explained(monkeypatch):
    monkeypatch.setattr(registry, "all_exercises", lambda: {"weigh": WEIGH})
    assert check(weigh).passed
    assert check(lambda s, m: weigh(s, m), "invented.weigh").passed
    with pytest.raises(TypeError, match=r"check\(weigh\), not its name 'weigh'"):
        check("weigh")
    with pytest.raises(TypeError, match="without calling it"):
        check(torch.ones(2))
    with pytest.raises(ValueError, match="is a lambda, which has no name"):
        check(lambda s, m: s)
    with pytest.raises(ValueError, match="a Linear, which has no name"):
        check(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="did you mean 'weigh'"):
        check(weigh, "wiegh")
    with pytest.raises(ValueError, match="the exercises are 'weigh'"):
        check(weigh, "elsewhere.something")
    with pytest.raises(ValueError, match=r"no exercise is named 'wrong\.weigh'"):
        check(weigh, "wrong.weigh")
    with pytest.raises(TypeError, match="exercise must be"):
        check(weigh, 3)


def test_hints_come_one_after_the_other(monkeypatch):
    monkeypatch.setattr(registry, "all_exercises", lambda: {"weigh": WEIGH})
    monkeypatch.setattr("companion.exercises.checker._hints_given", {})
    assert repr(hint(weigh)) == (
        "Hint 1 of 2 for weigh\n"
        "  Which axis holds the keys?\n"
        '  hint("weigh") says more.'
    )
    assert "Fill before" in hint("weigh")
    assert "Fill before" in hint("weigh"), "the last hint stays"
    assert "Which axis" in hint("weigh", level=1)
    assert 'solution("weigh") shows' in hint(WEIGH, level=2)
    with pytest.raises(ValueError, match="level must be from 1 to 2"):
        hint("weigh", level=3)
    assert repr(solution("weigh")) == inspect.getsource(weigh).rstrip()


def test_names_are_unique_over_the_book(monkeypatch):
    class Chapter:
        EXERCISES = (WEIGH,)

    monkeypatch.setattr(registry.importlib, "import_module", lambda name: Chapter)
    with pytest.raises(ValueError, match="two exercises are named 'weigh'"):
        registry.all_exercises.__wrapped__()


# An exercise whose answer is a module, and one with several values


class Double(nn.Module):
    """x W^T, twice."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.W = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.W(self.W(x))


class Once(Double):
    def forward(self, x):
        return self.W(x)


def run_module(answer, inputs):
    x, weight = inputs
    layer = answer(x.shape[-1]).to(x.device)
    with torch.no_grad():
        layer.W.weight.copy_(weight)
    return layer(x)


def test_a_module_as_answer():
    exercise = replace(
        WEIGH,
        reference=Double,
        run=run_module,
        inputs=lambda g: [
            (torch.randn(2, n, generator=g), torch.randn(n, n, generator=g))
            for n in (2, 3)
        ],
        properties=(),
        misconceptions=(Misconception("applies W once", Once, "It runs once."),),
        input_names=("x", "weight"),
    )

    class Renamed(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.V = nn.Linear(width, width)

    class Stub(Double):
        def forward(self, x):
            raise NotImplementedError

    class Transposed(Double):
        def forward(self, x):
            return x @ self.W.weight @ self.W.weight

    assert check(Double, exercise).passed
    assert check(Once, exercise).misconception == "applies W once"
    assert check(Stub, exercise).verdict is Verdict.NOT_IMPLEMENTED
    assert "no attribute 'W'" in str(check(Renamed, exercise))
    assert "on x (2, 2), weight (2, 2)" in str(check(Transposed, exercise))


def describe(x: Tensor, n: int) -> tuple[Tensor, dict, int]:
    """A tensor, named things and a number; refuses a negative n."""
    if n < 0:
        raise ValueError("n must not be negative")
    return x * n, {"name": "x", "mean": float(x.mean())}, n


def test_several_values_numbers_and_refusals():
    exercise = replace(
        WEIGH,
        reference=describe,
        inputs=lambda g: [(torch.randn(3, generator=g), n) for n in (-1, 2, 3)],
        properties=(),
        misconceptions=(),
    )

    def told(answer):
        found = check(answer, exercise)
        return found.verdict, " ".join(str(found).split())

    assert check(describe, exercise).passed
    assert check(lambda x, n: [*describe(x, n)], exercise).passed, "a list will do"
    verdict, text = told(lambda x, n: describe(x, abs(n)))
    assert verdict is Verdict.WRONG_VALUES and "refused with ValueError" in text
    verdict, text = told(lambda x, n: describe(x, n) if n > 0 else 1 / 0)
    assert verdict is Verdict.RAISED and "refused with ValueError instead" in text

    def part(index, change):
        def answer(x, n):
            values = list(describe(x, n))
            values[index] = change(values[index])
            return tuple(values)

        return told(answer)

    verdict, text = part(0, lambda t: t * 2)
    assert verdict is Verdict.WRONG_VALUES
    assert "Part 1 of your answer is the expected one times 2." in text
    verdict, text = part(1, lambda d: {**d, "mean": d["mean"] + 1})
    assert "'mean' of part 2 of your answer is not the expected one" in text
    verdict, text = part(1, lambda d: {"name": "x"})
    assert "a dict with the keys 'name', 'mean' is expected" in text
    verdict, text = part(2, str)
    assert verdict is Verdict.WRONG_TYPE and "a str; an int is expected" in text
    verdict, text = part(2, lambda n: float("nan"))
    assert verdict is Verdict.NOT_FINITE
    verdict, text = told(lambda x, n: describe(x, n)[:2])
    assert verdict is Verdict.WRONG_TYPE and "a tuple of 3 is expected" in text


# Symptoms, on plain tensors


def told_about(reference, answer, sizes=((2, 3), (4, 5), (3, 4))):
    exercise = replace(
        WEIGH,
        reference=reference,
        inputs=lambda g: [(torch.randn(s, generator=g),) for s in sizes],
        properties=(),
        misconceptions=(),
    )
    return " ".join(str(check(answer, exercise)).split())


def identity(x: Tensor) -> Tensor:
    """A copy."""
    return x.clone()


SQUARE = ((3, 3), (4, 4))


@pytest.mark.parametrize(
    ("reference", "answer", "sizes", "words"),
    [
        (identity, lambda x: x * x.shape[-1], ((2, 3), (4, 5)), "times x.shape[-1]."),
        (
            identity,
            lambda x: x / x.shape[-2] ** 0.5,
            ((2, 3), (4, 5)),
            "divided by the root of x.shape[-2].",
        ),
        (identity, lambda x: x.mT.clone(), SQUARE, "axes -2 and -1 swapped"),
        (identity, lambda x: x.mT.clone(), ((2, 3),), "once turned"),
        (identity, lambda x: x.roll(1, -1), SQUARE, "moved by +1 along axis -1"),
        (identity, lambda x: x.mT.reshape(x.shape), ((2, 3),), "in the wrong places"),
        (identity, lambda x: x + x.mean(), SQUARE, "the same number everywhere"),
        (identity, lambda x: x * 0 + x.sum(), SQUARE, "same number everywhere"),
        (identity, lambda x: x * 0 + 2, SQUARE, "does not depend on x"),
        (lambda x: -x, lambda x: x + 0, SQUARE, "is the input x itself"),
        (lambda x: x**2, lambda x: x + 0, SQUARE, "is the input x itself"),
        (
            lambda x: x.softmax(-1),
            lambda x: x.softmax(0),
            SQUARE,
            "sums to 1 along axis -2; it should do so along axis -1",
        ),
        (lambda x: x.softmax(-1), lambda x: x.exp(), SQUARE, "should sum to 1; yours"),
        (lambda x: x > 0, lambda x: x <= 0, SQUARE, "True and False exchanged"),
        (
            lambda x: x.cumsum(-1),
            lambda x: x.cumsum(-1) * x / x[:, :1],
            SQUARE,
            "The first entries along axis -1 are right",
        ),
        (
            identity,
            lambda x: torch.cat([x[:-1], x[-1:] ** 2]),
            SQUARE,
            "Only the last entries along axis -2 are wrong",
        ),
        (lambda x: x.sum(), lambda x: x.sum() * x.max(), SQUARE, "Expected"),
    ],
)
def test_symptoms(reference, answer, sizes, words):
    assert words in told_about(reference, answer, sizes)


def test_a_large_answer_shows_its_worst_number():
    text = told_about(identity, lambda x: x + 9 * (x == x.max()), ((9, 9),))
    assert "1 of 81 numbers are wrong; at [" in text


def test_equal_infinities_are_not_the_worst_number():
    text = told_about(
        lambda x: x.masked_fill(x > 0, -torch.inf),
        lambda x: x.masked_fill(x > 0, -torch.inf) + 1.0 * (x == x.min()),
        ((9, 9),),
    )
    assert "1 of 81 numbers are wrong" in text
    assert "inf" not in text
