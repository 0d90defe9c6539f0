"""Which mistake a wrong answer is: from errors over form to numbers, one at a time."""

from __future__ import annotations

import textwrap

from torch import Tensor

from companion.exercises.compare import Mismatch, Verdict, gradient_faults, kind
from companion.exercises.exercise import Answer, Exercise, Inputs, Misconception
from companion.exercises.outcome import error_place, holds
from companion.exercises.report import Report, count, paragraph
from companion.exercises.symptoms import Case, symptom
from companion.exercises.trial import Trial

_HEADLINES = {
    Verdict.WRONG_TYPE: "not the kind of thing that is asked",
    Verdict.WRONG_SHAPE: "wrong shape",
    Verdict.WRONG_DTYPE: "wrong dtype",
    Verdict.WRONG_DEVICE: "wrong device",
    Verdict.NOT_FINITE: "NaN or infinite",
}


def diagnose(exercise: Exercise, answer: Answer, cases: list[Inputs]) -> Report:
    """Try ``answer`` on every set of inputs and report the first thing to know."""
    trials = []
    for inputs in cases:
        trial = Trial.of(exercise, answer, inputs, quiet=bool(trials))
        if _is_stub(trial.found.error):
            return _not_implemented(exercise)
        trials.append(trial)
    trials.sort(key=lambda trial: trial.size)
    wrong = [trial for trial in trials if not trial.passes()]
    if not wrong:
        return (
            _not_repeatable(trials)
            or _property_broken(trials)
            or _passed(exercise, trials)
        )
    misconception = _misconception(trials, wrong)
    if misconception is not None:
        return _say(
            wrong[0],
            Verdict.MISCONCEPTION,
            misconception.name,
            ("What", misconception.says),
            *wrong[0].evidence(),
            misconception=misconception.name,
        )
    return _explain(trials, wrong)


def _is_stub(error: BaseException | None) -> bool:
    # PyTorch raises NotImplementedError too, for a dtype that an operation lacks.
    return isinstance(error, NotImplementedError) and not any(
        sign in str(error) for sign in ("not implemented for", "Could not run")
    )


def _not_implemented(exercise: Exercise) -> Report:
    name = exercise.name
    cost = (
        f"Difficulty {exercise.difficulty} of 5, about "
        f"{count(exercise.minutes, 'minute')}, {count(len(exercise.hints), 'hint')}."
    )
    todo = (
        "Write the body in place of the line that raises NotImplementedError, and run "
        f'the cell again. hint("{name}") helps you start.'
    )
    return _report(
        exercise,
        Verdict.NOT_IMPLEMENTED,
        "not implemented yet",
        ("", cost),
        ("", todo),
    )


def _passed(exercise: Exercise, trials: list[Trial]) -> Report:
    says = f"It agrees with the reference on {count(len(trials), 'set')} of inputs"
    if any("flows" in trial.expected.gradients.values() for trial in trials):
        says += " and lets gradients through"
    lines = [("", says + ".")]
    if exercise.properties:
        rules = "; ".join(rule.says for rule in exercise.properties)
        lines.append(("", f"Checked too: {rules}."))
    return _report(exercise, Verdict.PASSED, "right", *lines)


def _misconception(trials: list[Trial], wrong: list[Trial]) -> Misconception | None:
    """The misconception whose code does what the answer does, on all inputs."""
    for misconception in trials[0].exercise.misconceptions:
        alike = {id(t): t.looks_like(misconception.wrong) for t in trials}
        if False not in alike.values() and any(alike[id(t)] for t in wrong):
            return misconception
    return None


def _explain(trials: list[Trial], wrong: list[Trial]) -> Report:
    """What is wrong on the smallest inputs that fail."""
    trial = wrong[0]
    found, expected = trial.found, trial.expected
    if found.error and type(found.error) is not type(expected.error):
        return _raised(trial)
    if expected.error:
        return _should_raise(trial)
    if trial.changed(found):
        return _changed_inputs(trial)
    mismatch = trial.mismatch()
    if mismatch is None:
        return _no_gradient(trial)
    if mismatch.verdict is not Verdict.WRONG_VALUES:
        return _say(
            trial,
            mismatch.verdict,
            _HEADLINES[mismatch.verdict],
            ("What", mismatch.says),
            trial.where(),
        )
    return _not_repeatable([trial]) or _wrong_values(trials, wrong, mismatch)


def _raised(trial: Trial) -> Report:
    error = trial.found.error
    place = error_place(error, trial.answer)
    name = type(error).__name__
    message = str(error).strip().partition("\n")[0]
    message = textwrap.shorten(message, 300)
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
    return _say(trial, Verdict.RAISED, f"raised {name}", ("What", what), (label, where))


