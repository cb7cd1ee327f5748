"""The check cells: what holds of a piece of work, at once, with reasons.

A check prints ✓ (holds), ✗ (does not, with a hint) or – (not attempted, or not to be decided), keeps what it judged for
``labkit pack``, and returns the points, which nbgrader takes as partial credit. A check never raises.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from labkit import data
from labkit.checkpoints import load_network, save_network
from labkit.cnn import CNN
from labkit.course import judging
from labkit.course.answers import Reached, answer_path, keep_points, kept_answer, points_so_far, save_answer
from labkit.course.cases import Case, fresh_cases, references, seed_of_check, truth
from labkit.course.judging import Finding, Unfit, Verdict
from labkit.course.methods import ALL_LAYERS, CONVOLUTIONS, Weights, dense_weights, has_zeros
from labkit.course.students import seed
from labkit.course.tasks import NOTEBOOKS, TASKS
from labkit.progress import notebook as kernel_of_notebook
from labkit.runtime import models_dir
from labkit.sparsity import as_tensor, clone
from labkit.training import accuracy

BASE_HAS_ZEROS = (
    "CNN_MNIST itself has zeros: run the cell that loads it again, then the steps below it; "
    "if it is so again, your code prunes CNN_MNIST where it should prune the copy (network, model or layer)"
)
FAILED = object()  # the answer of a function that raised an error
MARKS = {True: "✓", False: "✗", None: "–"}
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


def check_prediction(notebook: str, prediction: Any) -> Points:
    """Whether a prediction was written down, for notebook ``"01"`` to ``"08"``."""
    task = f"{str(notebook)[:2]}-prediction"
    if task not in TASKS:
        asked = ", ".join(name[:2] for name in NOTEBOOKS if f"{name[:2]}-prediction" in TASKS)
        print(f"✗ notebook is {notebook!r:.40}; predictions are asked for in {asked}")
        return Points(0, 1)
    return _answered(task, prediction, _number, lambda number: judging.prediction(task, number))


def check_work(work: Any) -> Points:
    """Multiply-adds of each layer, a dict from layer to number."""
    return _answered("01-work", work, _numbers, judging.work)


def check_training(network: Any, trained_with: int | None = None) -> Points:
    """CNN_MNIST, trained with the seed that is kept with it; by default the student's own."""
    told = seed() if trained_with is None else trained_with
    if (models_dir() / "CNN_MNIST.unfinished").exists():
        print("– the training was stopped before its end: run its cell again, it goes on")
    return _made(
        "01-training", network, lambda made: judging.trained_network(made, references(), _validation), trained_with=told
    )


def check_random_mask(mask: Any, base: Any = None) -> Points:
    """A random mask of conv1, by hand."""
    return _masked("02-mask", mask, base, judging.random_mask)


def check_random_network(network: Any, base: Any) -> Points:
    """25 % of each convolution at random."""
    return _made("02-network", network, lambda made: judging.random_network(made, _candidates(base)), base)


def check_l1_masks(masks: Any, base: Any) -> Points:
    """L1 masks of the three convolutions, by hand."""
    return _masked("03-masks", masks, base, judging.l1_masks, CONVOLUTIONS)


def check_l1_network(network: Any, base: Any) -> Points:
    """25 % of each convolution by L1."""
    return _made("03-network", network, lambda made: judging.l1_network(made, _candidates(base)), base)


def check_channel_masks(masks: Any, base: Any) -> Points:
    """Masks of the channels of least L2 norm, by hand."""
    return _masked("04-masks", masks, base, judging.channel_masks, CONVOLUTIONS)


def check_structured_network(network: Any, base: Any) -> Points:
    """1/8 of the channels of each convolution by L2 norm."""
    return _made("04-network", network, lambda made: judging.structured_network(made, _candidates(base)), base)


def check_second_round(mask: Any, base: Any) -> Points:
    """The mask of conv2 after two rounds, by hand."""
    return _masked("05-mask", mask, base, judging.second_round)


