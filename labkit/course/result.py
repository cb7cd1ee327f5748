"""What grading found, as data that goes into a file and comes back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from labkit.course.verdict import Finding


@dataclass(frozen=True)
class GradedTask:
    """The points of a task, of how many, whether there was anything to judge, and why."""

    points: float
    of: float
    attempted: bool
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class MeasuredNetwork:
    """What a network is, compared with what its notebook says.

    Attributes:
        sparsity: in the layers that its notebook prunes.
        accuracy: on so many real test images.
        images: how many.
        claimed_sparsity: as the notebook printed it; None if it did not.
        claimed_accuracy: the same.
        method: how it was pruned, in words; "" where that is not to be known.
        layers: layer -> share of zeros.
        sketches: what is to be compared with other submissions -> its sketch, some hundred bytes.
    """

    sparsity: float
    accuracy: float
    images: int
    claimed_sparsity: float | None
    claimed_accuracy: float | None
    method: str
    layers: dict[str, float]
    sketches: dict[str, str]


@dataclass(frozen=True)
class WrittenAnswer:
    """A question, and what was written below it."""

    question: str
    text: str


@dataclass(frozen=True)
class Result:
    """Everything that can be said about a submission.

    Attributes:
        student: whose it is; "" if that is unknown.
        worked: who worked on it, as the files say; in a pair one of the two hands in.
        refused: base name (or "" for the whole submission) -> why it was not read.
        tasks: task -> its points.
        points: without the bonus.
        bonus: points of bonus tasks.
        networks: name -> what was measured.
        predictions: notebook's number -> predicted number; None if there is none.
        answers: answer cell -> question and text.
        notebooks: name -> "read", "refused" or "missing".
        flags: questions for the instructor.
    """

    student: str = ""
    worked: str = ""
    refused: dict[str, str] = field(default_factory=dict)
    tasks: dict[str, GradedTask] = field(default_factory=dict)
    points: float = 0
    bonus: float = 0
    networks: dict[str, MeasuredNetwork] = field(default_factory=dict)
    predictions: dict[str, float | None] = field(default_factory=dict)
    answers: dict[str, WrittenAnswer] = field(default_factory=dict)
    notebooks: dict[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()

    @property
    def only_notebooks(self) -> bool:
        """Whether only notebooks were handed in; a student who has only the first may not have trained yet."""
        later = any(state == "read" for name, state in self.notebooks.items() if not name.startswith("01"))
        return later and not (self.networks or self.refused or any(task.attempted for task in self.tasks.values()))


Results = Mapping[str, Result]  # of a class: pseudonym -> result


@dataclass(frozen=True)
class Kept:
    """A result, and the mark of all that it was made from."""

    mark: str
    result: Result


@cache
def _kept() -> Any:
    from pydantic import TypeAdapter  # every notebook imports this module, and none needs it

    return TypeAdapter(Kept)


def to_json(kept: Kept) -> bytes:
    """The text of a result's file."""
    return _kept().dump_json(kept, indent=1) + b"\n"


def from_json(content: bytes) -> Kept:
    """What ``to_json`` wrote.

    Raises:
        ValueError: it is something else.
    """
    return _kept().validate_json(content)
