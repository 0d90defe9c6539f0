"""Shows a choice question on a page, with a reason for each option folded under it.

The page needs no kernel and no script: an option is a ``details`` element, which Tab
reaches and Enter opens, and those of one question share a ``name``, so that one opens at
a time. Styles are inline, as in `companion.exercises.page`.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import Any

from companion.exercises.questions import Choice, Option
from companion.exercises.registry import find_exercise
from companion.exercises.report import paragraph

_RIGHT, _WRONG = "#009e73", "#d55e00"
_CODE, _STRESS = re.compile(r"`([^`]+)`"), re.compile(r"\*([^*]+)\*")


def quiz(exercise: Choice | str) -> Quiz:
    """The question of a choice, to stand at the end of a cell.

    Raises:
        ValueError: there is no such exercise, or it is not a choice.
    """
    task = find_exercise(exercise)
    if not isinstance(task, Choice):
        raise ValueError(
            f"quiz shows a choice, but {task.name!r} is of another kind: {task.kind}"
        )
    return Quiz(task)


@dataclass(frozen=True, repr=False)
class Quiz:
    """A question with its options: text where it is printed, markup on a page."""

    task: Choice

    def __str__(self) -> str:
        task = self.task
        first = next(iter(task.options))
        options = (paragraph(x, option.text) for x, option in task.options.items())
        more = f'check("{task.name}", "{first}") says whether it is {first}, and why.'
        return "\n".join([paragraph("", task.question), *options, paragraph("", more)])

    __repr__ = __str__

    def to_html(self) -> str:
        """The question with an explanation under each option."""
        task = self.task
        options = "".join(
            _option(task, letter, option) for letter, option in task.options.items()
        )
        return (
            f'<div class="quiz" role="group" aria-label="Question: {_text(task.title)}" '
            'style="border:1px solid #8888;border-radius:.4rem;padding:.7rem 1rem;'
            'margin:.4rem 0;line-height:1.5"><div style="font-weight:600;'
            f'margin-bottom:.4rem">{_prose(task.question)}</div>{options}</div>'
        )

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": self.to_html()}


def _option(task: Choice, letter: str, option: Option) -> str:
    right = letter == task.right
    color, says = (_RIGHT, "Right.") if right else (_WRONG, "No.")
    return (
        f'<details class="quiz-option" name="quiz-{_text(task.name)}" '
        'style="border-top:1px solid #8886;padding:.3rem 0">'
        f'<summary style="cursor:pointer">{letter}. {_prose(option.text)}</summary>'
        f'<div style="border-left:.3rem solid {color};padding-left:.8rem;'
        f'margin:.3rem 0 .3rem 1rem"><strong>{task.mark(letter)} {says}</strong> '
        f"{_prose(option.why)}</div></details>"
    )


def _prose(text: str) -> str:
    return _STRESS.sub(r"<em>\1</em>", _CODE.sub(r"<code>\1</code>", _text(text)))


def _text(text: str) -> str:
    return html.escape(text)
