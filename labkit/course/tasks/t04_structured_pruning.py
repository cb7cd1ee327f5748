"""The tasks of notebook 04."""

from typing import Any

from labkit.cnn import CNN
from labkit.course import judging
from labkit.course.evidence import (
    CONVOLUTIONS,
    SHAPES,
    Evidence,
    Pruned,
    Weights,
    channel_norms,
    empty_channels,
    largest_were_zeroed,
    least_channels_went,
    lowest_were_zeroed,
    whole_channels,
    zeros_in_live_channels,
)
from labkit.course.given import own_copy, tensors
from labkit.course.task import LAYER, Style, Task
from labkit.course.verdict import Finding, Verdict
from labkit.plots import ORANGE

STRUCTURED = f"if the pruning is written by now, run the cell that makes CNN_MNIST_STRUCT again; {LAYER}"
CHANNELS = {"conv1": 4, "conv2": 8, "conv3": 16}  # 1/8 of each


def _channel_masks(task: Task, masks: Any, evidence: Evidence) -> Verdict:
    """04: the eighth of channels of least L2 norm of each convolution."""
    before = evidence.before
    zero = judging.all_zeros_of(masks, CONVOLUTIONS)
    if not any(gone.any() for gone in zero.values()):
        return Verdict(task)

    def right(before: Weights | None, zero: Weights, name: str) -> tuple[bool | None, str]:
        if not whole_channels(zero[name]):
            return False, "some zeros are in channels that live on; which index numbers the output channels?"
        empty, channels = int(empty_channels(zero[name]).sum()), SHAPES[name][0]
        if empty != CHANNELS[name]:
            inverted = empty == channels - CHANNELS[name]
            hint = "a 1 keeps a weight, a 0 drops it: the doomed channels get the zeros. " if inverted else ""
            return False, f"{hint}{empty} are masked; an eighth of {channels} channels was asked for: {CHANNELS[name]}"
        if before is None:
            return None, ""
        hint = "a channel of larger L2 norm is masked, a smaller one is kept: squares, their sum, the root?"
        if least_channels_went(before[name], zero[name], 1):
            hint = "these have the least L1 norms; the L2 norm is the root of the sum of the squares"
        elif lowest_were_zeroed(-channel_norms(before[name]), empty_channels(zero[name])):
            hint = "the channels of largest L2 norm are masked; those of the smallest are to go"
        return least_channels_went(before[name], zero[name]), hint

    return judging.by_hand(task, list(judging.mask_findings(zero, before, CONVOLUTIONS, right, 1)), before)


def _structured_network(task: Task, network: CNN, evidence: Evidence) -> Verdict:
    """04: the 1/8 of channels of least L2 norm of each convolution."""
    found, flags = judging.read_task(task, network, evidence)
    if judging.is_blank(found):
        return Verdict(task)
    empty = {name: int(empty_channels(found.zero[name]).sum()) for name in CONVOLUTIONS}
    text = "channels without weights: " + ", ".join(f"{empty[n]} of {SHAPES[n][0]} in {n}" for n in CONVOLUTIONS)
    wrong = next((name for name in CONVOLUTIONS if empty[name] != CHANNELS[name]), "conv1")
    # Up to TIES: trained without its mask, a live channel may hold an exact zero on one processor and not on another.
    scattered = [name for name in CONVOLUTIONS if zeros_in_live_channels(found.zero[name]) > judging.TIES]
    where = f"{', '.join(scattered)}: some zeros are in channels that live on; which dim numbers the output channels?"
    hint = where if scattered else "no channel of a convolution went"
    count = Finding(empty == CHANNELS, text, where if scattered else _hint_for_channels(found, wrong, empty[wrong]), 1)
    whole = Finding(not scattered and any(empty.values()), "zeros fill whole output channels", hint, 1)

    def least(before: Weights) -> bool:
        return all(least_channels_went(before[name], found.zero[name]) for name in CONVOLUTIONS)

    holds = judging.by_hand_or_not(found.before, least, count)
    if not all(empty.values()):
        holds = False
    hint = "a channel of larger norm went, a smaller one stayed: which norm was asked for (n), of which weights?"
    if found.before and all(least_channels_went(found.before[name], found.zero[name], 1) for name in CONVOLUTIONS):
        hint = "these have the least L1 norms: which norm was asked for? n=2 is the L2 norm"
    elif found.before and all(
        largest_were_zeroed(channel_norms(found.before[name]), empty_channels(found.zero[name]))
        for name in CONVOLUTIONS
    ):
        hint = "the channels of the largest norms went; those of the smallest were to"
    if not all(empty.values()):
        hint = "no whole channel went in every layer, so there is nothing to compare"
    norm = Finding(holds, "they had the least L2 norms of their layer", hint, 1)
    return Verdict(task, [count, whole, norm, judging.rest_untouched(found, 1)], flags)


def _hint_for_channels(found: Pruned, name: str, empty: int) -> str:
    if empty == SHAPES[name][0]:
        return f"nothing is left of {name}: a decimal amount is a share, and 1.0 is all of it"
    if empty == 0:
        return f"{name}: no channel is empty. {judging.REACH.format(name)}"
    if empty in (1, 8, 12) and len({int(empty_channels(found.zero[x]).sum()) for x in CONVOLUTIONS}) == 1:
        return f"{name}: a whole number as amount counts channels, a decimal one is a share"
    if int(empty_channels(found.zero["conv3"]).sum()) == 30:
        return f"{name}: that is what two prunings make, the second of what the first has left; start from a clone"
    return f"{name}: an eighth of {SHAPES[name][0]} channels was asked for"


TASKS = (
    judging.prediction_task(
        "04", "accuracy without 1/8 of the channels", judging.SHARE, 0, 1, 3, judging.accuracy_of("CNN_MNIST_STRUCT")
    ),
    Task("04-masks", "three masks of channels by hand", 3, _channel_masks, tensors(*CONVOLUTIONS)),
    Task(
        "04-network",
        "1/8 of the channels by L2 norm",
        4,
        _structured_network,
        own_copy,
        "CNN_MNIST_STRUCT",
        again=STRUCTURED,
        style=Style("D", ORANGE, "STRUCT: 1/8 of the channels"),
        untrained=True,
    ),
)
