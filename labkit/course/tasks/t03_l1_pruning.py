"""The tasks of notebook 03."""

from typing import Any

from labkit.cnn import CNN
from labkit.course import judging
from labkit.course.evidence import (
    CONVOLUTIONS,
    SIZES,
    Evidence,
    Pruned,
    Weights,
    largest_were_zeroed,
    lowest_were_zeroed,
    preference,
    smallest_were_zeroed,
    whole_channels,
)
from labkit.course.given import own_copy, tensors
from labkit.course.task import LAYER, Style, Task
from labkit.course.verdict import Finding, Verdict
from labkit.plots import BLUE

L1 = f"if the pruning is written by now, run the cell that makes CNN_MNIST_L1 again; {LAYER}"


def _l1_masks(task: Task, masks: Any, evidence: Evidence) -> Verdict:
    """03: the quarter of smallest |w| of each convolution."""
    before = evidence.before
    zero = judging.all_zeros_of(masks, CONVOLUTIONS)
    if not any(gone.any() for gone in zero.values()):
        return Verdict(task)

    def right(before: Weights | None, zero: Weights, name: str) -> tuple[bool | None, str]:
        count = int(zero[name].sum())
        if abs(count - SIZES[name] // 4) > judging.TIES:
            inverted = abs(count - (SIZES[name] - SIZES[name] // 4)) <= judging.TIES
            hint = f"a quarter is {SIZES[name] // 4:,}; the size |w| counts, not the sign"
            if abs(count - round(SIZES[name] * 7 / 16)) <= judging.TIES:
                hint = f"a quarter is {SIZES[name] // 4:,}; a quarter of what a first quarter has left was masked, too"
            if before is not None and smallest_were_zeroed(before, zero, CONVOLUTIONS):
                hint = f"a quarter is {SIZES[name] // 4:,}; the layers share one threshold, and each needs its own"
            if count == 0:
                hint = f"a quarter is {SIZES[name] // 4:,}; nothing is masked: is the mask of {name} still all ones?"
            return False, "a 1 keeps a weight, a 0 drops it" if inverted else hint
        if before is None:
            return None, ""
        hint = "a masked weight is larger than one that is kept: is it |w| of this layer, and of this network?"
        if lowest_were_zeroed(before[name], zero[name]):
            hint = "the most negative weights are masked: compare |w|, not w"
        elif lowest_were_zeroed(-before[name].abs(), zero[name]):
            hint = "the largest |w| are masked; the smallest are to go"
        return smallest_were_zeroed(before, zero, [name]), hint

    return judging.by_hand(task, list(judging.mask_findings(zero, before, CONVOLUTIONS, right, 1)), before)


def _l1_network(task: Task, network: CNN, evidence: Evidence) -> Verdict:
    """03: the 25 % of smallest |w| of each convolution."""
    found, flags = judging.read_task(task, network, evidence)
    if judging.is_blank(found):
        return Verdict(task)
    amounts = judging.quarters(found, 1, judging.TIES)

    def smallest(before: Weights) -> bool:
        some = [0 < found.share(name) < 1 for name in CONVOLUTIONS]
        return all(some) and all(smallest_were_zeroed(before, found.zero, [name]) for name in CONVOLUTIONS)

    holds = judging.unless_trained_since(found, judging.by_hand_or_not(found.before, smallest, amounts), CONVOLUTIONS)
    chosen = Finding(holds, "in each layer no zeroed weight was larger than a kept one", _hint_for_l1(found), 2)
    return Verdict(task, [amounts, chosen, judging.rest_untouched(found, 1)], flags)


def _hint_for_l1(found: Pruned) -> str:
    if found.before is None or not found.zeros(CONVOLUTIONS):
        return "nothing was chosen"
    wrong = [n for n in CONVOLUTIONS if not smallest_were_zeroed(found.before, found.zero, [n])]
    if not wrong:
        empty = [name for name in CONVOLUTIONS if not 0 < found.share(name) < 1]
        return f"{', '.join(empty)}: there is no choice in none or all"
    name = wrong[0]
    if whole_channels(found.zero[name]) and found.zeros([name]):
        return f"{name}: whole channels are zero; here single weights were asked for"
    lean = preference(found.before[name].abs(), found.zero[name])
    if smallest_were_zeroed(found.before, found.zero, CONVOLUTIONS):
        return f"{name}: the three layers share one threshold, as with global pruning; here each layer has its own"
    if lowest_were_zeroed(found.before[name], found.zero[name]):
        return f"{name}: the most negative weights went, on the wrong side of a threshold: compare |w|, not w"
    if largest_were_zeroed(found.before[name], found.zero[name]):
        return f"{name}: the largest |w| went, the smallest were to; in a mask a 1 keeps a weight, a 0 drops it"
    if abs(lean) < 4:
        return f"{name}: large weights went as often as small ones; did the method look at the weights?"
    return f"{name}: some weights were kept or dropped on the wrong side of the threshold on |w|"


TASKS = (
    judging.prediction_task(
        "03", "accuracy after 25 % L1", judging.SHARE, 0, 1, 3, judging.accuracy_of("CNN_MNIST_L1")
    ),
    Task("03-masks", "three L1 masks by hand", 3, _l1_masks, tensors(*CONVOLUTIONS)),
    Task(
        "03-network",
        "25 % of conv1, conv2, conv3 by L1",
        4,
        _l1_network,
        own_copy,
        "CNN_MNIST_L1",
        again=L1,
        style=Style("s", BLUE, "L1: 25 %"),
        untrained=True,
    ),
)
