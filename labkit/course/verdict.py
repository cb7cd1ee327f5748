"""What was found about a piece of work, with reasons, and the words for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labkit.course.task import Task

MARKS = {True: "✓", False: "✗", None: "–"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        holds: whether it is so; None if the files do not show it, which costs nothing.
        text: what was looked at, and what was found.
        hint: where to look if it does not hold.
        points: what it is worth.
    """

    holds: bool | None
    text: str
    hint: str = ""
    points: float = 1.0


@dataclass(frozen=True)
class Verdict:
    """What was found about one task.

    Attributes:
        task: the task.
        findings: what was looked at; empty if the task was not attempted.
        flags: questions for the instructor; they never cost a point.
        remarks: lines for the person who runs the check that belong to no finding.
    """

    task: "Task"
    findings: Sequence[Finding] = ()
    flags: Sequence[str] = ()
    remarks: Sequence[str] = ()

    @property
    def attempted(self) -> bool:
        """Whether there is anything to judge."""
        return bool(self.findings)

    @property
    def points(self) -> float:
        """Points: what holds, and what cannot be decided."""
        return float(sum(finding.points for finding in self.findings if finding.holds is not False))


def no_points(task: "Task", text: str, reason: str) -> Verdict:
    """The verdict on work that cannot be judged."""
    return Verdict(task, [Finding(False, text, reason, task.points)])


class Unfit(ValueError):
    """An answer of a kind that cannot be judged; its message says what was received and what is needed."""


def first_hint(hints: Mapping[str, bool | None], general: str) -> str:
    """The first hint that applies; the general one if none does."""
    return next((hint for hint, applies in hints.items() if applies), general)


def lines_of(verdict: Verdict, *, hints: bool = True) -> list[str]:
    """A verdict in words, without its points."""
    if not verdict.attempted:
        again = [f"  {verdict.task.again}"] if hints and verdict.task.again else []
        return [f"– not attempted: {verdict.task.title}", *again]
    lines: list[str] = []
    for finding in verdict.findings:
        mark = MARKS[finding.holds]
        lines.append(f"{mark} {finding.text}" + (" (cannot be decided from the weights)" if mark == "–" else ""))
        hint = f"  {finding.hint}"
        if hints and finding.holds is False and finding.hint and hint not in lines:  # once is enough
            lines.append(hint)
    return lines


def in_words(error: BaseException) -> str:
    """An error in one line, whatever class it is of."""
    try:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    except Exception:  # a class of the student's own
        return type(error).__name__
