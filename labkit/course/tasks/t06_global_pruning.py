"""The tasks of notebook 06."""

from typing import Any

import torch

from labkit.cnn import CNN
from labkit.course import judging
from labkit.course.evidence import (
    ALL_LAYERS,
    CONVOLUTIONS,
    SIZES,
    Evidence,
    Pruned,
    Weights,
    lowest_were_zeroed,
    preference,
    smallest_were_zeroed,
)
from labkit.course.given import own_copy, tensors
from labkit.course.task import ROUNDS as AGAIN
from labkit.course.task import Rows, Style, Task
from labkit.course.verdict import Finding, Verdict
from labkit.plots import PURPLE

GLOBAL = "if pruned_globally is written by now, run its cell and the one that makes CNN_MNIST_GLOBAL again"
GLOBAL_ROUNDS = f"if prune_and_train is written by now: {AGAIN.format('CNN_MNIST_GLOBAL_2')}"
GLOBAL_ZEROS = 60_215


def _global_masks(task: Task, masks: Any, evidence: Evidence) -> Verdict:
    """06: the quarter of smallest |w| of all four layers."""
    before = evidence.before
    zero = judging.all_zeros_of(masks, ALL_LAYERS)
    count = sum(int(gone.sum()) for gone in zero.values())
    if count == 0:
        return Verdict(task)
    hint = f"{count / 124_448:.2%} of all four layers are masked; count them together"
    if abs(count - 3 * 31_112) <= judging.TIES:
        hint += ". A 1 keeps a weight, a 0 drops it"
    if not zero["fc"].any():
        hint += ": fc belongs to the row, too"
    remark = judging.off_by(count, 31_112)
    total = Finding(abs(count - 31_112) <= judging.TIES, f"{count:,} of 124,448 weights are masked{remark}", hint, 1)
    holds = judging.by_hand_or_not(before, lambda weights: smallest_were_zeroed(weights, zero, ALL_LAYERS))
    holds = False if count == sum(SIZES.values()) else holds
    hint = "a masked weight of one layer is larger than a kept one of another: one threshold for all"
    shares = [float(zero[name].float().mean()) for name in ALL_LAYERS]
    if max(shares) - min(shares) < 0.005:
        hint = "every layer gave the same share, so each has a threshold of its own; make one threshold for all"
    if before is not None and judging.at_random(before, zero, ALL_LAYERS):
        hint = "large weights are masked as often as small ones: one threshold on |w| for all"
    elif before is not None and all(lowest_were_zeroed(before[name], zero[name]) for name in ALL_LAYERS):
        hint = "the most negative weights are masked: compare |w|, not w; one threshold for all"
    return judging.by_hand(task, [total, Finding(holds, "one threshold for all layers", hint, 2)], before)


