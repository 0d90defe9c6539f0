"""Which mistake a wrong answer is: from errors over form to numbers, one at a time."""

from __future__ import annotations

from torch import Tensor

from companion.exercises import findings
from companion.exercises.compare import Mismatch, Verdict, compare
from companion.exercises.exercise import Answer, Exercise, Inputs
from companion.exercises.leaks import leak
from companion.exercises.limits import TookTooLong
from companion.exercises.matching import diagnoses
from companion.exercises.outcome import holds
from companion.exercises.report import Report
from companion.exercises.symptoms import Case, symptom
from companion.exercises.trial import Trial, Trials


def diagnose(
    exercise: Exercise, answer: Answer, cases: list[Inputs], fresh: list[Inputs]
) -> Report:
    """Try ``answer`` on every set of inputs and report the first thing to know.

    Args:
        cases: the inputs that the report may show.
        fresh: inputs drawn with other seeds. A right answer is right on them, too, and
            a mistake is named only if it explains the answer on them.
    """
    try:
        shown: list[Trial] = []
        for inputs in cases:
            trial = Trial.of(exercise, answer, inputs, quiet=bool(shown))
            if _is_stub(trial.found.error):
                return findings.not_implemented(exercise)
            if isinstance(trial.found.error, MemoryError):
                return findings.out_of_memory(Trials([trial], [], exercise))
            shown.append(trial)
        if compare(cases, fresh[: len(cases)], 0.0) is None:
            fresh = []  # the inputs are the same for every seed
        others = [Trial.of(exercise, answer, i, quiet=True) for i in fresh]
        return _conclude(Trials(shown, others, exercise))
    except TookTooLong as late:
        return findings.out_of_time(exercise, answer, late)


def _is_stub(error: BaseException | None) -> bool:
    # PyTorch raises NotImplementedError too, for a dtype that an operation lacks.
    return isinstance(error, NotImplementedError) and not any(
        sign in str(error) for sign in ("not implemented for", "Could not run")
    )


def _conclude(trials: Trials) -> Report:
    if not trials.wrong:
        return (
            _not_repeatable(trials)
            or _property_broken(trials)
            or findings.passed(trials)
        )
    fits = diagnoses(trials.all)
    if fits:
        return findings.misconceptions(trials, fits)
    return _explain(trials)


def _explain(trials: Trials) -> Report:
    """What is wrong on the smallest inputs that fail."""
    trial = trials.wrong[0]
    found, expected = trial.found, trial.expected
    if found.error and type(found.error) is not type(expected.error):
        return findings.raised(trials)
    if expected.error:
        return findings.should_raise(trials)
    if trial.changed(found):
        return findings.changed_inputs(trials)
    mismatch = trial.mismatch()
    if mismatch is None:
        return findings.no_gradient(trials)
    if mismatch.verdict is not Verdict.WRONG_VALUES:
        return findings.wrong_form(trials, mismatch)
    if not trial.repeats():
        return findings.not_repeatable(trials, trial)
    broken = _broken(trials)
    return findings.wrong_values(trials, _sign(trials, mismatch), tuple(broken))


def _not_repeatable(trials: Trials) -> Report | None:
    trial = next((trial for trial in trials.shown if not trial.repeats()), None)
    return None if trial is None else findings.not_repeatable(trials, trial)


def _property_broken(trials: Trials) -> Report | None:
    """For an answer that agrees with the reference on all inputs."""
    broken = _broken(trials)
    if not broken:
        return None
    return findings.property_broken(trials, next(iter(broken.values())), tuple(broken))


def _broken(trials: Trials) -> dict[str, Trial]:
    """Properties that do not hold, with the smallest inputs on which they don't."""
    broken = {}
    for rule in trials.exercise.properties:
        for trial in trials.shown:
            if not holds(rule, trial.answer, trial.inputs):
                broken[rule.says] = trial
                break
    return broken


def _sign(trials: Trials, mismatch: Mismatch) -> str:
    """What gives the mistake away, where none is known by name."""
    trial = trials.wrong[0]
    ignored = trial.ignored_input()
    if ignored is not None:
        return f"Your answer does not depend on {ignored}; it should."
    cases = _cases(trials.wrong, mismatch)
    sign = symptom(cases) or leak(trial) or symptom(cases, vague=True)
    return sign.replace("Your answer", mismatch.part.capitalize(), 1) or mismatch.says


def _cases(wrong: list[Trial], mismatch: Mismatch) -> list[Case]:
    """What came out wrong, if it is tensors everywhere."""
    cases = []
    for trial in wrong:
        other = trial.mismatch()
        if (
            other is None
            or other.verdict is not Verdict.WRONG_VALUES
            or other.path != mismatch.path
            or not isinstance(other.found, Tensor)
        ):
            return []
        cases.append(
            Case(
                trial.inputs,
                trial.names,
                other.found,
                other.expected,
                trial.exercise.tolerance,
            )
        )
    return cases
