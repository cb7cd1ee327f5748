"""The tasks of notebook 03."""

import torch

from labkit.course import judging
from labkit.course.evidence import CONVOLUTIONS, SIZES, Pruned, lowest_went
from labkit.course.given import tensors
from labkit.course.task import Style, Task
from labkit.course.verdict import Finding, first_hint
from labkit.plots import BLUE


def _l1_mask(masks: Pruned, name: str) -> tuple[bool | None, str]:
    """03: the quarter of smallest |w| of a convolution."""
    count, quarter = masks.zeros([name]), SIZES[name] // 4
    if abs(count - quarter) > judging.TIES:
        right = f"a quarter is {quarter:,}"
        twice = abs(count - round(SIZES[name] * 7 / 16)) <= judging.TIES
        hints = {
            "a 1 keeps a weight, a 0 drops it": abs(count - (SIZES[name] - quarter)) <= judging.TIES,
            f"{right}; nothing is masked: is the mask of {name} still all ones?": count == 0,
            f"{right}; the layers share one threshold, but each needs its own": masks.smallest_went(CONVOLUTIONS),
            f"{right}; a quarter of the remaining weights was masked, too": twice,
        }
        return False, first_hint(hints, f"{right}; the size |w| counts, not the sign")
    if masks.before is None:
        return None, ""
    before, zero = masks.before[name], masks.zero[name]
    hints = {
        "the most negative weights are masked: compare |w|, not w": lowest_went(before, zero),
        "the largest |w| are masked; mask the smallest": lowest_went(-before.abs(), zero),
    }
    hint = "a masked weight is larger than one that is kept: is it |w| of this layer, and of this network?"
    return masks.smallest_went([name]), first_hint(hints, hint)


@judging.pruned_network
def _l1_network(pruned: Pruned) -> list[Finding]:
    """03: the 25 % of smallest |w| of each convolution."""
    amounts = judging.quarters(pruned)
    wrong = [name for name in CONVOLUTIONS if not pruned.smallest_went([name])]
    no_choice = [name for name in CONVOLUTIONS if not 0 < pruned.share([name]) < 1]
    holds = judging.if_known(None if pruned.before is None else not wrong and not no_choice, amounts)
    holds = judging.unless_trained_since(pruned, holds, CONVOLUTIONS)
    hint = f"{', '.join(no_choice)}: with none or all masked, nothing was chosen"
    if pruned.before is None or not pruned.zeros(CONVOLUTIONS):
        hint = "nothing was chosen"
    elif wrong:
        hint = f"{wrong[0]}: {_hint_for_l1(pruned, wrong[0], pruned.before[wrong[0]])}"
    chosen = Finding(holds, "in each layer no zeroed weight was larger than a kept one", hint, 2)
    return [amounts, chosen, judging.rest_untouched(pruned)]


def _hint_for_l1(pruned: Pruned, name: str, before: torch.Tensor) -> str:
    zero, one_threshold = pruned.zero[name], pruned.smallest_went(CONVOLUTIONS)
    only_channels = pruned.zeros([name]) > 0 and not pruned.scattered(name)
    most_negative, largest = lowest_went(before, zero), lowest_went(-before.abs(), zero)
    hints = {
        "whole channels are zero; the task asks for single weights": only_channels,
        "the three layers share one threshold, as with global pruning; here each layer has its own": one_threshold,
        "the most negative weights were pruned: compare |w|, not w": most_negative,
        "the largest |w| were pruned, not the smallest; in a mask a 1 keeps a weight, a 0 drops it": largest,
        "large weights went as often as small ones: is |w| compared?": abs(pruned.lean([name])) < 4,
    }
    return first_hint(hints, "some weights were kept or dropped on the wrong side of the threshold on |w|")


L1_MASKS = judging.masks_by_hand(judging.of_each_mask(_l1_mask), *CONVOLUTIONS)
TITLE = "25 % of conv1, conv2, conv3 by L1"
AGAIN = judging.PRUNING_WRITTEN.format("CNN_MNIST_L1")
STYLE = Style("s", BLUE, "L1: 25 %")
TASKS = (
    judging.accuracy_prediction("03", "accuracy after 25 % L1", "CNN_MNIST_L1"),
    Task("03-masks", "three L1 masks by hand", 3, L1_MASKS, tensors(*CONVOLUTIONS)),
    judging.network_task("03-network", TITLE, 4, _l1_network, "CNN_MNIST_L1", AGAIN, STYLE, untrained=True),
)