def _should_raise(trial: Trial) -> Report:
    what = (
        f"Your answer is {kind(trial.found.value)}, but these inputs make no sense and "
        f"should be refused with {type(trial.expected.error).__name__}."
    )
    return _say(
        trial,
        Verdict.WRONG_VALUES,
        "accepts what it should refuse",
        ("What", what),
        trial.where(),
    )


def _changed_inputs(trial: Trial) -> Report:
    names = " and ".join(trial.names[i] for i in sorted(trial.changed(trial.found)))
    what = (
        f"After the call {names} is not what it was before: the caller's own tensor was "
        "changed. Operations that end in an underscore, += and x[...] = work in place; "
        "their plain forms make a new tensor."
    )
    return _say(
        trial,
        Verdict.CHANGED_INPUTS,
        "changes its inputs",
        ("What", what),
        trial.where(),
    )


def _no_gradient(trial: Trial) -> Report:
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
    return _say(
        trial,
        Verdict.NO_GRADIENT,
        "right values, broken gradient",
        ("What", what),
        trial.where(),
    )


def _not_repeatable(trials: list[Trial]) -> Report | None:
    trial = next((trial for trial in trials if not trial.repeats()), None)
    if trial is None:
        return None
    what = (
        "Called twice with the same inputs, it gives two answers. Does it draw random "
        "numbers (dropout, a fresh layer), or keep something from one call to the next?"
    )
    return _say(
        trial,
        Verdict.NOT_REPEATABLE,
        "a different answer each time",
        ("What", what),
        trial.where(),
    )


def _property_broken(trials: list[Trial]) -> Report | None:
    """For an answer that agrees with the reference on all inputs."""
    broken = _broken(trials)
    if not broken:
        return None
    what = (
        "It agrees with the reference on the inputs as they are, but this should hold "
        f"and does not: {'; '.join(broken)}."
    )
    return _say(
        next(iter(broken.values())),
        Verdict.PROPERTY_BROKEN,
        "right numbers, but something does not hold",
        ("What", what),
        next(iter(broken.values())).where(),
        broken=tuple(broken),
    )


def _wrong_values(
    trials: list[Trial], wrong: list[Trial], mismatch: Mismatch
) -> Report:
    trial = wrong[0]
    ignored = trial.ignored_input()
    if ignored is not None:
        sign = f"Your answer does not depend on {ignored}; it should."
    else:
        sign = _symptom(wrong, mismatch) or mismatch.says
    broken = _broken(trials)
    lines = [("What", sign)]
    if broken:
        lines.append(("Broken", f"This should hold and does not: {'; '.join(broken)}."))
    return _say(
        trial,
        Verdict.PROPERTY_BROKEN if broken else Verdict.WRONG_VALUES,
        "wrong numbers",
        *lines,
        *trial.evidence(),
        broken=tuple(broken),
    )


def _broken(trials: list[Trial]) -> dict[str, Trial]:
    """Properties that do not hold, with the smallest inputs on which they don't."""
    broken = {}
    for rule in trials[0].exercise.properties:
        for trial in trials:
            if not holds(rule, trial.answer, trial.inputs):
                broken[rule.says] = trial
                break
    return broken


def _symptom(wrong: list[Trial], mismatch: Mismatch) -> str:
    """What all wrong answers have in common, as far as they are tensors."""
    cases = []
    for trial in wrong:
        other = trial.mismatch()
        if (
            other is None
            or other.verdict is not Verdict.WRONG_VALUES
            or other.path != mismatch.path
            or not isinstance(other.found, Tensor)
        ):
            return ""
        cases.append(
            Case(
                trial.inputs,
                trial.names,
                other.found,
                other.expected,
                trial.exercise.tolerance,
            )
        )
    return symptom(cases).replace("Your answer", mismatch.part.capitalize(), 1)


def _say(
    trial: Trial,
    verdict: Verdict,
    headline: str,
    *lines: tuple[str, str],
    misconception: str | None = None,
    broken: tuple[str, ...] = (),
) -> Report:
    """The report of a wrong answer: it ends with what to do next."""
    todo = f'Change it and check again. hint("{trial.exercise.name}") helps.'
    return _report(
        trial.exercise,
        verdict,
        headline,
        *lines,
        ("Next", todo),
        misconception=misconception,
        broken=broken,
    )


def _report(
    exercise: Exercise,
    verdict: Verdict,
    headline: str,
    *lines: tuple[str, str],
    misconception: str | None = None,
    broken: tuple[str, ...] = (),
) -> Report:
    symbol = {Verdict.PASSED: "✓", Verdict.NOT_IMPLEMENTED: "○"}.get(verdict, "✗")
    text = [f"{symbol} {exercise.name} ({exercise.title}): {headline}"]
    text += [paragraph(label, body) for label, body in lines]
    return Report(exercise.name, verdict, "\n".join(text), misconception, broken)
