"""The check cells: what holds of a piece of work, at once, with reasons.

A check prints ✓ (holds), ✗ (does not, with a hint) or – (not attempted, or not to be decided), keeps what it judged for
``labkit pack``, and returns the points, which nbgrader takes as partial credit. A check never raises.
"""

from dataclasses import dataclass
from typing import Any

from labkit import data
from labkit.checkpoints import load_network, save_network
from labkit.cnn import CNN
from labkit.course.answers import Reached, answer_path, keep_points, points_so_far, save_answer
from labkit.course.cases import references
from labkit.course.evidence import Evidence, Weights, dense_weights, has_zeros
from labkit.course.students import seed
from labkit.course.task import TASKS, Task
from labkit.course.verdict import Finding, Unfit, Verdict, in_words, lines_of
from labkit.progress import notebook as kernel_of_notebook
from labkit.runtime import models_dir
from labkit.training import accuracy

BASE_HAS_ZEROS = (
    "CNN_MNIST itself has zeros: run the cell that loads it again, then the steps below it; "
    "if it is so again, your code prunes CNN_MNIST where it should prune the copy (network, model or layer)"
)
COLOURS = {"✓": "0;158;115", "✗": "213;94;0", "–": "127;127;127"}  # green, vermilion, grey


class Points(float):
    """Points that a check gave: a number like any other, which a notebook shows in words.

    Attributes:
        of: the most that the task gives.
    """

    of: float

    def __new__(cls, points: float, of: float) -> "Points":
        """So many points of so many."""
        made = super().__new__(cls, points)
        made.of = of
        return made

    def __str__(self) -> str:
        return f"{float(self):g} of {self.of:g} points"

    def _repr_html_(self) -> str:
        return f"<b>{self}</b>"


@dataclass
class _Attempt:
    """What a check got, and what it keeps of it.

    Attributes:
        task: the task.
        base: the network that the work starts from, if the check got one.
        trained_with: the seed of a dense network's training, which the grader compares with the student's.
        answer: what is kept for the grader, if the task is no network; None: nothing.
        network: the network that was judged, once it was.
    """

    task: Task
    base: Any
    trained_with: int | None
    answer: Any = None
    network: CNN | None = None

    def judge(self, work: Any) -> Verdict:
        """Whatever goes wrong is said, and costs nothing but this task's points."""
        task = self.task
        try:
            plain = task.plain(work)
            if not task.network:
                self.answer = plain
            verdict = task.judge(plain, self.evidence())
            self.network = plain if task.network else None
        except Unfit as error:
            return Verdict(task, [Finding(False, task.title, str(error), task.points)])
        except Exception as error:  # a half-run notebook, a broken network
            return Verdict(task, [Finding(False, "could not be looked at", in_words(error), task.points)])
        return verdict

    def evidence(self) -> Evidence:
        """What is known beside the work."""
        before, known = _before(self.base), references() if self.task.network else {}
        own = {"CNN_MNIST": before} if before is not None else {}
        return Evidence(own | known, before, known, _validation, seed())

    def keep(self, verdict: Verdict) -> list[str]:
        """Keep what was judged and its points; what could not be kept, in words. A blank is not kept."""
        task = self.task
        try:
            better = self._better_one(verdict)
            if better:
                return [better]
            reached = Reached(verdict.points, task.points, verdict.attempted)
            if task.dense and self.network is not None and has_zeros(self.network):
                keep_points(task.name, Reached(verdict.points, task.points, attempted=True))
                return ["a network with zeros is not kept: the notebooks that follow start from this one"]
            if verdict.attempted and self.network is not None:
                metadata = {} if self.trained_with is None else {"seed": self.trained_with}
                load_network(save_network(self.network, task.network, **metadata))
            elif verdict.attempted and self.answer is not None:
                save_answer(task.name, self.answer, _before(self.base))
            keep_points(task.name, reached)
        except Exception as error:
            kind = "network" if self.network is not None else "answer"
            return [f"the {kind} could not be kept for labkit pack ({in_words(error)})"]
        return []

    def _better_one(self, verdict: Verdict) -> str:
        """That earlier work with more points is not replaced by this one, or nothing."""
        task, before = self.task, points_so_far().get(self.task.name)
        path = models_dir() / f"{task.network}.pth" if task.network else answer_path(task.name)
        if task.newest_counts or not verdict.attempted or before is None or before.points <= verdict.points:
            return ""
        if not path.exists():  # it was deleted, to be replaced
            return ""
        where = f"models/{path.relative_to(models_dir()).as_posix()}"
        return f"your earlier work with {before.points:g} points stays in {where}; delete that file to replace it"


def check(task: str, work: Any, base: Any = None, *, trained_with: int | None = None) -> Points:
    """Whether a piece of work is right: prints what holds and what does not, and keeps it for ``labkit pack``.

    Args:
        task: name of the task, such as ``"03-network"``.
        work: what was made: a network, a mask or a dict of masks, numbers, a function.
        base: the network that it was made from, for networks and masks.
        trained_with: the seed of the training of ``CNN_MNIST``; by default the student's own.
    """
    known = TASKS.get(task) if isinstance(task, str) else None
    if known is None:
        print(f"✗ task is {task!r:.40}; the tasks are {', '.join(TASKS)}")
        return Points(0, 1)
    if known.dense and (models_dir() / f"{known.network}.unfinished").exists():
        print("– the training was stopped before its end: run its cell again, it goes on")
    if known.dense and trained_with is None:
        trained_with = seed()
    attempt = _Attempt(known, base, trained_with)
    verdict = attempt.judge(work)
    points, in_kernel = Points(verdict.points, known.points), kernel_of_notebook() is not None
    spoilt = verdict.points < known.points and _has_zeros(base)
    lines = [f"✗ {BASE_HAS_ZEROS}"] if spoilt else []
    lines += lines_of(verdict, hints=not spoilt) if verdict.attempted or not spoilt else []
    for line in [*lines, *verdict.remarks, *attempt.keep(verdict)]:
        print(_coloured(line) if in_kernel else line)
    if not in_kernel:  # a notebook shows the points as the cell's result
        print(points)
    return points


def _has_zeros(base: Any) -> bool:
    """Whether the network that the work starts from was pruned itself: a network was taken for its clone."""
    try:
        return isinstance(base, CNN) and has_zeros(base)
    except Exception:  # a broken network
        return False


def _coloured(line: str) -> str:
    mark = line[:1]
    return f"\x1b[38;2;{COLOURS[mark]}m{mark}\x1b[0m{line[1:]}" if mark in COLOURS else line


def _before(base: Any) -> Weights | None:
    if not isinstance(base, CNN):
        return None
    return {name: weight.cpu().float() for name, weight in dense_weights(base).items()}


def _validation(network: CNN) -> float:
    """Accuracy on every second one of the 5,000 validation images: the last of them are easier than test images."""
    images, labels = data.load_images("MNIST", train=True)
    chosen = slice(-data.VALIDATION_IMAGES, None, 2)
    return accuracy(network, data.Loader(images[chosen].contiguous(), labels[chosen].contiguous(), batch_size=50))
