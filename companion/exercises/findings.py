"""What each finding says to the learner: what is wrong, why, and where to look."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

import torch
from torch import Tensor

from companion.exercises.compare import Mismatch, Verdict, gradient_faults, kind
from companion.exercises.exercise import Answer, Exercise
from companion.exercises.matching import Diagnosis
from companion.exercises.outcome import error_place
from companion.exercises.report import Grid, Report, count
from companion.exercises.trial import Trial, Trials

Lines = Iterable[tuple[str, str]]

_HEADLINES = {
    Verdict.WRONG_TYPE: "not the kind of thing that is asked",
    Verdict.WRONG_SHAPE: "wrong shape",
    Verdict.WRONG_DTYPE: "wrong dtype",
    Verdict.WRONG_DEVICE: "wrong device",
    Verdict.NOT_FINITE: "NaN or infinite",
}


def not_implemented(exercise: Exercise) -> Report:
    """The stub is still there."""
    name = exercise.name
    cost = (
        f"Difficulty {exercise.difficulty} of 5, about "
        f"{count(exercise.minutes, 'minute')}, {count(len(exercise.hints), 'hint')}."
    )
    todo = (
        "Write the body in place of the line that raises NotImplementedError, and run "
        f'the cell again. hint("{name}") helps you start.'
    )
    return Report(
        name,
        Verdict.NOT_IMPLEMENTED,
        exercise.title,
        "not implemented yet",
        (("", cost), ("", todo)),
    )


def passed(trials: Trials) -> Report:
    """The answer is right."""
    exercise = trials.exercise
    says = (
        f"It agrees with the reference on {count(len(trials.shown), 'set')} of inputs"
    )
    if any("flows" in trial.expected.gradients.values() for trial in trials.shown):
        says += " and lets gradients through"
    lines = [("", says + ".")]
    if exercise.properties:
        rules = "; ".join(rule.says for rule in exercise.properties)
        lines.append(("", f"Checked too: {rules}."))
    return Report(exercise.name, Verdict.PASSED, exercise.title, "right", tuple(lines))


def out_of_time(exercise: Exercise, answer: Answer, late: BaseException) -> Report:
    """The time limit stopped the answer."""
    place = error_place(late, answer)
    what = (
        "It was stopped because it did not come to an end. Does some loop never reach "
        "its condition, or wait for something?"
    )
    lines = [("What", what), *([("Where", f"in {place}")] if place else [])]
    return _say(exercise, Verdict.TOOK_TOO_LONG, "takes too long", lines)


def out_of_memory(trials: Trials) -> Report:
    """The answer asks for more memory than is good."""
    trial = trials.shown[0]
    message = textwrap.shorten(str(trial.found.error).strip(), 200)
    what = (
        "It asks for far more memory than these small inputs need"
        + (f": {message}. " if message else ". ")
        + "Look for a size that is multiplied where it should be added, or for a "
        "value that is taken for a size."
    )
    place = error_place(trial.found.error, trial.answer)
    label, inputs = trial.where()
    lines = [("What", what), (label, f"{place}\n{inputs}" if place else inputs)]
    return _say(
        trial.exercise, Verdict.TOO_MUCH_MEMORY, "asks for too much memory", lines
    )


def misconceptions(trials: Trials, fits: list[Diagnosis]) -> Report:
    """A mistake by its name, or several that nothing tells apart."""
    if len(fits) == 1:
        headline, what = fits[0].name, fits[0].says
    else:
        headline = "either " + ", or ".join(fit.name for fit in fits)
        what = "No input tells these apart. " + "\n".join(
            f"Perhaps: {fit.says}" for fit in fits
        )
    return _say(
        trials.exercise,
        Verdict.MISCONCEPTION,
        headline,
        [("What", what), tested(trials), *trials.wrong[0].evidence()],
        grids=trials.wrong[0].grids(),
        misconception=" or ".join(fit.name for fit in fits),
    )


def tested(trials: Trials) -> tuple[str, str]:
    """How many sets of inputs were tried, and how many of them went wrong."""
    total, wrong = len(trials.shown), len(trials.wrong)
    if trials.wrong[0] in trials.fresh:
        fresh = count(len(trials.fresh), "set")
        says = f"{count(total, 'set')} of inputs, all right; of {fresh} more, {wrong} wrong"
    else:
        says = f"{count(total, 'set')} of inputs, {wrong} of them wrong"
    return "Tested", says + ("; the smallest of these:" if wrong > 1 else ":")


def raised(trials: Trials) -> Report:
    """The answer raises an error."""
    trial = trials.wrong[0]
    error = trial.found.error
    place = error_place(error, trial.answer)
    name = type(error).__name__
    message = textwrap.shorten(str(error).strip().partition("\n")[0], 300)
    if isinstance(error, SystemExit):
        what = "It leaves Python with exit() or SystemExit; return a value instead."
    elif isinstance(error, RecursionError):
        what = "It calls itself without end."
    elif isinstance(error, TypeError) and not place:
        what = f"It cannot be called with these arguments: {message}."
    elif message:
        what = f"{name}: {message}"
    else:
        what = f"{name}, without a message."
    if trial.expected.error:
        refusal = type(trial.expected.error).__name__
        what += f" These inputs should be refused with {refusal} instead."
    label, inputs = trial.where()
    where = f"{place}\n{inputs}" if place else inputs
    lines = [("What", what), tested(trials), (label, where)]
    return _say(trials.exercise, Verdict.RAISED, f"raised {name}", lines)


def should_raise(trials: Trials) -> Report:
    """The answer accepts what the reference refuses."""
    trial = trials.wrong[0]
    what = (
        f"Your answer is {kind(trial.found.value)}, but these inputs make no sense and "
        f"should be refused with {type(trial.expected.error).__name__}."
    )
    lines = [("What", what), tested(trials), trial.where()]
    return _say(
        trials.exercise, Verdict.WRONG_VALUES, "accepts what it should refuse", lines
    )


def changed_inputs(trials: Trials) -> Report:
    """The answer works in place on what it is given."""
    trial = trials.wrong[0]
    names = " and ".join(trial.names[i] for i in sorted(trial.changed(trial.found)))
    what = (
        f"After the call {names} is not what it was before: the caller's own tensor was "
        "changed. Operations that end in an underscore, += and x[...] = work in place; "
        "their plain forms make a new tensor."
    )
    lines = [("What", what), tested(trials), trial.where()]
    return _say(trials.exercise, Verdict.CHANGED_INPUTS, "changes its inputs", lines)


def no_gradient(trials: Trials) -> Report:
    """The values are right, and nothing can be learned through them."""
    trial = trials.wrong[0]
    faults = gradient_faults(trial.found, trial.expected)
    which = " and ".join(dict.fromkeys(trial.names[path[0]] for path in faults))
    if "blocked" in faults.values():
        what = (
            f"The values are right, but no gradient flows back to {which}, so that "
            "nothing can be learned through it. .detach(), .item(), .data, "
            "torch.no_grad(), NumPy and a new torch.tensor(...) all cut it."
        )
    else:
        what = (
            f"The values are right, but the gradient of {which} is NaN or infinite. "
            "A value that is thrown away afterwards (by torch.where or masked_fill) "
            "still counts in the gradient, and 0 * NaN is NaN."
        )
    lines = [("What", what), tested(trials), trial.where()]
    return _say(
        trials.exercise, Verdict.NO_GRADIENT, "right values, broken gradient", lines
    )


def wrong_form(trials: Trials, mismatch: Mismatch) -> Report:
    """Not the type, shape, dtype or device that is asked, or not finite."""
    trial = trials.wrong[0]
    what = mismatch.says
    if mismatch.verdict is Verdict.NOT_FINITE:
        what += _where_nothing_is_seen(trial, mismatch)
    lines = [("What", what), tested(trials), trial.where()]
    return _say(trials.exercise, mismatch.verdict, _HEADLINES[mismatch.verdict], lines)


def _where_nothing_is_seen(trial: Trial, mismatch: Mismatch) -> str:
    """A sentence if all that is not finite belongs to fully masked queries."""
    if not isinstance(mismatch.found, Tensor) or mismatch.found.ndim < 2:
        return ""
    rows = (~mismatch.found.isfinite()).any(dim=-1)
    for name, mask in zip(trial.names, trial.inputs, strict=True):
        if isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.ndim > 1:
            unseeing = ~mask.any(dim=-1)
            fits = unseeing.ndim <= rows.ndim and all(
                m in (1, n)
                for m, n in zip(unseeing.shape[::-1], rows.shape[::-1], strict=False)
            )
            if fits and torch.equal(unseeing.expand_as(rows), rows):
                return (
                    f" It is so where {name} is False in a whole row: a query that may "
                    "attend nowhere."
                )
    return ""


def not_repeatable(trials: Trials, trial: Trial) -> Report:
    """The answer is another one each time."""
    what = (
        "Called twice with the same inputs, it gives two answers. Does it draw random "
        "numbers (dropout, a fresh layer), or keep something from one call to the next?"
    )
    return _say(
        trials.exercise,
        Verdict.NOT_REPEATABLE,
        "a different answer each time",
        [("What", what), trial.where()],
    )


def property_broken(trials: Trials, trial: Trial, broken: tuple[str, ...]) -> Report:
    """The answer agrees with the reference and lacks a property all the same."""
    what = (
        "It agrees with the reference on the inputs as they are, but this should hold "
        f"and does not: {'; '.join(broken)}."
    )
    return _say(
        trials.exercise,
        Verdict.PROPERTY_BROKEN,
        "right numbers, but something does not hold",
        [("What", what), trial.where()],
        broken=broken,
    )


def wrong_values(trials: Trials, sign: str, broken: tuple[str, ...]) -> Report:
    """The numbers are wrong, and no known mistake gives these."""
    lines = [("What", sign)]
    if broken:
        lines.append(("Broken", f"This should hold and does not: {'; '.join(broken)}."))
    trial = trials.wrong[0]
    return _say(
        trials.exercise,
        Verdict.PROPERTY_BROKEN if broken else Verdict.WRONG_VALUES,
        "wrong numbers",
        [*lines, tested(trials), *trial.evidence()],
        grids=trial.grids(),
        broken=broken,
    )


def _say(
    exercise: Exercise,
    verdict: Verdict,
    headline: str,
    lines: Lines,
    grids: tuple[Grid, ...] = (),
    misconception: str | None = None,
    broken: tuple[str, ...] = (),
) -> Report:
    """The report of a wrong answer: it ends with what to do next."""
    todo = f'Change it and check again. hint("{exercise.name}") helps.'
    return Report(
        exercise.name,
        verdict,
        exercise.title,
        headline,
        (*lines, ("Next", todo)),
        grids,
        misconception,
        broken,
    )
