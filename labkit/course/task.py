"""The graded tasks of the series: each is one object, in the file of its notebook in ``course/tasks``.

Whoever needs to know of the tasks (check cells, grader, pack, figures, pages) reads these objects and holds no copy.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from labkit.course import tasks
from labkit.course.evidence import CONVOLUTIONS, Evidence
from labkit.course.result import MeasuredNetwork
from labkit.course.verdict import Verdict

CODE_STUB, PROSE_STUB = "# YOUR CODE HERE", "*Your answer here.*"  # what replaces a solution in a release
Rows = Mapping[str, MeasuredNetwork]  # network -> what the grader measured of it
Measured = float | Callable[[Rows], float | None]  # a number for all, or one from a student's networks (None: nothing)


class Style(NamedTuple):
    """How a network is drawn in the figures of a class."""

    marker: str
    colour: str
    label: str


@dataclass(frozen=True)
class Prediction:
    """What a prediction is about.

    Attributes:
        question: what was asked, in a few words.
        unit: of the number, or "".
        shown: the most that the class page shows.
        measured: what came out.
    """

    question: str
    unit: str
    shown: float
    measured: Measured


Judging = Callable[["Task", Any, Evidence], Verdict]  # of a task, the work and what else is known


@dataclass(frozen=True)
class Task:
    """One graded task.

    Attributes:
        name: such as ``"03-network"``; its first two characters are the notebook's number.
        title: what was asked for, in a few words.
        points: the most that can be reached.
        judging: (task, work, evidence) -> verdict.
        plain: brings what a student gives to the check into a plain form: numbers, tensors, a network.
        network: name of the saved network that is judged, or "" if a small file of answers is.
        bonus: whether its points come on top of the total.
        again: what to do if the check sees nothing done, though it was: which cells to run, and in which order.
        levels: accuracies that decide about points.
        style: how the network is drawn.
        prediction: what is predicted, if the task is a prediction.
        dense: whether the network is the one that others start from: kept with its seed, and never with zeros.
        untrained: whether the network was pruned and not trained since.
        layers: that its notebook prunes, whose sparsity is shown.
        narrower: whether its layers may have fewer channels than those of ``CNN()``.
        newest_counts: whether later work replaces earlier work that had more points.
    """

    name: str
    title: str
    points: float
    judging: Judging
    plain: Callable[[Any], object]
    network: str = ""
    bonus: bool = False
    again: str = ""
    levels: tuple[float, ...] = ()
    style: Style | None = None
    prediction: Prediction | None = None
    dense: bool = False
    untrained: bool = False
    layers: Sequence[str] = CONVOLUTIONS
    narrower: bool = False
    newest_counts: bool = False

    @property
    def notebook(self) -> str:
        """Name of the task's notebook."""
        return next(name for name in notebooks() if name[:2] == self.name[:2])

    def judge(self, work: object, evidence: Evidence) -> Verdict:
        """What holds of a piece of work; the check cell and the grader both ask here.

        Raises:
            Unfit: it is nothing that can be judged.
        """
        return self.judging(self, work, evidence)


def notebooks() -> tuple[str, ...]:
    """Names of the notebooks with graded tasks, in order."""
    return tuple(sorted(module.name.removeprefix("t") for module in pkgutil.iter_modules(tasks.__path__)))


@cache
def all_tasks() -> Mapping[str, Task]:
    """Name -> task, in the order of the notebooks."""
    modules = [importlib.import_module(f"{tasks.__name__}.t{notebook}") for notebook in notebooks()]
    return {task.name: task for module in modules for task in module.TASKS}


def networks() -> dict[str, Task]:
    """Name of a network that is handed in -> its task."""
    return {task.network: task for task in all_tasks().values() if task.network}


def total() -> float:
    """All points but the bonus."""
    return sum(task.points for task in all_tasks().values() if not task.bonus)


class _Tasks(Mapping[str, Task]):
    def __init__(self, read: Callable[[], Mapping[str, Task]]) -> None:
        self._read = read

    def __getitem__(self, name: str) -> Task:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())


class _Notebooks(Sequence[str]):
    def __getitem__(self, place: Any) -> Any:
        return notebooks()[place]

    def __len__(self) -> int:
        return len(notebooks())


TASKS, NETWORKS, NOTEBOOKS = _Tasks(all_tasks), _Tasks(networks), _Notebooks()  # read again at each use


def __getattr__(name: str) -> float:
    if name == "TOTAL":
        return total()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
