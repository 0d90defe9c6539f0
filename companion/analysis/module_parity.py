"""A parity report: which module of your network is the first that is wrong, and how.

A network that is written again, to take the weights of another, is compared with that
other module by module. Each module is given what the *reference's* module reads, so an
early fault does not hide a later one. Then the whole network runs, and its modules are
compared where they stand. A module that differs is compared with what the usual mistakes
would give there (`llama_mistakes`), and one is named only if it gives the same numbers.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from companion.analysis.llama_mistakes import OUR_NAMES, Facts, mistakes
from companion.models.hf import translate_name
from companion.models.llama import LLaMA

Module = Callable[[Tensor], Tensor]
Names = Mapping[str, "str | Module"]

# What adds up over the layers of a right network, in tolerances.
_ROOM_OF_THE_CHAIN = 100
# How much nearer than the reference a mistake has to be, to be named.
_NEAR = 0.05


@dataclass(frozen=True)
class Step:
    """What one module of the reference reads and writes."""

    name: str
    read: Tensor
    wrote: Tensor


@dataclass(frozen=True)
class Line:
    """One module's comparison.

    Attributes:
        name: in the reference.
        yours: in the network that is compared; empty if it has no name there.
        off: the largest difference, given the reference's input, as a share of the
            largest number in its row (a row is a position); NaN if there is no result.
        chain: the same in the run of the whole network; None if it was not compared.
        trouble: why there is no result, in words.
        where: in which positions, heads or features it differs.
        known: the mistakes that give the same numbers, as sentences; mostly one.
        factor: by which all numbers are too large, if that is all that is wrong.
    """

    name: str
    yours: str
    off: float = math.nan
    chain: float | None = None
    trouble: str = ""
    where: str = ""
    known: tuple[str, ...] = ()
    factor: float | None = None

    @property
    def part(self) -> str:
        """The name with a star for the layer's number."""
        return re.sub(r"\.\d+(?=\.|$)", ".*", self.name)

    @property
    def reason(self) -> str:
        """What is known about why it differs."""
        if self.trouble:
            return self.trouble
        if self.known:
            return " Or: ".join(self.known)
        if self.factor is not None:
            return (
                f"All numbers are {self.factor:.4g} times as large as they should be."
            )
        return "It is none of the mistakes that are known here."


@dataclass(frozen=True, repr=False)
class ParityReport:
    """What `compare_modules` found; shows itself at the end of a cell.

    Attributes:
        lines: a comparison a module, in the order in which the reference's finish.
        tolerance: up to which difference a module agrees.
        logits: the largest absolute difference of what the whole networks return; None
            if the whole was not run.
        trouble: what the whole network raised.
    """

    lines: tuple[Line, ...]
    tolerance: float
    logits: float | None = None
    trouble: str = ""

    def agrees(self, line: Line) -> bool:
        """Whether a module agrees by itself."""
        return line.off <= self.tolerance

    @property
    def exact(self) -> int:
        """How many modules agree by themselves."""
        return sum(map(self.agrees, self.lines))

    @property
    def faults(self) -> tuple[Line, ...]:
        """The modules that differ though all modules inside of them agree."""
        wrong = [line for line in self.lines if not self.agrees(line)]
        return tuple(
            line
            for line in wrong
            if not any(other.name.startswith(f"{line.name}.") for other in wrong)
        )

    @property
    def first(self) -> Line | None:
        """The first fault in the order of computation; None if there is none."""
        return next(iter(self.faults), None)

    @property
    def first_in_chain(self) -> Line | None:
        """The first module that differs in the run of the whole network."""
        bound = self.tolerance * _ROOM_OF_THE_CHAIN
        for line in self.lines:
            if line.chain is not None and not line.chain <= bound:
                return line
        return None

    def __str__(self) -> str:
        text = [self._headline()]
        for line, times in self.grouped:
            also = f", and the same module in {times - 1} other layers" * (times > 1)
            yours = f" (yours: {line.yours})" if line.yours else ""
            amount = "" if line.trouble else f", by {line.off:.1e}"
            text.append(f"  {line.name}{yours}{amount}{also}")
            if line.where:
                text.append(f"    where: {line.where}")
            text.append(f"    {line.reason}")
        return "\n".join([*text, *self._of_the_chain()])

    __repr__ = __str__

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": _to_html(self)}

    def _headline(self) -> str:
        total = len(self.lines)
        if self.first is None:
            return f"All {total} modules agree with the reference's."
        return (
            f"{self.exact} of {total} modules agree with the reference's. The first "
            f"that is wrong is {self.first.name}."
        )

    @property
    def grouped(self) -> list[tuple[Line, int]]:
        """The first fault of each part, and in how many layers it is wrong."""
        parts: dict[str, list[Line]] = {}
        for line in self.faults:
            parts.setdefault(line.part, []).append(line)
        return [(lines[0], len(lines)) for lines in parts.values()]

    def _of_the_chain(self) -> list[str]:
        if self.trouble:
            return [f"The whole network {self.trouble}"]
        if self.logits is None:
            return []
        start = self.first_in_chain
        begins = "no module differs" if start is None else f"{start.name} is the first"
        return [
            f"In the run of the whole network {begins}"
            f"{' to differ' if start else ''}; the results differ by at most "
            f"{self.logits:.1e}."
        ]