def check_iterative_network(network: Any, base: Any) -> Points:
    """Ten rounds of 10 % of what is left in each convolution, trained after each."""
    return _made(
        "05-network", network, lambda made: judging.iterative_network(made, _candidates(base), _validation), base
    )


def check_global_masks(masks: Any, base: Any) -> Points:
    """One threshold through four layers, by hand."""
    return _masked("06-masks", masks, base, judging.global_masks, ALL_LAYERS)


def check_global_network(network: Any, base: Any) -> Points:
    """25 % of all weights by one threshold."""
    return _made("06-network", network, lambda made: judging.global_network(made, _candidates(base)), base)


def check_global_rounds(network: Any, base: Any) -> Points:
    """Ten global rounds of 10 % of what is left in the convolutions, trained after each."""
    return _made("06-rounds", network, lambda made: judging.global_rounds(made, _candidates(base), _validation), base)


def check_work_after_cutting(work: Any) -> Points:
    """Multiply-adds of each layer once half of the channels are cut out, a dict from layer to number."""
    return _answered("07-work", work, _numbers, judging.work_after_cutting)


def check_cut(weights: Any, base: Any) -> Points:
    """The weights of conv2 and fc without the cut channels, by hand, a dict from layer to tensor."""
    return _masked("07-cut", weights, base, judging.cut_weights, tuple(judging.CUT_SHAPES))


def check_small_network(network: Any) -> Points:
    """At most a sixteenth of the multiply-adds, and trained again."""
    return _made("07-network", network, lambda made: judging.small_network(made, _validation))


def check_lamp_masks(masks: Any, base: Any) -> Points:
    """Masks that keep the 10,000 weights of highest LAMP score, by hand."""
    return _masked("08-masks", masks, base, judging.lamp_masks, ALL_LAYERS)


def check_golf(network: Any) -> Points:
    """At most 800 nonzero weights, and trained again."""
    return _made("08-golf", network, lambda made: judging.golf_network(made, _validation))


def check_detective(method_of: Any) -> Points:
    """A function that names the method of a case, on 20 fresh networks; each check has others.

    Args:
        method_of: case -> name of the method, as ``method_of(case)`` of notebook 09. An error in it is no answer.
    """
    work = _Work("09-detective")

    def judge() -> Verdict:
        if not callable(method_of):
            kind = type(method_of).__name__
            raise Unfit(f"method_of is a {kind}; give the function itself: course.check_detective(method_of)")
        kept = kept_answer("09-detective")
        mine = seed_of_check(seed(), kept.get("seed") if isinstance(kept, dict) else None)
        some = fresh_cases(mine)
        right = truth(some)  # before a student's function can change anything
        answers, work.remarks = _answers_of(method_of, some)
        failed = {number for number, answer in enumerate(answers) if answer is FAILED}
        answers = [None if answer is FAILED else answer for answer in answers]
        work.answer = {"seed": mine, "answers": answers}
        return judging.detective(answers, right, failed)

    return _checked(work, judge)


def _answers_of(method_of: Callable[[Case], Any], some: Sequence[Case]) -> tuple[list[Any], list[str]]:
    """What a student's function says of each case, and its errors: each once, with the first network it came for."""
    answers: list[Any] = []
    errors: dict[str, list[int]] = {}
    for number, case in enumerate(some, start=1):
        try:
            answers.append(method_of(case))
        except (Exception, SystemExit) as error:
            said = _in_words(error)[:160]
            errors.setdefault(said, []).append(number)
            answers.append(FAILED)
    return answers, [
        f"method_of failed on network {numbers[0]}: {said}"
        + (f" (and on {len(numbers) - 1} more)" if len(numbers) > 1 else "")
        for said, numbers in errors.items()
    ]


# What all checks share


