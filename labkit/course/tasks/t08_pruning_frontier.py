"""The tasks of notebook 08."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from labkit.cnn import CNN
from labkit.course import judging
from labkit.course.evidence import ALL_LAYERS, SHAPES, SIZES, Evidence, Weights
from labkit.course.given import own_copy, tensors
from labkit.course.task import Style, Task
from labkit.course.verdict import Finding, Verdict
from labkit.sparsity import effective_weight, prunable_layers
from labkit.study.budgets import choose_masks
from labkit.study.criteria import lamp_scores

GOLF = "it is still the dense clone: prune it, train it, and run the cell again"
SPARSE, LAMP_KEPT = 800, 10_000  # weights that stay


def _lamp_masks(task: Task, masks: Any, evidence: Evidence) -> Verdict:
    """08: the 10,000 weights of highest LAMP score of all four layers stay."""
    before = evidence.before
    zero = judging.all_zeros_of(masks, ALL_LAYERS)
    gone = sum(int(layer.sum()) for layer in zero.values())
    if gone == 0:
        return Verdict(task)
    kept = sum(SIZES.values()) - gone
    hint = f"{kept:,} weights stay; count them in all four layers together"
    if abs(gone - LAMP_KEPT) <= judging.TIES:
        hint += f". {LAMP_KEPT:,} are to stay, not to go: a 1 keeps a weight"
    remark = judging.off_by(kept, LAMP_KEPT)
    total = Finding(abs(kept - LAMP_KEPT) <= judging.TIES, f"{kept:,} of 124,448 weights stay{remark}", hint, 1)
    fits = before is not None and all(tuple(before[name].shape) == shape for name, shape in SHAPES.items())
    enough = min(kept, gone) >= 1_000  # else there is next to nothing to compare
    holds = enough and judging.by_hand_or_not(
        before if fits else None, lambda weights: _highest_lamp_stayed(weights, zero)
    )
    hint = _hint_for_lamp(before if fits else None, zero) if holds is False else ""
    return judging.by_hand(task, [total, Finding(holds, "the highest scores of all layers stayed", hint, 2)], before)


def _highest_lamp_stayed(weights: Weights, zero: Weights) -> bool:
    """Whether the masks keep the highest scores, but for some that tie or nearly so."""
    scores = {name: lamp_scores(weights[name]).nan_to_num() for name in ALL_LAYERS}  # any network may come in
    everything = {name: torch.ones_like(weights[name]) for name in ALL_LAYERS}
    kept = sum(int((~zero[name]).sum()) for name in ALL_LAYERS)
    right = choose_masks(scores, everything, kept, "global")
    # Sums in float32 move scores in their last digits, and with them the order of neighbours.
    return sum(int(((right[name] == 0) != zero[name]).sum()) for name in ALL_LAYERS) <= 2 * 10 * judging.TIES


def _hint_for_lamp(weights: Weights | None, zero: Weights) -> str:
    """08: why these are not the highest LAMP scores."""
    hint = "a weight that went has a higher score than one that stayed: w² over the sum of all w² >= it, in its layer"
    kept = sum(int((~gone).sum()) for gone in zero.values())
    if all(_kept_in_a_row(zero[name]) for name in ALL_LAYERS):
        return (
            "in every layer the first or last weights stay: put each sorted score back in its place, scores[order] = …"
        )
    if weights is None:
        return hint
    shares = [float(zero[name].float().mean()) for name in ALL_LAYERS]
    if max(shares) - min(shares) < 0.005:
        return f"every layer gave the same share: one threshold for all four layers together; {hint}"
    stayed = {name: ~gone for name, gone in zero.items()}
    for said, score in MISTAKEN_LAMP.items():
        flat = {name: score(weights[name].double().abs().flatten()).view_as(weights[name]) for name in ALL_LAYERS}
        if _are_the_highest(stayed, flat, kept):
            return said
    lamp = {name: lamp_scores(weights[name]) for name in ALL_LAYERS}
    if _are_the_highest(zero, lamp, sum(SIZES.values()) - kept):
        return f"the highest scores went: a 1 keeps a weight, a 0 drops it; {hint}"
    return hint


Score = Callable[[torch.Tensor], torch.Tensor]


def _sums_downwards(values: torch.Tensor) -> torch.Tensor:
    falling, order = values.sort(descending=True)
    return torch.empty_like(values).scatter(0, order, falling.cumsum(0))


def _sums_upwards(values: torch.Tensor) -> torch.Tensor:
    rising, order = values.sort()
    return torch.empty_like(values).scatter(0, order, rising.cumsum(0))


def _gathered(values: torch.Tensor) -> torch.Tensor:
    falling, order = values.square().sort(descending=True)
    return (falling / falling.cumsum(0))[order]


# Scores of a layer's |w|, flat, that are often taken for LAMP scores -> what to look at.
MISTAKEN_LAMP: Mapping[str, Score] = {
    "these are the largest |w| of all layers: divide each w² by the sum of all w² >= it, in its layer": torch.abs,
    "|w| was taken: it is w² over the sum of w²": lambda size: size / _sums_downwards(size),
    "the sum runs over the smaller weights: w² over the sum of all w² >= it": lambda size: (
        size**2 / _sums_upwards(size**2)
    ),
    "each w² was divided by the same sum: w² over the sum of those w² only that are >= it": lambda size: (
        size**2 / (size**2).sum()
    ),
    "each score was read from another weight's place: scores[order] = sorted_scores, not sorted_scores[order]": (
        _gathered
    ),
}


def _are_the_highest(chosen: Weights, scores: Weights, count: int) -> bool:
    """Whether so many positions were chosen by the highest scores, but for a hundredth of them."""
    finite = {name: score.nan_to_num() for name, score in scores.items()}
    everything = {name: torch.ones_like(score) for name, score in scores.items()}
    highest = choose_masks(finite, everything, count, "global")
    return sum(int(((highest[name] != 0) != chosen[name]).sum()) for name in ALL_LAYERS) <= count // 100


def _kept_in_a_row(gone: torch.Tensor) -> bool:
    """Whether the weights that stay are the first or the last ones of their layer."""
    return int((gone.flatten().int().diff() != 0).sum()) == 1


def _golf_network(task: Task, network: CNN, evidence: Evidence) -> Verdict:
    """08: at most 800 nonzero weights of CNN(), and trained again."""
    judging.check_shapes(network)
    layers = prunable_layers(network)
    weights = sum(int((effective_weight(layer) != 0).sum()) for layer in layers.values())
    if weights >= sum(SIZES.values()) - judging.TIES:  # a weight may start as exactly 0
        return Verdict(task)  # a clone that nothing was done to
    reached = evidence.accuracy(network)
    empty = [name for name, layer in layers.items() if not effective_weight(layer).any()]
    hint = (
        "not in one step: go down in steps, such as 10,000, 4,000, 2,000, 800, and train between; did it train again?"
    )
    if SPARSE < weights <= 10 * SPARSE:
        hint = f"{weights - SPARSE:,} too many: a further step down, then train again. {hint}"
    hint = f"{', '.join(empty)} has no weight left" if empty else hint
    findings = [
        Finding(0 < weights <= SPARSE, f"{weights:,} nonzero weights, at most {SPARSE:,} were asked for", hint, 2),
        Finding(reached >= judging.GOOD, f"at least {judging.GOOD:.0%} of the images right", hint, 2),
    ]
    return Verdict(task, findings)


TASKS = (
    judging.prediction_task(
        "08",
        "fewest weights with a mean of at least 98 %",
        "a number of weights, from 1 to 124,448, was asked for, such as 5000",
        1,
        sum(SIZES.values()),
        sum(SIZES.values()),
        2_000,
    ),
    Task("08-masks", "10,000 weights by LAMP scores by hand", 3, _lamp_masks, tensors(*ALL_LAYERS)),
    Task(
        "08-golf",
        "at most 800 weights, trained again",
        4,
        _golf_network,
        own_copy,
        "CNN_MNIST_GOLF",
        layers=ALL_LAYERS,
        committed=True,
        again=GOLF,
        levels=(judging.GOOD,),
        style=Style("*", "#56B4E9", "GOLF: at most 800 weights"),
    ),
)