@torch.no_grad()
def compare_modules(
    mine: nn.Module | Mapping[str, Module],
    reference: nn.Module,
    token_ids: Tensor,
    names: Names | None = None,
    *,
    tolerance: float = 5e-5,
) -> ParityReport:
    """Compare a network with a reference that has the same weights, module by module.

    Each of your modules takes one tensor, what the reference's module reads first (token
    ids, or a residual stream ``(batch, length, d_model)``), and returns one.

    Args:
        mine: the whole network, called with ``token_ids``; or only some functions or
            modules, by the reference's names for them: ``{"model.layers.*.mlp": f}``
            gives the same f in each layer.
        reference: the model to compare with, called with ``token_ids``. Mistakes are
            named if it is a `LLaMA` or a ``LlamaForCausalLM`` of ``transformers``.
        token_ids: ``(batch, length)``, the text on which to compare.
        names: for each module of the reference the name of yours, or a function that
            does its work. A star stands for a layer's number. By default those of two
            networks of the same names, or of our `LLaMA` and that of ``transformers``.
        tolerance: the largest difference that counts as rounding, as a share of the
            largest number in its row.

    Raises:
        TypeError: ``mine`` is no network and no mapping.
        ValueError: one of the models has no module of some name, or the reference
            does not run it.
    """
    whole = mine if isinstance(mine, nn.Module) else None
    if whole is None and not isinstance(mine, Mapping):
        raise TypeError(
            "mine must be a network or a mapping of names to functions, but it is a "
            f"{type(mine).__name__}"
        )
    if names is None:
        names = mine if whole is None else default_names(whole, reference)
    matched = _matched(names, whole, reference)
    steps, expected = recorded(reference, token_ids, matched)
    found, trouble = None, ""
    chain: dict[str, Tensor] = {}
    if whole is not None:
        chain, found, trouble = _chained(whole, token_ids, matched)
    lines = []
    for step in steps:
        line, _ = _compared(step, *matched[step.name])
        if step.name in chain:
            line = replace(line, chain=_difference(chain[step.name], step.wrote))
        lines.append(line)
    logits = None
    if found is not None and found.shape == expected.shape:
        logits = (found - expected).abs().max().item()
    elif found is not None:
        trouble = f"returns {_shapes(found, expected)}"
    report = ParityReport(tuple(lines), tolerance, logits, trouble)
    told = {
        line.name: _explained(line, steps, matched, Facts.of(reference), tolerance)
        for line, _ in report.grouped
    }
    return replace(report, lines=tuple(told.get(x.name, x) for x in lines))