@dataclass
class _Work:
    """What a check got, and what it keeps of it.

    Attributes:
        task: name of the task.
        base: the network that the work starts from, if the check got one.
        answer: what is kept for the grader, if the task is no network; None: nothing.
        network: the network that was judged, once it was.
        trained_with: its training's seed, which the grader compares with the student's; None: not kept with it.
        remarks: lines that belong neither to the task nor to one finding.
    """

    task: str
    base: Any = None
    answer: Any = None
    network: CNN | None = None
    trained_with: int | None = None
    remarks: list[str] = field(default_factory=list)


def _answered(task: str, given: Any, plain: Callable[[Any], Any], judge: Callable[[Any], Verdict]) -> Points:
    """Check numbers, once they are made plain."""
    work = _Work(task)

    def judged() -> Verdict:
        work.answer = plain(given)
        return judge(work.answer)

    return _checked(work, judged)


def _masked(
    task: str,
    masks: Any,
    base: Any,
    judge: Callable[[Any, Weights | None], Verdict],
    layers: Sequence[str] = (),
) -> Points:
    """Check tensors by hand: one, or one for each of these layers."""
    work = _Work(task, base, masks)

    def judged() -> Verdict:
        work.answer = _tensors(masks, layers) if layers else _tensor(masks)
        return judge(work.answer, _before(base))

    return _checked(work, judged)


def _made(
    task: str,
    network: Any,
    judge: Callable[[CNN], Verdict],
    base: Any = None,
    trained_with: int | None = None,
) -> Points:
    """Check a network, and keep it."""
    work = _Work(task, base, trained_with=trained_with)

    def judged() -> Verdict:
        made = _cnn(network)
        verdict = judge(made)
        work.network = made
        return verdict

    return _checked(work, judged)


def _checked(work: _Work, judge: Callable[[], Verdict]) -> Points:
    """Judge, print, keep; whatever goes wrong is said and costs nothing but this task's points."""
    task = TASKS[work.task]
    try:
        verdict = judge()
    except Unfit as error:
        verdict = Verdict(task, [Finding(False, task.title, str(error), task.points)])
    except Exception as error:  # a half-run notebook, a broken network
        verdict = Verdict(task, [Finding(False, "could not be looked at", _in_words(error), task.points)])
    spoilt = verdict.points < task.points and _has_zeros(work.base)
    points, in_kernel = (
        Points(verdict.points, task.points),
        kernel_of_notebook() is not None,
    )  # which shows the cell's result as HTML
    lines = [f"✗ {BASE_HAS_ZEROS}"] if spoilt else []
    lines += lines_of(verdict, hints=not spoilt) if verdict.attempted or not spoilt else []
    lines += work.remarks + _kept(work, verdict)
    for line in lines:
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


def _kept(work: _Work, verdict: Verdict) -> list[str]:
    """Keep what was judged and its points; what could not be kept, in words. What was not attempted is not kept."""
    try:
        better = _better_one(work, verdict)
        if better:
            return [better]
        if work.task == "01-training" and work.network is not None and has_zeros(work.network):
            keep_points(work.task, Reached(verdict.points, verdict.task.points, attempted=True))
            return ["a network with zeros is not kept: the notebooks that follow start from this one"]
        if verdict.attempted and work.network is not None:
            metadata = {} if work.trained_with is None else {"seed": work.trained_with}
            load_network(save_network(work.network, verdict.task.network, **metadata))
        elif verdict.attempted and work.answer is not None:
            save_answer(work.task, work.answer, _before(work.base))
        keep_points(work.task, Reached(verdict.points, verdict.task.points, verdict.attempted))
    except Exception as error:
        what = "network" if work.network is not None else "answer"
        return [f"the {what} could not be kept for labkit pack ({_in_words(error)})"]
    return []


def _in_words(error: BaseException) -> str:
    """An error in one line, whatever class it is of."""
    try:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    except Exception:  # a class of the student's own
        return type(error).__name__


