"""The check cells: what holds of a piece of work, at once, with reasons.

A check prints ✓ (holds), ✗ (does not, with a hint) or – (not attempted, or not to be decided), keeps the answer for
``labkit pack``, and returns the points, which nbgrader takes as partial credit. A check never raises.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from labkit import data
from labkit.cnn import CNN
from labkit.course import judging
from labkit.course.answers import save_answer
from labkit.course.cases import cases, references, truth
from labkit.course.judging import Finding, Unfit, Verdict
from labkit.course.methods import Weights, dense_weights
from labkit.course.students import seed
from labkit.course.tasks import NOTEBOOKS, TASKS
from labkit.sparsity import clone
from labkit.training import accuracy


def check_prediction(notebook: str, prediction: Any) -> float:
    """Whether a prediction was written down, for notebook ``"01"`` to ``"08"``."""
    task = f"{str(notebook)[:2]}-prediction"
    if task not in TASKS:
        asked = ", ".join(name[:2] for name in NOTEBOOKS if f"{name[:2]}-prediction" in TASKS)
        print(f"✗ notebook is {notebook!r:.40}; predictions are asked for in {asked}")
        return 0.0
    return _checked(task, lambda: judging.prediction(task, _number(prediction)), _number(prediction))


def check_work(work: Any) -> float:
    """Multiply-adds of each layer, a dict from layer to number."""
    plain = {name: _number(value) for name, value in work.items()} if isinstance(work, Mapping) else work
    return _checked("01-work", lambda: judging.work(plain), plain)


def check_training(network: Any) -> float:
    """CNN_MNIST, trained."""
    return _checked("01-training", lambda: judging.trained_network(_cnn(network), references(), _validation))


def check_random_mask(mask: Any, base: Any = None) -> float:
    """A random mask of conv1, by hand."""
    return _checked("02-mask", lambda: judging.random_mask(_tensor(mask), _before(base)), mask, base)


def check_random_network(network: Any, base: Any) -> float:
    """25 % of each convolution at random."""
    return _checked("02-network", lambda: judging.random_network(_cnn(network), _candidates(base)))


def check_l1_masks(masks: Any, base: Any) -> float:
    """L1 masks of the three convolutions, by hand."""
    return _checked("03-masks", lambda: judging.l1_masks(_tensor(masks), _before(base)), masks, base)


def check_l1_network(network: Any, base: Any) -> float:
    """25 % of each convolution by L1."""
    return _checked("03-network", lambda: judging.l1_network(_cnn(network), _candidates(base)))


def check_channel_masks(masks: Any, base: Any) -> float:
    """Masks of the channels of least L2 norm, by hand."""
    return _checked("04-masks", lambda: judging.channel_masks(_tensor(masks), _before(base)), masks, base)


def check_structured_network(network: Any, base: Any) -> float:
    """1/8 of the channels of each convolution by L2 norm."""
    return _checked("04-network", lambda: judging.structured_network(_cnn(network), _candidates(base)))


def check_second_round(mask: Any, base: Any) -> float:
    """The mask of conv2 after two rounds, by hand."""
    return _checked("05-mask", lambda: judging.second_round(_tensor(mask), _before(base)), mask, base)


def check_iterative_network(network: Any, base: Any) -> float:
    """Ten rounds of 10 % of what is left in each convolution, trained after each."""
    return _checked("05-network", lambda: judging.iterative_network(_cnn(network), _candidates(base), _validation))


def check_global_masks(masks: Any, base: Any) -> float:
    """One threshold through four layers, by hand."""
    return _checked("06-masks", lambda: judging.global_masks(_tensor(masks), _before(base)), masks, base)


def check_global_network(network: Any, base: Any) -> float:
    """25 % of all weights by one threshold."""
    return _checked("06-network", lambda: judging.global_network(_cnn(network), _candidates(base)))


def check_global_rounds(network: Any, base: Any) -> float:
    """Ten global rounds of 10 % of what is left in the convolutions, trained after each."""
    return _checked("06-rounds", lambda: judging.global_rounds(_cnn(network), _candidates(base), _validation))


def check_work_after_cutting(work: Any) -> float:
    """Multiply-adds of each layer once half of the channels are cut out, a dict from layer to number."""
    plain = {name: _number(value) for name, value in work.items()} if isinstance(work, Mapping) else work
    return _checked("07-work", lambda: judging.work_after_cutting(plain), plain)


def check_cut(weights: Any, base: Any) -> float:
    """The weights of conv2 and fc without the cut channels, by hand, a dict from layer to tensor."""
    return _checked("07-cut", lambda: judging.cut_weights(_tensor(weights), _before(base)), weights, base)


def check_small_network(network: Any) -> float:
    """At most an eighth of the multiply-adds, and trained again."""
    return _checked("07-network", lambda: judging.small_network(_cnn(network), _validation))


def check_lamp_masks(masks: Any, base: Any) -> float:
    """Masks that keep the 10,000 weights of highest LAMP score, by hand."""
    return _checked("08-masks", lambda: judging.lamp_masks(_tensor(masks), _before(base)), masks, base)


def check_golf(network: Any) -> float:
    """At most 6,000 nonzero weights, and trained again."""
    return _checked("08-golf", lambda: judging.golf_network(_cnn(network), _validation))


def check_detective(answers: Any) -> float:
    """The six names that the mask detective found."""
    kept = None if answers is None else {"seed": seed(), "answers": answers}  # whose six networks these were
    return _checked("09-detective", lambda: judging.detective(answers, truth(cases(seed()))), kept)


def _checked(task: str, judge: Callable[[], Verdict], answer: Any = None, base: Any = None) -> float:
    """Judge, print, keep the answer; whatever goes wrong is said and costs nothing but this task's points."""
    try:
        verdict = judge()
    except Unfit as error:
        verdict = Verdict(TASKS[task], [Finding(False, TASKS[task].title, str(error), TASKS[task].points)])
    except Exception as error:  # a half-run notebook, a broken network
        said = f"{type(error).__name__}: {str(error)[:200]}"
        verdict = Verdict(TASKS[task], [Finding(False, "could not be looked at", said, TASKS[task].points)])
    if verdict.attempted and answer is not None:
        try:
            save_answer(task, answer, _before(base))
        except Exception as error:
            print(f"the answer could not be kept for labkit pack ({type(error).__name__}: {error})")
    for line in lines_of(verdict):
        print(line)
    return verdict.points