def default_names(mine: nn.Module, reference: nn.Module) -> dict[str, str | Module]:
    """Which module of a network does the work of which module of the reference.

    A `LLaMA` of ours is matched with ours and with that of ``transformers``; two other
    networks by equal names of their modules.
    """
    theirs = {name for name, _ in reference.named_modules() if name}
    if not isinstance(mine, LLaMA):
        return {n: n for n, _ in mine.named_modules() if n in theirs}
    found: dict[str, str | Module] = {}
    for name, module in mine.named_modules():
        other = translate_name(name, OUR_NAMES)
        if other is None:
            continue
        if name.endswith(".self_attention"):  # ours attends to all if not told
            found[name if name in theirs else other] = _causal(module)
        else:
            found[name if name in theirs else other] = name
    return found


def _causal(attention: nn.Module) -> Module:
    return lambda x: attention(x, is_causal=True, need_weights=False)[0]


def _matched(
    names: Names, mine: nn.Module | None, reference: nn.Module
) -> dict[str, tuple[str, Module]]:
    """For each module of the reference the name and the module of mine."""
    ours = dict(mine.named_modules()) if mine is not None else {}
    matched: dict[str, tuple[str, Module]] = {}
    for pattern, target in names.items():
        fitting = [
            name
            for name, _ in reference.named_modules()
            if translate_name(name, {pattern: ""}) is not None
        ]
        if not fitting:
            raise ValueError(f"the reference has no module {pattern!r}")
        for name in fitting:
            if not isinstance(target, str):
                matched[name] = ("", target)
                continue
            own = translate_name(name, {pattern: target})
            if own not in ours:
                raise ValueError(f"your network has no module {own!r} for {name!r}")
            matched[name] = (own, ours[own])
    return matched


def recorded(
    reference: nn.Module, token_ids: Tensor, wanted: Iterable[str]
) -> tuple[list[Step], Tensor]:
    """What modules of the reference read and write, in the order in which they finish."""
    steps: list[Step] = []
    hooks = []
    for name in wanted:

        def keep(_: nn.Module, args: tuple, kwargs: dict, output: Any, name=name):
            read = next(
                t for t in (*args, *kwargs.values()) if isinstance(t, torch.Tensor)
            )
            steps.append(Step(name, read, _tensor_of(output)))

        module = reference.get_submodule(name)
        hooks.append(module.register_forward_hook(keep, with_kwargs=True))
    try:
        result = _tensor_of(reference(token_ids))
    finally:
        for hook in hooks:
            hook.remove()
    missing = set(wanted) - {step.name for step in steps}
    if missing:
        raise ValueError(f"the reference does not run its module {min(missing)!r}")
    return steps, result


def _chained(
    mine: nn.Module, token_ids: Tensor, matched: Mapping[str, tuple[str, Module]]
) -> tuple[dict[str, Tensor], Tensor | None, str]:
    """What mine's modules write in a run of the whole, and what that returns."""
    chain: dict[str, Tensor] = {}
    hooks = []
    for name, (own, module) in matched.items():
        if own:
            hooks.append(
                module.register_forward_hook(
                    lambda _m, _a, output, name=name: chain.__setitem__(name, output)
                )
            )
    try:
        return chain, _tensor_of(mine(token_ids)), ""
    except Exception as error:
        return chain, None, _raised(error)
    finally:
        for hook in hooks:
            hook.remove()


def _raised(error: Exception) -> str:
    if isinstance(error, NotImplementedError):
        return "is not implemented yet."
    return f"raises {type(error).__name__}: {error}"


def _tensor_of(output: Any) -> Tensor:
    """The tensor in what a module returns, which may be one of a tuple or an object."""
    if hasattr(output, "logits"):
        return output.logits
    return output[0] if isinstance(output, tuple) else output