def _better_one(work: _Work, verdict: Verdict) -> str:
    """That earlier work with more points is not replaced by this one, or nothing.

    The newest function of 09 counts: the count of its checks, which draws the networks, is in its answer.
    """
    if work.task == "09-detective":
        return ""
    path = models_dir() / f"{verdict.task.network}.pth" if verdict.task.network else answer_path(work.task)
    before = points_so_far().get(work.task)
    if verdict.attempted and before and before.points > verdict.points and path.exists():
        where = f"models/{path.relative_to(models_dir()).as_posix()}"
        return f"your earlier work with {before.points:g} points stays in {where}; delete that file to replace it"
    return ""


def lines_of(verdict: Verdict, *, hints: bool = True) -> list[str]:
    """A verdict in words, without its points."""
    if not verdict.attempted:
        again = [f"  {verdict.task.again}"] if hints and verdict.task.again else []
        return [f"– not attempted: {verdict.task.title}", *again]
    lines: list[str] = []
    said = set()
    for finding in verdict.findings:
        mark = MARKS[finding.holds]
        lines.append(f"{mark} {finding.text}" + (" (can not be decided from the weights)" if mark == "–" else ""))
        if hints and finding.holds is False and finding.hint and finding.hint not in said:
            said.add(finding.hint)  # once is enough
            lines.append(f"  {finding.hint}")
    return lines


def _coloured(line: str) -> str:
    mark = line[:1]
    return f"\x1b[38;2;{COLOURS[mark]}m{mark}\x1b[0m{line[1:]}" if mark in COLOURS else line


def _cnn(network: Any) -> CNN:
    if not isinstance(network, CNN):
        raise Unfit(f"the network is a {type(network).__name__}; it must be a labkit.CNN")
    return clone(network).cpu().float()


def _before(base: Any) -> Weights | None:
    return (
        {name: weight.cpu().float() for name, weight in dense_weights(base).items()} if isinstance(base, CNN) else None
    )


def _candidates(base: Any) -> dict[str, Weights]:
    mine = _before(base)
    return ({"CNN_MNIST": mine} if mine is not None else {}) | references()


def _validation(network: CNN) -> float:
    """Accuracy on every second one of the 5,000 validation images: the last of them are easier than test images."""
    images, labels = data.load_images("MNIST", train=True)
    chosen = slice(-data.VALIDATION_IMAGES, None, 2)
    return accuracy(network, data.Loader(images[chosen].contiguous(), labels[chosen].contiguous(), batch_size=50))


def _tensors(masks: Any, layers: Sequence[str]) -> Any:
    """A dict from layer to tensor; also of a list of one for each of the layers, in their order."""
    if isinstance(masks, (list, tuple)) and len(masks) == len(layers):
        masks = dict(zip(layers, masks, strict=True))
    return {name: _tensor(one) for name, one in masks.items()} if isinstance(masks, Mapping) else masks


def _tensor(mask: Any) -> Any:
    """A tensor on the CPU, as the notebooks' own cells take it; what can be none stays as it is."""
    if not isinstance(mask, (torch.Tensor, np.ndarray, np.generic, list, tuple)):
        return mask
    try:
        return as_tensor(mask)
    except (TypeError, ValueError, RuntimeError, RecursionError):  # words, or lists of different lengths
        return mask


def _numbers(work: Any) -> Any:
    """A dict from layer to number; also of four numbers in the order of the layers."""
    if isinstance(work, (torch.Tensor, np.ndarray)):
        work = work.tolist()
    if isinstance(work, (list, tuple)) and len(work) == len(ALL_LAYERS):
        work = dict(zip(ALL_LAYERS, work, strict=True))
    return {name: _number(value) for name, value in work.items()} if isinstance(work, Mapping) else work


def _number(value: Any) -> Any:
    """Also NumPy's and torch's numbers."""
    if isinstance(value, torch.Tensor):
        return value.item() if value.numel() == 1 else value
    if isinstance(value, (Fraction, Decimal)):
        return float(value)
    return value.item() if isinstance(value, (np.generic, np.ndarray)) and value.size == 1 else value