def _global_network(task: Task, network: CNN, evidence: Evidence) -> Verdict:
    """06: the 25 % of smallest |w| of all four layers together."""
    found, flags = judging.read_task(task, network, evidence)
    if judging.is_blank(found):
        return Verdict(task)
    zeros, weights = found.zeros(), found.weights()
    total = Finding(
        abs(zeros - weights // 4) <= judging.TIES,
        f"{zeros:,} of {weights:,} weights are zero{judging.off_by(zeros, weights // 4)}",
        _hint_for_global(found, zeros, weights),
        1,
    )

    def one_threshold(before: Weights) -> bool:
        return 0 < zeros < weights and smallest_were_zeroed(before, found.zero, ALL_LAYERS)

    holds = judging.unless_trained_since(
        found, judging.by_hand_or_not(found.before, one_threshold, total), CONVOLUTIONS[1:]
    )
    shares = [found.share(name) for name in ALL_LAYERS]
    hint = "a zeroed weight of one layer was larger than a kept one of another; rank all layers together"
    if zeros > 0 and not found.zeros(["fc"]):
        hint = "fc is not in the ranking; rank all layers together, fc too"
    if max(shares) - min(shares) < 0.005:
        hint = "every layer gave the same share: that is one threshold for each layer; rank all layers together"
    if found.before is not None and zeros > 100 and judging.at_random(found.before, found.zero, ALL_LAYERS):
        hint = "large weights went as often as small ones: rank all layers together by |w|"
    ranked = Finding(holds, "over all layers no zeroed weight was larger than a kept one", hint, 2)
    took_part = Finding(
        found.zeros(["fc"]) > judging.TIES, "fc took part", "which layers were to be ranked together?", 1
    )
    return Verdict(task, [total, ranked, took_part], flags)


def _hint_for_global(found: Pruned, zeros: int, weights: int) -> str:
    if not judging.something_went(found, ALL_LAYERS):
        return f"{zeros / weights:.2%} of the weights are zero: was this network pruned, and is its mask still there?"
    if zeros <= 100:
        return f"{zeros} zeros: a whole number as amount counts weights; 0.25 is 25 % of how many there are"
    if zeros == found.weights(CONVOLUTIONS) // 4 and not found.zeros(["fc"]):
        return "a quarter of the three convolutions alone: 25 % of how many? fc belongs to all layers, too"
    if abs(zeros / weights - 0.4375) < 0.001:
        return "43.75% of the weights are zero: two prunings; 25 % is to be taken once, from a fresh clone"
    return f"{zeros / weights:.2%} of the weights of all four layers are zero: 25 % of how many, and taken once?"


def _global_rounds(task: Task, network: CNN, evidence: Evidence) -> Verdict:
    """06: ten rounds of 10 % of what is left in all three convolutions together, with training after each."""
    found, _ = judging.read_task(task, network, evidence)
    if judging.is_blank(found):
        return Verdict(task)
    zeros = found.zeros(CONVOLUTIONS)
    text = f"{zeros:,} of {found.weights(CONVOLUTIONS):,} weights of the convolutions are zero"
    right, hint = (
        abs(zeros - GLOBAL_ZEROS) <= judging.ROUNDS,
        judging.hint_for_rounds(zeros / found.weights(CONVOLUTIONS)),
    )
    if found.zeros(["fc"]) > judging.TIES:
        right, hint = False, "fc has zeros: which layers were asked for?"
    counts = Finding(right, text, hint, 2)
    shares = [found.share(name) for name in CONVOLUTIONS]
    spread = max(shares) - min(shares)
    hint = "every layer gave the same share: that is one threshold for each layer"
    if not judging.something_went(found):
        hint = "none went"
    elif spread > 0.02:
        hint = "the zeroed weights are no smaller than the kept ones; was it the L1 method?"
    small = found.before is None or _pooled_preference(found) < -6
    ranked = Finding(spread > 0.02 and small, "small weights went, by one threshold for all layers", hint, 1)
    findings = [
        counts,
        ranked,
        judging.was_trained(network, found, evidence.candidates),
        judging.still_useful(network, evidence),
    ]
    return Verdict(task, judging.run_again(findings, task), judging.in_one_step(task, found))


def _pooled_preference(found: Pruned) -> float:
    assert found.before is not None
    sizes = torch.cat([found.before[name].abs().flatten() for name in CONVOLUTIONS])
    return preference(sizes, torch.cat([found.zero[name].flatten() for name in CONVOLUTIONS]))


def _zeros_of_conv1(rows: Rows) -> float | None:
    return 100 * rows["CNN_MNIST_GLOBAL"].layers["conv1"] if "CNN_MNIST_GLOBAL" in rows else None


TASKS = (
    judging.prediction_task("06", "zeros in conv1", judging.PERCENT, 0, 100, 100, _zeros_of_conv1, "%"),
    Task("06-masks", "one threshold through four layers by hand", 3, _global_masks, tensors(*ALL_LAYERS)),
    Task(
        "06-network",
        "25 % of all weights by one threshold",
        4,
        _global_network,
        own_copy,
        "CNN_MNIST_GLOBAL",
        layers=ALL_LAYERS,
        again=GLOBAL,
        style=Style("^", PURPLE, "GLOBAL: 25 %"),
        untrained=True,
    ),
    Task(
        "06-rounds",
        "ten global rounds of 10 %, each with training",
        5,
        _global_rounds,
        own_copy,
        "CNN_MNIST_GLOBAL_2",
        again=GLOBAL_ROUNDS,
        levels=(judging.USEFUL,),
        style=Style("X", "#000000", "GLOBAL_2: ten global rounds"),
    ),
)