def _compared(step: Step, yours: str, module: Module) -> tuple[Line, Tensor | None]:
    line = Line(step.name, yours)
    try:
        result = module(step.read.clone())
    except Exception as error:
        return replace(line, trouble=f"It {_raised(error)}"), None
    if not isinstance(result, Tensor):
        what = f"It returns a {type(result).__name__}, not a tensor."
        return replace(line, trouble=what), None
    if result.shape != step.wrote.shape:
        what = f"It returns {_shapes(result, step.wrote)}"
        return replace(line, trouble=what), None
    return replace(line, off=_difference(result, step.wrote)), result


def _shapes(found: Tensor, expected: Tensor) -> str:
    return f"{tuple(found.shape)}, and the reference {tuple(expected.shape)}."


def _shares(found: Tensor, expected: Tensor) -> Tensor:
    """Absolute differences as shares of the largest number in each row."""
    size = expected.abs().amax(-1, keepdim=True).clamp_min(1e-30)
    return (found - expected).abs() / size


def _difference(found: Any, expected: Tensor) -> float:
    if not isinstance(found, Tensor) or found.shape != expected.shape:
        return math.nan
    worst = _shares(found, expected).max().item()
    return math.inf if math.isnan(worst) else worst


# Why and where a module differs


def _explained(
    line: Line,
    steps: list[Step],
    matched: Mapping[str, tuple[str, Module]],
    facts: Facts | None,
    tolerance: float,
) -> Line:
    """The line of a fault, with where and why."""
    step = next(step for step in steps if step.name == line.name)
    _, found = _compared(step, *matched[step.name])
    if found is None:
        return line
    bad = ~torch.isfinite(found).all(-1)
    if bad.any():
        what = "It gives NaN or infinity."
        return replace(line, trouble=what, where=_positions(bad))
    where = [_where(found, step.wrote, tolerance)]
    if facts is not None:
        where += _heads(step, steps, matched, facts, tolerance)
    return replace(
        line,
        where="; ".join(where),
        known=_known(step, found, facts, min(_NEAR * line.off, tolerance))
        if facts
        else (),
        factor=_factor(found, step.wrote),
    )


def _known(step: Step, found: Tensor, facts: Facts, near: float) -> tuple[str, ...]:
    """Mistakes that give what was found; pairs only if no single one does."""
    fitting: list[str] = []
    for mistake in mistakes(facts, step.name, step.read):
        if mistake.is_pair and fitting:
            break
        if _difference(found, mistake.wrong()) <= near:
            fitting.append(mistake.says)
    return tuple(fitting)


def _factor(found: Tensor, expected: Tensor) -> float | None:
    """By what all numbers are multiplied, if that makes up for the difference."""
    factor = ((found * expected).sum() / expected.square().sum()).item()
    if not math.isfinite(factor) or abs(factor) < 1e-6:
        return None
    return factor if _difference(found / factor, expected) < 1e-4 else None


def _where(found: Tensor, expected: Tensor, tolerance: float) -> str:
    wrong = _shares(found, expected) > tolerance
    text = _positions(wrong.any(-1))
    columns = wrong.flatten(0, -2).any(0)
    width = len(columns)
    if columns.all() or columns.float().mean() > 0.9:
        return f"{text}; all features"
    return f"{text}; {int(columns.sum())} of {width} features"


def _positions(wrong: Tensor) -> str:
    """Positions in words; wrong is (batch, length)."""
    return _listed(wrong.flatten(0, -2).any(0), "position")


def _listed(wrong: Tensor, noun: str) -> str:
    """Which of them are wrong: "all positions", "positions 1 to 7", "heads 0 and 2"."""
    chosen = wrong.nonzero().flatten().tolist()
    if len(chosen) == len(wrong):
        return f"all {noun}s"
    if not chosen:
        return f"no {noun}"
    if len(chosen) == 1:
        return f"{noun} {chosen[0]} alone"
    if len(chosen) == len(wrong) - 1 and chosen[0] == 1:
        return f"all {noun}s but the first"
    if chosen == list(range(chosen[0], chosen[-1] + 1)):
        return f"{noun}s {chosen[0]} to {chosen[-1]}"
    if len(chosen) <= 8:
        *some, last = map(str, chosen)
        return f"{noun}s {', '.join(some)} and {last}"
    return f"{len(chosen)} of {len(wrong)} {noun}s"