def lines_of(verdict: Verdict) -> list[str]:
    """A verdict in words."""
    most = f"{verdict.task.points:g}"
    if not verdict.attempted:
        return [f"– not attempted: {verdict.task.title} (0 of {most} points)"]
    lines = []
    for finding in verdict.findings:
        mark = {True: "✓", False: "✗", None: "–"}[finding.holds]
        lines.append(f"{mark} {finding.text}" + (" (can not be decided from the weights)" if mark == "–" else ""))
        if finding.holds is False and finding.hint:
            lines.append(f"  {finding.hint}")
    return [*lines, f"{verdict.points:g} of {most} points"]


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
    """Accuracy on 2,000 validation images."""
    images, labels = data.load_images("MNIST", train=True)
    return accuracy(network, data.Loader(images[-2000:], labels[-2000:], batch_size=50))


def _tensor(mask: Any) -> Any:
    """A mask, or a dict of masks, where the weights are compared: on the CPU."""
    if isinstance(mask, Mapping):
        return {name: _tensor(one) for name, one in mask.items()}
    return mask.detach().cpu() if isinstance(mask, torch.Tensor) else mask


def _number(value: Any) -> Any:
    """Also NumPy's and torch's numbers."""
    if isinstance(value, torch.Tensor):
        return value.item() if value.numel() == 1 else value
    return value.item() if isinstance(value, (np.generic, np.ndarray)) and value.size == 1 else value
