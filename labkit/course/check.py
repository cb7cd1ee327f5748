"""The check cells of the notebooks: did I do it right?

They ask the judges that the grader asks, and keep what was judged where ``labkit pack`` and the later notebooks find
it. They never raise, whatever they are given. The accuracy is measured on validation images: the test set stays closed.
"""

from labkit.checkpoints import save_network, unwrapped
from labkit.cnn import CNN
from labkit.course.answers import Reached, answer_path, keep_points, points_so_far, save_answer
from labkit.course.cases import digits, references
from labkit.course.evidence import Evidence, Weights, dense_weights, has_zeros
from labkit.course.students import seed
from labkit.course.task import TASKS, Task
from labkit.course.verdict import Unfit, Verdict, in_words, lines_of, no_points
from labkit.data import VALIDATION_IMAGES
from labkit.progress import notebook as kernel_of_notebook
from labkit.runtime import models_dir
from labkit.training import accuracy

BASE_HAS_ZEROS = (
    "CNN_MNIST itself has zeros: run the cell that loads it again, then the steps below it; "
    "if it happens again, your code prunes CNN_MNIST where it should prune the copy (network, model or layer)"
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


def check(task: str, work: object, base: object = None, *, trained_with: int | None = None) -> Points:
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
        print("– the training was stopped before its end: run its cell again, and it goes on")
    if known.dense and trained_with is None:
        trained_with = seed()
    plain, verdict = _judged(known, work, base)
    points, in_kernel = Points(verdict.points, known.points), kernel_of_notebook() is not None
    spoilt = verdict.points < known.points and _has_zeros(base)
    lines = [f"✗ {BASE_HAS_ZEROS}"] if spoilt else []
    lines += lines_of(verdict, hints=not spoilt) if verdict.attempted or not spoilt else []
    for line in [*lines, *verdict.remarks, *_keep(verdict, plain, base, trained_with)]:
        print(_coloured(line) if in_kernel else line)
    if not in_kernel:  # a notebook shows the points as the cell's result
        print(points)
    return points


def _judged(task: Task, work: object, base: object) -> tuple[object, Verdict]:
    """What the grader may get (None: nothing), and the verdict. Whatever goes wrong costs only this task's points."""
    plain = None
    try:
        plain = task.plain(work)
        before, known = _before(base), references() if task.network else {}
        own = {"CNN_MNIST": before} if before is not None else {}
        return plain, task.judge(plain, Evidence(own | known, before, known, _validation, seed()))
    except Unfit as error:
        verdict = no_points(task, task.title, str(error))
    except Exception as error:  # a half-run notebook, a broken network
        verdict = no_points(task, "could not be looked at", in_words(error))
    return None if task.network else plain, verdict


def _keep(verdict: Verdict, plain: object, base: object, trained_with: int | None) -> list[str]:
    """Keep what was judged and its points; what could not be kept, in words. A blank is not kept."""
    task, network = verdict.task, plain if isinstance(plain, CNN) and verdict.task.network else None
    try:
        if earlier := _better_work(verdict):
            return [earlier]
        spoilt = task.dense and network is not None and has_zeros(network)
        if verdict.attempted and network is not None and not spoilt:
            metadata = {} if trained_with is None else {"seed": trained_with}
            save_network(network, task.network, **metadata)
        elif verdict.attempted and plain is not None and network is None:
            save_answer(task.name, plain, _before(base))
        keep_points(task.name, Reached(verdict.points, task.points, verdict.attempted or spoilt))
    except Exception as error:
        kind = "answer" if network is None else "network"
        return [f"the {kind} could not be saved for labkit pack ({in_words(error)})"]
    return ["a network with zeros is not saved: the next notebooks start from this network"] if spoilt else []


def _better_work(verdict: Verdict) -> str:
    """That earlier work with more points is not replaced by this one, or nothing."""
    task, before = verdict.task, points_so_far().get(verdict.task.name)
    path = models_dir() / f"{task.network}.pth" if task.network else answer_path(task.name)
    if task.newest_counts or not verdict.attempted or before is None or before.points <= verdict.points:
        return ""
    where = f"models/{path.relative_to(models_dir()).as_posix()}"
    stays = f"your earlier work with {before.points:g} points stays in {where}; delete that file to replace it"
    return stays if path.exists() else ""  # it was deleted, to be replaced


def _has_zeros(base: object) -> bool:
    """Whether the network that the work starts from was pruned itself: a network was taken for its clone."""
    try:
        return isinstance(unwrapped(base), CNN) and has_zeros(unwrapped(base))
    except Exception:  # a broken network
        return False


def _coloured(line: str) -> str:
    mark = line[:1]
    return f"\x1b[38;2;{COLOURS[mark]}m{mark}\x1b[0m{line[1:]}" if mark in COLOURS else line


def _before(base: object) -> Weights | None:
    if not isinstance(base := unwrapped(base), CNN):
        return None
    return {name: weight.cpu().float() for name, weight in dense_weights(base).items()}


def _validation(network: CNN) -> float:
    """Accuracy on every second one of the 5,000 validation images: the last of them are easier than test images."""
    return accuracy(network, digits(-VALIDATION_IMAGES, 2, train=True))