def _heads(
    step: Step,
    steps: list[Step],
    matched: Mapping[str, tuple[str, Module]],
    facts: Facts,
    tolerance: float,
) -> list[str]:
    """Which heads of attention differ: seen where the output map reads them."""
    inner = [s for s in steps if s.name.startswith(f"{step.name}.")]
    outputs = [s for s in inner if s.name.endswith((".o_proj", ".W_o"))]
    module = matched[outputs[0].name][1] if outputs else None
    if not isinstance(module, nn.Module):
        return []
    read: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda _m, args: read.append(args[0]))
    try:
        matched[step.name][1](step.read.clone())
    finally:
        hook.remove()
    expected = outputs[0].read
    if not read or read[0].shape != expected.shape:
        return []
    wrong = _shares(read[0], expected).unflatten(-1, (facts.num_heads, -1)) > tolerance
    return [_listed(wrong.flatten(0, -3).any(-1).any(0), "head")]


# The report as a table


def _to_html(report: ParityReport) -> str:
    good = report.first is None and not report.trouble
    color = "#009e73" if good else "#d55e00"
    names = ("Module", "Agree", "Off by", "What is wrong")
    head = "".join(
        f'<th style="text-align:left;padding:.15rem 1rem .15rem 0">{name}</th>'
        for name in names
    )
    parts: dict[str, list[Line]] = {}
    for line in report.lines:
        parts.setdefault(line.part, []).append(line)
    rows = "".join(_row(report, part, lines) for part, lines in parts.items())
    chain = "".join(f"<div>{html.escape(x)}</div>" for x in report._of_the_chain())
    return (
        f'<div class="check-report" style="border-left:.3rem solid {color};'
        'padding:.1rem 0 .1rem .9rem;margin:.4rem 0;line-height:1.5">'
        f"<div><strong>{html.escape(report._headline())}</strong></div>"
        '<div style="overflow-x:auto" tabindex="0" role="region" '
        'aria-label="Modules compared"><table style="width:100%;'
        f'border-collapse:collapse"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{chain}</div>"
    )


def _row(report: ParityReport, part: str, lines: list[Line]) -> str:
    right = sum(map(report.agrees, lines))
    sizes = [line.off for line in lines if not math.isnan(line.off)]
    cells = (
        f"<code>{html.escape(part.removeprefix('model.'))}</code>",
        f"{'✓' if right == len(lines) else '✗'} {right} of {len(lines)}",
        f"{max(sizes):.1e}" if sizes else "",
        "" if right == len(lines) else _what_is_wrong(report, part, lines),
    )
    style = "text-align:left;vertical-align:top;padding:.3rem 1rem .3rem 0"
    styles = (style, f"{style};white-space:nowrap", style, f"{style};min-width:14rem")
    return (
        "<tr>"
        + "".join(
            f'<td style="{style}">{x}</td>'
            for style, x in zip(styles, cells, strict=True)
        )
        + "</tr>"
    )


def _what_is_wrong(report: ParityReport, part: str, lines: list[Line]) -> str:
    """Where and why the modules of one kind are wrong, as HTML."""
    text = []
    if "*" in part:
        wrong = torch.tensor([not report.agrees(line) for line in lines])
        text.append(f"<strong>{_listed(wrong, 'layer')}</strong>")
    fault = next((x for x in report.faults if x.part == part), None)
    if fault is None:
        text.append("because of a module inside")
    else:
        text.append(html.escape(fault.reason))
        if fault.where:
            text.append(f"where: {html.escape(fault.where)}")
    return "<br>".join(text)
