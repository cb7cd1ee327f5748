"""The tasks of notebook 06."""

from labkit.course import judging
from labkit.course.evidence import ALL_LAYERS, CONVOLUTIONS, SIZES, Pruned, lowest_went
from labkit.course.given import tensors
from labkit.course.task import Rows, Style, Task
from labkit.course.verdict import Finding, first_hint
from labkit.plots import PURPLE

ALL, QUARTER = sum(SIZES.values()), sum(SIZES.values()) // 4  # weights
ZEROS_AFTER_ROUNDS = 60_215


def _global_masks(masks: Pruned) -> list[Finding]:
    """06: the quarter of smallest |w| of all four layers."""
    count, before = masks.zeros(), masks.before
    hint = f"{count / ALL:.2%} of all four layers are masked; count them together"
    hint += ". A 1 keeps a weight, a 0 drops it" if abs(count - 3 * QUARTER) <= judging.TIES else ""
    hint += "" if masks.zeros(["fc"]) else ": put fc into the row, too"
    total = judging.counted(count, QUARTER, ALL, "are masked", hint)
    negative = before is not None and all(lowest_went(before[name], masks.zero[name]) for name in ALL_LAYERS)
    at_random, equal = judging.at_random(masks, ALL_LAYERS), masks.spread(ALL_LAYERS) < 0.005
    hints = {
        "large weights are masked as often as small ones: one threshold on |w| for all": at_random,
        "the most negative weights are masked: compare |w|, not w; one threshold for all": negative,
        f"{judging.EQUAL_SHARES}, so each has a threshold of its own; make one threshold for all": equal,
    }
    hint = first_hint(hints, "a masked weight of one layer is larger than a kept one of another: one threshold for all")
    holds = masks.smallest_went(ALL_LAYERS) if count < ALL else False
    return [total, Finding(holds, "one threshold for all layers", hint, 2)]


@judging.pruned_network
def _global_network(pruned: Pruned) -> list[Finding]:
    """06: the 25 % of smallest |w| of all four layers together."""
    zeros, fc = pruned.zeros(), pruned.zeros(["fc"])
    total = judging.counted(zeros, QUARTER, ALL, "are zero", _hint_for_global(pruned, zeros))
    some = 0 < zeros < ALL
    holds = judging.if_known(pruned.smallest_went(ALL_LAYERS) if some else False, total)
    holds = judging.unless_trained_since(pruned, holds, CONVOLUTIONS[1:])
    at_random, equal = judging.at_random(pruned, ALL_LAYERS), pruned.spread(ALL_LAYERS) < 0.005
    hints = {
        "large weights were pruned as often as small ones: rank all layers together by |w|": zeros > 100 and at_random,
        f"{judging.EQUAL_SHARES}: that is one threshold for each layer; rank all layers together": equal,
        "fc is not in the ranking; rank all layers together, fc too": zeros > 0 and not fc,
    }
    hint = "a zeroed weight of one layer was larger than a kept one of another; rank all layers together"
    text = "over all layers no zeroed weight was larger than a kept one"
    took_part = Finding(fc > judging.TIES, "fc took part", "which layers does the task rank together?")
    return [total, Finding(holds, text, first_hint(hints, hint), 2), took_part]


def _hint_for_global(pruned: Pruned, zeros: int) -> str:
    of_convolutions = zeros == pruned.weights(CONVOLUTIONS) // 4 and not pruned.zeros(["fc"])
    share, untouched = zeros / ALL, not judging.something_went(pruned, ALL_LAYERS)
    twice = abs(share - 0.4375) < 0.001
    hints = {
        f"{share:.2%} of the weights are zero: was this network pruned, and is its mask still there?": untouched,
        f"{zeros} zeros: a whole number as amount counts weights; 0.25 is 25 % of how many there are": zeros <= 100,
        "a quarter of the three convolutions alone: 25 % of how many? fc belongs to all layers, too": of_convolutions,
        "43.75 % of the weights are zero, which comes from pruning twice; prune 25 % once, from a fresh clone": twice,
    }
    hint = f"{share:.2%} of the weights of all four layers are zero: 25 % of how many, and taken once?"
    return first_hint(hints, hint)


def _amount(pruned: Pruned) -> tuple[bool, str]:
    """06: 10 % of what is left in all three convolutions together, ten times."""
    zeros, weights = pruned.zeros(CONVOLUTIONS), pruned.weights(CONVOLUTIONS)
    right = abs(zeros - ZEROS_AFTER_ROUNDS) <= judging.ROUNDS
    return right, f"{zeros:,} of {weights:,} weights of the convolutions are zero"


def _small_went(pruned: Pruned, _: Finding) -> Finding:
    unequal = pruned.spread(CONVOLUTIONS) > 0.02
    small = pruned.before is None or pruned.lean(CONVOLUTIONS) < -6
    hints = {"none went": not judging.something_went(pruned), judging.NOT_SMALL: unequal}
    hint = first_hint(hints, f"{judging.EQUAL_SHARES}: that is one threshold for each layer")
    return Finding(unequal and small, f"{judging.SMALL_WENT}, by one threshold for all layers", hint)


def _zeros_of_conv1(rows: Rows) -> float | None:
    return 100 * rows["CNN_MNIST_GLOBAL"].layers["conv1"] if "CNN_MNIST_GLOBAL" in rows else None


GLOBAL_MASKS = judging.masks_by_hand(_global_masks, *ALL_LAYERS)
ROUNDS = judging.rounds_of_pruning(_amount, _small_went)
TITLE, STYLE = "25 % of all weights by one threshold", Style("^", PURPLE, "GLOBAL: 25 %")
AGAIN = judging.CELL_WRITTEN.format("pruned_globally", "CNN_MNIST_GLOBAL")
ATTRIBUTES = {"layers": ALL_LAYERS, "untrained": True}
TITLE_2, STYLE_2 = "ten global rounds of 10 %, each with training", Style("X", "#000000", "GLOBAL_2: ten global rounds")
LEVELS = (judging.USEFUL,)
AGAIN_2 = judging.LOOP_WRITTEN.format("CNN_MNIST_GLOBAL_2")
TASKS = (
    judging.prediction_task("06", "zeros in conv1", judging.PERCENT, 0, 100, 100, _zeros_of_conv1, "%"),
    Task("06-masks", "one threshold through four layers by hand", 3, GLOBAL_MASKS, tensors(*ALL_LAYERS)),
    judging.network_task("06-network", TITLE, 4, _global_network, "CNN_MNIST_GLOBAL", AGAIN, STYLE, **ATTRIBUTES),
    judging.network_task("06-rounds", TITLE_2, 5, ROUNDS, "CNN_MNIST_GLOBAL_2", AGAIN_2, STYLE_2, levels=LEVELS),
)
